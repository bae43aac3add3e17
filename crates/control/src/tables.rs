//! The rows of the store, by resource.
//!
//! Keys begin with account and region, so that both are namespaces. A row
//! keeps what was decided; what can be counted or derived is not stored.

mod capacity_provider;
mod daemon;
mod service;
mod task_set;

use std::collections::{BTreeMap, BTreeSet};

use minato_core::launch_volume::LaunchVolume;
use minato_core::placement::{Capacity, Claim, Ledger, ZONE_ATTRIBUTE};
use minato_store::{Key, Row, Tables};
use minato_wire::{Timestamp, ecs};
use serde::{Deserialize, Serialize};

use crate::services::ecs_arn;

pub use capacity_provider::CapacityProvider;
pub(crate) use daemon::DAEMON_PREFIX;
pub use daemon::{
    Daemon, DaemonDeployment, DaemonRevision, DaemonTaskDefinition,
};
pub(crate) use service::EVENTS_MAX;
pub use service::{
    Deployment, OfService, Service, ServiceDeployment, ServiceEvent,
    ServiceRef, ServiceRevision,
};
pub use task_set::TaskSet;

/// Every table of the control plane.
pub fn tables() -> Tables {
    crate::services::tables(
        Tables::new()
            .with::<Cluster>()
            .with::<CapacityProvider>()
            .with::<TaskFamily>()
            .with::<TaskDefinition>()
            .with::<Host>()
            .with::<ContainerInstance>()
            .with::<Task>()
            .with::<RunTaskToken>()
            .with::<Service>()
            .with::<ServiceRevision>()
            .with::<ServiceDeployment>()
            .with::<ServiceEvent>()
            .with::<TaskSet>()
            .with::<DaemonTaskDefinition>()
            .with::<Daemon>()
            .with::<DaemonRevision>()
            .with::<DaemonDeployment>()
            .with::<AccountSetting>(),
    )
}

/// The key prefix of an account's rows in a region.
pub(crate) fn namespace(account: &str, region: &str) -> Key {
    Key::of([account, region])
}

/// A cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// The owning account.
    pub account: String,
    /// The region.
    pub region: String,
    /// The name, unique in account and region.
    pub name: String,
    /// `ACTIVE` or `INACTIVE`.
    pub status: String,
    /// Settings such as `containerInsights`.
    #[serde(default)]
    pub settings: Vec<ecs::ClusterSetting>,
    /// Exec and storage configuration, as given.
    #[serde(default)]
    pub configuration: Option<ecs::ClusterConfiguration>,
    /// Service Connect defaults, as given.
    #[serde(default)]
    pub service_connect_defaults: Option<ecs::ClusterServiceConnectDefaults>,
    /// Names of associated capacity providers.
    #[serde(default)]
    pub capacity_providers: Vec<String>,
    /// The strategy where a call gives none.
    #[serde(default)]
    pub default_capacity_provider_strategy:
        Vec<ecs::CapacityProviderStrategyItem>,
    /// Tags.
    #[serde(default)]
    pub tags: Vec<ecs::Tag>,
    /// When it was created, or last created anew.
    pub created_at: Timestamp,
}

impl Cluster {
    /// The key of a cluster.
    pub fn key_of(account: &str, region: &str, name: &str) -> Key {
        Key::of([account, region, name])
    }

    /// Whether it can be used.
    pub fn is_active(&self) -> bool {
        self.status == "ACTIVE"
    }

    /// The ARN.
    pub fn arn(&self) -> String {
        let rest = format!("cluster/{}", self.name);
        ecs_arn(&self.region, &self.account, &rest)
    }
}

impl Row for Cluster {
    const TABLE: &'static str = "ecs.cluster";

    fn key(&self) -> Key {
        Cluster::key_of(&self.account, &self.region, &self.name)
    }
}

/// The revision counter of a task definition family. It outlives every
/// revision: numbers are never used again (ECS API reference,
/// DeregisterTaskDefinition).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskFamily {
    /// The owning account.
    pub account: String,
    /// The region.
    pub region: String,
    /// The family.
    pub family: String,
    /// The newest revision ever given out.
    pub last_revision: u32,
}

impl Row for TaskFamily {
    const TABLE: &'static str = "ecs.task_family";

    fn key(&self) -> Key {
        Key::of([&self.account, &self.region, &self.family])
    }
}

/// One revision of a task definition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskDefinition {
    /// The owning account.
    pub account: String,
    /// The region.
    pub region: String,
    /// The family.
    pub family: String,
    /// The revision.
    pub revision: u32,
    /// As the API shows it: normalised, with ARN, status and timestamps.
    pub definition: ecs::TaskDefinition,
    /// Tags.
    #[serde(default)]
    pub tags: Vec<ecs::Tag>,
}

impl TaskDefinition {
    /// The key of a revision; revisions sort as numbers.
    pub fn key_of(
        account: &str,
        region: &str,
        family: &str,
        revision: u32,
    ) -> Key {
        Key::of([account, region, family]).with_u64(u64::from(revision))
    }
}

impl Row for TaskDefinition {
    const TABLE: &'static str = "ecs.task_definition";

    fn key(&self) -> Key {
        TaskDefinition::key_of(
            &self.account,
            &self.region,
            &self.family,
            self.revision,
        )
    }
}

/// A machine and what it has: the unit of capacity.
///
/// Its agent registers a container instance; Fargate tasks use the same
/// machine, and one ledger counts both (see [`Task::needs`]).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// The account whose agent registered it.
    pub account: String,
    /// The region.
    pub region: String,
    /// The id of the container instance that its agent's session serves.
    pub id: String,
    /// The cluster of that container instance.
    pub cluster: String,
    /// CPU units in all (1024 for each core).
    pub cpu: i64,
    /// Memory in all, in MiB.
    pub memory_mib: i64,
    /// Host ports that tasks cannot have, tcp.
    pub reserved_ports: BTreeSet<u16>,
    /// Host ports that tasks cannot have, udp.
    pub reserved_ports_udp: BTreeSet<u16>,
    /// Attributes that the agent registered: capabilities and facts.
    pub attributes: BTreeMap<String, Option<String>>,
    /// Whether the agent's session is up.
    pub is_connected: bool,
    /// Whether it offers what is left as Fargate capacity.
    pub offers_fargate: bool,
}

impl Host {
    /// The key of a host.
    pub fn key_of(account: &str, region: &str, id: &str) -> Key {
        Key::of([account, region, id])
    }
}

impl Host {
    /// What it has in all, as placement asks.
    pub(crate) fn capacity(&self) -> Capacity {
        Capacity {
            cpu: self.cpu,
            memory_mib: self.memory_mib,
            reserved_ports: self.reserved_ports.clone(),
            reserved_ports_udp: self.reserved_ports_udp.clone(),
            gpus: 0,
            enis: None,
        }
    }

    /// The host's books with all its tasks entered: what placement asks and
    /// what `remainingResources` shows.
    pub(crate) fn ledger<'a>(
        &self,
        tasks: impl IntoIterator<Item = &'a Task>,
    ) -> Ledger {
        let mut ledger = Ledger::new(self.capacity());
        for task in tasks {
            ledger.add(&Claim::from(&task.needs));
        }
        ledger
    }
}

impl Row for Host {
    const TABLE: &'static str = "ecs.host";

    fn key(&self) -> Key {
        Host::key_of(&self.account, &self.region, &self.id)
    }
}

/// A host's registration in a cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerInstance {
    /// The owning account.
    pub account: String,
    /// The region.
    pub region: String,
    /// The cluster's name.
    pub cluster: String,
    /// 32 lower-case hexadecimal digits.
    pub id: String,
    /// The [`Host`] behind it.
    pub host: String,
    /// `ACTIVE`, `DRAINING`, `INACTIVE`, ...
    pub status: String,
    /// The id of the virtual machine, where there is one; else the host's.
    pub ec2_instance_id: String,
    /// Attributes that the agent sent at registration.
    pub attributes: Vec<ecs::Attribute>,
    /// Attributes that users put.
    #[serde(default)]
    pub custom_attributes: Vec<ecs::Attribute>,
    /// As registered.
    pub registered_resources: Vec<ecs::Resource>,
    /// The agent's version, as its session said.
    #[serde(default)]
    pub version_info: Option<ecs::VersionInfo>,
    /// The capacity provider it came through.
    #[serde(default)]
    pub capacity_provider: Option<String>,
    /// Tags.
    #[serde(default)]
    pub tags: Vec<ecs::Tag>,
    /// When it registered first.
    pub registered_at: Timestamp,
    /// Counts changes, as ECS's `version` member.
    pub version: i64,
}

impl ContainerInstance {
    /// The key of a container instance.
    pub fn key_of(account: &str, region: &str, cluster: &str, id: &str) -> Key {
        Key::of([account, region, cluster, id])
    }

    /// The ARN.
    pub fn arn(&self) -> String {
        let rest = format!("container-instance/{}/{}", self.cluster, self.id);
        ecs_arn(&self.region, &self.account, &rest)
    }
}

impl ContainerInstance {
    /// Its availability zone, if it names one.
    pub(crate) fn zone(&self) -> Option<&str> {
        let named =
            |it: &&ecs::Attribute| it.name.as_deref() == Some(ZONE_ATTRIBUTE);
        self.attributes.iter().find(named)?.value.as_deref()
    }

    /// The version of its agent, as its session said.
    pub(crate) fn agent_version(&self) -> Option<String> {
        self.version_info.as_ref()?.agent_version.clone()
    }
}

impl Row for ContainerInstance {
    const TABLE: &'static str = "ecs.container_instance";

    fn key(&self) -> Key {
        ContainerInstance::key_of(
            &self.account,
            &self.region,
            &self.cluster,
            &self.id,
        )
    }

    fn indexes(&self) -> Vec<(&'static str, Key)> {
        let ContainerInstance { account, region, cluster, host, .. } = self;
        let mut indexes = vec![("host", Key::of([account, region, host]))];
        if self.status == "ACTIVE" {
            let zone = self.zone().unwrap_or_default();
            let key = Key::of([account, region, cluster, zone]);
            indexes.push(("zone", key));
        }
        // Those whose tasks are to go elsewhere.
        if self.status != "ACTIVE" && self.status != "INACTIVE" {
            indexes.push(("leaving", Key::of([account, region, cluster])));
        }
        indexes
    }
}

/// What a task takes from its host's ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needs {
    /// CPU units.
    pub cpu: i64,
    /// Memory in MiB.
    pub memory_mib: i64,
    /// Fixed host ports, tcp.
    #[serde(default)]
    pub ports: BTreeSet<u16>,
    /// Fixed host ports, udp.
    #[serde(default)]
    pub ports_udp: BTreeSet<u16>,
    /// GPUs.
    #[serde(default)]
    pub gpus: u32,
    /// Network interfaces.
    #[serde(default)]
    pub enis: u32,
}

impl From<&Needs> for Claim {
    fn from(needs: &Needs) -> Claim {
        Claim {
            cpu: needs.cpu,
            memory_mib: needs.memory_mib,
            ports: needs.ports.clone(),
            ports_udp: needs.ports_udp.clone(),
            gpus: needs.gpus,
            enis: needs.enis,
        }
    }
}

/// A task: as the API shows it, and what the control plane knows beside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// The owning account.
    pub account: String,
    /// The region.
    pub region: String,
    /// The cluster's name.
    pub cluster: String,
    /// 32 lower-case hexadecimal digits.
    pub id: String,
    /// The host it was placed on.
    pub host: String,
    /// As `DescribeTasks` shows it, tags included.
    pub task: ecs::Task,
    /// The definition's family and revision.
    pub family: String,
    /// The definition's revision.
    pub revision: u32,
    /// What it holds of its host until it is stopped.
    pub needs: Needs,
    /// The subnets it may have an address of, for awsvpc.
    #[serde(default)]
    pub subnets: Vec<String>,
    /// Its security groups, for awsvpc.
    #[serde(default)]
    pub security_groups: Vec<String>,
    /// Its network interface, once it has one.
    #[serde(default)]
    pub network_interface: Option<String>,
    /// Whether that gets an IPv6 address where its subnet gives one, as the
    /// account setting `dualStackIPv6` was when it was launched.
    #[serde(default)]
    pub dual_stack: bool,
    /// The volume that was configured when it was launched, until that is
    /// given back.
    #[serde(default)]
    pub volume: Option<OfVolume>,
    /// The service it belongs to, if any.
    #[serde(default)]
    pub service: Option<OfService>,
}

impl Task {
    /// The key of a task.
    pub fn key_of(account: &str, region: &str, cluster: &str, id: &str) -> Key {
        Key::of([account, region, cluster, id])
    }

    /// The index prefix of the tasks that still hold part of a host.
    pub fn on_host(account: &str, region: &str, host: &str) -> Key {
        Key::of([account, region, host])
    }

    /// The `lastStatus`.
    pub fn last_status(&self) -> &str {
        self.task.last_status.as_deref().unwrap_or_default()
    }

    /// Whether it is over for API readers.
    pub fn is_stopped(&self) -> bool {
        self.last_status() == "STOPPED"
    }

    /// The key of the service it belongs to, if any.
    pub fn service_key(&self) -> Option<Key> {
        let Task { account, region, cluster, .. } = self;
        let service = self.service.as_ref()?;
        Some(Service::key_of(account, region, cluster, &service.name))
    }

    /// Whether it belongs to a service that has not counted its end.
    pub fn concerns_service(&self) -> bool {
        let service = self.service.as_ref();
        service.is_some_and(|it| !(self.is_stopped() && it.is_counted))
    }

    /// Whether it should run.
    pub fn should_run(&self) -> bool {
        self.task.desired_status.as_deref() == Some("RUNNING")
    }

    /// The ARN.
    pub fn arn(&self) -> String {
        let rest = format!("task/{}/{}", self.cluster, self.id);
        ecs_arn(&self.region, &self.account, &rest)
    }
}

impl Row for Task {
    const TABLE: &'static str = "ecs.task";

    fn key(&self) -> Key {
        Task::key_of(&self.account, &self.region, &self.cluster, &self.id)
    }

    fn indexes(&self) -> Vec<(&'static str, Key)> {
        let mut indexes = vec![("status", Key::of([self.last_status()]))];
        if !self.is_stopped() {
            let host = Task::on_host(&self.account, &self.region, &self.host);
            indexes.push(("host", host));
        }
        // A service looks at its tasks until it has counted their end.
        if let Some(key) =
            self.service_key().filter(|_| self.concerns_service())
        {
            indexes.push(("service", key));
        }
        indexes
    }
}

/// A task's volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OfVolume {
    /// `vol-` and 17 hexadecimal digits.
    pub id: String,
    /// The id of the ECS attachment (a UUID with dashes).
    pub attachment_id: String,
    /// What was asked for.
    pub volume: LaunchVolume,
}

/// A `RunTask` client token and the tasks it made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunTaskToken {
    /// The owning account.
    pub account: String,
    /// The region.
    pub region: String,
    /// The cluster's name.
    pub cluster: String,
    /// The token.
    pub token: String,
    /// The request that came with it, to tell a retry from a misuse.
    pub request: String,
    /// Ids of the tasks it started.
    pub tasks: Vec<String>,
    /// When it was used.
    pub used_at: Timestamp,
}

impl RunTaskToken {
    /// The key of a token.
    pub fn key_of(
        account: &str,
        region: &str,
        cluster: &str,
        token: &str,
    ) -> Key {
        Key::of([account, region, cluster, token])
    }
}

impl Row for RunTaskToken {
    const TABLE: &'static str = "ecs.run_task_token";

    fn key(&self) -> Key {
        RunTaskToken::key_of(
            &self.account,
            &self.region,
            &self.cluster,
            &self.token,
        )
    }
}

/// An account setting; `principal` is empty for the account's default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountSetting {
    /// The owning account.
    pub account: String,
    /// The region.
    pub region: String,
    /// The principal's ARN, or empty for the default of the account.
    pub principal: String,
    /// The setting's name.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl Row for AccountSetting {
    const TABLE: &'static str = "ecs.account_setting";

    fn key(&self) -> Key {
        Key::of([&self.account, &self.region, &self.principal, &self.name])
    }
}
