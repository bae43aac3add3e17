//! Task scale-in protection: GetTaskProtection, UpdateTaskProtection.

use std::sync::Arc;

use minato_wire::ecs::{
    Failure, GetTaskProtectionRequest, GetTaskProtectionResponse,
    ProtectedTask, UpdateTaskProtectionRequest, UpdateTaskProtectionResponse,
    error,
};
use minato_wire::{ApiError, Timestamp};

use super::super::lookup::{self, Read};
use super::super::tasks::{find, missing};
use super::tasks_of;
use crate::context::{Context, Scope};
use crate::services::ecs_arn;
use crate::tables::{Cluster, Service, Task};

/// The most tasks one GetTaskProtection names.
const GET_MAX: usize = 100;
/// The most tasks one UpdateTaskProtection names.
const UPDATE_MAX: usize = 10;
/// How long protection lasts where nothing is said, and at most, in minutes
/// (API reference, UpdateTaskProtection).
const MINUTES_DEFAULT: i32 = 120;
const MINUTES_MAX: i32 = 2880;

pub(crate) async fn get_task_protection(
    cx: &Context,
    scope: &Scope,
    input: GetTaskProtectionRequest,
) -> Result<GetTaskProtectionResponse, ApiError> {
    let rows = cx.snapshot();
    let cluster = lookup::cluster(&rows, scope, input.cluster.as_deref())?;
    let wanted = input.tasks.unwrap_or_default();
    check_count(&wanted, GET_MAX)?;
    let (mut tasks, mut failures) = (vec![], vec![]);
    if wanted.is_empty() {
        let within =
            Cluster::key_of(&scope.account, &scope.region, &cluster.name);
        let all = rows.rows::<Task>(&within);
        let running = all
            .iter()
            .filter(|task| task.service.is_some() && task.should_run());
        tasks.extend(running.map(|task| shown(task, scope.now)));
    }
    for given in wanted {
        match service_task(&rows, scope, &cluster, &given) {
            Ok(task) => tasks.push(shown(&task, scope.now)),
            Err(failure) => failures.push(failure),
        }
    }
    Ok(GetTaskProtectionResponse {
        protected_tasks: Some(tasks),
        failures: Some(failures),
    })
}

pub(crate) async fn update_task_protection(
    cx: &Context,
    scope: &Scope,
    input: UpdateTaskProtectionRequest,
) -> Result<UpdateTaskProtectionResponse, ApiError> {
    let wanted = input.tasks.clone().unwrap_or_default();
    if wanted.is_empty() {
        return Err(error::invalid_parameter_exception(
            "Tasks cannot be empty.",
        ));
    }
    check_count(&wanted, UPDATE_MAX)?;
    let is_enabled = input.protection_enabled == Some(true);
    let minutes = input.expires_in_minutes.unwrap_or(MINUTES_DEFAULT);
    if is_enabled && !(1..=MINUTES_MAX).contains(&minutes) {
        return Err(error::invalid_parameter_exception(format!(
            "expiresInMinutes must be between 1 and {MINUTES_MAX}."
        )));
    }
    let until = is_enabled
        .then(|| scope.now.plus_millis(i64::from(minutes) * 60 * 1000));
    let scope = scope.clone();
    cx.transact(move |tx| {
        let cluster = lookup::cluster(tx, &scope, input.cluster.as_deref())?;
        let (mut tasks, mut failures) = (vec![], vec![]);
        for given in &wanted {
            let found = service_task(tx, &scope, &cluster, given)
                .and_then(|task| may_protect(tx, &scope, task, until));
            match found {
                Ok(found) => {
                    let mut row = Task::clone(&found);
                    if let Some(of) = &mut row.service {
                        of.protected_until = until;
                    }
                    tasks.push(shown(&row, scope.now));
                    tx.put(row);
                }
                Err(failure) => failures.push(failure),
            }
        }
        Ok(UpdateTaskProtectionResponse {
            protected_tasks: Some(tasks),
            failures: Some(failures),
        })
    })
    .await
}

fn check_count(tasks: &[String], most: usize) -> Result<(), ApiError> {
    if tasks.len() <= most {
        return Ok(());
    }
    Err(error::invalid_parameter_exception(format!(
        "Tasks cannot have more than {most} elements."
    )))
}

/// A task of a service that should run; only those can be protected.
fn service_task(
    rows: &impl Read,
    scope: &Scope,
    cluster: &Cluster,
    given: &str,
) -> Result<Arc<Task>, Failure> {
    let arn = if given.starts_with("arn:") {
        given.to_owned()
    } else {
        let rest = format!("task/{}/{given}", cluster.name);
        ecs_arn(&scope.region, &scope.account, &rest)
    };
    let Some(task) = find(rows, scope, &cluster.name, given) else {
        return Err(missing(arn));
    };
    if task.service.is_none() || !task.should_run() {
        return Err(failure(&task, "TASK_NOT_VALID"));
    }
    Ok(task)
}

fn failure(task: &Task, reason: &str) -> Failure {
    Failure {
        arn: Some(task.arn()),
        reason: Some(reason.to_owned()),
        ..Default::default()
    }
}

/// More protected tasks than desired ones would keep a deployment from ever
/// reaching a steady state (developer guide, "Protect your Amazon ECS tasks
/// from being terminated by scale-in events").
fn may_protect(
    rows: &impl Read,
    scope: &Scope,
    task: Arc<Task>,
    until: Option<Timestamp>,
) -> Result<Arc<Task>, Failure> {
    let Some(of) = task.service.as_ref().filter(|_| until.is_some()) else {
        return Ok(task);
    };
    let Task { account, region, cluster, .. } = &*task;
    let key = Service::key_of(account, region, cluster, &of.name);
    let service = rows.row::<Service>(&key).filter(|row| row.id == of.id);
    let Some(service) = service else {
        return Err(failure(&task, "TASK_NOT_VALID"));
    };
    let others = tasks_of(rows, &service).into_iter().filter(|other| {
        other.id != task.id
            && other.should_run()
            && is_protected(other, scope.now)
    });
    let others = u32::try_from(others.count()).unwrap_or(u32::MAX);
    if others >= service.desired {
        return Err(failure(&task, "DEPLOYMENT_BLOCKED"));
    }
    Ok(task)
}

fn is_protected(task: &Task, now: Timestamp) -> bool {
    let of = task.service.as_ref();
    of.and_then(|of| of.protected_until).is_some_and(|until| until > now)
}

fn shown(task: &Task, now: Timestamp) -> ProtectedTask {
    let is_protected = is_protected(task, now);
    let of = task.service.as_ref();
    ProtectedTask {
        task_arn: Some(task.arn()),
        protection_enabled: Some(is_protected),
        expiration_date: of
            .and_then(|of| of.protected_until)
            .filter(|_| is_protected),
    }
}
