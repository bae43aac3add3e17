//! Which tasks go first when there are too many.
//!
//! The order is AWS's (developer guide, "How Amazon ECS places tasks on
//! container instances", scale-in): what serves least goes first; then capacity
//! providers keep their shares, zones are kept balanced, then instances.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use minato_wire::Timestamp;

use super::{Member, Phase, Target};

/// How a service chooses among its tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VictimOrder {
    /// From the zone, then the instance, with most tasks.
    #[default]
    Spread,
    /// From the instance that has most left: it may become empty.
    Binpack,
    /// From anywhere.
    Random,
}

/// Chooses `count` of the members that may be stopped. Protected ones are
/// never chosen, so there may be fewer.
///
/// `shares` is how many tasks each capacity provider should keep, where a
/// strategy decides: who has more than its share gives first.
///
/// Members are in groups that compare equal but for their places, of which
/// there are few; within a group places are in a heap. What ranks a place only
/// ever gets worse as victims are chosen, so an entry that is out of date is
/// put right when it comes to the top.
pub(super) fn choose<'a>(
    members: &[&'a Member],
    count: usize,
    target: &Target,
    shares: &BTreeMap<String, u32>,
) -> Vec<&'a Member> {
    if count == 0 {
        return vec![];
    }
    let mut tally = Tally {
        shares,
        zones: BTreeMap::new(),
        places: BTreeMap::new(),
        providers: BTreeMap::new(),
    };
    for member in members {
        tally.count(member);
    }
    let mut groups: BTreeMap<GroupKey<'_>, Group<'a>> = BTreeMap::new();
    for member in members.iter().filter(|member| !member.is_protected(target)) {
        let key = GroupKey {
            serves: Serves::of(member, target),
            provider: member.provider.as_deref(),
            zone: member.zone.as_deref(),
        };
        let group = groups.entry(key).or_default();
        group.places.entry(&member.place).or_default().push(member);
    }
    for group in groups.values_mut() {
        group.order(target, &tally);
    }
    let mut chosen = vec![];
    while chosen.len() < count {
        let mut best = None;
        for (key, group) in &mut groups {
            let Some(top) = group.top(target, &tally) else { continue };
            let rank = (key.rank(target, &tally), top);
            if best.as_ref().is_none_or(|(known, _)| rank < *known) {
                best = Some((rank, *key));
            }
        }
        let Some((_, key)) = best else { break };
        let taken = groups.get_mut(&key).and_then(|group| group.take());
        let Some(member) = taken else { break };
        tally.discount(member);
        chosen.push(member);
    }
    chosen
}

/// How many members there are, by what they have in common.
struct Tally<'a, 's> {
    shares: &'s BTreeMap<String, u32>,
    zones: BTreeMap<Option<&'a str>, i64>,
    places: BTreeMap<&'a str, i64>,
    providers: BTreeMap<Option<&'a str>, i64>,
}

impl<'a> Tally<'a, '_> {
    fn count(&mut self, member: &'a Member) {
        *self.zones.entry(member.zone.as_deref()).or_insert(0) += 1;
        *self.places.entry(&member.place).or_insert(0) += 1;
        let provider = member.provider.as_deref();
        *self.providers.entry(provider).or_insert(0) += 1;
    }

    fn discount(&mut self, member: &'a Member) {
        if let Some(count) = self.zones.get_mut(&member.zone.as_deref()) {
            *count -= 1;
        }
        if let Some(count) = self.places.get_mut(member.place.as_str()) {
            *count -= 1;
        }
        let provider = member.provider.as_deref();
        if let Some(count) = self.providers.get_mut(&provider) {
            *count -= 1;
        }
    }

    /// How many more tasks a provider has than its share.
    fn excess(&self, provider: Option<&str>) -> i64 {
        if self.shares.is_empty() {
            return 0;
        }
        let has = self.providers.get(&provider).copied().unwrap_or(0);
        let share = provider.and_then(|name| self.shares.get(name));
        has - share.map_or(0, |share| i64::from(*share))
    }
}

/// What the members of a group have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct GroupKey<'a> {
    serves: Serves,
    provider: Option<&'a str>,
    zone: Option<&'a str>,
}

impl GroupKey<'_> {
    /// The smallest goes first.
    fn rank(
        &self,
        target: &Target,
        tally: &Tally<'_, '_>,
    ) -> (Serves, i64, i64) {
        let zone = match target.victims {
            VictimOrder::Spread => {
                tally.zones.get(&self.zone).copied().unwrap_or(0)
            }
            VictimOrder::Binpack | VictimOrder::Random => 0,
        };
        (self.serves, -tally.excess(self.provider), -zone)
    }
}

/// A place as it stands in a group's heap: its rank, its newest member, and
/// which it is. The smallest goes first.
type Standing<'a> = (i64, Reverse<Timestamp>, &'a str);

#[derive(Default)]
struct Group<'a> {
    /// The members by place, the next to go last: the newest, for the oldest
    /// have the warmest caches.
    places: BTreeMap<&'a str, Vec<&'a Member>>,
    heap: BinaryHeap<Reverse<Standing<'a>>>,
}

impl<'a> Group<'a> {
    fn order(&mut self, target: &Target, tally: &Tally<'_, '_>) {
        for members in self.places.values_mut() {
            members.sort_by(|a, b| {
                a.created_at.cmp(&b.created_at).then_with(|| a.id.cmp(&b.id))
            });
        }
        let standings = self.places.iter().filter_map(|(place, members)| {
            standing(place, members, target, tally).map(Reverse)
        });
        self.heap = standings.collect();
    }

    /// The place that goes first, as it stands now.
    fn top(
        &mut self,
        target: &Target,
        tally: &Tally<'_, '_>,
    ) -> Option<Standing<'a>> {
        loop {
            let Reverse(top) = *self.heap.peek()?;
            let members = &self.places[top.2];
            match standing(top.2, members, target, tally) {
                Some(now) if now == top => return Some(top),
                Some(now) => {
                    self.heap.pop();
                    self.heap.push(Reverse(now));
                }
                None => {
                    self.heap.pop();
                }
            }
        }
    }

    fn take(&mut self) -> Option<&'a Member> {
        let Reverse((_, _, place)) = self.heap.peek()?;
        self.places.get_mut(place)?.pop()
    }
}

/// Where a place stands with the members that it has left.
fn standing<'a>(
    place: &'a str,
    members: &[&'a Member],
    target: &Target,
    tally: &Tally<'_, '_>,
) -> Option<Standing<'a>> {
    let last = members.last()?;
    let rank = match target.victims {
        VictimOrder::Spread => -tally.places.get(place).copied().unwrap_or(0),
        VictimOrder::Binpack => -last.place_free,
        VictimOrder::Random => 0,
    };
    Some((rank, Reverse(last.created_at), place))
}

/// How much a member is worth, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Serves {
    /// Its health checks failed, within the grace period or after.
    Unhealthy,
    /// It does not run yet.
    Starting,
    /// It runs and is not known to be healthy.
    Running,
    /// It is healthy.
    Healthy,
}

impl Serves {
    fn of(member: &Member, target: &Target) -> Serves {
        match member.phase {
            Phase::Starting => Serves::Starting,
            Phase::Running(_) if member.health == super::Health::Unhealthy => {
                Serves::Unhealthy
            }
            Phase::Running(_) if member.is_healthy(target) => Serves::Healthy,
            Phase::Running(_) => Serves::Running,
        }
    }
}
