//! The rows of task sets: what services of the EXTERNAL controller have
//! instead of deployments.

use minato_core::service::rules;
use minato_store::{Key, Row};
use minato_wire::{Timestamp, ecs};
use serde::{Deserialize, Serialize};

use std::collections::BTreeMap;

use super::{Deployment, Service, ServiceRef};

/// A task set.
///
/// What it runs is a [`super::ServiceRevision`] of the same id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskSet {
    /// The service.
    pub of: ServiceRef,
    /// How its tasks come along, as with a deployment of a rolling service.
    /// Its revision is the set's id: 19 digits.
    pub deployment: Deployment,
    /// Members that were asked for and are shown as they are.
    pub shown: ecs::TaskSet,
    /// Percent of the service's desired count.
    pub scale: f64,
    /// Whether it serves the service's traffic.
    #[serde(default)]
    pub is_primary: bool,
    /// It was deleted: its tasks are stopped, then it is gone.
    #[serde(default)]
    pub is_draining: bool,
    /// The token of the request that made it, and that request.
    #[serde(default)]
    pub token: Option<(String, String)>,
    /// When it last became steady, while it still is.
    #[serde(default)]
    pub steady_at: Option<Timestamp>,
    /// As [`Service::complaints`].
    #[serde(default)]
    pub complaints: BTreeMap<String, Timestamp>,
}

impl TaskSet {
    /// `ecs-svc/` and the set's digits.
    pub fn id(&self) -> &str {
        &self.deployment.id
    }

    /// The ARN of the set of `service` with these digits.
    pub fn arn_of(service: &Service, digits: &str) -> String {
        service.arn_of("task-set", &format!("ecs-svc/{digits}"))
    }

    /// How many tasks it should have: its part of the service's, rounded up
    /// (API reference, `TaskSet.computedDesiredCount`).
    pub fn computed(&self, service: &Service) -> u32 {
        if self.is_draining {
            return 0;
        }
        rules::scaled(service.desired, self.scale)
    }

    /// `PRIMARY`, `ACTIVE` or `DRAINING`.
    pub fn status(&self) -> &'static str {
        match (self.is_draining, self.is_primary) {
            (true, _) => "DRAINING",
            (false, true) => "PRIMARY",
            (false, false) => "ACTIVE",
        }
    }

    /// The set as the service scheduler sees it: a service of its own, with
    /// one deployment.
    pub(crate) fn as_service(&self, service: &Service) -> Service {
        Service {
            desired: self.computed(service),
            deployments: vec![self.deployment.clone()],
            completed_revision: None,
            service_deployment: None,
            steady_at: self.steady_at,
            complaints: self.complaints.clone(),
            ..service.clone()
        }
    }
}

impl Row for TaskSet {
    const TABLE: &'static str = "ecs.task_set";

    fn key(&self) -> Key {
        self.of.key().with(&self.deployment.revision)
    }
}
