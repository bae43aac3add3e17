//! A place in the pattern's text.

use super::InvalidFilterPattern;

/// Reads a pattern from left to right by characters.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Cursor<'a> {
        Cursor { text, at: 0 }
    }

    pub(super) fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(super) fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    pub(super) fn skip_space(&mut self) {
        self.take_while(char::is_whitespace);
    }

    /// The longest run of characters that satisfy `wanted`.
    pub(super) fn take_while(
        &mut self,
        wanted: impl Fn(char) -> bool,
    ) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    /// Takes `token` if it comes next.
    pub(super) fn eat(&mut self, token: &str) -> bool {
        let comes = self.rest().starts_with(token);
        if comes {
            self.at += token.len();
        }
        comes
    }

    /// Takes the keyword, in any case, if it comes next as a whole word.
    pub(super) fn eat_word(&mut self, word: &str) -> bool {
        let rest = self.rest();
        let Some(head) = rest.get(..word.len()) else { return false };
        let tail = rest[word.len()..].chars().next();
        let ends = tail.is_none_or(|c| !is_word(c));
        let comes = ends && head.eq_ignore_ascii_case(word);
        if comes {
            self.at += word.len();
        }
        comes
    }

    pub(super) fn need(
        &mut self,
        token: &str,
        wanted: &'static str,
    ) -> Result<(), InvalidFilterPattern> {
        if self.eat(token) { Ok(()) } else { Err(self.expected(wanted)) }
    }

    pub(super) fn need_end(&mut self) -> Result<(), InvalidFilterPattern> {
        self.skip_space();
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.expected("the end of the pattern")),
        }
    }

    pub(super) fn expected(
        &self,
        wanted: &'static str,
    ) -> InvalidFilterPattern {
        InvalidFilterPattern::Expected { wanted, at: self.column() }
    }

    fn column(&self) -> usize {
        self.text.get(..self.at).map_or(0, |head| head.chars().count()) + 1
    }

    /// The text between the delimiter that comes next and its partner; a
    /// backslash keeps the delimiter from closing. The backslashes stay.
    pub(super) fn delimited(
        &mut self,
        delimiter: char,
        what: &'static str,
    ) -> Result<&'a str, InvalidFilterPattern> {
        let opened = self.column();
        let unclosed = InvalidFilterPattern::Unclosed { what, at: opened };
        if self.next() != Some(delimiter) {
            return Err(self.expected(what));
        }
        let start = self.at;
        while let Some(c) = self.next() {
            match c {
                '\\' => {
                    self.next();
                }
                c if c == delimiter => {
                    let end = self.at - delimiter.len_utf8();
                    return Ok(self.text.get(start..end).unwrap_or(""));
                }
                _ => {}
            }
        }
        Err(unclosed)
    }

    /// A string in double quotes, with `\"` and `\\` undone.
    pub(super) fn quoted(&mut self) -> Result<String, InvalidFilterPattern> {
        let raw = self.delimited('"', "a double quote")?;
        let mut text = String::with_capacity(raw.len());
        let mut chars = raw.chars();
        while let Some(c) = chars.next() {
            match (c, chars.as_str().chars().next()) {
                ('\\', Some(escaped @ ('"' | '\\'))) => {
                    text.push(escaped);
                    chars.next();
                }
                _ => text.push(c),
            }
        }
        Ok(text)
    }
}

/// What a keyword, a name or a bare term consists of.
pub(super) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}
