//! The rows of managed daemons, their task definitions, revisions and
//! deployments.

use std::collections::BTreeMap;

use minato_core::status::ServiceStatus;
use minato_store::{Key, Row};
use minato_wire::{Timestamp, ecs};
use serde::{Deserialize, Serialize};

use super::{Deployment, Service, ServiceRef};
use crate::services::ecs_arn;

/// What the names of daemons and of their families begin with where they
/// stand among those of services and task definitions: no user's name has a
/// colon.
pub(crate) const DAEMON_PREFIX: &str = "daemon:";

/// A daemon task definition as the API shows it. What is run is a
/// [`super::TaskDefinition`] of the family `daemon:FAMILY`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DaemonTaskDefinition {
    /// The owning account.
    pub account: String,
    /// The region.
    pub region: String,
    /// The family.
    pub family: String,
    /// The revision.
    pub revision: u32,
    /// As the API shows it.
    pub shown: ecs::DaemonTaskDefinition,
    /// Tags.
    #[serde(default)]
    pub tags: Vec<ecs::Tag>,
    /// When it became `DELETED`: nothing used it any more.
    #[serde(default)]
    pub deleted_at: Option<Timestamp>,
}

impl DaemonTaskDefinition {
    /// The key of a revision; revisions sort as numbers.
    pub fn key_of(
        account: &str,
        region: &str,
        family: &str,
        revision: u32,
    ) -> Key {
        Key::of([account, region, family]).with_u64(u64::from(revision))
    }

    /// The family of what is run.
    pub fn run_family(family: &str) -> String {
        format!("{DAEMON_PREFIX}{family}")
    }

    /// The ARN of a revision.
    pub fn arn_of(
        account: &str,
        region: &str,
        family: &str,
        revision: u32,
    ) -> String {
        let rest = format!("daemon-task-definition/{family}:{revision}");
        ecs_arn(region, account, &rest)
    }
}

impl Row for DaemonTaskDefinition {
    const TABLE: &'static str = "ecs.daemon_task_definition";

    fn key(&self) -> Key {
        DaemonTaskDefinition::key_of(
            &self.account,
            &self.region,
            &self.family,
            self.revision,
        )
    }
}

/// A managed daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Daemon {
    /// Names it and tells it from earlier ones; its name there is
    /// `daemon:NAME`.
    pub of: ServiceRef,
    /// Roll-outs of its revisions, newest first.
    pub deployments: Vec<Deployment>,
    /// How many tasks it should have: one on each instance, as of the last
    /// pass.
    #[serde(default)]
    pub desired: u32,
    /// The names of its capacity providers.
    pub providers: Vec<String>,
    /// The id of its newest [`DaemonDeployment`].
    pub deployment: String,
    /// The revision that was rolled out whole last.
    #[serde(default)]
    pub completed_revision: Option<String>,
    /// How it rolls out, defaults filled in.
    pub configuration: ecs::DaemonDeploymentConfiguration,
    /// Whether tasks have its tags.
    pub propagate_tags: ecs::DaemonPropagateTags,
    /// Whether tasks have ECS's own tags.
    pub enable_ecs_managed_tags: bool,
    /// Whether ECS Exec is asked for.
    pub enable_execute_command: bool,
    /// Tags.
    #[serde(default)]
    pub tags: Vec<ecs::Tag>,
    /// It was deleted: its tasks are stopped, then it is gone.
    #[serde(default)]
    pub is_deleted: bool,
    /// Since when its newest revision has been everywhere.
    #[serde(default)]
    pub settled_at: Option<Timestamp>,
    /// As [`Service::steady_at`].
    #[serde(default)]
    pub steady_at: Option<Timestamp>,
    /// As [`Service::complaints`].
    #[serde(default)]
    pub complaints: BTreeMap<String, Timestamp>,
    /// The token of the request that made it, and that request.
    #[serde(default)]
    pub token: Option<(String, String)>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl Daemon {
    /// The key of a daemon.
    pub fn key_of(
        account: &str,
        region: &str,
        cluster: &str,
        name: &str,
    ) -> Key {
        let name = format!("{DAEMON_PREFIX}{name}");
        Key::of([account, region, cluster, &name])
    }

    /// The name that users know it by.
    pub fn name(&self) -> &str {
        let name = &self.of.name;
        name.strip_prefix(DAEMON_PREFIX).unwrap_or(name)
    }

    /// The ARN of it or, with an `id`, of something of it.
    fn arn_of(&self, kind: &str, id: &str) -> String {
        let ServiceRef { account, region, cluster, .. } = &self.of;
        let slash = if id.is_empty() { "" } else { "/" };
        let rest = format!("{kind}/{cluster}/{}{slash}{id}", self.name());
        ecs_arn(region, account, &rest)
    }

    /// The ARN.
    pub fn arn(&self) -> String {
        self.arn_of("daemon", "")
    }

    /// The ARN of one of its revisions.
    pub fn revision_arn(&self, id: &str) -> String {
        self.arn_of("daemon-revision", id)
    }

    /// The ARN of one of its deployments.
    pub fn deployment_arn(&self, id: &str) -> String {
        self.arn_of("daemon-deployment", id)
    }

    /// The ARN of its cluster.
    pub fn cluster_arn(&self) -> String {
        let ServiceRef { account, region, cluster, .. } = &self.of;
        ecs_arn(region, account, &format!("cluster/{cluster}"))
    }

    /// The daemon as the service scheduler sees it: a service that keeps one
    /// task on each instance of its capacity providers.
    pub(crate) fn as_service(&self) -> Service {
        let ServiceRef { account, region, cluster, name, id } = self.of.clone();
        let items = self.providers.iter().map(|provider| {
            ecs::CapacityProviderStrategyItem {
                capacity_provider: Some(provider.clone()),
                ..Default::default()
            }
        });
        let propagates =
            self.propagate_tags == ecs::DaemonPropagateTags::Daemon;
        Service {
            account,
            region,
            cluster,
            id,
            status: if self.is_deleted {
                ServiceStatus::Draining
            } else {
                ServiceStatus::Active
            },
            service: ecs::Service {
                scheduling_strategy: Some(ecs::SchedulingStrategy::Daemon),
                capacity_provider_strategy: Some(items.collect()),
                propagate_tags: propagates
                    .then_some(ecs::PropagateTags::Service),
                tags: Some(self.tags.clone()),
                enable_ecs_managed_tags: Some(self.enable_ecs_managed_tags),
                enable_execute_command: Some(self.enable_execute_command),
                ..Default::default()
            },
            desired: self.desired,
            deployments: self.deployments.clone(),
            completed_revision: None,
            service_deployment: None,
            request: String::new(),
            events: 0,
            steady_at: self.steady_at,
            inactive_at: None,
            complaints: self.complaints.clone(),
            group: Some(name.clone()),
            drain_percent: self.configuration.drain_percent,
            name,
        }
    }
}

impl Row for Daemon {
    const TABLE: &'static str = "ecs.daemon";

    fn key(&self) -> Key {
        let ServiceRef { account, region, cluster, name, .. } = &self.of;
        Key::of([account, region, cluster, name])
    }
}

/// What a daemon ran with at one time. Never changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DaemonRevision {
    /// The daemon.
    pub of: ServiceRef,
    /// 19 digits; a [`super::ServiceRevision`] of this id is what is run.
    pub id: String,
    /// As `DescribeDaemonRevisions` shows it.
    pub shown: ecs::DaemonRevision,
    /// The names of the capacity providers.
    #[serde(default)]
    pub providers: Vec<String>,
}

impl Row for DaemonRevision {
    const TABLE: &'static str = "ecs.daemon_revision";

    fn key(&self) -> Key {
        self.of.key().with(&self.id)
    }
}

/// One roll-out as `DescribeDaemonDeployments` shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DaemonDeployment {
    /// The daemon.
    pub of: ServiceRef,
    /// 21 letters, digits, `_` and `-`.
    pub id: String,
    /// As it is shown, but for what is counted.
    pub shown: ecs::DaemonDeployment,
    /// The id of the revision it brings.
    pub target: String,
    /// The ids of the revisions that ran when it was made.
    pub sources: Vec<String>,
    /// How many of its tasks failed.
    #[serde(default)]
    pub failures: u32,
}

impl DaemonDeployment {
    /// Its status.
    pub fn status(&self) -> ecs::DaemonDeploymentStatus {
        let status = self.shown.status;
        status.unwrap_or(ecs::DaemonDeploymentStatus::Pending)
    }
}

impl Row for DaemonDeployment {
    const TABLE: &'static str = "ecs.daemon_deployment";

    fn key(&self) -> Key {
        self.of.key().with(&self.id)
    }
}
