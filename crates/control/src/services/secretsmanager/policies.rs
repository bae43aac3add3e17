//! Resource policies: kept and checked for form, not evaluated.

use minato_wire::ApiError;
use minato_wire::secretsmanager::{
    DeleteResourcePolicyRequest, DeleteResourcePolicyResponse,
    GetResourcePolicyRequest, GetResourcePolicyResponse,
    PutResourcePolicyRequest, PutResourcePolicyResponse,
    ValidateResourcePolicyRequest, ValidateResourcePolicyResponse,
    ValidationErrorsEntry, error,
};
use serde_json::Value;

use super::lookup;
use crate::context::{Context, Scope};

/// What a policy grants the whole world.
enum Reach {
    Some,
    Everybody,
}

/// Reads a policy, as far as its form and its reach go.
fn check(policy: &str) -> Result<Reach, ApiError> {
    let malformed = || {
        error::malformed_policy_document_exception(
            "This resource policy contains invalid Json or lacks statements.",
        )
    };
    let policy: Value =
        serde_json::from_str(policy).map_err(|_| malformed())?;
    let statements = match &policy["Statement"] {
        Value::Array(list) => list.as_slice(),
        one @ Value::Object(_) => std::slice::from_ref(one),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            return Err(malformed());
        }
    };
    let is_statement = |it: &Value| {
        matches!(it["Effect"].as_str(), Some("Allow" | "Deny"))
            && (!it["Principal"].is_null() || !it["NotPrincipal"].is_null())
            && (!it["Action"].is_null() || !it["NotAction"].is_null())
    };
    if statements.is_empty() || !statements.iter().all(is_statement) {
        return Err(malformed());
    }
    // Without a Principal it has a NotPrincipal: everybody but those.
    let is_open = |it: &Value| {
        let who = &it["Principal"];
        let named = |who: &Value| {
            let list = who.as_array().map_or(&[][..], Vec::as_slice);
            who == "*" || list.iter().any(|one| one == "*")
        };
        it["Effect"] == "Allow"
            && it["Condition"].is_null()
            && (who.is_null() || named(who) || named(&who["AWS"]))
    };
    let open = statements.iter().any(is_open);
    Ok(if open { Reach::Everybody } else { Reach::Some })
}

pub(super) async fn put_resource_policy(
    cx: &Context,
    scope: &Scope,
    input: PutResourcePolicyRequest,
) -> Result<PutResourcePolicyResponse, ApiError> {
    let policy = input.resource_policy.unwrap_or_default();
    let reach = check(&policy)?;
    if input.block_public_policy == Some(true)
        && matches!(reach, Reach::Everybody)
    {
        return Err(error::public_policy_exception(
            "You can't attach this resource policy because it allows \
             everybody access to the secret.",
        ));
    }
    lookup::change(cx, scope, input.secret_id, move |row| {
        row.policy = Some(policy);
        Ok(PutResourcePolicyResponse {
            arn: Some(row.arn()),
            name: Some(row.name.clone()),
        })
    })
    .await
}

pub(super) async fn get_resource_policy(
    cx: &Context,
    scope: &Scope,
    input: GetResourcePolicyRequest,
) -> Result<GetResourcePolicyResponse, ApiError> {
    let id = input.secret_id.unwrap_or_default();
    let row = lookup::secret(&cx.snapshot(), scope, &id)?;
    Ok(GetResourcePolicyResponse {
        arn: Some(row.arn()),
        name: Some(row.name.clone()),
        resource_policy: row.policy.clone(),
    })
}

pub(super) async fn delete_resource_policy(
    cx: &Context,
    scope: &Scope,
    input: DeleteResourcePolicyRequest,
) -> Result<DeleteResourcePolicyResponse, ApiError> {
    lookup::change(cx, scope, input.secret_id, |row| {
        row.policy = None;
        Ok(DeleteResourcePolicyResponse {
            arn: Some(row.arn()),
            name: Some(row.name.clone()),
        })
    })
    .await
}

pub(super) async fn validate_resource_policy(
    cx: &Context,
    scope: &Scope,
    input: ValidateResourcePolicyRequest,
) -> Result<ValidateResourcePolicyResponse, ApiError> {
    if let Some(id) = &input.secret_id {
        lookup::secret(&cx.snapshot(), scope, id)?;
    }
    let policy = input.resource_policy.unwrap_or_default();
    let errors = match check(&policy)? {
        Reach::Some => vec![],
        Reach::Everybody => vec![ValidationErrorsEntry {
            check_name: Some("BlockPublicPolicy".to_owned()),
            error_message: Some(
                "The policy allows everybody access to the secret.".to_owned(),
            ),
        }],
    };
    Ok(ValidateResourcePolicyResponse {
        policy_validation_passed: Some(errors.is_empty()),
        validation_errors: Some(errors),
    })
}
