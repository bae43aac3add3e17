//! CreateLogStream, DeleteLogStream, DescribeLogStreams.

use std::cmp::Reverse;
use std::sync::Arc;

use minato_store::Row as _;
use minato_wire::ApiError;
use minato_wire::logs::{
    CreateLogStreamRequest, DeleteLogStreamRequest, DescribeLogStreamsRequest,
    DescribeLogStreamsResponse, LogStream, OrderBy, error,
};

use super::rows::{LogGroupRow, LogStreamRow, hex};
use super::token::invalid_token;
use super::{lookup, not_read};
use crate::context::{Context, Scope};
use crate::logs::StreamStats;
use crate::services::Empty;

pub(super) async fn create_log_stream(
    cx: &Context,
    scope: &Scope,
    input: CreateLogStreamRequest,
) -> Result<Empty, ApiError> {
    let scope = scope.clone();
    let id = hex(cx.ids.uuid());
    cx.transact(move |tx| {
        let group = input.log_group_name.unwrap_or_default();
        let group = lookup::group_in(tx, &scope, &group)?;
        let row = LogStreamRow {
            account: scope.account,
            region: scope.region,
            group: group.name.clone(),
            name: input.log_stream_name.unwrap_or_default(),
            id,
            created_at: scope.now,
        };
        if tx.contains::<LogStreamRow>(&row.key()) {
            return Err(error::resource_already_exists_exception(
                "The specified log stream already exists",
            ));
        }
        tx.put(row);
        Ok(Empty {})
    })
    .await
}

pub(super) async fn delete_log_stream(
    cx: &Context,
    scope: &Scope,
    input: DeleteLogStreamRequest,
) -> Result<Empty, ApiError> {
    let scope = scope.clone();
    // The events go with the next sweep; without the row nobody finds them.
    cx.transact(move |tx| {
        let group = input.log_group_name.unwrap_or_default();
        let group = lookup::group_in(tx, &scope, &group)?;
        let name = input.log_stream_name.unwrap_or_default();
        let deleted =
            tx.delete::<LogStreamRow>(&LogStreamRow::key_of(&group, &name));
        deleted.map(|_| Empty {}).ok_or_else(lookup::no_such_stream)
    })
    .await
}

/// Streams on a page, by default and at most.
const PAGE: usize = 50;

pub(super) async fn describe_log_streams(
    cx: &Context,
    scope: &Scope,
    input: DescribeLogStreamsRequest,
) -> Result<DescribeLogStreamsResponse, ApiError> {
    let order = input.order_by.unwrap_or(OrderBy::LogStreamName);
    let prefix = input.log_stream_name_prefix.unwrap_or_default();
    if order == OrderBy::LastEventTime && !prefix.is_empty() {
        return Err(error::invalid_parameter_exception(
            "Cannot order by LastEventTime with a logStreamNamePrefix.",
        ));
    }
    let snapshot = cx.snapshot();
    let group = lookup::named_group(
        &snapshot,
        scope,
        input.log_group_name.as_deref(),
        input.log_group_identifier.as_deref(),
    )?;
    let mut streams: Vec<Placed> = snapshot
        .scan::<LogStreamRow>(&LogStreamRow::prefix_of(&group))
        .filter(|row| row.name.starts_with(&prefix))
        .map(|row| Placed { time: 0, row })
        .collect();
    if order == OrderBy::LastEventTime {
        let stats = cx.logs.streams(group.group_id()).await;
        let stats = stats.map_err(|e| not_read(&e))?;
        for stream in &mut streams {
            let stats = stats.get(&stream.row.stream_id());
            stream.time = stats.map_or(0, |stats| stats.last_event_at);
        }
    }
    let descending = input.descending.unwrap_or(false);
    if descending {
        streams.sort_by(|a, b| Reverse(a.place()).cmp(&Reverse(b.place())));
    } else {
        streams.sort_by(|a, b| a.place().cmp(&b.place()));
    }
    let after = input.next_token.as_deref().map(open).transpose()?;
    let limit = input.limit.and_then(|limit| usize::try_from(limit).ok());
    let mut rest = streams.into_iter().filter(|stream| {
        after.as_ref().is_none_or(|(time, name)| {
            let after = (*time, name.as_str());
            if descending {
                stream.place() < after
            } else {
                stream.place() > after
            }
        })
    });
    let page: Vec<Placed> =
        rest.by_ref().take(limit.unwrap_or(PAGE).max(1)).collect();
    let next_token = match (page.last(), rest.next()) {
        (Some(last), Some(_)) => Some(seal(last)),
        _ => None,
    };
    let log_streams = Some(describe_all(cx, &group, &page).await?);
    Ok(DescribeLogStreamsResponse { log_streams, next_token })
}

/// A stream and its place in the order asked for.
struct Placed {
    time: i64,
    row: Arc<LogStreamRow>,
}

impl Placed {
    fn place(&self) -> (i64, &str) {
        (self.time, &self.row.name)
    }
}

fn seal(stream: &Placed) -> String {
    let (time, name) = stream.place();
    crate::services::seal_token(&format!("{time}:{name}"))
}

fn open(token: &str) -> Result<(i64, String), ApiError> {
    let parse = || {
        let place = crate::services::open_token(token)?;
        let (time, name) = place.split_once(':')?;
        Some((time.parse().ok()?, name.to_owned()))
    };
    parse().ok_or_else(invalid_token)
}

async fn describe_all(
    cx: &Context,
    group: &LogGroupRow,
    page: &[Placed],
) -> Result<Vec<LogStream>, ApiError> {
    let ids = page.iter().map(|stream| stream.row.stream_id()).collect();
    let stats = cx.logs.streams_of(group.group_id(), ids).await;
    let stats = stats.map_err(|e| not_read(&e))?;
    let describe = |stream: &Placed| {
        let stats = stats.get(&stream.row.stream_id());
        describe(&stream.row, stats)
    };
    Ok(page.iter().map(describe).collect())
}

fn describe(row: &LogStreamRow, stats: Option<&StreamStats>) -> LogStream {
    LogStream {
        log_stream_name: Some(row.name.clone()),
        creation_time: Some(row.created_at.as_millis()),
        first_event_timestamp: stats.map(|stats| stats.first_event_at),
        last_event_timestamp: stats.map(|stats| stats.last_event_at),
        last_ingestion_time: stats.map(|stats| stats.last_ingested_at),
        upload_sequence_token: Some(row.sequence_token()),
        arn: Some(row.arn()),
        // AWS has reported zero for every stream since 2019.
        stored_bytes: Some(0),
    }
}
