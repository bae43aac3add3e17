//! Bringing something up is a list of small steps, each with its undo.
//!
//! One file per step. A list is gone through in order; when a step fails, it
//! and everything before it is undone in reverse, and every failure on the
//! way down is kept. Steps may be repeated at any time (after a restart
//! nobody knows how far the last run came), so each is idempotent, and so is
//! its undo. Two stock tests run over both lists: repeat each step, and fail
//! each step in turn.
//!
//! A task has a list ([`task_steps`]), and each container has one
//! ([`container_steps`]).

mod address;
mod cgroup;
mod copy_up;
mod create;
mod docker_volume;
mod efs;
mod environment_files;
mod files;
mod firelens;
mod image;
mod image_volumes;
mod link_env;
mod log;
mod login;
mod mounts;
mod namespaces;
mod network;
mod nofile;
mod ports;
mod s3_access;
mod secrets;
mod start;
#[cfg(test)]
mod storage_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod volume_tests;
pub(crate) mod volumes;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

pub(crate) use create::{args, env, labels};
pub use environment_files::FileCell;
pub use firelens::RouterConfigCell;
pub(crate) use firelens::socket_dir;
pub use secrets::SecretCell;
pub(crate) use start::restart;

use crate::agent::Services;
use crate::runtime::RuntimeError;
use crate::task::plan::{ContainerPlan, TaskPlan};
use crate::task::record::{ContainerFacts, EndpointToken, TaskFacts};

/// A step's undo that hangs must not keep the ones before it from running.
const DOWN_TIMEOUT: Duration = Duration::from_secs(30);

/// One step of bringing something up.
///
/// `C` is what is to be, `F` what the steps found out so far.
pub trait Step<C, F>: Send + Sync {
    /// Its name, for logs and errors.
    fn name(&self) -> &'static str;

    /// Whether it may be dropped halfway: it waits for something far away and
    /// leaves nothing behind that its undo would not find.
    fn is_interruptible(&self) -> bool {
        false
    }

    /// Does it.
    fn up<'a>(
        &'a self,
        cx: &'a C,
        facts: &'a mut F,
    ) -> BoxFuture<'a, Result<(), StepError>>;

    /// Undoes it, whether it was done, half done or not done at all.
    fn down<'a>(
        &'a self,
        cx: &'a C,
        facts: &'a mut F,
    ) -> BoxFuture<'a, Result<(), StepError>>;
}

/// Why a step failed, in the words that a `reason` begins with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}: {message}")]
pub struct StepError {
    /// Such as `CannotPullContainerError`.
    pub kind: Cow<'static, str>,
    /// The rest.
    pub message: String,
}

impl StepError {
    /// An error of the kind given.
    pub fn new(
        kind: impl Into<Cow<'static, str>>,
        message: impl fmt::Display,
    ) -> StepError {
        StepError { kind: kind.into(), message: message.to_string() }
    }

    /// For `map_err`: an engine error under the kind given.
    pub(crate) fn of(
        kind: &'static str,
    ) -> impl FnOnce(RuntimeError) -> StepError {
        move |error| StepError::new(kind, error)
    }
}

/// How going up ended, when it did not end well.
#[derive(Debug, PartialEq, Eq)]
pub enum UpError {
    /// It was called off between two steps.
    Cancelled,
    /// A step failed.
    Failed {
        /// Which.
        step: &'static str,
        /// Why.
        error: StepError,
    },
}

/// Steps in their order.
pub struct StepList<C, F> {
    steps: Vec<Box<dyn Step<C, F>>>,
}

impl<C, F> fmt::Debug for StepList<C, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.steps.iter().map(|step| step.name()))
            .finish()
    }
}

impl<C: Sync, F: Send> StepList<C, F> {
    /// A list.
    pub fn new(steps: Vec<Box<dyn Step<C, F>>>) -> StepList<C, F> {
        StepList { steps }
    }

    /// The steps' names.
    pub fn names(&self) -> Vec<&'static str> {
        self.steps.iter().map(|step| step.name()).collect()
    }

    /// Does every step; `after` sees the facts after each.
    ///
    /// Undoes nothing: the caller decides when to go down.
    pub async fn up(
        &self,
        cx: &C,
        facts: &mut F,
        cancel: &CancellationToken,
        mut after: impl FnMut(&'static str, &F),
    ) -> Result<(), UpError> {
        for step in &self.steps {
            if cancel.is_cancelled() {
                return Err(UpError::Cancelled);
            }
            let result = if step.is_interruptible() {
                tokio::select! {
                    biased;
                    () = cancel.cancelled() => return Err(UpError::Cancelled),
                    result = step.up(cx, facts) => result,
                }
            } else {
                step.up(cx, facts).await
            };
            result.map_err(|error| UpError::Failed {
                step: step.name(),
                error,
            })?;
            after(step.name(), facts);
        }
        Ok(())
    }

    /// Undoes every step, last first, and reports all that failed.
    pub async fn down(
        &self,
        cx: &C,
        facts: &mut F,
    ) -> Vec<(&'static str, StepError)> {
        let mut failures = vec![];
        for step in self.steps.iter().rev() {
            let down = step.down(cx, facts);
            let result = match tokio::time::timeout(DOWN_TIMEOUT, down).await {
                Ok(result) => result,
                Err(_) => Err(StepError::new(
                    "DockerTimeoutError",
                    format!("undoing took over {DOWN_TIMEOUT:?}"),
                )),
            };
            if let Err(error) = result {
                failures.push((step.name(), error));
            }
        }
        failures
    }
}

/// What a task's steps work on.
#[derive(Clone, Debug)]
pub struct TaskContext {
    /// The world.
    pub services: Arc<Services>,
    /// The task.
    pub plan: Arc<TaskPlan>,
    /// Its directory, for files that live as long as it does.
    pub dir: PathBuf,
}

/// What a container's steps work on.
#[derive(Clone, Debug)]
pub struct ContainerContext {
    /// Its task.
    pub task: TaskContext,
    /// What the task's steps found out.
    pub task_facts: TaskFacts,
    /// The container.
    pub plan: Arc<ContainerPlan>,
    /// The log router's address on the bridge, once it has one.
    pub router_ip: Option<Ipv4Addr>,
    /// Names and addresses of linked containers, for `/etc/hosts`.
    pub links: BTreeMap<String, (Vec<String>, Ipv4Addr)>,
    /// The `VOLUME`s of the images of containers that were created before, by
    /// the containers' names.
    pub image_volumes: BTreeMap<String, Vec<String>>,
    /// By which the task endpoint knows it.
    pub token: Option<EndpointToken>,
    /// Its secrets, once they were fetched; in memory only.
    pub secrets: SecretCell,
    /// Variables of its environment files, once they were fetched.
    pub files: FileCell,
    /// A log router's further configuration, once it was fetched.
    pub router_config: RouterConfigCell,
}

impl ContainerContext {
    /// Where the container's own files are.
    pub fn dir(&self) -> PathBuf {
        self.task.dir.join(&self.plan.id)
    }
}

/// The steps of a task.
pub fn task_steps() -> StepList<TaskContext, TaskFacts> {
    StepList::new(vec![
        Box::new(volumes::Volumes),
        Box::new(cgroup::TaskCgroup),
        Box::new(network::TaskNetwork),
        Box::new(namespaces::SharedNamespaces),
    ])
}

/// The steps of a container.
pub fn container_steps() -> StepList<ContainerContext, ContainerFacts> {
    StepList::new(vec![
        Box::new(secrets::FetchSecrets),
        Box::new(environment_files::FetchFiles),
        Box::new(firelens::FetchConfig),
        Box::new(image::PullImage),
        Box::new(address::Address),
        Box::new(ports::Ports),
        Box::new(files::Files),
        Box::new(firelens::RouterFiles),
        Box::new(log::LogDestination),
        Box::new(create::Create),
        Box::new(start::Start),
    ])
}
