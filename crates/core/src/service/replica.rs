//! Plans for services that keep a number of tasks.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};

use super::{Member, Plan, Stop, StopCause, Target, victims};

/// One pass over a service.
pub fn plan<M: Borrow<Member>>(members: &[M], target: &Target) -> Plan {
    let all = || members.iter().map(Borrow::borrow);
    let (kept, leaving): (Vec<&Member>, Vec<&Member>) =
        all().partition(|member| is_kept(member, target));
    let mut plan = Plan {
        wake_at: all().filter_map(|one| one.wake_at(target)).min(),
        ..Plan::default()
    };
    let room = room(members.len(), target);
    let need = target.desired.saturating_sub(count(&kept));
    if target.can_start {
        plan.start = need.min(room);
    }
    scale_in(&mut plan, &kept, &leaving, target);
    let going: BTreeSet<&str> =
        plan.stop.iter().map(|stop| stop.id.as_str()).collect();
    let stay = kept.iter().filter(|one| !going.contains(one.id.as_str()));
    let held = Held::of(&stay.copied().collect::<Vec<_>>(), &leaving, target);
    replace(&mut plan, &held, target);
    make_way(&mut plan, &held, target, need, room);
    let is_all = leaving.is_empty() && count(&kept) == target.desired;
    plan.is_settled = is_all && kept.iter().all(|one| one.is_healthy(target));
    plan.is_stuck = target.can_start
        && target.can_replace
        && (need > 0 || !leaving.is_empty())
        && plan.start == 0
        && plan.stop.is_empty()
        && plan.wake_at.is_none()
        && plan.protected == 0
        && all().all(|one| one.is_healthy(target));
    if plan.is_settled && target.can_start {
        balance(&mut plan, &kept, target, room);
    }
    plan
}

/// Whether a member is one of those that should stay.
fn is_kept(member: &Member, target: &Target) -> bool {
    member.age == 0 && !member.is_displaced && !member.is_unhealthy(target)
}

/// How many more tasks `maximumPercent` allows.
fn room(members: usize, target: &Target) -> u32 {
    let total = u32::try_from(members).unwrap_or(u32::MAX);
    target.limits.most(target.desired).saturating_sub(total)
}

fn count(members: &[&Member]) -> u32 {
    u32::try_from(members.len()).unwrap_or(u32::MAX)
}

/// More are kept than desired.
///
/// A healthy task goes only while enough others are: where protected tasks
/// that have yet to come up fill the places, it must wait for them.
fn scale_in(
    plan: &mut Plan,
    kept: &[&Member],
    leaving: &[&Member],
    target: &Target,
) {
    let mut surplus = count(kept).saturating_sub(target.desired);
    if surplus == 0 {
        return;
    }
    let skew = skew(kept, target, |_| true);
    // A task that was started to balance zones may come up first.
    let is_coming = kept.iter().any(|one| !one.is_healthy(target));
    let healthy_skew = self::skew(kept, target, |one| one.is_healthy(target));
    if is_coming && healthy_skew >= SKEW_MIN {
        surplus -= 1;
    }
    let wanted = usize::try_from(surplus).unwrap_or(usize::MAX);
    let chosen = victims::choose(kept, wanted, target, &target.shares);
    plan.protected += surplus - count(&chosen);
    let healthy =
        kept.iter().chain(leaving).filter(|one| one.is_healthy(target));
    let fewest = target.limits.fewest_healthy(target.desired);
    let healthy = u32::try_from(healthy.count()).unwrap_or(u32::MAX);
    let mut spare = healthy.saturating_sub(fewest);
    let cause = if skew >= SKEW_MIN && healthy_skew >= SKEW_MIN {
        StopCause::Rebalanced
    } else {
        StopCause::ScaleIn
    };
    let may_go = chosen
        .into_iter()
        .filter(|one| !one.is_healthy(target) || take(&mut spare));
    plan.stop.extend(may_go.map(|one| stop(one, cause)));
}

fn stop(member: &Member, cause: StopCause) -> Stop {
    Stop { id: member.id.clone(), cause }
}

/// The members, by what a replacement may do with them.
struct Held<'a> {
    /// Healthy ones of all deployments.
    healthy: u32,
    /// Those that run and are not known to be unhealthy.
    serving: u32,
    /// Kept ones that are healthy.
    kept_healthy: u32,
    leaving: Vec<&'a Member>,
}

impl<'a> Held<'a> {
    fn of(
        kept: &[&'a Member],
        leaving: &[&'a Member],
        target: &Target,
    ) -> Held<'a> {
        let healthy = |all: &[&Member]| {
            let healthy = all.iter().filter(|one| one.is_healthy(target));
            u32::try_from(healthy.count()).unwrap_or(u32::MAX)
        };
        let serving =
            kept.iter().chain(leaving).filter(|one| serves(one, target));
        Held {
            healthy: healthy(kept) + healthy(leaving),
            serving: u32::try_from(serving.count()).unwrap_or(u32::MAX),
            kept_healthy: healthy(kept),
            leaving: leaving.to_vec(),
        }
    }
}

/// Whether it may be doing work, whatever it counts as.
fn serves(member: &Member, target: &Target) -> bool {
    !member.is_starting() && !member.is_unhealthy(target)
}

fn cause_of(member: &Member) -> StopCause {
    if member.age > 0 {
        StopCause::Replaced
    } else if member.is_displaced {
        StopCause::Displaced
    } else {
        StopCause::Unhealthy
    }
}

/// Stops leaving members as far as `minimumHealthyPercent` allows.
fn replace(plan: &mut Plan, held: &Held<'_>, target: &Target) {
    let fewest = target.limits.fewest_healthy(target.desired);
    let mut spare = held.healthy.saturating_sub(fewest);
    let mut idle = held.serving.saturating_sub(fewest);
    for member in in_order(&held.leaving, target) {
        if member.age > 0 && !target.can_replace {
            continue;
        }
        if member.is_protected(target) && !member.is_unhealthy(target) {
            plan.protected += 1;
            continue;
        }
        let is_free = if member.is_starting() {
            // It does no work: nothing is lost.
            true
        } else if member.is_unhealthy(target) {
            member.age > 0 || held.kept_healthy >= target.desired
        } else if idle == 0 {
            false
        } else if member.is_healthy(target) {
            take(&mut spare) && take(&mut idle)
        } else {
            take(&mut idle)
        };
        if is_free {
            plan.stop.push(stop(member, cause_of(member)));
        }
    }
}

fn take(count: &mut u32) -> bool {
    let is_left = *count > 0;
    *count = count.saturating_sub(1);
    is_left
}

/// Where there is no room for replacements, unhealthy members make some.
fn make_way(
    plan: &mut Plan,
    held: &Held<'_>,
    target: &Target,
    need: u32,
    room: u32,
) {
    if need == 0 || room > 0 || !plan.stop.is_empty() {
        return;
    }
    let fewest = target.limits.fewest_healthy(target.desired);
    let most = held.healthy.saturating_sub(fewest).max(1).min(need);
    let unhealthy = held.leaving.iter().filter(|one| {
        one.age == 0 && !one.is_displaced && one.is_unhealthy(target)
    });
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let stops = unhealthy.take(most).map(|one| stop(one, StopCause::Unhealthy));
    plan.stop.extend(stops);
}

/// Leaving members, the first to go first: what does no work, then the
/// displaced, then the oldest deployments.
fn in_order<'a>(leaving: &[&'a Member], target: &Target) -> Vec<&'a Member> {
    let mut ordered = vec![];
    let none = BTreeMap::new();
    let mut rest: BTreeMap<(bool, bool, std::cmp::Reverse<u32>), Vec<&Member>> =
        BTreeMap::new();
    for member in leaving {
        let key = (
            member.is_healthy(target),
            !member.is_displaced,
            std::cmp::Reverse(member.age),
        );
        rest.entry(key).or_default().push(member);
    }
    for group in rest.values() {
        let chosen = victims::choose(group, group.len(), target, &none);
        let protected = group.iter().filter(|one| one.is_protected(target));
        ordered.extend(chosen);
        ordered.extend(protected);
    }
    ordered
}

/// Two zones may differ by one task; more is out of balance.
const SKEW_MIN: u32 = 2;

/// By how many tasks the fullest zone has more than the emptiest.
fn skew(
    kept: &[&Member],
    target: &Target,
    counts: impl Fn(&Member) -> bool,
) -> u32 {
    spread(&zone_counts(kept, target, counts))
}

fn spread(by_zone: &BTreeMap<&str, u32>) -> u32 {
    let most = by_zone.values().max().copied().unwrap_or(0);
    let least = by_zone.values().min().copied().unwrap_or(0);
    most - least
}

fn zone_counts<'a>(
    kept: &[&Member],
    target: &'a Target,
    counts: impl Fn(&Member) -> bool,
) -> BTreeMap<&'a str, u32> {
    let mut by_zone: BTreeMap<&str, u32> =
        target.zones.iter().map(|zone| (zone.as_str(), 0)).collect();
    for member in kept.iter().filter(|member| counts(member)) {
        let zone = member.zone.as_deref().unwrap_or_default();
        if let Some(count) = by_zone.get_mut(zone) {
            *count += 1;
        }
    }
    by_zone
}

/// Starts one task in the emptiest zone; when it is healthy, the fullest zone
/// loses one (developer guide, "Balancing an Amazon ECS service across
/// Availability Zones").
fn balance(plan: &mut Plan, kept: &[&Member], target: &Target, room: u32) {
    if room == 0 || target.zones.is_empty() {
        return;
    }
    let by_zone = zone_counts(kept, target, |_| true);
    if spread(&by_zone) < SKEW_MIN {
        return;
    }
    let emptiest = by_zone.iter().min_by_key(|(zone, count)| (**count, **zone));
    if let Some((zone, _)) = emptiest {
        plan.start = 1;
        plan.start_zone = Some((*zone).to_owned());
    }
}
