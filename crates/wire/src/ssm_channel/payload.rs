//! The JSON that messages carry. Members are written as Go writes them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::frame::or_default;

/// The client's first frame, the only one that is text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct OpenDataChannel {
    /// `1.0`.
    pub message_schema_version: String,
    /// A UUID, new each time.
    pub request_id: String,
    /// What `ExecuteCommand` or `ResumeSession` gave out.
    pub token_value: String,
    /// A UUID, the same for the life of the client.
    pub client_id: String,
    /// The client's version; older ones do not say.
    pub client_version: String,
}

/// One numbered message was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Acknowledge {
    /// Its type.
    pub acknowledged_message_type: String,
    /// Its UUID.
    pub acknowledged_message_id: String,
    /// Its number, which alone counts.
    pub acknowledged_message_sequence_number: i64,
    /// Always true.
    pub is_sequential_message: bool,
}

/// The session is over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ChannelClosed {
    /// `channel_closed`.
    pub message_type: String,
    /// A UUID.
    pub message_id: String,
    /// Unused.
    pub destination_id: String,
    /// The session.
    pub session_id: String,
    /// 1.
    pub schema_version: i64,
    /// When, as text.
    pub created_date: String,
    /// What the client shows; the plugin reads this alone.
    pub output: String,
    /// How the command ended. Minato's own: the plugin has no use for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
}

/// The agent asks what the client can.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HandshakeRequest {
    /// Four numbers with dots.
    pub agent_version: String,
    /// What the client is to do.
    #[serde(deserialize_with = "or_default")]
    pub requested_client_actions: Vec<RequestedAction>,
}

/// One thing that the client is to do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RequestedAction {
    /// `SessionType`.
    pub action_type: String,
    /// The session's type.
    pub action_parameters: SessionTypeParameters,
}

/// Which session it is to be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SessionTypeParameters {
    /// `InteractiveCommands`.
    pub session_type: String,
    /// Nothing, for this type.
    pub properties: Value,
}

/// What became of a [`RequestedAction`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ActionStatus(pub i64);

impl ActionStatus {
    /// Done.
    pub const SUCCESS: ActionStatus = ActionStatus(1);
    /// Not known.
    pub const UNSUPPORTED: ActionStatus = ActionStatus(3);
}

/// The client's answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HandshakeResponse {
    /// The client's version.
    pub client_version: String,
    /// One for each request.
    #[serde(deserialize_with = "or_default")]
    pub processed_client_actions: Vec<ProcessedAction>,
    /// What went wrong.
    pub errors: Option<Vec<String>>,
}

/// What became of one request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ProcessedAction {
    /// The request's.
    pub action_type: String,
    /// See [`ActionStatus`].
    pub action_status: i64,
    /// More to it.
    pub action_result: Value,
    /// What went wrong.
    pub error: String,
}

/// The agent begins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HandshakeComplete {
    /// Nanoseconds.
    pub handshake_time_to_complete: i64,
    /// Shown on a line of its own, unless empty.
    pub customer_message: String,
}

/// The client's terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Characters in a line.
    pub cols: u16,
    /// Lines.
    pub rows: u16,
}

impl Default for TerminalSize {
    fn default() -> TerminalSize {
        TerminalSize { cols: 80, rows: 24 }
    }
}
