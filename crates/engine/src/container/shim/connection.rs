//! One connection of the daemon's to a shim, and what it started.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use super::exec::RunningExec;
use super::process::{exit_code, kill_session};
use crate::container::protocol::{Answer, FRAME_MAX_BYTES, Hex, encode};

pub(super) struct Connection {
    pub(super) stream: UnixStream,
    pub(super) received: Vec<u8>,
    pub(super) to_send: Vec<u8>,
    pub(super) role: Role,
    /// The other side is gone; only an exec's end is still awaited.
    pub(super) is_lost: bool,
}

pub(super) enum Role {
    /// A request is awaited.
    Asking,
    /// Told of log lines and the end.
    Watching,
    /// Waits for an exec to end.
    Executing(Box<Executing>),
    /// Closed once everything is sent.
    Closing,
}

pub(super) struct Executing {
    pub(super) exec: RunningExec,
    /// Where its output comes from, unless it has a terminal: of that the
    /// daemon has the other end.
    pub(super) source: Option<OwnedFd>,
    pub(super) output: Vec<u8>,
    pub(super) output_max: usize,
    pub(super) truncated: bool,
}

impl Connection {
    /// Says whether the other side is still there.
    pub(super) fn receive(&mut self) -> bool {
        let mut chunk = [0; 4096];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return false,
                Ok(n) if self.received.len() <= FRAME_MAX_BYTES => {
                    self.received.extend_from_slice(&chunk[..n]);
                }
                Ok(_) => return false,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return true,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }

    pub(super) fn flush(&mut self) -> bool {
        while !self.to_send.is_empty() {
            match self.stream.write(&self.to_send) {
                Ok(n) => drop(self.to_send.drain(..n)),
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }

    pub(super) fn say(&mut self, answer: &Answer) {
        if let Ok(frame) = encode(answer) {
            self.to_send.extend_from_slice(&frame);
        }
        if !self.flush() {
            self.abandon();
        }
    }

    /// The other side is gone: what it started ends, and so does this.
    pub(super) fn abandon(&mut self) {
        self.to_send.clear();
        self.is_lost = true;
        if let Role::Executing(running) = &mut self.role {
            running.kill();
            running.source = None;
        } else {
            self.role = Role::Closing;
        }
    }

    pub(super) fn exec_ended(
        &mut self,
        pid: i32,
        status: i32,
        buffer: &mut [u8],
    ) {
        let Role::Executing(running) = &self.role else { return };
        if running.exec.pid != pid {
            return;
        }
        // Its terminal hung up, because the other side is gone: what heard
        // nothing of that ends too.
        if running.exec.has_terminal && (self.is_lost || !self.receive()) {
            kill_session(pid);
        }
        let Role::Executing(running) = &mut self.role else { return };
        while running.collect(buffer) {}
        let answer = Answer::ExecEnded {
            code: exit_code(status),
            output: Hex(std::mem::take(&mut running.output)),
            truncated: running.truncated,
        };
        self.role = Role::Closing;
        if !self.is_lost {
            self.say(&answer);
        }
    }
}

impl Executing {
    /// Takes output that is there now; says whether there was any.
    pub(super) fn collect(&mut self, buffer: &mut [u8]) -> bool {
        let Some(source) = &self.source else { return false };
        match rustix::io::read(source, &mut *buffer) {
            Ok(count) if count > 0 => {
                let room = self.output_max - self.output.len();
                self.output.extend_from_slice(&buffer[..count.min(room)]);
                self.truncated |= count > room;
                true
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => false,
            // Nobody holds the other end any more.
            Ok(_) | Err(_) => {
                self.source = None;
                false
            }
        }
    }

    /// Kills the command and what shares its process group; of a terminal
    /// also its jobs, which have process groups of their own.
    pub(super) fn kill(&self) {
        if self.exec.has_terminal {
            kill_session(self.exec.pid);
        }
        // SAFETY: numbers only; the process is ours and not waited for yet.
        unsafe {
            libc::kill(-self.exec.pid, libc::SIGKILL);
            libc::kill(self.exec.pid, libc::SIGKILL);
        }
    }
}
