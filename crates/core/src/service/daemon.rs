//! Plans for services that keep one task on every container instance.

use std::borrow::Borrow;
use std::collections::BTreeMap;

use super::{Member, Stop, StopCause, Target, rules};

/// A container instance that a daemon's task may be on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post {
    /// The instance, as [`Member::place`] names it.
    pub place: String,
    /// Whether it should have a task: it is active and satisfies the
    /// service's constraints.
    pub is_manned: bool,
    /// Whether tasks of others still run on it. A daemon leaves a draining
    /// instance last.
    pub has_others: bool,
}

/// What a pass over a daemon service does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DaemonPlan {
    /// How many tasks there should be: one for each instance that should
    /// have one.
    pub desired: u32,
    /// Places to start a task on.
    pub start: Vec<String>,
    /// Tasks to stop.
    pub stop: Vec<Stop>,
    /// Whether every post has its healthy task and there is no other.
    pub is_settled: bool,
}

/// One pass over a daemon service.
///
/// There is never more than one task on an instance (`maximumPercent` is 100
/// for daemons), so a new task comes after the old one is gone, and old ones
/// go only as fast as `minimumHealthyPercent` allows or, for a managed daemon,
/// `drain`: its `drainPercent`.
pub fn plan_daemon<M: Borrow<Member>>(
    members: &[M],
    posts: &[Post],
    target: &Target,
    drain: Option<f64>,
) -> DaemonPlan {
    let manned = posts.iter().filter(|post| post.is_manned).count();
    let desired = u32::try_from(manned).unwrap_or(u32::MAX);
    let fewest = drain.map_or_else(
        || target.limits.fewest_healthy(desired),
        |drain| desired.saturating_sub(rules::at_a_time(desired, drain)),
    );
    let all = || members.iter().map(Borrow::borrow);
    let healthy = all().filter(|one: &&Member| one.is_healthy(target));
    let healthy = u32::try_from(healthy.count()).unwrap_or(u32::MAX);
    let mut spare = healthy.saturating_sub(fewest);
    let mut plan =
        DaemonPlan { desired, is_settled: true, ..DaemonPlan::default() };
    let mut at: BTreeMap<&str, Vec<&Member>> = BTreeMap::new();
    for member in all() {
        at.entry(&member.place).or_default().push(member);
    }
    for post in posts {
        let here = at.get(post.place.as_str());
        let here = here.map(Vec::as_slice).unwrap_or_default();
        if !post.is_manned {
            plan.is_settled &= here.is_empty();
            if !post.has_others {
                let cause = StopCause::Displaced;
                let stops = here.iter().filter(|one| !one.is_protected(target));
                plan.stop.extend(
                    stops.map(|one| Stop { id: one.id.clone(), cause }),
                );
            }
            continue;
        }
        man(&mut plan, post, here, target, &mut spare);
    }
    plan
}

/// Sees to one post that should have a task.
fn man(
    plan: &mut DaemonPlan,
    post: &Post,
    here: &[&Member],
    target: &Target,
    spare: &mut u32,
) {
    if here.is_empty() {
        plan.is_settled = false;
        if target.can_start {
            plan.start.push(post.place.clone());
        }
        return;
    }
    let mut is_taken = false;
    for member in here {
        let is_kept =
            member.age == 0 && !member.is_unhealthy(target) && !is_taken;
        if is_kept {
            is_taken = true;
            plan.is_settled &= member.is_healthy(target);
            continue;
        }
        plan.is_settled = false;
        let is_blocked =
            member.is_protected(target) && !member.is_unhealthy(target);
        if is_blocked || (member.age > 0 && !target.can_replace) {
            continue;
        }
        let is_free = if member.is_healthy(target) {
            let is_left = *spare > 0;
            *spare = spare.saturating_sub(1);
            is_left
        } else {
            true
        };
        if is_free {
            let cause = if member.is_unhealthy(target) {
                StopCause::Unhealthy
            } else if member.age > 0 {
                StopCause::Replaced
            } else {
                StopCause::ScaleIn
            };
            plan.stop.push(Stop { id: member.id.clone(), cause });
        }
    }
}
