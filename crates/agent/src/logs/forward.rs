//! Fluentd's forward protocol: records as Docker's driver `fluentd` sends
//! them, in the protocol's *message mode*.
//!
//! ```text
//! [tag, time, {"container_id": .., "log": .., ..}, {"chunk": id}?]
//! ```
//! <https://github.com/fluent/fluentd/wiki/Forward-Protocol-Specification-v1>;
//! the encoding is `MessagePack`'s.

use super::record::{Piece, Writer};
use crate::runtime::Stream;

/// A line as a message.
pub(crate) fn record(
    writer: &Writer,
    piece: &Piece<'_>,
    sub_second: bool,
    chunk: Option<&str>,
) -> Vec<u8> {
    let name = format!("/{}", writer.name);
    let source = match piece.line.stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    };
    let mut fields: Vec<(&str, &[u8])> = vec![
        ("container_id", writer.id.as_bytes()),
        ("container_name", name.as_bytes()),
        ("source", source.as_bytes()),
        ("log", &piece.line.bytes),
    ];
    for (name, value) in &writer.extras {
        fields.push((name, value.as_bytes()));
    }
    let ordinal;
    if let Some(part) = &piece.part {
        ordinal = part.ordinal.to_string();
        let last: &[u8] = if part.is_last { b"true" } else { b"false" };
        fields.push(("partial_message", b"true"));
        fields.push(("partial_id", part.id.as_bytes()));
        fields.push(("partial_ordinal", ordinal.as_bytes()));
        fields.push(("partial_last", last));
    }
    message(&writer.tag, piece.line.time_ns, sub_second, &fields, chunk)
}

/// One message of the protocol.
fn message(
    tag: &str,
    time_ns: i64,
    sub_second: bool,
    fields: &[(&str, &[u8])],
    chunk: Option<&str>,
) -> Vec<u8> {
    let text: usize = fields.iter().map(|(k, v)| k.len() + v.len()).sum();
    let mut out = Vec::with_capacity(text + 64 + 8 * fields.len());
    // An array of four.
    out.push(0x94);
    put_text(&mut out, tag.as_bytes());
    put_time(&mut out, time_ns, sub_second);
    put_map(&mut out, fields.len());
    for (name, value) in fields {
        put_text(&mut out, name.as_bytes());
        put_text(&mut out, value);
    }
    match chunk {
        None => put_map(&mut out, 0),
        Some(id) => {
            put_map(&mut out, 1);
            put_text(&mut out, b"chunk");
            put_text(&mut out, id.as_bytes());
        }
    }
    out
}

/// Seconds, or the protocol's `EventTime`: extension 0 of eight bytes.
fn put_time(out: &mut Vec<u8>, time_ns: i64, sub_second: bool) {
    const BILLION: i64 = 1_000_000_000;
    let seconds = time_ns.div_euclid(BILLION);
    if sub_second {
        let nanos = time_ns.rem_euclid(BILLION);
        out.extend([0xd7, 0x00]);
        // Both are of 32 bits: times up to the year 2106.
        for part in [seconds, nanos] {
            let part = u32::try_from(part).unwrap_or(u32::MAX);
            out.extend(part.to_be_bytes());
        }
    } else if let Ok(short) = i32::try_from(seconds) {
        out.push(0xd2);
        out.extend(short.to_be_bytes());
    } else {
        out.push(0xd3);
        out.extend(seconds.to_be_bytes());
    }
}

fn put_map(out: &mut Vec<u8>, len: usize) {
    match (u8::try_from(len), u16::try_from(len), u32::try_from(len)) {
        (Ok(len @ 0..16), _, _) => out.push(0x80 | len),
        (_, Ok(len), _) => {
            out.push(0xde);
            out.extend(len.to_be_bytes());
        }
        (_, _, len) => {
            out.push(0xdf);
            out.extend(len.unwrap_or(u32::MAX).to_be_bytes());
        }
    }
}

/// A string; the bytes of a log line need not be UTF-8, and Docker does not
/// mind either.
fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    let len = text.len();
    match (u8::try_from(len), u16::try_from(len), u32::try_from(len)) {
        (Ok(len @ 0..32), _, _) => out.push(0xa0 | len),
        (Ok(len), _, _) => out.extend([0xd9, len]),
        (_, Ok(len), _) => {
            out.push(0xda);
            out.extend(len.to_be_bytes());
        }
        (_, _, len) => {
            out.push(0xdb);
            out.extend(len.unwrap_or(u32::MAX).to_be_bytes());
        }
    }
    out.extend(text);
}

/// The id in the answer `{"ack": id}` at the beginning of `bytes`, and its
/// length; `None` if it is not all there yet.
pub(crate) fn acknowledged(
    bytes: &[u8],
) -> Result<Option<(&str, usize)>, NotAnAck> {
    const HEAD: &[u8] = b"\x81\xa3ack";
    let head = bytes.get(..HEAD.len().min(bytes.len())).unwrap_or_default();
    if !HEAD.starts_with(head) {
        return Err(NotAnAck);
    }
    let rest = &bytes[head.len()..];
    let (begin, len) = match rest {
        [] => return Ok(None),
        [short @ 0xa0..=0xbf, ..] => (1, usize::from(short & 0x1f)),
        [0xd9, len, ..] => (2, usize::from(*len)),
        [0xd9] => return Ok(None),
        _ => return Err(NotAnAck),
    };
    let Some(id) = rest.get(begin..begin + len) else { return Ok(None) };
    let id = std::str::from_utf8(id).map_err(|_| NotAnAck)?;
    Ok(Some((id, HEAD.len() + begin + len)))
}

/// The receiver answered something else.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the receiver's answer is no acknowledgement")]
pub(crate) struct NotAnAck;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rmpv::Value;

    use super::*;
    use crate::logs::record::Part;
    use crate::runtime::LogLine;

    fn line(bytes: &[u8], time_ns: i64) -> LogLine {
        let (stream, partial) = (Stream::Stderr, false);
        LogLine { stream, time_ns, bytes: bytes.to_vec(), partial }
    }

    fn writer() -> Writer {
        Writer {
            id: "abc".into(),
            name: "app".into(),
            tag: "app-firelens-1".into(),
            ..Writer::default()
        }
    }

    /// As `fluent-logger-golang` writes it, byte by byte.
    #[test]
    fn a_record_is_these_bytes() {
        let line = line(b"hi", 1_700_000_000_000_000_007);
        let piece = Piece { line: &line, part: None };
        let bytes = record(&writer(), &piece, true, None);
        let mut golden = b"\x94\xaeapp-firelens-1\xd7\x00".to_vec();
        golden.extend(b"\x65\x53\xf1\x00\x00\x00\x00\x07\x84");
        golden.extend(b"\xaccontainer_id\xa3abc");
        golden.extend(b"\xaecontainer_name\xa4/app");
        golden.extend(b"\xa6source\xa6stderr\xa3log\xa2hi\x80");
        assert_eq!(bytes, golden);
        let bytes = record(&writer(), &piece, false, Some("c1"));
        assert_eq!(bytes[16..21], *b"\xd2\x65\x53\xf1\x00");
        assert!(bytes.ends_with(b"\xa2hi\x81\xa5chunk\xa2c1"));
    }

    #[test]
    fn pieces_of_a_line_say_where_they_belong() {
        let line = line(b"x", 0);
        let part = Part { id: "p".into(), ordinal: 2, is_last: true };
        let piece = Piece { line: &line, part: Some(part) };
        let bytes = record(&writer(), &piece, true, None);
        let value = rmpv::decode::read_value(&mut &bytes[..]).unwrap();
        for (name, expected) in [
            ("partial_message", "true"),
            ("partial_id", "p"),
            ("partial_ordinal", "2"),
            ("partial_last", "true"),
        ] {
            assert_eq!(value[2][name], Value::from(expected), "{name}");
        }
    }

    proptest! {
        /// An independent decoder reads what was written.
        #[test]
        fn every_record_can_be_decoded(
            log in prop::collection::vec(any::<u8>(), 0..70_000),
            extras in prop::collection::vec(("[a-z]{1,40}", ".{0,300}"), 0..20),
            seconds in 0_i64..4_000_000_000,
            sub_second: bool,
            chunk in prop::option::of("[a-z]{1,60}"),
        ) {
            let line = line(&log, seconds * 1_000_000_000 + 5);
            let writer = Writer { extras: extras.clone(), ..writer() };
            let piece = Piece { line: &line, part: None };
            let bytes = record(&writer, &piece, sub_second, chunk.as_deref());
            let mut rest = &bytes[..];
            let value = rmpv::decode::read_value(&mut rest).unwrap();
            prop_assert!(rest.is_empty());
            prop_assert_eq!(&value[0], &Value::from("app-firelens-1"));
            if sub_second {
                let short = u32::try_from(seconds).unwrap();
                let time = [short.to_be_bytes(), 5_u32.to_be_bytes()].concat();
                prop_assert_eq!(&value[1], &Value::Ext(0, time));
            } else {
                prop_assert_eq!(value[1].as_i64(), Some(seconds));
            }
            let fields = value[2].as_map().unwrap();
            prop_assert_eq!(fields.len(), 4 + extras.len());
            let Value::String(text) = &fields[3].1 else { panic!("{value}") };
            prop_assert_eq!(text.as_bytes(), &log[..]);
            for ((name, value), field) in extras.iter().zip(&fields[4..]) {
                prop_assert_eq!(field.0.as_str(), Some(name.as_str()));
                prop_assert_eq!(field.1.as_str(), Some(value.as_str()));
            }
            let options = value[3].as_map().unwrap();
            let sent = options.first().and_then(|(_, id)| id.as_str());
            prop_assert_eq!(sent, chunk.as_deref());
        }

        #[test]
        fn answers_are_read_in_any_cut_and_never_panic(
            id in "[a-z0-9]{1,120}", noise: Vec<u8>,
        ) {
            let id_value = Value::from(id.as_str());
            let answer = Value::Map(vec![(Value::from("ack"), id_value)]);
            let mut bytes = vec![];
            rmpv::encode::write_value(&mut bytes, &answer).unwrap();
            for cut in 0..bytes.len() {
                prop_assert_eq!(acknowledged(&bytes[..cut]), Ok(None));
            }
            let len = bytes.len();
            prop_assert_eq!(acknowledged(&bytes), Ok(Some((&*id, len))));
            let _ = acknowledged(&noise);
        }
    }
}
