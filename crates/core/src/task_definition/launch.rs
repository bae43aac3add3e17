//! What each launch type cannot run: the rules of `requiresCompatibilities`
//! and the reason why a launch type is missing from `compatibilities`.

use minato_wire::ecs::{
    Compatibility, ContainerDefinition, LogDriver, NetworkMode, PidMode,
    ResourceType, TaskDefinition,
};

use super::{containers, derive, list, name, task, text, units};
use crate::rule::RuleError;

/// The longest start and stop time-outs on Fargate, in seconds.
const FARGATE_TIMEOUT_SECS: std::ops::RangeInclusive<i32> = 2..=120;

pub(super) fn required(definition: &TaskDefinition) -> Result<(), RuleError> {
    for launch in list(&definition.requires_compatibilities) {
        runs_on(definition, *launch)?;
    }
    Ok(())
}

/// Whether the launch type can run the definition; if not, why.
pub(super) fn runs_on(
    definition: &TaskDefinition,
    launch: Compatibility,
) -> Result<(), RuleError> {
    match launch {
        Compatibility::Ec2 => Ok(()),
        Compatibility::Fargate => fargate(definition),
        Compatibility::External => external(definition),
        Compatibility::ManagedInstances => managed_instances(definition),
    }
}

fn broken(message: impl Into<String>) -> Result<(), RuleError> {
    Err(RuleError::client(message))
}

fn fargate(definition: &TaskDefinition) -> Result<(), RuleError> {
    if definition.network_mode != Some(NetworkMode::Awsvpc) {
        return broken("Fargate only supports network mode ‘awsvpc’.");
    }
    fargate_size(definition)?;
    if definition.pid_mode == Some(PidMode::Host) {
        return broken(
            "Tasks using the Fargate launch type do not support pidMode \
             'host'. The supported value for pidMode is 'task'.",
        );
    }
    if definition.ipc_mode.is_some() {
        return broken(
            "Tasks using the Fargate launch type do not support ipcMode.",
        );
    }
    if !list(&definition.placement_constraints).is_empty() {
        return broken("Fargate does not support placement constraints.");
    }
    if !list(&definition.inference_accelerators).is_empty() {
        return broken("Fargate does not support inference accelerators.");
    }
    fargate_volumes(definition)?;
    for container in containers(definition) {
        fargate_container(container)?;
        fargate_linux(container)?;
        fargate_logs(definition, container)?;
    }
    let ecr = containers(definition)
        .iter()
        .any(|container| derive::is_ecr_image(text(&container.image)));
    if ecr && text(&definition.execution_role_arn).is_empty() {
        return broken(
            "Fargate requires task definition to have execution role ARN to \
             support ECR images.",
        );
    }
    Ok(())
}

fn fargate_size(definition: &TaskDefinition) -> Result<(), RuleError> {
    let Some(cpu) = definition.cpu.as_deref() else {
        return broken(
            "Fargate requires that 'cpu' be defined at the task level.",
        );
    };
    let Some(memory) = definition.memory.as_deref() else {
        return broken(
            "Fargate requires that 'memory' be defined at the task level.",
        );
    };
    let size = units::cpu_units(cpu).zip(units::memory_mib(memory));
    let known =
        size.is_some_and(|(cpu, memory)| units::is_fargate_size(cpu, memory));
    let too_small = task::is_windows(definition)
        && size.is_some_and(|(cpu, _)| cpu < units::UNITS_PER_VCPU);
    if !known || too_small {
        return broken("No Fargate configuration exists for given values.");
    }
    Ok(())
}

fn fargate_volumes(definition: &TaskDefinition) -> Result<(), RuleError> {
    for volume in list(&definition.volumes) {
        let host = volume.host.as_ref();
        if host.is_some_and(|host| !text(&host.source_path).is_empty()) {
            return broken(
                "host.sourcePath should not be set for volumes in Fargate.",
            );
        }
        if volume.docker_volume_configuration.is_some() {
            return broken("Fargate does not support Docker volumes.");
        }
        if volume.fsx_windows_file_server_volume_configuration.is_some() {
            return broken(
                "Fargate does not support FSx for Windows File Server \
                 volumes.",
            );
        }
    }
    Ok(())
}

fn fargate_container(container: &ContainerDefinition) -> Result<(), RuleError> {
    let unsupported = |setting: &str| {
        broken(format!(
            "Invalid setting for container '{}'. Fargate does not support \
             '{setting}'.",
            name(container)
        ))
    };
    if container.privileged == Some(true) {
        return unsupported("privileged");
    }
    if !list(&container.docker_security_options).is_empty() {
        return unsupported("dockerSecurityOptions");
    }
    let gpu = |requirement: &minato_wire::ecs::ResourceRequirement| {
        requirement.r#type == Some(ResourceType::Gpu)
    };
    if list(&container.resource_requirements).iter().any(gpu) {
        return unsupported("resourceRequirements of type GPU");
    }
    let both = [
        ("startTimeout", container.start_timeout),
        ("stopTimeout", container.stop_timeout),
    ];
    for (setting, value) in both {
        if value.is_some_and(|secs| !FARGATE_TIMEOUT_SECS.contains(&secs)) {
            return broken(format!(
                "Invalid '{setting}' setting for container '{}'. On Fargate \
                 it must be between 2 and 120 seconds.",
                name(container)
            ));
        }
    }
    let config_file = container
        .firelens_configuration
        .as_ref()
        .and_then(|config| config.options.as_ref())
        .and_then(|options| options.get("config-file-type"));
    if config_file.is_some_and(|kind| kind == "s3") {
        return unsupported("config-file-type s3");
    }
    Ok(())
}

fn fargate_linux(container: &ContainerDefinition) -> Result<(), RuleError> {
    let Some(parameters) = &container.linux_parameters else {
        return Ok(());
    };
    let unsupported = |setting: &str| {
        broken(format!(
            "Invalid setting for container '{}'. Fargate does not support \
             'linuxParameters.{setting}'.",
            name(container)
        ))
    };
    if !list(&parameters.devices).is_empty() {
        return unsupported("devices");
    }
    if parameters.shared_memory_size.is_some() {
        return unsupported("sharedMemorySize");
    }
    if parameters.max_swap.is_some() {
        return unsupported("maxSwap");
    }
    if parameters.swappiness.is_some() {
        return unsupported("swappiness");
    }
    let added = parameters
        .capabilities
        .as_ref()
        .map(|capabilities| list(&capabilities.add))
        .unwrap_or_default();
    if added.iter().any(|capability| capability != "SYS_PTRACE") {
        return unsupported("capabilities.add other than SYS_PTRACE");
    }
    Ok(())
}

fn fargate_logs(
    definition: &TaskDefinition,
    container: &ContainerDefinition,
) -> Result<(), RuleError> {
    let Some(log) = &container.log_configuration else {
        return Ok(());
    };
    match log.log_driver {
        None | Some(LogDriver::Awsfirelens | LogDriver::Splunk) => Ok(()),
        Some(LogDriver::Awslogs) => {
            if text(&definition.execution_role_arn).is_empty() {
                return broken(
                    "Fargate requires task definition to have execution role \
                     ARN to support log driver awslogs.",
                );
            }
            let prefix = log.options.as_ref().is_some_and(|options| {
                options.contains_key("awslogs-stream-prefix")
            });
            if !prefix {
                return broken(
                    "Log driver awslogs requires options: \
                     awslogs-stream-prefix",
                );
            }
            Ok(())
        }
        Some(
            driver @ (LogDriver::JsonFile
            | LogDriver::Syslog
            | LogDriver::Journald
            | LogDriver::Gelf
            | LogDriver::Fluentd),
        ) => broken(format!(
            "Fargate does not support log driver {driver}. The supported \
             log drivers are awslogs, splunk and awsfirelens."
        )),
    }
}

fn external(definition: &TaskDefinition) -> Result<(), RuleError> {
    if definition.network_mode == Some(NetworkMode::Awsvpc) {
        return broken(
            "The EXTERNAL launch type does not support networkMode=awsvpc.",
        );
    }
    if definition.proxy_configuration.is_some() {
        return broken(
            "The EXTERNAL launch type does not support proxyConfiguration.",
        );
    }
    let remote = list(&definition.volumes).iter().any(|volume| {
        volume.efs_volume_configuration.is_some()
            || volume.fsx_windows_file_server_volume_configuration.is_some()
    });
    if remote {
        return broken(
            "The EXTERNAL launch type does not support EFS and FSx volumes.",
        );
    }
    Ok(())
}

fn managed_instances(definition: &TaskDefinition) -> Result<(), RuleError> {
    match definition.network_mode {
        Some(NetworkMode::Awsvpc | NetworkMode::Host | NetworkMode::None) => {
            Ok(())
        }
        Some(NetworkMode::Bridge) | None => broken(
            "Amazon ECS Managed Instances support the network modes awsvpc, \
             host and none.",
        ),
    }
}
