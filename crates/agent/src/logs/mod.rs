//! Where containers' output goes.
//!
//! The shim writes every container's output to files on the host, whatever
//! its log driver, so a container is never blocked by a slow reader and its
//! output outlives the agent. `json-file` *is* those files, with the sizes
//! the task definition gives; `none` keeps the least; `awslogs` is a pump
//! that reads them and sends them to CloudWatch Logs.

pub mod awslogs;
pub(crate) mod batch;
pub(crate) mod checkpoint;
#[cfg(test)]
mod tests;

use std::time::Duration;

use minato_wire::logs::{CreateLogGroupRequest, CreateLogStreamRequest};
use serde_json::Value;

use crate::api::{Api, ApiCallError, ApiService, call};
use crate::backoff::Backoff;
use crate::task::plan::{AwslogsPlan, LogPlan};

/// How long a container's start waits for CloudWatch Logs to be reachable.
const PREPARE_ATTEMPTS: u32 = 6;

/// Sees to it that the destination is there.
pub async fn prepare(api: &dyn Api, log: &LogPlan) -> Result<(), ApiCallError> {
    let LogPlan::Awslogs(plan) = log else { return Ok(()) };
    let mut backoff =
        Backoff::new(Duration::from_millis(250), Duration::from_secs(5), 2.0);
    for attempt in 1.. {
        match prepare_once(api, plan).await {
            Err(error)
                if error.is_transient() && attempt < PREPARE_ATTEMPTS =>
            {
                tokio::time::sleep(backoff.next_delay(0)).await;
            }
            result => return result,
        }
    }
    Ok(())
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
