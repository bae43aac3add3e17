//! The agent's settings.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::objects::S3Config;
use crate::runtime::{PullBehavior, VolumeSupport};

/// What containers are told of the task endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TaskEndpoint {
    /// Nothing: it is not served.
    #[default]
    Absent,
    /// Where credentials and metadata are.
    Own,
    /// That, and that AWS's APIs are there too (`AWS_ENDPOINT_URL`).
    AndApi,
}

/// What stands for an EFS file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EfsTarget {
    /// A directory of this host.
    Dir(PathBuf),
    /// A directory of an NFS server.
    Nfs {
        /// The server.
        server: IpAddr,
        /// The directory, absolute.
        export: PathBuf,
    },
}

/// An EFS access point. It has no POSIX user: files belong to whoever the
/// container runs as. A POSIX user stands for all users of a container at
/// once, and the kernel's idmapped mounts map users one to one only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EfsAccessPoint {
    /// Its file system.
    pub file_system_id: String,
    /// The directory that it shows as the root.
    pub root: PathBuf,
}

/// What the host is, and how its agent behaves.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// The cluster to register in, by name.
    pub cluster: String,
    /// The region it is in.
    pub region: String,
    /// `ecs.availability-zone`.
    pub availability_zone: String,
    /// Where the agent keeps its files: `<data>/agent`.
    pub dir: PathBuf,
    /// CPU units the host has: 1024 a core.
    pub cpu_units: i32,
    /// Memory the host offers, in MiB.
    pub memory_mib: i32,
    /// TCP ports of the host's that tasks cannot have.
    pub reserved_ports: Vec<u16>,
    /// UDP ports of the host's that tasks cannot have.
    pub reserved_udp_ports: Vec<u16>,
    /// The Auto Scaling group the host is of, if any: that of a capacity
    /// provider.
    pub auto_scaling_group: Option<String>,
    /// Further attributes, told at the first registration.
    pub attributes: BTreeMap<String, String>,
    /// How long a container may take to stop, where its definition does not
    /// say.
    pub stop_timeout: Duration,
    /// How long records and logs of stopped tasks are kept.
    pub cleanup_wait: Duration,
    /// When a registry is asked for an image (`ECS_IMAGE_PULL_BEHAVIOR`).
    pub pull_behavior: PullBehavior,
    /// What containers are told of the task endpoint.
    pub task_endpoint: TaskEndpoint,
    /// EFS file systems by id: what stands for them.
    pub efs: BTreeMap<String, EfsTarget>,
    /// Where objects of S3 are; without it no task with environment files is
    /// placed here.
    pub s3: Option<S3Config>,
    /// EFS access points by id.
    pub efs_access_points: BTreeMap<String, EfsAccessPoint>,
    /// What volumes this host can make.
    pub volumes: VolumeSupport,
    /// Whether this host's kernel can do every network fault.
    pub fault_injection: bool,
    /// Whether tasks can have IPv6 on this host.
    pub ipv6: bool,
    /// Version told to the control plane.
    pub version: String,
}

impl AgentConfig {
    /// The upstream agent's defaults.
    pub fn new(
        cluster: impl Into<String>,
        region: impl Into<String>,
        dir: impl Into<PathBuf>,
    ) -> AgentConfig {
        let region = region.into();
        AgentConfig {
            cluster: cluster.into(),
            availability_zone: format!("{region}a"),
            region,
            dir: dir.into(),
            cpu_units: 1024,
            memory_mib: 1024,
            reserved_ports: vec![22, 2375, 2376, 51678, 51679],
            reserved_udp_ports: vec![],
            auto_scaling_group: None,
            attributes: BTreeMap::new(),
            stop_timeout: Duration::from_secs(30),
            cleanup_wait: Duration::from_secs(3 * 60 * 60),
            pull_behavior: PullBehavior::Default,
            task_endpoint: TaskEndpoint::default(),
            efs: BTreeMap::new(),
            s3: None,
            efs_access_points: BTreeMap::new(),
            volumes: VolumeSupport::default(),
            fault_injection: false,
            ipv6: false,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}
