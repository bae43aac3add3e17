//! What can go wrong, one enum per operation.

use std::{io, path::PathBuf, sync::Arc};

use crate::{Key, ReadCheckpointError};

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenStoreError {
    /// The directory could not be made or read.
    #[error("could not use the store's directory {}", .path.display())]
    Directory {
        /// The directory or file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process (or another store in this one) has it open.
    #[error(
        "the store in {} is in use by process {holder}; only one may have it open",
        .path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Process id that the holder wrote, or "unknown".
        holder: String,
    },
    /// The journal could not be read.
    #[error("could not read the journal")]
    Journal(#[source] JournalError),
    /// The log has a frame that cannot be what was written.
    #[error("the journal's frame at revision {revision} is damaged")]
    Frame {
        /// Revision under which the frame is stored.
        revision: u64,
        /// What is wrong with it.
        source: FrameError,
    },
    /// The checkpoints could not be listed.
    #[error("could not look for checkpoints")]
    Checkpoints(#[source] io::Error),
    /// The checkpoint that the log goes on from cannot be used.
    #[error("could not use the checkpoint of revision {revision}")]
    Checkpoint {
        /// Its revision.
        revision: u64,
        /// Why.
        source: ReadCheckpointError,
    },
    /// Revisions are missing between checkpoint and log, or inside the log.
    #[error(
        "the journal has no changes between revision {have} and revision \
         {next}, so the state after {have} is not known"
    )]
    Gap {
        /// Last revision that could be restored.
        have: u64,
        /// First revision after it in the log.
        next: u64,
    },
    /// A table that this program does not know.
    #[error(
        "the store has rows of table {table}, which this version does not \
         know; was it written by a newer one?"
    )]
    UnknownTable {
        /// The table's name.
        table: String,
    },
    /// A row of a newer version than this program's.
    #[error(
        "row {key} of table {table} has version {found}; this version of the \
         program knows up to {known}"
    )]
    NewerRow {
        /// The row's table.
        table: &'static str,
        /// The row's key.
        key: Key,
        /// Version found.
        found: u16,
        /// Newest version known.
        known: u16,
    },
    /// An older row could not be brought to today's shape.
    #[error("could not migrate row {key} of table {table} from version {from}")]
    Migrate {
        /// The row's table.
        table: &'static str,
        /// The row's key.
        key: Key,
        /// The version that could not be left.
        from: u16,
        /// Why.
        source: MigrateRowError,
    },
    /// A row's JSON does not fit its type.
    #[error("could not decode row {key} of table {table}")]
    Row {
        /// The row's table.
        table: &'static str,
        /// The row's key.
        key: Key,
        /// What does not fit.
        source: serde_json::Error,
    },
    /// A row's key changed in a migration to one that is taken.
    #[error("two rows of table {table} have the key {key} after migration")]
    Collision {
        /// The row's table.
        table: &'static str,
        /// The key both have.
        key: Key,
    },
    /// The committer thread could not be started.
    #[error("could not start the store's committer thread")]
    Thread(#[source] io::Error),
}

/// Why a row could not be brought to its table's version.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MigrateRowError {
    /// No migration from this version was registered.
    #[error("there is no migration from this version")]
    Missing,
    /// The JSON is not what the migration expects.
    #[error("{0}")]
    Shape(String),
    /// The JSON could not be read.
    #[error("the row is not JSON")]
    Json(#[source] serde_json::Error),
}

/// Why a frame of the log cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Fewer or more bytes than the frame says.
    #[error("its length is wrong")]
    Length,
    /// It does not begin as a frame does.
    #[error("it does not begin as a frame does")]
    Magic,
    /// It was written by a newer version.
    #[error("its format {found} is newer than the newest known, {known}")]
    Newer {
        /// Format found.
        found: u16,
        /// Newest format known.
        known: u16,
    },
    /// Its checksum does not match.
    #[error("its checksum does not match")]
    Checksum,
    /// The checksum matches but the content makes no sense.
    #[error("its content makes no sense at byte {at}")]
    Content {
        /// Where reading failed.
        at: usize,
    },
}

/// Why the journal failed. After a failed append or trim the store takes no
/// more writes: what a failed fsync left on disk is unknown.
#[derive(Debug, thiserror::Error)]
#[error("could not {action} the journal")]
pub struct JournalError {
    /// What was being done: "append to", "read".
    pub action: &'static str,
    /// What the storage said.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Why the store did not do a transaction.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The store takes no more writes: the journal failed, or it was closed.
    ///
    /// A transaction that was under way when the journal failed may or may
    /// not be found after a restart; it was never visible before.
    #[error("the store takes no more writes: {reason}")]
    Stopped {
        /// Why it stopped.
        reason: Arc<str>,
    },
    /// The transaction's closure panicked; nothing was changed.
    #[error("the transaction panicked: {message}")]
    Panicked {
        /// The panic's message.
        message: String,
    },
    /// A row could not be written as JSON; nothing was changed.
    #[error("could not encode row {key} of table {table}")]
    Encode {
        /// The row's table.
        table: &'static str,
        /// The row's key.
        key: Key,
        /// What JSON cannot express.
        source: Arc<serde_json::Error>,
    },
    /// A row's key is too long; nothing was changed.
    #[error("a key of table {table} has {bytes} bytes; at most {limit} fit")]
    KeyTooLong {
        /// The row's table.
        table: &'static str,
        /// Length of the key.
        bytes: usize,
        /// Longest allowed.
        limit: usize,
    },
    /// The transaction is too large; nothing was changed.
    #[error("the transaction has {bytes} bytes; at most {limit} fit in one")]
    TooLarge {
        /// Size of the transaction.
        bytes: usize,
        /// Largest allowed.
        limit: usize,
    },
}

/// Why a transaction did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransactError<E> {
    /// The closure refused; nothing was changed.
    #[error("the transaction was refused")]
    Refused(E),
    /// The store could not do it.
    #[error("the store could not do the transaction")]
    Store(#[source] StoreError),
}

impl<E> TransactError<E> {
    /// The closure's error, with the store's own made into one.
    pub fn flatten(self, store: impl FnOnce(StoreError) -> E) -> E {
        match self {
            TransactError::Refused(error) => error,
            TransactError::Store(error) => store(error),
        }
    }
}

impl PartialEq for StoreError {
    fn eq(&self, other: &StoreError) -> bool {
        // serde_json's errors do not compare; their texts do.
        self.to_string() == other.to_string()
    }
}

impl Eq for StoreError {}

/// An error with its sources, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        source = error.source();
    }
    text
}
