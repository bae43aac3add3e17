//! Policies of roles: attached and inline.

use minato_wire::ApiError;
use minato_wire::iam::{
    AttachRolePolicyRequest, AttachedPolicy, DeleteRolePolicyRequest,
    DetachRolePolicyRequest, GetRolePolicyRequest, GetRolePolicyResponse,
    ListAttachedRolePoliciesRequest, ListAttachedRolePoliciesResponse,
    ListRolePoliciesRequest, ListRolePoliciesResponse, PutRolePolicyRequest,
    error,
};

use super::common::{change_role, check_document, encode_document, page, role};
use super::policies::exists;
use crate::context::{Context, Scope};
use crate::services::Empty;

/// Managed policies on one role (IAM quotas).
const MAX_ATTACHED: usize = 10;

pub(super) async fn attach_role_policy(
    cx: &Context,
    scope: &Scope,
    input: AttachRolePolicyRequest,
) -> Result<Empty, ApiError> {
    change_role(cx, scope, input.role_name, move |tx, row| {
        let arn = input.policy_arn.unwrap_or_default();
        if !exists(tx, &row.account, &arn) {
            return Err(error::no_such_entity_exception(format!(
                "Policy {arn} does not exist or is not attachable."
            )));
        }
        if !row.attached.contains(&arn) {
            if row.attached.len() >= MAX_ATTACHED {
                return Err(error::limit_exceeded_exception(format!(
                    "Cannot exceed quota for PoliciesPerRole: {MAX_ATTACHED}"
                )));
            }
            row.attached.push(arn);
        }
        Ok(Empty {})
    })
    .await
}

pub(super) async fn detach_role_policy(
    cx: &Context,
    scope: &Scope,
    input: DetachRolePolicyRequest,
) -> Result<Empty, ApiError> {
    change_role(cx, scope, input.role_name, move |_, row| {
        let arn = input.policy_arn.unwrap_or_default();
        let before = row.attached.len();
        row.attached.retain(|attached| *attached != arn);
        if row.attached.len() == before {
            return Err(error::no_such_entity_exception(format!(
                "Policy {arn} was not found."
            )));
        }
        Ok(Empty {})
    })
    .await
}

pub(super) async fn list_attached_role_policies(
    cx: &Context,
    scope: &Scope,
    input: ListAttachedRolePoliciesRequest,
) -> Result<ListAttachedRolePoliciesResponse, ApiError> {
    let row = role(&cx.snapshot(), scope, input.role_name.as_deref())?;
    let prefix = input.path_prefix.unwrap_or_else(|| "/".to_owned());
    let mut arns: Vec<&String> = row
        .attached
        .iter()
        .filter(|arn| {
            let resource = arn.splitn(6, ':').nth(5).unwrap_or_default();
            resource
                .strip_prefix("policy")
                .is_some_and(|path| path.starts_with(&prefix))
        })
        .collect();
    arns.sort();
    let marker = input.marker.as_deref();
    let page = page(arns, |arn| arn, input.max_items, marker)?;
    let attached = page.items.iter().map(|arn| AttachedPolicy {
        policy_name: arn.rsplit('/').next().map(str::to_owned),
        policy_arn: Some((*arn).clone()),
    });
    Ok(ListAttachedRolePoliciesResponse {
        attached_policies: Some(attached.collect()),
        is_truncated: page.is_truncated(),
        marker: page.marker,
    })
}

pub(super) async fn put_role_policy(
    cx: &Context,
    scope: &Scope,
    input: PutRolePolicyRequest,
) -> Result<Empty, ApiError> {
    let document = input.policy_document.unwrap_or_default();
    check_document(&document)?;
    change_role(cx, scope, input.role_name, move |_, row| {
        row.inline.insert(input.policy_name.unwrap_or_default(), document);
        Ok(Empty {})
    })
    .await
}

fn no_such_inline(name: &str) -> ApiError {
    error::no_such_entity_exception(format!(
        "The role policy with name {name} cannot be found."
    ))
}

pub(super) async fn get_role_policy(
    cx: &Context,
    scope: &Scope,
    input: GetRolePolicyRequest,
) -> Result<GetRolePolicyResponse, ApiError> {
    let row = role(&cx.snapshot(), scope, input.role_name.as_deref())?;
    let name = input.policy_name.unwrap_or_default();
    let document = row.inline.get(&name);
    let document = document.ok_or_else(|| no_such_inline(&name))?;
    Ok(GetRolePolicyResponse {
        role_name: Some(row.name.clone()),
        policy_document: Some(encode_document(document)),
        policy_name: Some(name),
    })
}

pub(super) async fn delete_role_policy(
    cx: &Context,
    scope: &Scope,
    input: DeleteRolePolicyRequest,
) -> Result<Empty, ApiError> {
    change_role(cx, scope, input.role_name, move |_, row| {
        let name = input.policy_name.unwrap_or_default();
        let deleted = row.inline.remove(&name);
        deleted.map(|_| Empty {}).ok_or_else(|| no_such_inline(&name))
    })
    .await
}

pub(super) async fn list_role_policies(
    cx: &Context,
    scope: &Scope,
    input: ListRolePoliciesRequest,
) -> Result<ListRolePoliciesResponse, ApiError> {
    let row = role(&cx.snapshot(), scope, input.role_name.as_deref())?;
    let marker = input.marker.as_deref();
    let names = row.inline.keys().cloned();
    let page = page(names, |name| name, input.max_items, marker)?;
    Ok(ListRolePoliciesResponse {
        is_truncated: page.is_truncated(),
        policy_names: Some(page.items),
        marker: page.marker,
    })
}
