//! The Docker-shaped part of a container's payload.

use minato_wire::acs::{
    ContainerConfig, Device, DockerConfig, HealthConfig, HostConfig, LogConfig,
    Ulimit,
};
use minato_wire::ecs;

use crate::tables::Task;

/// Docker counts memory in bytes, ECS in MiB.
const MIB: i64 = 1 << 20;
/// Docker counts time in nanoseconds, ECS in seconds.
const SECOND_NS: i64 = 1_000_000_000;

/// Writes both texts.
pub(super) fn config(
    row: &Task,
    definition: &ecs::TaskDefinition,
    container: &ecs::ContainerDefinition,
) -> Result<DockerConfig, serde_json::Error> {
    DockerConfig::new(
        &container_config(container),
        &host_config(row, definition, container),
    )
}

fn container_config(container: &ecs::ContainerDefinition) -> ContainerConfig {
    ContainerConfig {
        user: container.user.clone(),
        working_dir: container.working_directory.clone(),
        labels: container.docker_labels.clone(),
        hostname: container.hostname.clone(),
        tty: container.pseudo_terminal,
        open_stdin: container.interactive,
        network_disabled: container.disable_networking,
        healthcheck: container.health_check.as_ref().map(health),
        ..ContainerConfig::default()
    }
}

fn health(check: &ecs::HealthCheck) -> HealthConfig {
    let nanoseconds =
        |seconds: Option<i32>| seconds.map(|s| i64::from(s) * SECOND_NS);
    HealthConfig {
        test: check.command.clone().unwrap_or_default(),
        interval: nanoseconds(check.interval),
        timeout: nanoseconds(check.timeout),
        start_period: nanoseconds(check.start_period),
        retries: check.retries,
    }
}

fn host_config(
    row: &Task,
    definition: &ecs::TaskDefinition,
    container: &ecs::ContainerDefinition,
) -> HostConfig {
    let mut host = HostConfig {
        network_mode: Some(
            definition
                .network_mode
                .map_or_else(|| "bridge".to_owned(), |mode| mode.to_string()),
        ),
        privileged: container.privileged,
        readonly_rootfs: container.readonly_root_filesystem,
        memory_reservation: container
            .memory_reservation
            .map(|mib| i64::from(mib) * MIB),
        ulimits: container
            .ulimits
            .as_ref()
            .map(|limits| limits.iter().map(ulimit).collect()),
        dns: container.dns_servers.clone(),
        dns_search: container.dns_search_domains.clone(),
        extra_hosts: container.extra_hosts.as_ref().map(|hosts| {
            hosts
                .iter()
                .map(|host| {
                    let name = host.hostname.as_deref().unwrap_or_default();
                    let address = host.ip_address.as_deref();
                    format!("{name}:{}", address.unwrap_or_default())
                })
                .collect()
        }),
        security_opt: container.docker_security_options.clone(),
        sysctls: container.system_controls.as_ref().map(|controls| {
            let pairs = controls.iter().filter_map(|control| {
                Some((control.namespace.clone()?, control.value.clone()?))
            });
            pairs.collect()
        }),
        log_config: container
            .log_configuration
            .as_ref()
            .map(|log| log_config(row, container, log)),
        pid_mode: definition.pid_mode.map(|mode| mode.to_string()),
        ipc_mode: definition.ipc_mode.map(|mode| mode.to_string()),
        ..HostConfig::default()
    };
    if let Some(linux) = &container.linux_parameters {
        linux_parameters(&mut host, linux, container.memory);
    }
    host
}

fn linux_parameters(
    host: &mut HostConfig,
    linux: &ecs::LinuxParameters,
    memory_mib: Option<i32>,
) {
    if let Some(capabilities) = &linux.capabilities {
        host.cap_add = capabilities.add.clone().unwrap_or_default();
        host.cap_drop = capabilities.drop.clone().unwrap_or_default();
    }
    host.devices = linux
        .devices
        .as_ref()
        .map(|devices| devices.iter().map(device).collect());
    host.init = linux.init_process_enabled;
    host.shm_size = linux.shared_memory_size.map(|mib| i64::from(mib) * MIB);
    host.tmpfs = linux.tmpfs.as_ref().map(|mounts| {
        mounts
            .iter()
            .map(|mount| {
                let size = mount.size.unwrap_or(0);
                let mut options = vec![format!("size={size}m")];
                options.extend(mount.mount_options.clone().unwrap_or_default());
                let path = mount.container_path.clone().unwrap_or_default();
                (path, options.join(","))
            })
            .collect()
    });
    // `--memory-swap` is memory and swap together (reference, 6.4).
    host.memory_swap = linux.max_swap.map(|swap| {
        (i64::from(memory_mib.unwrap_or(0)) + i64::from(swap)) * MIB
    });
    host.memory_swappiness = linux.swappiness.map(i64::from);
}

fn device(device: &ecs::Device) -> Device {
    let permissions = device.permissions.as_ref().map(|permissions| {
        let letter = |permission: &ecs::DeviceCgroupPermission| match permission
        {
            ecs::DeviceCgroupPermission::Read => 'r',
            ecs::DeviceCgroupPermission::Write => 'w',
            ecs::DeviceCgroupPermission::Mknod => 'm',
        };
        permissions.iter().map(letter).collect()
    });
    let path = device.host_path.clone().unwrap_or_default();
    Device {
        path_in_container: Some(
            device.container_path.clone().unwrap_or_else(|| path.clone()),
        ),
        path_on_host: path,
        // Docker's default, which the API reference names too.
        cgroup_permissions: permissions.or(Some("rwm".to_owned())),
    }
}

fn ulimit(limit: &ecs::Ulimit) -> Ulimit {
    Ulimit {
        name: limit.name.map(|name| name.to_string()).unwrap_or_default(),
        soft: i64::from(limit.soft_limit.unwrap_or(0)),
        hard: i64::from(limit.hard_limit.unwrap_or(0)),
    }
}

/// Log options as given, and for awslogs the stream that AWS would use:
/// `prefix/container/task` where there is a prefix.
fn log_config(
    row: &Task,
    container: &ecs::ContainerDefinition,
    log: &ecs::LogConfiguration,
) -> LogConfig {
    let driver = log.log_driver.map(|driver| driver.to_string());
    let mut config = log.options.clone().unwrap_or_default();
    if log.log_driver == Some(ecs::LogDriver::Awslogs)
        && let Some(prefix) = config.remove("awslogs-stream-prefix")
    {
        let name = container.name.as_deref().unwrap_or_default();
        let stream = format!("{prefix}/{name}/{}", row.id);
        config.insert("awslogs-stream".to_owned(), stream);
    }
    LogConfig { r#type: driver.unwrap_or_default(), config }
}
