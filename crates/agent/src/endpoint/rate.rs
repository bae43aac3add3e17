//! How often a task may ask: upstream's 40 requests a second, 60 at once.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

const PER_SECOND: f64 = 40.0;
const BURST: f64 = 60.0;
/// After so long every bucket is full again.
const REFILL: Duration = Duration::from_millis(1500);
/// Buckets kept; then the full ones, which say nothing, are dropped.
const BUCKETS_MAX: usize = 4096;

/// Whose bucket it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Payer {
    /// A task, by its ARN.
    Task(String),
    /// Somebody whose token is nobody's.
    Peer(IpAddr),
}

/// A token bucket for each payer.
#[derive(Debug, Default)]
pub(super) struct RateLimit {
    buckets: HashMap<Payer, (f64, Instant)>,
}

impl RateLimit {
    /// Whether the payer may ask once more.
    pub(super) fn has(&self, payer: &Payer, now: Instant) -> bool {
        self.level(payer, now) >= 1.0
    }

    /// Takes one request; `false` where there is none left.
    pub(super) fn take(&mut self, payer: &Payer, now: Instant) -> bool {
        let level = self.level(payer, now);
        if level < 1.0 {
            return false;
        }
        if self.buckets.len() >= BUCKETS_MAX {
            self.buckets
                .retain(|_, (_, then)| now.duration_since(*then) < REFILL);
        }
        self.buckets.insert(payer.clone(), (level - 1.0, now));
        true
    }

    fn level(&self, payer: &Payer, now: Instant) -> f64 {
        let Some((level, then)) = self.buckets.get(payer) else {
            return BURST;
        };
        let gained = now.duration_since(*then).as_secs_f64() * PER_SECOND;
        (level + gained).min(BURST)
    }
}
