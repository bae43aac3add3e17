//! CreateSubnet, DeleteSubnet, ModifySubnetAttribute.

use std::sync::Arc;

use minato_store::{Key, Tx};
use minato_wire::ApiError;
use minato_wire::ec2::{
    CreateSubnetRequest, CreateSubnetResult, DeleteSubnetRequest,
    ModifySubnetAttributeRequest, ResourceType,
};

use super::defaults::{ZONES, zone_id_stem};
use super::eni::{RESERVED_FIRST, hex_id};
use super::filter::{Ids, check_dry_run, error};
use super::rows::{Cidr, Cidr6, EniRow, Ipv6Block, SubnetRow, VpcRow};
use super::shape::describe_subnet;
use super::vpcs::{self, read_cidr, refuse};
use super::{change, ipv6, tags};
use crate::context::{Context, Scope};
use crate::services::Empty;

/// Subnets of a VPC (VPC quotas).
const SUBNETS_MAX: usize = 200;

/// The form of a subnet's id, for errors.
pub(super) fn ids(given: &[String]) -> Ids<'_> {
    Ids { given, prefix: "subnet-", code: "InvalidSubnetID", noun: "subnet ID" }
}

pub(super) fn find(
    tx: &Tx,
    within: &Key,
    id: &str,
) -> Result<Arc<SubnetRow>, ApiError> {
    let found = tx.get::<SubnetRow>(&within.with(id));
    ids(&[id.to_owned()]).check(|_| found.is_some())?;
    found.ok_or_else(|| error("InvalidSubnetID.NotFound", id))
}

/// Name and id of the zone asked for, or of the first.
fn zone(
    region: &str,
    name: Option<&str>,
    id: Option<&str>,
) -> Result<(String, String), ApiError> {
    if name.is_some() && id.is_some() {
        return Err(error(
            "InvalidParameterCombination",
            "The parameters AvailabilityZone and AvailabilityZoneId may not \
             be used together",
        ));
    }
    let zones = (1..).zip(ZONES).map(|(number, letter)| {
        let id = format!("{}-az{number}", zone_id_stem(region));
        (format!("{region}{letter}"), id)
    });
    let zones: Vec<(String, String)> = zones.collect();
    let fits = |zone: &&(String, String)| {
        name.is_none_or(|name| zone.0 == name)
            && id.is_none_or(|id| zone.1 == id)
    };
    zones.iter().find(fits).cloned().ok_or_else(|| {
        let names: Vec<&str> = zones.iter().map(|it| it.0.as_str()).collect();
        error(
            "InvalidParameterValue",
            format!(
                "Value ({}) for parameter availabilityZone is invalid. \
                 Subnets can currently only be created in the following \
                 availability zones: {}.",
                name.or(id).unwrap_or_default(),
                names.join(", ")
            ),
        )
    })
}

/// Refuses blocks that are not of the VPC, or that another subnet has.
fn check_room(
    tx: &Tx,
    within: &Key,
    vpc: &VpcRow,
    cidr: Cidr,
    block: Option<Cidr6>,
) -> Result<(), ApiError> {
    if !vpc.cidr.holds(cidr) {
        return Err(error(
            "InvalidSubnet.Range",
            format!("The CIDR '{cidr}' is invalid."),
        ));
    }
    let key = within.with(&vpc.id);
    let known: Vec<_> =
        tx.by_index::<SubnetRow>(SubnetRow::BY_VPC, &key).collect();
    if known.iter().any(|subnet| subnet.cidr.overlaps(cidr)) {
        return Err(error(
            "InvalidSubnet.Conflict",
            format!("The CIDR '{cidr}' conflicts with another subnet"),
        ));
    }
    if let Some(block) = block {
        ipv6::check_block(tx, within, vpc, block)?;
    }
    if known.len() >= SUBNETS_MAX {
        return Err(error(
            "SubnetLimitExceeded",
            "The maximum number of subnets has been reached.",
        ));
    }
    Ok(())
}

pub(super) async fn create_subnet(
    cx: &Context,
    scope: &Scope,
    input: CreateSubnetRequest,
) -> Result<CreateSubnetResult, ApiError> {
    check_dry_run(input.dry_run)?;
    refuse(input.ipv6_native == Some(true), "subnets without IPv4")?;
    refuse(input.outpost_arn.is_some(), "Outposts")?;
    let has_ipam = input.ipv4_ipam_pool_id.is_some()
        || input.ipv4_netmask_length.is_some()
        || input.ipv6_ipam_pool_id.is_some()
        || input.ipv6_netmask_length.is_some();
    refuse(has_ipam, "IPAM pools")?;
    let cidr = read_cidr(input.cidr_block.as_deref(), "InvalidSubnet.Range")?;
    let block = input.ipv6_cidr_block.as_deref();
    let block = block.map(ipv6::read_block).transpose()?;
    let (zone, zone_id) = zone(
        &scope.region,
        input.availability_zone.as_deref(),
        input.availability_zone_id.as_deref(),
    )?;
    let specifications = input.tag_specifications.as_deref();
    let mut draw = cx.draw(2);
    let mut row = SubnetRow {
        account: scope.account.clone(),
        region: scope.region.clone(),
        id: hex_id("subnet", draw.next()),
        vpc_id: input.vpc_id.unwrap_or_default(),
        cidr,
        zone,
        zone_id,
        default_for_zone: false,
        next_offset: RESERVED_FIRST,
        ipv6: block.map(|cidr| Ipv6Block {
            association_id: hex_id("subnet-cidr-assoc", draw.next()),
            cidr,
        }),
        // EC2 API reference, ModifySubnetAttribute: off unless it is set.
        assign_ipv6: false,
        map_public_ip: None,
        tags: tags::of_new(specifications, &ResourceType::Subnet)?,
    };
    let row = change(cx, scope, move |tx, within| {
        let vpc = vpcs::find(tx, within, &row.vpc_id)?;
        row.vpc_id.clone_from(&vpc.id);
        check_room(tx, within, &vpc, cidr, block)?;
        tx.put(row.clone());
        Ok(row)
    })
    .await?;
    let subnet = describe_subnet(&cx.snapshot(), &row);
    Ok(CreateSubnetResult { subnet: Some(subnet) })
}

pub(super) async fn delete_subnet(
    cx: &Context,
    scope: &Scope,
    input: DeleteSubnetRequest,
) -> Result<Empty, ApiError> {
    check_dry_run(input.dry_run)?;
    let id = input.subnet_id.unwrap_or_default();
    change(cx, scope, move |tx, within| {
        let subnet = find(tx, within, &id)?;
        if subnet.default_for_zone {
            return Err(error(
                "OperationNotPermitted",
                format!(
                    "The subnet '{id}' is a default subnet, which a Minato \
                     always has."
                ),
            ));
        }
        let key = within.with(&id);
        if tx.by_index::<EniRow>(EniRow::BY_SUBNET, &key).next().is_some() {
            return Err(error(
                "DependencyViolation",
                format!(
                    "The subnet '{id}' has dependencies and cannot be deleted."
                ),
            ));
        }
        tx.delete::<SubnetRow>(&key);
        Ok(Empty {})
    })
    .await
}

pub(super) async fn modify_subnet_attribute(
    cx: &Context,
    scope: &Scope,
    input: ModifySubnetAttributeRequest,
) -> Result<Empty, ApiError> {
    let is_on = |given: &Option<minato_wire::ec2::AttributeBooleanValue>| {
        given.as_ref().and_then(|given| given.value) == Some(true)
    };
    refuse(is_on(&input.enable_dns64), "DNS64")?;
    let outposts = is_on(&input.map_customer_owned_ip_on_launch)
        || input.customer_owned_ipv4_pool.is_some()
        || input.enable_lni_at_device_index.is_some()
        || is_on(&input.disable_lni_at_device_index);
    refuse(outposts, "Outposts")?;
    let names = is_on(&input.enable_resource_name_dns_a_record_on_launch)
        || is_on(&input.enable_resource_name_dns_aaaa_record_on_launch)
        || input
            .private_dns_hostname_type_on_launch
            .is_some_and(|it| it != minato_wire::ec2::HostnameType::IpName);
    refuse(names, "host names from resource names")?;
    let map = input.map_public_ip_on_launch.and_then(|given| given.value);
    let assign =
        input.assign_ipv6_address_on_creation.and_then(|given| given.value);
    let id = input.subnet_id.unwrap_or_default();
    change(cx, scope, move |tx, within| {
        let mut row = SubnetRow::clone(&*find(tx, within, &id)?);
        if assign == Some(true) && row.ipv6.is_none() {
            return Err(error(
                "InvalidParameterValue",
                format!(
                    "Invalid value 'true' for assignIpv6AddressOnCreation.                      The subnet '{id}' has no IPv6 CIDR block."
                ),
            ));
        }
        row.assign_ipv6 = assign.unwrap_or(row.assign_ipv6);
        row.map_public_ip = map.or(row.map_public_ip);
        tx.put(row);
        Ok(Empty {})
    })
    .await
}
