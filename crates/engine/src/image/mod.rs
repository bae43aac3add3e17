//! Images: named, pulled, loaded, unpacked and kept.
//!
//! An image is a manifest, a config and layers. Layers are unpacked as they
//! arrive, one directory for each diff id, shared by all images; a container
//! stacks them with overlayfs. Compressed layer blobs are not kept: unpacked
//! they are what is needed, and a kept copy would double the disk for
//! nothing. See `docs/adr/0004-images.md`.
//!
//! An image is *absent*, or *complete*: its name is written only after its
//! last layer is in place. A layer is *absent*, *in progress* (under `tmp/`,
//! seen by nobody) or *complete*.

mod behavior;
pub mod build;
mod collect;
mod digest;
#[cfg(fuzzing)]
pub mod fuzzing;
mod layer;
mod load;
mod manifest;
mod names;
mod progress;
mod pull;
mod reference;
mod registry;
mod store;
mod unpack;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

pub use behavior::{ParsePullBehaviorError, PullBehavior};
pub use collect::{DiskUsage, Removed};
pub use digest::{Digest, ParseDigestError};
pub use load::LoadImageError;
pub use manifest::{ImageConfig, ManifestError};
pub use names::ImageOrigin;
pub use progress::{
    LayerPhase, LayerProgress, ProgressSender, PullPhase, PullProgress,
};
pub use pull::{PullImageError, PullOptions};
pub use reference::{
    DEFAULT_REGISTRY, DEFAULT_TAG, EcrRegistry, ImageReference,
    ParseReferenceError,
};
pub use registry::{
    ParseMirrorError, RegistryAuth, RegistryConfig, RegistryError,
    RegistryTimeouts,
};
pub use unpack::{UnpackLayerError, UnpackLimits};

use manifest::{ConfigFile, Platform};
use names::{NameTable, Record};
use registry::RegistryClient;
use store::Store;

/// An image that is here, whole, and ready to be stacked.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// The name it goes by.
    pub reference: ImageReference,
    /// What the name resolved to at its registry, as `docker pull` prints it
    /// and ECS reports it (`imageDigest`): of an index, the index.
    pub digest: Digest,
    /// The manifest for this platform; the same as `digest` without an index.
    pub manifest: Digest,
    /// The config's digest, Docker's image id.
    pub id: Digest,
    /// The layers' contents on disk.
    pub size_bytes: u64,
    /// How to run it.
    pub config: ImageConfig,
    /// For overlayfs, bottom first. None for an image without layers.
    pub layers: Vec<PathBuf>,
    /// How it came here.
    pub origin: ImageOrigin,
    /// When it came here.
    pub added_at_ms: i64,
}

/// Why the image store did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenImageStoreError {
    /// The directory is unusable.
    #[error("could not open the image store in {}", .root.display())]
    Directory {
        /// Where.
        root: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A mirror in the configuration is unusable.
    #[error("the registry configuration is invalid")]
    Mirror {
        /// Which, and why.
        #[from]
        source: ParseMirrorError,
    },
}

/// Why the image store could not say what it has.
#[derive(Debug, thiserror::Error)]
#[error("could not read the image store")]
pub struct ReadImagesError {
    #[from]
    source: io::Error,
}

/// Settings of an image store.
#[derive(Debug, Clone, Default)]
pub struct ImageStoreConfig {
    /// Where images come from.
    pub registries: RegistryConfig,
    /// How much a layer may unpack to.
    pub limits: UnpackLimits,
}

/// The images of one host. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ImageStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    names: NameTable,
    config: ImageStoreConfig,
    platform: Platform,
    collector: collect::Collector,
    client: RegistryClient,
    flights: pull::Flights,
}

impl ImageStore {
    /// Opens the store below `root`, making it if need be.
    ///
    /// Several processes may have it open at once; the first one cleans up
    /// what a crash left.
    pub fn open(
        root: &Path,
        config: ImageStoreConfig,
    ) -> Result<ImageStore, OpenImageStoreError> {
        let registries = config.registries.clone();
        let flights = pull::Flights::new(registries.parallel_layers);
        let client = RegistryClient::new(registries)?;
        let opened = Store::open(root).and_then(|store| {
            let inner = Inner {
                store,
                names: NameTable::default(),
                config,
                platform: Platform::host(),
                collector: collect::Collector::default(),
                client,
                flights,
            };
            let images = ImageStore { inner: Arc::new(inner) };
            images.inner.names.all(&images.inner.store)?;
            images.empty_trash_behind();
            Ok(images)
        });
        opened.map_err(|source| OpenImageStoreError::Directory {
            root: root.into(),
            source,
        })
    }

    /// Returns an image, if it is here and whole.
    pub fn get(
        &self,
        reference: &ImageReference,
    ) -> Result<Option<Image>, ReadImagesError> {
        let Inner { store, names, .. } = &*self.inner;
        if let Some(record) = names.get(store, &reference.store_key())? {
            return Ok(self.inner.image(reference.clone(), record));
        }
        // Pulled by tag, asked for by what the tag meant.
        let Some(digest) = reference.digest() else { return Ok(None) };
        let all = names.all(store)?;
        Ok(all.into_iter().find_map(|(key, record)| {
            let found: ImageReference = key.parse().ok()?;
            let is_same = found.name() == reference.name()
                && [record.digest, record.manifest].contains(digest);
            is_same.then(|| self.inner.image(reference.clone(), record))?
        }))
    }

    /// Lists the images that are here and whole, by name.
    pub fn list(&self) -> Result<Vec<Image>, ReadImagesError> {
        let all = self.inner.names.all(&self.inner.store)?;
        Ok(all
            .into_iter()
            .filter_map(|(key, record)| {
                self.inner.image(key.parse().ok()?, record)
            })
            .collect())
    }
}

impl Inner {
    /// Puts an image together; none if a part of it is gone or damaged, which
    /// makes the next pull bring it back.
    fn image(
        &self,
        reference: ImageReference,
        record: Record,
    ) -> Option<Image> {
        let bytes = self.store.read_blob(&record.id).ok()?;
        let config = ConfigFile::parse(&bytes).ok()?.config;
        let mut size_bytes = 0;
        for layer in &record.layers {
            size_bytes += self.store.layer_facts(layer)?.bytes;
        }
        Some(Image {
            reference,
            digest: record.digest,
            manifest: record.manifest,
            id: record.id,
            size_bytes,
            config,
            layers: record
                .layers
                .iter()
                .map(|layer| self.store.layer_path(layer))
                .collect(),
            origin: record.origin,
            added_at_ms: record.added_at_ms,
        })
    }

    /// Writes an image's documents and gives it its names.
    fn name_image(
        &self,
        references: &[ImageReference],
        parts: &ImageParts,
    ) -> io::Result<()> {
        self.store.write_blob(&parts.manifest)?;
        self.store.write_blob(&parts.config)?;
        let record = Record {
            digest: parts.digest,
            manifest: Digest::of(&parts.manifest),
            id: Digest::of(&parts.config),
            layers: overlay_order(&parts.diff_ids),
            origin: parts.origin,
            added_at_ms: crate::time::now_ms(),
        };
        self.names.change(&self.store, |images| {
            for reference in references {
                images.insert(reference.store_key(), record.clone());
            }
        })
    }
}

/// What names an image once all of its layers are in place.
struct ImageParts {
    digest: Digest,
    manifest: Vec<u8>,
    config: Vec<u8>,
    diff_ids: Vec<Digest>,
    origin: ImageOrigin,
}

/// Drops all but the topmost of equal layers.
///
/// overlayfs refuses one directory twice. The topmost one has the last word
/// on every name in it, so those below add nothing.
fn overlay_order(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut layers = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids.iter().rev() {
        if !layers.contains(diff_id) {
            layers.push(*diff_id);
        }
    }
    layers.reverse();
    layers
}
