//! After a restart of the daemon: finding the containers again.

use super::remove::REMOVING;
use super::*;
use crate::container::ExitReason;
use crate::container::overlay::{remove_dir_all, unmount};
use crate::container::paths::read_json;

/// How long a shim may take to start a container, mounts and all.
const STARTED_WITHIN: Duration = Duration::from_secs(60);

impl Containers {
    /// Looks at every container on the disk and decides what became of it.
    pub(super) async fn recover(&self) -> Result<(), OpenContainersError> {
        let config = &self.inner.config;
        for name in names(&config.root)? {
            let path = config.root.join(&name);
            let Ok(id) = ContainerId::new(name.clone()) else {
                if name.starts_with(REMOVING) {
                    // Left for the next start if it does not go now.
                    let _ = remove_dir_all(&path);
                }
                continue;
            };
            let paths = self.inner.paths(&id);
            match read_json::<Kept<ContainerSpec>>(&paths.spec()) {
                Ok(Some(kept)) => self.recover_one(kept).await,
                // Creation was cut short: nothing was started.
                Ok(None) => {
                    let _ = self.inner.remove_dirs(&paths);
                }
                // It may run, and a later start may be able to read it.
                Err(error) => {
                    let path = paths.spec();
                    tracing::error!(path = %path.display(), %error,
                        "a container is left alone");
                }
            }
        }
        for name in names(&config.run_dir)? {
            let is_known = ContainerId::new(name.clone())
                .is_ok_and(|id| self.entry(&id).is_some());
            if !is_known && !name.starts_with('.') {
                let run = config.run_dir.join(&name);
                let _ = unmount(&run.join("rootfs"));
                let _ = remove_dir_all(&run);
            }
        }
        Ok(())
    }

    async fn recover_one(&self, kept: Kept<ContainerSpec>) {
        let Kept { boot_id, spec } = kept;
        let id = spec.id.clone();
        let entry = self.inner.new_entry(spec, ContainerState::Created);
        let entry = Arc::new(entry);
        self.inner.entries.lock().insert(id, entry.clone());
        if let Some(exit) = monitor::recorded_exit(&entry) {
            entry.publish_exit(exit);
            return;
        }
        if boot_id != self.inner.boot_id {
            // On a real restart there is nothing left to clean up.
            let _ = self.inner.layout().remove_tree(&entry.cgroup);
            let _ = unmount(&entry.paths.rootfs());
            let _ = remove_dir_all(&entry.paths.run);
            entry.publish_exit(monitor::record(&entry, ExitReason::Reboot));
            return;
        }
        let launched = read_json::<Launch>(&entry.paths.launch());
        if matches!(launched, Ok(None)) {
            return;
        }
        // A shim answers, or is gone for good; one that is just starting
        // answers when it has started.
        let answers = async {
            let mut connection = ShimConnection::open(&entry.paths.run)?;
            connection.ask(RequestBody::Ping).await
        };
        let _ = tokio::time::timeout(STARTED_WITHIN, answers).await;
        match read_json::<Running>(&entry.paths.running()).ok().flatten() {
            Some(running) => self.watch(&entry, running.started),
            None => {
                // The shim died before the container ran.
                let _ = self.inner.layout().remove_tree(&entry.cgroup);
                let _ = fs::remove_file(entry.paths.launch());
                let _ = remove_dir_all(&entry.paths.runtime());
            }
        }
    }
}

fn names(dir: &Path) -> Result<Vec<String>, OpenContainersError> {
    let error =
        |source| OpenContainersError::Io { path: dir.to_owned(), source };
    let mut names = vec![];
    for entry in fs::read_dir(dir).map_err(error)? {
        names.extend(entry.map_err(error)?.file_name().into_string());
    }
    Ok(names)
}
