//! Why a container instance does not get a task.

use std::collections::BTreeMap;
use std::fmt;

use minato_wire::ecs::Failure;

use super::{Candidate, Constraint, Ledger, Request, Shortage, World};

/// The `reason` of a failure, in ECS's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The agent is not connected.
    Agent,
    /// An attribute is missing.
    Attribute,
    /// It is in another zone than the task's subnets.
    Location,
    /// A `memberOf` constraint does not hold.
    MemberOf,
    /// A task of the group is there already.
    DistinctInstance,
    /// Not enough CPU units.
    Cpu,
    /// Not enough memory.
    Memory,
    /// A TCP port is taken.
    Ports,
    /// A UDP port is taken.
    PortsUdp,
    /// Not enough GPUs.
    Gpu,
    /// No network interface left.
    Eni,
}

impl Reason {
    /// The text on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Reason::Agent => "AGENT",
            Reason::Attribute => "ATTRIBUTE",
            Reason::Location => "LOCATION",
            Reason::MemberOf => "MemberOf placement constraint unsatisfied.",
            Reason::DistinctInstance => {
                "DistinctInstance placement constraint unsatisfied."
            }
            Reason::Cpu => "RESOURCE:CPU",
            Reason::Memory => "RESOURCE:MEMORY",
            Reason::Ports => "RESOURCE:PORTS",
            Reason::PortsUdp => "RESOURCE:PORTS_UDP",
            Reason::Gpu => "RESOURCE:GPU",
            Reason::Eni => "RESOURCE:ENI",
        }
    }

    /// Whether waiting for other tasks to end may help.
    pub const fn is_resource(self) -> bool {
        match self {
            Reason::Cpu
            | Reason::Memory
            | Reason::Ports
            | Reason::PortsUdp
            | Reason::Gpu
            | Reason::Eni => true,
            Reason::Agent
            | Reason::Attribute
            | Reason::Location
            | Reason::MemberOf
            | Reason::DistinctInstance => false,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A candidate that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its index in the world.
    pub candidate: usize,
    /// Why, in ECS's words.
    pub reason: Reason,
    /// Why, exactly.
    pub detail: String,
}

impl Refusal {
    /// As it stands in `failures`.
    pub fn to_failure(&self, candidates: &[Candidate]) -> Failure {
        let candidate = candidates.get(self.candidate);
        Failure {
            arn: candidate.map(|candidate| candidate.arn.clone()),
            reason: Some(self.reason.as_str().to_owned()),
            detail: Some(self.detail.clone()),
        }
    }
}

/// One thing that speaks against a candidate.
type Lack = (Reason, String);

/// Why each candidate of the pool is refused, where none can have another
/// task of the request.
pub fn refusals(
    world: &World,
    pool: &[usize],
    request: &Request,
) -> Vec<Refusal> {
    pool.iter()
        .filter_map(|&index| {
            let candidate = &world.candidates[index];
            let ledger = &world.hosts[candidate.host];
            let (reason, detail) = fixed(candidate, request)
                .or_else(|| changing(candidate, ledger, request))?;
            Some(Refusal { candidate: index, reason, detail })
        })
        .collect()
}

/// The first thing that no placement of this request changes.
pub(super) fn fixed(candidate: &Candidate, request: &Request) -> Option<Lack> {
    fixed_all(candidate, request).next()
}

/// Everything that no placement of this request changes.
pub(super) fn fixed_all<'a>(
    candidate: &'a Candidate,
    request: &'a Request,
) -> impl Iterator<Item = Lack> + 'a {
    let agent = (!candidate.agent_connected).then(|| {
        let detail = "The container agent is not connected.";
        (Reason::Agent, detail.to_owned())
    });
    agent.into_iter().chain(unmet(&candidate.attributes, request))
}

/// What attributes have against the request.
pub(super) fn unmet<'a>(
    attributes: &'a BTreeMap<String, String>,
    request: &'a Request,
) -> impl Iterator<Item = Lack> + 'a {
    let missing = std::iter::once_with(move || {
        let names = request.attributes.iter().map(String::as_str);
        let missing: Vec<&str> =
            names.filter(|name| !attributes.contains_key(*name)).collect();
        let detail = || format!("Missing attributes: {}", missing.join(", "));
        (!missing.is_empty()).then(|| (Reason::Attribute, detail()))
    });
    let platform = [
        ("ecs.cpu-architecture", request.platform.cpu_architecture),
        ("ecs.os-type", request.platform.os_type),
    ];
    let platform = platform.into_iter().map(move |(name, wanted)| {
        let has = attributes.get(name)?;
        let wanted = wanted.filter(|wanted| wanted != has)?;
        let detail = format!("{name} is {has}, not {wanted}");
        Some((Reason::Attribute, detail))
    });
    // An instance that names no zone is in all of them.
    let location = std::iter::once_with(move || {
        let zone = attributes.get(super::ZONE_ATTRIBUTE)?;
        let zones = request.zones.as_ref();
        zones.filter(|zones| !zones.contains(zone))?;
        Some((Reason::Location, format!("The instance is in {zone}.")))
    });
    missing.chain(platform).chain(location).flatten()
}

/// The first thing that the tasks placed so far may have changed.
pub(super) fn changing(
    candidate: &Candidate,
    ledger: &Ledger,
    request: &Request,
) -> Option<Lack> {
    changing_all(candidate, ledger, request).next()
}

/// Everything that the tasks placed so far may have changed.
pub(super) fn changing_all<'a>(
    candidate: &'a Candidate,
    ledger: &'a Ledger,
    request: &'a Request,
) -> impl Iterator<Item = Lack> + 'a {
    let constraints =
        violated(candidate, request).map(|constraint| match constraint {
            Constraint::DistinctInstance => (
                Reason::DistinctInstance,
                format!("It has a task of group {}.", request.group.name()),
            ),
            Constraint::MemberOf(expression) => {
                (Reason::MemberOf, expression.to_string())
            }
        });
    constraints.chain(ledger.shortages(&request.claim).map(resource))
}

/// The constraints that do not hold.
pub(super) fn violated<'a>(
    candidate: &'a Candidate,
    request: &'a Request,
) -> impl Iterator<Item = &'a Constraint> + 'a {
    request.constraints.iter().filter(|constraint| match constraint {
        Constraint::DistinctInstance => {
            super::strategy::tasks_of_group(candidate, request) > 0
        }
        Constraint::MemberOf(expression) => !expression.matches(candidate),
    })
}

fn resource(shortage: Shortage) -> Lack {
    match shortage {
        Shortage::Cpu(asked, free) => (
            Reason::Cpu,
            format!("{asked} CPU units are needed, {free} are free."),
        ),
        Shortage::Memory(asked, free) => (
            Reason::Memory,
            format!("{asked} MiB are needed, {free} are free."),
        ),
        Shortage::Port(port) => {
            (Reason::Ports, format!("Port {port}/tcp is taken."))
        }
        Shortage::PortUdp(port) => {
            (Reason::PortsUdp, format!("Port {port}/udp is taken."))
        }
        Shortage::Gpu(asked, free) => {
            (Reason::Gpu, format!("{asked} GPUs are needed, {free} are free."))
        }
        Shortage::Eni(free) => (
            Reason::Eni,
            format!("A network interface is needed, {free} are free."),
        ),
    }
}
