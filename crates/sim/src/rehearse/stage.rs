//! The play itself: hosts come up, services are created, and then the plan's
//! events happen when their time has come.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use minato_core::service::Pace;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::actor::{Actor, Order, Script};
use super::plan::{Event, Plan, Service, Tasks, What};
use super::report::{Recorder, Report};
use super::yaml::At;
use super::{PlanError, RehearseError};
use crate::host::SimHost;
use crate::world::{ACCOUNT, CLUSTER, Process, REGION, World};

/// How often the stage is looked at.
const TICK: Duration = Duration::from_millis(100);
/// Ticks within which all hosts have registered, whatever their number.
const READY_TICKS: u32 = 600;

struct Stage<'a> {
    plan: &'a Plan,
    world: Arc<World>,
    process: Option<Process>,
    script: Arc<Script>,
    orders: BTreeMap<String, watch::Sender<Order>>,
    recorder: Recorder,
    subnets: Vec<String>,
    /// What is still to happen because of an event: when, and what.
    later: Vec<(Instant, Later)>,
    start: Instant,
}

/// What follows an event after a while.
enum Later {
    /// A lost machine is noticed: its instance is deregistered.
    Deregister(String),
    /// An agent has its connection again.
    Connect(String),
    /// The control plane comes back.
    Revive,
}

fn simulator(why: impl std::fmt::Display) -> RehearseError {
    RehearseError::Simulator(why.to_string())
}

/// Plays a plan to its end.
pub(super) async fn play(plan: &Plan) -> Result<Report, RehearseError> {
    let pace = if plan.is_aws_pace { Pace::AWS } else { Pace::FAST };
    let world = Arc::new(World::new(plan.seed, pace).map_err(simulator)?);
    world.heal();
    let process = world.start().await.map_err(simulator)?;
    let subnets = process
        .control
        .default_network(ACCOUNT, REGION, None)
        .await
        .map_err(simulator)?;
    let script = Arc::new(Script::default());
    let mut hosts = JoinSet::new();
    let mut orders = BTreeMap::new();
    for host in &plan.hosts {
        let (order, orders_of_host) = watch::channel(Order::Up);
        orders.insert(host.name.clone(), order);
        let script = Arc::clone(&script);
        let actor = Actor::new(host.clone(), script, orders_of_host);
        hosts.spawn(SimHost::new(Arc::clone(&world), actor).live());
    }
    let mut stage = Stage {
        plan,
        recorder: Recorder::new(plan, &process),
        subnets: subnets.into_iter().map(|subnet| subnet.id).collect(),
        world,
        process: Some(process),
        script,
        orders,
        later: vec![],
        start: Instant::now(),
    };
    let played = stage.run().await;
    hosts.shutdown().await;
    stage.world.kill().await;
    played?;
    Ok(stage.recorder.finish(plan))
}

impl Stage<'_> {
    async fn run(&mut self) -> Result<(), RehearseError> {
        self.wait_for_hosts().await?;
        let plan = self.plan;
        for (name, service) in &plan.services {
            self.define(name, service, &service.tasks, service.at).await?;
            self.create(name, service).await?;
        }
        self.start = Instant::now();
        self.recorder.begin();
        let mut left = plan.events.iter().peekable();
        loop {
            let now = self.start.elapsed();
            while let Some(event) = left.next_if(|event| event.after <= now) {
                self.happen(event).await?;
            }
            self.follow_up().await?;
            if now >= plan.length {
                return Ok(());
            }
            sleep(TICK).await;
            if let Some(process) = &self.process {
                let serving = self.world.serving();
                self.recorder
                    .look(process, &serving, self.start.elapsed())
                    .map_err(simulator)?;
            }
        }
    }

    async fn wait_for_hosts(&mut self) -> Result<(), RehearseError> {
        for _ in 0..READY_TICKS {
            sleep(TICK).await;
            if self.script.instances.lock().len() == self.plan.hosts.len() {
                // Their sessions come up a moment later.
                sleep(TICK * 10).await;
                return Ok(());
            }
        }
        Err(simulator("the hosts did not all register"))
    }

    /// Calls ECS; what it refuses is a mistake of the plan at that place.
    async fn ask(
        &self,
        operation: &str,
        input: Value,
        at: At,
    ) -> Result<Value, PlanError> {
        self.world
            .try_call(operation, input)
            .await
            .map_err(|why| at.error(format!("{operation} answered: {why}")))
    }

    /// Registers a revision of a service's definition.
    async fn define(
        &mut self,
        name: &str,
        service: &Service,
        tasks: &Tasks,
        at: At,
    ) -> Result<String, PlanError> {
        let mut container = json!({
            "name": "app", "image": name, "cpu": service.cpu,
            "memory": service.memory, "essential": true,
        });
        if let Some(port) = service.host_port {
            container["portMappings"] =
                json!([{"containerPort": port, "hostPort": port}]);
        }
        if service.has_health_check {
            container["healthCheck"] = json!({"command": ["CMD", "true"]});
        }
        let mut input =
            json!({"family": name, "containerDefinitions": [container]});
        if service.is_fargate {
            input["networkMode"] = json!("awsvpc");
            input["requiresCompatibilities"] = json!(["FARGATE"]);
            input["cpu"] = json!(service.cpu.to_string());
            input["memory"] = json!(service.memory.to_string());
        }
        let answer = self.ask("RegisterTaskDefinition", input, at).await?;
        let definition = &answer["taskDefinition"];
        let revision = definition["revision"].as_u64().unwrap_or(0);
        let revision = u32::try_from(revision).unwrap_or(0);
        let key = (name.to_owned(), revision);
        let behaviour = (tasks.clone(), service.has_health_check);
        self.script.tasks.lock().insert(key, behaviour);
        let arn = definition["taskDefinitionArn"].as_str();
        Ok(arn.unwrap_or_default().to_owned())
    }

    async fn create(
        &self,
        name: &str,
        service: &Service,
    ) -> Result<(), PlanError> {
        let mut input = service.configuration.clone();
        input["cluster"] = json!(CLUSTER);
        input["serviceName"] = json!(name);
        input["taskDefinition"] = json!(name);
        input["desiredCount"] = json!(service.desired);
        match &service.capacity_provider {
            Some(provider) => {
                input["capacityProviderStrategy"] =
                    json!([{"capacityProvider": provider, "weight": 1}]);
            }
            None if service.is_fargate => {
                input["launchType"] = json!("FARGATE");
            }
            None => {}
        }
        if service.is_fargate {
            input["networkConfiguration"] = json!({
                "awsvpcConfiguration": {"subnets": self.subnets},
            });
        }
        self.ask("CreateService", input, service.at).await?;
        Ok(())
    }

    fn order(&self, host: &str, order: Order) {
        if let Some(sender) = self.orders.get(host) {
            sender.send_replace(order);
        }
    }

    fn instance(&self, host: &str) -> Option<String> {
        self.script.instances.lock().get(host).cloned()
    }

    async fn happen(&mut self, event: &Event) -> Result<(), RehearseError> {
        let Event { what, at, .. } = event;
        let told = told(what);
        self.recorder.note(self.start.elapsed(), None, told);
        let plan = self.plan;
        match what {
            What::Deploy { service, tasks } => {
                let of = &plan.services[service];
                let arn = self.define(service, of, tasks, *at).await?;
                let input = json!({
                    "cluster": CLUSTER, "service": service,
                    "taskDefinition": arn,
                });
                self.ask("UpdateService", input, *at).await?;
            }
            What::Scale { service, desired } => {
                let input = json!({
                    "cluster": CLUSTER, "service": service,
                    "desiredCount": desired,
                });
                self.ask("UpdateService", input, *at).await?;
            }
            What::Lose { host, noticed_in } => {
                self.order(host, Order::Down);
                let when = Instant::now() + *noticed_in;
                if let Some(arn) = self.instance(host) {
                    self.later.push((when, Later::Deregister(arn)));
                }
            }
            What::Return { host } => self.order(host, Order::Up),
            What::Disconnect { host, lasts } => {
                self.order(host, Order::Apart);
                let when = Instant::now() + *lasts;
                self.later.push((when, Later::Connect(host.clone())));
            }
            What::Drain { host } => {
                self.set_state(host, "DRAINING", *at).await?;
            }
            What::Activate { host } => {
                self.set_state(host, "ACTIVE", *at).await?;
            }
            What::Spot { service, count } => {
                let mut input = json!({"cluster": CLUSTER, "service": service});
                if let Some(count) = count {
                    input["count"] = json!(count);
                }
                let call = "InterruptSpotTasks";
                let answer = self.world.call_minato(call, input).await;
                answer.map_err(|why| at.error(format!("{call}: {why:?}")))?;
            }
            What::Restart { down } => {
                self.process = None;
                self.world.kill().await;
                let when = Instant::now() + *down;
                self.later.push((when, Later::Revive));
            }
        }
        Ok(())
    }

    async fn set_state(
        &self,
        host: &str,
        status: &str,
        at: At,
    ) -> Result<(), PlanError> {
        let Some(arn) = self.instance(host) else { return Ok(()) };
        let input = json!({
            "cluster": CLUSTER, "containerInstances": [arn],
            "status": status,
        });
        let call = "UpdateContainerInstancesState";
        let answer = self.ask(call, input, at).await?;
        match answer["failures"][0]["reason"].as_str() {
            None => Ok(()),
            Some(why) => {
                Err(at.error(format!("{host} cannot be {status}: {why}")))
            }
        }
    }

    /// Does what is due because of earlier events.
    async fn follow_up(&mut self) -> Result<(), RehearseError> {
        let now = Instant::now();
        let all = std::mem::take(&mut self.later);
        let (due, rest) = all.into_iter().partition(|(at, _)| *at <= now);
        self.later = rest;
        let due: Vec<(Instant, Later)> = due;
        for (_, what) in due {
            match what {
                Later::Connect(host) => self.order(&host, Order::Up),
                Later::Revive => {
                    let process =
                        self.world.start().await.map_err(simulator)?;
                    self.recorder.restarted(&process);
                    self.process = Some(process);
                }
                Later::Deregister(arn) => {
                    let input = json!({
                        "cluster": CLUSTER, "containerInstance": arn,
                        "force": true,
                    });
                    let call = "DeregisterContainerInstance";
                    if self.world.call(call, input).await.is_err() {
                        // The control plane is down: its operator tries again.
                        let again = Instant::now() + Duration::from_secs(1);
                        self.later.push((again, Later::Deregister(arn)));
                    }
                }
            }
        }
        Ok(())
    }
}

/// An event in words.
fn told(what: &What) -> String {
    let seconds = |time: &Duration| super::report::clock(*time);
    match what {
        What::Deploy { service, tasks } => {
            let how = match tasks.fault {
                super::plan::Fault::None => "",
                super::plan::Fault::CannotPull => ", which cannot be pulled",
                super::plan::Fault::Crash => ", which crashes",
                super::plan::Fault::Unhealthy => ", which stays unhealthy",
            };
            format!("deploy a new revision of {service}{how}")
        }
        What::Scale { service, desired } => {
            format!("scale {service} to {desired}")
        }
        What::Lose { host, noticed_in } => {
            format!("host {host} is lost, noticed in {}", seconds(noticed_in))
        }
        What::Return { host } => format!("host {host} is back"),
        What::Disconnect { host, lasts } => {
            format!("host {host} has no connection for {}", seconds(lasts))
        }
        What::Drain { host } => format!("drain host {host}"),
        What::Activate { host } => format!("host {host} takes tasks again"),
        What::Spot { service, count } => match count {
            None => format!("Spot capacity of {service} is taken back"),
            Some(count) => {
                format!("{count} Spot tasks of {service} are taken back")
            }
        },
        What::Restart { down } => format!(
            "the control plane is killed, and down for {}",
            seconds(down)
        ),
    }
}
