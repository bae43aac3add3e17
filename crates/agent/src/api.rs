//! The control plane's API, as far as the agent calls it.
//!
//! A document in, a document out: the typed shapes are at the callers, the
//! signing and the wire are [`minato_client`]'s. The trait lets tests answer
//! in the control plane's place.

use std::fmt;

use futures_util::future::BoxFuture;
use minato_client::Credentials;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Which API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiService {
    /// Amazon ECS.
    Ecs,
    /// Minato's own.
    Minato,
    /// CloudWatch Logs.
    Logs,
    /// Secrets Manager.
    SecretsManager,
    /// Systems Manager, for its Parameter Store.
    Ssm,
}

/// Why a call gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", .code.as_deref().unwrap_or("no answer"))]
pub struct ApiCallError {
    /// The API's error code; `None` where there was no answer at all.
    pub code: Option<String>,
    /// The rest.
    pub message: String,
}

impl ApiCallError {
    /// Whether the API said just this.
    pub fn is(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }

    /// Whether the same call may succeed later.
    ///
    /// No answer, a server's trouble and throttling pass; anything else the
    /// API said is meant.
    pub fn is_transient(&self) -> bool {
        match self.code.as_deref() {
            None => true,
            Some(code) => matches!(
                code,
                "ServerException"
                    | "InternalServerError"
                    | "InternalFailure"
                    | "ServiceUnavailable"
                    | "ServiceUnavailableException"
                    | "Throttling"
                    | "ThrottlingException"
                    | "LimitExceededException"
                    | "RequestTimeout"
            ),
        }
    }
}

/// A call in flight.
pub type ApiCall<'a> = BoxFuture<'a, Result<Value, ApiCallError>>;

/// The control plane's API.
pub trait Api: Send + Sync + fmt::Debug + 'static {
    /// Calls an operation of a service in a region.
    fn call<'a>(
        &'a self,
        service: ApiService,
        region: &'a str,
        operation: &'static str,
        input: Value,
    ) -> ApiCall<'a> {
        self.call_as(None, service, region, operation, input)
    }

    /// The same in the name of a role; `None` is the agent itself.
    fn call_as<'a>(
        &'a self,
        role: Option<Credentials>,
        service: ApiService,
        region: &'a str,
        operation: &'static str,
        input: Value,
    ) -> ApiCall<'a>;
}

/// Calls an operation with its shapes.
pub async fn call<I: Serialize, O: DeserializeOwned>(
    api: &dyn Api,
    service: ApiService,
    region: &str,
    operation: &'static str,
    input: &I,
) -> Result<O, ApiCallError> {
    call_as(api, None, service, region, operation, input).await
}

/// The same in the name of a role; `None` is the agent itself.
pub async fn call_as<I: Serialize, O: DeserializeOwned>(
    api: &dyn Api,
    role: Option<Credentials>,
    service: ApiService,
    region: &str,
    operation: &'static str,
    input: &I,
) -> Result<O, ApiCallError> {
    let bad = |what: &str, error: serde_json::Error| ApiCallError {
        code: None,
        message: format!("{what} of {operation}: {error}"),
    };
    let input =
        serde_json::to_value(input).map_err(|error| bad("input", error))?;
    let output = api.call_as(role, service, region, operation, input).await?;
    serde_json::from_value(output).map_err(|error| bad("output", error))
}
