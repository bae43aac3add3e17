//! When a deployment has failed, and how long to wait before trying again.

/// The least failures that trip the circuit breaker (developer guide, "How
/// the Amazon ECS deployment circuit breaker detects failures").
const THRESHOLD_MIN: u32 = 3;
/// The most failures it lets pass.
const THRESHOLD_MAX: u32 = 200;

/// How many failed tasks make a deployment fail: half of the desired count,
/// within 3 and 200.
pub fn breaker_threshold(desired: u32) -> u32 {
    desired.div_ceil(2).clamp(THRESHOLD_MIN, THRESHOLD_MAX)
}

/// How patient the scheduler is.
///
/// AWS waits where it must be slow. Here tasks start within milliseconds, so
/// the default pace acts on events; AWS's own timings are there for
/// rehearsals (`--pace aws`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How long a task without a health check must run before it counts as
    /// healthy, in milliseconds.
    pub settle_ms: i64,
    /// The first wait after a round of tasks that did not start, in
    /// milliseconds. It doubles with every further round.
    pub retry_base_ms: i64,
    /// The longest such wait, in milliseconds.
    pub retry_max_ms: i64,
    /// A task that ends sooner than this after its start counts as one that
    /// did not start as far as waiting is concerned, in milliseconds.
    pub crash_ms: i64,
}

impl Pace {
    /// As fast as the machine allows.
    ///
    /// A task that crashes right after its start would be replaced many times
    /// a second, so such crashes are waited out like failed starts.
    pub const FAST: Pace = Pace {
        settle_ms: 0,
        retry_base_ms: 1_000,
        retry_max_ms: 60_000,
        crash_ms: 10_000,
    };
    /// AWS's: 40 s before a task counts (API reference,
    /// `minimumHealthyPercent`), and up to 15 minutes between attempts
    /// (developer guide, "Service throttle logic"), which only tasks cause
    /// that never ran.
    pub const AWS: Pace = Pace {
        settle_ms: 40_000,
        retry_base_ms: 10_000,
        retry_max_ms: 15 * 60 * 1000,
        crash_ms: 0,
    };
}

/// The wait before the next attempt after `rounds` rounds of failures.
pub fn retry_delay_ms(pace: Pace, rounds: u32) -> i64 {
    let Some(doublings) = rounds.checked_sub(1) else { return 0 };
    // 2^40 base waits are beyond any maximum.
    let factor = 1_i64 << doublings.min(40);
    pace.retry_base_ms.saturating_mul(factor).min(pace.retry_max_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_thresholds() {
        for (desired, threshold) in
            [(0, 3), (1, 3), (6, 3), (7, 4), (25, 13), (400, 200), (800, 200)]
        {
            assert_eq!(breaker_threshold(desired), threshold, "{desired}");
        }
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let waits: Vec<i64> =
            (0..9).map(|rounds| retry_delay_ms(Pace::AWS, rounds)).collect();
        assert_eq!(
            waits,
            [
                0, 10_000, 20_000, 40_000, 80_000, 160_000, 320_000, 640_000,
                900_000
            ]
        );
        assert_eq!(retry_delay_ms(Pace::FAST, u32::MAX), 60_000);
    }
}
