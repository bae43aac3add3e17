//! The Submit* calls, by which agents report.

use minato_wire::ApiError;
use minato_wire::ecs::{
    ContainerStateChange, SubmitAttachmentStateChangesRequest,
    SubmitAttachmentStateChangesResponse, SubmitContainerStateChangeRequest,
    SubmitContainerStateChangeResponse, SubmitTaskStateChangeRequest,
    SubmitTaskStateChangeResponse, error,
};

use super::super::{lookup, services::pinned};
use super::find;
use super::report::{Report, apply, keep};
use crate::context::{Context, Scope};
use crate::tables::{Task, TaskDefinition};

/// What every accepted report is answered with.
const ACKNOWLEDGMENT: &str = "ACK";

pub(crate) async fn submit_task_state_change(
    cx: &Context,
    scope: &Scope,
    input: SubmitTaskStateChangeRequest,
) -> Result<SubmitTaskStateChangeResponse, ApiError> {
    let report = Report {
        status: input.status,
        reason: input.reason,
        containers: input.containers.unwrap_or_default(),
        managed_agents: input.managed_agents.unwrap_or_default(),
        pull_started_at: input.pull_started_at,
        pull_stopped_at: input.pull_stopped_at,
        execution_stopped_at: input.execution_stopped_at,
    };
    take(cx, scope, input.cluster, input.task, report).await?;
    Ok(SubmitTaskStateChangeResponse {
        acknowledgment: Some(ACKNOWLEDGMENT.to_owned()),
    })
}

pub(crate) async fn submit_container_state_change(
    cx: &Context,
    scope: &Scope,
    input: SubmitContainerStateChangeRequest,
) -> Result<SubmitContainerStateChangeResponse, ApiError> {
    let change = ContainerStateChange {
        container_name: input.container_name,
        exit_code: input.exit_code,
        network_bindings: input.network_bindings,
        reason: input.reason,
        runtime_id: input.runtime_id,
        status: input.status,
        ..Default::default()
    };
    let report = Report { containers: vec![change], ..Report::default() };
    take(cx, scope, input.cluster, input.task, report).await?;
    Ok(SubmitContainerStateChangeResponse {
        acknowledgment: Some(ACKNOWLEDGMENT.to_owned()),
    })
}

/// Attachments are the control plane's own doing here (see the `provision`
/// reconciler), so a confirmation that one is attached changes nothing; it is
/// checked all the same, because a report about nothing is a mistake.
pub(crate) async fn submit_attachment_state_changes(
    cx: &Context,
    scope: &Scope,
    input: SubmitAttachmentStateChangesRequest,
) -> Result<SubmitAttachmentStateChangesResponse, ApiError> {
    lookup::cluster(&cx.snapshot(), scope, input.cluster.as_deref())?;
    Ok(SubmitAttachmentStateChangesResponse {
        acknowledgment: Some(ACKNOWLEDGMENT.to_owned()),
    })
}

async fn take(
    cx: &Context,
    scope: &Scope,
    cluster: Option<String>,
    task: Option<String>,
    report: Report,
) -> Result<(), ApiError> {
    // The time of the report, not of the first try of a retried call.
    let now = cx.clock.now();
    let scope = scope.clone();
    cx.transact(move |tx| {
        // An agent reports with the cluster it is registered in, the task
        // may be of another (Fargate): the ARN says which.
        let given = task.as_deref().unwrap_or_default();
        let named = given
            .split_once(":task/")
            .and_then(|(_, rest)| rest.split_once('/'))
            .map(|(cluster, _)| cluster.to_owned());
        let name = named.as_deref().or(cluster.as_deref());
        let name = lookup::cluster_name(name).to_owned();
        let found = find(tx, &scope, &name, given).ok_or_else(|| {
            error::invalid_parameter_exception(
                "The referenced task was not found.",
            )
        })?;
        let key = TaskDefinition::key_of(
            &found.account,
            &found.region,
            &found.family,
            found.revision,
        );
        let definition = tx.get::<TaskDefinition>(&key);
        let is_essential = |name: &str| {
            let containers = definition
                .as_ref()
                .and_then(|row| row.definition.container_definitions.as_ref());
            containers.is_none_or(|all| {
                all.iter()
                    .filter(|one| one.name.as_deref() == Some(name))
                    .all(|one| one.essential.unwrap_or(true))
            })
        };
        let mut row = Task::clone(&found);
        if apply(&mut row, report, is_essential, now) {
            if let Some(definition) = &definition {
                pinned::learn(tx, &row, &definition.definition);
            }
            keep(tx, row);
        }
        Ok(())
    })
    .await
}
