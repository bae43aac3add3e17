//! Services of the EXTERNAL controller: each task set is kept as a service of
//! its own would be, and what it tells is told by its service.

use std::sync::Arc;

use minato_core::service::Pace;
use minato_core::status::ServiceStatus;
use minato_store::{Key, Row, Tx};
use minato_wire::Timestamp;

use super::look::{Look, look_at};
use super::pass::{Outcome, Pass, Turn, Voice};
use crate::services::ecs::services::{roll, tasks_of};
use crate::services::ecs::task_sets::task_sets_of;
use crate::services::ecs::view::ReadIndex;
use crate::tables::{Service, ServiceRevision, Task, TaskSet};

/// A task set and what is due.
pub(super) struct SetLook {
    set: Arc<TaskSet>,
    /// The set as a service.
    service: Service,
    seen: Look,
    /// Whether tasks of it are still stopping.
    has_tasks: bool,
}

/// Looks at every set of a service.
pub(super) fn look(
    rows: &impl ReadIndex,
    service: &Service,
    pace: Pace,
    now: Timestamp,
) -> Vec<SetLook> {
    let tasks = tasks_of(rows, service);
    let sets = task_sets_of(rows, service).into_iter();
    sets.map(|set| {
        let ours: Vec<Arc<Task>> = tasks
            .iter()
            .filter(|task| {
                let of = task.service.as_ref();
                of.is_some_and(|of| of.deployment == set.id())
            })
            .cloned()
            .collect();
        let mut as_service = set.as_service(service);
        if set.is_draining {
            as_service.status = ServiceStatus::Draining;
        }
        let has_tasks = ours.iter().any(|task| !task.is_stopped());
        let seen = look_at(rows, &as_service, &ours, pace, now);
        SetLook { set, service: as_service, seen, has_tasks }
    })
    .collect()
}

impl SetLook {
    /// How many tasks a pass would start.
    pub(super) fn starts(&self) -> usize {
        self.seen.starts()
    }

    /// How many tasks it has that should run.
    pub(super) fn members(&self) -> usize {
        self.seen.members.len()
    }

    /// When time alone makes something due.
    pub(super) fn wake_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.seen.wake_at(&self.service, now)
    }

    /// Whether a pass would change anything.
    pub(super) fn is_due(&self, rows: &impl ReadIndex, now: Timestamp) -> bool {
        if self.service.status == ServiceStatus::Draining {
            // It stays while its tasks stop.
            return self.seen.has_members()
                || self.seen.has_ended()
                || !self.has_tasks;
        }
        self.seen.is_due(rows, &self.service, now)
    }
}

/// Does what is due for every set of a service.
pub(super) fn pass(tx: &mut Tx, key: &Key, mut turn: Turn) -> Outcome {
    let mut outcome = Outcome::default();
    let Some(before) = tx.get::<Service>(key) else { return outcome };
    let mut service = Service::clone(&before);
    for seen in look(tx, &before, turn.pace, turn.now) {
        if !seen.is_due(tx, turn.now) {
            continue;
        }
        let computed = seen.service.desired;
        let is_scaled = seen.set.deployment.desired_count != computed;
        let text = format!(
            "updated computedDesiredCount for taskSet {} to {computed}.",
            seen.set.id()
        );
        if is_scaled {
            let Turn { draw, now, .. } = &mut turn;
            roll::tell(tx, &mut service, draw, *now, &text);
        }
        let SetLook { set, service: as_service, seen, has_tasks } = seen;
        let is_over = set.is_draining && !has_tasks;
        let mut pass = Pass {
            service: Service { events: service.events, ..as_service },
            tx: &mut *tx,
            turn,
            outcome: Outcome::default(),
            voice: Voice::TaskSet(set.id().to_owned()),
        };
        pass.run(seen);
        let Pass { service: after, turn: rest, outcome: one, .. } = pass;
        turn = rest;
        outcome.is_blocked |= one.is_blocked;
        service.events = after.events;
        if is_over {
            tx.delete::<TaskSet>(&set.key());
            tx.delete::<ServiceRevision>(&set.key());
            continue;
        }
        let mut row = TaskSet::clone(&set);
        row.steady_at = after.steady_at;
        row.complaints = after.complaints;
        if let Some(deployment) = after.deployments.into_iter().next() {
            row.deployment = deployment;
        }
        if row != *set {
            tx.put(row);
        }
    }
    let is_over = service.status == ServiceStatus::Draining
        && task_sets_of(tx, &service).is_empty();
    if is_over
        && let Ok(next) =
            service.status.step(minato_core::status::ServiceEvent::Emptied)
    {
        service.status = next;
        service.inactive_at = Some(turn.now);
    }
    if service != *before {
        tx.put(service);
    }
    outcome
}
