//! Setting a network up, and taking it down.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use parking_lot::Mutex;

use super::attach::{bridge_gateway, is_host_address, parse_bridge_alias};
use super::error::{DoingStep, outside};
use super::firewall;
use super::firewall6;
use super::groups::{Groups, guard};
use super::keeper::Keeper;
use super::leases::Leases;
use super::leftovers;
use super::netlink::Socket;
use super::ports::Ports;
use super::route::{self, Address, Link, Route};
use super::subnets::{Subnets, segments};
use super::{
    BRIDGE_CIDR_OPTION, Inner, IpFamily, Ipv4Cidr, Ipv6Cidr, MacAddress,
    NetworkConfig, NetworkStepError, OpenNetworkError, VPC_CIDR_OPTION,
    endpoint, forwarding, host6, namespace, sysctl,
};

/// The rest of an interface's 15 characters is a dash and a hash.
const NAME_MAX: usize = 6;
/// Prefix lengths that leave room for containers and make sense as a network.
pub(super) const PREFIX_LENGTHS: std::ops::RangeInclusive<u8> = 8..=29;
/// The MTU where the host has no default route to take one from.
const DEFAULT_MTU: u32 = 1500;

/// What the host's network looks like.
pub(super) struct Host {
    pub(super) links: Vec<Link>,
    pub(super) addresses: Vec<Address>,
    pub(super) addresses6: Vec<Address<Ipv6Addr>>,
    routes: Vec<Route>,
    pub(super) routes6: Vec<Route<Ipv6Addr>>,
}

impl Inner {
    /// Runs in the namespace to set up.
    pub(super) fn open(
        config: NetworkConfig,
    ) -> Result<Inner, OpenNetworkError> {
        check_config(&config)?;
        let own = File::open(namespace::OWN_NAMESPACE)
            .doing("open the host's network namespace")?;
        let mut socket = Socket::route()?;
        let host = Host::look(&mut socket)?;
        let (vpc, bridge) = bridge_names(&config.name);
        for subnet in &config.subnets {
            host.check_free(subnet.cidr, &config.name, VPC_CIDR_OPTION)?;
        }
        let range = choose_bridge_range(&host, &config, &bridge)?;
        let pins = leftovers::pin_dir(&config.run_dir, &config.name);
        namespace::make_pin_dir(&pins)?;

        let mtu = host.uplink_mtu();
        let mut netfilter = Socket::netfilter()?;
        let has_ipv6 = firewall6::is_available(&mut netfilter, &config.name);
        let subnets = Subnets::found(&config.subnets, &host, &vpc, has_ipv6);
        let gateways = subnets.gateways_in_ranges();
        let vpc_link = bridge_set_up(&mut socket, &host, &vpc, &gateways, mtu)?;
        let gateway = [(bridge_gateway(range), range)];
        let bridge_link =
            bridge_set_up(&mut socket, &host, &bridge, &gateway, mtu)?;
        host6::bridge_set_up(&mut socket, &host, &bridge, bridge_link, &[])?;
        let segments = segments(&config.name, &subnets, range);
        endpoint::route_add(bridge_link)?;
        forwarding::switch_on(&config)?;
        host6::set_up(&config, &host, vpc_link, &subnets.ipv6(), has_ipv6)?;
        firewall::table_set_up(&mut netfilter, &config.name, &segments)
            .doing("set up the nftables table")?;
        let published = firewall::ports(&mut netfilter, &config.name)
            .doing("read the published ports")?;
        let leases = host.leases(range, bridge_link);
        let published =
            drop_orphans(&mut netfilter, &config, published, &leases)?;
        let ports = Ports::take_over(&published, config.dynamic_ports);
        let groups = config.security_groups.then(Groups::default);
        let inner = Inner {
            config,
            host: own,
            vpc_link,
            bridge_link,
            subnets: Mutex::new(subnets),
            groups: groups.map(Mutex::new),
            guard: Mutex::default(),
            former: Mutex::default(),
            mtu,
            has_ipv6,
            leases: Mutex::new(leases),
            ports: Mutex::new(ports),
            endpoint: Mutex::new(None),
            turns: std::array::from_fn(|_| Mutex::new(())),
            keeper: Keeper::default(),
        };
        inner.groups_open(&mut socket, &mut netfilter, &host.links)?;
        inner.sweep(&host.links)?;
        inner.former_forget_all(&inner.subnets.lock(), &host.links)?;
        // Worth a warning, not a refusal: tasks work but for each other.
        if let Err(error) = inner.pass_other_firewalls() {
            let cause = error.cause();
            tracing::warn!(%error, %cause, "another firewall is in the way");
        }
        for cure in forwarding::closed_firewalls(&inner.config.name)? {
            tracing::warn!("{cure}");
        }
        Ok(inner)
    }

    /// Has the VPC's bridge and its ports obey security groups, or not.
    fn groups_open(
        &self,
        socket: &mut Socket,
        netfilter: &mut Socket,
        links: &[Link],
    ) -> Result<(), NetworkStepError> {
        let is_on = self.groups.is_some();
        let (vpc, _) = bridge_names(&self.config.name);
        if is_on {
            self.groups_reassert(netfilter)?;
            self.guard_open()?;
        } else {
            guard::delete_all(netfilter, &self.config.name)
                .doing("delete the security groups' rules")?;
        }
        // The host answers for neighbours that a port cannot see, at once,
        // and does not send anyone another way.
        let (proxy, redirects) = if is_on { ("1", "0") } else { ("0", "1") };
        for (setting, value) in [
            ("neigh", "proxy_delay", "0"),
            ("conf", "proxy_arp_pvlan", proxy),
            ("conf", "send_redirects", redirects),
        ]
        .map(|(kind, name, value)| (format!("ipv4/{kind}/{vpc}/{name}"), value))
        {
            sysctl::set(&setting, value)?;
        }
        let ports = links.iter().filter(|l| l.master == Some(self.vpc_link));
        for port in ports.filter(|port| port.is_isolated != is_on) {
            route::port_isolate(socket, port.index, is_on)
                .doing(format_args!("isolate interface {}", port.name))?;
        }
        Ok(())
    }

    pub(super) fn reassert(&self) -> Result<(), NetworkStepError> {
        self.subnets_prune()?;
        let segments = self.segments();
        // Held throughout: nothing may come back once it is torn down.
        let ports = self.ports.lock();
        if ports.is_closed() {
            return Ok(());
        }
        let name = &self.config.name;
        let mut netfilter = Socket::netfilter()?;
        let tables = firewall::tables(&mut netfilter)
            .doing("list the nftables tables")?;
        let is_gone = !tables.contains(&firewall::table_name(name));
        if is_gone {
            tracing::warn!("nftables rules were removed; putting them back");
            firewall::table_set_up(&mut netfilter, name, &segments)
                .doing("set up the nftables table")?;
            firewall::ports_add(&mut netfilter, name, &ports.entries())
                .doing("forward the published ports")?;
        }
        self.ipv6_reassert(&mut netfilter)?;
        self.endpoint_renew(&mut netfilter, is_gone)?;
        endpoint::route_add(self.bridge_link)?;
        forwarding::switch_on(&self.config)?;
        self.groups_reassert(&mut netfilter)?;
        self.guard_reassert(&mut netfilter)?;
        self.pass_other_firewalls()
    }

    fn ipv6_reassert(
        &self,
        netfilter: &mut Socket,
    ) -> Result<(), NetworkStepError> {
        if !self.has_ipv6 {
            return Ok(());
        }
        let name = &self.config.name;
        let ipv6 = self.subnets.lock().ipv6();
        let tables =
            firewall6::tables(netfilter).doing("list the nftables tables")?;
        if !tables.contains(&firewall::table_name(name)) {
            let (bridge, _) = bridge_names(name);
            firewall6::table_set_up(netfilter, name, &bridge, &ipv6)
                .doing("set up the nftables table for IPv6")?;
        }
        if ipv6.is_empty() {
            return Ok(());
        }
        host6::forwarding_on(&self.config)
    }

    /// Asks the host's other firewalls for passage, for the families in use.
    fn pass_other_firewalls(&self) -> Result<(), NetworkStepError> {
        let segments = self.segments();
        forwarding::pass_other_firewalls(IpFamily::V4, &segments)?;
        if self.subnets.lock().ipv6().is_empty() {
            return Ok(());
        }
        forwarding::pass_other_firewalls(IpFamily::V6, &segments)
    }

    pub(super) fn teardown(&self) -> Result<(), NetworkStepError> {
        self.ports.lock().close();
        leftovers::remove(&self.config.name, &self.config.run_dir)
    }
}

fn check_config(config: &NetworkConfig) -> Result<(), OpenNetworkError> {
    let name = &config.name;
    let is_fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if !name.starts_with(|c: char| c.is_ascii_lowercase())
        || name.len() > NAME_MAX
        || !name.chars().all(is_fine)
    {
        return Err(OpenNetworkError::InvalidName { name: name.clone() });
    }
    let invalid = |cidr: Ipv4Cidr, reason| {
        let cidr = cidr.into();
        Err(OpenNetworkError::InvalidRange { cidr, reason })
    };
    let ranges = config.subnets.iter().map(|s| s.cidr);
    let ranges: Vec<_> = ranges.chain(config.bridge_cidr).collect();
    for (n, cidr) in ranges.iter().copied().enumerate() {
        if !PREFIX_LENGTHS.contains(&cidr.prefix_len()) {
            let (low, high) = (PREFIX_LENGTHS.start(), PREFIX_LENGTHS.end());
            let reason = format!("its prefix is not from {low} to {high} bits");
            return invalid(cidr, reason);
        }
        if let Some(other) = ranges[..n].iter().find(|o| o.overlaps(cidr)) {
            return invalid(cidr, format!("it overlaps {other}"));
        }
    }
    for subnet in &config.subnets {
        if !is_host_address(subnet.cidr, subnet.gateway) {
            let reason = outside(subnet.gateway, subnet.cidr);
            return invalid(subnet.cidr, format!("its gateway {reason}"));
        }
    }
    Ok(())
}

/// The names of the VPC's bridge and of bridge mode's.
pub(super) fn bridge_names(name: &str) -> (String, String) {
    (format!("{name}-vpc"), format!("{name}-br"))
}

impl Host {
    pub(super) fn look(socket: &mut Socket) -> Result<Host, NetworkStepError> {
        Ok(Host {
            links: route::links(socket).doing("list the interfaces")?,
            addresses: route::addresses(socket).doing("list the addresses")?,
            addresses6: route::addresses(socket)
                .doing("list the IPv6 addresses")?,
            routes: route::routes(socket).doing("list the routes")?,
            routes6: route::routes(socket).doing("list the IPv6 routes")?,
        })
    }

    pub(super) fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    /// The first route of others that overlaps `cidr`, and its interface.
    fn conflict(
        &self,
        cidr: Ipv4Cidr,
        name: &str,
    ) -> Option<(Ipv4Cidr, String)> {
        let (vpc, bridge) = bridge_names(name);
        self.routes.iter().find_map(|route| {
            let link = self.links.iter().find(|l| Some(l.index) == route.link);
            let via = link.map_or("a gateway", |link| &link.name);
            let is_default = route.destination.prefix_len() == 0;
            let is_ours = via == vpc || via == bridge;
            (!is_default && !is_ours && route.destination.overlaps(cidr))
                .then(|| (route.destination, via.to_owned()))
        })
    }

    pub(super) fn check_free(
        &self,
        cidr: Ipv4Cidr,
        name: &str,
        option: &'static str,
    ) -> Result<(), OpenNetworkError> {
        match self.conflict(cidr, name) {
            Some((route, interface)) => Err(OpenNetworkError::RouteConflict {
                cidr,
                route,
                interface,
                option,
            }),
            None => Ok(()),
        }
    }

    /// The first IPv6 route of others that overlaps `cidr`, and its interface.
    pub(super) fn conflict6(
        &self,
        cidr: Ipv6Cidr,
        own: u32,
    ) -> Option<(Ipv6Cidr, String)> {
        self.routes6.iter().find_map(|route| {
            let link = self.links.iter().find(|l| Some(l.index) == route.link);
            let via = link.map_or("a gateway", |link| &link.name);
            let is_default = route.destination.prefix_len() == 0;
            let is_ours = route.link == Some(own);
            (!is_default && !is_ours && route.destination.overlaps(cidr))
                .then(|| (route.destination, via.to_owned()))
        })
    }

    /// The largest packet that leaves the host in one piece.
    fn uplink_mtu(&self) -> u32 {
        let is_default = |r: &&Route| r.destination.prefix_len() == 0;
        let link = self.routes.iter().find(is_default).and_then(|r| r.link);
        let link = self.links.iter().find(|l| Some(l.index) == link);
        link.map_or(DEFAULT_MTU, |link| link.mtu)
    }

    /// The addresses that bridge-mode containers of an earlier process have.
    fn leases(&self, range: Ipv4Cidr, bridge: u32) -> Leases {
        let mut leases = Leases::new(range);
        let ports = self.links.iter().filter(|l| l.master == Some(bridge));
        for alias in ports.filter_map(|port| port.alias.as_deref()) {
            if let Some((id, address)) = parse_bridge_alias(alias) {
                leases.restore(id, address);
            }
        }
        leases
    }
}

/// The configured range, the one the bridge has, or the first free one.
fn choose_bridge_range(
    host: &Host,
    config: &NetworkConfig,
    bridge: &str,
) -> Result<Ipv4Cidr, OpenNetworkError> {
    let option = BRIDGE_CIDR_OPTION;
    if let Some(range) = config.bridge_cidr {
        host.check_free(range, &config.name, option)?;
        return Ok(range);
    }
    let in_vpc = |range: Ipv4Cidr| {
        config.subnets.iter().any(|subnet| subnet.cidr.overlaps(range))
    };
    let is_free = |range: &Ipv4Cidr| {
        !in_vpc(*range) && host.conflict(*range, &config.name).is_none()
    };
    let link = host.link(bridge).map(|link| link.index);
    let current = host.addresses.iter().find(|a| Some(a.link) == link);
    current
        .and_then(|a| Ipv4Cidr::new(a.address, a.prefix_len))
        .into_iter()
        .chain(candidates())
        .find(is_free)
        .ok_or(OpenNetworkError::NoFreeRange { option })
}

/// Docker's default pools: 172.17/16 to 172.30/16, then 192.168 by twenties.
fn candidates() -> impl Iterator<Item = Ipv4Cidr> {
    let large = (17..=30).map(|n| (Ipv4Addr::new(172, n, 0, 0), 16));
    let small =
        (0..=15).rev().map(|n| (Ipv4Addr::new(192, 168, n * 16, 0), 20));
    large.chain(small).filter_map(|(a, prefix)| Ipv4Cidr::new(a, prefix))
}

/// Makes a bridge hold exactly these IPv4 `gateways`; returns its index.
pub(super) fn bridge_set_up(
    socket: &mut Socket,
    host: &Host,
    name: &str,
    gateways: &[(Ipv4Addr, Ipv4Cidr)],
    mtu: u32,
) -> Result<u32, NetworkStepError> {
    if host.link(name).is_none() {
        // A fixed address: a bridge without one changes it with its ports.
        let [.., a, b, c, d] = name_bytes(name);
        let mac = MacAddress([0x02, 0x6d, a, b, c, d]);
        route::bridge_create(socket, name, mac, mtu)
            .doing(format_args!("make bridge {name}"))?;
    }
    // 127.0.0.1 must lead to published ports.
    sysctl::set(&format!("ipv4/conf/{name}/route_localnet"), "1")?;
    let link = route::link(socket, name)
        .doing(format_args!("look for bridge {name}"))?;
    let Some(link) = link else {
        let gone = io::Error::other("it vanished");
        return Err(NetworkStepError::new(format!("make {name}"), gone));
    };
    if !link.is_up {
        route::link_up(socket, link.index)
            .doing(format_args!("bring bridge {name} up"))?;
    }
    let wanted: Vec<_> = gateways
        .iter()
        .map(|(address, cidr)| Address {
            link: link.index,
            address: *address,
            prefix_len: cidr.prefix_len(),
        })
        .collect();
    let present = host.addresses.iter().filter(|a| a.link == link.index);
    for stale in present.filter(|address| !wanted.contains(address)) {
        route::address_delete(socket, stale)
            .doing(format_args!("take {} off {name}", stale.address))?;
    }
    for address in &wanted {
        route::address_add(socket, address)
            .doing(format_args!("give {name} address {}", address.address))?;
    }
    Ok(link.index)
}

fn name_bytes(name: &str) -> [u8; 4] {
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    hash.to_be_bytes()
}

/// Drops published ports whose container has gone.
fn drop_orphans(
    netfilter: &mut Socket,
    config: &NetworkConfig,
    published: Vec<firewall::PortEntry>,
    leases: &Leases,
) -> Result<Vec<firewall::PortEntry>, NetworkStepError> {
    let (kept, orphans): (Vec<_>, Vec<_>) = published
        .into_iter()
        .partition(|port| leases.is_taken(*port.target.ip()));
    if !orphans.is_empty() {
        firewall::ports_remove(netfilter, &config.name, &orphans)
            .doing("drop published ports of containers that are gone")?;
    }
    Ok(kept)
}
