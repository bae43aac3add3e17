//! Giving tasks their network interfaces.

use std::net::{Ipv4Addr, Ipv6Addr};

use minato_store::{Key, Tx};
use minato_wire::Timestamp;

use super::defaults::DEFAULT_GROUP;
use super::rows::{Cidr, Cidr6, EniRow, SecurityGroupRow, SubnetRow, Tags};

/// AWS keeps the network address, the router, the DNS server and one for
/// later use; the router's is what tasks use as their gateway.
pub(crate) const RESERVED_FIRST: u32 = 4;
/// AWS keeps the broadcast address.
const RESERVED_LAST: u32 = 1;

/// What a task wants.
#[derive(Clone, Debug)]
pub(crate) struct EniRequest {
    pub(crate) account: String,
    pub(crate) region: String,
    /// A fresh random number for the interface's id.
    pub(crate) id: u128,
    pub(crate) subnet_id: String,
    /// Empty means the default group of the subnet's VPC.
    pub(crate) security_groups: Vec<String>,
    /// The id of the ECS attachment (a UUID with dashes).
    pub(crate) attachment_id: String,
    pub(crate) task_arn: String,
    /// Whether it is to have an IPv6 address where the subnet gives one.
    pub(crate) wants_ipv6: bool,
    pub(crate) now: Timestamp,
}

/// Why a task gets no interface.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AllocateEniError {
    /// No such subnet for the account in the region.
    #[error("The subnet ID '{subnet_id}' does not exist")]
    NoSuchSubnet {
        /// The subnet asked for.
        subnet_id: String,
    },
    /// No such group for the account in the region.
    #[error("The security group '{group_id}' does not exist")]
    NoSuchSecurityGroup {
        /// The group asked for.
        group_id: String,
    },
    /// Groups and subnet belong to different VPCs.
    #[error(
        "You have specified two resources that belong to different networks."
    )]
    OtherVpc,
    /// All addresses are in use.
    #[error(
        "There are not enough free addresses in subnet '{subnet_id}' to \
         satisfy the requested number of instances."
    )]
    SubnetFull {
        /// The subnet asked for.
        subnet_id: String,
    },
}

/// How many addresses of a block can be given out.
pub(crate) fn usable(cidr: Cidr) -> u32 {
    cidr.size().saturating_sub(RESERVED_FIRST + RESERVED_LAST)
}

/// The router's address, which tasks have as their gateway.
pub(crate) fn gateway(cidr: Cidr) -> Ipv4Addr {
    cidr.at(1)
}

/// The same for IPv6.
pub(crate) fn gateway_ipv6(cidr: Cidr6) -> Ipv6Addr {
    cidr.at(1)
}

/// Creates an interface with addresses that no other interface has.
pub(crate) fn allocate_eni(
    tx: &mut Tx,
    request: EniRequest,
) -> Result<EniRow, AllocateEniError> {
    let EniRequest { account, region, subnet_id, .. } = &request;
    let key = Key::of([account, region, subnet_id]);
    let Some(subnet) = tx.get::<SubnetRow>(&key) else {
        return Err(AllocateEniError::NoSuchSubnet {
            subnet_id: request.subnet_id,
        });
    };
    let security_groups = groups(tx, &request, &subnet)?;
    let taken = |key: Key| {
        tx.by_index::<EniRow>(EniRow::BY_ADDRESS, &key).next().is_some()
    };
    let taken4 = |address: Ipv4Addr| taken(EniRow::address_key(address));
    let Some(offset) = free_offset(subnet.cidr, subnet.next_offset, taken4)
    else {
        return Err(AllocateEniError::SubnetFull {
            subnet_id: request.subnet_id,
        });
    };
    let address = subnet.cidr.at(offset);
    let ipv6 = subnet
        .ipv6
        .as_ref()
        .filter(|_| request.wants_ipv6 && subnet.assign_ipv6);
    let taken6 = |address: Ipv6Addr| taken(EniRow::address_key(address));
    let ipv6 = ipv6.map(|it| free_ipv6(it.cidr, request.id, taken6));
    tx.put(SubnetRow { next_offset: offset + 1, ..(*subnet).clone() });
    let partition = crate::services::partition_of(&request.region);
    let eni = EniRow {
        id: hex_id("eni", request.id),
        subnet_id: request.subnet_id,
        vpc_id: subnet.vpc_id.clone(),
        zone: subnet.zone.clone(),
        zone_id: subnet.zone_id.clone(),
        private_ip: address,
        ipv6,
        mac: mac_of(address),
        security_groups,
        description: format!(
            "arn:{partition}:ecs:{}:{}:attachment/{}",
            request.region, request.account, request.attachment_id
        ),
        attachment_id: request.attachment_id,
        task_arn: request.task_arn,
        created_at: request.now,
        tags: Tags::new(),
        account: request.account,
        region: request.region,
    };
    tx.put(eni.clone());
    Ok(eni)
}

/// Deletes an interface; its address is free again. Nothing to do where there
/// is none: stopping a task is repeated after a crash.
pub(crate) fn release_eni(
    tx: &mut Tx,
    account: &str,
    region: &str,
    id: &str,
) -> Option<EniRow> {
    tx.delete::<EniRow>(&EniRow::key_of(account, region, id))
        .map(|row| (*row).clone())
}

/// Checks the groups asked for, or takes the VPC's default one.
fn groups(
    tx: &Tx,
    request: &EniRequest,
    subnet: &SubnetRow,
) -> Result<Vec<String>, AllocateEniError> {
    let scope = Key::of([&request.account, &request.region]);
    if request.security_groups.is_empty() {
        return Ok(tx
            .scan::<SecurityGroupRow>(&scope)
            .filter(|g| g.vpc_id == subnet.vpc_id && g.name == DEFAULT_GROUP)
            .map(|group| group.id.clone())
            .collect());
    }
    for group_id in &request.security_groups {
        match tx.get::<SecurityGroupRow>(&scope.with(group_id)) {
            None => {
                return Err(AllocateEniError::NoSuchSecurityGroup {
                    group_id: group_id.clone(),
                });
            }
            Some(group) if group.vpc_id != subnet.vpc_id => {
                return Err(AllocateEniError::OtherVpc);
            }
            Some(_) => {}
        }
    }
    Ok(request.security_groups.clone())
}

/// The first offset from `start`, round the block, that may be given out.
fn free_offset(
    cidr: Cidr,
    start: u32,
    taken: impl Fn(Ipv4Addr) -> bool,
) -> Option<u32> {
    let count = usable(cidr);
    let start = start.saturating_sub(RESERVED_FIRST) % count.max(1);
    (0..count)
        .map(|step| RESERVED_FIRST + (start + step) % count)
        .find(|offset| !taken(cidr.at(*offset)))
}

/// An address of a /64 that may be given out: one at random, as EC2 does, so
/// that none is soon used again. `number` is a fresh random one.
fn free_ipv6(
    cidr: Cidr6,
    number: u128,
    taken: impl Fn(Ipv6Addr) -> bool,
) -> Ipv6Addr {
    let first = u64::from(RESERVED_FIRST);
    let count = u64::MAX - first - u64::from(RESERVED_LAST) + 1;
    let start = folded(number) % count;
    // Nobody has 2^64 interfaces, so that one is always free.
    let mut step = 0_u64;
    loop {
        let offset = (u128::from(start) + u128::from(step)) % u128::from(count);
        let address = cidr.at(u128::from(first) + offset);
        if !taken(address) {
            return address;
        }
        step += 1;
    }
}

/// A locally administered address made from the IP address: as unique as it,
/// and a neighbour's stale ARP entry for a reused address is still right.
fn mac_of(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("02:ec:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

/// `prefix-0` and 16 hexadecimal digits, as EC2 writes ids.
pub(crate) fn hex_id(prefix: &str, number: u128) -> String {
    format!("{prefix}-0{:016x}", folded(number))
}

/// Version and variant bits of a UUID lie in the middle: folded away.
fn folded(number: u128) -> u64 {
    let folded = (number >> 64) ^ (number & u128::from(u64::MAX));
    u64::try_from(folded).unwrap_or(u64::MAX)
}
