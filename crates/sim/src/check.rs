//! What must hold after every commit.
//!
//! The checker keeps its own copy of the tasks, built from the watch alone,
//! and asks of each commit only what no scheduling rule has to be known for.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use minato_control::tables::{Host, ServiceDeployment, Task};
use minato_core::status::{TaskEvent, TaskStatus};
use minato_store::{Changed, Changes, Commit, Key, Snapshot, Watch};

use crate::promise::{Promises, is_healthy};

/// So many healthy tasks a service has, whatever else happens.
#[derive(Debug)]
pub(crate) struct Floor {
    /// The service's id.
    pub(crate) service: String,
    pub(crate) name: String,
    pub(crate) healthy: u32,
}

pub(crate) struct Checker {
    watch: Watch,
    last: u64,
    tasks: BTreeMap<Key, Arc<Task>>,
    promises: Promises,
    /// What may not be undercut for now.
    floors: Vec<Floor>,
    trace: DefaultHasher,
    pub(crate) commits: u64,
}

impl Checker {
    pub(crate) fn new(watch: Watch, rows: &Snapshot) -> Checker {
        let tasks = rows.scan::<Task>(&Key::root());
        Checker {
            last: watch.revision(),
            watch,
            tasks: tasks
                .map(|task| (minato_store::Row::key(&*task), task))
                .collect(),
            promises: Promises::new(rows),
            floors: vec![],
            trace: DefaultHasher::new(),
            commits: 0,
        }
    }

    /// Goes on after a restart, which may have lost nothing that was seen.
    pub(crate) fn restarted(
        &mut self,
        watch: Watch,
        rows: &Snapshot,
    ) -> Result<(), String> {
        if rows.revision() < self.last {
            let (last, have) = (self.last, rows.revision());
            return Err(format!("revision {last} was seen; {have} is left"));
        }
        let fresh = Checker::new(watch, rows);
        self.watch = fresh.watch;
        self.last = fresh.last;
        self.tasks = fresh.tasks;
        self.promises = fresh.promises;
        Ok(())
    }

    /// From here on these floors hold after every commit; those of before do
    /// not.
    pub(crate) fn keep(&mut self, floors: Vec<Floor>) {
        self.floors = floors;
    }

    /// What tells this run from another.
    pub(crate) fn trace(&self) -> u64 {
        self.trace.finish()
    }

    /// Checks every commit since the last look.
    pub(crate) fn look(&mut self, rows: &Snapshot) -> Result<(), String> {
        let Changes::Rows(commits) = self.watch.changes() else {
            return Err("the checker's watch fell behind".to_owned());
        };
        for commit in commits {
            self.commit(&commit, rows)
                .map_err(|why| format!("{commit:?}: {why}"))?;
        }
        Ok(())
    }

    fn commit(
        &mut self,
        commit: &Commit,
        rows: &Snapshot,
    ) -> Result<(), String> {
        if commit.revision() != self.last + 1 {
            return Err(format!("the watch has a gap after {}", self.last));
        }
        self.last = commit.revision();
        self.commits += 1;
        format!("{commit:?}").hash(&mut self.trace);
        let mut touched = BTreeSet::new();
        for change in commit.of::<Task>() {
            self.task(&change)?;
            let Some(task) = change.after else {
                self.tasks.remove(&change.key);
                continue;
            };
            touched.insert(task.host.clone());
            task.last_status().hash(&mut self.trace);
            self.tasks.insert(change.key, task);
        }
        for change in commit.of::<ServiceDeployment>() {
            deployment(&change)?;
        }
        self.promises.check(commit, &self.tasks)?;
        self.addresses()?;
        self.holds(&self.floors)?;
        self.daemons()?;
        if touched.is_empty() {
            return Ok(());
        }
        rows.scan::<Host>(&Key::root())
            .filter(|host| touched.contains(&host.id))
            .try_for_each(|host| self.host(&host))
    }

    fn task(&self, change: &Changed<Task>) -> Result<(), String> {
        let known = self.tasks.get(&change.key);
        if known != change.before.as_ref() {
            return Err("a change begins where none ended".to_owned());
        }
        let Some(before) = known else { return Ok(()) };
        let id = &before.id;
        let Some(after) = &change.after else {
            let is_over = before.is_stopped();
            return is_over.then_some(()).ok_or(format!("{id} vanished"));
        };
        let (from, to) = (before.last_status(), after.last_status());
        if !reaches(from, to) {
            return Err(format!("{id} went from {from} to {to}"));
        }
        if !before.should_run() && after.should_run() {
            return Err(format!("{id} is wanted again"));
        }
        let code = &before.task.stop_code;
        if before.is_stopped() && code != &after.task.stop_code {
            return Err(format!("{id} has another stop code"));
        }
        Ok(())
    }

    /// Whether these floors hold now.
    pub(crate) fn holds(&self, floors: &[Floor]) -> Result<(), String> {
        for Floor { service, name, healthy } in floors {
            let ours = self.tasks.values().filter(|task| {
                let of = task.service.as_ref();
                task.should_run() && of.is_some_and(|of| of.id == *service)
            });
            let has = ours.filter(|task| is_healthy(task)).count();
            if u32::try_from(has).is_ok_and(|has| has < *healthy) {
                return Err(format!("{name} has {has} healthy of {healthy}"));
            }
        }
        Ok(())
    }

    /// No daemon has two tasks on an instance that should both run.
    fn daemons(&self) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        for task in self.tasks.values().filter(|task| task.should_run()) {
            let group = task.task.group.as_deref().unwrap_or_default();
            let is_daemon =
                group.starts_with("daemon:") || group == "service:daemon-0";
            let Some(of) = task.service.as_ref().filter(|_| is_daemon) else {
                continue;
            };
            let place = task.task.container_instance_arn.as_deref();
            if !seen.insert((of.id.as_str(), place)) {
                return Err(format!("{group} is twice on {place:?}"));
            }
        }
        Ok(())
    }

    /// No address is had by two tasks.
    fn addresses(&self) -> Result<(), String> {
        let mut taken = BTreeSet::new();
        let all = self.tasks.values().filter(|task| !task.is_stopped());
        for task in all {
            // All containers of a task share its one address.
            let address = task
                .task
                .containers
                .iter()
                .flatten()
                .flat_map(|one| one.network_interfaces.iter().flatten())
                .find_map(|one| one.private_ipv4_address.as_deref());
            if let Some(address) = address
                && !taken.insert(address)
            {
                return Err(format!("{address} is had twice"));
            }
        }
        Ok(())
    }

    fn host(&self, host: &Host) -> Result<(), String> {
        let (mut cpu, mut memory_mib) = (0, 0);
        let mut ports = host.reserved_ports.clone();
        let on_it =
            |task: &&Arc<Task>| task.host == host.id && !task.is_stopped();
        for task in self.tasks.values().filter(on_it) {
            cpu += task.needs.cpu;
            memory_mib += task.needs.memory_mib;
            for port in &task.needs.ports {
                if !ports.insert(*port) {
                    return Err(format!("{}: {port} twice", host.id));
                }
            }
        }
        if cpu > host.cpu || memory_mib > host.memory_mib {
            let id = &host.id;
            return Err(format!("{id} has {cpu} CPU, {memory_mib} MiB sold"));
        }
        Ok(())
    }
}

/// Whether a final state stays as it is.
fn deployment(change: &Changed<ServiceDeployment>) -> Result<(), String> {
    let (Some(before), Some(after)) = (&change.before, &change.after) else {
        return Ok(());
    };
    let (from, to) = (before.status.as_str(), after.status.as_str());
    let is_final = matches!(
        from,
        "SUCCESSFUL" | "STOPPED" | "ROLLBACK_SUCCESSFUL" | "ROLLBACK_FAILED"
    );
    if is_final && from != to {
        return Err(format!("deployment {} left {from} for {to}", after.id));
    }
    Ok(())
}

/// Whether the machine of the statuses has a way from one to the other; a
/// commit may go several steps of it.
fn reaches(from: &str, to: &str) -> bool {
    let Ok(from) = from.parse::<TaskStatus>() else { return false };
    let mut seen = BTreeSet::from([from]);
    let mut left = vec![from];
    while let Some(status) = left.pop() {
        let steps = TaskEvent::ALL.iter().filter_map(|e| status.step(*e).ok());
        left.extend(steps.filter(|next| seen.insert(*next)));
    }
    seen.iter().any(|status| status.as_str() == to)
}
