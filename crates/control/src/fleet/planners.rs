//! The planners that are kept from one placement to the next.
//!
//! A service is placed by the same kind of request again and again, mostly for
//! a task or two. What a planner knows of thousands of candidates stays true
//! but for those of hosts that something happened to since, so each is told of
//! those alone.

use std::collections::VecDeque;

use minato_core::placement::{Planner, Request};

use super::Pool;

/// Planners that are kept. One takes about 100 bytes for each candidate of
/// the space, so these take 30 MB in a fleet of 5,000 hosts.
const KEPT_MAX: usize = 32;

/// Changes that are remembered, or as many as there are candidates, if those
/// are more: a planner that missed more is better made anew.
const CHANGES_MIN: usize = 1024;

/// The planners of a space, and what they have not been told.
#[derive(Default)]
pub(super) struct Planners {
    /// The one used last is the last.
    kept: VecDeque<Kept>,
    /// Candidates of which something changed, in the order of the changes.
    changed: VecDeque<usize>,
    /// How many changes came before those.
    forgotten: usize,
}

struct Kept {
    pool: Pool,
    planner: Planner,
    /// How many changes it has been told of.
    seen: usize,
}

impl Planners {
    /// Takes the planner for such requests out, if there is one of use, with
    /// the candidates that it has to review.
    pub(super) fn take(
        &mut self,
        pool: &Pool,
        request: &Request,
    ) -> Option<(Planner, Vec<usize>)> {
        let at = self.kept.iter().position(|kept| {
            kept.planner.is_for(request) && kept.pool == *pool
        })?;
        let kept = self.kept.remove(at)?;
        let changed = self.missed(&kept)?;
        Some((kept.planner, changed))
    }

    /// Lets `review` tell each planner of what it missed. Those that are of
    /// no use any more go.
    pub(super) fn review_all(
        &mut self,
        mut review: impl FnMut(&mut Planner, &Pool, usize),
    ) {
        for mut kept in std::mem::take(&mut self.kept) {
            let Some(changed) = self.missed(&kept) else { continue };
            for index in changed {
                review(&mut kept.planner, &kept.pool, index);
            }
            kept.seen = self.forgotten + self.changed.len();
            self.kept.push_back(kept);
        }
        self.forgotten += self.changed.len();
        self.changed.clear();
    }

    /// The candidates that a planner has to review; none if it is of no use.
    fn missed(&self, kept: &Kept) -> Option<Vec<usize>> {
        let missed = kept.seen.checked_sub(self.forgotten)?;
        if kept.planner.is_worn() {
            return None;
        }
        let mut changed: Vec<usize> =
            self.changed.range(missed..).copied().collect();
        changed.sort_unstable();
        changed.dedup();
        Some(changed)
    }

    /// Keeps a planner that knows of every change so far.
    pub(super) fn keep(&mut self, pool: &Pool, planner: Planner) {
        if matches!(pool, Pool::Instance(_)) {
            // Nothing is found out there that would be worth keeping.
            return;
        }
        let seen = self.forgotten + self.changed.len();
        self.kept.push_back(Kept { pool: pool.clone(), planner, seen });
        if self.kept.len() > KEPT_MAX {
            self.kept.pop_front();
        }
    }

    /// Something about these candidates changed, of so many.
    pub(super) fn review_later(&mut self, candidates: &[usize], of: usize) {
        if self.kept.is_empty() {
            return;
        }
        self.changed.extend(candidates);
        let most = of.max(CHANGES_MIN);
        let more = self.changed.len().saturating_sub(most);
        self.changed.drain(..more);
        self.forgotten += more;
    }
}
