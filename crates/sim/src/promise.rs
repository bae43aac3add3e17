//! What a service promises about its tasks, whatever happens: never more than
//! `maximumPercent` by its own doing, never fewer healthy ones than
//! `minimumHealthyPercent` by its own doing, no protected task stopped.
//!
//! Tasks have no health checks in these worlds and count as soon as they run,
//! so that healthy means `RUNNING`.

use std::collections::BTreeMap;
use std::sync::Arc;

use minato_control::tables::{Service, Task};
use minato_core::service::rules;
use minato_core::status::ServiceStatus;
use minato_store::{Changed, Commit, Key, Snapshot};
use minato_wire::ecs::TaskStopCode;

/// The services as the watch tells of them.
pub(crate) struct Promises {
    services: BTreeMap<Key, Arc<Service>>,
}

/// What one commit did to the tasks of a service.
#[derive(Default)]
struct Turn {
    started: usize,
    /// Running tasks that the scheduler stopped.
    stopped: usize,
}

impl Promises {
    pub(crate) fn new(rows: &Snapshot) -> Promises {
        let services = rows.scan::<Service>(&Key::root());
        let keyed = services
            .map(|service| (minato_store::Row::key(&*service), service));
        Promises { services: keyed.collect() }
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
                let ran = was.is_some_and(|was| was.last_status() == "RUNNING");
                turn.stopped += usize::from(ran);
            }
        }
        for (key, turn) in turns {
            if let Some(service) = self.services.get(&key) {
                kept(service, &turn, tasks)?;
            }
        }
        Ok(())
    }

    fn unprotected(&self, task: &Task) -> Result<(), String> {
        let Some(of) = &task.service else { return Ok(()) };
        let key = key_of(task, &of.name);
        let is_deleted = self.services.get(&key).is_none_or(|service| {
            service.id != of.id || service.status != ServiceStatus::Active
        });
        let at = task.task.stopping_at;
        let is_protected = of.protected_until > at;
        if is_protected && !is_deleted {
            return Err(format!("{} was stopped though protected", task.id));
        }
        Ok(())
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

/// Whether a service kept within its percentages.
fn kept(
    service: &Service,
    turn: &Turn,
    tasks: &BTreeMap<Key, Arc<Task>>,
) -> Result<(), String> {
    if service.status != ServiceStatus::Active {
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
    let running = ours().filter(|task| task.last_status() == "RUNNING");
    let healthy = count(running.count());
    let fewest = limits.fewest_healthy(service.desired);
    if turn.stopped > 0 && healthy < fewest {
        let name = &service.name;
        return Err(format!("{name} left {healthy} healthy of {fewest}"));
    }
    Ok(())
}
