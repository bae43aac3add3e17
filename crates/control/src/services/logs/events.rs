//! PutLogEvents and GetLogEvents.

use minato_wire::ApiError;
use minato_wire::logs::{
    EntityRejectionErrorType, GetLogEventsRequest, GetLogEventsResponse,
    OutputLogEvent, PutLogEventsRequest, PutLogEventsResponse,
    RejectedEntityInfo,
};

use super::token::StreamToken;
use super::{batch, lookup, not_kept, not_read};
use crate::context::{Context, Scope};
use crate::logs::{Direction, Position, Query};

/// Events on a page, by default and at most.
pub(super) const PAGE: usize = 10_000;

pub(super) async fn put_log_events(
    cx: &Context,
    scope: &Scope,
    input: PutLogEventsRequest,
) -> Result<PutLogEventsResponse, ApiError> {
    let snapshot = cx.snapshot();
    let group = input.log_group_name.as_deref().unwrap_or_default();
    let group = lookup::group(&snapshot, scope, group)?;
    let stream = input.log_stream_name.as_deref().unwrap_or_default();
    let stream = lookup::stream(&snapshot, &group, stream)?;
    let accepted = batch::accept(
        input.log_events.unwrap_or_default(),
        scope.now,
        group.expire_before(scope.now),
    )?;
    let now = scope.now.as_millis();
    cx.logs
        .append(group.group_id(), stream.stream_id(), now, &accepted.events)
        .await
        .map_err(|e| not_kept(&e))?;
    // Nothing here can look at logs by entity, and the caller is told so in
    // the way that AWS tells those whose log groups cannot.
    let rejected_entity_info = input.entity.map(|_| RejectedEntityInfo {
        error_type: Some(EntityRejectionErrorType::UnsupportedLogGroupType),
    });
    Ok(PutLogEventsResponse {
        next_sequence_token: Some(stream.sequence_token()),
        rejected_log_events_info: accepted.rejected,
        rejected_entity_info,
    })
}

pub(super) async fn get_log_events(
    cx: &Context,
    scope: &Scope,
    input: GetLogEventsRequest,
) -> Result<GetLogEventsResponse, ApiError> {
    let snapshot = cx.snapshot();
    let group = lookup::named_group(
        &snapshot,
        scope,
        input.log_group_name.as_deref(),
        input.log_group_identifier.as_deref(),
    )?;
    let name = input.log_stream_name.as_deref().unwrap_or_default();
    let stream = lookup::stream(&snapshot, &group, name)?.stream_id();
    let token = input.next_token.as_deref();
    let token =
        token.map(|token| StreamToken::read(token, stream)).transpose()?;
    let from_head = input.start_from_head.unwrap_or(false);
    let (direction, beyond) = match token {
        Some(StreamToken::Forward(at)) => (Direction::Forward, Some(at)),
        Some(StreamToken::Backward(at)) => (Direction::Backward, Some(at)),
        None if from_head => (Direction::Forward, None),
        None => (Direction::Backward, None),
    };
    let from = input.start_time.unwrap_or(0);
    let query = Query {
        direction,
        beyond,
        from: from.max(group.expire_before(scope.now)),
        // "Events with a timestamp equal to or later than this time are not
        // included" (API reference, GetLogEvents).
        until: input.end_time.unwrap_or(i64::MAX),
        limit: limit(input.limit),
        wanted: Box::new(move |id| id == stream),
        pattern: None,
    };
    let page = cx.logs.query(group.group_id(), query).await;
    let events = page.map_err(|e| not_read(&e))?.events;
    // At either end a token leads to itself, so that callers see they have
    // arrived and followers can go on from it.
    let here = beyond.unwrap_or(Position { timestamp: from, sequence: 0 });
    let first = events.first().map_or(here, |event| event.position);
    let last = events.last().map_or(here, |event| event.position);
    let output = events.into_iter().map(|event| OutputLogEvent {
        timestamp: Some(event.position.timestamp),
        message: Some(event.message),
        ingestion_time: Some(event.ingested_at),
    });
    Ok(GetLogEventsResponse {
        events: Some(output.collect()),
        next_forward_token: Some(StreamToken::Forward(last).write(stream)),
        next_backward_token: Some(StreamToken::Backward(first).write(stream)),
    })
}

/// The page size asked for.
pub(super) fn limit(given: Option<i32>) -> usize {
    let given = given.and_then(|limit| usize::try_from(limit).ok());
    given.unwrap_or(PAGE).clamp(1, PAGE)
}
