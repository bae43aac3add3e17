//! Which tasks go first when there are too many.
//!
//! The order is AWS's (developer guide, "How Amazon ECS places tasks on
//! container instances", scale-in): zones are kept balanced, then instances;
//! within that, what serves least goes first.

use std::collections::BTreeMap;

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
pub(super) fn choose<'a>(
    members: &[&'a Member],
    count: usize,
    target: &Target,
) -> Vec<&'a Member> {
    let mut zones: BTreeMap<Option<&str>, u32> = BTreeMap::new();
    let mut places: BTreeMap<&str, u32> = BTreeMap::new();
    for member in members {
        *zones.entry(member.zone.as_deref()).or_insert(0) += 1;
        *places.entry(&member.place).or_insert(0) += 1;
    }
    // Groups of members that compare equal but for zones and places: a small
    // number of buckets instead of a scan of all members for each victim.
    let mut buckets: BTreeMap<Bucket<'_>, Vec<&'a Member>> = BTreeMap::new();
    for member in members.iter().filter(|member| !member.is_protected) {
        buckets.entry(Bucket::of(member, target)).or_default().push(member);
    }
    for bucket in buckets.values_mut() {
        // The last is taken first: the newest, for the oldest have the
        // warmest caches.
        bucket.sort_by(|a, b| {
            a.created_at.cmp(&b.created_at).then_with(|| a.id.cmp(&b.id))
        });
    }
    let mut chosen = vec![];
    while chosen.len() < count {
        let next = buckets
            .iter()
            .filter(|(_, rest)| !rest.is_empty())
            .min_by_key(|(bucket, rest)| {
                let newest = rest.last().map(|member| member.created_at);
                (
                    bucket.rank(target, &zones, &places),
                    std::cmp::Reverse(newest),
                )
            })
            .map(|(bucket, _)| *bucket);
        let Some(bucket) = next else { break };
        let Some(member) = buckets.get_mut(&bucket).and_then(Vec::pop) else {
            break;
        };
        if let Some(count) = zones.get_mut(&member.zone.as_deref()) {
            *count -= 1;
        }
        if let Some(count) = places.get_mut(member.place.as_str()) {
            *count -= 1;
        }
        chosen.push(member);
    }
    chosen
}

/// What members have in common as far as the choice goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Bucket<'a> {
    serves: Serves,
    zone: Option<&'a str>,
    place: &'a str,
    place_free: i64,
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

impl<'a> Bucket<'a> {
    fn of(member: &'a Member, target: &Target) -> Bucket<'a> {
        let serves = match member.phase {
            Phase::Starting => Serves::Starting,
            Phase::Running(_) if member.health == super::Health::Unhealthy => {
                Serves::Unhealthy
            }
            Phase::Running(_) if member.is_healthy(target) => Serves::Healthy,
            Phase::Running(_) => Serves::Running,
        };
        Bucket {
            serves,
            zone: member.zone.as_deref(),
            place: &member.place,
            place_free: member.place_free,
        }
    }

    /// The smallest goes first.
    fn rank(
        &self,
        target: &Target,
        zones: &BTreeMap<Option<&str>, u32>,
        places: &BTreeMap<&str, u32>,
    ) -> (Serves, i64, i64) {
        let of_zone = zones.get(&self.zone).copied().unwrap_or(0);
        let of_place = places.get(self.place).copied().unwrap_or(0);
        match target.victims {
            VictimOrder::Spread => {
                (self.serves, -i64::from(of_zone), -i64::from(of_place))
            }
            VictimOrder::Binpack => (self.serves, -self.place_free, 0),
            VictimOrder::Random => (self.serves, 0, 0),
        }
    }
}
