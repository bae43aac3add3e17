//! Amazon EC2, as far as ECS's clients need it: VPCs, subnets, security
//! groups and the interfaces of tasks.

#[cfg(test)]
mod change_tests;
pub(crate) mod defaults;
mod describe;
pub(crate) mod eni;
#[cfg(test)]
mod eni_tests;
mod filter;
mod groups;
mod ipv6;
#[cfg(test)]
mod ipv6_tests;
mod permission;
mod routing;
pub(crate) mod rows;
mod rules;
mod shape;
mod subnets;
mod tags;
#[cfg(test)]
mod tests;
pub(crate) mod volumes;
mod vpcs;

use minato_store::{Key, Row, Tables, Tx};
use minato_wire::ApiError;

use super::operations;
use crate::context::{Context, Scope};
use crate::coverage::Support;

/// The error of an operation that Minato does not serve.
fn unserved(message: String) -> ApiError {
    ApiError::new("UnsupportedOperation", 400, message)
}

/// Why all other operations are refused.
pub(crate) const OTHERS: &str = "of EC2, Minato serves what ECS's tasks need: \
    VPCs, subnets, security groups, network interfaces, and their volumes";

const RULES: Support = Support::Partial(
    "no prefix lists, and no groups of other accounts or peered VPCs",
);
const TAGS: Support = Support::Partial(
    "of VPCs, subnets, security groups, their rules and network interfaces",
);
const DERIVED: Support = Support::Partial(
    "shows what each VPC has by itself; none can be made or changed, and \
     what tasks reach is up to security groups and the host",
);

operations! {
    served {
        "AssociateSubnetCidrBlock", Support::Full => ipv6::associate_subnet_cidr_block;
        "AssociateVpcCidrBlock", Support::Partial("one IPv6 block of a Minato's own range; no second IPv4 block, IPAM or address pools") => ipv6::associate_vpc_cidr_block;
        "AuthorizeSecurityGroupEgress", RULES => rules::authorize_security_group_egress;
        "AuthorizeSecurityGroupIngress", RULES => rules::authorize_security_group_ingress;
        "CreateSecurityGroup", Support::Full => groups::create_security_group;
        "CreateSubnet", Support::Partial("no subnets without IPv4, no IPAM or Outposts") => subnets::create_subnet;
        "CreateTags", TAGS => tags::create_tags;
        "CreateVpc", Support::Partial("IPv6 blocks are unique local ones; no IPAM, address pools or dedicated tenancy; no two VPCs of a Minato may overlap") => vpcs::create_vpc;
        "DeleteSecurityGroup", Support::Full => groups::delete_security_group;
        "DeleteSubnet", Support::Partial("not the default subnets") => subnets::delete_subnet;
        "DeleteTags", TAGS => tags::delete_tags;
        "DeleteVolume", Support::Full => volumes::delete_volume;
        "DeleteVpc", Support::Partial("not the default VPC") => vpcs::delete_vpc;
        "DescribeAvailabilityZones", Support::Full => describe::describe_availability_zones;
        "DescribeInternetGateways", DERIVED => routing::describe_internet_gateways;
        "DescribeNetworkAcls", DERIVED => routing::describe_network_acls;
        "DescribeNetworkInterfaces", Support::Full => describe::describe_network_interfaces;
        "DescribeRouteTables", DERIVED => routing::describe_route_tables;
        "DescribeSecurityGroupRules", Support::Full => rules::describe_security_group_rules;
        "DescribeSecurityGroups", Support::Full => groups::describe_security_groups;
        "DescribeSubnets", Support::Full => describe::describe_subnets;
        "DescribeTags", TAGS => tags::describe_tags;
        "DescribeVolumes", Support::Partial("only volumes that ECS made for its tasks") => volumes::describe_volumes;
        "DescribeVpcAttribute", Support::Full => vpcs::describe_vpc_attribute;
        "DescribeVpcs", Support::Full => describe::describe_vpcs;
        "DisassociateSubnetCidrBlock", Support::Full => ipv6::disassociate_subnet_cidr_block;
        "DisassociateVpcCidrBlock", Support::Full => ipv6::disassociate_vpc_cidr_block;
        "ModifySecurityGroupRules", RULES => rules::modify_security_group_rules;
        "ModifySubnetAttribute", Support::Partial("assignIpv6AddressOnCreation; mapPublicIpOnLaunch, recorded: tasks have no second, public address") => subnets::modify_subnet_attribute;
        "ModifyVpcAttribute", Support::Partial("enableDnsSupport and enableDnsHostnames, recorded: tasks use the host's resolver") => vpcs::modify_vpc_attribute;
        "RevokeSecurityGroupEgress", Support::Full => rules::revoke_security_group_egress;
        "RevokeSecurityGroupIngress", Support::Full => rules::revoke_security_group_ingress;
        "UpdateSecurityGroupRuleDescriptionsEgress", Support::Full => rules::update_security_group_rule_descriptions_egress;
        "UpdateSecurityGroupRuleDescriptionsIngress", Support::Full => rules::update_security_group_rule_descriptions_ingress;
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
        .with::<volumes::VolumeRow>()
        .migrate(rows::SecurityGroupRow::TABLE, 1, defaults::with_rules)
}

/// Runs a change of an account's networks in a region, whose default one is
/// there; `change` gets the prefix of the keys of their rows.
async fn change<T: Send + 'static>(
    cx: &Context,
    scope: &Scope,
    change: impl FnOnce(&mut Tx, &Key) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let (account, region) = (scope.account.clone(), scope.region.clone());
    cx.transact(move |tx| {
        defaults::ensure(tx, &account, &region);
        change(tx, &Key::of([&account, &region]))
    })
    .await
}
