//! Rules of environment variables, environment files and secrets.

use std::collections::BTreeSet;

use minato_wire::ecs::{
    ContainerDefinition, EnvironmentFile, Secret, TaskDefinition,
};

use super::{containers, list, name, text};
use crate::rule::RuleError;

/// The most environment files of one task definition (developer guide, "Pass
/// environment variables to an Amazon ECS container").
const ENVIRONMENT_FILES_MAX: usize = 10;

pub(super) fn secrets(definition: &TaskDefinition) -> Result<(), RuleError> {
    let mut any = false;
    for container in containers(definition) {
        let secrets = list(&container.secrets);
        any |= !secrets.is_empty();
        let mut names = BTreeSet::new();
        for secret in secrets {
            one_secret(container, secret)?;
            let name = text(&secret.name);
            let shared = list(&container.environment)
                .iter()
                .any(|variable| text(&variable.name) == name);
            if shared || !names.insert(name) {
                return Err(RuleError::client(format!(
                    "The secret name must be unique and not shared with any \
                     new or existing environment variables set on the \
                     container, such as '{name}'."
                )));
            }
        }
        if let Some(log) = &container.log_configuration {
            any |= !list(&log.secret_options).is_empty();
            for secret in list(&log.secret_options) {
                one_secret(container, secret)?;
            }
        }
    }
    if any && text(&definition.execution_role_arn).is_empty() {
        return Err(RuleError::client(
            "When you are specifying container secrets, you must also \
             specify a value for 'executionRoleArn'.",
        ));
    }
    Ok(())
}

fn one_secret(
    container: &ContainerDefinition,
    secret: &Secret,
) -> Result<(), RuleError> {
    let (name, from) = (text(&secret.name), text(&secret.value_from));
    if name.is_empty() || from.is_empty() {
        return Err(RuleError::client(format!(
            "Invalid secret of container '{}'. 'name' and 'valueFrom' should \
             not be null or empty.",
            super::name(container)
        )));
    }
    if !is_secret_reference(from) {
        return Err(RuleError::client(format!(
            "Invalid secret '{name}' of container '{}'. 'valueFrom' must be \
             the ARN of a Secrets Manager secret, or the name or ARN of a \
             parameter in the SSM Parameter Store.",
            super::name(container)
        )));
    }
    Ok(())
}

/// A parameter's name or ARN, or a secret's ARN, which may go on with
/// `:json-key:version-stage:version-id` of which the last two exclude each
/// other.
fn is_secret_reference(from: &str) -> bool {
    if !from.starts_with("arn:") {
        return true;
    }
    let parts: Vec<&str> = from.split(':').collect();
    match parts.get(2).copied() {
        Some("ssm") => from.contains(":parameter/"),
        Some("secretsmanager") => {
            let both =
                |stage: &str, id: &str| !stage.is_empty() && !id.is_empty();
            match parts[3..] {
                [_, _, "secret", id] => !id.is_empty(),
                [_, _, "secret", id, _, stage, version] => {
                    !id.is_empty() && !both(stage, version)
                }
                _ => false,
            }
        }
        _ => false,
    }
}

pub(super) fn environment(
    definition: &TaskDefinition,
) -> Result<(), RuleError> {
    for container in containers(definition) {
        let nameless = |variable: &minato_wire::ecs::KeyValuePair| {
            let name = text(&variable.name);
            name.is_empty() || name.contains('=')
        };
        if list(&container.environment).iter().any(nameless) {
            return Err(RuleError::client(format!(
                "Invalid 'environment' setting for container '{}'. The name \
                 of a variable should not be null or empty, nor contain '='.",
                name(container)
            )));
        }
    }
    environment_files(
        containers(definition).iter().flat_map(|container| {
            let files = list(&container.environment_files).iter();
            files.map(move |file| (name(container), file))
        }),
        text(&definition.execution_role_arn),
    )
}

/// Checks the environment files of a task, each with its container's name:
/// those of a definition, or those that take their place in one task.
pub(crate) fn environment_files<'a>(
    files: impl Iterator<Item = (&'a str, &'a EnvironmentFile)>,
    execution_role_arn: &str,
) -> Result<(), RuleError> {
    for (at, (container, file)) in files.enumerate() {
        if at == ENVIRONMENT_FILES_MAX {
            return Err(invalid_files(
                container,
                "There must be at most 10 files in a task definition.",
            ));
        }
        environment_file(container, file)?;
        if execution_role_arn.is_empty() {
            return Err(RuleError::client(
                "When you are specifying environmentFiles, you must also \
                 specify a value for 'executionRoleArn'.",
            ));
        }
    }
    Ok(())
}

fn environment_file(
    container: &str,
    file: &EnvironmentFile,
) -> Result<(), RuleError> {
    if file.r#type.is_none() {
        return Err(invalid_files(
            container,
            "The type should be one of [s3].",
        ));
    }
    let value = text(&file.value);
    let object = value
        .strip_prefix("arn:")
        .and_then(|rest| rest.split_once(":s3:::"))
        .and_then(|(_, object)| object.split_once('/'));
    match object {
        Some((bucket, key)) if !bucket.is_empty() && key.ends_with(".env") => {
            Ok(())
        }
        _ => Err(invalid_files(
            container,
            "The value must be the ARN of an object in S3 whose name ends in \
             .env.",
        )),
    }
}

fn invalid_files(container: &str, why: &str) -> RuleError {
    RuleError::client(format!(
        "Invalid 'environmentFiles' setting for container '{container}'. {why}"
    ))
}
