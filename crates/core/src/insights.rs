//! The query language of CloudWatch Logs Insights (CWLI).
//!
//! [`Query::parse`] reads a query; a [`Run`] sends events through it and gives
//! the rows of the answer. Whatever a caller may send either parses or gives
//! an [`InvalidQuery`] with its place; nothing panics, recursion is bounded,
//! regular expressions do not backtrack, and what a run keeps is bounded by
//! [`QUERY_BYTES`].
//!
//! By the user guide, `CWL_QuerySyntax` and the pages below it. Commands that
//! are not built (`pattern`, `diff`, `anomaly`, `join`, `unnest`, …) and
//! functions over structures (`jsonParse`) are refused by name.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "of many tokens and functions most places mean a few"
)]

mod aggregate;
mod ast;
mod discover;
mod eval;
mod expression;
mod function;
mod lexer;
mod parser;
mod pattern;
mod plan;
mod run;
mod scope;
#[cfg(test)]
mod tests;
mod time;
mod value;

pub use plan::Query;
pub use run::{Event, Origin, QUERY_BYTES, ResultRow, Run, TooLarge};

/// The longest query the API takes (`QueryString` in the Logs model).
pub const MAX_QUERY_CHARS: usize = 10_000;

/// Why a query was refused, and where: characters from the query's start,
/// the end excluded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} at line position {start}")]
pub struct InvalidQuery {
    /// What is wrong.
    pub message: String,
    /// The first character of what is wrong.
    pub start: usize,
    /// The first character behind it.
    pub end: usize,
}

impl Query {
    /// Reads a query.
    pub fn parse(text: &str) -> Result<Query, InvalidQuery> {
        let length = text.chars().count();
        if length > MAX_QUERY_CHARS {
            let message =
                "the query is longer than 10000 characters".to_owned();
            return Err(InvalidQuery { message, start: 0, end: length });
        }
        parser::parse(text).map(Query::new)
    }

    /// The names of what its rows show, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.shown
            .iter()
            .filter_map(|slot| self.names.get(*slot).map(String::as_str))
    }
}
