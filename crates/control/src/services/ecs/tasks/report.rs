//! What an agent's report makes of a task.
//!
//! The agent tells what happened to containers; why the task as a whole ended
//! is concluded here, because no agent sends a stop code (see
//! `reference/acs-protocol.md`, 5.1 and 5.3).

use minato_core::status::{TaskEvent, TaskStatus};
use minato_store::Tx;
use minato_wire::Timestamp;
use minato_wire::ecs::{
    Container, ContainerStateChange, ManagedAgentStateChange, NetworkBinding,
    TaskStopCode,
};

use super::{stop, volumes};
use crate::services::sts;
use crate::tables::Task;

/// Longest container reason kept (API model: `reason` of a container).
const REASON_MAX: usize = 1024;

/// One report about a task.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    /// `PENDING`, `RUNNING` or `STOPPED`, or nothing about the task itself.
    pub(crate) status: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) containers: Vec<ContainerStateChange>,
    pub(crate) managed_agents: Vec<ManagedAgentStateChange>,
    pub(crate) pull_started_at: Option<Timestamp>,
    pub(crate) pull_stopped_at: Option<Timestamp>,
    pub(crate) execution_stopped_at: Option<Timestamp>,
}

/// Applies a report; `false` where it says nothing new.
///
/// `is_essential` tells of a container by its name.
pub(crate) fn apply(
    row: &mut Task,
    report: Report,
    is_essential: impl Fn(&str) -> bool,
    now: Timestamp,
) -> bool {
    if row.is_stopped() {
        return false;
    }
    let before = row.task.clone();
    for change in report.containers {
        container(row, change);
    }
    for change in report.managed_agents {
        managed_agent(row, change, now);
    }
    volumes::show_attached(row);
    let task = &mut row.task;
    task.pull_started_at = task.pull_started_at.or(report.pull_started_at);
    task.pull_stopped_at = task.pull_stopped_at.or(report.pull_stopped_at);
    task.execution_stopped_at =
        task.execution_stopped_at.or(report.execution_stopped_at);
    match report.status.as_deref() {
        Some("RUNNING") => running(row, now),
        Some("STOPPED") => {
            stopped(row, report.reason, &is_essential, now);
        }
        _ => {}
    }
    if !row.is_stopped() && essential_ended(row, &is_essential) {
        ending(row, now);
    }
    if row.task == before {
        return false;
    }
    let version = before.version.unwrap_or(0) + 1;
    row.task.version = Some(version);
    true
}

fn container(row: &mut Task, change: ContainerStateChange) {
    let containers = row.task.containers.get_or_insert_default();
    let Some(known) =
        containers.iter_mut().find(|known| known.name == change.container_name)
    else {
        return; // not one of this task: agents' internal containers
    };
    let order = |status: Option<&str>| match status {
        Some("RUNNING") => 1,
        Some("STOPPED") => 2,
        _ => 0,
    };
    let is_news =
        order(change.status.as_deref()) >= order(known.last_status.as_deref());
    if is_news && let Some(status) = change.status {
        known.last_status = Some(status);
    }
    known.runtime_id = change.runtime_id.or(known.runtime_id.take());
    known.exit_code = change.exit_code.or(known.exit_code);
    known.image_digest = change.image_digest.or(known.image_digest.take());
    if let Some(reason) = change.reason.filter(|reason| !reason.is_empty()) {
        known.reason = Some(reason.chars().take(REASON_MAX).collect());
    }
    if let Some(bindings) = change.network_bindings {
        bind(known, bindings);
    }
}

/// What runs beside a container, such as the agent of ECS Exec.
fn managed_agent(
    row: &mut Task,
    change: ManagedAgentStateChange,
    now: Timestamp,
) {
    let containers = row.task.containers.iter_mut().flatten();
    let known = containers
        .filter(|container| container.name == change.container_name)
        .flat_map(|container| container.managed_agents.iter_mut().flatten())
        .find(|agent| agent.name == change.managed_agent_name);
    let Some(known) = known else { return };
    if change.status.as_deref() == Some("RUNNING")
        && known.last_status.as_deref() != Some("RUNNING")
    {
        known.last_started_at = Some(now);
    }
    known.last_status = change.status.or(known.last_status.take());
    known.reason = change.reason.filter(|reason| !reason.is_empty());
}

fn bind(container: &mut Container, bindings: Vec<NetworkBinding>) {
    if !bindings.is_empty() {
        container.network_bindings = Some(bindings);
    }
}

fn running(row: &mut Task, now: Timestamp) {
    let Ok(status) = row.last_status().parse::<TaskStatus>() else { return };
    let Ok(next) = status.step(TaskEvent::Started) else { return };
    row.task.last_status = Some(next.as_str().to_owned());
    row.task.started_at = row.task.started_at.or(Some(now));
}

/// An essential container is gone: the task ends, whoever has to see to it.
fn ending(row: &mut Task, now: Timestamp) {
    let reason = "Essential container in task exited".to_owned();
    stop::begin(row, TaskStopCode::EssentialContainerExited, reason, now);
}

fn stopped(
    row: &mut Task,
    reason: Option<String>,
    is_essential: &impl Fn(&str) -> bool,
    now: Timestamp,
) {
    for container in row.task.containers.iter_mut().flatten() {
        container.last_status = Some("STOPPED".to_owned());
        for agent in container.managed_agents.iter_mut().flatten() {
            agent.last_status = Some("STOPPED".to_owned());
        }
    }
    if row.should_run() {
        let (code, reason) = conclude(row, reason, is_essential);
        stop::begin(row, code, reason, now);
    }
    let task = &mut row.task;
    task.desired_status = Some("STOPPED".to_owned());
    task.stopping_at = task.stopping_at.or(Some(now));
    if row.network_interface.is_some() || row.volume.is_some() {
        // The address is given back before readers see the end.
        task.last_status = Some(TaskStatus::Deprovisioning.to_string());
    } else {
        ended(row, now);
    }
}

/// The last change: nothing of the task is left anywhere.
pub(crate) fn ended(row: &mut Task, now: Timestamp) {
    row.task.last_status = Some(TaskStatus::Stopped.to_string());
    row.task.stopped_at = Some(now);
}

/// Keeps a changed task. One that is over loses the credentials of its roles
/// in the same step.
pub(crate) fn keep(tx: &mut Tx, row: Task) {
    if row.is_stopped() {
        sts::tasks::revoke(tx, &row);
    }
    tx.put(row);
}

/// Why a task ended that nobody had asked to stop.
fn conclude(
    row: &Task,
    reason: Option<String>,
    is_essential: &impl Fn(&str) -> bool,
) -> (TaskStopCode, String) {
    let reason = reason.filter(|reason| !reason.is_empty());
    let ran =
        row.task.started_at.is_some() || essential_ended(row, is_essential);
    if ran {
        let text = "Essential container in task exited".to_owned();
        return (
            TaskStopCode::EssentialContainerExited,
            reason.unwrap_or(text),
        );
    }
    let from_container = row
        .task
        .containers
        .iter()
        .flatten()
        .find_map(|container| container.reason.clone());
    let text = reason
        .or(from_container)
        .unwrap_or_else(|| "Task failed to start".to_owned());
    (TaskStopCode::TaskFailedToStart, text)
}

/// Whether an essential container has run and ended. One that waited in vain
/// for another has an exit code too (143), but no runtime id: it never ran
/// (`reference/acs-protocol.md`, 5.3).
fn essential_ended(row: &Task, is_essential: &impl Fn(&str) -> bool) -> bool {
    row.task.containers.iter().flatten().any(|container| {
        container.last_status.as_deref() == Some("STOPPED")
            && container.exit_code.is_some()
            && container.runtime_id.is_some()
            && is_essential(container.name.as_deref().unwrap_or_default())
    })
}
