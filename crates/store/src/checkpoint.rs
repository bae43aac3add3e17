//! Checkpoints: all rows of one revision in one file, so that the log can be
//! cut.
//!
//! ```text
//! "MNTC"  format u16  0 u16  revision u64  crc32 u32 (of what is before)
//! zstd stream of
//!   blocks:  length u32  crc32 u32  bytes (whole records, as in frames)
//!   the end: 0 u32  number of records u64
//! ```
//!
//! A file without its end, or with anything after it, is no checkpoint.

mod directory;
mod worker;

use std::io::{self, Read, Write};

pub use self::directory::CheckpointDirectory;
pub(crate) use self::worker::Checkpointer;
use crate::{
    FrameError,
    frame::{self, Reader},
    recover::RawTables,
    state::State,
};

/// The format written today.
const FORMAT: u16 = 1;
const MAGIC: [u8; 4] = *b"MNTC";
const HEADER: usize = 20;

/// Fast; a checkpoint is written far more often than it is kept.
const ZSTD_LEVEL: i32 = 1;

/// A block is closed when it has this many bytes: large enough to make the
/// eight bytes around it nothing, small enough to hold one in memory.
const BLOCK: usize = 256 << 10;

/// Largest block that is believed: one full block and a largest transaction.
const BLOCK_LIMIT: usize = BLOCK + 2 * crate::commit::TRANSACTION_BYTES;

/// Where checkpoints are kept.
pub trait Checkpoints: Send + Sync + 'static {
    /// Revisions of the checkpoints there are, in any order.
    fn revisions(&self) -> io::Result<Vec<u64>>;

    /// The content of a checkpoint.
    fn open(&self, revision: u64) -> io::Result<Box<dyn Read>>;

    /// Keeps what `content` writes as the checkpoint of `revision`. When
    /// this returns `Ok` it survives a power cut; until then it is not there.
    fn write(
        &self,
        revision: u64,
        content: &mut WriteContent<'_>,
    ) -> io::Result<()>;

    /// Removes a checkpoint.
    fn remove(&self, revision: u64) -> io::Result<()>;
}

/// Writes a checkpoint's content.
pub type WriteContent<'a> = dyn FnMut(&mut dyn Write) -> io::Result<()> + 'a;

/// Why a checkpoint cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadCheckpointError {
    /// It could not be read.
    #[error("it could not be read")]
    Io(#[source] io::Error),
    /// It was written by a newer version.
    #[error("its format {found} is newer than the newest known, {known}")]
    Newer {
        /// Format found.
        found: u16,
        /// Newest format known.
        known: u16,
    },
    /// It is cut short, or something in it was changed.
    #[error("it is damaged: {what}")]
    Damaged {
        /// What is wrong.
        what: &'static str,
    },
    /// A record in it makes no sense.
    #[error("a record in it is damaged")]
    Record(#[source] FrameError),
}

/// Writes all rows of `state`; gives the size before compression.
pub(crate) fn write(state: &State, out: &mut dyn Write) -> io::Result<u64> {
    let mut header = Vec::with_capacity(HEADER);
    header.extend_from_slice(&MAGIC);
    header.extend_from_slice(&FORMAT.to_le_bytes());
    header.extend_from_slice(&[0; 2]);
    header.extend_from_slice(&state.revision.to_le_bytes());
    let crc = crc32fast::hash(&header);
    header.extend_from_slice(&crc.to_le_bytes());
    out.write_all(&header)?;

    let mut out = zstd::Encoder::new(out, ZSTD_LEVEL)?;
    let mut block = Vec::with_capacity(BLOCK + 4096);
    let (mut records, mut bytes) = (0u64, 0u64);
    for (kind, key, row) in state.all_rows() {
        frame::push_put(&mut block, kind.name, kind.version, key, |out| {
            (kind.encode)(row, out)
        })?;
        records += 1;
        if block.len() >= BLOCK {
            bytes += block.len() as u64;
            write_block(&mut out, &mut block)?;
        }
    }
    if !block.is_empty() {
        bytes += block.len() as u64;
        write_block(&mut out, &mut block)?;
    }
    out.write_all(&0u32.to_le_bytes())?;
    out.write_all(&records.to_le_bytes())?;
    out.finish()?.flush()?;
    Ok(bytes)
}

fn write_block(out: &mut impl Write, block: &mut Vec<u8>) -> io::Result<()> {
    let length = u32::try_from(block.len())
        .map_err(|_| io::Error::other("a row is too large to be kept"))?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(&crc32fast::hash(block).to_le_bytes())?;
    out.write_all(block)?;
    block.clear();
    Ok(())
}

/// Reads a checkpoint into `rows`; gives its revision and size.
pub(crate) fn read(
    mut from: impl Read,
    rows: &mut RawTables,
) -> Result<(u64, u64), ReadCheckpointError> {
    let revision = read_header(&mut from)?;
    let damaged = |what| ReadCheckpointError::Damaged { what };
    let mut from = zstd::Decoder::new(from).map_err(ReadCheckpointError::Io)?;
    let mut block = Vec::new();
    let (mut records, mut bytes) = (0u64, 0u64);
    loop {
        let length = u32::from_le_bytes(array(&mut from)?);
        if length == 0 {
            break;
        }
        let crc = u32::from_le_bytes(array(&mut from)?);
        let length = usize::try_from(length)
            .ok()
            .filter(|length| *length <= BLOCK_LIMIT)
            .ok_or(damaged("a block is too long"))?;
        block.resize(length, 0);
        from.read_exact(&mut block).map_err(ReadCheckpointError::Io)?;
        if crc32fast::hash(&block) != crc {
            return Err(damaged("a block's checksum does not match"));
        }
        bytes += length as u64;
        let mut reader = Reader { bytes: &block, at: 0 };
        while reader.at < block.len() {
            let record =
                reader.record().map_err(ReadCheckpointError::Record)?;
            rows.apply(record).ok_or(damaged("a key is not a key"))?;
            records += 1;
        }
    }
    if u64::from_le_bytes(array(&mut from)?) != records {
        return Err(damaged("records are missing"));
    }
    match from.read(&mut [0]).map_err(ReadCheckpointError::Io)? {
        0 => Ok((revision, bytes)),
        _ => Err(damaged("there is something after its end")),
    }
}

fn read_header(from: &mut impl Read) -> Result<u64, ReadCheckpointError> {
    let header: [u8; HEADER] = array(from)?;
    let mut reader = Reader { bytes: &header, at: 0 };
    let damaged = |_| ReadCheckpointError::Damaged { what: "its header" };
    let magic = reader.u32().map_err(damaged)?.to_le_bytes();
    let format = reader.u16().map_err(damaged)?;
    reader.u16().map_err(damaged)?;
    let revision = reader.u64().map_err(damaged)?;
    let crc = reader.u32().map_err(damaged)?;
    if magic != MAGIC {
        let what = "it does not begin as a checkpoint does";
        return Err(ReadCheckpointError::Damaged { what });
    }
    // Formats that came before would be read by functions of their own.
    if format != FORMAT {
        let (found, known) = (format, FORMAT);
        return Err(ReadCheckpointError::Newer { found, known });
    }
    if crc32fast::hash(&header[..HEADER - 4]) != crc {
        let what = "its header's checksum does not match";
        return Err(ReadCheckpointError::Damaged { what });
    }
    Ok(revision)
}

fn array<const N: usize>(
    from: &mut impl Read,
) -> Result<[u8; N], ReadCheckpointError> {
    let mut array = [0; N];
    from.read_exact(&mut array).map_err(ReadCheckpointError::Io)?;
    Ok(array)
}

#[cfg(test)]
mod tests;
