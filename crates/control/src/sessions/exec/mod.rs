//! Sessions of ECS Exec: who may join them, and what joins the two sides.
//!
//! A client gets a token from `ExecuteCommand` and opens the session's data
//! channel with it; only then is the agent of the container's host told, which
//! opens the channel's other end with a token of its own. From there on a
//! `relay` passes frames, and knows of their meaning only when the session is
//! over. A session outlives its client's socket for a while: a new token
//! (`ssm:ResumeSession`) lets the client in again.
//!
//! Sessions are in memory only: a control plane that starts anew has none, and
//! says so to who wants to resume one. See `docs/adr/0015-exec.md`.

mod relay;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use bytes::Bytes;
use minato_core::id::MessageId;
use minato_store::Key;
use minato_wire::Timestamp;
use minato_wire::acs::{ExecuteCommand, SessionLogging};
use minato_wire::ssm_channel::{ChannelClosed, OpenDataChannel};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::context::{Context, ControlPlane};
use relay::Relay;

/// How long a token can be used. The plugin connects within a second, and
/// tries for a few more.
const TOKEN_LIFE_MS: i64 = 60_000;
/// Sessions of one container at once (service quotas, "ECS Exec sessions").
const PER_CONTAINER_MAX: usize = 20;
/// Sessions of all containers; each may hold a few MiB.
const SESSIONS_MAX: usize = 1000;
/// Frames that may wait in a channel, each way.
const FRAMES_MAX: usize = 16;
/// Orders that an agent may have unread.
const ORDERS_MAX: usize = 16;

/// One end of a data channel: binary frames both ways.
#[derive(Debug)]
pub struct DataChannel {
    /// Frames from the other side; the end is the channel's.
    pub incoming: mpsc::Receiver<Bytes>,
    /// Frames to the other side. Dropping it closes the channel.
    pub outgoing: mpsc::Sender<Bytes>,
}

/// Makes the two ends of a channel.
fn channel() -> (DataChannel, DataChannel) {
    let (one, to_one) = mpsc::channel(FRAMES_MAX);
    let (other, to_other) = mpsc::channel(FRAMES_MAX);
    (
        DataChannel { incoming: to_one, outgoing: other },
        DataChannel { incoming: to_other, outgoing: one },
    )
}

/// What a command is to be run in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) account: String,
    pub(crate) region: String,
    /// The container's host.
    pub(crate) host: Key,
    pub(crate) task_arn: String,
    pub(crate) container: String,
    pub(crate) command: String,
    /// Where its output is written down.
    pub(crate) logging: SessionLogging,
}

/// Why there is no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BeginError {
    #[error("the agent of the host is not connected")]
    NotConnected,
    #[error("the container has as many sessions as it may have")]
    TooMany,
}

/// The sessions there are, and the agents that can be told of one.
#[derive(Debug, Default)]
pub(crate) struct Exchange(Mutex<Inside>);

#[derive(Debug, Default)]
struct Inside {
    sessions: HashMap<String, Session>,
    agents: HashMap<Key, mpsc::Sender<ExecuteCommand>>,
}

#[derive(Debug)]
struct Session {
    target: Target,
    /// Lets one client in, once.
    token: Option<Token>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Nobody has come yet.
    Waiting,
    Open {
        /// Lets the agent in, once.
        agent_token: Option<String>,
        agents: mpsc::Sender<DataChannel>,
        clients: mpsc::Sender<DataChannel>,
        end: CancellationToken,
    },
}

#[derive(Debug)]
struct Token {
    value: String,
    expires_at: Timestamp,
}

impl Token {
    fn new(value: &str, now: Timestamp) -> Token {
        let expires_at =
            Timestamp::from_millis(now.as_millis() + TOKEN_LIFE_MS);
        Token { value: value.to_owned(), expires_at }
    }

    fn is(&self, given: &str, now: Timestamp) -> bool {
        self.expires_at > now && are_equal(&self.value, given)
    }
}

/// In a time that does not tell how far two tokens agree.
fn are_equal(one: &str, other: &str) -> bool {
    verify_slices_are_equal(one.as_bytes(), other.as_bytes()).is_ok()
}

impl Inside {
    /// Forgets sessions that nobody came to.
    fn sweep(&mut self, now: Timestamp) {
        self.sessions.retain(|_, session| {
            match (&session.stage, &session.token) {
                (Stage::Open { .. }, _) => true,
                (Stage::Waiting, token) => {
                    token.as_ref().is_some_and(|token| token.expires_at > now)
                }
            }
        });
    }
}

/// Which agent is told of new sessions on a host; ends with the value.
#[derive(Debug)]
pub(super) struct Orders {
    exchange: Arc<Exchange>,
    host: Key,
    orders: mpsc::Receiver<ExecuteCommand>,
}

impl Orders {
    /// Waits for the next order; `None` once another agent has taken over.
    pub(super) async fn next(&mut self) -> Option<ExecuteCommand> {
        self.orders.recv().await
    }
}

impl Drop for Orders {
    fn drop(&mut self) {
        self.orders.close();
        let mut inside = self.exchange.0.lock();
        if inside.agents.get(&self.host).is_some_and(mpsc::Sender::is_closed) {
            inside.agents.remove(&self.host);
        }
    }
}

impl Exchange {
    /// Has the agent of a host be told of sessions from now on.
    pub(super) fn take_orders(self: &Arc<Exchange>, host: Key) -> Orders {
        let (sender, orders) = mpsc::channel(ORDERS_MAX);
        self.0.lock().agents.insert(host.clone(), sender);
        Orders { exchange: Arc::clone(self), host, orders }
    }

    /// Begins a session that one client may join with the token.
    pub(crate) fn begin(
        &self,
        session_id: &str,
        token: &str,
        target: Target,
        now: Timestamp,
    ) -> Result<(), BeginError> {
        let mut inside = self.0.lock();
        inside.sweep(now);
        let agent = inside.agents.get(&target.host);
        if agent.is_none_or(mpsc::Sender::is_closed) {
            return Err(BeginError::NotConnected);
        }
        let is_same = |session: &&Session| {
            session.target.task_arn == target.task_arn
                && session.target.container == target.container
        };
        if inside.sessions.len() >= SESSIONS_MAX
            || inside.sessions.values().filter(is_same).count()
                >= PER_CONTAINER_MAX
        {
            return Err(BeginError::TooMany);
        }
        let token = Some(Token::new(token, now));
        let session = Session { target, token, stage: Stage::Waiting };
        inside.sessions.insert(session_id.to_owned(), session);
        Ok(())
    }

    /// Gives a client that lost its socket a new token; `false` where there
    /// is no such session any more.
    pub(crate) fn renew(
        &self,
        account: &str,
        region: &str,
        session_id: &str,
        token: &str,
        now: Timestamp,
    ) -> bool {
        let mut inside = self.0.lock();
        let found = inside.sessions.get_mut(session_id);
        let found = found.filter(|it| {
            it.target.account == account && it.target.region == region
        });
        let Some(session) = found else { return false };
        session.token = Some(Token::new(token, now));
        true
    }

    /// Ends a session; there may be none.
    pub(crate) fn terminate(
        &self,
        account: &str,
        region: &str,
        session_id: &str,
    ) {
        let mut inside = self.0.lock();
        let is_theirs = inside.sessions.get(session_id).is_some_and(|it| {
            it.target.account == account && it.target.region == region
        });
        if is_theirs
            && let Some(session) = inside.sessions.remove(session_id)
            && let Stage::Open { end, .. } = session.stage
        {
            end.cancel();
        }
    }

    fn forget(&self, session_id: &str) {
        self.0.lock().sessions.remove(session_id);
    }

    /// Lets the agent into a session that it was told of.
    fn join(&self, session_id: &str, token: &str) -> Option<DataChannel> {
        let mut inside = self.0.lock();
        let session = inside.sessions.get_mut(session_id)?;
        let Stage::Open { agent_token, agents, .. } = &mut session.stage else {
            return None;
        };
        agent_token.take_if(|known| are_equal(known, token))?;
        let (ours, theirs) = channel();
        agents.try_send(ours).ok()?;
        Some(theirs)
    }

    /// Lets a client in, and at the first time has the agent told and answers
    /// what is to pass frames.
    fn admit(
        self: &Arc<Exchange>,
        session_id: &str,
        opening: &OpenDataChannel,
        order: impl FnOnce() -> (String, String),
        now: Timestamp,
    ) -> Result<(DataChannel, Option<Relay>), RefusedClient> {
        let mut inside = self.0.lock();
        let Inside { sessions, agents } = &mut *inside;
        let session =
            sessions.get_mut(session_id).ok_or(RefusedClient::Token)?;
        session
            .token
            .take_if(|token| token.is(&opening.token_value, now))
            .ok_or(RefusedClient::Token)?;
        let (ours, theirs) = channel();
        if let Stage::Open { clients, .. } = &session.stage {
            clients.try_send(ours).map_err(|_| RefusedClient::Busy)?;
            return Ok((theirs, None));
        }
        let (message_id, agent_token) = order();
        let target = &session.target;
        let told = ExecuteCommand {
            message_id,
            session_id: session_id.to_owned(),
            token_value: agent_token.clone(),
            task_arn: target.task_arn.clone(),
            container_name: target.container.clone(),
            command: target.command.clone(),
            logging: target.logging.clone(),
        };
        let agent = agents.get(&target.host);
        let agent = agent.ok_or(RefusedClient::NotConnected)?;
        agent.try_send(told).map_err(|_| RefusedClient::NotConnected)?;
        let (agents, agents_rx) = mpsc::channel(1);
        let (clients, clients_rx) = mpsc::channel(2);
        let end = CancellationToken::new();
        session.stage = Stage::Open {
            agent_token: Some(agent_token),
            agents,
            clients,
            end: end.clone(),
        };
        let relay = Relay {
            session_id: session_id.to_owned(),
            exchange: Arc::clone(self),
            agents: agents_rx,
            clients: clients_rx,
            end,
            client: ours,
        };
        Ok((theirs, Some(relay)))
    }
}

/// Why a client was not let in, as it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum RefusedClient {
    #[error("The session's token is wrong, used or expired.")]
    Token,
    #[error("The execute command agent is not connected.")]
    NotConnected,
    #[error("The session is being taken over by others.")]
    Busy,
}

impl ControlPlane {
    /// Opens the agent's end of a session's data channel; nothing if the
    /// session or the token is not what the agent was told.
    pub fn join_exec_session(
        &self,
        session_id: &str,
        token: &str,
    ) -> Option<DataChannel> {
        self.context().exec.join(session_id, token)
    }

    /// Opens a client's end of a session's data channel. The error is the
    /// frame that says why not; nothing else tells the plugin.
    pub(crate) fn admit_client(
        &self,
        session_id: &str,
        opening: &str,
    ) -> Result<DataChannel, Bytes> {
        let cx: &Arc<Context> = self.context();
        let opening = serde_json::from_str::<OpenDataChannel>(opening);
        let order = || {
            let id = MessageId::new(cx.ids.uuid()).dashed();
            (id, new_token(cx))
        };
        let admitted =
            opening.map_err(|_| RefusedClient::Token).and_then(|opening| {
                let now = cx.clock.now();
                cx.exec.admit(session_id, &opening, order, now)
            });
        match admitted {
            Ok((channel, relay)) => {
                if let Some(relay) = relay {
                    let (cx, stop) = (Arc::clone(cx), self.stop_token());
                    self.running().spawn(relay.run(cx, stop.clone()));
                }
                Ok(channel)
            }
            Err(why) => Err(closed(cx, session_id, &why.to_string())),
        }
    }
}

/// A token that cannot be guessed: 244 random bits of two UUIDs.
pub(crate) fn new_token(cx: &Context) -> String {
    format!("{:032x}{:032x}", cx.ids.uuid(), cx.ids.uuid())
}

/// The frame that ends a session, with what the client is to show.
fn closed(cx: &Context, session_id: &str, why: &str) -> Bytes {
    let now = cx.clock.now().as_millis();
    ChannelClosed::new(session_id, why, None).frame(cx.ids.uuid(), now)
}
