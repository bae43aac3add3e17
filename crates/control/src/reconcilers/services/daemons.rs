//! Managed daemons: kept as a daemon service would be, on the instances of
//! their capacity providers, with deployments of their own kind.

use std::sync::Arc;

use minato_core::service::{Pace, breaker_threshold};
use minato_core::status::RolloutState;
use minato_store::{Key, Row, Tx};
use minato_wire::Timestamp;
use minato_wire::ecs::{DaemonDeploymentStatus, DaemonRollback};

use super::look::{Look, look_at};
use super::pass::{Outcome, Pass, Turn, Voice};
use crate::services::ecs::daemons::{is_final, new_deployment};
use crate::services::ecs::services::tasks_of;
use crate::services::ecs::view::ReadIndex;
use crate::tables::{
    Daemon, DaemonDeployment, DaemonRevision, Service, ServiceRevision,
};

/// A daemon and what is due.
pub(super) struct DaemonLook {
    daemon: Arc<Daemon>,
    /// The daemon as a service.
    service: Service,
    pub(super) seen: Look,
    /// Whether tasks of it are still stopping.
    has_tasks: bool,
    status: Option<DaemonDeploymentStatus>,
}

/// Looks at a daemon.
pub(super) fn look(
    rows: &impl ReadIndex,
    daemon: &Arc<Daemon>,
    pace: Pace,
    now: Timestamp,
) -> DaemonLook {
    let service = daemon.as_service();
    let tasks = tasks_of(rows, &service);
    let has_tasks = tasks.iter().any(|task| !task.is_stopped());
    let seen = look_at(rows, &service, &tasks, pace, now);
    let key = daemon.of.key().with(&daemon.deployment);
    let status = rows.row::<DaemonDeployment>(&key).map(|row| row.status());
    DaemonLook { daemon: Arc::clone(daemon), service, seen, has_tasks, status }
}

impl DaemonLook {
    /// When time alone makes something due.
    pub(super) fn wake_at(&self, now: Timestamp) -> Option<Timestamp> {
        let baked = self.baked_at().filter(|at| *at > now);
        let seen = self.seen.wake_at(&self.service, now);
        seen.into_iter().chain(baked).min()
    }

    /// When the roll-out has baked, if it does.
    fn baked_at(&self) -> Option<Timestamp> {
        let is_open = self.status.is_some_and(|status| !is_final(status));
        let settled = self.daemon.settled_at.filter(|_| is_open)?;
        Some(settled.plus_millis(bake_ms(&self.daemon)))
    }

    /// Whether a pass would change anything.
    pub(super) fn is_due(&self, rows: &impl ReadIndex, now: Timestamp) -> bool {
        if self.daemon.is_deleted {
            return self.seen.has_members()
                || self.seen.has_ended()
                || !self.has_tasks;
        }
        let is_baked = self.baked_at().is_some_and(|at| at <= now);
        let is_new = self.status == Some(DaemonDeploymentStatus::Pending);
        let is_settled = self.daemon.steady_at.is_some();
        let is_noted = self.daemon.settled_at.is_some() == is_settled;
        is_baked
            || is_new
            || !is_noted
            || self.seen.is_due(rows, &self.service, now)
    }
}

fn bake_ms(daemon: &Daemon) -> i64 {
    let minutes = daemon.configuration.bake_time_in_minutes.unwrap_or(0);
    i64::from(minutes) * 60_000
}

/// Does what is due.
pub(super) fn pass(tx: &mut Tx, key: &Key, turn: Turn) -> Outcome {
    let Some(before) = tx.get::<Daemon>(key) else {
        return Outcome::default();
    };
    let found = look(tx, &before, turn.pace, turn.now);
    let DaemonLook { service, seen, has_tasks, .. } = found;
    let now = turn.now;
    let mut pass = Pass {
        service,
        tx: &mut *tx,
        turn,
        outcome: Outcome::default(),
        voice: Voice::Nobody,
    };
    pass.run(seen);
    let Pass { service: after, outcome, .. } = pass;
    if before.is_deleted && !has_tasks {
        forget(tx, &before);
        return outcome;
    }
    let mut row = Daemon::clone(&before);
    if !row.is_deleted {
        row.deployments = after.deployments;
        row.desired = after.desired;
        row.steady_at = after.steady_at;
        row.complaints = after.complaints;
        judge(tx, &mut row, now);
    }
    if row != *before {
        tx.put(row);
    }
    outcome
}

/// A deleted daemon has no task any more.
fn forget(tx: &mut Tx, daemon: &Daemon) {
    let within = daemon.of.key();
    let deployments = tx.scan::<DaemonDeployment>(&within);
    let deployments: Vec<Key> = deployments.map(|row| row.key()).collect();
    let revisions = tx.scan::<DaemonRevision>(&within);
    let revisions: Vec<Key> = revisions.map(|row| row.key()).collect();
    for key in deployments {
        tx.delete::<DaemonDeployment>(&key);
    }
    for key in revisions {
        tx.delete::<DaemonRevision>(&key);
        tx.delete::<ServiceRevision>(&key);
    }
    tx.delete::<Daemon>(&daemon.key());
}

/// Moves the newest deployment on: begun, failed, baked.
fn judge(tx: &mut Tx, daemon: &mut Daemon, now: Timestamp) {
    daemon.settled_at = match (daemon.steady_at, daemon.settled_at) {
        (None, _) => None,
        (Some(_), None) => Some(now),
        (Some(_), known) => known,
    };
    let key = daemon.of.key().with(&daemon.deployment);
    let Some(known) = tx.get::<DaemonDeployment>(&key) else { return };
    let mut row = DaemonDeployment::clone(&known);
    if is_final(row.status()) {
        return;
    }
    if row.status() == DaemonDeploymentStatus::Pending {
        row.shown.status = Some(DaemonDeploymentStatus::InProgress);
        row.shown.started_at = Some(now);
    }
    let failed = daemon.deployments.first().map_or(0, |it| it.failed_tasks);
    row.failures = row.failures.max(failed);
    let is_back = row.status() == DaemonDeploymentStatus::RollbackInProgress;
    if failed >= breaker_threshold(daemon.desired) {
        if is_back {
            finish(&mut row, DaemonDeploymentStatus::RollbackFailed, now);
            give_up(daemon);
        } else {
            roll_back(tx, daemon, &mut row, now);
        }
    } else if let Some(settled) = daemon.settled_at
        && now.millis_since(settled) >= bake_ms(daemon)
    {
        let primary = daemon.deployments.first();
        daemon.completed_revision = primary.map(|it| it.revision.clone());
        let status = if is_back {
            DaemonDeploymentStatus::RollbackSuccessful
        } else {
            DaemonDeploymentStatus::Successful
        };
        finish(&mut row, status, now);
    }
    if row != *known {
        tx.put(row);
    }
}

fn finish(
    row: &mut DaemonDeployment,
    status: DaemonDeploymentStatus,
    now: Timestamp,
) {
    row.shown.status = Some(status);
    row.shown.finished_at = Some(now);
}

/// No more tasks of it are started.
fn give_up(daemon: &mut Daemon) {
    if let Some(primary) = daemon.deployments.first_mut() {
        primary.rollout = RolloutState::Failed;
    }
}

/// The daemon is again what it was in a revision.
fn restore(tx: &Tx, daemon: &mut Daemon, revision: &str) {
    let key = daemon.of.key().with(revision);
    let Some(row) = tx.get::<DaemonRevision>(&key) else { return };
    let was = &row.shown;
    daemon.propagate_tags = was.propagate_tags.unwrap_or(daemon.propagate_tags);
    daemon.enable_ecs_managed_tags =
        was.enable_ecs_managed_tags.unwrap_or(daemon.enable_ecs_managed_tags);
    daemon.enable_execute_command =
        was.enable_execute_command.unwrap_or(daemon.enable_execute_command);
    if !row.providers.is_empty() {
        daemon.providers.clone_from(&row.providers);
    }
}

/// Too many tasks failed: back to the revision that was everywhere last.
fn roll_back(
    tx: &Tx,
    daemon: &mut Daemon,
    row: &mut DaemonDeployment,
    now: Timestamp,
) {
    let why = "The circuit breaker's threshold was exceeded.";
    row.shown.status_reason = Some(why.to_owned());
    let failed = daemon.deployments.first().map(|it| it.revision.clone());
    let target = daemon.completed_revision.clone();
    let Some(target) = target.filter(|it| Some(it) != failed.as_ref()) else {
        row.shown.stopped_at = Some(now);
        finish(row, DaemonDeploymentStatus::Stopped, now);
        give_up(daemon);
        return;
    };
    restore(tx, daemon, &target);
    row.shown.status = Some(DaemonDeploymentStatus::RollbackInProgress);
    row.shown.rollback = Some(DaemonRollback {
        reason: Some(why.to_owned()),
        started_at: Some(now),
        rollback_target_daemon_revision_arn: Some(daemon.revision_arn(&target)),
        rollback_capacity_providers: Some(daemon.providers.clone()),
    });
    let mut all = daemon.deployments.iter();
    let known = all.position(|it| it.revision == target);
    let mut back = match known {
        Some(index) => daemon.deployments.remove(index),
        None => new_deployment(target, row.id.clone(), now),
    };
    back.failed_tasks = 0;
    back.failed_rounds = 0;
    back.retry_at = None;
    daemon.deployments.insert(0, back);
    daemon.settled_at = None;
    daemon.steady_at = None;
}
