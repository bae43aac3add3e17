//! The cluster query language: `memberOf` constraints and the filter of
//! `ListContainerInstances`.
//!
//! ```text
//! expr       := or
//! or         := and ( ("or" | "||") and )*
//! and        := unary ( ("and" | "&&") unary )*
//! unary      := ("not" | "!") unary | "(" expr ")" | comparison
//! comparison := subject operator [argument]
//! subject    := attribute:NAME | task:group | agentConnected | agentVersion
//!             | ec2InstanceId | registeredAt | runningTasksCount
//! argument   := word | 'quoted' | [ a, b, c ]
//! ```
//!
//! [`Expression::parse`] checks everything that can be checked without a
//! container instance (operators that do not suit their subject, numbers,
//! times, patterns), so that evaluation cannot fail. Patterns are matched in
//! full. They are Java's in AWS; ours are those of the `regex` crate, which
//! run in linear time, so look-around and back-references are refused.

mod error;
mod eval;
mod lexer;
mod parser;

use std::fmt;

use minato_wire::Timestamp;
use regex::Regex;

pub use error::{QueryError, QueryProblem};
pub use eval::Subject;

/// The longest expression ECS takes, in characters.
pub const EXPRESSION_LENGTH_MAX: usize = 2000;

/// The deepest nesting of parentheses and `not`: far beyond what anybody
/// writes, and far within the stack of a thread.
pub const DEPTH_MAX: usize = 64;

/// A checked expression.
#[derive(Clone, Debug)]
pub struct Expression(Node);

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Or(Vec<Node>),
    And(Vec<Node>),
    Not(Box<Node>),
    Test(Test),
}

/// One comparison, its argument already in the type of its subject.
#[derive(Clone, Debug, PartialEq)]
enum Test {
    Attribute(String, AttributeTest),
    TaskGroup(TextTest),
    AgentConnected(TextTest),
    Ec2InstanceId(TextTest),
    AgentVersion(Order, String),
    RegisteredAt(Order, Timestamp),
    RunningTasksCount(Order, i64),
}

#[derive(Clone, Debug, PartialEq)]
enum AttributeTest {
    Exists { negated: bool },
    Text(TextTest),
    Order(Order, String),
}

#[derive(Clone, Debug, PartialEq)]
struct TextTest {
    negated: bool,
    to: TextArgument,
}

#[derive(Clone, Debug)]
enum TextArgument {
    Equal(String),
    In(Vec<String>),
    Matches { pattern: String, regex: Regex },
}

impl PartialEq for TextArgument {
    fn eq(&self, other: &TextArgument) -> bool {
        use TextArgument::{Equal, In, Matches};
        match (self, other) {
            (Equal(a), Equal(b)) => a == b,
            (In(a), In(b)) => a == b,
            (Matches { pattern: a, .. }, Matches { pattern: b, .. }) => a == b,
            (Equal(_) | In(_) | Matches { .. }, _) => false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

impl Expression {
    /// Parses and checks.
    pub fn parse(source: &str) -> Result<Expression, QueryError> {
        parser::parse(source).map(Expression)
    }

    /// Whether the container instance satisfies the expression.
    pub fn matches(&self, instance: &dyn Subject) -> bool {
        eval::holds(&self.0, instance)
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Expression) -> bool {
        self.0 == other.0
    }
}

/// Writes an expression that parses to the same one.
impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_node(&self.0, f)
    }
}

fn write_node(node: &Node, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let joined = |nodes: &[Node], word: &str, f: &mut fmt::Formatter<'_>| {
        for (index, node) in nodes.iter().enumerate() {
            if index > 0 {
                write!(f, " {word} ")?;
            }
            f.write_str("(")?;
            write_node(node, f)?;
            f.write_str(")")?;
        }
        Ok(())
    };
    match node {
        Node::Or(nodes) => joined(nodes, "or", f),
        Node::And(nodes) => joined(nodes, "and", f),
        Node::Not(node) => {
            f.write_str("not(")?;
            write_node(node, f)?;
            f.write_str(")")
        }
        Node::Test(test) => write_test(test, f),
    }
}

fn write_test(test: &Test, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match test {
        Test::Attribute(name, AttributeTest::Exists { negated }) => {
            let not = if *negated { "!" } else { "" };
            write!(f, "attribute:{name} {not}exists")
        }
        Test::Attribute(name, AttributeTest::Text(test)) => {
            write!(f, "attribute:{name} {test}")
        }
        Test::Attribute(name, AttributeTest::Order(order, value)) => {
            write!(f, "attribute:{name} {} {}", order.symbol(), quoted(value))
        }
        Test::TaskGroup(test) => write!(f, "task:group {test}"),
        Test::AgentConnected(test) => write!(f, "agentConnected {test}"),
        Test::Ec2InstanceId(test) => write!(f, "ec2InstanceId {test}"),
        Test::AgentVersion(order, value) => {
            write!(f, "agentVersion {} {value}", order.symbol())
        }
        Test::RegisteredAt(order, value) => {
            write!(f, "registeredAt {} {value}", order.symbol())
        }
        Test::RunningTasksCount(order, value) => {
            write!(f, "runningTasksCount {} {value}", order.symbol())
        }
    }
}

impl fmt::Display for TextTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let negated = self.negated;
        match &self.to {
            TextArgument::Equal(value) => {
                let symbol = if negated { "!=" } else { "==" };
                write!(f, "{symbol} {}", quoted(value))
            }
            TextArgument::In(values) => {
                let values: Vec<_> =
                    values.iter().map(|value| quoted(value)).collect();
                let not = if negated { "!" } else { "" };
                write!(f, "{not}in [{}]", values.join(", "))
            }
            TextArgument::Matches { pattern, .. } => {
                let symbol = if negated { "!~" } else { "=~" };
                write!(f, "{symbol} {}", quoted(pattern))
            }
        }
    }
}

/// The language has no escapes: text that holds one kind of quotes is put
/// into the other kind.
fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') { '"' } else { '\'' };
    format!("{quote}{text}{quote}")
}

impl Order {
    const fn symbol(self) -> &'static str {
        match self {
            Order::Equal => "==",
            Order::NotEqual => "!=",
            Order::Greater => ">",
            Order::GreaterOrEqual => ">=",
            Order::Less => "<",
            Order::LessOrEqual => "<=",
        }
    }

    const fn admits(self, ordering: std::cmp::Ordering) -> bool {
        match self {
            Order::Equal => ordering.is_eq(),
            Order::NotEqual => ordering.is_ne(),
            Order::Greater => ordering.is_gt(),
            Order::GreaterOrEqual => ordering.is_ge(),
            Order::Less => ordering.is_lt(),
            Order::LessOrEqual => ordering.is_le(),
        }
    }
}

#[cfg(test)]
mod tests;
