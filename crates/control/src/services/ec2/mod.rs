//! Amazon EC2, as far as ECS's clients need it: the default network.

pub(crate) mod defaults;
mod describe;
pub(crate) mod eni;
#[cfg(test)]
mod eni_tests;
mod filter;
pub(crate) mod rows;
mod shape;
#[cfg(test)]
mod tests;

use minato_store::Tables;
use minato_wire::ApiError;

use super::operations;
use crate::coverage::Support;

/// The error of an operation that Minato does not serve.
fn unserved(message: String) -> ApiError {
    ApiError::new("UnsupportedOperation", 400, message)
}

/// Why all other operations are refused.
pub(crate) const OTHERS: &str =
    "of EC2, Minato serves what ECS's clients read: the default network";

operations! {
    served {
        "DescribeAvailabilityZones", Support::Full => describe::describe_availability_zones;
        "DescribeNetworkInterfaces", Support::Full => describe::describe_network_interfaces;
        "DescribeSecurityGroups", Support::Full => describe::describe_security_groups;
        "DescribeSubnets", Support::Full => describe::describe_subnets;
        "DescribeVpcs", Support::Full => describe::describe_vpcs;
    }
    refused {}
}

/// Adds EC2's tables.
pub(crate) fn tables(tables: Tables) -> Tables {
    tables
        .with::<rows::VpcRow>()
        .with::<rows::SubnetRow>()
        .with::<rows::SecurityGroupRow>()
        .with::<rows::EniRow>()
}
