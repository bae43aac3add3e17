//! The destination of the container's output: a container whose log group is
//! missing does not start.

use futures_util::future::BoxFuture;

use super::{ContainerContext, Step, StepError};
use crate::logs;
use crate::runtime::error_chain;
use crate::task::record::ContainerFacts;

pub(super) struct LogDestination;

impl Step<ContainerContext, ContainerFacts> for LogDestination {
    fn name(&self) -> &'static str {
        "log"
    }

    fn is_interruptible(&self) -> bool {
        true
    }

    fn up<'a>(
        &'a self,
        cx: &'a ContainerContext,
        _facts: &'a mut ContainerFacts,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move {
            logs::prepare(cx).await.map_err(|error| {
                let error = error_chain(&error);
                // Fargate and the EC2 agent word it differently.
                if cx.task.plan.is_fargate() {
                    StepError::new(
                        "ResourceInitializationError",
                        format!("failed to validate logger args: {error}"),
                    )
                } else {
                    StepError::new(
                        "CannotStartContainerError",
                        format!("failed to initialize logging driver: {error}"),
                    )
                }
            })
        })
    }

    fn down<'a>(
        &'a self,
        _cx: &'a ContainerContext,
        _facts: &'a mut ContainerFacts,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        // Streams are the user's; they outlive the task.
        Box::pin(async { Ok(()) })
    }
}
