//! Attaching tasks and containers, and taking them off again.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::path::PathBuf;

use super::error::{DoingStep, outside};
use super::netlink::Socket;
use super::route::{self, Address, Link, Veth};
use super::{
    AttachError, Attachment, AttachmentKind, BridgeEndpoint, Inner, Ipv4Cidr,
    Ipv6Cidr, MacAddress, NetworkStepError, Subnet, TaskEni, TaskIpv6,
    namespace, sysctl,
};

/// The interface inside a namespace, as in EC2 instances and containers.
pub(super) const INTERFACE: &str = "eth0";
/// With the kind before it the id still makes a file name (NAME_MAX).
const ID_MAX: usize = 128;

/// The interface a namespace should have.
struct Wanted {
    bridge: u32,
    alias: String,
    mac: MacAddress,
    address: Ipv4Addr,
    prefix_len: u8,
    gateway: Ipv4Addr,
    ipv6: Option<TaskIpv6>,
    hairpin: bool,
    /// Whether its own addresses are all that it may send from.
    is_guarded: bool,
    /// Whether it reaches its neighbours through the host alone, for security
    /// groups to judge.
    is_isolated: bool,
}

impl Inner {
    pub(super) fn attach_task(
        &self,
        eni: &TaskEni,
    ) -> Result<PathBuf, AttachError> {
        let kind = AttachmentKind::Task;
        let id = &eni.task_id;
        let _turn = self.turn(kind, id)?;
        self.check_interface(eni)?;
        let mut alias = format!("minato {kind} {id} {}", eni.ip);
        if let Some(ipv6) = &eni.ipv6 {
            alias.push_str(&format!(" {}", ipv6.ip));
        }
        let wanted = Wanted {
            bridge: self.vpc_link,
            alias,
            mac: eni.mac,
            address: eni.ip,
            prefix_len: eni.prefix_len,
            gateway: eni.gateway,
            ipv6: eni.ipv6,
            hairpin: false,
            is_guarded: self.groups.is_some(),
            is_isolated: self.groups.is_some(),
        };
        Ok(self.attach(kind, id, &wanted)?)
    }

    pub(super) fn attach_bridge(
        &self,
        id: &str,
    ) -> Result<BridgeEndpoint, AttachError> {
        let kind = AttachmentKind::Bridge;
        let _turn = self.turn(kind, id)?;
        let (cidr, address, was_leased) = {
            let mut leases = self.leases.lock();
            let cidr = leases.range();
            let was_leased = leases.of(id).is_some();
            let address = leases.lease(id);
            let address = address.ok_or(AttachError::NoFreeAddress { cidr })?;
            (cidr, address, was_leased)
        };
        let wanted = Wanted {
            bridge: self.bridge_link,
            alias: format!("minato {kind} {id} {address}"),
            mac: MacAddress::of_address(address),
            address,
            prefix_len: cidr.prefix_len(),
            gateway: bridge_gateway(cidr),
            ipv6: None,
            hairpin: true,
            // Or it could answer for the host, and hear what its neighbours
            // ask the task endpoint.
            is_guarded: self.groups.is_some(),
            is_isolated: false,
        };
        let netns = self.attach(kind, id, &wanted).inspect_err(|_| {
            if !was_leased {
                self.leases.lock().release(id);
            }
        })?;
        let Wanted { mac, prefix_len, gateway, .. } = wanted;
        Ok(BridgeEndpoint { netns, ip: address, prefix_len, gateway, mac })
    }

    pub(super) fn attach_none(&self, id: &str) -> Result<PathBuf, AttachError> {
        let _turn = self.turn(AttachmentKind::None, id)?;
        let path = self.pin_path(AttachmentKind::None, id);
        namespace::enter_or_create(&path)?;
        let mut inside = Socket::route()?;
        loopback_up(&mut inside)?;
        Ok(path)
    }

    pub(super) fn detach(
        &self,
        kind: AttachmentKind,
        id: &str,
    ) -> Result<(), AttachError> {
        let _turn = self.turn(kind, id)?;
        if kind == AttachmentKind::Bridge {
            self.unpublish_all(id)?;
        }
        if kind != AttachmentKind::None {
            let port = self.veth_name(kind, id);
            self.unplug(&port)?;
            self.guard_close(&port)?;
        }
        // The interface goes with the namespace, which goes with its last
        // process; `sweep` deletes it if that never happens.
        namespace::unpin(&self.pin_path(kind, id))?;
        if kind == AttachmentKind::Bridge {
            self.leases.lock().release(id);
        }
        Ok(())
    }

    fn unplug(&self, name: &str) -> Result<(), NetworkStepError> {
        let mut host = Socket::route()?;
        let port = route::link(&mut host, name)
            .doing(format_args!("look for interface {name}"))?;
        let Some(port) = port else { return Ok(()) };
        // One that is not, or not yet, on the bridge cannot be disabled.
        if port.master.is_some()
            && route::port_disable(&mut host, port.index).is_ok()
        {
            return Ok(());
        }
        route::link_delete(&mut host, name)
            .doing(format_args!("delete interface {name}"))
    }

    /// Deletes interfaces whose namespace is not pinned any more: an earlier
    /// process detached them, or died while attaching them.
    pub(super) fn sweep(&self, links: &[Link]) -> Result<(), NetworkStepError> {
        let kept: HashSet<_> = self
            .attachments()?
            .iter()
            .map(|found| self.veth_name(found.kind, &found.id))
            .collect();
        let mut host = Socket::route()?;
        let bridges = [Some(self.vpc_link), Some(self.bridge_link)];
        let ports = links.iter().filter(|l| bridges.contains(&l.master));
        for port in ports.filter(|port| !kept.contains(&port.name)) {
            let alias = port.alias.as_deref().and_then(parse_bridge_alias);
            if let Some((id, _)) = alias {
                self.unpublish_all(id)?;
                self.leases.lock().release(id);
            }
            route::link_delete(&mut host, &port.name)
                .doing(format_args!("delete interface {}", port.name))?;
        }
        Ok(())
    }

    pub(super) fn attachments(
        &self,
    ) -> Result<Vec<Attachment>, NetworkStepError> {
        let dir = self.pin_dir();
        let shown = dir.display();
        let mut found = Vec::new();
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(found);
            }
            Err(error) => {
                return Err(error).doing(format_args!("list {shown}"));
            }
        };
        for entry in entries {
            let entry = entry.doing(format_args!("list {shown}"))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some((kind, id)) = name.split_once('-') else { continue };
            let Some(kind) = AttachmentKind::of_name(kind) else { continue };
            let id = id.to_owned();
            found.push(Attachment { kind, id, netns: entry.path() });
        }
        found.sort();
        Ok(found)
    }

    fn check_interface(&self, eni: &TaskEni) -> Result<(), AttachError> {
        let refuse = |reason| Err(AttachError::interface(&eni.task_id, reason));
        let subnets = self.subnets.lock();
        let Some(subnet) = subnets.get(&eni.subnet_id) else {
            return refuse(format!("there is no subnet {}", eni.subnet_id));
        };
        if eni.prefix_len != subnet.cidr.prefix_len()
            || eni.gateway != subnet.gateway
        {
            return refuse(format!(
                "prefix and gateway are not those of {}",
                subnet.id
            ));
        }
        if !is_host_address(subnet.cidr, eni.ip) || eni.ip == subnet.gateway {
            return refuse(outside(eni.ip, subnet.cidr));
        }
        if !eni.mac.is_unicast() {
            return refuse(format!("{} is not a unicast address", eni.mac));
        }
        match &eni.ipv6 {
            Some(ipv6) => check_ipv6(ipv6, subnet).or_else(refuse),
            None => Ok(()),
        }
    }

    /// Brings the namespace and its interface to what is wanted.
    fn attach(
        &self,
        kind: AttachmentKind,
        id: &str,
        wanted: &Wanted,
    ) -> Result<PathBuf, NetworkStepError> {
        let path = self.pin_path(kind, id);
        let name = self.veth_name(kind, id);
        let mut host = Socket::route()?;
        let port = route::link(&mut host, &name)
            .doing(format_args!("look for interface {name}"))?;
        refuse_stranger(port.as_ref(), wanted, kind, id)?;
        let _kept = wanted.is_guarded.then(|| self.guard_keep(&name));
        if wanted.is_guarded {
            let ipv6 = wanted.ipv6.map(|ipv6| ipv6.ip);
            self.guard_add(&name, wanted.mac, wanted.address, ipv6)?;
            let is_new = port.is_none();
            for address in wanted.addresses().filter(|_| is_new) {
                self.former_forget(&mut host, address)?;
            }
        }
        let is_new = namespace::enter_or_create(&path)?;
        let mut inside = Socket::route()?;
        if !is_new && is_in_place(port.as_ref(), &mut inside, wanted)? {
            return Ok(path);
        }
        harden(wanted.ipv6.is_some())?;
        // Deleting one end deletes the other.
        if port.is_some() {
            route::link_delete(&mut host, &name)
                .doing(format_args!("delete interface {name}"))?;
        }
        route::link_delete(&mut inside, INTERFACE)
            .doing("delete a half-made interface")?;
        self.plug_in(&mut host, &name, wanted)?;
        wanted.addresses().for_each(|address| self.former_note(address));
        configure(&mut inside, wanted)?;
        for address in wanted.addresses() {
            let Wanted { bridge, mac, .. } = *wanted;
            route::neighbour_set(&mut host, bridge, address, mac)
                .doing(format_args!("note who has {address}"))?;
        }
        Ok(path)
    }

    /// Makes the veth pair; the calling thread is in the peer's namespace.
    fn plug_in(
        &self,
        host: &mut Socket,
        name: &str,
        wanted: &Wanted,
    ) -> Result<(), NetworkStepError> {
        let namespace = fs::File::open(namespace::OWN_NAMESPACE)
            .doing("open a task's namespace")?;
        let veth = Veth {
            name,
            bridge: wanted.bridge,
            mtu: self.mtu,
            peer_name: INTERFACE,
            peer_mac: wanted.mac,
            peer_namespace: namespace.as_fd(),
        };
        route::veth_create(host, &veth)
            .doing(format_args!("make interface {name}"))?;
        let Wanted { alias, hairpin, is_isolated, .. } = wanted;
        route::port_describe(host, name, alias, *hairpin, *is_isolated)
            .doing(format_args!("describe interface {name}"))
    }

    /// Waits for other operations on the same id; refuses impossible ids.
    pub(super) fn turn(
        &self,
        kind: AttachmentKind,
        id: &str,
    ) -> Result<parking_lot::MutexGuard<'_, ()>, AttachError> {
        let is_fine = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if id.is_empty() || id.len() > ID_MAX || !id.chars().all(is_fine) {
            return Err(AttachError::InvalidId { id: id.to_owned() });
        }
        let turns = self.turns.len() as u64;
        let turn = usize::try_from(hash(kind, id) % turns).unwrap_or(0);
        Ok(self.turns[turn].lock())
    }

    pub(super) fn pin_dir(&self) -> PathBuf {
        super::leftovers::pin_dir(&self.config.run_dir, &self.config.name)
    }

    pub(super) fn pin_path(&self, kind: AttachmentKind, id: &str) -> PathBuf {
        self.pin_dir().join(format!("{kind}-{id}"))
    }

    /// The name of the bridge's port: 40 bits of the id's hash fit.
    fn veth_name(&self, kind: AttachmentKind, id: &str) -> String {
        const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        let mut name = format!("{}-", self.config.name);
        let mut hash = hash(kind, id);
        for _ in 0..8 {
            let digit = usize::try_from(hash & 31).unwrap_or(0);
            name.push(char::from(DIGITS[digit]));
            hash >>= 5;
        }
        name
    }
}

/// The host's address on the bridge: the first one.
pub(super) fn bridge_gateway(cidr: Ipv4Cidr) -> Ipv4Addr {
    cidr.nth(1).unwrap_or(cidr.network())
}

/// Whether `address` may belong to an interface in `cidr`.
pub(super) fn is_host_address(cidr: Ipv4Cidr, address: Ipv4Addr) -> bool {
    cidr.contains(address)
        && address != cidr.network()
        && address != cidr.broadcast()
}

/// Reads the id and address out of a bridge port's alias.
pub(super) fn parse_bridge_alias(alias: &str) -> Option<(&str, Ipv4Addr)> {
    let rest = alias.strip_prefix("minato bridge ")?;
    let (id, address) = rest.split_once(' ')?;
    Some((id, address.parse().ok()?))
}

/// Reads the addresses out of the alias of a task's port.
pub(super) fn parse_task_alias(
    alias: &str,
) -> Option<(Ipv4Addr, Option<Ipv6Addr>)> {
    let rest = alias.strip_prefix("minato task ")?;
    let mut words = rest.split(' ').skip(1);
    let address = words.next()?.parse().ok()?;
    Some((address, words.next().and_then(|word| word.parse().ok())))
}

/// Whether a task in `subnet` may have the address; the answer is why not.
fn check_ipv6(ipv6: &TaskIpv6, subnet: &Subnet) -> Result<(), String> {
    let id = &subnet.id;
    let Some(range) = &subnet.ipv6 else {
        return Err(format!("{id} has no IPv6 on this host"));
    };
    let TaskIpv6 { ip, prefix_len, gateway } = *ipv6;
    if prefix_len != range.cidr.prefix_len() || gateway != range.gateway {
        return Err(format!("IPv6 prefix and gateway are not those of {id}"));
    }
    let is_free = ip != gateway && ip != range.cidr.network();
    if !is_free || !range.cidr.contains(ip) {
        return Err(format!("{ip} is not a usable address of {}", range.cidr));
    }
    Ok(())
}

/// Two ids whose hashes collide must not take each other's interface.
fn refuse_stranger(
    port: Option<&Link>,
    wanted: &Wanted,
    kind: AttachmentKind,
    id: &str,
) -> Result<(), NetworkStepError> {
    let Some(alias) = port.and_then(|port| port.alias.as_deref()) else {
        return Ok(());
    };
    let prefix = format!("minato {kind} {id}");
    let is_ours = alias == prefix || alias.starts_with(&format!("{prefix} "));
    if is_ours {
        return Ok(());
    }
    let error = io::Error::other(format!("its interface serves {alias}"));
    Err(NetworkStepError::new(format!("attach {}", wanted.alias), error))
}

/// Whether everything is as wanted already.
fn is_in_place(
    port: Option<&Link>,
    inside: &mut Socket,
    wanted: &Wanted,
) -> Result<bool, NetworkStepError> {
    let Some(port) = port else { return Ok(false) };
    if !port.is_up
        || !port.is_forwarding
        || port.is_isolated != wanted.is_isolated
        || port.master != Some(wanted.bridge)
        || port.alias.as_deref() != Some(&wanted.alias)
    {
        return Ok(false);
    }
    let link = route::link(inside, INTERFACE)
        .doing("look for the interface of a namespace")?;
    let Some(link) = link.filter(|l| l.is_up && l.mac == Some(wanted.mac))
    else {
        return Ok(false);
    };
    let addresses =
        route::addresses(inside).doing("list the addresses of a namespace")?;
    let routes =
        route::routes(inside).doing("list the routes of a namespace")?;
    Ok(addresses.contains(&wanted.address_on(link.index))
        && routes.iter().any(|route| route.gateway == Some(wanted.gateway))
        && is_ipv6_in_place(inside, wanted, link.index)?)
}

fn is_ipv6_in_place(
    inside: &mut Socket,
    wanted: &Wanted,
    link: u32,
) -> Result<bool, NetworkStepError> {
    let Some(ipv6) = &wanted.ipv6 else { return Ok(true) };
    let addresses = route::addresses(inside)
        .doing("list the IPv6 addresses of a namespace")?;
    let routes =
        route::routes(inside).doing("list the IPv6 routes of a namespace")?;
    Ok(addresses.contains(&ipv6.address_on(link))
        && routes.iter().any(|route| route.gateway == Some(ipv6.gateway)))
}

/// Settings of interfaces with an IPv6 address: what they have is what they
/// are given. No address of the link, nothing from whoever says to be a
/// router, nothing to wait for.
const IPV6_SETTINGS: [(&str, &str); 5] = [
    ("addr_gen_mode", "1"),
    ("accept_ra", "0"),
    ("autoconf", "0"),
    ("accept_redirects", "0"),
    ("accept_dad", "0"),
];

/// Settings of a new namespace, made before it has an interface.
fn harden(has_ipv6: bool) -> Result<(), NetworkStepError> {
    for (name, value) in IPV6_SETTINGS.into_iter().filter(|_| has_ipv6) {
        sysctl::set(&format!("ipv6/conf/default/{name}"), value)?;
    }
    // As Docker does: no IPv6 but loopback's where there is no IPv6 network,
    // low ports and ping for all users of the container.
    let is_off = if has_ipv6 { "0" } else { "1" };
    sysctl::set_if_there("ipv6/conf/default/disable_ipv6", is_off)?;
    sysctl::set_if_there("ipv4/ip_unprivileged_port_start", "0")?;
    sysctl::set_if_there("ipv4/ping_group_range", "0 2147483647")
}

/// Address, routes and loopback inside the namespace.
fn configure(
    inside: &mut Socket,
    wanted: &Wanted,
) -> Result<(), NetworkStepError> {
    loopback_up(inside)?;
    let link = route::link(inside, INTERFACE)
        .doing("look for the interface of a namespace")?;
    let Some(link) = link else {
        let gone = io::Error::other("it vanished");
        return Err(NetworkStepError::new("configure an interface", gone));
    };
    route::address_add(inside, &wanted.address_on(link.index))
        .doing(format_args!("give a namespace address {}", wanted.address))?;
    route::link_up(inside, link.index)
        .doing("bring the interface of a namespace up")?;
    route::default_route_set(inside, wanted.gateway, link.index)
        .doing(format_args!("route a namespace through {}", wanted.gateway))?;
    match &wanted.ipv6 {
        Some(ipv6) => configure_ipv6(inside, ipv6, link.index),
        None => Ok(()),
    }
}

fn configure_ipv6(
    inside: &mut Socket,
    ipv6: &TaskIpv6,
    link: u32,
) -> Result<(), NetworkStepError> {
    let TaskIpv6 { ip, gateway, .. } = *ipv6;
    route::address_add(inside, &ipv6.address_on(link))
        .doing(format_args!("give a namespace address {ip}"))?;
    let gateway_alone = Ipv6Cidr::of_address(gateway);
    let step = format!("route a namespace through {gateway}");
    route::link_route_set(inside, gateway_alone, link).doing(&step)?;
    route::default_route_set(inside, gateway, link).doing(step)
}

fn loopback_up(inside: &mut Socket) -> Result<(), NetworkStepError> {
    route::link_up(inside, route::LOOPBACK)
        .doing("bring the loopback interface of a namespace up")
}

/// FNV-1a, the same in every version of Minato.
fn hash(kind: AttachmentKind, id: &str) -> u64 {
    let text = format!("{kind} {id}");
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

impl Wanted {
    fn address_on(&self, link: u32) -> Address {
        let Wanted { address, prefix_len, .. } = *self;
        Address { link, address, prefix_len }
    }

    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let ipv6 = self.ipv6.map(|ipv6| IpAddr::V6(ipv6.ip));
        [IpAddr::V4(self.address)].into_iter().chain(ipv6)
    }
}

impl TaskIpv6 {
    fn address_on(&self, link: u32) -> Address<Ipv6Addr> {
        let TaskIpv6 { ip, prefix_len, .. } = *self;
        Address { link, address: ip, prefix_len }
    }
}

impl AttachmentKind {
    fn of_name(name: &str) -> Option<AttachmentKind> {
        match name {
            "task" => Some(AttachmentKind::Task),
            "bridge" => Some(AttachmentKind::Bridge),
            "none" => Some(AttachmentKind::None),
            _ => None,
        }
    }
}

impl std::fmt::Display for AttachmentKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            AttachmentKind::Task => "task",
            AttachmentKind::Bridge => "bridge",
            AttachmentKind::None => "none",
        })
    }
}
