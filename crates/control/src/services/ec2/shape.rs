//! Rows as EC2 describes them.

use minato_store::{Key, Snapshot};
use minato_wire::ec2::{
    AttachmentStatus, GroupIdentifier, HostnameType, IpSource,
    Ipv6AddressAttribute, NetworkInterface, NetworkInterfaceAttachment,
    NetworkInterfaceIpv6Address, NetworkInterfacePrivateIpAddress,
    NetworkInterfaceStatus, NetworkInterfaceType,
    PrivateDnsNameOptionsOnLaunch, ReferencedSecurityGroup, SecurityGroup,
    SecurityGroupRule, Subnet, SubnetCidrBlockState, SubnetCidrBlockStateCode,
    SubnetIpv6CidrBlockAssociation, SubnetState, Tenancy, Vpc,
    VpcCidrBlockAssociation, VpcCidrBlockState, VpcCidrBlockStateCode,
    VpcIpv6CidrBlockAssociation, VpcState,
};

use super::eni::usable;
use super::rows::{
    EniRow, Ipv6Block, Rule, RulePeer, RuleSpec, SecurityGroupRow, SubnetRow,
    VpcRow,
};
use super::{permission, tags};
use crate::services::partition_of;

pub(super) fn describe_vpc(row: &VpcRow) -> Vpc {
    Vpc {
        vpc_id: Some(row.id.clone()),
        owner_id: Some(row.account.clone()),
        cidr_block: Some(row.cidr.to_string()),
        cidr_block_association_set: Some(vec![VpcCidrBlockAssociation {
            association_id: Some(row.association_id.clone()),
            cidr_block: Some(row.cidr.to_string()),
            cidr_block_state: Some(VpcCidrBlockState {
                state: Some(VpcCidrBlockStateCode::Associated),
                status_message: None,
            }),
        }]),
        ipv6_cidr_block_association_set: Some(
            row.ipv6
                .iter()
                .map(|it| {
                    let state = VpcCidrBlockStateCode::Associated;
                    vpc_ipv6(&row.region, it, state)
                })
                .collect(),
        ),
        dhcp_options_id: Some(row.dhcp_options_id.clone()),
        instance_tenancy: Some(Tenancy::Default),
        is_default: Some(row.is_default),
        state: Some(VpcState::Available),
        tags: tags::shown(&row.tags),
        ..Vpc::default()
    }
}

/// A VPC's association with its IPv6 block.
pub(super) fn vpc_ipv6(
    region: &str,
    block: &Ipv6Block,
    state: VpcCidrBlockStateCode,
) -> VpcIpv6CidrBlockAssociation {
    VpcIpv6CidrBlockAssociation {
        association_id: Some(block.association_id.clone()),
        ipv6_cidr_block: Some(block.cidr.to_string()),
        ipv6_cidr_block_state: Some(VpcCidrBlockState {
            state: Some(state),
            status_message: None,
        }),
        network_border_group: Some(region.to_owned()),
        ipv6_pool: Some("Amazon".to_owned()),
        // No address of it means anything beyond the host (ADR 0019).
        ipv6_address_attribute: Some(Ipv6AddressAttribute::Private),
        ip_source: Some(IpSource::Amazon),
    }
}

/// A subnet's association with its IPv6 block.
pub(super) fn subnet_ipv6(
    block: &Ipv6Block,
    state: SubnetCidrBlockStateCode,
) -> SubnetIpv6CidrBlockAssociation {
    SubnetIpv6CidrBlockAssociation {
        association_id: Some(block.association_id.clone()),
        ipv6_cidr_block: Some(block.cidr.to_string()),
        ipv6_cidr_block_state: Some(SubnetCidrBlockState {
            state: Some(state),
            status_message: None,
        }),
        ipv6_address_attribute: Some(Ipv6AddressAttribute::Private),
        ip_source: Some(IpSource::Amazon),
    }
}

/// Addresses of a subnet that no interface has.
pub(super) fn free_addresses(snapshot: &Snapshot, row: &SubnetRow) -> u32 {
    let key = Key::of([&row.account, &row.region, &row.id]);
    let used = snapshot.by_index::<EniRow>(EniRow::BY_SUBNET, &key).count();
    let used = u32::try_from(used).unwrap_or(u32::MAX);
    usable(row.cidr).saturating_sub(used)
}

pub(super) fn subnet_arn(row: &SubnetRow) -> String {
    let SubnetRow { account, region, id, .. } = row;
    let partition = partition_of(region);
    format!("arn:{partition}:ec2:{region}:{account}:subnet/{id}")
}

pub(super) fn describe_subnet(snapshot: &Snapshot, row: &SubnetRow) -> Subnet {
    let free = free_addresses(snapshot, row);
    Subnet {
        subnet_id: Some(row.id.clone()),
        subnet_arn: Some(subnet_arn(row)),
        vpc_id: Some(row.vpc_id.clone()),
        owner_id: Some(row.account.clone()),
        cidr_block: Some(row.cidr.to_string()),
        availability_zone: Some(row.zone.clone()),
        availability_zone_id: Some(row.zone_id.clone()),
        available_ip_address_count: i32::try_from(free).ok(),
        default_for_az: Some(row.default_for_zone),
        // Addresses here are reachable from the host as they are, so there is
        // no second, public one.
        map_public_ip_on_launch: Some(row.maps_public_ip()),
        map_customer_owned_ip_on_launch: Some(false),
        assign_ipv6_address_on_creation: Some(row.assign_ipv6),
        ipv6_cidr_block_association_set: Some(
            row.ipv6
                .iter()
                .map(|it| subnet_ipv6(it, SubnetCidrBlockStateCode::Associated))
                .collect(),
        ),
        ipv6_native: Some(false),
        enable_dns64: Some(false),
        private_dns_name_options_on_launch: Some(
            PrivateDnsNameOptionsOnLaunch {
                hostname_type: Some(HostnameType::IpName),
                enable_resource_name_dns_a_record: Some(false),
                enable_resource_name_dns_aaaa_record: Some(false),
            },
        ),
        state: Some(SubnetState::Available),
        tags: tags::shown(&row.tags),
        ..Subnet::default()
    }
}

/// The ARN of a security group.
pub(super) fn group_arn(row: &SecurityGroupRow) -> String {
    let SecurityGroupRow { account, region, id, .. } = row;
    let partition = partition_of(region);
    format!("arn:{partition}:ec2:{region}:{account}:security-group/{id}")
}

pub(super) fn describe_group(row: &SecurityGroupRow) -> SecurityGroup {
    let permissions = |is_egress| {
        let rules = row.rules.iter();
        let rules = rules
            .filter(|rule| rule.spec.is_egress == is_egress)
            .map(|rule| (&rule.spec, rule.description.as_deref()));
        Some(permission::group(rules, &row.account))
    };
    SecurityGroup {
        group_id: Some(row.id.clone()),
        group_name: Some(row.name.clone()),
        description: Some(row.description.clone()),
        owner_id: Some(row.account.clone()),
        vpc_id: Some(row.vpc_id.clone()),
        security_group_arn: Some(group_arn(row)),
        ip_permissions: permissions(false),
        ip_permissions_egress: permissions(true),
        tags: tags::shown(&row.tags),
    }
}

pub(super) fn describe_rule(
    group: &SecurityGroupRow,
    rule: &Rule,
) -> SecurityGroupRule {
    let SecurityGroupRow { account, region, .. } = group;
    let partition = partition_of(region);
    let RuleSpec { is_egress, protocol, from_port, to_port, peer } = &rule.spec;
    let shown = SecurityGroupRule {
        security_group_rule_id: Some(rule.id.clone()),
        group_id: Some(group.id.clone()),
        group_owner_id: Some(account.clone()),
        is_egress: Some(*is_egress),
        ip_protocol: Some(protocol.clone()),
        from_port: Some(*from_port),
        to_port: Some(*to_port),
        description: rule.description.clone(),
        tags: tags::shown(&rule.tags),
        security_group_rule_arn: Some(format!(
            "arn:{partition}:ec2:{region}:{account}:security-group-rule/{}",
            rule.id
        )),
        ..SecurityGroupRule::default()
    };
    match peer {
        RulePeer::Ipv4(cidr) => {
            SecurityGroupRule { cidr_ipv4: Some(cidr.to_string()), ..shown }
        }
        RulePeer::Ipv6(cidr) => {
            SecurityGroupRule { cidr_ipv6: Some(cidr.clone()), ..shown }
        }
        RulePeer::Group(id) => SecurityGroupRule {
            referenced_group_info: Some(ReferencedSecurityGroup {
                group_id: Some(id.clone()),
                user_id: Some(account.clone()),
                ..ReferencedSecurityGroup::default()
            }),
            ..shown
        },
    }
}

/// The id of an interface's attachment, made from its own.
pub(super) fn attachment_id(row: &EniRow) -> String {
    row.id.replacen("eni-", "eni-attach-", 1)
}

pub(super) fn describe_eni(
    snapshot: &Snapshot,
    row: &EniRow,
) -> NetworkInterface {
    let groups = row.security_groups.iter().map(|id| {
        let key = Key::of([&row.account, &row.region, id]);
        let group = snapshot.get::<SecurityGroupRow>(&key);
        GroupIdentifier {
            group_id: Some(id.clone()),
            group_name: group.map(|group| group.name.clone()),
        }
    });
    let address = row.private_ip.to_string();
    NetworkInterface {
        network_interface_id: Some(row.id.clone()),
        attachment: Some(NetworkInterfaceAttachment {
            attachment_id: Some(attachment_id(row)),
            attach_time: Some(row.created_at),
            delete_on_termination: Some(false),
            device_index: Some(1),
            network_card_index: Some(0),
            instance_owner_id: Some(row.account.clone()),
            status: Some(AttachmentStatus::Attached),
            ..NetworkInterfaceAttachment::default()
        }),
        availability_zone: Some(row.zone.clone()),
        availability_zone_id: Some(row.zone_id.clone()),
        description: Some(row.description.clone()),
        groups: Some(groups.collect()),
        interface_type: Some(NetworkInterfaceType::Interface),
        ipv6_address: row.ipv6.map(|address| address.to_string()),
        ipv6_addresses: Some(
            row.ipv6
                .iter()
                .map(|address| NetworkInterfaceIpv6Address {
                    ipv6_address: Some(address.to_string()),
                    is_primary_ipv6: Some(false),
                    ..NetworkInterfaceIpv6Address::default()
                })
                .collect(),
        ),
        mac_address: Some(row.mac.clone()),
        owner_id: Some(row.account.clone()),
        private_dns_name: Some(row.private_dns_name()),
        private_ip_address: Some(address.clone()),
        private_ip_addresses: Some(vec![NetworkInterfacePrivateIpAddress {
            primary: Some(true),
            private_dns_name: Some(row.private_dns_name()),
            private_ip_address: Some(address),
            association: None,
        }]),
        requester_managed: Some(true),
        source_dest_check: Some(true),
        status: Some(NetworkInterfaceStatus::InUse),
        subnet_id: Some(row.subnet_id.clone()),
        tag_set: tags::shown(&row.tags),
        vpc_id: Some(row.vpc_id.clone()),
        ..NetworkInterface::default()
    }
}
