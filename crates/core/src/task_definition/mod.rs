//! Task definitions: what ECS takes, what it makes of it, and what follows
//! from it for placement.
//!
//! [`normalise_and_check`] spells out the defaults, applies every rule, each
//! in a function of its own, and derives `compatibilities` and
//! `requiresAttributes`. The first broken rule is the answer, in AWS's words
//! where they are known. What only the store can know (the revision, the
//! times, who registered it) is the caller's to add.

mod container;
mod demand;
mod derive;
mod health;
mod launch;
mod linux;
mod logging;
mod network;
mod normalise;
mod order;
mod secret;
mod task;
pub mod units;
mod volume;

use minato_wire::ecs::{
    ContainerDefinition, RegisterTaskDefinitionRequest, TaskDefinition,
};

pub use demand::{Demand, Platform, demand, effective_network_mode};
pub use derive::{compatibilities, is_ecr_image, requires_attributes};
pub use health::has_check as has_health_check;
pub use order::{start_order, stop_dependents};
pub(crate) use secret::environment_files as check_environment_files;

use crate::rule::RuleError;

/// The most containers in a task definition.
pub const CONTAINERS_MAX: usize = 10;

/// The largest task definition, in bytes of JSON.
pub const SIZE_BYTES_MAX: usize = 64 * 1024;

/// The most placement constraints of a definition and a call together.
pub const CONSTRAINTS_MAX: usize = 10;

/// One rule: looks at the whole normalised definition.
type Rule = fn(&TaskDefinition) -> Result<(), RuleError>;

/// In the order in which AWS is seen to check: names first, launch types
/// last.
const RULES: &[Rule] = &[
    task::family,
    container::list,
    task::roles,
    container::sizes,
    task::sizes,
    task::modes,
    task::platform,
    task::constraints,
    task::accelerators,
    network::ports,
    network::ranges,
    network::links,
    network::names,
    volume::volumes,
    volume::mounts,
    volume::volumes_from,
    order::dependencies,
    secret::secrets,
    secret::environment,
    logging::drivers,
    logging::firelens,
    health::checks,
    health::restarts,
    linux::parameters,
    linux::limits,
    linux::system_controls,
    linux::requirements,
    task::proxy,
    launch::required,
];

/// Spells out the defaults of a definition and checks all of it.
pub fn normalise_and_check(
    request: RegisterTaskDefinitionRequest,
) -> Result<TaskDefinition, RuleError> {
    task::length(&request)?;
    if let Some(tags) = &request.tags {
        crate::tags::check(tags)?;
    }
    let mut definition = normalise::normalise(request)?;
    for rule in RULES {
        rule(&definition)?;
    }
    definition.compatibilities = Some(compatibilities(&definition));
    let attributes = requires_attributes(&definition);
    definition.requires_attributes =
        if attributes.is_empty() { None } else { Some(attributes) };
    Ok(definition)
}

/// The rules that hold for a definition once a call has changed it, too.
const OVERRIDDEN_RULES: &[Rule] = &[
    task::roles,
    container::sizes,
    task::readable_sizes,
    task::sizes,
    task::modes,
    linux::requirements,
];

/// Checks a definition that a call has changed for one task.
pub(crate) fn check_overridden(
    definition: &TaskDefinition,
) -> Result<(), RuleError> {
    OVERRIDDEN_RULES.iter().try_for_each(|rule| rule(definition))
}

/// The containers of a definition.
pub fn containers(definition: &TaskDefinition) -> &[ContainerDefinition] {
    list(&definition.container_definitions)
}

/// An absent list is an empty one.
fn list<T>(list: &Option<Vec<T>>) -> &[T] {
    list.as_deref().unwrap_or_default()
}

/// An absent text is an empty one.
fn text(text: &Option<String>) -> &str {
    text.as_deref().unwrap_or_default()
}

/// The name of a container, for messages.
fn name(container: &ContainerDefinition) -> &str {
    text(&container.name)
}

/// The container of that name.
fn find<'a>(
    definition: &'a TaskDefinition,
    wanted: &str,
) -> Option<&'a ContainerDefinition> {
    containers(definition).iter().find(|each| name(each) == wanted)
}

#[cfg(test)]
mod tests;
