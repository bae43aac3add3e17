//! The agent's files: one small durable file for each task.
//!
//! A file is replaced whole (written beside, synced, renamed), so it is
//! either the old or the new one, whenever the agent is killed.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::task::record::{FORMAT, TaskRecord};

/// A task's file is larger only if something is wrong: a definition has at
/// most 64 KiB, and reports are bounded by the number of containers.
const RECORD_BYTES_MAX: u64 = 8 << 20;

/// Whether a file must survive a power loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sync {
    /// It must.
    Yes,
    /// A killed agent is all it must survive.
    No,
}

/// Why a task's file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadTaskError {
    /// The system says so.
    #[error("could not read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not a task's.
    #[error("{} is not a task", .path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// It is a newer agent's.
    #[error("{} has format {format}; this agent knows {FORMAT}", .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
}

/// The files of all tasks.
#[derive(Clone, Debug)]
pub struct TaskFiles {
    dir: PathBuf,
}

impl TaskFiles {
    /// The files below `<agent dir>/tasks`.
    pub fn open(agent_dir: &Path) -> io::Result<TaskFiles> {
        let dir = agent_dir.join("tasks");
        fs::create_dir_all(&dir)?;
        Ok(TaskFiles { dir })
    }

    /// A task's directory.
    pub fn task_dir(&self, id: &str) -> PathBuf {
        self.dir.join(id)
    }

    /// Keeps a task's record; when this returns, it survives a power loss.
    pub async fn save(&self, id: &str, record: &TaskRecord) -> io::Result<()> {
        let bytes = serde_json::to_vec(record)?;
        replace_file(self.task_dir(id).join("task.json"), bytes, Sync::Yes)
            .await
    }

    /// Forgets a task and its files.
    pub async fn remove(&self, id: &str) -> io::Result<()> {
        match tokio::fs::remove_dir_all(self.task_dir(id)).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// All tasks there are, and the files that are not what they should be.
    pub fn load(&self) -> io::Result<(Vec<TaskRecord>, Vec<LoadTaskError>)> {
        let mut records = vec![];
        let mut errors = vec![];
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path().join("task.json");
            match load_record(&path) {
                Ok(Some(record)) => records.push(record),
                // Killed before the first save: nobody was told of it.
                Ok(None) => {}
                Err(error) => errors.push(error),
            }
        }
        Ok((records, errors))
    }
}

fn load_record(path: &Path) -> Result<Option<TaskRecord>, LoadTaskError> {
    let read = |source| LoadTaskError::Read { path: path.into(), source };
    let length = match fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(None);
        }
        Err(error) => return Err(read(error)),
    };
    if length > RECORD_BYTES_MAX {
        return Err(read(io::Error::other("the file is too large")));
    }
    let bytes = fs::read(path).map_err(read)?;
    let record: TaskRecord = serde_json::from_slice(&bytes)
        .map_err(|source| LoadTaskError::Parse { path: path.into(), source })?;
    if record.format > FORMAT {
        return Err(LoadTaskError::Format {
            path: path.into(),
            format: record.format,
        });
    }
    Ok(Some(record))
}

/// Replaces a file whole.
pub(crate) async fn replace_file(
    path: PathBuf,
    bytes: Vec<u8>,
    sync: Sync,
) -> io::Result<()> {
    let work = move || replace_file_now(&path, &bytes, sync);
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

fn replace_file_now(path: &Path, bytes: &[u8], sync: Sync) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(dir)?;
    let beside = path.with_extension("tmp");
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    if sync == Sync::Yes {
        file.sync_all()?;
    }
    drop(file);
    fs::rename(&beside, path)?;
    if sync == Sync::Yes {
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}
