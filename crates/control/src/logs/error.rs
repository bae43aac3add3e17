//! What can go wrong, one enum per operation.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Why a file of the log storage could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogFileError {
    /// The system refused.
    #[error("could not {action} {}", .path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The content is not what was written.
    #[error("{} is damaged at byte {at}: {what}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        at: u64,
        /// What is wrong.
        what: &'static str,
    },
}

impl LogFileError {
    pub(super) fn io(
        action: &'static str,
        path: &std::path::Path,
    ) -> impl FnOnce(io::Error) -> LogFileError {
        let path = path.to_owned();
        move |source| LogFileError::Io { action, path, source }
    }
}

/// Why the log storage could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenLogsError {
    /// The directory could not be made or read.
    #[error("could not open the log storage")]
    Directory(#[source] LogFileError),
    /// A thread could not be started.
    #[error("could not start a thread of the log storage")]
    Thread(#[source] io::Error),
}

/// Why events were not kept.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum AppendLogsError {
    /// The group's files cannot be used.
    #[error("could not use the log group's files")]
    File(#[source] Arc<LogFileError>),
    /// An earlier fsync of the group's active segment failed: what is on disk
    /// is unknown until it is read again after a restart.
    #[error("the log group takes no more events: {reason}")]
    Stopped {
        /// What failed.
        reason: Arc<str>,
    },
    /// The storage is closed.
    #[error("the log storage is closed")]
    Closed,
}

/// Why events could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ReadLogsError {
    /// A file cannot be read, or not as what it should be.
    #[error("could not read the log group's files")]
    File(#[from] LogFileError),
    /// The storage is closed.
    #[error("the log storage is closed")]
    Closed,
}

impl From<ReadLogsError> for DeleteLogsError {
    fn from(error: ReadLogsError) -> DeleteLogsError {
        match error {
            ReadLogsError::File(error) => DeleteLogsError::File(error),
            ReadLogsError::Closed => DeleteLogsError::Closed,
        }
    }
}

/// Why a group was not deleted or swept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum DeleteLogsError {
    /// The files cannot be removed.
    #[error("could not remove the log group's files")]
    File(#[from] LogFileError),
    /// The storage is closed.
    #[error("the log storage is closed")]
    Closed,
}
