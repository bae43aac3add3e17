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
/// are more: planners that missed more are better made anew.
const CHANGES_MIN: usize = 1024;

/// The planners of a space, and what they have not been told.
#[derive(Default)]
pub(super) struct Planners {
    /// The one used last is the last.
    kept: VecDeque<Kept>,
    /// Candidates of which something changed, in the order of the changes.
    changed: Vec<usize>,
}

struct Kept {
    pool: Pool,
    planner: Planner,
    /// How many of the changes it has been told of.
    seen: usize,
}

impl Planners {
    /// Takes the planner for such requests out, if one is kept, with the
    /// candidates that it has to review.
    pub(super) fn take(
        &mut self,
        pool: &Pool,
        request: &Request,
    ) -> Option<(Planner, Vec<usize>)> {
        let at = self.kept.iter().position(|kept| {
            kept.planner.is_for(request) && kept.pool == *pool
        })?;
        let kept = self.kept.remove(at)?;
        let missed = self.missed(&kept);
        Some((kept.planner, missed))
    }

    /// Lets `review` tell each planner of what it missed. Those that are worn
    /// then go.
    pub(super) fn review_all(
        &mut self,
        mut review: impl FnMut(&mut Planner, &Pool, usize),
    ) {
        for mut kept in std::mem::take(&mut self.kept) {
            for index in self.missed(&kept) {
                review(&mut kept.planner, &kept.pool, index);
            }
            if !kept.planner.is_worn() {
                self.kept.push_back(Kept { seen: 0, ..kept });
            }
        }
        self.changed.clear();
    }

    /// The candidates that a planner has to review.
    fn missed(&self, kept: &Kept) -> Vec<usize> {
        let mut missed = self.changed[kept.seen..].to_vec();
        missed.sort_unstable();
        missed.dedup();
        missed
    }

    /// Keeps a planner that knows of every change so far.
    pub(super) fn keep(&mut self, pool: &Pool, planner: Planner) {
        // What is found out of one instance is not worth keeping.
        if matches!(pool, Pool::Instance(_)) || planner.is_worn() {
            return;
        }
        let seen = self.changed.len();
        self.kept.push_back(Kept { pool: pool.clone(), planner, seen });
        if self.kept.len() > KEPT_MAX {
            self.kept.pop_front();
        }
    }

    /// Something about these candidates changed, of so many.
    pub(super) fn review_later(&mut self, candidates: &[usize], of: usize) {
        self.changed.extend(candidates);
        if self.changed.len() > of.max(CHANGES_MIN) {
            self.kept.clear();
        }
        if self.kept.is_empty() {
            self.changed.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use minato_core::placement::{Group, World};

    use super::*;

    fn request(number: usize) -> Request {
        let group = Group::named(&number.to_string());
        Request { group, ..Request::default() }
    }

    fn keep(planners: &mut Planners, pool: &Pool, number: usize) {
        let planner = Planner::new(&World::default(), &[], &request(number));
        planners.keep(pool, planner);
    }

    /// What the planner of a request missed, if it is kept; it is then no
    /// more.
    fn missed(planners: &mut Planners, number: usize) -> Option<Vec<usize>> {
        let taken = planners.take(&Pool::Fargate, &request(number));
        taken.map(|(_, missed)| missed)
    }

    #[test]
    fn a_planner_is_told_once_of_what_it_missed() {
        let mut planners = Planners::default();
        keep(&mut planners, &Pool::Fargate, 0);
        planners.review_later(&[3, 1], 4);
        keep(&mut planners, &Pool::Fargate, 1);
        planners.review_later(&[2, 1], 4);
        let mut told = vec![];
        planners.review_all(|_, _, index| told.push(index));
        assert_eq!(told, [1, 2, 3, 1, 2]);
        planners.review_later(&[0], 4);
        assert_eq!(missed(&mut planners, 1), Some(vec![0]));
        assert_eq!(missed(&mut planners, 0), Some(vec![0]));
        assert_eq!(missed(&mut planners, 0), None, "it was taken");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut planners = Planners::default();
        for number in 0..=KEPT_MAX {
            keep(&mut planners, &Pool::Fargate, number);
        }
        assert_eq!(missed(&mut planners, 0), None);
        assert_eq!(missed(&mut planners, 1), Some(vec![]));
        // One that missed too much is not of use, and nothing is remembered
        // for nobody.
        for index in 0..=CHANGES_MIN {
            planners.review_later(&[index], 4);
        }
        assert_eq!(missed(&mut planners, 2), None);
        assert_eq!(planners.changed, [0_usize; 0]);
        // A single instance is as quickly looked at.
        let pool = Pool::Instance(minato_store::Key::root());
        keep(&mut planners, &pool, 0);
        assert!(planners.kept.is_empty());
    }
}
