//! What the agent knows about a task: its file's content.
//!
//! One file per task, rewritten whole at each change. The message the task
//! came with is in it, so that a plan can be made again after a restart, and
//! so are the reports that the control plane has not yet acknowledged.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::path::PathBuf;

use minato_wire::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::status::{ContainerStatus, TaskStatus};
use crate::runtime::{BridgeAddress, ImageFacts, PortProtocol};

/// Format of the file; a newer one is refused rather than misread.
pub const FORMAT: u32 = 1;

/// A task, as kept on disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// [`FORMAT`].
    pub format: u32,
    /// How often it was kept: the newer of its two files has the larger
    /// number.
    #[serde(default)]
    pub saves: u64,
    /// The boot of the machine its containers belong to.
    pub boot_id: String,
    /// The ACS task it came as.
    pub payload: Value,
    /// Whether it is to run or to stop.
    pub desired: Desired,
    /// What its steps found out.
    #[serde(default)]
    pub facts: TaskFacts,
    /// Its containers by name.
    #[serde(default)]
    pub containers: BTreeMap<String, ContainerRecord>,
    /// Why the task as a whole cannot be, where it cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The last status the control plane was (or is about to be) told.
    pub reported: TaskStatus,
    /// Reports not yet acknowledged, oldest first.
    #[serde(default)]
    pub outbox: VecDeque<Value>,
    /// When the first pull began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_started_at: Option<Timestamp>,
    /// When the last pull ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_stopped_at: Option<Timestamp>,
    /// When the first essential container stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_stopped_at: Option<Timestamp>,
    /// When everything of it had stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_at: Option<Timestamp>,
}

/// The part of a record that must survive a power loss.
///
/// After one nothing runs, so how far a task had come is of no use; that it
/// is to stop, and how its containers ended, is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lasting {
    desired: Desired,
    stopped_at: Option<Timestamp>,
    ends: Vec<Option<(Option<i32>, Option<String>)>>,
}

impl TaskRecord {
    pub(crate) fn lasting(&self) -> Lasting {
        let ends = self.containers.values().map(|one| {
            let has_ended = one.finished_at.is_some()
                || one.status == ContainerStatus::Stopped;
            has_ended.then(|| (one.exit_code, one.reason.clone()))
        });
        Lasting {
            desired: self.desired,
            stopped_at: self.stopped_at,
            ends: ends.collect(),
        }
    }
}

/// Whether a task is to run.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "UPPERCASE")]
pub enum Desired {
    /// It is to run.
    Running,
    /// It is to stop.
    Stopped,
}

/// What a task's steps found out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskFacts {
    /// Whether the steps are done (and not undone).
    pub is_up: bool,
    /// The task's cgroup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// The task's network namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<PathBuf>,
    /// The container that holds the namespaces which the others share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
}

/// What a container shows the task endpoint to be known: 122 random bits.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EndpointToken(String);

impl EndpointToken {
    /// In the form of a UUID, as upstream's.
    pub fn new(uuid: u128) -> EndpointToken {
        let hex = format!("{uuid:032x}");
        let parts = [0..8, 8..12, 12..16, 16..20, 20..32];
        EndpointToken(parts.map(|part| &hex[part]).join("-"))
    }

    /// Whether it is this one.
    pub fn is(&self, text: &str) -> bool {
        self.0 == text
    }

    /// For the container's environment, and nothing else.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for EndpointToken {
    // Never in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EndpointToken")
    }
}

/// A container, as kept on disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// By which the task endpoint knows it; none in an older agent's records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<EndpointToken>,
    /// Where it stands.
    pub status: ContainerStatus,
    /// What its steps found out.
    #[serde(default)]
    pub facts: ContainerFacts,
    /// When it was first started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended; set before its remains are cleared away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Why it stopped or never ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How often it was started again, by its restart policy.
    #[serde(default)]
    pub restart_count: u32,
    /// The end after which it is being started again right now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarting: Option<Ending>,
    /// Its health, as its check says.
    #[serde(default)]
    pub health: Health,
    /// The status the control plane was (or is about to be) told.
    pub reported: ContainerStatus,
    /// Whether all its output has reached its destination.
    #[serde(default)]
    pub log_done: bool,
}

/// What a container's steps found out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ContainerFacts {
    /// Its image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageFacts>,
    /// Its address on the bridge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<BridgeAddress>,
    /// Its ports on the host.
    #[serde(default)]
    pub bindings: Vec<Binding>,
    /// When it was last started, in milliseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at_ms: Option<i64>,
}

/// An end that need not be the last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// The exit code.
    pub exit_code: i32,
    /// Why, where there is more to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When, in milliseconds since the epoch.
    pub at_ms: i64,
}

/// Host ports that lead to a container's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// On the host; the first one of a range.
    pub host_port: u16,
    /// In the container; the first one of a range.
    pub container_port: u16,
    /// How many consecutive ports; more than one is a range.
    #[serde(default = "one_port")]
    pub count: u16,
    /// TCP or UDP.
    pub protocol: PortProtocol,
}

fn one_port() -> u16 {
    1
}

/// Health of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// What the check says.
    pub status: HealthStatus,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// The check's last output.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub output: String,
}

/// What a health check says.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize,
)]
#[serde(rename_all = "UPPERCASE")]
pub enum HealthStatus {
    /// Nothing yet.
    #[default]
    Unknown,
    /// It is well.
    Healthy,
    /// It is not.
    Unhealthy,
}

impl HealthStatus {
    /// As ECS writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            HealthStatus::Unknown => "UNKNOWN",
            HealthStatus::Healthy => "HEALTHY",
            HealthStatus::Unhealthy => "UNHEALTHY",
        }
    }
}
