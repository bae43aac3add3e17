//! Blocks of a sealed segment: events sorted by position.
//!
//! Before compression: `streams count varint | streams u128... | events
//! count varint | length of the columns u32 | columns | messages`. The
//! columns hold, for each event, `stream index | time since the one before |
//! ingestion time since its own time | sequence since the one before |
//! message length`. The messages stand together at the end, so that one
//! search over them can rule out the whole block.

use super::bytes::{Reader, put_signed, put_varint};
use super::{EventRef, Position, StreamId};

/// Message bytes after which a block is closed: large enough for zstd to
/// find repetition, small enough to be read for a few events.
pub(super) const BLOCK_BYTES: usize = 256 * 1024;
/// Events after which a block is closed, for short messages.
pub(super) const BLOCK_EVENTS: u64 = 16 * 1024;
/// More than a block can have: the last event may be 1 MiB, and columns take
/// at most 30 bytes for each of the events.
pub(super) const MAX_RAW: usize = 4 * 1024 * 1024;

/// Collects events of one block.
#[derive(Debug, Default)]
pub(super) struct BlockWriter {
    streams: Vec<StreamId>,
    columns: Vec<u8>,
    messages: Vec<u8>,
    count: u64,
    before: Option<Position>,
}

impl BlockWriter {
    pub(super) fn push(&mut self, event: EventRef<'_>) {
        let index = self.streams.iter().rposition(|s| *s == event.stream);
        let index = index.unwrap_or_else(|| {
            self.streams.push(event.stream);
            self.streams.len() - 1
        });
        let Position { timestamp, sequence } = event.position;
        let before = self.before.replace(event.position);
        let before = before.unwrap_or(Position { timestamp: 0, sequence: 0 });
        put_varint(&mut self.columns, index as u64);
        put_signed(&mut self.columns, timestamp.wrapping_sub(before.timestamp));
        put_signed(
            &mut self.columns,
            event.ingested_at.wrapping_sub(timestamp),
        );
        put_signed(
            &mut self.columns,
            sequence.wrapping_sub(before.sequence).cast_signed(),
        );
        put_varint(&mut self.columns, event.message.len() as u64);
        self.messages.extend_from_slice(event.message.as_bytes());
        self.count += 1;
    }

    pub(super) fn is_full(&self) -> bool {
        self.messages.len() >= BLOCK_BYTES || self.count >= BLOCK_EVENTS
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The block's bytes before compression.
    pub(super) fn finish(&self) -> Vec<u8> {
        let size = self.columns.len() + self.messages.len();
        let mut out = Vec::with_capacity(size + self.streams.len() * 16 + 32);
        put_varint(&mut out, self.streams.len() as u64);
        for stream in &self.streams {
            out.extend_from_slice(&stream.0.to_le_bytes());
        }
        put_varint(&mut out, self.count);
        let columns = u32::try_from(self.columns.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&columns.to_le_bytes());
        out.extend_from_slice(&self.columns);
        out.extend_from_slice(&self.messages);
        out
    }
}

/// A block after decompression.
#[derive(Debug)]
pub(super) struct Block<'a> {
    streams: Vec<StreamId>,
    count: u64,
    columns: Reader<'a>,
    messages: &'a [u8],
}

impl<'a> Block<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Block<'a>> {
        let mut reader = Reader::new(bytes);
        let streams = reader.length()?;
        // Checked before anything is reserved for them.
        let ids = reader.take(streams.checked_mul(16)?)?;
        let mut ids = Reader::new(ids);
        let streams = std::iter::from_fn(|| ids.u128().map(StreamId)).collect();
        let count = reader.varint()?;
        let columns = usize::try_from(reader.u32()?).ok()?;
        let columns = Reader::new(reader.take(columns)?);
        Some(Block { streams, count, columns, messages: reader.rest() })
    }

    /// All messages, one after another.
    pub(super) fn messages(&self) -> &'a [u8] {
        self.messages
    }

    /// How many events it says it has.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Shows every event to `see`; `None` if the block makes no sense.
    pub(super) fn events(
        &self,
        mut see: impl FnMut(EventRef<'a>),
    ) -> Option<()> {
        let mut columns = self.columns;
        let mut messages = Reader::new(self.messages);
        let mut position = Position { timestamp: 0, sequence: 0 };
        for _ in 0..self.count {
            let stream = *self.streams.get(columns.length()?)?;
            let timestamp = position.timestamp.wrapping_add(columns.signed()?);
            let ingested_at = timestamp.wrapping_add(columns.signed()?);
            let sequence = position
                .sequence
                .wrapping_add(columns.signed()?.cast_unsigned());
            position = Position { timestamp, sequence };
            let length = columns.length()?;
            let message = messages.text(length)?;
            see(EventRef { position, stream, ingested_at, message });
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::StoredEvent;
    use super::*;

    fn event() -> impl Strategy<Value = StoredEvent> {
        (any::<i64>(), any::<u64>(), 0..4_u128, any::<i64>(), "\\PC{0,12}")
            .prop_map(|(timestamp, sequence, stream, ingested_at, message)| {
                StoredEvent {
                    position: Position { timestamp, sequence },
                    stream: StreamId(stream),
                    ingested_at,
                    message,
                }
            })
    }

    proptest! {
        #[test]
        fn events_come_back(events in prop::collection::vec(event(), 0..40)) {
            let mut writer = BlockWriter::default();
            for event in &events {
                writer.push(EventRef {
                    position: event.position,
                    stream: event.stream,
                    ingested_at: event.ingested_at,
                    message: &event.message,
                });
            }
            let bytes = writer.finish();
            let block = Block::parse(&bytes).unwrap();
            let mut found = vec![];
            block.events(|event| found.push(event.to_stored())).unwrap();
            prop_assert_eq!(found, events);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            if let Some(block) = Block::parse(&bytes) {
                let _ = block.events(|_| ());
            }
        }
    }
}
