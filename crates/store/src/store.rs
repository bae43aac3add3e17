//! The store's handle.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::Path,
    sync::{Arc, OnceLock},
    thread::{self, JoinHandle},
};

use parking_lot::Mutex;
use rustix::fs::{Advice, fadvise};
use tokio::sync::mpsc;

use crate::{
    CheckpointDirectory, Checkpoints, OpenStoreError, RedbJournal, Snapshot,
    StoreError, Tables, TransactError, Tx, Watch,
    checkpoint::Checkpointer,
    commit::{CLOSED, Committer, Job, Message, Shared, job},
    journal::Journal,
    lock::DirectoryLock,
    recover::{self, LogSize, Recovered},
    watch::Feed,
};

/// Limits of a store; the defaults suit one machine.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StoreOptions {
    /// Transactions that may wait for the committer; further callers wait
    /// for a place. Some batches' worth keeps the committer busy.
    pub queue: usize,
    /// Commits that the watch ring keeps for watches that lag.
    pub watch_commits: usize,
    /// Changed rows that the watch ring keeps: a ring of huge commits must
    /// not hold the whole history in memory.
    pub watch_changes: usize,
    /// Frames in the log after which a checkpoint is made.
    pub checkpoint_frames: u64,
    /// Bytes in the log after which a checkpoint is made, or the size of the
    /// last one if that is more. What is in the log is read on every start:
    /// the benchmark `opening` shows what 16 MiB of it cost.
    pub checkpoint_bytes: u64,
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions {
            queue: 1024,
            watch_commits: 4096,
            watch_changes: 16_384,
            checkpoint_frames: 20_000,
            checkpoint_bytes: 16 << 20,
        }
    }
}

/// Tables in memory with a durable journal. Handles are cheap to clone; the
/// store closes when the last one is dropped.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    queue: mpsc::Sender<Message>,
    /// In a store without a thread of its own, whoever calls commits.
    inline: Mutex<Option<Committer>>,
    committer: Mutex<Option<JoinHandle<()>>>,
    shared: Arc<Shared>,
    /// Last, so that it is let go when all else is closed.
    lock: Mutex<Option<DirectoryLock>>,
}

impl Store {
    /// Opens a store in `directory`, which is made if it is missing.
    ///
    /// Blocks while it reads what is there.
    pub fn open_dir(
        directory: &Path,
        tables: Tables,
        options: StoreOptions,
    ) -> Result<Store, OpenStoreError> {
        let failed = |source| OpenStoreError::Directory {
            path: directory.to_owned(),
            source,
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(failed)?;
        let lock = DirectoryLock::take(directory)?;
        let file = directory.join("journal.redb");
        if lock.after_crash() {
            forget_cached(&file).map_err(failed)?;
        }
        let journal =
            RedbJournal::open(&file).map_err(OpenStoreError::Journal)?;
        // The file's name must survive a power cut as its content does.
        fs::File::open(directory).and_then(|d| d.sync_all()).map_err(failed)?;
        let checkpoints =
            CheckpointDirectory::open(directory).map_err(failed)?;
        let checkpoints: Arc<dyn Checkpoints> = Arc::new(checkpoints);
        let store = Store::open_with_checkpoints(
            Box::new(journal),
            Some(checkpoints),
            tables,
            options,
        )?;
        *store.inner.lock.lock() = Some(lock);
        Ok(store)
    }

    /// Opens a store on a journal that is never cut.
    pub fn open(
        journal: Box<dyn Journal>,
        tables: Tables,
        options: StoreOptions,
    ) -> Result<Store, OpenStoreError> {
        Store::open_with_checkpoints(journal, None, tables, options)
    }

    /// Opens a store on any journal, which is cut by checkpoints.
    pub fn open_with_checkpoints(
        journal: Box<dyn Journal>,
        checkpoints: Option<Arc<dyn Checkpoints>>,
        tables: Tables,
        options: StoreOptions,
    ) -> Result<Store, OpenStoreError> {
        let (committer, queue) =
            prepare(journal, checkpoints, tables, &options)?;
        let shared = committer.shared.clone();
        let committer = thread::Builder::new()
            .name("store-commit".to_owned())
            .spawn(move || committer.run())
            .map_err(OpenStoreError::Thread)?;
        Ok(Store::of(queue, Some(committer), None, shared))
    }

    /// Opens a store without a thread: every transaction is committed, alone,
    /// on the thread of its caller before the call gives an answer.
    ///
    /// For simulations, in which nothing may depend on how threads
    /// interleave. The journal is never cut.
    pub fn open_inline(
        journal: Box<dyn Journal>,
        tables: Tables,
        options: StoreOptions,
    ) -> Result<Store, OpenStoreError> {
        let (committer, queue) = prepare(journal, None, tables, &options)?;
        let shared = committer.shared.clone();
        Ok(Store::of(queue, None, Some(committer), shared))
    }

    fn of(
        queue: mpsc::Sender<Message>,
        committer: Option<JoinHandle<()>>,
        inline: Option<Committer>,
        shared: Arc<Shared>,
    ) -> Store {
        let inner = Inner {
            queue,
            inline: Mutex::new(inline),
            committer: Mutex::new(committer),
            shared,
            lock: Mutex::new(None),
        };
        Store { inner: Arc::new(inner) }
    }

    /// All tables as of the newest durable revision.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { state: self.inner.shared.feed.state.load_full() }
    }

    /// Runs `closure` on the newest state and answers when what it did is
    /// durable and visible to new snapshots. If it gives an error, nothing
    /// has changed.
    ///
    /// Waits for a place in the queue. A caller that stops waiting after
    /// that does not undo the transaction.
    pub async fn transact<T, E, F>(
        &self,
        closure: F,
    ) -> Result<T, TransactError<E>>
    where
        F: FnOnce(&mut Tx) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let (job, answer) = job(closure);
        let Some(job) = self.inner.commit_inline(job) else {
            return answer.await.unwrap_or_else(|_| Err(self.stopped()));
        };
        if self.inner.queue.send(Message::Transaction(job)).await.is_err() {
            return Err(self.stopped());
        }
        // The committer went away with the job undone.
        answer.await.unwrap_or_else(|_| Err(self.stopped()))
    }

    /// [`Store::transact`] for threads outside the async runtime.
    ///
    /// # Panics
    ///
    /// If called from async code, whose thread it would block.
    pub fn transact_blocking<T, E, F>(
        &self,
        closure: F,
    ) -> Result<T, TransactError<E>>
    where
        F: FnOnce(&mut Tx) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let (job, answer) = job(closure);
        let Some(job) = self.inner.commit_inline(job) else {
            return answer
                .blocking_recv()
                .unwrap_or_else(|_| Err(self.stopped()));
        };
        let message = Message::Transaction(job);
        if self.inner.queue.blocking_send(message).is_err() {
            return Err(self.stopped());
        }
        answer.blocking_recv().unwrap_or_else(|_| Err(self.stopped()))
    }

    /// A cursor that sees every commit after the newest snapshot of now.
    pub fn watch(&self) -> Watch {
        self.watch_from(&self.snapshot())
    }

    /// A cursor that sees every commit after `snapshot`.
    pub fn watch_from(&self, snapshot: &Snapshot) -> Watch {
        self.inner.shared.feed.watch(snapshot.revision())
    }

    /// Why the store takes no more writes, if so.
    pub fn stopped_reason(&self) -> Option<Arc<str>> {
        self.inner.shared.stopped.get().cloned()
    }

    /// Finishes what is queued, then takes no more writes and lets go of
    /// the directory. Snapshots stay readable. Blocks; may be repeated. Not
    /// for use inside a transaction, which it would wait for.
    pub fn close(&self) {
        if let Some(committer) = self.inner.inline.lock().take() {
            committer.end();
        }
        let Some(committer) = self.inner.committer.lock().take() else {
            return;
        };
        let queue = &self.inner.queue;
        // The queue may be full, and async code (which may call this at the
        // end of a program) may not block on it; a thread of its own may.
        thread::scope(|scope| {
            scope.spawn(|| queue.blocking_send(Message::Close));
        });
        let clean = committer.join().is_ok();
        self.inner.release(clean);
    }

    fn stopped<E>(&self) -> TransactError<E> {
        TransactError::Store(self.inner.shared.stopped().unwrap_or_else(|| {
            // Between the queue's end and the reason's setting.
            StoreError::Stopped { reason: CLOSED.into() }
        }))
    }
}

/// Reads what is there and readies a committer, and the queue before it.
fn prepare(
    journal: Box<dyn Journal>,
    checkpoints: Option<Arc<dyn Checkpoints>>,
    tables: Tables,
    options: &StoreOptions,
) -> Result<(Committer, mpsc::Sender<Message>), OpenStoreError> {
    let journal: Arc<dyn Journal> = Arc::from(journal);
    let schema = Arc::new(tables);
    let Recovered { state, log, checkpoint } =
        recover::recover(journal.as_ref(), checkpoints.as_deref(), &schema)?;
    let (feed, ringer) =
        Feed::new(state.clone(), options.watch_commits, options.watch_changes);
    let feed = Arc::new(feed);
    let shared = Arc::new(Shared { feed, stopped: OnceLock::new() });
    let limit = LogSize {
        frames: options.checkpoint_frames,
        bytes: options.checkpoint_bytes,
    };
    let checkpointer = checkpoints.map(|checkpoints| {
        Checkpointer::new(
            checkpoints,
            journal.clone(),
            shared.clone(),
            limit,
            log,
            checkpoint,
        )
    });
    let (sender, queue) = mpsc::channel(options.queue.max(1));
    let committer = Committer {
        shared: shared.clone(),
        journal,
        queue,
        ringer,
        state,
        checkpointer,
    };
    Ok((committer, sender))
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("state", &self.inner.shared.feed.state.load())
            .field("stopped", &self.inner.shared.stopped.get())
            .finish_non_exhaustive()
    }
}

/// Has the next reads of `file` come from the disk.
///
/// After a failed fsync Linux keeps the pages it could not write, as clean
/// ones: a new process would read, and build on, what is not on the disk.
fn forget_cached(file: &Path) -> io::Result<()> {
    let file = match fs::File::open(file) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    // Pages that are still dirty are kept by the advice, and are fine.
    file.sync_data()?;
    if let Err(error) = fadvise(&file, 0, None, Advice::DontNeed) {
        tracing::warn!(%error, "the journal's cached pages were kept");
    }
    Ok(())
}

impl Inner {
    /// Does `job` at once, or gives it back if a thread commits.
    fn commit_inline(&self, job: Job) -> Option<Job> {
        let mut inline = self.inline.lock();
        match inline.as_mut() {
            Some(committer) => {
                committer.commit_one(job);
                None
            }
            None => Some(job),
        }
    }

    /// Lets go of the directory, when nothing uses it any more.
    fn release(&self, clean: bool) {
        let lock = self.lock.lock().take();
        if clean
            && !self.shared.failed()
            && let Some(lock) = lock
        {
            lock.release_clean();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Dropping the sender ends the committer once its queue is empty.
        let (closed, _) = mpsc::channel(1);
        drop(std::mem::replace(&mut self.queue, closed));
        if let Some(committer) = self.committer.get_mut().take()
            // A closure may have owned the last handle.
            && committer.thread().id() != thread::current().id()
        {
            let clean = committer.join().is_ok();
            self.release(clean);
        }
    }
}
