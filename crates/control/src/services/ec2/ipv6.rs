//! IPv6 blocks of VPCs and subnets: what they are made of, and
//! AssociateVpcCidrBlock, AssociateSubnetCidrBlock and their undoing.
//!
//! Amazon gives a VPC 56 bits of an internet that is not here. A Minato gives
//! it a part of a range that nobody else has and no router knows: 48 bits
//! drawn at random as RFC 4193 wants them, the same for all its VPCs (ADR
//! 0019).

use std::net::Ipv6Addr;

use minato_store::{Key, Tx};
use minato_wire::ApiError;
use minato_wire::ec2::{
    AssociateSubnetCidrBlockRequest, AssociateSubnetCidrBlockResult,
    AssociateVpcCidrBlockRequest, AssociateVpcCidrBlockResult,
    DisassociateSubnetCidrBlockRequest, DisassociateSubnetCidrBlockResult,
    DisassociateVpcCidrBlockRequest, DisassociateVpcCidrBlockResult,
    SubnetCidrBlockStateCode, VpcCidrBlockStateCode,
};

use super::change;
use super::defaults::{all_out, all_out_ipv6};
use super::eni::hex_id;
use super::filter::{error, missing};
use super::rows::{
    Cidr6, EniRow, Ipv6Block, Rule, SecurityGroupRow, SubnetRow, VpcRow,
};
use super::shape::{subnet_ipv6, vpc_ipv6};
use super::vpcs::refuse;
use super::{subnets, vpcs};
use crate::context::{Context, Scope};

/// How many leading bits a VPC's block fixes, and a subnet's (VPC user guide,
/// "VPC CIDR blocks").
const VPC_PREFIX: u8 = 56;
const SUBNET_PREFIX: u8 = 64;
/// How many bits all of a Minato share.
const SITE_PREFIX: u8 = 48;
/// In which clouds tell a machine of itself.
const NOT_OURS: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0),
];

/// A block for a VPC that no other VPC has. `number` is a random one.
pub(super) fn free_block(tx: &Tx, number: u128) -> Result<Cidr6, ApiError> {
    let vpcs = tx.scan::<VpcRow>(&Key::root());
    let known: Vec<Cidr6> =
        vpcs.filter_map(|vpc| Some(vpc.ipv6.as_ref()?.cidr)).collect();
    let site = match known.first() {
        Some(block) => Cidr6::around(block.base, SITE_PREFIX),
        None => site(number),
    };
    let step = 1_u128 << (128 - VPC_PREFIX);
    let blocks = (0..1 << (VPC_PREFIX - SITE_PREFIX)).map(|n| n * step);
    let mut blocks =
        blocks.map(|offset| Cidr6::around(site.at(offset), VPC_PREFIX));
    blocks.find(|block| !known.contains(block)).ok_or_else(|| {
        error(
            "InsufficientAddressCapacity",
            "All IPv6 blocks of this Minato are in use.",
        )
    })
}

/// A range of unique local addresses (RFC 4193).
fn site(number: u128) -> Cidr6 {
    let of = |id: u128| {
        let local = 0xfd_u128 << 120;
        let id = id & ((1 << 40) - 1);
        Cidr6::around(Ipv6Addr::from(local | (id << 80)), SITE_PREFIX)
    };
    let is_ours = |range: &Cidr6| {
        let mut others = NOT_OURS.iter();
        others.all(|it| !Cidr6::around(*it, 32).overlaps(*range))
    };
    let first = of(number);
    // Half of all ranges away there are none of theirs.
    Some(first).filter(is_ours).unwrap_or_else(|| of(number ^ (1 << 39)))
}

/// Whether a call asks for an IPv6 block, which only Amazon's pool has.
pub(super) fn is_asked(
    region: &str,
    provided: Option<bool>,
    block: Option<&str>,
    pool: Option<&str>,
    border_group: Option<&str>,
) -> Result<bool, ApiError> {
    let is_asked = provided == Some(true);
    if is_asked && (block.is_some() || pool.is_some()) {
        return Err(error(
            "InvalidParameterCombination",
            "The parameter AmazonProvidedIpv6CidrBlock cannot be used with \
             Ipv6CidrBlock or Ipv6Pool",
        ));
    }
    // EC2 API reference: "You must also specify Ipv6Pool in the request."
    if block.is_some() && pool.is_none() {
        return Err(missing("ipv6Pool"));
    }
    refuse(pool.is_some(), "IPv6 address pools")?;
    if let Some(group) = border_group.filter(|group| *group != region) {
        return Err(error(
            "InvalidParameterValue",
            format!("There is no network border group {group}."),
        ));
    }
    Ok(is_asked)
}

/// Reads a subnet's block.
pub(super) fn read_block(text: &str) -> Result<Cidr6, ApiError> {
    let block = Cidr6::parse(text).ok_or_else(|| {
        error(
            "InvalidParameterValue",
            format!(
                "Value ({text}) for parameter ipv6CidrBlock is invalid. This \
                 is not a valid IPv6 CIDR block."
            ),
        )
    })?;
    if block.prefix != SUBNET_PREFIX {
        return Err(out_of_range(block));
    }
    Ok(block)
}

fn out_of_range(block: Cidr6) -> ApiError {
    let message = format!("The CIDR '{block}' is invalid.");
    error("InvalidSubnet.Range", message)
}

/// Refuses a block that is not of the VPC, or that another subnet has.
pub(super) fn check_block(
    tx: &Tx,
    within: &Key,
    vpc: &VpcRow,
    block: Cidr6,
) -> Result<(), ApiError> {
    if vpc.ipv6.as_ref().is_none_or(|own| !own.cidr.holds(block)) {
        return Err(out_of_range(block));
    }
    let key = within.with(&vpc.id);
    let mut others = tx.by_index::<SubnetRow>(SubnetRow::BY_VPC, &key);
    let is_other = |other: &Ipv6Block| other.cidr.overlaps(block);
    if others.any(|subnet| subnet.ipv6.as_ref().is_some_and(is_other)) {
        return Err(error(
            "InvalidSubnet.Conflict",
            format!("The CIDR '{block}' conflicts with another subnet"),
        ));
    }
    Ok(())
}

pub(super) async fn associate_vpc_cidr_block(
    cx: &Context,
    scope: &Scope,
    input: AssociateVpcCidrBlockRequest,
) -> Result<AssociateVpcCidrBlockResult, ApiError> {
    refuse(input.cidr_block.is_some(), "secondary IPv4 blocks of VPCs")?;
    let has_ipam = input.ipv4_ipam_pool_id.is_some()
        || input.ipv4_netmask_length.is_some()
        || input.ipv6_ipam_pool_id.is_some()
        || input.ipv6_netmask_length.is_some();
    refuse(has_ipam, "IPAM pools")?;
    let is_asked = is_asked(
        &scope.region,
        input.amazon_provided_ipv6_cidr_block,
        input.ipv6_cidr_block.as_deref(),
        input.ipv6_pool.as_deref(),
        input.ipv6_cidr_block_network_border_group.as_deref(),
    )?;
    if !is_asked {
        return Err(missing("amazonProvidedIpv6CidrBlock"));
    }
    let id = input.vpc_id.unwrap_or_default();
    let mut draw = cx.draw(3);
    let vpc = change(cx, scope, move |tx, within| {
        let mut vpc = VpcRow::clone(&*vpcs::find(tx, within, &id)?);
        if vpc.ipv6.is_some() {
            return Err(error(
                "CidrLimitExceeded",
                format!("The vpc '{id}' has an IPv6 CIDR block already."),
            ));
        }
        let association_id = hex_id("vpc-cidr-assoc", draw.next());
        let cidr = free_block(tx, draw.next())?;
        vpc.ipv6 = Some(Ipv6Block { association_id, cidr });
        tx.put(vpc.clone());
        let groups: Vec<_> = tx
            .by_index::<SecurityGroupRow>(
                SecurityGroupRow::BY_VPC,
                &within.with(&vpc.id),
            )
            .filter(|group| has_unchanged_egress(group))
            .collect();
        let number = draw.next();
        for (n, group) in (0..).zip(groups) {
            let mut group = SecurityGroupRow::clone(&group);
            let id = hex_id("sgr", number.wrapping_add(n));
            group.rules.push(all_out_ipv6(id));
            tx.put(group);
        }
        Ok(vpc)
    })
    .await?;
    let state = VpcCidrBlockStateCode::Associated;
    let block = vpc.ipv6.as_ref();
    Ok(AssociateVpcCidrBlockResult {
        ipv6_cidr_block_association: block
            .map(|it| vpc_ipv6(&vpc.region, it, state)),
        vpc_id: Some(vpc.id.clone()),
        ..Default::default()
    })
}

/// Whether a group lets out what a new one does: then an IPv6 block brings it
/// the same for IPv6 (VPC user guide, "Default security groups for your VPCs").
fn has_unchanged_egress(group: &SecurityGroupRow) -> bool {
    let new = all_out(String::new()).spec;
    let egress = group.rules.iter().filter(|rule| rule.spec.is_egress);
    let egress: Vec<&Rule> = egress.collect();
    egress.len() == 1 && egress.iter().all(|rule| rule.spec == new)
}

fn in_use(block: &Ipv6Block) -> ApiError {
    let message = format!(
        "The CIDR block '{}' has dependencies and cannot be disassociated.",
        block.cidr
    );
    error("DependencyViolation", message)
}

pub(super) async fn disassociate_vpc_cidr_block(
    cx: &Context,
    scope: &Scope,
    input: DisassociateVpcCidrBlockRequest,
) -> Result<DisassociateVpcCidrBlockResult, ApiError> {
    let id = input.association_id.unwrap_or_default();
    let (vpc, block) = change(cx, scope, move |tx, within| {
        let vpc = tx.scan::<VpcRow>(within).find(|vpc| {
            let block = vpc.ipv6.as_ref();
            vpc.association_id == id
                || block.is_some_and(|it| it.association_id == id)
        });
        let Some(vpc) = vpc else {
            return Err(error(
                "InvalidVpcCidrBlockAssociationID.NotFound",
                format!(
                    "The vpc CIDR block association ID '{id}' does not exist"
                ),
            ));
        };
        let mut vpc = VpcRow::clone(&vpc);
        // EC2 API reference: "You cannot disassociate the CIDR block with
        // which you originally created the VPC".
        let Some(block) = vpc.ipv6.take_if(|it| it.association_id == id) else {
            return Err(error(
                "OperationNotPermitted",
                format!(
                    "The association '{id}' is of the primary CIDR block of \
                     the VPC and cannot be removed."
                ),
            ));
        };
        let key = within.with(&vpc.id);
        let is_used = tx
            .by_index::<SubnetRow>(SubnetRow::BY_VPC, &key)
            .any(|subnet| subnet.ipv6.is_some());
        if is_used {
            return Err(in_use(&block));
        }
        tx.put(vpc.clone());
        Ok((vpc, block))
    })
    .await?;
    let state = VpcCidrBlockStateCode::Disassociated;
    Ok(DisassociateVpcCidrBlockResult {
        ipv6_cidr_block_association: Some(vpc_ipv6(&vpc.region, &block, state)),
        vpc_id: Some(vpc.id),
        ..Default::default()
    })
}

pub(super) async fn associate_subnet_cidr_block(
    cx: &Context,
    scope: &Scope,
    input: AssociateSubnetCidrBlockRequest,
) -> Result<AssociateSubnetCidrBlockResult, ApiError> {
    let has_ipam = input.ipv6_ipam_pool_id.is_some()
        || input.ipv6_netmask_length.is_some();
    refuse(has_ipam, "IPAM pools")?;
    let text = input.ipv6_cidr_block.ok_or_else(|| missing("ipv6CidrBlock"))?;
    let cidr = read_block(&text)?;
    let id = input.subnet_id.unwrap_or_default();
    let association_id = hex_id("subnet-cidr-assoc", cx.ids.uuid());
    let subnet = change(cx, scope, move |tx, within| {
        let mut subnet = SubnetRow::clone(&*subnets::find(tx, within, &id)?);
        // "A subnet can only have one IPv6 CIDR block."
        if subnet.ipv6.is_some() {
            return Err(error(
                "CidrLimitExceeded",
                format!("The subnet '{id}' has an IPv6 CIDR block already."),
            ));
        }
        let vpc = vpcs::find(tx, within, &subnet.vpc_id)?;
        check_block(tx, within, &vpc, cidr)?;
        subnet.ipv6 = Some(Ipv6Block { association_id, cidr });
        tx.put(subnet.clone());
        Ok(subnet)
    })
    .await?;
    let state = SubnetCidrBlockStateCode::Associated;
    Ok(AssociateSubnetCidrBlockResult {
        ipv6_cidr_block_association: subnet
            .ipv6
            .as_ref()
            .map(|block| subnet_ipv6(block, state)),
        subnet_id: Some(subnet.id),
    })
}

pub(super) async fn disassociate_subnet_cidr_block(
    cx: &Context,
    scope: &Scope,
    input: DisassociateSubnetCidrBlockRequest,
) -> Result<DisassociateSubnetCidrBlockResult, ApiError> {
    let id = input.association_id.unwrap_or_default();
    let (subnet, block) = change(cx, scope, move |tx, within| {
        let is_it = |it: &Ipv6Block| it.association_id == id;
        let found = tx
            .scan::<SubnetRow>(within)
            .find(|it| it.ipv6.as_ref().is_some_and(is_it));
        let not_found = || {
            error(
                "InvalidSubnetCidrBlockAssociationID.NotFound",
                format!(
                    "The subnet CIDR block association ID '{id}' does not \
                     exist"
                ),
            )
        };
        let mut subnet = SubnetRow::clone(&*found.ok_or_else(not_found)?);
        let block = subnet.ipv6.take().ok_or_else(not_found)?;
        let key = within.with(&subnet.id);
        let is_used = tx
            .by_index::<EniRow>(EniRow::BY_SUBNET, &key)
            .any(|interface| interface.ipv6.is_some());
        if is_used {
            return Err(in_use(&block));
        }
        subnet.assign_ipv6 = false;
        tx.put(subnet.clone());
        Ok((subnet, block))
    })
    .await?;
    let state = SubnetCidrBlockStateCode::Disassociated;
    Ok(DisassociateSubnetCidrBlockResult {
        ipv6_cidr_block_association: Some(subnet_ipv6(&block, state)),
        subnet_id: Some(subnet.id),
    })
}
