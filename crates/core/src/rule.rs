//! A rule of the API that an input breaks.

use minato_wire::ApiError;
use minato_wire::ecs::error;

/// The exception AWS answers a broken rule with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleCode {
    /// `ClientException`: the rules of task definitions, mostly.
    Client,
    /// `InvalidParameterException`: the rules of everything else.
    InvalidParameter,
    /// `LimitExceededException`.
    LimitExceeded,
    /// `PlatformUnknownException`.
    PlatformUnknown,
    /// `PlatformTaskDefinitionIncompatibilityException`.
    PlatformIncompatible,
}

/// A broken rule, with AWS's message where it is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RuleError {
    /// Which exception it becomes.
    pub code: RuleCode,
    /// The text for the client.
    pub message: String,
}

impl RuleError {
    /// A `ClientException`.
    pub fn client(message: impl Into<String>) -> RuleError {
        RuleError { code: RuleCode::Client, message: message.into() }
    }

    /// An `InvalidParameterException`.
    pub fn invalid(message: impl Into<String>) -> RuleError {
        let message = message.into();
        RuleError { code: RuleCode::InvalidParameter, message }
    }
}

impl From<RuleError> for ApiError {
    fn from(broken: RuleError) -> ApiError {
        match broken.code {
            RuleCode::Client => error::client_exception(broken.message),
            RuleCode::InvalidParameter => {
                error::invalid_parameter_exception(broken.message)
            }
            RuleCode::LimitExceeded => {
                error::limit_exceeded_exception(broken.message)
            }
            RuleCode::PlatformUnknown => {
                error::platform_unknown_exception(broken.message)
            }
            RuleCode::PlatformIncompatible => {
                error::platform_task_definition_incompatibility_exception(
                    broken.message,
                )
            }
        }
    }
}
