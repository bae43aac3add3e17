//! A task's network interface as its agent needs it.

use minato_store::{Key, Snapshot};
use minato_wire::acs::{ElasticNetworkInterface, Ipv4Address, Ipv6Address};

use crate::services::ec2::eni::{gateway, gateway_ipv6};
use crate::services::ec2::rows::{EniRow, SubnetRow};
use crate::tables::Task;

/// Describes an interface with its subnet's gateway; `None` where it is gone.
pub(super) fn describe(
    rows: &Snapshot,
    row: &Task,
    id: &str,
) -> Option<ElasticNetworkInterface> {
    let key = EniRow::key_of(&row.account, &row.region, id);
    let eni = rows.get::<EniRow>(&key)?;
    let subnet = Key::of([&eni.account, &eni.region, &eni.subnet_id]);
    let subnet = rows.get::<SubnetRow>(&subnet)?;
    let block = subnet.ipv6.as_ref().filter(|_| eni.ipv6.is_some());
    Some(ElasticNetworkInterface {
        attachment_arn: Some(eni.description.clone()),
        ec2_id: eni.id.clone(),
        mac_address: eni.mac.clone(),
        ipv4_addresses: vec![Ipv4Address {
            private_address: eni.private_ip.to_string(),
            primary: Some(true),
        }],
        ipv6_addresses: eni
            .ipv6
            .iter()
            .map(|address| Ipv6Address {
                address: address.to_string(),
                primary: Some(true),
            })
            .collect(),
        subnet_gateway_ipv6_address: block.map(|block| {
            format!("{}/{}", gateway_ipv6(block.cidr), block.cidr.prefix)
        }),
        subnet_gateway_ipv4_address: Some(format!(
            "{}/{}",
            gateway(subnet.cidr),
            subnet.cidr.prefix
        )),
        private_dns_name: Some(eni.private_dns_name()),
        ..Default::default()
    })
}
