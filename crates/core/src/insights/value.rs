//! Values of fields and expressions.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::time;

/// What a field or an expression has for one event.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value<'a> {
    /// The event has no such field.
    Null,
    /// Shown as `1` or `0`.
    Bool(bool),
    /// Shown with at most four decimals.
    Number(f64),
    /// Milliseconds since the epoch, shown as `2026-01-02 03:04:05.678`.
    Time(i64),
    /// Any text, which is also a number if it looks like one.
    Text(Cow<'a, str>),
}

impl Value<'_> {
    /// The same, with nothing borrowed.
    pub(super) fn into_owned(self) -> Value<'static> {
        match self {
            Value::Null => Value::Null,
            Value::Bool(is) => Value::Bool(is),
            Value::Number(number) => Value::Number(number),
            Value::Time(at) => Value::Time(at),
            Value::Text(text) => Value::Text(Cow::Owned(text.into_owned())),
        }
    }

    /// The same value, borrowed.
    pub(super) fn borrow(&self) -> Value<'_> {
        match self {
            Value::Null => Value::Null,
            Value::Bool(is) => Value::Bool(*is),
            Value::Number(number) => Value::Number(*number),
            Value::Time(at) => Value::Time(*at),
            Value::Text(text) => Value::Text(Cow::Borrowed(text)),
        }
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// The value as a number, if it can be one.
    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Value::Null => None,
            Value::Bool(is) => Some(f64::from(u8::from(*is))),
            Value::Number(number) => Some(*number),
            Value::Time(at) => Some(float(*at)),
            Value::Text(text) => parse_number(text),
        }
    }

    /// The value as a time: milliseconds since the epoch.
    pub(super) fn millis(&self) -> Option<i64> {
        match self {
            Value::Time(at) => Some(*at),
            _ => self.number().map(whole),
        }
    }

    /// The value as it is shown; nothing for [`Value::Null`].
    pub(super) fn text(&self) -> Option<Cow<'_, str>> {
        match self {
            Value::Null => None,
            Value::Bool(is) => Some(Cow::Borrowed(if *is { "1" } else { "0" })),
            Value::Number(number) => Some(Cow::Owned(show(*number))),
            Value::Time(at) => Some(Cow::Owned(time::format(*at))),
            Value::Text(text) => Some(Cow::Borrowed(text)),
        }
    }

    /// Whether a filter lets it pass.
    pub(super) fn is_true(&self) -> bool {
        match self {
            Value::Null => false,
            Value::Bool(is) => *is,
            Value::Number(number) => *number != 0.0,
            Value::Time(_) => true,
            Value::Text(text) => {
                text == "1" || text.eq_ignore_ascii_case("true")
            }
        }
    }

    /// Compares as `=` and `<` do: as numbers where both can be, else as
    /// text. Nothing compares with a missing field.
    pub(super) fn compare(&self, other: &Value<'_>) -> Option<Ordering> {
        if let (Value::Text(a), Value::Text(b)) = (self, other)
            && a == b
        {
            return Some(Ordering::Equal);
        }
        if let (Some(a), Some(b)) = (self.number(), other.number()) {
            return a.partial_cmp(&b);
        }
        match (self, other) {
            (Value::Bool(is), Value::Text(text))
            | (Value::Text(text), Value::Bool(is)) => {
                let name = if *is { "true" } else { "false" };
                let equal = text.eq_ignore_ascii_case(name);
                equal.then_some(Ordering::Equal)
            }
            _ => Some(self.text()?.cmp(&other.text()?)),
        }
    }

    /// The order of `sort`: missing ones, then text in natural order, then
    /// numbers (`CWL_QuerySyntax-Sort`).
    pub(super) fn order(&self, other: &Value<'_>) -> Ordering {
        match (self.is_null(), other.is_null()) {
            (true, true) => return Ordering::Equal,
            (true, false) => return Ordering::Less,
            (false, true) => return Ordering::Greater,
            (false, false) => {}
        }
        match (self.number(), other.number()) {
            (Some(a), Some(b)) => a.total_cmp(&b),
            (Some(_), None) => Ordering::Greater,
            (None, Some(_)) => Ordering::Less,
            (None, None) => {
                let (a, b) = (self.text(), other.text());
                natural(a.as_deref().unwrap_or(""), b.as_deref().unwrap_or(""))
            }
        }
    }

    /// Bytes that it takes beyond its own size.
    pub(super) fn weight(&self) -> usize {
        match self {
            Value::Text(text) => text.len(),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Time(_) => 0,
        }
    }
}

/// A number as far as `f64` can hold it; times and counts fit.
#[expect(
    clippy::cast_precision_loss,
    reason = "beyond 2^53 the last digits are not kept"
)]
pub(super) fn float(whole: i64) -> f64 {
    whole as f64
}

/// A number without its fraction, kept within `i64`.
#[expect(
    clippy::cast_possible_truncation,
    reason = "saturates, and drops the fraction on purpose"
)]
pub(super) fn whole(number: f64) -> i64 {
    number as i64
}

fn parse_number(text: &str) -> Option<f64> {
    let text = text.trim();
    // `inf`, `nan` and the like are words in a log.
    let first = text.bytes().find(|b| !matches!(b, b'+' | b'-' | b'.'))?;
    if !first.is_ascii_digit() {
        return None;
    }
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

fn show(number: f64) -> String {
    if number == 0.0 {
        return "0".to_owned(); // without the sign that zero may have
    }
    if !number.is_finite() || number.fract() == 0.0 {
        return number.to_string();
    }
    let text = format!("{number:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// Runs of digits compare as numbers, all else by character.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let (Some(x), Some(y)) = (a.chars().next(), b.chars().next()) else {
            return a.len().cmp(&b.len());
        };
        if x.is_ascii_digit() && y.is_ascii_digit() {
            let (first, second) = (digits(&mut a), digits(&mut b));
            let (short, long) =
                (first.trim_start_matches('0'), second.trim_start_matches('0'));
            let by_value = short.len().cmp(&long.len()).then(short.cmp(long));
            match by_value.then(first.len().cmp(&second.len())) {
                Ordering::Equal => continue,
                unequal => return unequal,
            }
        }
        if x != y {
            return x.cmp(&y);
        }
        a = &a[x.len_utf8()..];
        b = &b[y.len_utf8()..];
    }
}

fn digits<'a>(text: &mut &'a str) -> &'a str {
    let end = text.bytes().take_while(u8::is_ascii_digit).count();
    let (head, tail) = text.split_at(end);
    *text = tail;
    head
}
