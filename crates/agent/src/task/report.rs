//! What the control plane is told of a task.

use minato_wire::ecs::{
    ContainerStateChange, ManagedAgentName, ManagedAgentStateChange,
    NetworkBinding, SubmitTaskStateChangeRequest, TransportProtocol,
};
use serde_json::Value;

use super::plan::TaskPlan;
use super::record::{Binding, ContainerRecord, TaskRecord};
use super::status::{ContainerStatus, TaskStatus};
use crate::runtime::PortProtocol;

/// Longest reason the API takes.
const REASON_MAX: usize = 1024;

/// Whether some container's state is news.
pub fn has_container_news(record: &TaskRecord) -> bool {
    record.containers.values().any(is_news)
}

fn is_news(container: &ContainerRecord) -> bool {
    container.status >= ContainerStatus::Running
        && container.status > container.reported
}

/// Makes a report of all that is news, and takes it as told.
pub fn take_report(
    cluster: &str,
    task_arn: &str,
    plan: Option<&TaskPlan>,
    record: &mut TaskRecord,
) -> Result<Value, serde_json::Error> {
    let status = TaskStatus::of(record).max(record.reported);
    let (mut containers, mut managed_agents) = (vec![], vec![]);
    for (name, container) in &mut record.containers {
        if is_news(container) {
            let plan = plan.and_then(|plan| plan.container(name));
            let id = plan.map(|plan| plan.id.as_str());
            if plan.is_some_and(|plan| plan.can_exec) {
                managed_agents.push(exec_agent(name, container));
            }
            containers.push(container_change(name, id, container));
            container.reported = container.status;
        }
    }
    record.reported = status;
    let is_stopped = status == TaskStatus::Stopped;
    let request = SubmitTaskStateChangeRequest {
        cluster: Some(cluster.to_owned()),
        task: Some(task_arn.to_owned()),
        status: Some(status.as_str().to_owned()),
        reason: Some(shorten(record.reason.as_deref().unwrap_or_default())),
        containers: Some(containers),
        managed_agents: Some(managed_agents).filter(|all| !all.is_empty()),
        pull_started_at: record.pull_started_at,
        pull_stopped_at: record.pull_stopped_at,
        execution_stopped_at: record
            .execution_stopped_at
            .filter(|_| is_stopped),
        ..SubmitTaskStateChangeRequest::default()
    };
    serde_json::to_value(request)
}

fn container_change(
    name: &str,
    id: Option<&str>,
    container: &ContainerRecord,
) -> ContainerStateChange {
    let has_run = container.started_at.is_some();
    // An end is known before it is cleared away, and told after.
    let has_stopped = container.status == ContainerStatus::Stopped;
    ContainerStateChange {
        container_name: Some(name.to_owned()),
        image_digest: container
            .facts
            .image
            .as_ref()
            .and_then(|image| image.digest.clone()),
        runtime_id: id.filter(|_| has_run).map(str::to_owned),
        exit_code: container.exit_code.filter(|_| has_stopped),
        network_bindings: has_run.then(|| {
            container.facts.bindings.iter().map(network_binding).collect()
        }),
        reason: container
            .reason
            .as_deref()
            .filter(|_| has_stopped)
            .map(shorten),
        status: Some(container.status.reported_as().to_owned()),
    }
}

/// Commands can be run as long as the container runs: what serves them is this
/// agent itself.
fn exec_agent(
    name: &str,
    container: &ContainerRecord,
) -> ManagedAgentStateChange {
    ManagedAgentStateChange {
        container_name: Some(name.to_owned()),
        managed_agent_name: Some(ManagedAgentName::ExecuteCommandAgent),
        status: Some(container.status.reported_as().to_owned()),
        reason: None,
    }
}

fn network_binding(binding: &Binding) -> NetworkBinding {
    let bound = NetworkBinding {
        bind_ip: Some("0.0.0.0".into()),
        protocol: Some(match binding.protocol {
            PortProtocol::Tcp => TransportProtocol::Tcp,
            PortProtocol::Udp => TransportProtocol::Udp,
        }),
        ..NetworkBinding::default()
    };
    if binding.count == 1 {
        return NetworkBinding {
            container_port: Some(i32::from(binding.container_port)),
            host_port: Some(i32::from(binding.host_port)),
            ..bound
        };
    }
    let range = |first: u16| {
        let last = first.saturating_add(binding.count.saturating_sub(1));
        Some(format!("{first}-{last}"))
    };
    NetworkBinding {
        container_port_range: range(binding.container_port),
        host_port_range: range(binding.host_port),
        ..bound
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(REASON_MAX).collect()
}
