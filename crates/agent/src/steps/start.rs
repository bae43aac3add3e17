//! Starting the container, and starting it again.

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::{ContainerContext, Step, StepError, UpError, secrets};
use crate::task::record::ContainerFacts;

pub(super) struct Start;

const KIND: &str = "CannotStartContainerError";

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
            let secrets = secrets::for_start(cx, facts).await?;
            let started = cx
                .task
                .services
                .runtime
                .start(&cx.plan.id, secrets)
                .await
                .map_err(StepError::of(KIND))?;
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

/// Starts a container again that ended at the time given.
///
/// Everything else of it is still there: no other step is repeated.
pub(crate) async fn restart(
    cx: &ContainerContext,
    facts: &mut ContainerFacts,
    ended_at_ms: i64,
    cancel: &CancellationToken,
) -> Result<(), UpError> {
    let failed = |error| UpError::Failed { step: "start", error };
    let secrets = tokio::select! {
        biased;
        () = cancel.cancelled() => return Err(UpError::Cancelled),
        secrets = secrets::fetched(cx) => secrets.map_err(failed)?.clone(),
    };
    let runtime = &cx.task.services.runtime;
    let started = runtime
        .restart(&cx.plan.id, ended_at_ms, secrets)
        .await
        .map_err(|error| failed(StepError::of(KIND)(error)))?;
    facts.started_at_ms = Some(started.at_ms);
    Ok(())
}
