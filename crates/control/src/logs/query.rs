//! Finding events: the first (or last) so many of a range, in order.
//!
//! Pieces of segments ([`super::pieces`]) are visited in the order of their earliest event (their
//! latest, going backward). Events go into a bounded, sorted set; as soon as
//! the next piece can only hold events beyond the set's edge, the search is
//! over. So a page costs the pieces that overlap it, wherever they lie, and
//! late events are found in their place.

use std::collections::BTreeMap;

use minato_core::filter_pattern::FilterPattern;

use super::block::Block;
use super::decode::{self, MOST_BLOCKS};
use super::error::LogFileError;
use super::group::Group;
use super::pieces::{Bounds, Next, Pieces};
use super::{EventRef, Position, StoredEvent, StreamId};

/// A page of GetLogEvents or FilterLogEvents has at most 1 MiB of messages.
pub(crate) const PAGE_BYTES: usize = 1024 * 1024;
/// After this much text a filter's page ends where it is, found or not, so
/// that no call holds a reader thread for long.
const SCAN_BYTES: u64 = 256 * 1024 * 1024;

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

struct Search<'q> {
    query: &'q Query,
    pieces: Pieces<'q>,
    kept: BTreeMap<Position, StoredEvent>,
    bytes: usize,
    /// The best event that had to be left out: nothing at or beyond it.
    edge: Option<Position>,
    scanned: u64,
}

/// Runs a query on a group.
pub(super) fn run(group: &Group, query: &Query) -> Result<Page, LogFileError> {
    let mut search = Search {
        query,
        pieces: Pieces::of(group, bounds(query)),
        kept: BTreeMap::new(),
        bytes: 0,
        edge: None,
        scanned: 0,
    };
    let mut stopped_at = None;
    // Few at first: a page without a filter is often full after one.
    let mut most = if query.pattern.is_some() { 4 } else { 1 };
    while let Some(key) = search.pieces.next_key() {
        if search.is_beyond_edge(key) {
            break;
        }
        if search.is_tired(key) {
            stopped_at = Some(key);
            break;
        }
        match search.pieces.next(most)? {
            Some(next) => search.visit(next)?,
            None => break,
        }
        most = MOST_BLOCKS.min(most * 2);
    }
    Ok(search.page(stopped_at))
}

fn bounds(query: &Query) -> Bounds<'_> {
    let Query { from, until, beyond, direction, .. } = query;
    let (mut from, mut through) = (*from, until.saturating_sub(1));
    match (beyond, direction) {
        (Some(beyond), Direction::Forward) => from = from.max(beyond.timestamp),
        (Some(beyond), Direction::Backward) => {
            through = through.min(beyond.timestamp);
        }
        (None, _) => {}
    }
    let wanted = &*query.wanted;
    Bounds { direction: *direction, from, through, wanted }
}

impl Search<'_> {
    fn is_beyond_edge(&self, key: i64) -> bool {
        self.edge.is_some_and(|edge| {
            key > self.pieces.key(edge.timestamp, edge.timestamp)
        })
    }

    /// Whether enough was read and a page that ends here gets us further.
    fn is_tired(&self, key: i64) -> bool {
        let start = self.query.beyond.map_or(i64::MIN, |p| p.timestamp);
        self.query.direction == Direction::Forward
            && self.scanned > SCAN_BYTES
            && key > start.max(self.query.from)
    }

    fn visit(&mut self, next: Next) -> Result<(), LogFileError> {
        let skip = rules_out(self.query);
        match next {
            Next::Blocks(blocks) => {
                let decoded = decode::decode(&blocks, &skip);
                for (at, decoded) in blocks.iter().zip(decoded) {
                    let decoded = decoded?;
                    self.scanned += decoded.bytes;
                    if self.is_beyond_edge(at.key) {
                        break;
                    }
                    let Some(raw) = decoded.raw else { continue };
                    Block::parse(&raw)
                        .and_then(|b| b.events(|event| self.offer(event)))
                        .ok_or_else(|| {
                            at.reader.wrong(at.index, "a block makes no sense")
                        })?;
                }
                Ok(())
            }
            Next::Extent(log, extent) => {
                self.scanned += u64::from(extent.length);
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
        if !in_range || !self.pieces.wants(event.stream) {
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
fn rules_out<'q>(query: &'q Query) -> impl Fn(&[u8]) -> bool + Sync + use<'q> {
    let pattern = query.pattern.as_ref();
    move |text| pattern.is_some_and(|p| !p.could_match_in(text))
}
