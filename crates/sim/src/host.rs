//! A simulated host: what an agent would say, without containers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use minato_control::{AgentHello, AgentLink, OpenSessionError, SessionKind};
use minato_wire::acs::{Ack, Message, TaskIdentifier, TaskStopVerification};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until};

use crate::chance::Chance;
use crate::world::{ACCOUNT, CLUSTER, REGION, World};

/// A container of a task, as far as anyone outside sees.
struct Run {
    containers: Vec<String>,
    /// The last report, repeated when the agent is told again.
    said: Option<&'static str>,
}

/// A report that is due.
struct Due {
    arn: String,
    status: &'static str,
    reason: Option<&'static str>,
    exit_code: Option<i32>,
}

pub(crate) struct SimHost {
    world: Arc<World>,
    chance: Chance,
    arn: Option<String>,
    runs: BTreeMap<String, Run>,
    due: BTreeMap<(Instant, u64), Due>,
    counter: u64,
}

/// Why a session is over.
enum End {
    Lost,
    /// The machine is gone, with all that ran on it.
    Died,
}

impl SimHost {
    pub(crate) fn new(world: Arc<World>, seed: u64) -> SimHost {
        SimHost {
            world,
            chance: Chance::new(seed),
            arn: None,
            runs: BTreeMap::new(),
            due: BTreeMap::new(),
            counter: 0,
        }
    }

    /// Lives until the world's end, through deaths and reconnects.
    pub(crate) async fn live(mut self) {
        loop {
            sleep(Duration::from_millis(100 + self.chance.below(900))).await;
            let Some(arn) = self.registered().await else { continue };
            let Some(link) = self.connect(&arn) else { continue };
            if let End::Died = self.session(link).await {
                self.runs.clear();
                self.due.clear();
                self.arn = None;
                self.world.mourn(arn);
                let off = 1 + self.chance.below(60);
                sleep(Duration::from_secs(off)).await;
            }
        }
    }

    async fn registered(&mut self) -> Option<String> {
        if self.arn.is_none() {
            let integer = |name: &str, value: i64| json!({"name": name, "type": "INTEGER", "integerValue": value});
            let input = json!({
                "cluster": CLUSTER,
                "totalResources": [
                    integer("CPU", 2048), integer("MEMORY", 4096),
                ],
                "attributes": [
                    {"name": "ecs.os-type", "value": "linux"},
                    {"name": "ecs.cpu-architecture", "value": "x86_64"},
                    {"name": "ecs.capability.task-eni"},
                ],
            });
            let call = "RegisterContainerInstance";
            let answer = self.world.call(call, input).await.ok()?;
            let arn = &answer["containerInstance"]["containerInstanceArn"];
            self.arn = arn.as_str().map(str::to_owned);
        }
        self.arn.clone()
    }

    fn connect(&mut self, arn: &str) -> Option<AgentLink> {
        let hello = AgentHello {
            account: ACCOUNT.to_owned(),
            region: REGION.to_owned(),
            container_instance_arn: arn.to_owned(),
            agent_version: "1.0.0".to_owned(),
            ..AgentHello::default()
        };
        let control = self.world.control()?;
        match control.open_session(SessionKind::Acs, hello) {
            Ok(link) => Some(link),
            Err(
                OpenSessionError::InactiveInstance { .. }
                | OpenSessionError::UnknownInstance { .. },
            ) => {
                self.arn = None;
                self.runs.clear();
                self.due.clear();
                None
            }
        }
    }

    async fn session(&mut self, mut link: AgentLink) -> End {
        loop {
            let next = self.due.first_key_value().map(|((at, _), _)| *at);
            let idle = Instant::now() + Duration::from_secs(5);
            tokio::select! {
                biased;
                frame = link.incoming.recv() => {
                    let Some(frame) = frame else { return End::Lost };
                    // A stream that loses a frame is a stream that ends.
                    if self.faulty(3) {
                        return End::Lost;
                    }
                    let times = if self.faulty(5) { 2 } else { 1 };
                    for _ in 0..times {
                        for answer in self.hear(&frame) {
                            let Ok(text) = answer.encode() else { continue };
                            if link.outgoing.send(text).await.is_err() {
                                return End::Lost;
                            }
                        }
                    }
                }
                () = sleep_until(next.unwrap_or(idle)) => {
                    if self.faulty(1) && self.chance.hits(20) {
                        return End::Died;
                    }
                    self.report().await;
                }
            }
        }
    }

    fn faulty(&mut self, percent: u64) -> bool {
        self.world.has_faults() && self.chance.hits(percent)
    }

    fn hear(&mut self, frame: &str) -> Vec<Message> {
        match Message::decode(frame) {
            Ok(Message::Payload(payload)) => {
                for task in payload.tasks {
                    let names = task.containers.iter();
                    let names = names.map(|one| one.name.clone()).collect();
                    if task.desired_status == "STOPPED" {
                        self.stop(&task.arn);
                    } else {
                        self.start(task.arn, names);
                    }
                }
                vec![Message::Ack(Ack {
                    message_id: payload.message_id,
                    ..Ack::default()
                })]
            }
            Ok(Message::TaskManifest(manifest)) => {
                let mut unknown = self.runs.keys().filter(|arn| {
                    manifest.tasks.iter().all(|task| task.task_arn != **arn)
                });
                let candidates: Vec<_> = unknown
                    .by_ref()
                    .map(|arn| TaskIdentifier {
                        task_arn: arn.clone(),
                        desired_status: "STOPPED".to_owned(),
                        ..TaskIdentifier::default()
                    })
                    .collect();
                vec![Message::TaskStopVerification(TaskStopVerification {
                    message_id: manifest.message_id,
                    stop_candidates: candidates,
                })]
            }
            Ok(Message::TaskStopVerificationAck(ack)) => {
                for task in ack.stop_tasks {
                    self.stop(&task.task_arn);
                }
                vec![]
            }
            Ok(_) | Err(_) => vec![],
        }
    }

    fn start(&mut self, arn: String, containers: Vec<String>) {
        if let Some(run) = self.runs.get(&arn) {
            if let Some(said) = run.said {
                self.plan(&arn, said, 10, None, None);
            }
            return;
        }
        self.runs.insert(arn.clone(), Run { containers, said: None });
        if self.faulty(10) {
            let why = "CannotPullContainerError: simulated";
            self.plan(&arn, "STOPPED", 3_000, Some(why), None);
            return;
        }
        let slow = if self.faulty(10) { 90_000 } else { 2_000 };
        self.plan(&arn, "RUNNING", slow, None, None);
        if self.faulty(10) {
            self.plan(&arn, "STOPPED", 120_000, None, Some(1));
        }
    }

    fn stop(&mut self, arn: &str) {
        let patience = if self.faulty(20) { 30_000 } else { 1_000 };
        self.plan(arn, "STOPPED", patience, None, Some(137));
    }

    /// Has a report go out within so many milliseconds.
    fn plan(
        &mut self,
        arn: &str,
        status: &'static str,
        within_ms: u64,
        reason: Option<&'static str>,
        exit_code: Option<i32>,
    ) {
        let wait = 1 + self.chance.below(within_ms);
        let at = Instant::now() + Duration::from_millis(wait);
        self.counter += 1;
        let due = Due { arn: arn.to_owned(), status, reason, exit_code };
        self.due.insert((at, self.counter), due);
    }

    /// Sends the first report that is due; late, twice or not at all.
    async fn report(&mut self) {
        let Some(entry) = self.due.first_entry() else { return };
        if entry.key().0 > Instant::now() {
            return;
        }
        let Due { arn, status, reason, exit_code } = entry.remove();
        let run = self.runs.get_mut(&arn);
        let containers: Vec<Value> = run
            .iter()
            .flat_map(|run| &run.containers)
            .map(|name| {
                json!({
                    "containerName": name, "status": status,
                    "exitCode": exit_code, "runtimeId": "simulated",
                })
            })
            .map(without_nulls)
            .collect();
        if let Some(run) = run
            && run.said != Some("STOPPED")
        {
            run.said = Some(status);
        }
        let input = without_nulls(json!({
            "cluster": CLUSTER, "task": arn, "status": status,
            "reason": reason, "containers": containers,
        }));
        let call = "SubmitTaskStateChange";
        let is_lost = self.faulty(10);
        let mut is_taken = false;
        if !is_lost {
            let answer = self.world.call(call, input.clone()).await;
            // What is refused for good is not sent again.
            is_taken = match answer {
                Ok(_) => !self.faulty(5), // the answer may be lost
                Err(code) => code
                    .as_deref()
                    .is_some_and(|code| code != "ServerException"),
            };
        }
        if !is_taken {
            self.plan(&arn, status, 2_000, reason, exit_code);
        }
    }
}

fn without_nulls(mut value: Value) -> Value {
    if let Some(map) = value.as_object_mut() {
        map.retain(|_, value| !value.is_null());
    }
    value
}
