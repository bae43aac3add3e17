//! The data channel of Session Manager, as ECS Exec uses it.
//!
//! A client (the stock session-manager-plugin, `minato exec`) and the agent
//! beside a container exchange binary messages through a gateway that only
//! passes them on. Each side numbers what it sends, acknowledges what it
//! takes, and sends again what is not acknowledged; a channel outlives the
//! sockets under it. `reference/exec-channel.md` has the facts, measured with
//! the plugin.
//!
//! Nothing here reads a clock or a socket: the time comes with each call, in
//! milliseconds since the epoch.

mod agent_side;
mod link;
mod message;
mod payload;
#[cfg(test)]
mod tests;

pub use agent_side::{AgentSide, Effect};
pub use link::{Link, Role, Taken};
pub use message::{
    MAX_FRAME_BYTES, Message, MessageError, MessageType, PayloadType,
};
pub use payload::{
    Acknowledge, ActionStatus, ChannelClosed, HandshakeComplete,
    HandshakeRequest, HandshakeResponse, OpenDataChannel, ProcessedAction,
    RequestedAction, SessionTypeParameters, TerminalSize,
};

/// The path of a session's data channel, without its query; the id follows.
pub const PATH_PREFIX: &str = "/v1/data-channel/";

/// Most payload bytes in one message of this implementation. The stock sides
/// use 1,024 and take far more (`exec-channel.md`, 6); a larger piece costs
/// fewer acknowledgements.
pub const PIECE_BYTES: usize = 16 << 10;

/// A UUID in its usual form.
pub fn uuid_text(id: u128) -> String {
    let hex = format!("{id:032x}");
    let part = |range: std::ops::Range<usize>| hex.get(range).unwrap_or("");
    format!(
        "{}-{}-{}-{}-{}",
        part(0..8),
        part(8..12),
        part(12..16),
        part(16..20),
        part(20..32)
    )
}
