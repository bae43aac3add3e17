//! A container's output, kept in numbered files until it was read.
//!
//! The shim appends; a reader follows, remembers its position across restarts
//! and says what it no longer needs. A *segment* is a file of records:
//!
//! ```text
//! segment  magic "MNTLOG1\n" | number of its first line, u64
//! record   flags u8 | time in ns since the epoch, u64 | length u32 | bytes
//! ```
//!
//! All numbers are little-endian. Because a segment knows the number of its
//! first line, a reader that finds the next segment missing (the writer drops
//! the oldest when the container writes faster than anybody reads) can say
//! exactly how many lines are gone.

mod reader;
mod writer;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub(crate) use reader::LogSignal;
pub use reader::{LogReader, ReadLogError};
pub(crate) use writer::LogWriter;

const MAGIC: [u8; 8] = *b"MNTLOG1\n";
const SEGMENT_HEADER_BYTES: usize = 16;
const RECORD_HEADER_BYTES: usize = 13;
const FLAG_STDERR: u8 = 1;
const FLAG_PARTIAL: u8 = 2;

/// Longest piece of a line in one record, as Docker's: a longer line comes in
/// pieces, all but the last marked partial.
pub const LINE_MAX_BYTES: usize = 16 << 10;

/// Which of a container's two outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogStream {
    /// Standard output (and all of a terminal's).
    Stdout,
    /// Standard error.
    Stderr,
}

/// One line, without its line feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Where it was written to.
    pub stream: LogStream,
    /// When it was read from the container, in nanoseconds since the epoch.
    pub time_ns: u64,
    /// What was written, as it was.
    pub bytes: Vec<u8>,
    /// The line goes on in the next entry of the same stream.
    pub partial: bool,
}

/// What a reader finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogEntry {
    /// A line.
    Line(LogLine),
    /// That many lines were dropped here, being unread when their limit
    /// was reached.
    Dropped {
        /// How many.
        lines: u64,
    },
}

/// How far a reader has come; the default is the beginning.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
)]
pub struct LogPosition {
    /// The segment.
    pub segment: u64,
    /// Byte offset in it.
    pub offset: u64,
    /// Number of the next line.
    pub line: u64,
}

fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:020}.log"))
}

/// Numbers of the segments in a directory, oldest first.
fn segments(dir: &Path) -> std::io::Result<Vec<u64>> {
    let mut numbers = vec![];
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|n| n.strip_suffix(".log"));
        numbers.extend(number.and_then(|n| n.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests;
