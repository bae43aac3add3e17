//! Entries of systemd's journal, in its native protocol.
//!
//! <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>: one datagram for each entry,
//! with a line for each field; a value with a line feed in it is written with
//! its length before it.

use super::record::{Piece, Writer, time};
use crate::runtime::Stream;

/// Where the journal listens.
pub(crate) const SOCKET: &str = "/run/systemd/journal/socket";

/// A line as an entry, with the fields that Docker's driver sets.
pub(crate) fn entry(writer: &Writer, piece: &Piece<'_>) -> Vec<u8> {
    let mut out = vec![];
    put(&mut out, "MESSAGE", &piece.line.bytes);
    // The severities `err` and `info`.
    let priority = match piece.line.stream {
        Stream::Stderr => "3",
        Stream::Stdout => "6",
    };
    let at = time(piece.line.time_ns).to_string();
    let mut fields: Vec<(&str, &str)> = vec![
        ("PRIORITY", priority),
        ("CONTAINER_ID", writer.short_id()),
        ("CONTAINER_ID_FULL", &writer.id),
        ("CONTAINER_NAME", &writer.name),
        ("CONTAINER_TAG", &writer.tag),
        ("IMAGE_NAME", &writer.image),
        ("SYSLOG_IDENTIFIER", &writer.tag),
        ("SYSLOG_TIMESTAMP", &at),
    ];
    let ordinal;
    if let Some(part) = &piece.part {
        ordinal = part.ordinal.to_string();
        if !part.is_last {
            fields.push(("CONTAINER_PARTIAL_MESSAGE", "true"));
        }
        let last = if part.is_last { "true" } else { "false" };
        fields.push(("CONTAINER_PARTIAL_ID", &part.id));
        fields.push(("CONTAINER_PARTIAL_ORDINAL", &ordinal));
        fields.push(("CONTAINER_PARTIAL_LAST", last));
    }
    for (name, value) in fields {
        put(&mut out, name, value.as_bytes());
    }
    for (name, value) in &writer.extras {
        put(&mut out, &field_name(name), value.as_bytes());
    }
    out
}

fn put(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend(name.as_bytes());
    if value.contains(&b'\n') {
        out.push(b'\n');
        out.extend((value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend(value);
    out.push(b'\n');
}

/// A name as the journal has them: capitals, digits and underscores, and no
/// underscore before them.
fn field_name(name: &str) -> String {
    let upper = name.bytes().map(|byte| match byte.to_ascii_uppercase() {
        byte @ (b'A'..=b'Z' | b'0'..=b'9') => char::from(byte),
        _ => '_',
    });
    upper.skip_while(|c| *c == '_').collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::LogLine;

    #[test]
    fn entries_are_as_the_protocol_has_them() {
        let line = LogLine {
            stream: Stream::Stdout,
            time_ns: 0,
            bytes: b"hello".to_vec(),
            partial: false,
        };
        let writer = Writer {
            id: "0123456789abcdef".into(),
            name: "app".into(),
            image: "busybox".into(),
            tag: "t".into(),
            extras: vec![("_a.b".into(), "1\n2".into())],
            ..Writer::default()
        };
        let piece = Piece { line: &line, part: None };
        let text = String::from_utf8(entry(&writer, &piece)).unwrap();
        assert_eq!(
            text,
            "MESSAGE=hello\nPRIORITY=6\nCONTAINER_ID=0123456789ab\n\
             CONTAINER_ID_FULL=0123456789abcdef\nCONTAINER_NAME=app\n\
             CONTAINER_TAG=t\nIMAGE_NAME=busybox\nSYSLOG_IDENTIFIER=t\n\
             SYSLOG_TIMESTAMP=1970-01-01T00:00:00Z\n\
             A_B\n\u{3}\0\0\0\0\0\0\u{0}1\n2\n"
        );
    }
}
