//! What EC2 keeps: VPCs, subnets, security groups, network interfaces.

use std::net::Ipv4Addr;

use minato_store::{Key, Row};
use minato_wire::Timestamp;
use serde::{Deserialize, Serialize};

/// A block of IPv4 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cidr {
    /// The first address.
    pub(crate) base: Ipv4Addr,
    /// How many leading bits are fixed, 16 to 28 as in EC2.
    pub(crate) prefix: u8,
}

impl Cidr {
    /// How many addresses the block has.
    pub(crate) fn size(self) -> u32 {
        1 << (32 - u32::from(self.prefix.clamp(1, 32)))
    }

    /// The address at an offset from the first.
    pub(crate) fn at(self, offset: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.base).wrapping_add(offset))
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

/// A virtual network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct VpcRow {
    pub(crate) account: String,
    pub(crate) region: String,
    pub(crate) id: String,
    pub(crate) cidr: Cidr,
    pub(crate) is_default: bool,
    pub(crate) dhcp_options_id: String,
    /// Of the association with its CIDR block.
    pub(crate) association_id: String,
}

impl Row for VpcRow {
    const TABLE: &'static str = "ec2-vpc";

    fn key(&self) -> Key {
        Key::of([&self.account, &self.region, &self.id])
    }
}

/// A subnet of a VPC in one availability zone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SubnetRow {
    pub(crate) account: String,
    pub(crate) region: String,
    pub(crate) id: String,
    pub(crate) vpc_id: String,
    pub(crate) cidr: Cidr,
    pub(crate) zone: String,
    pub(crate) zone_id: String,
    pub(crate) default_for_zone: bool,
    /// Where the search for a free address starts: behind the last one given
    /// out, so that an address rests as long as possible before it is reused.
    pub(crate) next_offset: u32,
}

impl Row for SubnetRow {
    const TABLE: &'static str = "ec2-subnet";

    fn key(&self) -> Key {
        Key::of([&self.account, &self.region, &self.id])
    }
}

/// A security group. Its rules are AWS's defaults: all traffic from members,
/// all traffic out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SecurityGroupRow {
    pub(crate) account: String,
    pub(crate) region: String,
    pub(crate) id: String,
    pub(crate) vpc_id: String,
    pub(crate) name: String,
    pub(crate) description: String,
}

impl Row for SecurityGroupRow {
    const TABLE: &'static str = "ec2-security-group";

    fn key(&self) -> Key {
        Key::of([&self.account, &self.region, &self.id])
    }
}

/// An elastic network interface, always one of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct EniRow {
    pub(crate) account: String,
    pub(crate) region: String,
    /// `eni-` and 17 hexadecimal digits.
    pub(crate) id: String,
    pub(crate) subnet_id: String,
    pub(crate) vpc_id: String,
    pub(crate) zone: String,
    pub(crate) zone_id: String,
    pub(crate) private_ip: Ipv4Addr,
    pub(crate) mac: String,
    pub(crate) security_groups: Vec<String>,
    /// The ARN of the ECS attachment, as Fargate writes it.
    pub(crate) description: String,
    /// The id of the ECS attachment (a UUID with dashes).
    pub(crate) attachment_id: String,
    pub(crate) task_arn: String,
    pub(crate) created_at: Timestamp,
}

impl EniRow {
    /// Index over the address alone: hosts serve all accounts and regions,
    /// so one address may be in use once in the whole of a Minato.
    pub(crate) const BY_ADDRESS: &'static str = "address";
    /// Index over the subnet's id.
    pub(crate) const BY_SUBNET: &'static str = "subnet";

    /// The key of an interface.
    pub(crate) fn key_of(account: &str, region: &str, id: &str) -> Key {
        Key::of([account, region, id])
    }

    pub(crate) fn address_key(address: Ipv4Addr) -> Key {
        Key::of([address.octets()])
    }

    /// The name that EC2's DNS gives the address.
    pub(crate) fn private_dns_name(&self) -> String {
        let dashed = self.private_ip.to_string().replace('.', "-");
        if self.region == "us-east-1" {
            format!("ip-{dashed}.ec2.internal")
        } else {
            format!("ip-{dashed}.{}.compute.internal", self.region)
        }
    }
}

impl Row for EniRow {
    const TABLE: &'static str = "ec2-network-interface";

    fn key(&self) -> Key {
        EniRow::key_of(&self.account, &self.region, &self.id)
    }

    fn indexes(&self) -> Vec<(&'static str, Key)> {
        vec![
            (EniRow::BY_ADDRESS, EniRow::address_key(self.private_ip)),
            (
                EniRow::BY_SUBNET,
                Key::of([&self.account, &self.region, &self.subnet_id]),
            ),
        ]
    }
}
