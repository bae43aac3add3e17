//! Strategies: what is preferred among the instances that could take a task.

use super::{Candidate, Ledger, Request, ZONE_ATTRIBUTE};

/// A preference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Any.
    Random,
    /// Evenly over the values of a field.
    Spread(SpreadField),
    /// Where least of the resource remains.
    Binpack(Resource),
}

/// What tasks are spread over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpreadField {
    /// `instanceId` or `host`: the container instances.
    Instance,
    /// `attribute:NAME`: the values of an attribute. Instances without it
    /// count as one.
    Attribute(String),
}

/// What is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// CPU units.
    Cpu,
    /// Memory.
    Memory,
}

impl Resource {
    /// What a host has left of it.
    pub(super) fn free(self, ledger: &Ledger) -> i64 {
        match self {
            Resource::Cpu => ledger.free_cpu(),
            Resource::Memory => ledger.free_memory_mib(),
        }
    }
}

/// The strategies that decide: those of the request up to the first `random`,
/// which leaves nothing to those after it; without any, over zones and then
/// over instances.
pub(super) fn deciding(request: &Request) -> Vec<Strategy> {
    if request.strategies.is_empty() {
        let zone = SpreadField::Attribute(ZONE_ATTRIBUTE.to_owned());
        return vec![
            Strategy::Spread(zone),
            Strategy::Spread(SpreadField::Instance),
        ];
    }
    let given = request.strategies.iter();
    given.take_while(|it| **it != Strategy::Random).cloned().collect()
}

/// How many tasks of the request's group an instance has.
pub(super) fn tasks_of_group(candidate: &Candidate, request: &Request) -> i64 {
    i64::from(candidate.groups.count(&request.group))
}

/// The bucket of an instance where tasks are spread over an attribute.
pub(super) fn bucket<'a>(candidate: &'a Candidate, name: &str) -> &'a str {
    candidate.attributes.get(name).map_or("", String::as_str)
}
