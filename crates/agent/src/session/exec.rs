//! ECS Exec: one command in one container, on a data channel.
//!
//! What is on the channel is [`AgentSide`]'s affair; here are the channel, the
//! container's terminal and the time. Everything between the two is bounded:
//! output is read only when it can be sent, input is acknowledged only when
//! there is room for it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use minato_core::command_line;
use minato_wire::acs::ExecuteCommand;
use minato_wire::ssm_channel::{self as wire, AgentSide, Effect};
use tokio::sync::{mpsc, oneshot};

use super::transcript::Transcript;
use super::{Connector, DataChannel};
use crate::agent::Services;
use crate::engine::TaskEngine;
use crate::runtime::{ExecSpec, Terminal, TerminalInput, TerminalSize};
use crate::task::plan::{ContainerPlan, TaskPlan};
use crate::task::status::ContainerStatus;

/// How often repeats and deadlines are looked at; upstream's.
const TICK: Duration = Duration::from_millis(100);
/// Frames that may wait for the channel before no more are made.
const FRAMES_MAX: usize = 64;
/// Bytes of input that may wait for the command.
const INPUT_BYTES_MAX: usize = 1 << 20;
/// Pieces of input that may wait for the command.
const INPUTS_MAX: usize = 4096;
/// What the upstream agent has unless the container has its own.
const ENVIRONMENT: [&str; 2] = ["TERM=xterm-256color", "LANG=C.UTF-8"];

/// What is to be run, and where.
#[derive(Debug)]
struct Target {
    task: Arc<TaskPlan>,
    container: ContainerPlan,
    spec: ExecSpec,
}

/// Serves one session to its end. Whatever the command has started in its
/// session ends with it.
pub(super) async fn serve(
    services: Arc<Services>,
    engine: TaskEngine,
    connector: Arc<dyn Connector>,
    order: ExecuteCommand,
) {
    let opened = connector.open_exec(&order.session_id, &order.token_value);
    let channel = match opened.await {
        Ok(channel) => channel,
        Err(error) => {
            let session = order.session_id;
            tracing::warn!(session, %error, "a data channel was not opened");
            return;
        }
    };
    let target = target(&engine, &order);
    let session_id = order.session_id.clone();
    let first_id = services.ids.uuid();
    let now_ms = services.clock.now().as_millis();
    let mut session = Session {
        order,
        side: AgentSide::new(&session_id, first_id, now_ms),
        services,
        target,
        frames: VecDeque::new(),
        inputs: VecDeque::new(),
        input_bytes: 0,
        terminal: None,
        is_over: false,
        transcript: None,
    };
    session.run(channel).await;
    // The channel is closed, and the command's processes go: nothing but the
    // log is waited for.
    let transcript = session.transcript.take();
    drop(session);
    if let Some(transcript) = transcript {
        transcript.finish().await;
    }
}

/// Finds the container and what is to be run in it, as its root (developer
/// guide, ECS Exec: commands are run as the root user).
fn target(
    engine: &TaskEngine,
    order: &ExecuteCommand,
) -> Result<Target, String> {
    let name = &order.container_name;
    let tasks = engine.tasks();
    let task = tasks.iter().find(|task| task.arn == order.task_arn);
    let task_plan = task.and_then(|task| task.plan.as_ref());
    let plan = task_plan.and_then(|plan| plan.container(name));
    let record = task.and_then(|task| task.record.containers.get(name));
    let (Some(task_plan), Some(plan), Some(record)) = (task_plan, plan, record)
    else {
        return Err(format!("The container {name} is not on this host."));
    };
    if record.status != ContainerStatus::Running {
        return Err(format!("The container {name} is not running."));
    }
    let args = command_line::split(&order.command)
        .map_err(|error| format!("The command cannot be read: {error}."))?;
    if args.is_empty() {
        return Err("Commands cannot be empty.".to_owned());
    }
    let of_image = record.facts.image.iter().flat_map(|image| &image.env);
    let own: Vec<&str> = of_image
        .filter_map(|line| Some(line.split_once('=')?.0))
        .chain(plan.environment.keys().map(String::as_str))
        .collect();
    let is_missing = |line: &&str| {
        line.split_once('=').is_none_or(|(name, _)| !own.contains(&name))
    };
    let env = ENVIRONMENT.into_iter().filter(is_missing);
    let spec = ExecSpec {
        args,
        env: env.map(str::to_owned).collect(),
        cwd: None,
        user: Some("0".to_owned()),
        output_max_bytes: 0,
    };
    let (task, container) = (Arc::clone(task_plan), plan.clone());
    Ok(Target { task, container, spec })
}

/// One command, from its session's beginning to the end.
struct Session {
    services: Arc<Services>,
    order: ExecuteCommand,
    target: Result<Target, String>,
    side: AgentSide,
    frames: VecDeque<Bytes>,
    inputs: VecDeque<TerminalInput>,
    input_bytes: usize,
    terminal: Option<Running>,
    is_over: bool,
    /// Where the output is written down, if it is.
    transcript: Option<Transcript>,
}

/// The terminal, as far as it goes.
struct Running {
    input: mpsc::Sender<TerminalInput>,
    output: mpsc::Receiver<Bytes>,
    exit: oneshot::Receiver<i32>,
    /// There will be no more output: the exit code is next.
    is_drained: bool,
    has_ended: bool,
}

enum Event {
    Frame(Option<Bytes>),
    Sent,
    Gone,
    Output(Option<Bytes>),
    Typed,
    Ended(Option<i32>),
    Tick,
}

impl Session {
    async fn run(&mut self, mut channel: DataChannel) {
        let mut tick = tokio::time::interval(TICK);
        loop {
            self.take_effects().await;
            if self.is_over && self.frames.is_empty() {
                return;
            }
            let event = self.next(&mut channel, &mut tick).await;
            let now_ms = self.now_ms();
            match event {
                // The client is gone for good, or was sent away.
                Event::Frame(None) | Event::Gone => return,
                Event::Frame(Some(frame)) => {
                    let has_room = self.input_bytes < INPUT_BYTES_MAX
                        && self.inputs.len() < INPUTS_MAX;
                    self.side.receive(&frame, has_room, now_ms);
                }
                Event::Output(Some(piece)) => {
                    if let Some(transcript) = &mut self.transcript {
                        transcript.write(piece.clone()).await;
                    }
                    self.side.output(piece, now_ms);
                }
                Event::Output(None) => {
                    if let Some(running) = &mut self.terminal {
                        running.is_drained = true;
                    }
                }
                Event::Ended(code) => {
                    if let Some(running) = &mut self.terminal {
                        running.has_ended = true;
                    }
                    match code {
                        Some(code) => self.side.ended(code, now_ms),
                        None => {
                            self.side.refuse("The container is gone.", now_ms);
                        }
                    }
                }
                Event::Sent | Event::Typed => {}
                Event::Tick => self.side.tick(now_ms),
            }
        }
    }

    /// Waits for the next thing to happen on either side.
    async fn next(
        &mut self,
        channel: &mut DataChannel,
        tick: &mut tokio::time::Interval,
    ) -> Event {
        let wants_frames = self.frames.len() < FRAMES_MAX;
        let wants_output = wants_frames && self.side.wants_output();
        let Session { frames, inputs, input_bytes, terminal, .. } = self;
        tokio::select! {
            permit = channel.sender.reserve(), if !frames.is_empty() => {
                let Ok(permit) = permit else { return Event::Gone };
                if let Some(frame) = frames.pop_front() {
                    permit.send(frame);
                }
                Event::Sent
            }
            frame = channel.receiver.recv(), if wants_frames => {
                Event::Frame(frame)
            }
            event = next_of(terminal, inputs, input_bytes, wants_output) => {
                event
            }
            _ = tick.tick() => Event::Tick,
        }
    }

    async fn take_effects(&mut self) {
        while let Some(effect) = self.side.next_effect() {
            match effect {
                Effect::Send(frame) => self.frames.push_back(frame),
                Effect::Start(size) => self.start(size).await,
                Effect::Input(bytes) => {
                    self.input_bytes += bytes.len();
                    self.inputs.push_back(TerminalInput::Bytes(bytes));
                }
                Effect::Resize(size) => {
                    let size = TerminalInput::Size(engine_size(size));
                    // Of several in a row the last one counts.
                    if let Some(TerminalInput::Size(_)) = self.inputs.back() {
                        self.inputs.pop_back();
                    }
                    self.inputs.push_back(size);
                }
                Effect::Close => {
                    self.terminal = None;
                    self.is_over = true;
                }
            }
        }
    }

    async fn start(&mut self, size: wire::TerminalSize) {
        let opened = match &self.target {
            Ok(Target { task, container, spec }) => {
                let runtime = &self.services.runtime;
                let (id, size) = (&container.id, engine_size(size));
                let opened = runtime.exec_terminal(id, spec, size).await;
                if opened.is_ok() {
                    let order = &self.order;
                    self.transcript = Transcript::begin(
                        &self.services,
                        task,
                        container,
                        order,
                    );
                }
                opened.map_err(|error| {
                    format!("The command could not be run: {error}")
                })
            }
            Err(why) => Err(why.clone()),
        };
        match opened {
            Ok(Terminal { input, output, exit }) => {
                let (is_drained, has_ended) = (false, false);
                self.terminal = Some(Running {
                    input,
                    output,
                    exit,
                    is_drained,
                    has_ended,
                });
            }
            Err(why) => {
                let now_ms = self.now_ms();
                self.side.refuse(&why, now_ms);
            }
        }
    }

    fn now_ms(&self) -> i64 {
        self.services.clock.now().as_millis()
    }
}

/// The terminal's part of what happens; nothing while there is none.
async fn next_of(
    terminal: &mut Option<Running>,
    inputs: &mut VecDeque<TerminalInput>,
    input_bytes: &mut usize,
    wants_output: bool,
) -> Event {
    let Some(running) = terminal else { return std::future::pending().await };
    let Running { input, output, exit, is_drained, has_ended } = running;
    if *is_drained && !*has_ended {
        return Event::Ended(exit.await.ok());
    }
    tokio::select! {
        piece = output.recv(), if wants_output && !*is_drained => {
            Event::Output(piece)
        }
        permit = input.reserve(), if !inputs.is_empty() => {
            match (permit, inputs.pop_front()) {
                (Ok(permit), Some(next)) => {
                    if let TerminalInput::Bytes(bytes) = &next {
                        *input_bytes -= bytes.len();
                    }
                    permit.send(next);
                }
                // Nobody reads any more: the end is on its way.
                (Err(_), _) => {
                    inputs.clear();
                    *input_bytes = 0;
                }
                (Ok(_), None) => {}
            }
            Event::Typed
        }
        else => std::future::pending().await,
    }
}

fn engine_size(size: wire::TerminalSize) -> TerminalSize {
    TerminalSize { cols: size.cols, rows: size.rows }
}
