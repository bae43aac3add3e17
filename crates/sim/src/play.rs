//! The course of a run: trouble first, then peace, then the reckoning.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use minato_core::service::Pace;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::Outcome;
use crate::chance::Chance;
use crate::check::Checker;
use crate::host::{Luck, SimHost};
use crate::world::{ACCOUNT, CLUSTER, Process, REGION, World};

/// Virtual seconds of trouble.
const TROUBLE_SECS: u64 = 300;
/// Virtual seconds after which peace must have put all right: a task may be
/// protected for five minutes, by a clock that was set back several times.
const PEACE_SECS: u64 = 3_600;
const HOSTS: u64 = 6;
/// One task takes 1/32 of a host: a few hosts carry all services.
const SERVICES: u64 = 3;
const REPLICAS_MAX: u64 = 6;
/// The services that are not like the others.
const FARGATE: &str = "fargate-0";
const DAEMON: &str = "daemon-0";
const EXTERNAL: &str = "external-0";

struct Play {
    world: Arc<World>,
    process: Process,
    checker: Checker,
    chance: Chance,
    /// Services whose creation was acknowledged, and the count last agreed.
    services: BTreeMap<String, Option<u64>>,
    /// Task definitions that were acknowledged: those for EC2 instances, and
    /// those for Fargate.
    definitions: Vec<String>,
    fargate: Vec<String>,
    subnets: Vec<String>,
    kills: u64,
}

pub(crate) async fn play(seed: u64) -> Result<Outcome, String> {
    let world =
        World::new(seed, Pace::FAST).map_err(|error| error.to_string())?;
    let world = Arc::new(world);
    let process = world.start().await?;
    let subnets = process
        .control
        .default_network(ACCOUNT, REGION, None)
        .await
        .map_err(|error| error.to_string())?;
    let subnets = subnets.into_iter().map(|subnet| subnet.id).collect();
    let checker =
        Checker::new(process.store.watch(), &process.store.snapshot());
    let mut chance = Chance::new(seed ^ 0x5eed);
    let mut hosts = JoinSet::new();
    for _ in 0..HOSTS {
        let luck = Luck::new(Arc::clone(&world), chance.next());
        hosts.spawn(SimHost::new(Arc::clone(&world), luck).live());
    }
    let mut play = Play {
        world,
        process,
        checker,
        chance,
        services: BTreeMap::new(),
        definitions: vec![],
        fargate: vec![],
        subnets,
        kills: 0,
    };
    for second in 0..TROUBLE_SECS {
        play.second().await.map_err(|why| format!("at {second} s: {why}"))?;
    }
    play.world.heal();
    let peace = play.peace().await;
    hosts.shutdown().await;
    play.world.kill().await;
    peace?;
    Ok(Outcome {
        trace: play.checker.trace(),
        commits: play.checker.commits,
        kills: play.kills,
    })
}

impl Play {
    async fn second(&mut self) -> Result<(), String> {
        if self.chance.hits(2) {
            let kept = self.chance.hits(50);
            self.world.disk.die_after(self.chance.below(20), kept);
        }
        if self.chance.hits(2) {
            let jump = self.chance.below(600_000);
            let jump = i64::try_from(jump).unwrap_or(0) - 300_000;
            self.world.clock.jump(jump);
        }
        if self.chance.hits(40) {
            self.act().await;
        }
        self.tick().await
    }

    /// Lets a second pass and checks what it brought.
    async fn tick(&mut self) -> Result<(), String> {
        self.bury().await;
        for _ in 0..10 {
            sleep(Duration::from_millis(100)).await;
            self.checker.look(&self.process.store.snapshot())?;
        }
        if self.world.disk.is_dead() {
            self.world.kill().await;
            self.checker.look(&self.process.store.snapshot())?;
            self.kills += 1;
            self.process = self.world.start().await?;
            let store = &self.process.store;
            self.checker.restarted(store.watch(), &store.snapshot())?;
            self.acknowledged().await?;
        }
        Ok(())
    }

    /// Deregisters a machine that died, as its operator would.
    async fn bury(&mut self) {
        let Some(arn) = self.world.dead() else { return };
        let input = json!({
            "cluster": CLUSTER, "containerInstance": arn, "force": true,
        });
        let call = "DeregisterContainerInstance";
        let answer = self.world.call(call, input).await;
        if matches!(&answer, Err(code) if is_unsure(code.as_deref())) {
            self.world.mourn(arn);
        }
    }

    /// What was acknowledged is there after a restart.
    async fn acknowledged(&mut self) -> Result<(), String> {
        for arn in self.definitions.iter().chain(&self.fargate) {
            let input = json!({"taskDefinition": arn});
            let call = "DescribeTaskDefinition";
            if let Err(Some(code)) = self.world.call(call, input).await {
                return Err(format!("{arn} was lost: {code}"));
            }
        }
        for name in self.services.keys() {
            if self.describe(name).await.is_ok_and(|found| found.is_null()) {
                return Err(format!("service {name} was lost"));
            }
        }
        Ok(())
    }

    async fn describe(&self, name: &str) -> Result<Value, Option<String>> {
        let input = json!({"cluster": CLUSTER, "services": [name]});
        let mut answer = self.world.call("DescribeServices", input).await?;
        let found = answer["services"].as_array_mut();
        let first = found.and_then(|found| found.first_mut());
        Ok(first.map(Value::take).unwrap_or_default())
    }

    async fn act(&mut self) {
        if self.definitions.len() < 2 || self.chance.hits(5) {
            return self.define().await;
        }
        let definition = self.some_definition();
        match self.chance.below(12) {
            0 => {
                let input = json!({
                    "cluster": CLUSTER, "taskDefinition": definition,
                    "count": 1 + self.chance.below(3),
                });
                let _ = self.world.call("RunTask", input).await;
            }
            1 => self.stop_some().await,
            2 => self.protect_some().await,
            3 => self.drain_some().await,
            4 => self.take_back().await,
            5 => self.delete_some().await,
            6 => self.reclaim().await,
            7 => self.scale_sets().await,
            _ => self.serve(definition).await,
        }
    }

    fn some_definition(&mut self) -> String {
        let definition = self.chance.below(self.definitions.len() as u64);
        let definition = usize::try_from(definition).unwrap_or(0);
        self.definitions[definition].clone()
    }

    /// Registers a revision: plain, with a health check, or for Fargate.
    async fn define(&mut self) {
        // No fixed ports: they could fill the hosts so that no peace comes.
        let mut container = json!({
            "name": "main", "image": "app", "cpu": 64, "memory": 128,
        });
        let kind = self.chance.below(3);
        let family = ["app", "checked", "fargate"];
        let family = family[usize::try_from(kind).unwrap_or(0)];
        if family == "checked" {
            container["healthCheck"] = json!({"command": ["CMD", "true"]});
        }
        let mut input =
            json!({"family": family, "containerDefinitions": [container]});
        let is_fargate = family == "fargate";
        if is_fargate {
            input["networkMode"] = json!("awsvpc");
            input["requiresCompatibilities"] = json!(["FARGATE"]);
            input["cpu"] = json!("256");
            input["memory"] = json!("512");
        }
        let answer = self.world.call("RegisterTaskDefinition", input).await;
        let Ok(answer) = answer else { return };
        let arn = &answer["taskDefinition"]["taskDefinitionArn"];
        let of =
            if is_fargate { &mut self.fargate } else { &mut self.definitions };
        of.extend(arn.as_str().map(str::to_owned));
    }

    /// Deletes a service; one of its name may come again.
    async fn delete_some(&mut self) {
        let name = self.some_name();
        let input = json!({"cluster": CLUSTER, "service": name, "force": true});
        // Done or not, it is promised no more.
        self.services.remove(&name);
        let _ = self.world.call("DeleteService", input).await;
    }

    /// Takes Spot capacity from under a service's tasks.
    async fn reclaim(&mut self) {
        let input = json!({
            "cluster": CLUSTER, "service": FARGATE,
            "count": 1 + self.chance.below(3),
        });
        let _ = self.world.call_minato("InterruptSpotTasks", input).await;
    }

    /// Makes, scales or deletes a task set.
    async fn scale_sets(&mut self) {
        let on = json!({"cluster": CLUSTER, "service": EXTERNAL});
        let listed = self.world.call("DescribeTaskSets", on.clone()).await;
        let Ok(listed) = listed else {
            let input = json!({
                "cluster": CLUSTER, "serviceName": EXTERNAL,
                "desiredCount": self.chance.below(REPLICAS_MAX + 1),
                "deploymentController": {"type": "EXTERNAL"},
            });
            let _ = self.world.call("CreateService", input).await;
            return;
        };
        let sets = listed["taskSets"].as_array().cloned().unwrap_or_default();
        let pick = self.chance.below(sets.len().max(1) as u64);
        let set = sets.get(usize::try_from(pick).unwrap_or(0));
        let scale = json!({"value": self.chance.below(101)});
        let mut input = on;
        let call = match (self.chance.below(4), set) {
            (0 | 1, _) | (_, None) if sets.len() < 3 => {
                input["taskDefinition"] = json!(self.some_definition());
                input["scale"] = scale;
                "CreateTaskSet"
            }
            (2, Some(set)) => {
                input["taskSet"] = set["id"].clone();
                input["force"] = json!(true);
                "DeleteTaskSet"
            }
            (_, Some(set)) => {
                input["taskSet"] = set["id"].clone();
                input["scale"] = scale;
                "UpdateTaskSet"
            }
            (_, None) => return,
        };
        let _ = self.world.call(call, input).await;
    }

    fn some_name(&mut self) -> String {
        match self.chance.below(SERVICES + 2) {
            0 => FARGATE.to_owned(),
            1 => DAEMON.to_owned(),
            number => format!("service-{}", number - 2),
        }
    }

    async fn stop_some(&mut self) {
        let input = json!({"cluster": CLUSTER});
        let Ok(list) = self.world.call("ListTasks", input).await else {
            return;
        };
        let arns = list["taskArns"].as_array().cloned().unwrap_or_default();
        if arns.is_empty() {
            return;
        }
        let pick = self.chance.below(arns.len() as u64);
        let pick = usize::try_from(pick).unwrap_or(0);
        let input = json!({"cluster": CLUSTER, "task": arns[pick]});
        let _ = self.world.call("StopTask", input).await;
    }

    /// The ARN of one of the tasks that should run.
    async fn some_task(&mut self) -> Option<Value> {
        let input = json!({"cluster": CLUSTER});
        let list = self.world.call("ListTasks", input).await.ok()?;
        let arns = list["taskArns"].as_array().cloned().unwrap_or_default();
        let pick = self.chance.below(arns.len().max(1) as u64);
        arns.get(usize::try_from(pick).unwrap_or(0)).cloned()
    }

    /// Protects a task for a few minutes, or ends its protection.
    async fn protect_some(&mut self) {
        let Some(arn) = self.some_task().await else { return };
        let input = json!({
            "cluster": CLUSTER, "tasks": [arn],
            "protectionEnabled": self.chance.hits(80),
            "expiresInMinutes": 1 + self.chance.below(5),
        });
        let _ = self.world.call("UpdateTaskProtection", input).await;
    }

    /// Drains a container instance, or makes it active again.
    async fn drain_some(&mut self) {
        let input = json!({"cluster": CLUSTER});
        let call = "ListContainerInstances";
        let Ok(list) = self.world.call(call, input).await else { return };
        let all = list["containerInstanceArns"].as_array();
        let all = all.cloned().unwrap_or_default();
        let pick = self.chance.below(all.len().max(1) as u64);
        let Some(arn) = all.get(usize::try_from(pick).unwrap_or(0)) else {
            return;
        };
        let is_drain = self.chance.hits(40);
        let input = json!({
            "cluster": CLUSTER, "containerInstances": [arn],
            "status": if is_drain { "DRAINING" } else { "ACTIVE" },
        });
        let call = "UpdateContainerInstancesState";
        let _ = self.world.call(call, input).await;
    }

    /// Asks that a deployment under way be taken back.
    async fn take_back(&mut self) {
        let name = self.some_name();
        let Ok(found) = self.describe(&name).await else { return };
        let arn = found["currentServiceDeployment"].clone();
        let input = json!({"serviceDeploymentArn": arn});
        let call = "StopServiceDeployment";
        let _ = self.world.call(call, input).await;
    }

    /// Creates a service, or changes its definition and count.
    async fn serve(&mut self, definition: String) {
        let name = self.some_name();
        let count = self.chance.below(REPLICAS_MAX + 1);
        let mut input = json!({
            "cluster": CLUSTER, "taskDefinition": definition,
        });
        // Pairs that let every deployment move, whatever the count.
        let (min, max) = match self.chance.below(4) {
            0 => (0, 100),
            1 => (50, 200),
            2 => (100, 200),
            _ => (100, 300),
        };
        let is_new = !self.services.contains_key(&name);
        input["deploymentConfiguration"] = json!({
            "minimumHealthyPercent": min, "maximumPercent": max,
            "deploymentCircuitBreaker": {
                "enable": self.chance.hits(20), "rollback": true,
            },
        });
        let is_daemon = name == DAEMON;
        if is_daemon {
            input["deploymentConfiguration"] = json!({});
            if is_new {
                input["schedulingStrategy"] = json!("DAEMON");
            }
        } else {
            input["desiredCount"] = json!(count);
            input["availabilityZoneRebalancing"] = json!("DISABLED");
        }
        if name == FARGATE {
            let Some(definition) = self.fargate.last() else { return };
            input["taskDefinition"] = json!(definition);
            input["availabilityZoneRebalancing"] = json!("ENABLED");
            if max == 100 {
                input["availabilityZoneRebalancing"] = json!("DISABLED");
            }
            input["networkConfiguration"] = json!({
                "awsvpcConfiguration": {"subnets": self.subnets},
            });
            if is_new {
                input["capacityProviderStrategy"] = json!([
                    {"capacityProvider": "FARGATE", "weight": 1},
                    {"capacityProvider": "FARGATE_SPOT", "weight": 2},
                ]);
            }
        }
        if self.chance.hits(20) && !is_new {
            input["forceNewDeployment"] = json!(true);
        }
        let agreed = (!is_daemon).then_some(count);
        let call = if is_new { "CreateService" } else { "UpdateService" };
        input[if is_new { "serviceName" } else { "service" }] = json!(name);
        match self.world.call(call, input).await {
            Ok(_) => drop(self.services.insert(name, agreed)),
            Err(code) if is_unsure(code.as_deref()) => {
                // It may have been done or not.
                if let Some(agreed) = self.services.get_mut(&name) {
                    *agreed = None;
                }
            }
            // Made by a call whose answer was lost.
            Err(_) if is_new => drop(self.services.insert(name, None)),
            Err(_) => {}
        }
    }

    /// Waits until every service has what it asks for.
    async fn peace(&mut self) -> Result<(), String> {
        self.world.disk.spare();
        let mut is_active = false;
        let mut why = String::new();
        for _ in 0..PEACE_SECS {
            self.tick().await?;
            if !is_active {
                is_active =
                    self.forget_lost().await && self.activate_all().await;
            }
            match self.unsettled().await {
                None => return Ok(()),
                Some(found) => why = found,
            }
        }
        Err(format!("no peace after {PEACE_SECS} s: {why}"))
    }

    /// Deregisters instances that no agent speaks for: one whose registration
    /// was not answered registered again. `false` if that must be tried again.
    async fn forget_lost(&self) -> bool {
        let input = json!({"cluster": CLUSTER});
        let call = "ListContainerInstances";
        let Ok(list) = self.world.call(call, input).await else {
            return false;
        };
        let arns = &list["containerInstanceArns"];
        let input = json!({"cluster": CLUSTER, "containerInstances": arns});
        let call = "DescribeContainerInstances";
        let Ok(found) = self.world.call(call, input).await else {
            return false;
        };
        let all = found["containerInstances"].as_array();
        let mut is_done = true;
        for instance in all.into_iter().flatten() {
            if instance["agentConnected"] == true {
                continue;
            }
            let arn = &instance["containerInstanceArn"];
            let input = json!({
                "cluster": CLUSTER, "containerInstance": arn, "force": true,
            });
            let call = "DeregisterContainerInstance";
            is_done &= self.world.call(call, input).await.is_ok();
        }
        is_done
    }

    /// Has every container instance take tasks; `false` if that must be tried
    /// again.
    async fn activate_all(&self) -> bool {
        let input = json!({"cluster": CLUSTER, "status": "DRAINING"});
        let call = "ListContainerInstances";
        let Ok(list) = self.world.call(call, input).await else {
            return false;
        };
        let drained = &list["containerInstanceArns"];
        if *drained == json!([]) {
            return true;
        }
        let input = json!({
            "cluster": CLUSTER, "containerInstances": drained,
            "status": "ACTIVE",
        });
        let call = "UpdateContainerInstancesState";
        self.world.call(call, input).await.is_ok()
    }

    async fn unsettled(&self) -> Option<String> {
        for (name, agreed) in &self.services {
            let Ok(found) = self.describe(name).await else {
                return Some(format!("{name} cannot be described"));
            };
            // Deleted by a call whose answer was lost, or before it was
            // made again.
            if found["status"] != "ACTIVE" {
                continue;
            }
            let desired = &found["desiredCount"];
            let rolled = &found["deployments"][0]["rolloutState"];
            if agreed.is_some_and(|agreed| *desired != json!(agreed)) {
                return Some(format!("{name} wants {desired}: {agreed:?}"));
            }
            // A deployment that failed with nothing to go back to is over.
            if rolled == "FAILED" {
                continue;
            }
            let is_one = found["deployments"].as_array().map(Vec::len);
            if found["runningCount"] != *desired
                || found["pendingCount"] != json!(0)
                || is_one != Some(1)
                || rolled != "COMPLETED"
            {
                let mut shown = found.clone();
                if let Some(events) = shown["events"].as_array_mut() {
                    events.truncate(3);
                }
                return Some(format!("{name}: {shown}"));
            }
        }
        self.unsettled_sets().await
    }

    async fn unsettled_sets(&self) -> Option<String> {
        let Ok(found) = self.describe(EXTERNAL).await else {
            return Some("the task sets cannot be described".to_owned());
        };
        if found.is_null() || found["status"] != "ACTIVE" {
            return None;
        }
        let sets = found["taskSets"].as_array().into_iter().flatten();
        for set in sets {
            if set["stabilityStatus"] != "STEADY_STATE" {
                return Some(format!("a task set: {set}"));
            }
        }
        None
    }
}

/// Whether a call with this answer may have been done all the same.
fn is_unsure(code: Option<&str>) -> bool {
    code.is_none_or(|code| code == "ServerException")
}
