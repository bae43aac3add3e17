//! How often a task may ask: upstream's 40 requests a second, 60 at once.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

const PER_SECOND: f64 = 40.0;
const BURST: f64 = 60.0;
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
#[derive(Debug)]
pub(super) struct RateLimit<P = Payer> {
    per_second: f64,
    burst: f64,
    buckets: HashMap<P, (f64, Instant)>,
}

impl Default for RateLimit {
    fn default() -> RateLimit {
        RateLimit::new(PER_SECOND, BURST)
    }
}

impl<P: Clone + Eq + Hash> RateLimit<P> {
    /// So many requests a second, and so many at once.
    pub(super) fn new(per_second: f64, burst: f64) -> RateLimit<P> {
        RateLimit { per_second, burst, buckets: HashMap::new() }
    }

    /// Whether the payer may ask once more.
    pub(super) fn has(&self, payer: &P, now: Instant) -> bool {
        self.level(payer, now) >= 1.0
    }

    /// Takes one request; `false` where there is none left.
    pub(super) fn take(&mut self, payer: &P, now: Instant) -> bool {
        let level = self.level(payer, now);
        if level < 1.0 {
            return false;
        }
        if self.buckets.len() >= BUCKETS_MAX {
            // After so long every bucket is full again.
            let refill = Duration::from_secs_f64(self.burst / self.per_second);
            self.buckets
                .retain(|_, (_, then)| now.duration_since(*then) < refill);
        }
        self.buckets.insert(payer.clone(), (level - 1.0, now));
        true
    }

    fn level(&self, payer: &P, now: Instant) -> f64 {
        let Some((level, then)) = self.buckets.get(payer) else {
            return self.burst;
        };
        let gained = now.duration_since(*then).as_secs_f64() * self.per_second;
        (level + gained).min(self.burst)
    }
}
