//! The shim's side: takes what the container writes, and makes it wait only
//! where it is told to ([`WhenLogFull::Block`]).

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{
    FLAG_PARTIAL, FLAG_STDERR, LINE_MAX_BYTES, LogStream, MAGIC,
    RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES, segment_path, segments, u64_at,
};
use crate::container::{LogLimits, WhenLogFull};

/// Smallest segment: a few lines of the longest kind.
const SEGMENT_MIN_BYTES: u64 = 64 << 10;

/// Appends lines to segments.
#[derive(Debug)]
pub(crate) struct LogWriter {
    dir: PathBuf,
    limits: LogLimits,
    /// The open segment; `None` after a failure, until one can be opened.
    segment: Option<Segment>,
    /// Finished segments that were still there when last looked at, with
    /// their sizes, oldest first.
    finished: VecDeque<(u64, u64)>,
    next_segment: u64,
    next_line: u64,
    /// Lines begun but not ended, by stream.
    pending: [Vec<u8>; 2],
    /// Records not written yet.
    batch: Vec<u8>,
    batch_lines: u64,
}

#[derive(Debug)]
struct Segment {
    file: File,
    number: u64,
    bytes: u64,
}

/// What an earlier writer left: the container was started again.
#[derive(Default)]
struct Found {
    finished: VecDeque<(u64, u64)>,
    next_segment: u64,
    next_line: u64,
}

impl Found {
    fn in_dir(dir: &Path) -> Found {
        let numbers = segments(dir).unwrap_or_default();
        let Some(last) = numbers.last().copied() else {
            return Found::default();
        };
        let finished = numbers.into_iter().map(|number| {
            let size = fs::metadata(segment_path(dir, number));
            (number, size.map_or(0, |data| data.len()))
        });
        Found {
            finished: finished.collect(),
            next_segment: last + 1,
            // If it cannot be read, its reader fails there, too.
            next_line: line_after(&segment_path(dir, last)).unwrap_or(0),
        }
    }
}

/// The number of the line that comes after a segment's last. Half a record,
/// of a writer that was killed, is cut off.
fn line_after(path: &Path) -> io::Result<u64> {
    let bytes = fs::read(path)?;
    let mut line = u64_at(&bytes, MAGIC.len()).unwrap_or(0);
    let mut at = SEGMENT_HEADER_BYTES;
    while let Some(length) = length_at(&bytes, at) {
        let end = at + RECORD_HEADER_BYTES + length;
        if end > bytes.len() {
            break;
        }
        (at, line) = (end, line + 1);
    }
    if at < bytes.len() {
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(u64::try_from(at).unwrap_or(u64::MAX))?;
    }
    Ok(line)
}

/// The length in the record's header that begins at `at`.
fn length_at(bytes: &[u8], at: usize) -> Option<usize> {
    let end = at + RECORD_HEADER_BYTES;
    let length = bytes.get(end - 4..end)?.try_into().ok()?;
    usize::try_from(u32::from_le_bytes(length)).ok()
}

impl LogWriter {
    /// Begins a log in a directory, which is made with the first line (many
    /// containers never write one), or goes on with the one that is there.
    pub(crate) fn new(dir: &Path, limits: LogLimits) -> Self {
        let segment_bytes = limits.segment_bytes.max(SEGMENT_MIN_BYTES);
        let limits = LogLimits {
            segment_bytes,
            max_bytes: limits.max_bytes.max(2 * segment_bytes),
            when_full: limits.when_full,
        };
        let Found { finished, next_segment, next_line } = Found::in_dir(dir);
        LogWriter {
            dir: dir.to_owned(),
            limits,
            segment: None,
            finished,
            next_segment,
            next_line,
            pending: [vec![], vec![]],
            batch: vec![],
            batch_lines: 0,
        }
    }

    /// Takes bytes from the container and writes the lines they complete.
    /// Says whether any was written.
    pub(crate) fn take(
        &mut self,
        stream: LogStream,
        mut bytes: &[u8],
        time_ns: u64,
    ) -> bool {
        while !bytes.is_empty() {
            let room = LINE_MAX_BYTES - self.pending(stream).len();
            let window = &bytes[..bytes.len().min(room + 1)];
            match memchr(window) {
                Some(end) => {
                    let line = &bytes[..end];
                    self.complete(stream, line, time_ns, false);
                    bytes = &bytes[end + 1..];
                }
                None if window.len() > room => {
                    let line = &bytes[..room];
                    self.complete(stream, line, time_ns, true);
                    bytes = &bytes[room..];
                }
                None => {
                    self.pending(stream).extend_from_slice(bytes);
                    break;
                }
            }
        }
        self.flush()
    }

    /// Takes the end of a stream: what was begun becomes a line.
    pub(crate) fn end(&mut self, stream: LogStream, time_ns: u64) -> bool {
        if !self.pending(stream).is_empty() {
            self.complete(stream, b"", time_ns, false);
        }
        self.flush()
    }

    /// Whether the container is to wait until the reader has acknowledged
    /// more. To be asked before every read, also while nothing comes: the
    /// reader does not say when it has.
    pub(crate) fn is_full(&mut self) -> bool {
        if self.limits.when_full != WhenLogFull::Block {
            return false;
        }
        let open = self.segment.as_ref().map_or(0, |segment| segment.bytes);
        let finished: u64 = self.finished.iter().map(|(_, size)| size).sum();
        let mut total = open + finished;
        // Segments are acknowledged from the oldest on.
        while total >= self.limits.max_bytes
            && let Some((number, size)) = self.finished.front()
            && !segment_path(&self.dir, *number).exists()
        {
            total -= size;
            self.finished.pop_front();
        }
        total >= self.limits.max_bytes
    }

    /// Makes the next write need a new segment, as a failed one does.
    #[cfg(test)]
    pub(super) fn fail_for_test(&mut self) {
        self.segment = None;
    }

    fn pending(&mut self, stream: LogStream) -> &mut Vec<u8> {
        match stream {
            LogStream::Stdout => &mut self.pending[0],
            LogStream::Stderr => &mut self.pending[1],
        }
    }

    fn complete(
        &mut self,
        stream: LogStream,
        rest: &[u8],
        time_ns: u64,
        partial: bool,
    ) {
        let begun = std::mem::take(self.pending(stream));
        let mut flags = 0;
        if stream == LogStream::Stderr {
            flags |= FLAG_STDERR;
        }
        if partial {
            flags |= FLAG_PARTIAL;
        }
        let length = begun.len() + rest.len();
        debug_assert!(length <= LINE_MAX_BYTES, "pieces are bounded");
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        self.batch.push(flags);
        self.batch.extend_from_slice(&time_ns.to_le_bytes());
        self.batch.extend_from_slice(&length.to_le_bytes());
        self.batch.extend_from_slice(&begun);
        self.batch.extend_from_slice(rest);
        self.batch_lines += 1;
        // Keep the buffer of a chatty stream, give back a long line's.
        let mut begun = begun;
        begun.clear();
        begun.shrink_to(1024);
        *self.pending(stream) = begun;
    }

    /// Writes the batch. If the disk refuses it, its lines count as dropped:
    /// the container must not wait for an operator to make room.
    fn flush(&mut self) -> bool {
        if self.batch.is_empty() {
            return false;
        }
        let written = self.write_batch();
        if written.is_err() {
            // The next segment begins with a later line number, and so the
            // reader learns how many are missing.
            self.segment = None;
        }
        self.next_line += self.batch_lines;
        self.batch_lines = 0;
        self.batch.clear();
        self.batch.shrink_to(RECORD_HEADER_BYTES + LINE_MAX_BYTES);
        written.is_ok()
    }

    fn write_batch(&mut self) -> io::Result<()> {
        let full = self
            .segment
            .as_ref()
            .is_none_or(|segment| segment.bytes >= self.limits.segment_bytes);
        if full {
            self.rotate()?;
        }
        let Some(segment) = &mut self.segment else { return Ok(()) };
        let length = u64::try_from(self.batch.len()).unwrap_or(u64::MAX);
        if let Err(e) = segment.file.write_all(&self.batch) {
            // Half a record must not be followed by another.
            let _ = segment.file.set_len(segment.bytes);
            self.finished.push_back((segment.number, segment.bytes));
            return Err(e);
        }
        segment.bytes += length;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        if let Some(done) = self.segment.take() {
            self.finished.push_back((done.number, done.bytes));
        }
        self.drop_oldest();
        let number = self.next_segment;
        let path = segment_path(&self.dir, number);
        let open =
            || OpenOptions::new().append(true).create_new(true).open(&path);
        let mut file = match open() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                // Not its parents: they are gone with the container.
                fs::create_dir(&self.dir)?;
                open()?
            }
            opened => opened?,
        };
        self.next_segment += 1;
        let header = [&MAGIC[..], &self.next_line.to_le_bytes()].concat();
        if let Err(error) = file.write_all(&header) {
            // A reader would wait for the rest of it.
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        let bytes = SEGMENT_HEADER_BYTES as u64;
        self.segment = Some(Segment { file, number, bytes });
        Ok(())
    }

    /// Makes room for one more segment. Those the reader has acknowledged are
    /// gone already and cost nothing.
    fn drop_oldest(&mut self) {
        if self.limits.when_full == WhenLogFull::Block {
            return;
        }
        let dir = &self.dir;
        self.finished.retain(|(n, _)| segment_path(dir, *n).exists());
        let mut total: u64 = self.finished.iter().map(|(_, size)| size).sum();
        while total + self.limits.segment_bytes > self.limits.max_bytes {
            let Some((number, size)) = self.finished.pop_front() else { break };
            let _ = fs::remove_file(segment_path(&self.dir, number));
            total -= size;
        }
    }
}

fn memchr(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|b| *b == b'\n')
}
