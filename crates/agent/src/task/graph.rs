//! What may happen next to a task's containers. Decides; never acts.
//!
//! Everything is decided from the plan, the record and the time given, so the
//! same questions after a restart get the same answers.

use minato_wire::Timestamp;

use super::plan::{Condition, ContainerPlan, Dependency, TaskPlan};
use super::record::{ContainerRecord, Desired, HealthStatus, TaskRecord};
use super::status::ContainerStatus;

/// Exit code of a container that will never be started because of another.
pub const NEVER_STARTED_EXIT_CODE: i32 = 143;

/// Whether a container may be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gate {
    /// It may.
    Open,
    /// Not yet; ask again at this time, or when something happened.
    Wait(Option<Timestamp>),
    /// It never will.
    Never(String),
}

/// What is to be done with a task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Containers to bring up.
    pub start: Vec<String>,
    /// Containers to stop.
    pub stop: Vec<String>,
    /// Containers that will never run, and why.
    pub give_up: Vec<(String, Option<String>)>,
    /// When to ask again, if nothing happens before.
    pub wake_at: Option<Timestamp>,
}

/// Decides what to do with a task's containers.
///
/// `is_busy` says which containers are being worked on: those are left alone,
/// but for being stopped.
pub fn decide(
    plan: &TaskPlan,
    record: &TaskRecord,
    is_busy: &dyn Fn(&str) -> bool,
    now: Timestamp,
) -> Decision {
    let mut decision = Decision::default();
    for container in &plan.containers {
        let name = &container.name;
        let Some(known) = record.containers.get(name) else { continue };
        if known.status == ContainerStatus::Stopped {
            continue;
        }
        if record.desired == Desired::Stopped {
            if !may_stop(plan, record, name) {
                continue;
            }
            if is_busy(name) {
                decision.stop.push(name.clone());
            } else if known.started_at.is_none() {
                decision.give_up.push((name.clone(), None));
            }
            continue;
        }
        if is_busy(name) {
            continue;
        }
        match gate(plan, record, container, now) {
            Gate::Open => decision.start.push(name.clone()),
            Gate::Wait(until) => {
                decision.wake_at = earlier(decision.wake_at, until);
            }
            Gate::Never(why) => {
                decision.give_up.push((name.clone(), Some(why)));
            }
        }
    }
    decision
}

fn earlier(
    one: Option<Timestamp>,
    other: Option<Timestamp>,
) -> Option<Timestamp> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Whether a container's dependencies let it start.
pub fn gate(
    plan: &TaskPlan,
    record: &TaskRecord,
    container: &ContainerPlan,
    now: Timestamp,
) -> Gate {
    let mut wait = None;
    for dependency in &container.depends_on {
        let (Some(target), Some(known)) = (
            plan.container(&dependency.container),
            record.containers.get(&dependency.container),
        ) else {
            return Gate::Never(format!(
                "there is no container {}",
                dependency.container
            ));
        };
        match resolve(dependency, target, known, now) {
            Gate::Open => {}
            Gate::Wait(until) => {
                wait = Some(earlier(wait.flatten(), until));
            }
            Gate::Never(why) => return Gate::Never(why),
        }
    }
    match wait {
        None => Gate::Open,
        Some(until) => Gate::Wait(until),
    }
}

fn resolve(
    dependency: &Dependency,
    target: &ContainerPlan,
    known: &ContainerRecord,
    now: Timestamp,
) -> Gate {
    let name = &dependency.container;
    let stopped = known.status == ContainerStatus::Stopped;
    let never = |what: &str| {
        Gate::Never(format!("TaskDependencyError: dependency {name} {what}"))
    };
    if stopped && known.started_at.is_none() {
        return never("did not start");
    }
    match dependency.condition {
        Condition::Create if known.status >= ContainerStatus::Created => {
            return Gate::Open;
        }
        Condition::Start if known.started_at.is_some() => return Gate::Open,
        Condition::Create | Condition::Start => return Gate::Wait(None),
        Condition::Complete if stopped => {
            return match known.exit_code {
                Some(_) => Gate::Open,
                None => never("has no exit code"),
            };
        }
        Condition::Success if stopped => {
            return match known.exit_code {
                Some(0) => Gate::Open,
                Some(code) => never(&format!("exited with code {code}")),
                None => never("has no exit code"),
            };
        }
        Condition::Healthy if stopped => {
            return never("stopped before it was healthy");
        }
        Condition::Healthy if known.health.status == HealthStatus::Healthy => {
            return Gate::Open;
        }
        Condition::Complete | Condition::Success | Condition::Healthy => {}
    }
    // The timeout is the dependency's own and counts from its start.
    let Some((timeout, started)) = target.start_timeout.zip(known.started_at)
    else {
        return Gate::Wait(None);
    };
    let millis = i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX);
    let deadline = started.plus_millis(millis);
    if now >= deadline {
        return never(&format!("timed out after {} s", timeout.as_secs()));
    }
    Gate::Wait(Some(deadline))
}

/// Whether everything that depends on a container has stopped.
pub fn may_stop(plan: &TaskPlan, record: &TaskRecord, name: &str) -> bool {
    plan.containers
        .iter()
        .filter(|other| {
            other.depends_on.iter().any(|dependency| {
                dependency.container == name && other.name != name
            })
        })
        .all(|other| {
            record.containers.get(&other.name).is_none_or(|known| {
                known.status == ContainerStatus::Stopped
                    // It never began: nothing to wait for.
                    || known.status == ContainerStatus::None
                        && known.started_at.is_none()
            })
        })
}

/// Whether the end of a container ends the task.
pub fn ends_task(plan: &TaskPlan, record: &TaskRecord) -> bool {
    plan.containers.iter().any(|container| {
        record.containers.get(&container.name).is_some_and(|known| {
            known.status == ContainerStatus::Stopped
                && (container.essential || known.started_at.is_none())
        })
    })
}
