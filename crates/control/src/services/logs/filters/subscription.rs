//! PutSubscriptionFilter, DescribeSubscriptionFilters and
//! DeleteSubscriptionFilter.

use std::sync::Arc;

use minato_store::{Key, Row, Tx};
use minato_wire::logs::{
    DeleteSubscriptionFilterRequest, DescribeSubscriptionFiltersRequest,
    DescribeSubscriptionFiltersResponse, Distribution,
    PutSubscriptionFilterRequest, SubscriptionFilter, error,
};
use minato_wire::{ApiError, Timestamp};
use serde::{Deserialize, Serialize};

use super::{check_pattern, check_unbuilt, filter_key, no_such_filter, page};
use crate::context::{Context, Scope};
use crate::services::Empty;
use crate::services::logs::lookup;
use crate::services::logs::rows::LogGroupRow;

/// Subscription filters of one group (CloudWatch Logs quotas).
const MOST_FILTERS: usize = 2;

/// A subscription filter of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SubscriptionFilterRow {
    pub(crate) account: String,
    pub(crate) region: String,
    pub(crate) group: String,
    pub(crate) name: String,
    pub(crate) pattern: String,
    pub(crate) destination: String,
    #[serde(default)]
    pub(crate) role: Option<String>,
    pub(crate) distribution: Distribution,
    pub(crate) created_at: Timestamp,
}

impl Row for SubscriptionFilterRow {
    const TABLE: &'static str = "logs.subscription_filter";

    fn key(&self) -> Key {
        filter_key(&self.account, &self.region, &self.group, &self.name)
    }
}

impl SubscriptionFilterRow {
    fn place(&self) -> (&str, &str) {
        (&self.group, &self.name)
    }

    fn describe(&self) -> SubscriptionFilter {
        SubscriptionFilter {
            filter_name: Some(self.name.clone()),
            log_group_name: Some(self.group.clone()),
            filter_pattern: Some(self.pattern.clone()),
            destination_arn: Some(self.destination.clone()),
            role_arn: self.role.clone(),
            distribution: Some(self.distribution),
            apply_on_transformed_logs: Some(false),
            creation_time: Some(self.created_at.as_millis()),
            ..SubscriptionFilter::default()
        }
    }
}

pub(crate) async fn put_subscription_filter(
    cx: &Context,
    scope: &Scope,
    input: PutSubscriptionFilterRequest,
) -> Result<Empty, ApiError> {
    check_unbuilt(
        input.apply_on_transformed_logs,
        input.emit_system_fields.as_deref(),
        input.field_selection_criteria.as_deref(),
    )?;
    let pattern = input.filter_pattern.unwrap_or_default();
    check_pattern(&pattern)?;
    let destination = input.destination_arn.unwrap_or_default();
    check_destination(&destination, input.role_arn.as_deref())?;
    let mut row = SubscriptionFilterRow {
        account: scope.account.clone(),
        region: scope.region.clone(),
        group: input.log_group_name.unwrap_or_default(),
        name: input.filter_name.unwrap_or_default(),
        pattern,
        destination,
        role: input.role_arn,
        distribution: input.distribution.unwrap_or(Distribution::ByLogStream),
        created_at: scope.now,
    };
    let scope = scope.clone();
    cx.transact(move |tx| {
        let group = lookup::group_in(tx, &scope, &row.group)?;
        match tx.get::<SubscriptionFilterRow>(&row.key()) {
            Some(known) => row.created_at = known.created_at,
            None => {
                let prefix = group.key();
                let count = tx.scan::<SubscriptionFilterRow>(&prefix).count();
                if count >= MOST_FILTERS {
                    return Err(error::limit_exceeded_exception(
                        "Resource limit exceeded.",
                    ));
                }
            }
        }
        tx.put(row);
        Ok(Empty {})
    })
    .await
}

/// The destinations that the API reference lists, and who needs a role.
fn check_destination(arn: &str, role: Option<&str>) -> Result<(), ApiError> {
    let refuse = |text: String| Err(error::invalid_parameter_exception(text));
    let mut parts = arn.splitn(6, ':');
    let is_arn = parts.next() == Some("arn");
    let vendor = parts.nth(1).unwrap_or_default();
    let resource = parts.nth(2).unwrap_or_default();
    let needs_role = match (vendor, is_arn) {
        ("kinesis", true) if resource.starts_with("stream/") => true,
        ("firehose", true) if resource.starts_with("deliverystream/") => true,
        ("lambda", true) if resource.starts_with("function:") => false,
        ("logs", true) if resource.starts_with("destination:") => {
            return Ok(());
        }
        _ => {
            return refuse(
                "destinationArn is not the ARN of a Kinesis stream, a \
                 Firehose delivery stream, a Lambda function or a logs \
                 destination."
                    .to_owned(),
            );
        }
    };
    match (needs_role, role.is_some()) {
        (true, false) => refuse(format!(
            "destinationArn for vendor {vendor} cannot be used without roleArn"
        )),
        (false, true) => refuse(format!(
            "destinationArn for vendor {vendor} cannot be used with roleArn"
        )),
        (true, true) | (false, false) => Ok(()),
    }
}

pub(crate) async fn describe_subscription_filters(
    cx: &Context,
    scope: &Scope,
    input: DescribeSubscriptionFiltersRequest,
) -> Result<DescribeSubscriptionFiltersResponse, ApiError> {
    let snapshot = cx.snapshot();
    let group = input.log_group_name.unwrap_or_default();
    let group = lookup::group(&snapshot, scope, &group)?;
    let name_prefix = input.filter_name_prefix.unwrap_or_default();
    let rows = snapshot
        .scan::<SubscriptionFilterRow>(&group.key())
        .filter(|row| row.name.starts_with(&name_prefix));
    let (page, next_token) = page(
        rows,
        SubscriptionFilterRow::place,
        input.limit,
        input.next_token.as_deref(),
    )?;
    let filters = page.iter().map(|row| row.describe()).collect();
    Ok(DescribeSubscriptionFiltersResponse {
        subscription_filters: Some(filters),
        next_token,
    })
}

pub(crate) async fn delete_subscription_filter(
    cx: &Context,
    scope: &Scope,
    input: DeleteSubscriptionFilterRequest,
) -> Result<Empty, ApiError> {
    let scope = scope.clone();
    cx.transact(move |tx| {
        let group = input.log_group_name.unwrap_or_default();
        let group = lookup::group_in(tx, &scope, &group)?;
        let LogGroupRow { account, region, name, .. } = &*group;
        let filter = input.filter_name.unwrap_or_default();
        let key = filter_key(account, region, name, &filter);
        tx.delete::<SubscriptionFilterRow>(&key).ok_or_else(no_such_filter)?;
        Ok(Empty {})
    })
    .await
}

/// Removes the filters of a group that is deleted.
pub(crate) fn forget(tx: &mut Tx, group: &LogGroupRow) {
    let rows: Vec<Arc<SubscriptionFilterRow>> = tx.scan(&group.key()).collect();
    for row in rows {
        tx.delete::<SubscriptionFilterRow>(&row.key());
    }
}
