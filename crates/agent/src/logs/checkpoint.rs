//! How far a container's log has reached its destination.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::batch::Mark;
use crate::runtime::LogPosition;

/// A place in a log, kept on disk after each batch that arrived.
///
/// It names the last event before the place by its time, and how many before
/// it have the same one. A batch may have arrived without the checkpoint
/// being written; how many events that was is then counted in the stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) position: Option<LogPosition>,
    pub(crate) last_ms: i64,
    pub(crate) same_ms: u64,
}

impl Checkpoint {
    pub(crate) fn of(mark: &Mark) -> Checkpoint {
        Checkpoint {
            position: mark.position.clone(),
            last_ms: mark.last_ms,
            same_ms: mark.same_ms,
        }
    }

    /// Reads it; a missing or broken one is the beginning.
    ///
    /// Broken ones do not come from a killed agent (files are replaced whole)
    /// and from the beginning nothing is lost: what arrived is counted.
    pub(crate) async fn load(path: &Path) -> Checkpoint {
        match tokio::fs::read(path).await {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
            Err(_) => Checkpoint::default(),
        }
    }

    /// Replaces it. Not synced: after a power loss no container is left, and
    /// counting in the stream finds the place again.
    pub(crate) async fn save(&self, path: PathBuf) -> std::io::Result<()> {
        let bytes = serde_json::to_vec(self)?;
        crate::store::replace_file(path, bytes, crate::store::Sync::No).await
    }
}
