//! Removing: whatever is left of a container, from whatever state.

use super::*;
use crate::container::RootfsError;
use crate::container::overlay::{remove_dir_all, unmount};
use crate::container::paths::read_json;

/// How long a killed container and its shim may take to be gone.
pub(super) const GONE_WITHIN: Duration = Duration::from_secs(10);
/// Prefix of a directory that is being deleted; no container id begins so.
pub(super) const REMOVING: &str = ".removing-";

impl Containers {
    /// Kills a container if it runs and removes all that is left of it, logs
    /// included. Removing one that does not exist is no error.
    pub async fn remove(&self, id: &ContainerId) -> Result<(), ContainerError> {
        let Some(entry) = self.entry(id) else { return Ok(()) };
        let _turn = entry.turn.lock().await;
        self.end(&entry).await;
        let (inner, owner) = (self.inner.clone(), entry.clone());
        blocking(move || inner.remove_files(&owner)).await.map_err(
            |source| ContainerError::Shim { id: id.clone(), source },
        )??;
        self.inner.entries.lock().remove(id);
        Ok(())
    }

    /// Gives back what an ended container still holds (mount, control group,
    /// written layer), killing it first if it runs. Its exit and its log stay
    /// until [`Containers::remove`]; one that never ran is removed.
    pub async fn release(
        &self,
        id: &ContainerId,
    ) -> Result<(), ContainerError> {
        let Some(entry) = self.entry(id) else { return Ok(()) };
        if matches!(*entry.state.borrow(), ContainerState::Created) {
            if !entry.paths.logs().exists() {
                return self.remove(id).await;
            }
            // It ran, and was to be started again.
            entry.log_signal.send_modify(|signal| signal.is_complete = true);
        }
        let _turn = entry.turn.lock().await;
        self.end(&entry).await;
        let (inner, owner) = (self.inner.clone(), entry.clone());
        blocking(move || inner.release_files(&owner))
            .await
            .map_err(|source| ContainerError::Shim { id: id.clone(), source })?
    }

    /// Kills a container and its shim, unless they have ended by themselves.
    pub(super) async fn end(&self, entry: &Entry) {
        let id = &entry.spec.id;
        let is_running =
            matches!(*entry.state.borrow(), ContainerState::Running(_));
        if is_running {
            let _ = self.signal(id, libc::SIGKILL).await;
            let ended = tokio::time::timeout(GONE_WITHIN, self.wait(id)).await;
            if ended.is_err() {
                self.inner.layout().kill(&entry.cgroup);
            }
        }
        let mut gone = entry.shim_gone.subscribe();
        let waited =
            tokio::time::timeout(GONE_WITHIN, gone.wait_for(|gone| *gone));
        if waited.await.is_err() {
            kill_shim(entry);
        }
    }
}

/// Kills a shim that does not go, if it is still that very process.
pub(super) fn kill_shim(entry: &Entry) {
    let running = read_json::<Running>(&entry.paths.running());
    if let Ok(Some(running)) = running
        && running.shim.is_alive()
    {
        let pid = nix::unistd::Pid::from_raw(running.shim.pid);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::SIGKILL);
    }
}

impl Inner {
    /// Removes control group, mount and directories, as far as they exist.
    pub(super) fn remove_files(
        &self,
        entry: &Entry,
    ) -> Result<(), ContainerError> {
        let id = || entry.spec.id.clone();
        self.layout()
            .remove_tree(&entry.cgroup)
            .map_err(|source| ContainerError::Cgroup { id: id(), source })?;
        let paths = &entry.paths;
        self.remove_dirs(paths)
            .map_err(|source| ContainerError::Rootfs { id: id(), source })
    }

    fn release_files(&self, entry: &Entry) -> Result<(), ContainerError> {
        let id = || entry.spec.id.clone();
        self.layout()
            .remove_tree(&entry.cgroup)
            .map_err(|source| ContainerError::Cgroup { id: id(), source })?;
        let paths = &entry.paths;
        unmount(&paths.rootfs())
            .and_then(|()| remove_dir_all(&paths.run))
            .and_then(|()| remove_dir_all(&paths.upper()))
            .and_then(|()| remove_dir_all(&paths.work()))
            .map_err(|source| ContainerError::Rootfs { id: id(), source })
    }

    pub(super) fn remove_dirs(
        &self,
        paths: &ContainerPaths,
    ) -> Result<(), RootfsError> {
        unmount(&paths.rootfs())?;
        remove_dir_all(&paths.run)?;
        // Renamed first: a deletion that is cut short is then no half
        // container but rubbish, swept away at the next start.
        let name = paths.root.file_name().unwrap_or_default();
        let mut away = OsString::from(REMOVING);
        away.push(name);
        let away = self.config.root.join(away);
        remove_dir_all(&away)?;
        match fs::rename(&paths.root, &away) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => {
                let path = paths.root.clone();
                Err(RootfsError::Io { action: "remove", path, source })
            }
            Ok(()) => remove_while_written(&away),
        }
    }
}

/// Removes a directory in which a shim may just be writing down the end: it
/// adds one file and renames it once, so a few repetitions are enough.
fn remove_while_written(dir: &Path) -> Result<(), RootfsError> {
    const REPETITIONS: usize = 4;
    let mut removed = remove_dir_all(dir);
    for _ in 0..REPETITIONS {
        let RootfsError::Io { source, .. } = (match &removed {
            Ok(()) => return Ok(()),
            Err(error) => error,
        }) else {
            break;
        };
        if source.kind() != io::ErrorKind::DirectoryNotEmpty {
            break;
        }
        removed = remove_dir_all(dir);
    }
    removed
}
