//! Passes the frames of one session between its client and its agent.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use minato_wire::ssm_channel::{Link, MessageType, Role};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{DataChannel, Exchange, closed};
use crate::context::Context;

/// How long an agent may take to open its end.
const AGENT_MAX: Duration = Duration::from_secs(15);
/// How long a session waits for a client that has lost its socket: the plugin
/// asks to resume at once and gives up after about five seconds
/// (`exec-channel.md`, 9). Then its command is killed.
const AWAY_MAX: Duration = Duration::from_secs(20);
/// Frames that may wait for the agent.
const TO_AGENT_MAX: usize = 4;

/// What a client is told whose agent stays away.
const SILENT: &str = "The execute command agent did not answer.";
/// What a client is told when Minato goes down.
const STOPPING: &str = "The control plane is shutting down.";

/// One session's two sides, before they have met.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) session_id: String,
    pub(super) exchange: Arc<Exchange>,
    pub(super) agents: mpsc::Receiver<DataChannel>,
    pub(super) clients: mpsc::Receiver<DataChannel>,
    pub(super) end: CancellationToken,
    pub(super) client: DataChannel,
}

/// The two sides, joined.
struct Joined {
    cx: Arc<Context>,
    session_id: String,
    agent: DataChannel,
    client: Option<DataChannel>,
    to_agent: VecDeque<Bytes>,
    to_client: Option<Bytes>,
    away_since: Instant,
}

/// What happened to a session.
enum Event {
    Client(Option<Bytes>),
    NewClient(DataChannel),
    Agent(Option<Bytes>),
    AgentTook,
    ClientTook,
    Over(&'static str),
}

impl Relay {
    /// Passes frames until the session is over.
    pub(super) async fn run(
        mut self,
        cx: Arc<Context>,
        stop: CancellationToken,
    ) {
        let joined = tokio::select! {
            agent = self.agents.recv() => agent.ok_or(SILENT),
            () = tokio::time::sleep(AGENT_MAX) => Err(SILENT),
            () = self.end.cancelled() => Err(""),
            () = stop.cancelled() => Err(STOPPING),
        };
        // From now on the channel's end is the session's: nobody else joins.
        self.agents.close();
        let session_id = self.session_id.clone();
        match joined {
            Ok(agent) => {
                let joined = Joined {
                    cx: Arc::clone(&cx),
                    session_id: session_id.clone(),
                    agent,
                    client: Some(self.client),
                    to_agent: VecDeque::new(),
                    to_client: None,
                    away_since: Instant::now(),
                };
                joined.run(self.clients, &self.end, &stop).await;
            }
            Err(why) => {
                let frame = closed(&cx, &session_id, why);
                let _ = self.client.outgoing.try_send(frame);
            }
        }
        self.exchange.forget(&session_id);
    }
}

impl Joined {
    async fn run(
        mut self,
        mut clients: mpsc::Receiver<DataChannel>,
        end: &CancellationToken,
        stop: &CancellationToken,
    ) {
        loop {
            let event = tokio::select! {
                () = stop.cancelled() => {
                    Event::Over(STOPPING)
                }
                () = end.cancelled() => Event::Over(""),
                Some(client) = clients.recv() => Event::NewClient(client),
                event = self.next() => event,
            };
            match event {
                Event::NewClient(client) => self.replace(client),
                Event::Client(Some(frame)) => self.forward(frame),
                Event::Client(None) => self.lose_client(),
                Event::Agent(Some(frame)) => {
                    let is_last = matches!(
                        MessageType::read(&frame),
                        Ok(MessageType::ChannelClosed)
                    );
                    if is_last {
                        return self.say_last(frame).await;
                    }
                    // Who is away gets it again when it is back.
                    self.to_client = self.client.is_some().then_some(frame);
                }
                Event::Agent(None) => {
                    let why = "The session ended unexpectedly.";
                    return self.end(why).await;
                }
                Event::AgentTook | Event::ClientTook => {}
                Event::Over(why) => return self.end(why).await,
            }
        }
    }

    /// What happens on either side. Both go on while one is held up.
    async fn next(&mut self) -> Event {
        let Joined { agent, client, to_agent, to_client, away_since, .. } =
            self;
        let away_until = *away_since + AWAY_MAX;
        let Some(client) = client else {
            return tokio::select! {
                frame = agent.incoming.recv() => Event::Agent(frame),
                took = give_first(&agent.outgoing, to_agent) => took,
                () = tokio::time::sleep_until(away_until) => {
                    Event::Over("")
                }
            };
        };
        tokio::select! {
            frame = client.incoming.recv(),
                if to_agent.len() < TO_AGENT_MAX => Event::Client(frame),
            frame = agent.incoming.recv(),
                if to_client.is_none() => Event::Agent(frame),
            took = give_first(&agent.outgoing, to_agent) => took,
            permit = client.outgoing.reserve(), if to_client.is_some() => {
                match (permit, to_client.take()) {
                    (Ok(permit), Some(frame)) => {
                        permit.send(frame);
                        Event::ClientTook
                    }
                    (Ok(_), None) => Event::ClientTook,
                    (Err(_), _) => Event::Client(None),
                }
            }
        }
    }

    /// Only what clients have to say: pauses are the relay's own.
    fn forward(&mut self, frame: Bytes) {
        match MessageType::read(&frame) {
            Ok(MessageType::InputStreamData | MessageType::Acknowledge) => {
                self.to_agent.push_back(frame);
            }
            Ok(
                MessageType::OutputStreamData
                | MessageType::ChannelClosed
                | MessageType::StartPublication
                | MessageType::PausePublication,
            )
            | Err(_) => {}
        }
    }

    fn lose_client(&mut self) {
        self.client = None;
        self.to_client = None;
        self.away_since = Instant::now();
        self.tell_agent(MessageType::PausePublication);
    }

    /// A new client takes over; a socket that is there still is closed.
    fn replace(&mut self, client: DataChannel) {
        self.client = Some(client);
        self.to_client = None;
        self.tell_agent(MessageType::StartPublication);
    }

    fn tell_agent(&mut self, what: MessageType) {
        let now = self.cx.clock.now().as_millis();
        let mut link = Link::new(Role::Client, self.cx.ids.uuid());
        let payload = Bytes::from_static(b"{}");
        self.to_agent.push_back(link.control(what, payload, now));
    }

    async fn end(self, why: &str) {
        let frame = closed(&self.cx, &self.session_id, why);
        self.say_last(frame).await;
    }

    /// What came before goes first; a client that takes nothing is not waited
    /// for long.
    async fn say_last(self, frame: Bytes) {
        const PATIENCE: Duration = Duration::from_secs(2);
        let Some(client) = self.client else { return };
        let said = async {
            for frame in self.to_client.into_iter().chain([frame]) {
                if client.outgoing.send(frame).await.is_err() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(PATIENCE, said).await;
    }
}

/// Gives the agent the first of what waits for it, once there is room.
async fn give_first(
    agent: &mpsc::Sender<Bytes>,
    waiting: &mut VecDeque<Bytes>,
) -> Event {
    if waiting.is_empty() {
        return std::future::pending().await;
    }
    let Ok(permit) = agent.reserve().await else {
        return Event::Agent(None);
    };
    if let Some(frame) = waiting.pop_front() {
        permit.send(frame);
    }
    Event::AgentTook
}
