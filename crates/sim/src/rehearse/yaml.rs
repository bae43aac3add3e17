//! A YAML text as a tree in which every node knows where it stands.
//!
//! Scalars stay as they were written: what they mean is decided by whoever
//! asks for a number, a time or a name.

use saphyr_parser::{Event, Parser, ScanError, Span};

use super::PlanError;

/// A place in the text: line and column, both from 1, and how many characters
/// are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct At {
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) length: usize,
}

impl At {
    fn of(span: Span) -> At {
        let (start, end) = (span.start, span.end);
        let length = if start.line() == end.line() {
            end.col().saturating_sub(start.col())
        } else {
            1
        };
        At {
            line: start.line(),
            column: start.col() + 1,
            length: length.max(1),
        }
    }

    pub(super) fn error(self, message: impl Into<String>) -> PlanError {
        PlanError { at: self, message: message.into() }
    }
}

/// A node and its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) at: At,
    pub(super) value: Value,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

impl Node {
    /// The text of a scalar.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(text) => Some(text),
            Value::List(_) | Value::Map(_) => None,
        }
    }

    /// What kind of node it is, for people.
    pub(super) fn kind(&self) -> &'static str {
        match &self.value {
            Value::Scalar(_) => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a group of members",
        }
    }
}

/// The deepest nesting that is read: plans need five.
const DEPTH_MAX: usize = 32;

/// Reads a text that holds one document.
pub(super) fn load(text: &str) -> Result<Node, PlanError> {
    let mut events = Parser::new_from_str(text);
    let mut root = None;
    while let Some(event) = events.next() {
        let (event, span) = event.map_err(unreadable)?;
        match event {
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentEnd
            | Event::DocumentStart(_) => {}
            event if root.is_none() => {
                root = Some(node(&mut events, event, span, 0)?);
            }
            Event::Alias(_)
            | Event::Scalar(..)
            | Event::SequenceStart(..)
            | Event::SequenceEnd
            | Event::MappingStart(..)
            | Event::MappingEnd => {
                return Err(At::of(span)
                    .error("a plan is one document, and this is another"));
            }
        }
    }
    let start = At { line: 1, column: 1, length: 1 };
    root.ok_or_else(|| start.error("the plan is empty"))
}

fn unreadable(error: ScanError) -> PlanError {
    let marker = error.marker();
    let at = At { line: marker.line(), column: marker.col() + 1, length: 1 };
    at.error(format!("this is not YAML: {}", error.info()))
}

type Events<'a> = Parser<'a, saphyr_parser::StrInput<'a>>;

fn next<'a>(
    events: &mut Events<'a>,
    at: At,
) -> Result<(Event<'a>, Span), PlanError> {
    let event = events.next();
    let event = event.ok_or_else(|| at.error("the plan ends within this"))?;
    event.map_err(unreadable)
}

fn node(
    events: &mut Events<'_>,
    event: Event<'_>,
    span: Span,
    depth: usize,
) -> Result<Node, PlanError> {
    let at = At::of(span);
    if depth > DEPTH_MAX {
        return Err(at.error("this is nested too deeply"));
    }
    let value = match event {
        Event::Scalar(text, _, _, _) => Value::Scalar(text.into_owned()),
        Event::SequenceStart(..) => {
            let mut list = vec![];
            loop {
                match next(events, at)? {
                    (Event::SequenceEnd, _) => break Value::List(list),
                    (event, span) => {
                        list.push(node(events, event, span, depth + 1)?);
                    }
                }
            }
        }
        Event::MappingStart(..) => {
            let mut members: Vec<(Node, Node)> = vec![];
            loop {
                let (event, span) = next(events, at)?;
                if event == Event::MappingEnd {
                    break Value::Map(members);
                }
                let key = node(events, event, span, depth + 1)?;
                let Some(name) = key.text() else {
                    return Err(key.at.error("a member needs a plain name"));
                };
                if members.iter().any(|(known, _)| known.text() == Some(name)) {
                    return Err(key.at.error(format!("{name} comes twice")));
                }
                let (event, span) = next(events, key.at)?;
                let value = node(events, event, span, depth + 1)?;
                members.push((key, value));
            }
        }
        Event::Alias(_) => {
            return Err(at.error("plans have no anchors and aliases"));
        }
        Event::Nothing
        | Event::StreamStart
        | Event::StreamEnd
        | Event::DocumentStart(_)
        | Event::DocumentEnd
        | Event::SequenceEnd
        | Event::MappingEnd => {
            return Err(at.error("the plan ends where a value should be"));
        }
    };
    Ok(Node { at, value })
}
