//! Frames of an active segment: the events of one append.
//!
//! `length u32 | crc32 u32 | payload`; the payload is `stream u128 |
//! ingested_at i64 | first sequence u64 | count varint | events`, and an
//! event is `time since the one before, signed varint | length varint |
//! message`. Numbers are little-endian.

use super::bytes::{Reader, put_signed, put_varint};
use super::{
    EVENT_OVERHEAD, EventRef, NewEvent, Position, StreamId, StreamStats,
};

/// Bytes before the payload.
pub(super) const HEADER: usize = 8;
/// A PutLogEvents call takes 1 MiB; the rest is our own overhead for 10,000
/// events of at least one byte.
pub(super) const MAX_PAYLOAD: usize = 2 * 1024 * 1024;

/// The events of one append, encoded but for what the committer adds.
#[derive(Debug)]
pub(super) struct Encoded {
    stream: StreamId,
    ingested_at: i64,
    count: u64,
    events: Vec<u8>,
    pub(super) stats: StreamStats,
}

impl Encoded {
    /// Encodes events; `None` if there are none.
    pub(super) fn new(
        stream: StreamId,
        ingested_at: i64,
        events: &[NewEvent],
    ) -> Option<Encoded> {
        let mut stats = StreamStats {
            first_event_at: events.iter().map(|e| e.timestamp).min()?,
            last_event_at: events.iter().map(|e| e.timestamp).max()?,
            last_ingested_at: ingested_at,
            events: 0,
            bytes: 0,
        };
        let bytes: usize = events.iter().map(|e| e.message.len() + 6).sum();
        let mut out = Vec::with_capacity(bytes);
        let mut before = 0;
        for event in events {
            // Wraps on hostile distances and unwraps again when read.
            put_signed(&mut out, event.timestamp.wrapping_sub(before));
            before = event.timestamp;
            let length = event.message.len() as u64;
            put_varint(&mut out, length);
            out.extend_from_slice(event.message.as_bytes());
            stats.events += 1;
            stats.bytes += length + EVENT_OVERHEAD;
        }
        let count = stats.events;
        Some(Encoded { stream, ingested_at, count, events: out, stats })
    }

    pub(super) fn stream(&self) -> StreamId {
        self.stream
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The size that the queue's budget is charged with.
    pub(super) fn size(&self) -> usize {
        self.events.len()
    }

    /// Appends the frame.
    pub(super) fn write(&self, first_sequence: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER]);
        out.extend_from_slice(&self.stream.0.to_le_bytes());
        out.extend_from_slice(&self.ingested_at.to_le_bytes());
        out.extend_from_slice(&first_sequence.to_le_bytes());
        put_varint(out, self.count);
        out.extend_from_slice(&self.events);
        let payload = &out[start + HEADER..];
        let crc = crc32fast::hash(payload);
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        out[start..start + 4].copy_from_slice(&length.to_le_bytes());
        out[start + 4..start + HEADER].copy_from_slice(&crc.to_le_bytes());
    }
}

/// A frame whose checksum is right.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'a> {
    pub(super) stream: StreamId,
    pub(super) ingested_at: i64,
    pub(super) first_sequence: u64,
    pub(super) count: u64,
    events: Reader<'a>,
}

/// Takes the first frame of `bytes`; `None` if it is torn or damaged.
pub(super) fn read<'a>(reader: &mut Reader<'a>) -> Option<Frame<'a>> {
    let mut ahead = *reader;
    let length = usize::try_from(ahead.u32()?).ok()?;
    let crc = ahead.u32()?;
    if length > MAX_PAYLOAD {
        return None;
    }
    let payload = ahead.take(length)?;
    if crc32fast::hash(payload) != crc {
        return None;
    }
    let mut inner = Reader::new(payload);
    let frame = Frame {
        stream: StreamId(inner.u128()?),
        ingested_at: inner.i64()?,
        first_sequence: inner.u64()?,
        count: inner.varint()?,
        events: inner,
    };
    *reader = ahead;
    Some(frame)
}

impl<'a> Frame<'a> {
    /// Shows every event to `see`; `None` if the events make no sense.
    pub(super) fn events(
        &self,
        mut see: impl FnMut(EventRef<'a>),
    ) -> Option<()> {
        let mut reader = self.events;
        let mut timestamp = 0_i64;
        for index in 0..self.count {
            timestamp = timestamp.wrapping_add(reader.signed()?);
            let length = reader.length()?;
            let message = reader.text(length)?;
            let sequence = self.first_sequence.checked_add(index)?;
            see(EventRef {
                position: Position { timestamp, sequence },
                stream: self.stream,
                ingested_at: self.ingested_at,
                message,
            });
        }
        reader.is_empty().then_some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn events_come_back(
            events in prop::collection::vec((any::<i64>(), "\\PC{0,20}"), 1..20),
            stream: u128, ingested_at: i64, first in 0..u64::MAX / 2,
        ) {
            let events: Vec<NewEvent> = events.into_iter().map(
                |(timestamp, message)| NewEvent { timestamp, message },
            ).collect();
            let encoded =
                Encoded::new(StreamId(stream), ingested_at, &events).unwrap();
            let mut out = vec![];
            encoded.write(first, &mut out);
            let mut reader = Reader::new(&out);
            let frame = read(&mut reader).unwrap();
            prop_assert!(reader.is_empty());
            let mut found = vec![];
            frame.events(|event| found.push(event.to_stored())).unwrap();
            prop_assert_eq!(found.len(), events.len());
            for (index, (found, event)) in
                found.iter().zip(&events).enumerate()
            {
                prop_assert_eq!(&found.message, &event.message);
                prop_assert_eq!(found.position, Position {
                    timestamp: event.timestamp,
                    sequence: first + index as u64,
                });
                prop_assert_eq!(found.stream, StreamId(stream));
            }
            // A torn frame is no frame.
            for end in 0..out.len() {
                prop_assert!(read(&mut Reader::new(&out[..end])).is_none());
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            if let Some(frame) = read(&mut Reader::new(&bytes)) {
                let _ = frame.events(|_| ());
            }
        }
    }
}
