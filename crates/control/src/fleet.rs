//! The hosts as placement sees them, in memory and up to date.
//!
//! The rows of the store are the truth. Reading those of all hosts and all
//! their tasks for each placement would cost more than placing, so their sums
//! are kept here and brought up to date from the keys that were written since
//! ([`Tx::changed_since`]): what was written is read again, so that nothing
//! here can differ from the rows for longer than a transaction. The keys of
//! the transaction itself are looked at again by the next one, whether this
//! one commits or not.

mod planners;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use minato_core::placement::{
    self, Candidate, Claim, Groups, Ledger, Plan, Planner, Request, World,
};
use minato_store::{Key, Row, Tx};

use self::planners::Planners;
use crate::services::ecs::tasks::place;
use crate::tables::{ContainerInstance, Host, Task};

/// Kinds of hosts that are remembered before those that no host is of any
/// more are forgotten.
const KINDS_MIN: usize = 1024;

/// The hosts of all accounts and regions.
#[derive(Default)]
pub(crate) struct Fleet(Mutex<Books>);

impl Fleet {
    /// Looks at the hosts of an account in a region as `tx` sees them.
    pub(crate) fn with<T>(
        &self,
        tx: &Tx,
        account: &str,
        region: &str,
        look: impl FnOnce(&mut Space) -> T,
    ) -> T {
        look(self.books(tx).space(account, region))
    }

    /// Brings the books up to date, so that the next look has little to read.
    pub(crate) fn catch_up(&self, tx: &Tx) {
        let mut books = self.books(tx);
        books.spaces.values_mut().for_each(Space::catch_up);
    }

    fn books(&self, tx: &Tx) -> MutexGuard<'_, Books> {
        let mut books = self.0.lock().unwrap_or_else(|poisoned| {
            // Somebody panicked half-way: begin anew.
            self.0.clear_poison();
            let mut books = PoisonError::into_inner(poisoned);
            *books = Books::default();
            books
        });
        books.catch_up(tx);
        books
    }
}

#[derive(Default)]
struct Books {
    /// The revision whose rows are in the books.
    revision: Option<u64>,
    /// What a transaction wrote that may have been rolled back.
    unsure: Vec<(&'static str, Key)>,
    spaces: HashMap<(String, String), Space>,
    /// The tasks that hold part of a host, as they are entered.
    tasks: HashMap<Key, Arc<Task>>,
    /// Attributes of hosts: those that are alike share theirs, by which the
    /// planner knows them.
    kinds: HashSet<Arc<BTreeMap<String, String>>>,
    kinds_max: usize,
}

impl Books {
    fn catch_up(&mut self, tx: &Tx) {
        let base = tx.revision() - 1;
        let changed = self.revision.and_then(|known| tx.changed_since(known));
        match changed {
            None => self.begin(tx),
            Some(changed) => {
                let mut keys: BTreeSet<(&'static str, Key)> =
                    changed.map(|(table, key)| (table, key.clone())).collect();
                keys.extend(std::mem::take(&mut self.unsure));
                for (table, key) in keys {
                    self.read(tx, table, &key);
                }
            }
        }
        self.revision = Some(base);
        let own = tx.changed_since(base).into_iter().flatten();
        self.unsure = own.map(|(table, key)| (table, key.clone())).collect();
    }

    /// Reads everything.
    fn begin(&mut self, tx: &Tx) {
        *self = Books { kinds_max: KINDS_MIN, ..Books::default() };
        for host in tx.scan::<Host>(&Key::root()) {
            self.enter_host(&host.key(), Some(host));
        }
        for row in tx.scan::<ContainerInstance>(&Key::root()) {
            self.enter_instance(&row.key(), Some(row));
        }
        for task in tx.scan::<Task>(&Key::root()) {
            self.enter_task(&task.key(), Some(task));
        }
    }

    /// Reads one row again.
    fn read(&mut self, tx: &Tx, table: &str, key: &Key) {
        match table {
            Task::TABLE => self.enter_task(key, tx.get(key)),
            Host::TABLE => self.enter_host(key, tx.get(key)),
            ContainerInstance::TABLE => self.enter_instance(key, tx.get(key)),
            _ => {}
        }
    }

    fn enter_task(&mut self, key: &Key, row: Option<Arc<Task>>) {
        let row = row.filter(|row| !row.is_stopped());
        let before = match &row {
            Some(row) => self.tasks.insert(key.clone(), Arc::clone(row)),
            None => self.tasks.remove(key),
        };
        if let (Some(before), Some(row)) = (&before, &row)
            && holds_the_same(before, row)
        {
            return;
        }
        if let Some(before) = before {
            self.space(&before.account, &before.region).remove_task(&before);
        }
        if let Some(row) = row {
            self.space(&row.account, &row.region).add_task(&row);
        }
    }

    fn enter_host(&mut self, key: &Key, row: Option<Arc<Host>>) {
        let [account, region, id] = &texts(key)[..] else { return };
        let attributes =
            row.as_ref().map(|row| self.kind(place::attributes(row, &[])));
        let space = self.space(account, region);
        let index = space.host(id);
        space.set_host(index, row, attributes);
        // What its instances have depends on it.
        for instance in space.instances_on(index) {
            let key = instance.key();
            self.enter_instance(&key, Some(instance));
        }
    }

    fn enter_instance(
        &mut self,
        key: &Key,
        row: Option<Arc<ContainerInstance>>,
    ) {
        let [account, region, _, _] = &texts(key)[..] else { return };
        let host = row.as_ref().and_then(|row| {
            let space = self.space(account, region);
            let index = space.host(&row.host);
            space.hosts[index].row.clone()
        });
        let attributes = host.zip(row.as_ref()).map(|(host, row)| {
            self.kind(place::attributes(&host, &row.custom_attributes))
        });
        self.space(account, region).set_instance(key, row, attributes);
    }

    fn space(&mut self, account: &str, region: &str) -> &mut Space {
        let key = (account.to_owned(), region.to_owned());
        self.spaces.entry(key).or_default()
    }

    /// The same attributes as those of other hosts, where there are such.
    fn kind(
        &mut self,
        attributes: BTreeMap<String, String>,
    ) -> Arc<BTreeMap<String, String>> {
        if let Some(known) = self.kinds.get(&attributes) {
            return Arc::clone(known);
        }
        if self.kinds.len() >= self.kinds_max {
            self.kinds.retain(|kind| Arc::strong_count(kind) > 1);
            self.kinds_max = KINDS_MIN.max(self.kinds.len() * 2);
        }
        let attributes = Arc::new(attributes);
        self.kinds.insert(Arc::clone(&attributes));
        attributes
    }
}

/// Whether a task holds of its host what it held before.
fn holds_the_same(before: &Task, after: &Task) -> bool {
    before.host == after.host
        && before.needs == after.needs
        && before.task.group == after.task.group
}

/// The parts of a key that are all texts.
fn texts(key: &Key) -> Vec<String> {
    let parts = key.parts();
    parts.map(|part| String::from_utf8_lossy(&part).into_owned()).collect()
}

/// The hosts of an account in a region.
#[derive(Default)]
pub(crate) struct Space {
    /// A candidate for each container instance and one for each host, as
    /// Fargate capacity.
    world: World,
    seats: Vec<Seat>,
    hosts: Vec<Slot>,
    by_id: HashMap<String, usize>,
    by_instance: HashMap<Key, usize>,
    /// The active instances by cluster.
    clusters: HashMap<String, BTreeSet<usize>>,
    fargate: BTreeSet<usize>,
    planners: Planners,
}

/// A host; one that only tasks and instances speak of has no row.
#[derive(Default)]
struct Slot {
    row: Option<Arc<Host>>,
    /// Its candidates: the first is Fargate's.
    seats: Vec<usize>,
    groups: Groups,
}

/// The candidates that a request may be placed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pool {
    /// The active container instances of a cluster.
    Cluster {
        /// Its name.
        cluster: String,
        /// The only capacity provider of interest, if any.
        provider: Option<String>,
    },
    /// One container instance, if it is active.
    Instance(Key),
    /// The hosts that offer what they have left as Fargate capacity.
    Fargate,
}

/// What a candidate stands for: a container instance, or a host as such.
#[derive(Clone)]
struct Seat {
    host: usize,
    instance: Option<Arc<ContainerInstance>>,
}

impl Space {
    /// The candidates of a pool.
    pub(crate) fn members(&self, pool: &Pool) -> Vec<usize> {
        self.of_pool(pool).collect()
    }

    /// Whether a pool has no candidates.
    pub(crate) fn is_empty(&self, pool: &Pool) -> bool {
        self.of_pool(pool).next().is_none()
    }

    fn of_pool<'a>(
        &'a self,
        pool: &'a Pool,
    ) -> Box<dyn Iterator<Item = usize> + 'a> {
        match pool {
            Pool::Fargate => Box::new(self.fargate.iter().copied()),
            Pool::Cluster { cluster, provider } => {
                let all = self.clusters.get(cluster).into_iter().flatten();
                Box::new(all.copied().filter(|index| {
                    self.is_offered(provider.as_deref(), *index)
                }))
            }
            Pool::Instance(key) => {
                let one = self.by_instance.get(key).copied();
                let one = one.filter(|index| self.is_in(pool, *index));
                Box::new(one.into_iter())
            }
        }
    }

    /// Whether a candidate is in a pool.
    fn is_in(&self, pool: &Pool, index: usize) -> bool {
        match pool {
            Pool::Fargate => self.fargate.contains(&index),
            Pool::Cluster { cluster, provider } => {
                self.is_active(cluster, index)
                    && self.is_offered(provider.as_deref(), index)
            }
            Pool::Instance(key) => {
                let row = self.seats[index].instance.as_ref();
                self.by_instance.get(key) == Some(&index)
                    && row
                        .is_some_and(|row| self.is_active(&row.cluster, index))
                    && self.is_offered(None, index)
            }
        }
    }

    fn is_active(&self, cluster: &str, index: usize) -> bool {
        self.clusters.get(cluster).is_some_and(|all| all.contains(&index))
    }

    /// Whether an active instance's host is there and it is the provider's,
    /// if only one is of interest.
    fn is_offered(&self, provider: Option<&str>, index: usize) -> bool {
        let Seat { host, instance } = &self.seats[index];
        let of = || instance.as_ref()?.capacity_provider.as_deref();
        self.hosts[*host].row.is_some()
            && (provider.is_none() || provider == of())
    }

    /// The container instances of a cluster, also those that take no tasks,
    /// but for deregistered ones.
    pub(crate) fn registered(&self, cluster: &str) -> Vec<usize> {
        let seats = self.seats.iter().enumerate();
        seats
            .filter(|(_, seat)| {
                let row = seat.instance.as_ref();
                row.is_some_and(|row| {
                    row.cluster == cluster && row.status != "INACTIVE"
                })
            })
            .map(|(index, _)| index)
            .collect()
    }

    /// Plans the tasks of a request. The books stay as they are: the tasks
    /// come into them as rows, if they come into being.
    pub(crate) fn plan(&mut self, pool: &Pool, request: &Request) -> Plan {
        let (mut planner, changed) =
            self.planners.take(pool, request).unwrap_or_else(|| {
                let members = self.members(pool);
                (Planner::new(&self.world, &members, request), vec![])
            });
        for index in changed {
            let is_in = self.is_in(pool, index);
            planner.review(&self.world, index, is_in);
        }
        let placed = planner.place(&mut self.world, request.count);
        let is_short = placed.len() < request.count as usize;
        let refusals = is_short.then(|| {
            placement::refusals(&self.world, &self.members(pool), request)
        });
        placement::release(&mut self.world, request, &placed);
        self.planners.keep(pool, planner);
        for index in &placed {
            self.has_changed(self.seats[*index].host);
        }
        Plan { placed, refusals: refusals.unwrap_or_default() }
    }

    /// Tells the planners that are kept what changed, so that the next plan
    /// has little to review.
    fn catch_up(&mut self) {
        let mut planners = std::mem::take(&mut self.planners);
        planners.review_all(|planner, pool, index| {
            planner.review(&self.world, index, self.is_in(pool, index));
        });
        self.planners = planners;
    }

    /// What is known of the candidates of a host holds no more.
    fn has_changed(&mut self, host: usize) {
        self.planners.review_later(&self.hosts[host].seats, self.seats.len());
    }

    /// The candidates, for what a plan says of them.
    pub(crate) fn world(&self) -> &World {
        &self.world
    }

    /// The host of a candidate and its instance, if it is one.
    pub(crate) fn seat(
        &self,
        candidate: usize,
    ) -> Option<(Arc<Host>, Option<Arc<ContainerInstance>>)> {
        let seat = self.seats.get(candidate)?;
        let host = self.hosts[seat.host].row.clone()?;
        Some((host, seat.instance.clone()))
    }

    /// The index of a host, which gets one if it has none yet.
    fn host(&mut self, id: &str) -> usize {
        if let Some(index) = self.by_id.get(id) {
            return *index;
        }
        let index = self.hosts.len();
        self.by_id.insert(id.to_owned(), index);
        self.world.hosts.push(Ledger::default());
        self.hosts.push(Slot::default());
        self.add_seat(index, id.to_owned());
        index
    }

    fn add_seat(&mut self, host: usize, arn: String) -> usize {
        let index = self.seats.len();
        self.seats.push(Seat { host, instance: None });
        self.hosts[host].seats.push(index);
        self.world.candidates.push(Candidate {
            arn,
            host,
            agent_connected: false,
            agent_version: None,
            ec2_instance_id: None,
            registered_at: minato_wire::Timestamp::from_millis(0),
            attributes: Arc::default(),
            groups: self.hosts[host].groups.clone(),
            running_tasks: 0,
        });
        index
    }

    fn instances_on(&self, host: usize) -> Vec<Arc<ContainerInstance>> {
        let seats = self.hosts[host].seats.iter();
        seats.filter_map(|seat| self.seats[*seat].instance.clone()).collect()
    }

    fn set_host(
        &mut self,
        index: usize,
        row: Option<Arc<Host>>,
        attributes: Option<Arc<BTreeMap<String, String>>>,
    ) {
        let seat = self.hosts[index].seats[0];
        let candidate = &mut self.world.candidates[seat];
        candidate.agent_connected =
            row.as_ref().is_some_and(|row| row.is_connected);
        candidate.attributes = attributes.unwrap_or_default();
        if row.as_ref().is_some_and(|row| row.offers_fargate) {
            self.fargate.insert(seat);
        } else {
            self.fargate.remove(&seat);
        }
        let capacity = row.as_ref().map(|row| row.capacity());
        self.world.hosts[index].set_capacity(capacity.unwrap_or_default());
        self.hosts[index].row = row;
        self.has_changed(index);
    }

    fn set_instance(
        &mut self,
        key: &Key,
        row: Option<Arc<ContainerInstance>>,
        attributes: Option<Arc<BTreeMap<String, String>>>,
    ) {
        let known = self.by_instance.get(key).copied();
        let Some(row) = row else {
            if let Some(index) = known {
                let before = self.seats[index].instance.take();
                self.set_active(index, before.as_deref(), false);
                self.has_changed(self.seats[index].host);
            }
            return;
        };
        let index = known.unwrap_or_else(|| {
            let host = self.host(&row.host);
            let index = self.add_seat(host, row.arn());
            self.by_instance.insert(key.clone(), index);
            index
        });
        let slot = &self.hosts[self.seats[index].host];
        let tasks = slot.groups.total();
        let is_connected =
            slot.row.as_ref().is_some_and(|host| host.is_connected);
        let candidate = &mut self.world.candidates[index];
        candidate.agent_connected = is_connected;
        candidate.agent_version = row.agent_version();
        candidate.ec2_instance_id = Some(row.ec2_instance_id.clone());
        candidate.registered_at = row.registered_at;
        candidate.attributes = attributes.unwrap_or_default();
        candidate.running_tasks = tasks;
        self.seats[index].instance = Some(Arc::clone(&row));
        self.set_active(index, Some(&row), row.status == "ACTIVE");
        self.has_changed(self.seats[index].host);
    }

    fn set_active(
        &mut self,
        index: usize,
        row: Option<&ContainerInstance>,
        is_active: bool,
    ) {
        let Some(row) = row else { return };
        let cluster = self.clusters.entry(row.cluster.clone()).or_default();
        if is_active {
            cluster.insert(index);
        } else {
            cluster.remove(&index);
        }
    }

    fn add_task(&mut self, task: &Task) {
        let host = self.host(&task.host);
        self.world.hosts[host].add(&Claim::from(&task.needs));
        let group = task.task.group.as_deref().unwrap_or_default();
        let slot = &mut self.hosts[host];
        slot.groups.add(group);
        for seat in &slot.seats {
            let candidate = &mut self.world.candidates[*seat];
            candidate.groups.add(group);
            if self.seats[*seat].instance.is_some() {
                candidate.running_tasks += 1;
            }
        }
        self.has_changed(host);
    }

    fn remove_task(&mut self, task: &Task) {
        let host = self.host(&task.host);
        self.world.hosts[host].remove(&Claim::from(&task.needs));
        let group = task.task.group.as_deref().unwrap_or_default();
        let slot = &mut self.hosts[host];
        slot.groups.remove(group);
        for seat in &slot.seats {
            let candidate = &mut self.world.candidates[*seat];
            candidate.groups.remove(group);
            if self.seats[*seat].instance.is_some() {
                candidate.running_tasks -= 1;
            }
        }
        self.has_changed(host);
    }
}

#[cfg(test)]
mod tests;
