//! GELF: Graylog's messages, as Docker's driver writes them.
//!
//! <https://go2docs.graylog.org/current/getting_in_log_data/gelf.html>: JSON,
//! over TCP with a zero byte after each message, over UDP compressed and, if
//! it is too long, in chunks.

use std::io::Write;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use serde_json::{Map, Value, json};

use super::record::{Piece, Writer, time};
use crate::runtime::Stream;
use crate::task::plan::GelfCompression;

/// Most bytes of a datagram, as Docker's.
const DATAGRAM_MAX: usize = 1420;
/// What a chunk has before its data.
const CHUNK_HEAD: usize = 12;
/// Most chunks of a message.
const CHUNKS_MAX: usize = 128;

/// A line as a message: JSON.
pub(crate) fn message(writer: &Writer, piece: &Piece<'_>) -> Vec<u8> {
    let level = match piece.line.stream {
        Stream::Stderr => 3,
        Stream::Stdout => 6,
    };
    let text = String::from_utf8_lossy(&piece.line.bytes);
    let millis = piece.line.time_ns.div_euclid(1_000_000);
    #[expect(
        clippy::cast_precision_loss,
        reason = "milliseconds of this age fit"
    )]
    let seconds = millis as f64 / 1000.0;
    let created = time(writer.created_ms.saturating_mul(1_000_000));
    let mut message = Map::new();
    for (name, value) in [
        ("version", json!("1.1")),
        ("host", json!(writer.host)),
        ("short_message", json!(text)),
        ("timestamp", json!(seconds)),
        ("level", json!(level)),
        ("_container_id", json!(writer.id)),
        ("_container_name", json!(writer.name)),
        ("_image_id", json!(writer.image_id)),
        ("_image_name", json!(writer.image)),
        ("_command", json!(writer.command)),
        ("_tag", json!(writer.tag)),
        ("_created", json!(created.to_string())),
    ] {
        message.insert(name.to_owned(), value);
    }
    for (name, value) in &writer.extras {
        message.insert(format!("_{name}"), json!(value));
    }
    Value::Object(message).to_string().into_bytes()
}

/// A message as datagrams; an error where it is too long for the format.
pub(crate) fn datagrams(
    message: &[u8],
    compression: GelfCompression,
    id: u64,
) -> std::io::Result<Vec<Vec<u8>>> {
    let bytes = match compression {
        GelfCompression::None => message.to_vec(),
        GelfCompression::Gzip(level) => {
            let mut out = GzEncoder::new(vec![], Compression::new(level));
            out.write_all(message)?;
            out.finish()?
        }
        GelfCompression::Zlib(level) => {
            let mut out = ZlibEncoder::new(vec![], Compression::new(level));
            out.write_all(message)?;
            out.finish()?
        }
    };
    if bytes.len() <= DATAGRAM_MAX {
        return Ok(vec![bytes]);
    }
    let chunks: Vec<&[u8]> = bytes.chunks(DATAGRAM_MAX - CHUNK_HEAD).collect();
    let count = match u8::try_from(chunks.len()) {
        Ok(count) if chunks.len() <= CHUNKS_MAX => count,
        Ok(_) | Err(_) => {
            let what = format!("it needs more than {CHUNKS_MAX} datagrams");
            return Err(std::io::Error::other(what));
        }
    };
    let datagram = |(number, data): (u8, &&[u8])| {
        let mut chunk = vec![0x1e, 0x0f];
        chunk.extend(id.to_be_bytes());
        chunk.extend([number, count]);
        chunk.extend(*data);
        chunk
    };
    Ok((0..count).zip(&chunks).map(datagram).collect())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::runtime::LogLine;

    #[test]
    fn a_message_has_docker_s_fields() {
        let line = LogLine {
            stream: Stream::Stderr,
            time_ns: 1_700_000_000_250_000_000,
            bytes: b"oh".to_vec(),
            partial: false,
        };
        let writer = Writer {
            id: "i".into(),
            name: "app".into(),
            extras: vec![("team".into(), "blue".into())],
            ..Writer::default()
        };
        let piece = Piece { line: &line, part: None };
        let bytes = message(&writer, &piece);
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(value["version"], "1.1");
        assert_eq!(value["short_message"], "oh");
        assert_eq!(value["level"], 3);
        assert_eq!(value["timestamp"], 1_700_000_000.25);
        assert_eq!(value["_container_name"], "app");
        assert_eq!(value["_team"], "blue");
    }

    #[test]
    fn long_messages_are_chunked_and_come_together_again() {
        // Text that does not compress below one datagram.
        let message: Vec<u8> =
            (0..40_000_u32).flat_map(|n| (n * n).to_le_bytes()).collect();
        let none = GelfCompression::None;
        let few = datagrams(&message[..5000], none, 7).unwrap();
        assert_eq!(few.len(), 4);
        let mut whole: Vec<u8> = vec![];
        for (number, one) in (0..).zip(&few) {
            assert!(one.len() <= DATAGRAM_MAX);
            assert_eq!(one[..10], *b"\x1e\x0f\0\0\0\0\0\0\0\x07");
            assert_eq!(one[10..12], [number, 4]);
            whole.extend(&one[12..]);
        }
        assert_eq!(whole, message[..5000]);
        // A hundred times 1408 bytes is not enough for that one.
        let many = [&message[..], &message[..]].concat();
        let error = datagrams(&many, none, 7).unwrap_err();
        assert!(error.to_string().contains("128 datagrams"), "{error}");
    }

    #[test]
    fn short_ones_are_one_compressed_datagram() {
        let message = vec![b'x'; 9000];
        let one = datagrams(&message, GelfCompression::Gzip(1), 7).unwrap();
        let mut text = vec![];
        flate2::read::GzDecoder::new(&one[0][..])
            .read_to_end(&mut text)
            .unwrap();
        assert_eq!((one.len(), text), (1, message.clone()));
        let one = datagrams(&message, GelfCompression::Zlib(9), 7).unwrap();
        let mut text = vec![];
        flate2::read::ZlibDecoder::new(&one[0][..])
            .read_to_end(&mut text)
            .unwrap();
        assert_eq!((one.len(), text), (1, message));
    }
}
