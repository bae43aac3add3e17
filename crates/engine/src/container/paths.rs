//! Where a container's files are.
//!
//! Two directories: `root/<id>` on a disk holds what must outlive a restart
//! of the machine (specification, log segments, the written layer, the exit);
//! `run/<id>` in memory holds what must not (mount point, socket, runtime
//! state).

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ContainerId;

/// Largest of the engine's own JSON files; a specification is the largest.
const JSON_MAX_BYTES: u64 = 4 << 20;

#[derive(Clone, Debug)]
pub(crate) struct ContainerPaths {
    pub(crate) root: PathBuf,
    pub(crate) run: PathBuf,
}

impl ContainerPaths {
    pub(crate) fn new(root: &Path, run: &Path, id: &ContainerId) -> Self {
        ContainerPaths {
            root: root.join(id.as_str()),
            run: run.join(id.as_str()),
        }
    }

    pub(crate) fn spec(&self) -> PathBuf {
        self.root.join("spec.json")
    }
    pub(crate) fn upper(&self) -> PathBuf {
        self.root.join("upper")
    }
    pub(crate) fn work(&self) -> PathBuf {
        self.root.join("work")
    }
    pub(crate) fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }
    pub(crate) fn kept_exit(&self) -> PathBuf {
        self.root.join(KEPT_EXIT)
    }
    pub(crate) fn rootfs(&self) -> PathBuf {
        self.run.join("rootfs")
    }
    pub(crate) fn config(&self) -> PathBuf {
        self.run.join("config.json")
    }
    pub(crate) fn launch(&self) -> PathBuf {
        self.run.join("launch.json")
    }
    pub(crate) fn running(&self) -> PathBuf {
        self.run.join("running.json")
    }
    pub(crate) fn exit(&self) -> PathBuf {
        self.run.join("exit.json")
    }
    pub(crate) fn runtime(&self) -> PathBuf {
        self.run.join("oci")
    }
}

/// The end of a container, kept on the disk.
pub(crate) const KEPT_EXIT: &str = "exit.json";
/// The shim's socket, inside the run directory.
pub(crate) const SOCKET: &str = "shim.sock";

/// Replaces a file as a whole: other processes see the old or the new one.
pub(crate) fn write_json(
    path: &Path,
    value: &impl Serialize,
) -> io::Result<()> {
    write_json_with(path, value, false)
}

/// As `write_json`, and on the disk when it returns.
pub(crate) fn write_json_durably(
    path: &Path,
    value: &impl Serialize,
) -> io::Result<()> {
    write_json_with(path, value, true)
}

fn write_json_with(
    path: &Path,
    value: &impl Serialize,
    durable: bool,
) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    if durable {
        file.sync_all()?;
    }
    fs::rename(&new, path)?;
    if let Some(parent) = path.parent().filter(|_| durable) {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

/// Reads a JSON file; `None` if there is none.
pub(crate) fn read_json<T: DeserializeOwned>(
    path: &Path,
) -> io::Result<Option<T>> {
    match fs::metadata(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
        Ok(data) if data.len() > JSON_MAX_BYTES => {
            return Err(io::Error::new(ErrorKind::FileTooLarge, "JSON file"));
        }
        Ok(_) => {}
    }
    let bytes = fs::read(path)?;
    Ok(Some(serde_json::from_slice(&bytes)?))
}
