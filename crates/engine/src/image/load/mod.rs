//! Images from files: OCI layouts (a directory or a tar) and `docker save`
//! archives of both kinds, plain or compressed.
//!
//! A layout's index keeps the manifest as it was pushed, so it is preferred
//! where an archive has both; `manifest.json` then only gives the names.

mod source;

use std::{collections::BTreeMap, io, path::Path, sync::Arc};

use serde::Deserialize;

use super::{
    Digest, ImageOrigin, ImageParts, ImageReference, ImageStore, Inner,
    LayerPhase, ManifestError, ParseReferenceError, ProgressSender,
    UnpackLayerError,
    layer::{LayerDigests, unpack_layer},
    manifest::{
        CONFIG_BYTES_MAX, ConfigFile, Content, Descriptor, INDEX_DEPTH_MAX,
        LAYERS_MAX, MANIFEST_BYTES_MAX, Manifest, OCI_CONFIG, OCI_LAYER,
        OCI_MANIFEST,
    },
    progress::Progress,
    store::LayerFacts,
};
use source::Source;

/// Docker's and containerd's annotation for the whole name.
const FULL_NAME: &str = "io.containerd.image.name";
/// OCI's: a tag for some tools, a whole name for others.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Why an image was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadImageError {
    /// The file or the store could not be read or written.
    #[error("could not load {what}")]
    Io {
        /// The file, or its part.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// Neither kind of archive.
    #[error(
        "{0} is neither an OCI layout nor a `docker save` archive (it has \
         neither index.json nor manifest.json)"
    )]
    Format(String),
    /// A part that the archive speaks of is not in it.
    #[error("the archive lacks {0}")]
    Missing(String),
    /// A part is larger than it may be, or than it says.
    #[error("{what} is larger than {limit} bytes")]
    TooLarge {
        /// The part.
        what: String,
        /// The limit.
        limit: u64,
    },
    /// A part's bytes are not those its name says.
    #[error("{0} in the archive is damaged (wrong digest)")]
    Damaged(Digest),
    /// A manifest, index or config is unusable.
    #[error("the archive's image cannot be used")]
    Manifest {
        /// Why.
        #[from]
        source: ManifestError,
    },
    /// A layer did not unpack.
    #[error("could not unpack layer {digest}")]
    Layer {
        /// The layer.
        digest: Digest,
        /// Why.
        source: UnpackLayerError,
    },
    /// The archive's own name for the image is unusable.
    #[error("the archive names its image {name:?}")]
    Name {
        /// As written in the archive.
        name: String,
        /// Why.
        source: ParseReferenceError,
    },
    /// Nothing says what the image is called.
    #[error("the archive does not say what its image is called; give a name")]
    NoName,
    /// One name cannot be given to several images.
    #[error("the archive has {0} images; a name can be given to one only")]
    SeveralImages(usize),
    /// The loading thread died.
    #[error("loading was interrupted")]
    Interrupted,
}

/// `docker save`'s table of contents.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SavedImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Vec<String>,
}

/// An image in the archive, ready to be unpacked.
struct Found {
    names: Vec<String>,
    digest: Digest,
    manifest: Vec<u8>,
    config_bytes: Vec<u8>,
    config: ConfigFile,
    layers: Vec<FoundLayer>,
}

struct FoundLayer {
    /// The name in the archive.
    name: String,
    size: u64,
    digests: LayerDigests,
}

impl ImageStore {
    /// Loads every image of an OCI layout or `docker save` archive.
    ///
    /// `name` replaces the archive's own names; it may have one image then.
    /// Returns the names under which the images are now known.
    pub async fn load(
        &self,
        path: &Path,
        name: Option<&ImageReference>,
        progress: Option<ProgressSender>,
    ) -> Result<Vec<ImageReference>, LoadImageError> {
        let inner = Arc::clone(&self.inner);
        let (path, name) = (path.to_owned(), name.cloned());
        let progress = Progress::new(progress);
        tokio::task::spawn_blocking(move || {
            inner.load(&path, name.as_ref(), &progress)
        })
        .await
        .unwrap_or(Err(LoadImageError::Interrupted))
    }
}

impl Inner {
    fn load(
        &self,
        path: &Path,
        name: Option<&ImageReference>,
        progress: &Progress,
    ) -> Result<Vec<ImageReference>, LoadImageError> {
        let shown = path.display().to_string();
        let io = |source| LoadImageError::Io { what: shown.clone(), source };
        let _hold = self.store.hold().map_err(io)?;
        let source = Source::open(path, &self.store)?;
        let found = self.find(&source, &shown)?;
        if name.is_some() && found.len() > 1 {
            return Err(LoadImageError::SeveralImages(found.len()));
        }
        let layers = found.iter().flat_map(|image| &image.layers);
        progress.start_layers(layers.map(|layer| {
            (layer.digests.blob.unwrap_or(layer.digests.diff_id), layer.size)
        }));
        let mut references = vec![];
        let mut offset = 0;
        for image in found {
            let names = match name {
                Some(name) => vec![name.clone()],
                None => parse_names(&image.names)?,
            };
            for (n, layer) in image.layers.iter().enumerate() {
                self.load_layer(&source, layer, offset + n, progress)?;
            }
            offset += image.layers.len();
            self.store
                .sync_layers(&image.config.rootfs.diff_ids)
                .map_err(io)?;
            let parts = ImageParts {
                digest: image.digest,
                manifest: image.manifest,
                config: image.config_bytes,
                diff_ids: image.config.rootfs.diff_ids,
                origin: ImageOrigin::Loaded,
            };
            self.name_image(&names, &parts).map_err(io)?;
            references.extend(names);
        }
        progress.done();
        Ok(references)
    }

    fn find(
        &self,
        source: &Source,
        shown: &str,
    ) -> Result<Vec<Found>, LoadImageError> {
        let saved: Option<Vec<SavedImage>> = match source.has("manifest.json") {
            true => {
                let bytes = source.read("manifest.json", MANIFEST_BYTES_MAX)?;
                Some(serde_json::from_slice(&bytes).map_err(|error| {
                    ManifestError::Json {
                        kind: "manifest",
                        reason: error.to_string(),
                    }
                })?)
            }
            false => None,
        };
        if source.has("index.json") {
            return self.find_in_layout(source, saved.unwrap_or_default());
        }
        let saved =
            saved.ok_or_else(|| LoadImageError::Format(shown.to_owned()))?;
        saved.iter().map(|image| self.find_saved(source, image)).collect()
    }

    fn find_in_layout(
        &self,
        source: &Source,
        saved: Vec<SavedImage>,
    ) -> Result<Vec<Found>, LoadImageError> {
        let bytes = source.read("index.json", MANIFEST_BYTES_MAX)?;
        let Content::Index(index) = Content::parse(&bytes)? else {
            return Err(LoadImageError::Missing("a valid index.json".into()));
        };
        // `docker save` names by config: blobs/sha256/<hex> or <hex>.json.
        let names_of = |config: &Digest| {
            let hex = config.hex();
            saved
                .iter()
                .filter(|image| image.config.contains(&hex))
                .flat_map(|image| image.repo_tags.clone().unwrap_or_default())
                .collect::<Vec<String>>()
        };
        let mut by_digest: BTreeMap<Digest, Found> = BTreeMap::new();
        let mut other_platform = None;
        for entry in &index.manifests {
            let mut found = match self.resolve_part(source, entry, 0) {
                Ok(found) => found,
                Err(LoadImageError::Manifest {
                    source:
                        error @ (ManifestError::NoPlatform(_)
                        | ManifestError::WrongPlatform { .. }),
                }) => {
                    other_platform = Some(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            found.names = match entry_names(entry) {
                names if names.is_empty() => {
                    names_of(&Digest::of(&found.config_bytes))
                }
                names => names,
            };
            let digest = found.digest;
            match by_digest.get_mut(&digest) {
                Some(known) => known.names.append(&mut found.names),
                None => {
                    by_digest.insert(digest, found);
                }
            }
        }
        match other_platform {
            Some(error) if by_digest.is_empty() => Err(error.into()),
            _ => Ok(by_digest.into_values().collect()),
        }
    }

    /// Follows a descriptor through indexes to this platform's manifest.
    fn resolve_part(
        &self,
        source: &Source,
        entry: &Descriptor,
        depth: usize,
    ) -> Result<Found, LoadImageError> {
        if depth > INDEX_DEPTH_MAX {
            return Err(ManifestError::TooDeep.into());
        }
        let bytes = source.blob(&entry.digest, MANIFEST_BYTES_MAX)?;
        match Content::parse(&bytes)? {
            Content::Index(index) => {
                let chosen = index.select(&self.platform)?;
                let found = self.resolve_part(source, chosen, depth + 1)?;
                Ok(Found { digest: entry.digest, ..found })
            }
            Content::Manifest(manifest) => {
                self.found(source, &manifest, bytes, entry.digest)
            }
        }
    }

    fn found(
        &self,
        source: &Source,
        manifest: &Manifest,
        bytes: Vec<u8>,
        digest: Digest,
    ) -> Result<Found, LoadImageError> {
        let config_bytes =
            source.blob(&manifest.config.digest, CONFIG_BYTES_MAX)?;
        let config = ConfigFile::parse(&config_bytes)?;
        let layers = config
            .pair(manifest)?
            .into_iter()
            .map(|(diff_id, layer)| FoundLayer {
                name: source::blob_name(&layer.digest),
                size: layer.size,
                digests: LayerDigests { blob: Some(layer.digest), diff_id },
            })
            .collect();
        self.platform.check(&config)?;
        let names = vec![];
        Ok(Found {
            names,
            digest,
            manifest: bytes,
            config_bytes,
            config,
            layers,
        })
    }

    /// Reads an image that only `manifest.json` describes, and writes the
    /// manifest that it lacks.
    fn find_saved(
        &self,
        source: &Source,
        image: &SavedImage,
    ) -> Result<Found, LoadImageError> {
        let config_bytes = source.read(&image.config, CONFIG_BYTES_MAX)?;
        let config = ConfigFile::parse(&config_bytes)?;
        self.platform.check(&config)?;
        if image.layers.len() > LAYERS_MAX {
            return Err(ManifestError::TooManyLayers(image.layers.len()).into());
        }
        let mut manifest = Manifest {
            schema_version: 2,
            media_type: OCI_MANIFEST.to_owned(),
            config: Descriptor::of(OCI_CONFIG, &config_bytes),
            layers: vec![],
        };
        let mut layers = vec![];
        for (n, name) in image.layers.iter().enumerate() {
            let size = source.size(name)?;
            let mut descriptor = Descriptor::of(OCI_LAYER, &[]);
            let Some(diff_id) = config.rootfs.diff_ids.get(n).copied() else {
                break;
            };
            (descriptor.digest, descriptor.size) = (diff_id, size);
            manifest.layers.push(descriptor);
            let digests = LayerDigests { blob: None, diff_id };
            layers.push(FoundLayer { name: name.clone(), size, digests });
        }
        if image.layers.len() != config.rootfs.diff_ids.len() {
            return Err(LoadImageError::from(ManifestError::LayerCount {
                diff_ids: config.rootfs.diff_ids.len(),
                layers: image.layers.len(),
            }));
        }
        let manifest = serde_json::to_vec(&manifest).map_err(|e| {
            LoadImageError::Io { what: "manifest".into(), source: e.into() }
        })?;
        Ok(Found {
            names: image.repo_tags.clone().unwrap_or_default(),
            digest: Digest::of(&manifest),
            manifest,
            config_bytes,
            config,
            layers,
        })
    }

    fn load_layer(
        &self,
        source: &Source,
        layer: &FoundLayer,
        n: usize,
        progress: &Progress,
    ) -> Result<(), LoadImageError> {
        let diff_id = layer.digests.diff_id;
        if self.store.has_layer(&diff_id) {
            progress.set(n, LayerPhase::AlreadyExists);
            return Ok(());
        }
        progress.set(n, LayerPhase::Pulling);
        let io = |source| LoadImageError::Io {
            what: format!("layer {diff_id}"),
            source,
        };
        let target = self.store.begin_layer().map_err(io)?;
        let reader = source.reader(&layer.name, |bytes| {
            progress.add_bytes(n, bytes);
        })?;
        let limits = &self.config.limits;
        let unpacked =
            unpack_layer(reader, layer.digests, &target.fs(), limits).map_err(
                |source| LoadImageError::Layer { digest: diff_id, source },
            )?;
        let facts =
            LayerFacts { bytes: unpacked.bytes, entries: unpacked.entries };
        target.finish(&diff_id, facts).map_err(io)?;
        progress.set(n, LayerPhase::Done);
        Ok(())
    }
}

/// Returns the names that an index entry carries. OCI's annotation counts
/// only if it is a whole name: a bare "latest" is a tag of nothing.
fn entry_names(entry: &Descriptor) -> Vec<String> {
    let full = entry.annotations.get(FULL_NAME);
    let partial = entry
        .annotations
        .get(REF_NAME)
        .filter(|name| name.contains(['/', ':']));
    full.or(partial).into_iter().cloned().collect()
}

fn parse_names(
    names: &[String],
) -> Result<Vec<ImageReference>, LoadImageError> {
    if names.is_empty() {
        return Err(LoadImageError::NoName);
    }
    let mut references = vec![];
    for name in names {
        let reference: ImageReference = name.parse().map_err(|source| {
            LoadImageError::Name { name: name.clone(), source }
        })?;
        if !references.contains(&reference) {
            references.push(reference);
        }
    }
    Ok(references)
}
