//! What a run draws from its seed: luck, ids and the time of day.

use std::sync::atomic::{AtomicI64, Ordering};

use minato_core::env::{Clock, Ids};
use minato_wire::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;

/// A generator of numbers (SplitMix64); the same seed gives the same ones.
#[derive(Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Whether something happens that does `percent` times in a hundred.
    pub(crate) fn hits(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// Version 4 UUIDs of a seed.
pub(crate) struct SeededIds(Mutex<Chance>);

impl SeededIds {
    pub(crate) fn new(seed: u64) -> SeededIds {
        SeededIds(Mutex::new(Chance::new(seed)))
    }
}

impl Ids for SeededIds {
    fn uuid(&self) -> u128 {
        let mut chance = self.0.lock();
        let bits = u128::from(chance.next()) << 64 | u128::from(chance.next());
        bits & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62
    }
}

/// The runtime's virtual time, and by how much the clock is wrong.
pub(crate) struct VirtualClock {
    start: Instant,
    jumped_ms: AtomicI64,
}

impl VirtualClock {
    pub(crate) fn new() -> VirtualClock {
        VirtualClock { start: Instant::now(), jumped_ms: AtomicI64::new(0) }
    }

    /// Puts the clock forward, or back.
    pub(crate) fn jump(&self, millis: i64) {
        self.jumped_ms.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        /// Some day in 2026, in milliseconds.
        const EPOCH_MS: i64 = 1_780_000_000_000;
        let run = self.start.elapsed().as_millis();
        let run = i64::try_from(run).unwrap_or(i64::MAX);
        let jumped = self.jumped_ms.load(Ordering::SeqCst);
        Timestamp::from_millis(EPOCH_MS + run + jumped)
    }
}
