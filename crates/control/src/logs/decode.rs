//! Reading blocks on several cores.

use super::block::Block;
use super::error::LogFileError;
use super::pieces::BlockAt;
use super::sealed::Decoder;

/// Threads that decompress for one search. Searches run beside ingestion and
/// each other, so one takes no more than this.
const THREADS: usize = 2;
/// Blocks that are read together, at most: with 256 KiB of messages each, what
/// a search holds in memory stays at a few MiB.
pub(super) const MOST_BLOCKS: usize = 16;

/// What was found in a block.
#[derive(Debug)]
pub(super) struct Decoded {
    /// Bytes of the messages.
    pub(super) bytes: u64,
    pub(super) events: u64,
    /// The block, unless it cannot be of interest.
    pub(super) raw: Option<Vec<u8>>,
}

/// Reads blocks; those of which `skip` says so keep nothing but their counts.
pub(super) fn decode(
    blocks: &[BlockAt],
    skip: &(dyn Fn(&[u8]) -> bool + Sync),
) -> Vec<Result<Decoded, LogFileError>> {
    let part = blocks.len().div_ceil(THREADS).max(1);
    let (first, second) = blocks.split_at(part.min(blocks.len()));
    if second.is_empty() {
        return decode_part(first, skip);
    }
    std::thread::scope(|scope| {
        let other = scope.spawn(|| decode_part(second, skip));
        let mut all = decode_part(first, skip);
        match other.join() {
            Ok(rest) => all.extend(rest),
            Err(panic) => std::panic::resume_unwind(panic),
        }
        all
    })
}

fn decode_part(
    blocks: &[BlockAt],
    skip: &dyn Fn(&[u8]) -> bool,
) -> Vec<Result<Decoded, LogFileError>> {
    let mut decoder = Decoder::default();
    let decode = |at: &BlockAt| {
        let raw = at.reader.decode(at.index, &mut decoder)?;
        let block = Block::parse(raw).ok_or_else(|| {
            at.reader.wrong(at.index, "a block makes no sense")
        })?;
        let (bytes, events) = (block.messages().len() as u64, block.count());
        let skipped = skip(block.messages());
        let raw = (!skipped).then(|| decoder.take());
        Ok(Decoded { bytes, events, raw })
    };
    blocks.iter().map(decode).collect()
}
