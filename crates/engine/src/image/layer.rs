//! A layer on its way from compressed bytes to a directory.
//!
//! Two threads share the work: one hashes and inflates the blob, the other
//! hashes what comes out and unpacks it. Neither a wrong digest nor a broken
//! archive is seen by anyone: the directory is moved to its place only when
//! everything fits.

use std::{
    io::{self, BufRead, BufReader, Read},
    path::Path,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use super::{
    Digest, UnpackLayerError, UnpackLimits,
    digest::HashingReader,
    unpack::{Unpacked, unpack},
};

const CHUNK_BYTES: usize = 256 << 10;
/// Chunks on their way between the threads.
const CHUNKS: usize = 6;
/// zstd's own default: 128 MiB of window, more is an attack on memory.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// What a layer's bytes must hash to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LayerDigests {
    /// The blob as transferred; none if nobody vouched for it.
    pub(crate) blob: Option<Digest>,
    /// The tar inside.
    pub(crate) diff_id: Digest,
}

/// Inflates, verifies and unpacks a blob into the empty directory `root`.
pub(crate) fn unpack_layer(
    blob: impl Read + Send,
    digests: LayerDigests,
    root: &Path,
    limits: &UnpackLimits,
) -> Result<Unpacked, UnpackLayerError> {
    let (full, filled) = sync_channel(CHUNKS);
    let (empty, emptied) = sync_channel(CHUNKS);
    let (inflated, unpacked) = thread::scope(|scope| {
        let inflater = thread::Builder::new()
            .name("inflate".to_owned())
            .spawn_scoped(scope, move || inflate(blob, &full, &emptied))
            .map_err(UnpackLayerError::archive)?;
        let mut tar = HashingReader::new(ChunkReader {
            filled,
            empty,
            chunk: vec![],
            position: 0,
        });
        let unpacked = unpack(&mut tar, root, limits);
        // On an error the reader is dropped, which stops the other thread.
        let unpacked = unpacked.and_then(|unpacked| {
            let end = tar.finish().map_err(UnpackLayerError::archive)?;
            Ok((unpacked, end.0))
        });
        let inflated = match inflater.join() {
            Ok(inflated) => inflated,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        Ok((inflated, unpacked))
    })?;
    // A broken stream is the cause of what the unpacker then saw.
    let blob_digest = match inflated {
        Ok(digest) => digest,
        Err(source) if is_stopped(&source) => {
            return Err(unpacked
                .err()
                .unwrap_or(UnpackLayerError::Archive { source }));
        }
        Err(source) => return Err(UnpackLayerError::Archive { source }),
    };
    if let Some(expected) = digests.blob {
        check("layer", expected, blob_digest)?;
    }
    let (unpacked, diff_id) = unpacked?;
    check("diff id", digests.diff_id, diff_id)?;
    Ok(unpacked)
}

fn check(
    what: &'static str,
    expected: Digest,
    found: Digest,
) -> Result<(), UnpackLayerError> {
    if expected == found {
        return Ok(());
    }
    Err(UnpackLayerError::Digest { what, expected, found })
}

/// The unpacker has stopped listening; its own error says why.
fn is_stopped(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

fn inflate(
    blob: impl Read,
    full: &SyncSender<Vec<u8>>,
    emptied: &Receiver<Vec<u8>>,
) -> io::Result<Digest> {
    let mut blob =
        BufReader::with_capacity(CHUNK_BYTES, HashingReader::new(blob));
    let is = |head: &[u8], magic: &[u8]| head.starts_with(magic);
    let head = blob.fill_buf()?;
    if is(head, &[0x1f, 0x8b]) {
        let mut decoder = flate2::bufread::MultiGzDecoder::new(&mut blob);
        pump(&mut decoder, full, emptied)?;
    } else if is(head, &[0x28, 0xb5, 0x2f, 0xfd])
        || (head.len() >= 4
            && head[0] & 0xf0 == 0x50
            && is(&head[1..], &[0x2a, 0x4d, 0x18]))
    {
        let mut decoder = zstd::Decoder::with_buffer(&mut blob)?;
        decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
        pump(&mut decoder, full, emptied)?;
    } else if is(head, b"BZh") || is(head, b"\xfd7zXZ\0") {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "bzip2 and xz layers are not supported (gzip, zstd or none)",
        ));
    } else {
        pump(&mut blob, full, emptied)?;
    }
    io::copy(&mut blob, &mut io::sink())?;
    Ok(blob.into_inner().finish()?.0)
}

fn pump(
    reader: &mut impl Read,
    full: &SyncSender<Vec<u8>>,
    emptied: &Receiver<Vec<u8>>,
) -> io::Result<()> {
    loop {
        let mut chunk = emptied.try_recv().unwrap_or_default();
        chunk.resize(CHUNK_BYTES, 0);
        let mut length = 0;
        while length < CHUNK_BYTES {
            match reader.read(&mut chunk[length..]) {
                Ok(0) => break,
                Ok(n) => length += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        if length == 0 {
            return Ok(());
        }
        chunk.truncate(length);
        full.send(chunk).map_err(|_| io::ErrorKind::BrokenPipe)?;
    }
}

/// Reads chunks that the other thread sends, and hands them back for reuse.
struct ChunkReader {
    filled: Receiver<Vec<u8>>,
    empty: SyncSender<Vec<u8>>,
    chunk: Vec<u8>,
    position: usize,
}

impl Read for ChunkReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.position == self.chunk.len() {
            // The sender is gone: the end, or an error that it will report.
            let Ok(next) = self.filled.recv() else { return Ok(0) };
            let used = std::mem::replace(&mut self.chunk, next);
            self.position = 0;
            if used.capacity() > 0 {
                let _ = self.empty.try_send(used);
            }
        }
        let n = buf.len().min(self.chunk.len() - self.position);
        buf[..n].copy_from_slice(&self.chunk[self.position..][..n]);
        self.position += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests;
