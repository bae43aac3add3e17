//! Amazon CloudWatch Logs: groups, streams and their events.

mod batch;
mod events;
mod filter;
mod groups;
mod lookup;
mod retention;
pub(crate) mod rows;
mod streams;
pub(crate) mod sweep;
mod tags;
#[cfg(test)]
mod tests;
mod token;

use minato_store::Tables;
use minato_wire::ApiError;
use minato_wire::logs::error;

use super::operations;
use crate::coverage::Support;
use crate::logs::{AppendLogsError, DeleteLogsError, ReadLogsError};

/// The error of an operation that Minato does not serve.
fn unserved(message: String) -> ApiError {
    error::invalid_parameter_exception(message)
}

/// Adds the tables of the service.
pub(crate) fn tables(tables: Tables) -> Tables {
    tables.with::<rows::LogGroupRow>().with::<rows::LogStreamRow>()
}

const ANOMALIES: &str = "anomaly detection is not built";
const DELIVERIES: &str = "delivery of other services' logs is not built";
const DESTINATIONS: &str = "destinations in other accounts are not built";
const ENCRYPTION: &str = "log groups are not encrypted with KMS keys";
const EXPORTS: &str = "export to S3 is not built";
const IMPORTS: &str = "import from CloudTrail Lake is not built";
const INDEXES: &str = "field indexes need Logs Insights, which is not built";
const INSIGHTS: &str = "Logs Insights is not built";
const INTEGRATIONS: &str = "OpenSearch and S3 table integrations are not built";
const METRICS: &str = "metric filters need CloudWatch metrics";
const POLICIES: &str = "account and resource policies are not built";
const PROTECTION: &str = "data protection policies are not built";
const SUBSCRIPTIONS: &str = "subscription filters need a service to send to";
const TRANSFORMERS: &str = "log transformers are not built";

operations! {
    served {
        "CreateLogGroup", Support::Partial("no KMS key, no DELIVERY class, no deletion protection") => groups::create_log_group;
        "CreateLogStream", Support::Full => streams::create_log_stream;
        "DeleteLogGroup", Support::Full => groups::delete_log_group;
        "DeleteLogStream", Support::Full => streams::delete_log_stream;
        "DeleteRetentionPolicy", Support::Full => retention::delete_retention_policy;
        "DescribeLogGroups", Support::Full => groups::describe_log_groups;
        "DescribeLogStreams", Support::Full => streams::describe_log_streams;
        "FilterLogEvents", Support::Full => filter::filter_log_events;
        "GetLogEvents", Support::Full => events::get_log_events;
        "ListLogGroups", Support::Partial("no filter by data source or field index") => groups::list_log_groups;
        "ListTagsForResource", Support::Full => tags::list_tags_for_resource;
        "ListTagsLogGroup", Support::Full => tags::list_tags_log_group;
        "PutLogEvents", Support::Partial("an entity is answered as rejected") => events::put_log_events;
        "PutRetentionPolicy", Support::Full => retention::put_retention_policy;
        "TagLogGroup", Support::Full => tags::tag_log_group;
        "TagResource", Support::Full => tags::tag_resource;
        "UntagLogGroup", Support::Full => tags::untag_log_group;
        "UntagResource", Support::Full => tags::untag_resource;
    }
    refused {
        "AssociateKmsKey": ENCRYPTION;
        "AssociateSourceToS3TableIntegration": INTEGRATIONS;
        "CancelExportTask": EXPORTS;
        "CancelImportTask": IMPORTS;
        "CreateDelivery": DELIVERIES;
        "CreateExportTask": EXPORTS;
        "CreateImportTask": IMPORTS;
        "CreateLogAnomalyDetector": ANOMALIES;
        "CreateLookupTable": INSIGHTS;
        "CreateScheduledQuery": INSIGHTS;
        "DeleteAccountPolicy": POLICIES;
        "DeleteDataProtectionPolicy": PROTECTION;
        "DeleteDelivery": DELIVERIES;
        "DeleteDeliveryDestination": DELIVERIES;
        "DeleteDeliveryDestinationPolicy": DELIVERIES;
        "DeleteDeliverySource": DELIVERIES;
        "DeleteDestination": DESTINATIONS;
        "DeleteIndexPolicy": INDEXES;
        "DeleteIntegration": INTEGRATIONS;
        "DeleteLogAnomalyDetector": ANOMALIES;
        "DeleteLookupTable": INSIGHTS;
        "DeleteMetricFilter": METRICS;
        "DeleteQueryDefinition": INSIGHTS;
        "DeleteResourcePolicy": POLICIES;
        "DeleteScheduledQuery": INSIGHTS;
        "DeleteSubscriptionFilter": SUBSCRIPTIONS;
        "DeleteTransformer": TRANSFORMERS;
        "DescribeAccountPolicies": POLICIES;
        "DescribeConfigurationTemplates": DELIVERIES;
        "DescribeDeliveries": DELIVERIES;
        "DescribeDeliveryDestinations": DELIVERIES;
        "DescribeDeliverySources": DELIVERIES;
        "DescribeDestinations": DESTINATIONS;
        "DescribeExportTasks": EXPORTS;
        "DescribeFieldIndexes": INDEXES;
        "DescribeImportTaskBatches": IMPORTS;
        "DescribeImportTasks": IMPORTS;
        "DescribeIndexPolicies": INDEXES;
        "DescribeLookupTables": INSIGHTS;
        "DescribeMetricFilters": METRICS;
        "DescribeQueries": INSIGHTS;
        "DescribeQueryDefinitions": INSIGHTS;
        "DescribeResourcePolicies": POLICIES;
        "DescribeSubscriptionFilters": SUBSCRIPTIONS;
        "DisassociateKmsKey": ENCRYPTION;
        "DisassociateSourceFromS3TableIntegration": INTEGRATIONS;
        "GetDataProtectionPolicy": PROTECTION;
        "GetDelivery": DELIVERIES;
        "GetDeliveryDestination": DELIVERIES;
        "GetDeliveryDestinationPolicy": DELIVERIES;
        "GetDeliverySource": DELIVERIES;
        "GetIntegration": INTEGRATIONS;
        "GetLogAnomalyDetector": ANOMALIES;
        "GetLogFields": INSIGHTS;
        "GetLogGroupFields": INSIGHTS;
        "GetLogObject": INSIGHTS;
        "GetLogRecord": INSIGHTS;
        "GetLookupTable": INSIGHTS;
        "GetQueryResults": INSIGHTS;
        "GetScheduledQuery": INSIGHTS;
        "GetScheduledQueryHistory": INSIGHTS;
        "GetTransformer": TRANSFORMERS;
        "ListAggregateLogGroupSummaries": DELIVERIES;
        "ListAnomalies": ANOMALIES;
        "ListIntegrations": INTEGRATIONS;
        "ListLogAnomalyDetectors": ANOMALIES;
        "ListLogGroupsForQuery": INSIGHTS;
        "ListScheduledQueries": INSIGHTS;
        "ListSourcesForS3TableIntegration": INTEGRATIONS;
        "PutAccountPolicy": POLICIES;
        "PutBearerTokenAuthentication": "bearer tokens are not built";
        "PutDataProtectionPolicy": PROTECTION;
        "PutDeliveryDestination": DELIVERIES;
        "PutDeliveryDestinationPolicy": DELIVERIES;
        "PutDeliverySource": DELIVERIES;
        "PutDestination": DESTINATIONS;
        "PutDestinationPolicy": DESTINATIONS;
        "PutIndexPolicy": INDEXES;
        "PutIntegration": INTEGRATIONS;
        "PutLogGroupDeletionProtection": "deletion protection is not built";
        "PutMetricFilter": METRICS;
        "PutQueryDefinition": INSIGHTS;
        "PutResourcePolicy": POLICIES;
        "PutSubscriptionFilter": SUBSCRIPTIONS;
        "PutTransformer": TRANSFORMERS;
        "StartLiveTail": "event streams are not built; `aws logs tail --follow` works";
        "StartQuery": INSIGHTS;
        "StopQuery": INSIGHTS;
        "TestMetricFilter": METRICS;
        "TestTransformer": TRANSFORMERS;
        "UpdateAnomaly": ANOMALIES;
        "UpdateDeliveryConfiguration": DELIVERIES;
        "UpdateLogAnomalyDetector": ANOMALIES;
        "UpdateLookupTable": INSIGHTS;
        "UpdateScheduledQuery": INSIGHTS;
    }
}

/// The storage could not keep events.
fn not_kept(failure: &AppendLogsError) -> ApiError {
    unavailable(failure)
}

/// The storage could not read events.
fn not_read(failure: &ReadLogsError) -> ApiError {
    unavailable(failure)
}

/// The storage could not remove events.
fn not_removed(failure: &DeleteLogsError) -> ApiError {
    unavailable(failure)
}

fn unavailable(failure: &dyn std::error::Error) -> ApiError {
    let details = crate::logs::error_text(failure);
    tracing::error!(details, "log storage");
    error::service_unavailable_exception(
        "The service cannot complete the request.",
    )
    .with_internal(details)
}
