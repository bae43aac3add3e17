//! Tokens and event ids: places among events, as AWS writes them.

use minato_wire::ApiError;
use minato_wire::logs::error;

use crate::logs::{Position, StreamId};

pub(super) fn invalid_token() -> ApiError {
    error::invalid_parameter_exception("The specified nextToken is invalid.")
}

/// The 56 digits that AWS's tokens and event ids have: a 3, the time, the
/// sequence and a part of the stream's id.
fn digits(position: Position, stream: StreamId) -> String {
    let Position { timestamp, sequence } = position;
    // Times before 1970 are refused on input; only an open start is less.
    let timestamp = timestamp.clamp(0, 999_999_999_999_999);
    format!("3{timestamp:015}{sequence:020}{:020}", mark(stream))
}

/// Ties a token to its stream.
fn mark(stream: StreamId) -> u64 {
    let id = stream.0;
    u64::try_from((id >> 64) ^ (id & u128::from(u64::MAX))).unwrap_or_default()
}

/// The id of an event, unique within its group and the same forever.
pub(super) fn event_id(position: Position, stream: StreamId) -> String {
    digits(position, stream)
}

/// A place in a stream and the way from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StreamToken {
    /// `f/…`: what comes after.
    Forward(Position),
    /// `b/…`: what comes before.
    Backward(Position),
}

impl StreamToken {
    pub(super) fn write(self, stream: StreamId) -> String {
        match self {
            StreamToken::Forward(at) => format!("f/{}", digits(at, stream)),
            StreamToken::Backward(at) => format!("b/{}", digits(at, stream)),
        }
    }

    pub(super) fn read(
        token: &str,
        stream: StreamId,
    ) -> Result<StreamToken, ApiError> {
        let parse = |digits: &str| {
            if digits.len() != 56 || !digits.bytes().all(|b| b.is_ascii_digit())
            {
                return None;
            }
            let timestamp = digits.get(1..16)?.parse().ok()?;
            let sequence = digits.get(16..36)?.parse().ok()?;
            let of: u64 = digits.get(36..)?.parse().ok()?;
            (of == mark(stream)).then_some(Position { timestamp, sequence })
        };
        let token = match token.split_once('/') {
            Some(("f", digits)) => parse(digits).map(StreamToken::Forward),
            Some(("b", digits)) => parse(digits).map(StreamToken::Backward),
            _ => None,
        };
        token.ok_or_else(invalid_token)
    }
}

/// The token of FilterLogEvents: a place in a group.
pub(super) fn write_group_token(position: Position, group: &str) -> String {
    let Position { timestamp, sequence } = position;
    let timestamp = timestamp.max(0);
    let group: String = group.chars().take(16).collect();
    format!("{timestamp:016x}{sequence:016x}{group}")
}

pub(super) fn read_group_token(
    token: &str,
    group: &str,
) -> Result<Position, ApiError> {
    let parse = || {
        let timestamp = i64::from_str_radix(token.get(..16)?, 16).ok()?;
        let sequence = u64::from_str_radix(token.get(16..32)?, 16).ok()?;
        let of = token.get(32..).filter(|of| of.len() == 16)?;
        group.starts_with(of).then_some(Position { timestamp, sequence })
    };
    parse().ok_or_else(invalid_token)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn tokens_come_back(
            timestamp in 0..999_999_999_999_999_i64,
            sequence: u64, stream: u128,
        ) {
            let position = Position { timestamp, sequence };
            let stream = StreamId(stream);
            for token in [
                StreamToken::Forward(position),
                StreamToken::Backward(position),
            ] {
                let text = token.write(stream);
                prop_assert_eq!(text.len(), 58);
                let read = StreamToken::read(&text, stream).unwrap();
                prop_assert_eq!(read, token);
                let other = StreamId(stream.0 ^ 1);
                prop_assert!(StreamToken::read(&text, other).is_err());
            }
            let group = format!("{:032x}", stream.0);
            let text = write_group_token(position, &group);
            prop_assert_eq!(
                read_group_token(&text, &group).unwrap(), position);
        }

        #[test]
        fn no_token_panics(token in "\\PC*") {
            let _ = StreamToken::read(&token, StreamId(1));
            let _ = read_group_token(&token, "0123456789abcdef");
        }
    }
}
