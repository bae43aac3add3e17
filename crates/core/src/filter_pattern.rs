//! The filter patterns of CloudWatch Logs.
//!
//! Three languages share one string: terms for unstructured text
//! (`ERROR -ARGUMENTS`), conditions on JSON (`{ $.latency > 50 }`) and
//! conditions on space-delimited fields (`[ip, ..., status = 4*]`).
//! Everything a caller may send either parses or gives an
//! [`InvalidFilterPattern`]; nothing panics and nothing backtracks.

mod cursor;
mod expression;
mod fields;
mod json;
mod operand;
mod regular;
mod terms;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use fields::FieldsPattern;
use json::JsonPattern;
use regular::Regular;
use terms::TermsPattern;

/// The longest pattern the API takes (`FilterPattern` in the Logs model).
pub const MAX_FILTER_PATTERN_CHARS: usize = 1024;

/// Why a filter pattern was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFilterPattern {
    /// Longer than [`MAX_FILTER_PATTERN_CHARS`].
    #[error("Invalid filter pattern: longer than 1024 characters")]
    TooLong,
    /// A bare term with characters that need quotes.
    #[error("Invalid character(s) in term '{term}'")]
    Term {
        /// The term as written.
        term: String,
    },
    /// A quote, brace, bracket or percent sign without its partner.
    #[error("Invalid filter pattern: {what} at character {at} is not closed")]
    Unclosed {
        /// What was opened.
        what: &'static str,
        /// Where, counted from 1.
        at: usize,
    },
    /// Something else was needed at this place.
    #[error("Invalid filter pattern: expected {wanted} at character {at}")]
    Expected {
        /// What was needed.
        wanted: &'static str,
        /// Where, counted from 1.
        at: usize,
    },
    /// A regular expression outside the supported subset.
    #[error("Invalid filter pattern: unsupported regular expression '{text}'")]
    Regex {
        /// The expression without its percent signs.
        text: String,
    },
    /// More of something than the documented quota.
    #[error("Invalid filter pattern: more than {limit} {what}")]
    Quota {
        /// What there is too much of.
        what: &'static str,
        /// The quota.
        limit: usize,
    },
    /// A condition on a field that the list does not name.
    #[error("Invalid filter pattern: unknown field '{name}'")]
    UnknownField {
        /// The name in the condition.
        name: String,
    },
}

/// A parsed filter pattern.
#[derive(Debug, Clone)]
pub struct FilterPattern {
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Everything,
    Terms(TermsPattern),
    Regular(Regular),
    Json(JsonPattern),
    Fields(FieldsPattern),
}

impl FilterPattern {
    /// Parses a pattern; the empty one matches every event.
    pub fn parse(text: &str) -> Result<FilterPattern, InvalidFilterPattern> {
        if text.chars().count() > MAX_FILTER_PATTERN_CHARS {
            return Err(InvalidFilterPattern::TooLong);
        }
        let trimmed = text.trim();
        let kind = match trimmed.chars().next() {
            None => Kind::Everything,
            Some('{') => Kind::Json(JsonPattern::parse(trimmed)?),
            Some('[') => Kind::Fields(FieldsPattern::parse(trimmed)?),
            Some('%') => Kind::Regular(Regular::parse_alone(trimmed)?),
            Some(_) => Kind::Terms(TermsPattern::parse(trimmed)?),
        };
        Ok(FilterPattern { kind })
    }

    /// Whether an event with this message passes.
    pub fn matches(&self, message: &str) -> bool {
        match &self.kind {
            Kind::Everything => true,
            Kind::Terms(terms) => terms.matches(message),
            Kind::Regular(regular) => regular.matches(message),
            Kind::Json(json) => json.matches(message),
            Kind::Fields(fields) => fields.matches(message),
        }
    }

    /// What the pattern names in an event that passes: `$.latency` of JSON,
    /// `$ip` of space-delimited fields, with their values as text.
    pub fn extract(&self, message: &str) -> BTreeMap<String, String> {
        match &self.kind {
            Kind::Everything | Kind::Terms(_) | Kind::Regular(_) => {
                BTreeMap::new()
            }
            Kind::Json(json) => json.extract(message),
            Kind::Fields(fields) => fields.extract(message),
        }
    }

    /// Whether every event passes.
    pub fn is_everything(&self) -> bool {
        matches!(self.kind, Kind::Everything)
    }

    /// Whether some event in `text`, many messages one after another, could
    /// pass. `false` is certain; `true` is a maybe.
    ///
    /// Lets a scan drop a whole block by one substring search.
    pub fn could_match_in(&self, text: &[u8]) -> bool {
        match &self.kind {
            Kind::Terms(terms) => terms.could_match_in(text),
            Kind::Everything
            | Kind::Regular(_)
            | Kind::Json(_)
            | Kind::Fields(_) => true,
        }
    }
}
