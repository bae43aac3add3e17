//! What a `RunTask` call changes in a task definition for one task.

use minato_wire::ecs::{
    ContainerDefinition, ContainerOverride, KeyValuePair, LaunchType,
    TaskDefinition, TaskOverride,
};

use crate::rule::RuleError;
use crate::task_definition::{
    check_environment_files, check_overridden, requires_attributes, units,
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

/// Checks what a task has in place of its definition's, by the rules that
/// hold for that.
pub fn check(
    definition: &TaskDefinition,
    overrides: Option<&TaskOverride>,
    launch: LaunchType,
) -> Result<(), RuleError> {
    let Some(change) = overrides else { return Ok(()) };
    let applied = applied(definition, overrides);
    check_task(&applied, change, launch)?;
    let invalid = |broken: RuleError| RuleError::invalid(broken.message);
    check_overridden(&applied).map_err(invalid)?;
    if has_files(overrides) {
        check_files(&applied).map_err(invalid)?;
    }
    Ok(())
}

/// Checks the sizes of a task, and what it has beside containers.
fn check_task(
    applied: &TaskDefinition,
    change: &TaskOverride,
    launch: LaunchType,
) -> Result<(), RuleError> {
    let is_fargate = launch == LaunchType::Fargate;
    let (cpu, memory) = sizes(applied, None);
    let is_known = |cpu, memory| units::is_fargate_size(cpu, memory);
    let fits = cpu.zip(memory).is_some_and(|(c, m)| is_known(c, m));
    // A size that cannot be read is told of by the rules of definitions.
    let is_read = applied.cpu.is_none() == cpu.is_none()
        && applied.memory.is_none() == memory.is_none();
    let is_sized = change.cpu.is_some() || change.memory.is_some();
    if is_fargate && is_sized && is_read && !fits {
        return Err(RuleError::invalid(
            "No Fargate configuration exists for given values.",
        ));
    }
    if change.ephemeral_storage.is_some() && !is_fargate {
        return Err(RuleError::invalid(
            "ephemeralStorage is only supported for tasks that use the \
             Fargate launch type.",
        ));
    }
    let known = applied.inference_accelerators.as_deref();
    let known = known.unwrap_or_default();
    let overridden = change.inference_accelerator_overrides.iter().flatten();
    for accelerator in overridden {
        let name = &accelerator.device_name;
        if !known.iter().any(|device| device.device_name == *name) {
            let name = name.as_deref().unwrap_or_default();
            return Err(RuleError::invalid(format!(
                "Override for inference accelerator named {name} is not an \
                 inference accelerator in the TaskDefinition."
            )));
        }
    }
    Ok(())
}

/// The task's own CPU units and MiB of memory, where it has any.
pub fn sizes(
    definition: &TaskDefinition,
    overrides: Option<&TaskOverride>,
) -> (Option<u32>, Option<u32>) {
    let cpu = overrides.and_then(|change| change.cpu.as_deref());
    let memory = overrides.and_then(|change| change.memory.as_deref());
    let cpu = cpu.or(definition.cpu.as_deref());
    let memory = memory.or(definition.memory.as_deref());
    (cpu.and_then(units::cpu_units), memory.and_then(units::memory_mib))
}

/// Checks the environment files that a task has in place of its definition's,
/// by the rules that hold for those.
fn check_files(applied: &TaskDefinition) -> Result<(), RuleError> {
    let containers = applied.container_definitions.iter().flatten();
    let files = containers.flat_map(|container| {
        let name = container.name.as_deref().unwrap_or_default();
        let files = container.environment_files.iter().flatten();
        files.map(move |file| (name, file))
    });
    let role = applied.execution_role_arn.as_deref().unwrap_or_default();
    check_environment_files(files, role)
}

/// The definition as it is for one task: what takes a place on a host.
pub fn applied(
    definition: &TaskDefinition,
    overrides: Option<&TaskOverride>,
) -> TaskDefinition {
    let mut applied = definition.clone();
    applied.container_definitions = Some(containers(definition, overrides));
    if let Some(change) = overrides {
        replace(&mut applied.cpu, &change.cpu);
        replace(&mut applied.memory, &change.memory);
        replace(&mut applied.ephemeral_storage, &change.ephemeral_storage);
        replace(&mut applied.task_role_arn, &change.task_role_arn);
        replace(&mut applied.execution_role_arn, &change.execution_role_arn);
    }
    // A definition without them asks no host for what they need.
    let has_disk =
        overrides.is_some_and(|change| change.ephemeral_storage.is_some());
    if has_files(overrides) || has_disk {
        applied.requires_attributes = Some(requires_attributes(&applied));
    }
    applied
}

fn has_files(overrides: Option<&TaskOverride>) -> bool {
    let containers =
        overrides.and_then(|overrides| overrides.container_overrides.as_ref());
    let mut containers = containers.into_iter().flatten();
    containers.any(|change| change.environment_files.is_some())
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
    use minato_wire::ecs::{
        EnvironmentFile, EnvironmentFileType, EphemeralStorage,
        InferenceAcceleratorOverride, ResourceRequirement, ResourceType,
    };

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

    fn files(count: usize, value: &str) -> TaskOverride {
        let file = EnvironmentFile {
            r#type: Some(EnvironmentFileType::S3),
            value: Some(value.into()),
        };
        let mut change = change();
        change.container_overrides.as_mut().unwrap()[0].environment_files =
            Some(vec![file; count]);
        change
    }

    #[test]
    fn files_of_a_change_keep_the_rules_of_a_definitions() {
        let role = || Some("arn:aws:iam::1:role/e".to_owned());
        let why = |change: &TaskOverride| {
            let broken = check_ec2(Some(change)).unwrap_err();
            assert_eq!(broken.code, crate::rule::RuleCode::InvalidParameter);
            broken.message
        };
        assert!(check_ec2(None).is_ok());
        assert!(check_ec2(Some(&change())).is_ok());
        assert!(check_ec2(Some(&files(0, ""))).is_ok());
        let roleless = files(1, "arn:aws:s3:::b/a.env");
        assert!(why(&roleless).contains("'executionRoleArn'"));
        let with_role =
            |change| TaskOverride { execution_role_arn: role(), ..change };
        assert!(check_ec2(Some(&with_role(roleless))).is_ok());
        let eleven = with_role(files(11, "arn:aws:s3:::b/a.env"));
        assert!(why(&eleven).contains("at most 10"));
        let text = with_role(files(1, "arn:aws:s3:::b/a.txt"));
        assert!(why(&text).contains("for container 'b'"));
    }

    #[test]
    fn files_of_a_change_need_a_host_that_can_fetch_them() {
        let needs = |change: &TaskOverride| {
            let applied = applied(&definition(), Some(change));
            let needed = applied.requires_attributes.unwrap_or_default();
            let name = Some("ecs.capability.env-files.s3");
            needed.iter().any(|attribute| attribute.name.as_deref() == name)
        };
        assert!(needs(&files(1, "arn:aws:s3:::b/a.env")));
        assert!(!needs(&files(0, "")) && !needs(&change()));
        let applied = applied(
            &definition(),
            Some(&TaskOverride { cpu: Some("256".into()), ..change() }),
        );
        assert_eq!(applied.cpu.as_deref(), Some("256"));
        assert_eq!(applied.requires_attributes, None);
    }

    fn check_ec2(change: Option<&TaskOverride>) -> Result<(), RuleError> {
        check(&definition(), change, LaunchType::Ec2)
    }

    #[test]
    fn sizes_have_the_units_of_a_definitions() {
        let sized = |cpu: &str, memory: &str| TaskOverride {
            cpu: Some(cpu.into()),
            memory: Some(memory.into()),
            ..Default::default()
        };
        let units = sized("1 vCPU", "2 GB");
        assert!(check_ec2(Some(&units)).is_ok());
        let found = sizes(&definition(), Some(&units));
        assert_eq!(found, (Some(1024), Some(2048)));
        let plain = TaskDefinition { cpu: Some("256".into()), ..definition() };
        assert_eq!(sizes(&plain, None), (Some(256), None));
        for (cpu, memory, why) in [
            ("much", "512", "Invalid 'cpu' setting for task"),
            ("-1", "512", "Invalid 'cpu' setting for task"),
            ("1", "512", "Invalid 'cpu' setting for task"),
            ("256", "much", "Invalid 'memory' setting for task"),
            ("256", "0", "Invalid 'memory' setting for task"),
            // Two containers of 64 MiB each.
            ("256", "100", "must not be greater than the memory of the task"),
        ] {
            let broken = check_ec2(Some(&sized(cpu, memory))).unwrap_err();
            assert!(broken.message.contains(why), "{cpu} {memory}: {broken}");
        }
        let fargate = |change: &TaskOverride| {
            check(&definition(), Some(change), LaunchType::Fargate)
        };
        assert!(fargate(&units).is_ok());
        let odd = fargate(&sized("256", "4096")).unwrap_err();
        assert!(odd.message.starts_with("No Fargate configuration"), "{odd}");
    }

    #[test]
    fn what_would_have_no_effect_is_refused() {
        let disk = |size| TaskOverride {
            ephemeral_storage: Some(EphemeralStorage {
                size_in_gi_b: Some(size),
            }),
            ..Default::default()
        };
        let on = |change: &TaskOverride, launch| {
            check(&definition(), Some(change), launch)
        };
        assert!(on(&disk(30), LaunchType::Fargate).is_ok());
        let needed = applied(&definition(), Some(&disk(30)));
        let needed = needed.requires_attributes.unwrap_or_default();
        let name = Some("ecs.capability.extensible-ephemeral-storage");
        assert!(needed.iter().any(|known| known.name.as_deref() == name));
        let small = on(&disk(20), LaunchType::Fargate).unwrap_err();
        assert!(small.message.contains("between 21 GiB"), "{small}");
        let there = on(&disk(30), LaunchType::Ec2).unwrap_err();
        assert!(there.message.contains("Fargate launch type"), "{there}");

        let device = TaskOverride {
            inference_accelerator_overrides: Some(vec![
                InferenceAcceleratorOverride {
                    device_name: Some("device".into()),
                    device_type: Some("eia1.medium".into()),
                },
            ]),
            ..Default::default()
        };
        let unknown = on(&device, LaunchType::Ec2).unwrap_err();
        assert!(unknown.message.contains("named device is not"), "{unknown}");

        for (kind, value) in [
            (ResourceType::Gpu, "many"),
            (ResourceType::InferenceAccelerator, "device"),
        ] {
            let mut needs = change();
            needs.container_overrides.as_mut().unwrap()[0]
                .resource_requirements = Some(vec![ResourceRequirement {
                r#type: Some(kind),
                value: Some(value.into()),
            }]);
            let broken = on(&needs, LaunchType::Ec2).unwrap_err();
            assert!(broken.message.contains("is not a valid value"));
        }
        let role = TaskOverride {
            task_role_arn: Some("{{role}}".into()),
            ..Default::default()
        };
        let broken = on(&role, LaunchType::Ec2).unwrap_err();
        assert_eq!(broken.message, "Role is not valid");
    }
}
