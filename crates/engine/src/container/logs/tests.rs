use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::container::{LogLimits, WhenLogFull};

fn limits(segment_bytes: u64, max_bytes: u64) -> LogLimits {
    LogLimits { segment_bytes, max_bytes, ..LogLimits::default() }
}

fn read_all(reader: &mut LogReader) -> Vec<LogEntry> {
    std::iter::from_fn(|| reader.try_next().unwrap()).collect()
}

/// Joins the pieces of each stream's lines.
fn lines(entries: &[LogEntry], stream: LogStream) -> Vec<Vec<u8>> {
    let (mut all, mut begun) = (vec![], vec![]);
    for entry in entries {
        let LogEntry::Line(line) = entry else { panic!("lines were dropped") };
        if line.stream == stream {
            assert!(line.bytes.len() <= LINE_MAX_BYTES);
            begun.extend_from_slice(&line.bytes);
            if !line.partial {
                all.push(std::mem::take(&mut begun));
            }
        }
    }
    assert!(begun.is_empty(), "a piece without its end");
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is written in whatever cuts is read back, by a reader that
    /// starts anew at its position again and again.
    #[test]
    fn nothing_is_lost_and_nothing_comes_twice(
        chunks in prop::collection::vec(
            (any::<bool>(), prop::collection::vec(
                prop_oneof![5 => any::<u8>(), 1 => Just(b'\n')], 0..400)),
            0..40),
        long in 0usize..50_000,
        at_a_time in 1usize..20,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut writer =
            LogWriter::new(dir.path(), limits(0, 1 << 30));
        let mut written = [vec![], vec![]];
        let long = vec![b'x'; long];
        let chunks = chunks.into_iter().chain(Some((false, long)));
        for (time, (is_err, bytes)) in (0..).zip(chunks) {
            let stream =
                if is_err { LogStream::Stderr } else { LogStream::Stdout };
            written[usize::from(is_err)].extend_from_slice(&bytes);
            writer.take(stream, &bytes, time);
        }
        writer.end(LogStream::Stdout, 0);
        writer.end(LogStream::Stderr, 0);
        let (mut position, mut entries) = (LogPosition::default(), vec![]);
        loop {
            let mut reader = LogReader::open(dir.path(), position);
            let before = entries.len();
            while entries.len() < before + at_a_time
                && let Some(entry) = reader.try_next().unwrap()
            {
                entries.push(entry);
            }
            position = reader.position();
            reader.acknowledge(position).unwrap();
            if entries.len() == before {
                break;
            }
        }
        for (stream, bytes) in
            [LogStream::Stdout, LogStream::Stderr].into_iter().zip(written)
        {
            let mut expected: Vec<Vec<u8>> =
                bytes.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
            // What follows the last line feed is a line only if it is there.
            if expected.last().is_some_and(Vec::is_empty) {
                expected.pop();
            }
            prop_assert_eq!(lines(&entries, stream), expected);
        }
    }

    #[test]
    fn a_damaged_segment_is_an_error_and_never_a_panic(
        body: Vec<u8>, header: bool,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let magic: &[u8] = if header { b"MNTLOG1\n\0\0\0\0\0\0\0\0" } else { b"" };
        std::fs::write(segment_path(dir.path(), 0), [magic, &body].concat())
            .unwrap();
        let mut reader = LogReader::open(dir.path(), LogPosition::default());
        while let Ok(Some(_)) = reader.try_next() {}
    }
}

#[test]
fn lines_longer_than_16_kib_come_in_pieces() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = LogWriter::new(dir.path(), limits(0, 0));
    let mut exact = vec![b'a'; LINE_MAX_BYTES];
    exact.push(b'\n');
    writer.take(LogStream::Stdout, &exact, 1);
    writer.take(LogStream::Stdout, &vec![b'b'; LINE_MAX_BYTES + 1], 2);
    writer.take(LogStream::Stdout, b"\n", 3);
    let mut reader = LogReader::open(dir.path(), LogPosition::default());
    let shapes: Vec<(usize, bool)> = read_all(&mut reader)
        .into_iter()
        .map(|entry| match entry {
            LogEntry::Line(line) => (line.bytes.len(), line.partial),
            LogEntry::Dropped { lines } => panic!("{lines} dropped"),
        })
        .collect();
    let whole = LINE_MAX_BYTES;
    assert_eq!(shapes, [(whole, false), (whole, true), (1, false)]);
}

#[test]
fn beyond_the_limit_the_oldest_go_and_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let max = 256 << 10;
    let mut writer = LogWriter::new(dir.path(), limits(0, max));
    let line = |n: u64| format!("{n:0>99}\n");
    let total = 20_000;
    for n in 0..total {
        writer.take(LogStream::Stdout, line(n).as_bytes(), n);
    }
    assert!(size_of_dir(dir.path()) <= max + (64 << 10));
    let mut reader = LogReader::open(dir.path(), LogPosition::default());
    let entries = read_all(&mut reader);
    let LogEntry::Dropped { lines: dropped } = entries[0] else {
        panic!("nothing dropped");
    };
    assert!(dropped > 0);
    assert_eq!(dropped + entries.len() as u64 - 1, total);
    let LogEntry::Line(first) = &entries[1] else { panic!("dropped twice") };
    assert_eq!(first.bytes, line(dropped).trim_end().as_bytes());
    assert_eq!(first.time_ns, dropped);
}

#[test]
fn acknowledged_segments_make_room_without_loss() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = LogWriter::new(dir.path(), limits(0, 256 << 10));
    let mut reader = LogReader::open(dir.path(), LogPosition::default());
    for round in 0..100u64 {
        for n in 0..500u64 {
            writer.take(LogStream::Stdout, format!("{n:0>99}\n").as_bytes(), n);
        }
        let entries = read_all(&mut reader);
        assert_eq!(entries.len(), 500, "round {round}");
        reader.acknowledge(reader.position()).unwrap();
    }
    assert!(size_of_dir(dir.path()) < 200 << 10);
}

#[test]
fn one_that_may_not_lose_lines_is_full_until_a_segment_is_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let max = 256 << 10;
    let block = LogLimits { when_full: WhenLogFull::Block, ..limits(0, max) };
    let mut writer = LogWriter::new(dir.path(), block);
    let mut reader = LogReader::open(dir.path(), LogPosition::default());
    let mut written = 0;
    for round in 0..5 {
        while !writer.is_full() {
            let line = format!("{written:0>99}\n");
            writer.take(LogStream::Stdout, line.as_bytes(), written);
            written += 1;
            assert!(size_of_dir(dir.path()) <= max + 200, "round {round}");
        }
        // Reading alone makes no room: what was read may be read again.
        let entries = read_all(&mut reader);
        assert!(writer.is_full());
        reader.acknowledge(reader.position()).unwrap();
        assert!(!writer.is_full());
        let Some(LogEntry::Line(last)) = entries.last() else { panic!() };
        assert_eq!(last.time_ns + 1, written);
        assert!(
            !entries.iter().any(|it| matches!(it, LogEntry::Dropped { .. }))
        );
    }
}

#[test]
fn damage_costs_the_rest_of_its_segment_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = LogWriter::new(dir.path(), limits(0, 1 << 20));
    for n in 0..3_000 {
        writer.take(LogStream::Stdout, format!("{n:0>99}\n").as_bytes(), n);
    }
    let spoil = |number: u64, at: usize| {
        let path = segment_path(dir.path(), number);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.truncate(at + 100);
        bytes[at..].fill(0xff);
        std::fs::write(&path, bytes).unwrap();
    };
    // In the middle of one, and where another should begin.
    let record = RECORD_HEADER_BYTES + 99;
    spoil(1, SEGMENT_HEADER_BYTES + 10 * record);
    spoil(3, 0);
    let mut reader = LogReader::open(dir.path(), LogPosition::default());
    let entries = read_all(&mut reader);
    let lost: Vec<u64> = entries
        .iter()
        .filter_map(|entry| match entry {
            LogEntry::Dropped { lines } => Some(*lines),
            LogEntry::Line(_) => None,
        })
        .collect();
    assert_eq!(lost.len(), 2, "{lost:?}");
    let read = entries.len() - lost.len();
    assert_eq!(read as u64 + lost.iter().sum::<u64>(), 3_000);
    let Some(LogEntry::Line(last)) = entries.last() else { panic!() };
    assert_eq!(last.time_ns, 2_999);
    // In the last one there is nowhere to go on.
    let dir = tempfile::tempdir().unwrap();
    let mut writer = LogWriter::new(dir.path(), limits(0, 1 << 20));
    writer.take(LogStream::Stdout, b"one\ntwo\n", 1);
    let path = segment_path(dir.path(), 0);
    let mut bytes = std::fs::read(&path).unwrap();
    let second = SEGMENT_HEADER_BYTES + RECORD_HEADER_BYTES + 3;
    bytes[second..].fill(0xff);
    std::fs::write(&path, bytes).unwrap();
    let mut reader = LogReader::open(dir.path(), LogPosition::default());
    assert!(matches!(reader.try_next(), Ok(Some(LogEntry::Line(_)))));
    assert!(matches!(reader.try_next(), Err(ReadLogError::Damaged { .. })));
}

#[test]
fn a_disk_that_refuses_costs_lines_but_not_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let logs = dir.path().join("logs");
    let mut writer = LogWriter::new(&logs, limits(0, 1 << 20));
    assert!(writer.take(LogStream::Stdout, b"one\n", 1));
    // A file in the directory's place refuses as a full disk would.
    writer.fail_for_test();
    std::fs::rename(&logs, dir.path().join("away")).unwrap();
    std::fs::write(&logs, "").unwrap();
    assert!(!writer.take(LogStream::Stdout, b"two\nthree\n", 2));
    std::fs::remove_file(&logs).unwrap();
    std::fs::rename(dir.path().join("away"), &logs).unwrap();
    assert!(writer.take(LogStream::Stdout, b"four\n", 3));
    let mut reader = LogReader::open(&logs, LogPosition::default());
    let entries = read_all(&mut reader);
    assert_eq!(entries.len(), 3);
    assert_eq!(entries[1], LogEntry::Dropped { lines: 2 });
}

#[test]
fn half_a_record_waits_for_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = LogWriter::new(dir.path(), limits(0, 0));
    writer.take(LogStream::Stderr, b"whole\nlater\n", 7);
    let path = segment_path(dir.path(), 0);
    let bytes = std::fs::read(&path).unwrap();
    for cut in 0..bytes.len() {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        let mut reader = LogReader::open(dir.path(), LogPosition::default());
        let some = read_all(&mut reader).len();
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(some + read_all(&mut reader).len(), 2, "cut at {cut}");
    }
}

#[tokio::test]
async fn a_following_reader_wakes_up_and_ends() {
    let dir = tempfile::tempdir().unwrap();
    let signal = tokio::sync::watch::Sender::new(LogSignal::default());
    let mut reader = LogReader::follow(
        dir.path(),
        LogPosition::default(),
        signal.subscribe(),
    );
    let path = dir.path().to_owned();
    let following = tokio::spawn(async move {
        let mut count = 0;
        while reader.next().await.unwrap().is_some() {
            count += 1;
        }
        count
    });
    let mut writer = LogWriter::new(&path, limits(0, 0));
    for n in 0..100u64 {
        writer.take(LogStream::Stdout, b"line\n", n);
        signal.send_modify(|signal| signal.writes += 1);
        tokio::task::yield_now().await;
    }
    writer.take(LogStream::Stdout, b"last", 0);
    writer.end(LogStream::Stdout, 0);
    signal.send_modify(|signal| signal.is_complete = true);
    assert_eq!(following.await.unwrap(), 101);
}

#[test]
fn a_second_writer_goes_on_where_the_first_ended() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = LogWriter::new(dir.path(), limits(0, 1 << 20));
    writer.take(LogStream::Stdout, b"one\ntwo\n", 1);
    // A killed writer's half of a record.
    let path = segment_path(dir.path(), 0);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.extend([0; RECORD_HEADER_BYTES - 1]);
    std::fs::write(&path, bytes).unwrap();
    let mut reader = LogReader::open(dir.path(), LogPosition::default());
    let before = read_all(&mut reader);
    let mut writer = LogWriter::new(dir.path(), limits(0, 1 << 20));
    writer.take(LogStream::Stdout, b"three\n", 2);
    let after = read_all(&mut reader);
    let all: Vec<_> = before.into_iter().chain(after).collect();
    let expected: [&[u8]; 3] = [b"one", b"two", b"three"];
    assert_eq!(lines(&all, LogStream::Stdout), expected);
    assert_eq!(reader.position().line, 3);
}

fn size_of_dir(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).unwrap();
    entries.map(|e| e.unwrap().metadata().unwrap().len()).sum()
}
