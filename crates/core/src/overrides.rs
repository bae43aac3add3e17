//! What a `RunTask` call changes in a task definition for one task.

use minato_wire::ecs::{
    ContainerDefinition, ContainerOverride, KeyValuePair, TaskDefinition,
    TaskOverride,
};

/// The container definitions of a task: the definition's, overridden.
///
/// Command, limits, environment files and resource requirements replace;
/// environment merges by name (API reference, ContainerOverride).
pub fn containers(
    definition: &TaskDefinition,
    overrides: Option<&TaskOverride>,
) -> Vec<ContainerDefinition> {
    let given = overrides
        .and_then(|overrides| overrides.container_overrides.as_deref())
        .unwrap_or_default();
    definition
        .container_definitions
        .iter()
        .flatten()
        .map(|container| {
            let change = given.iter().find(|o| o.name == container.name);
            change.map_or_else(|| container.clone(), |o| merged(container, o))
        })
        .collect()
}

fn merged(
    container: &ContainerDefinition,
    change: &ContainerOverride,
) -> ContainerDefinition {
    let mut merged = container.clone();
    replace(&mut merged.command, &change.command);
    replace(&mut merged.environment_files, &change.environment_files);
    replace(&mut merged.cpu, &change.cpu);
    replace(&mut merged.memory, &change.memory);
    replace(&mut merged.memory_reservation, &change.memory_reservation);
    replace(&mut merged.resource_requirements, &change.resource_requirements);
    if let Some(changes) = &change.environment {
        let environment = merged.environment.get_or_insert_default();
        changes.iter().for_each(|pair| set(environment, pair));
    }
    merged
}

fn replace<T: Clone>(old: &mut Option<T>, new: &Option<T>) {
    if new.is_some() {
        old.clone_from(new);
    }
}

fn set(environment: &mut Vec<KeyValuePair>, pair: &KeyValuePair) {
    match environment.iter_mut().find(|known| known.name == pair.name) {
        Some(known) => known.value.clone_from(&pair.value),
        None => environment.push(pair.clone()),
    }
}

/// The overrides as `DescribeTasks` shows them: one entry for each container,
/// changed or not (reference, section 8).
pub fn echo(
    definition: &TaskDefinition,
    overrides: Option<TaskOverride>,
) -> TaskOverride {
    let mut echo = overrides.unwrap_or_default();
    let given = echo.container_overrides.take().unwrap_or_default();
    let all = definition
        .container_definitions
        .iter()
        .flatten()
        .map(|container| {
            let change = given.iter().find(|o| o.name == container.name);
            change.cloned().unwrap_or_else(|| ContainerOverride {
                name: container.name.clone(),
                ..ContainerOverride::default()
            })
        })
        .collect();
    echo.container_overrides = Some(all);
    echo.inference_accelerator_overrides.get_or_insert_default();
    echo
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str, value: &str) -> KeyValuePair {
        KeyValuePair { name: Some(name.into()), value: Some(value.into()) }
    }

    fn definition() -> TaskDefinition {
        let container = |name: &str| ContainerDefinition {
            name: Some(name.into()),
            command: Some(vec!["serve".into()]),
            memory: Some(64),
            environment: Some(vec![pair("A", "1"), pair("B", "2")]),
            ..Default::default()
        };
        TaskDefinition {
            container_definitions: Some(vec![container("a"), container("b")]),
            ..Default::default()
        }
    }

    fn change() -> TaskOverride {
        TaskOverride {
            container_overrides: Some(vec![ContainerOverride {
                name: Some("b".into()),
                command: Some(vec!["once".into()]),
                environment: Some(vec![pair("B", "3"), pair("C", "4")]),
                ..Default::default()
            }]),
            ..Default::default()
        }
    }

    #[test]
    fn a_change_touches_its_container_only() {
        let merged = containers(&definition(), Some(&change()));
        assert_eq!(merged[0], definition().container_definitions.unwrap()[0]);
        assert_eq!(merged[1].command, Some(vec!["once".into()]));
        assert_eq!(merged[1].memory, Some(64));
        let expected = vec![pair("A", "1"), pair("B", "3"), pair("C", "4")];
        assert_eq!(merged[1].environment, Some(expected));
    }

    #[test]
    fn the_echo_names_every_container() {
        let shown = echo(&definition(), Some(change()));
        let containers = shown.container_overrides.unwrap();
        let names: Vec<_> =
            containers.iter().map(|o| o.name.as_deref().unwrap()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(containers[0].command, None);
        assert!(shown.inference_accelerator_overrides.unwrap().is_empty());
    }
}
