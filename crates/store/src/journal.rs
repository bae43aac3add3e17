//! Where commits become durable.

mod redb;

pub use self::redb::RedbJournal;

use crate::{FrameError, JournalError};

/// Looks at a frame and the revision it is stored under.
pub type SeeFrame<'a> = dyn FnMut(u64, &[u8]) -> Result<(), FrameError> + 'a;

/// An append-only log of frames, each stored under the revision of its last
/// transaction.
///
/// One thread appends; another may trim at the same time.
pub trait Journal: Send + Sync + 'static {
    /// Makes a frame durable. When this returns `Ok` the frame survives a
    /// power cut; when it fails it may or may not, but never in part.
    fn append(&self, revision: u64, frame: &[u8]) -> Result<(), JournalError>;

    /// Shows every frame stored under a revision above `after`, in order.
    fn replay(
        &self,
        after: u64,
        see: &mut SeeFrame<'_>,
    ) -> Result<(), ReplayError>;

    /// Deletes the frames stored under `through` and before. What was
    /// deleted when it fails half-way is a prefix.
    fn trim(&self, through: u64) -> Result<(), JournalError>;

    /// The highest revision ever given to [`Journal::trim`]; 0 if none was.
    fn trimmed(&self) -> Result<u64, JournalError>;
}

/// Why a replay ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The journal could not be read.
    #[error("could not read the journal")]
    Journal(#[source] JournalError),
    /// The one who looks found a frame unusable.
    #[error("the frame at revision {revision} is damaged")]
    Frame {
        /// Revision under which the frame is stored.
        revision: u64,
        /// What is wrong with it.
        source: FrameError,
    },
}
