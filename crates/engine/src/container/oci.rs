//! Turns a container's specification into an OCI runtime configuration, with
//! Docker's defaults for all that is not said.
//!
//! Left out on purpose: `process.capabilities` and `linux.seccomp`, which our
//! own executor applies (precompiled, so that starting costs nothing), and
//! `process.noNewPrivileges: false`, which libcontainer takes for a reason to
//! load seccomp at the wrong moment.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::devices::{self, Device, DeviceRule};
use super::user::Identity;
use super::{ContainerSpec, NamespaceMode, Netns, Resources};
use crate::cgroup::{
    CPU_PERIOD_US, CPU_QUOTA_MIN_US, CPU_SHARES_MIN, MEMORY_MIN_BYTES, PIDS_MIN,
};

/// Docker's default size of `/dev/shm`.
const SHM_BYTES: u64 = 64 << 20;

/// What Docker hides from a container.
const MASKED_PATHS: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
/// Where control groups are, on the host and in a container.
const CGROUPS: &str = "/sys/fs/cgroup";
/// Newer still, and only where it exists.
const MASKED_POWERCAP: &str = "/sys/devices/virtual/powercap";
/// What Docker lets a container read but not write.
const READONLY_PATHS: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What the configuration needs beyond the specification, found out by the
/// shim at start.
#[derive(Debug)]
pub(crate) struct Resolved<'a> {
    pub(crate) rootfs: &'a Path,
    pub(crate) cgroup: &'a str,
    pub(crate) identity: &'a Identity,
    pub(crate) env: &'a [String],
    pub(crate) devices: &'a [Device],
    pub(crate) device_rules: &'a [DeviceRule],
    /// `/proc/PID/ns/...` paths for namespaces taken from other containers.
    pub(crate) pid_namespace: Option<PathBuf>,
    pub(crate) ipc_namespace: Option<PathBuf>,
    /// The tree of the container's groups of version 1, if there is one; the
    /// runtime mounts that of version 2.
    pub(crate) hierarchies: Option<&'a Path>,
    /// Version 2 knows other limits.
    pub(crate) is_unified: bool,
}

/// Builds `config.json`.
pub(crate) fn configuration(
    spec: &ContainerSpec,
    with: &Resolved<'_>,
) -> Value {
    json!({
        "ociVersion": "1.2.0",
        "hostname": hostname(spec),
        "root": { "path": with.rootfs, "readonly": spec.readonly_rootfs },
        "process": process(spec, with),
        "mounts": mounts(spec, with),
        "linux": linux(spec, with),
    })
}

/// The container's host name: its own, or the start of its id.
pub(crate) fn hostname(spec: &ContainerSpec) -> String {
    match &spec.hostname {
        Some(name) => name.clone(),
        None => spec.id.as_str().chars().take(12).collect(),
    }
}

fn process(spec: &ContainerSpec, with: &Resolved<'_>) -> Value {
    let mut process = json!({
        "terminal": spec.tty,
        "user": {
            "uid": with.identity.uid,
            "gid": with.identity.gid,
            "additionalGids": with.identity.groups,
        },
        "args": spec.args,
        "env": with.env,
        "cwd": if spec.cwd.is_empty() { "/" } else { &spec.cwd },
        "rlimits": rlimits(spec),
    });
    let fields = process.as_object_mut();
    if let Some(fields) = fields {
        if spec.no_new_privileges {
            fields.insert("noNewPrivileges".into(), json!(true));
        }
        if let Some(score) = spec.oom_score_adj {
            fields.insert("oomScoreAdj".into(), json!(score));
        }
    }
    process
}

fn rlimits(spec: &ContainerSpec) -> Vec<Value> {
    // -1 is the kernel's RLIM_INFINITY once the sign is dropped.
    let limit = |value: i64| u64::try_from(value).unwrap_or(u64::MAX);
    spec.ulimits
        .iter()
        .map(|ulimit| {
            json!({
                "type": format!("RLIMIT_{}", ulimit.name.to_uppercase()),
                "soft": limit(ulimit.soft),
                "hard": limit(ulimit.hard),
            })
        })
        .collect()
}

fn mount(to: &str, kind: &str, source: &str, options: &[&str]) -> Value {
    json!({
        "destination": to, "type": kind, "source": source, "options": options,
    })
}

fn mounts(spec: &ContainerSpec, with: &Resolved<'_>) -> Vec<Value> {
    let ro = if spec.privileged { "rw" } else { "ro" };
    let system = ["nosuid", "noexec", "nodev"];
    let access = [&system[..], &[ro]].concat();
    let shm = spec.shm_size_bytes.unwrap_or(SHM_BYTES);
    let shm = format!("size={shm}");
    let mut list = vec![
        mount("/proc", "proc", "proc", &system),
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        ),
        mount("/sys", "sysfs", "sysfs", &access),
        match with.hierarchies {
            Some(tree) => json!({
                "destination": CGROUPS, "type": "bind", "source": tree,
                "options": ["rbind", "rprivate"],
            }),
            None => mount(CGROUPS, "cgroup", "cgroup", &access),
        },
        mount("/dev/mqueue", "mqueue", "mqueue", &system),
    ];
    match &spec.ipc_mode {
        NamespaceMode::Host => list.push(mount(
            "/dev/shm",
            "bind",
            "/dev/shm",
            &["rbind", "rprivate"],
        )),
        NamespaceMode::Private if !spec.no_shm => {
            let options = [&system[..], &["mode=1777", &shm]].concat();
            list.push(mount("/dev/shm", "tmpfs", "shm", &options));
        }
        // The shim takes the other container's.
        NamespaceMode::Private | NamespaceMode::Container(_) => {}
    }
    list.extend(given_mounts(spec));
    list
}

/// The caller's mounts, those nearer to the root first, as Docker does: a
/// tmpfs below a volume is not hidden by it.
fn given_mounts(spec: &ContainerSpec) -> Vec<Value> {
    let tmpfs = spec.tmpfs.iter().map(|tmpfs| {
        let mut options = tmpfs_options(&tmpfs.options);
        options.extend(tmpfs.size_bytes.map(|size| format!("size={size}")));
        let value = json!({
            "destination": tmpfs.destination, "type": "tmpfs",
            "source": "tmpfs", "options": options,
        });
        (&tmpfs.destination, value)
    });
    let binds = spec.mounts.iter().map(|bind| {
        let access = if bind.readonly { "ro" } else { "rw" };
        let value = json!({
            "destination": bind.destination, "type": "bind",
            "source": bind.source, "options": ["rbind", "rprivate", access],
        });
        (&bind.destination, value)
    });
    let mut all: Vec<(&PathBuf, Value)> = tmpfs.chain(binds).collect();
    all.sort_by_key(|(destination, _)| destination.components().count());
    all.into_iter().map(|(_, value)| value).collect()
}

/// Docker's options of a tmpfs, and the caller's over them: an option drops
/// those before it that say the same, or the opposite.
fn tmpfs_options(given: &[String]) -> Vec<String> {
    let defaults = ["nosuid", "nodev", "noexec"].map(str::to_owned);
    let mut options: Vec<String> = vec![];
    for option in defaults.iter().chain(given) {
        options.retain(|known| subject(known) != subject(option));
        options.push(option.clone());
    }
    options
}

/// What an option is about: `exec` and `noexec` the same, and `uid=5`
/// whatever it says of `uid`.
fn subject(option: &str) -> &str {
    match option {
        "ro" | "rw" => "access",
        "sync" | "async" => "sync",
        _ => {
            let name = option.split('=').next().unwrap_or(option);
            name.strip_prefix("no").unwrap_or(name)
        }
    }
}

fn linux(spec: &ContainerSpec, with: &Resolved<'_>) -> Value {
    let mut linux = json!({
        "cgroupsPath": with.cgroup,
        "namespaces": namespaces(spec, with),
        "resources": resources(&spec.resources, with),
        "devices": with.devices.iter().map(Device::oci_node).collect::<Vec<_>>(),
        "sysctl": sysctls(spec),
        "rootfsPropagation": "private",
    });
    if !spec.privileged {
        let masked: Vec<&str> = MASKED_PATHS
            .into_iter()
            .chain(Some(MASKED_POWERCAP).filter(|p| Path::new(p).exists()))
            .collect();
        linux["maskedPaths"] = json!(masked);
        linux["readonlyPaths"] = json!(READONLY_PATHS);
    }
    linux
}

fn namespaces(spec: &ContainerSpec, with: &Resolved<'_>) -> Vec<Value> {
    let mut list = vec![
        json!({ "type": "mount" }),
        json!({ "type": "uts" }),
        json!({ "type": "cgroup" }),
    ];
    let mut push =
        |kind: &str, mode: &NamespaceMode, path: &Option<PathBuf>| match (
            mode, path,
        ) {
            (NamespaceMode::Private, _) => list.push(json!({ "type": kind })),
            (NamespaceMode::Container(_), Some(path)) => {
                list.push(json!({ "type": kind, "path": path }));
            }
            (NamespaceMode::Host | NamespaceMode::Container(_), _) => {}
        };
    push("pid", &spec.pid_mode, &with.pid_namespace);
    push("ipc", &spec.ipc_mode, &with.ipc_namespace);
    match &spec.netns {
        Netns::Host => {}
        Netns::New => list.push(json!({ "type": "network" })),
        Netns::Path(path) => {
            list.push(json!({ "type": "network", "path": path }));
        }
    }
    list
}

/// The caller's, and Docker's two that let unprivileged users bind low ports
/// and ping; the latter only where the network is the container's own.
fn sysctls(spec: &ContainerSpec) -> Map<String, Value> {
    let mut all = Map::new();
    if spec.netns != Netns::Host && !spec.privileged {
        all.insert("net.ipv4.ip_unprivileged_port_start".into(), json!("0"));
        all.insert("net.ipv4.ping_group_range".into(), json!("0 2147483647"));
    }
    for (name, value) in &spec.sysctls {
        all.insert(name.clone(), json!(value));
    }
    all
}

fn resources(of: &Resources, with: &Resolved<'_>) -> Value {
    let mut cpu = Map::new();
    if let Some(shares) = of.cpu_shares {
        cpu.insert("shares".into(), json!(shares.max(CPU_SHARES_MIN)));
    }
    if let Some(quota) = of.cpu_quota_us {
        cpu.insert("quota".into(), json!(quota.max(CPU_QUOTA_MIN_US)));
        cpu.insert("period".into(), json!(CPU_PERIOD_US));
    }
    if let Some(cpus) = &of.cpuset_cpus {
        cpu.insert("cpus".into(), json!(cpus));
    }
    let mut memory = Map::new();
    if let Some(limit) = of.memory_bytes {
        let limit = limit.max(MEMORY_MIN_BYTES);
        memory.insert("limit".into(), json!(limit));
        if has_swap_accounting() {
            // OCI counts memory and swap together.
            let swap = of.swap_bytes.unwrap_or(limit);
            memory.insert("swap".into(), json!(limit.saturating_add(swap)));
        }
    }
    if let Some(soft) = of.memory_reservation_bytes {
        memory.insert("reservation".into(), json!(soft.max(MEMORY_MIN_BYTES)));
    }
    if let Some(swappiness) = of.swappiness.filter(|_| !with.is_unified) {
        memory.insert("swappiness".into(), json!(swappiness.min(100)));
    }
    let mut all = Map::new();
    if !cpu.is_empty() {
        all.insert("cpu".into(), cpu.into());
    }
    if !memory.is_empty() {
        all.insert("memory".into(), memory.into());
    }
    if let Some(pids) = of.pids {
        all.insert("pids".into(), json!({ "limit": pids.max(PIDS_MIN) }));
    }
    if !with.is_unified {
        all.insert(
            "devices".into(),
            json!(devices::v1_rules(with.device_rules)),
        );
    }
    all.into()
}

/// Kernels may be built or started without swap accounting; limits on swap
/// then do not exist and setting one would fail.
fn has_swap_accounting() -> bool {
    Path::new("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists()
        || Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
            && Path::new("/proc/swaps").exists()
}

#[cfg(test)]
#[path = "oci_tests.rs"]
mod tests;
