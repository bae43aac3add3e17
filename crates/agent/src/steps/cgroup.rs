//! The task's cgroup, with its limits on CPU time and memory.

use futures_util::future::BoxFuture;

use super::{Step, StepError, TaskContext};
use crate::runtime::TaskLimits;
use crate::task::plan::TaskPlan;
use crate::task::record::TaskFacts;

pub(super) struct TaskCgroup;

const KIND: &str = "ResourceInitializationError";

impl Step<TaskContext, TaskFacts> for TaskCgroup {
    fn name(&self) -> &'static str {
        "task-cgroup"
    }

    fn up<'a>(
        &'a self,
        cx: &'a TaskContext,
        facts: &'a mut TaskFacts,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move {
            let limits = limits(&cx.plan);
            let cgroup = cx
                .services
                .runtime
                .cgroup_create(&cx.plan.id, &limits)
                .await
                .map_err(StepError::of(KIND))?;
            facts.cgroup = Some(cgroup);
            Ok(())
        })
    }

    fn down<'a>(
        &'a self,
        cx: &'a TaskContext,
        facts: &'a mut TaskFacts,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move {
            cx.services
                .runtime
                .cgroup_remove(&cx.plan.id)
                .await
                .map_err(StepError::of(KIND))?;
            facts.cgroup = None;
            Ok(())
        })
    }
}

/// A task without a CPU limit gets the weight of its containers together.
fn limits(plan: &TaskPlan) -> TaskLimits {
    let shares: u64 =
        plan.containers.iter().map(|container| container.cpu_shares).sum();
    TaskLimits {
        cpus: plan.cpus,
        cpu_shares: plan.cpus.is_none().then_some(shares),
        memory_bytes: plan.memory_bytes,
    }
}
