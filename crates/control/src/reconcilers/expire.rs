//! Forgets what nobody may ask for any more.

mod services;

use std::sync::Arc;

use minato_store::{Key, Row, Snapshot, Tx};
use minato_wire::ecs::{DaemonTaskDefinitionStatus, TaskDefinitionStatus};
use minato_wire::{ApiError, Timestamp};

use crate::context::Context;
use crate::services::ec2::volumes::VolumeRow;
use crate::services::sts;
use crate::services::sts::rows::{SessionRow, TaskRoles};
use crate::tables::{
    CapacityProvider, DAEMON_PREFIX, Daemon, DaemonTaskDefinition,
    RunTaskToken, Service, ServiceRevision, Task, TaskDefinition, TaskSet,
    namespace,
};

/// How long a client token is remembered (reference, section 2).
const TOKEN_LIFE_MS: i64 = 24 * 60 * 60 * 1000;
/// How long an agent may be away and still hear of a deleted volume.
const VOLUME_LIFE_MS: i64 = 24 * 60 * 60 * 1000;
/// Rows removed in one transaction, so that none becomes large.
const BATCH_MAX: usize = 500;

/// Removes stopped tasks and used tokens whose time is over.
#[expect(clippy::too_many_lines, reason = "one kind of row after the other")]
pub(super) async fn pass(cx: &Context) {
    let now = cx.clock.now();
    let kept_ms = cx.config.stopped_task_retention_ms;
    let rows = cx.snapshot();
    let tasks: Vec<Key> = rows
        .by_index::<Task>("status", &Key::of(["STOPPED"]))
        .filter(|row| {
            let stopped = row.task.stopped_at;
            stopped.is_none_or(|at| now.millis_since(at) > kept_ms)
        })
        .map(|row| row.key())
        .take(BATCH_MAX)
        .collect();
    let tokens = keys(&rows, |row: &RunTaskToken| {
        now.millis_since(row.used_at) > TOKEN_LIFE_MS
    });
    let definitions = deleted_definitions(&rows);
    let sessions = expired_sessions(&rows, now);
    let roles = roles_of_none(&rows);
    let services = services::Expired::find(&rows, now, kept_ms);
    let is_over = |at: Timestamp| now.millis_since(at) > kept_ms;
    let volumes = keys(&rows, |row: &VolumeRow| {
        let deleted = row.deleted_at();
        deleted.is_some_and(|at| now.millis_since(at) > VOLUME_LIFE_MS)
    });
    let providers = keys(&rows, |row: &CapacityProvider| {
        row.deleted_at.is_some_and(is_over)
    });
    let daemon_definitions = keys(&rows, |row: &DaemonTaskDefinition| {
        row.deleted_at.is_some_and(is_over)
    });
    if tasks.is_empty()
        && volumes.is_empty()
        && daemon_definitions.is_empty()
        && providers.is_empty()
        && tokens.is_empty()
        && definitions.is_empty()
        && sessions.is_empty()
        && roles.is_empty()
        && services.is_empty()
    {
        return;
    }
    let removed = cx.transact(move |tx| -> Result<(), ApiError> {
        for key in tasks {
            tx.delete::<Task>(&key);
        }
        for key in volumes {
            tx.delete::<VolumeRow>(&key);
        }
        for key in tokens {
            tx.delete::<RunTaskToken>(&key);
        }
        for key in definitions {
            delete_definition(tx, &key, now);
        }
        for key in daemon_definitions {
            tx.delete::<DaemonTaskDefinition>(&key);
        }
        for key in providers {
            tx.delete::<CapacityProvider>(&key);
        }
        for key in sessions {
            tx.delete::<SessionRow>(&key);
        }
        for roles in roles {
            sts::tasks::revoke_if_over(tx, &roles);
        }
        services.remove(tx);
        Ok(())
    });
    if let Err(error) = removed.await {
        tracing::warn!(
            details = error.internal(),
            "could not remove what has expired",
        );
    }
}

/// The keys of rows, as many as go at a time.
fn keys<R: Row>(rows: &Snapshot, is_wanted: impl Fn(&R) -> bool) -> Vec<Key> {
    rows.scan::<R>(&Key::root())
        .filter(|row| is_wanted(row))
        .map(|row| row.key())
        .take(BATCH_MAX)
        .collect()
}

/// Temporary credentials that are over.
fn expired_sessions(rows: &Snapshot, now: Timestamp) -> Vec<Key> {
    rows.by_index::<SessionRow>(SessionRow::BY_EXPIRY, &Key::root())
        .take_while(|session| session.expires_at <= now)
        .map(|session| session.key())
        .take(BATCH_MAX)
        .collect()
}

/// Roles that were left to tasks which are over or gone.
fn roles_of_none(rows: &Snapshot) -> Vec<Arc<TaskRoles>> {
    let is_over = |roles: &Arc<TaskRoles>| {
        let task = rows.get::<Task>(&roles.key());
        task.is_none_or(|task| task.is_stopped())
    };
    let all = rows.scan::<TaskRoles>(&Key::root());
    all.filter(is_over).take(BATCH_MAX).collect()
}

/// Removes a definition. One of a daemon is still shown for a while: a waiter
/// looks for `DELETED`.
fn delete_definition(tx: &mut Tx, key: &Key, now: Timestamp) {
    let Some(row) = tx.delete::<TaskDefinition>(key) else { return };
    let Some(family) = row.family.strip_prefix(DAEMON_PREFIX) else { return };
    let TaskDefinition { account, region, revision, .. } = &*row;
    let key = DaemonTaskDefinition::key_of(account, region, family, *revision);
    let Some(known) = tx.get::<DaemonTaskDefinition>(&key) else { return };
    let mut shown = DaemonTaskDefinition::clone(&known);
    shown.shown.status = Some(DaemonTaskDefinitionStatus::Deleted);
    shown.deleted_at = Some(now);
    tx.put(shown);
}

/// Definitions whose deletion was asked for and that no task uses any more.
fn deleted_definitions(rows: &Snapshot) -> Vec<Key> {
    let deleted = Some(TaskDefinitionStatus::DeleteInProgress);
    rows.scan::<TaskDefinition>(&Key::root())
        .filter(|row| row.definition.status == deleted)
        .filter(|row| {
            let arn = &row.definition.task_definition_arn;
            let within = namespace(&row.account, &row.region);
            let mut tasks = rows.scan::<Task>(&within);
            let mut daemons = rows
                .scan::<Daemon>(&within)
                .flat_map(|row| {
                    let all = row.deployments.iter();
                    let keys = all.map(|it| row.of.key().with(&it.revision));
                    keys.collect::<Vec<_>>()
                })
                .filter_map(|key| rows.get::<ServiceRevision>(&key))
                .map(|row| row.revision.task_definition.clone());
            let mut services = rows.scan::<Service>(&within);
            let mut sets = rows
                .scan::<TaskSet>(&within)
                .filter_map(|set| rows.get::<ServiceRevision>(&set.key()));
            !tasks.any(|task| task.task.task_definition_arn == *arn)
                && !services.any(|service| service.uses(arn.as_deref()))
                && !sets.any(|set| set.revision.task_definition == *arn)
                && !daemons.any(|uses| uses == *arn)
        })
        .map(|row| row.key())
        .take(BATCH_MAX)
        .collect()
}
