//! Regular expressions between percent signs.

use std::fmt::Write as _;

use regex::{Regex, RegexBuilder};

use super::InvalidFilterPattern;
use super::cursor::Cursor;

/// Compiled size of one expression. 1,024 characters of ordinary expression
/// stay below a tenth of it; nested repetitions that exceed it are refused.
const SIZE_LIMIT: usize = 512 * 1024;

/// A regular expression of the documented subset: no groups, no classes but
/// `\d \s \w` and their complements, ASCII only.
#[derive(Debug, Clone)]
pub(super) struct Regular(Regex);

impl Regular {
    /// The pattern that is one expression and nothing else.
    pub(super) fn parse_alone(
        text: &str,
    ) -> Result<Regular, InvalidFilterPattern> {
        let mut cursor = Cursor::new(text);
        let regular = Regular::parse(&mut cursor)?;
        cursor.need_end()?;
        Ok(regular)
    }

    /// The expression that comes next, with its percent signs.
    pub(super) fn parse(
        cursor: &mut Cursor<'_>,
    ) -> Result<Regular, InvalidFilterPattern> {
        let text = cursor.delimited('%', "a percent sign")?;
        let refused = || InvalidFilterPattern::Regex { text: text.to_owned() };
        let translated = translate(text).ok_or_else(refused)?;
        RegexBuilder::new(&translated)
            .size_limit(SIZE_LIMIT)
            .dfa_size_limit(SIZE_LIMIT)
            .build()
            .map(Regular)
            .map_err(|_| refused())
    }

    pub(super) fn matches(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

/// Writes the expression in the `regex` crate's dialect, or refuses it.
fn translate(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len() + 8);
    let mut chars = text.chars().peekable();
    let mut in_class = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' => escape(&mut chars, in_class, &mut out)?,
            '[' if in_class => out.push_str("\\["),
            '[' => {
                in_class = true;
                out.push('[');
                if chars.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
                // A bracket that closes nothing yet is itself a member.
                if chars.next_if_eq(&']').is_some() {
                    out.push_str("\\]");
                }
            }
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            ']' => out.push_str("\\]"),
            '{' if !in_class => {
                out.push('{');
                // AWS lets the minimum be left out.
                if chars.peek() == Some(&',') {
                    out.push('0');
                }
            }
            '^' | '$' | '?' | '{' | '}' | '|' | '*' | '+' | '.' | '-' => {
                if in_class && c != '-' {
                    out.push('\\');
                }
                out.push(c);
            }
            '#' => out.push_str("\\#"),
            ':' | '_' | '=' | '@' | '/' | ';' | ',' | ' ' => out.push(c),
            c if c.is_ascii_alphanumeric() => out.push(c),
            _ => return None,
        }
    }
    Some(out)
}

/// Translates what follows a backslash.
fn escape(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    in_class: bool,
    out: &mut String,
) -> Option<()> {
    let c = chars.next()?;
    let class = match c {
        'd' => "0-9",
        's' => " \\t\\n\\r\\x0b\\x0c",
        'w' => "a-zA-Z_0-9",
        'D' | 'S' | 'W' => {
            out.push_str(match c {
                'D' => "[^0-9]",
                'S' => "[^ \\t\\n\\r\\x0b\\x0c]",
                _ => "[^a-zA-Z_0-9]",
            });
            return Some(());
        }
        'x' => {
            let high = chars.next()?.to_digit(16)?;
            let low = chars.next()?.to_digit(16)?;
            let code = high * 16 + low;
            if code > 0x7f {
                return None;
            }
            return write!(out, "\\x{code:02x}").ok();
        }
        't' | 'n' | 'r' => {
            out.push('\\');
            out.push(c);
            return Some(());
        }
        c if c.is_ascii_punctuation() => {
            out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
            if in_class && matches!(c, '&' | '~') {
                // `&&` and `~~` would be set operators.
                let _ = out.pop();
                write!(out, "\\x{:02x}", u32::from(c)).ok()?;
            }
            return Some(());
        }
        _ => return None,
    };
    if in_class {
        out.push_str(class);
    } else {
        write!(out, "[{class}]").ok()?;
    }
    Some(())
}
