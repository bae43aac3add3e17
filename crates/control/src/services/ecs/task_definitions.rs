//! Task definitions: registered, described, listed, deregistered, deleted.

mod list;
mod reference;

pub(crate) use list::{list_task_definition_families, list_task_definitions};

use std::sync::Arc;

use minato_core::task_definition::normalise_and_check;
use minato_store::{Key, Tx};
use minato_wire::ApiError;
use minato_wire::ecs::{
    self, DeleteTaskDefinitionsRequest, DeleteTaskDefinitionsResponse,
    DeregisterTaskDefinitionRequest, DeregisterTaskDefinitionResponse,
    DescribeTaskDefinitionRequest, DescribeTaskDefinitionResponse, Failure,
    RegisterTaskDefinitionRequest, RegisterTaskDefinitionResponse,
    TaskDefinitionField, TaskDefinitionStatus, error,
};

use self::reference::{Reference, Revision};
use super::lookup::Read;
use crate::context::{Context, Scope};
use crate::services::ecs_arn;
use crate::tables::{TaskDefinition, TaskFamily};

/// The most revisions of a family; deregistering frees none (service
/// quotas).
const REVISIONS_MAX: u32 = 1_000_000;

/// The most revisions that one DeleteTaskDefinitions names.
const DELETE_MAX: usize = 10;

pub(crate) async fn register_task_definition(
    cx: &Context,
    scope: &Scope,
    input: RegisterTaskDefinitionRequest,
) -> Result<RegisterTaskDefinitionResponse, ApiError> {
    let given = input.tags.clone().unwrap_or_default();
    let tags = minato_core::tags::to_wire(&minato_core::tags::check(&given)?);
    let definition = normalise_and_check(input)?;
    let family = definition.family.clone().unwrap_or_default();
    let scope = scope.clone();
    let (definition, tags) = cx
        .transact(move |tx| {
            let revision = next_revision(tx, &scope, &family)?;
            let row = TaskDefinition {
                account: scope.account.clone(),
                region: scope.region.clone(),
                definition: ecs::TaskDefinition {
                    task_definition_arn: Some(arn(&scope, &family, revision)),
                    revision: i32::try_from(revision).ok(),
                    status: Some(TaskDefinitionStatus::Active),
                    registered_at: Some(scope.now),
                    registered_by: Some(scope.caller.arn.clone()),
                    ..definition
                },
                family,
                revision,
                tags,
            };
            let answer = (row.definition.clone(), row.tags.clone());
            tx.put(row);
            Ok(answer)
        })
        .await?;
    Ok(RegisterTaskDefinitionResponse {
        task_definition: Some(definition),
        tags: (!tags.is_empty()).then_some(tags),
    })
}

/// Counts the family up. The counter outlives the revisions.
pub(super) fn next_revision(
    tx: &mut Tx,
    scope: &Scope,
    family: &str,
) -> Result<u32, ApiError> {
    let key = Key::of([&scope.account, &scope.region, family]);
    let last = tx.get::<TaskFamily>(&key).map_or(0, |row| row.last_revision);
    if last >= REVISIONS_MAX {
        return Err(error::limit_exceeded_exception(format!(
            "The family {family} has {REVISIONS_MAX} revisions, the maximum."
        )));
    }
    tx.put(TaskFamily {
        account: scope.account.clone(),
        region: scope.region.clone(),
        family: family.to_owned(),
        last_revision: last + 1,
    });
    Ok(last + 1)
}

fn arn(scope: &Scope, family: &str, revision: u32) -> String {
    let rest = format!("task-definition/{family}:{revision}");
    ecs_arn(&scope.region, &scope.account, &rest)
}

/// The row of a family and revision.
fn row(
    rows: &impl Read,
    scope: &Scope,
    family: &str,
    revision: u32,
) -> Option<Arc<TaskDefinition>> {
    let (account, region) = (&scope.account, &scope.region);
    rows.row(&TaskDefinition::key_of(account, region, family, revision))
}

/// Whether the row is `ACTIVE`.
fn is_active(row: &TaskDefinition) -> bool {
    row.definition.status == Some(TaskDefinitionStatus::Active)
}

pub(crate) async fn describe_task_definition(
    cx: &Context,
    scope: &Scope,
    input: DescribeTaskDefinitionRequest,
) -> Result<DescribeTaskDefinitionResponse, ApiError> {
    let given = input.task_definition.unwrap_or_default();
    let rows = cx.snapshot();
    let found = Reference::parse(scope, &given).and_then(|reference| {
        match reference.revision {
            Revision::Number(number) => {
                row(&rows, scope, reference.family, number)
            }
            Revision::Newest => {
                let key =
                    Key::of([&scope.account, &scope.region, reference.family]);
                rows.scan::<TaskDefinition>(&key)
                    .rev()
                    .find(|row| is_active(row))
            }
            Revision::Wrong(_) => None,
        }
    });
    let Some(found) = found else {
        return Err(error::client_exception(
            "Unable to describe task definition.",
        ));
    };
    let include = input.include.unwrap_or_default();
    let with_tags = include.contains(&TaskDefinitionField::Tags);
    Ok(DescribeTaskDefinitionResponse {
        task_definition: Some(found.definition.clone()),
        tags: Some(if with_tags { found.tags.clone() } else { vec![] }),
    })
}

pub(crate) async fn deregister_task_definition(
    cx: &Context,
    scope: &Scope,
    input: DeregisterTaskDefinitionRequest,
) -> Result<DeregisterTaskDefinitionResponse, ApiError> {
    let unknown = || {
        error::client_exception("The specified task definition does not exist.")
    };
    let given = input.task_definition.unwrap_or_default();
    let reference = Reference::parse(scope, &given).ok_or_else(unknown)?;
    let number = match reference.revision {
        Revision::Number(number) => number,
        Revision::Newest => {
            return Err(error::client_exception("Revision is missing."));
        }
        Revision::Wrong(text) => {
            return Err(error::invalid_parameter_exception(format!(
                "Invalid revision number. Number: {text}"
            )));
        }
    };
    let (family, scope) = (reference.family.to_owned(), scope.clone());
    let definition = cx
        .transact(move |tx| {
            let known = row(tx, &scope, &family, number).ok_or_else(unknown)?;
            let mut row = TaskDefinition::clone(&known);
            match row.definition.status {
                Some(TaskDefinitionStatus::Active) => {}
                // Done before: a retry changes nothing.
                Some(TaskDefinitionStatus::Inactive) => {
                    return Ok(row.definition);
                }
                Some(TaskDefinitionStatus::DeleteInProgress) | None => {
                    return Err(error::client_exception(
                        "The specified task definition is being deleted.",
                    ));
                }
            }
            row.definition.status = Some(TaskDefinitionStatus::Inactive);
            row.definition.deregistered_at = Some(scope.now);
            let answer = row.definition.clone();
            tx.put(row);
            Ok(answer)
        })
        .await?;
    Ok(DeregisterTaskDefinitionResponse { task_definition: Some(definition) })
}

pub(crate) async fn delete_task_definitions(
    cx: &Context,
    scope: &Scope,
    input: DeleteTaskDefinitionsRequest,
) -> Result<DeleteTaskDefinitionsResponse, ApiError> {
    let wanted = input.task_definitions.unwrap_or_default();
    if wanted.is_empty() {
        return Err(error::invalid_parameter_exception(
            "size of TaskDefinition references list must be greater than 0",
        ));
    }
    if wanted.len() > DELETE_MAX {
        return Err(error::invalid_parameter_exception(
            "Size of TaskDefinition references list cannot exceed 10",
        ));
    }
    let scope = scope.clone();
    cx.transact(move |tx| {
        let (mut deleted, mut failures) = (vec![], vec![]);
        for given in wanted {
            match delete(tx, &scope, &given) {
                Ok(definition) => deleted.push(definition),
                Err(reason) => failures.push(Failure {
                    arn: Some(given),
                    reason: Some(reason.to_owned()),
                    detail: None,
                }),
            }
        }
        Ok(DeleteTaskDefinitionsResponse {
            task_definitions: Some(deleted),
            failures: Some(failures),
        })
    })
    .await
}

/// Marks one revision; it goes when the last task that uses it has.
fn delete(
    tx: &mut Tx,
    scope: &Scope,
    given: &str,
) -> Result<ecs::TaskDefinition, &'static str> {
    let invalid = "The specified task definition identifier is invalid. \
                   Specify a valid name or ARN and try again.";
    let reference = Reference::parse(scope, given).ok_or(invalid)?;
    let Revision::Number(number) = reference.revision else {
        return Err(invalid);
    };
    let Some(known) = row(tx, scope, reference.family, number) else {
        return Err(
            "The specified task definition does not exist. Specify a valid \
             account, family, revision and try again.",
        );
    };
    if is_active(&known) {
        return Err(
            "The specified task definition is still in ACTIVE status. Please \
             deregister the target and try again.",
        );
    }
    let mut row = TaskDefinition::clone(&known);
    let status = Some(TaskDefinitionStatus::DeleteInProgress);
    if row.definition.status != status {
        row.definition.status = status;
        row.definition.delete_requested_at = Some(scope.now);
    }
    let answer = row.definition.clone();
    tx.put(row);
    Ok(answer)
}

#[cfg(test)]
mod tests;
