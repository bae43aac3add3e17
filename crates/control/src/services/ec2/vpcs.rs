//! CreateVpc, DeleteVpc and the attributes of VPCs.

use std::sync::Arc;

use minato_store::{Key, Tx};
use minato_wire::ApiError;
use minato_wire::ec2::{
    AttributeBooleanValue, CreateVpcRequest, CreateVpcResult, DeleteVpcRequest,
    DescribeVpcAttributeRequest, DescribeVpcAttributeResult,
    ModifyVpcAttributeRequest, ResourceType, Tenancy, VpcAttributeName,
};

use super::defaults::{self, DEFAULT_GROUP, all_out_ipv6, default_group};
use super::describe::network;
use super::eni::hex_id;
use super::filter::{Ids, check_dry_run, error, missing};
use super::rows::{Cidr, Ipv6Block, SecurityGroupRow, SubnetRow, VpcRow};
use super::shape::describe_vpc;
use super::{change, ipv6, tags};
use crate::context::{Context, Scope};
use crate::services::Empty;

/// VPCs of an account in a region (VPC quotas).
const VPCS_MAX: usize = 5;

/// The form of a VPC's id, for errors.
pub(super) fn ids(given: &[String]) -> Ids<'_> {
    Ids { given, prefix: "vpc-", code: "InvalidVpcID", noun: "vpc ID" }
}

/// A VPC of the account in the region.
pub(super) fn find(
    tx: &Tx,
    within: &Key,
    id: &str,
) -> Result<Arc<VpcRow>, ApiError> {
    let found = tx.get::<VpcRow>(&within.with(id));
    ids(&[id.to_owned()]).check(|_| found.is_some())?;
    found.ok_or_else(|| error("InvalidVpcID.NotFound", id))
}

/// Refuses a parameter that would be without effect.
pub(super) fn refuse(is_given: bool, what: &str) -> Result<(), ApiError> {
    if is_given {
        let message = format!("Minato does not serve {what}.");
        return Err(error("UnsupportedOperation", message));
    }
    Ok(())
}

/// Reads a block of a VPC or a subnet.
pub(super) fn read_cidr(
    given: Option<&str>,
    range: &'static str,
) -> Result<Cidr, ApiError> {
    let Some(text) = given else {
        return Err(missing("cidrBlock"));
    };
    let cidr = Cidr::parse(text).ok_or_else(|| {
        error(
            "InvalidParameterValue",
            format!(
                "Value ({text}) for parameter cidrBlock is invalid. This is \
                 not a valid CIDR block."
            ),
        )
    })?;
    // "A block size must be between a /16 netmask and /28 netmask."
    if !(16..=28).contains(&cidr.prefix) {
        return Err(error(range, format!("The CIDR '{text}' is invalid.")));
    }
    Ok(cidr)
}

/// Ranges that no VPC can have: they are no unicast addresses.
const NOT_UNICAST: [&str; 4] =
    ["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"];

/// Refuses a range that something else of this Minato has.
fn check_free(tx: &Tx, cidr: Cidr, reserved: &[Cidr]) -> Result<(), ApiError> {
    let fixed = NOT_UNICAST.iter().filter_map(|text| Cidr::parse(text));
    if fixed.clone().any(|range| range.overlaps(cidr)) {
        return Err(error(
            "InvalidVpc.Range",
            format!("The CIDR '{cidr}' is invalid."),
        ));
    }
    let taken = |other: String| {
        error(
            "InvalidVpc.Range",
            format!(
                "The CIDR '{cidr}' overlaps {other}. The hosts of a Minato \
                 carry all its VPCs on one bridge, so no two may have the \
                 same addresses."
            ),
        )
    };
    if let Some(range) = reserved.iter().find(|it| it.overlaps(cidr)) {
        return Err(taken(format!("{range}, which bridge-mode tasks use")));
    }
    if defaults::VPC.overlaps(cidr) {
        let default = defaults::VPC;
        return Err(taken(format!("{default}, the range of default VPCs")));
    }
    match tx.scan::<VpcRow>(&Key::root()).find(|it| it.cidr.overlaps(cidr)) {
        Some(vpc) => Err(taken(format!("{} ({})", vpc.cidr, vpc.id))),
        None => Ok(()),
    }
}

/// Refuses what CreateVpc can ask for and Minato has not.
fn check_served(input: &CreateVpcRequest) -> Result<(), ApiError> {
    let has_ipam = input.ipv4_ipam_pool_id.is_some()
        || input.ipv4_netmask_length.is_some()
        || input.ipv6_ipam_pool_id.is_some()
        || input.ipv6_netmask_length.is_some();
    refuse(has_ipam, "IPAM pools")?;
    let control = input.vpc_encryption_control.is_some();
    refuse(control, "VPC encryption controls")?;
    let is_shared =
        matches!(input.instance_tenancy, None | Some(Tenancy::Default));
    refuse(!is_shared, "dedicated tenancy")
}

pub(super) async fn create_vpc(
    cx: &Context,
    scope: &Scope,
    input: CreateVpcRequest,
) -> Result<CreateVpcResult, ApiError> {
    check_dry_run(input.dry_run)?;
    check_served(&input)?;
    let has_ipv6 = ipv6::is_asked(
        &scope.region,
        input.amazon_provided_ipv6_cidr_block,
        input.ipv6_cidr_block.as_deref(),
        input.ipv6_pool.as_deref(),
        input.ipv6_cidr_block_network_border_group.as_deref(),
    )?;
    let cidr = read_cidr(input.cidr_block.as_deref(), "InvalidVpc.Range")?;
    let specifications = input.tag_specifications.as_deref();
    let tags = tags::of_new(specifications, &ResourceType::Vpc)?;
    let reserved: Vec<Cidr> = cx
        .config
        .reserved_ranges
        .iter()
        .filter_map(|range| Cidr::parse(range))
        .collect();
    let mut draw = cx.draw(8);
    let number = draw.next();
    let mut id = |kind: &str| hex_id(kind, draw.next());
    let vpc = (id("vpc"), id("vpc-cidr-assoc"));
    let group = (id("sg"), [id("sgr"), id("sgr")]);
    let for_ipv6 = (id("vpc-cidr-assoc"), id("sgr"));
    let (account, region) = (scope.account.clone(), scope.region.clone());
    let row = change(cx, scope, move |tx, within| {
        check_free(tx, cidr, &reserved)?;
        let known: Vec<_> = tx.scan::<VpcRow>(within).collect();
        if known.len() >= VPCS_MAX {
            return Err(error(
                "VpcLimitExceeded",
                "The maximum number of VPCs has been reached.",
            ));
        }
        let default = known.iter().find(|vpc| vpc.is_default);
        let (association_id, rule_id) = for_ipv6;
        let ipv6 = match has_ipv6 {
            true => {
                let cidr = ipv6::free_block(tx, number)?;
                Some(Ipv6Block { association_id, cidr })
            }
            false => None,
        };
        let row = VpcRow {
            account,
            region,
            id: vpc.0,
            cidr,
            is_default: false,
            dhcp_options_id: default
                .map(|vpc| vpc.dhcp_options_id.clone())
                .unwrap_or_default(),
            association_id: vpc.1,
            ipv6,
            dns_support: None,
            dns_hostnames: None,
            tags,
        };
        let mut group = default_group(&row, group.0, group.1);
        if has_ipv6 {
            group.rules.push(all_out_ipv6(rule_id));
        }
        tx.put(group);
        tx.put(row.clone());
        Ok(row)
    })
    .await?;
    Ok(CreateVpcResult { vpc: Some(describe_vpc(&row)) })
}

pub(super) async fn delete_vpc(
    cx: &Context,
    scope: &Scope,
    input: DeleteVpcRequest,
) -> Result<Empty, ApiError> {
    check_dry_run(input.dry_run)?;
    let id = input.vpc_id.unwrap_or_default();
    change(cx, scope, move |tx, within| {
        let vpc = find(tx, within, &id)?;
        if vpc.is_default {
            return Err(error(
                "OperationNotPermitted",
                format!(
                    "The vpc '{id}' is the default VPC, which a Minato always \
                     has."
                ),
            ));
        }
        let key = within.with(&id);
        let has_subnets =
            tx.by_index::<SubnetRow>(SubnetRow::BY_VPC, &key).next().is_some();
        let groups: Vec<_> = tx
            .by_index::<SecurityGroupRow>(SecurityGroupRow::BY_VPC, &key)
            .collect();
        let has_groups = groups.iter().any(|it| it.name != DEFAULT_GROUP);
        if has_subnets || has_groups {
            return Err(error(
                "DependencyViolation",
                format!(
                    "The vpc '{id}' has dependencies and cannot be deleted."
                ),
            ));
        }
        for group in groups {
            tx.delete::<SecurityGroupRow>(&within.with(&group.id));
        }
        tx.delete::<VpcRow>(&key);
        Ok(Empty {})
    })
    .await
}

pub(super) async fn describe_vpc_attribute(
    cx: &Context,
    scope: &Scope,
    input: DescribeVpcAttributeRequest,
) -> Result<DescribeVpcAttributeResult, ApiError> {
    check_dry_run(input.dry_run)?;
    let snapshot = network(cx, scope).await?;
    let id = input.vpc_id.unwrap_or_default();
    let key = Key::of([&scope.account, &scope.region, &id]);
    let row = snapshot.get::<VpcRow>(&key);
    ids(std::slice::from_ref(&id)).check(|_| row.is_some())?;
    let row = row.ok_or_else(|| error("InvalidVpcID.NotFound", id.clone()))?;
    let mut result = DescribeVpcAttributeResult {
        vpc_id: Some(id),
        ..DescribeVpcAttributeResult::default()
    };
    let value = |value| Some(AttributeBooleanValue { value: Some(value) });
    match input.attribute {
        Some(VpcAttributeName::EnableDnsSupport) => {
            result.enable_dns_support = value(row.dns_support.unwrap_or(true));
        }
        // On for default VPCs (VPC user guide, "DNS attributes").
        Some(VpcAttributeName::EnableDnsHostnames) => {
            let is_on = row.dns_hostnames.unwrap_or(row.is_default);
            result.enable_dns_hostnames = value(is_on);
        }
        Some(VpcAttributeName::EnableNetworkAddressUsageMetrics) => {
            result.enable_network_address_usage_metrics = value(false);
        }
        None => {
            return Err(missing("attribute"));
        }
    }
    Ok(result)
}

pub(super) async fn modify_vpc_attribute(
    cx: &Context,
    scope: &Scope,
    input: ModifyVpcAttributeRequest,
) -> Result<Empty, ApiError> {
    let wanted = |given: Option<AttributeBooleanValue>| given?.value;
    let metrics = wanted(input.enable_network_address_usage_metrics);
    refuse(metrics == Some(true), "network address usage metrics")?;
    let support = wanted(input.enable_dns_support);
    let hostnames = wanted(input.enable_dns_hostnames);
    // EC2 API reference: "You cannot modify the DNS resolution and DNS
    // hostnames attributes in the same request."
    if support.is_some() && hostnames.is_some() {
        return Err(error(
            "InvalidParameterCombination",
            "Fields for multiple attribute types specified: \
             enableDnsHostnames, enableDnsSupport",
        ));
    }
    if support.is_none() && hostnames.is_none() && metrics.is_none() {
        return Err(error(
            "MissingParameter",
            "The request must contain one attribute to modify",
        ));
    }
    let id = input.vpc_id.unwrap_or_default();
    change(cx, scope, move |tx, within| {
        let mut row = VpcRow::clone(&*find(tx, within, &id)?);
        row.dns_support = support.or(row.dns_support);
        row.dns_hostnames = hostnames.or(row.dns_hostnames);
        tx.put(row);
        Ok(Empty {})
    })
    .await
}
