//! A journal in memory that outlives the control plane it is pulled from.

use std::sync::Arc;

use minato_store::{Journal, JournalError, ReplayError, SeeFrame};
use parking_lot::Mutex;

/// The disk; clones are the same one.
#[derive(Clone, Default)]
pub(crate) struct Disk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    frames: Vec<(u64, Vec<u8>)>,
    /// Appends until the process dies in one, and whether that one is kept.
    dies_in: Option<(u64, bool)>,
    is_dead: bool,
    /// What is written is not kept: a fleet that is only measured never
    /// reads it.
    forgets: bool,
}

impl Disk {
    /// Keeps nothing from now on; no process can be restarted over it.
    pub(crate) fn forget_all(&self) {
        self.0.lock().forgets = true;
    }

    /// Has the process die in the append after `appends` more. What that one
    /// wrote is on the disk or not, and its caller does not learn which.
    pub(crate) fn die_after(&self, appends: u64, is_kept: bool) {
        self.0.lock().dies_in = Some((appends, is_kept));
    }

    /// A new process has the disk.
    pub(crate) fn revive(&self) {
        let mut state = self.0.lock();
        (state.dies_in, state.is_dead) = (None, false);
    }

    /// A death that has not come yet does not come.
    pub(crate) fn spare(&self) {
        self.0.lock().dies_in = None;
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.0.lock().is_dead
    }
}

impl Journal for Disk {
    fn append(&self, revision: u64, frame: &[u8]) -> Result<(), JournalError> {
        let mut state = self.0.lock();
        let mut is_kept = !state.is_dead;
        match state.dies_in {
            Some((0, kept)) => {
                is_kept &= kept;
                (state.dies_in, state.is_dead) = (None, true);
            }
            Some((left, kept)) => state.dies_in = Some((left - 1, kept)),
            None => {}
        }
        if is_kept && !state.forgets {
            state.frames.push((revision, frame.to_vec()));
        }
        if state.is_dead {
            let source = "the simulated process was killed".into();
            return Err(JournalError { action: "append to", source });
        }
        Ok(())
    }

    fn replay(
        &self,
        after: u64,
        see: &mut SeeFrame<'_>,
    ) -> Result<(), ReplayError> {
        for (revision, frame) in &self.0.lock().frames {
            if *revision > after {
                see(*revision, frame).map_err(|source| ReplayError::Frame {
                    revision: *revision,
                    source,
                })?;
            }
        }
        Ok(())
    }

    fn trim(&self, _through: u64) -> Result<(), JournalError> {
        Ok(()) // only checkpoints trim, and an inline store makes none
    }

    fn trimmed(&self) -> Result<u64, JournalError> {
        Ok(0)
    }
}
