//! From a specification to an OCI configuration and a process: looks up
//! users, devices and the filter. The daemon refuses here what can never run,
//! and the shim plans the start.

use std::path::Path;

use serde_json::Value;

use super::devices::{self, DeviceError, DeviceRule};
use super::error::CreateContainerError;
use super::protocol::{Launch, ProcessPlan};
use super::seccomp::{self, SeccompError};
use super::user::{self, Identity, ResolveUserError};
use super::{ContainerSpec, caps, oci};

/// Longest argument list and environment together; the kernel's own limit is
/// a quarter of the stack, 2 MiB.
const ARGS_MAX_BYTES: usize = 2 << 20;
/// The kernel's limit on host names.
const HOSTNAME_MAX: usize = 64;
/// Docker's default search path, used when the environment has none.
pub(crate) const DEFAULT_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The limits that can be set, as the OCI runtime spells them.
const ULIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Refuses what can never run, before anything is made.
pub(super) fn check(spec: &ContainerSpec) -> Result<(), CreateContainerError> {
    let invalid =
        |reason: String| Err(CreateContainerError::Invalid { reason });
    caps::resolve(&spec.capabilities, spec.privileged)?;
    if spec.args.first().is_none_or(String::is_empty) {
        return invalid("no command specified".into());
    }
    let texts = || spec.args.iter().chain(&spec.env);
    if texts().any(|text| text.contains('\0')) {
        return invalid("a zero byte in the command or environment".into());
    }
    if texts().map(|text| text.len() + 9).sum::<usize>() > ARGS_MAX_BYTES {
        return invalid("command and environment exceed 2 MiB".into());
    }
    if let Some(bad) =
        spec.env.iter().find(|e| !e.contains('=') || e.starts_with('='))
    {
        return invalid(format!("environment {bad:?} is not NAME=value"));
    }
    if !spec.cwd.is_empty() && !spec.cwd.starts_with('/') {
        return invalid(format!(
            "working directory {:?} is relative",
            spec.cwd
        ));
    }
    if oci::hostname(spec).len() > HOSTNAME_MAX {
        return invalid("the host name exceeds 64 characters".into());
    }
    let known = |name: &str| ULIMITS.contains(&name.to_lowercase().as_str());
    if let Some(bad) = spec.ulimits.iter().find(|u| !known(&u.name)) {
        return invalid(format!("there is no ulimit {:?}", bad.name));
    }
    let inside = spec.mounts.iter().map(|m| &m.destination);
    let inside = inside.chain(spec.tmpfs.iter().map(|t| &t.destination));
    if let Some(bad) = inside.into_iter().find(|path| !path.is_absolute()) {
        return invalid(format!("mount point {} is relative", bad.display()));
    }
    if let Some(parent) = &spec.cgroup_parent
        && crate::cgroup::checked(parent).is_err()
    {
        return invalid(format!("{parent:?} cannot be a control group"));
    }
    Ok(())
}

/// Why a container cannot be what its specification says.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlanError {
    #[error("could not resolve the user")]
    User { source: ResolveUserError },
    #[error("could not map a device")]
    Device { source: DeviceError },
    #[error("could not prepare the seccomp filter")]
    Seccomp { source: SeccompError },
}

/// What becomes of a specification on this host.
pub(super) struct Plan {
    /// The OCI configuration.
    pub(super) config: Value,
    pub(super) process: ProcessPlan,
    pub(super) device_rules: Vec<DeviceRule>,
}

/// Looks up what the specification names, in the mounted root file system
/// and on the host.
pub(super) fn plan(
    spec: &ContainerSpec,
    launch: &Launch,
    rootfs: &Path,
    hierarchies: Option<&Path>,
    is_unified: bool,
) -> Result<Plan, PlanError> {
    let identity = user::resolve(rootfs, &spec.user, &spec.additional_groups)
        .map_err(|source| PlanError::User { source })?;
    let device_error = |source| PlanError::Device { source };
    let mut devices = devices::resolve(&spec.devices).map_err(device_error)?;
    if spec.privileged {
        devices.extend(devices::of_host().map_err(device_error)?);
    }
    let device_rules = devices::rules(&devices, spec.privileged);
    let process = process(spec, &identity, &launch.filters)?;
    let config = oci::configuration(
        spec,
        &oci::Resolved {
            rootfs,
            cgroup: &launch.cgroup,
            identity: &identity,
            env: &process.env,
            devices: &devices,
            device_rules: &device_rules,
            pid_namespace: launch.pid_namespace.clone(),
            ipc_namespace: launch.ipc_namespace.clone(),
            hierarchies,
            is_unified,
        },
    );
    Ok(Plan { config, process, device_rules })
}

/// How a process of the container becomes its command.
pub(super) fn process(
    spec: &ContainerSpec,
    identity: &Identity,
    filters: &Path,
) -> Result<ProcessPlan, PlanError> {
    // Checked when the container was created.
    let capabilities = caps::resolve(&spec.capabilities, spec.privileged)
        .unwrap_or(caps::DEFAULT);
    let seccomp = if spec.privileged {
        None
    } else {
        let compiled = seccomp::compiled(filters, capabilities);
        Some(compiled.map_err(|source| PlanError::Seccomp { source })?)
    };
    Ok(ProcessPlan {
        args: spec.args.clone(),
        env: environment(spec, &identity.home),
        cwd: if spec.cwd.is_empty() { "/".into() } else { spec.cwd.clone() },
        uid: identity.uid,
        gid: identity.gid,
        groups: identity.groups.clone(),
        capabilities,
        seccomp,
        no_new_privileges: spec.no_new_privileges,
    })
}

/// Docker's environment: its own variables first, where the caller has none
/// of that name, then the caller's, in order.
fn environment(spec: &ContainerSpec, home: &str) -> Vec<String> {
    let has =
        |name: &str| spec.env.iter().any(|e| e.split('=').next() == Some(name));
    let mut env = vec![];
    let mut default = |name: &str, value: &str| {
        if !has(name) {
            env.push(format!("{name}={value}"));
        }
    };
    default("PATH", DEFAULT_PATH);
    default("HOSTNAME", &oci::hostname(spec));
    if spec.tty {
        default("TERM", "xterm");
    }
    default("HOME", home);
    env.extend(spec.env.iter().cloned());
    env
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::ContainerId;

    fn spec(args: &[&str], env: &[&str]) -> ContainerSpec {
        let own = |list: &[&str]| list.iter().map(|s| (*s).into()).collect();
        let id = ContainerId::new("abcdefghijklmnop").unwrap();
        ContainerSpec {
            env: own(env),
            ..ContainerSpec::new(id, vec![], own(args))
        }
    }

    #[test]
    fn defaults_give_way_to_the_caller_s_variables() {
        let env = environment(&spec(&["a"], &["X=1", "PATH=/p"]), "/root");
        assert_eq!(
            env,
            ["HOSTNAME=abcdefghijkl", "HOME=/root", "X=1", "PATH=/p"]
        );
    }

    #[test]
    fn impossible_specifications_are_refused() {
        assert!(check(&spec(&["a"], &["A=b"])).is_ok());
        let refused =
            |spec: &ContainerSpec| check(spec).unwrap_err().to_string();
        assert!(refused(&spec(&[], &[])).contains("no command"));
        assert!(refused(&spec(&["a\0"], &[])).contains("zero byte"));
        assert!(refused(&spec(&["a"], &["b"])).contains("NAME=value"));
        let relative = ContainerSpec { cwd: "x".into(), ..spec(&["a"], &[]) };
        assert!(refused(&relative).contains("relative"));
        let long = "x".repeat(ARGS_MAX_BYTES);
        assert!(refused(&spec(&[&long], &[])).contains("2 MiB"));
    }
}
