//! From a specification to what the shim needs: looks up users, devices,
//! namespaces and the filter, on the daemon's side.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::error::{CreateContainerError, StartContainerError};
use super::paths::ContainerPaths;
use super::protocol::{Launch, PROTOCOL, ProcessPlan};
use super::user::{self, Identity};
use super::{ContainerSpec, NamespaceMode, caps, devices, oci, seccomp};

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

/// What the daemon knows beyond the specification.
pub(super) struct Surroundings<'a> {
    pub(super) paths: &'a ContainerPaths,
    pub(super) cgroup: &'a str,
    pub(super) shim_cgroup: String,
    pub(super) filters: &'a Path,
    pub(super) is_unified: bool,
    pub(super) pid_namespace: Option<PathBuf>,
    pub(super) ipc_namespace: Option<PathBuf>,
}

/// Makes the OCI configuration and the launch plan.
pub(super) fn launch(
    spec: &ContainerSpec,
    around: &Surroundings<'_>,
) -> Result<(Value, Launch), StartContainerError> {
    let id = || spec.id.clone();
    let rootfs = around.paths.rootfs();
    let identity = user::resolve(&rootfs, &spec.user, &spec.additional_groups)
        .map_err(|source| StartContainerError::User { id: id(), source })?;
    let device_error =
        |source| StartContainerError::Device { id: id(), source };
    let mut devices = devices::resolve(&spec.devices).map_err(device_error)?;
    if spec.privileged {
        devices.extend(devices::of_host().map_err(device_error)?);
    }
    let rules = devices::rules(&devices, spec.privileged);
    let process = process(spec, &identity, around.filters)?;
    let config = oci::configuration(
        spec,
        &oci::Resolved {
            rootfs: &rootfs,
            cgroup: around.cgroup,
            identity: &identity,
            env: &process.env,
            devices: &devices,
            device_rules: &rules,
            pid_namespace: around.pid_namespace.clone(),
            ipc_namespace: around.ipc_namespace.clone(),
            is_unified: around.is_unified,
        },
    );
    let launch = Launch {
        protocol: PROTOCOL,
        id: spec.id.to_string(),
        root: around.paths.root.clone(),
        run: around.paths.run.clone(),
        process,
        cgroup: around.cgroup.to_owned(),
        shim_cgroup: around.shim_cgroup.clone(),
        device_rules: around.is_unified.then_some(rules),
        log: spec.log.clone(),
        init: spec.init,
        tty: spec.tty,
        stdin: spec.stdin,
        shares_processes: spec.pid_mode != NamespaceMode::Private,
    };
    Ok((config, launch))
}

/// How a process of the container becomes its command.
pub(super) fn process(
    spec: &ContainerSpec,
    identity: &Identity,
    filters: &Path,
) -> Result<ProcessPlan, StartContainerError> {
    // Checked when the container was created.
    let capabilities = caps::resolve(&spec.capabilities, spec.privileged)
        .unwrap_or(caps::DEFAULT);
    let seccomp = if spec.privileged {
        None
    } else {
        let compiled = seccomp::compiled(filters, capabilities);
        Some(compiled.map_err(|source| StartContainerError::Seccomp {
            id: spec.id.clone(),
            source,
        })?)
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
