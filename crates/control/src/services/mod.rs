//! One folder for each AWS service, one file for each resource in it.
//!
//! A service is its `operations!` list: each operation with its handler and
//! its verdict, or with the reason why it is refused.

mod common;
pub(crate) mod ec2;
pub(crate) mod ecs;
pub(crate) mod iam;
pub(crate) mod logs;
pub(crate) mod minato;
pub(crate) mod secretsmanager;
mod ssm;
pub(crate) mod sts;

use std::sync::Arc;

use minato_store::Tables;
use minato_wire::ApiError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use common::{
    Empty, ecs_arn, open_token, partition_of, root_arn, seal_token,
};

use crate::call::{Call, Credential, EventStream};
use crate::context::{Context, Scope};
use crate::coverage::{ServiceCoverage, Support};

/// Declares a service: verdicts and dispatch in one list, so that they cannot
/// disagree. `served` operations name their handler; `refused` ones say why.
macro_rules! operations {
    (
        served { $($name:literal, $support:expr => $handler:path;)* }
        refused { $($refused:literal: $why:expr;)* }
    ) => {
        /// Every operation with its verdict.
        pub(crate) const COVERAGE: &[(&str, $crate::coverage::Support)] = &[
            $(($name, $support),)*
            $(($refused, $crate::coverage::Support::Refused($why)),)*
        ];

        /// Calls the handler of an operation.
        pub(crate) async fn dispatch(
            cx: &$crate::context::Context,
            scope: &$crate::context::Scope,
            operation: &str,
            input: ::serde_json::Value,
        ) -> Result<::serde_json::Value, ::minato_wire::ApiError> {
            match operation {
                $($name => {
                    let input = $crate::services::typed(input)?;
                    // Boxed: one future for all handlers would be as large
                    // as the largest of them.
                    let output = Box::pin($handler(cx, scope, input)).await?;
                    $crate::services::answer(&output)
                })*
                _ => Err(unserved($crate::services::reason(
                    COVERAGE, operation,
                ))),
            }
        }
    };
}
pub(crate) use operations;

/// Dispatches a call to its service.
pub(crate) async fn dispatch(
    cx: &Context,
    call: Call,
) -> Result<Value, ApiError> {
    let scope = Scope::of(&call);
    let name = call.operation.name;
    match call.service.name {
        "ecs" => ecs::dispatch(cx, &scope, name, call.input).await,
        "ec2" => ec2::dispatch(cx, &scope, name, call.input).await,
        "iam" => iam::dispatch(cx, &scope, name, call.input).await,
        "logs" => logs::dispatch(cx, &scope, name, call.input).await,
        "minato" => minato::dispatch(cx, &scope, name, call.input).await,
        "secretsmanager" => {
            secretsmanager::dispatch(cx, &scope, name, call.input).await
        }
        "ssm" => ssm::dispatch(cx, &scope, name, call.input).await,
        "sts" => sts::dispatch(cx, &scope, name, call.input).await,
        other => Err(ApiError::new(
            "UnknownOperationException",
            400,
            format!("Minato does not serve {other}."),
        )),
    }
}

/// Dispatches a call of an operation that answers with events.
pub(crate) async fn stream(
    cx: &Arc<Context>,
    call: Call,
    running: &TaskTracker,
    stop: &CancellationToken,
) -> Result<EventStream, ApiError> {
    let scope = Scope::of(&call);
    match (call.service.name, call.operation.name) {
        ("logs", "StartLiveTail") => {
            let input = typed(call.input)?;
            let request_id = call.request_id;
            let session = logs::tail::start(cx, &scope, request_id, input)?;
            let (events, stream) = mpsc::channel(logs::tail::EVENTS_AHEAD);
            running.spawn(session.run(events, stop.clone()));
            Ok(stream)
        }
        (_, other) => Err(ApiError::new(
            "UnknownOperationException",
            400,
            format!("Minato does not stream events of {other}."),
        )),
    }
}

/// The verdicts of all services.
pub(crate) fn coverage() -> Vec<ServiceCoverage> {
    vec![
        ServiceCoverage {
            service: &minato_wire::ecs::SERVICE,
            verdicts: ecs::COVERAGE,
            others: None,
        },
        ServiceCoverage {
            service: &minato_wire::logs::SERVICE,
            verdicts: logs::COVERAGE,
            others: None,
        },
        ServiceCoverage {
            service: &minato_wire::ec2::SERVICE,
            verdicts: ec2::COVERAGE,
            others: Some(ec2::OTHERS),
        },
        ServiceCoverage {
            service: &minato_wire::iam::SERVICE,
            verdicts: iam::COVERAGE,
            others: Some(iam::OTHERS),
        },
        ServiceCoverage {
            service: &minato_wire::secretsmanager::SERVICE,
            verdicts: secretsmanager::COVERAGE,
            others: None,
        },
        ServiceCoverage {
            service: &minato_wire::ssm::SERVICE,
            verdicts: ssm::COVERAGE,
            others: Some(ssm::OTHERS),
        },
        ServiceCoverage {
            service: &minato_wire::sts::SERVICE,
            verdicts: sts::COVERAGE,
            others: None,
        },
        ServiceCoverage {
            service: &minato_wire::minato::SERVICE,
            verdicts: minato::COVERAGE,
            others: None,
        },
    ]
}

/// The typed form of a checked input.
pub(crate) fn typed<T: DeserializeOwned>(input: Value) -> Result<T, ApiError> {
    // The gateway sends an empty input as null or {}.
    let input = if input.is_null() {
        Value::Object(serde_json::Map::new())
    } else {
        input
    };
    serde_json::from_value(input).map_err(|error| {
        ApiError::new("SerializationException", 400, "The input is malformed.")
            .with_internal(error.to_string())
    })
}

/// The document of a typed output.
pub(crate) fn answer<T: Serialize>(output: &T) -> Result<Value, ApiError> {
    serde_json::to_value(output).map_err(|error| {
        ApiError::new("ServerException", 500, "Service Unavailable.")
            .with_internal(error.to_string())
    })
}

/// Why an operation is not served.
pub(crate) fn reason(coverage: &[(&str, Support)], operation: &str) -> String {
    let verdict = coverage.iter().find(|(name, _)| *name == operation);
    match verdict {
        Some((name, Support::Refused(why))) => {
            format!("Minato does not serve {name}: {why}.")
        }
        Some((_, Support::Full | Support::Partial(_))) | None => {
            format!("Minato does not know {operation}.")
        }
    }
}

/// Adds the tables of the services that keep rows of their own.
pub(crate) fn tables(tables: Tables) -> Tables {
    let tables = logs::tables(ec2::tables(tables));
    ssm::tables(secretsmanager::tables(sts::tables(iam::tables(tables))))
}

/// The credential of an access key id, whoever issued it.
pub(crate) fn credential(
    cx: &Context,
    access_key_id: &str,
) -> Option<Credential> {
    cx.config
        .credentials
        .iter()
        .find(|known| known.caller.access_key_id == access_key_id)
        .cloned()
        .or_else(|| sts::credential(cx, access_key_id))
}
