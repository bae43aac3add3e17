//! Reading a terminal's output on a thread of its own.
//!
//! The kernel hands out 4 KiB at a time and keeps little more, so that a
//! command which writes much waits for whoever reads. A thread that waits for
//! the terminal itself is back sooner than one that the runtime wakes when its
//! poller has heard of it; pieces that nobody has taken yet become one.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::{Bytes, BytesMut};
use parking_lot::{Condvar, Mutex};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;
use tokio::sync::Notify;

use super::PIECE_BYTES;

/// Output that may wait; then the command waits too.
const WAITING_MAX: usize = 8 * PIECE_BYTES;
/// The thread's frames, and a piece.
const STACK_BYTES: usize = 64 << 10;

/// The thread, and what it has read.
#[derive(Debug)]
pub(super) struct Reader {
    shared: Arc<Shared>,
    /// Wakes the thread where it waits for the terminal.
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    has_room: Condvar,
    has_more: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: BytesMut,
    /// The thread reads no more.
    is_over: bool,
    is_stopped: bool,
}

impl Reader {
    pub(super) fn start(master: Arc<OwnedFd>) -> io::Result<Reader> {
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let shared = Arc::<Shared>::default();
        let (own, wake) = (Arc::clone(&shared), Arc::clone(&stop));
        let thread = std::thread::Builder::new()
            .name("minato-terminal".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                own.read(&master, &wake);
                drop(master);
                own.state.lock().is_over = true;
                own.has_more.notify_one();
            })?;
        Ok(Reader { shared, stop, thread: Some(thread) })
    }

    /// Waits for output; `None` once there will be none.
    pub(super) async fn piece(&self) -> Option<Bytes> {
        loop {
            if let Some(piece) = self.waiting() {
                return Some(piece);
            }
            if self.shared.state.lock().is_over {
                // What came last may have come between the two.
                return self.waiting();
            }
            self.shared.has_more.notified().await;
        }
    }

    /// A piece of what was read already.
    pub(super) fn waiting(&self) -> Option<Bytes> {
        let mut state = self.shared.state.lock();
        let length = state.waiting.len().min(PIECE_BYTES);
        let piece = state.waiting.split_to(length).freeze();
        self.shared.has_room.notify_one();
        (!piece.is_empty()).then_some(piece)
    }

    /// Ends the reading; what was read is still there.
    pub(super) fn stop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.shared.state.lock().is_stopped = true;
        self.shared.has_room.notify_one();
        // It can only fail where the thread has been told before.
        let _ = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
        // It waits for nothing else, so this is a matter of microseconds.
        let _ = thread.join();
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn read(&self, master: &OwnedFd, stop: &OwnedFd) {
        let mut piece = [0; PIECE_BYTES];
        loop {
            let length = match rustix::io::read(master, &mut piece) {
                Ok(0) => return,
                Ok(length) => length,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => {
                    let ready = &mut [
                        PollFd::new(&master, PollFlags::IN),
                        PollFd::new(&stop, PollFlags::IN),
                    ];
                    match poll(ready, None) {
                        Ok(_) | Err(Errno::INTR) => {}
                        Err(_) => return,
                    }
                    0
                }
                Err(_) => return,
            };
            let mut state = self.state.lock();
            if length > 0 {
                state.waiting.extend_from_slice(&piece[..length]);
                self.has_more.notify_one();
            }
            while state.waiting.len() >= WAITING_MAX && !state.is_stopped {
                self.has_room.wait(&mut state);
            }
            if state.is_stopped {
                return;
            }
        }
    }
}

/// Reads what there is, up to a piece; an error once there is nothing.
pub(super) fn read_some(fd: impl AsFd) -> io::Result<Bytes> {
    let mut piece = vec![0; PIECE_BYTES];
    let length = loop {
        match rustix::io::read(&fd, &mut piece) {
            Ok(0) => return Err(Errno::IO.into()),
            Ok(length) => break length,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    };
    piece.truncate(length);
    Ok(piece.into())
}
