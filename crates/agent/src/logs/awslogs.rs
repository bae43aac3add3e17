//! The awslogs driver: from the log files to CloudWatch Logs.
//!
//! Each line arrives once, in order, with the time the container wrote it.
//! Batches are sent one after the other, and after each the place in the log
//! is kept (see [`super::checkpoint`]), so a new agent goes on where the last
//! one was.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use minato_wire::logs::{
    GetLogEventsRequest, GetLogEventsResponse, InputLogEvent,
    PutLogEventsRequest, PutLogEventsResponse,
};
use tokio::time::Instant;

use super::batch::{Assembler, Event, Mark, batch_len};
use super::checkpoint::Checkpoint;
use super::pump::{Pump, READ_AGAIN, RunWatch};
use crate::agent::Services;
use crate::api::{ApiCallError, ApiService, call};
use crate::backoff::Backoff;
use crate::runtime::LogSource;
use crate::task::plan::AwslogsPlan;

/// Least time between two batches, so that a chatty container does not make
/// a call for each line.
const LINGER: Duration = Duration::from_millis(250);
/// How long to wait for lines when there are none.
const IDLE_WAIT: Duration = Duration::from_secs(60);
/// Lines read at a time.
const LINES_MAX: usize = 1000;

/// Begins to send a container's log.
///
/// `is_resumed` says that an earlier pump may have sent some of it.
pub fn spawn(
    services: Arc<Services>,
    plan: AwslogsPlan,
    container_id: String,
    checkpoint: PathBuf,
    is_resumed: bool,
) -> Pump {
    Pump::start(move |runs| {
        let worker = Worker {
            services,
            plan,
            container_id,
            path: checkpoint,
            queue: vec![],
            sent: 0,
            last_sent: None,
            runs,
        };
        worker.run(is_resumed)
    })
}

struct Worker {
    services: Arc<Services>,
    plan: AwslogsPlan,
    container_id: String,
    path: PathBuf,
    /// Events made and not yet sent.
    queue: Vec<Event>,
    /// Events that arrived, of those made since this pump began.
    sent: u64,
    last_sent: Option<Instant>,
    runs: RunWatch,
}

impl Worker {
    async fn run(mut self, is_resumed: bool) {
        let checkpoint = if is_resumed {
            Checkpoint::load(&self.path).await
        } else {
            Checkpoint::default()
        };
        let mut skip =
            if is_resumed { self.count_arrived(&checkpoint).await } else { 0 };
        let mut source = self.open(&checkpoint).await;
        let mut assembler =
            Assembler::new(checkpoint.last_ms, checkpoint.same_ms)
                .with_multiline(self.plan.multiline.as_ref());
        loop {
            let wait = self.wait_for_lines(assembler.expires_at());
            let chunk = match source.next(LINES_MAX, wait).await {
                Ok(chunk) => chunk,
                Err(error) => {
                    self.warn("its log cannot be read", &error);
                    if self.runs.ends_within(READ_AGAIN).await {
                        return;
                    }
                    continue;
                }
            };
            if chunk.lost_lines > 0 {
                tracing::warn!(
                    container = self.container_id,
                    lines = chunk.lost_lines,
                    "log lines were overwritten before they could be sent"
                );
            }
            for (line, position) in chunk.lines {
                assembler.push(line, position, &mut self.queue);
            }
            if chunk.end {
                assembler.finish(&mut self.queue);
            } else {
                assembler.expire(self.now_ms(), &mut self.queue);
            }
            let skipped = skip.min(self.queue.len());
            self.queue.drain(..skipped);
            self.sent += u64::try_from(skipped).unwrap_or(0);
            skip -= skipped;
            if chunk.end || self.is_due() {
                self.flush(assembler.mark(), source.as_mut()).await;
            }
            if chunk.end && !self.runs.is_started_again().await {
                return;
            }
        }
    }

    fn warn(&self, what: &str, error: &dyn std::error::Error) {
        tracing::warn!(container = self.container_id, %error, "{what}");
    }

    async fn open(&self, checkpoint: &Checkpoint) -> Box<dyn LogSource> {
        let mut backoff = slow_backoff();
        loop {
            let position = checkpoint.position.as_ref();
            let opened =
                self.services.runtime.log_open(&self.container_id, position);
            match opened.await {
                Ok(source) => return source,
                Err(error) => self.warn("its log cannot be opened", &error),
            }
            tokio::time::sleep(backoff.next_delay(0)).await;
        }
    }

    /// How long the next batch may still grow.
    fn wait_for_lines(&self, expires_at: Option<i64>) -> Duration {
        let expires_in = expires_at.map_or(IDLE_WAIT, |at| {
            let millis = at.saturating_sub(self.now_ms()).max(0);
            Duration::from_millis(millis.unsigned_abs()).min(IDLE_WAIT)
        });
        match (self.queue.is_empty(), self.last_sent) {
            (true, _) => expires_in,
            (false, None) => Duration::ZERO,
            (false, Some(last)) => LINGER.saturating_sub(last.elapsed()),
        }
    }

    fn now_ms(&self) -> i64 {
        self.services.clock.now().as_millis()
    }

    fn is_due(&self) -> bool {
        if self.queue.is_empty() {
            return false;
        }
        self.last_sent.is_none_or(|last| last.elapsed() >= LINGER)
            || batch_len(&self.queue) < self.queue.len()
    }

    /// Sends all there is and keeps the place.
    async fn flush(&mut self, mark: &Mark, source: &mut dyn LogSource) {
        while !self.queue.is_empty() {
            let count = batch_len(&self.queue);
            self.put(count).await;
            self.queue.drain(..count);
            self.sent += u64::try_from(count).unwrap_or(0);
        }
        self.last_sent = Some(Instant::now());
        // A mark beyond what was sent cannot be: all was sent.
        if mark.position.is_none() || mark.events > self.sent {
            return;
        }
        let checkpoint = Checkpoint::of(mark);
        if let Err(error) = checkpoint.save(self.path.clone()).await {
            self.warn("the place in its log cannot be kept", &error);
            return;
        }
        if let Some(position) = &mark.position
            && let Err(error) = source.acknowledge(position).await
        {
            self.warn("its log cannot be freed", &error);
        }
    }

    async fn put(&self, count: usize) {
        let events = self.queue[..count]
            .iter()
            .map(|event| InputLogEvent {
                timestamp: Some(event.timestamp_ms),
                message: Some(event.message.clone()),
            })
            .collect();
        let input = PutLogEventsRequest {
            log_group_name: Some(self.plan.group.clone()),
            log_stream_name: Some(self.plan.stream.clone()),
            log_events: Some(events),
            ..PutLogEventsRequest::default()
        };
        let mut backoff = slow_backoff();
        loop {
            let put: Result<PutLogEventsResponse, _> =
                self.call("PutLogEvents", &input).await;
            match put {
                Ok(_) => return,
                Err(error) if error.is_transient() => {}
                Err(error) => {
                    // Someone deleted the group, say. Later lines may fit.
                    self.warn("log lines were refused", &error);
                    return;
                }
            }
            let seed = self.services.ids.seed();
            tokio::time::sleep(backoff.next_delay(seed)).await;
        }
    }

    /// How many events arrived after the checkpoint was written.
    async fn count_arrived(&self, checkpoint: &Checkpoint) -> usize {
        let mut backoff = slow_backoff();
        loop {
            match self.count_once(checkpoint).await {
                Ok(count) => return count,
                Err(error) if error.is_transient() => {}
                Err(error) => {
                    self.warn("its log stream cannot be read", &error);
                    return 0;
                }
            }
            tokio::time::sleep(backoff.next_delay(0)).await;
        }
    }

    async fn count_once(
        &self,
        checkpoint: &Checkpoint,
    ) -> Result<usize, ApiCallError> {
        let mut same = 0;
        let mut later = 0;
        let mut token: Option<String> = None;
        loop {
            let input = GetLogEventsRequest {
                log_group_name: Some(self.plan.group.clone()),
                log_stream_name: Some(self.plan.stream.clone()),
                start_time: Some(checkpoint.last_ms),
                start_from_head: Some(true),
                next_token: token.clone(),
                ..GetLogEventsRequest::default()
            };
            let page: GetLogEventsResponse =
                self.call("GetLogEvents", &input).await?;
            let events = page.events.unwrap_or_default();
            for event in &events {
                match event.timestamp {
                    Some(time) if time > checkpoint.last_ms => later += 1,
                    Some(_) | None => same += 1,
                }
            }
            // The last page's token leads to itself.
            if page.next_forward_token.is_none()
                || page.next_forward_token == token
            {
                break;
            }
            token = page.next_forward_token;
        }
        let before = usize::try_from(checkpoint.same_ms).unwrap_or(usize::MAX);
        Ok(later + usize::saturating_sub(same, before))
    }

    async fn call<I, O>(
        &self,
        operation: &'static str,
        input: &I,
    ) -> Result<O, ApiCallError>
    where
        I: serde::Serialize,
        O: serde::de::DeserializeOwned,
    {
        let api = &*self.services.api;
        call(api, ApiService::Logs, &self.plan.region, operation, input).await
    }
}

fn slow_backoff() -> Backoff {
    Backoff::new(Duration::from_millis(100), Duration::from_secs(10), 2.0)
}
