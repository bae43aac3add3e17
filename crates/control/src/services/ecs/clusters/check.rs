//! What may be said of a cluster.

use minato_core::capacity;
use minato_wire::ApiError;
use minato_wire::ecs::{
    ClusterConfiguration, ClusterServiceConnectDefaultsRequest, ClusterSetting,
    ClusterSettingName, ExecuteCommandLogConfiguration, ExecuteCommandLogging,
    error,
};

use super::super::capacity_providers;
use super::super::lookup::Read;
use crate::context::Scope;

/// The values of `containerInsights`.
pub(super) const INSIGHTS: [&str; 3] = ["enhanced", "enabled", "disabled"];

/// Checks settings; the default stands where none is given.
pub(super) fn settings(
    given: &[ClusterSetting],
    default: Option<String>,
) -> Result<Vec<ClusterSetting>, ApiError> {
    let mut value = default;
    for setting in given {
        let Some(ClusterSettingName::ContainerInsights) = setting.name else {
            return Err(error::invalid_parameter_exception(
                "Setting name should be one of [containerInsights].",
            ));
        };
        let wanted = setting.value.as_deref().unwrap_or_default();
        if !INSIGHTS.contains(&wanted) {
            return Err(error::invalid_parameter_exception(format!(
                "Setting value {wanted} is invalid for containerInsights. It \
                 should be one of [enhanced,enabled,disabled]."
            )));
        }
        value = Some(wanted.to_owned());
    }
    Ok(value
        .into_iter()
        .map(|value| ClusterSetting {
            name: Some(ClusterSettingName::ContainerInsights),
            value: Some(value),
        })
        .collect())
}

pub(super) fn configuration(
    given: Option<ClusterConfiguration>,
) -> Result<Option<ClusterConfiguration>, ApiError> {
    let Some(mut configuration) = given else { return Ok(None) };
    if configuration.managed_storage_configuration.is_some() {
        return Err(error::invalid_parameter_exception(
            "Minato does not encrypt managed storage with keys of its own: \
             managedStorageConfiguration is not supported.",
        ));
    }
    if let Some(exec) = &mut configuration.execute_command_configuration {
        let logging =
            *exec.logging.get_or_insert(ExecuteCommandLogging::Default);
        let has_log = exec.log_configuration.is_some();
        if (logging == ExecuteCommandLogging::Override) != has_log {
            return Err(error::invalid_parameter_exception(
                "The execute command logConfiguration must be specified if \
                 and only if logging is OVERRIDE.",
            ));
        }
        if let Some(to) = &exec.log_configuration {
            log_configuration(to)?;
        }
    }
    Ok(Some(configuration))
}

/// A log configuration names a place, and says nothing of one that it does
/// not name.
fn log_configuration(
    to: &ExecuteCommandLogConfiguration,
) -> Result<(), ApiError> {
    let is_named = |name: &Option<String>| {
        name.as_deref().is_some_and(|name| !name.is_empty())
    };
    let has_group = is_named(&to.cloud_watch_log_group_name);
    let has_bucket = is_named(&to.s3_bucket_name);
    let of_group = to.cloud_watch_encryption_enabled == Some(true);
    let of_bucket =
        to.s3_encryption_enabled == Some(true) || is_named(&to.s3_key_prefix);
    let has_place = has_group || has_bucket;
    let is_for_none = (of_group && !has_group) || (of_bucket && !has_bucket);
    if !has_place || is_for_none {
        return Err(error::invalid_parameter_exception(
            "The execute command logConfiguration must name a \
             cloudWatchLogGroupName or an s3BucketName, and the one whose \
             encryption or key prefix it sets.",
        ));
    }
    Ok(())
}

/// There are no Cloud Map namespaces here yet; clearing one is fine.
pub(super) fn namespace(
    given: Option<&ClusterServiceConnectDefaultsRequest>,
) -> Result<(), ApiError> {
    let namespace = given.and_then(|given| given.namespace.as_deref());
    match namespace {
        None | Some("") => Ok(()),
        Some(namespace) => Err(error::namespace_not_found_exception(format!(
            "The namespace {namespace} was not found: Minato has no Cloud \
             Map namespaces yet."
        ))),
    }
}

/// The most capacity providers of a cluster (API reference,
/// PutClusterCapacityProviders).
const PROVIDERS_MAX: usize = 20;

/// The names of capacity providers, all of which must exist.
pub(super) fn providers(
    rows: &impl Read,
    scope: &Scope,
    given: &[String],
) -> Result<Vec<String>, ApiError> {
    let mut names: Vec<String> = vec![];
    for given in given {
        let name = capacity::provider_name(given);
        let is_known = capacity::is_fargate(name)
            || capacity_providers::find(rows, scope, given).is_some();
        if !is_known {
            return Err(error::invalid_parameter_exception(format!(
                "The specified capacity provider was not found: {name}. \
                 Specify a valid capacity provider name and try again."
            )));
        }
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    if names.len() > PROVIDERS_MAX {
        return Err(error::invalid_parameter_exception(format!(
            "A cluster cannot have more than {PROVIDERS_MAX} capacity \
             providers."
        )));
    }
    Ok(names)
}
