//! An ACS session: tells one agent what its host should run.
//!
//! The session keeps no record of its own. It looks at the tasks of its host,
//! sends what the agent must know, and after a reconnect sends it again: the
//! agent drops what it knows by the task's ARN (`acs-protocol.md`, 4.4).

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use minato_core::id::MessageId;
use minato_core::status::TaskStatus;
use minato_store::Row;
use minato_wire::acs::{
    Firewall, Heartbeat, Message, Payload, Task as PayloadTask, TaskIdentifier,
    TaskManifest, TaskStopVerificationAck,
};
use minato_wire::{Timestamp, ecs};
use tokio::sync::mpsc;
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

use super::credentials::{credentials, refresh};
use super::firewall::Interest;
use super::router::{Mail, Mailbox};
use super::{AgentHello, Peer, firewall, payload};
use crate::context::Context;
use crate::services::ecs::tasks::report;
use crate::services::sts;
use crate::services::sts::rows::TaskRoles;
use crate::services::sts::tasks::TaskRoleError;
use crate::tables::{ContainerInstance, Host, Task};

/// Agents give up on a silent session after one to two minutes; the real
/// service sends a heartbeat about every minute (`acs-protocol.md`, 3).
const HEARTBEAT_EVERY: Duration = Duration::from_secs(50);

/// How long changes of security groups and their members are gathered before
/// the agent hears of them: hundreds of tasks that start together are a few
/// messages. A task of this host does not wait for it.
const FIREWALL_SETTLES: Duration = Duration::from_millis(50);

/// What the agent was told of a task in this session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    Run,
    Stop,
}

pub(super) struct Session {
    cx: Arc<Context>,
    peer: Peer,
    to_agent: mpsc::Sender<String>,
    hello: AgentHello,
    told: BTreeMap<String, Told>,
    /// Which credentials the agent has of a task: when they are renewed.
    handed: BTreeMap<String, Timestamp>,
    mailbox: Mailbox,
    /// What the agent was told of security groups.
    firewall: Option<Firewall>,
    /// What the mailbox was told to bring of them.
    interest: Option<Interest>,
    /// When the agent is to be told again.
    settled: Option<Pin<Box<Sleep>>>,
}

impl Session {
    pub(super) fn new(
        cx: Arc<Context>,
        peer: Peer,
        to_agent: mpsc::Sender<String>,
        hello: AgentHello,
    ) -> Session {
        let (told, handed) = (BTreeMap::new(), BTreeMap::new());
        let mailbox = cx.router.open(peer.host.clone());
        Session {
            cx,
            peer,
            to_agent,
            hello,
            told,
            handed,
            mailbox,
            firewall: None,
            interest: None,
            settled: None,
        }
    }

    pub(super) async fn run(
        mut self,
        mut from_agent: mpsc::Receiver<String>,
        stop: CancellationToken,
    ) {
        self.connected(true).await;
        // All that is there is looked at once; the mail tells of the rest.
        let mut orders = self.cx.exec.take_orders(self.peer.host.clone());
        self.send_manifest().await;
        self.send_firewall().await;
        self.look_at_all().await;
        let mut beat = tokio::time::interval(HEARTBEAT_EVERY);
        beat.tick().await; // the first tick is at once
        loop {
            tokio::select! {
                biased; // a run from one seed is the same run
                () = stop.cancelled() => break,
                _ = beat.tick() => self.send_heartbeat().await,
                () = settled(&mut self.settled) => self.send_firewall().await,
                mail = self.mailbox.receive() => match mail {
                    Some(mail) => self.look_at(mail).await,
                    None => break,
                },
                frame = from_agent.recv() => match frame {
                    Some(frame) => self.hear(&frame).await,
                    None => break,
                },
                // None where another session of the host has taken over.
                Some(order) = orders.next() => {
                    let order = Message::ExecuteCommand(Box::new(order));
                    self.send(&order).await;
                }
            }
            if self.to_agent.is_closed() {
                break;
            }
        }
        self.connected(false).await;
    }

    /// Notes that the agent is, or is no longer, at the other end.
    async fn connected(&self, is_connected: bool) {
        let peer = self.peer.clone();
        let info = ecs::VersionInfo {
            agent_version: Some(self.hello.agent_version.clone()),
            agent_hash: Some(self.hello.agent_hash.clone()),
            docker_version: Some(self.hello.docker_version.clone()),
        };
        let noted = self.cx.transact(move |tx| {
            if let Some(host) = tx.get::<Host>(&peer.host) {
                tx.put(Host { is_connected, ..Host::clone(&host) });
            }
            if let Some(row) = tx.get::<ContainerInstance>(&peer.instance) {
                let mut row = ContainerInstance::clone(&row);
                row.version += 1;
                row.version_info = Some(info);
                tx.put(row);
            }
            Ok(())
        });
        if let Err(error) = noted.await {
            tracing::error!(
                instance = self.peer.instance_arn,
                details = error.internal(),
                "could not note an agent's connection",
            );
        }
    }

    async fn look_at(&mut self, mail: Mail) {
        match mail {
            Mail::All => self.look_at_all().await,
            Mail::Firewall => self.settle(),
            Mail::Tasks(keys) => {
                let rows = self.cx.snapshot();
                let tasks = keys.iter().filter_map(|key| rows.get(key));
                self.look_at_these(tasks.collect()).await;
            }
        }
    }

    async fn look_at_all(&mut self) {
        self.look_at_these(self.tasks()).await;
    }

    async fn look_at_these(&mut self, tasks: Vec<Arc<Task>>) {
        let need = tasks.iter().filter(|task| needs_credentials(task));
        if let Err(error) = sts::tasks::issue(&self.cx, need).await {
            tracing::error!(
                instance = self.peer.instance_arn,
                details = error.internal(),
                "could not issue the credentials of tasks",
            );
        }
        // A task's interface must be known before its containers are.
        if tasks.iter().any(|row| self.is_new(row) && has_interface(row)) {
            self.send_firewall().await;
        }
        if tasks.iter().any(|row| row.is_stopped()) {
            self.settle();
        }
        for row in tasks {
            self.tell(&row).await;
        }
    }

    /// Whether the agent is to be told to run a task.
    fn is_new(&self, row: &Task) -> bool {
        row.should_run()
            && !self.told.contains_key(&row.id)
            && row.last_status() == TaskStatus::Pending.as_str()
    }

    /// Has the agent be told of security groups soon, if it wants to be.
    fn settle(&mut self) {
        if self.interest.is_some() && self.settled.is_none() {
            let sleep = tokio::time::sleep(FIREWALL_SETTLES);
            self.settled = Some(Box::pin(sleep));
        }
    }

    /// Sends the host's firewall if it is not what the agent has.
    async fn send_firewall(&mut self) {
        self.settled = None;
        let mut rows = self.cx.snapshot();
        if !firewall::is_wanted(&rows, &self.peer) {
            return;
        }
        let (mut made, mut interest) = firewall::firewall(&rows, &self.peer);
        // What changed before the mailbox was told is to be seen here.
        while self.interest.as_ref() != Some(&interest) {
            self.mailbox.follow_firewall(interest.clone());
            self.interest = Some(interest);
            rows = self.cx.snapshot();
            (made, interest) = firewall::firewall(&rows, &self.peer);
        }
        let known = self.firewall.as_ref();
        if known.is_some_and(|known| firewall::is_same(known, &made)) {
            return;
        }
        made.message_id = self.message_id();
        self.firewall = Some(made.clone());
        self.send(&Message::Firewall(Box::new(made))).await;
    }

    fn tasks(&self) -> Vec<Arc<Task>> {
        let peer = &self.peer;
        let on_host = Task::on_host(&peer.account, &peer.region, &peer.host_id);
        self.cx.snapshot().by_index::<Task>("host", &on_host).collect()
    }

    /// Tells the agent what it does not know yet of a task.
    async fn tell(&mut self, row: &Task) {
        let Ok(status) = row.last_status().parse::<TaskStatus>() else {
            return;
        };
        let is_new = self.is_new(row);
        let told = self.told.get(&row.id).copied();
        if status.is_stopped() {
            self.told.remove(&row.id);
            self.handed.remove(&row.id);
            return;
        }
        if !status.is_with_agent() {
            return;
        }
        let should_run = row.should_run();
        if is_new {
            self.send_run(row).await;
            return;
        }
        // The agent knows what it was told of and what it has started.
        if told.is_some() || row.task.started_at.is_some() {
            self.send_credentials(row).await;
        }
        if !should_run && told != Some(Told::Stop) {
            self.send_stop(row).await;
        }
    }

    async fn send_run(&mut self, row: &Task) {
        let rows = self.cx.snapshot();
        let task = match payload::task(&rows, row) {
            Ok(task) => task,
            Err(error) => return self.give_up(row, error.to_string()).await,
        };
        let handed = match sts::tasks::handed(&self.cx, &rows, row) {
            Ok(handed) => handed,
            Err(error @ TaskRoleError::NotAssumable { .. }) => {
                return self.give_up(row, error.to_string()).await;
            }
            Err(
                error @ (TaskRoleError::Missing | TaskRoleError::Sealed(_)),
            ) => {
                return self.without_credentials(row, &error);
            }
        };
        self.told.insert(row.id.clone(), Told::Run);
        if let Some(renew_at) = handed.renew_at {
            self.handed.insert(row.id.clone(), renew_at);
        }
        self.send_payload(PayloadTask {
            role_credentials: handed.application.map(credentials),
            execution_role_credentials: handed.execution.map(credentials),
            ..task
        })
        .await;
    }

    /// Sends a task's credentials if this session has not sent these. A new
    /// session always does: an agent keeps none, and one that was away may
    /// have missed new ones, so what it asks for (`sendCredentials`) is less.
    async fn send_credentials(&mut self, row: &Task) {
        let rows = self.cx.snapshot();
        let Some(roles) = rows.get::<TaskRoles>(&row.key()) else { return };
        if self.handed.get(&row.id) == Some(&roles.renew_at) {
            return;
        }
        let handed = match sts::tasks::handed(&self.cx, &rows, row) {
            Ok(handed) => handed,
            Err(error) => return self.without_credentials(row, &error),
        };
        self.handed.insert(row.id.clone(), roles.renew_at);
        for message in refresh(row, handed, || self.message_id()) {
            self.send(&message).await;
        }
    }

    /// Nothing is sent now: the task is over, or will be looked at again.
    fn without_credentials(&self, row: &Task, error: &TaskRoleError) {
        tracing::warn!(
            instance = self.peer.instance_arn,
            task = row.id,
            %error,
            "credentials were not sent",
        );
    }

    async fn send_stop(&mut self, row: &Task) {
        self.told.insert(row.id.clone(), Told::Stop);
        self.send_payload(PayloadTask {
            arn: row.arn(),
            desired_status: "STOPPED".to_owned(),
            task_cluster_arn: row.task.cluster_arn.clone(),
            ..PayloadTask::default()
        })
        .await;
    }

    async fn send_payload(&self, task: PayloadTask) {
        let message = Message::Payload(Box::new(Payload {
            message_id: self.message_id(),
            cluster_arn: self.peer.cluster_arn.clone(),
            container_instance_arn: self.peer.instance_arn.clone(),
            tasks: vec![task],
            generated_at: Some(self.cx.clock.now().as_millis()),
            seq_num: Some(self.sequence()),
            timeline: None,
        }));
        self.send(&message).await;
    }

    /// A task that cannot be put into a payload ends: nothing would start it.
    async fn give_up(&self, row: &Task, why: String) {
        let key = row.key();
        let now = self.cx.clock.now();
        let ended = self.cx.transact(move |tx| {
            if let Some(found) = tx.get::<Task>(&key) {
                let mut row = Task::clone(&found);
                let report = report::Report {
                    status: Some("STOPPED".to_owned()),
                    reason: Some(why),
                    ..Default::default()
                };
                if report::apply(&mut row, report, |_| true, now) {
                    report::keep(tx, row);
                }
            }
            Ok(())
        });
        if let Err(error) = ended.await {
            tracing::error!(
                task = row.id,
                details = error.internal(),
                "could not end a task that has no payload",
            );
        }
    }

    async fn send_manifest(&self) {
        let tasks = self
            .tasks()
            .iter()
            .filter(|row| row.should_run())
            .map(|row| identifier(row.arn(), row.task.cluster_arn.clone()))
            .collect();
        let manifest = TaskManifest {
            message_id: self.message_id(),
            cluster_arn: Some(self.peer.cluster_arn.clone()),
            container_instance_arn: Some(self.peer.instance_arn.clone()),
            tasks,
            generated_at: Some(self.cx.clock.now().as_millis()),
            timeline: Some(self.sequence()),
        };
        self.send(&Message::TaskManifest(manifest)).await;
    }

    async fn send_heartbeat(&self) {
        let beat = Heartbeat {
            message_id: Some(self.message_id()),
            healthy: Some(true),
        };
        self.send(&Message::Heartbeat(beat)).await;
    }

    /// Answers what the agent says; acknowledgements need no answer.
    async fn hear(&mut self, frame: &str) {
        match Message::decode(frame) {
            Ok(Message::TaskStopVerification(asked)) => {
                let should_run: BTreeSet<String> = self
                    .tasks()
                    .iter()
                    .filter(|row| row.should_run())
                    .map(|row| row.arn())
                    .collect();
                let stop_tasks = asked
                    .stop_candidates
                    .into_iter()
                    .filter(|task| !should_run.contains(&task.task_arn))
                    .map(|task| TaskIdentifier {
                        desired_status: "STOPPED".to_owned(),
                        ..task
                    })
                    .collect();
                let ack = TaskStopVerificationAck {
                    message_id: asked.message_id,
                    generated_at: Some(self.cx.clock.now().as_millis()),
                    stop_tasks,
                };
                self.send(&Message::TaskStopVerificationAck(ack)).await;
            }
            Ok(Message::Nack(nack)) => tracing::warn!(
                instance = self.peer.instance_arn,
                reason = nack.reason,
                "the agent refused a message",
            ),
            Ok(_) => {}
            Err(error) => tracing::warn!(
                instance = self.peer.instance_arn,
                %error,
                "the agent sent a frame that is none",
            ),
        }
    }

    async fn send(&self, message: &Message) {
        match message.encode() {
            // A closed channel ends the session's loop by itself.
            Ok(frame) => drop(self.to_agent.send(frame).await),
            Err(error) => tracing::error!(
                message = message.type_name(),
                %error,
                "a message has no JSON form",
            ),
        }
    }

    fn message_id(&self) -> String {
        MessageId::new(self.cx.ids.uuid()).dashed()
    }

    /// The counter that payloads and manifests share; it grows with every
    /// commit and survives restarts, which is all the agent asks of it.
    fn sequence(&self) -> i64 {
        i64::try_from(self.cx.snapshot().revision()).unwrap_or(i64::MAX)
    }
}

/// Whether an agent has, or is about to have, containers of the task.
fn needs_credentials(row: &Task) -> bool {
    let status = row.last_status().parse::<TaskStatus>();
    status.is_ok_and(TaskStatus::is_with_agent)
        && (row.should_run() || row.task.started_at.is_some())
}

/// Whether the task's containers get an interface of their own.
fn has_interface(row: &Task) -> bool {
    row.network_interface.is_some()
}

/// Ends when the sleep does; never, where there is none.
async fn settled(sleep: &mut Option<Pin<Box<Sleep>>>) {
    match sleep {
        Some(sleep) => sleep.await,
        None => std::future::pending().await,
    }
}

fn identifier(
    task_arn: String,
    task_cluster_arn: Option<String>,
) -> TaskIdentifier {
    TaskIdentifier {
        task_arn,
        task_cluster_arn,
        desired_status: "RUNNING".to_owned(),
    }
}
