//! Logs Insights: StartQuery, GetQueryResults, StopQuery, DescribeQueries.
//!
//! A query is read at once, so that a wrong one is refused; it then runs on a
//! thread of its own over the groups' segments, and what it finds is kept in
//! memory for a while. A restart forgets queries, as AWS does after a week.

pub(super) mod definitions;
mod job;
mod record;
mod registry;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use minato_core::insights::{InvalidQuery, Query};
use minato_wire::ApiError;
use minato_wire::logs::{
    DescribeQueriesRequest, DescribeQueriesResponse, GetQueryResultsRequest,
    GetQueryResultsResponse, QueryLanguage, QueryStatistics, QueryStatus,
    ResultField, StartQueryRequest, StartQueryResponse, StopQueryRequest,
    StopQueryResponse, error,
};
use serde_json::json;

use super::lookup;
use super::rows::LogGroupRow;
use super::token::invalid_token;
use crate::context::{Context, Scope};

use job::Job;
pub(crate) use record::get_log_record;
pub(crate) use registry::Queries;
use registry::{Asked, Entry};

/// Rows of an answer, where nothing else is asked for (`StartQuery`, `limit`).
const DEFAULT_LIMIT: usize = 10_000;
/// Rows on a page of results, by default and at most.
const RESULTS_PAGE: usize = 10_000;
/// Groups of one query (`StartQuery`, `logGroupNames`).
const MOST_GROUPS: usize = 50;
/// Queries on a page, by default and at most.
const QUERIES_PAGE: usize = 1000;

pub(crate) async fn start_query(
    cx: &Context,
    scope: &Scope,
    input: StartQueryRequest,
) -> Result<StartQueryResponse, ApiError> {
    check_language(input.query_language)?;
    let groups = groups(cx, scope, &input)?;
    let (start, end) = (
        input.start_time.unwrap_or_default(),
        input.end_time.unwrap_or_default(),
    );
    if start > end {
        return Err(error::invalid_parameter_exception(
            "The start time must not be after the end time.",
        ));
    }
    let text = input.query_string.unwrap_or_default();
    let query = Query::parse(&text).map_err(|error| malformed(&error))?;
    let limit = input.limit.and_then(|limit| usize::try_from(limit).ok());
    let limit = limit.or(query.limit()).unwrap_or(DEFAULT_LIMIT);
    let asked = Asked {
        account: scope.account.clone(),
        region: scope.region.clone(),
        text,
        groups: groups.iter().map(|group| group.name.clone()).collect(),
        created_at: scope.now,
    };
    let id = minato_core::id::hyphenated(cx.ids.uuid());
    let entry = cx.queries.add(id.clone(), asked)?;
    // Times are in seconds here, and the range includes both ends.
    let job = Job {
        query,
        limit,
        from: start.saturating_mul(1000),
        through: end.saturating_mul(1000),
        groups,
        snapshot: cx.snapshot(),
        now: scope.now,
        entry,
    };
    let (logs, clock) = (cx.logs.clone(), Arc::clone(&cx.clock));
    let queries = Arc::clone(&cx.queries);
    tokio::spawn(async move {
        job.run(&logs, &*clock).await;
        queries.trim(clock.now());
    });
    Ok(StartQueryResponse { query_id: Some(id) })
}

/// Refuses the languages that are not built.
fn check_language(language: Option<QueryLanguage>) -> Result<(), ApiError> {
    match language {
        None | Some(QueryLanguage::Cwli) => Ok(()),
        Some(QueryLanguage::Sql | QueryLanguage::Ppl) => {
            Err(error::invalid_parameter_exception(
                "Minato supports the query language CWLI only.",
            ))
        }
    }
}

fn malformed(invalid: &InvalidQuery) -> ApiError {
    error::malformed_query_exception(invalid.to_string()).with_field(
        "queryCompileError",
        json!({
            "location": {
                "startCharOffset": invalid.start,
                "endCharOffset": invalid.end,
            },
            "message": invalid.message,
        }),
    )
}

/// The groups that exactly one of the three members names.
fn groups(
    cx: &Context,
    scope: &Scope,
    input: &StartQueryRequest,
) -> Result<Vec<Arc<LogGroupRow>>, ApiError> {
    let one = input.log_group_name.as_ref().map(std::slice::from_ref);
    let names =
        match (one, &input.log_group_names, &input.log_group_identifiers) {
            (Some(names), None, None) => names,
            (None, Some(names), None) | (None, None, Some(names)) => names,
            _ => {
                return Err(error::invalid_parameter_exception(
                    "Exactly one of logGroupName, logGroupNames and \
                 logGroupIdentifiers must be specified.",
                ));
            }
        };
    if names.is_empty() || names.len() > MOST_GROUPS {
        return Err(error::invalid_parameter_exception(format!(
            "A query needs 1 to {MOST_GROUPS} log groups."
        )));
    }
    let snapshot = cx.snapshot();
    let mut groups = vec![];
    for name in names {
        let name = lookup::group_name(scope, name)?;
        groups.push(lookup::group(&snapshot, scope, name)?);
    }
    groups.sort_by(|a, b| a.name.cmp(&b.name));
    groups.dedup_by(|a, b| a.name == b.name);
    Ok(groups)
}

fn find(
    cx: &Context,
    scope: &Scope,
    id: Option<String>,
) -> Result<Arc<Entry>, ApiError> {
    let id = id.unwrap_or_default();
    let found = cx.queries.get(&scope.account, &scope.region, &id);
    found.ok_or_else(|| {
        error::resource_not_found_exception(
            "The specified query does not exist.",
        )
    })
}

pub(crate) async fn get_query_results(
    cx: &Context,
    scope: &Scope,
    input: GetQueryResultsRequest,
) -> Result<GetQueryResultsResponse, ApiError> {
    let entry = find(cx, scope, input.query_id)?;
    let (status, rows) = entry.results();
    let start = match input.next_token.as_deref() {
        None => 0,
        Some(token) => crate::services::open_token(token)
            .and_then(|at| at.parse().ok())
            .filter(|at| *at <= rows.len())
            .ok_or_else(invalid_token)?,
    };
    let most = input.max_items.and_then(|most| usize::try_from(most).ok());
    let most = most.unwrap_or(RESULTS_PAGE).clamp(1, RESULTS_PAGE);
    let end = rows.len().min(start.saturating_add(most));
    let field = |(name, value): &(String, String)| ResultField {
        field: Some(name.clone()),
        value: Some(value.clone()),
    };
    let page = rows[start..end].iter().map(|row| {
        let mut fields: Vec<ResultField> =
            row.fields.iter().map(field).collect();
        let has_pointer = row.fields.iter().any(|(name, _)| name == "@ptr");
        if let (Some(origin), false) = (&row.origin, has_pointer) {
            fields.push(field(&("@ptr".to_owned(), origin.pointer())));
        }
        fields
    });
    let results = page.collect();
    let more = end < rows.len();
    Ok(GetQueryResultsResponse {
        query_language: Some(QueryLanguage::Cwli),
        results: Some(results),
        statistics: Some(statistics(&entry)),
        status: Some(status),
        next_token: more.then(|| crate::services::seal_token(&end.to_string())),
        ..GetQueryResultsResponse::default()
    })
}

fn statistics(entry: &Entry) -> QueryStatistics {
    let counts = entry.counts();
    QueryStatistics {
        records_matched: Some(float(counts.matched)),
        records_scanned: Some(float(counts.scanned)),
        bytes_scanned: Some(float(counts.bytes)),
        // Nothing is estimated: what is left out is not known by number.
        estimated_records_skipped: Some(0.0),
        estimated_bytes_skipped: Some(0.0),
        log_groups_scanned: Some(float(entry.asked.groups.len() as u64)),
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "the model has doubles; beyond 2^53 the last digits are lost"
)]
fn float(count: u64) -> f64 {
    count as f64
}

pub(crate) async fn stop_query(
    cx: &Context,
    scope: &Scope,
    input: StopQueryRequest,
) -> Result<StopQueryResponse, ApiError> {
    let entry = find(cx, scope, input.query_id)?;
    if !entry.stop() {
        return Err(error::invalid_parameter_exception(
            "The specified query is not running.",
        ));
    }
    Ok(StopQueryResponse { success: Some(true) })
}

pub(crate) async fn describe_queries(
    cx: &Context,
    scope: &Scope,
    input: DescribeQueriesRequest,
) -> Result<DescribeQueriesResponse, ApiError> {
    let start: usize = match input.next_token.as_deref() {
        None => 0,
        Some(token) => crate::services::open_token(token)
            .and_then(|at| at.parse().ok())
            .ok_or_else(invalid_token)?,
    };
    let most = input.max_results.and_then(|most| usize::try_from(most).ok());
    let most = most.unwrap_or(QUERIES_PAGE).clamp(1, QUERIES_PAGE);
    let wanted = |entry: &Arc<Entry>| {
        let group = input.log_group_name.as_ref();
        let language = input.query_language;
        group.is_none_or(|group| entry.asked.groups.contains(group))
            && language.is_none_or(|language| language == QueryLanguage::Cwli)
            && input.status.is_none_or(|status| status == entry.status())
    };
    let entries = cx.queries.list(&scope.account, &scope.region);
    let mut rest = entries.into_iter().filter(wanted).skip(start);
    let page: Vec<Arc<Entry>> = rest.by_ref().take(most).collect();
    let next = rest.next().map(|_| start + page.len());
    Ok(DescribeQueriesResponse {
        queries: Some(page.iter().map(|entry| entry.describe()).collect()),
        next_token: next
            .map(|next| crate::services::seal_token(&next.to_string())),
    })
}

/// Whether a query with this status is still to give results.
fn is_going(status: QueryStatus) -> bool {
    match status {
        QueryStatus::Scheduled | QueryStatus::Running => true,
        QueryStatus::Complete
        | QueryStatus::Failed
        | QueryStatus::Cancelled
        | QueryStatus::Timeout
        | QueryStatus::Unknown => false,
    }
}
