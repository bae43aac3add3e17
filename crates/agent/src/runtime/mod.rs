//! What the agent needs of a container engine, and nothing more.
//!
//! The trait keeps the task engine testable: step lists and actors run over a
//! fake in tests and over [`engine::EngineRuntime`] in the product. Every
//! operation is idempotent (a repeat is a no-op) and every undo tolerates
//! that there is nothing to undo, because after a crash the agent does not
//! know how far it came.

pub mod engine;
#[cfg(test)]
pub(crate) mod fake;
pub mod fault;

use std::fmt;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use minato_engine::container::{
    BindMount, Capabilities, ContainerId, ContainerSpec, ContainerState,
    DeviceMapping, ExecOutput, ExecSpec, Exit, ExitReason, LogLimits, Netns,
    Resources, SecretEnv, Started, Terminal, TerminalInput, TerminalSize,
    TmpfsMount, Ulimit, WhenLogFull,
};
pub use minato_engine::image::PullBehavior;
pub use minato_engine::network::{
    Firewall, GroupRule, IpCidr, Peer, Protocol, SecurityGroup, Subnet,
    SubnetIpv6, Traffic,
};
pub use minato_engine::volume::{
    Format, MountOptions, VolumeSource, VolumeSupport,
};

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::task::plan::InterfaceIpv6;
use fault::{FaultAnswer, FaultCall, FaultSite, ProxyRules};

/// An engine call in flight.
pub type Op<'a, T> = BoxFuture<'a, Result<T, RuntimeError>>;

/// What the engine answered when it could not do what was asked.
///
/// The text is for people: it ends up in a container's `reason`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RuntimeError {
    /// What kind of failure it is, where the agent must tell them apart.
    pub kind: RuntimeErrorKind,
    /// The whole story, causes included.
    pub message: String,
}

/// The failures the agent treats differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuntimeErrorKind {
    /// The image's manifest could not be had.
    Manifest,
    /// The registry refused the credentials, or wants some.
    Unauthorized,
    /// There is no such container.
    NotFound,
    /// The container's supervisor died and took the exit status with it.
    Lost,
    /// Anything else.
    Other,
}

impl RuntimeError {
    /// A failure of no special kind.
    pub fn other(message: impl Into<String>) -> RuntimeError {
        RuntimeError { kind: RuntimeErrorKind::Other, message: message.into() }
    }

    /// A failure of the kind given.
    pub fn new(
        kind: RuntimeErrorKind,
        message: impl Into<String>,
    ) -> RuntimeError {
        RuntimeError { kind, message: message.into() }
    }

    /// A failure with `error` and all its causes as the message.
    pub fn chain(
        kind: RuntimeErrorKind,
        error: &dyn std::error::Error,
    ) -> RuntimeError {
        RuntimeError { kind, message: error_chain(error) }
    }
}

/// An error and its causes on one line.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text.push_str(": ");
        text.push_str(&source.to_string());
        cause = source.source();
    }
    text
}

/// User name and password for a registry.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistryLogin {
    /// The user.
    pub username: String,
    /// Its password.
    pub password: String,
}

impl fmt::Debug for RegistryLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryLogin")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// A local image, as far as a container needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFacts {
    /// Manifest digest, where a registry gave one.
    pub digest: Option<String>,
    /// Digest of the image's configuration.
    pub id: String,
    /// `ENTRYPOINT`.
    pub entrypoint: Vec<String>,
    /// `CMD`.
    pub cmd: Vec<String>,
    /// `ENV`, as `NAME=value`.
    pub env: Vec<String>,
    /// `USER`.
    pub user: Option<String>,
    /// `WORKDIR`.
    pub working_dir: Option<String>,
    /// `STOPSIGNAL`.
    pub stop_signal: Option<String>,
    /// `VOLUME`s: paths that get a directory of their own.
    pub volumes: Vec<String>,
    /// Unpacked layers, bottom first.
    pub layers: Vec<PathBuf>,
}

/// Limits of a whole task.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaskLimits {
    /// CPU time per second of wall time, in CPUs.
    pub cpus: Option<f64>,
    /// Weight against other tasks where there is no limit.
    pub cpu_shares: Option<u64>,
    /// Memory limit.
    pub memory_bytes: Option<u64>,
}

/// A task's network interface in its subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskInterface {
    /// The task's id.
    pub task_id: String,
    /// The interface's MAC address.
    pub mac: String,
    /// Its address.
    pub ip: Ipv4Addr,
    /// Length of the subnet's prefix.
    pub prefix_len: u8,
    /// The subnet's gateway.
    pub gateway: Ipv4Addr,
    /// The IPv6 address, if it has one.
    pub ipv6: Option<InterfaceIpv6>,
}

/// Where a container stands on the bridge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeAddress {
    /// Its network namespace.
    pub netns: PathBuf,
    /// Its address.
    pub ip: Ipv4Addr,
    /// The bridge's own address.
    pub gateway: Ipv4Addr,
}

/// TCP or UDP.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum PortProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl PortProtocol {
    /// As ECS writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            PortProtocol::Tcp => "tcp",
            PortProtocol::Udp => "udp",
        }
    }
}

/// Host ports to lead to a container's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishPort {
    /// Who holds it: the container's id.
    pub owner: String,
    /// TCP or UDP.
    pub protocol: PortProtocol,
    /// The host's (first) port; 0 lets the engine choose.
    pub host_port: u16,
    /// The container's address on the bridge.
    pub container_ip: Ipv4Addr,
    /// The container's (first) port.
    pub container_port: u16,
    /// How many consecutive ports.
    pub count: u16,
}

/// The host's resolver settings, as far as they hold in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolver {
    /// Name servers.
    pub nameservers: Vec<String>,
    /// Search domains.
    pub search: Vec<String>,
    /// Options.
    pub options: Vec<String>,
}

/// Use of resources since the start, and now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time used, in nanoseconds.
    pub cpu_ns: u64,
    /// Memory in use without the page cache, in bytes.
    pub memory_bytes: u64,
    /// Bytes received and sent, where the container has a network of its own.
    pub network: Option<(u64, u64)>,
    /// Bytes read and written.
    pub storage: (u64, u64),
}

/// Which of the two outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One line a container wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Which output.
    pub stream: Stream,
    /// When, in nanoseconds since the epoch.
    pub time_ns: i64,
    /// Without the newline.
    pub bytes: Vec<u8>,
    /// Whether it was longer than a line may be and goes on in the next one.
    pub partial: bool,
}

/// A place in a container's log, to go on from later. Its form is the
/// engine's affair.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LogPosition(pub String);

/// Lines, and where to go on after them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogChunk {
    /// Lines in the order they were written, each with the place after it.
    pub lines: Vec<(LogLine, LogPosition)>,
    /// Lines that were overwritten before they were read.
    pub lost_lines: u64,
    /// Whether the container has ended and everything was read.
    pub end: bool,
}

/// A reader of one container's log.
pub trait LogSource: Send {
    /// Reads at most `max` lines; where there are none, waits for some, for
    /// the end, or for `wait` to be over.
    fn next(&mut self, max: usize, wait: Duration) -> Op<'_, LogChunk>;

    /// Lines up to the position are no longer needed.
    fn acknowledge<'a>(&'a mut self, position: &'a LogPosition) -> Op<'a, ()>;
}

/// A container engine.
pub trait Runtime: Send + Sync + fmt::Debug + 'static {
    /// Changes with every boot of the machine; containers do not survive it.
    fn boot_id(&self) -> String;

    /// Gets an image: from its registry, or the local one, as `behavior` says.
    fn image_pull<'a>(
        &'a self,
        reference: &'a str,
        login: Option<&'a RegistryLogin>,
        behavior: PullBehavior,
    ) -> Op<'a, ImageFacts>;

    /// Makes a task's cgroup and answers its path for `cgroup_parent`.
    fn cgroup_create<'a>(
        &'a self,
        task_id: &'a str,
        limits: &'a TaskLimits,
    ) -> Op<'a, String>;

    /// Removes a task's cgroup.
    fn cgroup_remove<'a>(&'a self, task_id: &'a str) -> Op<'a, ()>;

    /// Makes these the subnets of the host, and has these security groups
    /// enforced from now on.
    fn firewall_set<'a>(
        &'a self,
        subnets: &'a [Subnet],
        firewall: &'a Firewall,
    ) -> Op<'a, ()>;

    /// Mounts a volume at a place of its own, where nothing is mounted.
    fn volume_mount<'a>(
        &'a self,
        source: &'a VolumeSource,
        place: &'a Path,
    ) -> Op<'a, ()>;

    /// Unmounts it and removes the place.
    fn volume_unmount<'a>(&'a self, place: &'a Path) -> Op<'a, ()>;

    /// Makes a task's network namespace with its interface.
    fn task_attach<'a>(
        &'a self,
        interface: &'a TaskInterface,
    ) -> Op<'a, PathBuf>;

    /// Removes a task's network namespace.
    fn task_detach<'a>(&'a self, task_id: &'a str) -> Op<'a, ()>;

    /// Leads an attached task's connections through its proxy.
    fn proxy_set<'a>(
        &'a self,
        task_id: &'a str,
        rules: &'a ProxyRules,
    ) -> Op<'a, ()>;

    /// Starts, stops or looks for a network fault.
    fn fault<'a>(
        &'a self,
        site: &'a FaultSite,
        call: &'a FaultCall,
    ) -> Op<'a, FaultAnswer>;

    /// Ends the faults of a task in host mode; others' end when they are
    /// detached.
    fn host_faults_end<'a>(&'a self, task_id: &'a str) -> Op<'a, ()>;

    /// Puts a container on the bridge.
    fn bridge_attach<'a>(&'a self, id: &'a str) -> Op<'a, BridgeAddress>;

    /// Takes it off the bridge.
    fn bridge_detach<'a>(&'a self, id: &'a str) -> Op<'a, ()>;

    /// Leads a host port to a container and answers which one it is.
    fn port_publish<'a>(&'a self, port: &'a PublishPort) -> Op<'a, u16>;

    /// Gives up every host port a container holds.
    fn ports_unpublish<'a>(&'a self, owner: &'a str) -> Op<'a, ()>;

    /// The host's resolver settings.
    fn resolver(&self) -> Resolver;

    /// Makes a container, not started.
    fn create<'a>(&'a self, spec: &'a ContainerSpec) -> Op<'a, ()>;

    /// Starts it, with variables that no disk may hold.
    fn start<'a>(&'a self, id: &'a str, secrets: SecretEnv) -> Op<'a, Started>;

    /// Starts it again, with its files and its log, if it ended at the time
    /// given; otherwise that was done already. If it cannot be started, it
    /// has ended as it had.
    fn restart<'a>(
        &'a self,
        id: &'a str,
        ended_at_ms: i64,
        secrets: SecretEnv,
    ) -> Op<'a, Started>;

    /// Sends it a signal, such as `SIGTERM`.
    fn signal<'a>(&'a self, id: &'a str, signal: &'a str) -> Op<'a, ()>;

    /// Waits until it ends; at once if it has.
    fn wait<'a>(&'a self, id: &'a str) -> Op<'a, Exit>;

    /// Runs a command in it.
    fn exec<'a>(
        &'a self,
        id: &'a str,
        spec: &'a ExecSpec,
        timeout: Duration,
    ) -> Op<'a, ExecOutput>;

    /// Runs a command in it, in a terminal of its own.
    fn exec_terminal<'a>(
        &'a self,
        id: &'a str,
        spec: &'a ExecSpec,
        size: TerminalSize,
    ) -> Op<'a, Terminal>;

    /// What it uses.
    fn usage<'a>(&'a self, id: &'a str) -> Op<'a, Usage>;

    /// Removes it, killing what still runs; its log stays readable until
    /// [`Runtime::log_remove`].
    fn remove<'a>(&'a self, id: &'a str) -> Op<'a, ()>;

    /// All containers there are.
    fn list(&self) -> Op<'_, Vec<(String, ContainerState)>>;

    /// Opens a container's log at the place given.
    fn log_open<'a>(
        &'a self,
        id: &'a str,
        from: Option<&'a LogPosition>,
    ) -> Op<'a, Box<dyn LogSource>>;

    /// Forgets a container's log.
    fn log_remove<'a>(&'a self, id: &'a str) -> Op<'a, ()>;
}
