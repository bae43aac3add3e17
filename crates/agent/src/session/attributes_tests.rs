//! The promise: nothing twice, and nothing that nobody asks for.

use std::collections::BTreeSet;

use minato_core::task_definition::requires_attributes;
use minato_wire::ecs::TaskDefinition;
use serde_json::json;

use super::*;

/// What no definition asks for, and why it is told all the same.
const UNASKED: [(&str, &str); 11] = [
    ("docker-remote-api.1.17", "some versions came with nothing we use"),
    ("docker-remote-api.1.20", "the same"),
    ("docker-remote-api.1.21", "the same"),
    ("docker-remote-api.1.23", "the same"),
    ("docker-remote-api.1.28", "the same"),
    ("docker-remote-api.1.30", "the same"),
    ("docker-remote-api.1.32", "the same"),
    ("logging-driver.none", "the agent's default, which the API cannot name"),
    ("increased-task-cpu-limit", "asked for above ten vCPUs"),
    ("execute-command", "asked for by enableExecuteCommand of a call"),
    ("full-sync", "read by the control plane itself"),
];

fn logged(name: &str, driver: &str) -> serde_json::Value {
    json!({
        "name": name, "image": name,
        "logConfiguration": {"logDriver": driver},
    })
}

fn definition() -> TaskDefinition {
    serde_json::from_value(json!({
        "networkMode": "awsvpc",
        "taskRoleArn": "role", "executionRoleArn": "role",
        "cpu": "256", "pidMode": "task",
        "volumes": [{"name": "v", "dockerVolumeConfiguration": {}}],
        "containerDefinitions": [{
            "name": "a", "image": "a", "privileged": true,
            "healthCheck": {"command": ["CMD", "true"]},
            "dependsOn": [{"containerName": "b", "condition": "START"}],
            "repositoryCredentials": {"credentialsParameter": "s"},
            "restartPolicy": {"enabled": true},
            "portMappings": [{"containerPortRange": "1-2"}],
            "logConfiguration": {"logDriver": "awslogs"},
            "secrets": [
                {"name": "A", "valueFrom": "arn:aws:secretsmanager:r:1:x"},
                {"name": "B", "valueFrom": "parameter"},
            ],
            "linuxParameters": {"initProcessEnabled": true,
                "sharedMemorySize": 5},
        }, {
            "name": "b", "image": "1.dkr.ecr.us-east-1.amazonaws.com/b",
            "logConfiguration": {"logDriver": "json-file"},
        },
            logged("c", "fluentd"), logged("d", "gelf"),
            logged("e", "syslog"), {
            "name": "f", "image": "f",
            "logConfiguration": {"logDriver": "awsfirelens",
                "options": {"log-driver-buffer-limit": "1"},
                "secretOptions": [
                    {"name": "A",
                     "valueFrom": "arn:aws:secretsmanager:r:1:x"},
                    {"name": "B", "valueFrom": "parameter"},
                ]},
        }, {
            "name": "g", "image": "g",
            "firelensConfiguration": {"type": "fluentd",
                "options": {"config-file-type": "file"}},
        }, {
            "name": "h", "image": "h",
            "firelensConfiguration": {"type": "fluentbit"},
        }],
        "proxyConfiguration": {"type": "APPMESH", "containerName": "h"},
    }))
    .unwrap()
}

#[test]
fn every_capability_is_told_once_and_asked_for() {
    let told: BTreeSet<&str> = CAPABILITIES.into_iter().collect();
    assert_eq!(told.len(), CAPABILITIES.len());
    let mut asked = BTreeSet::new();
    for mode in ["awsvpc", "host"] {
        let mut definition = definition();
        definition.network_mode = serde_json::from_value(json!(mode)).unwrap();
        let attributes = requires_attributes(&definition);
        asked.extend(attributes.into_iter().filter_map(|one| one.name));
    }
    let is_unasked = |name: &str| {
        let end = |known: &str| name.ends_with(&format!(".{known}"));
        UNASKED.iter().any(|(known, _)| end(known))
    };
    let idle: Vec<&&str> = told
        .iter()
        .filter(|name| !asked.contains(**name) && !is_unasked(name))
        .collect();
    assert_eq!(idle, Vec::<&&str>::new());
}

#[test]
fn ipv6_is_told_where_the_host_has_it() {
    let mut config = AgentConfig::new("c", "us-east-1", "/nowhere");
    let has_it = |config: &AgentConfig| {
        let told = attributes(config, true);
        told.iter().any(|one| {
            one.name.as_deref() == Some("ecs.capability.task-eni.ipv6")
        })
    };
    assert!(!has_it(&config));
    config.ipv6 = true;
    assert!(has_it(&config));
}
