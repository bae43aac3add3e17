//! DescribeRouteTables, DescribeNetworkAcls, DescribeInternetGateways.
//!
//! What every VPC has by itself: a main route table, a default network ACL;
//! and the internet gateway of the default VPC. They are made up from the
//! VPC's row, with ids that follow from its own.

use std::sync::Arc;

use minato_store::{Key, Snapshot};
use minato_wire::ApiError;
use minato_wire::ec2::{
    AttachmentStatus, DescribeInternetGatewaysRequest,
    DescribeInternetGatewaysResult, DescribeNetworkAclsRequest,
    DescribeNetworkAclsResult, DescribeRouteTablesRequest,
    DescribeRouteTablesResult, Filter, InternetGateway,
    InternetGatewayAttachment, NetworkAcl, NetworkAclAssociation,
    NetworkAclEntry, Route, RouteOrigin, RouteState, RouteTable,
    RouteTableAssociation, RouteTableAssociationState,
    RouteTableAssociationStateCode, RuleAction,
};

use super::describe::{network, one};
use super::filter::{Ids, check_dry_run, page, passes};
use super::rows::{SubnetRow, Tags, VpcRow};
use super::tags;
use crate::context::{Context, Scope};

/// The id of what belongs to another resource: `rtb-1` to `vpc-1`.
fn id_of(kind: &str, owner: &str) -> String {
    let number = owner.split_once('-').map_or(owner, |(_, number)| number);
    format!("{kind}-{number}")
}

/// The VPCs whose part of a kind is asked for by id and filters.
fn select(
    snapshot: &Snapshot,
    scope: &Scope,
    ids: &Ids<'_>,
    kind: &str,
    filters: Option<&[Filter]>,
    values_of: impl Fn(&VpcRow, &str) -> Option<Vec<String>>,
) -> Result<Vec<(String, Arc<VpcRow>)>, ApiError> {
    let within = Key::of([&scope.account, &scope.region]);
    let all: Vec<(String, Arc<VpcRow>)> = snapshot
        .scan::<VpcRow>(&within)
        .filter(|vpc| kind != "igw" || vpc.is_default)
        .map(|vpc| (id_of(kind, &vpc.id), vpc))
        .collect();
    ids.check(|id| all.iter().any(|(known, _)| known == id))?;
    let mut found = vec![];
    for (id, vpc) in all {
        let fits = passes(filters.unwrap_or_default(), |name| match name {
            "vpc-id" | "attachment.vpc-id" => one(&vpc.id),
            "owner-id" => one(&vpc.account),
            name => values_of(&vpc, name)
                .or_else(|| tags::values(&Tags::new(), name)),
        })?;
        if fits && ids.holds(&id) {
            found.push((id, vpc));
        }
    }
    Ok(found)
}

/// Subnets of a VPC, which all have its network ACL.
fn subnets(snapshot: &Snapshot, vpc: &VpcRow) -> Vec<Arc<SubnetRow>> {
    let key = Key::of([&vpc.account, &vpc.region, &vpc.id]);
    snapshot.by_index::<SubnetRow>(SubnetRow::BY_VPC, &key).collect()
}

pub(super) async fn describe_route_tables(
    cx: &Context,
    scope: &Scope,
    input: DescribeRouteTablesRequest,
) -> Result<DescribeRouteTablesResult, ApiError> {
    check_dry_run(input.dry_run)?;
    let snapshot = network(cx, scope).await?;
    let ids = Ids {
        given: input.route_table_ids.as_deref().unwrap_or_default(),
        prefix: "rtb-",
        code: "InvalidRouteTableID",
        noun: "routeTable ID",
    };
    let values = |vpc: &VpcRow, name: &str| match name {
        "route-table-id" | "association.route-table-id" => {
            one(id_of("rtb", &vpc.id))
        }
        "association.main" => one("true"),
        "association.route-table-association-id" => {
            one(id_of("rtbassoc", &vpc.id))
        }
        "association.state" => one("associated"),
        // The main table's association is with no subnet or gateway.
        "association.subnet-id" | "association.gateway-id" => Some(vec![]),
        "route.destination-cidr-block" => {
            let cidrs = routes(vpc).into_iter();
            Some(cidrs.filter_map(|it| it.destination_cidr_block).collect())
        }
        "route.destination-ipv6-cidr-block" => {
            let routes = routes(vpc).into_iter();
            let cidrs = routes.filter_map(|it| it.destination_ipv6_cidr_block);
            Some(cidrs.collect())
        }
        "route.gateway-id" => Some(
            routes(vpc).into_iter().filter_map(|it| it.gateway_id).collect(),
        ),
        "route.origin" => one("CreateRouteTable"),
        "route.state" => one("active"),
        _ => None,
    };
    let filters = input.filters.as_deref();
    let found = select(&snapshot, scope, &ids, "rtb", filters, values)?;
    let token = input.next_token.as_deref();
    let (found, next_token) =
        page(found, |(id, _)| id, &ids, input.max_results, token)?;
    let tables = found.into_iter().map(|(id, vpc)| route_table(id, &vpc));
    Ok(DescribeRouteTablesResult {
        route_tables: Some(tables.collect()),
        next_token,
    })
}

fn route_table(id: String, vpc: &VpcRow) -> RouteTable {
    RouteTable {
        associations: Some(vec![RouteTableAssociation {
            main: Some(true),
            route_table_association_id: Some(id_of("rtbassoc", &vpc.id)),
            route_table_id: Some(id.clone()),
            association_state: Some(RouteTableAssociationState {
                state: Some(RouteTableAssociationStateCode::Associated),
                status_message: None,
            }),
            ..RouteTableAssociation::default()
        }]),
        propagating_vgws: Some(vec![]),
        route_table_id: Some(id),
        routes: Some(routes(vpc)),
        tags: Some(vec![]),
        vpc_id: Some(vpc.id.clone()),
        owner_id: Some(vpc.account.clone()),
    }
}

/// The local routes, and the default VPC's way out.
fn routes(vpc: &VpcRow) -> Vec<Route> {
    let route = |to: String, gateway: String, origin| Route {
        destination_cidr_block: Some(to),
        gateway_id: Some(gateway),
        origin: Some(origin),
        state: Some(RouteState::Active),
        ..Route::default()
    };
    let made = RouteOrigin::CreateRouteTable;
    let mut routes = vec![route(vpc.cidr.to_string(), "local".into(), made)];
    routes.extend(vpc.ipv6.iter().map(|block| Route {
        destination_ipv6_cidr_block: Some(block.cidr.to_string()),
        gateway_id: Some("local".to_owned()),
        origin: Some(made),
        state: Some(RouteState::Active),
        ..Route::default()
    }));
    if vpc.is_default {
        let gateway = id_of("igw", &vpc.id);
        let made = RouteOrigin::CreateRoute;
        routes.push(route("0.0.0.0/0".into(), gateway, made));
    }
    routes
}

pub(super) async fn describe_network_acls(
    cx: &Context,
    scope: &Scope,
    input: DescribeNetworkAclsRequest,
) -> Result<DescribeNetworkAclsResult, ApiError> {
    check_dry_run(input.dry_run)?;
    let snapshot = network(cx, scope).await?;
    let ids = Ids {
        given: input.network_acl_ids.as_deref().unwrap_or_default(),
        prefix: "acl-",
        code: "InvalidNetworkAclID",
        noun: "networkAcl ID",
    };
    let values = |vpc: &VpcRow, name: &str| match name {
        "default" => one("true"),
        "network-acl-id" | "association.network-acl-id" => {
            one(id_of("acl", &vpc.id))
        }
        "association.subnet-id" => Some(
            subnets(&snapshot, vpc).iter().map(|it| it.id.clone()).collect(),
        ),
        "association.association-id" => {
            let subnets = subnets(&snapshot, vpc);
            let ids = subnets.iter().map(|it| id_of("aclassoc", &it.id));
            Some(ids.collect())
        }
        _ => None,
    };
    let filters = input.filters.as_deref();
    let found = select(&snapshot, scope, &ids, "acl", filters, values)?;
    let token = input.next_token.as_deref();
    let (found, next_token) =
        page(found, |(id, _)| id, &ids, input.max_results, token)?;
    let acls = found.into_iter().map(|(id, vpc)| acl(&snapshot, id, &vpc));
    Ok(DescribeNetworkAclsResult {
        network_acls: Some(acls.collect()),
        next_token,
    })
}

/// All in and all out, as default network ACLs are.
fn acl(snapshot: &Snapshot, id: String, vpc: &VpcRow) -> NetworkAcl {
    let entry = |egress, number, action| NetworkAclEntry {
        egress: Some(egress),
        protocol: Some("-1".to_owned()),
        rule_action: Some(action),
        rule_number: Some(number),
        ..NetworkAclEntry::default()
    };
    let ipv4 = |egress, number, action| NetworkAclEntry {
        cidr_block: Some("0.0.0.0/0".to_owned()),
        ..entry(egress, number, action)
    };
    let ipv6 = |egress, number, action| NetworkAclEntry {
        ipv6_cidr_block: Some("::/0".to_owned()),
        ..entry(egress, number, action)
    };
    // The last one of each family is shown as `*`; IPv6 has its own where the
    // VPC has a block of it.
    let entries = [true, false].into_iter().flat_map(|egress| {
        let mut entries = vec![ipv4(egress, 100, RuleAction::Allow)];
        if vpc.ipv6.is_some() {
            entries.push(ipv6(egress, 101, RuleAction::Allow));
            entries.push(ipv6(egress, 32_768, RuleAction::Deny));
        }
        entries.push(ipv4(egress, 32_767, RuleAction::Deny));
        entries
    });
    let associations = subnets(snapshot, vpc);
    let associations = associations.iter().map(|it| NetworkAclAssociation {
        network_acl_association_id: Some(id_of("aclassoc", &it.id)),
        network_acl_id: Some(id.clone()),
        subnet_id: Some(it.id.clone()),
    });
    NetworkAcl {
        associations: Some(associations.collect()),
        entries: Some(entries.collect()),
        is_default: Some(true),
        network_acl_id: Some(id.clone()),
        tags: Some(vec![]),
        vpc_id: Some(vpc.id.clone()),
        owner_id: Some(vpc.account.clone()),
    }
}

pub(super) async fn describe_internet_gateways(
    cx: &Context,
    scope: &Scope,
    input: DescribeInternetGatewaysRequest,
) -> Result<DescribeInternetGatewaysResult, ApiError> {
    check_dry_run(input.dry_run)?;
    let snapshot = network(cx, scope).await?;
    let ids = Ids {
        given: input.internet_gateway_ids.as_deref().unwrap_or_default(),
        prefix: "igw-",
        code: "InvalidInternetGatewayID",
        noun: "internetGateway ID",
    };
    let values = |vpc: &VpcRow, name: &str| match name {
        "internet-gateway-id" => one(id_of("igw", &vpc.id)),
        // EC2 says "available" here, though its model has no such value.
        "attachment.state" => {
            Some(vec!["available".to_owned(), "attached".to_owned()])
        }
        _ => None,
    };
    let filters = input.filters.as_deref();
    let found = select(&snapshot, scope, &ids, "igw", filters, values)?;
    let token = input.next_token.as_deref();
    let (found, next_token) =
        page(found, |(id, _)| id, &ids, input.max_results, token)?;
    let gateways = found.into_iter().map(|(id, vpc)| InternetGateway {
        attachments: Some(vec![InternetGatewayAttachment {
            state: Some(AttachmentStatus::Attached),
            vpc_id: Some(vpc.id.clone()),
        }]),
        internet_gateway_id: Some(id),
        owner_id: Some(vpc.account.clone()),
        tags: Some(vec![]),
    });
    Ok(DescribeInternetGatewaysResult {
        internet_gateways: Some(gateways.collect()),
        next_token,
    })
}
