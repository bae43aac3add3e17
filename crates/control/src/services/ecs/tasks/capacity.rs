//! Which kind of capacity a call asks for.

use minato_core::capacity;
use minato_wire::ApiError;
use minato_wire::ecs::{
    CapacityProviderStrategyItem, LaunchType, RunTaskRequest, error,
};

use crate::tables::Cluster;

/// What a call's tasks run on.
#[derive(Debug)]
pub(super) struct Choice {
    pub(super) launch_type: LaunchType,
    /// Each task's capacity provider, where a strategy decides; else none.
    pub(super) providers: Vec<String>,
}

/// Launch type and capacity providers of the tasks of a call.
///
/// Order: what the call says, the cluster's default strategy, EC2 (API
/// reference, RunTask `launchType`).
pub(super) fn choose(
    cluster: &Cluster,
    input: &RunTaskRequest,
) -> Result<Choice, ApiError> {
    let plain = |launch_type| Choice { launch_type, providers: vec![] };
    let count = u32::try_from(input.count.unwrap_or(1)).unwrap_or(1);
    let strategy = input.capacity_provider_strategy.as_deref();
    let strategy = strategy.filter(|items| !items.is_empty());
    match (input.launch_type, strategy) {
        (Some(_), Some(_)) => Err(error::invalid_parameter_exception(
            "Specifying both a launch type and capacity provider strategy is \
             not supported. Remove one and try again.",
        )),
        (Some(launch_type), None) => Ok(plain(launch_type)),
        (None, Some(items)) => by_strategy(cluster, items, count),
        (None, None) => {
            let items = &cluster.default_capacity_provider_strategy;
            if items.is_empty() {
                return Ok(plain(LaunchType::Ec2));
            }
            by_strategy(cluster, items, count)
        }
    }
}

/// Shares the tasks out. All providers that exist so far, FARGATE and
/// FARGATE_SPOT, are Fargate's.
fn by_strategy(
    cluster: &Cluster,
    items: &[CapacityProviderStrategyItem],
    count: u32,
) -> Result<Choice, ApiError> {
    let shares = capacity::strategy(items, &cluster.capacity_providers)?;
    let parts = capacity::distribute(&shares, count);
    let mut providers = vec![];
    for (share, part) in shares.iter().zip(parts) {
        for _ in 0..part {
            providers.push(share.provider.clone());
        }
    }
    Ok(Choice { launch_type: LaunchType::Fargate, providers })
}
