//! The content store on disk.
//!
//! ```text
//! <root>/oci-layout             this is an OCI layout for manifests and configs
//! <root>/blobs/sha256/<hex>     manifests and configs; layer blobs are not kept
//! <root>/layers/<hex>/fs        an unpacked layer, named by its diff id
//! <root>/layers/<hex>/pending   not known to be on the disk yet (boot id)
//! <root>/images.json            the names: reference -> digests
//! <root>/tmp/, <root>/trash/    work in progress, work to be forgotten
//! <root>/lock, <root>/gc.lock   see `open` and `Store::hold`
//! ```
//!
//! Everything appears by a rename, so a killed process leaves nothing half
//! there. A power cut may lose file contents behind a rename: a layer is
//! `pending` until the file system was synced, and a pending layer of
//! another boot is dropped when the store opens.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::{fs::FlockOperation, io::Errno};
use serde::{Deserialize, Serialize};

use super::Digest;
use crate::tree;

/// One unpacked layer's own numbers, beside its `fs`.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct LayerFacts {
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
}

/// The files of the store; names and pulls are built on top.
#[derive(Debug)]
pub(crate) struct Store {
    root: PathBuf,
    next_name: AtomicU64,
    /// Shared by all that have the store open; who gets it alone cleans up.
    _lock: File,
}

/// Content is not collected while one of these lives.
#[derive(Debug)]
pub(crate) struct Hold(
    #[expect(dead_code, reason = "its lock lives as long")] File,
);

impl Store {
    /// Opens or makes a store.
    pub(crate) fn open(root: &Path) -> io::Result<Store> {
        make_directory(root)?;
        let root = root.canonicalize()?;
        for name in ["blobs/sha256", "layers", "tmp", "trash"] {
            make_directory(&root.join(name))?;
        }
        let lock = open_lock(&root.join("lock"))?;
        let is_alone =
            try_lock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        let store = Store { root, next_name: AtomicU64::new(0), _lock: lock };
        if is_alone {
            // Nobody else works here: what is in tmp was left by a crash.
            store.discard_all("tmp")?;
            store.discard_unsynced_layers()?;
        }
        rustix::fs::flock(&store._lock, FlockOperation::LockShared)?;
        let layout = store.root.join("oci-layout");
        if !layout.exists() {
            store.write_file(&layout, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        }
        Ok(store)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn layer_path(&self, diff_id: &Digest) -> PathBuf {
        self.root.join("layers").join(diff_id.hex()).join("fs")
    }

    pub(crate) fn has_layer(&self, diff_id: &Digest) -> bool {
        self.layer_path(diff_id).is_dir()
    }

    pub(crate) fn layer_facts(&self, diff_id: &Digest) -> Option<LayerFacts> {
        let dir = self.root.join("layers").join(diff_id.hex());
        let bytes = fs::read(dir.join("layer.json")).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Makes an empty directory to unpack a layer into: `<it>/fs`.
    pub(crate) fn begin_layer(&self) -> io::Result<LayerInProgress<'_>> {
        let directory = self.temporary();
        make_directory(&directory)?;
        make_directory(&directory.join("fs"))?;
        Ok(LayerInProgress { store: self, directory })
    }

    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }

    pub(crate) fn read_blob(&self, digest: &Digest) -> io::Result<Vec<u8>> {
        let bytes = fs::read(self.blob_path(digest))?;
        if Digest::of(&bytes) != *digest {
            let message = format!("blob {digest} is damaged");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(bytes)
    }

    pub(crate) fn write_blob(&self, bytes: &[u8]) -> io::Result<Digest> {
        let digest = Digest::of(bytes);
        if self.read_blob(&digest).is_err() {
            self.write_file(&self.blob_path(&digest), bytes)?;
        }
        Ok(digest)
    }

    /// Writes a file whole or not at all, and onto the disk.
    pub(crate) fn write_file(
        &self,
        path: &Path,
        bytes: &[u8],
    ) -> io::Result<()> {
        let temporary = self.temporary();
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        let renamed = written.and_then(|()| fs::rename(&temporary, path));
        if let Err(error) = renamed {
            let _ = fs::remove_file(&temporary);
            return Err(error);
        }
        let parent = path.parent().unwrap_or(&self.root);
        File::open(parent)?.sync_all()
    }

    /// Returns a new name in `tmp`.
    pub(crate) fn temporary(&self) -> PathBuf {
        loop {
            let n = self.next_name.fetch_add(1, Ordering::Relaxed);
            let name = format!("tmp/{}-{n}", std::process::id());
            let path = self.root.join(name);
            // A killed process may have had our id.
            if fs::symlink_metadata(&path).is_err() {
                return path;
            }
        }
    }

    /// Keeps the collector away while content is added but not yet named.
    pub(crate) fn hold(&self) -> io::Result<Hold> {
        let lock = open_lock(&self.root.join("gc.lock"))?;
        // The collector only renames, so this waits for milliseconds.
        rustix::fs::flock(&lock, FlockOperation::LockShared)?;
        Ok(Hold(lock))
    }

    /// Gets the right to collect; none while content is being added.
    pub(crate) fn collect(&self) -> io::Result<Option<Hold>> {
        let lock = open_lock(&self.root.join("gc.lock"))?;
        let alone = try_lock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok(alone.then_some(Hold(lock)))
    }

    /// Serialises changes of `images.json` between processes.
    pub(crate) fn lock_names(&self) -> io::Result<Hold> {
        let lock = open_lock(&self.root.join("images.lock"))?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;
        Ok(Hold(lock))
    }

    /// Lists the layers or blobs that are there.
    pub(crate) fn digests(&self, directory: &str) -> io::Result<Vec<Digest>> {
        let mut digests = vec![];
        for entry in fs::read_dir(self.root.join(directory))? {
            let name = entry?.file_name();
            digests.extend(
                name.to_str().and_then(|hex| Digest::from_hex(hex).ok()),
            );
        }
        Ok(digests)
    }

    /// Takes something out of the store at once; `empty_trash` deletes it.
    pub(crate) fn discard(&self, path: &Path) -> io::Result<()> {
        let n = self.next_name.fetch_add(1, Ordering::Relaxed);
        let trash = self.root.join(format!("trash/{}-{n}", std::process::id()));
        match fs::rename(path, &trash) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            // Left by a process that had our id.
            Err(error) if is_taken(&error) => {
                tree::remove(&trash)?;
                fs::rename(path, &trash)
            }
            other => other,
        }
    }

    /// Deletes what was discarded. Slow for trees: call it off the way.
    pub(crate) fn empty_trash(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.root.join("trash"))? {
            tree::remove(&entry?.path())?;
        }
        Ok(())
    }

    /// Puts finished layers on the disk for good.
    ///
    /// One `syncfs` covers every layer that was moved in before it.
    pub(crate) fn sync_layers(&self, diff_ids: &[Digest]) -> io::Result<()> {
        let pending = |diff_id: &Digest| {
            self.root.join("layers").join(diff_id.hex()).join("pending")
        };
        let unsynced: Vec<PathBuf> =
            diff_ids.iter().map(pending).filter(|path| path.exists()).collect();
        if unsynced.is_empty() {
            return Ok(());
        }
        rustix::fs::syncfs(File::open(&self.root)?)?;
        for path in unsynced {
            match fs::remove_file(path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }

    fn discard_unsynced_layers(&self) -> io::Result<()> {
        let boot = boot_id();
        for diff_id in self.digests("layers")? {
            let dir = self.root.join("layers").join(diff_id.hex());
            match fs::read(dir.join("pending")) {
                Ok(of) if of != boot.as_bytes() => {
                    tracing::warn!(%diff_id, "dropped a layer that a power cut may have damaged");
                    self.discard(&dir)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn discard_all(&self, directory: &str) -> io::Result<()> {
        for entry in fs::read_dir(self.root.join(directory))? {
            self.discard(&entry?.path())?;
        }
        Ok(())
    }
}

/// A layer that nobody sees yet; dropped, it is gone.
pub(crate) struct LayerInProgress<'a> {
    store: &'a Store,
    directory: PathBuf,
}

impl LayerInProgress<'_> {
    pub(crate) fn fs(&self) -> PathBuf {
        self.directory.join("fs")
    }

    /// Makes the layer visible. Equal layers may race; the first one stays.
    pub(crate) fn finish(
        self,
        diff_id: &Digest,
        facts: LayerFacts,
    ) -> io::Result<()> {
        let json = serde_json::to_vec(&facts)?;
        fs::write(self.directory.join("layer.json"), json)?;
        fs::write(self.directory.join("pending"), boot_id())?;
        let target = self.store.root.join("layers").join(diff_id.hex());
        match fs::rename(&self.directory, target) {
            Err(error) if is_taken(&error) => Ok(()),
            other => other,
        }
    }
}

impl Drop for LayerInProgress<'_> {
    fn drop(&mut self) {
        // After `finish` there is nothing left here to discard.
        if let Err(error) = self.store.discard(&self.directory) {
            tracing::warn!(%error, "could not discard an unfinished layer");
        }
    }
}

fn is_taken(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::DirectoryNotEmpty
            | io::ErrorKind::AlreadyExists
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::IsADirectory
    )
}

/// Only root may look inside: layers hold setuid programs of strangers.
fn make_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn open_lock(path: &Path) -> io::Result<File> {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

fn try_lock(file: &File, operation: FlockOperation) -> io::Result<bool> {
    match rustix::fs::flock(file, operation) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn boot_id() -> String {
    let path = "/proc/sys/kernel/random/boot_id";
    fs::read_to_string(path).map(|id| id.trim().to_owned()).unwrap_or_default()
}
