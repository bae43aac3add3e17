//! Rules of what only the kernel understands: capabilities, devices, tmpfs,
//! swap, ulimits, sysctls; and of GPUs.

use std::collections::BTreeSet;

use minato_wire::ecs::{
    ContainerDefinition, IpcMode, LinuxParameters, NetworkMode, ResourceType,
    TaskDefinition,
};

use super::{containers, list, name, text};
use crate::rule::RuleError;

/// Every capability ECS knows, without `CAP_`.
const CAPABILITIES: &[&str] = &[
    "ALL",
    "AUDIT_CONTROL",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "SYSLOG",
    "WAKE_ALARM",
];

/// What `mountOptions` of a tmpfs may be (API reference, Tmpfs).
const TMPFS_FLAGS: &[&str] = &[
    "defaults",
    "ro",
    "rw",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "exec",
    "noexec",
    "sync",
    "async",
    "dirsync",
    "remount",
    "mand",
    "nomand",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "bind",
    "rbind",
    "unbindable",
    "runbindable",
    "private",
    "rprivate",
    "shared",
    "rshared",
    "slave",
    "rslave",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
];

/// Those that have a value, `mode=1777` (the same page).
const TMPFS_SETTINGS: &[&str] =
    &["mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"];

fn invalid(
    container: &ContainerDefinition,
    setting: &str,
    why: &str,
) -> Result<(), RuleError> {
    Err(RuleError::client(format!(
        "Invalid '{setting}' setting for container '{}'. {why}",
        name(container)
    )))
}

pub(super) fn parameters(definition: &TaskDefinition) -> Result<(), RuleError> {
    for container in containers(definition) {
        if let Some(parameters) = &container.linux_parameters {
            capabilities(container, parameters)?;
            memory(container, parameters)?;
            devices(container, parameters)?;
        }
    }
    Ok(())
}

fn capabilities(
    container: &ContainerDefinition,
    parameters: &LinuxParameters,
) -> Result<(), RuleError> {
    let Some(capabilities) = &parameters.capabilities else {
        return Ok(());
    };
    let mut all =
        list(&capabilities.add).iter().chain(list(&capabilities.drop));
    let unknown =
        all.find(|capability| !CAPABILITIES.contains(&capability.as_str()));
    match unknown {
        None => Ok(()),
        Some(unknown) => invalid(
            container,
            "capabilities",
            &format!("'{unknown}' is not a capability."),
        ),
    }
}

fn memory(
    container: &ContainerDefinition,
    parameters: &LinuxParameters,
) -> Result<(), RuleError> {
    if parameters.shared_memory_size.is_some_and(|size| size <= 0) {
        let why = "It must be greater than 0.";
        return invalid(container, "sharedMemorySize", why);
    }
    if parameters.max_swap.is_some_and(|size| size < 0) {
        return invalid(container, "maxSwap", "It must not be negative.");
    }
    // It is what comes on top of the limit (API reference, LinuxParameters).
    if parameters.max_swap.is_some() && container.memory.is_none() {
        let why = "It requires 'memory' to be specified for the container.";
        return invalid(container, "maxSwap", why);
    }
    if parameters.swappiness.is_some_and(|n| !(0..=100).contains(&n)) {
        let why = "It must be between 0 and 100.";
        return invalid(container, "swappiness", why);
    }
    for tmpfs in list(&parameters.tmpfs) {
        let path = text(&tmpfs.container_path);
        if !path.starts_with('/') || tmpfs.size.unwrap_or(0) <= 0 {
            let why = "It must have an absolute containerPath and a size \
                       greater than 0.";
            return invalid(container, "tmpfs", why);
        }
        let mut options = list(&tmpfs.mount_options).iter();
        if let Some(option) = options.find(|option| !is_tmpfs_option(option)) {
            let why = format!("'{option}' is not a mount option.");
            return invalid(container, "tmpfs", &why);
        }
    }
    Ok(())
}

/// Whether a tmpfs may be mounted with it. A value goes to the kernel in a
/// list, so it must not hold what begins the next one.
fn is_tmpfs_option(option: &str) -> bool {
    match option.split_once('=') {
        None => TMPFS_FLAGS.contains(&option),
        Some((name, value)) => {
            let plain = |b: u8| b.is_ascii_graphic() && b != b',';
            TMPFS_SETTINGS.contains(&name)
                && !value.is_empty()
                && value.bytes().all(plain)
        }
    }
}

fn devices(
    container: &ContainerDefinition,
    parameters: &LinuxParameters,
) -> Result<(), RuleError> {
    for device in list(&parameters.devices) {
        if text(&device.host_path).is_empty() {
            let why = "A device must have a hostPath.";
            return invalid(container, "devices", why);
        }
    }
    Ok(())
}

pub(super) fn limits(definition: &TaskDefinition) -> Result<(), RuleError> {
    for container in containers(definition) {
        let mut names = BTreeSet::new();
        for ulimit in list(&container.ulimits) {
            let (Some(name), Some(soft), Some(hard)) =
                (ulimit.name, ulimit.soft_limit, ulimit.hard_limit)
            else {
                let why = "'name', 'softLimit' and 'hardLimit' must be \
                           specified.";
                return invalid(container, "ulimits", why);
            };
            // -1 is no limit at all.
            if hard != -1 && (soft == -1 || soft > hard) {
                let why = format!(
                    "The soft limit of {name} must not be greater than its \
                     hard limit."
                );
                return invalid(container, "ulimits", &why);
            }
            if soft < -1 || hard < -1 {
                let why = format!("The limit of {name} is negative.");
                return invalid(container, "ulimits", &why);
            }
            if !names.insert(name) {
                let why = format!("{name} is given more than once.");
                return invalid(container, "ulimits", &why);
            }
        }
    }
    Ok(())
}

pub(super) fn system_controls(
    definition: &TaskDefinition,
) -> Result<(), RuleError> {
    for container in containers(definition) {
        for control in list(&container.system_controls) {
            let namespace = text(&control.namespace);
            let net = namespace.starts_with("net.");
            let ipc = namespace.starts_with("fs.mqueue.")
                || namespace == "kernel.sem"
                || namespace.starts_with("kernel.msg")
                || namespace.starts_with("kernel.shm");
            if !net && !ipc {
                let why = format!(
                    "'{namespace}' is not a namespaced kernel parameter."
                );
                return invalid(container, "systemControls", &why);
            }
            if text(&control.value).is_empty() {
                let why = format!("'{namespace}' must have a value.");
                return invalid(container, "systemControls", &why);
            }
            if net && definition.network_mode == Some(NetworkMode::Host) {
                let why = "Network parameters are not supported when \
                           networkMode=host.";
                return invalid(container, "systemControls", why);
            }
            if ipc && definition.ipc_mode == Some(IpcMode::Host) {
                let why = "IPC parameters are not supported when ipcMode=host.";
                return invalid(container, "systemControls", why);
            }
        }
    }
    Ok(())
}

pub(super) fn requirements(
    definition: &TaskDefinition,
) -> Result<(), RuleError> {
    for container in containers(definition) {
        for requirement in list(&container.resource_requirements) {
            let value = text(&requirement.value);
            let good = match requirement.r#type {
                Some(ResourceType::Gpu) => {
                    value.parse::<u32>().is_ok_and(|count| count > 0)
                }
                Some(ResourceType::InferenceAccelerator) => {
                    list(&definition.inference_accelerators)
                        .iter()
                        .any(|device| text(&device.device_name) == value)
                }
                None => false,
            };
            if !good {
                let why = format!("'{value}' is not a valid value.");
                return invalid(container, "resourceRequirements", &why);
            }
        }
    }
    Ok(())
}
