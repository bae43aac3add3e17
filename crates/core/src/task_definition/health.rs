//! Rules of health checks, time-outs and restarts.

use minato_wire::ecs::{ContainerDefinition, HealthCheck, TaskDefinition};

use super::{containers, list, name};
use crate::rule::RuleError;

/// The most exit codes that a restart policy can ignore.
const IGNORED_EXIT_CODES_MAX: usize = 50;

pub(super) fn checks(definition: &TaskDefinition) -> Result<(), RuleError> {
    for container in containers(definition) {
        if let Some(check) = &container.health_check {
            one_check(container, check)?;
        }
        timeouts(container)?;
    }
    Ok(())
}

/// Whether the container's health is looked at: `NONE` turns a check off.
pub fn has_check(container: &ContainerDefinition) -> bool {
    let check = container.health_check.as_ref();
    check.is_some_and(|check| {
        list(&check.command).first().is_some_and(|kind| kind != "NONE")
    })
}

fn one_check(
    container: &ContainerDefinition,
    check: &HealthCheck,
) -> Result<(), RuleError> {
    let invalid = |why: String| {
        Err(RuleError::client(format!(
            "Invalid 'healthCheck' setting for container '{}'. {why}",
            name(container)
        )))
    };
    let command = list(&check.command);
    let good = match command.first().map(String::as_str) {
        Some("CMD" | "CMD-SHELL") => command.len() > 1,
        Some("NONE") => command.len() == 1,
        _ => false,
    };
    if !good {
        return invalid(
            "The command must begin with CMD or CMD-SHELL and a command must \
             follow."
                .into(),
        );
    }
    let ranges = [
        ("interval", check.interval, 5..=300),
        ("timeout", check.timeout, 2..=60),
        ("retries", check.retries, 1..=10),
        ("startPeriod", check.start_period, 0..=300),
    ];
    for (setting, value, range) in ranges {
        if value.is_some_and(|value| !range.contains(&value)) {
            return invalid(format!(
                "'{setting}' must be between {} and {}.",
                range.start(),
                range.end()
            ));
        }
    }
    Ok(())
}

fn timeouts(container: &ContainerDefinition) -> Result<(), RuleError> {
    let both = [
        ("startTimeout", container.start_timeout),
        ("stopTimeout", container.stop_timeout),
    ];
    for (setting, value) in both {
        if value.is_some_and(|seconds| seconds < 0) {
            return Err(RuleError::client(format!(
                "Invalid '{setting}' setting for container '{}'. It must not \
                 be negative.",
                name(container)
            )));
        }
    }
    Ok(())
}

pub(super) fn restarts(definition: &TaskDefinition) -> Result<(), RuleError> {
    for container in containers(definition) {
        let Some(policy) = &container.restart_policy else {
            continue;
        };
        let invalid = |why: &str| {
            Err(RuleError::client(format!(
                "Invalid 'restartPolicy' setting for container '{}'. {why}",
                name(container)
            )))
        };
        if policy.enabled.is_none() {
            return invalid("'enabled' should not be null.");
        }
        if list(&policy.ignored_exit_codes).len() > IGNORED_EXIT_CODES_MAX {
            return invalid("There must be at most 50 ignored exit codes.");
        }
        let period = policy.restart_attempt_period.unwrap_or(300);
        if !(60..=1800).contains(&period) {
            return invalid(
                "'restartAttemptPeriod' must be between 60 and 1800.",
            );
        }
    }
    Ok(())
}
