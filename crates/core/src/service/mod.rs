//! The service scheduler's decisions: what to start, what to stop, and when a
//! deployment has succeeded or failed.
//!
//! [`plan`] looks at the tasks of one service that should run (its
//! [`Member`]s) and at what the service asks for ([`Target`]), and answers
//! with a [`Plan`]. It has no clock: the time comes with the target, so that
//! equal inputs give equal plans.
//!
//! # How a rolling deployment moves
//!
//! Members of the current deployment that are not being lost are *kept*; all
//! others (of former deployments, on draining instances, found unhealthy) are
//! *leaving*. Each pass starts as many as `maximumPercent` leaves room for and
//! stops as many leaving ones as `minimumHealthyPercent` allows. Only healthy
//! members count towards the minimum; every member counts towards the maximum
//! (developer guide, "Deploy Amazon ECS services by replacing tasks").

mod breaker;
mod daemon;
mod limits;
mod replica;
pub mod rules;
mod victims;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use minato_wire::Timestamp;

pub use breaker::{Pace, breaker_threshold, retry_delay_ms};
pub use daemon::{DaemonPlan, Post, plan_daemon};
pub use limits::Limits;
pub use replica::plan;
pub use victims::VictimOrder;

/// What a service asks for.
#[derive(Clone, Debug)]
pub struct Target {
    /// How many tasks there should be.
    pub desired: u32,
    /// How far a deployment may stray from that.
    pub limits: Limits,
    /// How long a task without a health check has to run before it counts as
    /// healthy, in milliseconds.
    pub settle_ms: i64,
    /// How long after its start a task's failed health checks are overlooked,
    /// in milliseconds (`healthCheckGracePeriodSeconds`).
    pub grace_ms: i64,
    /// Whether tasks may be started now: not while starts are throttled, nor
    /// when the deployment has failed.
    pub can_start: bool,
    /// Whether former tasks may be replaced: not when the deployment that
    /// would replace them has failed.
    pub can_replace: bool,
    /// The zones among which tasks are to be balanced; empty where they are
    /// not to be (`availabilityZoneRebalancing`).
    pub zones: BTreeSet<String>,
    /// Which tasks go first when there are too many.
    pub victims: VictimOrder,
    /// How many tasks each capacity provider should have, where a strategy
    /// decides.
    pub shares: BTreeMap<String, u32>,
    /// The time.
    pub now: Timestamp,
}

/// A task of the service that should run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: String,
    /// How many deployments came after its own: 0 for the current one.
    pub age: u32,
    /// How far it has come.
    pub phase: Phase,
    /// What its health checks say.
    pub health: Health,
    /// Until when scale-in and deployments must leave it alone (task scale-in
    /// protection).
    pub protected_until: Option<Timestamp>,
    /// Whether its container instance is draining or gone.
    pub is_displaced: bool,
    /// Its availability zone: one text for all that are in it.
    pub zone: Option<Arc<str>>,
    /// Where it is: its container instance, else its host.
    pub place: String,
    /// What its place has left of the resource that the service packs by.
    pub place_free: i64,
    /// Its capacity provider.
    pub provider: Option<String>,
    /// When it was created.
    pub created_at: Timestamp,
}

/// How far a member has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Before `RUNNING`.
    Starting,
    /// `RUNNING` since then.
    Running(Timestamp),
}

/// What a member's health checks say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// No essential container has a health check.
    Unchecked,
    /// Nothing yet.
    Unknown,
    /// All well.
    Healthy,
    /// A check failed.
    Unhealthy,
}

/// What a pass does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// How many tasks of the current deployment to start.
    pub start: u32,
    /// The zone they must be in, where they are started to balance zones.
    pub start_zone: Option<String>,
    /// Tasks to stop.
    pub stop: Vec<Stop>,
    /// Whether all is as it should be: the right number of healthy tasks of
    /// the current deployment and none of another.
    pub is_settled: bool,
    /// Whether neither a start nor a stop is possible, ever, with the limits
    /// that are set.
    pub is_stuck: bool,
    /// How many tasks stay only because they are protected.
    pub protected: u32,
    /// When time alone will make the next plan differ.
    pub wake_at: Option<Timestamp>,
}

/// A task to stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// Its id.
    pub id: String,
    /// Why.
    pub cause: StopCause,
}

/// Why a service stops one of its tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StopCause {
    /// There are more than desired.
    ScaleIn,
    /// A task of a newer deployment takes its place.
    Replaced,
    /// Its health checks failed.
    Unhealthy,
    /// Its container instance is draining.
    Displaced,
    /// Its zone has more than its share.
    Rebalanced,
}

impl Member {
    /// Whether it counts towards `minimumHealthyPercent`.
    ///
    /// A task with a health check counts once that says so; one without counts
    /// after it has run for a while (API reference,
    /// `DeploymentConfiguration.minimumHealthyPercent`).
    pub fn is_healthy(&self, target: &Target) -> bool {
        let Phase::Running(since) = self.phase else { return false };
        match self.health {
            // Without a wait the time does not matter: it may have been set
            // back since.
            Health::Unchecked => {
                target.settle_ms == 0
                    || target.now.millis_since(since) >= target.settle_ms
            }
            Health::Healthy => true,
            Health::Unknown => false,
            Health::Unhealthy => self.is_in_grace(target),
        }
    }

    /// Whether scale-in and deployments must leave it alone.
    pub fn is_protected(&self, target: &Target) -> bool {
        self.protected_until.is_some_and(|until| until > target.now)
    }

    /// Whether it has to be replaced because of its health.
    pub fn is_unhealthy(&self, target: &Target) -> bool {
        self.health == Health::Unhealthy && !self.is_in_grace(target)
    }

    fn is_in_grace(&self, target: &Target) -> bool {
        match self.phase {
            Phase::Starting => true,
            // Without a grace period the time does not matter: it may have
            // been set back since.
            Phase::Running(since) => {
                target.grace_ms > 0
                    && target.now.millis_since(since) < target.grace_ms
            }
        }
    }

    fn is_starting(&self) -> bool {
        self.phase == Phase::Starting
    }

    /// When time alone changes what the member counts as.
    fn wake_at(&self, target: &Target) -> Option<Timestamp> {
        let Phase::Running(since) = self.phase else { return None };
        let wait_ms = match self.health {
            Health::Unchecked => target.settle_ms,
            Health::Unhealthy => target.grace_ms,
            Health::Unknown | Health::Healthy => return None,
        };
        let at = since.plus_millis(wait_ms);
        (at > target.now).then_some(at)
    }
}

#[cfg(test)]
mod tests;
