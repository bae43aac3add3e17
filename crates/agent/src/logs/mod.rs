//! Where containers' output goes.
//!
//! The shim writes every container's output to files on the host, whatever
//! its log driver, so it outlives the agent, and a slow reader is felt late: in
//! mode `non-blocking` the oldest lines beyond its buffer's size go, and in
//! mode `blocking` the container waits when much is unread. What reads those
//! files and sends them on is a [`Pump`]: `awslogs` to CloudWatch Logs, `ship` as
//! records to Fluentd, a task's own log router (`firelens`), syslog, GELF, the
//! journal, and to files as Docker writes them. `none` keeps the least.

pub mod awslogs;
pub(crate) mod batch;
pub(crate) mod checkpoint;
pub(crate) mod connection;
mod files;
pub(crate) mod firelens;
mod forward;
mod gelf;
pub(crate) mod journal;
mod json_line;
mod pump;
mod record;
mod ship;
#[cfg(test)]
mod ship_tests;
pub(crate) mod syslog;
pub mod tag;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use minato_wire::logs::{CreateLogGroupRequest, CreateLogStreamRequest};
use serde_json::Value;

pub use self::connection::SendLogError;
use self::connection::{Connection, Destination};
pub use self::pump::Pump;
use self::record::Writer;
use self::ship::Shipment;
use crate::api::{Api, ApiCallError, ApiService, call};
use crate::backoff::patiently;
use crate::steps::{ContainerContext, socket_dir};
use crate::task::plan::{AwslogsPlan, LogPlan, RemotePlan};
use crate::task::record::ContainerFacts;

/// How long a container's start waits for CloudWatch Logs to be reachable.
const PREPARE_ATTEMPTS: u32 = 6;
/// Waits between them: the first and the longest.
const PREPARE_WAITS: [Duration; 2] =
    [Duration::from_millis(250), Duration::from_secs(5)];

/// Why a container's output has nowhere to go.
#[derive(Debug, thiserror::Error)]
pub enum PrepareLogError {
    /// CloudWatch Logs said no.
    #[error(transparent)]
    Api(#[from] ApiCallError),
    /// The receiver cannot be reached.
    #[error(transparent)]
    Receiver(#[from] SendLogError),
}

/// Sees to it that the destination is there.
pub(crate) async fn prepare(
    cx: &ContainerContext,
) -> Result<(), PrepareLogError> {
    match &cx.plan.log {
        LogPlan::Awslogs(plan) => {
            Ok(prepare_awslogs(&*cx.task.services.api, plan).await?)
        }
        LogPlan::Remote(plan) if plan.must_connect => {
            Connection::open(&destination(cx, plan)).await?;
            Ok(())
        }
        LogPlan::Remote(_) | LogPlan::JsonFile { .. } | LogPlan::None => Ok(()),
    }
}

/// Starts sending a container's log, where there is somewhere to send it.
/// `is_resumed` says that an earlier pump may have sent some of it.
pub(crate) fn pump(
    cx: &ContainerContext,
    facts: &ContainerFacts,
    is_resumed: bool,
) -> Option<Pump> {
    let services = Arc::clone(&cx.task.services);
    let container_id = cx.plan.id.clone();
    let checkpoint = cx.task.dir.join("logs").join(&cx.plan.name);
    let (plan, keeps_log) = match &cx.plan.log {
        LogPlan::Awslogs(plan) => {
            return Some(awslogs::spawn(
                services,
                plan.clone(),
                container_id,
                checkpoint,
                is_resumed,
            ));
        }
        LogPlan::Remote(plan) => (plan, false),
        LogPlan::JsonFile { lines: Some(plan), .. } => (plan, true),
        LogPlan::JsonFile { lines: None, .. } | LogPlan::None => return None,
    };
    let shipment = Shipment {
        writer: Writer::of(cx, facts, plan),
        to: destination(cx, plan),
        plan: (**plan).clone(),
        container_id,
        checkpoint,
        keeps_log,
        is_resumed,
    };
    Some(ship::spawn(services, shipment))
}

fn destination(cx: &ContainerContext, plan: &RemotePlan) -> Destination {
    // A container's name has no dot: no other one's place has this name.
    let file = format!("logs/{}.json.log", cx.plan.name);
    Destination {
        address: plan.address.clone(),
        router_dir: socket_dir(&cx.task),
        file: cx.task.dir.join(file),
    }
}

async fn prepare_awslogs(
    api: &dyn Api,
    plan: &AwslogsPlan,
) -> Result<(), ApiCallError> {
    let is_transient = ApiCallError::is_transient;
    patiently(PREPARE_ATTEMPTS, PREPARE_WAITS, is_transient, || {
        prepare_once(api, plan)
    })
    .await
}

async fn prepare_once(
    api: &dyn Api,
    plan: &AwslogsPlan,
) -> Result<(), ApiCallError> {
    match create_stream(api, plan).await {
        Err(error)
            if error.is("ResourceNotFoundException") && plan.create_group =>
        {
            create_group(api, plan).await?;
            create_stream(api, plan).await
        }
        result => result,
    }
}

/// Something that is there already is as good as made.
fn or_exists<T>(result: Result<T, ApiCallError>) -> Result<(), ApiCallError> {
    match result {
        Err(error) if !error.is("ResourceAlreadyExistsException") => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

async fn create_stream(
    api: &dyn Api,
    plan: &AwslogsPlan,
) -> Result<(), ApiCallError> {
    let input = CreateLogStreamRequest {
        log_group_name: Some(plan.group.clone()),
        log_stream_name: Some(plan.stream.clone()),
    };
    let result: Result<Value, _> =
        call(api, ApiService::Logs, &plan.region, "CreateLogStream", &input)
            .await;
    or_exists(result)
}

async fn create_group(
    api: &dyn Api,
    plan: &AwslogsPlan,
) -> Result<(), ApiCallError> {
    let input = CreateLogGroupRequest {
        log_group_name: Some(plan.group.clone()),
        ..CreateLogGroupRequest::default()
    };
    let result: Result<Value, _> =
        call(api, ApiService::Logs, &plan.region, "CreateLogGroup", &input)
            .await;
    or_exists(result)
}
