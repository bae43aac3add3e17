//! The daemon's ear at one shim: hears of log lines and of the end.

use std::fs::File;
use std::io::{self, ErrorKind, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::sync::Arc;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;

use super::containers::Entry;
use super::paths::{SOCKET, read_json, write_json_durably};
use super::protocol::{Answer, PROTOCOL, Request, RequestBody, decode, encode};
use super::{Exit, ExitReason};
use crate::cgroup::Layout;
use crate::time::now_ms;

/// The exit code of what was killed: 128 + SIGKILL.
pub(super) const CODE_KILLED: i32 = 137;

/// A connection to a shim.
#[derive(Debug)]
pub(super) struct ShimConnection {
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl ShimConnection {
    /// Connects, by way of a descriptor as the path may be too long.
    pub(super) fn open(run: &Path) -> io::Result<Self> {
        let dir = File::open(run)?;
        let path = format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd());
        let stream = StdUnixStream::connect(path)?;
        stream.set_nonblocking(true)?;
        let stream = UnixStream::from_std(stream)?;
        Ok(ShimConnection { stream, buffer: vec![] })
    }

    pub(super) async fn send(&mut self, body: RequestBody) -> io::Result<()> {
        let frame = encode(&Request { protocol: PROTOCOL, body })?;
        self.stream.write_all(&frame).await
    }

    /// Waits for an answer; the shim's end is an error. Cancel safe.
    pub(super) async fn receive(&mut self) -> io::Result<Answer> {
        loop {
            if let Some(answer) = decode(&mut self.buffer)? {
                return Ok(answer);
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// As [`ShimConnection::receive`], with the descriptor that came along.
    pub(super) async fn receive_with_fd(
        &mut self,
    ) -> io::Result<(Answer, Option<OwnedFd>)> {
        let mut fd = None;
        loop {
            if let Some(answer) = decode(&mut self.buffer)? {
                return Ok((answer, fd));
            }
            let stream = &self.stream;
            let read = || receive_some(stream.as_fd());
            let (bytes, came) =
                stream.async_io(Interest::READABLE, read).await?;
            if bytes.is_empty() {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            self.buffer.extend_from_slice(&bytes);
            fd = came.or(fd);
        }
    }

    pub(super) async fn ask(
        &mut self,
        body: RequestBody,
    ) -> io::Result<Answer> {
        self.send(body).await?;
        self.receive().await
    }
}

/// Reads what is there, and at most one descriptor.
fn receive_some(
    stream: BorrowedFd<'_>,
) -> io::Result<(Vec<u8>, Option<OwnedFd>)> {
    let mut bytes = vec![0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        stream,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    bytes.truncate(received.bytes);
    let mut fd = None;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(mut fds) = message {
            fd = fds.next().or(fd);
        }
    }
    Ok((bytes, fd))
}

/// Follows a shim until it is gone, publishing what it says.
///
/// The connection was opened by the caller so that a shim that is gone
/// already is noticed there.
pub(super) async fn follow(
    entry: Arc<Entry>,
    mut connection: ShimConnection,
    layout: Layout,
) {
    let mut heard = connection.send(RequestBody::Watch).await;
    while heard.is_ok() {
        heard = match connection.receive().await {
            Ok(Answer::Logged) => {
                entry.log_signal.send_modify(|signal| signal.writes += 1);
                Ok(())
            }
            Ok(Answer::Exited(exit)) => {
                entry.publish_exit(exit);
                Ok(())
            }
            Ok(
                Answer::Ok
                | Answer::Refused { .. }
                | Answer::Terminal
                | Answer::ExecEnded { .. },
            ) => Err(ErrorKind::InvalidData.into()),
            Err(e) => Err(e),
        };
    }
    follow_none(entry, layout).await;
}

/// Settles the end of a container whose shim is gone.
pub(super) async fn follow_none(entry: Arc<Entry>, layout: Layout) {
    let owner = entry.clone();
    let settled =
        tokio::task::spawn_blocking(move || settle(&owner, &layout)).await;
    if let Ok(exit) = settled {
        entry.publish_exit(exit);
    }
    entry.shim_gone.send_replace(true);
}

/// Finds out how a container ended whose shim is gone. If the shim left no
/// word it was killed: the kernel has then killed the container's first
/// process, and the rest is killed here.
pub(super) fn settle(entry: &Entry, layout: &Layout) -> Exit {
    if let Some(exit) = recorded_exit(entry) {
        return exit;
    }
    // Leftovers are reported by `remove`; the end is the news here.
    let _ = layout.remove_tree(&entry.cgroup);
    record(entry, ExitReason::ShimLost)
}

/// The end as the shim or an earlier daemon wrote it down.
pub(super) fn recorded_exit(entry: &Entry) -> Option<Exit> {
    [entry.paths.exit(), entry.paths.kept_exit()]
        .iter()
        .find_map(|path| read_json::<Exit>(path).ok().flatten())
}

/// Writes down an end that no shim has seen.
pub(super) fn record(entry: &Entry, reason: ExitReason) -> Exit {
    let exit = Exit {
        code: CODE_KILLED,
        signal: Some(libc::SIGKILL),
        oom_killed: false,
        at_ms: now_ms(),
        reason,
    };
    // If this fails the next daemon finds the same facts and the same answer.
    let _ = write_json_durably(&entry.paths.kept_exit(), &exit);
    exit
}
