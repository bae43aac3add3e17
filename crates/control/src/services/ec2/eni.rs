//! Giving tasks their network interfaces.

use std::net::Ipv4Addr;

use minato_store::{Key, Tx};
use minato_wire::Timestamp;

use super::defaults::DEFAULT_GROUP;
use super::rows::{Cidr, EniRow, SecurityGroupRow, SubnetRow, Tags};

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

/// Creates an interface with an address that no other interface has.
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
    let taken = |address| {
        let key = EniRow::address_key(address);
        tx.by_index::<EniRow>(EniRow::BY_ADDRESS, &key).next().is_some()
    };
    let Some(offset) = free_offset(subnet.cidr, subnet.next_offset, taken)
    else {
        return Err(AllocateEniError::SubnetFull {
            subnet_id: request.subnet_id,
        });
    };
    let address = subnet.cidr.at(offset);
    tx.put(SubnetRow { next_offset: offset + 1, ..(*subnet).clone() });
    let partition = crate::services::partition_of(&request.region);
    let eni = EniRow {
        id: hex_id("eni", request.id),
        subnet_id: request.subnet_id,
        vpc_id: subnet.vpc_id.clone(),
        zone: subnet.zone.clone(),
        zone_id: subnet.zone_id.clone(),
        private_ip: address,
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

/// A locally administered address made from the IP address: as unique as it,
/// and a neighbour's stale ARP entry for a reused address is still right.
fn mac_of(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("02:ec:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

/// `prefix-0` and 16 hexadecimal digits, as EC2 writes ids.
pub(crate) fn hex_id(prefix: &str, number: u128) -> String {
    // Version and variant bits of a UUID lie in the middle; fold them away.
    let folded = (number >> 64) ^ (number & u128::from(u64::MAX));
    format!("{prefix}-0{folded:016x}")
}
