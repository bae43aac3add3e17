//! From a reference to a complete image.
//!
//! However many tasks ask for an image at once, it is pulled once: they share
//! one future, which ends early only when the last of them goes away. Layers
//! are shared the same way between different images.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Weak},
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared, WeakShared, try_join_all},
};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

use super::{
    Digest, Image, ImageOrigin, ImageParts, ImageReference, ImageStore, Inner,
    LayerPhase, ManifestError, ProgressSender, PullBehavior, PullProgress,
    RegistryAuth, RegistryError, UnpackLayerError,
    layer::{LayerDigests, unpack_layer},
    manifest::{
        CONFIG_BYTES_MAX, ConfigFile, Content, Descriptor, INDEX_DEPTH_MAX,
        Manifest,
    },
    progress::Progress,
    registry::{BlobReader, Repository, Transfer, Transferred},
    store::LayerFacts,
};

/// How to pull.
#[derive(Debug, Default)]
pub struct PullOptions {
    /// For private images.
    pub auth: Option<RegistryAuth>,
    /// When to ask the registry.
    pub behavior: PullBehavior,
    /// Where to report to.
    pub progress: Option<ProgressSender>,
}

/// Why an image was not pulled. `Display` is what Docker would say.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PullImageError {
    /// The registry refused or failed.
    #[error(transparent)]
    Registry(Arc<RegistryError>),
    /// The manifest or config is unusable.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A layer did not unpack.
    #[error("failed to register layer {digest}")]
    Layer {
        /// The layer's blob.
        digest: Digest,
        /// Why.
        source: Arc<UnpackLayerError>,
    },
    /// The store could not be written.
    #[error("could not write the image store")]
    Store {
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The unpacking thread died.
    #[error("pulling was interrupted")]
    Interrupted,
}

impl From<RegistryError> for PullImageError {
    fn from(source: RegistryError) -> PullImageError {
        PullImageError::Registry(Arc::new(source))
    }
}

impl From<io::Error> for PullImageError {
    fn from(source: io::Error) -> PullImageError {
        PullImageError::Store { source: Arc::new(source) }
    }
}

type PullResult = Result<Image, PullImageError>;
type Flight =
    (Shared<BoxFuture<'static, PullResult>>, watch::Receiver<PullProgress>);

/// What is under way, so that nothing is pulled twice.
#[derive(Debug)]
pub(super) struct Flights {
    /// Another user's credentials are another pull: they may be refused.
    images: Mutex<HashMap<FlightKey, WeakFlight>>,
    layers: Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
    slots: Semaphore,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct FlightKey {
    reference: ImageReference,
    auth: Option<RegistryAuth>,
    /// The image is here already and would do.
    has_fallback: bool,
}

type WeakFlight =
    (WeakShared<BoxFuture<'static, PullResult>>, watch::Receiver<PullProgress>);

impl Flights {
    pub(super) fn new(parallel_layers: usize) -> Flights {
        Flights {
            images: Mutex::default(),
            layers: Mutex::default(),
            slots: Semaphore::new(parallel_layers.max(1)),
        }
    }

    /// Returns the lock of a layer, shared by all that bring it.
    fn layer(&self, diff_id: &Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut layers = self.layers.lock();
        if let Some(lock) = layers.get(diff_id).and_then(Weak::upgrade) {
            return lock;
        }
        layers.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::default();
        layers.insert(*diff_id, Arc::downgrade(&lock));
        lock
    }
}

impl ImageStore {
    /// Pulls an image, or takes the one that is here, as the behavior says.
    ///
    /// Dropping the future gives the pull up, unless others wait for it too.
    pub async fn pull(
        &self,
        reference: &ImageReference,
        options: PullOptions,
    ) -> Result<Image, PullImageError> {
        let PullOptions { auth, behavior, progress } = options;
        let cached = || self.get(reference).ok().flatten();
        let sufficient = match behavior {
            PullBehavior::Default | PullBehavior::Always => None,
            PullBehavior::Once => {
                cached().filter(|image| image.origin == ImageOrigin::Pulled)
            }
            PullBehavior::PreferCached => cached(),
        };
        if let Some(image) = sufficient {
            return Ok(image);
        }
        let has_fallback =
            behavior == PullBehavior::Default && cached().is_some();
        let key =
            FlightKey { reference: reference.clone(), auth, has_fallback };
        let (pulled, states) = self.join_flight(key);
        let result = follow(pulled, states, progress).await;
        match (result, behavior) {
            (Err(error), PullBehavior::Default) => match cached() {
                Some(image) => {
                    tracing::warn!(%reference, %error, "pull failed, using the cached image");
                    Ok(image)
                }
                None => Err(error),
            },
            (result, _) => result,
        }
    }

    fn join_flight(&self, key: FlightKey) -> Flight {
        let mut images = self.inner.flights.images.lock();
        if let Some((flight, states)) = images.get(&key)
            && let Some(flight) = flight.upgrade()
            && flight.peek().is_none()
        {
            return (flight, states.clone());
        }
        images.retain(|_, (flight, _)| flight.upgrade().is_some());
        let (sender, states) = watch::channel(PullProgress::default());
        let inner = Arc::clone(&self.inner);
        let asked = key.clone();
        let flight = async move {
            let progress = Progress::new(Some(sender));
            inner.fetch(&asked, &progress).await
        };
        let flight = flight.boxed().shared();
        if let Some(weak) = flight.downgrade() {
            images.insert(key, (weak, states.clone()));
        }
        (flight, states)
    }
}

/// Waits for a pull, passing its progress on.
async fn follow(
    mut pulled: Shared<BoxFuture<'static, PullResult>>,
    mut states: watch::Receiver<PullProgress>,
    progress: Option<ProgressSender>,
) -> PullResult {
    let Some(progress) = progress else { return pulled.await };
    loop {
        progress.send_replace(states.borrow_and_update().clone());
        tokio::select! {
            biased;
            result = &mut pulled => {
                progress.send_replace(states.borrow().clone());
                return result;
            }
            changed = states.changed() => if changed.is_err() {
                return pulled.await;
            },
        }
    }
}

/// A manifest for this platform, and where it came from.
struct Resolved<'a> {
    sources: Vec<Repository<'a>>,
    digest: Digest,
    bytes: Vec<u8>,
    manifest: Manifest,
}

impl Inner {
    async fn fetch(
        self: Arc<Inner>,
        asked: &FlightKey,
        progress: &Progress,
    ) -> PullResult {
        let hold = self.hold().await?;
        let resolved = match self.resolve(asked).await? {
            Found::Unchanged(image) => {
                progress.done();
                return Ok(*image);
            }
            Found::Manifest(resolved) => resolved,
        };
        let config_bytes = self.config_bytes(&resolved).await?;
        let config = ConfigFile::parse(&config_bytes)?;
        self.platform.check(&config)?;
        let layers = config.pair(&resolved.manifest)?;
        progress.start_layers(layers.iter().map(|(_, l)| (l.digest, l.size)));
        let fetches = layers.iter().enumerate().map(|(n, (diff_id, layer))| {
            self.fetch_layer(&resolved.sources, *diff_id, layer, n, progress)
        });
        try_join_all(fetches).await?;
        let parts = ImageParts {
            digest: resolved.digest,
            manifest: resolved.bytes,
            config: config_bytes,
            diff_ids: config.rootfs.diff_ids.clone(),
            origin: ImageOrigin::Pulled,
        };
        let image = self.clone().finish(asked.reference.clone(), parts).await?;
        drop(hold);
        progress.done();
        Ok(image)
    }

    async fn hold(
        self: &Arc<Inner>,
    ) -> Result<super::store::Hold, PullImageError> {
        let inner = Arc::clone(self);
        let held = tokio::task::spawn_blocking(move || inner.store.hold());
        Ok(held.await.map_err(|_| PullImageError::Interrupted)??)
    }

    /// Names the image, then sees to it that a power cut cannot hurt it.
    async fn finish(
        self: Arc<Inner>,
        reference: ImageReference,
        parts: ImageParts,
    ) -> PullResult {
        let named = tokio::task::spawn_blocking(move || -> PullResult {
            self.name_image(std::slice::from_ref(&reference), &parts)?;
            let record = self.names.get(&self.store, &reference.store_key())?;
            let image = record.and_then(|record| self.image(reference, record));
            // A task need not wait for the disk: after a power cut an
            // unsynced layer is dropped, and pulled again.
            let inner = Arc::clone(&self);
            tokio::task::spawn_blocking(move || {
                if let Err(error) = inner.store.sync_layers(&parts.diff_ids) {
                    tracing::warn!(%error, "could not sync pulled layers");
                }
            });
            image.ok_or_else(|| {
                io::Error::other("a layer vanished while it was pulled").into()
            })
        });
        named.await.map_err(|_| PullImageError::Interrupted)?
    }

    async fn config_bytes(
        &self,
        resolved: &Resolved<'_>,
    ) -> Result<Vec<u8>, PullImageError> {
        let digest = &resolved.manifest.config.digest;
        if let Ok(bytes) = self.store.read_blob(digest) {
            return Ok(bytes);
        }
        let mut last = None;
        for source in &resolved.sources {
            let limit = CONFIG_BYTES_MAX;
            match self.client.small_blob(source, digest, limit).await {
                Ok(bytes) => return Ok(bytes.into()),
                Err(error) => last = Some(error),
            }
        }
        Err(last.map_or(PullImageError::Interrupted, Into::into))
    }

    /// Finds the manifest at the first endpoint that has it.
    async fn resolve<'a>(
        &self,
        asked: &'a FlightKey,
    ) -> Result<Found<'a>, PullImageError> {
        let FlightKey { reference, auth, has_fallback } = asked;
        let endpoints = self.client.endpoints(reference).await;
        let mut sources: Vec<Repository<'a>> = endpoints
            .into_iter()
            .map(|endpoint| Repository {
                reference,
                auth: auth.as_ref(),
                endpoint,
                has_fallback: *has_fallback,
            })
            .collect();
        let cached = self.cached(reference);
        let mut answer: Option<PullImageError> = None;
        for n in 0..sources.len() {
            if let Some(image) = &cached
                && self.is_unchanged(&sources[n], image).await
            {
                return Ok(Found::Unchanged(Box::new(image.clone())));
            }
            match self.resolve_at(&sources[n]).await {
                Ok((digest, bytes, manifest)) => {
                    // What the manifest came from is asked for the rest first.
                    sources[..=n].rotate_right(1);
                    let resolved =
                        Resolved { sources, digest, bytes, manifest };
                    return Ok(Found::Manifest(Box::new(resolved)));
                }
                Err(error) => {
                    tracing::debug!(host = sources[n].endpoint.host(), %error, "an endpoint failed");
                    // The registry has the last word, if it can be reached;
                    // if not, a mirror's answer says more.
                    answer = match (answer, &error) {
                        (
                            Some(PullImageError::Registry(before)),
                            PullImageError::Registry(now),
                        ) if before.is_answer() && !now.is_answer() => {
                            Some(PullImageError::Registry(before))
                        }
                        _ => Some(error),
                    };
                }
            }
        }
        Err(answer.unwrap_or(PullImageError::Interrupted))
    }

    fn cached(&self, reference: &ImageReference) -> Option<Image> {
        let record =
            self.names.get(&self.store, &reference.store_key()).ok()??;
        self.image(reference.clone(), record)
    }

    async fn is_unchanged(
        &self,
        source: &Repository<'_>,
        image: &Image,
    ) -> bool {
        let key = source.reference.manifest_key();
        // Loaded from a file, it was never this registry's.
        image.origin == ImageOrigin::Pulled
            && self.client.manifest_digest(source, &key).await
                == Some(image.digest)
    }

    async fn resolve_at(
        &self,
        source: &Repository<'_>,
    ) -> Result<(Digest, Vec<u8>, Manifest), PullImageError> {
        let mut key = source.reference.manifest_key();
        let mut first = None;
        for _ in 0..=INDEX_DEPTH_MAX {
            let fetched = self.client.manifest(source, &key).await?;
            let digest = *first.get_or_insert(fetched.digest);
            match Content::parse(&fetched.bytes)? {
                Content::Manifest(manifest) => {
                    return Ok((digest, fetched.bytes.into(), manifest));
                }
                Content::Index(index) => {
                    key = index.select(&self.platform)?.digest.to_string();
                }
            }
        }
        Err(ManifestError::TooDeep.into())
    }

    async fn fetch_layer(
        self: &Arc<Inner>,
        sources: &[Repository<'_>],
        diff_id: Digest,
        layer: &Descriptor,
        n: usize,
        progress: &Progress,
    ) -> Result<(), PullImageError> {
        // The lock first: who waits for one never keeps a slot from others.
        let lock = self.flights.layer(&diff_id);
        let _alone = lock.lock().await;
        if self.store.has_layer(&diff_id) {
            progress.set(n, LayerPhase::AlreadyExists);
            return Ok(());
        }
        let slot = self.flights.slots.acquire().await;
        let _slot = slot.map_err(|_| PullImageError::Interrupted)?;
        progress.set(n, LayerPhase::Pulling);
        let (sender, reader) = Transfer::channel();
        let digests = LayerDigests { blob: Some(layer.digest), diff_id };
        let inner = Arc::clone(self);
        let unpacked =
            tokio::task::spawn_blocking(move || inner.unpack(reader, digests));
        let transfer = Transfer {
            digest: layer.digest,
            size: layer.size,
            sources,
            client: &self.client,
        };
        let report = |bytes| progress.add_bytes(n, bytes);
        let transferred = transfer.run(sender, report).await;
        let unpacked =
            unpacked.await.map_err(|_| PullImageError::Interrupted)?;
        match transferred {
            Err(error) => return Err(error.into()),
            Ok(Transferred::Whole | Transferred::Refused) => unpacked?,
        }
        progress.set(n, LayerPhase::Done);
        Ok(())
    }

    fn unpack(
        &self,
        reader: BlobReader,
        digests: LayerDigests,
    ) -> Result<(), PullImageError> {
        let target = self.store.begin_layer()?;
        let limits = &self.config.limits;
        let unpacked = unpack_layer(reader, digests, &target.fs(), limits)
            .map_err(|source| PullImageError::Layer {
                digest: digests.blob.unwrap_or(digests.diff_id),
                source: Arc::new(source),
            })?;
        let facts =
            LayerFacts { bytes: unpacked.bytes, entries: unpacked.entries };
        Ok(target.finish(&digests.diff_id, facts)?)
    }
}

enum Found<'a> {
    /// What is here is what the registry has.
    Unchanged(Box<Image>),
    Manifest(Box<Resolved<'a>>),
}
