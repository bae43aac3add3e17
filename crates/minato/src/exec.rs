//! `minato exec`: a command in a running container, as `aws ecs
//! execute-command` runs it, but without the session-manager-plugin.

use std::collections::VecDeque;
use std::io::{IsTerminal, Read, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use minato_core::env::{Clock, Ids};
use minato_wire::ecs;
use minato_wire::ssm_channel::{
    ActionStatus, ChannelClosed, HandshakeRequest, HandshakeResponse, Link,
    Message, MessageType, OpenDataChannel, PIECE_BYTES, PayloadType,
    ProcessedAction, Role, TerminalSize, uuid_text,
};
use rustix::termios::{OptionalActions, Termios, tcgetwinsize};
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::api::{Api, block_on};
use crate::args::ExecArgs;
use crate::home::Home;
use crate::machine::{RandomIds, SystemClock};

/// How often repeats are looked at.
const TICK: Duration = Duration::from_millis(100);
/// Frames that may wait for the socket before no more are made.
const FRAMES_MAX: usize = 64;
/// Pieces of input read ahead.
const INPUTS_MAX: usize = 4;
/// Ends the input of a program that reads a terminal line by line.
const END_OF_INPUT: u8 = 4;
/// How often the end of our input is told again. It is an end for whoever
/// reads, then and later: a shell that was not reading yet, or whose terminal
/// changes its mode at that moment, sees the first one as a zero byte.
const END_AGAIN: Duration = Duration::from_millis(500);
/// And how: with that zero byte its line is not empty, so the line goes first
/// (`^U`). Of what was typed nothing is lost, as an end has followed it.
const END_OF_INPUT_AGAIN: [u8; 2] = [0x15, END_OF_INPUT];

pub(crate) fn run(home: &Home, args: &ExecArgs) -> Result<ExitCode> {
    let api = Api::of(home)?;
    block_on(async {
        let task = api.find(&args.task).await?;
        let words = args.command.iter().map(|word| quote(word));
        let request = ecs::ExecuteCommandRequest {
            cluster: task.cluster_arn.clone(),
            container: args.container.clone(),
            command: Some(words.collect::<Vec<_>>().join(" ")),
            interactive: Some(true),
            task: task.task_arn.clone(),
        };
        let answer: ecs::ExecuteCommandResponse =
            api.ecs("ExecuteCommand", &request).await?;
        let session = answer.session.context("no session was answered")?;
        let socket = open(&session).await?;
        // From here on the terminal is the command's.
        let _raw = RawTerminal::enter();
        Client::new().converse(socket).await
    })
}

/// A word that the other side's splitting leaves as it is.
fn quote(word: &str) -> String {
    let is_plain =
        |c: char| c.is_ascii_alphanumeric() || "/-_.,:=+@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Opens the session's data channel.
async fn open(session: &ecs::Session) -> Result<WebSocketStream<TcpStream>> {
    let url = session.stream_url.as_deref().unwrap_or_default();
    let address = url.split('/').nth(2).unwrap_or_default();
    let stream = TcpStream::connect(address)
        .await
        .with_context(|| format!("could not connect to {address}"))?;
    let _ = stream.set_nodelay(true);
    let (mut socket, _) = client_async(url, stream)
        .await
        .context("could not open the session's channel")?;
    let opening = OpenDataChannel {
        message_schema_version: "1.0".to_owned(),
        request_id: uuid_text(RandomIds.uuid()),
        token_value: session.token_value.clone().unwrap_or_default(),
        client_id: uuid_text(RandomIds.uuid()),
        client_version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let opening = serde_json::to_string(&opening)?;
    let opening = tungstenite::Message::text(opening);
    socket.send(opening).await.context("could not open the session")?;
    Ok(socket)
}

/// The user's side of a session.
struct Client {
    link: Link,
    frames: VecDeque<Bytes>,
    size: Option<TerminalSize>,
    is_open: bool,
}

impl Client {
    fn new() -> Client {
        Client {
            link: Link::new(Role::Client, RandomIds.uuid()),
            frames: VecDeque::new(),
            size: None,
            is_open: false,
        }
    }

    /// Carries bytes both ways to the session's end, and answers how the
    /// command ended.
    async fn converse(
        mut self,
        socket: WebSocketStream<TcpStream>,
    ) -> Result<ExitCode> {
        let (mut sink, mut stream) = socket.split();
        // A task of its own: a socket that takes nothing must not keep what
        // comes from being read.
        let (to_socket, mut from_us) = mpsc::channel::<Bytes>(1);
        tokio::spawn(async move {
            while let Some(frame) = from_us.recv().await {
                let frame = tungstenite::Message::Binary(frame);
                if sink.send(frame).await.is_err() {
                    return;
                }
            }
        });
        let mut typed = typed();
        let mut resized = signal(SignalKind::window_change())?;
        let mut tick = tokio::time::interval(TICK);
        let mut end_again = tokio::time::interval(END_AGAIN);
        let mut has_ended = false;
        loop {
            let wants_input = self.is_open
                && self.link.has_room()
                && self.frames.len() < FRAMES_MAX;
            tokio::select! {
                message = stream.next() => {
                    if let Some(closed) = self.hear(message)? {
                        return end(&closed);
                    }
                }
                permit = to_socket.reserve(), if !self.frames.is_empty() => {
                    let permit = permit.ok().context("the connection is lost")?;
                    if let Some(frame) = self.frames.pop_front() {
                        permit.send(frame);
                    }
                }
                bytes = typed.recv(), if wants_input && !has_ended => {
                    match bytes {
                        Some(bytes) => self.say(PayloadType::Output, bytes),
                        None => {
                            has_ended = true;
                            end_again.reset();
                        }
                    }
                }
                _ = end_again.tick(), if wants_input && has_ended => {
                    let end = Bytes::from_static(&END_OF_INPUT_AGAIN);
                    self.say(PayloadType::Output, end);
                }
                _ = resized.recv(), if self.is_open => self.tell_size()?,
                _ = tick.tick() => self.frames.extend(self.link.due(now())),
            }
        }
    }

    /// Takes what came; answers with the end, if it was that.
    fn hear(
        &mut self,
        message: Option<Result<tungstenite::Message, tungstenite::Error>>,
    ) -> Result<Option<ChannelClosed>> {
        let frame = match message {
            Some(Ok(tungstenite::Message::Binary(frame))) => frame,
            Some(Ok(tungstenite::Message::Close(_))) | None => {
                bail!("the connection is lost")
            }
            Some(Ok(_)) => return Ok(None),
            Some(Err(error)) => {
                return Err(error).context("the connection is lost");
            }
        };
        let Ok(message) = Message::decode(&frame) else { return Ok(None) };
        if message.r#type == MessageType::ChannelClosed {
            let closed = serde_json::from_slice(&message.payload)
                .context("the session's end cannot be read")?;
            return Ok(Some(closed));
        }
        let taken = self.link.take(message, true, now());
        self.frames.extend(taken.answer);
        let mut out = std::io::stdout().lock();
        for (kind, payload) in taken.delivered {
            match kind {
                PayloadType::HandshakeRequest => self.shake(&payload)?,
                PayloadType::HandshakeComplete => {
                    self.is_open = true;
                    self.tell_size()?;
                }
                PayloadType::None
                | PayloadType::Output
                | PayloadType::Size
                | PayloadType::HandshakeResponse
                | PayloadType::Other(_) => out.write_all(&payload)?,
            }
        }
        out.flush()?;
        Ok(None)
    }

    fn shake(&mut self, payload: &[u8]) -> Result<()> {
        let asked: HandshakeRequest = serde_json::from_slice(payload)
            .context("the handshake cannot be read")?;
        let actions = asked.requested_client_actions.into_iter();
        let done = actions.map(|action| {
            let status = match action.action_type.as_str() {
                "SessionType" => ActionStatus::SUCCESS,
                _ => ActionStatus::UNSUPPORTED,
            };
            ProcessedAction {
                action_type: action.action_type,
                action_status: status.0,
                ..ProcessedAction::default()
            }
        });
        let response = HandshakeResponse {
            client_version: env!("CARGO_PKG_VERSION").to_owned(),
            processed_client_actions: done.collect(),
            errors: None,
        };
        let response = serde_json::to_vec(&response)?;
        self.say(PayloadType::HandshakeResponse, response.into());
        Ok(())
    }

    /// Tells the terminal's size where it is news; where there is no terminal,
    /// the usual one once.
    fn tell_size(&mut self) -> Result<()> {
        let size = tcgetwinsize(std::io::stdout()).ok();
        let size = size.filter(|size| size.ws_col > 0 && size.ws_row > 0);
        let size = size.map_or_else(TerminalSize::default, |size| {
            TerminalSize { cols: size.ws_col, rows: size.ws_row }
        });
        if self.size != Some(size) {
            self.size = Some(size);
            self.say(PayloadType::Size, serde_json::to_vec(&size)?.into());
        }
        Ok(())
    }

    fn say(&mut self, kind: PayloadType, payload: Bytes) {
        self.frames.push_back(self.link.send(kind, payload, now()));
    }
}

fn end(closed: &ChannelClosed) -> Result<ExitCode> {
    match closed.exit_code {
        Some(code) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(1))),
        None if closed.output.is_empty() => bail!("the session was ended"),
        None => bail!("{}", closed.output),
    }
}

fn now() -> i64 {
    SystemClock.now().as_millis()
}

/// What is typed, or comes from a pipe. A thread reads it: it may wait for
/// ever, and ends with the process.
fn typed() -> mpsc::Receiver<Bytes> {
    let (sender, receiver) = mpsc::channel(INPUTS_MAX);
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        let mut buffer = vec![0; PIECE_BYTES];
        let mut last = b'\n';
        while let Ok(count) = input.read(&mut buffer)
            && let Some(read @ [.., end]) = buffer.get(..count)
        {
            last = *end;
            if sender.blocking_send(Bytes::copy_from_slice(read)).is_err() {
                return;
            }
        }
        // The end of a pipe is told as one types it: once on a line of its
        // own, twice after the beginning of one.
        let times = if last == b'\n' { 1 } else { 2 };
        let _ = sender.blocking_send(vec![END_OF_INPUT; times].into());
    });
    receiver
}

/// Has the terminal pass every key on, until it is dropped.
struct RawTerminal {
    before: Termios,
}

impl RawTerminal {
    /// Nothing where standard input is no terminal.
    fn enter() -> Option<RawTerminal> {
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            return None;
        }
        let before = rustix::termios::tcgetattr(&stdin).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(&stdin, OptionalActions::Flush, &raw)
            .ok()?;
        Some(RawTerminal { before })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        let stdin = std::io::stdin();
        let now = OptionalActions::Flush;
        let _ = rustix::termios::tcsetattr(stdin, now, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_through_the_command_line_as_they_are() {
        let words = ["sh", "-c", "echo \"it's\" $X\n", "", "a=b", "\\", "ü"];
        let line: Vec<String> = words.iter().map(|it| quote(it)).collect();
        assert_eq!(line[..2], ["sh", "-c"]);
        let line = line.join(" ");
        assert_eq!(minato_core::command_line::split(&line).unwrap(), words);
    }
}
