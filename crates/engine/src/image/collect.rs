//! Forgetting images and getting their space back.
//!
//! Removing takes a name away; content that no name leads to, and no
//! container stands on, is moved to the trash, and a thread of its own
//! deletes it: deleting right before a pull makes ext4 several times slower.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use parking_lot::Mutex;

use super::{Digest, ImageReference, ImageStore, Inner, ReadImagesError};

/// What was forgotten.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// Whether the name was known.
    pub was_known: bool,
    /// Layers that went with it.
    pub layers: usize,
    /// Bytes that are being given back.
    pub bytes: u64,
}

/// Where the space went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Names.
    pub images: usize,
    /// Unpacked layers.
    pub layers: usize,
    /// Contents of all layers.
    pub layer_bytes: u64,
    /// Contents of layers that no name leads to.
    pub reclaimable_bytes: u64,
    /// Manifests and configs.
    pub blob_bytes: u64,
}

/// Lets one thread at a time empty the trash.
#[derive(Debug, Default)]
pub(super) struct Collector {
    sweep: Mutex<Sweep>,
}

#[derive(Debug, Default)]
enum Sweep {
    #[default]
    Idle,
    /// A thread is at it.
    Once,
    /// More came while it was at it.
    Again,
}

impl ImageStore {
    /// Forgets a name, and the content that only it led to.
    ///
    /// `in_use` are the layer directories that containers stand on; they stay
    /// until a later [`ImageStore::prune`].
    pub fn remove(
        &self,
        reference: &ImageReference,
        in_use: &[PathBuf],
    ) -> Result<Removed, ReadImagesError> {
        let Inner { store, names, .. } = &*self.inner;
        let was_known = names.change(store, |images| {
            images.remove(&reference.store_key()).is_some()
        })?;
        let collected = self.prune(in_use)?;
        Ok(Removed { was_known, ..collected })
    }

    /// Forgets content that no name leads to and no container stands on.
    ///
    /// Does nothing while a pull or load is adding content.
    pub fn prune(
        &self,
        in_use: &[PathBuf],
    ) -> Result<Removed, ReadImagesError> {
        let Inner { store, names, .. } = &*self.inner;
        let Some(_hold) = store.collect()? else {
            return Ok(Removed::default());
        };
        let mut layers = BTreeSet::new();
        let mut blobs = BTreeSet::new();
        for record in names.all(store)?.into_values() {
            layers.extend(record.layers);
            blobs.extend([record.id, record.manifest]);
        }
        let mut removed = Removed::default();
        for diff_id in store.digests("layers")? {
            let path = store.layer_path(&diff_id);
            if layers.contains(&diff_id) || in_use.contains(&path) {
                continue;
            }
            let facts = store.layer_facts(&diff_id).unwrap_or_default();
            store.discard(path.parent().unwrap_or(&path))?;
            removed.layers += 1;
            removed.bytes += facts.bytes;
        }
        for digest in store.digests("blobs/sha256")? {
            if !blobs.contains(&digest) {
                store.discard(&store.blob_path(&digest))?;
            }
        }
        self.empty_trash_behind();
        Ok(removed)
    }

    /// Adds up what the images take.
    pub fn disk_usage(&self) -> Result<DiskUsage, ReadImagesError> {
        let Inner { store, names, .. } = &*self.inner;
        let records = names.all(store)?;
        let named: BTreeSet<Digest> = records
            .values()
            .flat_map(|record| record.layers.iter().copied())
            .collect();
        let mut usage =
            DiskUsage { images: records.len(), ..DiskUsage::default() };
        for diff_id in store.digests("layers")? {
            let bytes = store.layer_facts(&diff_id).unwrap_or_default().bytes;
            usage.layers += 1;
            usage.layer_bytes += bytes;
            if !named.contains(&diff_id) {
                usage.reclaimable_bytes += bytes;
            }
        }
        for digest in store.digests("blobs/sha256")? {
            usage.blob_bytes += length(&store.blob_path(&digest))?;
        }
        Ok(usage)
    }

    /// Empties the trash on a thread that nobody waits for.
    pub(super) fn empty_trash_behind(&self) {
        let mut sweep = self.inner.collector.sweep.lock();
        if !matches!(*sweep, Sweep::Idle) {
            *sweep = Sweep::Again;
            return;
        }
        let inner = Arc::clone(&self.inner);
        let spawned = thread::Builder::new()
            .name("image-trash".to_owned())
            .spawn(move || inner.empty_trash());
        match spawned {
            Ok(_) => *sweep = Sweep::Once,
            Err(error) => {
                tracing::warn!(%error, "could not start emptying the image trash");
            }
        }
    }
}

impl Inner {
    fn empty_trash(&self) {
        // Behind everything else that wants the processor.
        let _ = rustix::process::nice(10);
        loop {
            if let Err(error) = self.store.empty_trash() {
                tracing::warn!(%error, "could not empty the image trash");
            }
            let mut sweep = self.collector.sweep.lock();
            match *sweep {
                Sweep::Again => *sweep = Sweep::Once,
                Sweep::Once | Sweep::Idle => {
                    *sweep = Sweep::Idle;
                    return;
                }
            }
        }
    }
}

fn length(path: &Path) -> io::Result<u64> {
    match fs::metadata(path) {
        Ok(file) => Ok(file.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}
