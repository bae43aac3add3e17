//! The network every account has without asking: a default VPC with a subnet
//! in each of three zones and a default security group.

use std::net::Ipv4Addr;

use minato_store::{Key, MigrateRowError, Row, Snapshot, Tx};
use serde_json::Value;

use super::rows::{
    Cidr, EniRow, Rule, RulePeer, RuleSpec, SecurityGroupRow, SubnetRow, Tags,
    VpcRow,
};
use crate::context::Context;

/// AWS's default VPC.
pub(super) const VPC: Cidr =
    Cidr { base: Ipv4Addr::new(172, 31, 0, 0), prefix: 16 };
/// AWS's default subnets are /20 blocks of a /16, in the order of the zones:
/// they fix four bits more.
const SUBNET_BITS: u8 = 4;
/// The name of the group that every VPC has and keeps.
pub(crate) const DEFAULT_GROUP: &str = "default";
/// The zones that Minato says a region has.
pub(crate) const ZONES: [char; 3] = ['a', 'b', 'c'];

/// A subnet as the network engine needs to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultSubnet {
    /// The subnet's id.
    pub id: String,
    /// Its block, such as `172.31.16.0/20`.
    pub cidr: String,
    /// The router's address in it.
    pub gateway: Ipv4Addr,
    /// How many leading bits the block fixes.
    pub prefix_len: u8,
    /// Its availability zone.
    pub zone: String,
}

/// The default subnets of an account in a region, in the order of the zones.
///
/// Their ids depend on nothing but account and region, so a host can set up
/// its bridges before the first call.
pub fn default_subnets(account: &str, region: &str) -> Vec<DefaultSubnet> {
    rows(account, region, VPC).1.iter().map(DefaultSubnet::of).collect()
}

impl DefaultSubnet {
    fn of(subnet: &SubnetRow) -> DefaultSubnet {
        DefaultSubnet {
            gateway: super::eni::gateway(subnet.cidr),
            prefix_len: subnet.cidr.prefix,
            cidr: subnet.cidr.to_string(),
            id: subnet.id.clone(),
            zone: subnet.zone.clone(),
        }
    }
}

/// Why the default VPC cannot have the addresses asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceVpcError {
    /// The text is no block of addresses that a VPC can have.
    #[error(
        "{given} is no range for a VPC: it must look like 172.31.0.0/16, with \
         a prefix of 16 to 24 bits and no address bits beyond it"
    )]
    NotACidr {
        /// As given.
        given: String,
    },
    /// Tasks have addresses of the range it has now.
    #[error(
        "the default VPC is {current} and {interfaces} network interfaces use \
         it: stop the tasks first (minato down), or start without --vpc-cidr"
    )]
    InUse {
        /// The range in force.
        current: String,
        /// How many interfaces have an address of it.
        interfaces: usize,
    },
    /// Something else has addresses of the range.
    #[error(
        "{given} overlaps {other}: one bridge carries all networks, so no \
         two may have the same addresses"
    )]
    Overlaps {
        /// The range asked for.
        given: String,
        /// Who has the addresses.
        other: String,
    },
    /// There are subnets in it that do not move with it.
    #[error(
        "the default VPC is {current} and has {subnets} subnets beside its \
         default ones: delete them first"
    )]
    HasSubnets {
        /// The range in force.
        current: String,
        /// How many.
        subnets: usize,
    },
    /// The store did not take the change.
    #[error("could not store the default VPC: {why}")]
    NotStored {
        /// What the store said.
        why: String,
    },
}

/// Checks a range for the default VPC before anything is started for it.
///
/// # Errors
/// [`PlaceVpcError::NotACidr`].
pub fn check_vpc_cidr(given: &str) -> Result<(), PlaceVpcError> {
    vpc_cidr(given).map(|_| ())
}

/// Reads a VPC's block: its three subnets must not be smaller than EC2 allows.
fn vpc_cidr(given: &str) -> Result<Cidr, PlaceVpcError> {
    let wrong = || PlaceVpcError::NotACidr { given: given.to_owned() };
    let (base, prefix) = given.split_once('/').ok_or_else(wrong)?;
    let base: Ipv4Addr = base.parse().map_err(|_| wrong())?;
    let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
    if !(16..=24).contains(&prefix) {
        return Err(wrong());
    }
    let cidr = Cidr { base, prefix };
    if u32::from(base) % cidr.size() != 0 {
        return Err(wrong());
    }
    Ok(cidr)
}

/// The default subnets of an account in a region as they are stored, made or
/// moved to `cidr` first where that is asked for.
pub(crate) async fn place(
    cx: &Context,
    account: &str,
    region: &str,
    cidr: Option<&str>,
) -> Result<Vec<DefaultSubnet>, PlaceVpcError> {
    let wanted = cidr.map(vpc_cidr).transpose()?;
    let scope = Key::of([account, region]);
    let (account, region) = (account.to_owned(), region.to_owned());
    let placed = cx.transact(move |tx| {
        let known = tx.scan::<VpcRow>(&scope).find(|vpc| vpc.is_default);
        let current = known.as_ref().map_or(VPC, |vpc| vpc.cidr);
        let wanted = wanted.unwrap_or(current);
        if wanted != current {
            let vpc = known.as_deref();
            if let Err(refused) = may_move(tx, vpc, current, wanted) {
                return Ok(Err(refused));
            }
        }
        if wanted != current || known.is_none() {
            put(tx, rows(&account, &region, wanted));
        }
        let subnets = tx
            .scan::<SubnetRow>(&scope)
            .filter(|subnet| subnet.default_for_zone)
            .map(|subnet| DefaultSubnet::of(&subnet));
        let mut subnets: Vec<DefaultSubnet> = subnets.collect();
        subnets.sort_by(|a, b| a.zone.cmp(&b.zone));
        Ok(Ok(subnets))
    });
    placed.await.unwrap_or_else(|error| {
        let why = error.internal().unwrap_or("it is closed").to_owned();
        Err(PlaceVpcError::NotStored { why })
    })
}

/// Whether the default VPC, if there is one yet, may have another range.
fn may_move(
    tx: &Tx,
    vpc: Option<&VpcRow>,
    current: Cidr,
    wanted: Cidr,
) -> Result<(), PlaceVpcError> {
    let given = wanted.to_string();
    let others = tx.scan::<VpcRow>(&Key::root()).filter(|it| !it.is_default);
    for other in others {
        if other.cidr.overlaps(wanted) {
            let other = format!("{} ({})", other.id, other.cidr);
            return Err(PlaceVpcError::Overlaps { given, other });
        }
    }
    let Some(vpc) = vpc else { return Ok(()) };
    let current = current.to_string();
    let scope = Key::of([&vpc.account, &vpc.region]);
    let interfaces =
        tx.scan::<EniRow>(&scope).filter(|eni| eni.vpc_id == vpc.id).count();
    if interfaces > 0 {
        return Err(PlaceVpcError::InUse { current, interfaces });
    }
    let subnets = tx
        .by_index::<SubnetRow>(SubnetRow::BY_VPC, &scope.with(&vpc.id))
        .filter(|subnet| !subnet.default_for_zone)
        .count();
    if subnets > 0 {
        return Err(PlaceVpcError::HasSubnets { current, subnets });
    }
    Ok(())
}

/// Whether the account has its default network already.
pub(crate) fn exists(snapshot: &Snapshot, account: &str, region: &str) -> bool {
    let id = stable_id("vpc", account, region, "");
    snapshot.contains::<VpcRow>(&Key::of([account, region, &id]))
}

/// Makes the default network of an account in a region, unless it has one.
pub(crate) fn ensure(tx: &mut Tx, account: &str, region: &str) {
    let network = rows(account, region, VPC);
    if !tx.contains::<VpcRow>(&minato_store::Row::key(&network.0)) {
        put(tx, network);
    }
}

/// A default network.
type Network = (VpcRow, Vec<SubnetRow>, SecurityGroupRow);

/// Writes a default network; what users set of one that is there stays.
fn put(tx: &mut Tx, (vpc, subnets, group): Network) {
    let row = match tx.get::<VpcRow>(&vpc.key()) {
        Some(known) => VpcRow { cidr: vpc.cidr, ..(*known).clone() },
        None => vpc,
    };
    tx.put(row);
    for subnet in subnets {
        let row = match tx.get::<SubnetRow>(&subnet.key()) {
            Some(known) => SubnetRow {
                cidr: subnet.cidr,
                next_offset: subnet.next_offset,
                ..(*known).clone()
            },
            None => subnet,
        };
        tx.put(row);
    }
    if !tx.contains::<SecurityGroupRow>(&group.key()) {
        tx.put(group);
    }
}

fn rows(account: &str, region: &str, cidr: Cidr) -> Network {
    let subnet_prefix = cidr.prefix + SUBNET_BITS;
    let id = |kind: &str, name: &str| stable_id(kind, account, region, name);
    let vpc = VpcRow {
        account: account.to_owned(),
        region: region.to_owned(),
        id: id("vpc", ""),
        cidr,
        is_default: true,
        dhcp_options_id: id("dopt", ""),
        association_id: id("vpc-cidr-assoc", ""),
        ipv6: None,
        dns_support: None,
        dns_hostnames: None,
        tags: Tags::new(),
    };
    let subnets = (0..).zip(ZONES).map(|(index, letter)| SubnetRow {
        account: account.to_owned(),
        region: region.to_owned(),
        id: id("subnet", &letter.to_string()),
        vpc_id: vpc.id.clone(),
        cidr: Cidr {
            base: cidr.at(index << (32 - u32::from(subnet_prefix))),
            prefix: subnet_prefix,
        },
        zone: format!("{region}{letter}"),
        zone_id: format!("{}-az{}", zone_id_stem(region), index + 1),
        default_for_zone: true,
        next_offset: super::eni::RESERVED_FIRST,
        ipv6: None,
        assign_ipv6: false,
        map_public_ip: None,
        tags: Tags::new(),
    });
    let subnets = subnets.collect();
    let group = default_group(
        &vpc,
        id("sg", "default"),
        [id("sgr", "in"), id("sgr", "out")],
    );
    (vpc, subnets, group)
}

/// The group that a VPC comes with: its members reach each other, and
/// everyone (VPC user guide, "Default security groups for your VPCs").
pub(super) fn default_group(
    vpc: &VpcRow,
    id: String,
    [ingress, egress]: [String; 2],
) -> SecurityGroupRow {
    SecurityGroupRow {
        account: vpc.account.clone(),
        region: vpc.region.clone(),
        vpc_id: vpc.id.clone(),
        name: DEFAULT_GROUP.to_owned(),
        description: "default VPC security group".to_owned(),
        rules: vec![
            all_traffic(ingress, false, RulePeer::Group(id.clone())),
            all_out(egress),
        ],
        id,
        tags: Tags::new(),
    }
}

/// The rule of every new group: all out.
pub(super) fn all_out(id: String) -> Rule {
    let anywhere = Cidr { base: Ipv4Addr::UNSPECIFIED, prefix: 0 };
    all_traffic(id, true, RulePeer::Ipv4(anywhere))
}

/// The same by IPv6, which groups of a VPC with an IPv6 block have as well.
pub(super) fn all_out_ipv6(id: String) -> Rule {
    all_traffic(id, true, RulePeer::Ipv6("::/0".to_owned()))
}

fn all_traffic(id: String, is_egress: bool, peer: RulePeer) -> Rule {
    let protocol = "-1".to_owned();
    let (from_port, to_port) = (-1, -1);
    let spec = RuleSpec { is_egress, protocol, from_port, to_port, peer };
    Rule { id, spec, description: None, tags: Tags::new() }
}

/// Gives a group of version 1, which had none of its own, the rules that it
/// was shown with.
pub(super) fn with_rules(mut row: Value) -> Result<Value, MigrateRowError> {
    let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let (account, region, id) = (text("account"), text("region"), text("id"));
    let rule = |name| stable_id("sgr", &account, &region, name);
    let rules = [
        all_traffic(rule("in"), false, RulePeer::Group(id)),
        all_out(rule("out")),
    ];
    row["rules"] = rules
        .iter()
        .map(serde_json::to_value)
        .collect::<Result<Vec<Value>, _>>()
        .map_err(MigrateRowError::Json)?
        .into();
    Ok(row)
}

/// An id in EC2's form that depends on its inputs only.
fn stable_id(kind: &str, account: &str, region: &str, name: &str) -> String {
    let parts = [kind, account, region, name];
    // FNV-1a: no secret is protected here, it must only never change.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in parts.join("\0").bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{kind}-0{hash:016x}")
}

/// `use1` for `us-east-1`: how AWS abbreviates regions in zone ids.
pub(crate) fn zone_id_stem(region: &str) -> String {
    let mut stem = String::new();
    for (index, part) in region.split('-').enumerate() {
        match (index, part) {
            (0, area) => stem.push_str(area),
            (_, "gov") => stem.push('g'),
            (_, "northeast") => stem.push_str("ne"),
            (_, "northwest") => stem.push_str("nw"),
            (_, "southeast") => stem.push_str("se"),
            (_, "southwest") => stem.push_str("sw"),
            (_, part) if part.bytes().all(|b| b.is_ascii_digit()) => {
                stem.push_str(part);
            }
            (_, direction) => stem.extend(direction.chars().next()),
        }
    }
    stem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_are_those_of_a_default_vpc() {
        let subnets = default_subnets("000000000000", "us-east-1");
        let cidrs: Vec<_> = subnets.iter().map(|s| s.cidr.as_str()).collect();
        assert_eq!(
            cidrs,
            ["172.31.0.0/20", "172.31.16.0/20", "172.31.32.0/20"]
        );
        assert_eq!(subnets[2].zone, "us-east-1c");
        assert_eq!(subnets[1].gateway, Ipv4Addr::new(172, 31, 16, 1));
    }

    #[test]
    fn blocks_are_read_with_care() {
        assert_eq!(vpc_cidr("10.9.0.0/16").unwrap().to_string(), "10.9.0.0/16");
        assert!(vpc_cidr("10.9.1.0/24").is_ok());
        for wrong in [
            "",
            "10.9.0.0",
            "10.9.0.0/",
            "10.9.0.0/8",
            "10.9.0.0/25",
            "10.9.0.1/16",
            "10.9/16",
            "::/16",
            "10.9.0.0/16/16",
        ] {
            assert!(vpc_cidr(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn the_vpc_moves_while_nobody_has_an_address() {
        use crate::testing::{ACCOUNT, REGION, TestBed};
        let bed = TestBed::new();
        let place = |cidr| place(&bed.cx, ACCOUNT, REGION, cidr);
        let first = place(None).await.unwrap();
        assert_eq!(first, default_subnets(ACCOUNT, REGION));
        let moved = place(Some("10.9.0.0/20")).await.unwrap();
        let cidrs: Vec<_> = moved.iter().map(|s| s.cidr.as_str()).collect();
        assert_eq!(cidrs, ["10.9.0.0/24", "10.9.1.0/24", "10.9.2.0/24"]);
        assert_eq!(moved[0].id, first[0].id);
        // It stays where it is until it is moved again.
        assert_eq!(place(None).await.unwrap(), moved);
        let request = super::super::eni::EniRequest {
            account: ACCOUNT.into(),
            region: REGION.into(),
            id: 1,
            subnet_id: moved[0].id.clone(),
            security_groups: vec![],
            attachment_id: "a".into(),
            task_arn: "t".into(),
            wants_ipv6: false,
            now: bed.scope().now,
        };
        let allocated = bed.cx.transact(move |tx| {
            let eni = super::super::eni::allocate_eni(tx, request);
            Ok(eni.unwrap().private_ip.to_string())
        });
        assert!(allocated.await.unwrap().starts_with("10.9.0."));
        let refused = place(Some("10.8.0.0/16")).await.unwrap_err();
        assert!(matches!(refused, PlaceVpcError::InUse { interfaces: 1, .. }));
        assert!(place(Some("10.9.0.0/20")).await.is_ok(), "as it is");
    }

    #[test]
    fn ids_never_change_and_differ_between_accounts() {
        let ours = default_subnets("000000000000", "us-east-1");
        assert_eq!(ours, default_subnets("000000000000", "us-east-1"));
        assert_ne!(ours[0].id, ours[1].id);
        let theirs = default_subnets("111111111111", "us-east-1");
        assert_ne!(ours[0].id, theirs[0].id);
        assert_eq!(ours[0].id.len(), "subnet-".len() + 17);
        // A change here would orphan the networks of everyone's data dirs.
        assert_eq!(ours[0].id, "subnet-03eab268ea5aff44b");
    }

    #[test]
    fn zone_ids_are_abbreviated_as_aws_does() {
        for (region, stem) in [
            ("us-east-1", "use1"),
            ("eu-central-1", "euc1"),
            ("ap-southeast-2", "apse2"),
            ("ap-northeast-1", "apne1"),
            ("us-gov-west-1", "usgw1"),
            ("sa-east-1", "sae1"),
        ] {
            assert_eq!(zone_id_stem(region), stem);
        }
    }
}
