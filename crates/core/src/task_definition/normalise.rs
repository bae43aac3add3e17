//! What ECS adds to a task definition when it is registered, so that every
//! reader sees the defaults spelled out.

use minato_wire::ecs::{
    ContainerDefinition, ContainerRestartPolicy, HealthCheck, LogConfiguration,
    NetworkMode, PortMapping, RegisterTaskDefinitionRequest, TaskDefinition,
    TransportProtocol,
};

use super::units;
use crate::rule::RuleError;

/// The message for task-level `cpu` that cannot be.
pub(super) const BAD_CPU: &str = "Invalid 'cpu' setting for task. For more \
    information, see the Troubleshooting section of the Amazon ECS Developer \
    Guide.";

/// The message for task-level `memory` that cannot be.
pub(super) const BAD_MEMORY: &str = "Invalid 'memory' setting for task. For \
    more information, see the Troubleshooting section of the Amazon ECS \
    Developer Guide.";

/// The definition as it is echoed, before it has a revision.
pub(super) fn normalise(
    request: RegisterTaskDefinitionRequest,
) -> Result<TaskDefinition, RuleError> {
    let size = |text: Option<String>, read: fn(&str) -> Option<u32>, bad| {
        text.map(|text| match read(&text) {
            Some(amount) => Ok(amount.to_string()),
            None => Err(RuleError::client(bad)),
        })
        .transpose()
    };
    let network_mode = request.network_mode;
    let containers = request.container_definitions.unwrap_or_default();
    Ok(TaskDefinition {
        family: request.family,
        task_role_arn: request.task_role_arn,
        execution_role_arn: request.execution_role_arn,
        network_mode,
        container_definitions: Some(
            containers
                .into_iter()
                .map(|each| container(each, network_mode))
                .collect(),
        ),
        volumes: Some(request.volumes.unwrap_or_default()),
        placement_constraints: Some(
            request.placement_constraints.unwrap_or_default(),
        ),
        requires_compatibilities: request
            .requires_compatibilities
            .filter(|list| !list.is_empty()),
        cpu: size(request.cpu, units::cpu_units, BAD_CPU)?,
        memory: size(request.memory, units::memory_mib, BAD_MEMORY)?,
        pid_mode: request.pid_mode,
        ipc_mode: request.ipc_mode,
        proxy_configuration: request.proxy_configuration,
        inference_accelerators: request.inference_accelerators,
        ephemeral_storage: request.ephemeral_storage,
        runtime_platform: request.runtime_platform,
        enable_fault_injection: request.enable_fault_injection,
        ..TaskDefinition::default()
    })
}

fn container(
    mut container: ContainerDefinition,
    mode: Option<NetworkMode>,
) -> ContainerDefinition {
    container.cpu.get_or_insert(0);
    container.essential.get_or_insert(true);
    container.environment.get_or_insert_default();
    container.mount_points.get_or_insert_default();
    container.volumes_from.get_or_insert_default();
    container.system_controls.get_or_insert_default();
    for mapping in container.port_mappings.get_or_insert_default() {
        port_mapping(mapping, mode);
    }
    if let Some(check) = &mut container.health_check {
        health_check(check);
    }
    if let Some(log) = &mut container.log_configuration {
        log_configuration(log);
    }
    if let Some(policy) = &mut container.restart_policy {
        restart_policy(policy);
    }
    container
}

fn port_mapping(mapping: &mut PortMapping, mode: Option<NetworkMode>) {
    mapping.protocol.get_or_insert(TransportProtocol::Tcp);
    if mapping.container_port_range.is_some() {
        return;
    }
    match mode {
        Some(NetworkMode::Awsvpc | NetworkMode::Host) => {
            // 0 asks for a port of the host's choice, which there is none
            // of where the container's ports are the host's.
            if matches!(mapping.host_port, None | Some(0)) {
                mapping.host_port = mapping.container_port;
            }
        }
        Some(NetworkMode::Bridge | NetworkMode::None) | None => {
            mapping.host_port.get_or_insert(0);
        }
    }
}

fn health_check(check: &mut HealthCheck) {
    check.interval.get_or_insert(30);
    check.timeout.get_or_insert(5);
    check.retries.get_or_insert(3);
}

fn log_configuration(log: &mut LogConfiguration) {
    log.secret_options.get_or_insert_default();
}

fn restart_policy(policy: &mut ContainerRestartPolicy) {
    policy.restart_attempt_period.get_or_insert(300);
}
