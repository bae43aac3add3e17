//! Starting the container.

use futures_util::future::BoxFuture;

use super::{ContainerContext, Step, StepError, secrets};
use crate::task::record::ContainerFacts;

pub(super) struct Start;

impl Step<ContainerContext, ContainerFacts> for Start {
    fn name(&self) -> &'static str {
        "start"
    }

    fn up<'a>(
        &'a self,
        cx: &'a ContainerContext,
        facts: &'a mut ContainerFacts,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move {
            let secrets = secrets::fetched(cx).await?.clone();
            let started = cx
                .task
                .services
                .runtime
                .start(&cx.plan.id, secrets)
                .await
                .map_err(StepError::of("CannotStartContainerError"))?;
            facts.started_at_ms = Some(started.at_ms);
            Ok(())
        })
    }

    fn down<'a>(
        &'a self,
        _cx: &'a ContainerContext,
        _facts: &'a mut ContainerFacts,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        // Removing the container, the next step down, kills what still runs.
        Box::pin(async { Ok(()) })
    }
}
