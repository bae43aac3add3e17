//! In whose name a container's step asks S3 for objects.

use std::time::Duration;

use minato_client::Credentials;

use super::ContainerContext;
use crate::objects::S3Config;

/// How long a new agent waits for credentials it was not sent yet.
const CREDENTIALS_WAIT: Duration = Duration::from_secs(60);
/// How often it looks for them.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Why S3 cannot be asked at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoAccess {
    /// Nobody said where it is.
    #[error("this agent knows no endpoint of S3 (--s3-endpoint)")]
    Endpoint,
    /// There is nobody in whose name to ask.
    #[error("unable to get execution role credentials")]
    Credentials,
}

/// Where S3 is, and the credentials of the execution role, or those that the
/// agent was given for S3.
pub(super) async fn s3_access(
    cx: &ContainerContext,
) -> Result<(&S3Config, Credentials), NoAccess> {
    let services = &cx.task.services;
    let config = services.config.s3.as_ref().ok_or(NoAccess::Endpoint)?;
    if let Some(credentials) = &config.credentials {
        return Ok((config, credentials.clone()));
    }
    let id = cx.task.plan.execution_credentials_id.as_ref();
    let id = id.ok_or(NoAccess::Credentials)?;
    let sent = async {
        loop {
            if let Some(set) = services.credentials.get(id) {
                return set;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let set = tokio::time::timeout(CREDENTIALS_WAIT, sent)
        .await
        .map_err(|_| NoAccess::Credentials)?;
    let credentials = Credentials {
        access_key_id: set.access_key_id.unwrap_or_default(),
        secret_access_key: set.secret_access_key.unwrap_or_default(),
        session_token: set.session_token.filter(|token| !token.is_empty()),
    };
    Ok((config, credentials))
}
