//! Going through all events of some groups, newest pieces first.

use std::panic::resume_unwind;
use std::sync::Arc;

use super::block::Block;
use super::decode::{self, Decoded, MOST_BLOCKS};
use super::error::LogFileError;
use super::group::Group;
use super::pieces::{BlockAt, Bounds, Next, Pieces};
use super::{Direction, EventRef, StreamId};

/// What a scan is for.
pub(crate) trait Scanner {
    /// Whether events of a stream of the group with this index are wanted.
    fn wants_stream(&self, group: usize, stream: StreamId) -> bool;

    /// Whether a piece with events of these times can be of interest.
    fn wants_times(&self, earliest: i64, latest: i64) -> bool;

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

/// Scans groups, one after another, through a time. `skip` says of messages,
/// many one after another, whether they cannot be of interest; it is asked on
/// other threads, while the scanner looks at what was read before.
pub(crate) fn run<S: Scanner>(
    groups: &[ScanGroup],
    through: i64,
    skip: &(dyn Fn(&[u8]) -> bool + Sync),
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
        let mut ahead = Ahead::default();
        // Few at first: the newest are often all that counts.
        let mut most = 1;
        while !scanner.is_stopped()
            && let Some(next) = pieces.next(most)?
        {
            most = MOST_BLOCKS.min(most * 2);
            match next {
                Next::Extent(log, extent) => {
                    times.look(&wanted, std::mem::take(&mut ahead), scanner)?;
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
                Next::Blocks(mut blocks) => {
                    blocks.retain(|at| at.is_wanted(scanner));
                    let before = std::mem::take(&mut ahead);
                    ahead = std::thread::scope(|scope| {
                        let reads = scope.spawn(|| Ahead::read(blocks, skip));
                        times.look(&wanted, before, scanner)?;
                        let read = reads.join();
                        Ok(read.unwrap_or_else(|p| resume_unwind(p)))
                    })?;
                }
            }
        }
        if !scanner.is_stopped() {
            times.look(&wanted, ahead, scanner)?;
        }
    }
    Ok(())
}

/// Blocks that were read and not yet looked at.
#[derive(Default)]
struct Ahead {
    blocks: Vec<BlockAt>,
    decoded: Vec<Result<Decoded, LogFileError>>,
}

impl Ahead {
    fn read(
        blocks: Vec<BlockAt>,
        skip: &(dyn Fn(&[u8]) -> bool + Sync),
    ) -> Ahead {
        let decoded = decode::decode(&blocks, skip);
        Ahead { blocks, decoded }
    }
}

impl BlockAt {
    fn is_wanted(&self, scanner: &impl Scanner) -> bool {
        let extent = self.reader.extents.get(self.index);
        extent.is_some_and(|e| scanner.wants_times(e.earliest, e.latest))
    }
}

/// The times of one group's part of a scan.
struct Times {
    index: usize,
    from: i64,
    through: i64,
}

impl Times {
    /// Looks at blocks that were read.
    fn look<S: Scanner>(
        &self,
        wanted: &dyn Fn(StreamId) -> bool,
        ahead: Ahead,
        scanner: &mut S,
    ) -> Result<(), LogFileError> {
        for (at, decoded) in ahead.blocks.iter().zip(ahead.decoded) {
            let decoded = decoded?;
            if !at.is_wanted(scanner) {
                continue;
            }
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
            let word = seen.word.map(str::as_bytes);
            let skip = |messages: &[u8]| {
                word.is_some_and(|word| {
                    !messages.windows(word.len()).any(|found| found == word)
                })
            };
            run(groups, through, &skip, &mut seen)?;
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
