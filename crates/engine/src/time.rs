//! The engine's one look at the wall clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Returns the time since the Unix epoch.
///
/// The shim is a process of its own, so no `Clock` can be handed to it; what
/// it stamps (log lines, start and exit times) is fact, never replayed.
#[expect(
    clippy::disallowed_methods,
    reason = "the one clock of the engine; stamps facts, decides nothing"
)]
pub(crate) fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Returns milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> i64 {
    i64::try_from(since_epoch().as_millis()).unwrap_or(i64::MAX)
}

/// Returns nanoseconds since the Unix epoch (fits until the year 2554).
pub(crate) fn now_ns() -> u64 {
    u64::try_from(since_epoch().as_nanos()).unwrap_or(u64::MAX)
}
