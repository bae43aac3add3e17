//! From a spool to a log stream.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use minato_wire::logs::{
    CreateLogStreamRequest, InputLogEvent, PutLogEventsRequest,
};
use serde_json::Value;
use tokio::sync::watch;

use super::lines::Lines;
use super::spool::{Progress, READ_MAX, Spool};
use super::{Author, NotSent};
use crate::api::{ApiCallError, ApiService, call_as};
use crate::backoff::Backoff;
use crate::logs::batch::{Event, batch_len};

/// Least time between two batches; the SSM agent's own.
const LINGER: Duration = Duration::from_secs(1);

/// Why the log stream does not get more.
#[derive(Debug, thiserror::Error)]
pub(super) enum StreamError {
    #[error(transparent)]
    Api(#[from] ApiCallError),
    #[error("the log could not be read back")]
    Read(#[from] io::Error),
    #[error(transparent)]
    NotSent(#[from] NotSent),
}

impl StreamError {
    /// Whether the same may succeed later.
    fn is_transient(&self) -> bool {
        match self {
            StreamError::Api(error) => error.is_transient(),
            StreamError::NotSent(_) => true,
            StreamError::Read(_) => false,
        }
    }
}

/// A session's log stream, made with its first lines.
#[derive(Debug)]
pub(super) struct Stream {
    author: Author,
    group: String,
    region: String,
    name: String,
    is_made: bool,
    last_ms: i64,
}

impl Stream {
    pub(super) fn new(
        author: Author,
        group: String,
        region: String,
        name: String,
    ) -> Stream {
        Stream { author, group, region, name, is_made: false, last_ms: 0 }
    }

    /// Sends all that comes into a spool, until it is over.
    pub(super) async fn run(
        mut self,
        spool: &Arc<Spool>,
        mut progress: watch::Receiver<Progress>,
    ) -> Result<(), StreamError> {
        let mut lines = Lines::default();
        let mut at = 0;
        loop {
            let has_news = |it: &Progress| it.written > at || it.is_over;
            // A writer that is gone has said why.
            let Ok(seen) = progress.wait_for(has_news).await.map(|it| *it)
            else {
                return Ok(());
            };
            // What is beyond may be half written.
            let most = usize::try_from(seen.written - at);
            let most = most.map_or(READ_MAX, |most| most.min(READ_MAX));
            let piece = spool.read(at, most).await?;
            at += u64::try_from(piece.len()).unwrap_or(0);
            lines.push(&piece);
            let is_over = seen.is_over && at >= seen.written;
            self.send(lines.take(is_over)).await?;
            if is_over {
                return Ok(());
            }
            spool.release(at).await;
            if piece.len() < READ_MAX {
                let over = progress.wait_for(|it| it.is_over);
                let _ = tokio::time::timeout(LINGER, over).await;
            }
        }
    }

    async fn send(&mut self, messages: Vec<String>) -> Result<(), StreamError> {
        let now_ms = self.author.services.clock.now().as_millis();
        // Events go up in time only, whatever the clock does.
        self.last_ms = self.last_ms.max(now_ms);
        let timestamp_ms = self.last_ms;
        let events: Vec<Event> = messages
            .into_iter()
            .map(|message| Event { timestamp_ms, message })
            .collect();
        let mut rest = events.as_slice();
        while !rest.is_empty() {
            let (batch, later) = rest.split_at(batch_len(rest));
            self.put_patiently(batch).await?;
            rest = later;
        }
        Ok(())
    }

    /// What passes is tried again: the end of the session ends that.
    async fn put_patiently(
        &mut self,
        events: &[Event],
    ) -> Result<(), StreamError> {
        let mut backoff = Backoff::new(
            Duration::from_millis(100),
            Duration::from_secs(10),
            2.0,
        );
        loop {
            match self.put(events).await {
                Err(error) if error.is_transient() => {}
                other => return other,
            }
            let seed = self.author.services.ids.seed();
            tokio::time::sleep(backoff.next_delay(seed)).await;
        }
    }

    async fn put(&mut self, events: &[Event]) -> Result<(), StreamError> {
        let (group, stream) = (Some(&self.group), Some(&self.name));
        if !self.is_made {
            let input = CreateLogStreamRequest {
                log_group_name: group.cloned(),
                log_stream_name: stream.cloned(),
            };
            match self.call("CreateLogStream", &input).await {
                Err(StreamError::Api(error))
                    if error.is("ResourceAlreadyExistsException") => {}
                other => other?,
            }
            self.is_made = true;
        }
        let events = events.iter().map(|event| InputLogEvent {
            timestamp: Some(event.timestamp_ms),
            message: Some(event.message.clone()),
        });
        let input = PutLogEventsRequest {
            log_group_name: group.cloned(),
            log_stream_name: stream.cloned(),
            log_events: Some(events.collect()),
            ..PutLogEventsRequest::default()
        };
        self.call("PutLogEvents", &input).await
    }

    async fn call<I: serde::Serialize>(
        &self,
        operation: &'static str,
        input: &I,
    ) -> Result<(), StreamError> {
        let role = self.author.credentials()?;
        let api = &*self.author.services.api;
        let service = ApiService::Logs;
        let said: Result<Value, _> =
            call_as(api, role, service, &self.region, operation, input).await;
        Ok(said.map(drop)?)
    }
}
