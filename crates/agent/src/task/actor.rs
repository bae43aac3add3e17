//! One task's actor: the only one that changes its record.
//!
//! It is a loop: decide what to do (see [`super::graph`]), start it, keep the
//! record, wait for news. Work is done by runners and by the task's own
//! steps, in tasks of their own, so the actor is never busy. What the control
//! plane is to be told waits in the record's outbox and goes out in order.

mod outbox;
mod resume;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use minato_wire::Timestamp;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::graph::{self, NEVER_STARTED_EXIT_CODE};
use super::plan::{NetworkPlan, TaskPlan};
use super::record::{ContainerRecord, Desired, Lasting, TaskFacts, TaskRecord};
use super::runner::{Outcome, Phase, Runner, RunnerEvent, log_failures};
use super::status::{ContainerEvent, ContainerStatus};
use crate::agent::Services;
use crate::steps::{
    ContainerContext, FileCell, RouterConfigCell, SecretCell, TaskContext,
    UpError, task_steps,
};
use crate::store::TaskFiles;

/// News of containers wait so long for more, to go out together.
const GATHER: Duration = Duration::from_millis(500);

/// A record that cannot be kept (a full disk) is tried again after this.
const SAVE_RETRY: Duration = Duration::from_secs(1);

/// News of all containers of a task, several each, before anyone waits.
const EVENTS_MAX: usize = 256;

/// What an actor is told from outside.
#[derive(Debug)]
pub(crate) enum TaskCommand {
    /// The task is to stop; the answer means that this is kept.
    Stop(oneshot::Sender<()>),
}

/// A task's actor, as its owner sees it.
#[derive(Debug)]
pub(crate) struct TaskHandle {
    pub(crate) commands: mpsc::Sender<TaskCommand>,
    /// The record as last kept.
    pub(crate) view: watch::Receiver<Arc<TaskRecord>>,
    pub(crate) plan: Option<Arc<TaskPlan>>,
}

/// What the actor needs beside the task.
#[derive(Clone, Debug)]
pub(crate) struct ActorDeps {
    pub(crate) services: Arc<Services>,
    pub(crate) files: TaskFiles,
    /// Reports on their way, of all tasks together.
    pub(crate) permits: Arc<Semaphore>,
    /// Told when a task is over.
    pub(crate) over: mpsc::Sender<TaskOver>,
}

/// A task of which nothing is left to do but to forget it.
#[derive(Debug)]
pub(crate) struct TaskOver {
    pub(crate) id: String,
    /// When it may be forgotten.
    pub(crate) forget_at: Timestamp,
}

/// Starts the actor of a task whose record is already kept.
pub(crate) fn spawn(
    deps: ActorDeps,
    id: String,
    arn: String,
    plan: Option<TaskPlan>,
    record: TaskRecord,
    is_resumed: bool,
) -> TaskHandle {
    let (commands, inbox) = mpsc::channel(16);
    let (view_tx, view) = watch::channel(Arc::new(record.clone()));
    let (events_tx, events) = mpsc::channel(EVENTS_MAX);
    let (ups_tx, ups) = mpsc::channel(4);
    let plan = plan.map(Arc::new);
    let actor = Actor {
        lasting: record.lasting(),
        deps,
        id,
        arn,
        plan: plan.clone(),
        record,
        view: view_tx,
        events_tx,
        ups_tx,
        runners: BTreeMap::new(),
        task_op: None,
        logs_open: BTreeSet::new(),
        acks: vec![],
        is_dirty: false,
        gather_until: None,
        submitting: None,
        work: JoinSet::new(),
    };
    tokio::spawn(actor.run(inbox, events, ups, is_resumed));
    TaskHandle { commands, view, plan }
}

/// How the task's own steps ended.
#[derive(Debug)]
enum TaskOpDone {
    Up(Result<(), UpError>, TaskFacts),
    Down(TaskFacts),
}

struct Actor {
    deps: ActorDeps,
    id: String,
    arn: String,
    plan: Option<Arc<TaskPlan>>,
    record: TaskRecord,
    /// What is on disk for good.
    lasting: Lasting,
    view: watch::Sender<Arc<TaskRecord>>,
    events_tx: mpsc::Sender<(String, RunnerEvent)>,
    ups_tx: mpsc::Sender<TaskOpDone>,
    /// Runners at work, and how to call them off.
    runners: BTreeMap<String, CancellationToken>,
    /// The task's own steps at work, and how to call them off.
    task_op: Option<CancellationToken>,
    /// Containers whose log is still being sent.
    logs_open: BTreeSet<String>,
    /// Who waits for the record to be kept.
    acks: Vec<oneshot::Sender<()>>,
    is_dirty: bool,
    gather_until: Option<tokio::time::Instant>,
    submitting: Option<JoinHandle<()>>,
    /// Runners and steps; they end with the actor, containers do not.
    work: JoinSet<()>,
}

impl Actor {
    async fn run(
        mut self,
        mut inbox: mpsc::Receiver<TaskCommand>,
        mut events: mpsc::Receiver<(String, RunnerEvent)>,
        mut ops: mpsc::Receiver<TaskOpDone>,
        is_resumed: bool,
    ) {
        if is_resumed {
            self.resume();
        }
        loop {
            while self.work.try_join_next().is_some() {}
            let wake_at = self.advance();
            let retry = self.keep().await;
            self.start_submitting();
            if let Some(forget_at) = self.forget_at() {
                let Actor { deps, id, .. } = self;
                // The agent's end is the end of all.
                let _ = deps.over.send(TaskOver { id, forget_at }).await;
                return answer_late(inbox).await;
            }
            let timer = self.next_timer(wake_at, retry);
            tokio::select! {
                command = inbox.recv() => match command {
                    Some(command) => self.on_command(command),
                    // The agent shuts down; containers go on without it.
                    None => return,
                },
                Some((name, event)) = events.recv() => {
                    self.on_event(&name, event);
                    while let Ok((name, event)) = events.try_recv() {
                        self.on_event(&name, event);
                    }
                }
                Some(done) = ops.recv() => self.on_task_op(done),
                () = wait_for(&mut self.submitting) => {
                    self.submitting = None;
                    self.record.outbox.pop_front();
                    self.is_dirty = true;
                }
                () = sleep_until(timer) => {}
            }
        }
    }

    fn now(&self) -> Timestamp {
        self.deps.services.clock.now()
    }

    fn task_context(&self, plan: &Arc<TaskPlan>) -> TaskContext {
        TaskContext {
            services: Arc::clone(&self.deps.services),
            plan: Arc::clone(plan),
            dir: self.deps.files.task_dir(&self.id),
        }
    }

    /// Does what can be done now; answers when to look again.
    fn advance(&mut self) -> Option<Timestamp> {
        let plan = self.plan.clone()?;
        if self.record.stopped_at.is_some() {
            return None;
        }
        let is_stopping = self.record.desired == Desired::Stopped;
        if is_stopping && let Some(op) = &self.task_op {
            op.cancel();
        }
        if !self.record.facts.is_up && !is_stopping {
            if self.task_op.is_none() {
                self.start_task_up(&plan);
            }
            return None;
        }
        let now = self.now();
        let runners = &self.runners;
        let is_busy = |name: &str| runners.contains_key(name);
        let decision = graph::decide(&plan, &self.record, &is_busy, now);
        for name in &decision.start {
            self.start_runner(&plan, name, Phase::BringUp, false);
        }
        for name in &decision.stop {
            if let Some(token) = self.runners.get(name) {
                token.cancel();
            }
        }
        let gave_up = !decision.give_up.is_empty();
        for (name, why) in decision.give_up {
            self.give_up(&name, why);
        }
        if gave_up {
            self.after_ends();
            return Some(now);
        }
        self.finish_task(&plan);
        decision.wake_at
    }

    fn start_task_up(&mut self, plan: &Arc<TaskPlan>) {
        let cancel = CancellationToken::new();
        self.task_op = Some(cancel.clone());
        let (cx, ops) = (self.task_context(plan), self.ups_tx.clone());
        let mut facts = self.record.facts.clone();
        self.work.spawn(async move {
            let steps = task_steps();
            let up = steps.up(&cx, &mut facts, &cancel, |_, _| {}).await;
            // The actor is gone only when the agent is.
            let _ = ops.send(TaskOpDone::Up(up, facts)).await;
        });
    }

    /// Undoes the task's own steps once all containers have stopped.
    fn finish_task(&mut self, plan: &Arc<TaskPlan>) {
        let all_stopped = self
            .record
            .containers
            .values()
            .all(|known| known.status == ContainerStatus::Stopped);
        if !all_stopped || self.task_op.is_some() {
            return;
        }
        self.task_op = Some(CancellationToken::new());
        let (cx, ops) = (self.task_context(plan), self.ups_tx.clone());
        let mut facts = self.record.facts.clone();
        self.work.spawn(async move {
            let failures = task_steps().down(&cx, &mut facts).await;
            log_failures(&cx.plan.id, &failures);
            let _ = ops.send(TaskOpDone::Down(facts)).await;
        });
    }

    fn on_task_op(&mut self, done: TaskOpDone) {
        self.task_op = None;
        self.is_dirty = true;
        match done {
            TaskOpDone::Up(Ok(()), facts) => {
                self.record.facts = TaskFacts { is_up: true, ..facts };
            }
            TaskOpDone::Up(Err(UpError::Cancelled), facts) => {
                self.record.facts = facts;
            }
            TaskOpDone::Up(Err(UpError::Failed { step, error }), facts) => {
                tracing::info!(task = self.id, step, %error, "not brought up");
                self.record.facts = facts;
                self.record.reason.get_or_insert(error.to_string());
                self.record.desired = Desired::Stopped;
            }
            TaskOpDone::Down(facts) => {
                self.record.facts = TaskFacts { is_up: false, ..facts };
                self.record.stopped_at = Some(self.now());
            }
        }
    }

    fn start_runner(
        &mut self,
        plan: &Arc<TaskPlan>,
        name: &str,
        phase: Phase,
        is_resumed: bool,
    ) {
        let (Some(container), Some(known)) =
            (plan.container(name), self.record.containers.get(name))
        else {
            return;
        };
        let stop = CancellationToken::new();
        let runner = Runner {
            cx: ContainerContext {
                task: self.task_context(plan),
                task_facts: self.record.facts.clone(),
                plan: Arc::new(container.clone()),
                router_ip: router_ip(plan, &self.record),
                links: links(plan, &self.record, name),
                image_volumes: image_volumes(&self.record),
                token: known.token.clone(),
                secrets: SecretCell::default(),
                files: FileCell::default(),
                router_config: RouterConfigCell::default(),
            },
            facts: known.facts.clone(),
            health: known.health.status,
            phase,
            is_resumed: is_resumed || known.facts.image.is_some(),
            stop: stop.clone(),
            events: self.events_tx.clone(),
        };
        self.runners.insert(name.to_owned(), stop);
        self.work.spawn(runner.run());
    }

    /// Marks a container that never ran as stopped.
    fn give_up(&mut self, name: &str, why: Option<String>) {
        let Some(known) = self.record.containers.get_mut(name) else { return };
        self.is_dirty = true;
        known.status = known.status.step(ContainerEvent::Stopped);
        known.log_done = true;
        if why.is_some() {
            known.exit_code = Some(NEVER_STARTED_EXIT_CODE);
            known.reason = why;
        }
    }

    fn on_command(&mut self, command: TaskCommand) {
        match command {
            TaskCommand::Stop(kept) => {
                if self.record.desired != Desired::Stopped {
                    self.record.desired = Desired::Stopped;
                    self.is_dirty = true;
                }
                self.acks.push(kept);
            }
        }
    }

    fn on_event(&mut self, name: &str, event: RunnerEvent) {
        let Some(known) = self.record.containers.get_mut(name) else { return };
        self.is_dirty = true;
        match event {
            RunnerEvent::Progress { facts, event, pull } => {
                known.facts = *facts;
                on_progress(known, event);
                if let Some(pull) = pull {
                    self.record.pull_started_at.get_or_insert(pull.started_at);
                    self.record.pull_stopped_at =
                        pull.stopped_at.max(self.record.pull_stopped_at);
                }
            }
            RunnerEvent::Restarting { ending, kept } => {
                // Without an answer it ends.
                if self.record.desired == Desired::Running {
                    known.restart_count = known.restart_count.saturating_add(1);
                    known.restarting = Some(ending);
                    known.health = super::record::Health::default();
                    self.acks.push(kept);
                }
            }
            RunnerEvent::Ended { outcome, kept } => {
                let Outcome { exit_code, reason, at } = outcome;
                known.restarting = None;
                known.finished_at = Some(at);
                known.exit_code = exit_code;
                known.reason = reason;
                self.acks.push(kept);
            }
            RunnerEvent::Health(health) => {
                let since = known
                    .health
                    .since
                    .filter(|_| known.health.status == health.status);
                known.health = super::record::Health {
                    since: since.or(health.since),
                    ..health
                };
            }
            RunnerEvent::Finished { log_done } => {
                known.status = known.status.step(ContainerEvent::Stopped);
                known.log_done = log_done;
                self.runners.remove(name);
                if !log_done {
                    self.logs_open.insert(name.to_owned());
                }
                self.after_ends();
            }
            RunnerEvent::LogDone => {
                known.log_done = true;
                self.logs_open.remove(name);
            }
        }
        self.after_exits();
    }

    /// The end of an essential container is the end of the task, from the
    /// moment it exited.
    fn after_exits(&mut self) {
        let Some(plan) = self.plan.clone() else { return };
        for container in &plan.containers {
            let Some(known) = self.record.containers.get(&container.name)
            else {
                continue;
            };
            let Some(at) = known.finished_at else { continue };
            let ends = container.essential || known.started_at.is_none();
            if ends {
                self.record.desired = Desired::Stopped;
            }
            if container.essential {
                self.record.execution_stopped_at.get_or_insert(at);
            }
        }
    }

    /// A container that will never run ends the task, too.
    fn after_ends(&mut self) {
        let Some(plan) = self.plan.clone() else { return };
        if graph::ends_task(&plan, &self.record) {
            if self.record.desired != Desired::Stopped {
                self.record.desired = Desired::Stopped;
                self.is_dirty = true;
            }
            let now = self.now();
            self.record.execution_stopped_at.get_or_insert(now);
        }
        self.after_exits();
    }

    fn next_timer(
        &self,
        wake_at: Option<Timestamp>,
        retry: Option<tokio::time::Instant>,
    ) -> Option<tokio::time::Instant> {
        let now = tokio::time::Instant::now();
        let after = |at: Timestamp| {
            let millis = at.millis_since(self.now()).max(0);
            now + Duration::from_millis(u64::try_from(millis).unwrap_or(0))
        };
        [wake_at.map(after), retry, self.gather_until]
            .into_iter()
            .flatten()
            .min()
    }

    /// When the task may be forgotten; `None` while there is more to do.
    fn forget_at(&self) -> Option<Timestamp> {
        let stopped_at = self.record.stopped_at?;
        let is_over = self.record.outbox.is_empty()
            && self.logs_open.is_empty()
            && self.runners.is_empty()
            && self.acks.is_empty()
            && self.gather_until.is_none()
            && !self.is_dirty;
        let wait = self.deps.services.config.cleanup_wait.as_millis();
        let wait = i64::try_from(wait).unwrap_or(i64::MAX);
        is_over.then(|| stopped_at.plus_millis(wait))
    }
}

/// Answers who asked a task to stop just when it was over: a question
/// left in the inbox would keep them waiting for as long as others may ask.
async fn answer_late(mut inbox: mpsc::Receiver<TaskCommand>) {
    inbox.close();
    while let Some(TaskCommand::Stop(kept)) = inbox.recv().await {
        let _ = kept.send(());
    }
}

fn on_progress(known: &mut ContainerRecord, event: Option<ContainerEvent>) {
    if let Some(event) = event {
        known.status = known.status.step(event);
    }
    if event == Some(ContainerEvent::Started) {
        known.restarting = None;
    }
    if known.status == ContainerStatus::Running {
        let started_at_ms = known.facts.started_at_ms;
        known.started_at =
            known.started_at.or(started_at_ms.map(Timestamp::from_millis));
    }
}

/// The address of the task's log router, which runs before its containers.
fn router_ip(
    plan: &TaskPlan,
    record: &TaskRecord,
) -> Option<std::net::Ipv4Addr> {
    let router = plan.containers.iter().find(|one| one.router.is_some())?;
    let facts = &record.containers.get(&router.name)?.facts;
    facts.address.as_ref().map(|address| address.ip)
}

/// Names and addresses for a container's links, which run already.
fn links(
    plan: &TaskPlan,
    record: &TaskRecord,
    name: &str,
) -> BTreeMap<String, (Vec<String>, std::net::Ipv4Addr)> {
    let mut links = BTreeMap::new();
    if plan.network != NetworkPlan::Bridge {
        return links;
    }
    let Some(container) = plan.container(name) else { return links };
    for link in &container.links {
        let address = record
            .containers
            .get(&link.container)
            .and_then(|known| known.facts.address.as_ref());
        if let Some(address) = address {
            let mut names = vec![link.alias.clone()];
            if link.alias != link.container {
                names.push(link.container.clone());
            }
            links.insert(link.alias.clone(), (names, address.ip));
        }
    }
    links
}

/// The `VOLUME`s of the images that are known by now, as are those of whoever
/// a container that is started has volumes from.
fn image_volumes(record: &TaskRecord) -> BTreeMap<String, Vec<String>> {
    let of = |known: &ContainerRecord| {
        let image = known.facts.image.as_ref();
        image.map(|image| image.volumes.clone()).unwrap_or_default()
    };
    let all = record.containers.iter();
    all.map(|(name, known)| (name.clone(), of(known))).collect()
}

async fn wait_for(work: &mut Option<JoinHandle<()>>) {
    match work {
        // It neither panics nor is it aborted; over is over.
        Some(work) => drop(work.await),
        None => std::future::pending().await,
    }
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
