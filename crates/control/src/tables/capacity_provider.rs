//! Capacity providers that users made. FARGATE and FARGATE_SPOT always exist
//! and have no rows.

use minato_core::capacity::group;
use minato_store::{Key, Row};
use minato_wire::{Timestamp, ecs};
use serde::{Deserialize, Serialize};

use crate::services::ecs_arn;

/// A capacity provider of an Auto Scaling group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CapacityProvider {
    /// The owning account.
    pub account: String,
    /// The region.
    pub region: String,
    /// The name, unique in account and region.
    pub name: String,
    /// The group and how it is managed, every default filled in.
    pub group: ecs::AutoScalingGroupProvider,
    /// What came of the last change; `None` before the first.
    #[serde(default)]
    pub update_status: Option<ecs::CapacityProviderUpdateStatus>,
    /// Tags.
    #[serde(default)]
    pub tags: Vec<ecs::Tag>,
    /// When it was deleted, if it was: from then it is `INACTIVE`.
    #[serde(default)]
    pub deleted_at: Option<Timestamp>,
}

impl CapacityProvider {
    /// The key of a provider.
    pub fn key_of(account: &str, region: &str, name: &str) -> Key {
        Key::of([account, region, name])
    }

    /// Whether it can be used.
    pub fn is_active(&self) -> bool {
        self.deleted_at.is_none()
    }

    /// The ARN of a provider of this name.
    pub fn arn_of(account: &str, region: &str, name: &str) -> String {
        ecs_arn(region, account, &format!("capacity-provider/{name}"))
    }

    /// The name of its Auto Scaling group.
    pub fn group_name(&self) -> Option<&str> {
        let given = self.group.auto_scaling_group_arn.as_deref()?;
        group::group_name(given, &self.account, &self.region).ok()
    }
}

impl Row for CapacityProvider {
    const TABLE: &'static str = "ecs.capacity_provider";

    fn key(&self) -> Key {
        CapacityProvider::key_of(&self.account, &self.region, &self.name)
    }
}
