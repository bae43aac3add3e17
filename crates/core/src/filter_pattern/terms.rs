//! Patterns for unstructured text: terms and phrases.

use memchr::memmem::Finder;

use super::InvalidFilterPattern;
use super::cursor::{Cursor, is_word};

/// Terms that must, must not, or may occur.
#[derive(Debug, Clone)]
pub(super) struct TermsPattern {
    include: Vec<Finder<'static>>,
    exclude: Vec<Finder<'static>>,
    /// One of these is needed; empty when there are other terms, because
    /// AWS then ignores the optional ones.
    optional: Vec<Finder<'static>>,
}

impl TermsPattern {
    pub(super) fn parse(
        text: &str,
    ) -> Result<TermsPattern, InvalidFilterPattern> {
        let mut cursor = Cursor::new(text);
        let (mut include, mut exclude) = (vec![], vec![]);
        let mut optional = vec![];
        loop {
            cursor.skip_space();
            let list = match cursor.peek() {
                None => break,
                Some('?') => &mut optional,
                Some('-') => &mut exclude,
                Some(_) => &mut include,
            };
            if matches!(cursor.peek(), Some('?' | '-')) {
                cursor.next();
            }
            let term = term(&mut cursor)?;
            // `" "` is the documented way to write "everything".
            if !term.trim().is_empty() {
                list.push(Finder::new(term.as_bytes()).into_owned());
            }
        }
        if !(include.is_empty() && exclude.is_empty()) {
            optional.clear();
        }
        Ok(TermsPattern { include, exclude, optional })
    }

    pub(super) fn matches(&self, message: &str) -> bool {
        let text = message.as_bytes();
        let has = |finder: &Finder<'_>| finder.find(text).is_some();
        self.include.iter().all(has)
            && !self.exclude.iter().any(has)
            && (self.optional.is_empty() || self.optional.iter().any(has))
    }

    pub(super) fn could_match_in(&self, text: &[u8]) -> bool {
        let has = |finder: &Finder<'_>| finder.find(text).is_some();
        self.include.iter().all(has)
            && (self.optional.is_empty() || self.optional.iter().any(has))
    }
}

/// The quoted phrase or bare word that comes next.
fn term(cursor: &mut Cursor<'_>) -> Result<String, InvalidFilterPattern> {
    if cursor.peek() == Some('"') {
        return cursor.quoted();
    }
    let term = cursor.take_while(|c| !c.is_whitespace());
    if term.is_empty() {
        return Err(cursor.expected("a term"));
    }
    if term.chars().all(is_word) {
        Ok(term.to_owned())
    } else {
        Err(InvalidFilterPattern::Term { term: term.to_owned() })
    }
}
