//! Patterns for space-delimited events: `[ip, ..., status = 4*, bytes]`.

use std::collections::BTreeMap;

use super::InvalidFilterPattern;
use super::cursor::{Cursor, is_word};
use super::expression::Expression;
use super::operand::{Comparison, is_bare_field};

/// Named fields with conditions.
#[derive(Debug, Clone)]
pub(super) struct FieldsPattern {
    /// Fields before the ellipsis; all of them where there is none.
    head: usize,
    /// Fields after the ellipsis; `None` where there is none.
    tail: Option<usize>,
    names: Vec<String>,
    conditions: Vec<Expression<Condition>>,
}

#[derive(Debug, Clone)]
struct Condition {
    name: String,
    /// Position in the pattern's list, set once all names are known.
    field: usize,
    comparison: Comparison,
}

impl FieldsPattern {
    pub(super) fn parse(
        text: &str,
    ) -> Result<FieldsPattern, InvalidFilterPattern> {
        let mut cursor = Cursor::new(text);
        cursor.need("[", "'['")?;
        let (mut names, mut conditions) = (vec![], vec![]);
        let (mut ellipsis, mut regulars) = (None, 0);
        loop {
            cursor.skip_space();
            if cursor.eat("...") {
                if ellipsis.replace(names.len()).is_some() {
                    return Err(InvalidFilterPattern::Quota {
                        what: "ellipsis",
                        limit: 1,
                    });
                }
            } else {
                let (name, condition) = field(&mut cursor, &mut regulars)?;
                names.push(name);
                conditions.extend(condition);
            }
            cursor.skip_space();
            if !cursor.eat(",") {
                break;
            }
        }
        cursor.need("]", "',' or ']'")?;
        cursor.need_end()?;
        resolve(&mut conditions, &names)?;
        let head = ellipsis.unwrap_or(names.len());
        let tail = ellipsis.map(|head| names.len() - head);
        Ok(FieldsPattern { head, tail, names, conditions })
    }

    pub(super) fn matches(&self, message: &str) -> bool {
        let words = split(message);
        let Some(fields) = self.assign(message, &words) else {
            return false;
        };
        self.conditions.iter().all(|expression| {
            expression.holds(&|condition: &Condition| {
                fields.get(condition.field).is_some_and(|word| {
                    condition.comparison.holds_for_word(word)
                })
            })
        })
    }

    /// The text of each field, by its name behind a dollar sign.
    pub(super) fn extract(&self, message: &str) -> BTreeMap<String, String> {
        let words = split(message);
        let fields = self.assign(message, &words).unwrap_or_default();
        let named = self.names.iter().zip(fields);
        named
            .map(|(name, text)| (format!("${name}"), text.to_owned()))
            .collect()
    }

    /// The text of each field, or nothing if the words do not fit.
    fn assign<'a>(
        &self,
        message: &'a str,
        words: &[Word<'a>],
    ) -> Option<Vec<&'a str>> {
        if let Some(tail) = self.tail {
            let skipped = words.len().checked_sub(self.head + tail)?;
            let (head, rest) = words.split_at(self.head);
            let tail = &rest[skipped..];
            return Some(
                head.iter().chain(tail).map(|word| word.text).collect(),
            );
        }
        if words.len() < self.head {
            return None;
        }
        let mut fields: Vec<&str> =
            words.iter().take(self.head).map(|word| word.text).collect();
        // The last field takes the rest of the line: `[w1=ERROR, w2]` is
        // the documented way to ask for the first word.
        if words.len() > self.head
            && let Some(last) = fields.last_mut()
        {
            let start = words[self.head - 1].start;
            *last = message.get(start..).unwrap_or("").trim_end();
        }
        Some(fields)
    }
}

/// One entry of the list: a name, or conditions that begin with it.
fn field(
    cursor: &mut Cursor<'_>,
    regulars: &mut usize,
) -> Result<(String, Option<Expression<Condition>>), InvalidFilterPattern> {
    let mut ahead = Cursor::new(cursor.rest());
    ahead.take_while(|c| c == '(' || c.is_whitespace());
    let name = ahead.take_while(is_name).to_owned();
    if name.is_empty() {
        return Err(cursor.expected("a field name"));
    }
    ahead.skip_space();
    if matches!(ahead.peek(), Some(',' | ']')) {
        cursor.take_while(is_name);
        return Ok((name, None));
    }
    let expression = Expression::parse(cursor, &mut |cursor| {
        cursor.skip_space();
        let name = cursor.take_while(is_name).to_owned();
        if name.is_empty() {
            return Err(cursor.expected("a field name"));
        }
        cursor.skip_space();
        let comparison = Comparison::parse(cursor, regulars, is_bare_field)?;
        Ok(Condition { name, field: 0, comparison })
    })?;
    Ok((name, Some(expression)))
}

fn is_name(c: char) -> bool {
    is_word(c) || c == '-'
}

/// Looks up the position of each condition's field.
fn resolve(
    conditions: &mut [Expression<Condition>],
    names: &[String],
) -> Result<(), InvalidFilterPattern> {
    let mut unknown = None;
    for expression in conditions {
        expression.visit(&mut |condition| match names
            .iter()
            .position(|name| *name == condition.name)
        {
            Some(field) => condition.field = field,
            None => unknown = Some(condition.name.clone()),
        });
    }
    match unknown {
        None => Ok(()),
        Some(name) => Err(InvalidFilterPattern::UnknownField { name }),
    }
}

/// A field of the event.
#[derive(Debug, Clone, Copy)]
struct Word<'a> {
    /// Without the brackets or quotes around it.
    text: &'a str,
    /// Where it starts in the message, with them.
    start: usize,
}

/// Splits at white space; what stands in brackets or quotes is one field.
fn split(message: &str) -> Vec<Word<'_>> {
    let mut words = vec![];
    let mut at = 0;
    while let Some(rest) = message.get(at..) {
        let Some(skip) = rest.find(|c: char| !c.is_whitespace()) else {
            break;
        };
        let start = at + skip;
        let rest = &message[start..];
        let close = match rest.as_bytes().first() {
            Some(b'[') => rest.find(']'),
            Some(b'"') => rest[1..].find('"').map(|end| end + 1),
            _ => None,
        };
        let (text, end) = match close {
            Some(close) => (&rest[1..close], close + 1),
            None => {
                let end = rest.find(char::is_whitespace);
                let end = end.unwrap_or(rest.len());
                (&rest[..end], end)
            }
        };
        words.push(Word { text, start });
        at = start + end;
    }
    words
}
