//! StopTask, and the stop that others decide.

use minato_core::status::{TaskEvent, TaskStatus};
use minato_wire::ecs::{
    StopTaskRequest, StopTaskResponse, TaskStopCode, error,
};
use minato_wire::{ApiError, Timestamp};

use super::super::lookup;
use super::find;
use crate::context::{Context, Scope};
use crate::tables::Task;

/// Longest reason kept; the rest is cut, as `reason` members elsewhere are.
const REASON_MAX: usize = 1024;

pub(crate) async fn stop_task(
    cx: &Context,
    scope: &Scope,
    input: StopTaskRequest,
) -> Result<StopTaskResponse, ApiError> {
    let scope = scope.clone();
    let task = cx
        .transact(move |tx| {
            let cluster =
                lookup::cluster(tx, &scope, input.cluster.as_deref())?;
            let given = input.task.as_deref().unwrap_or_default();
            let found =
                find(tx, &scope, &cluster.name, given).ok_or_else(|| {
                    error::invalid_parameter_exception(
                        "The referenced task was not found.",
                    )
                })?;
            let mut row = Task::clone(&found);
            let reason = input
                .reason
                .filter(|reason| !reason.is_empty())
                .unwrap_or_else(|| "Task stopped by user".to_owned());
            let reason: String = reason.chars().take(REASON_MAX).collect();
            if begin(&mut row, TaskStopCode::UserInitiated, reason, scope.now) {
                tx.put(row.clone());
            }
            // The answer shows the decision, and the status of before.
            let mut task = row.task;
            task.last_status = found.task.last_status.clone();
            Ok(task)
        })
        .await?;
    Ok(StopTaskResponse { task: Some(task) })
}

/// Decides that a task stops; `false` where that was decided before.
pub(crate) fn begin(
    row: &mut Task,
    code: TaskStopCode,
    reason: String,
    now: Timestamp,
) -> bool {
    if !row.should_run() {
        return false;
    }
    let Ok(status) = row.last_status().parse::<TaskStatus>() else {
        return false;
    };
    let Ok(next) = status.step(TaskEvent::StopBegun) else { return false };
    let task = &mut row.task;
    task.desired_status = Some("STOPPED".to_owned());
    task.last_status = Some(next.as_str().to_owned());
    task.stop_code = Some(code);
    task.stopped_reason = Some(reason);
    task.stopping_at = Some(now);
    task.version = Some(task.version.unwrap_or(0) + 1);
    true
}
