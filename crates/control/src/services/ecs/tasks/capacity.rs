//! Which kind of capacity a call asks for.

use minato_core::capacity::{self, Share};
use minato_wire::ApiError;
use minato_wire::ecs::{CapacityProviderStrategyItem, LaunchType, error};

use crate::tables::Cluster;

/// What a call's tasks run on.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) launch_type: LaunchType,
    /// The strategy that decides, if one does.
    pub(crate) strategy: Vec<Share>,
}

impl Choice {
    /// The capacity provider of each of `count` tasks; none where no strategy
    /// decides.
    pub(super) fn providers(&self, count: u32) -> Vec<String> {
        let parts = capacity::distribute(&self.strategy, count);
        let mut providers = vec![];
        for (share, part) in self.strategy.iter().zip(parts) {
            for _ in 0..part {
                providers.push(share.provider.clone());
            }
        }
        providers
    }
}

/// Launch type and capacity providers of the tasks of a call.
///
/// Order: what the call says, the cluster's default strategy, EC2 (API
/// reference, RunTask `launchType`).
pub(crate) fn choose(
    cluster: &Cluster,
    launch_type: Option<LaunchType>,
    strategy: Option<&[CapacityProviderStrategyItem]>,
) -> Result<Choice, ApiError> {
    let plain = |launch_type| Choice { launch_type, strategy: vec![] };
    let strategy = strategy.filter(|items| !items.is_empty());
    match (launch_type, strategy) {
        (Some(_), Some(_)) => Err(error::invalid_parameter_exception(
            "Specifying both a launch type and capacity provider strategy is \
             not supported. Remove one and try again.",
        )),
        (Some(launch_type), None) => Ok(plain(launch_type)),
        (None, Some(items)) => by_strategy(cluster, items),
        (None, None) => {
            let items = &cluster.default_capacity_provider_strategy;
            if items.is_empty() {
                return Ok(plain(LaunchType::Ec2));
            }
            by_strategy(cluster, items)
        }
    }
}

/// A strategy's providers are all Fargate's or all of EC2 instances.
fn by_strategy(
    cluster: &Cluster,
    items: &[CapacityProviderStrategyItem],
) -> Result<Choice, ApiError> {
    let strategy = capacity::strategy(items, &cluster.capacity_providers)?;
    let mut providers = strategy.iter().map(|share| share.provider.as_str());
    let launch_type = if providers.any(capacity::is_fargate) {
        LaunchType::Fargate
    } else {
        LaunchType::Ec2
    };
    Ok(Choice { launch_type, strategy })
}
