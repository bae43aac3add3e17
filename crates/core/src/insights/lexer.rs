//! Tokens of a query, read on demand: only the parser knows whether a slash
//! divides or begins a regular expression.

use super::InvalidQuery;

/// What a token is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    /// A keyword, a function or a field.
    Word(String),
    /// A field in backticks.
    Quoted(String),
    /// Text in single or double quotes, escapes undone.
    Text(String),
    /// A number, with the letters that follow it: `5`, `1.5`, `5m`.
    Number(f64, String),
    Symbol(&'static str),
    End,
}

/// A token and the bytes it stands on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Token {
    /// Whether it is this keyword, in any case.
    pub(super) fn is_word(&self, word: &str) -> bool {
        matches!(&self.kind, Kind::Word(w) if w.eq_ignore_ascii_case(word))
    }

    pub(super) fn is_symbol(&self, symbol: &str) -> bool {
        matches!(self.kind, Kind::Symbol(s) if s == symbol)
    }
}

/// Longer ones first: `<=` also begins with `<`.
const SYMBOLS: [&str; 18] = [
    "!=", "<=", ">=", "=~", "=", "<", ">", "(", ")", "[", "]", ",", "|", "+",
    "-", "*", "/", "%",
];

/// Reads a query from left to right.
#[derive(Clone, Debug)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Lexer<'a> {
        Lexer { text, at: 0 }
    }

    /// Where the next token is looked for: the end of the last one.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// The query between two bytes.
    pub(super) fn slice(&self, start: usize, end: usize) -> &'a str {
        self.text.get(start..end).unwrap_or("")
    }

    /// An error on the query between two bytes.
    pub(super) fn error(
        &self,
        start: usize,
        end: usize,
        message: impl Into<String>,
    ) -> InvalidQuery {
        let chars = |at| self.slice(0, at).chars().count();
        InvalidQuery {
            message: message.into(),
            start: chars(start),
            end: chars(end),
        }
    }

    fn rest(&self) -> &'a str {
        self.slice(self.at, self.text.len())
    }

    fn skip_space(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start();
            self.at += rest.len() - trimmed.len();
            if !trimmed.starts_with('#') {
                return;
            }
            self.at += trimmed.find('\n').unwrap_or(trimmed.len());
        }
    }

    /// The next token, which stays.
    pub(super) fn peek(&self) -> Result<Token, InvalidQuery> {
        self.clone().next()
    }

    /// Takes the next token.
    pub(super) fn next(&mut self) -> Result<Token, InvalidQuery> {
        self.skip_space();
        let start = self.at;
        let rest = self.rest();
        let Some(first) = rest.chars().next() else {
            return Ok(Token { kind: Kind::End, start, end: start });
        };
        let kind = match first {
            '"' | '\'' => Kind::Text(self.delimited(first, "a quote")?),
            '`' => Kind::Quoted(self.delimited('`', "a backtick")?),
            c if c.is_ascii_digit() => self.number()?,
            c if is_word_start(c) => Kind::Word(self.word().to_owned()),
            _ => {
                let known = SYMBOLS.iter().chain(&["^"]);
                let found = known.copied().find(|s| rest.starts_with(*s));
                let end = start + first.len_utf8();
                let symbol = found.ok_or_else(|| {
                    let text = format!("unexpected symbol found {first}");
                    self.error(start, end, text)
                })?;
                self.at += symbol.len();
                Kind::Symbol(symbol)
            }
        };
        Ok(Token { kind, start, end: self.at })
    }

    /// Takes a regular expression in slashes, if one comes next.
    pub(super) fn regex(
        &mut self,
    ) -> Result<Option<(String, usize, usize)>, InvalidQuery> {
        self.skip_space();
        let start = self.at;
        let mut text = String::new();
        let mut chars = self.rest().char_indices();
        if !matches!(chars.next(), Some((_, '/'))) {
            return Ok(None);
        }
        while let Some((at, c)) = chars.next() {
            match c {
                '/' => {
                    self.at = start + at + 1;
                    return Ok(Some((text, start, self.at)));
                }
                '\\' => match chars.next() {
                    Some((_, '/')) => text.push('/'),
                    Some((_, c)) => text.extend(['\\', c]),
                    None => break,
                },
                _ => text.push(c),
            }
        }
        let end = self.text.len();
        Err(self.error(start, end, "the regular expression is not closed"))
    }

    fn word(&mut self) -> &'a str {
        let rest = self.rest();
        let mut end = 0;
        let mut chars = rest.char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            let follows = chars.peek().map(|(_, c)| *c);
            let is_part = is_word_part(c)
                || c == '.' && at > 0 && follows.is_some_and(is_word_part);
            if !is_part {
                break;
            }
            end = at + c.len_utf8();
        }
        self.at += end;
        &rest[..end]
    }

    fn number(&mut self) -> Result<Kind, InvalidQuery> {
        let start = self.at;
        let rest = self.rest();
        let digits =
            |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let mut end = digits(rest);
        if rest[end..].starts_with('.') {
            let fraction = digits(&rest[end + 1..]);
            end += if fraction > 0 { fraction + 1 } else { 0 };
        }
        let exponent = exponent_length(&rest[end..]);
        let number = rest[..end + exponent].parse();
        self.at += end + exponent;
        let number: f64 = match number {
            Ok(number) if f64::is_finite(number) => number,
            _ => return Err(self.error(start, self.at, "invalid number")),
        };
        let unit = self.rest();
        let letters = unit.bytes().take_while(u8::is_ascii_alphabetic).count();
        self.at += letters;
        Ok(Kind::Number(number, unit[..letters].to_owned()))
    }

    /// Text up to the delimiter that closes it; a backslash keeps it open.
    fn delimited(
        &mut self,
        delimiter: char,
        what: &str,
    ) -> Result<String, InvalidQuery> {
        let start = self.at;
        let mut text = String::new();
        let mut chars = self.rest().char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                c if c == delimiter => {
                    self.at = start + at + c.len_utf8();
                    return Ok(text);
                }
                '\\' => match chars.next() {
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, 't')) => text.push('\t'),
                    Some((_, c)) if c == delimiter || c == '\\' => text.push(c),
                    Some((_, c)) => text.extend(['\\', c]),
                    None => break,
                },
                _ => text.push(c),
            }
        }
        let end = self.text.len();
        Err(self.error(start, end, format!("{what} is not closed")))
    }
}

/// `e9`, `E-3`: only with digits behind it, else the letters are a unit.
fn exponent_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    if !matches!(bytes.first(), Some(b'e' | b'E')) {
        return 0;
    }
    let sign = usize::from(matches!(bytes.get(1), Some(b'+' | b'-')));
    let rest = bytes.get(1 + sign..).unwrap_or_default();
    match rest.iter().take_while(|b| b.is_ascii_digit()).count() {
        0 => 0,
        digits => 1 + sign + digits,
    }
}

fn is_word_start(c: char) -> bool {
    c.is_alphabetic() || matches!(c, '_' | '@' | '$')
}

fn is_word_part(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '@' | '$')
}
