//! Why a container instance does not get a task.

use std::fmt;

use minato_wire::ecs::Failure;

use super::{Candidate, Constraint, Ledger, Request, Shortage};

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

type Refused = Option<(Reason, String)>;

/// What no placement of this request changes.
pub(super) fn fixed(candidate: &Candidate, request: &Request) -> Refused {
    if !candidate.agent_connected {
        let detail = "The container agent is not connected.";
        return Some((Reason::Agent, detail.to_owned()));
    }
    let missing: Vec<&str> = request
        .attributes
        .iter()
        .map(String::as_str)
        .filter(|name| !candidate.attributes.contains_key(*name))
        .collect();
    if !missing.is_empty() {
        let detail = format!("Missing attributes: {}", missing.join(", "));
        return Some((Reason::Attribute, detail));
    }
    let platform = [
        ("ecs.cpu-architecture", request.platform.cpu_architecture),
        ("ecs.os-type", request.platform.os_type),
    ];
    for (name, wanted) in platform {
        let has = candidate.attributes.get(name).map(String::as_str);
        if let (Some(wanted), Some(has)) = (wanted, has)
            && wanted != has
        {
            let detail = format!("{name} is {has}, not {wanted}");
            return Some((Reason::Attribute, detail));
        }
    }
    // An instance that names no zone is in all of them.
    if let (Some(zones), Some(zone)) = (&request.zones, candidate.zone())
        && !zones.contains(zone)
    {
        let detail = format!("The instance is in {zone}.");
        return Some((Reason::Location, detail));
    }
    None
}

/// What the tasks placed so far may have changed.
pub(super) fn changing(
    candidate: &Candidate,
    ledger: &Ledger,
    request: &Request,
) -> Refused {
    for constraint in &request.constraints {
        match constraint {
            Constraint::DistinctInstance => {
                let count = candidate.groups.get(&request.group);
                if count.is_some_and(|count| *count > 0) {
                    let detail =
                        format!("It has a task of group {}.", request.group);
                    return Some((Reason::DistinctInstance, detail));
                }
            }
            Constraint::MemberOf(expression) => {
                if !expression.matches(candidate) {
                    return Some((Reason::MemberOf, expression.to_string()));
                }
            }
        }
    }
    ledger.shortage(&request.claim).map(resource)
}

fn resource(shortage: Shortage) -> (Reason, String) {
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
