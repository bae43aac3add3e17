//! Where the output of a session is written down: what the cluster says, and
//! whether it can be done.

use minato_wire::ApiError;
use minato_wire::acs::SessionLogging;
use minato_wire::ecs::{
    ExecuteCommandConfiguration, ExecuteCommandLogConfiguration,
    ExecuteCommandLogging, error,
};

/// What is to be done with a session's output. `knows_s3` says whether the
/// agent of its host knows where S3 is.
///
/// What the cluster asks for and cannot have is refused here rather than left
/// out: whoever reads the log later could not tell.
pub(super) fn logging(
    exec: Option<&ExecuteCommandConfiguration>,
    knows_s3: bool,
) -> Result<SessionLogging, ApiError> {
    let Some(exec) = exec else { return Ok(SessionLogging::Default) };
    let ExecuteCommandConfiguration { kms_key_id, logging, log_configuration } =
        exec;
    if kms_key_id.as_deref().is_some_and(|key| !key.is_empty()) {
        return Err(refused(
            "kmsKeyId",
            "Minato has no KMS to encrypt a session's data with",
        ));
    }
    match logging {
        Some(ExecuteCommandLogging::None) => Ok(SessionLogging::None),
        Some(ExecuteCommandLogging::Override) => match log_configuration {
            Some(to) => places(to, knows_s3),
            None => Ok(SessionLogging::None),
        },
        // "If no logging parameter is specified, it defaults to this value."
        Some(ExecuteCommandLogging::Default) | None => {
            Ok(SessionLogging::Default)
        }
    }
}

fn places(
    to: &ExecuteCommandLogConfiguration,
    knows_s3: bool,
) -> Result<SessionLogging, ApiError> {
    let named =
        |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
    let log_group = named(&to.cloud_watch_log_group_name);
    let bucket = named(&to.s3_bucket_name);
    if log_group.is_some() && to.cloud_watch_encryption_enabled == Some(true) {
        return Err(refused(
            "cloudWatchEncryptionEnabled",
            "no log group of Minato's is encrypted with a key of KMS",
        ));
    }
    if bucket.is_some() && to.s3_encryption_enabled == Some(true) {
        return Err(refused(
            "s3EncryptionEnabled",
            "Minato does not ask S3 whether a bucket is encrypted",
        ));
    }
    if bucket.is_some() && !knows_s3 {
        return Err(refused(
            "s3BucketName",
            "the agent of the task's host knows no endpoint of S3 \
             (--s3-endpoint)",
        ));
    }
    let key_prefix = named(&to.s3_key_prefix);
    Ok(SessionLogging::Override { log_group, bucket, key_prefix })
}

fn refused(member: &str, why: &str) -> ApiError {
    error::client_exception(format!(
        "The execute command failed because of {member} in the cluster's \
         executeCommandConfiguration: {why}."
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(exec: &Value, knows_s3: bool) -> Result<SessionLogging, String> {
        let exec: Option<ExecuteCommandConfiguration> =
            serde_json::from_value(exec.clone()).unwrap();
        logging(exec.as_ref(), knows_s3).map_err(|error| {
            assert_eq!(error.code(), "ClientException");
            error.message().to_owned()
        })
    }

    #[test]
    fn a_session_is_logged_where_the_cluster_says() {
        for (exec, expected) in [
            (json!(null), SessionLogging::Default),
            (json!({}), SessionLogging::Default),
            (json!({"logging": "DEFAULT"}), SessionLogging::Default),
            (json!({"logging": "NONE"}), SessionLogging::None),
            (
                json!({"logging": "OVERRIDE", "logConfiguration": {
                    "cloudWatchLogGroupName": "/g", "s3BucketName": "b",
                    "s3KeyPrefix": "p/", "s3EncryptionEnabled": false,
                }}),
                SessionLogging::Override {
                    log_group: Some("/g".into()),
                    bucket: Some("b".into()),
                    key_prefix: Some("p/".into()),
                },
            ),
        ] {
            assert_eq!(of(&exec, true), Ok(expected), "{exec}");
        }
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_its_name() {
        let to = |places: Value| json!({"logging": "OVERRIDE", "logConfiguration": places});
        for (exec, knows_s3, member) in [
            (json!({"kmsKeyId": "k", "logging": "NONE"}), true, "kmsKeyId"),
            (
                to(json!({"cloudWatchLogGroupName": "/g",
                    "cloudWatchEncryptionEnabled": true})),
                true,
                "cloudWatchEncryptionEnabled",
            ),
            (
                to(json!({"s3BucketName": "b", "s3EncryptionEnabled": true})),
                true,
                "s3EncryptionEnabled",
            ),
            (to(json!({"s3BucketName": "b"})), false, "s3BucketName"),
        ] {
            let said = of(&exec, knows_s3).unwrap_err();
            assert!(said.contains(&format!(" {member} ")), "{said}");
        }
    }
}
