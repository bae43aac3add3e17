//! A parsed query. Fields are slots: places in a row, numbered when the
//! query is read, so that running it looks no name up.

use regex::Regex;

use super::aggregate::Aggregate;
use super::function::Function;
use super::pattern::{Like, Parse};
use super::value::Value;

/// A place in a row.
pub(super) type Slot = usize;

/// What gives a value for one row.
#[derive(Clone, Debug)]
pub(super) enum Expr {
    Literal(Value<'static>),
    Field(Slot),
    Not(Box<Expr>),
    Minus(Box<Expr>),
    All(Vec<Expr>),
    Any(Vec<Expr>),
    /// `a + b - c`: from left to right.
    Chain(Box<Expr>, Vec<(Arithmetic, Expr)>),
    Compare(Comparison, Box<Expr>, Box<Expr>),
    In(Box<Expr>, Vec<Expr>),
    Like(Box<Expr>, Like),
    Matches(Box<Expr>, Regex),
    Call(Function, Vec<Expr>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Power,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// An expression whose value goes into a slot.
#[derive(Clone, Debug)]
pub(super) struct Assignment {
    pub(super) slot: Slot,
    /// `None` where the slot has it already: a field under its own name.
    pub(super) value: Option<Expr>,
}

/// One aggregate of `stats`.
#[derive(Clone, Debug)]
pub(super) struct Stat {
    pub(super) slot: Slot,
    pub(super) aggregate: Aggregate,
    /// What it is computed from; nothing for `count(*)`.
    pub(super) argument: Option<Expr>,
}

/// One key of `sort`.
#[derive(Clone, Debug)]
pub(super) struct SortKey {
    pub(super) value: Expr,
    pub(super) descending: bool,
}

/// What stands between two bars.
#[derive(Clone, Debug)]
pub(super) enum Command {
    /// `fields` and `display`: computes; what is shown is in [`super::Query`].
    Compute(Vec<Assignment>),
    Filter(Expr),
    Parse(Parse),
    Stats {
        by: Vec<Assignment>,
        stats: Vec<Stat>,
    },
    Sort(Vec<SortKey>),
    Limit(usize),
    Dedup(Vec<Expr>),
}
