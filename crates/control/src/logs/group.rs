//! A log group's segments and what is known of its streams.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use super::active::{ActiveIndex, Streams, join};
use super::error::LogFileError;
use super::sealed::SealedSegment;
use super::{GroupId, StreamId, StreamStats, active, sealed};

/// A group whose directory has been read.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) id: GroupId,
    pub(super) directory: PathBuf,
    pub(super) state: RwLock<GroupState>,
    /// Held while sealed files are made or removed.
    pub(super) sealing: Mutex<()>,
}

/// The segments of a group. The committer alone replaces `active`; the
/// sealer alone takes from `frozen` and changes `sealed`.
#[derive(Debug, Default)]
pub(super) struct GroupState {
    pub(super) sealed: BTreeMap<u64, Arc<SealedSegment>>,
    /// Full, waiting to be sealed.
    pub(super) frozen: BTreeMap<u64, Arc<ActiveIndex>>,
    pub(super) active: Option<ActiveIndex>,
    /// Why nothing more is written, after a failed fsync.
    pub(super) stopped: Option<Arc<str>>,
    pub(super) deleted: bool,
    /// Number and last sequence of the newest segment that was removed.
    last_forgotten: (u64, u64),
}

impl Group {
    /// Reads a group's directory; a missing one is an empty group.
    pub(super) fn open(
        root: &Path,
        id: GroupId,
    ) -> Result<Group, LogFileError> {
        let directory = root.join(id.to_string());
        let mut state = GroupState::default();
        let mut logs = vec![];
        for (number, kind) in files(&directory)? {
            match kind {
                Kind::Sealed => {
                    let segment = SealedSegment::open(&directory, number)?;
                    state.sealed.insert(number, Arc::new(segment));
                }
                Kind::Active => logs.push(number),
                Kind::Temporary => {
                    // A sealing that a crash cut short.
                    remove(&directory.join(format!("{number:010}.tmp")))?;
                }
            }
        }
        logs.sort_unstable();
        let newest = logs.last().copied();
        for number in logs {
            if state.sealed.contains_key(&number) {
                // Sealed, but the crash came before the log was removed.
                remove(&active::path_of(&directory, number))?;
                continue;
            }
            let index = ActiveIndex::recover(&directory, number)?;
            if Some(number) == newest {
                state.active = Some(index);
            } else {
                state.frozen.insert(number, Arc::new(index));
            }
        }
        let next = state.next_sequence();
        if let Some(active) = &mut state.active {
            active.next_sequence = active.next_sequence.max(next);
        }
        let state = RwLock::new(state);
        Ok(Group { id, directory, state, sealing: Mutex::new(()) })
    }

    /// Makes sure there is an active segment; for the committer only.
    pub(super) fn ensure_active(&self) -> Result<(), LogFileError> {
        let (number, next) = {
            let state = self.state.read();
            if state.active.is_some() {
                return Ok(());
            }
            (state.next_number(), state.next_sequence())
        };
        std::fs::create_dir_all(&self.directory)
            .map_err(LogFileError::io("create", &self.directory))?;
        if let Some(root) = self.directory.parent() {
            active::sync_directory(root)?;
        }
        let index = ActiveIndex::create(&self.directory, number, next)?;
        self.state.write().active = Some(index);
        Ok(())
    }

    /// Freezes the active segment, so that the sealer may have it.
    pub(super) fn freeze(&self) -> Option<u64> {
        let mut state = self.state.write();
        let index = state.active.take()?;
        if index.streams.is_empty() {
            state.active = Some(index);
            return None;
        }
        let number = index.number;
        state.frozen.insert(number, Arc::new(index));
        Some(number)
    }

    /// Statistics of every stream that has events.
    pub(super) fn streams(&self) -> Streams {
        let state = self.state.read();
        let mut all = Streams::new();
        for streams in state.all_streams() {
            for (id, stats) in streams {
                join(&mut all, *id, *stats);
            }
        }
        all
    }

    /// Statistics of some streams.
    pub(super) fn streams_of(
        &self,
        wanted: &[StreamId],
    ) -> BTreeMap<StreamId, StreamStats> {
        let state = self.state.read();
        let mut found = Streams::new();
        for streams in state.all_streams() {
            for id in wanted {
                if let Some(stats) = streams.get(id) {
                    join(&mut found, *id, *stats);
                }
            }
        }
        found
    }

    /// Bytes as CloudWatch Logs counts them.
    pub(super) fn stored_bytes(&self) -> u64 {
        let state = self.state.read();
        state
            .all_streams()
            .flat_map(|streams| streams.values())
            .map(|stats| stats.bytes)
            .sum()
    }
}

impl GroupState {
    fn all_streams(&self) -> impl Iterator<Item = &Streams> {
        let sealed = self.sealed.values().map(|segment| &segment.streams);
        let frozen = self.frozen.values().map(|index| &index.streams);
        let active = self.active.iter().map(|index| &index.streams);
        sealed.chain(frozen).chain(active)
    }

    /// Forgets a sealed segment, but not how far its group had counted.
    pub(super) fn forget_sealed(&mut self, number: u64) {
        if let Some(segment) = self.sealed.remove(&number) {
            self.last_forgotten.0 = self.last_forgotten.0.max(number);
            self.last_forgotten.1 =
                self.last_forgotten.1.max(segment.last_sequence);
        }
    }

    /// The newest segment that cannot change any more.
    pub(super) fn newest_sealed(&self) -> u64 {
        self.sealed.keys().next_back().copied().unwrap_or(0)
    }

    fn next_sequence(&self) -> u64 {
        let sealed = self.sealed.values().map(|s| s.last_sequence + 1);
        let frozen = self.frozen.values().map(|index| index.next_sequence);
        let active = self.active.iter().map(|index| index.next_sequence);
        let all = sealed.chain(frozen).chain(active).max().unwrap_or(1);
        all.max(self.last_forgotten.1 + 1)
    }

    fn next_number(&self) -> u64 {
        let sealed = self.sealed.keys().next_back();
        let frozen = self.frozen.keys().next_back();
        let last = sealed.max(frozen).copied().unwrap_or(0);
        last.max(self.last_forgotten.0) + 1
    }
}

enum Kind {
    Sealed,
    Active,
    Temporary,
}

/// The segments in a directory.
fn files(directory: &Path) -> Result<Vec<(u64, Kind)>, LogFileError> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(vec![]);
        }
        Err(error) => return Err(LogFileError::io("read", directory)(error)),
    };
    let mut found = vec![];
    for entry in entries {
        let entry = entry.map_err(LogFileError::io("read", directory))?;
        let name = entry.file_name();
        let Some((stem, kind)) =
            name.to_str().and_then(|name| name.split_once('.'))
        else {
            continue;
        };
        let kind = match kind {
            "seg" => Kind::Sealed,
            "log" => Kind::Active,
            "tmp" => Kind::Temporary,
            _ => continue,
        };
        if let Ok(number) = stem.parse() {
            found.push((number, kind));
        }
    }
    Ok(found)
}

/// Removes a file that may be gone already.
pub(super) fn remove(path: &Path) -> Result<(), LogFileError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(LogFileError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// Removes the files of a sealed segment.
pub(super) fn remove_sealed(
    directory: &Path,
    number: u64,
) -> Result<(), LogFileError> {
    remove(&sealed::path_of(directory, number))
}
