//! A TCS session: what the agent measures.
//!
//! Container health reaches the control plane by this way only. Metrics are
//! acknowledged and not kept: no served operation shows them yet.

use std::sync::Arc;
use std::time::Duration;

use minato_core::task_definition::has_health_check;
use minato_wire::acs::{Heartbeat, Text};
use minato_wire::ecs;
use minato_wire::tcs::{Message, TaskHealth, split_signed};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Peer;
use crate::context::Context;
use crate::services::ecs::lookup::resource_id;
use crate::tables::{Task, TaskDefinition};

/// As for ACS: agents give up on a silent session after one to two minutes.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(50);

pub(super) struct Session {
    cx: Arc<Context>,
    peer: Peer,
    to_agent: mpsc::Sender<String>,
}

impl Session {
    pub(super) fn new(
        cx: Arc<Context>,
        peer: Peer,
        to_agent: mpsc::Sender<String>,
    ) -> Session {
        Session { cx, peer, to_agent }
    }

    pub(super) async fn run(
        self,
        mut from_agent: mpsc::Receiver<String>,
        stop: CancellationToken,
    ) {
        let mut beat = tokio::time::interval(HEARTBEAT_EVERY);
        loop {
            let answer = tokio::select! {
                biased; // a run from one seed is the same run
                () = stop.cancelled() => return,
                _ = beat.tick() => Some(Message::Heartbeat(Heartbeat {
                    healthy: Some(true),
                    ..Heartbeat::default()
                })),
                frame = from_agent.recv() => match frame {
                    Some(frame) => self.hear(&frame).await,
                    None => return,
                },
            };
            let Some(answer) = answer else { continue };
            let Ok(frame) = answer.encode() else { continue };
            if self.to_agent.send(frame).await.is_err() {
                return;
            }
        }
    }

    async fn hear(&self, frame: &str) -> Option<Message> {
        let (_, bare) = split_signed(frame);
        let done = || Text { message: Some("ACK".to_owned()) };
        match Message::decode(bare) {
            Ok(Message::PublishHealth(health)) => {
                for task in health.tasks {
                    self.note(task).await;
                }
                Some(Message::AckPublishHealth(done()))
            }
            Ok(Message::PublishMetrics(_)) => {
                Some(Message::AckPublishMetric(done()))
            }
            Ok(Message::PublishInstanceStatus(_)) => {
                Some(Message::AckPublishInstanceStatus(done()))
            }
            Ok(_) => None,
            Err(error) => {
                tracing::warn!(
                    instance = self.peer.instance_arn,
                    %error,
                    "the agent sent telemetry that is none",
                );
                None
            }
        }
    }

    /// Keeps what changed of a task's health.
    async fn note(&self, health: TaskHealth) {
        let Some(arn) = health.task_arn.clone() else { return };
        let Some((cluster, id)) = place(&arn) else { return };
        let (account, region) =
            (self.peer.account.clone(), self.peer.region.clone());
        let key = Task::key_of(&account, &region, &cluster, &id);
        let host = self.peer.host_id.clone();
        let noted = self.cx.transact(move |tx| {
            let Some(found) = tx.get::<Task>(&key) else { return Ok(()) };
            if found.host != host || found.is_stopped() {
                return Ok(());
            }
            let definition = tx.get::<TaskDefinition>(&TaskDefinition::key_of(
                &account,
                &region,
                &found.family,
                found.revision,
            ));
            let mut row = Task::clone(&found);
            if apply(&mut row, &health, definition.as_deref()) {
                row.task.version = Some(row.task.version.unwrap_or(0) + 1);
                tx.put(row);
            }
            Ok(())
        });
        if let Err(error) = noted.await {
            tracing::error!(
                task = arn,
                details = error.internal(),
                "could not note a task's health",
            );
        }
    }
}

/// Cluster and id of a task's long ARN.
fn place(arn: &str) -> Option<(String, String)> {
    let (_, rest) = arn.split_once(":task/")?;
    let (cluster, _) = rest.split_once('/')?;
    Some((cluster.to_owned(), resource_id(arn)?))
}

/// `false` where nothing changed.
fn apply(
    row: &mut Task,
    health: &TaskHealth,
    definition: Option<&TaskDefinition>,
) -> bool {
    let before = row.task.clone();
    for container in row.task.containers.iter_mut().flatten() {
        let reported = health
            .containers
            .iter()
            .find(|reported| reported.container_name == container.name);
        let status = reported
            .and_then(|reported| reported.health_status.as_deref())
            .and_then(|status| status.parse::<ecs::HealthStatus>().ok());
        if status.is_some() {
            container.health_status = status;
        }
    }
    row.task.health_status = Some(of_task(row, definition));
    row.task != before
}

/// A task's health: that of its essential containers with a health check
/// (developer guide, "Determine Amazon ECS task health").
fn of_task(
    row: &Task,
    definition: Option<&TaskDefinition>,
) -> ecs::HealthStatus {
    let checked = definition
        .and_then(|row| row.definition.container_definitions.as_ref())
        .into_iter()
        .flatten()
        .filter(|container| {
            container.essential.unwrap_or(true) && has_health_check(container)
        });
    let mut worst = None;
    for definition in checked {
        let status = row
            .task
            .containers
            .iter()
            .flatten()
            .find(|container| container.name == definition.name)
            .and_then(|container| container.health_status)
            .unwrap_or(ecs::HealthStatus::Unknown);
        worst = Some(match (worst, status) {
            (Some(ecs::HealthStatus::Unhealthy), _)
            | (_, ecs::HealthStatus::Unhealthy) => ecs::HealthStatus::Unhealthy,
            (Some(ecs::HealthStatus::Unknown), _)
            | (_, ecs::HealthStatus::Unknown) => ecs::HealthStatus::Unknown,
            (
                None | Some(ecs::HealthStatus::Healthy),
                ecs::HealthStatus::Healthy,
            ) => ecs::HealthStatus::Healthy,
        });
    }
    worst.unwrap_or(ecs::HealthStatus::Unknown)
}
