//! A large fleet, to measure what it costs: hosts that register, services that
//! fill them, one host lost, one service deployed, and then quiet.
//!
//! Time is virtual for the control plane and real for the stopwatch. Nothing
//! goes wrong here; that is what the seeded worlds are for.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use minato_control::tables::{Service, Task};
use minato_core::service::Pace;
use minato_store::{Changes, Key, Snapshot};
use minato_wire::acs;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::host::{
    Course, End, Mishap, Nature, Said, SimHost, Step, registration,
};
use crate::world::{CLUSTER, Process, World};

/// How large a fleet.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Machines of 16 cores and 32 GiB.
    pub hosts: u32,
    /// Tasks of all services together.
    pub tasks: u32,
    /// Services, of equal size.
    pub services: u32,
}

/// Ticks of a tenth of a virtual second within which a phase must be over.
const TICKS_MAX: u32 = 36_000;
/// Virtual time that nothing happens in, in the end.
const QUIET: Duration = Duration::from_secs(600);

/// A host to which nothing happens but its loss.
struct Steady {
    zone: &'static str,
    up: watch::Receiver<bool>,
    told: Arc<parking_lot::Mutex<Vec<Option<String>>>>,
    number: usize,
}

impl Nature for Steady {
    fn registration(&self) -> Value {
        registration(16 * 1024, 32 * 1024, Some(self.zone), false)
    }

    fn registered(&mut self, arn: &str) {
        self.told.lock()[self.number] = Some(arn.to_owned());
    }

    async fn rest(&mut self) {
        let _ = self.up.wait_for(|up| *up).await;
        sleep(Duration::from_millis(100)).await;
    }

    async fn summons(&mut self) -> End {
        let is_lost = self.up.wait_for(|up| !*up).await.is_ok();
        if !is_lost {
            std::future::pending::<()>().await;
        }
        End::Died
    }

    async fn died(&mut self, _arn: String) {}

    fn course(&mut self, _task: &acs::Task) -> Course {
        let up = Said::Status("RUNNING");
        let steps = vec![Step::new(Duration::from_millis(500), up)];
        Course { is_checked: false, steps }
    }

    fn stops_in(&mut self, _arn: &str) -> Duration {
        Duration::from_millis(500)
    }

    fn soon(&mut self) -> Duration {
        Duration::from_millis(500)
    }

    fn suffers(&mut self, _mishap: Mishap) -> bool {
        false
    }
}

/// Measures a fleet of this size; a report in lines.
///
/// # Errors
/// What did not come about in time.
pub fn measure(size: Size) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(run(size))
}

struct Fleet {
    world: Arc<World>,
    process: Process,
    report: String,
}

#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark measures real time, and the runtime's is virtual"
)]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

async fn run(size: Size) -> Result<String, String> {
    let world = World::new(1, Pace::FAST).map_err(|error| error.to_string())?;
    world.heal();
    world.disk.forget_all();
    let world = Arc::new(world);
    let process = world.start().await?;
    let told = Arc::new(parking_lot::Mutex::new(vec![]));
    let mut hosts = JoinSet::new();
    let mut ups = vec![];
    let start = now();
    for number in 0..usize::try_from(size.hosts).unwrap_or(0) {
        let (up, receiver) = watch::channel(true);
        ups.push(up);
        told.lock().push(None);
        let zone = ["us-east-1a", "us-east-1b", "us-east-1c"][number % 3];
        let told = Arc::clone(&told);
        let nature = Steady { zone, up: receiver, told, number };
        hosts.spawn(SimHost::new(Arc::clone(&world), nature).live());
    }
    let mut fleet = Fleet { world, process, report: String::new() };
    fleet
        .until("all hosts register", |_| {
            told.lock().iter().all(Option::is_some)
        })
        .await?;
    sleep(Duration::from_secs(2)).await;
    let took = start.elapsed().as_secs_f64();
    fleet.say(format!("{} hosts registered in {took:.2} s", size.hosts));
    fleet.fill(size).await?;
    let instances = told.lock().clone();
    fleet.lose(&instances, &ups).await?;
    fleet.deploy(size).await?;
    fleet.rest().await?;
    hosts.shutdown().await;
    fleet.world.kill().await;
    Ok(fleet.report)
}

impl Fleet {
    fn say(&mut self, line: String) {
        let _ = writeln!(self.report, "{line}");
    }

    async fn call(&self, operation: &str, input: Value) -> Result<(), String> {
        self.world.try_call(operation, input).await.map(|_| ())
    }

    /// Lets time pass until something holds.
    async fn until(
        &self,
        what: &str,
        mut holds: impl FnMut(&Snapshot) -> bool,
    ) -> Result<(), String> {
        for _ in 0..TICKS_MAX {
            if holds(&self.process.store.snapshot()) {
                return Ok(());
            }
            sleep(Duration::from_millis(100)).await;
        }
        Err(format!("never came about: {what}"))
    }

    /// Creates the services and waits for their tasks.
    async fn fill(&mut self, size: Size) -> Result<(), String> {
        let sizes = [(128, 256), (256, 512), (256, 1024), (512, 1024)];
        for (number, (cpu, memory)) in sizes.iter().enumerate() {
            let container = json!({
                "name": "app", "image": "app", "cpu": cpu, "memory": memory,
            });
            let input = json!({
                "family": format!("app-{number}"),
                "containerDefinitions": [container],
            });
            self.call("RegisterTaskDefinition", input).await?;
        }
        let each = size.tasks / size.services.max(1);
        let start = now();
        for number in 0..size.services {
            let input = json!({
                "cluster": CLUSTER, "serviceName": format!("service-{number}"),
                "taskDefinition": format!("app-{}", number % 4),
                "desiredCount": each,
            });
            self.call("CreateService", input).await?;
        }
        self.until("every service is steady", all_steady).await?;
        let took = start.elapsed().as_secs_f64();
        let tasks = each * size.services;
        let rate = f64::from(tasks) / took;
        self.say(format!(
            "{tasks} tasks of {} services placed, started and running in \
             {took:.1} s ({rate:.0} a second)",
            size.services
        ));
        let rss = resident_mib();
        self.say(format!("memory of all of it (RSS): {rss} MiB"));
        Ok(())
    }

    /// One host is gone: how soon are its tasks placed elsewhere?
    async fn lose(
        &mut self,
        hosts: &[Option<String>],
        ups: &[watch::Sender<bool>],
    ) -> Result<(), String> {
        let (Some(Some(arn)), Some(up)) = (hosts.first(), ups.first()) else {
            return Ok(());
        };
        up.send_replace(false);
        sleep(Duration::from_secs(1)).await;
        let mut watch = self.process.store.watch();
        let _ = watch.changes();
        let (mut lost, mut placed) = (0, 0);
        let start = now();
        let input = json!({
            "cluster": CLUSTER, "containerInstance": arn, "force": true,
        });
        self.call("DeregisterContainerInstance", input).await?;
        // Only what is ready runs: no virtual time passes while it waits.
        for _ in 0..1_000_000 {
            let Changes::Rows(commits) = watch.changes() else {
                return Err("the watch fell behind".to_owned());
            };
            for change in commits.iter().flat_map(|it| it.of::<Task>()) {
                let ran =
                    change.before.as_ref().is_some_and(|t| t.should_run());
                let runs =
                    change.after.as_ref().is_some_and(|t| t.should_run());
                lost += usize::from(ran && !runs);
                placed += usize::from(runs && change.before.is_none());
            }
            if lost > 0 && placed >= lost {
                let took = start.elapsed().as_secs_f64() * 1000.0;
                self.say(format!(
                    "a host with {lost} tasks lost: all placed elsewhere \
                     {took:.1} ms after its deregistration"
                ));
                return self.until("every service is steady", all_steady).await;
            }
            tokio::task::yield_now().await;
        }
        Err("the tasks of the lost host were not placed".to_owned())
    }

    /// One service is deployed anew.
    async fn deploy(&mut self, size: Size) -> Result<(), String> {
        let start = now();
        let input = json!({
            "cluster": CLUSTER, "service": "service-0",
            "forceNewDeployment": true,
        });
        self.call("UpdateService", input).await?;
        self.until("the deployment is complete", |rows| {
            let mut all = rows.scan::<Service>(&Key::root());
            all.all(|row| row.deployments.len() == 1) && all_steady(rows)
        })
        .await?;
        let took = start.elapsed().as_secs_f64();
        let each = size.tasks / size.services.max(1);
        self.say(format!(
            "a service of {each} tasks replaced whole in {took:.1} s"
        ));
        Ok(())
    }

    /// Nothing happens: what does that cost?
    async fn rest(&mut self) -> Result<(), String> {
        // The last stopped tasks end.
        sleep(Duration::from_secs(10)).await;
        let revision = self.process.store.snapshot().revision();
        let (cpu, start) = (cpu_seconds(), now());
        sleep(QUIET).await;
        let (cpu, took) = (cpu_seconds() - cpu, start.elapsed());
        let commits = self.process.store.snapshot().revision() - revision;
        self.say(format!(
            "{} s of quiet: {cpu:.2} s of CPU, {:.2} s in all, {commits} \
             commits",
            QUIET.as_secs(),
            took.as_secs_f64()
        ));
        Ok(())
    }
}

fn all_steady(rows: &Snapshot) -> bool {
    let mut all = rows.scan::<Service>(&Key::root());
    all.all(|service| service.steady_at.is_some())
}

/// What the process has of memory, in MiB (proc(5), `VmRSS`).
fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status");
    let status = status.unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    kib.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
}

/// The CPU time of the process so far, in seconds (proc(5), `stat`, at 100
/// ticks a second).
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = [11, 12].iter().filter_map(|at| fields.get(*at));
    let ticks = ticks.filter_map(|field| field.parse::<f64>().ok());
    ticks.sum::<f64>() / 100.0
}
