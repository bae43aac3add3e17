//! Task sets as the API shows them.

use std::sync::Arc;

use minato_store::Row;
use minato_wire::ecs::{self, Scale, ScaleUnit, StabilityStatus};

use super::super::lookup::Read;
use super::super::services::{Counts, tasks_of};
use crate::tables::{Service, ServiceRevision, TaskSet};

/// The sets of a service, oldest first; those that are about to go too.
pub(crate) fn task_sets_of(
    rows: &impl Read,
    service: &Service,
) -> Vec<Arc<TaskSet>> {
    let mut sets = rows.rows::<TaskSet>(&service.owner().key());
    sets.sort_by_key(|row| row.deployment.created_at);
    sets
}

/// The primary set of a service.
pub(crate) fn primary_of(
    rows: &impl Read,
    service: &Service,
) -> Option<Arc<TaskSet>> {
    task_sets_of(rows, service).into_iter().find(|row| row.is_primary)
}

/// A set with what is counted rather than stored, tags included.
pub(crate) fn task_set(
    rows: &impl Read,
    service: &Service,
    row: &TaskSet,
) -> ecs::TaskSet {
    let tasks = tasks_of(rows, service);
    let counts = Counts::of(&tasks, |task| {
        let of = task.service.as_ref();
        of.is_some_and(|of| of.deployment == row.id())
    });
    let computed = row.computed(service);
    let revision = rows.row::<ServiceRevision>(&row.key());
    let revision = revision.map(|row| row.revision.clone()).unwrap_or_default();
    let is_steady = row.steady_at.is_some()
        && row.deployment.desired_count == computed
        && counts.running() == computed
        && counts.pending() == 0;
    let number = |count: u32| Some(i32::try_from(count).unwrap_or(i32::MAX));
    let digits = &row.deployment.revision;
    let updated_at = row.deployment.updated_at;
    ecs::TaskSet {
        id: Some(row.id().to_owned()),
        task_set_arn: Some(TaskSet::arn_of(service, digits)),
        service_arn: Some(service.arn()),
        cluster_arn: Some(service.cluster_arn()),
        status: Some(row.status().to_owned()),
        task_definition: revision.task_definition,
        computed_desired_count: number(computed),
        pending_count: number(counts.pending()),
        running_count: number(counts.running()),
        created_at: Some(row.deployment.created_at),
        updated_at: Some(updated_at),
        launch_type: revision.launch_type,
        capacity_provider_strategy: revision.capacity_provider_strategy,
        platform_version: revision.platform_version,
        platform_family: revision.platform_family,
        network_configuration: revision.network_configuration,
        scale: Some(Scale {
            value: Some(row.scale),
            unit: Some(ScaleUnit::Percent),
        }),
        stability_status: Some(if is_steady {
            StabilityStatus::SteadyState
        } else {
            StabilityStatus::Stabilizing
        }),
        stability_status_at: Some(
            row.steady_at.filter(|_| is_steady).unwrap_or(updated_at),
        ),
        ..row.shown.clone()
    }
}
