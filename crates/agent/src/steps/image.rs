//! The image, as `ECS_IMAGE_PULL_BEHAVIOR` says: by default from its registry,
//! or the local one where that fails. A private registry is shown the
//! container's own credentials.

use futures_util::future::BoxFuture;

use minato_core::task_definition::is_ecr_image;

use super::{ContainerContext, Step, StepError, login};
use crate::runtime::{RuntimeError, RuntimeErrorKind};
use crate::task::record::ContainerFacts;

pub(super) struct PullImage;

impl Step<ContainerContext, ContainerFacts> for PullImage {
    fn name(&self) -> &'static str {
        "image"
    }

    fn is_interruptible(&self) -> bool {
        true
    }

    fn up<'a>(
        &'a self,
        cx: &'a ContainerContext,
        facts: &'a mut ContainerFacts,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move {
            // After a restart the container goes on with the image it has.
            if facts.image.is_some() {
                return Ok(());
            }
            let login = login::fetch(cx).await?;
            let services = &cx.task.services;
            let behavior = services.config.pull_behavior;
            let pulled = services
                .runtime
                .image_pull(&cx.plan.image, login.as_ref(), behavior)
                .await
                .map_err(|error| pull_error(&error, &cx.plan.image))?;
            facts.image = Some(pulled);
            Ok(())
        })
    }

    fn down<'a>(
        &'a self,
        _cx: &'a ContainerContext,
        _facts: &'a mut ContainerFacts,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        // Images stay: they are the next container's, too.
        Box::pin(async { Ok(()) })
    }
}

/// What to do where nobody logs in: Minato asks ECR for no token.
const ECR_HINT: &str = "Minato has no login for Amazon ECR: load the image \
    with `minato image load`, or name a mirror of the registry with \
    `minato up --mirror`";

fn pull_error(error: &RuntimeError, image: &str) -> StepError {
    let kind = match error.kind {
        RuntimeErrorKind::Manifest => "CannotPullImageManifestError",
        RuntimeErrorKind::Unauthorized
        | RuntimeErrorKind::NotFound
        | RuntimeErrorKind::Lost
        | RuntimeErrorKind::Other => "CannotPullContainerError",
    };
    if is_ecr_image(image) {
        return StepError::new(kind, format!("{error} ({ECR_HINT})"));
    }
    StepError::new(kind, error)
}
