//! AWS Secrets Manager: secrets, their versions and staging labels.
//!
//! Values are sealed before they come near the store ([`crate::seal`]).
//! Rotation schedules and resource policies are kept; nothing runs or
//! evaluates them.

mod list;
mod lookup;
mod password;
mod policies;
mod rotation;
pub(crate) mod rows;
mod secrets;
pub(crate) mod sweep;
#[cfg(test)]
mod tests;
mod values;
mod versions;

use minato_store::Tables;
use minato_wire::ApiError;
use minato_wire::secretsmanager::error;

use super::operations;
use crate::coverage::Support;
use crate::seal::SealError;

/// The error of an operation that Minato does not serve.
fn unserved(message: String) -> ApiError {
    error::invalid_request_exception(message)
}

/// Adds the table of the service.
pub(crate) fn tables(tables: Tables) -> Tables {
    tables.with::<rows::SecretRow>()
}

const REPLICAS: &str = "a secret lives in one region here";

operations! {
    served {
        "BatchGetSecretValue", Support::Full => values::batch_get_secret_value;
        "CancelRotateSecret", Support::Full => rotation::cancel_rotate_secret;
        "CreateSecret", Support::Partial("no replicas, no external secret types; KMS keys are noted, Minato's own key seals") => secrets::create_secret;
        "DeleteResourcePolicy", Support::Full => policies::delete_resource_policy;
        "DeleteSecret", Support::Full => secrets::delete_secret;
        "DescribeSecret", Support::Full => secrets::describe_secret;
        "GetRandomPassword", Support::Full => password::get_random_password;
        "GetResourcePolicy", Support::Full => policies::get_resource_policy;
        "GetSecretValue", Support::Full => values::get_secret_value;
        "ListSecretVersionIds", Support::Full => versions::list_secret_version_ids;
        "ListSecrets", Support::Full => list::list_secrets;
        "PutResourcePolicy", Support::Partial("kept, not evaluated") => policies::put_resource_policy;
        "PutSecretValue", Support::Full => values::put_secret_value;
        "RestoreSecret", Support::Full => secrets::restore_secret;
        "RotateSecret", Support::Partial("the schedule is kept; no Lambda function runs") => rotation::rotate_secret;
        "TagResource", Support::Full => secrets::tag_resource;
        "UntagResource", Support::Full => secrets::untag_resource;
        "UpdateSecret", Support::Partial("no external secret types") => secrets::update_secret;
        "UpdateSecretVersionStage", Support::Full => versions::update_secret_version_stage;
        "ValidateResourcePolicy", Support::Partial("checks form and public access") => policies::validate_resource_policy;
    }
    refused {
        "RemoveRegionsFromReplication": REPLICAS;
        "ReplicateSecretToRegions": REPLICAS;
        "StopReplicationToReplica": REPLICAS;
    }
}

/// A value could not be sealed.
fn not_sealed(failure: &SealError) -> ApiError {
    error::encryption_failure(
        "Secrets Manager can't encrypt the protected secret text.",
    )
    .with_internal(failure.to_string())
}

/// A value could not be opened.
fn not_opened(failure: &SealError) -> ApiError {
    tracing::error!(details = %failure, "a secret does not open");
    error::decryption_failure(
        "Secrets Manager can't decrypt the protected secret text using the \
         provided KMS key.",
    )
    .with_internal(failure.to_string())
}
