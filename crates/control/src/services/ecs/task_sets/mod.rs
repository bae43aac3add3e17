//! Task sets: made, scaled, made primary, deleted, described.
//!
//! Handlers write down what is wanted; the service scheduler keeps each set's
//! tasks.

mod create;
mod view;

use std::sync::Arc;

use minato_core::service::rules;
use minato_core::status::ServiceStatus;
use minato_store::{Row, Tx};
use minato_wire::ApiError;
use minato_wire::ecs::{
    self, DeleteTaskSetRequest, DeleteTaskSetResponse, DescribeTaskSetsRequest,
    DescribeTaskSetsResponse, TaskSetField, UpdateServicePrimaryTaskSetRequest,
    UpdateServicePrimaryTaskSetResponse, UpdateTaskSetRequest,
    UpdateTaskSetResponse, error,
};

pub(crate) use self::create::create_task_set;
pub(crate) use self::view::{primary_of, task_set, task_sets_of};
use super::lookup::{self, Read};
use super::tasks::missing;
use crate::context::{Context, Scope};
use crate::tables::{Service, ServiceRevision, TaskSet};

/// The service that a call is about, which must have task sets.
fn service(
    rows: &impl Read,
    scope: &Scope,
    cluster: Option<&str>,
    given: Option<&str>,
) -> Result<Arc<Service>, ApiError> {
    let cluster = lookup::cluster(rows, scope, cluster)?;
    let row = lookup::service(rows, &cluster, given)?;
    match row.status {
        ServiceStatus::Active => {}
        ServiceStatus::Draining => {
            return Err(error::service_not_active_exception(
                "Service was not ACTIVE.",
            ));
        }
        ServiceStatus::Inactive => {
            return Err(error::service_not_found_exception(
                "Service not found.",
            ));
        }
    }
    if row.is_rolling() {
        return Err(error::invalid_parameter_exception(
            "Task sets are only supported for services that use the EXTERNAL \
             deployment controller.",
        ));
    }
    Ok(row)
}

/// The set of a service that an id or an ARN means.
fn find(
    rows: &impl Read,
    service: &Service,
    given: &str,
) -> Option<Arc<TaskSet>> {
    let digits = given.rsplit('/').next().unwrap_or(given);
    if given.starts_with("arn:") && given != TaskSet::arn_of(service, digits) {
        return None;
    }
    rows.row(&service.owner().key().with(digits))
}

/// The set that a change means: one that is not about to go.
fn known(tx: &Tx, service: &Service, given: &str) -> Result<TaskSet, ApiError> {
    let found = find(tx, service, given).filter(|row| !row.is_draining);
    let found = found.ok_or_else(|| {
        error::task_set_not_found_exception(
            "The specified task set does not exist.",
        )
    })?;
    Ok(TaskSet::clone(&found))
}

/// The set that a tag operation's ARN names.
pub(crate) fn tagged(
    rows: &impl Read,
    service: &Service,
    arn: &str,
) -> Option<Arc<TaskSet>> {
    find(rows, service, arn)
}

/// Checks a scale; where nothing is said a set has no tasks.
fn scale(given: Option<ecs::Scale>) -> Result<f64, ApiError> {
    let value = given.and_then(|given| given.value).unwrap_or(0.0);
    rules::scale(value)?;
    Ok(value)
}

pub(crate) async fn update_task_set(
    cx: &Context,
    scope: &Scope,
    input: UpdateTaskSetRequest,
) -> Result<UpdateTaskSetResponse, ApiError> {
    let scale = scale(input.scale)?;
    let scope = scope.clone();
    let task_set = cx
        .transact(move |tx| {
            let service = service(
                tx,
                &scope,
                input.cluster.as_deref(),
                input.service.as_deref(),
            )?;
            let given = input.task_set.as_deref().unwrap_or_default();
            let mut row = known(tx, &service, given)?;
            row.scale = scale;
            row.deployment.updated_at = scope.now;
            let shown = task_set(tx, &service, &row);
            tx.put(row);
            Ok(shown)
        })
        .await?;
    Ok(UpdateTaskSetResponse { task_set: Some(task_set) })
}

pub(crate) async fn delete_task_set(
    cx: &Context,
    scope: &Scope,
    input: DeleteTaskSetRequest,
) -> Result<DeleteTaskSetResponse, ApiError> {
    let scope = scope.clone();
    let task_set = cx
        .transact(move |tx| {
            let service = service(
                tx,
                &scope,
                input.cluster.as_deref(),
                input.service.as_deref(),
            )?;
            let given = input.task_set.as_deref().unwrap_or_default();
            let mut row = known(tx, &service, given)?;
            let is_scaled = row.computed(&service) > 0;
            if (is_scaled || row.is_primary) && input.force != Some(true) {
                return Err(error::invalid_parameter_exception(
                    "The task set cannot be deleted while it is the primary \
                     task set or scaled above 0. Scale it to 0 or use the \
                     force option.",
                ));
            }
            let mut owner = Service::clone(&service);
            if row.is_primary {
                show_primary(tx, &mut owner, None);
                tx.put(owner.clone());
            }
            row.is_draining = true;
            row.is_primary = false;
            row.steady_at = None;
            // Deleting a resource deletes its tags.
            row.shown.tags = Some(vec![]);
            row.deployment.updated_at = scope.now;
            let shown = task_set(tx, &owner, &row);
            tx.put(row);
            Ok(shown)
        })
        .await?;
    Ok(DeleteTaskSetResponse { task_set: Some(task_set) })
}

pub(crate) async fn update_service_primary_task_set(
    cx: &Context,
    scope: &Scope,
    input: UpdateServicePrimaryTaskSetRequest,
) -> Result<UpdateServicePrimaryTaskSetResponse, ApiError> {
    let scope = scope.clone();
    let task_set = cx
        .transact(move |tx| {
            let service = service(
                tx,
                &scope,
                input.cluster.as_deref(),
                input.service.as_deref(),
            )?;
            let given = input.primary_task_set.as_deref().unwrap_or_default();
            let mut row = known(tx, &service, given)?;
            for other in task_sets_of(tx, &service) {
                if other.is_primary && other.id() != row.id() {
                    let mut other = TaskSet::clone(&other);
                    other.is_primary = false;
                    other.deployment.updated_at = scope.now;
                    tx.put(other);
                }
            }
            row.is_primary = true;
            row.deployment.updated_at = scope.now;
            let mut owner = Service::clone(&service);
            show_primary(tx, &mut owner, Some(&row));
            tx.put(owner);
            let shown = task_set(tx, &service, &row);
            tx.put(row);
            Ok(shown)
        })
        .await?;
    Ok(UpdateServicePrimaryTaskSetResponse { task_set: Some(task_set) })
}

/// The service shows what its primary set runs.
fn show_primary(tx: &Tx, service: &mut Service, primary: Option<&TaskSet>) {
    let revision = primary.and_then(|row| {
        tx.get::<ServiceRevision>(&row.key()).map(|row| row.revision.clone())
    });
    let revision = revision.unwrap_or_default();
    let shown = &mut service.service;
    shown.task_definition = revision.task_definition;
    shown.launch_type = revision.launch_type;
    shown.capacity_provider_strategy = revision.capacity_provider_strategy;
    shown.platform_family = revision.platform_family;
    shown.platform_version = revision.platform_version;
    shown.network_configuration = revision.network_configuration;
}

pub(crate) async fn describe_task_sets(
    cx: &Context,
    scope: &Scope,
    input: DescribeTaskSetsRequest,
) -> Result<DescribeTaskSetsResponse, ApiError> {
    let rows = cx.snapshot();
    let service = service(
        &rows,
        scope,
        input.cluster.as_deref(),
        input.service.as_deref(),
    )?;
    let has_tags = input.include.iter().flatten().any(|field| match field {
        TaskSetField::Tags => true,
    });
    let wanted = input.task_sets.unwrap_or_default();
    let (mut found, mut failures) = (vec![], vec![]);
    if wanted.is_empty() {
        found = task_sets_of(&rows, &service);
    }
    for given in &wanted {
        match find(&rows, &service, given) {
            Some(row) => found.push(row),
            None if given.starts_with("arn:") => {
                failures.push(missing(given.clone()));
            }
            None => {
                let digits = given.rsplit('/').next().unwrap_or(given);
                failures.push(missing(TaskSet::arn_of(&service, digits)));
            }
        }
    }
    let shown = found.iter().map(|row| {
        let mut shown = task_set(&rows, &service, row);
        if !has_tags {
            shown.tags = Some(vec![]);
        }
        shown
    });
    Ok(DescribeTaskSetsResponse {
        task_sets: Some(shown.collect()),
        failures: Some(failures),
    })
}

#[cfg(test)]
mod tests;
