//! The course of a run: trouble first, then peace, then a calm in which
//! deployments must cost nobody anything.

mod acts;
mod calm;
mod daemon;
mod peace;

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
const REPLICAS_MAX: u64 = 6;
const ZONES: [&str; 3] = ["us-east-1a", "us-east-1b", "us-east-1c"];
/// The services that are not like the others.
const FARGATE: &str = "fargate-0";
const DAEMON: &str = "daemon-0";
const EXTERNAL: &str = "external-0";

/// What kind of world a seed is.
#[derive(Clone, Copy, Debug)]
struct Shape {
    /// One task takes 1/32 of a host: a few hosts carry all services.
    hosts: u64,
    services: u64,
    /// Whether the hosts are in several zones; else they name none.
    has_zones: bool,
    /// Whether managed daemons come and go.
    has_daemons: bool,
}

impl Shape {
    fn of(chance: &mut Chance) -> Shape {
        Shape {
            hosts: 4 + chance.below(8),
            services: 1 + chance.below(5),
            has_zones: chance.hits(50),
            has_daemons: chance.hits(50),
        }
    }
}

struct Play {
    world: Arc<World>,
    shape: Shape,
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
    daemons: daemon::Daemons,
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
    let shape = Shape::of(&mut chance);
    let mut hosts = JoinSet::new();
    for number in 0..shape.hosts {
        let zone = ZONES[usize::try_from(number % 3).unwrap_or(0)];
        let zone = shape.has_zones.then_some(zone);
        let luck = Luck::new(Arc::clone(&world), chance.next(), zone);
        hosts.spawn(SimHost::new(Arc::clone(&world), luck).live());
    }
    let mut play = Play {
        world,
        shape,
        process,
        checker,
        chance,
        services: BTreeMap::new(),
        definitions: vec![],
        fargate: vec![],
        subnets,
        daemons: daemon::Daemons::default(),
        kills: 0,
    };
    for second in 0..TROUBLE_SECS {
        play.second().await.map_err(|why| format!("at {second} s: {why}"))?;
    }
    play.world.heal();
    let mut peace = play.peace().await;
    if peace.is_ok() {
        peace = play.calm().await.map_err(|why| format!("in calm: {why}"));
    }
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
}

/// Whether a call with this answer may have been done all the same.
fn is_unsure(code: Option<&str>) -> bool {
    code.is_none_or(|code| code == "ServerException")
}
