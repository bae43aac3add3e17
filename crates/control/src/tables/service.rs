//! The rows of services, their revisions, deployments and events.

use std::collections::BTreeMap;

use minato_core::status::{
    RolloutState, ServiceDeploymentStatus, ServiceStatus,
};
use minato_store::{Key, Row};
use minato_wire::{Timestamp, ecs};
use serde::{Deserialize, Serialize};

use crate::services::ecs_arn;

/// The most events a service keeps (service quotas).
pub(crate) const EVENTS_MAX: u64 = 100;

/// A service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// The owning account.
    pub account: String,
    /// The region.
    pub region: String,
    /// The cluster's name.
    pub cluster: String,
    /// The name, unique among the services of the cluster that are not
    /// `INACTIVE`.
    pub name: String,
    /// Tells it from an earlier service of the same name: 32 lower-case
    /// hexadecimal digits.
    pub id: String,
    /// Its status.
    pub status: ServiceStatus,
    /// What was asked for, as `DescribeServices` shows it. Members that are
    /// counted or that other rows hold (deployments, events, counts) are
    /// absent.
    pub service: ecs::Service,
    /// How many tasks there should be.
    pub desired: u32,
    /// Deployments, newest first. The first is `PRIMARY`.
    pub deployments: Vec<Deployment>,
    /// The revision that reached a steady state last: where a rollback leads.
    #[serde(default)]
    pub completed_revision: Option<String>,
    /// The id of the newest service deployment.
    #[serde(default)]
    pub service_deployment: Option<String>,
    /// The request it was created with, to tell a retry from a misuse.
    pub request: String,
    /// How many events it has had.
    #[serde(default)]
    pub events: u64,
    /// When it last told that it is in a steady state, while it still is.
    #[serde(default)]
    pub steady_at: Option<Timestamp>,
    /// When it became `INACTIVE`.
    #[serde(default)]
    pub inactive_at: Option<Timestamp>,
    /// What keeps it from a steady state and has been told, by kind, and when:
    /// each is repeated after a while only.
    #[serde(default)]
    pub complaints: BTreeMap<String, Timestamp>,
    /// The task group of its tasks, where that is not `service:NAME`: what is
    /// kept like a service is not always one.
    #[serde(default)]
    pub group: Option<String>,
    /// The percent of the instances on which a managed daemon is replaced at
    /// a time; `None` for a service, whose minimum healthy percent says it.
    #[serde(default)]
    pub drain_percent: Option<f64>,
}

impl Service {
    /// The key of a service.
    pub fn key_of(
        account: &str,
        region: &str,
        cluster: &str,
        name: &str,
    ) -> Key {
        Key::of([account, region, cluster, name])
    }

    /// The ARN.
    pub fn arn(&self) -> String {
        self.arn_of("service", "")
    }

    /// The ARN of something that belongs to the service.
    pub(super) fn arn_of(&self, kind: &str, id: &str) -> String {
        let Service { account, region, cluster, name, .. } = self;
        let slash = if id.is_empty() { "" } else { "/" };
        let rest = format!("{kind}/{cluster}/{name}{slash}{id}");
        ecs_arn(region, account, &rest)
    }

    /// The ARN of one of its revisions.
    pub fn revision_arn(&self, id: &str) -> String {
        self.arn_of("service-revision", id)
    }

    /// The ARN of one of its service deployments.
    pub fn deployment_arn(&self, id: &str) -> String {
        self.arn_of("service-deployment", id)
    }

    /// The ARN of its cluster.
    pub fn cluster_arn(&self) -> String {
        let Service { account, region, cluster, .. } = self;
        ecs_arn(region, account, &format!("cluster/{cluster}"))
    }

    /// The task group of its tasks.
    pub fn group(&self) -> String {
        self.group.clone().unwrap_or_else(|| format!("service:{}", self.name))
    }

    /// What its revisions, service deployments and events name it by.
    pub fn owner(&self) -> ServiceRef {
        ServiceRef {
            account: self.account.clone(),
            region: self.region.clone(),
            cluster: self.cluster.clone(),
            name: self.name.clone(),
            id: self.id.clone(),
        }
    }

    /// Whether one task is kept on every container instance.
    pub fn is_daemon(&self) -> bool {
        self.service.scheduling_strategy
            == Some(ecs::SchedulingStrategy::Daemon)
    }

    /// Whether Amazon ECS itself deploys it.
    pub fn is_rolling(&self) -> bool {
        let controller = self.service.deployment_controller.as_ref();
        controller
            .and_then(|controller| controller.r#type)
            .is_none_or(|kind| kind == ecs::DeploymentControllerType::Ecs)
    }

    /// Whether its tasks are, or may be, made from this definition.
    pub fn uses(&self, task_definition_arn: Option<&str>) -> bool {
        self.status != ServiceStatus::Inactive
            && self.service.task_definition.as_deref() == task_definition_arn
    }

    /// The deployment that is `PRIMARY`.
    pub fn primary(&self) -> Option<&Deployment> {
        self.deployments.first()
    }
}

impl Row for Service {
    const TABLE: &'static str = "ecs.service";

    fn key(&self) -> Key {
        Service::key_of(&self.account, &self.region, &self.cluster, &self.name)
    }
}

/// The service that a row belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRef {
    /// The owning account.
    pub account: String,
    /// The region.
    pub region: String,
    /// The cluster's name.
    pub cluster: String,
    /// The service's name.
    pub name: String,
    /// The service's id.
    pub id: String,
}

impl ServiceRef {
    /// The key prefix of all that belongs to the service.
    pub fn key(&self) -> Key {
        Service::key_of(&self.account, &self.region, &self.cluster, &self.name)
            .with(&self.id)
    }
}

/// One roll-out of a revision, as `DescribeServices` lists them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deployment {
    /// `ecs-svc/` and 19 digits.
    pub id: String,
    /// The id of the revision it rolls out.
    pub revision: String,
    /// The service deployment it belongs to.
    pub service_deployment: String,
    /// How many tasks the scheduler wants of it.
    #[serde(default)]
    pub desired_count: u32,
    /// Tasks that failed since one was last healthy.
    #[serde(default)]
    pub failed_tasks: u32,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// How far it is.
    pub rollout: RolloutState,
    /// Why it is there.
    pub reason: String,
    /// Rounds of tasks that did not start, since one did.
    #[serde(default)]
    pub failed_rounds: u32,
    /// Before this, no task is started: starts are throttled.
    #[serde(default)]
    pub retry_at: Option<Timestamp>,
}

/// What a service ran with at one time. Never changes, but for the digests of
/// its images, which its first task tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceRevision {
    /// The service.
    pub of: ServiceRef,
    /// 19 digits.
    pub id: String,
    /// As `DescribeServiceRevisions` shows it.
    pub revision: ecs::ServiceRevision,
    /// The definition's family.
    pub family: String,
    /// The definition's revision.
    pub task_revision: u32,
}

impl Row for ServiceRevision {
    const TABLE: &'static str = "ecs.service_revision";

    fn key(&self) -> Key {
        self.of.key().with(&self.id)
    }
}

/// A deployment as the service deployment operations see it: it outlives its
/// roll-out and covers the rollback too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceDeployment {
    /// The service.
    pub of: ServiceRef,
    /// 21 letters, digits, `_` and `-`.
    pub id: String,
    /// As `DescribeServiceDeployments` shows it, but for status and counts.
    pub deployment: ecs::ServiceDeployment,
    /// Its status.
    pub status: ServiceDeploymentStatus,
    /// The id of the revision it brings.
    pub target: String,
    /// The ids of the revisions that ran when it was made.
    pub sources: Vec<String>,
    /// How many tasks of what it rolls out failed.
    #[serde(default)]
    pub failures: u32,
}

impl Row for ServiceDeployment {
    const TABLE: &'static str = "ecs.service_deployment";

    fn key(&self) -> Key {
        self.of.key().with(&self.id)
    }
}

/// What a service told of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceEvent {
    /// The service.
    pub of: ServiceRef,
    /// Counts up from 1.
    pub number: u64,
    /// As `DescribeServices` shows it.
    pub event: ecs::ServiceEvent,
}

impl Row for ServiceEvent {
    const TABLE: &'static str = "ecs.service_event";

    fn key(&self) -> Key {
        self.of.key().with_u64(self.number)
    }
}

/// What a task has to do with its service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfService {
    /// The service's name.
    pub name: String,
    /// The service's id.
    pub id: String,
    /// The deployment that started it.
    pub deployment: String,
    /// Whether its end has been counted.
    #[serde(default)]
    pub is_counted: bool,
    /// Until when scale-in and deployments leave it alone.
    #[serde(default)]
    pub protected_until: Option<Timestamp>,
}
