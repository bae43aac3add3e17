//! PutRetentionPolicy and DeleteRetentionPolicy.

use minato_wire::ApiError;
use minato_wire::logs::{
    DeleteRetentionPolicyRequest, PutRetentionPolicyRequest, error,
};

use super::lookup;
use super::rows::LogGroupRow;
use crate::context::{Context, Scope};
use crate::services::Empty;

/// The days that the API reference allows.
const DAYS: [i32; 22] = [
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827,
    2192, 2557, 2922, 3288, 3653,
];

pub(super) async fn put_retention_policy(
    cx: &Context,
    scope: &Scope,
    input: PutRetentionPolicyRequest,
) -> Result<Empty, ApiError> {
    let days = input.retention_in_days.unwrap_or_default();
    if !DAYS.contains(&days) {
        let allowed: Vec<String> =
            DAYS.iter().map(ToString::to_string).collect();
        return Err(error::invalid_parameter_exception(format!(
            "1 validation error detected: Value '{days}' at 'retentionInDays' \
             failed to satisfy constraint: Member must satisfy enum value \
             set: [{}]",
            allowed.join(", ")
        )));
    }
    set(cx, scope, input.log_group_name, Some(days)).await
}

pub(super) async fn delete_retention_policy(
    cx: &Context,
    scope: &Scope,
    input: DeleteRetentionPolicyRequest,
) -> Result<Empty, ApiError> {
    set(cx, scope, input.log_group_name, None).await
}

async fn set(
    cx: &Context,
    scope: &Scope,
    name: Option<String>,
    retention_days: Option<i32>,
) -> Result<Empty, ApiError> {
    let scope = scope.clone();
    cx.transact(move |tx| {
        let group = lookup::group_in(tx, &scope, &name.unwrap_or_default())?;
        tx.put(LogGroupRow { retention_days, ..LogGroupRow::clone(&group) });
        Ok(Empty {})
    })
    .await
}
