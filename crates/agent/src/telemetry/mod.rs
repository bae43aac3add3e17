//! TCS: telling how the containers are.
//!
//! Every 20 seconds the agent sends what each running container uses and what
//! each health check says, and every minute that the host itself is well.
//! Health reaches the control plane in no other way, so a change of it is
//! sent at once.

mod metrics;

use std::sync::Arc;
use std::time::Duration;

use minato_wire::tcs::{
    HealthMetadata, InstanceStatus, InstanceStatusMetadata, Message,
    MetricsMetadata, PublishHealth, PublishInstanceStatus, PublishMetrics,
};
use tokio::time::{Instant, MissedTickBehavior};

use crate::agent::Services;
use crate::backoff::Backoff;
use crate::engine::TaskEngine;
use crate::session::{Channel, Connector, Hello};
use metrics::Sampler;

/// Between two requests; the upstream agent's number.
const PUBLISH_EVERY: Duration = Duration::from_secs(20);
/// How soon a change of health is noticed.
const HEALTH_EVERY: Duration = Duration::from_secs(1);
/// Requests between two that tell of the host itself.
const STATUS_EVERY: u64 = 3;
/// Tasks of one request; the protocol's limit.
const TASKS_PER_REQUEST: usize = 10;
/// A connection that held so long was a good one.
const GOOD_CONNECTION: Duration = Duration::from_secs(60);

/// Holds a TCS connection for ever, over and over again.
pub async fn run_tcs(
    services: Arc<Services>,
    engine: TaskEngine,
    connector: Arc<dyn Connector>,
    hello: Hello,
) {
    let mut backoff =
        Backoff::new(Duration::from_secs(1), Duration::from_secs(60), 2.0);
    let seeds = Arc::clone(&services.ids);
    let mut reporter = Reporter::new(services, engine, hello);
    loop {
        let opened_at = Instant::now();
        match connector.open_tcs(&reporter.hello).await {
            Ok(channel) => reporter.serve(channel).await,
            Err(error) => tracing::warn!(%error, "no TCS connection"),
        }
        if opened_at.elapsed() >= GOOD_CONNECTION {
            backoff.reset();
        }
        tokio::time::sleep(backoff.next_delay(seeds.seed())).await;
    }
}

struct Reporter {
    services: Arc<Services>,
    engine: TaskEngine,
    hello: Hello,
    sampler: Sampler,
    /// Health as last told.
    told: Vec<minato_wire::tcs::TaskHealth>,
    rounds: u64,
}

/// The connection is gone.
struct Gone;

impl Reporter {
    fn new(
        services: Arc<Services>,
        engine: TaskEngine,
        hello: Hello,
    ) -> Reporter {
        let sampler = Sampler::default();
        Reporter { services, engine, hello, sampler, told: vec![], rounds: 0 }
    }

    async fn serve(&mut self, mut channel: Channel) {
        let mut publish = tokio::time::interval(PUBLISH_EVERY);
        publish.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut health = tokio::time::interval(HEALTH_EVERY);
        health.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.told.clear();
        loop {
            let sent = tokio::select! {
                _ = publish.tick() => self.publish(&channel).await,
                _ = health.tick() => self.tell_health(&channel, false).await,
                frame = channel.receiver.recv() => match frame {
                    Some(text) => {
                        note(&text);
                        Ok(())
                    }
                    None => Err(Gone),
                },
            };
            if sent.is_err() {
                return;
            }
        }
    }

    async fn publish(&mut self, channel: &Channel) -> Result<(), Gone> {
        self.send_metrics(channel).await?;
        self.tell_health(channel, true).await?;
        if self.rounds.is_multiple_of(STATUS_EVERY) {
            self.send_status(channel).await?;
        }
        self.rounds += 1;
        Ok(())
    }

    fn message_id(&self) -> Option<String> {
        Some(format!("{:032x}", self.services.ids.uuid()))
    }

    async fn send(
        &self,
        channel: &Channel,
        message: Message,
    ) -> Result<(), Gone> {
        let Ok(frame) = message.encode() else {
            tracing::error!("telemetry has no form");
            return Ok(());
        };
        channel.sender.send(frame).await.map_err(|_| Gone)
    }

    async fn send_metrics(&mut self, channel: &Channel) -> Result<(), Gone> {
        let tasks = self.engine.tasks();
        let metrics = self.sampler.sample(&self.services, &tasks).await;
        let message_id = self.message_id();
        let is_idle = metrics.is_empty();
        let parts: Vec<Option<Vec<_>>> = if is_idle {
            vec![None]
        } else {
            let parts = metrics.chunks(TASKS_PER_REQUEST);
            parts.map(|part| Some(part.to_vec())).collect()
        };
        let last = parts.len() - 1;
        for (index, task_metrics) in parts.into_iter().enumerate() {
            let metadata = MetricsMetadata {
                cluster: Some(self.hello.cluster.clone()),
                container_instance: Some(
                    self.hello.container_instance_arn.clone(),
                ),
                message_id: message_id.clone(),
                idle: Some(is_idle),
                fin: Some(index == last),
            };
            let request = PublishMetrics {
                metadata,
                instance_metrics: None,
                task_metrics,
                timestamp: Some(self.services.clock.now()),
            };
            let message = Message::PublishMetrics(Box::new(request));
            self.send(channel, message).await?;
        }
        Ok(())
    }

    /// Sends health when it changed, or anyhow.
    async fn tell_health(
        &mut self,
        channel: &Channel,
        anyhow: bool,
    ) -> Result<(), Gone> {
        let health = metrics::health(&self.engine.tasks());
        if health.is_empty() || (!anyhow && health == self.told) {
            return Ok(());
        }
        let message_id = self.message_id();
        let parts = health.chunks(TASKS_PER_REQUEST);
        let last = parts.len() - 1;
        for (index, tasks) in parts.enumerate() {
            let metadata = HealthMetadata {
                cluster: Some(self.hello.cluster.clone()),
                container_instance: Some(
                    self.hello.container_instance_arn.clone(),
                ),
                message_id: message_id.clone(),
                fin: Some(index == last),
            };
            let request = PublishHealth {
                metadata,
                tasks: tasks.to_vec(),
                timestamp: Some(self.services.clock.now()),
            };
            self.send(channel, Message::PublishHealth(request)).await?;
        }
        self.told = health;
        Ok(())
    }

    async fn send_status(&self, channel: &Channel) -> Result<(), Gone> {
        let now = self.services.clock.now();
        let is_well = self.services.runtime.list().await.is_ok();
        let status = InstanceStatus {
            r#type: Some("ContainerRuntime".into()),
            status: Some(if is_well { "OK" } else { "IMPAIRED" }.into()),
            last_updated: Some(now),
            last_status_change: Some(now),
            ..InstanceStatus::default()
        };
        let request = PublishInstanceStatus {
            metadata: InstanceStatusMetadata {
                cluster: Some(self.hello.cluster.clone()),
                container_instance: Some(
                    self.hello.container_instance_arn.clone(),
                ),
                request_id: self.message_id(),
            },
            statuses: vec![status],
            timestamp: Some(now),
        };
        self.send(channel, Message::PublishInstanceStatus(request)).await
    }
}

/// Acknowledgements and heartbeats need nothing; the rest is worth a line.
fn note(text: &str) {
    match Message::decode(text) {
        Ok(
            Message::Heartbeat(_)
            | Message::AckPublishMetric(_)
            | Message::AckPublishHealth(_)
            | Message::AckPublishInstanceStatus(_),
        ) => {}
        Ok(
            other @ (Message::StopTelemetrySession(_)
            | Message::ServerException(_)
            | Message::BadRequestException(_)
            | Message::ResourceValidationException(_)
            | Message::InvalidParameterException(_)
            | Message::PublishMetrics(_)
            | Message::PublishHealth(_)
            | Message::PublishInstanceStatus(_)),
        ) => {
            tracing::warn!(r#type = other.type_name(), "telemetry is refused");
        }
        Err(error) => tracing::warn!(%error, "telemetry: not understood"),
    }
}
