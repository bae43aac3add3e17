//! Versions of managed policies.

use minato_wire::ApiError;
use minato_wire::iam::{
    self, CreatePolicyVersionRequest, CreatePolicyVersionResponse,
    DeletePolicyVersionRequest, GetPolicyVersionRequest,
    GetPolicyVersionResponse, ListPolicyVersionsRequest,
    ListPolicyVersionsResponse, SetDefaultPolicyVersionRequest, error,
};

use super::common::{check_document, encode_document};
use super::managed;
use super::policies::{find, key_of_arn, no_such_policy};
use super::rows::{PolicyRow, PolicyVersion};
use crate::context::{Context, Scope};
use crate::services::Empty;

/// Versions of one policy (IAM quotas).
const MAX_VERSIONS: usize = 5;

fn no_such_version(arn: &str, version: &str) -> ApiError {
    error::no_such_entity_exception(format!(
        "Policy {arn} version {version} does not exist or is not attachable."
    ))
}

/// The number in `v3`.
fn number(version: &str) -> Option<u32> {
    version.strip_prefix('v')?.parse().ok()
}

fn describe(
    row: &PolicyRow,
    version: &PolicyVersion,
    with_document: bool,
) -> iam::PolicyVersion {
    iam::PolicyVersion {
        document: with_document.then(|| encode_document(&version.document)),
        version_id: Some(format!("v{}", version.number)),
        is_default_version: Some(version.number == row.default_version),
        create_date: Some(version.created_at),
    }
}

/// Changes a policy of the account.
async fn change<T: Send + 'static>(
    cx: &Context,
    scope: &Scope,
    arn: Option<String>,
    change: impl FnOnce(&mut PolicyRow, &str) -> Result<T, ApiError>
    + Send
    + 'static,
) -> Result<T, ApiError> {
    let account = scope.account.clone();
    cx.transact(move |tx| {
        let arn = arn.unwrap_or_default();
        let row = key_of_arn(&account, &arn)
            .and_then(|key| tx.get::<PolicyRow>(&key))
            .filter(|row| row.arn() == arn)
            .ok_or_else(|| no_such_policy(&arn))?;
        let mut row = PolicyRow::clone(&row);
        let done = change(&mut row, &arn)?;
        tx.put(row);
        Ok(done)
    })
    .await
}

pub(super) async fn create_policy_version(
    cx: &Context,
    scope: &Scope,
    input: CreatePolicyVersionRequest,
) -> Result<CreatePolicyVersionResponse, ApiError> {
    let document = input.policy_document.unwrap_or_default();
    check_document(&document)?;
    let now = scope.now;
    change(cx, scope, input.policy_arn, move |row, _| {
        if row.versions.len() >= MAX_VERSIONS {
            return Err(error::limit_exceeded_exception(format!(
                "A managed policy can have up to {MAX_VERSIONS} versions. \
                 Before you create a new version, you must delete an \
                 existing version."
            )));
        }
        let number = row.next_version;
        row.next_version += 1;
        if input.set_as_default == Some(true) {
            row.default_version = number;
        }
        row.updated_at = now;
        let version = PolicyVersion { number, document, created_at: now };
        let described = describe(row, &version, false);
        row.versions.push(version);
        Ok(CreatePolicyVersionResponse { policy_version: Some(described) })
    })
    .await
}

pub(super) async fn get_policy_version(
    cx: &Context,
    scope: &Scope,
    input: GetPolicyVersionRequest,
) -> Result<GetPolicyVersionResponse, ApiError> {
    let arn = input.policy_arn.unwrap_or_default();
    let version = input.version_id.unwrap_or_default();
    if let Some((path, name)) = managed::parse(&arn) {
        let Some(policy) = managed::find(path, name) else {
            return Err(error::no_such_entity_exception(format!(
                "Minato does not carry the document of {arn}."
            )));
        };
        if version != "v1" {
            return Err(no_such_version(&arn, &version));
        }
        return Ok(GetPolicyVersionResponse {
            policy_version: Some(iam::PolicyVersion {
                document: Some(encode_document(policy.document)),
                version_id: Some(version),
                is_default_version: Some(true),
                create_date: None,
            }),
        });
    }
    let row = find(&cx.snapshot(), scope, &arn)?;
    let found = number(&version)
        .and_then(|n| row.versions.iter().find(|v| v.number == n))
        .ok_or_else(|| no_such_version(&arn, &version))?;
    Ok(GetPolicyVersionResponse {
        policy_version: Some(describe(&row, found, true)),
    })
}

pub(super) async fn list_policy_versions(
    cx: &Context,
    scope: &Scope,
    input: ListPolicyVersionsRequest,
) -> Result<ListPolicyVersionsResponse, ApiError> {
    let arn = input.policy_arn.unwrap_or_default();
    let marker = input.marker.as_deref();
    if managed::parse(&arn).is_some() {
        return Ok(ListPolicyVersionsResponse {
            versions: Some(vec![iam::PolicyVersion {
                version_id: Some("v1".to_owned()),
                is_default_version: Some(true),
                ..iam::PolicyVersion::default()
            }]),
            is_truncated: Some(false),
            marker: None,
        });
    }
    let row = find(&cx.snapshot(), scope, &arn)?;
    // Newest first, as IAM lists them. A page is cut by position.
    let skip = match marker {
        None => 0,
        Some(marker) => crate::services::open_token(marker)
            .and_then(|place| place.parse().ok())
            .ok_or_else(|| {
                ApiError::new("ValidationError", 400, "Invalid Marker.")
            })?,
    };
    let size = input.max_items.and_then(|n| usize::try_from(n).ok());
    let size = size.unwrap_or(MAX_VERSIONS).max(1);
    let rest: Vec<&PolicyVersion> =
        row.versions.iter().rev().skip(skip).collect();
    let page = rest.iter().take(size);
    let more = rest.len() > size;
    Ok(ListPolicyVersionsResponse {
        versions: Some(page.map(|v| describe(&row, v, false)).collect()),
        is_truncated: Some(more),
        marker: more
            .then(|| crate::services::seal_token(&(skip + size).to_string())),
    })
}

pub(super) async fn delete_policy_version(
    cx: &Context,
    scope: &Scope,
    input: DeletePolicyVersionRequest,
) -> Result<Empty, ApiError> {
    change(cx, scope, input.policy_arn, move |row, arn| {
        let version = input.version_id.unwrap_or_default();
        let found = number(&version)
            .and_then(|n| row.versions.iter().position(|v| v.number == n));
        let Some(at) = found else {
            return Err(no_such_version(arn, &version));
        };
        if row.versions[at].number == row.default_version {
            return Err(error::delete_conflict_exception(
                "Cannot delete the default version of a policy.",
            ));
        }
        row.versions.remove(at);
        Ok(Empty {})
    })
    .await
}

pub(super) async fn set_default_policy_version(
    cx: &Context,
    scope: &Scope,
    input: SetDefaultPolicyVersionRequest,
) -> Result<Empty, ApiError> {
    let now = scope.now;
    change(cx, scope, input.policy_arn, move |row, arn| {
        let version = input.version_id.unwrap_or_default();
        let found = number(&version)
            .filter(|n| row.versions.iter().any(|v| v.number == *n));
        row.default_version =
            found.ok_or_else(|| no_such_version(arn, &version))?;
        row.updated_at = now;
        Ok(Empty {})
    })
    .await
}
