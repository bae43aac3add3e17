//! A command line as one text, cut into words.
//!
//! As the SSM agent cuts the command of `ExecuteCommand`: like a shell, but
//! nothing is expanded and no shell runs it. The rules are those of POSIX
//! shells, "Quoting" (Shell Command Language, 2.2).

/// Why a text is not a command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// A quotation mark without its second.
    #[error("a quotation is not closed")]
    OpenQuote,
    /// A backslash at the end.
    #[error("nothing follows the last backslash")]
    OpenEscape,
}

/// The words of a command line; none where it is blank.
pub fn split(line: &str) -> Result<Vec<String>, SplitError> {
    let (mut words, mut word) = (vec![], None::<String>);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            _ if c.is_ascii_whitespace() => words.extend(word.take()),
            '\\' => {
                let escaped = chars.next().ok_or(SplitError::OpenEscape)?;
                word.get_or_insert_default().push(escaped);
            }
            '\'' | '"' => {
                quoted(&mut chars, c, word.get_or_insert_default())?;
            }
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Takes what is within quotation marks, without them.
fn quoted(
    chars: &mut std::str::Chars<'_>,
    mark: char,
    word: &mut String,
) -> Result<(), SplitError> {
    loop {
        match chars.next().ok_or(SplitError::OpenQuote)? {
            c if c == mark => return Ok(()),
            '\\' if mark == '"' => {
                let c = chars.next().ok_or(SplitError::OpenQuote)?;
                if !matches!(c, '"' | '\\' | '$' | '`') {
                    word.push('\\');
                }
                word.push(c);
            }
            c => word.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_are_cut_as_shells_do() {
        for (line, words) in [
            ("", &[][..]),
            (" \t\n", &[]),
            ("/bin/sh", &["/bin/sh"]),
            ("  ls  -l\t/tmp ", &["ls", "-l", "/tmp"]),
            ("sh -c 'echo \"a  b\" $X'", &["sh", "-c", "echo \"a  b\" $X"]),
            ("a\\ b \"c\\\"d\" 'e\\f'", &["a b", "c\"d", "e\\f"]),
            ("\"a\\nb\"x''", &["a\\nbx"]),
            ("'' b", &["", "b"]),
            ("echo #1", &["echo", "#1"]),
        ] {
            assert_eq!(split(line).unwrap(), words, "{line}");
        }
        assert_eq!(split("a 'b"), Err(SplitError::OpenQuote));
        assert_eq!(split("a \"b\\"), Err(SplitError::OpenQuote));
        assert_eq!(split("a \\"), Err(SplitError::OpenEscape));
    }

    proptest! {
        #[test]
        fn quoted_words_come_back(words in prop::collection::vec(".*", 0..5)) {
            let quote = |word: &String| format!("'{}'", word.replace('\'', r"'\''"));
            let line: Vec<_> = words.iter().map(quote).collect();
            prop_assert_eq!(split(&line.join(" ")).unwrap(), words);
        }
    }
}
