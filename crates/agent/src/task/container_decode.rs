//! From an ACS container to its plan.

use std::path::PathBuf;
use std::time::Duration;

use minato_wire::acs;

use super::decode::{DecodeTaskError, MIB, malformed, seconds, unsupported};
use super::firelens_decode::LOG_SECRET;
use super::log_decode::{LogOwner, decode_log};
use super::plan::{
    Condition, ContainerPlan, Dependency, HealthCheck, LinkPlan, LoginPlan,
    MountPlan, ObjectPlan, PortPlan, RestartPlan, SecretPlan, SecretStore,
    VolumesFrom,
};
use crate::runtime::{DeviceMapping, PortProtocol, TmpfsMount, Ulimit};

/// The kernel's bounds of CPU shares; ECS moves a value to the nearer one.
const CPU_SHARES: std::ops::RangeInclusive<u64> = 2..=262_144;

/// Makes the plan of a container of a task.
pub(crate) fn decode_container(
    task_id: &str,
    container: &acs::Container,
) -> Result<ContainerPlan, DecodeTaskError> {
    let name = &container.name;
    let of = |what: &str| format!("{what} of container {name}");
    check_name(name)?;
    let docker = container.docker_config.clone().unwrap_or_default();
    let config = docker
        .container_config()
        .map_err(|error| malformed(format!("{}: {error}", of("config"))))?;
    let host = docker
        .host_config()
        .map_err(|error| malformed(format!("{}: {error}", of("hostConfig"))))?;
    let overrides = container
        .read_overrides()
        .map_err(|error| malformed(format!("{}: {error}", of("overrides"))))?;
    let id = container_id(task_id, name);
    let owner = LogOwner { task_id, name, id: &id, image: &container.image };
    let mut plan = ContainerPlan {
        name: name.clone(),
        arn: container.container_arn.clone(),
        image: container.image.clone(),
        registry_login: decode_login(container)?,
        essential: container.essential.unwrap_or(true),
        command: overrides.command.unwrap_or_else(|| container.command.clone()),
        entry_point: container.entry_point.clone(),
        environment: container.environment.clone(),
        environment_files: decode_environment_files(container)?,
        secrets: decode_secrets(container)?,
        links: decode_links(container),
        mounts: decode_mounts(container)?,
        volumes_from: container
            .volumes_from
            .iter()
            .map(|from| VolumesFrom {
                container: from.source_container.clone().unwrap_or_default(),
                read_only: from.read_only.unwrap_or(false),
            })
            .collect(),
        ports: decode_ports(container)?,
        restart: decode_restart(container),
        can_exec: !container.managed_agents.is_empty(),
        start_timeout: seconds(container.start_timeout),
        stop_timeout: seconds(container.stop_timeout),
        log: decode_log(host.log_config.as_ref(), owner)?,
        id,
        ..ContainerPlan::default()
    };
    plan.depends_on = decode_dependencies(container, &plan)?;
    apply_config(&mut plan, config)?;
    apply_limits(&mut plan, container, &host)?;
    apply_host_config(&mut plan, host)?;
    if container.health_check_type.as_deref() == Some("docker")
        && plan.health_check.is_none()
    {
        return Err(malformed(of("no health check command")));
    }
    Ok(plan)
}

fn check_name(name: &str) -> Result<(), DecodeTaskError> {
    let plain = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    // It names files and log streams.
    if name.is_empty() || name.len() > 255 || !plain {
        return Err(malformed(format!("{name:?} is not a container's name")));
    }
    Ok(())
}

/// A container's id: as Fargate's `runtimeId`, the task's id and a number.
///
/// The number is made of the name, so that the id needs no remembering.
pub(crate) fn container_id(task_id: &str, name: &str) -> String {
    // FNV-1a: short, and spreads names well; nothing hangs on its strength.
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    format!("{task_id}-{hash:010}")
}

fn decode_restart(container: &acs::Container) -> Option<RestartPlan> {
    /// Where the definition does not say (API reference).
    const ATTEMPT_PERIOD: Duration = Duration::from_secs(300);
    let policy = container.restart_policy.as_ref()?;
    (policy.enabled == Some(true)).then(|| RestartPlan {
        ignored_exit_codes: policy.ignored_exit_codes.clone(),
        attempt_period: seconds(policy.restart_attempt_period)
            .unwrap_or(ATTEMPT_PERIOD),
    })
}

fn decode_environment_files(
    container: &acs::Container,
) -> Result<Vec<ObjectPlan>, DecodeTaskError> {
    let files = container.environment_files.iter();
    files
        .map(|file| {
            if file.r#type != "s3" {
                let kind = &file.r#type;
                return Err(unsupported(format!(
                    "an environment file of type {kind:?}"
                )));
            }
            ObjectPlan::of_arn(&file.value).ok_or_else(|| {
                malformed(format!(
                    "{:?} is not the ARN of an object in S3",
                    file.value
                ))
            })
        })
        .collect()
}

/// The variables; secret log options are the log router's affair.
fn decode_secrets(
    container: &acs::Container,
) -> Result<Vec<SecretPlan>, DecodeTaskError> {
    let secrets = container.secrets.iter();
    secrets
        .filter(|secret| secret.target.as_deref() != Some(LOG_SECRET))
        .map(decode_secret)
        .collect()
}

/// A secret, under its own name.
pub(crate) fn decode_secret(
    secret: &acs::Secret,
) -> Result<SecretPlan, DecodeTaskError> {
    let store = match secret.provider.as_deref() {
        Some("asm") => SecretStore::SecretsManager,
        Some("ssm") => SecretStore::ParameterStore,
        other => {
            return Err(malformed(format!("secret provider {other:?}")));
        }
    };
    Ok(SecretPlan {
        name: secret.name.clone(),
        store,
        region: secret.region.clone(),
        value_from: secret.value_from.clone(),
    })
}

fn decode_login(
    container: &acs::Container,
) -> Result<Option<LoginPlan>, DecodeTaskError> {
    let Some(given) = &container.registry_authentication else {
        return Ok(None);
    };
    match given.r#type.as_deref() {
        Some("asm") => {}
        Some("ecr") => {
            return Err(unsupported("registry authentication with ECR"));
        }
        other => {
            return Err(malformed(format!(
                "registry authentication {other:?}"
            )));
        }
    }
    let of_secret = given.asm_auth_data.as_ref();
    let secret = of_secret
        .and_then(|data| data.credentials_parameter.clone())
        .filter(|secret| !secret.is_empty())
        .ok_or_else(|| {
            malformed(format!(
                "no credentialsParameter for container {}",
                container.name
            ))
        })?;
    let region = of_secret.and_then(|data| data.region.clone());
    Ok(Some(LoginPlan { region, secret }))
}

fn decode_links(container: &acs::Container) -> Vec<LinkPlan> {
    container
        .links
        .iter()
        .map(|link| {
            let (container, alias) =
                link.split_once(':').unwrap_or((link, link));
            LinkPlan { container: container.into(), alias: alias.into() }
        })
        .collect()
}

fn decode_mounts(
    container: &acs::Container,
) -> Result<Vec<MountPlan>, DecodeTaskError> {
    let mut mounts = vec![];
    for mount in &container.mount_points {
        let path = mount.container_path.clone().unwrap_or_default();
        if !path.starts_with('/') {
            return Err(malformed(format!(
                "mount point {path:?} of container {} is not absolute",
                container.name
            )));
        }
        mounts.push(MountPlan {
            volume: mount.source_volume.clone().unwrap_or_default(),
            path: PathBuf::from(path),
            read_only: mount.read_only.unwrap_or(false),
        });
    }
    Ok(mounts)
}

fn decode_ports(
    container: &acs::Container,
) -> Result<Vec<PortPlan>, DecodeTaskError> {
    let port = |value: Option<i32>| {
        u16::try_from(value.unwrap_or(0)).map_err(|_| {
            malformed(format!(
                "a port of container {} is out of range",
                container.name
            ))
        })
    };
    let mut ports = vec![];
    for mapping in &container.port_mappings {
        let protocol = match mapping.protocol.as_deref() {
            None | Some("tcp") => PortProtocol::Tcp,
            Some("udp") => PortProtocol::Udp,
            Some(other) => {
                return Err(malformed(format!("port protocol {other:?}")));
            }
        };
        let host_port = port(mapping.host_port)?;
        let (container_port, count) = match &mapping.container_port_range {
            Some(range) => decode_range(range)?,
            None => (port(mapping.container_port)?, 1),
        };
        if container_port == 0 {
            return Err(malformed("a port mapping without containerPort"));
        }
        ports.push(PortPlan { container_port, host_port, count, protocol });
    }
    Ok(ports)
}

/// `8000-8010` as its first port and how many there are.
fn decode_range(range: &str) -> Result<(u16, u16), DecodeTaskError> {
    let ends = range.split_once('-').and_then(|(low, high)| {
        let (low, high): (u16, u16) = (low.parse().ok()?, high.parse().ok()?);
        (0 < low && low < high).then(|| (low, high - low + 1))
    });
    ends.ok_or_else(|| malformed(format!("containerPortRange {range:?}")))
}

/// What it says it waits for, and what links and volumes make it wait for.
fn decode_dependencies(
    container: &acs::Container,
    plan: &ContainerPlan,
) -> Result<Vec<Dependency>, DecodeTaskError> {
    let mut dependencies = vec![];
    for dependency in &container.depends_on {
        let condition = match dependency.condition.as_str() {
            "START" => Condition::Start,
            "COMPLETE" => Condition::Complete,
            "SUCCESS" => Condition::Success,
            "HEALTHY" => Condition::Healthy,
            other => {
                return Err(malformed(format!("dependsOn {other:?}")));
            }
        };
        let container = dependency.container_name.clone();
        dependencies.push(Dependency { container, condition });
    }
    for link in &plan.links {
        dependencies.push(Dependency {
            container: link.container.clone(),
            condition: Condition::Start,
        });
    }
    for from in &plan.volumes_from {
        dependencies.push(Dependency {
            container: from.container.clone(),
            condition: Condition::Create,
        });
    }
    Ok(dependencies)
}

fn apply_config(
    plan: &mut ContainerPlan,
    config: acs::ContainerConfig,
) -> Result<(), DecodeTaskError> {
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    if given(config.domainname).is_some() {
        return Err(unsupported("a domain name"));
    }
    plan.user = given(config.user);
    plan.working_dir = given(config.working_dir);
    plan.hostname = given(config.hostname);
    plan.labels = config.labels.unwrap_or_default();
    plan.tty = config.tty.unwrap_or(false);
    plan.open_stdin = config.open_stdin.unwrap_or(false);
    plan.network_disabled = config.network_disabled.unwrap_or(false);
    plan.stop_signal = given(config.stop_signal);
    plan.health_check =
        config.healthcheck.map(decode_health).transpose()?.flatten();
    Ok(())
}

fn decode_health(
    health: acs::HealthConfig,
) -> Result<Option<HealthCheck>, DecodeTaskError> {
    let command = match health.test.split_first() {
        None => return Ok(None),
        Some((kind, [])) if kind == "NONE" => return Ok(None),
        Some((kind, words)) if kind == "CMD" && !words.is_empty() => {
            words.to_vec()
        }
        // Docker puts the shell before whatever words follow: the first is
        // the line, and the others are its arguments.
        Some((kind, words)) if kind == "CMD-SHELL" && !words.is_empty() => {
            let shell = ["/bin/sh", "-c"].map(str::to_owned);
            shell.iter().chain(words).cloned().collect()
        }
        Some(_) => {
            return Err(malformed("a health check is CMD or CMD-SHELL"));
        }
    };
    // Docker's own defaults, which are ECS's too.
    let nanos = |value: Option<i64>, default: u64| {
        let nanos = value.and_then(|nanos| u64::try_from(nanos).ok());
        match nanos.filter(|nanos| *nanos > 0) {
            Some(nanos) => Duration::from_nanos(nanos),
            None => Duration::from_secs(default),
        }
    };
    Ok(Some(HealthCheck {
        command,
        interval: nanos(health.interval, 30),
        timeout: nanos(health.timeout, 30),
        retries: health
            .retries
            .and_then(|retries| u32::try_from(retries).ok())
            .filter(|retries| *retries > 0)
            .unwrap_or(3),
        start_period: nanos(health.start_period, 0),
    }))
}

fn apply_limits(
    plan: &mut ContainerPlan,
    container: &acs::Container,
    host: &acs::HostConfig,
) -> Result<(), DecodeTaskError> {
    let positive = |value: Option<i64>| {
        value.and_then(|value| u64::try_from(value).ok()).filter(|v| *v > 0)
    };
    let shares = positive(host.cpu_shares).or(positive(container.cpu));
    plan.cpu_shares =
        shares.unwrap_or(0).clamp(*CPU_SHARES.start(), *CPU_SHARES.end());
    let memory = positive(container.memory).map(|mib| mib.saturating_mul(MIB));
    plan.memory_bytes = positive(host.memory).or(memory);
    plan.memory_reservation_bytes = positive(host.memory_reservation);
    plan.swappiness =
        host.memory_swappiness.and_then(|value| u64::try_from(value).ok());
    plan.swap_bytes = match (host.memory_swap, plan.memory_bytes) {
        (None | Some(0), _) => None,
        (Some(total), Some(memory)) if total > 0 => {
            let total = u64::try_from(total).unwrap_or(0);
            let swap = total.checked_sub(memory).ok_or_else(|| {
                malformed("MemorySwap is less than the memory limit")
            })?;
            Some(swap)
        }
        (Some(_), _) => {
            return Err(unsupported("swap without a limit"));
        }
    };
    Ok(())
}

fn apply_host_config(
    plan: &mut ContainerPlan,
    host: acs::HostConfig,
) -> Result<(), DecodeTaskError> {
    plan.read_only_root = host.readonly_rootfs.unwrap_or(false);
    plan.privileged = host.privileged.unwrap_or(false);
    plan.cap_add = host.cap_add;
    plan.cap_drop = host.cap_drop;
    plan.init = host.init.unwrap_or(false);
    plan.dns_servers = host.dns.unwrap_or_default();
    plan.dns_search = host.dns_search.unwrap_or_default();
    plan.sysctls = host.sysctls.unwrap_or_default();
    plan.shm_bytes = host
        .shm_size
        .and_then(|size| u64::try_from(size).ok())
        .filter(|size| *size > 0);
    for option in host.security_opt.unwrap_or_default() {
        match option.as_str() {
            "no-new-privileges" | "no-new-privileges:true" => {
                plan.no_new_privileges = true;
            }
            "no-new-privileges:false" => {}
            other => {
                return Err(unsupported(format!("security option {other:?}")));
            }
        }
    }
    for line in host.extra_hosts.unwrap_or_default() {
        let (name, address) = line
            .split_once(':')
            .filter(|(name, address)| !name.is_empty() && !address.is_empty())
            .ok_or_else(|| malformed(format!("extra host {line:?}")))?;
        plan.extra_hosts.push((name.to_owned(), address.to_owned()));
    }
    plan.ulimits = host
        .ulimits
        .unwrap_or_default()
        .into_iter()
        .map(|limit| Ulimit {
            name: limit.name,
            soft: limit.soft,
            hard: limit.hard,
        })
        .collect();
    plan.devices = host
        .devices
        .unwrap_or_default()
        .into_iter()
        .map(|device| DeviceMapping {
            host_path: device.path_on_host.into(),
            container_path: device.path_in_container.map(PathBuf::from),
            permissions: device.cgroup_permissions.unwrap_or_default(),
        })
        .collect();
    plan.tmpfs = host
        .tmpfs
        .unwrap_or_default()
        .into_iter()
        .map(|(path, options)| decode_tmpfs(path, &options))
        .collect();
    Ok(())
}

fn decode_tmpfs(path: String, options: &str) -> TmpfsMount {
    let mut mount = TmpfsMount {
        destination: PathBuf::from(path),
        size_bytes: None,
        options: vec![],
    };
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.strip_prefix("size=").and_then(parse_size) {
            Some(size) => mount.size_bytes = Some(size),
            None => mount.options.push(option.to_owned()),
        }
    }
    mount
}

/// Reads a size as Docker writes it: `10m`, `1g`, `512k`, `100`.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let lower = lower.strip_suffix('b').unwrap_or(&lower);
    let (digits, unit) = match lower.char_indices().last()? {
        (at, 'k') => (&lower[..at], 1 << 10),
        (at, 'm') => (&lower[..at], 1 << 20),
        (at, 'g') => (&lower[..at], 1 << 30),
        _ => (lower, 1),
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}
