//! All tasks of this host: taking them over from the control plane and from
//! an earlier agent.

mod over;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;

use minato_wire::acs;
use minato_wire::ecs::SubmitTaskStateChangeRequest;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc, oneshot};

use self::over::Over;
use crate::agent::Services;
use crate::steps::TaskContext;
use crate::store::{Sync, TaskFiles};
use crate::submit::{SUBMITS_MAX, submit};
use crate::task::actor::{self, ActorDeps, TaskCommand, TaskHandle};
use crate::task::decode::{DecodeTaskError, decode_task, task_id};
use crate::task::plan::{TaskPlan, VolumePlan};
use crate::task::record::{
    ContainerRecord, Desired, EndpointToken, FORMAT, TaskFacts, TaskRecord,
};
use crate::task::status::{ContainerStatus, TaskStatus};

/// Tasks a host keeps, stopped ones included. A task's record is a few KiB;
/// this bounds what a control plane gone wild can make an agent hold.
const TASKS_MAX: usize = 10_000;

/// Why a task was not taken over.
#[derive(Debug, thiserror::Error)]
pub enum AcceptTaskError {
    /// It is not a task.
    #[error("task {arn} cannot be read")]
    Malformed {
        /// The task.
        arn: String,
        /// What is wrong.
        source: DecodeTaskError,
    },
    /// It could not be kept.
    #[error("task {arn} could not be kept")]
    Save {
        /// The task.
        arn: String,
        /// Why.
        source: io::Error,
    },
    /// There are too many.
    #[error("this host has {TASKS_MAX} tasks already")]
    TooMany,
    /// The agent is shutting down.
    #[error("the agent is shutting down")]
    ShuttingDown,
}

/// A task, as the agent knows it.
#[derive(Clone, Debug)]
pub struct TaskView {
    /// Its ARN.
    pub arn: String,
    /// What it is to be; `None` where that was refused.
    pub plan: Option<Arc<TaskPlan>>,
    /// What it is.
    pub record: Arc<TaskRecord>,
}

/// All tasks of this host.
#[derive(Clone, Debug)]
pub struct TaskEngine {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    deps: ActorDeps,
    tasks: Mutex<BTreeMap<String, Known>>,
}

#[derive(Debug)]
struct Known {
    arn: String,
    state: State,
}

#[derive(Debug)]
enum State {
    AtWork(TaskHandle),
    Over(Over),
}

impl Known {
    fn handle(&self) -> Option<&TaskHandle> {
        match &self.state {
            State::AtWork(handle) => Some(handle),
            State::Over(_) => None,
        }
    }

    fn view(&self) -> Option<TaskView> {
        let handle = self.handle()?;
        Some(TaskView {
            arn: self.arn.clone(),
            plan: handle.plan.clone(),
            record: Arc::clone(&handle.view.borrow()),
        })
    }
}

impl TaskEngine {
    /// Takes over the tasks of an earlier agent.
    pub fn open(services: Arc<Services>) -> io::Result<TaskEngine> {
        let files = TaskFiles::open(&services.config.dir)?;
        let (records, errors) = files.load()?;
        for error in errors {
            tracing::error!(
                error = crate::runtime::error_chain(&error),
                "a task is left alone"
            );
        }
        let (over, over_rx) = mpsc::channel(16);
        let deps = ActorDeps {
            services,
            files,
            permits: Arc::new(Semaphore::new(SUBMITS_MAX)),
            over,
        };
        let inner =
            Arc::new(Inner { deps, tasks: Mutex::new(BTreeMap::new()) });
        let engine = TaskEngine { inner: Arc::clone(&inner) };
        for record in records {
            engine.resume(record);
        }
        tokio::spawn(over::keep(Arc::downgrade(&inner), over_rx));
        Ok(engine)
    }

    fn resume(&self, record: TaskRecord) {
        let task: Result<acs::Task, _> =
            serde_json::from_value(record.payload.clone());
        let id = task.as_ref().ok().and_then(|task| task_id(&task.arn).ok());
        let (Ok(task), Some(id)) = (task, id) else {
            tracing::error!("a task without a readable ARN is left alone");
            return;
        };
        let plan = decode_task(&task).ok();
        self.insert(id, task.arn, plan, record, true);
    }

    fn insert(
        &self,
        id: String,
        arn: String,
        plan: Option<TaskPlan>,
        record: TaskRecord,
        is_resumed: bool,
    ) {
        // A task may be over at once, and is looked up then.
        let mut tasks = self.inner.tasks.lock();
        let handle = actor::spawn(
            self.inner.deps.clone(),
            id.clone(),
            arn.clone(),
            plan,
            record,
            is_resumed,
        );
        tasks.insert(id, Known { arn, state: State::AtWork(handle) });
    }

    /// Takes over a task of a payload. When this returns, what the payload
    /// asks is kept on disk, and the payload may be acknowledged.
    pub async fn accept(&self, task: acs::Task) -> Result<(), AcceptTaskError> {
        let arn = task.arn.clone();
        let malformed =
            |source| AcceptTaskError::Malformed { arn: arn.clone(), source };
        let id = task_id(&task.arn).map_err(malformed)?;
        let wants_running = match task.desired_status.as_str() {
            "RUNNING" => true,
            "STOPPED" => false,
            other => {
                let what = format!("desiredStatus {other:?}");
                return Err(malformed(DecodeTaskError::Malformed { what }));
            }
        };
        match (wants_running, self.is_known(&id)) {
            (true, true) => Ok(()),
            (false, true) => self.stop(&id).await,
            (true, false) => {
                let plan = decode_task(&task);
                if let Err(source @ DecodeTaskError::Malformed { .. }) = plan {
                    self.report_unreadable(&arn, &source);
                    return Err(malformed(source));
                }
                self.take_over(id, task, plan).await
            }
            (false, false) => self.take_over_stopped(id, task).await,
        }
    }

    /// Whether a task was taken over and is not forgotten, though it may be
    /// over.
    pub(crate) fn is_known(&self, id: &str) -> bool {
        self.inner.tasks.lock().contains_key(id)
    }

    /// Makes a task stop; when this returns, that is kept.
    pub async fn stop(&self, id: &str) -> Result<(), AcceptTaskError> {
        let commands = {
            let tasks = self.inner.tasks.lock();
            let handle = tasks.get(id).and_then(Known::handle);
            let Some(handle) = handle else { return Ok(()) };
            handle.commands.clone()
        };
        let (kept, is_kept) = oneshot::channel();
        // A task that is over right now has stopped.
        if commands.send(TaskCommand::Stop(kept)).await.is_err() {
            return Ok(());
        }
        is_kept.await.map_err(|_| AcceptTaskError::ShuttingDown)
    }

    async fn take_over(
        &self,
        id: String,
        task: acs::Task,
        plan: Result<TaskPlan, DecodeTaskError>,
    ) -> Result<(), AcceptTaskError> {
        let mut record = self.new_record(&task, Desired::Running);
        let plan = match plan {
            Ok(plan) => Some(plan),
            Err(refusal) => {
                let reason = match &refusal {
                    DecodeTaskError::Dependencies { .. } => {
                        format!("TaskDependencyError: {refusal}")
                    }
                    DecodeTaskError::Malformed { .. }
                    | DecodeTaskError::Unsupported { .. } => {
                        format!("ResourceInitializationError: {refusal}")
                    }
                };
                self.refuse(&mut record, reason);
                None
            }
        };
        self.keep(id, task.arn, plan, record).await
    }

    /// A stop for a task this host never had, or has forgotten.
    async fn take_over_stopped(
        &self,
        id: String,
        task: acs::Task,
    ) -> Result<(), AcceptTaskError> {
        let mut record = self.new_record(&task, Desired::Stopped);
        let reason = "TaskStateError: Agent could not progress task's state \
                      to stopped";
        self.refuse(&mut record, reason.to_owned());
        self.keep(id, task.arn, None, record).await
    }

    fn refuse(&self, record: &mut TaskRecord, reason: String) {
        record.reason = Some(reason);
        record.desired = Desired::Stopped;
        record.stopped_at = Some(self.inner.deps.services.clock.now());
        for container in record.containers.values_mut() {
            container.status = ContainerStatus::Stopped;
            container.log_done = true;
        }
    }

    async fn keep(
        &self,
        id: String,
        arn: String,
        plan: Option<TaskPlan>,
        record: TaskRecord,
    ) -> Result<(), AcceptTaskError> {
        if self.inner.tasks.lock().len() >= TASKS_MAX {
            return Err(AcceptTaskError::TooMany);
        }
        let save = self.inner.deps.files.save(&id, &record, Sync::Yes).await;
        save.map_err(|source| AcceptTaskError::Save {
            arn: arn.clone(),
            source,
        })?;
        self.insert(id, arn, plan, record, false);
        Ok(())
    }

    fn new_record(&self, task: &acs::Task, desired: Desired) -> TaskRecord {
        let containers = task
            .containers
            .iter()
            .map(|container| {
                let uuid = self.inner.deps.services.ids.uuid();
                let token = Some(EndpointToken::new(uuid));
                let known =
                    ContainerRecord { token, ..ContainerRecord::default() };
                (container.name.clone(), known)
            })
            .collect();
        TaskRecord {
            saves: 0,
            format: FORMAT,
            boot_id: self.inner.deps.services.runtime.boot_id(),
            payload: payload_without_secrets(task),
            desired,
            facts: TaskFacts::default(),
            containers,
            reason: None,
            reported: TaskStatus::Pending,
            outbox: VecDeque::new(),
            pull_started_at: None,
            pull_stopped_at: None,
            execution_stopped_at: None,
            stopped_at: None,
        }
    }

    /// The payload will come again, so the report need not be kept.
    fn report_unreadable(&self, arn: &str, error: &DecodeTaskError) {
        let deps = self.inner.deps.clone();
        let request = SubmitTaskStateChangeRequest {
            cluster: Some(deps.services.config.cluster.clone()),
            task: Some(arn.to_owned()),
            status: Some("STOPPED".into()),
            reason: Some(format!(
                // The misspelling is the upstream agent's.
                "UnrecogniedTaskError: Error loading task - {error}"
            )),
            ..SubmitTaskStateChangeRequest::default()
        };
        let Ok(request) = serde_json::to_value(request) else { return };
        tokio::spawn(async move {
            submit(&deps.services, &deps.permits, request).await;
        });
    }

    /// The first task at work whose record is the one that is looked for.
    pub(crate) fn find(
        &self,
        mut is_it: impl FnMut(&TaskRecord) -> bool,
    ) -> Option<TaskView> {
        let tasks = self.inner.tasks.lock();
        tasks.values().find_map(|known| {
            let record = &known.handle()?.view;
            is_it(&record.borrow()).then(|| known.view()).flatten()
        })
    }

    /// ARN of the task whose role's credentials have the id given, unless it
    /// has stopped.
    pub(crate) fn find_by_credentials(&self, id: &str) -> Option<String> {
        let tasks = self.inner.tasks.lock();
        let mut known = tasks.values();
        let found = known.find(|known| {
            let Some(handle) = known.handle() else { return false };
            let plan = handle.plan.as_ref();
            let own = plan.and_then(|plan| plan.credentials_id.as_deref());
            own == Some(id) && handle.view.borrow().stopped_at.is_none()
        });
        found.map(|known| known.arn.clone())
    }

    /// The EBS volumes of tasks that are not over.
    pub(crate) fn volume_ids(&self) -> BTreeSet<String> {
        let tasks = self.tasks().into_iter();
        let live = tasks.filter(|task| task.record.stopped_at.is_none());
        let plans = live.filter_map(|task| task.plan);
        plans
            .flat_map(|plan| {
                let volumes = plan.volumes.values();
                let ids = volumes.filter_map(VolumePlan::ebs_id);
                ids.map(str::to_owned).collect::<Vec<_>>()
            })
            .collect()
    }

    /// What the steps of tasks that have stopped worked on, where they had
    /// volumes.
    pub(crate) fn stopped_with_volumes(&self) -> Vec<TaskContext> {
        let deps = &self.inner.deps;
        let tasks = self.inner.tasks.lock();
        let plans = tasks.values().filter_map(|known| match &known.state {
            State::AtWork(handle) => {
                handle.view.borrow().stopped_at?;
                handle.plan.clone()
            }
            State::Over(over) => over.plan_with_volumes.clone(),
        });
        plans
            .filter(|plan| !plan.volumes.is_empty())
            .map(|plan| TaskContext {
                services: Arc::clone(&deps.services),
                dir: deps.files.task_dir(&plan.id),
                plan,
            })
            .collect()
    }

    /// Every task at work: that has not stopped, or has more to report.
    pub fn tasks(&self) -> Vec<TaskView> {
        let tasks = self.inner.tasks.lock();
        tasks.values().filter_map(Known::view).collect()
    }
}

/// The message as it came, but for credentials: of those only the ids are on
/// disk, because the containers are told the role's, and by the execution
/// role's the agent finds those that it is sent after a restart.
fn payload_without_secrets(task: &acs::Task) -> Value {
    let mut task = task.clone();
    let only_id = |set: acs::IamRoleCredentials| acs::IamRoleCredentials {
        credentials_id: set.credentials_id,
        ..acs::IamRoleCredentials::default()
    };
    task.role_credentials = task.role_credentials.map(only_id);
    task.execution_role_credentials =
        task.execution_role_credentials.map(only_id);
    // A struct of strings, numbers and lists always has a JSON form.
    serde_json::to_value(&task).unwrap_or_default()
}
