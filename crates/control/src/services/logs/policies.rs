//! PutResourcePolicy, DescribeResourcePolicies and DeleteResourcePolicy for
//! policies of the account: who else may send logs here. Nobody else does, so
//! that a policy grants what nothing asks for.

use minato_store::{Key, Row};
use minato_wire::logs::{
    DeleteResourcePolicyRequest, DescribeResourcePoliciesRequest,
    DescribeResourcePoliciesResponse, PolicyScope, PutResourcePolicyRequest,
    PutResourcePolicyResponse, ResourcePolicy, error,
};
use minato_wire::{ApiError, Timestamp};
use serde::{Deserialize, Serialize};

use super::token::invalid_token;
use crate::context::{Context, Scope};
use crate::services::Empty;
use crate::tables::namespace;

/// Policies of an account in a region (CloudWatch Logs quotas).
const MOST_POLICIES: usize = 10;
/// Characters of a policy of the account (`PutResourcePolicy`).
const MOST_CHARACTERS: usize = 5120;
/// Policies on a page, by default and at most.
const PAGE: usize = 50;

/// A policy of an account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ResourcePolicyRow {
    pub(crate) account: String,
    pub(crate) region: String,
    pub(crate) name: String,
    pub(crate) document: String,
    pub(crate) updated_at: Timestamp,
}

impl Row for ResourcePolicyRow {
    const TABLE: &'static str = "logs.resource_policy";

    fn key(&self) -> Key {
        Key::of([&self.account, &self.region, &self.name])
    }
}

impl ResourcePolicyRow {
    fn describe(&self) -> ResourcePolicy {
        ResourcePolicy {
            policy_name: Some(self.name.clone()),
            policy_document: Some(self.document.clone()),
            last_updated_time: Some(self.updated_at.as_millis()),
            policy_scope: Some(PolicyScope::Account),
            ..ResourcePolicy::default()
        }
    }
}

/// Refuses policies of single resources.
fn check_scope(
    resource: Option<&String>,
    revision: Option<&String>,
) -> Result<(), ApiError> {
    if resource.is_none() && revision.is_none() {
        return Ok(());
    }
    Err(error::invalid_parameter_exception(
        "Minato supports resource policies of the account only, without \
         resourceArn and expectedRevisionId.",
    ))
}

fn named(name: Option<String>) -> Result<String, ApiError> {
    name.filter(|name| !name.is_empty()).ok_or_else(|| {
        error::invalid_parameter_exception("policyName must be specified.")
    })
}

pub(super) async fn put_resource_policy(
    cx: &Context,
    scope: &Scope,
    input: PutResourcePolicyRequest,
) -> Result<PutResourcePolicyResponse, ApiError> {
    check_scope(
        input.resource_arn.as_ref(),
        input.expected_revision_id.as_ref(),
    )?;
    let document = input.policy_document.unwrap_or_default();
    let is_object = serde_json::from_str::<serde_json::Value>(&document)
        .is_ok_and(|document| document.is_object());
    if !is_object || document.chars().count() > MOST_CHARACTERS {
        return Err(error::invalid_parameter_exception(
            "policyDocument must be a JSON document of at most 5120 \
             characters.",
        ));
    }
    let row = ResourcePolicyRow {
        account: scope.account.clone(),
        region: scope.region.clone(),
        name: named(input.policy_name)?,
        document,
        updated_at: scope.now,
    };
    cx.transact(move |tx| {
        let namespace = namespace(&row.account, &row.region);
        let count = tx.scan::<ResourcePolicyRow>(&namespace).count();
        let is_new = !tx.contains::<ResourcePolicyRow>(&row.key());
        if is_new && count >= MOST_POLICIES {
            return Err(error::limit_exceeded_exception(
                "Resource limit exceeded.",
            ));
        }
        let resource_policy = Some(row.describe());
        tx.put(row);
        Ok(PutResourcePolicyResponse { resource_policy, revision_id: None })
    })
    .await
}

pub(super) async fn describe_resource_policies(
    cx: &Context,
    scope: &Scope,
    input: DescribeResourcePoliciesRequest,
) -> Result<DescribeResourcePoliciesResponse, ApiError> {
    let ours = input.resource_arn.is_none()
        && input.policy_scope.is_none_or(|s| s == PolicyScope::Account);
    let after = input.next_token.as_deref().map(|token| {
        crate::services::open_token(token).ok_or_else(invalid_token)
    });
    let after = after.transpose()?;
    let limit = input.limit.and_then(|limit| usize::try_from(limit).ok());
    let limit = limit.unwrap_or(PAGE).clamp(1, PAGE);
    let snapshot = cx.snapshot();
    let namespace = namespace(&scope.account, &scope.region);
    let mut rest = snapshot
        .scan::<ResourcePolicyRow>(&namespace)
        .filter(|row| ours && after.as_ref().is_none_or(|a| row.name > *a));
    let page: Vec<_> = rest.by_ref().take(limit).collect();
    let next_token = match (page.last(), rest.next()) {
        (Some(last), Some(_)) => Some(crate::services::seal_token(&last.name)),
        _ => None,
    };
    let policies = page.iter().map(|row| row.describe()).collect();
    Ok(DescribeResourcePoliciesResponse {
        resource_policies: Some(policies),
        next_token,
    })
}

pub(super) async fn delete_resource_policy(
    cx: &Context,
    scope: &Scope,
    input: DeleteResourcePolicyRequest,
) -> Result<Empty, ApiError> {
    check_scope(
        input.resource_arn.as_ref(),
        input.expected_revision_id.as_ref(),
    )?;
    let name = named(input.policy_name)?;
    let key = Key::of([&scope.account, &scope.region, &name]);
    cx.transact(move |tx| {
        tx.delete::<ResourcePolicyRow>(&key).ok_or_else(|| {
            error::resource_not_found_exception(format!(
                "Policy with name [{name}] does not exist"
            ))
        })?;
        Ok(Empty {})
    })
    .await
}
