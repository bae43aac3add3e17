//! `like` and `parse`: text and regular expressions over a field.

use std::borrow::Cow;

use memchr::memmem::Finder;
use regex::{Regex, RegexBuilder};

use super::ast::{Expr, Slot};

/// Compiled size of one expression; a query has at most 10,000 characters,
/// and ordinary expressions stay below a tenth of it.
const SIZE_LIMIT: usize = 1024 * 1024;

/// Text that a value must contain.
#[derive(Clone, Debug)]
pub(super) struct Like(Box<Finder<'static>>);

impl Like {
    pub(super) fn new(text: &str) -> Like {
        Like(Box::new(Finder::new(text.as_bytes()).into_owned()))
    }

    pub(super) fn matches(&self, text: &[u8]) -> bool {
        self.0.find(text).is_some()
    }
}

/// Compiles an expression; the error says why not, in one line.
pub(super) fn compile(text: &str) -> Result<Regex, String> {
    RegexBuilder::new(text)
        .size_limit(SIZE_LIMIT)
        .dfa_size_limit(SIZE_LIMIT)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => {
                "the regular expression is too large".to_owned()
            }
            error => {
                let text = error.to_string();
                let last = text.lines().last().unwrap_or_default();
                let reason = last.trim_start_matches("error: ");
                format!("unsupported regular expression: {reason}")
            }
        })
}

/// The text that an expression looks for, where it is nothing but text.
pub(super) fn plain_text(regex: &str) -> Option<&str> {
    let special = |c: char| "\\.+*?()|[]{}^$#&-~".contains(c);
    (!regex.is_empty() && !regex.contains(special)).then_some(regex)
}

/// The `parse` command: pieces of a value go into slots.
#[derive(Clone, Debug)]
pub(super) struct Parse {
    pub(super) from: Expr,
    pub(super) how: How,
    pub(super) slots: Vec<Slot>,
}

#[derive(Clone, Debug)]
pub(super) enum How {
    Glob(Glob),
    /// With the group of each slot.
    Regex(Regex, Vec<usize>),
}

/// `user=*, method:*`: text with wildcards, each taking as little as it can.
#[derive(Clone, Debug)]
pub(super) struct Glob {
    first: Box<Finder<'static>>,
    rest: Vec<Finder<'static>>,
}

impl Glob {
    /// Reads a glob; `None` if it has no wildcard.
    pub(super) fn new(text: &str) -> Option<Glob> {
        let mut pieces = text
            .split('*')
            .map(|piece| Finder::new(piece.as_bytes()).into_owned());
        let first = Box::new(pieces.next()?);
        let rest: Vec<_> = pieces.collect();
        (!rest.is_empty()).then_some(Glob { first, rest })
    }

    pub(super) fn wildcards(&self) -> usize {
        self.rest.len()
    }

    /// What each wildcard stands for, if the glob occurs in the text.
    pub(super) fn captures<'a>(&self, text: &'a str) -> Option<Vec<&'a str>> {
        let start = self.first.find(text.as_bytes())?;
        let mut at = start + self.first.needle().len();
        let mut found = Vec::with_capacity(self.rest.len());
        for (index, piece) in self.rest.iter().enumerate() {
            let rest = text.get(at..)?;
            let is_last = index + 1 == self.rest.len();
            // A wildcard at the end takes all that is left.
            let end = match piece.needle() {
                [] if is_last => rest.len(),
                _ => piece.find(rest.as_bytes())?,
            };
            found.push(rest.get(..end)?);
            at += end + piece.needle().len();
        }
        Some(found)
    }
}

impl How {
    /// The pieces for the slots, if the value has them.
    pub(super) fn pieces<'a>(
        &self,
        text: &Cow<'a, str>,
    ) -> Option<Vec<Option<Cow<'a, str>>>> {
        let own = |piece: &str| Some(Cow::Owned(piece.to_owned()));
        match (self, text) {
            (How::Glob(glob), Cow::Borrowed(text)) => {
                let found = glob.captures(text)?.into_iter();
                Some(found.map(|piece| Some(Cow::Borrowed(piece))).collect())
            }
            (How::Glob(glob), Cow::Owned(text)) => {
                Some(glob.captures(text)?.into_iter().map(own).collect())
            }
            (How::Regex(regex, groups), Cow::Borrowed(text)) => {
                let found = regex.captures(text)?;
                let piece = |group: &usize| {
                    let piece = found.get(*group)?;
                    Some(Cow::Borrowed(piece.as_str()))
                };
                Some(groups.iter().map(piece).collect())
            }
            (How::Regex(regex, groups), Cow::Owned(text)) => {
                let found = regex.captures(text)?;
                let piece = |group: &usize| own(found.get(*group)?.as_str());
                Some(groups.iter().map(piece).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_take_as_little_as_they_can() {
        let glob = Glob::new("user=*, method:*, latency := *").unwrap();
        let line = "x user=ann, method:GET, latency := 25 ms";
        assert_eq!(glob.captures(line), Some(vec!["ann", "GET", "25 ms"]));
        assert_eq!(glob.captures("user=ann"), None);
        let glob = Glob::new("* [*] *").unwrap();
        let found = glob.captures("a b [c] d [e]");
        assert_eq!(found, Some(vec!["a b", "c", "d [e]"]));
        assert_eq!(Glob::new("**").unwrap().captures("é"), Some(vec!["", "é"]));
        assert!(Glob::new("plain").is_none());
    }

    #[test]
    fn expressions_that_are_only_text_are_seen() {
        assert_eq!(plain_text("Error 5"), Some("Error 5"));
        assert_eq!(plain_text("a.b"), None);
        assert_eq!(plain_text(""), None);
        assert!(compile("(?<=x)y").unwrap_err().contains("look-around"));
        assert!(compile("(a{1000}){1000}").unwrap_err().contains("too large"));
    }
}
