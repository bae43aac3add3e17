//! Reports on their way to the control plane.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::Semaphore;

use crate::agent::Services;
use crate::api::ApiService;
use crate::backoff::Backoff;

/// Reports on their way at once, of all tasks; the upstream agent's number.
pub(crate) const SUBMITS_MAX: usize = 10;

/// Sends a report until the control plane has it, or will never have it.
pub(crate) async fn submit(
    services: &Services,
    permits: &Semaphore,
    request: Value,
) {
    let mut backoff =
        Backoff::new(Duration::from_secs(1), Duration::from_secs(30), 1.3);
    loop {
        let result = {
            // The semaphore is never closed.
            let _permit = permits.acquire().await;
            services
                .api
                .call(
                    ApiService::Ecs,
                    &services.config.region,
                    "SubmitTaskStateChange",
                    request.clone(),
                )
                .await
        };
        match result {
            Ok(_) => return,
            Err(error) if error.is("InvalidParameterException") => {
                tracing::error!(%error, %request, "a report was refused");
                return;
            }
            Err(error) => {
                tracing::warn!(%error, "a report was not taken yet");
            }
        }
        tokio::time::sleep(backoff.next_delay(services.ids.seed())).await;
    }
}
