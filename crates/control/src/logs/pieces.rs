//! The pieces of a group that may hold what a search wants, in the order in
//! which they must be visited.
//!
//! Segments are opened as late as they can be: one is listed by its times, and
//! its blocks take its place when it is the next. Blocks that are next to each
//! other in the order are given together, so that they can be decompressed on
//! several cores.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use super::active::LogFile;
use super::error::LogFileError;
use super::group::Group;
use super::sealed::{SealedReader, SealedSegment};
use super::{Direction, Extent, StreamId};

/// A piece, by how soon it must be visited.
struct Piece {
    /// Earliest time of the piece, or its latest time negated.
    key: i64,
    source: Source,
}

enum Source {
    Segment(Arc<SealedSegment>),
    Block(BlockAt),
    Extent(Arc<LogFile>, Extent),
}

/// A block of an opened segment.
#[derive(Clone, Debug)]
pub(super) struct BlockAt {
    /// Its key in the order.
    pub(super) key: i64,
    pub(super) reader: Arc<SealedReader>,
    pub(super) index: usize,
}

/// What is to be visited next.
pub(super) enum Next {
    /// Blocks, in order.
    Blocks(Vec<BlockAt>),
    /// A piece of an active segment.
    Extent(Arc<LogFile>, Extent),
}

impl PartialEq for Piece {
    fn eq(&self, other: &Piece) -> bool {
        self.key == other.key
    }
}

impl Eq for Piece {}

impl PartialOrd for Piece {
    fn partial_cmp(&self, other: &Piece) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Piece {
    fn cmp(&self, other: &Piece) -> std::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}

/// Times and streams that a search is about.
pub(super) struct Bounds<'b> {
    pub(super) direction: Direction,
    /// Earliest time, included.
    pub(super) from: i64,
    /// Latest time, included.
    pub(super) through: i64,
    /// Whether events of a stream are wanted; asked once for each.
    pub(super) wanted: &'b (dyn Fn(StreamId) -> bool + Send),
}

/// The pieces that are left.
pub(super) struct Pieces<'b> {
    bounds: Bounds<'b>,
    streams: HashMap<StreamId, bool>,
    heap: BinaryHeap<Reverse<Piece>>,
}

impl<'b> Pieces<'b> {
    /// Lists the pieces of a group.
    pub(super) fn of(group: &Group, bounds: Bounds<'b>) -> Pieces<'b> {
        let streams = HashMap::new();
        let mut pieces = Pieces { bounds, streams, heap: BinaryHeap::new() };
        let state = group.state.read();
        for segment in state.sealed.values() {
            if pieces.overlaps(segment.earliest, segment.latest) {
                let key = pieces.key(segment.earliest, segment.latest);
                let source = Source::Segment(Arc::clone(segment));
                pieces.heap.push(Reverse(Piece { key, source }));
            }
        }
        let frozen = state.frozen.values().map(Arc::as_ref);
        for index in frozen.chain(state.active.as_ref()) {
            for extent in &index.extents {
                let log = Arc::clone(&index.log);
                pieces.push(extent, |_| Source::Extent(log, extent.clone()));
            }
        }
        pieces
    }

    fn push(&mut self, extent: &Extent, source: impl FnOnce(i64) -> Source) {
        if !self.overlaps(extent.earliest, extent.latest) {
            return;
        }
        let named = extent.streams.as_ref();
        if named.is_none_or(|ids| ids.iter().any(|id| self.wants(*id))) {
            let key = self.key(extent.earliest, extent.latest);
            let source = source(key);
            self.heap.push(Reverse(Piece { key, source }));
        }
    }

    fn overlaps(&self, earliest: i64, latest: i64) -> bool {
        latest >= self.bounds.from && earliest <= self.bounds.through
    }

    /// The key of a piece with these times.
    pub(super) fn key(&self, earliest: i64, latest: i64) -> i64 {
        match self.bounds.direction {
            Direction::Forward => earliest,
            Direction::Backward => latest.checked_neg().unwrap_or(i64::MAX),
        }
    }

    /// Whether events of a stream are wanted.
    pub(super) fn wants(&mut self, stream: StreamId) -> bool {
        let wanted = self.bounds.wanted;
        *self.streams.entry(stream).or_insert_with(|| wanted(stream))
    }

    /// The key of the piece that is next.
    pub(super) fn next_key(&self) -> Option<i64> {
        self.heap.peek().map(|Reverse(piece)| piece.key)
    }

    /// Takes what is next: an extent, or up to `most` blocks.
    pub(super) fn next(
        &mut self,
        most: usize,
    ) -> Result<Option<Next>, LogFileError> {
        while let Some(Reverse(piece)) = self.heap.pop() {
            match piece.source {
                Source::Segment(segment) => self.expand(&segment)?,
                Source::Extent(log, extent) => {
                    return Ok(Some(Next::Extent(log, extent)));
                }
                Source::Block(block) => {
                    let mut blocks = vec![block];
                    while blocks.len() < most
                        && let Some(block) = self.next_block()
                    {
                        blocks.push(block);
                    }
                    return Ok(Some(Next::Blocks(blocks)));
                }
            }
        }
        Ok(None)
    }

    /// Takes the next piece if it is a block.
    fn next_block(&mut self) -> Option<BlockAt> {
        let Reverse(next) = self.heap.peek()?;
        if !matches!(next.source, Source::Block(_)) {
            return None;
        }
        match self.heap.pop()?.0.source {
            Source::Block(block) => Some(block),
            Source::Segment(_) | Source::Extent(..) => None,
        }
    }

    /// Lists the blocks of a segment in its place.
    fn expand(&mut self, segment: &SealedSegment) -> Result<(), LogFileError> {
        let streams = segment.streams.keys();
        if !streams.copied().any(|id| self.wants(id)) {
            return Ok(());
        }
        let reader = match segment.reader() {
            // Removed since it was listed: its events are expired.
            Err(LogFileError::Io { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                return Ok(());
            }
            reader => Arc::new(reader?),
        };
        for (index, extent) in reader.extents.iter().enumerate() {
            let reader = Arc::clone(&reader);
            self.push(extent, |key| {
                Source::Block(BlockAt { key, reader, index })
            });
        }
        Ok(())
    }
}
