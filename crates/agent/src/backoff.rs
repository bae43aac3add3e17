//! Waiting longer after each failure.

use std::time::Duration;

/// Delays that grow by a factor up to a limit, with a jitter of a fifth.
#[derive(Clone, Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    factor: f64,
    current: Duration,
}

impl Backoff {
    /// From `min` to `max`, each time `factor` as long.
    pub fn new(min: Duration, max: Duration, factor: f64) -> Backoff {
        Backoff { min, max, factor, current: min }
    }

    /// The next delay; `seed` shifts it by up to a fifth either way.
    pub fn next_delay(&mut self, seed: u64) -> Duration {
        const STEPS: u16 = 1000;
        let delay = self.current;
        self.current = delay.mul_f64(self.factor).min(self.max);
        // 0 is no jitter, so that callers without seeds need none.
        if seed == 0 {
            return delay;
        }
        let step = u16::try_from(seed % u64::from(STEPS)).unwrap_or(0);
        delay.mul_f64(0.8 + 0.4 * f64::from(step) / f64::from(STEPS))
    }

    /// Begins anew, after something went well.
    pub fn reset(&mut self) {
        self.current = self.min;
    }
}

/// Makes a call up to `attempts` times, as long as its error is one that may
/// pass; `first` and `longest` are the waits between, each twice the last.
pub(crate) async fn patiently<T, E, F>(
    attempts: u32,
    [first, longest]: [Duration; 2],
    is_transient: impl Fn(&E) -> bool,
    mut call: impl FnMut() -> F,
) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    let mut backoff = Backoff::new(first, longest, 2.0);
    for _ in 1..attempts {
        match call().await {
            Err(error) if is_transient(&error) => {
                tokio::time::sleep(backoff.next_delay(0)).await;
            }
            other => return other,
        }
    }
    call().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_limit_and_begin_anew() {
        let second = Duration::from_secs(1);
        let mut backoff = Backoff::new(second, 3 * second, 2.0);
        assert_eq!(backoff.next_delay(0), second);
        assert_eq!(backoff.next_delay(0), 2 * second);
        assert_eq!(backoff.next_delay(0), 3 * second);
        assert_eq!(backoff.next_delay(0), 3 * second);
        backoff.reset();
        assert_eq!(backoff.next_delay(0), second);
    }

    #[tokio::test(start_paused = true)]
    async fn what_passes_is_called_again_and_not_for_ever() {
        let second = Duration::from_secs(1);
        for (is_transient, expected) in [(true, (3, 3)), (false, (1, 0))] {
            let began = tokio::time::Instant::now();
            let mut calls = 0;
            let ended: Result<(), ()> = patiently(
                3,
                [second, 2 * second],
                |()| is_transient,
                || {
                    calls += 1;
                    std::future::ready(Err(()))
                },
            )
            .await;
            assert_eq!(ended, Err(()));
            assert_eq!((calls, began.elapsed().as_secs()), expected);
        }
    }

    proptest::proptest! {
        #[test]
        fn jitter_stays_within_a_fifth(seed: u64) {
            let second = Duration::from_secs(1);
            let mut backoff = Backoff::new(second, second, 1.0);
            let delay = backoff.next_delay(seed).as_secs_f64();
            proptest::prop_assert!((0.8..=1.2).contains(&delay));
        }
    }
}
