//! The journal on one machine: a `redb` file used as a log.
//!
//! Keys only grow, so a commit touches the end of the tree; redb gives
//! atomic commits, page checksums and crash recovery. Always durable
//! commits: bursts of non-durable ones let the file grow.

use std::path::Path;

use parking_lot::{Mutex, MutexGuard};
use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, StorageBackend,
    TableDefinition, backends::FileBackend,
};

use super::{Journal, ReplayError, SeeFrame};
use crate::JournalError;

const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const TRIMMED: &str = "trimmed";

/// redb's page cache. The log is written once and read once, so a small
/// cache is as good as redb's default of 1 GiB.
const CACHE_BYTES: usize = 4 << 20;

/// Frames deleted per transaction of a trim: the committer waits at most
/// for one such transaction.
const TRIM_STEP: usize = 512;

/// A [`Journal`] in a `redb` file.
#[derive(Debug)]
pub struct RedbJournal {
    database: Database,
    /// Held while writing; what failed first, after which nothing is
    /// written. redb itself would only say that something had failed.
    failed: Mutex<Option<String>>,
}

impl RedbJournal {
    /// Opens or makes the file at `path`.
    pub fn open(path: &Path) -> Result<RedbJournal, JournalError> {
        use std::os::unix::fs::OpenOptionsExt;
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600) // rows hold what callers gave us, secrets included
            .open(path)
            .map_err(|source| failed("open", source))?;
        let backend =
            FileBackend::new(file).map_err(|source| failed("open", source))?;
        RedbJournal::with_backend(backend)
    }

    /// Opens or makes a journal on any storage; tests put faults there.
    pub fn with_backend(
        backend: impl StorageBackend,
    ) -> Result<RedbJournal, JournalError> {
        RedbJournal::prepare(builder().create_with_backend(backend))
    }

    fn prepare(
        database: Result<Database, DatabaseError>,
    ) -> Result<RedbJournal, JournalError> {
        let database = database.map_err(|e| failed("open", e))?;
        let journal = RedbJournal { database, failed: Mutex::new(None) };
        journal.make_tables().map_err(|e| failed("prepare", e))?;
        Ok(journal)
    }

    fn make_tables(&self) -> Result<(), redb::Error> {
        let read = self.database.begin_read()?;
        if read.open_table(LOG).is_ok() && read.open_table(META).is_ok() {
            return Ok(());
        }
        let write = self.database.begin_write()?;
        write.open_table(LOG)?;
        write.open_table(META)?;
        write.commit()?;
        Ok(())
    }

    /// Writes, unless writing failed before.
    fn guarded<T>(
        &self,
        action: &'static str,
        write: impl FnOnce() -> Result<T, redb::Error>,
    ) -> Result<T, JournalError> {
        let mut earlier = self.failed.lock();
        let result = match &*earlier {
            Some(earlier) => Err(failed(action, Earlier(earlier.clone()))),
            None => write().map_err(|error| {
                *earlier = Some(error.to_string());
                failed(action, error)
            }),
        };
        // Committer and trim take turns.
        MutexGuard::unlock_fair(earlier);
        result
    }

    fn try_append(
        &self,
        revision: u64,
        frame: &[u8],
    ) -> Result<(), redb::Error> {
        let write = self.database.begin_write()?;
        write.open_table(LOG)?.insert(revision, frame)?;
        write.commit()?;
        Ok(())
    }

    /// Deletes some frames; gives whether there may be more.
    fn try_trim(&self, through: u64) -> Result<bool, redb::Error> {
        let write = self.database.begin_write()?;
        let more = {
            let mut log = write.open_table(LOG)?;
            let mut deleted = 0;
            let step = log.extract_from_if(..=through, |_, _| true)?;
            for frame in step.take(TRIM_STEP) {
                frame?;
                deleted += 1;
            }
            deleted == TRIM_STEP
        };
        {
            let mut meta = write.open_table(META)?;
            let before = meta.get(TRIMMED)?.map_or(0, |v| v.value());
            meta.insert(TRIMMED, before.max(through))?;
        }
        write.commit()?;
        Ok(more)
    }

    fn try_trimmed(&self) -> Result<u64, redb::Error> {
        let read = self.database.begin_read()?;
        let meta = read.open_table(META)?;
        Ok(meta.get(TRIMMED)?.map_or(0, |value| value.value()))
    }
}

impl Journal for RedbJournal {
    fn append(&self, revision: u64, frame: &[u8]) -> Result<(), JournalError> {
        self.guarded("append to", || self.try_append(revision, frame))
    }

    fn replay(
        &self,
        after: u64,
        see: &mut SeeFrame<'_>,
    ) -> Result<(), ReplayError> {
        let read_error =
            |e: redb::Error| ReplayError::Journal(failed("read", e));
        let read =
            self.database.begin_read().map_err(|e| read_error(e.into()))?;
        let log = read.open_table(LOG).map_err(|e| read_error(e.into()))?;
        let Some(first) = after.checked_add(1) else { return Ok(()) };
        let frames = log.range(first..).map_err(|e| read_error(e.into()))?;
        for frame in frames {
            let (revision, frame) = frame.map_err(|e| read_error(e.into()))?;
            let revision = revision.value();
            see(revision, frame.value())
                .map_err(|source| ReplayError::Frame { revision, source })?;
        }
        Ok(())
    }

    fn trim(&self, through: u64) -> Result<(), JournalError> {
        while self.guarded("trim", || self.try_trim(through))? {}
        Ok(())
    }

    fn trimmed(&self) -> Result<u64, JournalError> {
        self.try_trimmed().map_err(|e| failed("read", e))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("it failed before: {0}")]
struct Earlier(String);

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

fn failed(
    action: &'static str,
    source: impl std::error::Error + Send + Sync + 'static,
) -> JournalError {
    JournalError { action, source: Box::new(source) }
}
