//! Patterns for JSON events: `{ $.user.id = 1 && $.tags[*] = "a*" }`.

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde_json::Value;

use super::InvalidFilterPattern;
use super::cursor::{Cursor, is_word};
use super::expression::Expression;
use super::operand::{Comparison, is_bare_json};

/// Wildcard selectors in one whole pattern.
const MAX_WILDCARDS: usize = 3;

/// A boolean expression over properties.
#[derive(Debug, Clone)]
pub(super) struct JsonPattern {
    expression: Expression<Condition>,
}

#[derive(Debug, Clone)]
struct Condition {
    /// The selector as it was written.
    source: String,
    selector: Vec<Selector>,
    test: Test,
}

#[derive(Debug, Clone)]
enum Selector {
    Property(String),
    Element(usize),
    AnyProperty,
    AnyElement,
}

#[derive(Debug, Clone)]
enum Test {
    Compare(Comparison),
    IsNull,
    IsTrue,
    IsFalse,
    NotExists,
}

/// What is counted over the whole pattern.
#[derive(Default)]
struct Counts {
    regulars: usize,
    wildcards: usize,
}

impl JsonPattern {
    pub(super) fn parse(
        text: &str,
    ) -> Result<JsonPattern, InvalidFilterPattern> {
        let mut cursor = Cursor::new(text);
        cursor.need("{", "'{'")?;
        let mut counts = Counts::default();
        let expression = Expression::parse(&mut cursor, &mut |cursor| {
            condition(cursor, &mut counts)
        })?;
        cursor.skip_space();
        cursor.need("}", "'}'")?;
        cursor.need_end()?;
        Ok(JsonPattern { expression })
    }

    pub(super) fn matches(&self, message: &str) -> bool {
        // Cheaper than a parser for the many lines that are not JSON.
        if !message.trim_start().starts_with(['{', '[']) {
            return false;
        }
        let Ok(event) = serde_json::from_str::<Value>(message) else {
            return false;
        };
        self.expression.holds(&|condition| condition.holds(&event))
    }

    /// The first value of each selector, by the selector.
    pub(super) fn extract(&self, message: &str) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        let Ok(event) = serde_json::from_str::<Value>(message) else {
            return found;
        };
        self.expression.look(&mut |condition: &Condition| {
            let value = RefCell::new(None);
            any_node(&event, &condition.selector, &|node| {
                *value.borrow_mut() = match node {
                    Value::String(text) => Some(text.clone()),
                    Value::Null => None,
                    Value::Bool(_)
                    | Value::Number(_)
                    | Value::Array(_)
                    | Value::Object(_) => Some(node.to_string()),
                };
                value.borrow().is_some()
            });
            if let Some(value) = value.into_inner() {
                found.insert(condition.source.clone(), value);
            }
        });
        found
    }
}

impl Condition {
    fn holds(&self, event: &Value) -> bool {
        match &self.test {
            Test::NotExists => !any_node(event, &self.selector, &|_| true),
            Test::IsNull => any_node(event, &self.selector, &Value::is_null),
            Test::IsTrue => any_node(event, &self.selector, &|node| {
                node == &Value::Bool(true)
            }),
            Test::IsFalse => any_node(event, &self.selector, &|node| {
                node == &Value::Bool(false)
            }),
            Test::Compare(comparison) => {
                any_node(event, &self.selector, &|node| match node {
                    Value::String(text) => comparison.holds_for_text(text),
                    Value::Number(number) => {
                        let text = number.to_string();
                        let value = number.as_f64().unwrap_or(f64::NAN);
                        comparison.holds_for_number(value, &text)
                    }
                    Value::Null
                    | Value::Bool(_)
                    | Value::Array(_)
                    | Value::Object(_) => false,
                })
            }
        }
    }
}

/// Whether some node that the selector points to satisfies `test`.
fn any_node(
    node: &Value,
    selector: &[Selector],
    test: &dyn Fn(&Value) -> bool,
) -> bool {
    let Some((first, rest)) = selector.split_first() else {
        return test(node);
    };
    match (first, node) {
        (Selector::Property(name), Value::Object(object)) => {
            object.get(name).is_some_and(|child| any_node(child, rest, test))
        }
        (Selector::Element(index), Value::Array(array)) => {
            array.get(*index).is_some_and(|child| any_node(child, rest, test))
        }
        (Selector::AnyProperty, Value::Object(object)) => {
            object.values().any(|child| any_node(child, rest, test))
        }
        (Selector::AnyElement, Value::Array(array)) => {
            array.iter().any(|child| any_node(child, rest, test))
        }
        (
            Selector::Property(_)
            | Selector::Element(_)
            | Selector::AnyProperty
            | Selector::AnyElement,
            _,
        ) => false,
    }
}

fn condition(
    cursor: &mut Cursor<'_>,
    counts: &mut Counts,
) -> Result<Condition, InvalidFilterPattern> {
    cursor.skip_space();
    let rest = cursor.rest();
    let selector = selector(cursor, counts)?;
    let length = rest.len() - cursor.rest().len();
    let source = rest[..length].to_owned();
    cursor.skip_space();
    let test = if cursor.eat_word("IS") {
        cursor.skip_space();
        if cursor.eat_word("NULL") {
            Test::IsNull
        } else if cursor.eat_word("TRUE") {
            Test::IsTrue
        } else if cursor.eat_word("FALSE") {
            Test::IsFalse
        } else {
            return Err(cursor.expected("NULL, TRUE or FALSE"));
        }
    } else if cursor.eat_word("NOT") {
        cursor.skip_space();
        if !cursor.eat_word("EXISTS") {
            return Err(cursor.expected("EXISTS"));
        }
        Test::NotExists
    } else {
        let regulars = &mut counts.regulars;
        Test::Compare(Comparison::parse(cursor, regulars, is_bare_json)?)
    };
    Ok(Condition { source, selector, test })
}

/// `$.a.b[0]`, `$.['a.b']`, `$.*`, `$.list[*].x`.
fn selector(
    cursor: &mut Cursor<'_>,
    counts: &mut Counts,
) -> Result<Vec<Selector>, InvalidFilterPattern> {
    cursor.need("$", "a property selector")?;
    let mut path = vec![];
    loop {
        if cursor.eat(".") {
            if cursor.peek() != Some('[') {
                path.push(property(cursor)?);
            }
        } else if cursor.eat("[") {
            path.push(bracket(cursor)?);
        } else {
            break;
        }
    }
    if path.is_empty() {
        return Err(cursor.expected("a property name"));
    }
    let is_wild = |s: &&Selector| {
        matches!(s, Selector::AnyElement | Selector::AnyProperty)
    };
    let wildcards = path.iter().filter(is_wild).count();
    if wildcards > 1 {
        return Err(InvalidFilterPattern::Quota {
            what: "wildcard selector in a property selector",
            limit: 1,
        });
    }
    counts.wildcards += wildcards;
    if counts.wildcards > MAX_WILDCARDS {
        return Err(InvalidFilterPattern::Quota {
            what: "wildcard selectors",
            limit: MAX_WILDCARDS,
        });
    }
    Ok(path)
}

fn property(cursor: &mut Cursor<'_>) -> Result<Selector, InvalidFilterPattern> {
    if cursor.eat("*") {
        return Ok(Selector::AnyProperty);
    }
    let name = cursor.take_while(|c| is_word(c) || c == '-');
    if name.is_empty() {
        return Err(cursor.expected("a property name"));
    }
    Ok(Selector::Property(name.to_owned()))
}

/// What stands in brackets: an index, `*` or a quoted name.
fn bracket(cursor: &mut Cursor<'_>) -> Result<Selector, InvalidFilterPattern> {
    let selector = match cursor.peek() {
        Some('*') => {
            cursor.next();
            Selector::AnyElement
        }
        Some('\'') => Selector::Property(
            cursor.delimited('\'', "a single quote")?.to_owned(),
        ),
        Some('"') => Selector::Property(cursor.quoted()?),
        _ => {
            let digits = cursor.take_while(|c| c.is_ascii_digit());
            let index = digits.parse().ok();
            Selector::Element(
                index.ok_or_else(|| cursor.expected("an array index"))?,
            )
        }
    };
    cursor.need("]", "']'")?;
    Ok(selector)
}
