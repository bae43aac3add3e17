//! Which image layers containers stand on.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::paths::read_json;
use super::spec::ContainerSpec;

/// Layers of every container below `root`, running or not, read from their
/// specifications: also from a process that is not the engine's daemon.
pub fn layers_in_use(root: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(vec![]);
        }
        Err(error) => return Err(error),
    };
    let mut layers = BTreeSet::new();
    for entry in entries {
        let path = entry?.path().join("spec.json");
        match read_json::<ContainerSpec>(&path) {
            Ok(Some(spec)) => layers.extend(spec.layers),
            // Removed in the meantime, or not a container's directory.
            Ok(None) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(layers.into_iter().collect())
}
