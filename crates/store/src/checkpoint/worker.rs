//! When a checkpoint is made, and by whom.

use std::{
    io,
    sync::Arc,
    thread::{self, JoinHandle},
};

use super::Checkpoints;
use crate::{
    JournalError, commit::Shared, error::chain, journal::Journal,
    recover::LogSize, state::State,
};

/// Begins a checkpoint, on a thread of its own, whenever the log has grown
/// enough since the last one was begun. Never more than one at a time.
pub(crate) struct Checkpointer {
    checkpoints: Arc<dyn Checkpoints>,
    journal: Arc<dyn Journal>,
    shared: Arc<Shared>,
    limit: LogSize,
    since: LogSize,
    running: Option<JoinHandle<Option<u64>>>,
    /// Size of the last checkpoint.
    last: u64,
}

impl Checkpointer {
    /// `since` is the log after the checkpoint that was recovered from, and
    /// `last` that checkpoint's size.
    pub(crate) fn new(
        checkpoints: Arc<dyn Checkpoints>,
        journal: Arc<dyn Journal>,
        shared: Arc<Shared>,
        limit: LogSize,
        since: LogSize,
        last: u64,
    ) -> Checkpointer {
        Checkpointer {
            checkpoints,
            journal,
            shared,
            limit,
            since,
            running: None,
            last,
        }
    }

    /// To be told of every frame appended, with the state after it.
    pub(crate) fn appended(&mut self, frame: usize, state: &State) {
        self.since.add(frame);
        // Rewriting a large state for every few changes would make writing
        // dear, so the log may grow as large as the last checkpoint was.
        let bytes = self.limit.bytes.max(self.last);
        if self.since.frames < self.limit.frames && self.since.bytes < bytes {
            return;
        }
        if self.running.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return;
        }
        self.wait();
        // One that fails is tried again when the log has grown as much
        // again, not at once: a full disk would only be kept busy.
        self.since = LogSize::default();
        let job = Job {
            checkpoints: self.checkpoints.clone(),
            journal: self.journal.clone(),
            shared: self.shared.clone(),
            state: state.clone(),
        };
        match thread::Builder::new()
            .name("store-checkpt".to_owned())
            .spawn(move || job.run())
        {
            Ok(thread) => self.running = Some(thread),
            Err(error) => warn_failed(state.revision, &error),
        }
    }

    /// Waits for the checkpoint under way, if any.
    pub(crate) fn wait(&mut self) {
        let Some(thread) = self.running.take() else { return };
        match thread.join() {
            Ok(Some(size)) => self.last = size,
            Ok(None) => {}
            Err(_) => tracing::error!("the checkpoint thread panicked"),
        }
    }
}

struct Job {
    checkpoints: Arc<dyn Checkpoints>,
    journal: Arc<dyn Journal>,
    shared: Arc<Shared>,
    state: State,
}

impl Job {
    /// Gives the checkpoint's size if there is one now.
    fn run(self) -> Option<u64> {
        let revision = self.state.revision;
        match make(self.checkpoints.as_ref(), &self.state) {
            Err(error) => {
                // Nothing is lost: the log still has everything.
                warn_failed(revision, &error);
                None
            }
            Ok(size) => {
                if let Err(error) = self.clean_up(revision) {
                    // The journal's storage failed: the same verdict as
                    // for a failed append.
                    self.shared.stop(&error);
                }
                Some(size)
            }
        }
    }

    fn clean_up(&self, revision: u64) -> Result<(), JournalError> {
        self.journal.trim(revision)?;
        // Older checkpoints are dead weight only; the next one tries again.
        let older = self.checkpoints.revisions().unwrap_or_default();
        for older in older.into_iter().filter(|r| *r < revision) {
            if let Err(error) = self.checkpoints.remove(older) {
                tracing::warn!(%error, older, "old checkpoint not removed");
            }
        }
        Ok(())
    }
}

fn make(checkpoints: &dyn Checkpoints, state: &State) -> io::Result<u64> {
    let mut size = 0;
    checkpoints.write(state.revision, &mut |out| {
        size = super::write(state, out)?;
        Ok(())
    })?;
    Ok(size)
}

fn warn_failed(revision: u64, error: &io::Error) {
    tracing::warn!(
        revision,
        error = chain(error),
        "no checkpoint could be made; the log goes on growing"
    );
}
