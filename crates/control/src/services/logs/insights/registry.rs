//! Queries and their results, in memory.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use minato_core::insights::ResultRow;
use minato_wire::logs::{QueryInfo, QueryLanguage, QueryStatus, error};
use minato_wire::{ApiError, Timestamp};
use parking_lot::Mutex;

use super::{float, is_going};

/// Queries that wait or run, of one account (`StartQuery`: 100 concurrent
/// queries). Two run at a time, which bounds their memory.
const MOST_GOING: usize = 100;
/// Queries that are remembered.
const MOST_KEPT: usize = 1000;
/// Results that are remembered, beside those of the newest query.
const MOST_BYTES: usize = 128 * 1024 * 1024;
/// How long results are kept; AWS keeps them for seven days, on disks.
const KEPT_MS: i64 = 60 * 60 * 1000;

/// What was asked for.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) account: String,
    pub(super) region: String,
    pub(super) text: String,
    /// Names, sorted.
    pub(super) groups: Vec<String>,
    pub(super) created_at: Timestamp,
}

/// What a query has gone through so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) matched: u64,
    pub(super) scanned: u64,
    pub(super) bytes: u64,
}

/// One query.
#[derive(Debug)]
pub(super) struct Entry {
    id: String,
    pub(super) asked: Asked,
    is_stopped: AtomicBool,
    matched: AtomicU64,
    scanned: AtomicU64,
    bytes: AtomicU64,
    outcome: Mutex<Outcome>,
}

#[derive(Debug)]
struct Outcome {
    status: QueryStatus,
    rows: Arc<Vec<ResultRow>>,
    row_bytes: usize,
    ended_at: Option<Timestamp>,
}

impl Entry {
    pub(super) fn status(&self) -> QueryStatus {
        self.outcome.lock().status
    }

    pub(super) fn results(&self) -> (QueryStatus, Arc<Vec<ResultRow>>) {
        let outcome = self.outcome.lock();
        (outcome.status, Arc::clone(&outcome.rows))
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            matched: self.matched.load(Ordering::Relaxed),
            scanned: self.scanned.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }

    pub(super) fn count(&self, counts: Counts) {
        self.matched.store(counts.matched, Ordering::Relaxed);
        self.scanned.store(counts.scanned, Ordering::Relaxed);
        self.bytes.store(counts.bytes, Ordering::Relaxed);
    }

    /// Asks the query to end; whether it was still going.
    pub(super) fn stop(&self) -> bool {
        let mut outcome = self.outcome.lock();
        if !is_going(outcome.status) {
            return false;
        }
        self.is_stopped.store(true, Ordering::Relaxed);
        outcome.status = QueryStatus::Cancelled;
        true
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }

    /// Its turn has come.
    pub(super) fn begin(&self) {
        let mut outcome = self.outcome.lock();
        if outcome.status == QueryStatus::Scheduled {
            outcome.status = QueryStatus::Running;
        }
    }

    /// Notes what came of it; one that was stopped stays so.
    pub(super) fn end(
        &self,
        status: QueryStatus,
        rows: Vec<ResultRow>,
        now: Timestamp,
    ) {
        let mut outcome = self.outcome.lock();
        if is_going(outcome.status) {
            outcome.status = status;
        }
        outcome.row_bytes = rows
            .iter()
            .flat_map(|row| &row.fields)
            .map(|(name, value)| name.len() + value.len() + 48)
            .sum();
        outcome.rows = Arc::new(rows);
        outcome.ended_at = Some(now);
    }

    pub(super) fn describe(&self) -> QueryInfo {
        let (status, ended_at) = {
            let outcome = self.outcome.lock();
            (outcome.status, outcome.ended_at)
        };
        let created_at = self.asked.created_at.as_millis();
        QueryInfo {
            query_language: Some(QueryLanguage::Cwli),
            query_id: Some(self.id.clone()),
            query_string: Some(self.asked.text.clone()),
            status: Some(status),
            create_time: Some(created_at),
            log_group_name: self.asked.groups.first().cloned(),
            query_duration: ended_at.map(|end| end.as_millis() - created_at),
            bytes_scanned: Some(float(self.counts().bytes)),
            ..QueryInfo::default()
        }
    }
}

/// Every query that is remembered.
#[derive(Debug, Default)]
pub(crate) struct Queries {
    /// Oldest first.
    entries: Mutex<VecDeque<Arc<Entry>>>,
}

impl Queries {
    /// Remembers a query that waits for its turn.
    pub(super) fn add(
        &self,
        id: String,
        asked: Asked,
    ) -> Result<Arc<Entry>, ApiError> {
        let now = asked.created_at;
        let mut entries = self.entries.lock();
        trim(&mut entries, now);
        let is_ours = |entry: &&Arc<Entry>| {
            entry.asked.account == asked.account && is_going(entry.status())
        };
        let going = entries.iter().filter(is_ours).count();
        if going >= MOST_GOING || entries.len() >= MOST_KEPT {
            return Err(error::limit_exceeded_exception(format!(
                "There are {going} concurrent queries, and at most \
                 {MOST_GOING} are allowed."
            )));
        }
        let entry = Arc::new(Entry {
            id,
            asked,
            is_stopped: AtomicBool::new(false),
            matched: AtomicU64::new(0),
            scanned: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            outcome: Mutex::new(Outcome {
                status: QueryStatus::Scheduled,
                rows: Arc::default(),
                row_bytes: 0,
                ended_at: None,
            }),
        });
        entries.push_back(Arc::clone(&entry));
        Ok(entry)
    }

    pub(super) fn get(
        &self,
        account: &str,
        region: &str,
        id: &str,
    ) -> Option<Arc<Entry>> {
        let entries = self.entries.lock();
        let mut entries = entries.iter().filter(|entry| entry.id == id);
        let is_ours = |entry: &&Arc<Entry>| {
            entry.asked.account == account && entry.asked.region == region
        };
        entries.find(is_ours).cloned()
    }

    /// The queries of an account in a region, newest first.
    pub(super) fn list(&self, account: &str, region: &str) -> Vec<Arc<Entry>> {
        let entries = self.entries.lock();
        let ours = entries.iter().rev().filter(|entry| {
            entry.asked.account == account && entry.asked.region == region
        });
        ours.cloned().collect()
    }

    /// Forgets what is old or too much.
    pub(super) fn trim(&self, now: Timestamp) {
        trim(&mut self.entries.lock(), now);
    }

    /// Ends every query.
    pub(crate) fn close(&self) {
        for entry in self.entries.lock().iter() {
            entry.stop();
        }
    }
}

fn trim(entries: &mut VecDeque<Arc<Entry>>, now: Timestamp) {
    // From the newest: what is kept of them leaves less for the older.
    let (mut bytes, mut kept) = (0, 0);
    let mut keep: Vec<bool> = entries
        .iter()
        .rev()
        .map(|entry| {
            let outcome = entry.outcome.lock();
            let Some(ended_at) = outcome.ended_at else {
                kept += 1;
                return true;
            };
            let age = now.as_millis() - ended_at.as_millis();
            let fits = bytes == 0 || bytes + outcome.row_bytes <= MOST_BYTES;
            let keep = age < KEPT_MS && fits && kept < MOST_KEPT - 1;
            if keep {
                bytes += outcome.row_bytes;
                kept += 1;
            }
            keep
        })
        .collect();
    entries.retain(|_| keep.pop().unwrap_or(false));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(at: i64) -> Asked {
        Asked {
            account: "1".to_owned(),
            region: "r".to_owned(),
            text: "limit 1".to_owned(),
            groups: vec!["g".to_owned()],
            created_at: Timestamp::from_millis(at),
        }
    }

    fn rows(bytes: usize) -> Vec<ResultRow> {
        let field = ("f".to_owned(), "x".repeat(bytes));
        vec![ResultRow { fields: vec![field], origin: None }]
    }

    fn ids(queries: &Queries) -> Vec<String> {
        let entries = queries.list("1", "r").into_iter();
        entries.map(|entry| entry.id.clone()).collect()
    }

    #[test]
    fn old_and_large_results_are_forgotten_first() {
        let queries = Queries::default();
        let now = Timestamp::from_millis(0);
        for id in ["a", "b", "c"] {
            let entry = queries.add(id.to_owned(), asked(0)).unwrap();
            entry.end(QueryStatus::Complete, rows(MOST_BYTES / 2 - 99), now);
        }
        queries.trim(now);
        assert_eq!(ids(&queries), ["c", "b"]);
        let _going = queries.add("d".to_owned(), asked(0)).unwrap();
        queries.trim(Timestamp::from_millis(KEPT_MS));
        assert_eq!(ids(&queries), ["d"]);
        assert!(queries.get("1", "r", "d").is_some());
        assert!(queries.get("2", "r", "d").is_none());
    }

    #[test]
    fn so_many_queries_go_on_at_once() {
        let queries = Queries::default();
        for id in 0..MOST_GOING {
            queries.add(id.to_string(), asked(0)).unwrap();
        }
        let error = queries.add("x".to_owned(), asked(0)).unwrap_err();
        assert_eq!(error.code(), "LimitExceededException");
        queries.close();
        assert!(queries.add("x".to_owned(), asked(0)).is_ok());
    }

    #[test]
    fn a_stopped_query_stays_stopped() {
        let queries = Queries::default();
        let entry = queries.add("a".to_owned(), asked(0)).unwrap();
        assert!(entry.stop() && !entry.stop());
        entry.begin();
        entry.end(QueryStatus::Complete, vec![], Timestamp::from_millis(1));
        assert_eq!(entry.status(), QueryStatus::Cancelled);
    }
}
