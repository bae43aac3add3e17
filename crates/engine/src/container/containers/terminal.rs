//! A command in a terminal of its own inside a running container.

mod reader;

use std::os::fd::{AsFd, OwnedFd};

use bytes::Bytes;
use rustix::termios::tcsetwinsize;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};

use self::reader::{Reader, read_some};
use super::*;
use crate::container::TerminalSize;

/// Most bytes of one piece of output.
const PIECE_BYTES: usize = 16 << 10;
/// Pieces of output that may wait; then the command waits too.
const PIECES_MAX: usize = 2;
/// Things said to the command that may wait.
const INPUTS_MAX: usize = 256;
/// Times that is read after the command's end, of 4 KiB each or less: all that
/// the kernel keeps of a terminal's output, several times over.
const LAST_PIECES: usize = 256;

/// What a terminal is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TerminalInput {
    /// Bytes as typed: control characters become signals.
    Bytes(Bytes),
    /// The terminal has another size.
    Size(TerminalSize),
}

/// A command that runs in a terminal. Once it is dropped, the command and
/// everything else of its session are killed.
#[derive(Debug)]
pub struct Terminal {
    /// What is typed. That the command does not read holds this up.
    pub input: mpsc::Sender<TerminalInput>,
    /// What is shown; its end is that of all output. Not reading it holds the
    /// command up.
    pub output: mpsc::Receiver<Bytes>,
    /// The command's exit code, 128 + signal if one ended it; after the last
    /// output. An error if the container's shim is gone.
    pub exit: oneshot::Receiver<i32>,
}

impl Containers {
    /// Starts a command in a new terminal inside a running container.
    pub async fn exec_terminal(
        &self,
        id: &ContainerId,
        spec: &ExecSpec,
        size: TerminalSize,
    ) -> Result<Terminal, ContainerError> {
        let entry = self.found(id)?;
        let shim = |source| ContainerError::Shim { id: id.clone(), source };
        let process = self.process_in(&entry, spec).await?;
        let mut connection =
            ShimConnection::open(&entry.paths.run).map_err(shim)?;
        let asked = async {
            let process = Box::new(process);
            connection
                .send(RequestBody::ExecTerminal { process, size })
                .await?;
            let mut master = None;
            loop {
                match connection.receive_with_fd().await? {
                    (Answer::Terminal, Some(fd)) => master = Some(fd),
                    (Answer::Ok, _) => return Ok((Answer::Ok, master)),
                    (answer @ Answer::Refused { .. }, _) => {
                        return Ok((answer, None));
                    }
                    (
                        Answer::Terminal
                        | Answer::ExecEnded { .. }
                        | Answer::Logged
                        | Answer::Exited(_),
                        _,
                    ) => return Err(io::ErrorKind::InvalidData.into()),
                }
            }
        };
        let answered = tokio::time::timeout(ANSWER_WITHIN, asked)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let master = match answered.map_err(shim)? {
            (Answer::Refused { message, errno }, _) => {
                let id = id.clone();
                return Err(ContainerError::Refused { id, message, errno });
            }
            (_, Some(master)) => master,
            (_, None) => return Err(shim(io::ErrorKind::InvalidData.into())),
        };
        let master = Arc::new(master);
        let reader = Reader::start(Arc::clone(&master)).map_err(shim)?;
        let master = register(master).map_err(shim)?;
        let (input, mut inputs) = mpsc::channel(INPUTS_MAX);
        let (outputs, output) = mpsc::channel(PIECES_MAX);
        let (told, exit) = oneshot::channel();
        let pending = Bytes::new();
        let mut pump = Pump { master, reader, outputs, pending };
        tokio::spawn(async move {
            let ended = pump.run(&mut inputs, &mut connection).await;
            // Before the terminal hangs up: a shim that hears of the hang-up
            // first would take the command's end for one of its own.
            drop(connection);
            drop(pump);
            if let Some(code) = ended {
                let _ = told.send(code);
            }
        });
        Ok(Terminal { input, output, exit })
    }
}

#[expect(unsafe_code, reason = "tokio asks for a promise about descriptors")]
fn register(fd: Arc<OwnedFd>) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    // SAFETY: a shared descriptor is open, and the same, until the last that
    // share it drop it; what is made of it here is one of them.
    let registered =
        unsafe { AsyncFd::register_with_interest(fd, Interest::WRITABLE) };
    registered.map_err(|error| error.into_parts().1)
}

struct Pump {
    master: AsyncFd<Arc<OwnedFd>>,
    reader: Reader,
    outputs: mpsc::Sender<Bytes>,
    /// Typed, and not taken by the terminal yet.
    pending: Bytes,
}

/// What the pump saw.
enum Event {
    Output(Option<Bytes>),
    Written(io::Result<usize>),
    Input(Option<TerminalInput>),
    Ended(io::Result<Answer>),
    Abandoned,
}

impl Pump {
    /// Carries bytes both ways until the command ends, and answers its exit
    /// code; nothing if nobody listens any more, or the shim is gone.
    async fn run(
        &mut self,
        inputs: &mut mpsc::Receiver<TerminalInput>,
        connection: &mut ShimConnection,
    ) -> Option<i32> {
        let (mut is_drained, mut may_type) = (false, true);
        loop {
            let event = tokio::select! {
                piece = self.read(), if !is_drained => {
                    Event::Output(piece)
                }
                written = self.write(), if !self.pending.is_empty() => {
                    Event::Written(written)
                }
                input = inputs.recv(),
                    if may_type && self.pending.is_empty() =>
                {
                    Event::Input(input)
                }
                answer = connection.receive() => Event::Ended(answer),
                () = self.outputs.closed() => Event::Abandoned,
            };
            match event {
                // There was room for it, and there still is.
                Event::Output(Some(piece)) => {
                    self.outputs.send(piece).await.ok()?;
                }
                Event::Output(None) => is_drained = true,
                Event::Written(Ok(count)) => {
                    drop(self.pending.split_to(count));
                }
                // The terminal hangs: the command's end is what comes next.
                Event::Written(Err(_)) => self.pending.clear(),
                Event::Input(Some(TerminalInput::Bytes(bytes))) => {
                    self.pending = bytes;
                }
                Event::Input(Some(TerminalInput::Size(size))) => {
                    self.resize(size);
                }
                Event::Input(None) => may_type = false,
                Event::Ended(Ok(Answer::ExecEnded { code, .. })) => {
                    return self.last_output().await.map(|()| code);
                }
                Event::Ended(Ok(_) | Err(_)) | Event::Abandoned => return None,
            }
        }
    }

    /// Waits for room and then for output; `None` once there will be none.
    async fn read(&self) -> Option<Bytes> {
        let _room = self.outputs.reserve().await.ok()?;
        self.reader.piece().await
    }

    async fn write(&self) -> io::Result<usize> {
        let write =
            |fd: &Arc<OwnedFd>| Ok(rustix::io::write(fd, &self.pending)?);
        self.master.async_io(Interest::WRITABLE, write).await
    }

    fn resize(&self, size: TerminalSize) {
        // It has hung up if this fails, and needs no size.
        let _ = tcsetwinsize(self.master.as_fd(), size.into());
    }

    /// Gives out what the command has left; what others of its session still
    /// write ends with the terminal.
    async fn last_output(&mut self) -> Option<()> {
        self.reader.stop();
        while let Some(piece) = self.reader.waiting() {
            self.outputs.send(piece).await.ok()?;
        }
        for _ in 0..LAST_PIECES {
            let Ok(piece) = read_some(self.master.get_ref()) else { break };
            self.outputs.send(piece).await.ok()?;
        }
        Some(())
    }
}
