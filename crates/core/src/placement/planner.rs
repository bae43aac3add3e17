//! The search: finds the best instance for one task after the other without
//! looking at all of them again for each.
//!
//! A strategy gives every instance a number, least is best, and several
//! strategies make a tuple. Two kinds of numbers change when a task is placed:
//! those of the instances on the chosen host, and the count of the chosen
//! instance's bucket, which is in the tuples of all instances in that bucket.
//! So instances are kept in *classes*: all those that are in the same bucket
//! of each attribute that tasks are spread over. Within a class the counts of
//! buckets are equal and order nothing, so a heap by the other numbers finds
//! its best instance; and the classes are kept in order by their best tuple.
//! A placement costs the logarithm of a class and of the number of classes,
//! times the classes that share a bucket with the chosen one.
//!
//! Ties, and `random`, are decided by clocks. Each instance's clock rings
//! after an exponentially distributed time and is then set anew. As such
//! clocks have no memory, which one rings next is a fair draw each time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::sync::Arc;

use super::strategy::{self, SpreadField, Strategy};
use super::{Candidate, Request, World, refusal};

/// The numbers of the strategies, in their order. ECS takes at most five
/// (API reference, RunTask `placementStrategy`).
type Tuple = [i64; super::parse::STRATEGIES_MAX];

/// An instance in its class's heap: its tuple without the counts of buckets,
/// when its clock rings, its index, and which of its entries this is.
type Entry = Reverse<(Tuple, u64, usize, u32)>;

/// Instances that are in the same buckets.
#[derive(Default)]
struct Class {
    /// One bucket for each of [`Planner::spreads`].
    buckets: Vec<usize>,
    heap: BinaryHeap<Entry>,
    /// Its place in [`Planner::order`], if any of its instances is free.
    rank: Option<(Tuple, u64)>,
}

/// An attribute that tasks are spread over.
struct Spread<'a> {
    attribute: &'a str,
    /// Which of the strategies it is.
    slot: usize,
    /// Tasks of the group by bucket.
    counts: Vec<i64>,
    /// The classes of each bucket.
    classes: Vec<Vec<usize>>,
}

/// What the planner knows of a candidate.
#[derive(Clone, Copy, Default)]
struct Standing {
    class: usize,
    clock: u64,
    /// Whether nothing that stays as it is speaks against it.
    fits: bool,
    /// Older entries in the heap are void.
    version: u32,
}

/// Candidates of one request in the order in which they get tasks.
pub(super) struct Planner<'a> {
    request: &'a Request,
    strategies: &'a [Strategy],
    spreads: Vec<Spread<'a>>,
    classes: Vec<Class>,
    /// The classes with a free instance, best first.
    order: BTreeSet<(Tuple, u64, usize)>,
    standings: Vec<Standing>,
    /// The instances of hosts that have several.
    together: HashMap<usize, Vec<usize>>,
    draws: u64,
}

impl<'a> Planner<'a> {
    pub(super) fn new(
        world: &World,
        pool: &[usize],
        request: &'a Request,
        strategies: &'a [Strategy],
    ) -> Planner<'a> {
        let spreads = strategies.iter().enumerate();
        let spreads = spreads.filter_map(|(slot, strategy)| match strategy {
            Strategy::Spread(SpreadField::Attribute(attribute)) => {
                let (counts, classes) = (vec![], vec![]);
                Some(Spread { attribute, slot, counts, classes })
            }
            Strategy::Spread(SpreadField::Instance)
            | Strategy::Binpack(_)
            | Strategy::Random => None,
        });
        let mut planner = Planner {
            request,
            strategies,
            spreads: spreads.collect(),
            classes: vec![],
            order: BTreeSet::new(),
            standings: vec![Standing::default(); world.candidates.len()],
            together: HashMap::new(),
            draws: request.seed,
        };
        planner.take_in(world, pool);
        planner
    }

    /// Sorts the candidates into classes and those into their order.
    fn take_in(&mut self, world: &World, pool: &[usize]) {
        let counts = self.counts_tasks();
        let mut kinds = Kinds::default();
        let mut first_on: Vec<Option<usize>> = vec![None; world.hosts.len()];
        let mut entries: Vec<Vec<Entry>> = vec![];
        for &index in pool {
            let candidate = &world.candidates[index];
            let (class, fits) = self.kind(&mut kinds, candidate);
            entries.resize_with(self.classes.len(), Vec::new);
            let mut tasks = 0;
            if counts {
                tasks = strategy::tasks_of_group(candidate, self.request);
                let buckets = self.classes[class].buckets.iter();
                for (spread, bucket) in self.spreads.iter_mut().zip(buckets) {
                    spread.counts[*bucket] += tasks;
                }
            }
            let fits = fits && candidate.agent_connected;
            let clock = self.wait();
            let standing = Standing { class, clock, fits, version: 0 };
            if fits && is_free(world, self.request, candidate) {
                let tuple = self.tuple(world, candidate, tasks);
                entries[class].push(Reverse((tuple, clock, index, 0)));
            }
            self.standings[index] = standing;
            match &mut first_on[candidate.host] {
                first @ None => *first = Some(index),
                Some(first) => {
                    let all = self.together.entry(candidate.host);
                    all.or_insert_with(|| vec![*first]).push(index);
                }
            }
        }
        for (class, entries) in entries.into_iter().enumerate() {
            self.classes[class].heap = BinaryHeap::from(entries);
            self.put_in_order(class);
        }
    }

    /// The class of a candidate, and whether its attributes will do. Hosts
    /// that are alike share their attributes, so most are known.
    fn kind(
        &mut self,
        kinds: &mut Kinds,
        candidate: &Candidate,
    ) -> (usize, bool) {
        let attributes = Arc::as_ptr(&candidate.attributes);
        if let Some(known) = kinds.by_attributes.get(&attributes) {
            return *known;
        }
        let mut buckets = vec![];
        for (number, spread) in self.spreads.iter_mut().enumerate() {
            let value = strategy::bucket(candidate, spread.attribute);
            let known = kinds.buckets.entry((number, value.to_owned()));
            buckets.push(*known.or_insert_with(|| {
                spread.counts.push(0);
                spread.classes.push(vec![]);
                spread.counts.len() - 1
            }));
        }
        let class = match kinds.classes.get(&buckets) {
            Some(class) => *class,
            None => {
                let class = self.classes.len();
                for (spread, bucket) in self.spreads.iter_mut().zip(&buckets) {
                    spread.classes[*bucket].push(class);
                }
                kinds.classes.insert(buckets.clone(), class);
                self.classes.push(Class { buckets, ..Class::default() });
                class
            }
        };
        let request = self.request;
        let fits =
            refusal::unmet(&candidate.attributes, request).next().is_none();
        kinds.by_attributes.insert(attributes, (class, fits));
        (class, fits)
    }

    /// The best candidate for the next task; none if there is none.
    pub(super) fn best(&self) -> Option<usize> {
        let (_, _, class) = self.order.first()?;
        let Reverse((_, _, index, _)) = self.classes[*class].heap.peek()?;
        Some(*index)
    }

    /// Notes that `chosen` got the task, which the world shows already.
    pub(super) fn note(&mut self, world: &World, chosen: usize) {
        let host = world.candidates[chosen].host;
        let mut stale = BTreeSet::new();
        match self.together.get(&host).cloned() {
            None => self.renew(world, chosen, &mut stale),
            Some(all) => {
                for index in all {
                    self.renew(world, index, &mut stale);
                }
            }
        }
        let class = self.standings[chosen].class;
        let buckets = self.classes[class].buckets.iter();
        for (spread, bucket) in self.spreads.iter_mut().zip(buckets) {
            spread.counts[*bucket] += 1;
            stale.extend(&spread.classes[*bucket]);
        }
        for class in stale {
            self.put_in_order(class);
        }
    }

    /// Enters a candidate anew, if it is still free.
    fn renew(
        &mut self,
        world: &World,
        index: usize,
        stale: &mut BTreeSet<usize>,
    ) {
        let wait = self.wait();
        let standing = &mut self.standings[index];
        let class = standing.class;
        stale.insert(class);
        standing.version += 1;
        standing.clock = standing.clock.saturating_add(wait);
        let Standing { clock, fits, version, .. } = *standing;
        let candidate = &world.candidates[index];
        if fits && is_free(world, self.request, candidate) {
            let tasks = strategy::tasks_of_group(candidate, self.request);
            let tuple = self.tuple(world, candidate, tasks);
            let entry = Reverse((tuple, clock, index, version));
            self.classes[class].heap.push(entry);
        }
    }

    /// Puts a class where its best instance belongs.
    fn put_in_order(&mut self, number: usize) {
        let class = &mut self.classes[number];
        if let Some((tuple, clock)) = class.rank.take() {
            self.order.remove(&(tuple, clock, number));
        }
        while let Some(Reverse((tuple, clock, index, version))) =
            class.heap.peek()
        {
            if self.standings[*index].version != *version {
                class.heap.pop();
                continue;
            }
            let (mut tuple, clock) = (*tuple, *clock);
            for (spread, bucket) in self.spreads.iter().zip(&class.buckets) {
                tuple[spread.slot] = spread.counts[*bucket];
            }
            class.rank = Some((tuple, clock));
            self.order.insert((tuple, clock, number));
            return;
        }
    }

    /// Whether any strategy asks how many tasks of the group there are.
    fn counts_tasks(&self) -> bool {
        let mut strategies = self.strategies.iter();
        strategies.any(|it| matches!(it, Strategy::Spread(_)))
    }

    /// The numbers of a candidate that has so many tasks of the group, but for
    /// the counts of buckets.
    fn tuple(&self, world: &World, candidate: &Candidate, tasks: i64) -> Tuple {
        let mut tuple = Tuple::default();
        for (number, strategy) in tuple.iter_mut().zip(self.strategies) {
            *number = match strategy {
                Strategy::Spread(SpreadField::Instance) => tasks,
                Strategy::Binpack(resource) => {
                    resource.free(&world.hosts[candidate.host])
                }
                Strategy::Spread(SpreadField::Attribute(_))
                | Strategy::Random => 0,
            };
        }
        tuple
    }

    /// How long a clock that is set now goes.
    fn wait(&mut self) -> u64 {
        self.draws = self.draws.wrapping_add(0x9E37_79B9_7F4A_7C15);
        exponential(mix(self.draws))
    }
}

/// What was found out while candidates are taken in.
#[derive(Default)]
struct Kinds {
    by_attributes: HashMap<*const BTreeMap<String, String>, (usize, bool)>,
    buckets: HashMap<(usize, String), usize>,
    classes: HashMap<Vec<usize>, usize>,
}

fn is_free(world: &World, request: &Request, candidate: &Candidate) -> bool {
    let ledger = &world.hosts[candidate.host];
    ledger.shortage(&request.claim).is_none()
        && refusal::violated(candidate, request).next().is_none()
}

/// The negative logarithm, to base two and in units of 2⁻³², of a number
/// drawn evenly between 0 and 1: exponentially distributed, to a hundredth.
/// In whole numbers, so that every machine draws the same.
fn exponential(draw: u64) -> u64 {
    let draw = draw | 1;
    let zeros = draw.leading_zeros();
    // The digits after the leading one, as a fraction of 2³².
    let fraction = (draw << zeros << 1) >> 32;
    // log₂(1 + f) is about f + 0.344 · f · (1 − f).
    let bend = (fraction * ((1 << 32) - fraction)) >> 32;
    let logarithm = fraction + ((bend * 88) >> 8);
    (u64::from(zeros + 1) << 32) - logarithm
}

/// The mixing step of SplitMix64.
const fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_exponential() {
        const DRAWS: u64 = 200_000;
        let waits: Vec<u64> = (1..=DRAWS)
            .map(|n| exponential(mix(n.wrapping_mul(0x9E37_79B9_7F4A_7C15))))
            .collect();
        // Half of them are over after one unit, a quarter lasts two.
        for (units, part) in [(1, 2), (2, 4), (3, 8)] {
            let longer =
                waits.iter().filter(|wait| **wait > units << 32).count();
            let expected = usize::try_from(DRAWS / part).unwrap();
            let off = longer.abs_diff(expected);
            assert!(off * 50 < expected, "{units}: {longer} of {expected}");
        }
    }
}
