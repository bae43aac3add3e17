//! Scale-in protection of the task that asks.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use minato_wire::Timestamp;
use minato_wire::ecs::{
    Failure, GetTaskProtectionRequest, GetTaskProtectionResponse,
    ProtectedTask, UpdateTaskProtectionRequest, UpdateTaskProtectionResponse,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Asker, Endpoint, method_not_allowed, respond};
use crate::api::{ApiCallError, ApiService, call};

/// Upstream's patience with the control plane.
const PATIENCE: Duration = Duration::from_secs(4);

/// The body of an update.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Update {
    protection_enabled: Option<bool>,
    expires_in_minutes: Option<i32>,
}

type Answer = (Option<Vec<ProtectedTask>>, Option<Vec<Failure>>);

impl Endpoint {
    pub(super) async fn answer_protection(
        &self,
        asker: &Asker,
        request: &Request<Bytes>,
    ) -> Response<Bytes> {
        let arn = &asker.task.arn;
        let cluster = Some(asker.plan.cluster_arn.clone());
        let tasks = Some(vec![arn.clone()]);
        let asked = if request.method() == Method::GET {
            let input = GetTaskProtectionRequest { cluster, tasks };
            tokio::time::timeout(PATIENCE, self.protection(&input)).await
        } else if request.method() == Method::PUT {
            let update = match read_update(request.body()) {
                Ok(update) => update,
                Err(message) => return invalid(arn, message),
            };
            let input = UpdateTaskProtectionRequest {
                cluster,
                tasks,
                protection_enabled: update.protection_enabled,
                expires_in_minutes: update.expires_in_minutes,
            };
            tokio::time::timeout(PATIENCE, self.protect(&input)).await
        } else {
            return method_not_allowed();
        };
        match asked {
            Ok(Ok(answer)) => answered(arn, answer),
            Ok(Err(error)) => failed(arn, &error),
            Err(_) => {
                let status = StatusCode::GATEWAY_TIMEOUT;
                let message = "Timed out calling ECS Task Protection API";
                refusal(status, arn, "RequestCanceled", message)
            }
        }
    }

    async fn protection(
        &self,
        input: &GetTaskProtectionRequest,
    ) -> Result<Answer, ApiCallError> {
        let services = &self.services;
        let (api, region) = (&*services.api, &services.config.region);
        let operation = "GetTaskProtection";
        let output: GetTaskProtectionResponse =
            call(api, ApiService::Ecs, region, operation, input).await?;
        Ok((output.protected_tasks, output.failures))
    }

    async fn protect(
        &self,
        input: &UpdateTaskProtectionRequest,
    ) -> Result<Answer, ApiCallError> {
        let services = &self.services;
        let (api, region) = (&*services.api, &services.config.region);
        let operation = "UpdateTaskProtection";
        let output: UpdateTaskProtectionResponse =
            call(api, ApiService::Ecs, region, operation, input).await?;
        Ok((output.protected_tasks, output.failures))
    }
}

fn read_update(body: &[u8]) -> Result<Update, &'static str> {
    let update: Update = serde_json::from_slice(body)
        .map_err(|_| "UpdateTaskProtection: failed to decode request")?;
    if update.protection_enabled.is_none() {
        return Err(
            "Invalid request: does not contain 'ProtectionEnabled' field",
        );
    }
    Ok(update)
}

fn answered(arn: &str, (protected, failures): Answer) -> Response<Bytes> {
    if let Some(failure) = failures.into_iter().flatten().next() {
        let body = json!({"failure": {
            "Arn": failure.arn,
            "Detail": failure.detail,
            "Reason": failure.reason,
        }});
        return respond(StatusCode::OK, &body);
    }
    let Some(protected) = protected.into_iter().flatten().next() else {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        let message = "Unexpected error occurred";
        return refusal(status, arn, "ServerException", message);
    };
    let body = json!({"protection": {
        "ExpirationDate": protected.expiration_date.map(Timestamp::to_iso),
        "ProtectionEnabled": protected.protection_enabled.unwrap_or(false),
        "TaskArn": protected.task_arn,
    }});
    respond(StatusCode::OK, &body)
}

fn failed(arn: &str, error: &ApiCallError) -> Response<Bytes> {
    match &error.code {
        Some(code) => {
            let status = if error.is_transient() {
                StatusCode::INTERNAL_SERVER_ERROR
            } else {
                StatusCode::BAD_REQUEST
            };
            refusal(status, arn, code, &error.message)
        }
        None => {
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            refusal(status, arn, "ServerException", &error.message)
        }
    }
}

fn invalid(arn: &str, message: &str) -> Response<Bytes> {
    let code = "InvalidParameterException";
    refusal(StatusCode::BAD_REQUEST, arn, code, message)
}

pub(super) fn unknown_container() -> Response<Bytes> {
    let message = "Failed to find a task for the request";
    let code = "ResourceNotFoundException";
    refusal(StatusCode::NOT_FOUND, "", code, message)
}

fn refusal(
    status: StatusCode,
    arn: &str,
    code: &str,
    message: &str,
) -> Response<Bytes> {
    let mut error = json!({"Code": code, "Message": message});
    if !arn.is_empty() {
        error["Arn"] = Value::from(arn);
    }
    respond(status, &json!({"error": error}))
}
