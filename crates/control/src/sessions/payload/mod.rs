//! A task as its agent needs it: from the definition and its overrides to the
//! Docker-shaped form of the agent protocol (`acs-protocol.md`, 4.3).

mod docker;
mod interface;
mod storage;

use minato_core::overrides;
use minato_core::task_definition::has_health_check;
use minato_store::Snapshot;
use minato_wire::{acs, ecs};

use crate::services::ecs::services::pinned;
use crate::tables::{Task, TaskDefinition};

/// Why a task has no payload.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PayloadError {
    /// The definition is gone.
    #[error("task definition {family}:{revision} no longer exists")]
    NoDefinition {
        /// The family.
        family: String,
        /// The revision.
        revision: u32,
    },
    /// An awsvpc task lost its network interface.
    #[error("network interface {id} no longer exists")]
    NoInterface {
        /// The interface.
        id: String,
    },
    /// No agent is told of such volumes.
    #[error("volume {name} is of a kind that no agent is told of")]
    Volume {
        /// The volume.
        name: String,
    },
    /// The Docker-shaped part has no JSON form.
    #[error("container {name} cannot be described to its agent")]
    Docker {
        /// The container.
        name: String,
        /// Why.
        source: serde_json::Error,
    },
}

/// Writes the payload of a task.
pub(crate) fn task(
    rows: &Snapshot,
    row: &Task,
) -> Result<acs::Task, PayloadError> {
    let key = TaskDefinition::key_of(
        &row.account,
        &row.region,
        &row.family,
        row.revision,
    );
    let definition = rows.get::<TaskDefinition>(&key).ok_or_else(|| {
        PayloadError::NoDefinition {
            family: row.family.clone(),
            revision: row.revision,
        }
    })?;
    let definition = &definition.definition;
    let change = row.task.overrides.as_ref();
    let mut containers = vec![];
    let pinned = pinned::of_task(rows, row);
    for mut container in overrides::containers(definition, change) {
        let name = container.name.as_deref().unwrap_or_default();
        if let Some(image) = pinned.get(name) {
            container.image = Some(image.clone());
        }
        containers.push(describe(row, definition, container)?);
    }
    let interface = row
        .network_interface
        .as_ref()
        .map(|id| {
            interface::describe(rows, row, id)
                .ok_or_else(|| PayloadError::NoInterface { id: id.clone() })
        })
        .transpose()?;
    // Task-level limits: the task shows them, overrides applied, but where
    // the definition has none it shows sums that limit nothing.
    let limits = Limits::of(row, definition);
    Ok(acs::Task {
        arn: row.arn(),
        desired_status: "RUNNING".to_owned(),
        task_cluster_arn: row.task.cluster_arn.clone(),
        family: Some(row.family.clone()),
        version: Some(row.revision.to_string()),
        containers,
        overrides: Some("{}".to_owned()),
        volumes: volumes(definition)?,
        attachments: storage::attachments(row, definition),
        elastic_network_interfaces: interface.into_iter().collect(),
        cpu: limits.vcpus,
        memory: limits.memory_mib,
        pid_mode: definition.pid_mode.map(|mode| mode.to_string()),
        ipc_mode: definition.ipc_mode.map(|mode| mode.to_string()),
        proxy_configuration: definition.proxy_configuration.as_ref().map(proxy),
        launch_type: row.task.launch_type.map(|launch| launch.to_string()),
        network_mode: definition.network_mode.map(|mode| mode.to_string()),
        group: row.task.group.clone(),
        service_name: row.service.as_ref().map(|of| of.name.clone()),
        enable_fault_injection: definition.enable_fault_injection,
        ..acs::Task::default()
    })
}

struct Limits {
    vcpus: Option<f64>,
    memory_mib: Option<i64>,
}

impl Limits {
    fn of(row: &Task, definition: &ecs::TaskDefinition) -> Limits {
        let change = row.task.overrides.as_ref();
        let (cpu, memory) = overrides::sizes(definition, change);
        Limits {
            vcpus: cpu.map(|units| f64::from(units) / 1024.0),
            memory_mib: memory.map(i64::from),
        }
    }
}

#[expect(
    clippy::too_many_lines,
    reason = "one member after the other of one large shape"
)]
fn describe(
    row: &Task,
    definition: &ecs::TaskDefinition,
    container: ecs::ContainerDefinition,
) -> Result<acs::Container, PayloadError> {
    let name = container.name.clone().unwrap_or_default();
    let docker_config =
        docker::config(row, definition, &container).map_err(|source| {
            PayloadError::Docker { name: name.clone(), source }
        })?;
    let arn = row
        .task
        .containers
        .iter()
        .flatten()
        .find(|known| known.name == container.name)
        .and_then(|known| known.container_arn.clone());
    let is_own_network =
        definition.network_mode == Some(ecs::NetworkMode::Awsvpc);
    let is_checked = has_health_check(&container);
    let ports = container.port_mappings.unwrap_or_default();
    let log_secrets = container
        .log_configuration
        .and_then(|log| log.secret_options)
        .into_iter()
        .flatten()
        .map(|secret| self::secret(secret, "LOG_DRIVER"));
    Ok(acs::Container {
        name,
        image: container.image.unwrap_or_default(),
        container_arn: arn,
        essential: Some(container.essential.unwrap_or(true)),
        cpu: container.cpu.map(i64::from),
        memory: container.memory.map(i64::from),
        command: container.command.unwrap_or_default(),
        entry_point: container.entry_point.unwrap_or_default(),
        environment: environment(row, container.environment),
        environment_files: container
            .environment_files
            .into_iter()
            .flatten()
            .map(environment_file)
            .collect(),
        secrets: container
            .secrets
            .into_iter()
            .flatten()
            .map(|secret| self::secret(secret, "CONTAINER"))
            .chain(log_secrets)
            .collect(),
        overrides: Some("{}".to_owned()),
        docker_config: Some(docker_config),
        // Docker refuses published ports for a shared network namespace, so
        // the real service sends none (`acs-protocol.md`, 6.6).
        port_mappings: if is_own_network {
            vec![]
        } else {
            ports.into_iter().map(port).collect()
        },
        links: container.links.unwrap_or_default(),
        mount_points: container
            .mount_points
            .into_iter()
            .flatten()
            .map(|mount| acs::MountPoint {
                source_volume: mount.source_volume,
                container_path: mount.container_path,
                read_only: mount.read_only,
            })
            .collect(),
        volumes_from: container
            .volumes_from
            .into_iter()
            .flatten()
            .map(|from| acs::VolumesFrom {
                source_container: from.source_container,
                read_only: from.read_only,
            })
            .collect(),
        depends_on: container
            .depends_on
            .into_iter()
            .flatten()
            .map(|dependency| acs::Dependency {
                container_name: dependency.container_name.unwrap_or_default(),
                condition: dependency
                    .condition
                    .map(|condition| condition.to_string())
                    .unwrap_or_default(),
            })
            .collect(),
        start_timeout: container.start_timeout.map(i64::from),
        stop_timeout: container.stop_timeout.map(i64::from),
        restart_policy: container.restart_policy.map(restart_policy),
        health_check_type: is_checked.then(|| "docker".to_owned()),
        registry_authentication: container
            .repository_credentials
            .map(registry_authentication),
        firelens_configuration: container.firelens_configuration.map(firelens),
        managed_agents: managed_agents(row),
        ..acs::Container::default()
    })
}

/// The definition's environment, and where the task runs; the agent adds what
/// only it knows (`acs-protocol.md`, 6.1).
fn environment(
    row: &Task,
    given: Option<Vec<ecs::KeyValuePair>>,
) -> std::collections::BTreeMap<String, String> {
    let execution = match row.task.launch_type {
        Some(ecs::LaunchType::Fargate) => "AWS_ECS_FARGATE",
        Some(ecs::LaunchType::External) => "AWS_ECS_EXTERNAL",
        _ => "AWS_ECS_EC2",
    };
    let mut environment = std::collections::BTreeMap::from([(
        "AWS_EXECUTION_ENV".to_owned(),
        execution.to_owned(),
    )]);
    environment.extend(
        given.into_iter().flatten().filter_map(|pair| {
            Some((pair.name?, pair.value.unwrap_or_default()))
        }),
    );
    environment
}

/// What runs beside each container of a task with ECS Exec.
fn managed_agents(row: &Task) -> Vec<acs::ManagedAgent> {
    let is_enabled = row.task.enable_execute_command == Some(true);
    let agent = || acs::ManagedAgent {
        name: Some(ecs::ManagedAgentName::ExecuteCommandAgent.to_string()),
        ..acs::ManagedAgent::default()
    };
    is_enabled.then(agent).into_iter().collect()
}

fn environment_file(file: ecs::EnvironmentFile) -> acs::EnvironmentFile {
    acs::EnvironmentFile {
        value: file.value.unwrap_or_default(),
        r#type: file.r#type.map(|kind| kind.to_string()).unwrap_or_default(),
    }
}

fn secret(secret: ecs::Secret, target: &str) -> acs::Secret {
    let value_from = secret.value_from.unwrap_or_default();
    let is_secrets_manager = value_from.contains(":secretsmanager:");
    acs::Secret {
        name: secret.name.unwrap_or_default(),
        provider: Some(
            if is_secrets_manager { "asm" } else { "ssm" }.to_owned(),
        ),
        region: value_from.split(':').nth(3).map(str::to_owned),
        target: Some(target.to_owned()),
        value_from,
        ..acs::Secret::default()
    }
}

fn port(port: ecs::PortMapping) -> acs::PortMapping {
    acs::PortMapping {
        container_port: port.container_port,
        host_port: port.host_port,
        container_port_range: port.container_port_range,
        protocol: Some(
            port.protocol.unwrap_or(ecs::TransportProtocol::Tcp).to_string(),
        ),
    }
}

fn restart_policy(policy: ecs::ContainerRestartPolicy) -> acs::RestartPolicy {
    acs::RestartPolicy {
        enabled: policy.enabled,
        ignored_exit_codes: policy.ignored_exit_codes.unwrap_or_default(),
        restart_attempt_period: policy.restart_attempt_period.map(i64::from),
    }
}

fn registry_authentication(
    given: ecs::RepositoryCredentials,
) -> acs::RegistryAuthentication {
    let secret = given.credentials_parameter;
    // Of an ARN; a name is one of the agent's own region.
    let region = secret.as_deref().and_then(|arn| arn.split(':').nth(3));
    acs::RegistryAuthentication {
        r#type: Some("asm".to_owned()),
        asm_auth_data: Some(acs::AsmAuthentication {
            region: region.map(str::to_owned),
            credentials_parameter: secret,
        }),
        ..Default::default()
    }
}

fn firelens(given: ecs::FirelensConfiguration) -> acs::FirelensConfiguration {
    acs::FirelensConfiguration {
        r#type: given.r#type.map(|kind| kind.to_string()),
        options: given.options.unwrap_or_default(),
    }
}

fn proxy(given: &ecs::ProxyConfiguration) -> acs::ProxyConfiguration {
    let properties = given.properties.iter().flatten();
    acs::ProxyConfiguration {
        r#type: given.r#type.map(|kind| kind.to_string()),
        container_name: given.container_name.clone(),
        properties: properties
            .filter_map(|pair| Some((pair.name.clone()?, pair.value.clone()?)))
            .collect(),
    }
}

fn volumes(
    definition: &ecs::TaskDefinition,
) -> Result<Vec<acs::Volume>, PayloadError> {
    definition.volumes.iter().flatten().map(volume).collect::<Result<_, _>>()
}

fn volume(volume: &ecs::Volume) -> Result<acs::Volume, PayloadError> {
    // Placement finds no host for these; nothing may make an empty directory
    // of them.
    let name = volume.name.clone().unwrap_or_default();
    if volume.s3files_volume_configuration.is_some()
        || volume.fsx_windows_file_server_volume_configuration.is_some()
    {
        return Err(PayloadError::Volume { name });
    }
    let docker = volume.docker_volume_configuration.as_ref();
    let efs = volume.efs_volume_configuration.as_ref();
    let kind = match (docker, efs) {
        (Some(_), _) => "docker",
        (None, Some(_)) => "efs",
        (None, None) if volume.configured_at_launch == Some(true) => {
            "attachment"
        }
        (None, None) => "host",
    };
    Ok(acs::Volume {
        name,
        r#type: Some(kind.to_owned()),
        // The agent refuses a host volume without the object.
        host: (kind == "host").then(|| acs::HostVolume {
            source_path: volume
                .host
                .as_ref()
                .and_then(|host| host.source_path.clone()),
        }),
        docker_volume_configuration: docker.map(|docker| acs::DockerVolume {
            scope: docker.scope.map(|scope| scope.to_string()),
            autoprovision: docker.autoprovision,
            driver: docker.driver.clone(),
            driver_opts: docker.driver_opts.clone().unwrap_or_default(),
            labels: docker.labels.clone().unwrap_or_default(),
        }),
        efs_volume_configuration: efs.map(|efs| acs::EfsVolume {
            file_system_id: efs.file_system_id.clone(),
            root_directory: efs.root_directory.clone(),
            transit_encryption: efs.transit_encryption.map(|e| e.to_string()),
            transit_encryption_port: efs.transit_encryption_port,
            authorization_config: efs.authorization_config.as_ref().map(
                |authorization| acs::EfsAuthorization {
                    access_point_id: authorization.access_point_id.clone(),
                    iam: authorization.iam.map(|iam| iam.to_string()),
                },
            ),
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_kind_of_volume_becomes_an_empty_directory() {
        let of = |value| {
            let given: ecs::Volume = serde_json::from_value(value).unwrap();
            volume(&given).map(|told| told.r#type.unwrap())
        };
        let plain = serde_json::json!({"name": "v"});
        assert_eq!(of(plain).unwrap(), "host");
        let ebs = serde_json::json!({"name": "v", "configuredAtLaunch": true});
        assert_eq!(of(ebs).unwrap(), "attachment");
        for unknown in [
            serde_json::json!({"name": "v", "s3filesVolumeConfiguration":
                {"fileSystemArn": "arn:x"}}),
            serde_json::json!({"name": "v",
                "fsxWindowsFileServerVolumeConfiguration":
                {"fileSystemId": "fs-1"}}),
        ] {
            let error = of(unknown).unwrap_err();
            assert!(error.to_string().contains("volume v is of a kind"));
        }
    }

    #[test]
    fn a_login_is_in_its_arns_region() {
        let arn = "arn:aws:secretsmanager:eu-west-1:1:secret:hub-AbCdEf";
        for (secret, region) in [(arn, Some("eu-west-1")), ("hub", None)] {
            let given = ecs::RepositoryCredentials {
                credentials_parameter: Some(secret.into()),
            };
            let login = registry_authentication(given);
            assert_eq!(login.r#type.as_deref(), Some("asm"));
            let of_secret = login.asm_auth_data.unwrap();
            let parameter = of_secret.credentials_parameter.as_deref();
            assert_eq!(parameter, Some(secret));
            assert_eq!(of_secret.region.as_deref(), region);
        }
    }
}
