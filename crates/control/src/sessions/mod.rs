//! Sessions with agents: ACS carries work to them, TCS brings telemetry back.
//!
//! A session is two bounded channels of text frames, the very frames of the
//! websocket protocol (`reference/acs-protocol.md`). The in-process agent is
//! connected by the channels themselves; a listener can put a websocket
//! between without either side noticing.

mod acs;
mod credentials;
pub(crate) mod exec;
mod firewall;
pub(crate) mod payload;
mod router;
mod tcs;

pub use exec::DataChannel;
pub(crate) use router::Router;

use std::sync::Arc;

use minato_store::Key;
use tokio::sync::mpsc;

use crate::context::{Context, ControlPlane};
use crate::services::ecs_arn;
use crate::tables::{ContainerInstance, Host};

/// Frames that may wait in a session, each way. A payload is at most some
/// hundred KiB and agents read at once; a session that has this many unread
/// frames is stuck, and the sender then waits.
const FRAMES_MAX: usize = 64;

/// Which of the two protocols a session speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionKind {
    /// Agent communication service: payloads, manifests, heartbeats.
    Acs,
    /// Telemetry: metrics and container health.
    Tcs,
}

/// What an agent says of itself when it connects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentHello {
    /// The account of the agent's credential.
    pub account: String,
    /// The region of the agent's signature.
    pub region: String,
    /// Its container instance: an ARN.
    pub container_instance_arn: String,
    /// Its version.
    pub agent_version: String,
    /// The revision it was built from.
    pub agent_hash: String,
    /// The version of its container engine.
    pub docker_version: String,
}

/// The agent's ends of a session.
#[derive(Debug)]
pub struct AgentLink {
    /// Frames for the agent.
    pub incoming: mpsc::Receiver<String>,
    /// Frames of the agent. Dropping it ends the session.
    pub outgoing: mpsc::Sender<String>,
}

/// Why a session was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenSessionError {
    /// The ARN names nothing.
    #[error("no such container instance: {arn}")]
    UnknownInstance {
        /// As given.
        arn: String,
    },
    /// The container instance is deregistered; the agent should register
    /// anew, not retry.
    #[error("the container instance is deregistered: {arn}")]
    InactiveInstance {
        /// As given.
        arn: String,
    },
}

/// Who is at the other end of a session.
#[derive(Clone, Debug)]
struct Peer {
    instance: Key,
    host: Key,
    account: String,
    region: String,
    host_id: String,
    instance_arn: String,
    cluster_arn: String,
}

impl ControlPlane {
    /// Opens a session for an agent that has registered.
    pub fn open_session(
        &self,
        kind: SessionKind,
        hello: AgentHello,
    ) -> Result<AgentLink, OpenSessionError> {
        let cx = self.context();
        let peer = peer(cx, &hello)?;
        let (to_agent, incoming) = mpsc::channel(FRAMES_MAX);
        let (outgoing, from_agent) = mpsc::channel(FRAMES_MAX);
        let stop = self.stop_token().clone();
        let cx = Arc::clone(cx);
        match kind {
            SessionKind::Acs => {
                let session = acs::Session::new(cx, peer, to_agent, hello);
                self.running().spawn(session.run(from_agent, stop));
            }
            SessionKind::Tcs => {
                let session = tcs::Session::new(cx, peer, to_agent);
                self.running().spawn(session.run(from_agent, stop));
            }
        }
        Ok(AgentLink { incoming, outgoing })
    }
}

fn peer(cx: &Context, hello: &AgentHello) -> Result<Peer, OpenSessionError> {
    let arn = hello.container_instance_arn.clone();
    let unknown = || OpenSessionError::UnknownInstance { arn: arn.clone() };
    let (account, region) = (&hello.account, &hello.region);
    let (_, name) =
        arn.split_once(":container-instance/").ok_or_else(unknown)?;
    let (cluster, id) = name.split_once('/').ok_or_else(unknown)?;
    let key = ContainerInstance::key_of(account, region, cluster, id);
    let instance =
        cx.snapshot().get::<ContainerInstance>(&key).ok_or_else(unknown)?;
    if instance.status == "INACTIVE" {
        return Err(OpenSessionError::InactiveInstance { arn });
    }
    Ok(Peer {
        instance: minato_store::Row::key(&*instance),
        host: Host::key_of(account, region, &instance.host),
        account: account.clone(),
        region: region.clone(),
        host_id: instance.host.clone(),
        instance_arn: instance.arn(),
        cluster_arn: ecs_arn(
            region,
            account,
            &format!("cluster/{}", instance.cluster),
        ),
    })
}

#[cfg(test)]
mod tests;
