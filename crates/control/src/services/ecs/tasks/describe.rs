//! DescribeTasks.

use minato_wire::ApiError;
use minato_wire::ecs::{
    DescribeTasksRequest, DescribeTasksResponse, TaskField, error,
};

use super::super::lookup;
use super::{find, missing};
use crate::context::{Context, Scope};
use crate::services::ecs_arn;

/// Most tasks one call may name (API reference, DescribeTasks).
const TASKS_MAX: usize = 100;

pub(crate) async fn describe_tasks(
    cx: &Context,
    scope: &Scope,
    input: DescribeTasksRequest,
) -> Result<DescribeTasksResponse, ApiError> {
    let rows = cx.snapshot();
    let cluster = lookup::cluster(&rows, scope, input.cluster.as_deref())?;
    let wanted = input.tasks.unwrap_or_default();
    if wanted.is_empty() {
        return Err(error::invalid_parameter_exception(
            "Tasks cannot be empty.",
        ));
    }
    if wanted.len() > TASKS_MAX {
        return Err(error::invalid_parameter_exception(format!(
            "Tasks cannot have more than {TASKS_MAX} elements."
        )));
    }
    let include = input.include.unwrap_or_default();
    let with_tags = include.contains(&TaskField::Tags);
    let mut tasks = vec![];
    let mut failures = vec![];
    for given in wanted {
        match find(&rows, scope, &cluster.name, &given) {
            Some(row) => {
                let mut task = row.task.clone();
                if !with_tags {
                    task.tags = Some(vec![]);
                }
                tasks.push(task);
            }
            None => {
                failures.push(missing(task_arn(scope, &cluster.name, given)))
            }
        }
    }
    Ok(DescribeTasksResponse { tasks: Some(tasks), failures: Some(failures) })
}

/// The ARN given, or one made of the id given.
fn task_arn(scope: &Scope, cluster: &str, given: String) -> String {
    if given.starts_with("arn:") {
        return given;
    }
    let rest = format!("task/{cluster}/{given}");
    ecs_arn(&scope.region, &scope.account, &rest)
}
