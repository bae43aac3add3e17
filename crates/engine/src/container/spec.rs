//! What a container is made of, and what the engine says about it.
//!
//! These are plain data: the specification travels as JSON from the daemon to
//! the shim and lies in the container's directory for as long as it lives.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest container id: it is a directory name, a cgroup and a host name.
pub const CONTAINER_ID_MAX: usize = 128;

/// The name of a container on this host, chosen by the caller.
///
/// One to 128 of `A-Z a-z 0-9 _ . -`, beginning with a letter or digit, so
/// that it is safe as a file name and as a cgroup.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(String);

/// A name that cannot be a container id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} cannot be a container id (1-128 of A-Z a-z 0-9 _ . -)")]
pub struct InvalidContainerId {
    name: String,
}

impl ContainerId {
    /// Checks and takes a name.
    pub fn new(name: impl Into<String>) -> Result<Self, InvalidContainerId> {
        let name = name.into();
        let first = name.as_bytes().first().copied().unwrap_or(0);
        let plain = |b: u8| {
            b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-')
        };
        if first.is_ascii_alphanumeric()
            && name.len() <= CONTAINER_ID_MAX
            && name.bytes().all(plain)
        {
            Ok(ContainerId(name))
        } else {
            Err(InvalidContainerId { name })
        }
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ContainerId {
    type Error = InvalidContainerId;
    fn try_from(name: String) -> Result<Self, Self::Error> {
        ContainerId::new(name)
    }
}

impl From<ContainerId> for String {
    fn from(id: ContainerId) -> String {
        id.0
    }
}

impl FromStr for ContainerId {
    type Err = InvalidContainerId;
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        ContainerId::new(name)
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Everything needed to run one container.
///
/// `ContainerSpec::new` gives Docker's defaults; callers change fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// The container's name on this host.
    pub id: ContainerId,
    /// Unpacked image layers, bottom first.
    pub layers: Vec<PathBuf>,
    /// Mounts the root file system read-only.
    pub readonly_rootfs: bool,
    /// A directory for what it writes, on a file system that overlayfs can
    /// write to; with the container's other files where there is none. Whoever
    /// gives it removes it.
    #[serde(default)]
    pub writable: Option<PathBuf>,
    /// Command and arguments; must not be empty.
    pub args: Vec<String>,
    /// `NAME=value` pairs in order; PATH, HOSTNAME and HOME are added if missing.
    pub env: Vec<String>,
    /// Working directory, created if missing; empty means `/`.
    pub cwd: String,
    /// `user`, `uid`, `user:group` or `uid:gid`, resolved in the root file
    /// system; empty means root.
    pub user: String,
    /// More supplementary groups, as names or numbers.
    pub additional_groups: Vec<String>,
    /// Host name; `None` means the first 12 characters of the id.
    pub hostname: Option<String>,
    /// The network namespace.
    pub netns: Netns,
    /// The process namespace.
    pub pid_mode: NamespaceMode,
    /// The IPC namespace.
    pub ipc_mode: NamespaceMode,
    /// Bind mounts. Those and `tmpfs` are mounted by the depth of their
    /// destination, so that none hides another.
    pub mounts: Vec<BindMount>,
    /// In-memory file systems.
    pub tmpfs: Vec<TmpfsMount>,
    /// Size of `/dev/shm`; `None` means 64 MiB.
    pub shm_size_bytes: Option<u64>,
    /// Path of the parent cgroup (from `Cgroups::create_task`); `None` means
    /// directly below the engine's own.
    pub cgroup_parent: Option<String>,
    /// CPU, memory and process limits of this container.
    pub resources: Resources,
    /// Changes to Docker's default capability set.
    pub capabilities: Capabilities,
    /// All capabilities, all devices, no seccomp filter, nothing masked.
    pub privileged: bool,
    /// Sets `no_new_privs`.
    pub no_new_privileges: bool,
    /// Resource limits (setrlimit), by their names without `RLIMIT_`, lower case.
    pub ulimits: Vec<Ulimit>,
    /// Kernel parameters of the container's namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// Devices of the host.
    pub devices: Vec<DeviceMapping>,
    /// Runs no command: the first process holds its namespaces for other
    /// containers and reaps what these leave, until it gets SIGTERM or the
    /// container is removed. `args` only name it.
    #[serde(default)]
    pub is_holder: bool,
    /// Docker's IPC mode `none`: no `/dev/shm`.
    #[serde(default)]
    pub no_shm: bool,
    /// Puts a tiny init before the command, which reaps orphans and forwards
    /// signals.
    pub init: bool,
    /// Gives the container a terminal; its output is then one stream.
    pub tty: bool,
    /// Keeps standard input open (never written to); otherwise `/dev/null`.
    pub stdin: bool,
    /// The kernel's preference for killing this container when out of memory.
    pub oom_score_adj: Option<i32>,
    /// Limits of the log files.
    pub log: LogLimits,
    /// Free text kept with the container and returned by `Containers::spec`.
    pub labels: BTreeMap<String, String>,
    /// The image's STOPSIGNAL, as `SIGTERM`, `TERM` or a number; kept for
    /// the caller's stop logic (`ContainerSpec::stop_signal_number`).
    pub stop_signal: Option<String>,
}

impl ContainerSpec {
    /// A container with Docker's defaults and its own, unconnected network.
    pub fn new(
        id: ContainerId,
        layers: Vec<PathBuf>,
        args: Vec<String>,
    ) -> Self {
        ContainerSpec {
            id,
            layers,
            readonly_rootfs: false,
            writable: None,
            args,
            env: vec![],
            cwd: String::new(),
            user: String::new(),
            additional_groups: vec![],
            hostname: None,
            netns: Netns::New,
            pid_mode: NamespaceMode::Private,
            ipc_mode: NamespaceMode::Private,
            mounts: vec![],
            tmpfs: vec![],
            shm_size_bytes: None,
            cgroup_parent: None,
            resources: Resources::default(),
            capabilities: Capabilities::default(),
            privileged: false,
            no_new_privileges: false,
            ulimits: vec![],
            sysctls: BTreeMap::new(),
            devices: vec![],
            is_holder: false,
            no_shm: false,
            init: false,
            tty: false,
            stdin: false,
            oom_score_adj: None,
            log: LogLimits::default(),
            labels: BTreeMap::new(),
            stop_signal: None,
        }
    }

    /// The number of the stop signal: the image's, or SIGTERM.
    pub fn stop_signal_number(&self) -> i32 {
        self.stop_signal
            .as_deref()
            .and_then(signal_number)
            .unwrap_or(libc::SIGTERM)
    }
}

/// Reads a signal as images write it: `SIGQUIT`, `QUIT`, `3`, `SIGRTMIN+3`.
pub fn signal_number(text: &str) -> Option<i32> {
    const REALTIME_MIN: i32 = 34;
    const SIGNAL_MAX: i32 = 64;
    let in_range = |n: i32| (1..=SIGNAL_MAX).contains(&n).then_some(n);
    if let Ok(number) = text.parse::<i32>() {
        return in_range(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(rest) = name.strip_prefix("RTMIN") {
        let offset = if rest.is_empty() { 0 } else { rest.parse().ok()? };
        return in_range(REALTIME_MIN.checked_add(offset)?);
    }
    if let Some(rest) = name.strip_prefix("RTMAX") {
        let offset = if rest.is_empty() { 0 } else { rest.parse().ok()? };
        return in_range(SIGNAL_MAX.checked_add(offset)?);
    }
    nix::sys::signal::Signal::from_str(&format!("SIG{name}"))
        .ok()
        .map(|signal| signal as i32)
}

/// Where a container's network comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Netns {
    /// The host's own.
    Host,
    /// A namespace pinned at a path (a task's, shared by its containers).
    Path(PathBuf),
    /// A new one with a loopback interface only (ECS network mode `none`).
    New,
}

/// Where a container's process or IPC namespace comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NamespaceMode {
    /// A new one of its own.
    Private,
    /// The host's.
    Host,
    /// That of another running container; with its IPC namespace goes its
    /// `/dev/shm`.
    Container(ContainerId),
}

/// A file or directory of the host inside the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindMount {
    /// Absolute path on the host; must exist.
    pub source: PathBuf,
    /// Absolute path in the container, created if missing.
    pub destination: PathBuf,
    /// Forbids writing.
    pub readonly: bool,
    /// A directory above `source` that links must not lead out of: others
    /// write there, and may put them in the way at any time.
    #[serde(default)]
    pub within: Option<PathBuf>,
}

/// A file system in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TmpfsMount {
    /// Absolute path in the container.
    pub destination: PathBuf,
    /// Size limit.
    pub size_bytes: Option<u64>,
    /// Mount options as ECS and Docker name them, over the defaults
    /// `nosuid,nodev,noexec`; of two that exclude each other the later holds.
    pub options: Vec<String>,
}

/// Limits that a cgroup enforces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Relative CPU weight (1024 = one CPU's fair share); raised to 2.
    pub cpu_shares: Option<u64>,
    /// CPU time per 100 ms period, in microseconds: 100 000 = one CPU.
    pub cpu_quota_us: Option<u64>,
    /// CPUs the container may use, as a list (`0-2,4`).
    pub cpuset_cpus: Option<String>,
    /// Hard memory limit; over it the kernel kills. Raised to 6 MiB.
    pub memory_bytes: Option<u64>,
    /// Soft memory limit.
    pub memory_reservation_bytes: Option<u64>,
    /// Swap in addition to memory; `None` means as much as memory, the
    /// Docker default, `Some(0)` none.
    pub swap_bytes: Option<u64>,
    /// How readily memory is swapped, 0-100 (cgroup v1 only).
    pub swappiness: Option<u64>,
    /// Most processes and threads.
    pub pids: Option<u64>,
}

/// Changes to Docker's default capabilities, by name with or without `CAP_`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// To add; `ALL` adds every one.
    pub add: Vec<String>,
    /// To drop; `ALL` drops every one before adding.
    pub drop: Vec<String>,
}

/// One resource limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// `nofile`, `nproc`, `core`, `memlock`...
    pub name: String,
    /// The soft limit; -1 is unlimited.
    pub soft: i64,
    /// The hard limit; -1 is unlimited.
    pub hard: i64,
}

/// A device of the host inside the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceMapping {
    /// Path on the host.
    pub host_path: PathBuf,
    /// Path in the container; `None` means the same.
    pub container_path: Option<PathBuf>,
    /// Allowed actions out of `r`, `w`, `m`; empty means all.
    pub permissions: String,
}

/// Limits of a container's log files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLimits {
    /// Size at which a new segment begins.
    pub segment_bytes: u64,
    /// Most bytes kept unread, and a segment's more.
    pub max_bytes: u64,
    /// What happens beyond that.
    #[serde(default)]
    pub when_full: WhenLogFull,
}

/// What happens when a container writes faster than its log is read.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize,
)]
pub enum WhenLogFull {
    /// The oldest segment goes, and the reader is told how many lines went
    /// with it.
    #[default]
    DropOldest,
    /// The container waits where it writes, until the reader has acknowledged
    /// a segment.
    Block,
}

impl LogLimits {
    /// The least there is: for output that nobody wants.
    pub const LEAST: LogLimits = LogLimits {
        segment_bytes: 64 << 10,
        max_bytes: 64 << 10,
        when_full: WhenLogFull::DropOldest,
    };
}

impl Default for LogLimits {
    fn default() -> Self {
        // A reader that is a whole restart behind loses nothing at 64 MiB;
        // a segment is what `acknowledge` frees at a time.
        LogLimits {
            segment_bytes: 1 << 20,
            max_bytes: 64 << 20,
            when_full: WhenLogFull::DropOldest,
        }
    }
}

/// A command to run inside a running container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecSpec {
    /// Command and arguments.
    pub args: Vec<String>,
    /// Added to the container's own environment.
    pub env: Vec<String>,
    /// Working directory; `None` means the container's.
    pub cwd: Option<String>,
    /// As `ContainerSpec::user`; `None` means the container's.
    pub user: Option<String>,
    /// Most output kept; the rest is read and thrown away. At most 1 MiB.
    pub output_max_bytes: usize,
}

/// How large a terminal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Characters in a line.
    pub cols: u16,
    /// Lines.
    pub rows: u16,
}

impl From<TerminalSize> for rustix::termios::Winsize {
    fn from(size: TerminalSize) -> Self {
        Self {
            ws_row: size.rows,
            ws_col: size.cols,
            ws_xpixel: 0,
            ws_ypixel: 0,
        }
    }
}

/// What a command run by `Containers::exec` gave back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecOutput {
    /// Its exit code; 128 + signal if a signal ended it; 137 after a timeout.
    pub exit_code: i32,
    /// Standard output and error as they came, cut at the limit.
    pub output: Vec<u8>,
    /// More output than the limit was thrown away.
    pub truncated: bool,
    /// The deadline passed and the command was killed.
    pub timed_out: bool,
}

/// A container has started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Process id of its first process on the host.
    pub pid: i32,
    /// When, in milliseconds since the epoch.
    pub at_ms: i64,
}

/// A container has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit code; 128 + signal if a signal ended it.
    pub code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The kernel killed one of its processes for want of memory.
    pub oom_killed: bool,
    /// When, in milliseconds since the epoch.
    pub at_ms: i64,
    /// How the engine knows.
    pub reason: ExitReason,
}

/// How a container's end became known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitReason {
    /// Its first process ended and the shim saw it.
    Exited,
    /// The shim was killed; the container was then killed too. The code is 137.
    ShimLost,
    /// The machine was restarted while it ran. The code is 137.
    Reboot,
}

/// Where a container stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    /// Its root file system is there; nothing runs.
    Created,
    /// Its first process runs.
    Running(Started),
    /// It has ended; files stay until `remove`.
    Exited(Exit),
}

/// What a container uses, as counters since its start and current amounts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerStats {
    /// CPU time used, in nanoseconds.
    pub cpu_usage_ns: u64,
    /// Of it in the kernel.
    pub cpu_system_ns: u64,
    /// Of it in user space.
    pub cpu_user_ns: u64,
    /// Scheduling periods, and those in which the quota was used up.
    pub cpu_periods: u64,
    /// Periods in which the quota was used up.
    pub cpu_throttled_periods: u64,
    /// Memory in use, page cache included.
    pub memory_usage_bytes: u64,
    /// Most memory ever in use, where the kernel says.
    pub memory_max_usage_bytes: Option<u64>,
    /// Page cache that can be given back at once (inactive file pages).
    pub memory_inactive_file_bytes: u64,
    /// Limit; `None` is unlimited.
    pub memory_limit_bytes: Option<u64>,
    /// Processes and threads.
    pub pids: u64,
    /// Bytes read from block devices.
    pub blkio_read_bytes: u64,
    /// Bytes written to block devices.
    pub blkio_write_bytes: u64,
    /// When these were read, in nanoseconds since the epoch.
    pub read_at_ns: u64,
}
