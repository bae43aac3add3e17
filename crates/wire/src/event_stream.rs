//! `application/vnd.amazon.eventstream`: an answer that is a stream of events.
//!
//! A message is `total length u32 | headers length u32 | crc32 of these eight
//! bytes | headers | payload | crc32 of all before`, numbers big-endian. A
//! header is `name length u8 | name | type u8 | value`; only strings (type 7,
//! with a length of two bytes) are used here. By the Smithy specification,
//! "Amazon Event Stream".

use std::fmt;

use bytes::{BufMut as _, Bytes, BytesMut};
use serde_json::Value;

/// The content type of such an answer.
pub const CONTENT_TYPE: &str = "application/vnd.amazon.eventstream";

/// The longest message: 16 MiB, which is what botocore reads at most (its
/// limits are 24 MiB of payload and 128 KiB of headers).
pub const MAX_MESSAGE: usize = 16 * 1024 * 1024;

/// Lengths and their checksum.
const PRELUDE: usize = 12;
/// The checksum at the end.
const TRAILER: usize = 4;
/// The type of a header that is a string.
const STRING: u8 = 7;

/// One event of a stream, as a service tells of it.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamEvent {
    name: &'static str,
    is_exception: bool,
    payload: Value,
}

impl StreamEvent {
    /// An event; `name` is the member of the stream's shape.
    pub fn event(name: &'static str, payload: Value) -> StreamEvent {
        StreamEvent { name, is_exception: false, payload }
    }

    /// A modelled error, which ends the stream.
    pub fn exception(name: &'static str, payload: Value) -> StreamEvent {
        StreamEvent { name, is_exception: true, payload }
    }

    /// The member of the stream's shape.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The first message of an answer in AWS JSON: its members beside the
    /// stream, of which there are none so far.
    pub fn initial_response() -> StreamEvent {
        StreamEvent::event(
            "initial-response",
            Value::Object(Default::default()),
        )
    }

    /// The event as a message; `content_type` is that of its payload.
    pub fn encode(&self, content_type: &str) -> Result<Bytes, MessageTooLong> {
        let (kind, name) = match self.is_exception {
            true => ("exception", ":exception-type"),
            false => ("event", ":event-type"),
        };
        let message = Message {
            headers: vec![
                (":message-type".to_owned(), kind.to_owned()),
                (name.to_owned(), self.name.to_owned()),
                (":content-type".to_owned(), content_type.to_owned()),
            ],
            payload: Bytes::from(self.payload.to_string()),
        };
        message.encode()
    }
}

/// A message of a stream: headers that are strings, and a payload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Names, of at most 255 bytes, with values, of at most 65,535.
    pub headers: Vec<(String, String)>,
    /// What the headers say it is.
    pub payload: Bytes,
}

/// A message is longer than [`MAX_MESSAGE`], or a header than it can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of an event stream is too long")]
pub struct MessageTooLong;

/// Bytes that are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of an event stream is damaged: {0}")]
pub struct DamagedMessage(&'static str);

impl Message {
    /// The message's bytes.
    pub fn encode(&self) -> Result<Bytes, MessageTooLong> {
        let mut headers = BytesMut::new();
        for (name, value) in &self.headers {
            headers.put_u8(u8::try_from(name.len()).map_err(too_long)?);
            headers.put_slice(name.as_bytes());
            headers.put_u8(STRING);
            headers.put_u16(u16::try_from(value.len()).map_err(too_long)?);
            headers.put_slice(value.as_bytes());
        }
        let total = PRELUDE + headers.len() + self.payload.len() + TRAILER;
        if total > MAX_MESSAGE {
            return Err(MessageTooLong);
        }
        let mut out = BytesMut::with_capacity(total);
        out.put_u32(u32::try_from(total).map_err(too_long)?);
        out.put_u32(u32::try_from(headers.len()).map_err(too_long)?);
        out.put_u32(crc32fast::hash(&out));
        out.put_slice(&headers);
        out.put_slice(&self.payload);
        out.put_u32(crc32fast::hash(&out));
        Ok(out.freeze())
    }

    /// Takes the first message off `bytes`; `None` if it is not whole yet.
    ///
    /// For clients; also what tests read streams with.
    pub fn decode(
        bytes: &mut Bytes,
    ) -> Result<Option<Message>, DamagedMessage> {
        let Some(prelude) = bytes.get(..PRELUDE) else { return Ok(None) };
        let total = size_at(prelude, 0)?;
        let headers = size_at(prelude, 4)?;
        if size_at(prelude, 8)? != size(crc32fast::hash(&prelude[..8]))? {
            return Err(DamagedMessage("the prelude's checksum is wrong"));
        }
        let least = headers.saturating_add(PRELUDE + TRAILER);
        if total > MAX_MESSAGE || total < least {
            return Err(DamagedMessage("the lengths make no sense"));
        }
        if bytes.len() < total {
            return Ok(None);
        }
        let message = bytes.split_to(total);
        let end = total - TRAILER;
        let checksum = size(crc32fast::hash(&message[..end]))?;
        if size_at(&message, end)? != checksum {
            return Err(DamagedMessage("the message's checksum is wrong"));
        }
        let payload = message.slice(PRELUDE + headers..end);
        let headers = read_headers(&message[PRELUDE..PRELUDE + headers])
            .ok_or(DamagedMessage("the headers make no sense"))?;
        Ok(Some(Message { headers, payload }))
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.headers {
            write!(f, "{name}={value} ")?;
        }
        f.write_str(&String::from_utf8_lossy(&self.payload))
    }
}

fn too_long(_: std::num::TryFromIntError) -> MessageTooLong {
    MessageTooLong
}

fn size(number: u32) -> Result<usize, DamagedMessage> {
    usize::try_from(number).map_err(|_| DamagedMessage("too long"))
}

fn size_at(bytes: &[u8], at: usize) -> Result<usize, DamagedMessage> {
    let number = bytes.get(at..at + 4).and_then(|b| b.try_into().ok());
    let number = number.ok_or(DamagedMessage("too short"))?;
    size(u32::from_be_bytes(number))
}

fn read_headers(mut bytes: &[u8]) -> Option<Vec<(String, String)>> {
    let mut headers = vec![];
    while let Some((length, rest)) = bytes.split_first() {
        let (name, rest) = rest.split_at_checked(usize::from(*length))?;
        let (kind, rest) = rest.split_first()?;
        let (length, rest) = rest.split_at_checked(2)?;
        let length = u16::from_be_bytes(length.try_into().ok()?);
        let (value, rest) = rest.split_at_checked(usize::from(length))?;
        if *kind != STRING {
            return None;
        }
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        headers.push((text(name)?, text(value)?));
        bytes = rest;
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The message of the specification's test vectors with one header:
    /// `content-type: application/json` and `{'foo':'bar'}`.
    #[test]
    fn the_golden_message_is_written_and_read() {
        let message = Message {
            headers: vec![(
                "content-type".to_owned(),
                "application/json".to_owned(),
            )],
            payload: Bytes::from_static(b"{'foo':'bar'}"),
        };
        let mut golden =
            vec![0, 0, 0, 0x3d, 0, 0, 0, 0x20, 7, 0xfd, 0x83, 0x96];
        golden.extend_from_slice(b"\x0ccontent-type\x07\0\x10application/json");
        golden.extend_from_slice(b"{'foo':'bar'}\x8d\x9c\x08\xb1");
        let bytes = message.encode().unwrap();
        assert_eq!(bytes, golden);
        let mut bytes = bytes;
        assert_eq!(Message::decode(&mut bytes), Ok(Some(message)));
        assert!(bytes.is_empty());
    }

    #[test]
    fn events_and_exceptions_have_their_headers() {
        let payload = serde_json::json!({"a": 1});
        let event = StreamEvent::event("sessionStart", payload.clone());
        let mut bytes = event.encode("application/json").unwrap();
        let message = Message::decode(&mut bytes).unwrap().unwrap();
        assert_eq!(
            message.to_string(),
            ":message-type=event :event-type=sessionStart \
             :content-type=application/json {\"a\":1}"
        );
        let event = StreamEvent::exception("SessionTimeoutException", payload);
        let mut bytes = event.encode("application/json").unwrap();
        let message = Message::decode(&mut bytes).unwrap().unwrap();
        assert_eq!(message.header(":message-type"), Some("exception"));
        let name = message.header(":exception-type");
        assert_eq!(name, Some("SessionTimeoutException"));
    }

    #[test]
    fn what_is_too_long_is_refused() {
        let payload = Bytes::from(vec![0; MAX_MESSAGE]);
        let message = Message { headers: vec![], payload };
        assert_eq!(message.encode(), Err(MessageTooLong));
        let headers = vec![("x".repeat(256), String::new())];
        let message = Message { headers, payload: Bytes::new() };
        assert_eq!(message.encode(), Err(MessageTooLong));
    }

    proptest! {
        #[test]
        fn messages_come_back(
            headers in prop::collection::vec(("\\PC{0,20}", "\\PC{0,40}"), 0..5),
            payload: Vec<u8>, cut: prop::sample::Index, flip: prop::sample::Index,
        ) {
            let message = Message { headers, payload: Bytes::from(payload) };
            let whole = message.encode().unwrap();
            let mut bytes = whole.clone();
            prop_assert_eq!(Message::decode(&mut bytes), Ok(Some(message)));
            let mut torn = whole.slice(..cut.index(whole.len()));
            prop_assert_eq!(Message::decode(&mut torn), Ok(None));
            let mut broken = whole.to_vec();
            broken[flip.index(whole.len())] ^= 1;
            let found = Message::decode(&mut Bytes::from(broken));
            prop_assert!(!matches!(found, Ok(Some(_))));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = Message::decode(&mut Bytes::from(bytes));
        }
    }
}
