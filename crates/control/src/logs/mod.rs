//! Where log events are kept.
//!
//! Each log group has a directory of segments. New events go to the active
//! segment, an append-only file of checksummed frames; many callers share
//! one fsync, and an append is answered only after it. A full segment is
//! sorted by time and sealed into zstd blocks with a footer that says which
//! times and streams each block holds, so a query opens only what it needs.
//! The names of groups and streams are rows of the store, not known here.
//!
//! See docs/adr/0007-log-storage.md.

mod active;
mod block;
mod bytes;
mod committer;
mod decode;
mod error;
mod frame;
mod group;
mod pieces;
mod query;
pub(crate) mod scan;
mod sealed;
mod sealer;
mod store;
mod tail;
#[cfg(test)]
mod tests;

pub(crate) use committer::error_text;
pub(crate) use error::{AppendLogsError, DeleteLogsError, ReadLogsError};
pub use error::{LogFileError, OpenLogsError};
pub(crate) use query::{Direction, Query};
pub use store::LogStore;
pub(crate) use tail::{TailEvents, TailQueue};

use std::fmt;

/// A log group's directory. Random, made with the group, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct GroupId(pub(crate) u128);

/// A log stream within its group. Random, made with the stream: a stream
/// deleted and made again under the same name does not see the old events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StreamId(pub(crate) u128);

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Where an event stands among those of its group: by time, then in the
/// order in which they came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Position {
    /// The event's own time, in milliseconds since the epoch.
    pub(crate) timestamp: i64,
    /// Counts the group's events from 1.
    pub(crate) sequence: u64,
}

/// An event as it comes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewEvent {
    pub(crate) timestamp: i64,
    pub(crate) message: String,
}

/// An event as it is found again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredEvent {
    pub(crate) position: Position,
    pub(crate) stream: StreamId,
    pub(crate) ingested_at: i64,
    pub(crate) message: String,
}

/// A stored event whose message is still in the block it was read from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EventRef<'a> {
    pub(crate) position: Position,
    pub(crate) stream: StreamId,
    pub(crate) ingested_at: i64,
    pub(crate) message: &'a str,
}

impl EventRef<'_> {
    fn to_stored(self) -> StoredEvent {
        StoredEvent {
            position: self.position,
            stream: self.stream,
            ingested_at: self.ingested_at,
            message: self.message.to_owned(),
        }
    }
}

/// What is known of a stream without reading its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamStats {
    pub(crate) first_event_at: i64,
    pub(crate) last_event_at: i64,
    pub(crate) last_ingested_at: i64,
    pub(crate) events: u64,
    /// Message bytes and AWS's 26 for each event.
    pub(crate) bytes: u64,
}

/// What CloudWatch Logs counts for an event beside its message.
pub(crate) const EVENT_OVERHEAD: u64 = 26;

impl StreamStats {
    fn join(self, other: StreamStats) -> StreamStats {
        StreamStats {
            first_event_at: self.first_event_at.min(other.first_event_at),
            last_event_at: self.last_event_at.max(other.last_event_at),
            last_ingested_at: self.last_ingested_at.max(other.last_ingested_at),
            events: self.events + other.events,
            bytes: self.bytes + other.bytes,
        }
    }
}

/// The times and streams of a piece of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Extent {
    offset: u64,
    length: u32,
    earliest: i64,
    latest: i64,
    /// Sorted; what [`MANY_STREAMS`] cannot hold is left out and `None`.
    streams: Option<Vec<StreamId>>,
}

/// Beyond this many streams in one block, naming them stops paying.
const MANY_STREAMS: usize = 64;

impl Extent {
    fn add_stream(&mut self, stream: StreamId) {
        if let Some(streams) = &mut self.streams
            && let Err(at) = streams.binary_search(&stream)
        {
            if streams.len() < MANY_STREAMS {
                streams.insert(at, stream);
            } else {
                self.streams = None;
            }
        }
    }
}
