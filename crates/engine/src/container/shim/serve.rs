//! The shim's loop while the container runs, and its end.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::connection::{Connection, Executing, Role};
use super::exec;
use super::launch::{RunningContainer, forget};
use super::process::exit_code;
use crate::container::logs::{LogStream, LogWriter};
use crate::container::paths::{
    ContainerPaths, KEPT_EXIT, SOCKET, write_json, write_json_durably,
};
use crate::container::protocol::{
    Answer, EXEC_OUTPUT_MAX_BYTES, PROTOCOL, Request, RequestBody, decode,
};
use crate::container::{Exit, ExitReason, LogLimits};
use crate::time::{now_ms, now_ns};

/// Most bytes taken from a stream before others get their turn.
const READ_BYTES: usize = 32 << 10;
/// The daemon keeps one watcher and a few requests; more is a mistake.
const CONNECTIONS_MAX: usize = 64;
/// How long watchers have to take the news of the end.
const FAREWELL: Duration = Duration::from_secs(1);
/// How often a full log is looked at, while its container waits.
const FULL_LOG_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
/// What a stream may still hold when its writers are dead: a pipe's buffer,
/// and what a shared process namespace's survivors add.
const DRAIN_MAX_BYTES: usize = 4 << 20;

/// What the loop has to know of the container.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) cgroup: String,
    /// The container shares its process namespace, so the end of its first
    /// process does not end the others.
    pub(super) shares_processes: bool,
    pub(super) log: LogLimits,
}

pub(super) fn serve(
    served: Served,
    paths: &ContainerPaths,
    listener: UnixListener,
    container: RunningContainer,
) {
    let logs = LogWriter::new(&paths.logs(), served.log.clone());
    let mut shim = Shim {
        served,
        paths,
        container,
        root: File::open(&paths.root).ok(),
        streams: vec![],
        logs,
        connections: vec![],
        status: None,
        buffer: vec![0; READ_BYTES],
    };
    shim.take_streams();
    while shim.status.is_none() {
        // An error here would be one of memory; trying again is all there is.
        let _ = shim.turn(&listener);
    }
    shim.finish();
}

struct Stream {
    kind: LogStream,
    fd: OwnedFd,
}

struct Shim<'a> {
    served: Served,
    paths: &'a ContainerPaths,
    container: RunningContainer,
    /// `root/<id>`, whatever its name may be by the end.
    root: Option<File>,
    streams: Vec<Stream>,
    logs: LogWriter,
    connections: Vec<Connection>,
    /// The wait status of the container's first process.
    status: Option<i32>,
    buffer: Vec<u8>,
}

/// What a descriptor in the poll set stands for.
#[derive(Clone, Copy)]
enum Source {
    Init,
    Listener,
    Stream(LogStream),
    Connection(usize),
    ExecEnd,
    ExecOutput(usize),
}

impl Shim<'_> {
    fn take_streams(&mut self) {
        let null = || File::open("/dev/null").map(OwnedFd::from);
        if let Ok(null) = null() {
            let fd = std::mem::replace(&mut self.container.stdout, null);
            self.streams.push(Stream { kind: LogStream::Stdout, fd });
        }
        if let Some(fd) = self.container.stderr.take() {
            self.streams.push(Stream { kind: LogStream::Stderr, fd });
        }
    }

    /// Waits for something to happen, once, and deals with all that did.
    fn turn(&mut self, listener: &UnixListener) -> io::Result<()> {
        let ready = self.wait(listener)?;
        let mut reap = false;
        let mut logged = false;
        for source in ready {
            match source {
                Source::Init | Source::ExecEnd => reap = true,
                Source::Listener => self.accept(listener),
                Source::Stream(kind) => logged |= self.copy(kind),
                Source::Connection(at) => self.converse(at),
                Source::ExecOutput(at) => self.collect(at),
            }
        }
        if reap {
            self.reap();
        }
        if logged {
            self.tell_watchers(&Answer::Logged);
        }
        self.connections.retain(|c| {
            !matches!(c.role, Role::Closing) || !c.to_send.is_empty()
        });
        Ok(())
    }

    fn wait(&mut self, listener: &UnixListener) -> io::Result<Vec<Source>> {
        let input = PollFlags::IN;
        let is_log_full = self.logs.is_full();
        let mut sources = vec![Source::Init, Source::Listener];
        let mut polled = vec![
            PollFd::new(&self.container.pidfd, input),
            PollFd::new(listener, input),
        ];
        for stream in self.streams.iter().filter(|_| !is_log_full) {
            sources.push(Source::Stream(stream.kind));
            polled.push(PollFd::new(&stream.fd, input));
        }
        for (at, connection) in self.connections.iter().enumerate() {
            let mut flags = input;
            flags.set(PollFlags::OUT, !connection.to_send.is_empty());
            if !connection.is_lost {
                sources.push(Source::Connection(at));
                polled.push(PollFd::new(&connection.stream, flags));
            }
            if let Role::Executing(running) = &connection.role {
                sources.push(Source::ExecEnd);
                polled.push(PollFd::new(&running.exec.pidfd, input));
                if let Some(source) = &running.source {
                    sources.push(Source::ExecOutput(at));
                    polled.push(PollFd::new(source, input));
                }
            }
        }
        let longest = is_log_full.then_some(&FULL_LOG_EVERY);
        match poll(&mut polled, longest) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        Ok(polled
            .iter()
            .zip(sources)
            .filter(|(fd, _)| !fd.revents().is_empty())
            .map(|(_, source)| source)
            .collect())
    }

    fn accept(&mut self, listener: &UnixListener) {
        if let Ok((stream, _)) = listener.accept()
            && self.connections.len() < CONNECTIONS_MAX
            && stream.set_nonblocking(true).is_ok()
        {
            self.connections.push(Connection {
                stream,
                received: vec![],
                to_send: vec![],
                role: Role::Asking,
                is_lost: false,
            });
        }
    }

    /// Copies what a stream has to the log; says whether lines were written.
    fn copy(&mut self, kind: LogStream) -> bool {
        let Some(at) = self.streams.iter().position(|s| s.kind == kind) else {
            return false;
        };
        match rustix::io::read(&self.streams[at].fd, &mut self.buffer[..]) {
            Ok(count) if count > 0 => {
                self.logs.take(kind, &self.buffer[..count], now_ns())
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => false,
            // The end; of a terminal it is an I/O error.
            Ok(_) | Err(_) => {
                self.streams.swap_remove(at);
                self.logs.end(kind, now_ns())
            }
        }
    }

    /// Receives and sends what a connection has ready.
    fn converse(&mut self, at: usize) {
        let Some(connection) = self.connections.get_mut(at) else { return };
        let is_open = connection.receive() && connection.flush();
        if !is_open {
            connection.abandon();
            return;
        }
        if !matches!(connection.role, Role::Asking) {
            return;
        }
        let answer = match decode::<Request>(&mut connection.received) {
            Ok(None) => return,
            Ok(Some(request)) if request.protocol == PROTOCOL => {
                self.serve_request(at, request.body)
            }
            Ok(Some(_)) => Some(refused("another version of the protocol")),
            Err(e) => Some(refused(&e.to_string())),
        };
        if let (Some(answer), Some(connection)) =
            (answer, self.connections.get_mut(at))
        {
            connection.say(&answer);
            connection.role = Role::Closing;
        }
    }

    fn serve_request(
        &mut self,
        at: usize,
        body: RequestBody,
    ) -> Option<Answer> {
        match body {
            RequestBody::Ping => Some(Answer::Ok),
            RequestBody::Signal { number } => Some(self.signal(number)),
            RequestBody::Watch => {
                let connection = self.connections.get_mut(at)?;
                connection.role = Role::Watching;
                connection.say(&Answer::Logged);
                None
            }
            RequestBody::Exec { process, output_max_bytes } => {
                let group = &self.served.cgroup;
                match exec::start(&self.container, group, &process) {
                    Err(e) => Some(not_started(&e)),
                    Ok((exec, source)) => {
                        let most = output_max_bytes.min(EXEC_OUTPUT_MAX_BYTES);
                        self.connections.get_mut(at)?.role =
                            executing(exec, Some(source), most);
                        None
                    }
                }
            }
            RequestBody::ExecTerminal { process, size } => {
                let group = &self.served.cgroup;
                let connection = self.connections.get_mut(at)?;
                let to = &connection.stream;
                let container = &self.container;
                match exec::start_terminal(container, group, &process, size, to)
                {
                    Err(e) => Some(not_started(&e)),
                    Ok(exec) => {
                        connection.role = executing(exec, None, 0);
                        connection.say(&Answer::Ok);
                        None
                    }
                }
            }
        }
    }

    /// Signals the first process, which cannot be another: it is not waited
    /// for before `finish`, and a descriptor names it.
    fn signal(&self, number: i32) -> Answer {
        // SAFETY: an open descriptor, a number and no structure.
        let sent = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.container.pidfd.as_raw_fd(),
                number,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        if sent == 0 {
            return Answer::Ok;
        }
        let e = io::Error::last_os_error();
        Answer::Refused { message: e.to_string(), errno: e.raw_os_error() }
    }

    fn collect(&mut self, at: usize) {
        if let Some(connection) = self.connections.get_mut(at)
            && let Role::Executing(running) = &mut connection.role
        {
            running.collect(&mut self.buffer);
        }
    }

    /// Waits for every child that has ended: the container's first process,
    /// execs, and orphans that came to the shim.
    fn reap(&mut self) {
        loop {
            let mut status = 0;
            // SAFETY: waits without blocking; writes one integer of ours.
            let pid =
                unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
            if pid <= 0 {
                return;
            }
            if pid == self.container.pid {
                self.status = Some(status);
            }
            for connection in &mut self.connections {
                connection.exec_ended(pid, status, &mut self.buffer);
            }
        }
    }

    fn tell_watchers(&mut self, event: &Answer) {
        for connection in &mut self.connections {
            // What is still unsent says "look at the log" as well.
            if matches!(connection.role, Role::Watching)
                && (connection.to_send.is_empty() || *event != Answer::Logged)
            {
                connection.say(event);
            }
        }
    }

    /// The container has ended: record it, say so, leave nothing behind.
    fn finish(mut self) {
        let layout = self.container.layout.clone();
        let group = std::mem::take(&mut self.served.cgroup);
        if self.served.shares_processes {
            layout.kill(&group);
        }
        self.drain();
        // Execs died with the container; their processes are reaped here.
        self.reap();
        let status = self.status.unwrap_or(0);
        let exit = Exit {
            code: exit_code(status),
            signal: libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status)),
            oom_killed: layout.oom_kills(&group) > 0,
            at_ms: now_ms(),
            reason: ExitReason::Exited,
        };
        // In memory first: whoever waits is told at once, then the disk.
        let _ = write_json(&self.paths.exit(), &exit);
        self.tell_watchers(&Answer::Exited(exit.clone()));
        self.farewell();
        forget(&self.paths.runtime());
        let _ = layout.remove_tree(&group);
        let _ = std::fs::remove_file(self.paths.run.join(SOCKET));
        // The daemon takes this for the shim's end. What follows goes by way
        // of the directory itself: by now another container may have its name.
        self.connections.clear();
        if let Some(root) = &self.root {
            let root = format!("/proc/self/fd/{}", root.as_raw_fd());
            let kept = Path::new(&root).join(KEPT_EXIT);
            let _ = write_json_durably(&kept, &exit);
        }
    }

    /// Takes what the streams still hold; their writers are dead.
    fn drain(&mut self) {
        let kinds: Vec<LogStream> =
            self.streams.iter().map(|stream| stream.kind).collect();
        for kind in kinds {
            for _ in 0..DRAIN_MAX_BYTES / READ_BYTES {
                let Some(stream) = self.streams.iter().find(|s| s.kind == kind)
                else {
                    break;
                };
                let mut set = [PollFd::new(&stream.fd, PollFlags::IN)];
                let now = Timespec::default();
                if !matches!(poll(&mut set, Some(&now)), Ok(1..)) {
                    break;
                }
                self.copy(kind);
            }
            self.logs.end(kind, now_ns());
        }
    }

    fn farewell(&mut self) {
        for connection in &mut self.connections {
            let _ = connection.stream.set_nonblocking(false);
            let _ = connection.stream.set_write_timeout(Some(FAREWELL));
            let _ = connection.stream.write_all(&connection.to_send);
        }
    }
}

fn executing(
    exec: exec::RunningExec,
    source: Option<OwnedFd>,
    output_max: usize,
) -> Role {
    Role::Executing(Box::new(Executing {
        exec,
        source,
        output: vec![],
        output_max,
        truncated: false,
    }))
}

fn not_started(e: &io::Error) -> Answer {
    Answer::Refused { message: e.to_string(), errno: e.raw_os_error() }
}

fn refused(message: &str) -> Answer {
    Answer::Refused { message: message.to_owned(), errno: None }
}
