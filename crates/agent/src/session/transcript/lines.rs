//! A terminal's output as text for CloudWatch Logs.

use anstyle_parse::state::{Action, State, state_change};

/// Most bytes of one event's message; the SSM agent's own limit, and less
/// than what CloudWatch Logs takes.
pub(super) const MESSAGE_MAX: usize = 200_000;

/// The control character at the end of ASCII.
const DELETE: u8 = 0x7f;

/// Makes messages of whole lines. Escape sequences and control characters but
/// white space are left out, as the SSM agent does that streams to CloudWatch
/// Logs, and lines end as in files.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// Where in an escape sequence the output is.
    state: State,
    pending: Vec<u8>,
}

impl Lines {
    /// Takes what came next.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if self.is_plain(byte) {
                self.pending.push(byte);
            }
        }
    }

    /// Whether a byte is text or white space.
    fn is_plain(&mut self, byte: u8) -> bool {
        // Of characters outside ASCII all bytes are text.
        if self.state == State::Ground && !byte.is_ascii() {
            return true;
        }
        let (state, action) = state_change(self.state, byte);
        if state == State::Utf8 {
            self.state = State::Ground;
        } else if state != State::Anywhere {
            // That one stands for no change.
            self.state = state;
        }
        let is_white = byte.is_ascii_whitespace();
        (action == Action::Print && byte != DELETE)
            || (action == Action::Execute && is_white)
            || action == Action::BeginUtf8
    }

    /// The messages that the lines so far make: as many lines as there are,
    /// together. At the end the last line needs no line feed.
    pub(super) fn take(&mut self, is_over: bool) -> Vec<String> {
        let end = match self.pending.iter().rposition(|byte| *byte == b'\n') {
            _ if is_over => self.pending.len(),
            Some(at) => at + 1,
            // A line that no message could hold goes in parts.
            None if self.pending.len() > MESSAGE_MAX => {
                whole_characters(&self.pending)
            }
            None => 0,
        };
        let taken: Vec<u8> = self.pending.drain(..end).collect();
        let text = String::from_utf8_lossy(&taken).replace("\r\n", "\n");
        messages(&text)
    }
}

/// Cuts text into messages, between lines where that is possible.
fn messages(text: &str) -> Vec<String> {
    let mut messages = vec![];
    let mut rest = text;
    while !rest.is_empty() {
        let mut end = rest.len().min(MESSAGE_MAX);
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        if end < rest.len()
            && let Some(at) = rest[..end].rfind('\n')
        {
            end = at + 1;
        }
        let (message, tail) = rest.split_at(end);
        rest = tail;
        let message = message.strip_suffix('\n').unwrap_or(message);
        // CloudWatch Logs has no empty events.
        if !message.is_empty() {
            messages.push(message.to_owned());
        }
    }
    messages
}

/// How many bytes end with a whole character of UTF-8, or with what is none.
fn whole_characters(bytes: &[u8]) -> usize {
    const LONGEST: usize = 4;
    let last = bytes.len().saturating_sub(LONGEST);
    let is_begin = |byte: &u8| *byte & 0xc0 != 0x80;
    match bytes[last..].iter().rposition(is_begin) {
        Some(at) if last + at > 0 => last + at,
        Some(_) | None => bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> Vec<String> {
        let mut lines = Lines::default();
        lines.push(text.as_bytes());
        lines.take(true)
    }

    #[test]
    fn what_only_a_terminal_understands_is_left_out() {
        for (shown, logged) in [
            ("a\r\nb\r\n", "a\nb"),
            ("\x1b[1;31mred\x1b[0m \x1b[?2004hx\r\n", "red x"),
            ("\x1b]0;title\x07/ # ls\r\n", "/ # ls"),
            ("bell\x07 back\x08\ttab\n", "bell back\ttab"),
            ("größe ☃\r\n\r\nend", "größe ☃\n\nend"),
        ] {
            assert_eq!(of(shown), [logged], "{shown:?}");
        }
        assert!(of("").is_empty());
        assert!(of("\r\n").is_empty());
    }

    #[test]
    fn a_line_waits_for_its_end_or_for_the_sessions() {
        let mut lines = Lines::default();
        lines.push(b"one\r\n/ # \x1b[");
        assert_eq!(lines.take(false), ["one"]);
        assert!(lines.take(false).is_empty());
        lines.push(b"6nexit");
        assert!(lines.take(false).is_empty());
        assert_eq!(lines.take(true), ["/ # exit"]);
    }

    #[test]
    fn no_message_is_longer_than_it_may_be() {
        let mut lines = Lines::default();
        lines.push("ä".repeat(MESSAGE_MAX).as_bytes());
        let mut all = lines.take(false);
        all.extend(lines.take(true));
        assert!(all.len() > 1);
        assert!(all.iter().all(|message| message.len() <= MESSAGE_MAX));
        assert_eq!(all.concat(), "ä".repeat(MESSAGE_MAX));
        let line = "x".repeat(MESSAGE_MAX - 10);
        assert_eq!(of(&format!("{line}\n{line}\n")), [&*line, &*line]);
    }

    proptest! {
        #[test]
        fn pieces_make_the_same_text_as_the_whole(
            text in "[a-zé☃ \n\x1b\\[m0-9\x07]{0,80}",
            cut in any::<prop::sample::Index>(),
        ) {
            let bytes = text.as_bytes();
            let at = cut.index(bytes.len() + 1);
            let mut lines = Lines::default();
            lines.push(&bytes[..at]);
            lines.push(&bytes[at..]);
            prop_assert_eq!(lines.take(true), of(&text));
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut lines = Lines::default();
            lines.push(&bytes);
            lines.take(false);
            lines.take(true);
            prop_assert!(lines.pending.is_empty());
        }
    }
}
