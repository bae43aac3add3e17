//! Starting again what has ended, with the files and the log that it has.

use super::remove::{GONE_WITHIN, kill_shim};
use super::*;
use crate::container::overlay::{remove_dir_all, unmount};
use crate::container::paths::{read_json, write_json};

impl Containers {
    /// Starts a container again that ended at the time given. What it wrote
    /// stays, and its log goes on. One that did not end just then was started
    /// again already, and that start is returned; if the start fails, the
    /// container has ended as it had.
    pub async fn restart_with(
        &self,
        id: &ContainerId,
        ended_at_ms: i64,
        secret_env: SecretEnv,
    ) -> Result<Started, StartContainerError> {
        let missing = || StartContainerError::NotFound { id: id.clone() };
        let entry = self.entry(id).ok_or_else(missing)?;
        let state = entry.state.borrow().clone();
        let ContainerState::Exited(exit) = state else {
            return self.start_with(id, secret_env).await;
        };
        if exit.at_ms != ended_at_ms {
            return self.start_with(id, secret_env).await;
        }
        let started = match self.forget_run(&entry, &exit).await {
            Ok(()) => self.start_with(id, secret_env).await,
            Err(source) => Err(StartContainerError::Io {
                id: id.clone(),
                action: "clear the last run away",
                source,
            }),
        };
        if started.is_err() {
            // If this fails, a later daemon finds one that never ran.
            let _ = write_json(&entry.paths.kept_exit(), &exit);
            entry.publish_exit(exit);
        }
        started
    }

    async fn forget_run(
        &self,
        entry: &Arc<Entry>,
        exit: &Exit,
    ) -> io::Result<()> {
        let _turn = entry.turn.lock().await;
        self.end(entry).await;
        await_shim(entry).await;
        let (inner, owner, exit) =
            (self.inner.clone(), entry.clone(), exit.clone());
        blocking(move || inner.forget_run(&owner, &exit)).await??;
        entry.log_signal.send_modify(|signal| signal.is_complete = false);
        entry.state.send_replace(ContainerState::Created);
        Ok(())
    }
}

impl Inner {
    /// Cut short at any place, it leaves either an ended container or a
    /// created one.
    fn forget_run(&self, entry: &Entry, exit: &Exit) -> io::Result<()> {
        let paths = &entry.paths;
        self.layout().remove_tree(&entry.cgroup).map_err(io::Error::other)?;
        write_json(&paths.kept_exit(), exit)?;
        unmount(&paths.rootfs())
            .and_then(|()| remove_dir_all(&paths.run))
            // The kernel refuses a work directory that was mounted volatile.
            .and_then(|()| remove_dir_all(&paths.work()))
            .map_err(io::Error::other)?;
        fs::create_dir_all(&paths.run)?;
        fs::remove_file(paths.kept_exit())
    }
}

/// Waits until the shim's process is gone: the last it does is to write down
/// the end, which would then be taken for the next run's.
async fn await_shim(entry: &Entry) {
    const LOOK_AGAIN: Duration = Duration::from_millis(2);
    let running = read_json::<Running>(&entry.paths.running());
    let Ok(Some(running)) = running else { return };
    let gone = async {
        while running.shim.is_alive() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    if tokio::time::timeout(GONE_WITHIN, gone).await.is_err() {
        kill_shim(entry);
    }
}
