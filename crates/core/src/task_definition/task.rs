//! Rules of the task as a whole.

use minato_wire::ecs::{
    Compatibility, NetworkMode, OSFamily, RegisterTaskDefinitionRequest,
    TaskDefinition, TaskDefinitionPlacementConstraintType,
};

use super::normalise::{BAD_CPU, BAD_MEMORY};
use super::{
    CONSTRAINTS_MAX, SIZE_BYTES_MAX, containers, find, list, name, text, units,
};
use crate::name::is_name;
use crate::query::Expression;
use crate::rule::RuleError;

/// The sizes of task-level `cpu` outside Fargate.
const CPU_UNITS: std::ops::RangeInclusive<u32> = 128..=196_608;

/// The least memory the agent gives a container, and so a task.
const MEMORY_MIB_MIN: u32 = 4;

/// The sizes of Fargate's ephemeral storage, in GiB.
const EPHEMERAL_GIB: std::ops::RangeInclusive<i32> = 21..=200;

pub(super) fn length(
    request: &RegisterTaskDefinitionRequest,
) -> Result<(), RuleError> {
    let length = serde_json::to_vec(request).map_or(0, |json| json.len());
    if length > SIZE_BYTES_MAX {
        return Err(RuleError::client(format!(
            "Actual length: '{length}'. Max allowed length is \
             '{SIZE_BYTES_MAX}' bytes."
        )));
    }
    Ok(())
}

pub(super) fn family(definition: &TaskDefinition) -> Result<(), RuleError> {
    let family = text(&definition.family);
    if family.is_empty() {
        return Err(RuleError::client("Family should not be null or empty."));
    }
    if !is_name(family) {
        return Err(RuleError::client("Family contains invalid characters."));
    }
    Ok(())
}

pub(super) fn roles(definition: &TaskDefinition) -> Result<(), RuleError> {
    let roles = [&definition.task_role_arn, &definition.execution_role_arn];
    if roles.into_iter().flatten().all(|role| is_role(role)) {
        return Ok(());
    }
    Err(RuleError::client("Role is not valid"))
}

/// Whether it is a role's ARN or name (API reference: "the short name or full
/// ARN"). An absent role is often sent as an empty text.
///
/// AWS looks the role up, and so refuses a placeholder for the account, too;
/// here no role need exist, and published definitions are full of those.
fn is_role(role: &str) -> bool {
    const NAME_LENGTH_MAX: usize = 64;
    const PATH_LENGTH_MAX: usize = 512;
    let is_word = |word: &str, more: &[u8]| {
        !word.is_empty()
            && word
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || more.contains(&b))
    };
    // The letters of a role's name (IAM API reference, CreateRole).
    let is_path = |path: &str, most: usize, more: &[u8]| {
        path.len() <= most && is_word(path, more)
    };
    if role.is_empty() || is_path(role, NAME_LENGTH_MAX, b"_+=,.@-") {
        return true;
    }
    let parts: Vec<&str> = role.splitn(6, ':').collect();
    let &[arn, partition, service, region, account, resource] =
        parts.as_slice()
    else {
        return false;
    };
    let path = resource.strip_prefix("role/");
    arn == "arn"
        && is_word(partition, b"-")
        && service == "iam"
        && region.is_empty()
        && is_word(account, b"_-")
        && path.is_some_and(|path| {
            !path.ends_with('/') && is_path(path, PATH_LENGTH_MAX, b"_+=,.@-/")
        })
}

/// Whether the sizes of the task are amounts; a definition's are read before
/// its rules are asked, those of a call are not.
pub(super) fn readable_sizes(
    definition: &TaskDefinition,
) -> Result<(), RuleError> {
    let bad = |text: &Option<String>, read: fn(&str) -> Option<u32>| {
        text.as_deref().is_some_and(|text| read(text).is_none())
    };
    if bad(&definition.cpu, units::cpu_units) {
        return Err(RuleError::client(BAD_CPU));
    }
    if bad(&definition.memory, units::memory_mib) {
        return Err(RuleError::client(BAD_MEMORY));
    }
    Ok(())
}

pub(super) fn sizes(definition: &TaskDefinition) -> Result<(), RuleError> {
    let task_cpu = definition.cpu.as_deref().and_then(units::cpu_units);
    let task_memory = definition.memory.as_deref().and_then(units::memory_mib);
    if task_cpu.is_some_and(|cpu| !CPU_UNITS.contains(&cpu)) {
        return Err(RuleError::client(BAD_CPU));
    }
    if task_memory.is_some_and(|memory| memory < MEMORY_MIB_MIN) {
        return Err(RuleError::client(BAD_MEMORY));
    }
    let (mut cpu, mut memory) = (0_i64, 0_i64);
    for container in containers(definition) {
        let hard = container.memory.map(i64::from);
        cpu += i64::from(container.cpu.unwrap_or(0));
        memory +=
            container.memory_reservation.map(i64::from).or(hard).unwrap_or(0);
        if let (Some(hard), Some(limit)) = (hard, task_memory)
            && hard > i64::from(limit)
        {
            return Err(RuleError::client(format!(
                "Invalid setting for container '{}'. 'memory' ({hard}) must \
                 not be greater than the memory of the task ({limit}).",
                name(container)
            )));
        }
    }
    if let Some(limit) = task_cpu
        && cpu > i64::from(limit)
    {
        return Err(RuleError::client(format!(
            "The 'cpu' of all containers ({cpu}) must not be greater than \
             the cpu of the task ({limit})."
        )));
    }
    if let Some(limit) = task_memory
        && memory > i64::from(limit)
    {
        return Err(RuleError::client(format!(
            "The memory reserved by all containers ({memory}) must not be \
             greater than the memory of the task ({limit})."
        )));
    }
    Ok(())
}

pub(super) fn modes(definition: &TaskDefinition) -> Result<(), RuleError> {
    let mode = definition.network_mode;
    if definition.enable_fault_injection == Some(true)
        && !matches!(mode, Some(NetworkMode::Awsvpc | NetworkMode::Host))
    {
        return Err(RuleError::client(
            "enableFaultInjection is only supported when networkMode=awsvpc \
             or networkMode=host.",
        ));
    }
    if let Some(storage) = &definition.ephemeral_storage {
        let size = storage.size_in_gi_b.unwrap_or(0);
        if !EPHEMERAL_GIB.contains(&size) {
            return Err(RuleError::client(
                "The ephemeral storage size must be between 21 GiB and 200 \
                 GiB.",
            ));
        }
        let required = list(&definition.requires_compatibilities);
        if !required.is_empty() && !required.contains(&Compatibility::Fargate) {
            return Err(RuleError::client(
                "ephemeralStorage is only supported for tasks that use the \
                 Fargate launch type.",
            ));
        }
    }
    Ok(())
}

pub(super) fn platform(definition: &TaskDefinition) -> Result<(), RuleError> {
    if !is_windows(definition) {
        return Ok(());
    }
    if definition.ipc_mode.is_some() || definition.pid_mode.is_some() {
        return Err(RuleError::client(
            "ipcMode and pidMode are not supported for Windows containers.",
        ));
    }
    let linux = containers(definition)
        .iter()
        .find(|container| container.linux_parameters.is_some());
    if let Some(container) = linux {
        return Err(RuleError::client(format!(
            "Invalid setting for container '{}'. 'linuxParameters' is not \
             supported for Windows containers.",
            name(container)
        )));
    }
    Ok(())
}

/// Whether the definition asks for Windows.
pub(super) fn is_windows(definition: &TaskDefinition) -> bool {
    definition
        .runtime_platform
        .as_ref()
        .and_then(|platform| platform.operating_system_family)
        .is_some_and(|family| family != OSFamily::Linux)
}

pub(super) fn constraints(
    definition: &TaskDefinition,
) -> Result<(), RuleError> {
    let constraints = list(&definition.placement_constraints);
    if constraints.len() > CONSTRAINTS_MAX {
        return Err(RuleError::client(format!(
            "The number of placement constraints must not exceed \
             {CONSTRAINTS_MAX}."
        )));
    }
    for constraint in constraints {
        let Some(TaskDefinitionPlacementConstraintType::MemberOf) =
            constraint.r#type
        else {
            return Err(RuleError::client(
                "The type of a placement constraint should be one of \
                 [memberOf].",
            ));
        };
        if let Err(error) = Expression::parse(text(&constraint.expression)) {
            return Err(RuleError::client(format!(
                "Invalid expression in placement constraint: {error}"
            )));
        }
    }
    Ok(())
}

pub(super) fn accelerators(
    definition: &TaskDefinition,
) -> Result<(), RuleError> {
    let mut seen = std::collections::BTreeSet::new();
    for accelerator in list(&definition.inference_accelerators) {
        let device = text(&accelerator.device_name);
        if device.is_empty() || text(&accelerator.device_type).is_empty() {
            return Err(RuleError::client(
                "InferenceAccelerator.deviceName and deviceType should not \
                 be null or empty.",
            ));
        }
        if !seen.insert(device) {
            return Err(RuleError::client(format!(
                "Duplicate inference accelerator device name '{device}'."
            )));
        }
    }
    Ok(())
}

pub(super) fn proxy(definition: &TaskDefinition) -> Result<(), RuleError> {
    let Some(proxy) = &definition.proxy_configuration else {
        return Ok(());
    };
    if definition.network_mode != Some(NetworkMode::Awsvpc) {
        return Err(RuleError::client(
            "proxyConfiguration is only supported when networkMode=awsvpc.",
        ));
    }
    let container = text(&proxy.container_name);
    if find(definition, container).is_none() {
        return Err(RuleError::client(format!(
            "The proxyConfiguration container '{container}' is not a \
             container in the task definition."
        )));
    }
    let has = |wanted: &str| {
        list(&proxy.properties).iter().any(|property| {
            text(&property.name) == wanted && !text(&property.value).is_empty()
        })
    };
    if !has("IgnoredUID") && !has("IgnoredGID") {
        return Err(RuleError::client(
            "At least one of the proxyConfiguration properties 'IgnoredUID' \
             and 'IgnoredGID' must be specified.",
        ));
    }
    for wanted in ["AppPorts", "ProxyIngressPort", "ProxyEgressPort"] {
        if !has(wanted) {
            return Err(RuleError::client(format!(
                "The proxyConfiguration property '{wanted}' must be \
                 specified."
            )));
        }
    }
    Ok(())
}
