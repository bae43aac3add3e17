//! Which kind of capacity a call asks for.

use minato_wire::ApiError;
use minato_wire::ecs::{
    CapacityProviderStrategyItem, LaunchType, RunTaskRequest, error,
};

use crate::tables::Cluster;

/// Launch type and capacity provider of the tasks of a call.
///
/// Order: what the call says, the cluster's default strategy, EC2 (API
/// reference, RunTask `launchType`).
pub(super) fn choose(
    cluster: &Cluster,
    input: &RunTaskRequest,
) -> Result<(LaunchType, Option<String>), ApiError> {
    let strategy = input.capacity_provider_strategy.as_deref();
    let strategy = strategy.filter(|items| !items.is_empty());
    match (input.launch_type, strategy) {
        (Some(_), Some(_)) => Err(error::invalid_parameter_exception(
            "Specifying both a launch type and capacity provider strategy is \
             not supported. Remove one and try again.",
        )),
        (Some(launch_type), None) => Ok((launch_type, None)),
        (None, Some(items)) => provider(cluster, items),
        (None, None) => {
            let items = &cluster.default_capacity_provider_strategy;
            if items.is_empty() {
                return Ok((LaunchType::Ec2, None));
            }
            provider(cluster, items)
        }
    }
}

/// The provider with the largest share. Both providers that exist so far,
/// FARGATE and FARGATE_SPOT, use the same hosts.
fn provider(
    cluster: &Cluster,
    items: &[CapacityProviderStrategyItem],
) -> Result<(LaunchType, Option<String>), ApiError> {
    for item in items {
        let name = item.capacity_provider.as_deref().unwrap_or_default();
        if !cluster.capacity_providers.iter().any(|known| known == name) {
            return Err(error::invalid_parameter_exception(format!(
                "The specified capacity provider strategy cannot contain a \
                 capacity provider that is not associated with the cluster. \
                 Associate the capacity provider with the cluster and try \
                 again: {name}"
            )));
        }
    }
    let share = |item: &&CapacityProviderStrategyItem| {
        (item.base.unwrap_or(0), item.weight.unwrap_or(0))
    };
    let largest = items.iter().max_by_key(share);
    match largest {
        Some(item) if share(&item) != (0, 0) => {
            Ok((LaunchType::Fargate, item.capacity_provider.clone()))
        }
        _ => Err(error::invalid_parameter_exception(
            "The specified capacity provider strategy must have a capacity \
             provider with a weight greater than 0.",
        )),
    }
}
