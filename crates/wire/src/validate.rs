//! Holding a document against a shape of the model.
//!
//! [`check`] makes the document what the typed shapes expect (nulls and
//! unknown members gone, whole numbers integers) and lists what is wrong with
//! it. How AWS words a violation depends on the service; see
//! [`crate::protocol`].

mod pattern;
#[cfg(test)]
mod tests;

use serde_json::{Map as Object, Number, Value};

use crate::Timestamp;
use crate::model::{List, Map, Range, Shape, Structure, Text};

/// More violations than this are not listed; nobody reads them and the answer
/// would grow with the request.
const MAX_VIOLATIONS: usize = 20;

/// The longest excerpt of a value in a violation.
const MAX_EXCERPT_CHARS: usize = 256;

/// One thing wrong with a document.
#[derive(Clone, Debug, PartialEq)]
pub struct Violation {
    /// Where, as AWS writes it: `containerDefinitions.1.member.name`.
    pub path: String,
    /// The structure that holds the member.
    pub owner: &'static str,
    /// The value, cut to a printable length; `None` where it is absent.
    pub value: Option<String>,
    /// What it fails.
    pub constraint: Constraint,
}

impl Violation {
    /// The last member name on the path.
    pub fn member(&self) -> &str {
        self.path
            .rsplit('.')
            .find(|part| *part != "member" && part.parse::<usize>().is_err())
            .unwrap_or_default()
    }

    /// Whether the path is one name.
    pub fn is_top_level(&self) -> bool {
        !self.path.contains('.')
    }
}

/// What a value fails.
#[derive(Clone, Debug, PartialEq)]
pub enum Constraint {
    /// It is of another JSON type.
    Type {
        /// The type wanted.
        expected: Kind,
        /// The type found.
        found: Found,
    },
    /// It must be there.
    Required,
    /// It must be one of these.
    Enum(&'static [&'static str]),
    /// It must have at least this many characters or elements.
    MinLength(i64),
    /// It must have at most this many characters or elements.
    MaxLength(i64),
    /// It must be at least this.
    Min(Number),
    /// It must be at most this.
    Max(Number),
    /// It must match this.
    Pattern(&'static str),
}

/// A type of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A structure or map.
    Structure,
    /// A list.
    List,
    /// A string.
    String,
    /// A 32-bit integer.
    Integer,
    /// A 64-bit integer.
    Long,
    /// A floating point number.
    Double,
    /// A boolean.
    Boolean,
    /// A point in time.
    Timestamp,
    /// Base64 text.
    Blob,
}

impl Kind {
    /// Java's name of it, as AWS writes it in errors.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Structure => "Structure",
            Kind::List => "List",
            Kind::String => "String",
            Kind::Integer => "Integer",
            Kind::Long => "Long",
            Kind::Double => "Double",
            Kind::Boolean => "Boolean",
            Kind::Timestamp => "Timestamp",
            Kind::Blob => "Blob",
        }
    }
}

/// A type of JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// `{}`
    Object,
    /// `[]`
    Array,
    /// `""`
    String,
    /// `0`
    Number,
    /// `true`
    True,
    /// `false`
    False,
}

/// Normalises a document and lists what is wrong with it.
pub fn check(shape: &Shape, value: &mut Value) -> Vec<Violation> {
    let mut checker =
        Checker { path: String::new(), owner: "", violations: Vec::new() };
    if value.is_null() && matches!(shape, Shape::Structure(_)) {
        *value = Value::Object(Object::new());
    }
    checker.value(shape, value);
    checker.violations
}

struct Checker {
    path: String,
    owner: &'static str,
    violations: Vec<Violation>,
}

impl Checker {
    fn value(&mut self, shape: &Shape, value: &mut Value) {
        if self.violations.len() >= MAX_VIOLATIONS {
            return;
        }
        match shape {
            Shape::Structure(structure) => match value.as_object_mut() {
                Some(members) => self.structure(structure, members),
                None => self.wrong_type(Kind::Structure, value),
            },
            Shape::List(list) => match value.as_array_mut() {
                Some(items) => self.list(list, items),
                None => self.wrong_type(Kind::List, value),
            },
            Shape::Map(map) => match value.as_object_mut() {
                Some(entries) => self.map(map, entries),
                None => self.wrong_type(Kind::Structure, value),
            },
            Shape::String(text) => match value.as_str() {
                Some(string) => self.string(text, string),
                None => self.wrong_type(Kind::String, value),
            },
            Shape::Integer(range) => {
                let bounds = (i64::from(i32::MIN), i64::from(i32::MAX));
                self.integer(Kind::Integer, *range, bounds, value);
            }
            Shape::Long(range) => {
                self.integer(Kind::Long, *range, (i64::MIN, i64::MAX), value);
            }
            Shape::Double(range) => self.double(*range, value),
            Shape::Boolean => {
                if !value.is_boolean() {
                    self.wrong_type(Kind::Boolean, value);
                }
            }
            Shape::Timestamp => {
                if serde_json::from_value::<Timestamp>(value.clone()).is_err() {
                    self.wrong_type(Kind::Timestamp, value);
                }
            }
            Shape::Blob => {
                let blob = serde_json::from_value::<crate::Blob>(value.clone());
                if blob.is_err() {
                    self.wrong_type(Kind::Blob, value);
                }
            }
            Shape::Document => {}
        }
    }

    /// Runs `check` one level further down.
    fn within(&mut self, name: &str, check: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        if length > 0 {
            self.path.push('.');
        }
        self.path.push_str(name);
        check(self);
        self.path.truncate(length);
    }

    fn structure(
        &mut self,
        structure: &Structure,
        members: &mut Object<String, Value>,
    ) {
        members.retain(|name, value| {
            !value.is_null()
                && structure.members.iter().any(|member| member.name == name)
        });
        let outer = std::mem::replace(&mut self.owner, structure.name);
        for member in structure.members {
            match members.get_mut(member.name) {
                Some(value) => self.within(member.name, |checker| {
                    checker.value(member.shape, value);
                }),
                None if member.required => {
                    self.within(member.name, |checker| {
                        checker.add(Constraint::Required, None);
                    });
                }
                None => {}
            }
        }
        self.owner = outer;
    }

    fn list(&mut self, list: &List, items: &mut Vec<Value>) {
        items.retain(|item| !item.is_null());
        self.length(list.length, items.len(), || "[]".to_owned());
        for (index, item) in items.iter_mut().enumerate() {
            self.within(&format!("{}.member", index + 1), |checker| {
                checker.value(list.member, item);
            });
        }
    }

    fn map(&mut self, map: &Map, entries: &mut Object<String, Value>) {
        entries.retain(|_, value| !value.is_null());
        self.length(map.length, entries.len(), || "{}".to_owned());
        for (key, value) in entries.iter_mut() {
            if let Shape::String(text) = map.key {
                self.string(text, key);
            }
            self.within(key, |checker| checker.value(map.value, value));
        }
    }

    fn string(&mut self, text: &Text, string: &str) {
        let excerpt = || excerpt(string);
        self.length(text.length, string.chars().count(), excerpt);
        if !text.values.is_empty() && !text.values.contains(&string) {
            self.add(Constraint::Enum(text.values), Some(excerpt()));
        }
        if let Some(pattern) = text.pattern
            && !pattern::matches(pattern, string)
        {
            self.add(Constraint::Pattern(pattern), Some(excerpt()));
        }
    }

    fn length(
        &mut self,
        range: Range<i64>,
        length: usize,
        excerpt: impl Fn() -> String,
    ) {
        let length = i64::try_from(length).unwrap_or(i64::MAX);
        match range {
            Range { min: Some(min), .. } if length < min => {
                self.add(Constraint::MinLength(min), Some(excerpt()));
            }
            Range { max: Some(max), .. } if length > max => {
                self.add(Constraint::MaxLength(max), Some(excerpt()));
            }
            _ => {}
        }
    }

    fn integer(
        &mut self,
        kind: Kind,
        range: Range<i64>,
        (least, most): (i64, i64),
        value: &mut Value,
    ) {
        let Some(number) = whole(value) else {
            return self.wrong_type(kind, value);
        };
        if number < least || number > most {
            return self.wrong_type(kind, value);
        }
        *value = Value::from(number);
        let shown = Some(number.to_string());
        match range {
            Range { min: Some(min), .. } if number < min => {
                self.add(Constraint::Min(min.into()), shown);
            }
            Range { max: Some(max), .. } if number > max => {
                self.add(Constraint::Max(max.into()), shown);
            }
            _ => {}
        }
    }

    fn double(&mut self, range: Range<f64>, value: &Value) {
        let Some(number) = value.as_f64() else {
            return self.wrong_type(Kind::Double, value);
        };
        let bound = |bound: f64| Number::from_f64(bound).unwrap_or(0.into());
        let shown = Some(value.to_string());
        match range {
            Range { min: Some(min), .. } if number < min => {
                self.add(Constraint::Min(bound(min)), shown);
            }
            Range { max: Some(max), .. } if number > max => {
                self.add(Constraint::Max(bound(max)), shown);
            }
            _ => {}
        }
    }

    fn wrong_type(&mut self, expected: Kind, value: &Value) {
        let (found, shown) = match value {
            Value::Object(_) => (Found::Object, "{}".to_owned()),
            Value::Array(_) => (Found::Array, "[]".to_owned()),
            Value::String(text) => (Found::String, excerpt(text)),
            Value::Number(number) => (Found::Number, number.to_string()),
            Value::Bool(true) => (Found::True, "true".to_owned()),
            Value::Bool(false) => (Found::False, "false".to_owned()),
            // Null is absence, which is nobody's type.
            Value::Null => return,
        };
        self.add(Constraint::Type { expected, found }, Some(shown));
    }

    fn add(&mut self, constraint: Constraint, value: Option<String>) {
        if self.violations.len() < MAX_VIOLATIONS {
            self.violations.push(Violation {
                path: self.path.clone(),
                owner: self.owner,
                value,
                constraint,
            });
        }
    }
}

fn excerpt(text: &str) -> String {
    match text.char_indices().nth(MAX_EXCERPT_CHARS) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}...", &text[..end]),
    }
}

/// A number without a fraction; what AWS truncates to one is one.
fn whole(value: &Value) -> Option<i64> {
    let number = value.as_number()?;
    number.as_i64().or_else(|| {
        let float = number.as_f64()?.trunc();
        // 2^53: every whole number up to it is itself as a double.
        if float.abs() > 9_007_199_254_740_992.0 {
            return None;
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "whole and within 2^53"
        )]
        Some(float as i64)
    })
}
