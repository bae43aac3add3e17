//! IPv6 on the host's side of the VPC's bridge.
//!
//! The bridge has each IPv6 subnet's gateway, and one address of the link that
//! the kernel asks from for neighbours. Where no subnet has IPv6, it is off,
//! as it always is on the bridge of bridge mode. The host forwards IPv6 from
//! the first such subnet on.

use std::fs;
use std::io;
use std::net::Ipv6Addr;
use std::path::Path;

use super::error::{DoingStep, NetworkStepError};
use super::netlink::Socket;
use super::open::{Host, bridge_names};
use super::route::{self, Address};
use super::{
    NetworkConfig, SubnetIpv6, firewall, firewall6, leftovers, sysctl,
};

/// What the host asks its tasks from, and what they answer.
const OWN: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const FORWARDING: &str = "ipv6/conf/all/forwarding";
/// Addresses of the link are made by nobody (`IN6_ADDR_GEN_MODE_NONE`).
const NO_ADDRESSES: &str = "1";
/// Router advertisements are heard also by a router.
const ALSO_AS_ROUTER: &str = "2";

/// Brings rules, bridge and forwarding to `subnets`, of which there are none
/// where the host has no IPv6.
pub(super) fn set_up(
    config: &NetworkConfig,
    host: &Host,
    link: u32,
    subnets: &[SubnetIpv6],
    has_ipv6: bool,
) -> Result<(), NetworkStepError> {
    let (bridge, _) = bridge_names(&config.name);
    // The rules first: what is new is never without them.
    if has_ipv6 {
        let mut netfilter = Socket::netfilter()?;
        let name = &config.name;
        firewall6::table_set_up(&mut netfilter, name, &bridge, subnets)
            .doing("set up the nftables table for IPv6")?;
    }
    bridge_set_up(&mut Socket::route()?, host, &bridge, link, subnets)?;
    if subnets.is_empty() {
        return Ok(());
    }
    forwarding_on(config)
}

/// Makes the bridge hold exactly the gateways of `subnets`.
pub(super) fn bridge_set_up(
    socket: &mut Socket,
    host: &Host,
    bridge: &str,
    link: u32,
    subnets: &[SubnetIpv6],
) -> Result<(), NetworkStepError> {
    let conf = |name: &str| format!("ipv6/conf/{bridge}/{name}");
    // Tasks must not configure the host by router advertisements
    // (CVE-2020-13401).
    if subnets.is_empty() {
        return sysctl::set_if_there(&conf("disable_ipv6"), "1");
    }
    if sysctl::get(&conf("addr_gen_mode"))? != NO_ADDRESSES {
        // Takes away those that the kernel has made.
        sysctl::set(&conf("disable_ipv6"), "1")?;
        sysctl::set(&conf("addr_gen_mode"), NO_ADDRESSES)?;
    }
    for setting in ["accept_ra", "autoconf", "accept_redirects", "accept_dad"] {
        sysctl::set(&conf(setting), "0")?;
    }
    sysctl::set(&conf("disable_ipv6"), "0")?;
    let on = |address, prefix_len| Address { link, address, prefix_len };
    let mut wanted = vec![on(OWN, 64)];
    wanted
        .extend(subnets.iter().map(|it| on(it.gateway, it.cidr.prefix_len())));
    let present = host.addresses6.iter().filter(|it| it.link == link);
    for stale in present.filter(|address| !wanted.contains(address)) {
        route::address_delete(socket, stale)
            .doing(format_args!("take {} off {bridge}", stale.address))?;
    }
    for address in &wanted {
        route::address_add(socket, address)
            .doing(format_args!("give {bridge} address {}", address.address))?;
    }
    let present = host.routes6.iter().filter(|it| it.link == Some(link));
    let is_stale = |range| subnets.iter().all(|subnet| subnet.cidr != range);
    for range in present.map(|it| it.destination).filter(|it| is_stale(*it)) {
        route::link_route_delete(socket, range, link)
            .doing(format_args!("take {range} off {bridge}"))?;
    }
    for SubnetIpv6 { cidr, .. } in subnets {
        route::link_route_set(socket, *cidr, link)
            .doing(format_args!("route {cidr} to {bridge}"))?;
    }
    Ok(())
}

/// Lets the host forward packets, noting how it was.
///
/// A router does not hear other routers any more, by which the host may have
/// its own address and way out: where it does, it goes on to.
pub(super) fn forwarding_on(
    config: &NetworkConfig,
) -> Result<(), NetworkStepError> {
    let before = sysctl::get(FORWARDING)?;
    if before == "1" {
        return Ok(());
    }
    let (vpc, bridge) = bridge_names(&config.name);
    let mut listeners = interfaces()?;
    listeners.retain(|name| {
        ![&vpc, &bridge].contains(&name)
            && sysctl::get(&accept_ra(name)).is_ok_and(|value| value == "1")
    });
    let note = leftovers::forward_note6(&config.run_dir, &config.name);
    let text = format!("{before}\n{}\n", listeners.join("\n"));
    fs::write(&note, text).doing(format_args!("write {}", note.display()))?;
    for name in &listeners {
        sysctl::set_if_there(&accept_ra(name), ALSO_AS_ROUTER)?;
    }
    sysctl::set(FORWARDING, "1")
}

/// Makes forwarding what it was, unless another Minato needs it.
pub(super) fn forwarding_back(
    name: &str,
    run_dir: &Path,
) -> Result<(), NetworkStepError> {
    let note = leftovers::forward_note6(run_dir, name);
    let text = match fs::read_to_string(&note) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(error).doing(format_args!("read {}", note.display()));
        }
    };
    let mut netfilter = Socket::netfilter()?;
    let tables =
        firewall6::tables(&mut netfilter).doing("list the nftables tables")?;
    let others = tables.iter().any(|t| t.starts_with(firewall::TABLE_PREFIX));
    let mut lines = text.lines();
    if let (Some(before), false) = (lines.next(), others) {
        sysctl::set_if_there(FORWARDING, before)?;
        for listener in lines.filter(|line| !line.is_empty()) {
            sysctl::set_if_there(&accept_ra(listener), "1")?;
        }
    }
    fs::remove_file(&note).doing(format_args!("remove {}", note.display()))
}

fn accept_ra(interface: &str) -> String {
    format!("ipv6/conf/{interface}/accept_ra")
}

/// The interfaces that have settings for IPv6.
fn interfaces() -> Result<Vec<String>, NetworkStepError> {
    let step = "list the interfaces with IPv6";
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc/sys/net/ipv6/conf").doing(step)? {
        let name = entry.doing(step)?.file_name();
        let name = name.to_string_lossy().into_owned();
        if name != "all" && name != "default" {
            found.push(name);
        }
    }
    found.sort();
    Ok(found)
}
