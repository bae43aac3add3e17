//! The one thread that seals full segments and removes old ones.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::committer::error_text;
use super::error::{DeleteLogsError, LogFileError};
use super::group::{Group, remove, remove_sealed};
use super::sealed::{self, SealedSegment};
use super::{EventRef, StoredEvent, StreamId, active};

pub(super) enum Sealing {
    /// Seal a frozen segment.
    Seal { group: Arc<Group>, number: u64 },
    /// Remove what nobody can see any more.
    Sweep {
        group: Arc<Group>,
        sweep: Sweep,
        answer: oneshot::Sender<Result<(), DeleteLogsError>>,
    },
}

/// What may be removed from a group.
#[derive(Debug)]
pub(crate) struct Sweep {
    /// Streams that still exist.
    pub(crate) live: BTreeSet<StreamId>,
    /// The newest segment at the time `live` was read: streams in later ones
    /// may be newer than `live`.
    pub(crate) until_segment: u64,
    /// Events before this are expired.
    pub(crate) expire_before: i64,
}

/// Runs until every sender of the queue is gone.
pub(super) fn run(mut queue: mpsc::Receiver<Sealing>) {
    while let Some(sealing) = queue.blocking_recv() {
        match sealing {
            Sealing::Seal { group, number } => {
                if let Err(error) = seal(&group, number) {
                    // It stays readable as it is, and opening the group
                    // again tries again.
                    let reason = error_text(&error);
                    tracing::error!(group = %group.id, reason, "log sealing");
                }
            }
            Sealing::Sweep { group, sweep, answer } => {
                let done = self::sweep(&group, &sweep);
                let _ = answer.send(done.map_err(DeleteLogsError::from));
            }
        }
    }
}

fn seal(group: &Group, number: u64) -> Result<(), LogFileError> {
    let _sealing = group.sealing.lock();
    let Some(frozen) = group.state.read().frozen.get(&number).cloned() else {
        return Ok(());
    };
    let bytes = frozen.log.contents(frozen.length)?;
    let mut events: Vec<EventRef<'_>> = vec![];
    frozen.log.frames(&bytes, 0, |event| events.push(event))?;
    events.sort_unstable_by_key(|event| event.position);
    let last = frozen.next_sequence - 1;
    let segment =
        sealed::write(&group.directory, number, last, events.into_iter())?;
    {
        let mut state = group.state.write();
        state.frozen.remove(&number);
        state.sealed.insert(number, Arc::new(segment));
    }
    remove(&active::path_of(&group.directory, number))
}

fn sweep(group: &Group, sweep: &Sweep) -> Result<(), LogFileError> {
    let _sealing = group.sealing.lock();
    let segments: Vec<Arc<SealedSegment>> = {
        let state = group.state.read();
        let old = state.sealed.range(..=sweep.until_segment);
        old.map(|(_, segment)| Arc::clone(segment)).collect()
    };
    for segment in segments {
        let (mut live, mut dead) = (0, 0);
        for (id, stats) in &segment.streams {
            let alive = sweep.live.contains(id)
                && stats.last_event_at >= sweep.expire_before;
            *(if alive { &mut live } else { &mut dead }) += stats.bytes;
        }
        if live == 0 {
            // The last sequence must not be forgotten with the newest.
            group.state.write().forget_sealed(segment.number);
            remove_sealed(&group.directory, segment.number)?;
        } else if dead > live {
            let smaller = rewrite(group, sweep, &segment)?;
            let mut state = group.state.write();
            state.sealed.insert(segment.number, Arc::new(smaller));
        }
    }
    Ok(())
}

/// Writes a segment again without what nobody can see.
fn rewrite(
    group: &Group,
    sweep: &Sweep,
    segment: &SealedSegment,
) -> Result<SealedSegment, LogFileError> {
    let reader = segment.reader()?;
    let mut events: Vec<StoredEvent> = vec![];
    for index in 0..reader.extents.len() {
        let keep = |event: EventRef<'_>| {
            if sweep.live.contains(&event.stream)
                && event.position.timestamp >= sweep.expire_before
            {
                events.push(event.to_stored());
            }
        };
        reader.read(index, keep)?;
    }
    let events = events.iter().map(|event| EventRef {
        position: event.position,
        stream: event.stream,
        ingested_at: event.ingested_at,
        message: &event.message,
    });
    let last = segment.last_sequence;
    sealed::write(&group.directory, segment.number, last, events)
}
