//! Reading blocks on several cores.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::block::Block;
use super::error::LogFileError;
use super::pieces::BlockAt;
use super::sealed::Decoder;

/// Threads that decompress for one search. Searches run beside ingestion and
/// each other, so one takes no more than this.
const THREADS: usize = 2;
/// Blocks that are read together, at most: with 256 KiB of messages each, what
/// a search holds in memory stays at a few MiB.
pub(super) const MOST_BLOCKS: usize = 32;

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
    let next = AtomicUsize::new(0);
    let mut all = std::thread::scope(|scope| {
        let threads = THREADS.min(blocks.len());
        let others: Vec<_> = (1..threads)
            .map(|_| scope.spawn(|| decode_some(blocks, &next, skip)))
            .collect();
        let mut all = decode_some(blocks, &next, skip);
        for other in others {
            match other.join() {
                Ok(some) => all.extend(some),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    });
    all.sort_unstable_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, decoded)| decoded).collect()
}

/// Reads one block after the other of those that no other thread took.
fn decode_some(
    blocks: &[BlockAt],
    next: &AtomicUsize,
    skip: &dyn Fn(&[u8]) -> bool,
) -> Vec<(usize, Result<Decoded, LogFileError>)> {
    let mut decoder = Decoder::default();
    let mut decode = |at: &BlockAt| {
        let raw = at.reader.decode(at.index, &mut decoder)?;
        let block = Block::parse(raw).ok_or_else(|| {
            at.reader.wrong(at.index, "a block makes no sense")
        })?;
        let (bytes, events) = (block.messages().len() as u64, block.count());
        let skipped = skip(block.messages());
        let raw = (!skipped).then(|| decoder.take());
        Ok(Decoded { bytes, events, raw })
    };
    let take = || {
        let at = next.fetch_add(1, Ordering::Relaxed);
        Some((at, blocks.get(at)?))
    };
    std::iter::from_fn(take).map(|(at, block)| (at, decode(block))).collect()
}
