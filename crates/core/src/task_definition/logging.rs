//! Rules of log drivers and of the log router, FireLens.

use minato_wire::ecs::{
    ContainerDefinition, LogConfiguration, LogDriver, TaskDefinition,
};

use super::{containers, list, name, text};
use crate::rule::RuleError;

/// The options that awslogs takes beside those of every driver.
const AWSLOGS_OPTIONS: &[&str] = &[
    "awslogs-group",
    "awslogs-region",
    "awslogs-stream-prefix",
    "awslogs-create-group",
    "awslogs-datetime-format",
    "awslogs-multiline-pattern",
    "awslogs-endpoint",
    "awslogs-credentials-endpoint",
    "awslogs-force-flush-interval-seconds",
    "awslogs-format",
    "tag",
    "mode",
    "max-buffer-size",
];

/// Docker's largest number for `log-driver-buffer-limit`.
const BUFFER_LIMIT_MAX: u64 = 536_870_912;

pub(super) fn drivers(definition: &TaskDefinition) -> Result<(), RuleError> {
    for container in containers(definition) {
        if let Some(log) = &container.log_configuration {
            driver(container, log)?;
        }
    }
    Ok(())
}

fn driver(
    container: &ContainerDefinition,
    log: &LogConfiguration,
) -> Result<(), RuleError> {
    let Some(driver) = log.log_driver else {
        return Err(RuleError::client(format!(
            "Invalid 'logConfiguration' setting for container '{}'. \
             'logDriver' should not be null.",
            name(container)
        )));
    };
    required_options(log, driver)?;
    let option = |wanted: &str| {
        log.options.as_ref().and_then(|options| options.get(wanted))
    };
    match option("mode").map(String::as_str) {
        None | Some("blocking" | "non-blocking") => {}
        Some(mode) => {
            return Err(RuleError::client(format!(
                "Log driver {driver} option 'mode' is invalid: '{mode}'. It \
                 should be one of [blocking, non-blocking]."
            )));
        }
    }
    if option("awslogs-datetime-format").is_some()
        && option("awslogs-multiline-pattern").is_some()
    {
        return Err(RuleError::client(
            "Log driver awslogs options 'awslogs-datetime-format' and \
             'awslogs-multiline-pattern' cannot be used together.",
        ));
    }
    if let Some(limit) = option("log-driver-buffer-limit")
        && limit.parse::<u64>().ok().is_none_or(|n| n > BUFFER_LIMIT_MAX)
    {
        return Err(RuleError::client(
            "Log driver option 'log-driver-buffer-limit' must be between 0 \
             and 536870912.",
        ));
    }
    Ok(())
}

/// Whether the option is given, be it as a secret.
fn has_option(log: &LogConfiguration, wanted: &str) -> bool {
    let plain = log
        .options
        .as_ref()
        .is_some_and(|options| options.contains_key(wanted));
    let secret = list(&log.secret_options)
        .iter()
        .any(|secret| text(&secret.name) == wanted);
    plain || secret
}

fn required_options(
    log: &LogConfiguration,
    driver: LogDriver,
) -> Result<(), RuleError> {
    let required: &[&str] = match driver {
        LogDriver::Awslogs => &["awslogs-group", "awslogs-region"],
        LogDriver::Splunk => &["splunk-token", "splunk-url"],
        LogDriver::JsonFile
        | LogDriver::Syslog
        | LogDriver::Journald
        | LogDriver::Gelf
        | LogDriver::Fluentd
        | LogDriver::Awsfirelens => &[],
    };
    let missing: Vec<&str> = required
        .iter()
        .copied()
        .filter(|wanted| !has_option(log, wanted))
        .collect();
    if !missing.is_empty() {
        return Err(RuleError::client(format!(
            "Log driver {driver} requires options: {}",
            missing.join(", ")
        )));
    }
    if driver != LogDriver::Awslogs {
        return Ok(());
    }
    let unknown: Vec<&str> = log
        .options
        .iter()
        .flat_map(|options| options.keys())
        .map(String::as_str)
        .filter(|given| !AWSLOGS_OPTIONS.contains(given))
        .collect();
    if !unknown.is_empty() {
        return Err(RuleError::client(format!(
            "Log driver awslogs disallows options: {}",
            unknown.join(", ")
        )));
    }
    Ok(())
}

pub(super) fn firelens(definition: &TaskDefinition) -> Result<(), RuleError> {
    let routers: Vec<_> = containers(definition)
        .iter()
        .filter(|container| container.firelens_configuration.is_some())
        .collect();
    if routers.len() > 1 {
        return Err(RuleError::client(
            "Only one container in a task definition can have a \
             firelensConfiguration.",
        ));
    }
    let used = containers(definition).iter().any(|container| {
        let log = container.log_configuration.as_ref();
        log.and_then(|log| log.log_driver) == Some(LogDriver::Awsfirelens)
    });
    match (routers.first(), used) {
        (None, true) => Err(RuleError::client(
            "When a container is configured with the awsfirelens log driver, \
             one container must have a firelensConfiguration object.",
        )),
        (Some(_), false) => Err(RuleError::client(
            "When a firelensConfiguration object is specified, at least one \
             container has to be configured with the awsfirelens log driver.",
        )),
        (None, false) => Ok(()),
        (Some(router), true) => router_options(router),
    }
}

fn router_options(router: &ContainerDefinition) -> Result<(), RuleError> {
    let Some(config) = &router.firelens_configuration else {
        return Ok(());
    };
    let invalid = |why: &str| {
        Err(RuleError::client(format!(
            "Invalid 'firelensConfiguration' setting for container '{}'. \
             {why}",
            name(router)
        )))
    };
    if config.r#type.is_none() {
        return invalid("The type should be one of [fluentd, fluentbit].");
    }
    let option = |wanted: &str| {
        config.options.iter().find_map(|options| options.get(wanted))
    };
    match option("enable-ecs-log-metadata").map(String::as_str) {
        None | Some("true" | "false") => {}
        Some(_) => {
            return invalid("enable-ecs-log-metadata must be true or false.");
        }
    }
    match (
        option("config-file-type").map(String::as_str),
        option("config-file-value"),
    ) {
        (None, None) | (Some("s3" | "file"), Some(_)) => Ok(()),
        (None, Some(_)) | (Some(_), None) => invalid(
            "config-file-type and config-file-value must be given together.",
        ),
        (Some(_), Some(_)) => {
            invalid("config-file-type should be one of [s3, file].")
        }
    }
}
