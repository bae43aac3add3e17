//! Why a call failed.

use std::time::Duration;

use minato_wire::ApiError;
use minato_wire::sigv4::SignError;

/// Any error, as transports give it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The API answered with an error.
    #[error("{}: {}", .0.code(), .0.message())]
    Api(ApiError),
    /// The service has no such operation, or is not a JSON service.
    #[error("{service} has no JSON operation {operation}")]
    NoOperation {
        /// The service.
        service: &'static str,
        /// The operation asked for.
        operation: String,
    },
    /// The input cannot be written as JSON.
    #[error("could not write the input of {operation}")]
    Encode {
        /// The operation.
        operation: String,
        /// What the JSON writer said.
        source: serde_json::Error,
    },
    /// The request cannot be signed.
    #[error("could not sign {operation}")]
    Sign {
        /// The operation.
        operation: String,
        /// What is wrong with it.
        source: SignError,
    },
    /// The request did not reach the API, or the answer did not come back.
    #[error("could not reach {endpoint}")]
    Transport {
        /// Where it was sent.
        endpoint: String,
        /// What the transport said.
        source: BoxError,
    },
    /// No answer came in time.
    #[error("no answer from {endpoint} within {timeout:?}")]
    TimedOut {
        /// Where it was sent.
        endpoint: String,
        /// How long was waited.
        timeout: Duration,
    },
    /// The answer is not what the operation gives.
    #[error("could not read the answer to {operation}")]
    Decode {
        /// The operation.
        operation: String,
        /// What the JSON parser said.
        source: serde_json::Error,
    },
}

impl CallError {
    /// The API's error code, where it was the API that answered.
    pub fn code(&self) -> Option<&str> {
        self.api_error().map(ApiError::code)
    }

    /// The API's error, where it was the API that answered.
    pub fn api_error(&self) -> Option<&ApiError> {
        match self {
            CallError::Api(error) => Some(error),
            CallError::NoOperation { .. }
            | CallError::Encode { .. }
            | CallError::Sign { .. }
            | CallError::Transport { .. }
            | CallError::TimedOut { .. }
            | CallError::Decode { .. } => None,
        }
    }

    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            CallError::Api(error) => {
                error.status() >= 500
                    || matches!(
                        error.code(),
                        "ThrottlingException"
                            | "Throttling"
                            | "RequestLimitExceeded"
                    )
            }
            CallError::Transport { .. } | CallError::TimedOut { .. } => true,
            CallError::NoOperation { .. }
            | CallError::Encode { .. }
            | CallError::Sign { .. }
            | CallError::Decode { .. } => false,
        }
    }
}

/// A text that is no endpoint.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not an http:// URL with a host")]
pub struct NotAnEndpoint(pub String);
