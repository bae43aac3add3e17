//! The one thread that writes events: group commit.
//!
//! It takes what is queued, writes the frames of each group with one call,
//! syncs each group's file once, publishes and then answers. While it syncs,
//! the next appends queue up and will share the next sync.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::error::{AppendLogsError, DeleteLogsError, LogFileError};
use super::frame::Encoded;
use super::group::Group;
use super::sealer::Sealing;
use super::store::Groups;
use super::{GroupId, active};

/// Appends that may share one round of syncs.
const ROUND: usize = 1024;
/// Groups whose files are synced at the same time.
const PARALLEL_SYNCS: usize = 8;

pub(super) enum Command {
    Append(Append),
    /// Freeze the group's active segment for sealing.
    Freeze(GroupId),
    Delete(GroupId, oneshot::Sender<Result<(), DeleteLogsError>>),
}

pub(super) struct Append {
    pub(super) group: GroupId,
    pub(super) events: Encoded,
    pub(super) answer: oneshot::Sender<Result<(), AppendLogsError>>,
    /// Given back when the events are on disk: bounds what is in memory.
    pub(super) _budget: OwnedSemaphorePermit,
}

pub(super) struct Committer {
    pub(super) groups: Arc<Groups>,
    pub(super) queue: mpsc::Receiver<Command>,
    pub(super) sealer: mpsc::Sender<Sealing>,
    /// Size at which an active segment is frozen.
    pub(super) segment_bytes: u64,
}

impl Committer {
    /// Runs until every sender of the queue is gone.
    pub(super) fn run(mut self) {
        let mut round = Vec::new();
        loop {
            round.clear();
            if self.queue.blocking_recv_many(&mut round, ROUND) == 0 {
                return;
            }
            let mut appends: BTreeMap<GroupId, Vec<Append>> = BTreeMap::new();
            for command in round.drain(..) {
                match command {
                    Command::Append(append) => {
                        appends.entry(append.group).or_default().push(append);
                    }
                    Command::Freeze(id) => {
                        self.commit(std::mem::take(&mut appends));
                        if let Ok(group) = self.groups.get(id) {
                            self.freeze(&group);
                        }
                    }
                    Command::Delete(id, answer) => {
                        // What came before it comes before it.
                        self.commit(std::mem::take(&mut appends));
                        let _ = answer.send(self.delete(id));
                    }
                }
            }
            self.commit(appends);
        }
    }

    fn commit(&self, appends: BTreeMap<GroupId, Vec<Append>>) {
        let mut written = vec![];
        for (id, appends) in appends {
            match self.write(id, &appends) {
                Ok((group, lengths)) => written.push((group, lengths, appends)),
                Err(error) => refuse(appends, &error),
            }
        }
        let groups: Vec<&Group> =
            written.iter().map(|(group, ..)| group.as_ref()).collect();
        let synced = sync_all(&groups);
        for ((group, lengths, appends), synced) in
            written.into_iter().zip(synced)
        {
            match synced {
                Ok(()) => self.publish(&group, &lengths, appends),
                Err(error) => {
                    // Never retried: the kernel may have dropped the pages.
                    let reason: Arc<str> = error_text(&error).into();
                    tracing::error!(group = %group.id, %reason, "log fsync");
                    group.state.write().stopped = Some(reason.clone());
                    refuse(appends, &AppendLogsError::Stopped { reason });
                }
            }
        }
    }

    fn write(
        &self,
        id: GroupId,
        appends: &[Append],
    ) -> Result<(Arc<Group>, Vec<u64>), AppendLogsError> {
        let file = |error| AppendLogsError::File(Arc::new(error));
        let group = self.groups.get(id).map_err(file)?;
        if let Some(reason) = group.state.read().stopped.clone() {
            return Err(AppendLogsError::Stopped { reason });
        }
        group.ensure_active().map_err(file)?;
        let events: Vec<&Encoded> =
            appends.iter().map(|append| &append.events).collect();
        let state = group.state.read();
        let Some(index) = &state.active else {
            return Err(AppendLogsError::Closed);
        };
        let lengths = index.write(&events).map_err(file)?;
        drop(state);
        Ok((group, lengths))
    }

    fn publish(
        &self,
        group: &Arc<Group>,
        lengths: &[u64],
        appends: Vec<Append>,
    ) {
        let is_full = {
            let mut state = group.state.write();
            let Some(index) = &mut state.active else { return };
            for (append, length) in appends.iter().zip(lengths) {
                let events = &append.events;
                index.publish(events.stream(), events.stats, *length);
            }
            index.length >= self.segment_bytes
        };
        for append in appends {
            let _ = append.answer.send(Ok(()));
        }
        if is_full {
            self.freeze(group);
        }
    }

    /// Hands the active segment to the sealer; a full queue makes ingestion
    /// wait for it, which keeps what is unsealed bounded.
    fn freeze(&self, group: &Arc<Group>) {
        if let Some(number) = group.freeze() {
            let seal = Sealing::Seal { group: Arc::clone(group), number };
            let _ = self.sealer.blocking_send(seal);
        }
    }

    fn delete(&self, id: GroupId) -> Result<(), DeleteLogsError> {
        let group = self.groups.get(id)?;
        let directory = group.directory.clone();
        // Readers that have it finish on open files; new ones find nothing.
        let stopped = {
            let mut state = group.state.write();
            std::mem::take(&mut *state).stopped
        };
        {
            let mut state = group.state.write();
            state.deleted = true;
            state.stopped =
                Some(stopped.unwrap_or_else(|| "it was deleted".into()));
        }
        // Not while the sealer puts a file there.
        let _sealing = group.sealing.lock();
        match std::fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(
                    LogFileError::io("remove", &directory)(error).into()
                );
            }
            _ => {}
        }
        if let Some(root) = directory.parent() {
            active::sync_directory(root)?;
        }
        self.groups.forget(id);
        Ok(())
    }
}

/// Syncs the active files of some groups, several at a time.
fn sync_all(groups: &[&Group]) -> Vec<Result<(), LogFileError>> {
    let sync = |group: &Group| {
        // Taken out of the lock: readers must not wait for a disk.
        let log = {
            let state = group.state.read();
            state.active.as_ref().map(|index| Arc::clone(&index.log))
        };
        log.map_or(Ok(()), |log| log.sync())
    };
    if let [one] = groups {
        return vec![sync(one)];
    }
    let mut results = Vec::with_capacity(groups.len());
    for chunk in groups.chunks(PARALLEL_SYNCS) {
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                chunk.iter().map(|group| scope.spawn(|| sync(group))).collect();
            for (thread, group) in threads.into_iter().zip(chunk) {
                results.push(thread.join().unwrap_or_else(|_| {
                    Err(LogFileError::Damaged {
                        path: group.directory.clone(),
                        at: 0,
                        what: "the sync panicked",
                    })
                }));
            }
        });
    }
    results
}

fn refuse(appends: Vec<Append>, error: &AppendLogsError) {
    for append in appends {
        let _ = append.answer.send(Err(error.clone()));
    }
}

/// An error with its sources, in one line.
pub(crate) fn error_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}
