//! ACS: being told what to run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use minato_wire::Timestamp;
use minato_wire::acs::{
    Ack, ExecuteCommand, Firewall, FirewallAck, HeartbeatAck,
    IamRoleCredentials, IamRoleCredentialsAck, IamRoleCredentialsMessage,
    Message, Nack, Payload, TaskIdentifier, TaskManifest, TaskStopVerification,
    TaskStopVerificationAck, Update,
};
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::register::{Identity, save_identity};
use super::{Channel, ConnectError, Connector, Hello, exec};
use crate::agent::Services;
use crate::backoff::Backoff;
use crate::engine::TaskEngine;
use crate::firewall;
use crate::task::decode::task_id;
use crate::task::record::Desired;

/// Silence after which the agent gives a connection up: the control plane
/// sends a heartbeat at least every minute. Twice that, as upstream allows.
const SILENCE_MAX: Duration = Duration::from_secs(120);

/// A connection that held so long was a good one.
const GOOD_CONNECTION: Duration = Duration::from_secs(60);

/// Commands at once, of all containers; the control plane has a limit for
/// each container.
const EXECS_MAX: usize = 200;

/// How long a deregistered instance waits before it tries again.
const INACTIVE_WAIT: Duration = Duration::from_secs(60 * 60);

/// Credentials of running tasks, by their id. In memory only: a new agent
/// asks for them again.
#[derive(Debug, Default)]
pub struct CredentialSets {
    sets: Mutex<BTreeMap<String, IamRoleCredentials>>,
}

impl CredentialSets {
    /// A set by its id.
    pub fn get(&self, id: &str) -> Option<IamRoleCredentials> {
        self.sets.lock().get(id).cloned()
    }

    fn forget(&self, id: &str) {
        self.sets.lock().remove(id);
    }

    /// Keeps a set, and forgets those that have expired: their tasks are over,
    /// or they would have been renewed.
    pub(crate) fn put(&self, credentials: IamRoleCredentials, now: Timestamp) {
        let id = credentials.credentials_id.clone();
        let mut sets = self.sets.lock();
        sets.retain(|_, set| {
            // One whose end cannot be read is kept.
            let end = set.expiration.as_deref();
            let end = end.and_then(Timestamp::from_iso);
            end.is_none_or(|end| end > now)
        });
        sets.insert(id, credentials);
    }
}

/// One host's ACS session.
#[derive(Debug)]
struct Session {
    services: Arc<Services>,
    engine: TaskEngine,
    credentials: Arc<CredentialSets>,
    identity: Identity,
    connector: Arc<dyn Connector>,
    /// Commands that run in containers. They end with the agent, not with a
    /// connection.
    execs: JoinSet<()>,
    /// Manifests asked about, by message; each is answered once.
    verifying: Option<String>,
    /// The revision of the last security groups taken on this connection.
    firewall: Option<u64>,
}

/// Holds an ACS connection for ever, over and over again.
pub async fn run_acs(
    services: Arc<Services>,
    engine: TaskEngine,
    credentials: Arc<CredentialSets>,
    connector: Arc<dyn Connector>,
    identity: Identity,
    endpoint: String,
) {
    let mut backoff =
        Backoff::new(Duration::from_millis(250), Duration::from_secs(120), 1.5);
    let mut hello = Hello {
        endpoint,
        cluster: identity.cluster.clone(),
        container_instance_arn: identity.container_instance_arn.clone(),
        send_credentials: true,
        agent_version: services.config.version.clone(),
    };
    let ids = Arc::clone(&services.ids);
    let mut session = Session {
        services,
        engine,
        credentials,
        identity,
        connector: Arc::clone(&connector),
        execs: JoinSet::new(),
        verifying: None,
        firewall: None,
    };
    loop {
        let opened_at = Instant::now();
        match connector.open_acs(&hello).await {
            Ok(channel) => {
                hello.send_credentials = false;
                session.serve(channel).await;
            }
            Err(ConnectError::Inactive { message }) => {
                tracing::error!(message, "this host was deregistered");
                tokio::time::sleep(INACTIVE_WAIT).await;
                continue;
            }
            Err(error) => tracing::warn!(%error, "no ACS connection"),
        }
        if opened_at.elapsed() >= GOOD_CONNECTION {
            backoff.reset();
        }
        tokio::time::sleep(backoff.next_delay(ids.seed())).await;
    }
}

impl Session {
    /// Serves one connection to its end.
    async fn serve(&mut self, mut channel: Channel) {
        // A control plane restored from a backup counts from an earlier one.
        self.firewall = None;
        loop {
            let frame =
                tokio::time::timeout(SILENCE_MAX, channel.receiver.recv());
            let text = match frame.await {
                Ok(Some(text)) => text,
                Ok(None) => return,
                Err(_) => {
                    tracing::warn!("the control plane fell silent");
                    return;
                }
            };
            let message = match Message::decode(&text) {
                Ok(message) => message,
                Err(error) => {
                    tracing::warn!(
                        error = crate::runtime::error_chain(&error),
                        "a message was not understood"
                    );
                    continue;
                }
            };
            for answer in self.answer(message).await {
                let frame = match answer.encode() {
                    Ok(frame) => frame,
                    Err(error) => {
                        tracing::error!(%error, "an answer has no form");
                        continue;
                    }
                };
                if channel.sender.send(frame).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Does what a message says; answers with what is to be sent back.
    async fn answer(&mut self, message: Message) -> Vec<Message> {
        match message {
            Message::Heartbeat(heartbeat) => {
                vec![Message::HeartbeatAck(HeartbeatAck {
                    message_id: heartbeat.message_id,
                })]
            }
            Message::Payload(payload) => self.on_payload(*payload).await,
            Message::IamRoleCredentials(message) => {
                self.on_credentials(*message)
            }
            Message::TaskManifest(manifest) => self.on_manifest(manifest).await,
            Message::ExecuteCommand(order) => {
                self.on_execute_command(*order);
                vec![]
            }
            Message::TaskStopVerificationAck(ack) => {
                self.on_stop_verified(ack).await;
                vec![]
            }
            Message::Firewall(firewall) => self.on_firewall(&firewall).await,
            // The interface is in the payload and made with the task.
            Message::AttachTaskNetworkInterfaces(attach) => {
                vec![ack(
                    Some(attach.cluster_arn),
                    Some(attach.container_instance_arn),
                    attach.message_id,
                )]
            }
            Message::StageUpdate(update) | Message::PerformUpdate(update) => {
                vec![refuse_update(update)]
            }
            Message::Close(text)
            | Message::Error(text)
            | Message::ServerException(text)
            | Message::BadRequestException(text)
            | Message::InvalidClusterException(text)
            | Message::InvalidInstanceException(text)
            | Message::AccessDeniedException(text)
            | Message::InactiveInstanceException(text) => {
                tracing::warn!(text = text.message, "the control plane says");
                vec![]
            }
            // Instance interfaces and volumes are not this agent's to attach
            // (it lists no such capability), and the rest are its own kind.
            other @ (Message::AttachInstanceNetworkInterfaces(_)
            | Message::ConfirmAttachment(_)
            | Message::FirewallAck(_)
            | Message::HeartbeatAck(_)
            | Message::Ack(_)
            | Message::Nack(_)
            | Message::IamRoleCredentialsAck(_)
            | Message::TaskStopVerification(_)) => {
                tracing::warn!(r#type = other.type_name(), "not expected");
                vec![]
            }
        }
    }

    /// Stops before starts; acknowledged once all of it is kept.
    async fn on_payload(&mut self, payload: Payload) -> Vec<Message> {
        self.note_sequence(payload.seq_num);
        let mut answers = vec![];
        let mut all_kept = true;
        let mut tasks = payload.tasks;
        tasks.sort_by_key(|task| task.desired_status != "STOPPED");
        for task in tasks {
            let role = task.role_credentials.clone();
            let execution = task.execution_role_credentials.clone();
            // Before the task: its first container may ask at once.
            for set in [&role, &execution].into_iter().flatten() {
                let now = self.services.clock.now();
                self.credentials.put(set.clone(), now);
            }
            if let Err(error) = self.engine.accept(task).await {
                tracing::error!(
                    error = crate::runtime::error_chain(&error),
                    "a task was not taken over"
                );
                all_kept = false;
                for set in [&role, &execution].into_iter().flatten() {
                    self.credentials.forget(&set.credentials_id);
                }
                continue;
            }
            for set in [role, execution].into_iter().flatten() {
                answers.push(credentials_ack(&payload.message_id, &set));
            }
        }
        if all_kept {
            answers.push(ack(
                Some(payload.cluster_arn),
                Some(payload.container_instance_arn),
                payload.message_id,
            ));
        }
        answers
    }

    /// Acknowledged once the kernel enforces it.
    async fn on_firewall(&mut self, message: &Firewall) -> Vec<Message> {
        let revision = message.revision;
        if self.firewall.is_some_and(|last| revision < last) {
            tracing::warn!(revision, "security groups of an earlier time");
            return vec![];
        }
        if let Err(error) = firewall::take(&self.services, message).await {
            tracing::error!(
                error = crate::runtime::error_chain(&error),
                revision,
                "security groups were not taken"
            );
            return vec![];
        }
        self.firewall = Some(revision);
        vec![Message::FirewallAck(FirewallAck {
            message_id: message.message_id.clone(),
            revision,
        })]
    }

    fn note_sequence(&mut self, sequence: Option<i64>) {
        if let Some(sequence) = sequence {
            self.identity.sequence = self.identity.sequence.max(sequence);
        }
    }

    fn on_credentials(
        &mut self,
        message: IamRoleCredentialsMessage,
    ) -> Vec<Message> {
        let id = task_id(&message.task_arn);
        if !id.is_ok_and(|id| self.engine.is_known(&id)) {
            tracing::error!(
                task = message.task_arn,
                "credentials of an unknown task"
            );
            return vec![];
        }
        let set = message.role_credentials;
        let answer = credentials_ack(&message.message_id, &set);
        self.credentials.put(set, self.services.clock.now());
        vec![answer]
    }

    /// Compares what there should be with what there is. Nothing is stopped
    /// before the control plane has said so once more.
    async fn on_manifest(&mut self, manifest: TaskManifest) -> Vec<Message> {
        let timeline = manifest.timeline.unwrap_or(0);
        if timeline <= self.identity.sequence {
            tracing::debug!(timeline, "an old manifest");
            return vec![];
        }
        self.identity.sequence = timeline;
        if let Err(error) = save_identity(&self.services, &self.identity).await
        {
            tracing::error!(
                error = crate::runtime::error_chain(&error),
                "a manifest was not taken"
            );
            return vec![];
        }
        let wanted = |arn: &str| {
            manifest.tasks.iter().any(|task| {
                task.task_arn == arn && task.desired_status == "RUNNING"
            })
        };
        let stop_candidates: Vec<TaskIdentifier> = self
            .engine
            .tasks()
            .into_iter()
            .filter(|task| {
                task.record.desired == Desired::Running && !wanted(&task.arn)
            })
            .map(|task| TaskIdentifier {
                task_arn: task.arn,
                task_cluster_arn: manifest.cluster_arn.clone(),
                desired_status: "STOPPED".into(),
            })
            .collect();
        let mut answers = vec![ack(
            manifest.cluster_arn.clone(),
            manifest.container_instance_arn.clone(),
            manifest.message_id.clone(),
        )];
        if !stop_candidates.is_empty() {
            self.verifying = Some(manifest.message_id.clone());
            answers.push(Message::TaskStopVerification(TaskStopVerification {
                message_id: manifest.message_id,
                stop_candidates,
            }));
        }
        answers
    }

    /// The session is served beside this one. What it cannot have it is told
    /// on its own channel.
    fn on_execute_command(&mut self, order: ExecuteCommand) {
        // Those that are over are forgotten.
        while self.execs.try_join_next().is_some() {}
        if self.execs.len() >= EXECS_MAX {
            tracing::warn!(session = order.session_id, "too many sessions");
            return;
        }
        let serving = exec::serve(
            Arc::clone(&self.services),
            self.engine.clone(),
            Arc::clone(&self.connector),
            order,
        );
        self.execs.spawn(serving);
    }

    async fn on_stop_verified(&mut self, verified: TaskStopVerificationAck) {
        if self.verifying.take_if(|id| *id == verified.message_id).is_none() {
            tracing::warn!("stops nobody asked about");
            return;
        }
        for task in verified.stop_tasks {
            let arn = task.task_arn;
            let Ok(id) = task_id(&arn) else { continue };
            if let Err(error) = self.engine.stop(&id).await {
                tracing::error!(
                    error = crate::runtime::error_chain(&error),
                    arn,
                    "not stopped"
                );
            }
        }
    }
}

fn ack(
    cluster: Option<String>,
    container_instance: Option<String>,
    message_id: String,
) -> Message {
    Message::Ack(Ack { cluster, container_instance, message_id })
}

fn credentials_ack(message_id: &str, set: &IamRoleCredentials) -> Message {
    Message::IamRoleCredentialsAck(IamRoleCredentialsAck {
        message_id: message_id.to_owned(),
        expiration: set.expiration.clone(),
        credentials_id: set.credentials_id.clone(),
    })
}

fn refuse_update(update: Update) -> Message {
    Message::Nack(Nack {
        cluster: update.cluster_arn,
        container_instance: update.container_instance_arn,
        message_id: update.message_id,
        reason: Some("Updates are disabled".into()),
    })
}
