//! Strategies: which of the instances that could take a task does.

use std::collections::BTreeMap;

use super::{Candidate, Request, World, ZONE_ATTRIBUTE};

/// A preference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Any.
    Random,
    /// Evenly over the values of a field.
    Spread(SpreadField),
    /// Where least of the resource remains.
    Binpack(Resource),
}

/// What tasks are spread over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpreadField {
    /// `instanceId` or `host`: the container instances.
    Instance,
    /// `attribute:NAME`: the values of an attribute. Instances without it
    /// count as one.
    Attribute(String),
}

/// What is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// CPU units.
    Cpu,
    /// Memory.
    Memory,
}

/// Chooses among the candidates that could take the task.
///
/// Each strategy keeps the candidates that it likes best and hands them to
/// the next one, which is what ordering by several keys means.
pub(super) fn choose(
    world: &World,
    request: &Request,
    attempt: u32,
    free: Vec<usize>,
) -> Option<usize> {
    let default;
    let strategies = if request.strategies.is_empty() {
        let zone = SpreadField::Attribute(ZONE_ATTRIBUTE.to_owned());
        default =
            [Strategy::Spread(zone), Strategy::Spread(SpreadField::Instance)];
        default.as_slice()
    } else {
        request.strategies.as_slice()
    };
    let mut best = free;
    for strategy in strategies {
        best = match strategy {
            Strategy::Random => break,
            Strategy::Spread(field) => spread(world, request, field, best),
            Strategy::Binpack(resource) => pack(world, *resource, best),
        };
    }
    let draw = mix(request.seed ^ mix(u64::from(attempt)));
    let count = u64::try_from(best.len()).ok().filter(|n| *n > 0)?;
    let index = usize::try_from(draw % count).ok()?;
    best.get(index).copied()
}

/// Keeps those in the buckets with the fewest tasks of the group. All
/// instances count for their bucket, also those that are full.
fn spread(
    world: &World,
    request: &Request,
    field: &SpreadField,
    candidates: Vec<usize>,
) -> Vec<usize> {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for candidate in &world.candidates {
        let tasks = candidate.groups.get(&request.group).copied().unwrap_or(0);
        *counts.entry(bucket(candidate, field)).or_insert(0) +=
            u64::from(tasks);
    }
    let count = |index: usize| {
        counts.get(bucket(&world.candidates[index], field)).copied()
    };
    keep_least(candidates, |index| count(index).unwrap_or(0))
}

fn bucket<'a>(candidate: &'a Candidate, field: &SpreadField) -> &'a str {
    match field {
        SpreadField::Instance => &candidate.arn,
        SpreadField::Attribute(name) => {
            candidate.attributes.get(name).map_or("", String::as_str)
        }
    }
}

fn pack(
    world: &World,
    resource: Resource,
    candidates: Vec<usize>,
) -> Vec<usize> {
    keep_least(candidates, |index| {
        let ledger = &world.hosts[world.candidates[index].host];
        match resource {
            Resource::Cpu => ledger.free_cpu(),
            Resource::Memory => ledger.free_memory_mib(),
        }
    })
}

fn keep_least<K: Ord>(
    mut candidates: Vec<usize>,
    key: impl Fn(usize) -> K,
) -> Vec<usize> {
    if let Some(least) = candidates.iter().map(|index| key(*index)).min() {
        candidates.retain(|index| key(*index) == least);
    }
    candidates
}

/// One step of SplitMix64: spreads the bits of a seed.
const fn mix(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
