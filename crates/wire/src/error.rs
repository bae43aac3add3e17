//! The one error that services answer with.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// An error of the AWS API: what the client sees, and what only we see.
///
/// Services return it, the gateway writes it in the protocol of the request.
/// The internal half has no `Display`, so it cannot slip into a response.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiError {
    code: Cow<'static, str>,
    status: u16,
    message: String,
    fields: Map<String, Value>,
    internal: Option<Internal>,
}

/// Details for the log, never for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Internal(String);

impl ApiError {
    /// An error with the code and HTTP status given.
    pub fn new(
        code: impl Into<Cow<'static, str>>,
        status: u16,
        message: impl Into<String>,
    ) -> ApiError {
        ApiError {
            code: code.into(),
            status,
            message: message.into(),
            fields: Map::new(),
            internal: None,
        }
    }

    /// Adds a modelled member, such as `resourceIds` of `ConflictException`.
    #[must_use]
    pub fn with_field(mut self, name: &str, value: Value) -> ApiError {
        self.fields.insert(name.to_owned(), value);
        self
    }

    /// Adds details for the log only.
    #[must_use]
    pub fn with_internal(mut self, details: impl Into<String>) -> ApiError {
        self.internal = Some(Internal(details.into()));
        self
    }

    /// The error code, such as `ClusterNotFoundException`.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The text for the client.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Modelled members beside the message.
    pub fn fields(&self) -> &Map<String, Value> {
        &self.fields
    }

    /// The details for the log.
    pub fn internal(&self) -> Option<&str> {
        self.internal.as_ref().map(|internal| internal.0.as_str())
    }
}
