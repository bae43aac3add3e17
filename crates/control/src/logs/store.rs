//! The log storage as its users see it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::active::Streams;
use super::committer::{Append, Command, Committer};
use super::error::{
    AppendLogsError, DeleteLogsError, LogFileError, OpenLogsError,
    ReadLogsError,
};
use super::frame::Encoded;
use super::group::Group;
use super::query::{self, Page, Query};
use super::scan::ScanGroup;
use super::sealer::{self, Sealing, Sweep};
use super::tail::{TailQueue, Tails};
use super::{GroupId, NewEvent, StreamId, StreamStats};

/// Size at which an active segment is sealed: enough for good compression,
/// little enough to be read whole when it is sealed or recovered.
const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;
/// Appends that wait for the committer.
const QUEUE: usize = 1024;
/// Events in memory that are not on disk yet.
const QUEUED_BYTES: u32 = 64 * 1024 * 1024;
/// Segments that wait for the sealer; more make ingestion wait.
const UNSEALED: usize = 8;
/// Queries that read at the same time; more would only fight for the disk.
const READERS: usize = 4;
/// Scans at the same time; each takes two cores for as long as it lasts.
const SCANS: usize = 2;

/// The log groups of a Minato, on disk.
#[derive(Clone, Debug)]
pub struct LogStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    groups: Arc<Groups>,
    commands: Mutex<Option<mpsc::Sender<Command>>>,
    sealings: Mutex<Option<mpsc::Sender<Sealing>>>,
    budget: Arc<Semaphore>,
    readers: Arc<Semaphore>,
    scans: Arc<Semaphore>,
    tails: Tails,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// The groups that have been read so far.
#[derive(Debug)]
pub(super) struct Groups {
    root: PathBuf,
    open: Mutex<HashMap<GroupId, Arc<Group>>>,
    sealings: Mutex<Option<mpsc::Sender<Sealing>>>,
}

impl Groups {
    /// A group, read from disk the first time.
    pub(super) fn get(&self, id: GroupId) -> Result<Arc<Group>, LogFileError> {
        let mut open = self.open.lock();
        if let Some(group) = open.get(&id) {
            return Ok(Arc::clone(group));
        }
        let group = Arc::new(Group::open(&self.root, id)?);
        let frozen: Vec<u64> =
            group.state.read().frozen.keys().copied().collect();
        let sealings = self.sealings.lock().clone();
        for number in frozen {
            let group = Arc::clone(&group);
            let seal = Sealing::Seal { group, number };
            if let Some(sealings) = &sealings {
                // A full queue is no loss: the next opening asks again.
                let _ = sealings.try_send(seal);
            }
        }
        open.insert(id, Arc::clone(&group));
        Ok(group)
    }

    pub(super) fn forget(&self, id: GroupId) {
        self.open.lock().remove(&id);
    }
}

impl LogStore {
    /// Opens the storage in a directory, which is made if it is missing.
    /// Only one process may have it open; the store's lock sees to that.
    pub fn open(root: &Path) -> Result<LogStore, OpenLogsError> {
        LogStore::open_with(root, SEGMENT_BYTES)
    }

    pub(super) fn open_with(
        root: &Path,
        segment_bytes: u64,
    ) -> Result<LogStore, OpenLogsError> {
        std::fs::create_dir_all(root)
            .map_err(LogFileError::io("create", root))
            .map_err(OpenLogsError::Directory)?;
        let (commands, queue) = mpsc::channel(QUEUE);
        let (sealings, sealing_queue) = mpsc::channel(UNSEALED);
        let groups = Arc::new(Groups {
            root: root.to_owned(),
            open: Mutex::new(HashMap::new()),
            sealings: Mutex::new(Some(sealings.clone())),
        });
        let committer = Committer {
            groups: Arc::clone(&groups),
            queue,
            sealer: sealings.clone(),
            segment_bytes,
        };
        let thread = |name: &str, run: Box<dyn FnOnce() + Send>| {
            let builder = std::thread::Builder::new().name(name.to_owned());
            builder.spawn(run).map_err(OpenLogsError::Thread)
        };
        let threads = vec![
            thread("logs-commit", Box::new(move || committer.run()))?,
            thread("logs-seal", Box::new(move || sealer::run(sealing_queue)))?,
        ];
        Ok(LogStore {
            inner: Arc::new(Inner {
                root: root.to_owned(),
                groups,
                commands: Mutex::new(Some(commands)),
                sealings: Mutex::new(Some(sealings)),
                budget: Arc::new(Semaphore::new(QUEUED_BYTES as usize)),
                readers: Arc::new(Semaphore::new(READERS)),
                scans: Arc::new(Semaphore::new(SCANS)),
                tails: Tails::default(),
                threads: Mutex::new(threads),
            }),
        })
    }

    /// Keeps events; answers when they are on disk.
    pub(crate) async fn append(
        &self,
        group: GroupId,
        stream: StreamId,
        ingested_at: i64,
        events: &[NewEvent],
    ) -> Result<(), AppendLogsError> {
        self.keep(group, stream, ingested_at, events).await?;
        self.inner.tails.show(group, stream, ingested_at, events);
        Ok(())
    }

    async fn keep(
        &self,
        group: GroupId,
        stream: StreamId,
        ingested_at: i64,
        events: &[NewEvent],
    ) -> Result<(), AppendLogsError> {
        let Some(events) = Encoded::new(stream, ingested_at, events) else {
            return Ok(());
        };
        let bytes = u32::try_from(events.size()).unwrap_or(QUEUED_BYTES);
        let budget = Arc::clone(&self.inner.budget)
            .acquire_many_owned(bytes.min(QUEUED_BYTES))
            .await
            .map_err(|_| AppendLogsError::Closed)?;
        let (answer, answered) = oneshot::channel();
        let append = Append { group, events, answer, _budget: budget };
        self.command(Command::Append(append))
            .await
            .map_err(|()| AppendLogsError::Closed)?;
        answered.await.map_err(|_| AppendLogsError::Closed)?
    }

    /// Finds events.
    pub(crate) async fn query(
        &self,
        group: GroupId,
        query: Query,
    ) -> Result<Page, ReadLogsError> {
        self.read(group, move |group| query::run(group, &query)).await
    }

    /// Shows events of groups that come in from now on, until the queue is
    /// dropped; `wanted` says of a stream and a message whether they are.
    pub(crate) fn follow(
        &self,
        groups: &[GroupId],
        wanted: impl Fn(GroupId, StreamId, &str) -> bool + Send + Sync + 'static,
    ) -> Arc<TailQueue> {
        self.inner.tails.follow(groups, Box::new(wanted))
    }

    /// Runs a job that scans groups, each from its earliest time; few run at
    /// the same time, and `begin` is called when it is this one's turn.
    pub(crate) async fn scan<T: Send + 'static>(
        &self,
        groups: Vec<(GroupId, i64)>,
        begin: impl FnOnce(),
        job: impl FnOnce(&[ScanGroup]) -> Result<T, LogFileError> + Send + 'static,
    ) -> Result<T, ReadLogsError> {
        let permit = Arc::clone(&self.inner.scans).acquire_owned().await;
        let permit = permit.map_err(|_| ReadLogsError::Closed)?;
        begin();
        let known = Arc::clone(&self.inner.groups);
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let open = |(id, from): (GroupId, i64)| {
                Ok(ScanGroup { group: known.get(id)?, from })
            };
            let groups: Result<Vec<ScanGroup>, LogFileError> =
                groups.into_iter().map(open).collect();
            job(&groups?)
        });
        match done.await {
            Ok(done) => Ok(done?),
            Err(_) => Err(ReadLogsError::Closed),
        }
    }

    /// What is known of some streams; those without events are missing.
    pub(crate) async fn streams_of(
        &self,
        group: GroupId,
        streams: Vec<StreamId>,
    ) -> Result<BTreeMap<StreamId, StreamStats>, ReadLogsError> {
        self.read(group, move |group| Ok(group.streams_of(&streams))).await
    }

    /// What is known of every stream with events.
    pub(crate) async fn streams(
        &self,
        group: GroupId,
    ) -> Result<Streams, ReadLogsError> {
        self.read(group, |group| Ok(group.streams())).await
    }

    /// Bytes of a group, as CloudWatch Logs counts them.
    pub(crate) async fn stored_bytes(
        &self,
        group: GroupId,
    ) -> Result<u64, ReadLogsError> {
        self.read(group, |group| Ok(group.stored_bytes())).await
    }

    /// Removes a group and all its events.
    pub(crate) async fn delete_group(
        &self,
        group: GroupId,
    ) -> Result<(), DeleteLogsError> {
        let (answer, answered) = oneshot::channel();
        self.command(Command::Delete(group, answer))
            .await
            .map_err(|()| DeleteLogsError::Closed)?;
        answered.await.map_err(|_| DeleteLogsError::Closed)?
    }

    /// The newest sealed segment of a group, for [`LogStore::sweep`]. To be
    /// asked before the streams that exist are listed.
    pub(crate) async fn newest_segment(
        &self,
        group: GroupId,
    ) -> Result<u64, ReadLogsError> {
        self.read(group, |group| Ok(group.state.read().newest_sealed())).await
    }

    /// Removes segments that hold nothing but expired events and events of
    /// deleted streams, and makes those smaller that hold mostly such.
    pub(crate) async fn sweep(
        &self,
        group: GroupId,
        live: BTreeSet<StreamId>,
        until_segment: u64,
        expire_before: i64,
    ) -> Result<(), DeleteLogsError> {
        let closed = |_| DeleteLogsError::Closed;
        let sweep = Sweep { live, until_segment, expire_before };
        let found = self
            .read(group, move |group| Ok(has_old(group, expire_before)))
            .await;
        match found {
            // Seals what is old enough; the next sweep will remove it.
            Ok(true) => {
                let freeze = Command::Freeze(group);
                self.command(freeze).await.map_err(closed)?;
            }
            Ok(false) => {}
            Err(error) => return Err(error.into()),
        }
        let group = self.inner.groups.get(group)?;
        let (answer, answered) = oneshot::channel();
        let sender = self.inner.sealings.lock().clone();
        sender
            .ok_or(DeleteLogsError::Closed)?
            .send(Sealing::Sweep { group, sweep, answer })
            .await
            .map_err(|_| DeleteLogsError::Closed)?;
        answered.await.map_err(|_| DeleteLogsError::Closed)?
    }

    /// The groups that have a directory.
    pub(crate) fn groups_on_disk(&self) -> Result<Vec<GroupId>, LogFileError> {
        let root = &self.inner.root;
        let entries =
            std::fs::read_dir(root).map_err(LogFileError::io("read", root))?;
        let names = entries.filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            u128::from_str_radix(&name, 16).ok().map(GroupId)
        });
        Ok(names.collect())
    }

    /// Waits until what was taken in is on disk and stops the threads. After
    /// it, everything answers that the storage is closed.
    pub async fn close(&self) {
        self.inner.budget.close();
        self.inner.readers.close();
        self.inner.scans.close();
        self.inner.commands.lock().take();
        self.inner.sealings.lock().take();
        let threads = std::mem::take(&mut *self.inner.threads.lock());
        let groups = Arc::clone(&self.inner.groups);
        let joined = tokio::task::spawn_blocking(move || {
            // The sealer ends when nobody can send to it any more: first
            // the committer must have ended.
            let mut threads = threads.into_iter();
            let _ = threads.next().map(JoinHandle::join);
            groups.sealings.lock().take();
            let _ = threads.next().map(JoinHandle::join);
        });
        let _ = joined.await;
    }

    async fn command(&self, command: Command) -> Result<(), ()> {
        let sender = self.inner.commands.lock().clone();
        sender.ok_or(())?.send(command).await.map_err(|_| ())
    }

    /// Runs a reader on the blocking pool, few at a time.
    async fn read<T: Send + 'static>(
        &self,
        group: GroupId,
        read: impl FnOnce(&Group) -> Result<T, LogFileError> + Send + 'static,
    ) -> Result<T, ReadLogsError> {
        let permit = Arc::clone(&self.inner.readers).acquire_owned().await;
        let permit = permit.map_err(|_| ReadLogsError::Closed)?;
        let groups = Arc::clone(&self.inner.groups);
        let done = tokio::task::spawn_blocking(move || {
            // Held by the reader, not by the caller, who may go away.
            let _permit = permit;
            let group = groups.get(group)?;
            read(&group)
        });
        match done.await {
            Ok(done) => Ok(done?),
            Err(_) => Err(ReadLogsError::Closed),
        }
    }
}

/// Whether the active segment holds events that are expired.
fn has_old(group: &Group, expire_before: i64) -> bool {
    let state = group.state.read();
    let Some(active) = &state.active else { return false };
    active.streams.values().any(|s| s.last_event_at < expire_before)
}
