//! Change batches for those who follow the store.
//!
//! The feed keeps the newest commits in a ring of bounded size. A watch is a
//! cursor into it: as long as it keeps up it sees every commit, in order,
//! once; when it fell behind the ring it is told to start again from a
//! snapshot. A slow watcher costs the others nothing.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    Key, Row, Snapshot,
    row::{AnyRow, Tables, typed},
    state::State,
};

/// One transaction's changes.
pub struct Commit {
    revision: u64,
    schema: Arc<Tables>,
    changes: Vec<RowChange>,
}

/// One changed row, of whatever table.
pub(crate) struct RowChange {
    pub(crate) table: usize,
    pub(crate) key: Key,
    pub(crate) before: Option<AnyRow>,
    pub(crate) after: Option<AnyRow>,
}

/// One changed row: created (no `before`), changed, or deleted (no `after`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed<R> {
    /// The row's key.
    pub key: Key,
    /// The row before the transaction.
    pub before: Option<Arc<R>>,
    /// The row after the transaction.
    pub after: Option<Arc<R>>,
}

impl Commit {
    pub(crate) fn new(
        revision: u64,
        schema: Arc<Tables>,
        changes: Vec<RowChange>,
    ) -> Commit {
        Commit { revision, schema, changes }
    }

    /// The transaction's revision; commits follow each other without a gap.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The changed rows of one table, in the order of their keys.
    pub fn of<R: Row>(&self) -> impl Iterator<Item = Changed<R>> {
        let table = self.schema.position::<R>();
        self.changes.iter().filter(move |c| c.table == table).map(|change| {
            Changed {
                key: change.key.clone(),
                before: change.before.as_ref().map(typed::<R>),
                after: change.after.as_ref().map(typed::<R>),
            }
        })
    }

    /// Whether a row of this table changed.
    pub fn touches<R: Row>(&self) -> bool {
        let table = self.schema.position::<R>();
        self.changes.iter().any(|change| change.table == table)
    }

    /// Table name and key of every changed row.
    pub fn keys(&self) -> impl Iterator<Item = (&'static str, &Key)> {
        let kinds = self.schema.kinds();
        self.changes
            .iter()
            .map(|change| (kinds[change.table].name, &change.key))
    }

    pub(crate) fn changes(&self) -> &[RowChange] {
        &self.changes
    }
}

impl fmt::Debug for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Commit {} ", self.revision)?;
        f.debug_list().entries(self.keys()).finish()
    }
}

/// What a watch found.
#[derive(Clone, Debug)]
pub enum Changes {
    /// Every commit since the last look, oldest first; may be empty.
    Rows(Vec<Arc<Commit>>),
    /// The watch fell behind: start again from this snapshot. What comes
    /// after it will be seen from here on.
    Resync(Snapshot),
}

/// The store takes no more writes, so there will be no more changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store is closed; nothing will change any more")]
pub struct WatchClosed;

/// A cursor into the store's changes.
#[derive(Debug)]
pub struct Watch {
    seen: u64,
    feed: Arc<Feed>,
}

impl Watch {
    /// Waits until there are changes that [`Watch::changes`] has not given.
    ///
    /// May be dropped at any point (`select!`) without missing anything.
    pub async fn changed(&mut self) -> Result<(), WatchClosed> {
        self.feed.bell.newer_than(self.seen).await
    }

    /// What changed since the last call, without waiting.
    pub fn changes(&mut self) -> Changes {
        match self.feed.since(self.seen) {
            Some(commits) => {
                if let Some(last) = commits.last() {
                    self.seen = last.revision();
                }
                Changes::Rows(commits)
            }
            None => {
                let snapshot = Snapshot { state: self.feed.state.load_full() };
                self.seen = snapshot.revision();
                Changes::Resync(snapshot)
            }
        }
    }

    /// The revision up to which changes were given.
    pub fn revision(&self) -> u64 {
        self.seen
    }
}

/// The published state and the ring of newest commits.
#[derive(Debug)]
pub(crate) struct Feed {
    pub(crate) state: ArcSwap<State>,
    ring: Mutex<Ring>,
    bell: Arc<Bell>,
}

/// Wakes watches when there is something new, in the order in which they
/// began to wait: tokio's own watch channel picks at random, and a simulated
/// run must go the same way every time.
#[derive(Debug)]
struct Bell {
    newest: AtomicU64,
    is_closed: AtomicBool,
    rings: Notify,
}

impl Bell {
    async fn newer_than(&self, seen: u64) -> Result<(), WatchClosed> {
        loop {
            let rings = self.rings.notified();
            tokio::pin!(rings);
            // From here on no ring is missed.
            rings.as_mut().enable();
            if self.newest.load(Ordering::Acquire) > seen {
                return Ok(());
            }
            if self.is_closed.load(Ordering::Acquire) {
                return Err(WatchClosed);
            }
            rings.await;
        }
    }
}

/// The committer's end of the bell; without it nothing new will come.
#[derive(Debug)]
pub(crate) struct Ringer(Arc<Bell>);

impl Ringer {
    fn ring(&self, newest: u64) {
        self.0.newest.store(newest, Ordering::Release);
        self.0.rings.notify_waiters();
    }
}

impl Drop for Ringer {
    fn drop(&mut self) {
        self.0.is_closed.store(true, Ordering::Release);
        self.0.rings.notify_waiters();
    }
}

#[derive(Debug)]
struct Ring {
    commits: VecDeque<Arc<Commit>>,
    /// Changes in all of `commits`.
    changes: usize,
    /// Everything after this revision is in `commits`.
    after: u64,
    max_commits: usize,
    max_changes: usize,
}

impl Feed {
    /// The feed, and that by which the committer wakes its watches.
    pub(crate) fn new(
        state: State,
        max_commits: usize,
        max_changes: usize,
    ) -> (Feed, Ringer) {
        let bell = Arc::new(Bell {
            newest: AtomicU64::new(state.revision),
            is_closed: AtomicBool::new(false),
            rings: Notify::new(),
        });
        let ring = Ring {
            commits: VecDeque::new(),
            changes: 0,
            after: state.revision,
            max_commits,
            max_changes,
        };
        let state = ArcSwap::from_pointee(state);
        let ringer = Ringer(Arc::clone(&bell));
        (Feed { state, ring: Mutex::new(ring), bell }, ringer)
    }

    /// Makes durable commits visible: to new snapshots, then to watches.
    pub(crate) fn publish(
        &self,
        state: State,
        commits: Vec<Commit>,
        ringer: &Ringer,
    ) {
        let revision = state.revision;
        self.state.store(Arc::new(state));
        self.ring.lock().extend(commits);
        ringer.ring(revision);
    }

    pub(crate) fn watch(self: &Arc<Feed>, seen: u64) -> Watch {
        Watch { seen, feed: self.clone() }
    }

    fn since(&self, seen: u64) -> Option<Vec<Arc<Commit>>> {
        let ring = self.ring.lock();
        if seen < ring.after {
            return None;
        }
        let first = ring.commits.partition_point(|c| c.revision() <= seen);
        Some(ring.commits.range(first..).cloned().collect())
    }
}

impl Ring {
    fn extend(&mut self, commits: Vec<Commit>) {
        for commit in commits {
            self.changes += commit.changes.len();
            self.commits.push_back(Arc::new(commit));
        }
        while self.commits.len() > self.max_commits
            || self.changes > self.max_changes
        {
            let Some(oldest) = self.commits.pop_front() else { break };
            self.changes -= oldest.changes.len();
            self.after = oldest.revision();
        }
    }
}
