//! Managed policies.

use std::sync::Arc;

use minato_store::{Key, Row as _, Snapshot, Tx};
use minato_wire::iam::{
    CreatePolicyRequest, CreatePolicyResponse, DeletePolicyRequest,
    GetPolicyRequest, GetPolicyResponse, ListPoliciesRequest,
    ListPoliciesResponse, Policy, PolicyScopeType, PolicyUsageType, error,
};
use minato_wire::{ApiError, Timestamp};

use super::common::{
    Tags, add_tags, check_document, page, tag_list, unique_id,
};
use super::managed;
use super::rows::{PolicyRow, PolicyVersion, RoleRow};
use crate::context::{Context, Scope};
use crate::services::{Empty, partition_of};

/// When AWS's policies say they were made; any fixed day does.
const EPOCH: Timestamp = Timestamp::from_millis(1_423_094_400_000);

/// The account's policy that an ARN names.
pub(super) fn key_of_arn(account: &str, arn: &str) -> Option<Key> {
    let name = arn.rsplit('/').next()?;
    let is_ours = arn.split(':').nth(4) == Some(account);
    is_ours.then(|| PolicyRow::key_of(account, name))
}

/// Whether a policy may be attached.
pub(super) fn exists(tx: &Tx, account: &str, arn: &str) -> bool {
    managed::parse(arn).is_some()
        || key_of_arn(account, arn)
            .and_then(|key| tx.get::<PolicyRow>(&key))
            .is_some_and(|row| row.arn() == arn)
}

pub(super) fn no_such_policy(arn: &str) -> ApiError {
    error::no_such_entity_exception(format!("Policy {arn} was not found."))
}

/// The account's policy that an ARN names.
pub(super) fn find(
    snapshot: &Snapshot,
    scope: &Scope,
    arn: &str,
) -> Result<Arc<PolicyRow>, ApiError> {
    key_of_arn(&scope.account, arn)
        .and_then(|key| snapshot.get::<PolicyRow>(&key))
        .filter(|row| row.arn() == arn)
        .ok_or_else(|| no_such_policy(arn))
}

pub(super) async fn create_policy(
    cx: &Context,
    scope: &Scope,
    input: CreatePolicyRequest,
) -> Result<CreatePolicyResponse, ApiError> {
    let document = input.policy_document.unwrap_or_default();
    check_document(&document)?;
    let mut tags = Tags::new();
    add_tags(&mut tags, input.tags)?;
    let row = PolicyRow {
        account: scope.account.clone(),
        name: input.policy_name.unwrap_or_default(),
        path: input.path.unwrap_or_else(|| "/".to_owned()),
        id: unique_id("ANPA", cx.ids.uuid()),
        partition: partition_of(&scope.region).to_owned(),
        description: input.description,
        tags,
        versions: vec![PolicyVersion {
            number: 1,
            document,
            created_at: scope.now,
        }],
        default_version: 1,
        next_version: 2,
        created_at: scope.now,
        updated_at: scope.now,
    };
    let policy = describe(&row, 0);
    cx.transact(move |tx| {
        if tx.contains::<PolicyRow>(&row.key()) {
            return Err(error::entity_already_exists_exception(format!(
                "A policy called {} already exists. Duplicate names are not \
                 allowed.",
                row.name
            )));
        }
        tx.put(row);
        Ok(())
    })
    .await?;
    Ok(CreatePolicyResponse { policy: Some(policy) })
}

fn describe(row: &PolicyRow, attachments: usize) -> Policy {
    let tags = tag_list(&row.tags);
    Policy {
        policy_name: Some(row.name.clone()),
        policy_id: Some(row.id.clone()),
        arn: Some(row.arn()),
        path: Some(row.path.clone()),
        default_version_id: Some(format!("v{}", row.default_version)),
        attachment_count: i32::try_from(attachments).ok(),
        permissions_boundary_usage_count: Some(0),
        is_attachable: Some(true),
        description: row.description.clone(),
        create_date: Some(row.created_at),
        update_date: Some(row.updated_at),
        tags: Some(tags).filter(|tags| !tags.is_empty()),
    }
}

fn describe_managed(arn: &str, attachments: usize) -> Option<Policy> {
    let (path, name) = managed::parse(arn)?;
    Some(Policy {
        policy_name: Some(name.to_owned()),
        policy_id: Some(managed::id_of(name)),
        arn: Some(arn.to_owned()),
        path: Some(path.to_owned()),
        default_version_id: Some("v1".to_owned()),
        attachment_count: i32::try_from(attachments).ok(),
        permissions_boundary_usage_count: Some(0),
        is_attachable: Some(true),
        create_date: Some(EPOCH),
        update_date: Some(EPOCH),
        ..Policy::default()
    })
}

/// How many roles have the policy attached.
fn attachments(snapshot: &Snapshot, account: &str, arn: &str) -> usize {
    snapshot
        .scan::<RoleRow>(&Key::of([account]))
        .filter(|role| role.attached.iter().any(|attached| attached == arn))
        .count()
}

pub(super) async fn get_policy(
    cx: &Context,
    scope: &Scope,
    input: GetPolicyRequest,
) -> Result<GetPolicyResponse, ApiError> {
    let snapshot = cx.snapshot();
    let arn = input.policy_arn.unwrap_or_default();
    let count = attachments(&snapshot, &scope.account, &arn);
    let policy = match describe_managed(&arn, count) {
        Some(policy) => policy,
        None => describe(&*find(&snapshot, scope, &arn)?, count),
    };
    Ok(GetPolicyResponse { policy: Some(policy) })
}

pub(super) async fn list_policies(
    cx: &Context,
    scope: &Scope,
    input: ListPoliciesRequest,
) -> Result<ListPoliciesResponse, ApiError> {
    let snapshot = cx.snapshot();
    let account = &scope.account;
    let which = input.scope.unwrap_or(PolicyScopeType::All);
    let mut found = vec![];
    if which != PolicyScopeType::Aws {
        for row in snapshot.scan::<PolicyRow>(&Key::of([account])) {
            let count = attachments(&snapshot, account, &row.arn());
            // Lists leave out descriptions and tags.
            let policy = describe(&row, count);
            found.push(Policy { description: None, tags: None, ..policy });
        }
    }
    if which != PolicyScopeType::Local {
        let partition = partition_of(&scope.region);
        for policy in managed::MANAGED {
            let managed::Managed { path, name, .. } = policy;
            let arn = format!("arn:{partition}:iam::aws:policy{path}{name}");
            let count = attachments(&snapshot, account, &arn);
            found.extend(describe_managed(&arn, count));
        }
    }
    let prefix = input.path_prefix.unwrap_or_else(|| "/".to_owned());
    // Nothing is used as a boundary only, so that filter leaves nothing.
    let boundaries =
        input.policy_usage_filter == Some(PolicyUsageType::PermissionsBoundary);
    let only_attached = input.only_attached.unwrap_or(false);
    found.retain(|policy| {
        let path = policy.path.as_deref().unwrap_or_default();
        let attached = policy.attachment_count.unwrap_or(0) > 0;
        path.starts_with(&prefix) && (attached || !only_attached) && !boundaries
    });
    found.sort_by(|a, b| a.policy_name.cmp(&b.policy_name));
    let name = |policy: &Policy| policy.policy_name.clone();
    let named: Vec<(String, Policy)> =
        found.into_iter().map(|p| (name(&p).unwrap_or_default(), p)).collect();
    let marker = input.marker.as_deref();
    let page = page(named, |(name, _)| name, input.max_items, marker)?;
    Ok(ListPoliciesResponse {
        is_truncated: page.is_truncated(),
        policies: Some(page.items.into_iter().map(|(_, p)| p).collect()),
        marker: page.marker,
    })
}

pub(super) async fn delete_policy(
    cx: &Context,
    scope: &Scope,
    input: DeletePolicyRequest,
) -> Result<Empty, ApiError> {
    let account = scope.account.clone();
    cx.transact(move |tx| {
        let arn = input.policy_arn.unwrap_or_default();
        let row = key_of_arn(&account, &arn)
            .and_then(|key| tx.get::<PolicyRow>(&key))
            .filter(|row| row.arn() == arn)
            .ok_or_else(|| no_such_policy(&arn))?;
        let in_use = tx.scan::<RoleRow>(&Key::of([&account])).any(|role| {
            role.attached.contains(&arn) || role.boundary.as_ref() == Some(&arn)
        });
        if in_use {
            return Err(error::delete_conflict_exception(
                "Cannot delete a policy attached to entities.",
            ));
        }
        if row.versions.len() > 1 {
            return Err(error::delete_conflict_exception(
                "This policy has more than one version. Before you delete a \
                 policy, you must delete the policy's versions. The default \
                 version is deleted with the policy.",
            ));
        }
        tx.delete::<PolicyRow>(&row.key());
        Ok(Empty {})
    })
    .await
}
