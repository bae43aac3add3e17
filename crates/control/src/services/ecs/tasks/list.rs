//! ListTasks.

use minato_wire::ApiError;
use minato_wire::ecs::{
    DesiredStatus, ListTasksRequest, ListTasksResponse, error,
};

use super::super::lookup::{self, resource_id};
use super::super::page::{Page, page};
use crate::context::{Context, Scope};
use crate::tables::{Cluster, DAEMON_PREFIX, Daemon, Task};

pub(crate) async fn list_tasks(
    cx: &Context,
    scope: &Scope,
    input: ListTasksRequest,
) -> Result<ListTasksResponse, ApiError> {
    let rows = cx.snapshot();
    let cluster = lookup::cluster(&rows, scope, input.cluster.as_deref())?;
    let filter = Filter::of(&input)?;
    if let Some(name) = input.daemon_name.as_deref() {
        let Scope { account, region, .. } = scope;
        let key = Daemon::key_of(account, region, &cluster.name, name);
        rows.get::<Daemon>(&key).ok_or_else(|| {
            error::service_not_found_exception("Daemon not found.")
        })?;
    }
    let service = match input.service_name.as_deref() {
        None => None,
        given => Some(lookup::service(&rows, &cluster, given)?),
    };
    let is_of_service = |row: &Task| {
        service.as_ref().is_none_or(|service| {
            row.service.as_ref().is_some_and(|of| of.id == service.id)
        })
    };
    let within = Cluster::key_of(&scope.account, &scope.region, &cluster.name);
    let matching = rows
        .scan::<Task>(&within)
        .filter(|row| filter.holds(row) && is_of_service(row))
        .map(|row| row.arn());
    let Page { items, next_token } = page(
        matching,
        |arn| arn.as_str(),
        input.max_results,
        input.next_token.as_deref(),
        100,
    )?;
    Ok(ListTasksResponse { task_arns: Some(items), next_token })
}

/// What a listed task must be.
struct Filter {
    instance: Option<String>,
    family: Option<String>,
    started_by: Option<String>,
    desired: DesiredStatus,
    launch_type: Option<minato_wire::ecs::LaunchType>,
    /// The task group of a daemon.
    daemon: Option<String>,
}

impl Filter {
    fn of(input: &ListTasksRequest) -> Result<Filter, ApiError> {
        let others = input.container_instance.is_some()
            || input.family.is_some()
            || input.service_name.is_some()
            || input.daemon_name.is_some();
        if input.started_by.is_some() && others {
            return Err(error::invalid_parameter_exception(
                "startedBy cannot be combined with other filters.",
            ));
        }
        let instance = match input.container_instance.as_deref() {
            None => None,
            Some(given) => Some(resource_id(given).ok_or_else(|| {
                error::invalid_parameter_exception(format!(
                    "Invalid identifier: {given}"
                ))
            })?),
        };
        Ok(Filter {
            instance,
            family: input.family.clone(),
            started_by: input.started_by.clone(),
            desired: input.desired_status.unwrap_or(DesiredStatus::Running),
            launch_type: input.launch_type,
            daemon: input
                .daemon_name
                .as_ref()
                .map(|name| format!("{DAEMON_PREFIX}{name}")),
        })
    }

    fn holds(&self, row: &Task) -> bool {
        let task = &row.task;
        let on_instance = self.instance.as_ref().is_none_or(|id| {
            let arn = task.container_instance_arn.as_deref();
            arn.is_some_and(|arn| arn.ends_with(id.as_str()))
        });
        let of_family =
            self.family.as_ref().is_none_or(|family| *family == row.family);
        let started = self
            .started_by
            .as_ref()
            .is_none_or(|by| task.started_by.as_ref() == Some(by));
        let launched = self
            .launch_type
            .is_none_or(|launch| task.launch_type == Some(launch));
        let of_daemon = self
            .daemon
            .as_ref()
            .is_none_or(|group| task.group.as_ref() == Some(group));
        task.desired_status.as_deref() == Some(self.desired.as_str())
            && on_instance
            && of_family
            && started
            && launched
            && of_daemon
    }
}
