//! A session's output on the disk, on its way.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use minato_wire::sigv4::PayloadHash;
use rustix::fs::{FallocateFlags, fallocate};
use tokio::sync::{mpsc, watch};

use crate::objects::{NewObject, ObjectBody};

/// Most bytes of one session on the disk. What is beyond is not logged, and
/// the log says how much it was.
pub(super) const HELD_MAX: u64 = 64 << 20;
/// Bytes read at a time.
pub(super) const READ_MAX: usize = 256 << 10;

/// A file that has no name: it is gone when the agent is, however it ends.
#[derive(Debug)]
pub(super) struct Spool {
    file: File,
    /// Whether all of it is needed to the end.
    is_kept: bool,
    /// Bytes at the beginning that nobody needs any more.
    released: AtomicU64,
}

/// How far a [`Writer`] is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Bytes in the spool.
    pub(super) written: u64,
    /// Whether there will be no more.
    pub(super) is_over: bool,
}

impl Spool {
    /// Makes the file, which nobody but its owner may read, in a directory.
    pub(super) async fn create(
        dir: PathBuf,
        is_kept: bool,
    ) -> io::Result<Spool> {
        let file = blocking(move || tempfile::tempfile_in(dir)).await?;
        Ok(Spool { file, is_kept, released: AtomicU64::new(0) })
    }

    /// Some of the bytes at `at`; none at the end.
    pub(super) async fn read(
        self: &Arc<Spool>,
        at: u64,
        most: usize,
    ) -> io::Result<Vec<u8>> {
        let spool = Arc::clone(self);
        blocking(move || {
            let mut bytes = vec![0; most];
            let count = spool.file.read_at(&mut bytes, at)?;
            bytes.truncate(count);
            Ok(bytes)
        })
        .await
    }

    /// All before `at` was read and sent.
    pub(super) async fn release(self: &Arc<Spool>, at: u64) {
        if self.is_kept {
            return;
        }
        let from = self.released.swap(at, Ordering::Relaxed);
        let spool = Arc::clone(self);
        // A file system that cannot give the room back keeps it to the end
        // of the session.
        let _ = blocking(move || {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            let length = at.saturating_sub(from);
            Ok(fallocate(&spool.file, flags, from, length)?)
        })
        .await;
    }

    fn room(&self, written: u64) -> u64 {
        let held = written - self.released.load(Ordering::Relaxed);
        HELD_MAX.saturating_sub(held)
    }
}

/// Writes what comes into a spool.
#[derive(Debug)]
pub(super) struct Writer {
    spool: Arc<Spool>,
    progress: watch::Sender<Progress>,
    written: u64,
    /// Bytes that had no room, after the last that had.
    lost: u64,
    hash: PayloadHash,
}

impl Writer {
    pub(super) fn new(
        spool: Arc<Spool>,
        progress: watch::Sender<Progress>,
    ) -> Writer {
        let hash = PayloadHash::default();
        Writer { spool, progress, written: 0, lost: 0, hash }
    }

    /// Writes until nothing more comes; the SHA-256 of all of it.
    pub(super) async fn run(
        mut self,
        mut pieces: mpsc::Receiver<Bytes>,
    ) -> io::Result<String> {
        let mut some = vec![];
        let ended = loop {
            let limit = pieces.max_capacity();
            if pieces.recv_many(&mut some, limit).await == 0 {
                break self.note_loss().await;
            }
            if let Err(error) = self.append(&mut some).await {
                break Err(error);
            }
        };
        self.progress.send_modify(|progress| progress.is_over = true);
        ended.map(|()| self.hash.finish())
    }

    async fn append(&mut self, pieces: &mut Vec<Bytes>) -> io::Result<()> {
        let mut bytes = vec![];
        for piece in pieces.drain(..) {
            let length = as_u64(piece.len());
            let room = self.spool.room(self.written + as_u64(bytes.len()));
            if length > room {
                self.lost += length;
                continue;
            }
            bytes.append(&mut self.loss());
            bytes.extend_from_slice(&piece);
        }
        self.write(bytes).await
    }

    async fn note_loss(&mut self) -> io::Result<()> {
        let note = self.loss();
        self.write(note).await
    }

    /// Says what is missing, if anything is.
    fn loss(&mut self) -> Vec<u8> {
        match std::mem::take(&mut self.lost) {
            0 => vec![],
            lost => {
                format!("\r\n[{lost} bytes were not logged]\r\n").into_bytes()
            }
        }
    }

    async fn write(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.hash.update(&bytes);
        let (spool, at) = (Arc::clone(&self.spool), self.written);
        self.written += as_u64(bytes.len());
        blocking(move || spool.file.write_all_at(&bytes, at)).await?;
        let written = self.written;
        self.progress.send_modify(|progress| progress.written = written);
        Ok(())
    }
}

/// All of a spool that nothing is added to any more, as an object.
#[derive(Debug)]
pub(super) struct Whole {
    spool: Arc<Spool>,
    sha256: String,
    length: u64,
}

impl Whole {
    /// `sha256` is what [`Writer::run`] said.
    pub(super) fn of(spool: &Arc<Spool>, sha256: String) -> Whole {
        let length = spool.file.metadata().map_or(0, |about| about.len());
        Whole { spool: Arc::clone(spool), sha256, length }
    }
}

impl NewObject for Whole {
    fn length(&self) -> u64 {
        self.length
    }

    fn sha256(&self) -> &str {
        &self.sha256
    }

    fn body(&self) -> ObjectBody {
        let from = (Arc::clone(&self.spool), 0);
        let frames = stream::try_unfold(from, |(spool, at)| async move {
            let piece = spool.read(at, READ_MAX).await?;
            let next = at + as_u64(piece.len());
            let frame = Frame::data(Bytes::from(piece));
            Ok((next > at).then_some((frame, (spool, next))))
        });
        StreamBody::new(frames).boxed_unsync()
    }
}

fn as_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(io::Error::other(error)))
}
