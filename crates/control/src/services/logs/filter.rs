//! FilterLogEvents.

use std::collections::{BTreeSet, HashMap};

use minato_core::filter_pattern::FilterPattern;
use minato_store::Snapshot;
use minato_wire::ApiError;
use minato_wire::logs::{
    FilterLogEventsRequest, FilterLogEventsResponse, FilteredLogEvent, error,
};

use super::events::limit;
use super::rows::{LogGroupRow, LogStreamRow};
use super::token::{event_id, read_group_token, write_group_token};
use super::{lookup, not_read};
use crate::context::{Context, Scope};
use crate::logs::{Direction, Query, StoredEvent, StreamId};

pub(super) async fn filter_log_events(
    cx: &Context,
    scope: &Scope,
    input: FilterLogEventsRequest,
) -> Result<FilterLogEventsResponse, ApiError> {
    let snapshot = cx.snapshot();
    let group = lookup::named_group(
        &snapshot,
        scope,
        input.log_group_name.as_deref(),
        input.log_group_identifier.as_deref(),
    )?;
    let pattern = input.filter_pattern.as_deref().unwrap_or_default();
    let pattern = FilterPattern::parse(pattern)
        .map_err(|e| error::invalid_parameter_exception(e.to_string()))?;
    let token = input.next_token.as_deref();
    let beyond =
        token.map(|token| read_group_token(token, &group.id)).transpose()?;
    let wanted = wanted(
        &snapshot,
        &group,
        input.log_stream_names,
        input.log_stream_name_prefix,
    )?;
    let from = input.start_time.unwrap_or(0);
    let query = Query {
        direction: Direction::Forward,
        beyond,
        from: from.max(group.expire_before(scope.now)),
        // "Events with a timestamp later than this time are not returned"
        // (API reference, FilterLogEvents): one at this time is.
        until: input.end_time.map_or(i64::MAX, |end| end.saturating_add(1)),
        limit: limit(input.limit),
        wanted,
        pattern: Some(pattern).filter(|pattern| !pattern.is_everything()),
    };
    let page = cx.logs.query(group.group_id(), query).await;
    let page = page.map_err(|e| not_read(&e))?;
    let next_token = page.next.map(|at| write_group_token(at, &group.id));
    let events = describe(&snapshot, page.events);
    Ok(FilterLogEventsResponse {
        events: Some(events),
        // AWS has returned an empty list since 2020.
        searched_log_streams: Some(vec![]),
        next_token,
    })
}

/// Which streams' events are asked for. Events whose stream was deleted are
/// still in the segments, but no row leads to them.
fn wanted(
    snapshot: &Snapshot,
    group: &LogGroupRow,
    names: Option<Vec<String>>,
    prefix: Option<String>,
) -> Result<Box<dyn Fn(StreamId) -> bool + Send>, ApiError> {
    if names.is_some() && prefix.is_some() {
        return Err(error::invalid_parameter_exception(
            "logStreamNamePrefix and logStreamNames cannot both be specified.",
        ));
    }
    if let Some(names) = names {
        let mut ids = BTreeSet::new();
        for name in names {
            ids.insert(lookup::stream(snapshot, group, &name)?.stream_id());
        }
        return Ok(Box::new(move |id| ids.contains(&id)));
    }
    let snapshot = snapshot.clone();
    let prefix = prefix.unwrap_or_default();
    Ok(Box::new(move |id| {
        let key = LogStreamRow::id_key(id);
        let mut rows =
            snapshot.by_index::<LogStreamRow>(LogStreamRow::BY_ID, &key);
        rows.next().is_some_and(|row| row.name.starts_with(&prefix))
    }))
}

fn describe(
    snapshot: &Snapshot,
    events: Vec<StoredEvent>,
) -> Vec<FilteredLogEvent> {
    let mut names: HashMap<StreamId, Option<String>> = HashMap::new();
    let mut name_of = |id: StreamId| {
        let name = names.entry(id).or_insert_with(|| {
            let key = LogStreamRow::id_key(id);
            let mut rows =
                snapshot.by_index::<LogStreamRow>(LogStreamRow::BY_ID, &key);
            rows.next().map(|row| row.name.clone())
        });
        name.clone()
    };
    let describe = |event: StoredEvent| FilteredLogEvent {
        log_stream_name: name_of(event.stream),
        timestamp: Some(event.position.timestamp),
        event_id: Some(event_id(event.position, event.stream)),
        message: Some(event.message),
        ingestion_time: Some(event.ingested_at),
    };
    events.into_iter().map(describe).collect()
}
