//! Spot interruptions on request.

use std::sync::Arc;

use minato_store::Tx;
use minato_wire::ApiError;
use minato_wire::ecs::{TaskStopCode, error};
use minato_wire::minato::{
    InterruptSpotTasksRequest, InterruptSpotTasksResponse,
};

use crate::context::{Context, Scope};
use crate::services::ecs::lookup;
use crate::services::ecs::services::tasks_of;
use crate::services::ecs::tasks::{find, stop};
use crate::tables::{Cluster, Task};

/// The provider whose capacity may be taken back.
const SPOT: &str = "FARGATE_SPOT";
/// What AWS says of such a task (developer guide, "Amazon ECS clusters for
/// Fargate", Spot termination notices).
const REASON: &str = "Your Spot Task was interrupted.";

pub(crate) async fn interrupt_spot_tasks(
    cx: &Context,
    scope: &Scope,
    input: InterruptSpotTasksRequest,
) -> Result<InterruptSpotTasksResponse, ApiError> {
    let scope = scope.clone();
    let arns = cx
        .transact(move |tx| {
            let cluster =
                lookup::cluster(tx, &scope, input.cluster.as_deref())?;
            let victims = victims(tx, &scope, &cluster, &input)?;
            let mut arns = vec![];
            for victim in victims {
                let mut row = Task::clone(&victim);
                let code = TaskStopCode::SpotInterruption;
                if stop::begin(&mut row, code, REASON.to_owned(), scope.now) {
                    arns.push(row.arn());
                    tx.put(row);
                }
            }
            Ok(arns)
        })
        .await?;
    Ok(InterruptSpotTasksResponse { task_arns: Some(arns) })
}

/// The tasks that a call means: all on Spot capacity, none of which is
/// stopping anyway.
fn victims(
    tx: &Tx,
    scope: &Scope,
    cluster: &Cluster,
    input: &InterruptSpotTasksRequest,
) -> Result<Vec<Arc<Task>>, ApiError> {
    let invalid = |text: String| error::invalid_parameter_exception(text);
    let is_on_spot =
        |row: &Task| row.task.capacity_provider_name.as_deref() == Some(SPOT);
    let tasks = input.tasks.as_deref().unwrap_or_default();
    match (&input.service, tasks) {
        (Some(given), []) => {
            let service = lookup::service(tx, cluster, Some(given))?;
            let mut all = tasks_of(tx, &service);
            all.retain(|row| is_on_spot(row) && row.should_run());
            if all.is_empty() {
                return Err(invalid(format!(
                    "The service {} has no tasks on {SPOT}.",
                    service.name
                )));
            }
            all.sort_by_key(|row| row.task.created_at);
            let most = input.count.and_then(|most| usize::try_from(most).ok());
            all.truncate(most.unwrap_or(usize::MAX));
            Ok(all)
        }
        (None, [_, ..]) if input.count.is_none() => tasks
            .iter()
            .map(|given| {
                let row = find(tx, scope, &cluster.name, given)
                    .filter(|row| row.should_run())
                    .ok_or_else(|| {
                        invalid(format!("There is no running task {given}."))
                    })?;
                if is_on_spot(&row) {
                    return Ok(row);
                }
                Err(invalid(format!(
                    "The task {given} does not run on {SPOT}."
                )))
            })
            .collect(),
        _ => Err(invalid(
            "Either tasks, or a service with or without a count, can be \
             interrupted."
                .to_owned(),
        )),
    }
}
