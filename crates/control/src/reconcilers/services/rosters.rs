//! What the scheduler knows of the tasks of services, kept from look to look.
//!
//! Reading a task takes microseconds, and a service of thousands is looked at
//! again whenever one of them changes. So what a look found is kept, and the
//! next reads only the tasks that were written since: its own and those on
//! hosts and instances that changed.
//!
//! Not kept are services that mind the tasks of others, which change without
//! theirs changing (daemons, and those that pack their hosts), and services of
//! task sets.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use minato_core::service::Member;
use minato_core::status::ServiceStatus;
use minato_store::{Key, Row, Snapshot};
use minato_wire::Timestamp;

use super::eyes::Eyes;
use crate::services::ecs::services::tasks_of;
use crate::services::ecs::view::ReadIndex;
use crate::tables::{ContainerInstance, Host, Service, Task};

/// The tasks of a service, as far as the scheduler is concerned with them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Roster {
    /// Those that should run, by id.
    pub(super) members: Arc<Vec<Arc<Member>>>,
    /// Those whose end is not counted yet, by id.
    pub(super) ended: Vec<Arc<Task>>,
}

impl Roster {
    /// The roster of these tasks, which are in the order of their ids.
    pub(super) fn of(
        eyes: &Eyes<'_, impl ReadIndex>,
        tasks: &[Arc<Task>],
    ) -> Roster {
        let members = tasks.iter().filter(|task| task.should_run());
        let ended = tasks.iter().filter(|task| task.is_stopped());
        Roster {
            members: Arc::new(
                members.map(|task| Arc::new(eyes.member(task))).collect(),
            ),
            ended: ended.cloned().collect(),
        }
    }

    fn ids(&self) -> impl Iterator<Item = &str> {
        let members = self.members.iter().map(|one| one.id.as_str());
        members.chain(self.ended.iter().map(|task| task.id.as_str()))
    }

    /// Notes how a task is now; `None` where it is not the service's concern
    /// any more.
    fn note(
        &mut self,
        id: &str,
        member: Option<Member>,
        ended: Option<Arc<Task>>,
    ) {
        let at = self.members.binary_search_by(|one| one.id.as_str().cmp(id));
        if at.is_ok() || member.is_some() {
            let members = Arc::make_mut(&mut self.members);
            put(members, at, member.map(Arc::new));
        }
        let at = self.ended.binary_search_by(|one| one.id.as_str().cmp(id));
        put(&mut self.ended, at, ended);
    }
}

/// Puts something where a search found its like, or where it belongs; `None`
/// takes away what was found.
fn put<T>(all: &mut Vec<T>, at: Result<usize, usize>, one: Option<T>) {
    match (at, one) {
        (Ok(at), Some(one)) => all[at] = one,
        (Err(at), Some(one)) => all.insert(at, one),
        (Ok(at), None) => drop(all.remove(at)),
        (Err(_), None) => {}
    }
}

/// The rosters of all services that have been looked at.
#[derive(Debug, Default)]
pub(super) struct Rosters(Mutex<Books>);

#[derive(Debug, Default)]
struct Books {
    /// The revision that the rosters show.
    revision: u64,
    kept: BTreeMap<Key, Kept>,
    zones: ZoneNames,
    /// Whose roster a task is on.
    owners: HashMap<Key, Key>,
}

/// The zones' names. Those of thousands of members are read again and again,
/// which is quick while they are in one place.
#[derive(Debug, Default)]
struct ZoneNames(BTreeSet<Arc<str>>);

impl ZoneNames {
    fn share(&mut self, member: &mut Member) {
        let Some(zone) = &mut member.zone else { return };
        match self.0.get(zone) {
            Some(known) => *zone = Arc::clone(known),
            None => {
                self.0.insert(Arc::clone(zone));
            }
        }
    }
}

/// A task's key and its row, if it has one.
type Reading = (Key, Option<Arc<Task>>);

#[derive(Debug)]
struct Kept {
    /// What its tasks' keys begin with.
    within: Key,
    /// Which of the services of that name it is of.
    service: String,
    /// The deployments by which the members' ages are counted.
    deployments: Vec<String>,
    roster: Roster,
}

impl Rosters {
    /// The newest snapshot, and the roster of a service in it where it is
    /// kept.
    pub(super) fn see(
        &self,
        newest: impl FnOnce() -> Snapshot,
        key: &Key,
        now: Timestamp,
    ) -> (Snapshot, Option<Roster>) {
        let mut books = self.books();
        // Taken in here, so that the books never go back.
        let rows = newest();
        books.catch_up(&rows, now);
        let roster = books.roster(&rows, key, now);
        (rows, roster)
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(|poisoned| {
            // Somebody panicked half-way: begin anew.
            self.0.clear_poison();
            let mut books = PoisonError::into_inner(poisoned);
            *books = Books::default();
            books
        })
    }
}

impl Books {
    /// Reads what was written since.
    fn catch_up(&mut self, rows: &Snapshot, now: Timestamp) {
        let since = std::mem::replace(&mut self.revision, rows.revision());
        if self.kept.is_empty() {
            return;
        }
        let Some(changed) = rows.changed_since(since) else {
            *self = Books { revision: self.revision, ..Books::default() };
            return;
        };
        let mut tasks = BTreeSet::new();
        for (table, key) in changed {
            match table {
                Task::TABLE => {
                    tasks.insert(key.clone());
                }
                Host::TABLE => {
                    let on_host = rows.by_index::<Task>("host", key);
                    tasks.extend(on_host.map(|task| task.key()));
                }
                ContainerInstance::TABLE => {
                    let Some(row) = rows.get::<ContainerInstance>(key) else {
                        // Which tasks it had nobody knows any more.
                        self.kept.clear();
                        self.owners.clear();
                        return;
                    };
                    let host =
                        Task::on_host(&row.account, &row.region, &row.host);
                    let on_host = rows.by_index::<Task>("host", &host);
                    tasks.extend(on_host.map(|task| task.key()));
                }
                _ => {}
            }
        }
        let mut by_service: BTreeMap<Key, Vec<Reading>> = BTreeMap::new();
        for key in tasks {
            let row = rows.get::<Task>(&key);
            let service = match &row {
                Some(row) => row.service_key(),
                None => self.owners.get(&key).cloned(),
            };
            let service = service.filter(|key| self.kept.contains_key(key));
            if let Some(service) = service {
                by_service.entry(service).or_default().push((key, row));
            }
        }
        for (service, tasks) in by_service {
            self.note(rows, &service, tasks, now);
        }
    }

    /// Notes how these tasks of a service are now.
    fn note(
        &mut self,
        rows: &Snapshot,
        key: &Key,
        tasks: Vec<Reading>,
        now: Timestamp,
    ) {
        let Some(kept) = self.kept.get_mut(key) else { return };
        let service = rows.get::<Service>(key);
        let Some(service) = service.filter(|row| kept.is_of(row)) else {
            self.forget(key);
            return;
        };
        let eyes = Eyes::new(rows, &service, now);
        for (key, row) in tasks {
            let ours = row.as_ref().filter(|row| {
                row.service.as_ref().is_some_and(|of| of.id == service.id)
            });
            let ours = ours.filter(|row| row.concerns_service());
            let ended = ours.filter(|row| row.is_stopped());
            let member = ours.filter(|row| row.should_run()).map(|row| {
                let mut member = eyes.member(row);
                self.zones.share(&mut member);
                member
            });
            let id = key.parts().last().unwrap_or_default().into_owned();
            let id = String::from_utf8_lossy(&id).into_owned();
            if member.is_some() || ended.is_some() {
                self.owners.insert(key, service.key());
            } else {
                self.owners.remove(&key);
            }
            kept.roster.note(&id, member, ended.cloned());
        }
    }

    /// The roster of a service, which is written where it is not kept yet.
    fn roster(
        &mut self,
        rows: &Snapshot,
        key: &Key,
        now: Timestamp,
    ) -> Option<Roster> {
        let service = rows.get::<Service>(key);
        let service = service.filter(|row| {
            row.is_rolling() && row.status != ServiceStatus::Inactive
        });
        let eyes = service.as_ref().map(|row| Eyes::new(rows, row, now));
        let eyes = eyes.filter(|eyes| !eyes.minds_others());
        let (Some(service), Some(eyes)) = (&service, eyes) else {
            self.forget(key);
            return None;
        };
        if let Some(kept) = self.kept.get(key)
            && kept.is_of(service)
        {
            return Some(kept.roster.clone());
        }
        self.forget(key);
        let mut roster = Roster::of(&eyes, &tasks_of(rows, service));
        for member in Arc::make_mut(&mut roster.members) {
            self.zones.share(Arc::make_mut(member));
        }
        let Service { account, region, cluster, .. } = &**service;
        let within = Key::of([account, region, cluster]);
        let ids = roster.ids().map(|id| (within.with(id), key.clone()));
        self.owners.extend(ids);
        let deployments = service.deployments.iter();
        let kept = Kept {
            within,
            service: service.id.clone(),
            deployments: deployments.map(|one| one.id.clone()).collect(),
            roster: roster.clone(),
        };
        self.kept.insert(key.clone(), kept);
        Some(roster)
    }

    fn forget(&mut self, key: &Key) {
        let Some(kept) = self.kept.remove(key) else { return };
        for id in kept.roster.ids() {
            self.owners.remove(&kept.within.with(id));
        }
    }
}

impl Kept {
    /// Whether the roster shows the members of a service as it is now.
    fn is_of(&self, service: &Service) -> bool {
        let now = service.deployments.iter().map(|one| &one.id);
        self.service == service.id && self.deployments.iter().eq(now)
    }
}
