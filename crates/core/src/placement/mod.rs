//! Placement: which container instances get the tasks of a call.
//!
//! [`plan`] looks at a [`World`] (hosts with their ledgers, and the container
//! instances on them) and a [`Request`], and answers with a [`Plan`]. It has
//! no clock and no randomness but the request's seed, so equal inputs give
//! equal plans. Filters come first (agent, attributes, zone, constraints,
//! resources), then strategies narrow what is left, one after the other.
//!
//! A host is sold once: EC2 and Fargate tasks claim from the same [`Ledger`],
//! and so do container instances of several clusters on one host.

mod fargate;
mod groups;
mod ledger;
#[cfg(test)]
mod oracle;
mod parse;
mod planner;
mod refusal;
mod strategy;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use minato_wire::Timestamp;

pub use fargate::{FARGATE_CAPACITY, fargate_failure};
pub use groups::{Group, Groups};
pub use ledger::{Capacity, Claim, Ledger, Shortage};
pub use parse::{constraints, strategies};
pub use planner::Planner;
pub use refusal::{Reason, Refusal, refusals};
pub use strategy::{Resource, SpreadField, Strategy};

use crate::query::{Expression, Subject};
use crate::task_definition::{Demand, Platform};

/// The attribute that holds an instance's availability zone.
pub const ZONE_ATTRIBUTE: &str = "ecs.availability-zone";

/// Hosts and the container instances on them.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// One ledger for each host.
    pub hosts: Vec<Ledger>,
    /// The instances that may get tasks: active ones only.
    pub candidates: Vec<Candidate>,
}

/// A container instance, or a host as Fargate capacity.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The ARN, for failures.
    pub arn: String,
    /// The index of its host in [`World::hosts`].
    pub host: usize,
    /// Whether its agent is connected.
    pub agent_connected: bool,
    /// The version of its agent.
    pub agent_version: Option<String>,
    /// Its EC2 instance id.
    pub ec2_instance_id: Option<String>,
    /// When it registered.
    pub registered_at: Timestamp,
    /// Its attributes; the value of one that has a name only is empty.
    pub attributes: Arc<BTreeMap<String, String>>,
    /// How many tasks that are not stopped it has, by task group.
    pub groups: Groups,
    /// How many tasks run on it.
    pub running_tasks: i64,
}

impl Subject for Candidate {
    fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).map(String::as_str)
    }

    fn any_task_group(&self, test: &mut dyn FnMut(&str) -> bool) -> bool {
        self.groups.iter().any(|(group, _)| test(group))
    }

    fn agent_connected(&self) -> bool {
        self.agent_connected
    }

    fn agent_version(&self) -> Option<&str> {
        self.agent_version.as_deref()
    }

    fn ec2_instance_id(&self) -> Option<&str> {
        self.ec2_instance_id.as_deref()
    }

    fn registered_at(&self) -> Timestamp {
        self.registered_at
    }

    fn running_tasks_count(&self) -> i64 {
        self.running_tasks
    }
}

/// A hard condition on the instance.
#[derive(Clone, Debug, PartialEq)]
pub enum Constraint {
    /// No other task of the same group on it.
    DistinctInstance,
    /// It satisfies the expression.
    MemberOf(Expression),
}

/// What is to be placed.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// How many tasks.
    pub count: u32,
    /// What each takes.
    pub claim: Claim,
    /// Attributes the instance must have.
    pub attributes: Vec<String>,
    /// The platform the tasks were built for.
    pub platform: Platform,
    /// The zones of the task's subnets, for awsvpc.
    pub zones: Option<BTreeSet<String>>,
    /// The task group.
    pub group: Group,
    /// Hard conditions.
    pub constraints: Vec<Constraint>,
    /// Preferences; none spreads over zones and instances.
    pub strategies: Vec<Strategy>,
    /// Breaks ties, and is what `random` draws from.
    pub seed: u64,
}

impl Request {
    /// A request for tasks of a definition with no conditions of its own.
    pub fn of(demand: &Demand, count: u32, group: &str) -> Request {
        Request {
            count,
            claim: Claim::of(demand),
            attributes: demand.attributes.clone(),
            platform: demand.platform.clone(),
            group: Group::named(group),
            ..Request::default()
        }
    }
}

/// Where the tasks go, and why the others go nowhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// For each placed task the index of its candidate.
    pub placed: Vec<usize>,
    /// If a task was left over: for each candidate why it was refused.
    pub refusals: Vec<Refusal>,
}

/// Whether a candidate could have a task of the request if it had nothing
/// else to do and its agent were connected.
pub fn is_eligible(candidate: &Candidate, request: &Request) -> bool {
    let connected = Candidate { agent_connected: true, ..candidate.clone() };
    refusal::fixed(&connected, request).is_none()
        && request.constraints.iter().all(|constraint| match constraint {
            Constraint::DistinctInstance => true,
            Constraint::MemberOf(expression) => expression.matches(candidate),
        })
}

/// Places the tasks of a request on any candidate, claiming what they take
/// from the ledgers.
pub fn plan(world: &mut World, request: &Request) -> Plan {
    let all: Vec<usize> = (0..world.candidates.len()).collect();
    let placed = Planner::new(world, &all, request).place(world, request.count);
    let is_short = placed.len() < request.count as usize;
    let refusals =
        if is_short { refusals(world, &all, request) } else { vec![] };
    Plan { placed, refusals }
}

/// Undoes a plan: as if its tasks had never been placed.
pub fn release(world: &mut World, request: &Request, placed: &[usize]) {
    for index in placed {
        let candidate = &mut world.candidates[*index];
        candidate.groups.remove(request.group.name());
        world.hosts[candidate.host].remove(&request.claim);
    }
}

/// What stands between a candidate and one task of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Its index in the world.
    pub candidate: usize,
    /// Everything that speaks against it, in the order in which it is looked
    /// at; nothing if it could have the task now.
    pub lacks: Vec<(Reason, String)>,
}

/// Says of each candidate of the pool everything that keeps it from taking
/// one task of the request, where a [`Plan`] says only the first thing.
pub fn explain(
    world: &World,
    pool: &[usize],
    request: &Request,
) -> Vec<Verdict> {
    pool.iter()
        .map(|index| {
            let candidate = &world.candidates[*index];
            let ledger = &world.hosts[candidate.host];
            let lacks = refusal::fixed_all(candidate, request)
                .chain(refusal::changing_all(candidate, ledger, request));
            Verdict { candidate: *index, lacks: lacks.collect() }
        })
        .collect()
}

fn take(world: &mut World, request: &Request, chosen: usize) {
    let candidate = &mut world.candidates[chosen];
    candidate.groups.add(request.group.name());
    world.hosts[candidate.host].add(&request.claim);
}

#[cfg(test)]
mod tests;
