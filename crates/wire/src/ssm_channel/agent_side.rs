//! What the agent beside a container does on a channel, as a machine without
//! I/O: handshake, output, input, the end.

use std::collections::VecDeque;

use bytes::Bytes;
use serde_json::Value;

use super::PIECE_BYTES;
use super::link::{Link, Role};
use super::message::{Message, MessageType, PayloadType};
use super::payload::{
    ChannelClosed, HandshakeComplete, HandshakeRequest, RequestedAction,
    SessionTypeParameters, TerminalSize,
};
use super::uuid_text;

/// How long a client may take to answer the handshake (upstream agent).
const HANDSHAKE_MAX_MS: i64 = 15_000;
/// The plugin sends its size some milliseconds after the handshake; one that
/// never does is not waited for longer.
const SIZE_MAX_MS: i64 = 2_000;
/// How long the last output may take to arrive (upstream agent).
const DRAIN_MAX_MS: i64 = 2_000;
/// A session in which nobody says anything ends ("idle timeout of 20
/// minutes", developer guide, ECS Exec).
const IDLE_MAX_MS: i64 = 20 * 60 * 1000;
/// Looked at by port sessions only; of the form and age that they want.
const AGENT_VERSION: &str = "3.3.0.0";

/// What the owner of the machine is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send this frame.
    Send(Bytes),
    /// Start the command in a terminal of this size.
    Start(TerminalSize),
    /// Give this to the command.
    Input(Bytes),
    /// Resize the terminal.
    Resize(TerminalSize),
    /// The session is over: all that was to be sent is in earlier effects.
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The client's answer is awaited.
    Handshake,
    /// The terminal's size is awaited: the plugin's shell is then ready.
    Size,
    /// The command runs.
    Open,
    /// It has ended; its output is still on its way.
    Draining {
        code: i32,
    },
    Closed,
}

/// The agent's side of one session.
#[derive(Debug)]
pub struct AgentSide {
    session_id: String,
    link: Link,
    stage: Stage,
    began_ms: i64,
    /// When the present stage began.
    since_ms: i64,
    /// When something was last said.
    active_ms: i64,
    is_paused: bool,
    effects: VecDeque<Effect>,
}

impl AgentSide {
    /// Begins the handshake with the client of a session; `first_id` is where
    /// the ids of messages begin.
    pub fn new(session_id: &str, first_id: u128, now_ms: i64) -> AgentSide {
        let mut side = AgentSide {
            session_id: session_id.to_owned(),
            link: Link::new(Role::Agent, first_id),
            stage: Stage::Handshake,
            began_ms: now_ms,
            since_ms: now_ms,
            active_ms: now_ms,
            is_paused: false,
            effects: VecDeque::new(),
        };
        let request = HandshakeRequest {
            agent_version: AGENT_VERSION.to_owned(),
            requested_client_actions: vec![RequestedAction {
                action_type: "SessionType".to_owned(),
                action_parameters: SessionTypeParameters {
                    session_type: "InteractiveCommands".to_owned(),
                    properties: Value::Null,
                },
            }],
        };
        side.say(PayloadType::HandshakeRequest, json(&request), now_ms);
        side
    }

    /// What is to be done next.
    pub fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Whether the command's output can be taken now. While it cannot, it is
    /// to stay where it is.
    pub fn wants_output(&self) -> bool {
        self.stage == Stage::Open && self.link.has_room() && !self.is_paused
    }

    /// Sends output of the command.
    pub fn output(&mut self, mut bytes: Bytes, now_ms: i64) {
        self.active_ms = now_ms;
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(PIECE_BYTES));
            self.say(PayloadType::Output, piece, now_ms);
        }
    }

    /// Takes a frame. `has_room` says whether input can be given to the
    /// command; what is not taken comes again.
    pub fn receive(&mut self, frame: &Bytes, has_room: bool, now_ms: i64) {
        // What is not a message is dropped, as the stock sides do.
        let Ok(message) = Message::decode(frame) else { return };
        match message.r#type {
            MessageType::PausePublication => self.is_paused = true,
            MessageType::StartPublication => self.resume(now_ms),
            MessageType::Acknowledge | MessageType::InputStreamData => {
                let taken = self.link.take(message, has_room, now_ms);
                if let Some(answer) = taken.answer {
                    self.effects.push_back(Effect::Send(answer));
                }
                for (kind, payload) in taken.delivered {
                    self.active_ms = now_ms;
                    self.hear(kind, payload, now_ms);
                }
            }
            MessageType::OutputStreamData | MessageType::ChannelClosed => {}
        }
        self.settle(now_ms);
    }

    /// The command has ended, and all of its output was given.
    pub fn ended(&mut self, code: i32, now_ms: i64) {
        if self.stage != Stage::Closed {
            self.enter(Stage::Draining { code }, now_ms);
            self.settle(now_ms);
        }
    }

    /// Ends the session at once, and has the client show why.
    pub fn refuse(&mut self, why: &str, now_ms: i64) {
        self.close(why, None, now_ms);
    }

    /// Does what is due; to be called every 100 ms.
    pub fn tick(&mut self, now_ms: i64) {
        let waited = now_ms - self.since_ms;
        match self.stage {
            Stage::Handshake if waited > HANDSHAKE_MAX_MS => {
                self.refuse("The handshake timed out.", now_ms);
            }
            Stage::Size if waited > SIZE_MAX_MS => {
                self.start(TerminalSize::default(), now_ms);
            }
            Stage::Open if now_ms - self.active_ms > IDLE_MAX_MS => {
                self.refuse("Session timed out due to inactivity.", now_ms);
            }
            Stage::Handshake
            | Stage::Size
            | Stage::Open
            | Stage::Draining { .. } => {}
            Stage::Closed => return,
        }
        self.settle(now_ms);
        if !self.is_paused
            && self.stage != Stage::Closed
            && let Some(frame) = self.link.due(now_ms)
        {
            self.effects.push_back(Effect::Send(frame));
        }
    }

    fn hear(&mut self, kind: PayloadType, payload: Bytes, now_ms: i64) {
        match (self.stage, kind) {
            (Stage::Handshake, PayloadType::HandshakeResponse) => {
                // A client that cannot do what was asked says so itself.
                let complete = HandshakeComplete {
                    handshake_time_to_complete: (now_ms - self.began_ms)
                        .saturating_mul(1_000_000),
                    customer_message: String::new(),
                };
                let complete = json(&complete);
                self.say(PayloadType::HandshakeComplete, complete, now_ms);
                self.enter(Stage::Size, now_ms);
            }
            (Stage::Size, PayloadType::Size) => {
                self.start(size(&payload).unwrap_or_default(), now_ms);
            }
            (Stage::Size, PayloadType::Output) => {
                self.start(TerminalSize::default(), now_ms);
                self.effects.push_back(Effect::Input(payload));
            }
            (Stage::Open, PayloadType::Output) => {
                self.effects.push_back(Effect::Input(payload));
            }
            (Stage::Open, PayloadType::Size) => {
                if let Some(size) = size(&payload) {
                    self.effects.push_back(Effect::Resize(size));
                }
            }
            // Before the command runs and after its end, input is for nobody;
            // flags and parameters are for port sessions.
            (
                Stage::Handshake
                | Stage::Size
                | Stage::Open
                | Stage::Draining { .. }
                | Stage::Closed,
                PayloadType::None
                | PayloadType::Output
                | PayloadType::Size
                | PayloadType::HandshakeRequest
                | PayloadType::HandshakeResponse
                | PayloadType::HandshakeComplete
                | PayloadType::Other(_),
            ) => {}
        }
    }

    fn start(&mut self, size: TerminalSize, now_ms: i64) {
        self.enter(Stage::Open, now_ms);
        self.active_ms = now_ms;
        self.effects.push_back(Effect::Start(size));
    }

    /// The client is there again, on a new socket.
    fn resume(&mut self, now_ms: i64) {
        self.is_paused = false;
        let is_lossless = match self.stage {
            Stage::Open | Stage::Draining { .. } => true,
            Stage::Handshake | Stage::Size | Stage::Closed => false,
        };
        for frame in self.link.resend_all(is_lossless, now_ms) {
            self.effects.push_back(Effect::Send(frame));
        }
    }

    /// Closes once the last output has arrived, or has had its time.
    fn settle(&mut self, now_ms: i64) {
        if let Stage::Draining { code } = self.stage
            && (self.link.is_settled() || now_ms - self.since_ms > DRAIN_MAX_MS)
        {
            self.close("", Some(code), now_ms);
        }
    }

    fn close(&mut self, why: &str, exit_code: Option<i32>, now_ms: i64) {
        if self.stage == Stage::Closed {
            return;
        }
        self.stage = Stage::Closed;
        let closed = ChannelClosed::new(&self.session_id, why, exit_code);
        let closed = closed.dated(now_ms);
        let kind = MessageType::ChannelClosed;
        let frame = self.link.control(kind, json(&closed), now_ms);
        self.effects.push_back(Effect::Send(frame));
        self.effects.push_back(Effect::Close);
    }

    fn enter(&mut self, stage: Stage, now_ms: i64) {
        self.stage = stage;
        self.since_ms = now_ms;
    }

    fn say(&mut self, kind: PayloadType, payload: Bytes, now_ms: i64) {
        let frame = self.link.send(kind, payload, now_ms);
        // While the client is away its frames wait in the link.
        if !self.is_paused {
            self.effects.push_back(Effect::Send(frame));
        }
    }
}

impl ChannelClosed {
    /// The end of a session, with what the client is to show.
    pub fn new(
        session_id: &str,
        output: &str,
        exit_code: Option<i32>,
    ) -> ChannelClosed {
        ChannelClosed {
            message_type: MessageType::ChannelClosed.as_str().to_owned(),
            message_id: String::new(),
            destination_id: String::new(),
            session_id: session_id.to_owned(),
            schema_version: 1,
            created_date: String::new(),
            output: output.to_owned(),
            exit_code,
        }
    }

    fn dated(self, now_ms: i64) -> ChannelClosed {
        ChannelClosed { created_date: now_ms.to_string(), ..self }
    }

    /// The frame that ends a session in which nothing else was said.
    pub fn frame(self, id: u128, now_ms: i64) -> Bytes {
        let closed =
            ChannelClosed { message_id: uuid_text(id), ..self.dated(now_ms) };
        Link::new(Role::Agent, id).control(
            MessageType::ChannelClosed,
            json(&closed),
            now_ms,
        )
    }
}

fn size(payload: &[u8]) -> Option<TerminalSize> {
    serde_json::from_slice(payload).ok()
}

/// These shapes are made of strings and numbers, which have a JSON form.
fn json(value: &impl serde::Serialize) -> Bytes {
    serde_json::to_vec(value).unwrap_or_default().into()
}
