//! What a service promises about its tasks, whatever happens: never more than
//! `maximumPercent` by its own doing, never fewer healthy ones than
//! `minimumHealthyPercent` by its own doing, no protected task stopped.
//!
//! Tasks without a health check count as soon as they run in these worlds, so
//! that healthy means `RUNNING` for them; those of the family `checked` have
//! one.

use std::collections::BTreeMap;
use std::sync::Arc;

use minato_control::tables::{Service, Task, TaskSet};
use minato_core::service::rules;
use minato_core::status::ServiceStatus;
use minato_store::{Changed, Commit, Key, Snapshot};
use minato_wire::ecs::{HealthStatus, TaskStopCode};

/// The services as the watch tells of them.
pub(crate) struct Promises {
    services: BTreeMap<Key, Arc<Service>>,
    sets: BTreeMap<Key, Arc<TaskSet>>,
}

/// What one commit did to the tasks of a service.
#[derive(Default)]
struct Turn {
    started: usize,
    /// Healthy tasks that the scheduler stopped.
    stopped: Vec<String>,
}

impl Promises {
    pub(crate) fn new(rows: &Snapshot) -> Promises {
        let services = rows.scan::<Service>(&Key::root());
        let keyed = services
            .map(|service| (minato_store::Row::key(&*service), service));
        let sets = rows.scan::<TaskSet>(&Key::root());
        let sets = sets.map(|set| (minato_store::Row::key(&*set), set));
        Promises { services: keyed.collect(), sets: sets.collect() }
    }

    /// Checks a commit; `tasks` are those after it.
    pub(crate) fn check(
        &mut self,
        commit: &Commit,
        tasks: &BTreeMap<Key, Arc<Task>>,
    ) -> Result<(), String> {
        for change in commit.of::<Service>() {
            match change.after {
                Some(after) => self.services.insert(change.key, after),
                None => self.services.remove(&change.key),
            };
        }
        for change in commit.of::<TaskSet>() {
            match change.after {
                Some(after) => self.sets.insert(change.key, after),
                None => self.sets.remove(&change.key),
            };
        }
        let mut turns: BTreeMap<Key, Turn> = BTreeMap::new();
        for change in commit.of::<Task>() {
            let Some(key) = service_of(&change) else { continue };
            let turn = turns.entry(key).or_default();
            if change.before.is_none() {
                turn.started += 1;
            }
            if let Some(task) = stopped_by_scheduler(&change) {
                self.unprotected(task)?;
                let was = change.before.as_ref();
                if was.is_some_and(|was| is_healthy(was)) {
                    turn.stopped.push(shown(task));
                }
            }
        }
        for (key, turn) in turns {
            if let Some(service) = self.services.get(&key) {
                kept(service, &turn, tasks)?;
            }
        }
        Ok(())
    }

    /// A protected task is stopped with its service or its task set only, or
    /// because its health checks fail (developer guide, "Protect your Amazon
    /// ECS tasks from being terminated by scale-in events").
    fn unprotected(&self, task: &Task) -> Result<(), String> {
        let Some(of) = &task.service else { return Ok(()) };
        let key = key_of(task, &of.name);
        let service = self.services.get(&key);
        let is_deleted = service.is_none_or(|service| {
            service.id != of.id
                || service.status != ServiceStatus::Active
                || self.is_set_gone(service, &of.deployment)
        });
        let is_unhealthy =
            task.task.health_status == Some(HealthStatus::Unhealthy);
        let at = task.task.stopping_at;
        let is_protected = of.protected_until > at;
        if is_protected && !is_deleted && !is_unhealthy {
            let shown = shown(task);
            return Err(format!("{shown} was stopped though protected"));
        }
        Ok(())
    }

    /// Whether a task set is deleted, or about to be gone.
    fn is_set_gone(&self, service: &Service, set: &str) -> bool {
        if service.is_rolling() {
            return false;
        }
        let digits = set.rsplit('/').next().unwrap_or_default();
        let set = self.sets.get(&service.owner().key().with(digits));
        set.is_none_or(|set| set.is_draining)
    }
}

fn key_of(task: &Task, name: &str) -> Key {
    Service::key_of(&task.account, &task.region, &task.cluster, name)
}

fn service_of(change: &Changed<Task>) -> Option<Key> {
    let task = change.after.as_ref().or(change.before.as_ref())?;
    Some(key_of(task, &task.service.as_ref()?.name))
}

fn stopped_by_scheduler(change: &Changed<Task>) -> Option<&Task> {
    let (before, after) = (change.before.as_ref()?, change.after.as_ref()?);
    let is_stop = before.should_run() && !after.should_run();
    let is_scheduler =
        after.task.stop_code == Some(TaskStopCode::ServiceSchedulerInitiated);
    (is_stop && is_scheduler).then_some(after)
}

/// A task in short.
fn shown(task: &Task) -> String {
    format!(
        "{} of {}:{} {} {:?} {:?}",
        task.id,
        task.family,
        task.revision,
        task.last_status(),
        task.task.health_status,
        task.task.stopped_reason
    )
}

/// Whether a task counts towards the minimum.
pub(crate) fn is_healthy(task: &Task) -> bool {
    let is_checked = task.family == "checked";
    let is_well = task.task.health_status == Some(HealthStatus::Healthy);
    task.last_status() == "RUNNING" && (!is_checked || is_well)
}

/// Whether a service kept within its percentages.
fn kept(
    service: &Service,
    turn: &Turn,
    tasks: &BTreeMap<Key, Arc<Task>>,
) -> Result<(), String> {
    // Task sets come and go as others decide; a daemon's number is that of
    // its instances.
    let is_other = !service.is_rolling() || service.is_daemon();
    if service.status != ServiceStatus::Active || is_other {
        return Ok(());
    }
    let ours = || {
        tasks.values().filter(|task| {
            task.should_run()
                && task.service.as_ref().is_some_and(|of| of.id == service.id)
        })
    };
    let limits = rules::limits(&service.service);
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let total = count(ours().count());
    let most = limits.most(service.desired);
    if turn.started > 0 && total > most {
        return Err(format!("{} has {total} tasks of {most}", service.name));
    }
    let healthy = count(ours().filter(|task| is_healthy(task)).count());
    let fewest = limits.fewest_healthy(service.desired);
    if !turn.stopped.is_empty() && healthy < fewest {
        let name = &service.name;
        let left: Vec<String> = ours().map(|task| shown(task)).collect();
        return Err(format!(
            "{name} stopped {} and left {healthy} healthy of {fewest}: {}",
            turn.stopped.join(", "),
            left.join(", ")
        ));
    }
    Ok(())
}
