//! The conversation with the control plane.
//!
//! An agent registers its host, asks where to talk, and holds two
//! connections: ACS, on which it is told what to run, and TCS, on which it
//! tells how its containers are. A [`Connector`] opens them: channels within
//! one process, WebSockets between machines; the frames are the same.

mod acs;
pub mod attributes;
pub mod register;
#[cfg(test)]
mod tests;

pub use acs::{CredentialSets, run_acs};

use std::fmt;

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
}
