//! Process and IPC namespaces that the containers of a task share.
//!
//! A namespace of processes lives as long as its first process, and the end
//! of that one is the end of all. So it is none of the task's own, which may
//! come and go in any order, but a holder's, as the ECS agent has a pause
//! container (`~internal~ecs~pause~namespace`): it does nothing, reaps
//! orphans, is there before the first container and goes after the last.
//! Nobody is told of it.

use futures_util::future::BoxFuture;
use minato_engine::container::NamespaceMode;

use super::{ContainerContext, Step, StepError, TaskContext};
use crate::runtime::{
    Capabilities, ContainerId, ContainerSpec, LogLimits, SecretEnv,
};
use crate::task::plan::{IpcPlan, PidPlan, TaskPlan};
use crate::task::record::TaskFacts;

pub(super) struct SharedNamespaces;

const KIND: &str = "ResourceInitializationError";

fn is_shared(plan: &TaskPlan) -> bool {
    plan.pid == PidPlan::Task || plan.ipc == IpcPlan::Task
}

/// The holder's id; no container of a task has it, theirs end in digits.
fn holder_id(plan: &TaskPlan) -> String {
    format!("{}-namespaces", plan.id)
}

impl Step<TaskContext, TaskFacts> for SharedNamespaces {
    fn name(&self) -> &'static str {
        "namespaces"
    }

    fn up<'a>(
        &'a self,
        cx: &'a TaskContext,
        facts: &'a mut TaskFacts,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move {
            if !is_shared(&cx.plan) {
                return Ok(());
            }
            // A root file system with nothing in it: its process needs none.
            let root = cx.dir.join("namespaces");
            tokio::fs::create_dir_all(&root).await.map_err(|error| {
                StepError::new(KIND, format!("{}: {error}", root.display()))
            })?;
            let id = holder_id(&cx.plan);
            let name = ContainerId::new(id.clone())
                .map_err(|error| StepError::new(KIND, error))?;
            let mut spec =
                ContainerSpec::new(name, vec![root], vec!["holder".into()]);
            spec.is_holder = true;
            spec.readonly_rootfs = true;
            spec.cgroup_parent.clone_from(&facts.cgroup);
            spec.capabilities =
                Capabilities { add: vec![], drop: vec!["ALL".into()] };
            spec.no_new_privileges = true;
            spec.log = LogLimits::LEAST;
            let runtime = &cx.services.runtime;
            runtime.create(&spec).await.map_err(StepError::of(KIND))?;
            let started = runtime.start(&id, SecretEnv::default()).await;
            started.map_err(StepError::of(KIND))?;
            facts.holder = Some(id);
            Ok(())
        })
    }

    fn down<'a>(
        &'a self,
        cx: &'a TaskContext,
        facts: &'a mut TaskFacts,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move {
            if !is_shared(&cx.plan) {
                return Ok(());
            }
            let id = holder_id(&cx.plan);
            let runtime = &cx.services.runtime;
            runtime.remove(&id).await.map_err(StepError::of(KIND))?;
            runtime.log_remove(&id).await.map_err(StepError::of(KIND))?;
            facts.holder = None;
            let root = cx.dir.join("namespaces");
            super::volumes::remove_dir(root, KIND).await
        })
    }
}

/// Has a container join what its task shares.
pub(super) fn join(
    cx: &ContainerContext,
    spec: &mut ContainerSpec,
) -> Result<(), StepError> {
    let plan = &cx.task.plan;
    let holder = || {
        let id = cx.task_facts.holder.clone().unwrap_or_default();
        ContainerId::new(id)
            .map(NamespaceMode::Container)
            .map_err(|_| StepError::new(KIND, "nothing holds the namespaces"))
    };
    spec.pid_mode = match plan.pid {
        PidPlan::Own => NamespaceMode::Private,
        PidPlan::Task => holder()?,
        PidPlan::Host => NamespaceMode::Host,
    };
    spec.ipc_mode = match plan.ipc {
        IpcPlan::Own | IpcPlan::None => NamespaceMode::Private,
        IpcPlan::Task => holder()?,
        IpcPlan::Host => NamespaceMode::Host,
    };
    spec.no_shm = plan.ipc == IpcPlan::None;
    Ok(())
}
