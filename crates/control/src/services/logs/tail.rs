//! StartLiveTail: events of groups as they come in, once a second.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use minato_core::filter_pattern::FilterPattern;
use minato_store::Snapshot;
use minato_wire::ApiError;
use minato_wire::event_stream::StreamEvent;
use minato_wire::logs::{
    LiveTailSessionLogEvent, LiveTailSessionMetadata, LiveTailSessionStart,
    LiveTailSessionUpdate, StartLiveTailRequest, error,
};
use serde::Serialize;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::lookup;
use super::rows::{LogGroupRow, LogStreamRow};
use crate::context::{Context, Scope};
use crate::logs::{GroupId, StreamId, TailEvents, TailQueue};
use crate::services::Empty;

/// How often a session is told what came in (`LiveTailSessionUpdate`).
const UPDATE_EVERY: Duration = Duration::from_secs(1);
/// How long a session lasts (`SessionTimeoutException`).
const LONGEST: Duration = Duration::from_secs(3 * 60 * 60);
/// Sessions at once (CloudWatch Logs quotas: 15 of an account; here they are
/// of all accounts).
const MOST_SESSIONS: usize = 15;
/// Events of the stream that may wait for a slow client. It is then told the
/// more at once, and what is too much is left out.
pub(crate) const EVENTS_AHEAD: usize = 1;

/// The sessions that may still begin.
#[derive(Debug)]
pub(crate) struct LiveTails(Arc<Semaphore>);

impl Default for LiveTails {
    fn default() -> LiveTails {
        LiveTails(Arc::new(Semaphore::new(MOST_SESSIONS)))
    }
}

/// The answer over a connection that cannot carry events.
pub(super) async fn needs_stream(
    _: &Context,
    _: &Scope,
    _: StartLiveTailRequest,
) -> Result<Empty, ApiError> {
    Err(error::invalid_operation_exception(
        "StartLiveTail answers with a stream of events, which this \
         connection cannot carry.",
    ))
}

/// A session that was asked for.
pub(crate) struct Session {
    cx: Arc<Context>,
    start: LiveTailSessionStart,
    /// The identifiers under which groups are shown: `account:name`.
    groups: HashMap<GroupId, String>,
    queue: Arc<TailQueue>,
    _permit: OwnedSemaphorePermit,
}

/// Checks what is asked for and begins to collect events.
pub(crate) fn start(
    cx: &Arc<Context>,
    scope: &Scope,
    request_id: String,
    input: StartLiveTailRequest,
) -> Result<Session, ApiError> {
    let snapshot = cx.snapshot();
    let identifiers = input.log_group_identifiers.unwrap_or_default();
    let groups = groups(&snapshot, scope, &identifiers)?;
    let names = input.log_stream_names;
    let prefixes = input.log_stream_name_prefixes;
    if names.is_some() && prefixes.is_some() {
        return Err(error::invalid_parameter_exception(
            "logStreamNames and logStreamNamePrefixes cannot both be \
             specified.",
        ));
    }
    if groups.len() > 1 && (names.is_some() || prefixes.is_some()) {
        return Err(error::invalid_parameter_exception(
            "logStreamNames and logStreamNamePrefixes can be specified with \
             one log group only.",
        ));
    }
    let text = input.log_event_filter_pattern;
    let pattern = FilterPattern::parse(text.as_deref().unwrap_or_default())
        .map_err(|e| error::invalid_parameter_exception(e.to_string()))?;
    let permit = Arc::clone(&cx.tails.0).try_acquire_owned().map_err(|_| {
        error::limit_exceeded_exception(format!(
            "At most {MOST_SESSIONS} Live Tail sessions can run at once."
        ))
    })?;
    let ids: Vec<GroupId> = groups.iter().map(|g| g.group_id()).collect();
    let streams = Streams {
        cx: Arc::clone(cx),
        names: names.clone().map(|names| names.into_iter().collect()),
        prefixes: prefixes.clone(),
    };
    let queue = cx.logs.follow(&ids, move |_, stream, message| {
        pattern.matches(message) && streams.wants(stream)
    });
    let shown = |group: &Arc<LogGroupRow>| {
        let name = format!("{}:{}", group.account, group.name);
        (group.group_id(), name)
    };
    Ok(Session {
        cx: Arc::clone(cx),
        start: LiveTailSessionStart {
            request_id: Some(request_id),
            session_id: Some(minato_core::id::hyphenated(cx.ids.uuid())),
            log_group_identifiers: Some(identifiers),
            log_stream_names: names,
            log_stream_name_prefixes: prefixes,
            log_event_filter_pattern: text,
        },
        groups: groups.iter().map(shown).collect(),
        queue,
        _permit: permit,
    })
}

/// The groups asked for, which must be named by their ARNs.
fn groups(
    snapshot: &Snapshot,
    scope: &Scope,
    identifiers: &[String],
) -> Result<Vec<Arc<LogGroupRow>>, ApiError> {
    let mut groups = vec![];
    for identifier in identifiers {
        if !identifier.starts_with("arn:") {
            return Err(error::invalid_parameter_exception(
                "logGroupIdentifiers must be ARNs of log groups.",
            ));
        }
        let name = lookup::group_name(scope, identifier)?;
        groups.push(lookup::group(snapshot, scope, name)?);
    }
    groups.sort_by(|a, b| a.name.cmp(&b.name));
    groups.dedup_by(|a, b| a.name == b.name);
    Ok(groups)
}

/// Which streams are followed; they may be made after the session begins.
struct Streams {
    cx: Arc<Context>,
    names: Option<BTreeSet<String>>,
    prefixes: Option<Vec<String>>,
}

impl Streams {
    fn wants(&self, stream: StreamId) -> bool {
        if self.names.is_none() && self.prefixes.is_none() {
            return true;
        }
        let Some(row) = row_of(&self.cx.snapshot(), stream) else {
            return false;
        };
        let names = self.names.as_ref();
        let prefixes = self.prefixes.as_ref();
        names.is_none_or(|names| names.contains(&row.name))
            && prefixes.is_none_or(|prefixes| {
                prefixes.iter().any(|prefix| row.name.starts_with(prefix))
            })
    }
}

fn row_of(snapshot: &Snapshot, stream: StreamId) -> Option<Arc<LogStreamRow>> {
    let key = LogStreamRow::id_key(stream);
    let mut rows = snapshot.by_index::<LogStreamRow>(LogStreamRow::BY_ID, &key);
    rows.next()
}

impl Session {
    /// Tells of events until the client has gone, three hours have passed or
    /// Minato stops.
    pub(crate) async fn run(
        self,
        to: mpsc::Sender<StreamEvent>,
        stop: CancellationToken,
    ) {
        let started = event("sessionStart", &self.start);
        if to.send(started).await.is_err() {
            return;
        }
        let end = Instant::now() + LONGEST;
        let mut ticks = tokio::time::interval_at(
            Instant::now() + UPDATE_EVERY,
            UPDATE_EVERY,
        );
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => {
                    let why = json!({ "message": "Minato is shutting down." });
                    let name = "SessionStreamingException";
                    let _ = to.try_send(StreamEvent::exception(name, why));
                    return;
                }
                () = to.closed() => return,
                () = tokio::time::sleep_until(end) => {
                    let why = json!({
                        "message": "The session lasted for three hours."
                    });
                    let name = "SessionTimeoutException";
                    let _ = to.send(StreamEvent::exception(name, why)).await;
                    return;
                }
                _ = ticks.tick() => {}
            }
            // A client that reads slowly is not waited for: what comes in
            // meanwhile is for the next update.
            let Ok(place) = to.try_reserve() else { continue };
            place.send(event("sessionUpdate", &self.update()));
        }
    }

    fn update(&self) -> LiveTailSessionUpdate {
        let TailEvents { events, sampled, .. } = self.queue.take();
        let snapshot = self.cx.snapshot();
        let mut names: HashMap<StreamId, Option<Arc<LogStreamRow>>> =
            HashMap::new();
        let results = events.into_iter().map(|event| {
            let row = names
                .entry(event.stream)
                .or_insert_with(|| row_of(&snapshot, event.stream));
            LiveTailSessionLogEvent {
                log_stream_name: row.as_ref().map(|row| row.name.clone()),
                log_group_identifier: self.groups.get(&event.group).cloned(),
                message: Some(event.message),
                timestamp: Some(event.timestamp),
                ingestion_time: Some(event.ingested_at),
            }
        });
        LiveTailSessionUpdate {
            session_metadata: Some(LiveTailSessionMetadata {
                sampled: Some(sampled),
            }),
            session_results: Some(results.collect()),
        }
    }
}

fn event(name: &'static str, payload: &impl Serialize) -> StreamEvent {
    // Shapes of strings, numbers and lists always have a document.
    let payload = serde_json::to_value(payload).unwrap_or_default();
    StreamEvent::event(name, payload)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value};

    use super::*;
    use crate::testing::TestBed;

    async fn ok(bed: &TestBed, operation: &str, input: Value) {
        let scope = bed.scope();
        let done =
            crate::services::logs::dispatch(&bed.cx, &scope, operation, input);
        done.await.unwrap_or_else(|e| panic!("{operation}: {e:?}"));
    }

    async fn put(bed: &TestBed, stream: &str, message: &str) {
        let events = json!([{
            "timestamp": bed.scope().now.as_millis(), "message": message,
        }]);
        let input = json!({
            "logGroupName": "g", "logStreamName": stream, "logEvents": events,
        });
        ok(bed, "PutLogEvents", input).await;
    }

    async fn bed() -> TestBed {
        let bed = TestBed::new();
        ok(&bed, "CreateLogGroup", json!({"logGroupName": "g"})).await;
        for stream in ["a1", "a2", "b1"] {
            let input = json!({"logGroupName": "g", "logStreamName": stream});
            ok(&bed, "CreateLogStream", input).await;
        }
        bed
    }

    fn begin(bed: &TestBed, more: Value) -> Result<Session, ApiError> {
        let mut input = json!({
            "logGroupIdentifiers":
                ["arn:aws:logs:us-east-1:000000000000:log-group:g"],
        });
        let more = more.as_object().unwrap().clone();
        input.as_object_mut().unwrap().extend(more);
        let input = from_value(input).unwrap();
        start(&bed.cx, &bed.scope(), "r".to_owned(), input)
    }

    fn messages(session: &Session) -> Vec<String> {
        let results = session.update().session_results.unwrap_or_default();
        results.into_iter().filter_map(|event| event.message).collect()
    }

    #[tokio::test]
    async fn sessions_see_the_streams_and_messages_they_ask_for() {
        let bed = bed().await;
        let all = begin(&bed, json!({})).unwrap();
        let named = json!({"logStreamNames": ["a1"]});
        let named = begin(&bed, named).unwrap();
        let prefixed = json!({"logStreamNamePrefixes": ["a"]});
        let prefixed = begin(&bed, prefixed).unwrap();
        let filtered = json!({"logEventFilterPattern": "ERROR"});
        let filtered = begin(&bed, filtered).unwrap();
        put(&bed, "a1", "1").await;
        put(&bed, "a2", "2 ERROR").await;
        put(&bed, "b1", "3").await;
        assert_eq!(messages(&all), ["1", "2 ERROR", "3"]);
        assert_eq!(messages(&named), ["1"]);
        assert_eq!(messages(&prefixed), ["1", "2 ERROR"]);
        assert_eq!(messages(&filtered), ["2 ERROR"]);
        assert!(messages(&all).is_empty());
        for (wrong, code) in [
            (
                json!({"logGroupIdentifiers": ["g"]}),
                "InvalidParameterException",
            ),
            (
                json!({"logStreamNames": ["a"], "logStreamNamePrefixes": ["a"]}),
                "InvalidParameterException",
            ),
            (
                json!({"logEventFilterPattern": "{"}),
                "InvalidParameterException",
            ),
            (
                json!({"logGroupIdentifiers":
                    ["arn:aws:logs:us-east-1:000000000000:log-group:no"]}),
                "ResourceNotFoundException",
            ),
        ] {
            let error = begin(&bed, wrong).err().unwrap();
            assert_eq!(error.code(), code);
        }
        let more: Vec<Session> = (4..MOST_SESSIONS)
            .map(|_| begin(&bed, json!({})).unwrap())
            .collect();
        let error = begin(&bed, json!({})).err().unwrap();
        assert_eq!(error.code(), "LimitExceededException");
        drop(more);
        assert!(begin(&bed, json!({})).is_ok());
        bed.cx.logs.close().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_updates_each_second_and_ends_after_three_hours() {
        let bed = bed().await;
        let session = begin(&bed, json!({})).unwrap();
        let (events, mut stream) = mpsc::channel(EVENTS_AHEAD);
        let begun = Instant::now();
        tokio::spawn(session.run(events, CancellationToken::new()));
        let mut updates = 0;
        let mut last = stream.recv().await.unwrap();
        assert_eq!(last.name(), "sessionStart");
        while let Some(event) = stream.recv().await {
            updates += u32::from(event.name() == "sessionUpdate");
            last = event;
        }
        assert_eq!(last.name(), "SessionTimeoutException");
        assert_eq!(begun.elapsed().as_secs(), 3 * 60 * 60);
        assert!((10_790..=10_800).contains(&updates), "{updates}");
        bed.cx.logs.close().await;
    }
}
