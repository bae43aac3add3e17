//! Forgets what nobody may ask for any more.

mod services;

use minato_store::{Key, Row, Snapshot};
use minato_wire::ApiError;
use minato_wire::ecs::TaskDefinitionStatus;

use crate::context::Context;
use crate::tables::{
    CapacityProvider, DAEMON_PREFIX, Daemon, DaemonTaskDefinition,
    RunTaskToken, Service, ServiceRevision, Task, TaskDefinition, TaskSet,
    namespace,
};

/// How long a client token is remembered (reference, section 2).
const TOKEN_LIFE_MS: i64 = 24 * 60 * 60 * 1000;
/// Rows removed in one transaction, so that none becomes large.
const BATCH_MAX: usize = 500;

/// Removes stopped tasks and used tokens whose time is over.
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
    let tokens: Vec<Key> = rows
        .scan::<RunTaskToken>(&Key::root())
        .filter(|row| now.millis_since(row.used_at) > TOKEN_LIFE_MS)
        .map(|row| row.key())
        .take(BATCH_MAX)
        .collect();
    let definitions = deleted_definitions(&rows);
    let services = services::Expired::find(&rows, now, kept_ms);
    let providers: Vec<Key> = rows
        .scan::<CapacityProvider>(&Key::root())
        .filter(|row| {
            row.deleted_at.is_some_and(|at| now.millis_since(at) > kept_ms)
        })
        .map(|row| row.key())
        .take(BATCH_MAX)
        .collect();
    if tasks.is_empty()
        && providers.is_empty()
        && tokens.is_empty()
        && definitions.is_empty()
        && services.is_empty()
    {
        return;
    }
    let removed = cx.transact(move |tx| -> Result<(), ApiError> {
        for key in tasks {
            tx.delete::<Task>(&key);
        }
        for key in tokens {
            tx.delete::<RunTaskToken>(&key);
        }
        for key in definitions {
            let Some(row) = tx.delete::<TaskDefinition>(&key) else { continue };
            // What a daemon runs goes with what it is shown as.
            if let Some(family) = row.family.strip_prefix(DAEMON_PREFIX) {
                let TaskDefinition { account, region, revision, .. } = &*row;
                tx.delete::<DaemonTaskDefinition>(
                    &DaemonTaskDefinition::key_of(
                        account, region, family, *revision,
                    ),
                );
            }
        }
        for key in providers {
            tx.delete::<CapacityProvider>(&key);
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
