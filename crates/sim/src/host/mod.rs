//! A simulated host: what an agent would say, without containers.

mod luck;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use minato_control::{AgentHello, AgentLink, OpenSessionError, SessionKind};
use minato_core::capacity::group::GROUP_ATTRIBUTE;
use minato_wire::acs::{
    self, Ack, Message, TaskIdentifier, TaskStopVerification,
};
use minato_wire::tcs;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

pub(crate) use self::luck::Luck;
use crate::world::{ACCOUNT, CLUSTER, REGION, World};

/// What becomes of a host and its tasks, whoever decides it.
pub(crate) trait Nature: Send + 'static {
    /// What it registers with.
    fn registration(&self) -> Value;

    /// It has been registered as this container instance.
    fn registered(&mut self, arn: &str);

    /// Waits until it tries to connect.
    fn rest(&mut self) -> impl Future<Output = ()> + Send;

    /// Waits for what ends its session.
    fn summons(&mut self) -> impl Future<Output = End> + Send;

    /// Its machine is gone, and the tasks on it.
    fn died(&mut self, arn: String) -> impl Future<Output = ()> + Send;

    /// How a task that starts goes on.
    fn course(&mut self, task: &acs::Task) -> Course;

    /// How long a task takes to end that is told to.
    fn stops_in(&mut self, arn: &str) -> Duration;

    /// What it says again, it says after this long.
    fn soon(&mut self) -> Duration;

    /// Whether something of its session goes wrong this time.
    fn suffers(&mut self, mishap: Mishap) -> bool;
}

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mishap {
    /// A frame is lost, and with it the session.
    FrameLost,
    /// A frame comes twice.
    FrameTwice,
    /// The machine dies.
    Death,
    /// A report is lost on its way.
    ReportLost,
    /// The answer to a report is lost.
    AnswerLost,
}

/// The Auto Scaling group that all hosts are of.
pub(crate) const GROUP: &str = "hosts";

/// How often an agent repeats the health of a task: more often than the ten
/// seconds of the real one, for a play is short.
const HEALTH_EVERY: Duration = Duration::from_secs(5);

/// Why a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Lost,
    /// The machine is gone, with all that ran on it.
    Died,
}

/// How a task goes on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Course {
    /// Whether it has a health check: it serves once that succeeds.
    pub(crate) is_checked: bool,
    pub(crate) steps: Vec<Step>,
}

/// Something that happens to a task after a while.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) after: Duration,
    pub(crate) what: Said,
    pub(crate) reason: Option<&'static str>,
    pub(crate) exit_code: Option<i32>,
}

impl Step {
    pub(crate) fn new(after: Duration, what: Said) -> Step {
        Step { after, what, reason: None, exit_code: None }
    }
}

/// What an agent says of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// Its status.
    Status(&'static str),
    /// Its health.
    Health(&'static str),
    /// Its health as it was last, which agents repeat.
    SameHealth,
}

/// The containers of a task, as far as anyone outside sees.
struct Run {
    containers: Vec<String>,
    is_checked: bool,
    health: Option<&'static str>,
    /// The last report, repeated when the agent is told again.
    said: Option<&'static str>,
}

/// A report that is due.
struct Due {
    arn: String,
    step: Step,
}

pub(crate) struct SimHost<N> {
    world: Arc<World>,
    nature: N,
    arn: Option<String>,
    runs: BTreeMap<String, Run>,
    due: BTreeMap<(Instant, u64), Due>,
    counter: u64,
    telemetry: Option<AgentLink>,
}

impl<N: Nature> SimHost<N> {
    pub(crate) fn new(world: Arc<World>, nature: N) -> SimHost<N> {
        SimHost {
            world,
            nature,
            arn: None,
            runs: BTreeMap::new(),
            due: BTreeMap::new(),
            counter: 0,
            telemetry: None,
        }
    }

    /// Lives until the world's end, through deaths and reconnects.
    pub(crate) async fn live(mut self) {
        loop {
            self.nature.rest().await;
            let Some(arn) = self.registered().await else { continue };
            let Some(link) = self.connect(SessionKind::Acs) else { continue };
            let end = self.session(link).await;
            self.telemetry = None;
            if end == End::Died {
                self.clear();
                self.nature.died(arn).await;
            }
        }
    }

    /// Nothing runs here any more, and nobody is told.
    fn clear(&mut self) {
        for arn in self.runs.keys() {
            self.world.serves(arn, None);
        }
        self.runs.clear();
        self.due.clear();
        self.arn = None;
    }

    async fn registered(&mut self) -> Option<String> {
        if self.arn.is_none() {
            let call = "RegisterContainerInstance";
            let input = self.nature.registration();
            let answer = self.world.call(call, input).await.ok()?;
            let arn = &answer["containerInstance"]["containerInstanceArn"];
            self.arn = arn.as_str().map(str::to_owned);
            if let Some(arn) = &self.arn {
                self.nature.registered(arn);
            }
        }
        self.arn.clone()
    }

    fn connect(&mut self, kind: SessionKind) -> Option<AgentLink> {
        let hello = AgentHello {
            account: ACCOUNT.to_owned(),
            region: REGION.to_owned(),
            container_instance_arn: self.arn.clone()?,
            agent_version: "1.0.0".to_owned(),
            ..AgentHello::default()
        };
        let control = self.world.control()?;
        match control.open_session(kind, hello) {
            Ok(link) => Some(link),
            Err(
                OpenSessionError::InactiveInstance { .. }
                | OpenSessionError::UnknownInstance { .. },
            ) => {
                self.clear();
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
                end = self.nature.summons() => return end,
                frame = link.incoming.recv() => {
                    let Some(frame) = frame else { return End::Lost };
                    // A stream that loses a frame is a stream that ends.
                    if self.nature.suffers(Mishap::FrameLost) {
                        return End::Lost;
                    }
                    let is_twice = self.nature.suffers(Mishap::FrameTwice);
                    for _ in 0..1 + usize::from(is_twice) {
                        for answer in self.hear(&frame) {
                            let Ok(text) = answer.encode() else { continue };
                            if link.outgoing.send(text).await.is_err() {
                                return End::Lost;
                            }
                        }
                    }
                }
                () = sleep_until(next.unwrap_or(idle)) => {
                    if self.nature.suffers(Mishap::Death) {
                        return End::Died;
                    }
                    self.report().await;
                }
            }
        }
    }

    fn hear(&mut self, frame: &str) -> Vec<Message> {
        match Message::decode(frame) {
            Ok(Message::Payload(payload)) => {
                for task in payload.tasks {
                    if task.desired_status == "STOPPED" {
                        self.stop(&task.arn);
                    } else {
                        self.start(task);
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

    fn start(&mut self, task: acs::Task) {
        if let Some(run) = self.runs.get(&task.arn) {
            if let Some(said) = run.said {
                let again = Step::new(self.nature.soon(), Said::Status(said));
                self.plan(&task.arn, again);
            }
            return;
        }
        let Course { is_checked, steps } = self.nature.course(&task);
        let containers =
            task.containers.iter().map(|one| one.name.clone()).collect();
        let run = Run { containers, is_checked, health: None, said: None };
        self.runs.insert(task.arn.clone(), run);
        for step in steps {
            self.plan(&task.arn, step);
        }
    }

    fn stop(&mut self, arn: &str) {
        // It has its SIGTERM: no more work for it.
        self.world.serves(arn, None);
        if let Some(run) = self.runs.get_mut(arn)
            && run.said == Some("RUNNING")
        {
            run.said = Some("STOPPING");
        }
        let after = self.nature.stops_in(arn);
        let step = Step::new(after, Said::Status("STOPPED"));
        self.plan(arn, Step { exit_code: Some(137), ..step });
    }

    /// Has a report go out when its time comes.
    fn plan(&mut self, arn: &str, step: Step) {
        let at = Instant::now() + step.after;
        self.counter += 1;
        let due = Due { arn: arn.to_owned(), step };
        self.due.insert((at, self.counter), due);
    }

    /// Sends the first report that is due; late, twice or not at all.
    async fn report(&mut self) {
        let Some(entry) = self.due.first_entry() else { return };
        if entry.key().0 > Instant::now() {
            return;
        }
        let Due { arn, step } = entry.remove();
        match step.what {
            Said::Health(status) => {
                let run = self.runs.get_mut(&arn);
                let is_first =
                    run.as_ref().is_some_and(|run| run.health.is_none());
                if let Some(run) = run {
                    run.health = Some(status);
                }
                if is_first {
                    self.plan(&arn, Step::new(HEALTH_EVERY, Said::SameHealth));
                }
                self.report_health(&arn).await;
            }
            Said::SameHealth => {
                if self.report_health(&arn).await {
                    self.plan(&arn, Step::new(HEALTH_EVERY, Said::SameHealth));
                }
            }
            Said::Status(status) => {
                self.report_status(arn, status, step).await;
            }
        }
    }

    async fn report_status(
        &mut self,
        arn: String,
        status: &'static str,
        step: Step,
    ) {
        let run = self.runs.get_mut(&arn);
        let Step { reason, exit_code, .. } = step;
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
            // One that is told to stop does not begin to serve.
            let is_stopping = run.said == Some("STOPPING");
            if status == "RUNNING" && !is_stopping {
                self.world.serves(&arn, Some(!run.is_checked));
            }
            if status == "STOPPED" {
                self.world.serves(&arn, None);
            }
            if !(is_stopping && status == "RUNNING") {
                run.said = Some(status);
            }
        }
        let input = without_nulls(json!({
            "cluster": CLUSTER, "task": arn, "status": status,
            "reason": reason, "containers": containers,
        }));
        let call = "SubmitTaskStateChange";
        let mut is_taken = false;
        if !self.nature.suffers(Mishap::ReportLost) {
            let answer = self.world.call(call, input.clone()).await;
            // What is refused for good is not sent again.
            is_taken = match answer {
                // The answer may be lost.
                Ok(_) => !self.nature.suffers(Mishap::AnswerLost),
                Err(code) => code
                    .as_deref()
                    .is_some_and(|code| code != "ServerException"),
            };
        }
        if !is_taken {
            let after = self.nature.soon() + Duration::from_millis(100);
            self.plan(&arn, Step { after, ..step });
        }
    }

    /// Tells the health of a task, by telemetry; `false` if it runs no more.
    async fn report_health(&mut self, arn: &str) -> bool {
        let Some(run) = self.runs.get(arn) else { return false };
        let Some(status) = run.health else { return false };
        if run.said != Some("RUNNING") {
            return run.said.is_none();
        }
        self.world.serves(arn, Some(status == "HEALTHY"));
        let containers =
            run.containers.iter().map(|name| tcs::ContainerHealth {
                container_name: Some(name.clone()),
                health_status: Some(status.to_owned()),
                ..tcs::ContainerHealth::default()
            });
        let message = tcs::Message::PublishHealth(tcs::PublishHealth {
            tasks: vec![tcs::TaskHealth {
                task_arn: Some(arn.to_owned()),
                containers: containers.collect(),
                ..tcs::TaskHealth::default()
            }],
            ..tcs::PublishHealth::default()
        });
        let Ok(text) = message.encode() else { return false };
        if self.telemetry.is_none() {
            self.telemetry = self.connect(SessionKind::Tcs);
        }
        let is_sent = match &mut self.telemetry {
            None => false,
            Some(link) => {
                // Acknowledgements say nothing that matters here.
                while link.incoming.try_recv().is_ok() {}
                link.outgoing.send(text).await.is_ok()
            }
        };
        if !is_sent {
            // The next time will do.
            self.telemetry = None;
        }
        true
    }
}

fn without_nulls(mut value: Value) -> Value {
    if let Some(map) = value.as_object_mut() {
        map.retain(|_, value| !value.is_null());
    }
    value
}

/// What hosts register with: their size and what they can do.
pub(crate) fn registration(
    cpu: i64,
    memory: i64,
    zone: Option<&str>,
    has_health_checks: bool,
) -> Value {
    let integer = |name: &str, value: i64| json!({"name": name, "type": "INTEGER", "integerValue": value});
    let mut attributes = vec![
        json!({"name": "ecs.os-type", "value": "linux"}),
        json!({"name": "ecs.cpu-architecture", "value": "x86_64"}),
        json!({"name": "ecs.capability.task-eni"}),
        json!({"name": GROUP_ATTRIBUTE, "value": GROUP}),
    ];
    if let Some(zone) = zone {
        attributes
            .push(json!({"name": "ecs.availability-zone", "value": zone}));
    }
    if has_health_checks {
        for name in [
            "ecs.capability.container-health-check",
            "com.amazonaws.ecs.capability.docker-remote-api.1.18",
            "com.amazonaws.ecs.capability.docker-remote-api.1.24",
        ] {
            attributes.push(json!({ "name": name }));
        }
    }
    json!({
        "cluster": CLUSTER,
        "totalResources": [integer("CPU", cpu), integer("MEMORY", memory)],
        "attributes": attributes,
    })
}
