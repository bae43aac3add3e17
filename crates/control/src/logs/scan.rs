//! Going through all events of some groups, newest pieces first.

use std::sync::Arc;

use super::block::Block;
use super::decode::{self, MOST_BLOCKS};
use super::error::LogFileError;
use super::group::Group;
use super::pieces::{BlockAt, Bounds, Next, Pieces};
use super::{Direction, EventRef, StreamId};

/// What a scan is for. Asked from one thread, but for [`Scanner::skips`].
pub(crate) trait Scanner: Send + Sync {
    /// Whether events of a stream of the group with this index are wanted.
    fn wants_stream(&self, group: usize, stream: StreamId) -> bool;

    /// Whether a piece with events of these times can be of interest.
    fn wants_times(&self, earliest: i64, latest: i64) -> bool;

    /// Whether messages, many one after another, cannot be of interest.
    fn skips(&self, messages: &[u8]) -> bool;

    /// Takes an event of the group with this index.
    fn event(&mut self, group: usize, event: EventRef<'_>);

    /// Hears of events that were read, wanted or not.
    fn scanned(&mut self, bytes: u64, events: u64);

    /// Whether to end now.
    fn is_stopped(&self) -> bool;
}

/// A group to be scanned, and the earliest time there.
pub(crate) struct ScanGroup {
    pub(super) group: Arc<Group>,
    pub(super) from: i64,
}

/// Scans groups, one after another, through a time.
pub(crate) fn run<S: Scanner>(
    groups: &[ScanGroup],
    through: i64,
    scanner: &mut S,
) -> Result<(), LogFileError> {
    for (index, ScanGroup { group, from }) in groups.iter().enumerate() {
        let times = Times { index, from: *from, through };
        let known: Vec<(StreamId, bool)> = group
            .streams()
            .into_keys()
            .map(|stream| (stream, scanner.wants_stream(index, stream)))
            .collect();
        let wanted = |stream: StreamId| {
            known
                .binary_search_by_key(&stream, |(id, _)| *id)
                .is_ok_and(|at| known[at].1)
        };
        let bounds = Bounds {
            direction: Direction::Backward,
            from: *from,
            through,
            wanted: &wanted,
        };
        let mut pieces = Pieces::of(group, bounds);
        while !scanner.is_stopped()
            && let Some(next) = pieces.next(MOST_BLOCKS)?
        {
            match next {
                Next::Extent(log, extent) => {
                    if !scanner.wants_times(extent.earliest, extent.latest) {
                        continue;
                    }
                    let mut seen = (0, 0);
                    let see = |event: EventRef<'_>| {
                        seen.0 += event.message.len() as u64;
                        seen.1 += 1;
                        times.offer(&wanted, event, scanner);
                    };
                    log.read(&extent, see, |_| false)?;
                    scanner.scanned(seen.0, seen.1);
                }
                Next::Blocks(blocks) => {
                    times.blocks(&wanted, blocks, scanner)?;
                }
            }
        }
    }
    Ok(())
}

/// The times of one group's part of a scan.
struct Times {
    index: usize,
    from: i64,
    through: i64,
}

impl Times {
    fn blocks<S: Scanner>(
        &self,
        wanted: &dyn Fn(StreamId) -> bool,
        mut blocks: Vec<BlockAt>,
        scanner: &mut S,
    ) -> Result<(), LogFileError> {
        blocks.retain(|at| {
            let extent = at.reader.extents.get(at.index);
            extent.is_some_and(|e| scanner.wants_times(e.earliest, e.latest))
        });
        let skip = |messages: &[u8]| scanner.skips(messages);
        let decoded = decode::decode(&blocks, &skip);
        for (at, decoded) in blocks.iter().zip(decoded) {
            let decoded = decoded?;
            scanner.scanned(decoded.bytes, decoded.events);
            let Some(raw) = decoded.raw else { continue };
            let block = Block::parse(&raw);
            let seen = block.and_then(|block| {
                block.events(|event| self.offer(wanted, event, scanner))
            });
            seen.ok_or_else(|| {
                at.reader.wrong(at.index, "a block makes no sense")
            })?;
        }
        Ok(())
    }

    fn offer<S: Scanner>(
        &self,
        wanted: &dyn Fn(StreamId) -> bool,
        event: EventRef<'_>,
        scanner: &mut S,
    ) {
        let at = event.position.timestamp;
        if (self.from..=self.through).contains(&at) && wanted(event.stream) {
            scanner.event(self.index, event);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::logs::store::LogStore;
    use crate::logs::{GroupId, NewEvent};

    const GROUP: GroupId = GroupId(7);
    const STREAM: StreamId = StreamId(1);

    #[derive(Default)]
    struct Seen {
        messages: Vec<String>,
        events: u64,
        word: Option<&'static str>,
        newest: Option<i64>,
    }

    impl Scanner for Seen {
        fn wants_stream(&self, _: usize, stream: StreamId) -> bool {
            stream == STREAM
        }

        fn wants_times(&self, _: i64, latest: i64) -> bool {
            self.newest.is_none_or(|newest| latest >= newest)
        }

        fn skips(&self, messages: &[u8]) -> bool {
            let word = self.word.map(str::as_bytes);
            word.is_some_and(|word| {
                !messages.windows(word.len()).any(|found| found == word)
            })
        }

        fn event(&mut self, group: usize, event: EventRef<'_>) {
            assert_eq!(group, 0);
            self.messages.push(event.message.to_owned());
        }

        fn scanned(&mut self, _: u64, events: u64) {
            self.events += events;
        }

        fn is_stopped(&self) -> bool {
            false
        }
    }

    async fn scan(
        logs: &LogStore,
        from: i64,
        through: i64,
        mut seen: Seen,
    ) -> Seen {
        let job = move |groups: &[ScanGroup]| {
            run(groups, through, &mut seen)?;
            Ok(seen)
        };
        let mut seen =
            logs.scan(vec![(GROUP, from)], || (), job).await.unwrap();
        seen.messages.sort();
        seen
    }

    #[tokio::test]
    async fn every_event_of_the_times_and_streams_is_seen_once() {
        let root = tempfile::tempdir().unwrap();
        let logs = LogStore::open_with(root.path(), 64 * 1024).unwrap();
        let text = |at: i64| format!("{at:04} {}", "x".repeat(1000));
        for at in 0..300 {
            let event = NewEvent { timestamp: at, message: text(at) };
            let stream = if at % 100 == 99 { StreamId(2) } else { STREAM };
            logs.append(GROUP, stream, 1, &[event]).await.unwrap();
        }
        // Three segments at least are sealed, or will be.
        let wait = async {
            while logs.newest_segment(GROUP).await.unwrap() < 3 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), wait).await.unwrap();
        let right = |from, to| -> Vec<String> {
            (from..=to).filter(|at| at % 100 != 99).map(text).collect()
        };
        let all = scan(&logs, i64::MIN, i64::MAX, Seen::default()).await;
        assert_eq!(all.messages, right(0, 299));
        assert_eq!(all.events, 300);
        let part = scan(&logs, 50, 250, Seen::default()).await;
        assert_eq!(part.messages, right(50, 250));
        // A block without the word is counted, and its events are not seen.
        let word = Seen { word: Some("0007 "), ..Seen::default() };
        let word = scan(&logs, i64::MIN, i64::MAX, word).await;
        assert!(word.messages.contains(&text(7)));
        assert!(word.messages.len() < 299 && word.events == 300);
        // What is too old is not even read.
        let newest = Seen { newest: Some(299), ..Seen::default() };
        let newest = scan(&logs, i64::MIN, i64::MAX, newest).await;
        assert!(newest.events < 300);
        logs.close().await;
    }
}
