//! Tasks: started, described, stopped, reported on.

pub(crate) mod capacity;
mod describe;
mod exec;
pub(crate) mod launch;
mod list;
pub(crate) mod place;
pub(crate) mod report;
pub(crate) mod run;
mod session_logging;
pub(crate) mod stop;
mod submit;
pub(crate) mod subnets;
pub(crate) mod volumes;

pub(crate) use describe::describe_tasks;
pub(crate) use exec::{execute_command, stream_url};
pub(crate) use list::list_tasks;
pub(crate) use run::{run_task, start_task};
pub(crate) use stop::stop_task;
pub(crate) use submit::{
    submit_attachment_state_changes, submit_container_state_change,
    submit_task_state_change,
};

use std::sync::Arc;

use minato_wire::ecs;

use super::lookup::{Read, resource_id};
use crate::context::Scope;
use crate::tables::Task;

/// The task that an id or ARN means in a cluster.
pub(crate) fn find(
    rows: &impl Read,
    scope: &Scope,
    cluster: &str,
    given: &str,
) -> Option<Arc<Task>> {
    if !belongs(given, cluster) {
        return None;
    }
    let id = resource_id(given)?;
    rows.row(&Task::key_of(&scope.account, &scope.region, cluster, &id))
}

/// Whether an ARN's cluster, if it names one, is `cluster`.
fn belongs(given: &str, cluster: &str) -> bool {
    let Some((_, resource)) = given.split_once(":task/") else {
        return true; // a bare id
    };
    match resource.split_once('/') {
        Some((named, _)) => named == cluster,
        None => true, // the short ARN of old
    }
}

/// A failure entry for something that is not there.
pub(super) fn missing(arn: String) -> ecs::Failure {
    ecs::Failure {
        arn: Some(arn),
        reason: Some("MISSING".to_owned()),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests;
