//! Creating: directories and specification.

use super::*;
use crate::container::paths::write_json;
use crate::container::plan;

impl Containers {
    /// Creates a container: its directories and its specification. The root
    /// file system is mounted when it starts, where only it can see it.
    /// Repeating it with the same specification is no error.
    pub async fn create(
        &self,
        spec: &ContainerSpec,
    ) -> Result<(), CreateContainerError> {
        plan::check(spec)?;
        let entry = {
            let mut entries = self.inner.entries.lock();
            let new = || {
                let state = ContainerState::Created;
                Arc::new(self.inner.new_entry(spec.clone(), state))
            };
            entries.entry(spec.id.clone()).or_insert_with(new).clone()
        };
        if entry.spec != *spec {
            return Err(CreateContainerError::Exists { id: spec.id.clone() });
        }
        let _turn = entry.turn.lock().await;
        let (inner, owner) = (self.inner.clone(), entry.clone());
        let made = blocking(move || inner.create_files(&owner)).await;
        let made = made.unwrap_or_else(|source| {
            let path = entry.paths.root.clone();
            Err(CreateContainerError::Io { path, source })
        });
        if made.is_err() {
            self.inner.entries.lock().remove(&spec.id);
        }
        made
    }
}

impl Inner {
    fn create_files(&self, entry: &Entry) -> Result<(), CreateContainerError> {
        let state = entry.state.borrow().clone();
        if !matches!(state, ContainerState::Created) {
            return Ok(());
        }
        let made = self.create_steps(entry);
        if made.is_err() {
            let _ = self.remove_files(entry);
        }
        made
    }

    fn create_steps(&self, entry: &Entry) -> Result<(), CreateContainerError> {
        let paths = &entry.paths;
        let written = |path: &Path| {
            let path = path.to_owned();
            move |source| CreateContainerError::Io { path, source }
        };
        for dir in [&paths.root, &paths.run] {
            fs::create_dir_all(dir).map_err(written(dir))?;
        }
        overlay::check(&entry.spec.layers).map_err(|source| {
            CreateContainerError::Rootfs { id: entry.spec.id.clone(), source }
        })?;
        // Last: a directory without a specification is the leaving of a
        // creation that was cut short.
        let kept = Kept { boot_id: self.boot_id.clone(), spec: &entry.spec };
        write_json(&paths.spec(), &kept).map_err(written(&paths.spec()))
    }
}
