//! PutMetricFilter, DescribeMetricFilters, DeleteMetricFilter and
//! TestMetricFilter.

use std::sync::Arc;

use minato_store::{Key, Row, Snapshot, Tx};
use minato_wire::logs::{
    DeleteMetricFilterRequest, DescribeMetricFiltersRequest,
    DescribeMetricFiltersResponse, MetricFilter, MetricFilterMatchRecord,
    MetricTransformation, PutMetricFilterRequest, TestMetricFilterRequest,
    TestMetricFilterResponse, error,
};
use minato_wire::{ApiError, Timestamp};
use serde::{Deserialize, Serialize};

use super::{check_pattern, check_unbuilt, filter_key, no_such_filter, page};
use crate::context::{Context, Scope};
use crate::services::Empty;
use crate::services::logs::lookup;
use crate::services::logs::rows::LogGroupRow;
use crate::tables::namespace;

/// Metric filters of one group (CloudWatch Logs quotas).
const MOST_FILTERS: usize = 100;
/// Dimensions of one metric (`MetricTransformation`).
const MOST_DIMENSIONS: usize = 3;

/// A metric filter of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct MetricFilterRow {
    pub(crate) account: String,
    pub(crate) region: String,
    pub(crate) group: String,
    pub(crate) name: String,
    pub(crate) pattern: String,
    pub(crate) transformations: Vec<MetricTransformation>,
    pub(crate) created_at: Timestamp,
}

impl Row for MetricFilterRow {
    const TABLE: &'static str = "logs.metric_filter";

    fn key(&self) -> Key {
        filter_key(&self.account, &self.region, &self.group, &self.name)
    }
}

impl MetricFilterRow {
    fn place(&self) -> (&str, &str) {
        (&self.group, &self.name)
    }

    fn describe(&self) -> MetricFilter {
        MetricFilter {
            filter_name: Some(self.name.clone()),
            filter_pattern: Some(self.pattern.clone()),
            metric_transformations: Some(self.transformations.clone()),
            creation_time: Some(self.created_at.as_millis()),
            log_group_name: Some(self.group.clone()),
            apply_on_transformed_logs: Some(false),
            ..MetricFilter::default()
        }
    }
}

pub(crate) async fn put_metric_filter(
    cx: &Context,
    scope: &Scope,
    input: PutMetricFilterRequest,
) -> Result<Empty, ApiError> {
    check_unbuilt(
        input.apply_on_transformed_logs,
        input.emit_system_field_dimensions.as_deref(),
        input.field_selection_criteria.as_deref(),
    )?;
    let pattern = input.filter_pattern.unwrap_or_default();
    check_pattern(&pattern)?;
    let transformations = input.metric_transformations.unwrap_or_default();
    transformations.iter().try_for_each(check_transformation)?;
    let mut row = MetricFilterRow {
        account: scope.account.clone(),
        region: scope.region.clone(),
        group: input.log_group_name.unwrap_or_default(),
        name: input.filter_name.unwrap_or_default(),
        pattern,
        transformations,
        created_at: scope.now,
    };
    let scope = scope.clone();
    cx.transact(move |tx| {
        let group = lookup::group_in(tx, &scope, &row.group)?;
        match tx.get::<MetricFilterRow>(&row.key()) {
            Some(known) => row.created_at = known.created_at,
            None => {
                let prefix = group.key();
                let count = tx.scan::<MetricFilterRow>(&prefix).count();
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

fn check_transformation(
    transformation: &MetricTransformation,
) -> Result<(), ApiError> {
    let refuse = |text: &str| Err(error::invalid_parameter_exception(text));
    let value = transformation.metric_value.as_deref().unwrap_or_default();
    if !value.starts_with('$') && value.parse::<f64>().is_err() {
        return refuse(
            "Invalid metric transformation: metricValue must be a number or \
             a field that begins with $.",
        );
    }
    let dimensions = transformation.dimensions.iter().flatten();
    let count = dimensions.clone().count();
    if count > MOST_DIMENSIONS {
        return refuse(
            "Invalid metric transformation: at most 3 dimensions are allowed.",
        );
    }
    if count > 0 && transformation.default_value.is_some() {
        return refuse(
            "Invalid metric transformation: dimensions and default value are \
             mutually exclusive properties.",
        );
    }
    for (_, value) in dimensions {
        if !value.starts_with('$') {
            return refuse(
                "Invalid metric transformation: the value of a dimension must \
                 be a field that begins with $.",
            );
        }
    }
    Ok(())
}

pub(crate) async fn describe_metric_filters(
    cx: &Context,
    scope: &Scope,
    input: DescribeMetricFiltersRequest,
) -> Result<DescribeMetricFiltersResponse, ApiError> {
    if input.metric_name.is_some() != input.metric_namespace.is_some() {
        return Err(error::invalid_parameter_exception(
            "metricName and metricNamespace must be specified together.",
        ));
    }
    let snapshot = cx.snapshot();
    let prefix = match &input.log_group_name {
        Some(name) => lookup::group(&snapshot, scope, name)?.key(),
        None => namespace(&scope.account, &scope.region),
    };
    let name_prefix = input.filter_name_prefix.unwrap_or_default();
    let has_metric = |row: &MetricFilterRow| {
        let Some(name) = &input.metric_name else { return true };
        row.transformations.iter().any(|t| {
            t.metric_name.as_ref() == Some(name)
                && t.metric_namespace == input.metric_namespace
        })
    };
    let rows = snapshot
        .scan::<MetricFilterRow>(&prefix)
        .filter(|row| row.name.starts_with(&name_prefix) && has_metric(row));
    let (page, next_token) = page(
        rows,
        MetricFilterRow::place,
        input.limit,
        input.next_token.as_deref(),
    )?;
    let filters = page.iter().map(|row| row.describe()).collect();
    Ok(DescribeMetricFiltersResponse {
        metric_filters: Some(filters),
        next_token,
    })
}

pub(crate) async fn delete_metric_filter(
    cx: &Context,
    scope: &Scope,
    input: DeleteMetricFilterRequest,
) -> Result<Empty, ApiError> {
    let scope = scope.clone();
    cx.transact(move |tx| {
        let group = input.log_group_name.unwrap_or_default();
        let group = lookup::group_in(tx, &scope, &group)?;
        let LogGroupRow { account, region, name, .. } = &*group;
        let filter = input.filter_name.unwrap_or_default();
        let key = filter_key(account, region, name, &filter);
        tx.delete::<MetricFilterRow>(&key).ok_or_else(no_such_filter)?;
        Ok(Empty {})
    })
    .await
}

pub(crate) async fn test_metric_filter(
    _: &Context,
    _: &Scope,
    input: TestMetricFilterRequest,
) -> Result<TestMetricFilterResponse, ApiError> {
    let pattern = input.filter_pattern.unwrap_or_default();
    let pattern = check_pattern(&pattern)?;
    let messages = input.log_event_messages.unwrap_or_default();
    let matching = (1..).zip(messages).filter(|(_, m)| pattern.matches(m));
    let matches = matching.map(|(number, message)| MetricFilterMatchRecord {
        event_number: Some(number),
        extracted_values: Some(pattern.extract(&message)),
        event_message: Some(message),
    });
    Ok(TestMetricFilterResponse { matches: Some(matches.collect()) })
}

/// How many filters a group has.
pub(crate) fn count(snapshot: &Snapshot, group: &LogGroupRow) -> usize {
    snapshot.scan::<MetricFilterRow>(&group.key()).count()
}

/// Removes the filters of a group that is deleted.
pub(crate) fn forget(tx: &mut Tx, group: &LogGroupRow) {
    let rows: Vec<Arc<MetricFilterRow>> = tx.scan(&group.key()).collect();
    for row in rows {
        tx.delete::<MetricFilterRow>(&row.key());
    }
}
