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

//! What was found out stays true for a candidate until something about it
//! changes, so a planner can be kept from one call to the next
//! ([`Planner::review`]): then a task costs what changed since, not a look at
//! every instance of the fleet.

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
#[derive(Debug, Default)]
struct Class {
    /// One bucket for each of [`Planner::spreads`].
    buckets: Vec<usize>,
    heap: BinaryHeap<Entry>,
    /// Its place in [`Planner::order`], if any of its instances is free.
    rank: Option<(Tuple, u64)>,
}

/// An attribute that tasks are spread over.
#[derive(Debug)]
struct Spread {
    attribute: String,
    /// Which of the strategies it is.
    slot: usize,
    /// Tasks of the group by bucket.
    counts: Vec<i64>,
    /// The classes of each bucket.
    classes: Vec<Vec<usize>>,
}

/// What the planner knows of a candidate.
#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    /// Whether it is in the pool; if not, only its clock and version count.
    is_in: bool,
    class: usize,
    /// Tasks of the group, as they are in the counts of its buckets.
    tasks: i64,
    clock: u64,
    /// Older entries in the heap are void.
    version: u32,
}

impl Standing {
    /// Its class and how many tasks it adds to the counts of its buckets.
    fn share(self) -> Option<(usize, i64)> {
        (self.is_in && self.tasks > 0).then_some((self.class, self.tasks))
    }
}

/// The candidates of a pool in the order in which they get the tasks of one
/// kind of request: whatever its count and its seed.
#[derive(Debug)]
pub struct Planner {
    request: Request,
    strategies: Vec<Strategy>,
    spreads: Vec<Spread>,
    classes: Vec<Class>,
    /// The classes with a free instance, best first.
    order: BTreeSet<(Tuple, u64, usize)>,
    standings: Vec<Standing>,
    /// By host: the first candidate of it that was in the pool.
    first: Vec<Option<usize>>,
    /// The candidates of hosts that have several.
    together: HashMap<usize, Vec<usize>>,
    kinds: Kinds,
    draws: u64,
    /// The latest ring of a clock.
    now: u64,
    /// Entries pushed since those that are void were last thrown out.
    pushed: usize,
}

impl Planner {
    /// A planner for such requests over the candidates of these indices.
    pub fn new(world: &World, pool: &[usize], request: &Request) -> Planner {
        let strategies = strategy::deciding(request);
        let spreads = strategies.iter().enumerate();
        let spreads = spreads.filter_map(|(slot, strategy)| match strategy {
            Strategy::Spread(SpreadField::Attribute(attribute)) => {
                let attribute = attribute.clone();
                let (counts, classes) = (vec![], vec![]);
                Some(Spread { attribute, slot, counts, classes })
            }
            Strategy::Spread(SpreadField::Instance)
            | Strategy::Binpack(_)
            | Strategy::Random => None,
        });
        let mut planner = Planner {
            request: request.clone(),
            spreads: spreads.collect(),
            strategies,
            classes: vec![],
            order: BTreeSet::new(),
            standings: vec![],
            first: vec![],
            together: HashMap::new(),
            kinds: Kinds::default(),
            draws: request.seed,
            now: 0,
            pushed: 0,
        };
        planner.take_in(world, pool);
        planner
    }

    /// Whether it was made for requests like this one.
    pub fn is_for(&self, request: &Request) -> bool {
        let Request {
            count: _,
            seed: _,
            claim,
            attributes,
            platform,
            zones,
            group,
            constraints,
            strategies,
        } = request;
        let own = &self.request;
        *group == own.group
            && *claim == own.claim
            && *attributes == own.attributes
            && *platform == own.platform
            && *zones == own.zones
            && *constraints == own.constraints
            && *strategies == own.strategies
    }

    /// Whether there were so many kinds of candidates since it was made that
    /// a new one is better.
    pub fn is_worn(&self) -> bool {
        self.kinds.by_attributes.len() > self.void_max()
    }

    /// How much may be kept that counts no more.
    fn void_max(&self) -> usize {
        1024 + self.standings.len()
    }

    /// Places up to so many tasks, claiming what they take from the ledgers;
    /// fewer if no candidate can have another one. Answers with the candidate
    /// of each.
    pub fn place(&mut self, world: &mut World, count: u32) -> Vec<usize> {
        let mut placed = vec![];
        while placed.len() < count as usize {
            let Some(chosen) = self.best() else { break };
            super::take(world, &self.request, chosen);
            self.note(world, chosen);
            placed.push(chosen);
        }
        placed
    }

    /// Looks again at a candidate of which anything may have changed: its
    /// host's ledger, what it is, or whether it is in the pool.
    pub fn review(&mut self, world: &World, index: usize, is_in: bool) {
        let mut stale = BTreeSet::new();
        self.renew(world, index, is_in, &mut stale);
        for class in stale {
            self.put_in_order(class);
        }
    }

    /// Sorts the candidates into classes and those into their order.
    fn take_in(&mut self, world: &World, pool: &[usize]) {
        self.make_room(world);
        let mut entries: Vec<Vec<Entry>> = vec![];
        for &index in pool {
            let entry = self.enter(world, index);
            entries.resize_with(self.classes.len(), Vec::new);
            entries[self.standings[index].class].extend(entry);
        }
        for (class, entries) in entries.into_iter().enumerate() {
            self.classes[class].heap = BinaryHeap::from(entries);
            self.put_in_order(class);
        }
    }

    fn make_room(&mut self, world: &World) {
        self.standings.resize(world.candidates.len(), Standing::default());
        self.first.resize(world.hosts.len(), None);
    }

    /// Counts a candidate in; its entry, if it is free.
    fn enter(&mut self, world: &World, index: usize) -> Option<Entry> {
        let candidate = &world.candidates[index];
        let (class, fits) = self.kind(candidate);
        if self.standings[index].clock == 0 {
            let clock = self.now.saturating_add(self.wait());
            self.standings[index].clock = clock;
        }
        let mut tasks = 0;
        if self.counts_tasks() {
            tasks = strategy::tasks_of_group(candidate, &self.request);
            self.count(class, tasks);
        }
        match &mut self.first[candidate.host] {
            first @ None => *first = Some(index),
            Some(first) if *first == index => {}
            Some(first) => {
                let all = self.together.entry(candidate.host);
                let all = all.or_insert_with(|| vec![*first]);
                if !all.contains(&index) {
                    all.push(index);
                }
            }
        }
        let standing = &mut self.standings[index];
        let Standing { clock, version, .. } = *standing;
        *standing = Standing { is_in: true, class, tasks, clock, version };
        let is_free = fits
            && candidate.agent_connected
            && is_free(world, &self.request, candidate);
        is_free.then(|| {
            let tuple = self.tuple(world, candidate, tasks);
            Reverse((tuple, clock, index, version))
        })
    }

    /// Adds tasks of the group to the buckets of a class.
    fn count(&mut self, class: usize, tasks: i64) {
        let buckets = self.classes[class].buckets.iter();
        for (spread, bucket) in self.spreads.iter_mut().zip(buckets) {
            spread.counts[*bucket] += tasks;
        }
    }

    /// The class of a candidate, and whether its attributes will do. Hosts
    /// that are alike share their attributes, so most are known.
    fn kind(&mut self, candidate: &Candidate) -> (usize, bool) {
        let kinds = &mut self.kinds;
        let address = Arc::as_ptr(&candidate.attributes).addr();
        if let Some(known) = kinds.by_attributes.get(&address) {
            return (known.class, known.fits);
        }
        let mut buckets = vec![];
        for (number, spread) in self.spreads.iter_mut().enumerate() {
            let value = strategy::bucket(candidate, &spread.attribute);
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
        let attributes = Arc::clone(&candidate.attributes);
        let fits = refusal::unmet(&attributes, &self.request).next().is_none();
        let kind = Kind { _attributes: attributes, class, fits };
        kinds.by_attributes.insert(address, kind);
        (class, fits)
    }

    /// The best candidate for the next task; none if there is none.
    fn best(&self) -> Option<usize> {
        let (_, _, class) = self.order.first()?;
        let Reverse((_, _, index, _)) = self.classes[*class].heap.peek()?;
        Some(*index)
    }

    /// Notes that `chosen` got the task, which the world shows already.
    fn note(&mut self, world: &World, chosen: usize) {
        let wait = self.wait();
        let clock = &mut self.standings[chosen].clock;
        self.now = self.now.max(*clock);
        *clock = clock.saturating_add(wait);
        let mut stale = BTreeSet::new();
        let host = world.candidates[chosen].host;
        match self.together.get(&host).cloned() {
            None => self.renew(world, chosen, true, &mut stale),
            Some(all) => {
                for index in all {
                    let is_in = self.standings[index].is_in;
                    self.renew(world, index, is_in, &mut stale);
                }
            }
        }
        for class in stale {
            self.put_in_order(class);
        }
    }

    /// Enters a candidate anew, if it is in the pool, and adds the classes
    /// whose place may be another one to `stale`.
    fn renew(
        &mut self,
        world: &World,
        index: usize,
        is_in: bool,
        stale: &mut BTreeSet<usize>,
    ) {
        self.make_room(world);
        let before = self.standings[index];
        if !before.is_in && !is_in {
            return;
        }
        self.standings[index].version += 1;
        self.standings[index].is_in = false;
        if before.is_in {
            self.count(before.class, -before.tasks);
            stale.insert(before.class);
        }
        if is_in {
            let entry = self.enter(world, index);
            let class = self.standings[index].class;
            stale.insert(class);
            self.pushed += usize::from(entry.is_some());
            self.classes[class].heap.extend(entry);
            if self.pushed > self.void_max() {
                self.throw_out();
            }
        }
        let after = self.standings[index];
        if before.share() != after.share() {
            for (class, _) in before.share().into_iter().chain(after.share()) {
                let buckets = self.classes[class].buckets.iter();
                for (spread, bucket) in self.spreads.iter().zip(buckets) {
                    stale.extend(&spread.classes[*bucket]);
                }
            }
        }
    }

    /// Throws out the entries that are void.
    fn throw_out(&mut self) {
        self.pushed = 0;
        let standings = &self.standings;
        for class in &mut self.classes {
            class.heap.retain(|Reverse((_, _, index, version))| {
                standings[*index].version == *version
            });
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
        for (number, strategy) in tuple.iter_mut().zip(&self.strategies) {
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

/// What was found out of attributes.
#[derive(Debug, Default)]
struct Kinds {
    /// By their address: hosts that are alike share theirs.
    by_attributes: HashMap<usize, Kind>,
    buckets: HashMap<(usize, String), usize>,
    classes: HashMap<Vec<usize>, usize>,
}

/// What a candidate's attributes say of it.
#[derive(Debug)]
struct Kind {
    /// Held so that no others get their address.
    _attributes: Arc<BTreeMap<String, String>>,
    class: usize,
    fits: bool,
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
