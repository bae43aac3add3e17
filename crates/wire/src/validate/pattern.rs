//! The models' regular expressions, which are Java's, run by the `regex`
//! crate, which is linear in the input whatever the pattern.

use std::collections::HashMap;
use std::sync::{LazyLock, PoisonError, RwLock};

use regex::Regex;

/// Compiled patterns by the model's text. The models bound their number, as
/// every key is a static string of theirs.
static COMPILED: LazyLock<RwLock<HashMap<&'static str, Option<Regex>>>> =
    LazyLock::new(RwLock::default);

/// Whether the whole text matches. A pattern that cannot be compiled allows
/// everything; a test compiles all of the models'.
pub(super) fn matches(pattern: &'static str, text: &str) -> bool {
    let known = {
        let compiled = COMPILED.read().unwrap_or_else(PoisonError::into_inner);
        compiled.get(pattern).cloned()
    };
    let regex = known.unwrap_or_else(|| {
        let regex = compile(pattern);
        let mut compiled =
            COMPILED.write().unwrap_or_else(PoisonError::into_inner);
        compiled.insert(pattern, regex.clone());
        regex
    });
    regex.is_none_or(|regex| regex.is_match(text))
}

pub(super) fn compile(pattern: &str) -> Option<Regex> {
    Regex::new(&format!(r"\A(?:{})\z", translate(pattern))).ok()
}

/// Java's `\w`, `\d` and `\s` are ASCII; the crate's are Unicode.
fn translate(pattern: &str) -> String {
    let mut text = String::with_capacity(pattern.len() + 16);
    let mut in_class = false;
    let mut chars = pattern.chars();
    while let Some(char) = chars.next() {
        match char {
            '[' => in_class = true,
            ']' => in_class = false,
            '\\' => {
                let escaped = chars.next().unwrap_or('\\');
                let class = match escaped {
                    'w' => Some("0-9A-Za-z_"),
                    'd' => Some("0-9"),
                    's' => Some(r" \t\n\x0B\f\r"),
                    _ => None,
                };
                match class {
                    Some(class) if in_class => text.push_str(class),
                    Some(class) => {
                        text.push('[');
                        text.push_str(class);
                        text.push(']');
                    }
                    None => {
                        text.push('\\');
                        text.push(escaped);
                    }
                }
                continue;
            }
            _ => {}
        }
        text.push(char);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_the_whole_text() {
        assert!(matches("[a-z]+", "abc"));
        assert!(!matches("[a-z]+", "abc1"));
        assert!(!matches("a|ab", "abc"));
        assert!(!matches("[a-z]+", "abc\n"));
        assert!(matches(r"^\d{12}$", "123456789012"));
    }

    #[test]
    fn javas_classes_are_ascii() {
        assert!(matches(r"[\w+=,.@-]+", "a_B9@x-y"));
        assert!(!matches(r"[\w+=,.@-]+", "é"));
        assert!(!matches(r"\d+", "٣"));
        assert!(matches(r"[\p{L}\p{Z}\p{N}_.:/=+\-@]*", "é ٣"));
    }

    #[test]
    fn javas_escapes_work() {
        assert!(matches(r"(\u002F)|(\u002F[\u0021-\u007E]+\u002F)", "/a/"));
        assert!(!matches(r"[\u0020-\u00FF]+", "Ā"));
        assert!(matches(r"(\^?[\.\-_\/#A-Za-z0-9]{3,24})", "^a/b"));
    }
}
