//! The task's own network namespace, in `awsvpc` mode, with the way through
//! its proxy; in host mode, the end of the faults that it injected.

use futures_util::future::BoxFuture;

use super::{Step, StepError, TaskContext};
use crate::runtime::TaskInterface;
use crate::task::plan::NetworkPlan;
use crate::task::record::TaskFacts;

pub(super) struct TaskNetwork;

const KIND: &str = "ResourceInitializationError";

impl Step<TaskContext, TaskFacts> for TaskNetwork {
    fn name(&self) -> &'static str {
        "task-network"
    }

    fn up<'a>(
        &'a self,
        cx: &'a TaskContext,
        facts: &'a mut TaskFacts,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move {
            let NetworkPlan::Awsvpc(interface) = &cx.plan.network else {
                return Ok(());
            };
            let interface = TaskInterface {
                task_id: cx.plan.id.clone(),
                mac: interface.mac.clone(),
                ip: interface.ip,
                prefix_len: interface.prefix_len,
                gateway: interface.gateway,
                ipv6: interface.ipv6,
            };
            let netns = cx
                .services
                .runtime
                .task_attach(&interface)
                .await
                .map_err(StepError::of(KIND))?;
            facts.netns = Some(netns);
            if let Some(rules) = &cx.plan.proxy {
                let set = cx.services.runtime.proxy_set(&cx.plan.id, rules);
                set.await.map_err(StepError::of(KIND))?;
            }
            Ok(())
        })
    }

    fn down<'a>(
        &'a self,
        cx: &'a TaskContext,
        facts: &'a mut TaskFacts,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move {
            if cx.plan.network == NetworkPlan::Host && cx.plan.fault_injection {
                let ended = cx.services.runtime.host_faults_end(&cx.plan.id);
                ended.await.map_err(StepError::of(KIND))?;
            }
            if !matches!(cx.plan.network, NetworkPlan::Awsvpc(_)) {
                return Ok(());
            }
            cx.services
                .runtime
                .task_detach(&cx.plan.id)
                .await
                .map_err(StepError::of(KIND))?;
            facts.netns = None;
            Ok(())
        })
    }
}
