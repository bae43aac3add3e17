//! DescribeVpcs, DescribeSubnets, DescribeNetworkInterfaces,
//! DescribeAvailabilityZones.

use std::sync::Arc;

use minato_store::{Key, Row, Snapshot};
use minato_wire::ApiError;
use minato_wire::ec2::{
    AvailabilityZone, AvailabilityZoneOptInStatus, AvailabilityZoneState,
    DescribeAvailabilityZonesRequest, DescribeAvailabilityZonesResult,
    DescribeNetworkInterfacesRequest, DescribeNetworkInterfacesResult,
    DescribeSubnetsRequest, DescribeSubnetsResult, DescribeVpcsRequest,
    DescribeVpcsResult, Filter,
};

use super::defaults::{ZONES, ensure, exists, zone_id_stem};
use super::filter::{Ids, check_dry_run, error, page, passes};
use super::rows::{EniRow, Ipv6Block, SecurityGroupRow, SubnetRow, VpcRow};
use super::shape::{self, describe_eni, describe_subnet};
use super::{subnets, tags, vpcs};
use crate::context::{Context, Scope};

/// The state with the account's default network in it.
pub(super) async fn network(
    cx: &Context,
    scope: &Scope,
) -> Result<Snapshot, ApiError> {
    let snapshot = cx.snapshot();
    if exists(&snapshot, &scope.account, &scope.region) {
        return Ok(snapshot);
    }
    let (account, region) = (scope.account.clone(), scope.region.clone());
    cx.transact(move |tx| {
        ensure(tx, &account, &region);
        Ok(())
    })
    .await?;
    Ok(cx.snapshot())
}

/// The account's rows in the region that are asked for by id and filters.
pub(super) fn select<R: Row>(
    snapshot: &Snapshot,
    scope: &Scope,
    ids: &Ids<'_>,
    filters: Option<&[Filter]>,
    id_of: impl Fn(&R) -> &str,
    values_of: impl Fn(&R, &str) -> Option<Vec<String>>,
) -> Result<Vec<Arc<R>>, ApiError> {
    let all: Vec<Arc<R>> =
        snapshot.scan::<R>(&Key::of([&scope.account, &scope.region])).collect();
    ids.check(|id| all.iter().any(|row| id_of(row) == id))?;
    let filters = filters.unwrap_or_default();
    let mut found = vec![];
    for row in all {
        let fits = passes(filters, |name| values_of(&row, name))?;
        if fits && ids.holds(id_of(&row)) {
            found.push(row);
        }
    }
    Ok(found)
}

pub(super) fn one(text: impl Into<String>) -> Option<Vec<String>> {
    Some(vec![text.into()])
}

pub(super) async fn describe_vpcs(
    cx: &Context,
    scope: &Scope,
    input: DescribeVpcsRequest,
) -> Result<DescribeVpcsResult, ApiError> {
    check_dry_run(input.dry_run)?;
    let snapshot = network(cx, scope).await?;
    let ids = vpcs::ids(input.vpc_ids.as_deref().unwrap_or_default());
    let filters = input.filters.as_deref();
    let values = |row: &VpcRow, name: &str| match name {
        "cidr" | "cidr-block-association.cidr-block" => {
            one(row.cidr.to_string())
        }
        "cidr-block-association.association-id" => one(&row.association_id),
        "cidr-block-association.state" => one("associated"),
        "ipv6-cidr-block-association.ipv6-cidr-block" => {
            Some(row.ipv6.iter().map(|it| it.cidr.to_string()).collect())
        }
        "ipv6-cidr-block-association.ipv6-pool" => {
            Some(row.ipv6.iter().map(|_| "Amazon".to_owned()).collect())
        }
        "ipv6-cidr-block-association.association-id" => {
            Some(association_ids(row.ipv6.as_ref()))
        }
        "ipv6-cidr-block-association.state" => {
            Some(association_states(row.ipv6.as_ref()))
        }
        "dhcp-options-id" => one(&row.dhcp_options_id),
        "is-default" | "isDefault" => one(row.is_default.to_string()),
        "owner-id" => one(&row.account),
        "state" => one("available"),
        "vpc-id" => one(&row.id),
        name => tags::values(&row.tags, name),
    };
    let found = select(&snapshot, scope, &ids, filters, |r| &r.id, values)?;
    let token = input.next_token.as_deref();
    let (found, next_token) =
        page(found, |r| &r.id, &ids, input.max_results, token)?;
    let vpcs = found.iter().map(|row| shape::describe_vpc(row)).collect();
    Ok(DescribeVpcsResult { vpcs: Some(vpcs), next_token })
}

fn association_ids(block: Option<&Ipv6Block>) -> Vec<String> {
    block.iter().map(|block| block.association_id.clone()).collect()
}

fn association_states(block: Option<&Ipv6Block>) -> Vec<String> {
    block.iter().map(|_| "associated".to_owned()).collect()
}

pub(super) async fn describe_subnets(
    cx: &Context,
    scope: &Scope,
    input: DescribeSubnetsRequest,
) -> Result<DescribeSubnetsResult, ApiError> {
    check_dry_run(input.dry_run)?;
    let snapshot = network(cx, scope).await?;
    let ids = subnets::ids(input.subnet_ids.as_deref().unwrap_or_default());
    let filters = input.filters.as_deref();
    let values = |row: &SubnetRow, name: &str| match name {
        "availability-zone" | "availabilityZone" => one(&row.zone),
        "availability-zone-id" | "availabilityZoneId" => one(&row.zone_id),
        "available-ip-address-count" => {
            one(shape::free_addresses(&snapshot, row).to_string())
        }
        "cidr" | "cidrBlock" | "cidr-block" => one(row.cidr.to_string()),
        "ipv6-cidr-block-association.ipv6-cidr-block" => {
            Some(row.ipv6.iter().map(|it| it.cidr.to_string()).collect())
        }
        "ipv6-cidr-block-association.association-id" => {
            Some(association_ids(row.ipv6.as_ref()))
        }
        "ipv6-cidr-block-association.state" => {
            Some(association_states(row.ipv6.as_ref()))
        }
        "ipv6-native" => one("false"),
        "default-for-az" | "defaultForAz" => {
            one(row.default_for_zone.to_string())
        }
        "map-public-ip-on-launch" => one(row.maps_public_ip().to_string()),
        "owner-id" => one(&row.account),
        "state" => one("available"),
        "subnet-arn" => one(shape::subnet_arn(row)),
        "subnet-id" => one(&row.id),
        "vpc-id" => one(&row.vpc_id),
        name => tags::values(&row.tags, name),
    };
    let found = select(&snapshot, scope, &ids, filters, |r| &r.id, values)?;
    let token = input.next_token.as_deref();
    let (found, next_token) =
        page(found, |r| &r.id, &ids, input.max_results, token)?;
    let subnets =
        found.iter().map(|row| describe_subnet(&snapshot, row)).collect();
    Ok(DescribeSubnetsResult { subnets: Some(subnets), next_token })
}

pub(super) async fn describe_network_interfaces(
    cx: &Context,
    scope: &Scope,
    input: DescribeNetworkInterfacesRequest,
) -> Result<DescribeNetworkInterfacesResult, ApiError> {
    check_dry_run(input.dry_run)?;
    let snapshot = network(cx, scope).await?;
    let ids = Ids {
        given: input.network_interface_ids.as_deref().unwrap_or_default(),
        prefix: "eni-",
        code: "InvalidNetworkInterfaceID",
        noun: "networkInterface ID",
    };
    let filters = input.filters.as_deref();
    let values = |row: &EniRow, name: &str| eni_values(&snapshot, row, name);
    let found = select(&snapshot, scope, &ids, filters, |r| &r.id, values)?;
    let token = input.next_token.as_deref();
    let (found, next_token) =
        page(found, |r| &r.id, &ids, input.max_results, token)?;
    let interfaces =
        found.iter().map(|row| describe_eni(&snapshot, row)).collect();
    Ok(DescribeNetworkInterfacesResult {
        network_interfaces: Some(interfaces),
        next_token,
    })
}

fn eni_values(
    snapshot: &Snapshot,
    row: &EniRow,
    name: &str,
) -> Option<Vec<String>> {
    match name {
        "addresses.primary" => one("true"),
        "addresses.private-ip-address" | "private-ip-address" => {
            one(row.private_ip.to_string())
        }
        "attachment.attachment-id" => one(shape::attachment_id(row)),
        "attachment.status" => one("attached"),
        "attachment.device-index" => one("1"),
        "availability-zone" => one(&row.zone),
        "availability-zone-id" => one(&row.zone_id),
        "description" => one(&row.description),
        "attachment.instance-owner-id" => one(&row.account),
        "attachment.delete-on-termination" => one("false"),
        // Of instances and public addresses, which there are none of.
        "attachment.instance-id"
        | "association.public-ip"
        | "association.allocation-id"
        | "association.association-id"
        | "association.ip-owner-id"
        | "association.public-dns-name"
        | "requester-id" => Some(vec![]),
        "group-id" => Some(row.security_groups.clone()),
        "group-name" => Some(group_names(snapshot, row)),
        "ipv6-addresses.ipv6-address" => {
            Some(row.ipv6.iter().map(ToString::to_string).collect())
        }
        "interface-type" => one("interface"),
        "mac-address" => one(&row.mac),
        "network-interface-id" => one(&row.id),
        "owner-id" => one(&row.account),
        "private-dns-name" => one(row.private_dns_name()),
        "requester-managed" => one("true"),
        "source-dest-check" => one("true"),
        "status" => one("in-use"),
        "subnet-id" => one(&row.subnet_id),
        "vpc-id" => one(&row.vpc_id),
        name => tags::values(&row.tags, name),
    }
}

/// The names of an interface's groups.
fn group_names(snapshot: &Snapshot, row: &EniRow) -> Vec<String> {
    let within = Key::of([&row.account, &row.region]);
    let ids = row.security_groups.iter();
    ids.filter_map(|id| {
        let group = snapshot.get::<SecurityGroupRow>(&within.with(id))?;
        Some(group.name.clone())
    })
    .collect()
}

pub(super) async fn describe_availability_zones(
    _cx: &Context,
    scope: &Scope,
    input: DescribeAvailabilityZonesRequest,
) -> Result<DescribeAvailabilityZonesResult, ApiError> {
    check_dry_run(input.dry_run)?;
    let region = &scope.region;
    let names = input.zone_names.unwrap_or_default();
    let ids = input.zone_ids.unwrap_or_default();
    let all: Vec<AvailabilityZone> =
        (1..).zip(ZONES).map(|(n, letter)| zone(region, n, letter)).collect();
    for name in &names {
        if !all.iter().any(|zone| zone.zone_name.as_ref() == Some(name)) {
            return Err(error(
                "InvalidParameterValue",
                format!("Invalid availability zone: [{name}]"),
            ));
        }
    }
    for id in &ids {
        if !all.iter().any(|zone| zone.zone_id.as_ref() == Some(id)) {
            return Err(error(
                "InvalidParameterValue",
                format!("Invalid availability zone-id: [{id}]"),
            ));
        }
    }
    let filters = input.filters.unwrap_or_default();
    let mut zones = vec![];
    for zone in all {
        let name = zone.zone_name.clone().unwrap_or_default();
        let id = zone.zone_id.clone().unwrap_or_default();
        let fits = passes(&filters, |filter| match filter {
            "group-name" | "groupName" => one(format!("{region}-zg-1")),
            "opt-in-status" => one("opt-in-not-required"),
            "region-name" | "network-border-group" => one(region),
            "state" => one("available"),
            "zone-id" => one(&id),
            "zone-name" => one(&name),
            "zone-type" => one("availability-zone"),
            _ => None,
        })?;
        let asked = (names.is_empty() || names.contains(&name))
            && (ids.is_empty() || ids.contains(&id));
        if fits && asked {
            zones.push(zone);
        }
    }
    Ok(DescribeAvailabilityZonesResult { availability_zones: Some(zones) })
}

fn zone(region: &str, number: u32, letter: char) -> AvailabilityZone {
    AvailabilityZone {
        opt_in_status: Some(AvailabilityZoneOptInStatus::OptInNotRequired),
        messages: Some(vec![]),
        region_name: Some(region.to_owned()),
        zone_name: Some(format!("{region}{letter}")),
        zone_id: Some(format!("{}-az{number}", zone_id_stem(region))),
        group_name: Some(format!("{region}-zg-1")),
        network_border_group: Some(region.to_owned()),
        zone_type: Some("availability-zone".to_owned()),
        state: Some(AvailabilityZoneState::Available),
        ..AvailabilityZone::default()
    }
}
