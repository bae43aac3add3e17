//! Amazon CloudWatch Logs: groups, streams and their events.

mod batch;
mod events;
mod exports;
mod filter;
mod filters;
mod groups;
pub(crate) mod insights;
mod lookup;
mod policies;
mod retention;
pub(crate) mod rows;
mod streams;
pub(crate) mod sweep;
mod tags;
pub(crate) mod tail;
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
    tables
        .with::<rows::LogGroupRow>()
        .with::<rows::LogStreamRow>()
        .with::<filters::metric::MetricFilterRow>()
        .with::<filters::subscription::SubscriptionFilterRow>()
        .with::<insights::definitions::QueryDefinitionRow>()
        .with::<policies::ResourcePolicyRow>()
}

const ANOMALIES: &str = "anomaly detection is not built";
const DELIVERIES: &str = "delivery of other services' logs is not built";
const DESTINATIONS: &str = "destinations in other accounts are not built";
const ENCRYPTION: &str = "log groups are not encrypted with KMS keys";
const EXPORTS: &str = "export to S3 is not built";
const IMPORTS: &str = "import from CloudTrail Lake is not built";
const INDEXES: &str = "field indexes are not built; queries need none";
const FIELDS: &str = "fields are discovered by queries alone";
const INTEGRATIONS: &str = "OpenSearch and S3 table integrations are not built";
const LOOKUPS: &str = "lookup tables are not built";
const POLICIES: &str = "account policies are not built";
const PROTECTION: &str = "data protection policies are not built";
const SCHEDULES: &str = "scheduled queries are not built";
const TRANSFORMERS: &str = "log transformers are not built";

operations! {
    served {
        "CreateLogGroup", Support::Partial("no KMS key, no DELIVERY class, no deletion protection") => groups::create_log_group;
        "CreateLogStream", Support::Full => streams::create_log_stream;
        "DeleteLogGroup", Support::Full => groups::delete_log_group;
        "DeleteLogStream", Support::Full => streams::delete_log_stream;
        "DeleteMetricFilter", Support::Full => filters::metric::delete_metric_filter;
        "DeleteQueryDefinition", Support::Full => insights::definitions::delete_query_definition;
        "DeleteResourcePolicy", Support::Partial("policies of the account only") => policies::delete_resource_policy;
        "DeleteRetentionPolicy", Support::Full => retention::delete_retention_policy;
        "DeleteSubscriptionFilter", Support::Full => filters::subscription::delete_subscription_filter;
        "DescribeExportTasks", Support::Full => exports::describe_export_tasks;
        "DescribeLogGroups", Support::Full => groups::describe_log_groups;
        "DescribeLogStreams", Support::Full => streams::describe_log_streams;
        "DescribeMetricFilters", Support::Full => filters::metric::describe_metric_filters;
        "DescribeQueries", Support::Full => insights::describe_queries;
        "DescribeQueryDefinitions", Support::Full => insights::definitions::describe_query_definitions;
        "DescribeResourcePolicies", Support::Partial("policies of the account only") => policies::describe_resource_policies;
        "DescribeSubscriptionFilters", Support::Full => filters::subscription::describe_subscription_filters;
        "FilterLogEvents", Support::Full => filter::filter_log_events;
        "GetLogEvents", Support::Full => events::get_log_events;
        "GetLogRecord", Support::Full => insights::get_log_record;
        "GetQueryResults", Support::Partial("results are kept for an hour, in memory") => insights::get_query_results;
        "ListLogGroups", Support::Partial("no filter by data source or field index") => groups::list_log_groups;
        "ListTagsForResource", Support::Full => tags::list_tags_for_resource;
        "ListTagsLogGroup", Support::Full => tags::list_tags_log_group;
        "PutLogEvents", Support::Partial("an entity is answered as rejected") => events::put_log_events;
        "PutMetricFilter", Support::Partial("kept, not counted: there are no CloudWatch metrics") => filters::metric::put_metric_filter;
        "PutQueryDefinition", Support::Partial("query language CWLI only") => insights::definitions::put_query_definition;
        "PutResourcePolicy", Support::Partial("kept, policies of the account only; nobody else sends logs here") => policies::put_resource_policy;
        "PutRetentionPolicy", Support::Full => retention::put_retention_policy;
        "PutSubscriptionFilter", Support::Partial("kept, not delivered: there is no service to send to") => filters::subscription::put_subscription_filter;
        "StartLiveTail", Support::Full => tail::needs_stream;
        "StartQuery", Support::Partial("query language CWLI only; commands fields, display, filter, parse, stats, sort, limit, dedup") => insights::start_query;
        "StopQuery", Support::Full => insights::stop_query;
        "TagLogGroup", Support::Full => tags::tag_log_group;
        "TagResource", Support::Full => tags::tag_resource;
        "TestMetricFilter", Support::Full => filters::metric::test_metric_filter;
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
        "CreateLookupTable": LOOKUPS;
        "CreateScheduledQuery": SCHEDULES;
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
        "DeleteLookupTable": LOOKUPS;
        "DeleteScheduledQuery": SCHEDULES;
        "DeleteTransformer": TRANSFORMERS;
        "DescribeAccountPolicies": POLICIES;
        "DescribeConfigurationTemplates": DELIVERIES;
        "DescribeDeliveries": DELIVERIES;
        "DescribeDeliveryDestinations": DELIVERIES;
        "DescribeDeliverySources": DELIVERIES;
        "DescribeDestinations": DESTINATIONS;
        "DescribeFieldIndexes": INDEXES;
        "DescribeImportTaskBatches": IMPORTS;
        "DescribeImportTasks": IMPORTS;
        "DescribeIndexPolicies": INDEXES;
        "DescribeLookupTables": LOOKUPS;
        "DisassociateKmsKey": ENCRYPTION;
        "DisassociateSourceFromS3TableIntegration": INTEGRATIONS;
        "GetDataProtectionPolicy": PROTECTION;
        "GetDelivery": DELIVERIES;
        "GetDeliveryDestination": DELIVERIES;
        "GetDeliveryDestinationPolicy": DELIVERIES;
        "GetDeliverySource": DELIVERIES;
        "GetIntegration": INTEGRATIONS;
        "GetLogAnomalyDetector": ANOMALIES;
        "GetLogFields": FIELDS;
        "GetLogGroupFields": FIELDS;
        "GetLogObject": FIELDS;
        "GetLookupTable": LOOKUPS;
        "GetScheduledQuery": SCHEDULES;
        "GetScheduledQueryHistory": SCHEDULES;
        "GetTransformer": TRANSFORMERS;
        "ListAggregateLogGroupSummaries": DELIVERIES;
        "ListAnomalies": ANOMALIES;
        "ListIntegrations": INTEGRATIONS;
        "ListLogAnomalyDetectors": ANOMALIES;
        "ListLogGroupsForQuery": FIELDS;
        "ListScheduledQueries": SCHEDULES;
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
        "PutTransformer": TRANSFORMERS;
        "TestTransformer": TRANSFORMERS;
        "UpdateAnomaly": ANOMALIES;
        "UpdateDeliveryConfiguration": DELIVERIES;
        "UpdateLogAnomalyDetector": ANOMALIES;
        "UpdateLookupTable": LOOKUPS;
        "UpdateScheduledQuery": SCHEDULES;
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
