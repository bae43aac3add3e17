//! The daemon's side: reads, follows, remembers, gives back disk space.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tokio::sync::watch;

use super::{
    FLAG_PARTIAL, FLAG_STDERR, LINE_MAX_BYTES, LogEntry, LogLine, LogPosition,
    LogStream, MAGIC, RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES, segment_path,
    segments, u64_at,
};

/// How much is read at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// A log could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadLogError {
    /// A segment or the directory could not be used.
    #[error("could not read log {}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A segment does not begin as segments do, or a record cannot be one.
    #[error("log segment {} is damaged at byte {offset}", .path.display())]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Where.
        offset: u64,
    },
}

/// What the shim's watcher says about a log that is being followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogSignal {
    /// Rises when lines were written.
    pub(crate) writes: u64,
    /// Nothing will be written any more.
    pub(crate) is_complete: bool,
}

/// Reads a container's log from a position on.
#[derive(Debug)]
pub struct LogReader {
    dir: PathBuf,
    position: LogPosition,
    segment: Option<File>,
    /// Entries decoded but not handed out, each with the position after it.
    ready: VecDeque<(LogEntry, LogPosition)>,
    /// Where decoding goes on; ahead of `position` by what is ready.
    ahead: LogPosition,
    signal: Option<watch::Receiver<LogSignal>>,
}

impl LogReader {
    /// Opens the log in a directory to read what is there, without following.
    /// A log that does not exist is an empty one.
    pub fn open(dir: &Path, position: LogPosition) -> Self {
        LogReader {
            dir: dir.to_owned(),
            position,
            segment: None,
            ready: VecDeque::new(),
            ahead: position,
            signal: None,
        }
    }

    pub(crate) fn follow(
        dir: &Path,
        position: LogPosition,
        signal: watch::Receiver<LogSignal>,
    ) -> Self {
        LogReader { signal: Some(signal), ..LogReader::open(dir, position) }
    }

    /// How far the entries handed out reach; keep it to go on after a restart.
    pub fn position(&self) -> LogPosition {
        self.position
    }

    /// Waits for the next entry. `None` means that the container has ended
    /// and everything was read (or, without following, that nothing is left).
    ///
    /// Cancel safe: an entry is either handed out or still there.
    pub async fn next(&mut self) -> Result<Option<LogEntry>, ReadLogError> {
        loop {
            let complete = match &mut self.signal {
                Some(signal) => signal.borrow_and_update().is_complete,
                None => true,
            };
            // Looked at after the signal: what was written before it is seen.
            if let Some(entry) = self.try_next()? {
                return Ok(Some(entry));
            }
            if complete {
                return Ok(None);
            }
            if let Some(signal) = &mut self.signal
                && signal.changed().await.is_err()
            {
                self.signal = None;
            }
        }
    }

    /// Returns the next entry if one is there now.
    pub fn try_next(&mut self) -> Result<Option<LogEntry>, ReadLogError> {
        if self.ready.is_empty() {
            self.fill()?;
        }
        Ok(self.ready.pop_front().map(|(entry, after)| {
            self.position = after;
            entry
        }))
    }

    /// Says that everything up to a position is safe elsewhere: segments
    /// before it are deleted. Repeating it is no error.
    pub fn acknowledge(
        &mut self,
        position: LogPosition,
    ) -> Result<(), ReadLogError> {
        for number in self.segments()? {
            if number < position.segment {
                let path = segment_path(&self.dir, number);
                match fs::remove_file(&path) {
                    Err(e) if e.kind() != ErrorKind::NotFound => {
                        return Err(io_error(&path)(e));
                    }
                    Ok(()) | Err(_) => {}
                }
            }
        }
        Ok(())
    }

    fn segments(&self) -> Result<Vec<u64>, ReadLogError> {
        match segments(&self.dir) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(vec![]),
            other => other.map_err(io_error(&self.dir)),
        }
    }

    /// Decodes one chunk, moving to the next segment when one is used up, or
    /// when no more of it can be read: what is missing is then told as
    /// dropped.
    fn fill(&mut self) -> Result<(), ReadLogError> {
        loop {
            // Whether there is a later segment is asked first: only then is
            // the end of this one final.
            let next = self
                .segments()?
                .into_iter()
                .find(|number| *number > self.ahead.segment);
            match (self.fill_from_segment(), next) {
                (Ok(true), _) => return Ok(()),
                (Ok(false), None) => return Ok(()),
                (Err(error), None) => return Err(error),
                (Ok(false) | Err(ReadLogError::Damaged { .. }), Some(next)) => {
                    self.segment = None;
                    self.ahead = LogPosition {
                        segment: next,
                        offset: 0,
                        line: self.ahead.line,
                    };
                }
                (Err(error @ ReadLogError::Io { .. }), Some(_)) => {
                    return Err(error);
                }
            }
        }
    }

    /// Decodes one chunk of the segment where reading goes on; says whether
    /// any entry came.
    fn fill_from_segment(&mut self) -> Result<bool, ReadLogError> {
        if self.segment.is_none() && !self.open_segment()? {
            return Ok(false);
        }
        self.decode_chunk()
    }

    /// Opens the segment where reading goes on, or the next one there is.
    fn open_segment(&mut self) -> Result<bool, ReadLogError> {
        let wanted = self.ahead.segment;
        let found = self.segments()?.into_iter().find(|n| *n >= wanted);
        let Some(number) = found else { return Ok(false) };
        let path = segment_path(&self.dir, number);
        let file = match File::open(&path) {
            Ok(file) => file,
            // Dropped between the look and the opening.
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(io_error(&path)(e)),
        };
        let mut header = [0; SEGMENT_HEADER_BYTES];
        match file.read_exact_at(&mut header, 0) {
            Ok(()) => {}
            // The writer has made the file but not yet its header.
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Ok(false),
            Err(e) => return Err(io_error(&path)(e)),
        }
        let first_line = u64_at(&header, 8).unwrap_or(0);
        if header[..8] != MAGIC {
            return Err(ReadLogError::Damaged { path, offset: 0 });
        }
        if number > wanted || self.ahead.offset == 0 {
            let offset = SEGMENT_HEADER_BYTES as u64;
            let lines = first_line.saturating_sub(self.ahead.line);
            self.ahead = LogPosition {
                segment: number,
                offset,
                line: first_line.max(self.ahead.line),
            };
            if lines > 0 {
                let entry = LogEntry::Dropped { lines };
                self.ready.push_back((entry, self.ahead));
            }
        }
        self.segment = Some(file);
        Ok(true)
    }

    /// Decodes whole records at the current offset; says whether any came.
    fn decode_chunk(&mut self) -> Result<bool, ReadLogError> {
        let Some(file) = &self.segment else { return Ok(false) };
        let path = segment_path(&self.dir, self.ahead.segment);
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut filled = 0;
        while filled < chunk.len() {
            let at = self.ahead.offset + filled as u64;
            match file.read_at(&mut chunk[filled..], at) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(io_error(&path)(e)),
            }
        }
        let mut rest = &chunk[..filled];
        loop {
            let (line, used) = match decode_record(rest) {
                Ok(Some(decoded)) => decoded,
                Ok(None) => break,
                // What came before the damage is handed out first.
                Err(()) if !self.ready.is_empty() => break,
                Err(()) => {
                    let offset = self.ahead.offset;
                    return Err(ReadLogError::Damaged { path, offset });
                }
            };
            rest = &rest[used..];
            self.ahead.offset += used as u64;
            self.ahead.line += 1;
            self.ready.push_back((LogEntry::Line(line), self.ahead));
        }
        Ok(!self.ready.is_empty())
    }
}

/// Reads one record; `None` if it is not all there yet.
fn decode_record(bytes: &[u8]) -> Result<Option<(LogLine, usize)>, ()> {
    let Some(header) = bytes.get(..RECORD_HEADER_BYTES) else {
        return Ok(None);
    };
    let flags = header[0];
    let length =
        u32::from_le_bytes([header[9], header[10], header[11], header[12]]);
    let length = usize::try_from(length).map_err(|_| ())?;
    if flags & !(FLAG_STDERR | FLAG_PARTIAL) != 0 || length > LINE_MAX_BYTES {
        return Err(());
    }
    let end = RECORD_HEADER_BYTES + length;
    let Some(body) = bytes.get(RECORD_HEADER_BYTES..end) else {
        return Ok(None);
    };
    let stream = if flags & FLAG_STDERR == 0 {
        LogStream::Stdout
    } else {
        LogStream::Stderr
    };
    let line = LogLine {
        stream,
        time_ns: u64_at(header, 1).unwrap_or(0),
        bytes: body.to_vec(),
        partial: flags & FLAG_PARTIAL != 0,
    };
    Ok(Some((line, end)))
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> ReadLogError {
    let path = path.to_owned();
    move |source| ReadLogError::Io { path, source }
}
