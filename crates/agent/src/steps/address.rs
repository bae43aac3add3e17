//! The container's address on the host's bridge, in bridge mode.

use futures_util::future::BoxFuture;

use super::{ContainerContext, Step, StepError};
use crate::task::plan::NetworkPlan;
use crate::task::record::ContainerFacts;

pub(super) struct Address;

const KIND: &str = "ContainerNetworkingError";

/// Whether the container stands on the bridge.
pub(super) fn is_bridged(cx: &ContainerContext) -> bool {
    cx.task.plan.network == NetworkPlan::Bridge && !cx.plan.network_disabled
}

impl Step<ContainerContext, ContainerFacts> for Address {
    fn name(&self) -> &'static str {
        "address"
    }

    fn up<'a>(
        &'a self,
        cx: &'a ContainerContext,
        facts: &'a mut ContainerFacts,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move {
            if !is_bridged(cx) {
                return Ok(());
            }
            let address = cx
                .task
                .services
                .runtime
                .bridge_attach(&cx.plan.id)
                .await
                .map_err(StepError::of(KIND))?;
            facts.address = Some(address);
            Ok(())
        })
    }

    fn down<'a>(
        &'a self,
        cx: &'a ContainerContext,
        facts: &'a mut ContainerFacts,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move {
            if !is_bridged(cx) {
                return Ok(());
            }
            cx.task
                .services
                .runtime
                .bridge_detach(&cx.plan.id)
                .await
                .map_err(StepError::of(KIND))?;
            facts.address = None;
            Ok(())
        })
    }
}
