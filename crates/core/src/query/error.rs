//! What is wrong with an expression, and where.

use std::fmt;

/// A refused expression. Shown in one line it names the position; rendered
/// by [`QueryError::with_caret`] it points at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryError {
    /// The character (counted from 0) where the problem begins.
    pub position: usize,
    /// What the problem is.
    pub problem: QueryProblem,
}

/// The ways an expression can be wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryProblem {
    /// Nothing but white space.
    #[error("the expression is empty")]
    Empty,
    /// More than [`super::EXPRESSION_LENGTH_MAX`] characters.
    #[error("the expression is longer than 2000 characters")]
    TooLong,
    /// More than [`super::DEPTH_MAX`] levels of nesting.
    #[error("the expression is nested too deeply")]
    TooDeep,
    /// A quoted string without its end.
    #[error("the quoted string has no end")]
    UnclosedQuote,
    /// Something else should stand here.
    #[error("expected {expected}, found {found}")]
    Unexpected {
        /// What may stand here.
        expected: &'static str,
        /// What stands here.
        found: String,
    },
    /// No such subject.
    #[error(
        "unknown subject '{0}': expected attribute:NAME, task:group, \
         agentConnected, agentVersion, ec2InstanceId, registeredAt or \
         runningTasksCount"
    )]
    UnknownSubject(String),
    /// An operator that does not suit its subject.
    #[error("the operator {operator} cannot be used with {subject}")]
    WrongOperator {
        /// What is compared.
        subject: &'static str,
        /// How.
        operator: &'static str,
    },
    /// An argument that is not of its subject's type.
    #[error("'{argument}' is not {expected}")]
    WrongArgument {
        /// The argument.
        argument: String,
        /// What it should be.
        expected: &'static str,
    },
    /// An attribute's name with characters no attribute can have.
    #[error("'{0}' cannot be the name of an attribute")]
    BadAttributeName(String),
    /// A pattern that is no regular expression.
    #[error("'{0}' is not a regular expression that can be used here")]
    BadPattern(String),
}

impl QueryError {
    /// The message, the expression and a caret under the problem.
    pub fn with_caret(&self, source: &str) -> String {
        let pad = " ".repeat(self.position);
        // Tabs and line ends would shift the caret.
        let line: String = source
            .chars()
            .map(|c| if c.is_whitespace() { ' ' } else { c })
            .collect();
        format!("{}\n  {line}\n  {pad}^", self.problem)
    }
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at character {})", self.problem, self.position + 1)
    }
}

impl std::error::Error for QueryError {}
