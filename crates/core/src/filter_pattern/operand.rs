//! The right side of a condition and the comparison with a value.

use super::InvalidFilterPattern;
use super::cursor::{Cursor, is_word};
use super::regular::Regular;

/// How a value is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Operator {
    pub(super) fn parse(cursor: &mut Cursor<'_>) -> Option<Operator> {
        // Longer ones first: `<=` also begins with `<`.
        const ALL: [(&str, Operator); 6] = [
            ("!=", Operator::NotEqual),
            ("<=", Operator::LessOrEqual),
            (">=", Operator::GreaterOrEqual),
            ("=", Operator::Equal),
            ("<", Operator::Less),
            (">", Operator::Greater),
        ];
        ALL.into_iter()
            .find(|(token, _)| cursor.eat(token))
            .map(|(_, operator)| operator)
    }
}

/// What a value is compared with.
#[derive(Debug, Clone)]
enum Operand {
    Text(Wildcard),
    Number { value: f64, text: Wildcard },
    Regular(Regular),
}

/// An operator and its operand.
#[derive(Debug, Clone)]
pub(super) struct Comparison {
    operator: Operator,
    operand: Operand,
}

/// How many regular expressions one JSON or delimited pattern may hold.
const MAX_REGULARS: usize = 2;

impl Comparison {
    /// Parses `= "x"` and the like; `bare` says which characters an unquoted
    /// operand may have. `regulars` counts expressions over the pattern.
    pub(super) fn parse(
        cursor: &mut Cursor<'_>,
        regulars: &mut usize,
        bare: fn(char) -> bool,
    ) -> Result<Comparison, InvalidFilterPattern> {
        let operator = Operator::parse(cursor)
            .ok_or_else(|| cursor.expected("an operator"))?;
        cursor.skip_space();
        let operand = match cursor.peek() {
            Some('"') => Operand::Text(Wildcard::new(&cursor.quoted()?)),
            Some('%') => {
                *regulars += 1;
                if *regulars > MAX_REGULARS {
                    return Err(InvalidFilterPattern::Quota {
                        what: "regular expressions",
                        limit: MAX_REGULARS,
                    });
                }
                Operand::Regular(Regular::parse(cursor)?)
            }
            _ => bare_operand(cursor, bare)?,
        };
        let ordered = !matches!(operator, Operator::Equal | Operator::NotEqual);
        if ordered && !matches!(operand, Operand::Number { .. }) {
            return Err(cursor.expected("a number before this"));
        }
        Ok(Comparison { operator, operand })
    }

    /// Compares with a JSON string.
    pub(super) fn holds_for_text(&self, text: &str) -> bool {
        match self.operator {
            Operator::Equal => self.equals_text(text),
            Operator::NotEqual => !self.equals_text(text),
            Operator::Less
            | Operator::LessOrEqual
            | Operator::Greater
            | Operator::GreaterOrEqual => false,
        }
    }

    /// Compares with a JSON number, `text` being how it was written.
    pub(super) fn holds_for_number(&self, value: f64, text: &str) -> bool {
        let equal = || match &self.operand {
            Operand::Number { value: wanted, .. } => value == *wanted,
            Operand::Text(wildcard) => {
                wildcard.has_star() && wildcard.matches(text)
            }
            Operand::Regular(regular) => regular.matches(text),
        };
        let wanted = match &self.operand {
            Operand::Number { value, .. } => *value,
            Operand::Text(_) | Operand::Regular(_) => f64::NAN,
        };
        match self.operator {
            Operator::Equal => equal(),
            Operator::NotEqual => !equal(),
            Operator::Less => value < wanted,
            Operator::LessOrEqual => value <= wanted,
            Operator::Greater => value > wanted,
            Operator::GreaterOrEqual => value >= wanted,
        }
    }

    /// Compares with a word of a log line, which may be a number.
    pub(super) fn holds_for_word(&self, word: &str) -> bool {
        match (&self.operand, word.parse::<f64>()) {
            (Operand::Number { .. }, Ok(value)) => {
                self.holds_for_number(value, word)
            }
            (Operand::Number { .. }, Err(_))
            | (Operand::Text(_) | Operand::Regular(_), _) => {
                self.holds_for_text(word)
            }
        }
    }

    fn equals_text(&self, value: &str) -> bool {
        match &self.operand {
            Operand::Text(wildcard)
            | Operand::Number { text: wildcard, .. } => wildcard.matches(value),
            Operand::Regular(regular) => regular.matches(value),
        }
    }
}

fn bare_operand(
    cursor: &mut Cursor<'_>,
    bare: fn(char) -> bool,
) -> Result<Operand, InvalidFilterPattern> {
    let text = cursor.take_while(bare);
    if text.is_empty() {
        return Err(cursor.expected("a value"));
    }
    let wildcard = Wildcard::new(text);
    let numeric =
        text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
    match text.parse::<f64>() {
        Ok(value) if numeric && value.is_finite() => {
            Ok(Operand::Number { value, text: wildcard })
        }
        _ => Ok(Operand::Text(wildcard)),
    }
}

/// What an unquoted operand on a JSON property may consist of.
pub(super) fn is_bare_json(c: char) -> bool {
    is_word(c) || "*.+-:/@".contains(c)
}

/// What an unquoted operand on a field may consist of.
pub(super) fn is_bare_field(c: char) -> bool {
    !c.is_whitespace() && !",[]()\"&|%".contains(c)
}

/// Text in which `*` stands for any characters.
#[derive(Debug, Clone)]
pub(super) struct Wildcard {
    /// The pieces between the stars; one piece means there is no star.
    pieces: Vec<String>,
}

impl Wildcard {
    fn new(text: &str) -> Wildcard {
        Wildcard { pieces: text.split('*').map(str::to_owned).collect() }
    }

    fn has_star(&self) -> bool {
        self.pieces.len() > 1
    }

    fn matches(&self, text: &str) -> bool {
        let Some((first, others)) = self.pieces.split_first() else {
            return text.is_empty();
        };
        let Some((last, middle)) = others.split_last() else {
            return text == first;
        };
        let Some(rest) = text.strip_prefix(first.as_str()) else {
            return false;
        };
        let Some(mut rest) = rest.strip_suffix(last.as_str()) else {
            return false;
        };
        // Leftmost is best: what it leaves to the right is the most.
        for piece in middle {
            match rest.find(piece.as_str()) {
                Some(at) => rest = &rest[at + piece.len()..],
                None => return false,
            }
        }
        true
    }
}
