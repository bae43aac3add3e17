//! The service scheduler: keeps every service's tasks as they should be.
//!
//! A commit that touches a service, one of its tasks or a container instance
//! makes that service due, as does time. What is due is looked at on a
//! snapshot first; only where something has to change does it become a
//! transaction, which looks again at the newest state.

mod daemons;
mod eyes;
mod fate;
mod look;
mod pass;
mod rosters;
mod sets;
mod start;
mod zones;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use minato_core::service::Pace;
use minato_core::status::ServiceStatus;
use minato_store::{Changes, Commit, Key, Snapshot};
use minato_wire::{ApiError, Timestamp};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::eyes::Eyes;
use self::look::{Look, daemons_within, keys_within, look, look_with};
use self::pass::{Outcome, Turn};
use self::rosters::{Roster, Rosters};
pub(crate) use self::start::{Considered, consider};
use self::zones::Zones;
use crate::context::Context;
use crate::tables::{
    ContainerInstance, Daemon, Host, Service, ServiceRef, Task, TaskSet,
};

/// The most tasks one transaction starts, so that none becomes large.
const STARTS_MAX: usize = 100;
/// Services looked at side by side: their transactions share an fsync.
const ABREAST_MAX: usize = 64;
/// How often a service whose tasks find no place is looked at again, should
/// the change that makes room go unseen.
const BLOCKED_EVERY_MS: i64 = 15_000;
/// The wait after a pass that could not be stored.
const RETRY_AFTER_MS: i64 = 1_000;

/// Runs until `stop`.
pub(super) async fn run(cx: Arc<Context>, stop: CancellationToken) {
    let mut watch = cx.store.watch();
    let _ = watch.changes();
    let mut scheduler = Scheduler::new(Arc::clone(&cx));
    scheduler.all_due();
    loop {
        scheduler.pass().await;
        let wait = scheduler.wait();
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = watch.changed() => match changed {
                Ok(()) => scheduler.see(watch.changes()),
                Err(_) => return,
            },
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// What is due, and when.
struct Scheduler {
    cx: Arc<Context>,
    due: BTreeSet<Key>,
    /// When time alone makes a service due.
    alarms: BTreeMap<Key, Timestamp>,
    /// Services with tasks that found no place.
    blocked: BTreeSet<Key>,
    /// Before this a large service is not looked at again.
    resting: BTreeMap<Key, Timestamp>,
    zones: Zones,
    rosters: Arc<Rosters>,
}

impl Scheduler {
    fn new(cx: Arc<Context>) -> Scheduler {
        Scheduler {
            cx,
            due: BTreeSet::new(),
            alarms: BTreeMap::new(),
            blocked: BTreeSet::new(),
            resting: BTreeMap::new(),
            zones: Zones::default(),
            rosters: Arc::default(),
        }
    }

    fn all_due(&mut self) {
        let rows = self.cx.snapshot();
        self.zones = Zones::of(&rows);
        self.due.extend(keys_within(&rows, &Key::root()));
    }

    /// Notes what changes make due.
    fn see(&mut self, changes: Changes) {
        match changes {
            Changes::Resync(_) => self.all_due(),
            Changes::Rows(commits) => {
                for commit in commits {
                    self.see_commit(&commit);
                }
            }
        }
    }

    fn see_commit(&mut self, commit: &Commit) {
        for change in commit.of::<Service>() {
            self.due.insert(change.key);
        }
        for change in commit.of::<Daemon>() {
            self.due.insert(change.key);
        }
        for change in commit.of::<TaskSet>() {
            let Some(row) = change.after.or(change.before) else { continue };
            let ServiceRef { account, region, cluster, name, .. } = &row.of;
            self.due.insert(Service::key_of(account, region, cluster, name));
        }
        let mut is_freed = self.see_tasks(commit);
        is_freed |= self.see_instances(commit);
        if is_freed {
            self.due.append(&mut self.blocked);
        }
    }

    /// Notes whose tasks changed; tells whether any of them is over.
    fn see_tasks(&mut self, commit: &Commit) -> bool {
        let mut is_freed = false;
        for change in commit.of::<Task>() {
            let should_run = |row: &Option<Arc<Task>>| {
                row.as_ref().is_some_and(|task| task.should_run())
            };
            let is_gone =
                should_run(&change.before) && !should_run(&change.after);
            let is_over =
                change.after.as_ref().is_none_or(|task| task.is_stopped());
            is_freed |= is_over;
            let Some(task) = change.after.or(change.before) else { continue };
            if is_gone {
                self.see_leaving(&task);
            }
            self.due.extend(task.service_key());
        }
        is_freed
    }

    /// A daemon leaves a draining instance when the tasks of others have left.
    fn see_leaving(&mut self, task: &Task) {
        let Some(arn) = &task.task.container_instance_arn else { return };
        let within = Key::of([&task.account, &task.region, &task.cluster]);
        let rows = self.cx.snapshot();
        let mut leaving =
            rows.by_index::<ContainerInstance>("leaving", &within);
        if leaving.any(|row| row.arn() == *arn) {
            self.due.extend(daemons_within(&rows, &within));
        }
    }

    /// Notes whom a change of an instance or a host matters to: whose tasks
    /// are on it, daemons, and those that balance zones. Tells whether there
    /// may be room for more.
    fn see_instances(&mut self, commit: &Commit) -> bool {
        let mut is_freed = false;
        let mut hosts = BTreeSet::new();
        let mut clusters = BTreeSet::new();
        for change in commit.of::<ContainerInstance>() {
            is_freed = true;
            let Some(row) = change.after.or(change.before) else { continue };
            hosts.insert(Task::on_host(&row.account, &row.region, &row.host));
            let within = Key::of([&row.account, &row.region, &row.cluster]);
            clusters.insert(within);
        }
        for change in commit.of::<Host>() {
            is_freed = true;
            if change.after.is_none() {
                hosts.insert(change.key.clone());
            }
            if let Some(within) = self.zones.note(&change) {
                let rows = self.cx.snapshot();
                self.due.extend(keys_within(&rows, &within));
            }
        }
        if hosts.is_empty() {
            return is_freed;
        }
        let rows = self.cx.snapshot();
        for host in &hosts {
            for task in rows.by_index::<Task>("host", host) {
                self.due.extend(task.service_key());
            }
        }
        for within in &clusters {
            self.due.extend(daemons_within(&rows, within));
        }
        is_freed
    }

    /// Looks at all that is due, until nothing is.
    async fn pass(&mut self) {
        let now = self.cx.clock.now();
        let rung: Vec<Key> = self
            .alarms
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(key, _)| key.clone())
            .collect();
        self.due.extend(rung);
        self.resting.retain(|_, until| *until > now);
        for (key, until) in &self.resting {
            // What it became due for is seen then, all at once.
            if self.due.remove(key) {
                let alarm = self.alarms.entry(key.clone()).or_insert(*until);
                *alarm = (*alarm).min(*until);
            }
        }
        let mut rest = std::mem::take(&mut self.due).into_iter();
        let mut abreast = JoinSet::new();
        loop {
            while abreast.len() < ABREAST_MAX
                && let Some(key) = rest.next()
            {
                let rosters = Arc::clone(&self.rosters);
                abreast.spawn(see_to(Arc::clone(&self.cx), rosters, key));
            }
            match abreast.join_next().await {
                Some(Ok(seen)) => self.note(seen),
                // A panic is a bug; that service is seen to at its next
                // change.
                Some(Err(error)) => {
                    tracing::error!(%error, "a service was not seen to");
                }
                None => return,
            }
        }
    }

    fn note(&mut self, seen: Seen) {
        let Seen { key, next_at, is_blocked, rest_ms } = seen;
        self.blocked.remove(&key);
        if rest_ms > 0 {
            let until = self.cx.clock.now().plus_millis(rest_ms);
            self.resting.insert(key.clone(), until);
        }
        if is_blocked {
            self.blocked.insert(key.clone());
        }
        match next_at {
            Some(at) => self.alarms.insert(key, at),
            None => self.alarms.remove(&key),
        };
    }

    /// How long nothing is due by time alone.
    fn wait(&self) -> Duration {
        /// Long enough not to matter, short enough for every timer.
        const LONGEST: Duration = Duration::from_secs(3600);
        if !self.due.is_empty() {
            return Duration::ZERO;
        }
        let now = self.cx.clock.now();
        let first = self.alarms.values().min();
        first.map_or(LONGEST, |at| {
            let millis = u64::try_from(at.millis_since(now)).unwrap_or(0);
            Duration::from_millis(millis).min(LONGEST)
        })
    }
}

/// What looking at a service led to.
struct Seen {
    key: Key,
    next_at: Option<Timestamp>,
    is_blocked: bool,
    /// How long it need not be looked at again, whatever happens to it.
    rest_ms: i64,
}

/// What is kept like a service.
#[derive(Clone, Copy)]
enum Kind {
    /// A service that Amazon ECS itself deploys.
    Rolling,
    /// A service of task sets.
    External,
    /// A managed daemon.
    Daemon,
}

/// What a look at something found.
struct Due {
    kind: Kind,
    next_at: Option<Timestamp>,
    is_due: bool,
    /// How many tasks a pass would start.
    starts: usize,
    /// How many may tell of the pass.
    voices: usize,
    /// How many tasks it has.
    members: usize,
    /// What was seen of a service that is rolled out.
    seen: Option<Look>,
}

/// How long a service of so many tasks rests between looks, in milliseconds.
///
/// A look costs as much as the service has tasks, a fraction of a microsecond
/// each, and every report of a task makes it due: without a rest, a deployment
/// of thousands would look thousands of times at thousands. Small services do
/// not rest; one of 5,000 tasks is looked at ten times a second at most.
fn rest_ms(members: usize) -> i64 {
    const SMALL: usize = 500;
    const TASKS_PER_MS: usize = 50;
    if members < SMALL {
        return 0;
    }
    i64::try_from(members / TASKS_PER_MS).unwrap_or(i64::MAX)
}

/// Looks at what has this key; `None` where nothing will ever be due.
fn due(
    rows: &Snapshot,
    key: &Key,
    roster: Option<Roster>,
    pace: Pace,
    now: Timestamp,
) -> Option<Due> {
    if let Some(daemon) = rows.get::<Daemon>(key) {
        let seen = daemons::look(rows, &daemon, pace, now);
        return Some(Due {
            kind: Kind::Daemon,
            next_at: seen.wake_at(now),
            is_due: seen.is_due(rows, now),
            starts: seen.seen.starts(),
            voices: 1,
            members: seen.seen.members.len(),
            seen: None,
        });
    }
    let service = rows.get::<Service>(key)?;
    if service.is_rolling() {
        let seen = match roster {
            Some(roster) => {
                let eyes = Eyes::new(rows, &service, now);
                look_with(&eyes, &service, roster, pace, now)
            }
            None => look(rows, &service, pace, now)?,
        };
        return Some(Due {
            kind: Kind::Rolling,
            next_at: seen.wake_at(&service, now),
            is_due: seen.is_due(rows, &service, now),
            starts: seen.starts(),
            voices: 1,
            members: seen.members.len(),
            seen: Some(seen),
        });
    }
    if service.status == ServiceStatus::Inactive {
        return None;
    }
    let sets = sets::look(rows, &service, pace, now);
    let is_over = sets.is_empty() && service.status == ServiceStatus::Draining;
    Some(Due {
        kind: Kind::External,
        next_at: sets.iter().filter_map(|set| set.wake_at(now)).min(),
        is_due: is_over || sets.iter().any(|set| set.is_due(rows, now)),
        starts: sets.iter().map(sets::SetLook::starts).sum(),
        voices: sets.len(),
        members: sets.iter().map(sets::SetLook::members).sum(),
        seen: None,
    })
}

/// Looks at a service and does what is due.
async fn see_to(cx: Arc<Context>, rosters: Arc<Rosters>, key: Key) -> Seen {
    let nothing =
        Seen { key: key.clone(), next_at: None, is_blocked: false, rest_ms: 0 };
    let (now, pace) = (cx.clock.now(), cx.config.pace);
    let (rows, roster) = rosters.see(|| cx.snapshot(), &key, now);
    let Some(due) = due(&rows, &key, roster, pace, now) else {
        return nothing;
    };
    let Due { kind, next_at, is_due, starts, voices, members, seen } = due;
    let nothing = Seen { next_at, rest_ms: rest_ms(members), ..nothing };
    if !is_due {
        return nothing;
    }
    let starts = starts.min(STARTS_MAX);
    let turn = Turn {
        now,
        pace,
        draw: cx.draw(pass::DRAWS * voices.max(1)),
        ids: cx.ids_for_tasks(starts),
        seed: cx.ids.seed(),
        fleet: Arc::clone(&cx.fleet),
        seen: seen.map(|seen| (rows.revision(), seen)),
    };
    drop(rows);
    let changed = key.clone();
    let passed = cx
        .transact(move |tx| -> Result<Outcome, ApiError> {
            Ok(match kind {
                Kind::Rolling => pass::pass(tx, &changed, turn),
                Kind::External => sets::pass(tx, &changed, turn),
                Kind::Daemon => daemons::pass(tx, &changed, turn),
            })
        })
        .await;
    match passed {
        // What it did is seen by the watch, which makes the service due.
        // One that had more to start than a transaction takes goes on.
        Ok(Outcome { is_blocked: false }) if starts == STARTS_MAX => {
            Seen { rest_ms: 0, ..nothing }
        }
        Ok(Outcome { is_blocked: false }) => nothing,
        Ok(Outcome { is_blocked: true }) => {
            let again = now.plus_millis(BLOCKED_EVERY_MS);
            let next_at =
                Some(next_at.map_or(again, |next_at| next_at.min(again)));
            Seen { next_at, is_blocked: true, ..nothing }
        }
        Err(error) => {
            tracing::error!(
                service = ?key,
                details = error.internal(),
                "could not store what a service needs",
            );
            let next_at = Some(now.plus_millis(RETRY_AFTER_MS));
            Seen { next_at, ..nothing }
        }
    }
}

#[cfg(test)]
mod tests;
