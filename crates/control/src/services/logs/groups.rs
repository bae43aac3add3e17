//! CreateLogGroup, DeleteLogGroup, DescribeLogGroups, ListLogGroups.

use std::sync::Arc;

use minato_store::{Row as _, Snapshot};
use minato_wire::ApiError;
use minato_wire::logs::{
    CreateLogGroupRequest, DeleteLogGroupRequest, DescribeLogGroupsRequest,
    DescribeLogGroupsResponse, ListLogGroupsRequest, ListLogGroupsResponse,
    LogGroup, LogGroupClass, LogGroupSummary, error,
};

use super::rows::{LogGroupRow, LogStreamRow, hex};
use super::token::invalid_token;
use super::{filters, lookup, not_read, not_removed, tags};
use crate::context::{Context, Scope};
use crate::services::Empty;
use crate::tables::namespace;

pub(super) async fn create_log_group(
    cx: &Context,
    scope: &Scope,
    input: CreateLogGroupRequest,
) -> Result<Empty, ApiError> {
    let unsupported = |what: &str| {
        Err(error::invalid_parameter_exception(format!(
            "Minato does not support {what}."
        )))
    };
    if input.kms_key_id.is_some() {
        return unsupported("KMS keys for log groups");
    }
    if input.deletion_protection_enabled == Some(true) {
        return unsupported("deletion protection of log groups");
    }
    let class = input.log_group_class.unwrap_or(LogGroupClass::Standard);
    if class == LogGroupClass::Delivery {
        return unsupported("log groups of class DELIVERY");
    }
    let given = input.tags.unwrap_or_default();
    tags::check_keys(given.keys())?;
    let row = LogGroupRow {
        account: scope.account.clone(),
        region: scope.region.clone(),
        name: input.log_group_name.unwrap_or_default(),
        id: hex(cx.ids.uuid()),
        created_at: scope.now,
        retention_days: None,
        class,
        tags: given,
    };
    cx.transact(move |tx| {
        if tx.contains::<LogGroupRow>(&row.key()) {
            return Err(error::resource_already_exists_exception(
                "The specified log group already exists",
            ));
        }
        tx.put(row);
        Ok(Empty {})
    })
    .await
}

pub(super) async fn delete_log_group(
    cx: &Context,
    scope: &Scope,
    input: DeleteLogGroupRequest,
) -> Result<Empty, ApiError> {
    let scope = scope.clone();
    let name = input.log_group_name.unwrap_or_default();
    let id = cx
        .transact(move |tx| {
            let group = lookup::group_in(tx, &scope, &name)?;
            let streams: Vec<Arc<LogStreamRow>> =
                tx.scan(&LogStreamRow::prefix_of(&group)).collect();
            for stream in streams {
                tx.delete::<LogStreamRow>(&stream.key());
            }
            filters::metric::forget(tx, &group);
            filters::subscription::forget(tx, &group);
            tx.delete::<LogGroupRow>(&group.key());
            Ok(group.group_id())
        })
        .await?;
    // Should this fail, the sweep finds a directory without a group.
    cx.logs.delete_group(id).await.map_err(|e| not_removed(&e))?;
    Ok(Empty {})
}

/// Groups on a page, by default and at most.
const PAGE: usize = 50;

pub(super) async fn describe_log_groups(
    cx: &Context,
    scope: &Scope,
    input: DescribeLogGroupsRequest,
) -> Result<DescribeLogGroupsResponse, ApiError> {
    let prefix = input.log_group_name_prefix.unwrap_or_default();
    let pattern = input.log_group_name_pattern.unwrap_or_default();
    if !prefix.is_empty() && !pattern.is_empty() {
        return Err(error::invalid_parameter_exception(
            "LogGroup name prefix and LogGroup name pattern are mutually \
             exclusive parameters.",
        ));
    }
    let snapshot = cx.snapshot();
    let groups = match &input.log_group_identifiers {
        Some(_) if !(prefix.is_empty() && pattern.is_empty()) => {
            return Err(error::invalid_parameter_exception(
                "logGroupIdentifiers cannot be combined with \
                 logGroupNamePrefix or logGroupNamePattern.",
            ));
        }
        Some(identifiers) => identified(&snapshot, scope, identifiers)?,
        None => all(&snapshot, scope)
            .filter(|group| group.name.starts_with(&prefix))
            .filter(|group| group.name.contains(&pattern))
            .collect(),
    };
    let ours = is_ours(scope, input.account_identifiers.as_deref());
    let class = input.log_group_class;
    let groups = groups
        .into_iter()
        .filter(|group| class.is_none_or(|class| class == group.class))
        .filter(|_| ours);
    let token = input.next_token.as_deref();
    let (page, next_token) = page(groups, input.limit, PAGE, token)?;
    let mut log_groups = vec![];
    for group in page {
        let id = group.group_id();
        let bytes = cx.logs.stored_bytes(id).await.map_err(|e| not_read(&e))?;
        let filters = filters::metric::count(&snapshot, &group);
        log_groups.push(describe(&group, bytes, filters));
    }
    Ok(DescribeLogGroupsResponse { log_groups: Some(log_groups), next_token })
}

fn describe(group: &LogGroupRow, bytes: u64, filters: usize) -> LogGroup {
    let arn = group.arn();
    LogGroup {
        log_group_name: Some(group.name.clone()),
        creation_time: Some(group.created_at.as_millis()),
        retention_in_days: group.retention_days,
        metric_filter_count: Some(i32::try_from(filters).unwrap_or(i32::MAX)),
        arn: Some(format!("{arn}:*")),
        log_group_arn: Some(arn),
        stored_bytes: Some(i64::try_from(bytes).unwrap_or(i64::MAX)),
        log_group_class: Some(group.class),
        deletion_protection_enabled: Some(false),
        ..LogGroup::default()
    }
}

pub(super) async fn list_log_groups(
    cx: &Context,
    scope: &Scope,
    input: ListLogGroupsRequest,
) -> Result<ListLogGroupsResponse, ApiError> {
    if input.data_sources.is_some() || input.field_index_names.is_some() {
        return Err(error::invalid_parameter_exception(
            "Minato does not support data sources and field indexes.",
        ));
    }
    let patterns = input.log_group_name_pattern.unwrap_or_default();
    let tags = input.log_group_tags.unwrap_or_default();
    let ours = is_ours(scope, input.account_identifiers.as_deref());
    let snapshot = cx.snapshot();
    let groups = all(&snapshot, scope)
        .filter(|group| fits(&patterns, &group.name))
        .filter(|group| {
            let class = input.log_group_class;
            class.is_none_or(|class| class == group.class)
        })
        .filter(|group| tags.iter().all(|tag| tags::fits(tag, &group.tags)))
        .filter(|_| ours);
    let token = input.next_token.as_deref();
    let (page, next_token) = page(groups, input.limit, PAGE, token)?;
    let summaries = page.iter().map(|group| LogGroupSummary {
        log_group_name: Some(group.name.clone()),
        log_group_arn: Some(group.arn()),
        log_group_class: Some(group.class),
    });
    Ok(ListLogGroupsResponse {
        log_groups: Some(summaries.collect()),
        next_token,
    })
}

/// `^aws|web`: alternatives, each a substring or, after `^`, a prefix.
fn fits(patterns: &str, name: &str) -> bool {
    patterns.split('|').any(|pattern| match pattern.strip_prefix('^') {
        Some(prefix) => name.starts_with(prefix),
        None => name.contains(pattern),
    })
}

/// All groups of the account in the region, by name.
fn all(
    snapshot: &Snapshot,
    scope: &Scope,
) -> impl Iterator<Item = Arc<LogGroupRow>> + use<> {
    let groups: Vec<_> = snapshot
        .scan::<LogGroupRow>(&namespace(&scope.account, &scope.region))
        .collect();
    groups.into_iter()
}

fn identified(
    snapshot: &Snapshot,
    scope: &Scope,
    identifiers: &[String],
) -> Result<Vec<Arc<LogGroupRow>>, ApiError> {
    let mut groups = vec![];
    for identifier in identifiers {
        let name = lookup::group_name(scope, identifier)?;
        groups.push(lookup::group(snapshot, scope, name)?);
    }
    groups.sort_by(|a, b| a.name.cmp(&b.name));
    groups.dedup_by(|a, b| a.name == b.name);
    Ok(groups)
}

/// Whether the accounts asked for include ours. No other account shares its
/// groups with it: links between accounts do not exist here.
fn is_ours(scope: &Scope, accounts: Option<&[String]>) -> bool {
    accounts.is_none_or(|accounts| {
        accounts.is_empty() || accounts.contains(&scope.account)
    })
}

/// A page of groups in the order of their names and the token to the next.
fn page(
    groups: impl Iterator<Item = Arc<LogGroupRow>>,
    limit: Option<i32>,
    default: usize,
    token: Option<&str>,
) -> Result<(Vec<Arc<LogGroupRow>>, Option<String>), ApiError> {
    let after = token
        .map(|token| {
            crate::services::open_token(token).ok_or_else(invalid_token)
        })
        .transpose()?;
    let limit = limit.and_then(|limit| usize::try_from(limit).ok());
    let limit = limit.unwrap_or(default).max(1);
    let mut rest = groups
        .filter(|group| after.as_ref().is_none_or(|after| group.name > *after));
    let page: Vec<_> = rest.by_ref().take(limit).collect();
    let next = match (page.last(), rest.next()) {
        (Some(last), Some(_)) => Some(crate::services::seal_token(&last.name)),
        _ => None,
    };
    Ok((page, next))
}
