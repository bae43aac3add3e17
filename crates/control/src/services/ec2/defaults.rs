//! The network every account has without asking: a default VPC with a subnet
//! in each of three zones and a default security group.

use std::net::Ipv4Addr;

use minato_store::{Key, Snapshot, Tx};

use super::rows::{Cidr, SecurityGroupRow, SubnetRow, VpcRow};

/// AWS's default VPC.
const VPC: Cidr = Cidr { base: Ipv4Addr::new(172, 31, 0, 0), prefix: 16 };
/// AWS's default subnets are /20 blocks of it, in the order of the zones.
const SUBNET_PREFIX: u8 = 20;
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
    rows(account, region)
        .1
        .into_iter()
        .map(|subnet| DefaultSubnet {
            gateway: super::eni::gateway(subnet.cidr),
            prefix_len: subnet.cidr.prefix,
            cidr: subnet.cidr.to_string(),
            id: subnet.id,
            zone: subnet.zone,
        })
        .collect()
}

/// Whether the account has its default network already.
pub(crate) fn exists(snapshot: &Snapshot, account: &str, region: &str) -> bool {
    let scope = Key::of([account, region]);
    snapshot.scan::<VpcRow>(&scope).next().is_some()
}

/// Makes the default network of an account in a region, unless it has one.
pub(crate) fn ensure(tx: &mut Tx, account: &str, region: &str) {
    let (vpc, subnets, group) = rows(account, region);
    if tx.contains::<VpcRow>(&minato_store::Row::key(&vpc)) {
        return;
    }
    tx.put(vpc);
    for subnet in subnets {
        tx.put(subnet);
    }
    tx.put(group);
}

fn rows(
    account: &str,
    region: &str,
) -> (VpcRow, Vec<SubnetRow>, SecurityGroupRow) {
    let id = |kind: &str, name: &str| stable_id(kind, account, region, name);
    let vpc = VpcRow {
        account: account.to_owned(),
        region: region.to_owned(),
        id: id("vpc", ""),
        cidr: VPC,
        is_default: true,
        dhcp_options_id: id("dopt", ""),
        association_id: id("vpc-cidr-assoc", ""),
    };
    let subnets = (0..).zip(ZONES).map(|(index, letter)| SubnetRow {
        account: account.to_owned(),
        region: region.to_owned(),
        id: id("subnet", &letter.to_string()),
        vpc_id: vpc.id.clone(),
        cidr: Cidr {
            base: VPC.at(index << (32 - u32::from(SUBNET_PREFIX))),
            prefix: SUBNET_PREFIX,
        },
        zone: format!("{region}{letter}"),
        zone_id: format!("{}-az{}", zone_id_stem(region), index + 1),
        default_for_zone: true,
        next_offset: super::eni::RESERVED_FIRST,
    });
    let subnets = subnets.collect();
    let group = SecurityGroupRow {
        account: account.to_owned(),
        region: region.to_owned(),
        id: id("sg", "default"),
        vpc_id: vpc.id.clone(),
        name: "default".to_owned(),
        description: "default VPC security group".to_owned(),
    };
    (vpc, subnets, group)
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
