//! What the scheduler sees of a service, and what it would do about it.
//!
//! Reading is the same from a snapshot, to find out whether anything is due,
//! and within the transaction that then does it.

use std::collections::BTreeSet;
use std::sync::Arc;

use minato_core::service::{
    DaemonPlan, Health, Member, Pace, Phase, Plan, plan, plan_daemon,
};
use minato_core::status::{
    RolloutState, ServiceDeploymentStatus, ServiceStatus,
};
use minato_store::{Key, Row, Tx};
use minato_wire::Timestamp;

use super::eyes::Eyes;
use super::rosters::Roster;
use crate::services::ecs::services::{roll, tasks_of};
use crate::services::ecs::view::ReadIndex;
use crate::tables::{Daemon, Service, ServiceDeployment, ServiceEvent, Task};

/// The complaint that the percentages allow neither start nor stop.
pub(super) const STUCK: &str = "stuck";
/// The complaint that protected tasks are in the way.
pub(super) const PROTECTED: &str = "protected";

/// What is to be done about a service's tasks.
#[derive(Clone, Debug)]
pub(super) enum Scheme {
    /// It keeps a number of tasks.
    Replica(Plan),
    /// It keeps one on each instance.
    Daemon(DaemonPlan),
    /// It is deleted: these are to be stopped.
    Drain(Vec<String>),
}

/// A service and what is due.
#[derive(Clone, Debug)]
pub(super) struct Look {
    /// Its tasks that should run.
    pub(super) members: Arc<Vec<Arc<Member>>>,
    /// Tasks whose end is not counted yet.
    pub(super) ended: Vec<Arc<Task>>,
    /// When the first of its protected tasks is protected no more.
    unprotected_at: Option<Timestamp>,
    /// Whether tasks of others matter to it.
    minds_others: bool,
    pub(super) scheme: Scheme,
}

impl Look {
    /// How many tasks a pass would start.
    pub(super) fn starts(&self) -> usize {
        let count = match &self.scheme {
            Scheme::Replica(plan) => plan.start,
            Scheme::Daemon(plan) => {
                return plan.start.len();
            }
            Scheme::Drain(_) => 0,
        };
        usize::try_from(count).unwrap_or(usize::MAX)
    }

    /// Whether another look, in a transaction, would find the same as this one
    /// did in the snapshot of `revision`. A large service takes milliseconds
    /// to look at.
    pub(super) fn stands(
        &self,
        tx: &Tx,
        service: &Service,
        revision: u64,
    ) -> bool {
        let changed = tx.changed_since(revision).filter(|_| !self.minds_others);
        changed.is_some_and(|mut changed| {
            changed.all(|(table, key)| match table {
                Task::TABLE => tx.get::<Task>(key).is_some_and(|task| {
                    let of = task.service.as_ref();
                    of.is_none_or(|of| of.id != service.id)
                }),
                Service::TABLE => *key != service.key(),
                ServiceDeployment::TABLE | ServiceEvent::TABLE => true,
                // Hosts, instances, subnets, definitions and what not.
                _ => false,
            })
        })
    }

    /// Whether any of its tasks should run.
    pub(super) fn has_members(&self) -> bool {
        !self.members.is_empty()
    }

    /// Whether the end of any of its tasks is to be counted.
    pub(super) fn has_ended(&self) -> bool {
        !self.ended.is_empty()
    }

    /// When time alone makes something due.
    pub(super) fn wake_at(
        &self,
        service: &Service,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let retry = service.primary().and_then(|primary| primary.retry_at);
        let planned = match &self.scheme {
            Scheme::Replica(plan) => plan.wake_at,
            Scheme::Daemon(_) | Scheme::Drain(_) => None,
        };
        let steady = service
            .steady_at
            .map(|at| at.plus_millis(super::pass::REPEAT_AFTER_MS));
        let retry = retry.filter(|at| *at > now);
        let recovered = self.recovers_at(service, now);
        [retry, planned, steady, recovered, self.unprotected_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether a pass would change anything.
    pub(super) fn is_due(
        &self,
        rows: &impl ReadIndex,
        service: &Service,
        now: Timestamp,
    ) -> bool {
        if !self.ended.is_empty() {
            return true;
        }
        let acts = match &self.scheme {
            Scheme::Replica(plan) => {
                plan.start > 0
                    || !plan.stop.is_empty()
                    || self.is_unfinished(service, plan.is_settled, now)
                    || self.has_complaint(service, plan)
            }
            Scheme::Daemon(plan) => {
                !plan.start.is_empty()
                    || !plan.stop.is_empty()
                    || plan.desired != service.desired
                    || self.is_unfinished(service, plan.is_settled, now)
            }
            Scheme::Drain(_) => true,
        };
        acts || self.counts_differ(service)
            || self.is_recovered(service, now)
            || matches!(
                roll::status(rows, service),
                Some(
                    ServiceDeploymentStatus::Pending
                        | ServiceDeploymentStatus::RollbackRequested
                )
            )
    }

    /// Whether a deployment, or the news of a steady state, is outstanding.
    fn is_unfinished(
        &self,
        service: &Service,
        is_settled: bool,
        now: Timestamp,
    ) -> bool {
        if !is_settled {
            return service.steady_at.is_some();
        }
        let primary = service.primary();
        let told = service.steady_at;
        primary.is_some_and(|one| one.rollout == RolloutState::InProgress)
            || told.is_none_or(|at| {
                now.millis_since(at) >= super::pass::REPEAT_AFTER_MS
            })
    }

    fn has_complaint(&self, service: &Service, plan: &Plan) -> bool {
        let is_news = |kind: &str| !service.complaints.contains_key(kind);
        (plan.is_stuck && is_news(STUCK))
            || (plan.protected > 0 && is_news(PROTECTED))
    }

    /// How many tasks of a deployment should run.
    pub(super) fn remaining(&self, age: usize) -> u32 {
        let age = u32::try_from(age).unwrap_or(u32::MAX);
        let remaining = self.members.iter().filter(|one| one.age == age);
        u32::try_from(remaining.count()).unwrap_or(u32::MAX)
    }

    /// Whether the counts that the deployments show are out of date, or a
    /// former one has no tasks any more.
    fn counts_differ(&self, service: &Service) -> bool {
        let ages = service.deployments.iter().enumerate();
        ages.into_iter().any(|(age, deployment)| {
            let remaining = self.remaining(age);
            if age == 0 {
                return deployment.desired_count != service.desired;
            }
            remaining == 0 || deployment.desired_count != remaining
        })
    }

    /// Whether the primary deployment has failures behind it that a healthy
    /// task makes forgotten.
    pub(super) fn is_recovered(
        &self,
        service: &Service,
        now: Timestamp,
    ) -> bool {
        self.recovery(service).is_some_and(|at| at <= now)
    }

    fn recovers_at(
        &self,
        service: &Service,
        now: Timestamp,
    ) -> Option<Timestamp> {
        self.recovery(service).filter(|at| *at > now)
    }

    fn recovery(&self, service: &Service) -> Option<Timestamp> {
        let primary = service.primary()?;
        let is_marked = primary.failed_tasks > 0 || primary.failed_rounds > 0;
        if !is_marked || primary.rollout == RolloutState::Failed {
            return None;
        }
        let well = self.members.iter().filter(|one| {
            one.age == 0
                && matches!(one.health, Health::Unchecked | Health::Healthy)
        });
        let since = well.filter_map(|one| match one.phase {
            Phase::Running(since) => Some(since),
            Phase::Starting => None,
        });
        since.min().map(|since| since.plus_millis(RECOVERED_MS))
    }
}

/// A task that has run for this long has come up for good, in milliseconds.
const RECOVERED_MS: i64 = 10_000;

/// Looks at a service; `None` where nothing will ever be due.
pub(super) fn look(
    rows: &impl ReadIndex,
    service: &Service,
    pace: Pace,
    now: Timestamp,
) -> Option<Look> {
    if service.status == ServiceStatus::Inactive {
        return None;
    }
    Some(look_at(rows, service, &tasks_of(rows, service), pace, now))
}

/// Looks at a service and those of its tasks that count.
pub(super) fn look_at(
    rows: &impl ReadIndex,
    service: &Service,
    tasks: &[Arc<Task>],
    pace: Pace,
    now: Timestamp,
) -> Look {
    let eyes = Eyes::new(rows, service, now);
    look_with(&eyes, service, Roster::of(&eyes, tasks), pace, now)
}

/// Looks at a service whose tasks have been seen.
pub(super) fn look_with(
    eyes: &Eyes<'_, impl ReadIndex>,
    service: &Service,
    Roster { members, ended }: Roster,
    pace: Pace,
    now: Timestamp,
) -> Look {
    let protected = members.iter().filter_map(|one| one.protected_until);
    let unprotected_at = protected.filter(|until| *until > now).min();
    let scheme = if service.status == ServiceStatus::Draining {
        Scheme::Drain(members.iter().map(|one| one.id.clone()).collect())
    } else if service.is_daemon() {
        let target = eyes.target(pace, BTreeSet::new());
        let posts = eyes.posts();
        let drain = service.drain_percent;
        Scheme::Daemon(plan_daemon(&members, &posts, &target, drain))
    } else {
        let target = eyes.target(pace, eyes.zones());
        Scheme::Replica(plan(&members, &target))
    };
    let minds_others = eyes.minds_others();
    Look { members, ended, unprotected_at, minds_others, scheme }
}

/// The key of a task of a service.
pub(super) fn task_key(service: &Service, id: &str) -> Key {
    let Service { account, region, cluster, .. } = service;
    Task::key_of(account, region, cluster, id)
}

/// Keys of the services of a region or, with `cluster`, of one cluster.
pub(super) fn keys_within(rows: &impl ReadIndex, within: &Key) -> Vec<Key> {
    let services = rows.rows::<Service>(within).into_iter();
    let daemons = rows.rows::<Daemon>(within).into_iter();
    services
        .filter(|row| row.status != ServiceStatus::Inactive)
        .map(|row| row.key())
        .chain(daemons.map(|row| row.key()))
        .collect()
}

/// Keys of what is kept on every instance of a cluster: daemon services and
/// managed daemons.
pub(super) fn daemons_within(rows: &impl ReadIndex, within: &Key) -> Vec<Key> {
    let services = rows.rows::<Service>(within).into_iter();
    let daemons = rows.rows::<Daemon>(within).into_iter();
    services
        .filter(|row| row.is_daemon() && row.status != ServiceStatus::Inactive)
        .map(|row| row.key())
        .chain(daemons.map(|row| row.key()))
        .collect()
}
