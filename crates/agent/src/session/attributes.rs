//! What the agent says it can do.
//!
//! The control plane places a task only where every attribute its definition
//! requires is listed, so this list is a promise: an entry stands here when
//! the agent really does it, and a test of the list names what does.

use minato_core::capacity::group::GROUP_ATTRIBUTE;
use minato_core::launch_volume::XFS_ATTRIBUTE;
use minato_wire::acs::{FIREWALL_ATTRIBUTE, IPV6_ATTRIBUTE};
use minato_wire::ecs::Attribute;

use crate::config::AgentConfig;
use crate::logs::journal;

/// Capabilities by the upstream agent's names.
const CAPABILITIES: [&str; 47] = [
    "com.amazonaws.ecs.capability.privileged-container",
    "com.amazonaws.ecs.capability.docker-remote-api.1.17",
    "com.amazonaws.ecs.capability.docker-remote-api.1.18",
    "com.amazonaws.ecs.capability.docker-remote-api.1.19",
    "com.amazonaws.ecs.capability.docker-remote-api.1.20",
    "com.amazonaws.ecs.capability.docker-remote-api.1.21",
    "com.amazonaws.ecs.capability.docker-remote-api.1.22",
    "com.amazonaws.ecs.capability.docker-remote-api.1.23",
    "com.amazonaws.ecs.capability.docker-remote-api.1.24",
    "com.amazonaws.ecs.capability.docker-remote-api.1.25",
    "com.amazonaws.ecs.capability.docker-remote-api.1.28",
    "com.amazonaws.ecs.capability.docker-remote-api.1.29",
    "com.amazonaws.ecs.capability.docker-remote-api.1.30",
    "com.amazonaws.ecs.capability.docker-remote-api.1.32",
    "com.amazonaws.ecs.capability.logging-driver.awslogs",
    "com.amazonaws.ecs.capability.logging-driver.awsfirelens",
    "com.amazonaws.ecs.capability.logging-driver.fluentd",
    "com.amazonaws.ecs.capability.logging-driver.gelf",
    "com.amazonaws.ecs.capability.logging-driver.json-file",
    "com.amazonaws.ecs.capability.logging-driver.none",
    "com.amazonaws.ecs.capability.logging-driver.syslog",
    "ecs.capability.firelens.fluentbit",
    "ecs.capability.firelens.fluentd",
    "ecs.capability.firelens.options.config.file",
    "ecs.capability.logging-driver.awsfirelens.log-driver-buffer-limit",
    // Of log routers, the only drivers here that take secrets.
    "ecs.capability.secrets.asm.bootstrap.log-driver",
    "ecs.capability.secrets.ssm.bootstrap.log-driver",
    // Logs are sent in the host's own name: in a control plane of one
    // account an execution role changes nothing about where they may go.
    "ecs.capability.execution-role-awslogs",
    "ecs.capability.private-registry-authentication.secretsmanager",
    // From a mirror, or loaded by hand: `steps/image.rs` says so where an
    // image is nowhere.
    "com.amazonaws.ecs.capability.ecr-auth",
    "ecs.capability.execution-role-ecr-pull",
    "ecs.capability.secrets.asm.environment-variables",
    "ecs.capability.secrets.ssm.environment-variables",
    "com.amazonaws.ecs.capability.task-iam-role",
    "com.amazonaws.ecs.capability.task-iam-role-network-host",
    "ecs.capability.task-cpu-mem-limit",
    "ecs.capability.increased-task-cpu-limit",
    "ecs.capability.pid-ipc-namespace-sharing",
    "ecs.capability.task-eni",
    "ecs.capability.aws-appmesh",
    "ecs.capability.container-health-check",
    "ecs.capability.container-ordering",
    "ecs.capability.container-restart-policy",
    "ecs.capability.execute-command",
    "ecs.capability.network.container-port-range",
    "ecs.capability.docker-plugin.local",
    "ecs.capability.full-sync",
];

/// What an agent can do on a host with systemd's journal.
const JOURNAL_CAPABILITY: &str =
    "com.amazonaws.ecs.capability.logging-driver.journald";

/// What an agent can do that has directories for EFS file systems.
const EFS_CAPABILITIES: [&str; 2] =
    ["ecs.capability.efs", "ecs.capability.efsAuth"];

/// What an agent can do that knows where S3 is.
const S3_CAPABILITIES: [&str; 2] = [
    "ecs.capability.env-files.s3",
    "ecs.capability.firelens.options.config.s3",
];
/// What an agent can do that can put ext4 into files. Non-root users write to
/// such volumes by their group.
const EBS_CAPABILITIES: [&str; 3] = [
    "ecs.capability.extensible-ephemeral-storage",
    "ecs.capability.storage.ebs-task-volume-attach",
    "ecs.capability.storage.ebsta-non-root-user",
];

/// The attributes of every registration.
pub fn attributes(config: &AgentConfig, is_first: bool) -> Vec<Attribute> {
    let mut list: Vec<Attribute> =
        CAPABILITIES.iter().map(|name| attribute(name, None)).collect();
    list.push(attribute(FIREWALL_ATTRIBUTE, None));
    if !config.efs.is_empty() {
        list.extend(EFS_CAPABILITIES.map(|name| attribute(name, None)));
    }
    if config.s3.is_some() {
        list.extend(S3_CAPABILITIES.map(|name| attribute(name, None)));
    }
    if config.volumes.ext4 {
        list.extend(EBS_CAPABILITIES.map(|name| attribute(name, None)));
        if config.volumes.xfs {
            list.push(attribute(XFS_ATTRIBUTE, None));
        }
    }
    if std::path::Path::new(journal::SOCKET).exists() {
        list.push(attribute(JOURNAL_CAPABILITY, None));
    }
    if config.fault_injection {
        list.push(attribute("ecs.capability.fault-injection", None));
    }
    if config.ipv6 {
        list.push(attribute(IPV6_ATTRIBUTE, None));
    }
    for (name, value) in [
        ("ecs.os-type", "linux"),
        ("ecs.os-family", "LINUX"),
        ("ecs.cpu-architecture", architecture()),
        ("ecs.availability-zone", &config.availability_zone),
    ] {
        list.push(attribute(name, Some(value)));
    }
    if let Some(group) = &config.auto_scaling_group {
        list.push(attribute(GROUP_ATTRIBUTE, Some(group)));
    }
    if is_first {
        for (name, value) in &config.attributes {
            list.push(attribute(name, Some(value)));
        }
    }
    list
}

fn attribute(name: &str, value: Option<&str>) -> Attribute {
    Attribute {
        name: Some(name.to_owned()),
        value: value.map(str::to_owned),
        ..Attribute::default()
    }
}

/// The machine's architecture, in ECS's words.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
#[path = "attributes_tests.rs"]
mod tests;
