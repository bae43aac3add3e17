//! What is rehearsed, as a plan says it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value as Json;

use super::PlanError;
use super::read::{Members, children};
use super::yaml::{At, Node, load};

/// A plan that makes sense.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(super) seed: u64,
    pub(super) is_aws_pace: bool,
    /// How long it is played.
    pub(super) length: Duration,
    pub(super) hosts: Vec<Host>,
    pub(super) services: BTreeMap<String, Service>,
    /// What happens, in the order of time.
    pub(super) events: Vec<Event>,
    pub(super) expectations: BTreeMap<String, Expectation>,
}

/// One machine.
#[derive(Clone, Debug)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) cpu: i64,
    pub(super) memory: i64,
    pub(super) zone: String,
}

/// What a service is created with.
#[derive(Clone, Debug)]
pub(super) struct Service {
    pub(super) desired: u32,
    pub(super) cpu: u32,
    pub(super) memory: u32,
    pub(super) is_fargate: bool,
    pub(super) capacity_provider: Option<String>,
    pub(super) host_port: Option<u16>,
    pub(super) has_health_check: bool,
    /// Members that go to `CreateService` as they are.
    pub(super) configuration: Json,
    pub(super) tasks: Tasks,
    /// Where its name stands, for what the API says against it.
    pub(super) at: At,
}

/// How the tasks of a revision behave.
#[derive(Clone, Debug)]
pub(super) struct Tasks {
    pub(super) starts_in: Duration,
    pub(super) healthy_in: Duration,
    pub(super) stops_in: Duration,
    pub(super) fault: Fault,
    pub(super) fails_in: Duration,
}

/// What is wrong with the tasks of a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// Their image cannot be pulled.
    CannotPull,
    /// They end with an error a while after they started.
    Crash,
    /// Their health check never succeeds.
    Unhealthy,
}

/// Something that happens.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) after: Duration,
    pub(super) what: What,
    pub(super) at: At,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    /// A new revision of a service's definition is deployed.
    Deploy { service: String, tasks: Tasks },
    /// A service's desired count is changed.
    Scale { service: String, desired: u32 },
    /// A machine is gone, and deregistered a while later.
    Lose { host: String, noticed_in: Duration },
    /// A machine that was lost is there again, as a new one.
    Return { host: String },
    /// An agent has no connection for a while; its tasks run on.
    Disconnect { host: String, lasts: Duration },
    /// A container instance is drained.
    Drain { host: String },
    /// A drained one takes tasks again.
    Activate { host: String },
    /// Spot capacity is taken back.
    Spot { service: String, count: Option<u32> },
    /// The control plane is killed and comes back a while later.
    Restart { down: Duration },
}

/// What must come of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Expectation {
    pub(super) lowest_healthy: Option<u32>,
    pub(super) steady_within: Option<Duration>,
    pub(super) below_minimum: Option<Duration>,
    pub(super) rollout: Option<String>,
}

/// The longest play: a rehearsal is of hours, not of weeks.
const LENGTH_MAX: Duration = Duration::from_secs(24 * 3600);
/// The most machines, and the most tasks of a service (service quotas).
const HOSTS_MAX: u32 = 5_000;
const DESIRED_MAX: u32 = 5_000;

impl Plan {
    /// Reads a plan.
    ///
    /// # Errors
    /// The first mistake, with its place in the text.
    pub fn parse(text: &str) -> Result<Plan, PlanError> {
        let root = load(text)?;
        let plan = Members::of(&root, "the plan")?;
        let hosts = hosts(plan.need("hosts")?)?;
        let mut services = BTreeMap::new();
        for (name, node) in children(plan.need("services")?, "services")? {
            let key = name.name("a service's name")?;
            services.insert(key, service(name.at, node)?);
        }
        let length = plan.duration("play", Duration::from_secs(600))?;
        if length > LENGTH_MAX {
            let at = plan.at("play");
            return Err(at.error("a rehearsal is played for 24h at most"));
        }
        let seed = plan.number("seed", 1, 0, u64::from(u32::MAX))?;
        let pace = plan.choice("pace", "fast", &["fast", "aws"])?;
        let known = Known { hosts: &hosts, services: &services };
        let mut events = vec![];
        if let Some(node) = plan.take("events") {
            for node in super::read::list(node, "events")? {
                events.push(event(node, &known, length)?);
            }
        }
        events.sort_by_key(|event: &Event| event.after);
        let mut expectations = BTreeMap::new();
        if let Some(node) = plan.take("expect") {
            for (name, node) in children(node, "expect")? {
                let service = known.service(name)?;
                expectations.insert(service, expectation(node)?);
            }
        }
        plan.end(&[
            "hosts", "services", "play", "seed", "pace", "events", "expect",
        ])?;
        Ok(Plan {
            seed,
            is_aws_pace: pace == "aws",
            length,
            hosts,
            services,
            events,
            expectations,
        })
    }
}

/// What names may mean.
struct Known<'a> {
    hosts: &'a [Host],
    services: &'a BTreeMap<String, Service>,
}

impl Known<'_> {
    fn service(&self, node: &Node) -> Result<String, PlanError> {
        let names: Vec<&str> =
            self.services.keys().map(String::as_str).collect();
        super::read::one_of(node, "service", &names)
    }

    fn host(&self, node: &Node) -> Result<String, PlanError> {
        let names: Vec<&str> =
            self.hosts.iter().map(|host| host.name.as_str()).collect();
        super::read::one_of(node, "host", &names)
    }
}

fn hosts(node: &Node) -> Result<Vec<Host>, PlanError> {
    let mut all: Vec<Host> = vec![];
    for node in super::read::list(node, "hosts")? {
        let group = Members::of(node, "a group of hosts")?;
        let name = group.need("name")?.name("a host's name")?;
        let count = group.number("count", 1, 1, u64::from(HOSTS_MAX))?;
        let cpu = group.number("cpu", 2048, 1, 1 << 20)?;
        let memory = group.number("memory", 4096, 1, 1 << 30)?;
        let mut zones = vec!["a".to_owned()];
        if let Some(node) = group.take("zones") {
            zones = vec![];
            for node in super::read::list(node, "zones")? {
                zones.push(node.name("a zone")?);
            }
            if zones.is_empty() {
                return Err(node.at.error("a host is in some zone"));
            }
        }
        group.end(&["name", "count", "cpu", "memory", "zones"])?;
        for number in 0..count {
            let of = usize::try_from(number).unwrap_or(0) % zones.len();
            let name = if count == 1 {
                name.clone()
            } else {
                format!("{name}-{}", number + 1)
            };
            if all.iter().any(|known| known.name == name) {
                let text = format!("there are two hosts {name}");
                return Err(node.at.error(text));
            }
            all.push(Host {
                name,
                cpu: i64::try_from(cpu).unwrap_or(i64::MAX),
                memory: i64::try_from(memory).unwrap_or(i64::MAX),
                zone: format!("{}{}", crate::world::REGION, zones[of]),
            });
        }
    }
    if all.len() > usize::try_from(HOSTS_MAX).unwrap_or(usize::MAX) {
        let text = format!("a rehearsal has {HOSTS_MAX} hosts at most");
        return Err(node.at.error(text));
    }
    Ok(all)
}

const SERVICE_MEMBERS: [&str; 14] = [
    "desiredCount",
    "cpu",
    "memory",
    "launchType",
    "capacityProvider",
    "hostPort",
    "healthCheck",
    "minimumHealthyPercent",
    "maximumPercent",
    "circuitBreaker",
    "healthCheckGracePeriodSeconds",
    "placementConstraints",
    "placementStrategy",
    "tasks",
];

fn service(at: At, node: &Node) -> Result<Service, PlanError> {
    let given = Members::of(node, "a service")?;
    let desired = given.number("desiredCount", 1, 0, u64::from(DESIRED_MAX))?;
    let cpu = given.number("cpu", 256, 0, 1 << 20)?;
    let memory = given.number("memory", 512, 4, 1 << 30)?;
    let launch_type = given.choice("launchType", "EC2", &["EC2", "FARGATE"])?;
    let provider = given
        .optional_choice("capacityProvider", &["FARGATE", "FARGATE_SPOT"])?;
    let is_fargate = launch_type == "FARGATE" || provider.is_some();
    let fargate_at = given.at("capacityProvider");
    let host_port = given.optional_number("hostPort", 1, 65_535)?;
    if is_fargate && host_port.is_some() {
        let port = given.at("hostPort");
        return Err(port.error("tasks on Fargate have no ports of the host"));
    }
    if launch_type == "EC2" && provider.is_some() && given.has("launchType") {
        let text = "a capacity provider of Fargate, and launchType EC2";
        return Err(fargate_at.error(text));
    }
    let has_health_check = given.flag("healthCheck", false)?;
    let mut configuration = serde_json::json!({
        "deploymentConfiguration": {
            "minimumHealthyPercent":
                given.number("minimumHealthyPercent", 100, 0, 1_000)?,
            "maximumPercent": given.number("maximumPercent", 200, 0, 1_000)?,
        },
    });
    let breaker =
        given.choice("circuitBreaker", "off", &["off", "on", "rollback"])?;
    configuration["deploymentConfiguration"]["deploymentCircuitBreaker"] = serde_json::json!({
        "enable": breaker != "off", "rollback": breaker == "rollback",
    });
    if let Some(seconds) =
        given.optional_number("healthCheckGracePeriodSeconds", 0, 1 << 30)?
    {
        configuration["healthCheckGracePeriodSeconds"] = seconds.into();
    }
    for member in ["placementConstraints", "placementStrategy"] {
        if let Some(node) = given.take(member) {
            configuration[member] = super::read::json(node);
        }
    }
    let tasks = tasks(given.take("tasks"), has_health_check)?;
    given.end(&SERVICE_MEMBERS)?;
    let narrow = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    Ok(Service {
        desired: narrow(desired),
        cpu: narrow(cpu),
        memory: narrow(memory),
        is_fargate,
        capacity_provider: provider,
        host_port: host_port.and_then(|port| u16::try_from(port).ok()),
        has_health_check,
        configuration,
        tasks,
        at,
    })
}

fn tasks(
    node: Option<&Node>,
    has_health_check: bool,
) -> Result<Tasks, PlanError> {
    let seconds = Duration::from_secs;
    let Some(node) = node else {
        return Ok(Tasks {
            starts_in: seconds(5),
            healthy_in: seconds(10),
            stops_in: seconds(1),
            fault: Fault::None,
            fails_in: seconds(5),
        });
    };
    let given = Members::of(node, "how tasks behave")?;
    let fault = given.choice(
        "fault",
        "none",
        &["none", "cannot-pull", "crash", "unhealthy"],
    )?;
    let fault = match fault.as_str() {
        "cannot-pull" => Fault::CannotPull,
        "crash" => Fault::Crash,
        "unhealthy" => Fault::Unhealthy,
        _ => Fault::None,
    };
    if fault == Fault::Unhealthy && !has_health_check {
        let text = "tasks are unhealthy by a health check, and the service \
                    has none (healthCheck: true)";
        return Err(given.at("fault").error(text));
    }
    let tasks = Tasks {
        starts_in: given.duration("startsIn", seconds(5))?,
        healthy_in: given.duration("healthyIn", seconds(10))?,
        stops_in: given.duration("stopsIn", seconds(1))?,
        fails_in: given.duration("failsIn", seconds(5))?,
        fault,
    };
    given.end(&["startsIn", "healthyIn", "stopsIn", "failsIn", "fault"])?;
    Ok(tasks)
}

/// The members that say what an event is.
const KINDS: [&str; 9] = [
    "deploy",
    "scale",
    "lose",
    "return",
    "disconnect",
    "drain",
    "activate",
    "spot",
    "restart",
];

fn event(
    node: &Node,
    known: &Known<'_>,
    length: Duration,
) -> Result<Event, PlanError> {
    let given = Members::of(node, "an event")?;
    let after = given.need("at")?.duration()?;
    if after > length {
        let text = "this is after the end: `play` is how long it is played";
        return Err(given.at("at").error(text));
    }
    let Some(kind) = KINDS.into_iter().find(|kind| given.has(kind)) else {
        // A wrong name of a kind is the likeliest mistake.
        given.end(&[&KINDS[..], &["at"]].concat())?;
        return Err(node.at.error(format!(
            "an event says what happens: one of {}",
            KINDS.join(", ")
        )));
    };
    let subject = given.need(kind)?;
    let (what, members): (What, &[&str]) = match kind {
        "deploy" => {
            let service = known.service(subject)?;
            let has_check = known.services[&service].has_health_check;
            let tasks = tasks(given.take("tasks"), has_check)?;
            (What::Deploy { service, tasks }, &["tasks"])
        }
        "scale" => {
            let service = known.service(subject)?;
            let to = given.need("desiredCount")?;
            let desired = to.number(0, u64::from(DESIRED_MAX))?;
            let desired = u32::try_from(desired).unwrap_or(u32::MAX);
            (What::Scale { service, desired }, &["desiredCount"])
        }
        "lose" => {
            let host = known.host(subject)?;
            let default = Duration::from_secs(30);
            let noticed_in = given.duration("noticedIn", default)?;
            (What::Lose { host, noticed_in }, &["noticedIn"])
        }
        "return" => (What::Return { host: known.host(subject)? }, &[]),
        "disconnect" => {
            let host = known.host(subject)?;
            let lasts = given.duration("for", Duration::from_secs(30))?;
            (What::Disconnect { host, lasts }, &["for"])
        }
        "drain" => (What::Drain { host: known.host(subject)? }, &[]),
        "activate" => (What::Activate { host: known.host(subject)? }, &[]),
        "spot" => {
            let service = known.service(subject)?;
            let provider = &known.services[&service].capacity_provider;
            if provider.as_deref() != Some("FARGATE_SPOT") {
                return Err(subject.at.error(format!(
                    "{service} is not on Spot capacity (capacityProvider: \
                     FARGATE_SPOT)"
                )));
            }
            let most = u64::from(DESIRED_MAX);
            let count = given.optional_number("count", 1, most)?;
            let count = count.and_then(|count| u32::try_from(count).ok());
            (What::Spot { service, count }, &["count"])
        }
        _ => {
            let names = ["control-plane"];
            super::read::one_of(subject, "process", &names)?;
            let down = given.duration("for", Duration::from_secs(2))?;
            (What::Restart { down }, &["for"])
        }
    };
    given.end(&[&["at", kind], members].concat())?;
    Ok(Event { after, what, at: node.at })
}

fn expectation(node: &Node) -> Result<Expectation, PlanError> {
    let given = Members::of(node, "an expectation")?;
    let most = u64::from(DESIRED_MAX);
    let lowest = given.optional_number("lowestHealthy", 0, most)?;
    let expectation = Expectation {
        lowest_healthy: lowest.and_then(|it| u32::try_from(it).ok()),
        steady_within: given.optional_duration("steadyWithin")?,
        below_minimum: given.optional_duration("belowMinimum")?,
        rollout: given.optional_choice(
            "rollout",
            &["COMPLETED", "FAILED", "IN_PROGRESS", "ROLLED_BACK"],
        )?,
    };
    given.end(&["lowestHealthy", "steadyWithin", "belowMinimum", "rollout"])?;
    Ok(expectation)
}
