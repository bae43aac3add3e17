//! How far a pull or load has come, for progress bars.
//!
//! The newest state is kept and older ones are skipped (`watch`), so a slow
//! terminal never holds a pull up.

use std::sync::Arc;

use tokio::sync::watch;

use super::Digest;

/// Takes the progress of a pull or load.
pub type ProgressSender = watch::Sender<PullProgress>;

/// How far a pull or load has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PullProgress {
    /// What is going on as a whole.
    pub phase: PullPhase,
    /// Bottom first; empty until the manifest is known.
    pub layers: Vec<LayerProgress>,
}

impl PullProgress {
    /// Returns the bytes done and the bytes in all.
    pub fn bytes(&self) -> (u64, u64) {
        self.layers.iter().fold((0, 0), |(done, total), layer| {
            (done + layer.bytes_done, total + layer.bytes_total)
        })
    }
}

/// What is going on as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PullPhase {
    /// The manifest is being looked up.
    #[default]
    Resolving,
    /// Layers are fetched and unpacked, at the same time.
    Layers,
    /// The image is there.
    Done,
}

/// How far one layer has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerProgress {
    /// The blob's digest; its first twelve digits are what Docker shows.
    pub digest: Digest,
    /// What is going on.
    pub phase: LayerPhase,
    /// Compressed bytes that have arrived.
    pub bytes_done: u64,
    /// Compressed bytes in all.
    pub bytes_total: u64,
}

/// What is going on with a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerPhase {
    /// Others come first, or another pull brings the same layer.
    Waiting,
    /// It is fetched and unpacked.
    Pulling,
    /// It was there before.
    AlreadyExists,
    /// It is complete.
    Done,
}

/// The sending side within the engine; does nothing if nobody asked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress(Option<Arc<ProgressSender>>);

impl Progress {
    pub(crate) fn new(sender: Option<ProgressSender>) -> Progress {
        Progress(sender.map(Arc::new))
    }

    pub(crate) fn start_layers(
        &self,
        layers: impl Iterator<Item = (Digest, u64)>,
    ) {
        let Some(sender) = &self.0 else { return };
        let layers = layers
            .map(|(digest, bytes_total)| LayerProgress {
                digest,
                phase: LayerPhase::Waiting,
                bytes_done: 0,
                bytes_total,
            })
            .collect();
        sender.send_replace(PullProgress { phase: PullPhase::Layers, layers });
    }

    /// Moves a layer on; what is complete counts all of its bytes.
    pub(crate) fn set(&self, layer: usize, phase: LayerPhase) {
        self.modify(layer, |layer| {
            layer.phase = phase;
            match phase {
                LayerPhase::Done | LayerPhase::AlreadyExists => {
                    layer.bytes_done = layer.bytes_total;
                }
                LayerPhase::Waiting | LayerPhase::Pulling => {}
            }
        });
    }

    pub(crate) fn add_bytes(&self, layer: usize, bytes: u64) {
        self.modify(layer, |layer| {
            let done = layer.bytes_done.saturating_add(bytes);
            layer.bytes_done = done.min(layer.bytes_total);
        });
    }

    pub(crate) fn done(&self) {
        if let Some(sender) = &self.0 {
            sender.send_modify(|progress| progress.phase = PullPhase::Done);
        }
    }

    fn modify(&self, layer: usize, change: impl FnOnce(&mut LayerProgress)) {
        if let Some(sender) = &self.0 {
            sender.send_modify(|progress| {
                progress.layers.get_mut(layer).map(change);
            });
        }
    }
}
