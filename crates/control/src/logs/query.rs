//! Finding events: the first (or last) so many of a range, in order.
//!
//! Pieces of segments are visited in the order of their earliest event (their
//! latest, going backward). Events go into a bounded, sorted set; as soon as
//! the next piece can only hold events beyond the set's edge, the search is
//! over. So a page costs the pieces that overlap it, wherever they lie, and
//! late events are found in their place.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::Arc;

use minato_core::filter_pattern::FilterPattern;

use super::active::LogFile;
use super::error::LogFileError;
use super::group::Group;
use super::sealed::{SealedReader, SealedSegment};
use super::{EventRef, Extent, Position, StoredEvent, StreamId};

/// A page of GetLogEvents or FilterLogEvents has at most 1 MiB of messages.
pub(crate) const PAGE_BYTES: usize = 1024 * 1024;
/// After this much text a filter's page ends where it is, found or not, so
/// that no call holds a reader thread for long.
const SCAN_BYTES: u64 = 64 * 1024 * 1024;

/// From which end of the range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// The first events.
    Forward,
    /// The last events.
    Backward,
}

/// What to find.
pub(crate) struct Query {
    pub(crate) direction: Direction,
    /// Only events after (going backward: before) this one.
    pub(crate) beyond: Option<Position>,
    /// Earliest time, included.
    pub(crate) from: i64,
    /// Latest time, excluded.
    pub(crate) until: i64,
    /// Most events of a page.
    pub(crate) limit: usize,
    /// Whether events of a stream are to be found.
    pub(crate) wanted: Box<dyn Fn(StreamId) -> bool + Send>,
    pub(crate) pattern: Option<FilterPattern>,
}

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Page {
    /// In ascending order, whatever the direction.
    pub(crate) events: Vec<StoredEvent>,
    /// Where a forward query goes on, if there may be more.
    pub(crate) next: Option<Position>,
}

/// A piece that may hold events, by how soon it must be visited.
struct Piece {
    /// Earliest time of the piece, or its latest time negated.
    key: i64,
    source: Source,
}

enum Source {
    Segment(Arc<SealedSegment>),
    Block(Arc<SealedReader>, usize),
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

struct Search<'q> {
    query: &'q Query,
    kept: BTreeMap<Position, StoredEvent>,
    bytes: usize,
    /// The best event that had to be left out: nothing at or beyond it.
    edge: Option<Position>,
    streams: HashMap<StreamId, bool>,
    pieces: BinaryHeap<Reverse<Piece>>,
    scanned: u64,
}

/// Runs a query on a group.
pub(super) fn run(group: &Group, query: &Query) -> Result<Page, LogFileError> {
    let mut search = Search {
        query,
        kept: BTreeMap::new(),
        bytes: 0,
        edge: None,
        streams: HashMap::new(),
        pieces: BinaryHeap::new(),
        scanned: 0,
    };
    search.collect(group);
    let mut stopped_at = None;
    while let Some(Reverse(piece)) = search.pieces.pop() {
        if search.is_beyond_edge(piece.key) {
            break;
        }
        if search.is_tired(piece.key) {
            stopped_at = Some(piece.key);
            break;
        }
        search.visit(piece.source)?;
    }
    Ok(search.page(stopped_at))
}

impl Search<'_> {
    /// Lists the pieces that may hold something.
    fn collect(&mut self, group: &Group) {
        let state = group.state.read();
        for segment in state.sealed.values() {
            if self.overlaps(segment.earliest, segment.latest) {
                let key = self.key(segment.earliest, segment.latest);
                let source = Source::Segment(Arc::clone(segment));
                self.pieces.push(Reverse(Piece { key, source }));
            }
        }
        let frozen = state.frozen.values().map(Arc::as_ref);
        for index in frozen.chain(state.active.as_ref()) {
            for extent in &index.extents {
                let log = Arc::clone(&index.log);
                self.push(extent, || Source::Extent(log, extent.clone()));
            }
        }
    }

    fn push(&mut self, extent: &Extent, source: impl FnOnce() -> Source) {
        if !self.overlaps(extent.earliest, extent.latest) {
            return;
        }
        let named = extent.streams.as_ref();
        if named.is_none_or(|ids| ids.iter().any(|id| self.wants(*id))) {
            let key = self.key(extent.earliest, extent.latest);
            self.pieces.push(Reverse(Piece { key, source: source() }));
        }
    }

    fn key(&self, earliest: i64, latest: i64) -> i64 {
        match self.query.direction {
            Direction::Forward => earliest,
            Direction::Backward => latest.checked_neg().unwrap_or(i64::MAX),
        }
    }

    fn overlaps(&self, earliest: i64, latest: i64) -> bool {
        let Query { from, until, beyond, direction, .. } = self.query;
        let ahead = beyond.is_none_or(|beyond| match direction {
            Direction::Forward => latest >= beyond.timestamp,
            Direction::Backward => earliest <= beyond.timestamp,
        });
        latest >= *from && earliest < *until && ahead
    }

    fn wants(&mut self, stream: StreamId) -> bool {
        let wanted = &self.query.wanted;
        *self.streams.entry(stream).or_insert_with(|| wanted(stream))
    }

    fn is_beyond_edge(&self, key: i64) -> bool {
        self.edge
            .is_some_and(|edge| key > self.key(edge.timestamp, edge.timestamp))
    }

    /// Whether enough was read and a page that ends here gets us further.
    fn is_tired(&self, key: i64) -> bool {
        let start = self.query.beyond.map_or(i64::MIN, |p| p.timestamp);
        self.query.direction == Direction::Forward
            && self.scanned > SCAN_BYTES
            && key > start.max(self.query.from)
    }

    fn visit(&mut self, source: Source) -> Result<(), LogFileError> {
        match source {
            Source::Segment(segment) => {
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
                    self.push(extent, || Source::Block(reader, index));
                }
                Ok(())
            }
            Source::Block(reader, index) => {
                let skip = rules_out(self.query);
                let mut scanned = 0;
                let done = reader.read(
                    index,
                    |event| self.offer(event),
                    |text| {
                        scanned += text.len() as u64;
                        skip(text)
                    },
                );
                self.scanned += scanned;
                done
            }
            Source::Extent(log, extent) => {
                self.scanned += u64::from(extent.length);
                let skip = rules_out(self.query);
                log.read(&extent, |event| self.offer(event), skip)
            }
        }
    }

    fn offer(&mut self, event: EventRef<'_>) {
        let Query { from, until, beyond, direction, pattern, .. } = self.query;
        let position = event.position;
        let is_past = |limit: &Position| match direction {
            Direction::Forward => position >= *limit,
            Direction::Backward => position <= *limit,
        };
        let in_range = (*from..*until).contains(&position.timestamp)
            && beyond.is_none_or(|b| b != position && is_past(&b))
            && !self.edge.as_ref().is_some_and(is_past);
        if !in_range || !self.wants(event.stream) {
            return;
        }
        if let Some(pattern) = pattern
            && !pattern.matches(event.message)
        {
            return;
        }
        self.bytes += event.message.len();
        self.kept.insert(position, event.to_stored());
        while self.kept.len() > self.query.limit
            || (self.bytes > PAGE_BYTES && self.kept.len() > 1)
        {
            let worst = match direction {
                Direction::Forward => self.kept.pop_last(),
                Direction::Backward => self.kept.pop_first(),
            };
            let Some((position, event)) = worst else { break };
            self.bytes -= event.message.len();
            self.edge = Some(position);
        }
    }

    fn page(mut self, stopped_at: Option<i64>) -> Page {
        if let Some(timestamp) = stopped_at {
            // What lies at or after this time may be incomplete.
            let end = Position { timestamp, sequence: 0 };
            self.kept.split_off(&end);
            let events = self.kept.into_values().collect();
            return Page { events, next: Some(end) };
        }
        let last = self.kept.last_key_value().map(|(at, _)| *at);
        let next = self.edge.and(last);
        Page { events: self.kept.into_values().collect(), next }
    }
}

/// Rules out a piece by one search over all its messages.
fn rules_out<'q>(query: &'q Query) -> impl Fn(&[u8]) -> bool + use<'q> {
    let pattern = query.pattern.as_ref();
    move |text| pattern.is_some_and(|p| !p.could_match_in(text))
}
