//! Syslog messages, as Docker's driver writes them.
//!
//! RFC 3164 and RFC 5424; over a stream each message ends with a line feed.

use super::record::{Piece, Writer, time};
use crate::runtime::Stream;
use crate::task::plan::SyslogFormat;

/// A line as a message, with the line feed at its end.
pub(crate) fn message(
    writer: &Writer,
    piece: &Piece<'_>,
    facility: u8,
    format: SyslogFormat,
) -> Vec<u8> {
    // The severities `err` and `info`.
    let severity = match piece.line.stream {
        Stream::Stderr => 3,
        Stream::Stdout => 6,
    };
    let priority = facility * 8 + severity;
    let Writer { host, tag, .. } = writer;
    let pid = std::process::id();
    let time = time(piece.line.time_ns);
    let head = match format {
        SyslogFormat::Local => {
            let time = time.strftime("%b %e %H:%M:%S");
            format!("<{priority}>{time} {tag}[{pid}]: ")
        }
        SyslogFormat::Rfc3164 => {
            let time = time.strftime("%b %e %H:%M:%S");
            format!("<{priority}>{time} {host} {tag}[{pid}]: ")
        }
        SyslogFormat::Rfc5424 => {
            let time = time.strftime("%Y-%m-%dT%H:%M:%SZ");
            format!("<{priority}>1 {time} {host} {tag} {pid} {tag} - ")
        }
        SyslogFormat::Rfc5424Micro => {
            let time = time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ");
            format!("<{priority}>1 {time} {host} {tag} {pid} {tag} - ")
        }
    };
    let mut bytes = head.into_bytes();
    bytes.extend(&piece.line.bytes);
    bytes.push(b'\n');
    bytes
}

/// A facility by name or number.
pub(crate) fn facility(text: &str) -> Option<u8> {
    const NAMES: [&str; 24] = [
        "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news",
        "uucp", "cron", "authpriv", "ftp", "", "", "", "", "local0", "local1",
        "local2", "local3", "local4", "local5", "local6", "local7",
    ];
    let by_name = || NAMES.iter().position(|name| *name == text);
    let number = text.parse::<usize>().ok().or_else(by_name)?;
    u8::try_from(number).ok().filter(|n| *n < 24 && !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::LogLine;

    #[test]
    fn messages_are_as_the_formats_have_them() {
        let line = LogLine {
            stream: Stream::Stderr,
            time_ns: 1_700_000_000_123_456_789,
            bytes: b"oh no".to_vec(),
            partial: false,
        };
        let writer = Writer {
            host: "box".into(),
            tag: "app".into(),
            ..Writer::default()
        };
        let piece = Piece { line: &line, part: None };
        let of = |format| {
            let bytes = message(&writer, &piece, 3, format);
            let pid = std::process::id().to_string();
            String::from_utf8(bytes).unwrap().replace(&pid, "PID")
        };
        assert_eq!(
            of(SyslogFormat::Local),
            "<27>Nov 14 22:13:20 app[PID]: oh no\n"
        );
        assert_eq!(
            of(SyslogFormat::Rfc3164),
            "<27>Nov 14 22:13:20 box app[PID]: oh no\n"
        );
        assert_eq!(
            of(SyslogFormat::Rfc5424),
            "<27>1 2023-11-14T22:13:20Z box app PID app - oh no\n"
        );
        assert_eq!(
            of(SyslogFormat::Rfc5424Micro),
            "<27>1 2023-11-14T22:13:20.123456Z box app PID app - oh no\n"
        );
    }

    #[test]
    fn facilities_have_names_and_numbers() {
        assert_eq!(facility("daemon"), Some(3));
        assert_eq!(facility("local7"), Some(23));
        assert_eq!(facility("0"), Some(0));
        for bad in ["", "24", "-1", "local8"] {
            assert_eq!(facility(bad), None, "{bad}");
        }
    }
}
