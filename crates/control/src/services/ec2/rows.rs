//! What EC2 keeps: VPCs, subnets, security groups, network interfaces.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use minato_store::{Key, Row};
use minato_wire::Timestamp;
use serde::{Deserialize, Serialize};

/// The tags of a resource.
pub(crate) type Tags = BTreeMap<String, String>;

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

    /// Reads `10.0.0.0/16`; address bits beyond the prefix are cleared, as
    /// EC2 does ("we modify it to its canonical form").
    pub(crate) fn parse(text: &str) -> Option<Cidr> {
        let (base, prefix) = text.split_once('/')?;
        let base: Ipv4Addr = base.parse().ok()?;
        let prefix = read_prefix(prefix, 32)?;
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
        Some(Cidr { base: Ipv4Addr::from(u32::from(base) & mask), prefix })
    }

    /// Whether some address is in both blocks.
    pub(crate) fn overlaps(self, other: Cidr) -> bool {
        let wide = u32::from(self.prefix.min(other.prefix));
        let mask = u32::MAX.checked_shl(32 - wide).unwrap_or(0);
        (u32::from(self.base) ^ u32::from(other.base)) & mask == 0
    }

    /// Whether all of `other` is in this block.
    pub(crate) fn holds(self, other: Cidr) -> bool {
        self.prefix <= other.prefix && self.overlaps(other)
    }
}

/// A block of IPv6 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cidr6 {
    /// The first address.
    pub(crate) base: Ipv6Addr,
    /// How many leading bits are fixed: 56 of a VPC, 64 of a subnet.
    pub(crate) prefix: u8,
}

impl Cidr6 {
    /// The block of `prefix` bits that an address is in.
    pub(crate) fn around(address: Ipv6Addr, prefix: u8) -> Cidr6 {
        let base = Ipv6Addr::from(u128::from(address) & mask6(prefix));
        Cidr6 { base, prefix }
    }

    /// The address at an offset from the first.
    pub(crate) fn at(self, offset: u128) -> Ipv6Addr {
        Ipv6Addr::from(u128::from(self.base).wrapping_add(offset))
    }

    /// Reads `2001:db8::/32`; address bits beyond the prefix are cleared.
    pub(crate) fn parse(text: &str) -> Option<Cidr6> {
        let (base, prefix) = text.split_once('/')?;
        let base: Ipv6Addr = base.parse().ok()?;
        Some(Cidr6::around(base, read_prefix(prefix, 128)?))
    }

    /// Whether some address is in both blocks.
    pub(crate) fn overlaps(self, other: Cidr6) -> bool {
        let mask = mask6(self.prefix.min(other.prefix));
        (u128::from(self.base) ^ u128::from(other.base)) & mask == 0
    }

    /// Whether all of `other` is in this block.
    pub(crate) fn holds(self, other: Cidr6) -> bool {
        self.prefix <= other.prefix && self.overlaps(other)
    }
}

fn mask6(prefix: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0)
}

impl std::fmt::Display for Cidr6 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

/// A VPC's or a subnet's block of IPv6 addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ipv6Block {
    /// `vpc-cidr-assoc-` or `subnet-cidr-assoc-` and 17 digits.
    pub(crate) association_id: String,
    pub(crate) cidr: Cidr6,
}

/// A prefix length without sign or leading zeros.
fn read_prefix(text: &str, most: u8) -> Option<u8> {
    let prefix: u8 = text.parse().ok()?;
    (prefix <= most && prefix.to_string() == text).then_some(prefix)
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
    /// Its IPv6 block, if it has one.
    #[serde(default)]
    pub(crate) ipv6: Option<Ipv6Block>,
    /// The attribute `enableDnsSupport`, where it was set.
    #[serde(default)]
    pub(crate) dns_support: Option<bool>,
    /// The attribute `enableDnsHostnames`, where it was set.
    #[serde(default)]
    pub(crate) dns_hostnames: Option<bool>,
    #[serde(default)]
    pub(crate) tags: Tags,
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
    /// Its IPv6 block, if it has one.
    #[serde(default)]
    pub(crate) ipv6: Option<Ipv6Block>,
    /// The attribute `assignIpv6AddressOnCreation`.
    #[serde(default)]
    pub(crate) assign_ipv6: bool,
    /// The attribute `mapPublicIpOnLaunch`, where it was set.
    #[serde(default)]
    pub(crate) map_public_ip: Option<bool>,
    #[serde(default)]
    pub(crate) tags: Tags,
}

impl SubnetRow {
    /// Index over the VPC's id.
    pub(crate) const BY_VPC: &'static str = "vpc";

    /// The attribute `mapPublicIpOnLaunch`: on for default subnets, else off.
    pub(crate) fn maps_public_ip(&self) -> bool {
        self.map_public_ip.unwrap_or(self.default_for_zone)
    }
}

impl Row for SubnetRow {
    const TABLE: &'static str = "ec2-subnet";

    fn key(&self) -> Key {
        Key::of([&self.account, &self.region, &self.id])
    }

    fn indexes(&self) -> Vec<(&'static str, Key)> {
        let key = Key::of([&self.account, &self.region, &self.vpc_id]);
        vec![(SubnetRow::BY_VPC, key)]
    }
}

/// Who is at the other end of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RulePeer {
    /// A block of IPv4 addresses, canonical.
    Ipv4(Cidr),
    /// A block of IPv6 addresses, canonical.
    Ipv6(String),
    /// The interfaces that are in a group of the same VPC.
    Group(String),
}

/// What a rule allows; two rules of a group never allow the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RuleSpec {
    pub(crate) is_egress: bool,
    /// `-1`, `tcp`, `udp`, `icmp`, `icmpv6`, or another protocol's number.
    pub(crate) protocol: String,
    /// Ports, or ICMP's type; -1 is all, and stands where there are none.
    pub(crate) from_port: i32,
    /// Ports, or ICMP's code; -1 is all, and stands where there are none.
    pub(crate) to_port: i32,
    pub(crate) peer: RulePeer,
}

/// A rule of a security group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rule {
    /// `sgr-` and 17 hexadecimal digits.
    pub(crate) id: String,
    pub(crate) spec: RuleSpec,
    #[serde(default)]
    pub(crate) description: Option<String>,
    #[serde(default)]
    pub(crate) tags: Tags,
}

/// A security group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SecurityGroupRow {
    pub(crate) account: String,
    pub(crate) region: String,
    pub(crate) id: String,
    pub(crate) vpc_id: String,
    pub(crate) name: String,
    pub(crate) description: String,
    /// In the order they were made.
    pub(crate) rules: Vec<Rule>,
    #[serde(default)]
    pub(crate) tags: Tags,
}

impl SecurityGroupRow {
    /// Index over the groups that its rules refer to.
    pub(crate) const BY_PEER: &'static str = "peer";
    /// Index over the VPC's id.
    pub(crate) const BY_VPC: &'static str = "vpc";

    /// The groups that its rules refer to.
    pub(crate) fn peers(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().filter_map(|rule| match &rule.spec.peer {
            RulePeer::Group(id) => Some(id.as_str()),
            RulePeer::Ipv4(_) | RulePeer::Ipv6(_) => None,
        })
    }
}

impl Row for SecurityGroupRow {
    const TABLE: &'static str = "ec2-security-group";
    /// 2: rules are kept. Before, every group had those of a default group.
    const VERSION: u16 = 2;

    fn key(&self) -> Key {
        Key::of([&self.account, &self.region, &self.id])
    }

    fn indexes(&self) -> Vec<(&'static str, Key)> {
        let scope = Key::of([&self.account, &self.region]);
        let peers: std::collections::BTreeSet<&str> = self.peers().collect();
        let peers = peers
            .into_iter()
            .map(|id| (SecurityGroupRow::BY_PEER, scope.with(id)));
        peers
            .chain([(SecurityGroupRow::BY_VPC, scope.with(&self.vpc_id))])
            .collect()
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
    /// Its IPv6 address, if it has one.
    #[serde(default)]
    pub(crate) ipv6: Option<Ipv6Addr>,
    pub(crate) mac: String,
    pub(crate) security_groups: Vec<String>,
    /// The ARN of the ECS attachment, as Fargate writes it.
    pub(crate) description: String,
    /// The id of the ECS attachment (a UUID with dashes).
    pub(crate) attachment_id: String,
    pub(crate) task_arn: String,
    pub(crate) created_at: Timestamp,
    #[serde(default)]
    pub(crate) tags: Tags,
}

impl EniRow {
    /// Index over the ids of its security groups.
    pub(crate) const BY_GROUP: &'static str = "group";
    /// Index over each address alone: hosts serve all accounts and regions,
    /// so one address may be in use once in the whole of a Minato.
    pub(crate) const BY_ADDRESS: &'static str = "address";
    /// Index over the subnet's id.
    pub(crate) const BY_SUBNET: &'static str = "subnet";

    /// The key of an interface.
    pub(crate) fn key_of(account: &str, region: &str, id: &str) -> Key {
        Key::of([account, region, id])
    }

    pub(crate) fn address_key(address: impl Into<IpAddr>) -> Key {
        match address.into() {
            IpAddr::V4(address) => Key::of([address.octets()]),
            IpAddr::V6(address) => Key::of([address.octets()]),
        }
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
        let scope = Key::of([&self.account, &self.region]);
        let groups = self
            .security_groups
            .iter()
            .map(|id| (EniRow::BY_GROUP, scope.with(id)));
        let address = EniRow::address_key(self.private_ip);
        let ipv6 = self.ipv6.map(EniRow::address_key);
        groups
            .chain([
                (EniRow::BY_ADDRESS, address),
                (EniRow::BY_SUBNET, scope.with(&self.subnet_id)),
            ])
            .chain(ipv6.map(|address| (EniRow::BY_ADDRESS, address)))
            .collect()
    }
}
