//! ExecuteCommand.

use minato_wire::ApiError;
use minato_wire::ecs::{
    Container, ExecuteCommandRequest, ExecuteCommandResponse, ManagedAgentName,
    Session, error,
};
use minato_wire::ssm_channel::PATH_PREFIX;

use super::super::lookup;
use super::find;
use super::session_logging::logging;
use crate::context::{Context, Scope};
use crate::sessions::exec::{BeginError, Target, new_token};
use crate::tables::{Host, Task};

/// How AWS says that a task was not started for this (troubleshooting page of
/// the developer guide, "ECS Exec").
const NOT_ENABLED: &str = "The execute command failed because execute command \
    was not enabled when the task was run or the execute command agent isn’t \
    running. Wait and try again or run a new task with execute command enabled \
    and try again.";

/// What a host's agent says that knows where S3 is.
const S3_CAPABILITY: &str = "ecs.capability.env-files.s3";

pub(crate) async fn execute_command(
    cx: &Context,
    scope: &Scope,
    input: ExecuteCommandRequest,
) -> Result<ExecuteCommandResponse, ApiError> {
    let rows = cx.snapshot();
    let cluster = lookup::cluster(&rows, scope, input.cluster.as_deref())?;
    // The model has only this form; AWS refuses the other.
    if input.interactive != Some(true) {
        return Err(error::invalid_parameter_exception(
            "Interactive is the only mode supported currently.",
        ));
    }
    let command = input.command.unwrap_or_default();
    if command.trim().is_empty() {
        return Err(error::invalid_parameter_exception(
            "Command cannot be empty.",
        ));
    }
    let given = input.task.as_deref().unwrap_or_default();
    let row = find(&rows, scope, &cluster.name, given).ok_or_else(|| {
        error::invalid_parameter_exception("The referenced task was not found.")
    })?;
    let container = container(&row, input.container.as_deref())?;
    check_running(&row, container)?;
    let host = Host::key_of(&row.account, &row.region, &row.host);
    let knows_s3 = rows
        .get::<Host>(&host)
        .is_some_and(|host| host.attributes.contains_key(S3_CAPABILITY));
    let configuration = cluster.configuration.as_ref();
    let logging = logging(
        configuration.and_then(|it| it.execute_command_configuration.as_ref()),
        knows_s3,
    )?;
    let name = container.name.clone().unwrap_or_default();
    let target = Target {
        account: row.account.clone(),
        region: row.region.clone(),
        host,
        task_arn: row.arn(),
        container: name.clone(),
        command,
        logging,
    };
    let session_id = format!("ecs-execute-command-{:032x}", cx.ids.uuid());
    let token = new_token(cx);
    let begun = cx.exec.begin(&session_id, &token, target, scope.now);
    begun.map_err(|error| match error {
        BeginError::NotConnected => error::target_not_connected_exception(
            "The execute command failed due to an internal error. Try again \
             later.",
        ),
        BeginError::TooMany => error::client_exception(
            "The execute command failed because the container has as many \
             sessions as it may have.",
        ),
    })?;
    Ok(ExecuteCommandResponse {
        cluster_arn: Some(cluster.arn()),
        container_arn: container.container_arn.clone(),
        container_name: Some(name),
        interactive: Some(true),
        task_arn: Some(row.arn()),
        session: Some(Session {
            stream_url: Some(stream_url(cx, scope, &session_id)),
            session_id: Some(session_id),
            token_value: Some(token),
        }),
    })
}

/// Where a client opens a session's data channel: at the server that it
/// called, as it called it.
pub(crate) fn stream_url(
    cx: &Context,
    scope: &Scope,
    session_id: &str,
) -> String {
    let configured = cx.config.poll_endpoint.as_str();
    let configured =
        configured.split_once("://").map_or(configured, |(_, rest)| rest);
    let host = scope.authority.as_deref().unwrap_or(configured);
    format!("ws://{host}{PATH_PREFIX}{session_id}?role=publish_subscribe")
}

/// The container meant: it need not be named where there is one only.
fn container<'a>(
    row: &'a Task,
    name: Option<&str>,
) -> Result<&'a Container, ApiError> {
    let all = row.task.containers.as_deref().unwrap_or_default();
    match (name.filter(|name| !name.is_empty()), all) {
        (Some(name), _) => all
            .iter()
            .find(|one| one.name.as_deref() == Some(name))
            .ok_or_else(|| {
                error::invalid_parameter_exception(format!(
                    "The execute command failed because the container name \
                     {name} was not found in the task."
                ))
            }),
        (None, [one]) => Ok(one),
        (None, _) => Err(error::invalid_parameter_exception(
            "The execute command failed because the task has more than one \
             container: specify a container name.",
        )),
    }
}

fn check_running(row: &Task, container: &Container) -> Result<(), ApiError> {
    let is_enabled = row.task.enable_execute_command == Some(true);
    let has_agent = container.managed_agents.iter().flatten().any(|agent| {
        agent.name == Some(ManagedAgentName::ExecuteCommandAgent)
            && agent.last_status.as_deref() == Some("RUNNING")
    });
    let is_running = container.last_status.as_deref() == Some("RUNNING");
    if !row.should_run() {
        return Err(error::invalid_parameter_exception(
            "The execute command failed because the task is not running.",
        ));
    }
    if !is_enabled || !has_agent {
        return Err(error::invalid_parameter_exception(NOT_ENABLED));
    }
    if !is_running {
        return Err(error::invalid_parameter_exception(
            "The execute command failed because the container is not running.",
        ));
    }
    Ok(())
}
