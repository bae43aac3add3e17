//! What a task is to be, as the agent understands it.
//!
//! A plan is made from an ACS task by [`crate::task::decode`]; after that
//! nothing in the agent looks at the message again. It says everything in the
//! engine's units (bytes, signals, paths) and holds nothing the agent could
//! not do: what it cannot do was refused while decoding.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

pub use super::log_plan::{
    AwslogsPlan, ExtrasPlan, GelfCompression, IncludePlan, LogAddress, LogPlan,
    MultilinePlan, RecordForm, RemotePlan, RouterKind, RouterOutput,
    RouterPlan, SyslogFormat,
};
use crate::runtime::fault::ProxyRules;
use crate::runtime::{DeviceMapping, Format, PortProtocol, TmpfsMount, Ulimit};

/// A task to run.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskPlan {
    /// Its ARN.
    pub arn: String,
    /// The last part of the ARN.
    pub id: String,
    /// ARN of its cluster.
    pub cluster_arn: String,
    /// Family of its task definition.
    pub family: String,
    /// Revision of its task definition.
    pub revision: String,
    /// `EC2`, `FARGATE` or `EXTERNAL`.
    pub launch_type: String,
    /// Names the credentials of its role, where it has one.
    pub credentials_id: Option<String>,
    /// Names the credentials of its execution role, where it has one.
    pub execution_credentials_id: Option<String>,
    /// How it is connected.
    pub network: NetworkPlan,
    /// Whose processes its containers see.
    pub pid: PidPlan,
    /// Whose shared memory, semaphores and message queues they have.
    pub ipc: IpcPlan,
    /// Which of its connections are led through its proxy, if it has one.
    pub proxy: Option<ProxyRules>,
    /// Whether it may inject faults into its network.
    pub fault_injection: bool,
    /// Limit on CPU time, in CPUs.
    pub cpus: Option<f64>,
    /// Limit on memory.
    pub memory_bytes: Option<u64>,
    /// Room for what its containers write, where it is bounded.
    pub disk_bytes: Option<u64>,
    /// Its volumes by name.
    pub volumes: BTreeMap<String, VolumePlan>,
    /// Its containers, in the definition's order.
    pub containers: Vec<ContainerPlan>,
}

impl TaskPlan {
    /// The container of the name given.
    pub fn container(&self, name: &str) -> Option<&ContainerPlan> {
        self.containers.iter().find(|container| container.name == name)
    }

    /// Whether errors and defaults are Fargate's, not the EC2 agent's.
    pub fn is_fargate(&self) -> bool {
        self.launch_type == "FARGATE"
    }

    /// The name that the engine has for a volume of the task's own, as
    /// upstream's: the digits at its end, random there, are the task's here,
    /// so that whoever clears up after a crash finds the same name.
    pub fn own_volume_name(&self, volume: &str) -> String {
        let digits: String = self.id.chars().take(20).collect();
        let TaskPlan { family, revision, .. } = self;
        format!("ecs-{family}-{revision}-{volume}-{digits}")
    }
}

/// Which process namespace a task's containers have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PidPlan {
    /// Each its own.
    Own,
    /// One for all of the task.
    Task,
    /// The host's.
    Host,
}

/// Which IPC namespace a task's containers have, and which `/dev/shm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpcPlan {
    /// Each its own.
    Own,
    /// Each its own, and no `/dev/shm`.
    None,
    /// One for all of the task.
    Task,
    /// The host's.
    Host,
}

/// How a task is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkPlan {
    /// Each container has an address on the host's bridge.
    Bridge,
    /// The containers live in the host's network.
    Host,
    /// The containers share the task's own interface in a subnet.
    Awsvpc(InterfacePlan),
    /// The containers have a loopback interface each.
    None,
}

/// A task's network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfacePlan {
    /// The attachment it came with.
    pub attachment_arn: String,
    /// MAC address.
    pub mac: String,
    /// Address.
    pub ip: Ipv4Addr,
    /// Length of the subnet's prefix.
    pub prefix_len: u8,
    /// The subnet's gateway.
    pub gateway: Ipv4Addr,
    /// The IPv6 address, if it has one.
    pub ipv6: Option<InterfaceIpv6>,
    /// Name servers; the host's where empty.
    pub nameservers: Vec<String>,
    /// Search domains.
    pub search: Vec<String>,
    /// Its DNS name, which is the containers' host name too.
    pub private_dns_name: Option<String>,
}

/// The IPv6 address of a task's interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceIpv6 {
    /// Address.
    pub ip: Ipv6Addr,
    /// Length of the subnet's prefix.
    pub prefix_len: u8,
    /// The subnet's gateway.
    pub gateway: Ipv6Addr,
}

/// Where a volume's files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumePlan {
    /// An empty directory that lives as long as the task.
    Task,
    /// A directory of the host.
    Host(PathBuf),
    /// What Docker calls a volume.
    Docker(DockerVolumePlan),
    /// A directory of an EFS file system.
    Efs(EfsPlan),
    /// A file system of a fixed size, made for the task.
    Ebs(EbsPlan),
}

impl VolumePlan {
    /// Whether it is an EBS volume that ends with its task.
    pub fn goes_with_task(&self) -> bool {
        matches!(self, VolumePlan::Ebs(plan) if plan.delete_on_termination)
    }

    /// The id of an EBS volume.
    pub fn ebs_id(&self) -> Option<&str> {
        match self {
            VolumePlan::Ebs(plan) => Some(&plan.volume_id),
            VolumePlan::Task
            | VolumePlan::Host(_)
            | VolumePlan::Docker(_)
            | VolumePlan::Efs(_) => None,
        }
    }
}

/// A volume of Docker's driver `local`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerVolumePlan {
    /// How long it lives.
    pub scope: VolumeScope,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// How long a Docker volume lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum VolumeScope {
    /// As long as its task.
    Task,
    /// Beyond its tasks, under its own name.
    Shared {
        /// Whether it is made where there is none.
        autoprovision: bool,
    },
}

/// A directory of an EFS file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EfsPlan {
    /// The file system.
    pub file_system_id: String,
    /// The directory, from the file system's root.
    pub root: PathBuf,
    /// The access point it is seen through.
    pub access_point: Option<String>,
    /// Whether it must be encrypted on its way.
    pub is_encrypted: bool,
}

/// A file system of a fixed size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EbsPlan {
    /// `vol-` and hexadecimal digits.
    pub volume_id: String,
    /// Its size.
    pub bytes: u64,
    /// The file system on it.
    pub format: Format,
    /// Whether it goes with its task.
    pub delete_on_termination: bool,
}

/// A variable that holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretPlan {
    /// The variable.
    pub name: String,
    /// Who keeps it.
    pub store: SecretStore,
    /// The region it is kept in.
    pub region: Option<String>,
    /// The name or ARN, as the definition has it.
    pub value_from: String,
}

/// An object in S3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectPlan {
    /// Its bucket.
    pub bucket: String,
    /// Its key.
    pub key: String,
}

impl ObjectPlan {
    /// Reads `arn:PARTITION:s3:::BUCKET/KEY`; none, where the text is another.
    pub fn of_arn(arn: &str) -> Option<ObjectPlan> {
        let object = arn
            .strip_prefix("arn:")
            .and_then(|rest| rest.split_once(":s3:::"))
            .and_then(|(_, object)| object.split_once('/'))
            .filter(|(bucket, key)| !bucket.is_empty() && !key.is_empty());
        let (bucket, key) = object?;
        Some(ObjectPlan { bucket: bucket.into(), key: key.into() })
    }
}

/// The secret with the user and password for an image's registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginPlan {
    /// The region it is kept in.
    pub region: Option<String>,
    /// Its name or ARN in Secrets Manager.
    pub secret: String,
}

/// Where secrets are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecretStore {
    /// AWS Secrets Manager.
    SecretsManager,
    /// The Parameter Store of Systems Manager.
    ParameterStore,
}

/// A container to run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContainerPlan {
    /// Its name.
    pub name: String,
    /// Its id in the engine and its `runtimeId`.
    pub id: String,
    /// Its ARN.
    pub arn: Option<String>,
    /// Image reference.
    pub image: String,
    /// For the image's registry, where that is private.
    pub registry_login: Option<LoginPlan>,
    /// Whether the task stops when it does.
    pub essential: bool,
    /// Replaces the image's `CMD`, where given.
    pub command: Vec<String>,
    /// Replaces the image's `ENTRYPOINT`, where given.
    pub entry_point: Vec<String>,
    /// Variables over the image's.
    pub environment: BTreeMap<String, String>,
    /// Files of further variables, fetched before it is made; the first one
    /// that has a variable holds.
    pub environment_files: Vec<ObjectPlan>,
    /// Variables whose values are fetched before it starts.
    pub secrets: Vec<SecretPlan>,
    /// CPU shares.
    pub cpu_shares: u64,
    /// Memory limit.
    pub memory_bytes: Option<u64>,
    /// Soft memory limit.
    pub memory_reservation_bytes: Option<u64>,
    /// Ports.
    pub ports: Vec<PortPlan>,
    /// Containers to reach by name, in bridge mode.
    pub links: Vec<LinkPlan>,
    /// Volumes of the task's.
    pub mounts: Vec<MountPlan>,
    /// Containers whose mounts it takes over.
    pub volumes_from: Vec<VolumesFrom>,
    /// What it waits for.
    pub depends_on: Vec<Dependency>,
    /// How long others wait for it.
    pub start_timeout: Option<Duration>,
    /// How long it may take to stop.
    pub stop_timeout: Option<Duration>,
    /// Its health check.
    pub health_check: Option<HealthCheck>,
    /// Whether commands may be run in it (ECS Exec).
    pub can_exec: bool,
    /// When it is started again after its end.
    pub restart: Option<RestartPlan>,
    /// Where its output goes.
    pub log: LogPlan,
    /// What it does for the logs of others, where it is a log router.
    pub router: Option<RouterPlan>,
    /// `user[:group]`.
    pub user: Option<String>,
    /// Working directory.
    pub working_dir: Option<String>,
    /// Host name.
    pub hostname: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether its standard input stays open.
    pub open_stdin: bool,
    /// Whether it has no network but loopback.
    pub network_disabled: bool,
    /// Lines for `/etc/hosts`: name and address.
    pub extra_hosts: Vec<(String, String)>,
    /// Name servers instead of the host's.
    pub dns_servers: Vec<String>,
    /// Search domains instead of the host's.
    pub dns_search: Vec<String>,
    /// Whether the root file system is read-only.
    pub read_only_root: bool,
    /// Whether it may do anything the host's root may.
    pub privileged: bool,
    /// Capabilities to add.
    pub cap_add: Vec<String>,
    /// Capabilities to drop.
    pub cap_drop: Vec<String>,
    /// Resource limits.
    pub ulimits: Vec<Ulimit>,
    /// Devices.
    pub devices: Vec<DeviceMapping>,
    /// `tmpfs` mounts.
    pub tmpfs: Vec<TmpfsMount>,
    /// Size of `/dev/shm`.
    pub shm_bytes: Option<u64>,
    /// Swap beyond the memory limit.
    pub swap_bytes: Option<u64>,
    /// 0 to 100.
    pub swappiness: Option<u64>,
    /// Kernel parameters.
    pub sysctls: BTreeMap<String, String>,
    /// Overrides the image's stop signal.
    pub stop_signal: Option<String>,
    /// Whether a small init reaps its orphans.
    pub init: bool,
    /// Whether set-user-id programs gain nothing.
    pub no_new_privileges: bool,
}

/// A port of a container's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortPlan {
    /// In the container; the first one of a range.
    pub container_port: u16,
    /// On the host; 0 is any.
    pub host_port: u16,
    /// How many consecutive ports: 1, or more for a `containerPortRange`.
    pub count: u16,
    /// TCP or UDP.
    pub protocol: PortProtocol,
}

impl PortPlan {
    /// The last port in the container.
    pub fn last(&self) -> u16 {
        self.container_port.saturating_add(self.count.saturating_sub(1))
    }
}

/// A container to reach by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkPlan {
    /// The other container.
    pub container: String,
    /// Another name for it.
    pub alias: String,
}

/// A volume in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountPlan {
    /// The volume's name.
    pub volume: String,
    /// Where.
    pub path: PathBuf,
    /// Whether it may only be read.
    pub read_only: bool,
}

/// Another container's mounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumesFrom {
    /// The other container.
    pub container: String,
    /// Whether they may only be read.
    pub read_only: bool,
}

/// Something a container waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// The other container.
    pub container: String,
    /// What of it.
    pub condition: Condition,
}

/// What a container waits for in another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// That it was made (for `volumesFrom`).
    Create,
    /// That it was started.
    Start,
    /// That it ended.
    Complete,
    /// That it ended with exit code 0.
    Success,
    /// That its health check says it is healthy.
    Healthy,
}

/// A command that tells whether a container is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// The command, shell included.
    pub command: Vec<String>,
    /// From the end of one run to the next.
    pub interval: Duration,
    /// How long a run may take.
    pub timeout: Duration,
    /// Failures in a row that make it unhealthy.
    pub retries: u32,
    /// At first, failures do not count.
    pub start_period: Duration,
}

/// When a container is started again that ended by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartPlan {
    /// Exit codes that are ends all the same.
    pub ignored_exit_codes: Vec<i32>,
    /// How long it must have run.
    pub attempt_period: Duration,
}
