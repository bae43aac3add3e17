//! Container instances: listed, described, drained, deregistered.

use std::sync::Arc;

use minato_core::placement::{Candidate, Groups};
use minato_core::query::Expression;
use minato_core::status::{InstanceEvent, InstanceStatus};
use minato_store::{Key, Snapshot, Tx};
use minato_wire::ApiError;
use minato_wire::ecs::{
    ContainerInstanceField, ContainerInstanceStatus,
    DeregisterContainerInstanceRequest, DeregisterContainerInstanceResponse,
    DescribeContainerInstancesRequest, DescribeContainerInstancesResponse,
    Failure, LaunchType, ListContainerInstancesRequest,
    ListContainerInstancesResponse, TaskStopCode,
    UpdateContainerInstancesStateRequest,
    UpdateContainerInstancesStateResponse, error,
};

use super::lookup::{self, Read};
use super::page::page;
use super::tasks::{missing, report, stop};
use super::view::{self, ReadIndex};
use crate::context::{Context, Scope};
use crate::services::ec2;
use crate::services::ecs_arn;
use crate::tables::{Cluster, ContainerInstance, Host, Task};

/// The most instances one call describes, and one page lists.
const INSTANCES_MAX: usize = 100;

/// The most instances whose state one call changes.
const UPDATE_MAX: usize = 10;

/// The row that an id or ARN means in a cluster.
pub(super) fn find(
    rows: &impl Read,
    scope: &Scope,
    cluster: &str,
    given: &str,
) -> Option<Arc<ContainerInstance>> {
    let named = given
        .split_once(":container-instance/")
        .and_then(|(_, resource)| resource.split_once('/'));
    if named.is_some_and(|(named, _)| named != cluster) {
        return None;
    }
    let id = lookup::resource_id(given)?;
    let (account, region) = (&scope.account, &scope.region);
    rows.row(&ContainerInstance::key_of(account, region, cluster, &id))
}

/// The ARN given, or one made of the id given.
fn arn(scope: &Scope, cluster: &str, given: &str) -> String {
    if given.starts_with("arn:") {
        return given.to_owned();
    }
    let rest = format!("container-instance/{cluster}/{given}");
    ecs_arn(&scope.region, &scope.account, &rest)
}

fn within(cluster: &Cluster) -> Key {
    Key::of([&cluster.account, &cluster.region, &cluster.name])
}

pub(crate) async fn list_container_instances(
    cx: &Context,
    scope: &Scope,
    input: ListContainerInstancesRequest,
) -> Result<ListContainerInstancesResponse, ApiError> {
    let rows = cx.snapshot();
    let cluster = lookup::cluster(&rows, scope, input.cluster.as_deref())?;
    let filter = match input.filter.as_deref() {
        None | Some("") => None,
        Some(source) => Some(Expression::parse(source).map_err(|broken| {
            error::invalid_parameter_exception(format!(
                "Invalid filter expression: {broken}"
            ))
        })?),
    };
    let status = input.status.map(ContainerInstanceStatus::as_str);
    let listed = rows
        .scan::<ContainerInstance>(&within(&cluster))
        .filter(|row| match status {
            Some(status) => row.status == status,
            None => row.status != InstanceStatus::Inactive.as_str(),
        })
        .filter(|row| {
            let holds =
                |filter: &Expression| filter.matches(&candidate(&rows, row));
            filter.as_ref().is_none_or(holds)
        })
        .map(|row| row.arn());
    let found = page(
        listed,
        |arn| arn.as_str(),
        input.max_results,
        input.next_token.as_deref(),
        INSTANCES_MAX,
    )?;
    Ok(ListContainerInstancesResponse {
        container_instance_arns: Some(found.items),
        next_token: found.next_token,
    })
}

/// What a filter can ask about an instance.
fn candidate(rows: &Snapshot, row: &ContainerInstance) -> Candidate {
    let key = Host::key_of(&row.account, &row.region, &row.host);
    let host = rows.get::<Host>(&key);
    let mut groups = Groups::default();
    let mut running = 0;
    for task in own_tasks(rows, row) {
        running += i64::from(task.last_status() == "RUNNING");
        groups.add(task.task.group.as_deref().unwrap_or_default());
    }
    let attributes = row
        .attributes
        .iter()
        .chain(&row.custom_attributes)
        .filter_map(|attribute| {
            let value = attribute.value.clone().unwrap_or_default();
            Some((attribute.name.clone()?, value))
        })
        .collect();
    Candidate {
        arn: row.arn(),
        host: 0,
        agent_connected: host.is_some_and(|host| host.is_connected),
        agent_version: row
            .version_info
            .as_ref()
            .and_then(|info| info.agent_version.clone()),
        ec2_instance_id: Some(row.ec2_instance_id.clone()),
        registered_at: row.registered_at,
        attributes: Arc::new(attributes),
        groups,
        running_tasks: running,
    }
}

/// The tasks of an instance that are not stopped; Fargate's, which only
/// share its host, are not its own.
fn own_tasks(
    rows: &impl ReadIndex,
    row: &ContainerInstance,
) -> impl Iterator<Item = Arc<Task>> {
    let cluster = row.cluster.clone();
    rows.tasks_on(&row.account, &row.region, &row.host).into_iter().filter(
        move |task| {
            task.cluster == cluster
                && task.task.launch_type != Some(LaunchType::Fargate)
        },
    )
}

pub(crate) async fn describe_container_instances(
    cx: &Context,
    scope: &Scope,
    input: DescribeContainerInstancesRequest,
) -> Result<DescribeContainerInstancesResponse, ApiError> {
    let rows = cx.snapshot();
    let cluster = lookup::cluster(&rows, scope, input.cluster.as_deref())?;
    let wanted = input.container_instances.unwrap_or_default();
    if wanted.is_empty() {
        return Err(error::client_exception(
            "Container Instances cannot be empty.",
        ));
    }
    if wanted.len() > INSTANCES_MAX {
        return Err(error::invalid_parameter_exception(format!(
            "Container Instances cannot have more than {INSTANCES_MAX} \
             elements."
        )));
    }
    let include = input.include.unwrap_or_default();
    let (mut found, mut failures) = (vec![], vec![]);
    for given in wanted {
        match find(&rows, scope, &cluster.name, &given) {
            Some(row) => {
                let mut shown = view::container_instance(&rows, &row);
                if !include.contains(&ContainerInstanceField::Tags) {
                    shown.tags = Some(vec![]);
                }
                found.push(shown);
            }
            None => failures.push(missing(arn(scope, &cluster.name, &given))),
        }
    }
    Ok(DescribeContainerInstancesResponse {
        container_instances: Some(found),
        failures: Some(failures),
    })
}

/// Moves an instance's status, which the store keeps as text.
fn step(
    row: &mut ContainerInstance,
    event: InstanceEvent,
) -> Result<(), String> {
    let status = row
        .status
        .parse::<InstanceStatus>()
        .map_err(|error| error.to_string())?;
    let next = status.step(event).map_err(|error| error.to_string())?;
    if next != status {
        row.status = next.to_string();
        row.version += 1;
    }
    Ok(())
}

pub(crate) async fn update_container_instances_state(
    cx: &Context,
    scope: &Scope,
    input: UpdateContainerInstancesStateRequest,
) -> Result<UpdateContainerInstancesStateResponse, ApiError> {
    let event = match input.status {
        Some(ContainerInstanceStatus::Active) => InstanceEvent::Activate,
        Some(ContainerInstanceStatus::Draining) => InstanceEvent::Drain,
        Some(
            ContainerInstanceStatus::Registering
            | ContainerInstanceStatus::Deregistering
            | ContainerInstanceStatus::RegistrationFailed,
        )
        | None => {
            return Err(error::invalid_parameter_exception(
                "Container instance status should be one of [ACTIVE, \
                 DRAINING]",
            ));
        }
    };
    let wanted = input.container_instances.unwrap_or_default();
    if wanted.is_empty() || wanted.len() > UPDATE_MAX {
        return Err(error::invalid_parameter_exception(format!(
            "Container instances must have between 1 and {UPDATE_MAX} \
             elements."
        )));
    }
    let scope = scope.clone();
    cx.transact(move |tx| {
        let cluster = lookup::cluster(tx, &scope, input.cluster.as_deref())?;
        let (mut changed, mut failures) = (vec![], vec![]);
        for given in wanted {
            let Some(known) = find(tx, &scope, &cluster.name, &given) else {
                let arn = arn(&scope, &cluster.name, &given);
                failures.push(missing(arn));
                continue;
            };
            let mut row = ContainerInstance::clone(&known);
            if step(&mut row, event).is_err() {
                failures.push(Failure {
                    arn: Some(row.arn()),
                    reason: Some("INACTIVE".to_owned()),
                    detail: None,
                });
                continue;
            }
            tx.put(row.clone());
            changed.push(view::container_instance(tx, &row));
        }
        Ok(UpdateContainerInstancesStateResponse {
            container_instances: Some(changed),
            failures: Some(failures),
        })
    })
    .await
}

pub(crate) async fn deregister_container_instance(
    cx: &Context,
    scope: &Scope,
    input: DeregisterContainerInstanceRequest,
) -> Result<DeregisterContainerInstanceResponse, ApiError> {
    let scope = scope.clone();
    let force = input.force == Some(true);
    let given = input.container_instance.unwrap_or_default();
    let shown = cx
        .transact(move |tx| {
            let cluster =
                lookup::cluster(tx, &scope, input.cluster.as_deref())?;
            let known = find(tx, &scope, &cluster.name, &given);
            let Some(known) = known else {
                return Err(error::invalid_parameter_exception(
                    "The referenced container instance was not found.",
                ));
            };
            let mut row = ContainerInstance::clone(&known);
            // The agent goes with its registration, and with it Fargate's
            // tasks on the same host.
            let tasks = tx.tasks_on(&row.account, &row.region, &row.host);
            if !force && !tasks.is_empty() {
                return Err(error::invalid_parameter_exception(
                    "Found running tasks on the instance.",
                ));
            }
            for task in tasks {
                orphan(tx, &scope, &task);
            }
            step(&mut row, InstanceEvent::Deregistered).map_err(|why| {
                error::server_exception("Service Unavailable.")
                    .with_internal(why)
            })?;
            tx.delete::<Host>(&Host::key_of(
                &row.account,
                &row.region,
                &row.host,
            ));
            tx.put(row.clone());
            Ok(view::container_instance(tx, &row))
        })
        .await?;
    Ok(DeregisterContainerInstanceResponse { container_instance: Some(shown) })
}

/// ECS loses sight of a task at once; nobody will report on it any more.
fn orphan(tx: &mut Tx, scope: &Scope, task: &Task) {
    let mut row = task.clone();
    let reason = "Container instance deregistration forced by user";
    let code = TaskStopCode::TerminationNotice;
    stop::begin(&mut row, code, reason.to_owned(), scope.now);
    if let Some(id) = row.network_interface.take() {
        ec2::eni::release_eni(tx, &row.account, &row.region, &id);
    }
    report::ended(&mut row, scope.now);
    report::keep(tx, row);
}

#[cfg(test)]
pub(super) mod tests;
