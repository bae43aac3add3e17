//! Rules of `dependsOn`, and the orders that follow from all the ways in
//! which one container waits for another.

use std::collections::{BTreeMap, BTreeSet};

use minato_wire::ecs::{
    ContainerCondition, ContainerDefinition, LogDriver, TaskDefinition,
};

use super::{containers, find, list, name, text};
use crate::rule::RuleError;

pub(super) fn dependencies(
    definition: &TaskDefinition,
) -> Result<(), RuleError> {
    for container in containers(definition) {
        for dependency in list(&container.depends_on) {
            one_dependency(
                definition,
                container,
                text(&dependency.container_name),
                dependency.condition,
            )?;
        }
    }
    if start_order(definition).is_none() {
        return Err(RuleError::client(
            "Container dependencies must not have a cycle.",
        ));
    }
    Ok(())
}

fn one_dependency(
    definition: &TaskDefinition,
    container: &ContainerDefinition,
    target: &str,
    condition: Option<ContainerCondition>,
) -> Result<(), RuleError> {
    let invalid = |why: String| {
        Err(RuleError::client(format!(
            "Invalid 'dependsOn' setting for container '{}'. {why}",
            name(container)
        )))
    };
    if target == name(container) {
        return invalid("A container cannot depend on itself.".into());
    }
    let Some(dependency) = find(definition, target) else {
        return invalid(format!(
            "'{target}' is not a container in the task definition."
        ));
    };
    match condition {
        None => invalid(
            "The condition should be one of [START, COMPLETE, SUCCESS, \
             HEALTHY]."
                .into(),
        ),
        Some(
            condition @ (ContainerCondition::Complete
            | ContainerCondition::Success),
        ) if dependency.essential != Some(false) => invalid(format!(
            "The condition {condition} cannot be used with the essential \
             container '{target}'."
        )),
        Some(ContainerCondition::Healthy)
            if !super::health::has_check(dependency) =>
        {
            invalid(format!(
                "The condition HEALTHY requires container '{target}' to have \
                 a healthCheck."
            ))
        }
        Some(
            ContainerCondition::Start
            | ContainerCondition::Complete
            | ContainerCondition::Success
            | ContainerCondition::Healthy,
        ) => Ok(()),
    }
}

/// The containers that each container waits for: by `dependsOn`, links,
/// `volumesFrom`, and the log router by those that log through it.
fn waits_for(definition: &TaskDefinition) -> BTreeMap<&str, BTreeSet<&str>> {
    let router = containers(definition)
        .iter()
        .find(|container| container.firelens_configuration.is_some())
        .map(name);
    containers(definition)
        .iter()
        .map(|container| {
            let depends = list(&container.depends_on)
                .iter()
                .map(|dependency| text(&dependency.container_name));
            let links = list(&container.links)
                .iter()
                .map(|link| link.split(':').next().unwrap_or_default());
            let volumes = list(&container.volumes_from)
                .iter()
                .map(|from| text(&from.source_container));
            let mut targets: BTreeSet<&str> =
                depends.chain(links).chain(volumes).collect();
            let driver = container
                .log_configuration
                .as_ref()
                .and_then(|log| log.log_driver);
            if driver == Some(LogDriver::Awsfirelens)
                && let Some(router) = router
                && router != name(container)
            {
                targets.insert(router);
            }
            (name(container), targets)
        })
        .collect()
}

/// The containers in an order in which each comes after all it waits for,
/// otherwise as they are written; `None` if they wait in a circle.
pub fn start_order(definition: &TaskDefinition) -> Option<Vec<&str>> {
    let waits = waits_for(definition);
    let mut order: Vec<&str> = vec![];
    let mut left: Vec<&str> = containers(definition).iter().map(name).collect();
    while !left.is_empty() {
        let ready = left.iter().position(|container| {
            waits[container].iter().all(|target| {
                order.contains(target) || !waits.contains_key(target)
            })
        })?;
        order.push(left.remove(ready));
    }
    Some(order)
}

/// The containers that must be gone before `container` may be stopped.
pub fn stop_dependents<'a>(
    definition: &'a TaskDefinition,
    container: &str,
) -> Vec<&'a str> {
    waits_for(definition)
        .into_iter()
        .filter(|(_, targets)| targets.contains(container))
        .map(|(dependent, _)| dependent)
        .collect()
}
