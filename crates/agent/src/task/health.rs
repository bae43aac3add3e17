//! A container's health check: a command run in it from time to time.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::plan::HealthCheck;
use super::record::HealthStatus;
use crate::runtime::{ExecOutput, ExecSpec, Runtime, RuntimeError};

/// Output kept of a check, as Docker keeps.
const OUTPUT_MAX: usize = 4096;

/// What one run of a check says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckResult {
    /// Whether the command exited with code 0 in time.
    pub is_ok: bool,
    /// What it printed, or why it could not be run.
    pub output: String,
}

/// Counts results and tells when health changes.
///
/// Failures within the start period do not count until a first success;
/// `retries` failures in a row make a container unhealthy, one success makes
/// it healthy.
#[derive(Clone, Debug)]
pub struct HealthTracker {
    retries: u32,
    failures: u32,
    status: HealthStatus,
}

impl HealthTracker {
    /// Begins with nothing known, or with what was known before a restart.
    pub fn new(check: &HealthCheck, status: HealthStatus) -> HealthTracker {
        HealthTracker { retries: check.retries, failures: 0, status }
    }

    /// Takes a result; answers the status after it.
    pub fn record(
        &mut self,
        result: &CheckResult,
        is_in_start_period: bool,
    ) -> HealthStatus {
        if result.is_ok {
            self.failures = 0;
            self.status = HealthStatus::Healthy;
        } else if !(is_in_start_period && self.status == HealthStatus::Unknown)
        {
            self.failures = self.failures.saturating_add(1);
            if self.failures >= self.retries {
                self.status = HealthStatus::Unhealthy;
            }
        }
        self.status
    }
}

/// Runs a container's check, over and over.
#[derive(Debug)]
pub struct HealthWatch<'a> {
    check: &'a HealthCheck,
    tracker: HealthTracker,
    start_period_ends: Instant,
}

impl<'a> HealthWatch<'a> {
    /// Begins now, with what was known before a restart.
    pub fn new(check: &'a HealthCheck, known: HealthStatus) -> HealthWatch<'a> {
        HealthWatch {
            check,
            tracker: HealthTracker::new(check, known),
            start_period_ends: Instant::now() + check.start_period,
        }
    }

    /// Waits for the next run and makes it; answers the status after it.
    pub async fn next(
        &mut self,
        runtime: &dyn Runtime,
        id: &str,
    ) -> (HealthStatus, String) {
        sleep(self.check.interval).await;
        let result = run_once(runtime, id, self.check).await;
        let is_in_start_period = Instant::now() < self.start_period_ends;
        let status = self.tracker.record(&result, is_in_start_period);
        (status, result.output)
    }
}

async fn run_once(
    runtime: &dyn Runtime,
    id: &str,
    check: &HealthCheck,
) -> CheckResult {
    let spec = ExecSpec {
        args: check.command.clone(),
        output_max_bytes: OUTPUT_MAX,
        ..ExecSpec::default()
    };
    judge(runtime.exec(id, &spec, check.timeout).await, check.timeout)
}

fn judge(
    result: Result<ExecOutput, RuntimeError>,
    timeout: Duration,
) -> CheckResult {
    match result {
        Ok(done) if done.timed_out => CheckResult {
            is_ok: false,
            output: format!("Health check exceeded timeout ({timeout:?})"),
        },
        Ok(done) => CheckResult {
            is_ok: done.exit_code == 0,
            output: String::from_utf8_lossy(&done.output).into_owned(),
        },
        Err(error) => CheckResult { is_ok: false, output: error.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check() -> HealthCheck {
        HealthCheck {
            command: vec!["true".into()],
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            retries: 3,
            start_period: Duration::ZERO,
        }
    }

    fn result(is_ok: bool) -> CheckResult {
        CheckResult { is_ok, output: String::new() }
    }

    #[test]
    fn failures_in_a_row_make_it_unhealthy_and_one_success_healthy() {
        let mut health = HealthTracker::new(&check(), HealthStatus::Unknown);
        let mut record = |is_ok| health.record(&result(is_ok), false);
        assert_eq!(record(false), HealthStatus::Unknown);
        assert_eq!(record(false), HealthStatus::Unknown);
        assert_eq!(record(true), HealthStatus::Healthy);
        assert_eq!(record(false), HealthStatus::Healthy);
        assert_eq!(record(false), HealthStatus::Healthy);
        assert_eq!(record(false), HealthStatus::Unhealthy);
        assert_eq!(record(true), HealthStatus::Healthy);
    }

    #[test]
    fn failures_in_the_start_period_count_only_after_a_success() {
        let mut health = HealthTracker::new(&check(), HealthStatus::Unknown);
        for _ in 0..10 {
            let status = health.record(&result(false), true);
            assert_eq!(status, HealthStatus::Unknown);
        }
        health.record(&result(true), true);
        for _ in 0..3 {
            health.record(&result(false), true);
        }
        let status = health.record(&result(true), true);
        assert_eq!(status, HealthStatus::Healthy);
    }
}
