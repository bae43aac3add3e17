//! Lines of Docker's `json-file`.

use serde_json::json;

use super::record::{Piece, Writer, time};
use crate::runtime::Stream;

/// `{"log":"text\n","stream":"stdout","attrs":{..},"time":"..."}`.
pub(crate) fn line(writer: &Writer, piece: &Piece<'_>) -> Vec<u8> {
    let mut text = String::from_utf8_lossy(&piece.line.bytes).into_owned();
    // A piece of a line that goes on has no end.
    if !piece.line.partial {
        text.push('\n');
    }
    let stream = match piece.line.stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    };
    let mut attributes = serde_json::Map::new();
    for (name, value) in &writer.extras {
        attributes.insert(name.clone(), json!(value));
    }
    if !writer.tag.is_empty() {
        attributes.insert("tag".to_owned(), json!(writer.tag));
    }
    // Docker's order of the fields, which readers need not care about.
    let attributes = if attributes.is_empty() {
        String::new()
    } else {
        format!("\"attrs\":{},", serde_json::Value::Object(attributes))
    };
    let (text, stream) = (json!(text), json!(stream));
    let time = time(piece.line.time_ns);
    format!("{{\"log\":{text},\"stream\":{stream},{attributes}\"time\":\"{time}\"}}\n")
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::LogLine;

    #[test]
    fn lines_are_as_docker_writes_them() {
        let mut it = LogLine {
            stream: Stream::Stdout,
            time_ns: 1_700_000_000_123_000_000,
            bytes: b"say \"hi\"".to_vec(),
            partial: false,
        };
        let of = |writer: &Writer, it: &LogLine| {
            let piece = Piece { line: it, part: None };
            String::from_utf8(line(writer, &piece)).unwrap()
        };
        assert_eq!(
            of(&Writer::default(), &it),
            "{\"log\":\"say \\\"hi\\\"\\n\",\"stream\":\"stdout\",\
             \"time\":\"2023-11-14T22:13:20.123Z\"}\n"
        );
        it.partial = true;
        let writer = Writer {
            tag: "t".into(),
            extras: vec![("A".into(), "1".into())],
            ..Writer::default()
        };
        assert_eq!(
            of(&writer, &it),
            "{\"log\":\"say \\\"hi\\\"\",\"stream\":\"stdout\",\
             \"attrs\":{\"A\":\"1\",\"tag\":\"t\"},\
             \"time\":\"2023-11-14T22:13:20.123Z\"}\n"
        );
    }
}
