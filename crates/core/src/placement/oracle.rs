//! The plain way to choose, which looks at every instance for every task: the
//! measure of the planner in tests.

use std::collections::{BTreeMap, BTreeSet};

use super::strategy::{self, SpreadField, Strategy};
use super::{Request, World, refusal};

/// All candidates that may take the next task: those that are equally good.
pub(super) fn best(world: &World, request: &Request) -> Vec<usize> {
    best_of(world, &(0..world.candidates.len()).collect(), request)
}

/// The same of a pool.
pub(super) fn best_of(
    world: &World,
    pool: &BTreeSet<usize>,
    request: &Request,
) -> Vec<usize> {
    let mut best: Vec<usize> = pool
        .iter()
        .copied()
        .filter(|index| {
            let candidate = &world.candidates[*index];
            let ledger = &world.hosts[candidate.host];
            refusal::fixed(candidate, request).is_none()
                && refusal::changing(candidate, ledger, request).is_none()
        })
        .collect();
    for strategy in strategy::deciding(request) {
        best = match strategy {
            Strategy::Random => return best,
            Strategy::Spread(field) => {
                spread(world, pool, request, &field, best)
            }
            Strategy::Binpack(resource) => keep_least(best, |index| {
                resource.free(&world.hosts[world.candidates[index].host])
            }),
        };
    }
    best
}

/// Keeps those in the buckets with the fewest tasks of the group. All
/// instances count for their bucket, also those that are full.
fn spread(
    world: &World,
    pool: &BTreeSet<usize>,
    request: &Request,
    field: &SpreadField,
    candidates: Vec<usize>,
) -> Vec<usize> {
    let bucket = |index: usize| {
        let candidate = &world.candidates[index];
        match field {
            SpreadField::Instance => index.to_string(),
            SpreadField::Attribute(name) => {
                strategy::bucket(candidate, name).to_owned()
            }
        }
    };
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    for index in pool {
        *counts.entry(bucket(*index)).or_insert(0) +=
            strategy::tasks_of_group(&world.candidates[*index], request);
    }
    keep_least(candidates, |index| counts[&bucket(index)])
}

fn keep_least(
    mut candidates: Vec<usize>,
    key: impl Fn(usize) -> i64,
) -> Vec<usize> {
    if let Some(least) = candidates.iter().map(|index| key(*index)).min() {
        candidates.retain(|index| key(*index) == least);
    }
    candidates
}
