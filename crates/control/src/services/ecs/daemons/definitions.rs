//! Daemon task definitions: registered, described, listed, deleted.

use std::sync::Arc;

use minato_core::task_definition::normalise_and_check;
use minato_store::Key;
use minato_wire::ApiError;
use minato_wire::ecs::{
    self, Compatibility, DaemonTaskDefinitionRevisionFilter,
    DaemonTaskDefinitionStatus, DaemonTaskDefinitionStatusFilter,
    DaemonTaskDefinitionSummary, DeleteDaemonTaskDefinitionRequest,
    DeleteDaemonTaskDefinitionResponse, DescribeDaemonTaskDefinitionRequest,
    DescribeDaemonTaskDefinitionResponse, ListDaemonTaskDefinitionsRequest,
    ListDaemonTaskDefinitionsResponse, RegisterDaemonTaskDefinitionRequest,
    RegisterDaemonTaskDefinitionResponse, RegisterTaskDefinitionRequest,
    SortOrder, TaskDefinitionStatus, error,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::lookup::Read;
use super::super::page::{open, page_size, seal};
use super::super::task_definitions::next_revision;
use super::parts;
use crate::context::{Context, Scope};
use crate::tables::{DaemonTaskDefinition, TaskDefinition, namespace};

/// The most entries of a page (API reference).
const PAGE_MAX: usize = 100;

/// A shape of daemons as the shape of ordinary tasks that it is part of, or
/// the other way round: their members have the same names.
fn recast<A: Serialize, B: DeserializeOwned>(value: &A) -> Result<B, ApiError> {
    let cast = serde_json::to_value(value).and_then(serde_json::from_value);
    cast.map_err(|error| {
        error::server_exception("Service Unavailable.")
            .with_internal(error.to_string())
    })
}

pub(crate) async fn register_daemon_task_definition(
    cx: &Context,
    scope: &Scope,
    input: RegisterDaemonTaskDefinitionRequest,
) -> Result<RegisterDaemonTaskDefinitionResponse, ApiError> {
    let given = input.tags.clone().unwrap_or_default();
    let tags = minato_core::tags::to_wire(&minato_core::tags::check(&given)?);
    let ordinary = RegisterTaskDefinitionRequest {
        family: input.family,
        task_role_arn: input.task_role_arn,
        execution_role_arn: input.execution_role_arn,
        container_definitions: recast(&input.container_definitions)?,
        cpu: input.cpu,
        memory: input.memory,
        volumes: recast(&input.volumes)?,
        requires_compatibilities: Some(vec![Compatibility::Ec2]),
        ..Default::default()
    };
    let definition = normalise_and_check(ordinary)?;
    let family = definition.family.clone().unwrap_or_default();
    let shown = shown(scope, &definition)?;
    let scope = scope.clone();
    let arn = cx
        .transact(move |tx| {
            let run_family = DaemonTaskDefinition::run_family(&family);
            let revision = next_revision(tx, &scope, &run_family)?;
            let Scope { account, region, .. } = &scope;
            let arn = DaemonTaskDefinition::arn_of(
                account, region, &family, revision,
            );
            let number = i32::try_from(revision).ok();
            tx.put(TaskDefinition {
                account: account.clone(),
                region: region.clone(),
                definition: ecs::TaskDefinition {
                    task_definition_arn: Some(arn.clone()),
                    revision: number,
                    status: Some(TaskDefinitionStatus::Active),
                    registered_at: Some(scope.now),
                    registered_by: Some(scope.caller.arn.clone()),
                    ..definition
                },
                family: run_family,
                revision,
                tags: tags.clone(),
            });
            tx.put(DaemonTaskDefinition {
                account: account.clone(),
                region: region.clone(),
                family,
                revision,
                shown: ecs::DaemonTaskDefinition {
                    daemon_task_definition_arn: Some(arn.clone()),
                    revision: number,
                    ..shown
                },
                tags,
                deleted_at: None,
            });
            Ok(arn)
        })
        .await?;
    Ok(RegisterDaemonTaskDefinitionResponse {
        daemon_task_definition_arn: Some(arn),
    })
}

/// A definition as daemons' definitions are shown.
fn shown(
    scope: &Scope,
    definition: &ecs::TaskDefinition,
) -> Result<ecs::DaemonTaskDefinition, ApiError> {
    Ok(ecs::DaemonTaskDefinition {
        family: definition.family.clone(),
        task_role_arn: definition.task_role_arn.clone(),
        execution_role_arn: definition.execution_role_arn.clone(),
        container_definitions: recast(&definition.container_definitions)?,
        volumes: recast(&definition.volumes)?,
        cpu: definition.cpu.clone(),
        memory: definition.memory.clone(),
        status: Some(DaemonTaskDefinitionStatus::Active),
        registered_at: Some(scope.now),
        registered_by: Some(scope.caller.arn.clone()),
        ..Default::default()
    })
}

/// The row that `family:revision`, `family` (its newest active revision) or
/// an ARN names.
pub(super) fn find(
    rows: &impl Read,
    scope: &Scope,
    given: &str,
) -> Option<Arc<DaemonTaskDefinition>> {
    let name = if given.starts_with("arn:") {
        let parts = parts(scope, "daemon-task-definition", given)?;
        let [name] = parts[..] else { return None };
        name
    } else {
        given
    };
    let Scope { account, region, .. } = scope;
    match name.split_once(':') {
        Some((family, revision)) => {
            let revision = revision.parse().ok()?;
            rows.row(&DaemonTaskDefinition::key_of(
                account, region, family, revision,
            ))
        }
        None => {
            let within = Key::of([account, region, name]);
            let all = rows.rows::<DaemonTaskDefinition>(&within);
            all.into_iter().rev().find(|row| is_active(row))
        }
    }
}

/// The row that a tag operation's ARN names.
pub(crate) fn tagged_definition(
    rows: &impl Read,
    scope: &Scope,
    arn: &str,
) -> Option<Arc<DaemonTaskDefinition>> {
    find(rows, scope, arn).filter(|row| is_active(row))
}

pub(super) fn is_active(row: &DaemonTaskDefinition) -> bool {
    row.shown.status == Some(DaemonTaskDefinitionStatus::Active)
}

pub(crate) async fn describe_daemon_task_definition(
    cx: &Context,
    scope: &Scope,
    input: DescribeDaemonTaskDefinitionRequest,
) -> Result<DescribeDaemonTaskDefinitionResponse, ApiError> {
    let given = input.daemon_task_definition.unwrap_or_default();
    let found = find(&cx.snapshot(), scope, &given).ok_or_else(|| {
        error::client_exception("Unable to describe daemon task definition.")
    })?;
    Ok(DescribeDaemonTaskDefinitionResponse {
        daemon_task_definition: Some(found.shown.clone()),
    })
}

pub(crate) async fn delete_daemon_task_definition(
    cx: &Context,
    scope: &Scope,
    input: DeleteDaemonTaskDefinitionRequest,
) -> Result<DeleteDaemonTaskDefinitionResponse, ApiError> {
    let scope = scope.clone();
    let given = input.daemon_task_definition.unwrap_or_default();
    let arn = cx
        .transact(move |tx| {
            let found = find(tx, &scope, &given)
                .filter(|row| is_active(row))
                .ok_or_else(|| {
                error::client_exception(
                    "The specified daemon task definition does not exist \
                         or is not ACTIVE.",
                )
            })?;
            let mut row = DaemonTaskDefinition::clone(&found);
            row.shown.status =
                Some(DaemonTaskDefinitionStatus::DeleteInProgress);
            row.shown.delete_requested_at = Some(scope.now);
            row.tags = vec![];
            let key = TaskDefinition::key_of(
                &row.account,
                &row.region,
                &DaemonTaskDefinition::run_family(&row.family),
                row.revision,
            );
            // What still runs of it runs on; then it is forgotten.
            if let Some(known) = tx.get::<TaskDefinition>(&key) {
                let mut run = TaskDefinition::clone(&known);
                run.definition.status =
                    Some(TaskDefinitionStatus::DeleteInProgress);
                tx.put(run);
            }
            let arn = row.shown.daemon_task_definition_arn.clone();
            tx.put(row);
            Ok(arn)
        })
        .await?;
    Ok(DeleteDaemonTaskDefinitionResponse { daemon_task_definition_arn: arn })
}

pub(crate) async fn list_daemon_task_definitions(
    cx: &Context,
    scope: &Scope,
    input: ListDaemonTaskDefinitionsRequest,
) -> Result<ListDaemonTaskDefinitionsResponse, ApiError> {
    let size = page_size(input.max_results, PAGE_MAX, PAGE_MAX)?;
    let after = input.next_token.as_deref().map(open).transpose()?;
    if input.family.is_some() && input.family_prefix.is_some() {
        return Err(error::invalid_parameter_exception(
            "Either family or familyPrefix can be specified.",
        ));
    }
    let rows = cx.snapshot();
    let within = namespace(&scope.account, &scope.region);
    let status =
        input.status.unwrap_or(DaemonTaskDefinitionStatusFilter::Active);
    let is_wanted = |row: &DaemonTaskDefinition| {
        let of_status = match status {
            DaemonTaskDefinitionStatusFilter::All => row.deleted_at.is_none(),
            DaemonTaskDefinitionStatusFilter::Active => is_active(row),
            DaemonTaskDefinitionStatusFilter::DeleteInProgress => {
                row.shown.status
                    == Some(DaemonTaskDefinitionStatus::DeleteInProgress)
            }
        };
        let prefix = input.family_prefix.as_deref().unwrap_or_default();
        of_status
            && row.family.starts_with(prefix)
            && input.family.as_ref().is_none_or(|it| *it == row.family)
    };
    let mut all: Vec<_> = rows
        .scan::<DaemonTaskDefinition>(&within)
        .filter(|row| is_wanted(row))
        .collect();
    if let Some(filter) = input.revision {
        match filter {
            // The newest of each family: the next one is of another.
            DaemonTaskDefinitionRevisionFilter::LastRegistered => {
                let families: Vec<String> =
                    all.iter().map(|row| row.family.clone()).collect();
                let mut index = 0;
                all.retain(|row| {
                    index += 1;
                    families.get(index) != Some(&row.family)
                });
            }
        }
    }
    let is_newest_first = input.sort == Some(SortOrder::Desc);
    if is_newest_first {
        all.reverse();
    }
    let place = |row: &DaemonTaskDefinition| {
        format!("{}\u{1}{:010}", row.family, row.revision)
    };
    // By its place, for the row itself may be gone.
    if let Some(after) = after {
        all.retain(|row| {
            let here = place(row);
            if is_newest_first { here < after } else { here > after }
        });
    }
    let page = all.as_slice();
    let is_more = page.len() > size;
    let page = &page[..size.min(page.len())];
    Ok(ListDaemonTaskDefinitionsResponse {
        next_token: page
            .last()
            .filter(|_| is_more)
            .map(|last| seal(&place(last))),
        daemon_task_definitions: Some(
            page.iter().map(|row| summary(row)).collect(),
        ),
    })
}

fn summary(row: &DaemonTaskDefinition) -> DaemonTaskDefinitionSummary {
    DaemonTaskDefinitionSummary {
        arn: row.shown.daemon_task_definition_arn.clone(),
        registered_at: row.shown.registered_at,
        registered_by: row.shown.registered_by.clone(),
        delete_requested_at: row.shown.delete_requested_at,
        status: row.shown.status,
    }
}

/// The key of the row that is run for a revision.
pub(super) fn run_key(row: &DaemonTaskDefinition) -> Key {
    TaskDefinition::key_of(
        &row.account,
        &row.region,
        &DaemonTaskDefinition::run_family(&row.family),
        row.revision,
    )
}
