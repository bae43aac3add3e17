//! One query on its way through the segments of its groups.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use minato_core::env::Clock;
use minato_core::insights::{Event, Origin, Query, ResultRow, Run, TooLarge};
use minato_store::Snapshot;
use minato_wire::Timestamp;
use minato_wire::logs::QueryStatus;
use tokio::time::Instant;

use super::registry::{Counts, Entry};
use crate::logs::scan::{self, Scanner};
use crate::logs::{EventRef, LogStore, StreamId, error_text};
use crate::services::logs::rows::{LogGroupRow, LogStreamRow};

/// When a query is given up (`GetQueryResults`: 60 minutes).
const TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// A query that can be run.
pub(super) struct Job {
    pub(super) query: Query,
    pub(super) limit: usize,
    /// Earliest and latest time, both included, in milliseconds.
    pub(super) from: i64,
    pub(super) through: i64,
    pub(super) groups: Vec<Arc<LogGroupRow>>,
    /// Knows the names of streams.
    pub(super) snapshot: Snapshot,
    pub(super) now: Timestamp,
    pub(super) entry: Arc<Entry>,
}

impl Job {
    /// Runs it and notes what came of it.
    pub(super) async fn run(self, logs: &LogStore, clock: &dyn Clock) {
        let entry = Arc::clone(&self.entry);
        let groups = self.groups.iter().map(|group| {
            let from = self.from.max(group.expire_before(self.now));
            (group.group_id(), from)
        });
        let groups = groups.collect();
        let begin = || entry.begin();
        let deadline = Instant::now() + TIMEOUT;
        let done = logs.scan(groups, begin, move |groups| {
            let mut search = Search::new(&self, deadline);
            let skip = |text: &[u8]| !self.query.could_match_in(text);
            scan::run(groups, self.through, &skip, &mut search)?;
            Ok(search.finish())
        });
        let (status, rows) = match done.await {
            Ok(done) => done,
            Err(error) => {
                let details = error_text(&error);
                tracing::error!(details, "a query of logs failed");
                (QueryStatus::Failed, vec![])
            }
        };
        entry.end(status, rows, clock.now());
    }
}

/// What a scan for a job knows.
struct Search<'j> {
    job: &'j Job,
    run: Run<'j>,
    /// `account:name` and the id of each group.
    logs: Vec<(String, u128)>,
    /// Names of streams, `None` for those that were deleted.
    streams: HashMap<StreamId, Option<Arc<LogStreamRow>>>,
    counts: Counts,
    too_large: Option<TooLarge>,
    deadline: Instant,
}

impl<'j> Search<'j> {
    fn new(job: &'j Job, deadline: Instant) -> Search<'j> {
        let log = |group: &Arc<LogGroupRow>| {
            let log = format!("{}:{}", group.account, group.name);
            (log, group.group_id().0)
        };
        Search {
            job,
            run: Run::new(&job.query, job.now.as_millis(), job.limit),
            logs: job.groups.iter().map(log).collect(),
            streams: HashMap::new(),
            counts: Counts::default(),
            too_large: None,
            deadline,
        }
    }

    fn is_late(&self) -> bool {
        Instant::now() >= self.deadline
    }

    fn finish(self) -> (QueryStatus, Vec<ResultRow>) {
        let is_late = self.is_late() && !self.job.entry.is_stopped();
        let rows = match self.too_large {
            None => self.run.finish(),
            Some(too_large) => Err(too_large),
        };
        match rows {
            Ok(rows) if is_late => (QueryStatus::Timeout, rows),
            Ok(rows) => (QueryStatus::Complete, rows),
            Err(error) => {
                let query = &self.job.entry.asked.text;
                tracing::warn!(%error, query, "a query of logs failed");
                (QueryStatus::Failed, vec![])
            }
        }
    }
}

impl Scanner for Search<'_> {
    fn wants_stream(&self, _: usize, stream: StreamId) -> bool {
        // Events whose stream was deleted are still in the segments.
        let key = LogStreamRow::id_key(stream);
        let snapshot = &self.job.snapshot;
        let mut rows =
            snapshot.by_index::<LogStreamRow>(LogStreamRow::BY_ID, &key);
        rows.next().is_some()
    }

    fn wants_times(&self, earliest: i64, latest: i64) -> bool {
        self.run.wants(earliest, latest)
    }

    fn event(&mut self, group: usize, event: EventRef<'_>) {
        let snapshot = &self.job.snapshot;
        let stream = self.streams.entry(event.stream).or_insert_with(|| {
            let key = LogStreamRow::id_key(event.stream);
            let mut rows =
                snapshot.by_index::<LogStreamRow>(LogStreamRow::BY_ID, &key);
            rows.next()
        });
        let (Some(stream), Some((log, id))) = (stream, self.logs.get(group))
        else {
            return;
        };
        if self.too_large.is_some() {
            return;
        }
        let pushed = self.run.push(&Event {
            origin: Origin {
                timestamp: event.position.timestamp,
                sequence: event.position.sequence,
                group: *id,
                stream: event.stream.0,
            },
            ingested_at: event.ingested_at,
            message: event.message,
            stream: &stream.name,
            log,
        });
        self.too_large = pushed.err();
    }

    fn scanned(&mut self, bytes: u64, events: u64) {
        self.counts.bytes += bytes;
        self.counts.scanned += events;
        self.counts.matched = self.run.matched();
        self.job.entry.count(self.counts);
    }

    fn is_stopped(&self) -> bool {
        self.too_large.is_some()
            || self.job.entry.is_stopped()
            || self.is_late()
    }
}
