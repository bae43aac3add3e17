//! The agent's files: one small durable file for each task.
//!
//! A file is replaced whole (written beside, synced, renamed), so it is
//! either the old or the new one, whenever the agent is killed.
//!
//! Beside the durable file of a task there may be a newer one that was not
//! synced: how far the task has come. A killed agent finds it; a power loss
//! may take or break it, and then it is of no use, because nothing runs. A
//! task comes far within a fraction of a second, and a file system takes
//! longer to make a new file than to write it: each step is a line at the end
//! of the same file, and the last whole one counts.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::task::record::{FORMAT, TaskRecord};

/// A task's file is larger only if something is wrong: a definition has at
/// most 64 KiB, and reports are bounded by the number of containers.
const RECORD_BYTES_MAX: u64 = 8 << 20;

/// The file that survives a power loss.
const DURABLE: &str = "task.json";
/// The newer one that may not: a record on each line.
const PROGRESS: &str = "progress.json";

/// A file of steps that would become larger is begun anew.
const PROGRESS_BYTES_MAX: u64 = 256 << 10;

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

    /// Keeps a task's record: for good, or as long as the machine runs.
    pub(crate) async fn save(
        &self,
        id: &str,
        record: &TaskRecord,
        sync: Sync,
    ) -> io::Result<()> {
        let bytes = serde_json::to_vec(record)?;
        let dir = self.task_dir(id);
        match sync {
            Sync::Yes => replace_file(dir.join(DURABLE), bytes, sync).await,
            Sync::No => {
                let work = move || append_line(&dir.join(PROGRESS), bytes);
                let done = tokio::task::spawn_blocking(work).await;
                done.map_err(io::Error::other)?
            }
        }
    }

    /// Forgets a task and its files.
    pub async fn remove(&self, id: &str) -> io::Result<()> {
        let dir = self.task_dir(id);
        let work = move || minato_engine::tree::remove(&dir);
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(io::Error::other)?
    }

    /// All tasks there are, and the files that are not what they should be.
    pub fn load(&self) -> io::Result<(Vec<TaskRecord>, Vec<LoadTaskError>)> {
        let mut records = vec![];
        let mut errors = vec![];
        for entry in fs::read_dir(&self.dir)? {
            let dir = entry?.path();
            match load_record(&dir.join(DURABLE)) {
                Ok(Some(record)) => {
                    // Whatever is wrong with it, the durable one stands.
                    let newer = load_progress(&dir.join(PROGRESS))
                        .filter(|newer| newer.saves > record.saves);
                    records.push(newer.unwrap_or(record));
                }
                // Killed before the first save: nobody was told of it.
                Ok(None) => {}
                Err(error) => errors.push(error),
            }
        }
        Ok((records, errors))
    }
}

/// The last whole step of a file of them.
fn load_progress(path: &Path) -> Option<TaskRecord> {
    let bytes = read_bounded(path).ok()??;
    let mut lines = bytes.rsplit(|byte| *byte == b'\n');
    lines.find_map(|line| {
        let record: TaskRecord = serde_json::from_slice(line).ok()?;
        (record.format <= FORMAT).then_some(record)
    })
}

/// The bytes of a file, if it is there.
fn read_bounded(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let length = match fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    if length > RECORD_BYTES_MAX {
        return Err(io::Error::other("the file is too large"));
    }
    fs::read(path).map(Some)
}

fn load_record(path: &Path) -> Result<Option<TaskRecord>, LoadTaskError> {
    let read = |source| LoadTaskError::Read { path: path.into(), source };
    let Some(bytes) = read_bounded(path).map_err(read)? else {
        return Ok(None);
    };
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

/// Adds a line to a file. It begins with the newline, so that a line that
/// was cut off does not spoil this one.
fn append_line(path: &Path, mut line: Vec<u8>) -> io::Result<()> {
    line.insert(0, b'\n');
    let open = || OpenOptions::new().append(true).create(true).open(path);
    let mut file = match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
            open()?
        }
        opened => opened?,
    };
    let length = file.metadata()?.len() + line.len() as u64;
    if length > PROGRESS_BYTES_MAX {
        return replace_file_now(path, &line, Sync::No);
    }
    file.write_all(&line)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn record(saves: u64) -> TaskRecord {
        serde_json::from_value(serde_json::json!({
            "format": FORMAT, "saves": saves, "boot_id": "b", "payload": {},
            "desired": "RUNNING", "reported": "PENDING"
        }))
        .unwrap()
    }

    #[tokio::test]
    async fn the_newer_of_two_files_counts_and_a_broken_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let files = TaskFiles::open(dir.path()).unwrap();
        let loaded = || {
            let (records, errors) = files.load().unwrap();
            assert!(errors.is_empty(), "{errors:?}");
            records.iter().map(|record| record.saves).collect::<Vec<_>>()
        };
        files.save("t", &record(1), Sync::Yes).await.unwrap();
        assert_eq!(loaded(), [1]);
        files.save("t", &record(2), Sync::No).await.unwrap();
        assert_eq!(loaded(), [2]);
        files.save("t", &record(3), Sync::Yes).await.unwrap();
        assert_eq!(loaded(), [3], "the progress is older now");
        // What a power loss may leave of a file that was not synced.
        let progress = files.task_dir("t").join(PROGRESS);
        for left in ["", "{\"saves\": 9"] {
            fs::write(&progress, left).unwrap();
            assert_eq!(loaded(), [3]);
        }
        // A step that was cut off does not spoil the one before it, nor the
        // one after.
        files.save("t", &record(4), Sync::No).await.unwrap();
        let mut file = OpenOptions::new().append(true).open(&progress).unwrap();
        file.write_all(b"\n{\"saves\": 5").unwrap();
        assert_eq!(loaded(), [4]);
        files.save("t", &record(6), Sync::No).await.unwrap();
        assert_eq!(loaded(), [6]);
        // A task without its durable file was never told of.
        files.save("u", &record(1), Sync::No).await.unwrap();
        assert_eq!(loaded(), [6]);
    }

    #[tokio::test]
    async fn a_file_of_steps_does_not_grow_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let files = TaskFiles::open(dir.path()).unwrap();
        files.save("t", &record(1), Sync::Yes).await.unwrap();
        let progress = files.task_dir("t").join(PROGRESS);
        let mut lengths = vec![];
        let mut saves = 1;
        while lengths.is_sorted() {
            saves += 1;
            files.save("t", &record(saves), Sync::No).await.unwrap();
            let length = fs::metadata(&progress).unwrap().len();
            assert!(length <= PROGRESS_BYTES_MAX);
            lengths.push(length);
        }
        let (records, _) = files.load().unwrap();
        assert_eq!(records[0].saves, saves);
        assert!(saves > 100, "after {saves} steps");
        // What an agent before this one wrote: one record, and no newline.
        let old = serde_json::to_vec(&record(saves + 1)).unwrap();
        fs::write(&progress, old).unwrap();
        assert_eq!(files.load().unwrap().0[0].saves, saves + 1);
        files.save("t", &record(saves + 2), Sync::No).await.unwrap();
        assert_eq!(files.load().unwrap().0[0].saves, saves + 2);
    }
}
