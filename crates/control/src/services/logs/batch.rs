//! The rules of PutLogEvents for a batch of events.

use minato_wire::logs::{InputLogEvent, RejectedLogEventsInfo, error};
use minato_wire::{ApiError, Timestamp};

use super::rows::DAY_MS;
use crate::logs::{EVENT_OVERHEAD, NewEvent};

/// Events older than this are dropped.
const OLDEST_MS: i64 = 14 * DAY_MS;
/// Events further ahead than this are dropped.
const NEWEST_MS: i64 = 2 * 60 * 60 * 1000;
/// Message bytes and [`EVENT_OVERHEAD`] for each event.
const BATCH_BYTES: u64 = 1_048_576;

/// What is kept of a batch, and what is said of the rest.
#[derive(Debug, PartialEq)]
pub(super) struct Accepted {
    pub(super) events: Vec<NewEvent>,
    pub(super) rejected: Option<RejectedLogEventsInfo>,
}

/// Checks a batch; `expire_before` is the group's retention.
pub(super) fn accept(
    events: Vec<InputLogEvent>,
    now: Timestamp,
    expire_before: i64,
) -> Result<Accepted, ApiError> {
    let events: Vec<NewEvent> = events
        .into_iter()
        .map(|event| NewEvent {
            timestamp: event.timestamp.unwrap_or_default(),
            message: event.message.unwrap_or_default(),
        })
        .collect();
    check(&events)?;
    let now = now.as_millis();
    // Sorted by time, so each reason to drop cuts off one end.
    let too_old = events.partition_point(|e| e.timestamp < now - OLDEST_MS);
    let expired = events.partition_point(|e| e.timestamp < expire_before);
    let too_new = events.partition_point(|e| e.timestamp <= now + NEWEST_MS);
    let index = |at: usize| i32::try_from(at).ok();
    let rejected = RejectedLogEventsInfo {
        too_old_log_event_end_index: index(too_old).filter(|at| *at > 0),
        expired_log_event_end_index: index(expired)
            .filter(|_| expired > too_old),
        too_new_log_event_start_index: index(too_new)
            .filter(|_| too_new < events.len()),
    };
    let first = too_old.max(expired).min(too_new);
    let mut kept = events;
    kept.truncate(too_new);
    kept.drain(..first);
    Ok(Accepted {
        events: kept,
        rejected: Some(rejected)
            .filter(|info| *info != RejectedLogEventsInfo::default()),
    })
}

fn check(events: &[NewEvent]) -> Result<(), ApiError> {
    let refuse = |text: String| Err(error::invalid_parameter_exception(text));
    let bytes: u64 = events
        .iter()
        .map(|event| event.message.len() as u64 + EVENT_OVERHEAD)
        .sum();
    if bytes > BATCH_BYTES {
        return refuse(format!(
            "Upload too large: {bytes} bytes exceeds limit of {BATCH_BYTES}"
        ));
    }
    if !events.is_sorted_by_key(|event| event.timestamp) {
        return refuse(
            "Log events in a single PutLogEvents request must be in \
             chronological order."
                .to_owned(),
        );
    }
    if let (Some(first), Some(last)) = (events.first(), events.last())
        && last.timestamp.saturating_sub(first.timestamp) > DAY_MS
    {
        return refuse(
            "The batch of log events in a single PutLogEvents request cannot \
             span more than 24 hours."
                .to_owned(),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000;
    const HOUR: i64 = 60 * 60 * 1000;

    fn put(times: &[i64]) -> Result<Accepted, ApiError> {
        put_with(times, i64::MIN)
    }

    fn put_with(
        times: &[i64],
        expire_before: i64,
    ) -> Result<Accepted, ApiError> {
        let event = |at: &i64| InputLogEvent {
            timestamp: Some(*at),
            message: Some("m".to_owned()),
        };
        let events = times.iter().map(event).collect();
        accept(events, Timestamp::from_millis(NOW), expire_before)
    }

    #[test]
    fn ordinary_batches_are_kept_whole() {
        let accepted = put(&[NOW - 5, NOW - 5, NOW]).unwrap();
        assert_eq!(accepted.events.len(), 3);
        assert_eq!(accepted.rejected, None);
    }

    #[test]
    fn disorder_and_long_spans_are_refused() {
        let error = put(&[NOW, NOW - 1]).unwrap_err();
        assert!(error.message().contains("chronological order"));
        assert!(put(&[NOW - 24 * HOUR, NOW]).is_ok());
        let error = put(&[NOW - 24 * HOUR - 1, NOW]).unwrap_err();
        assert!(error.message().contains("24 hours"));
    }

    #[test]
    fn events_out_of_range_are_named_and_dropped() {
        let old = NOW - 14 * 24 * HOUR;
        let accepted = put(&[old - 2, old - 1, old]).unwrap();
        let rejected = accepted.rejected.unwrap();
        assert_eq!(rejected.too_old_log_event_end_index, Some(2));
        assert_eq!(accepted.events.len(), 1);
        let accepted = put(&[NOW, NOW + 2 * HOUR, NOW + 2 * HOUR + 1]).unwrap();
        let rejected = accepted.rejected.unwrap();
        assert_eq!(rejected.too_new_log_event_start_index, Some(2));
        assert_eq!(accepted.events.len(), 2);
        let accepted =
            put_with(&[NOW - 3 * HOUR, NOW], NOW - 2 * HOUR).unwrap();
        let rejected = accepted.rejected.unwrap();
        assert_eq!(rejected.expired_log_event_end_index, Some(1));
        assert_eq!(rejected.too_old_log_event_end_index, None);
        assert_eq!(accepted.events.len(), 1);
    }

    #[test]
    fn a_batch_is_at_most_a_mebibyte() {
        let event = |length: usize| InputLogEvent {
            timestamp: Some(NOW),
            message: Some("x".repeat(length)),
        };
        let now = Timestamp::from_millis(NOW);
        let limit = 1_048_576 - 26;
        assert!(accept(vec![event(limit)], now, 0).is_ok());
        let error = accept(vec![event(limit + 1)], now, 0).unwrap_err();
        assert_eq!(
            error.message(),
            "Upload too large: 1048577 bytes exceeds limit of 1048576"
        );
    }
}
