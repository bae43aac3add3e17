//! The conversation with the control plane.
//!
//! An agent registers its host, asks where to talk, and holds two
//! connections: ACS, on which it is told what to run, and TCS, on which it
//! tells how its containers are. A [`Connector`] opens them: channels within
//! one process, WebSockets between machines; the frames are the same.

mod acs;
pub mod attributes;
mod exec;
pub mod register;
#[cfg(test)]
mod tests;
mod transcript;

pub use acs::{CredentialSets, run_acs};

use std::fmt;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

/// Where an agent's connection begins and ends.
#[derive(Debug)]
pub struct Channel {
    /// Frames to the control plane.
    pub sender: mpsc::Sender<String>,
    /// Frames from it; its end is the connection's.
    pub receiver: mpsc::Receiver<String>,
}

/// What a connection is opened with; it travels in the URL's query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// `DiscoverPollEndpoint`'s answer for this connection.
    pub endpoint: String,
    /// The cluster, as configured.
    pub cluster: String,
    /// The container instance.
    pub container_instance_arn: String,
    /// Whether every running task's credentials are wanted (ACS).
    pub send_credentials: bool,
    /// The agent's version.
    pub agent_version: String,
}

/// The agent's end of a session's data channel (ECS Exec): binary frames.
#[derive(Debug)]
pub struct DataChannel {
    /// Frames to the client. Dropping it closes the channel.
    pub sender: mpsc::Sender<Bytes>,
    /// Frames of the client and of what is between; its end is the channel's.
    pub receiver: mpsc::Receiver<Bytes>,
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The container instance was deregistered.
    #[error("the container instance is inactive: {message}")]
    Inactive {
        /// What the control plane said.
        message: String,
    },
    /// Something that passes.
    #[error("{message}")]
    Failed {
        /// What went wrong.
        message: String,
    },
}

/// Opens connections to the control plane.
pub trait Connector: Send + Sync + fmt::Debug + 'static {
    /// Opens an ACS connection.
    fn open_acs<'a>(
        &'a self,
        hello: &'a Hello,
    ) -> BoxFuture<'a, Result<Channel, ConnectError>>;

    /// Opens a TCS connection.
    fn open_tcs<'a>(
        &'a self,
        hello: &'a Hello,
    ) -> BoxFuture<'a, Result<Channel, ConnectError>>;

    /// Opens the agent's end of a data channel, with the token that the agent
    /// was told for it.
    fn open_exec<'a>(
        &'a self,
        session_id: &'a str,
        token: &'a str,
    ) -> BoxFuture<'a, Result<DataChannel, ConnectError>>;
}
