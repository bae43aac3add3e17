//! Keeps tasks and containers from using addresses that are not theirs.
//!
//! Who has CAP_NET_RAW or CAP_NET_ADMIN can send what it likes. Where its
//! frames enter the bridge, interface, hardware address and IP address must
//! be those of one attachment, in ARP and neighbour discovery as well; nothing
//! else enters. That is EC2's source check. An attachment without an IPv6
//! address sends no IPv6 at all, and none is a router.
//!
//! ```text
//! table bridge minato-NAME-sg {
//!   set ports   { ifname: all ports of our bridges }
//!   set owners  { ifname . ether_addr . ipv4_addr }
//!   set owners6 { ifname . ether_addr . ipv6_addr }
//!   chain guard { prerouting: other ports, accept; IPv4 and ARP of an owner,
//!                 accept; neighbour advertisements of an owner about its own
//!                 address, accept, others drop; router messages and
//!                 redirects, drop; IPv6 of an owner, accept; drop }
//! }
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::error::DoingStep;
use super::super::family::{IpFamily, octets};
use super::super::netlink::{Request, Socket, text};
use super::super::nft::{
    self, HOOK_PREROUTING, Hook, KeyPart, Layer, NFPROTO_BRIDGE, NFPROTO_IPV4,
    NFPROTO_IPV6, Rule, Set, for_bridges, interface_key,
};
use super::super::route::{self, Link, ignoring, is};
use super::super::{Inner, MacAddress, NetworkStepError};
use super::{ICMPV6, table_name};

const PORTS: &str = "ports";
const OWNERS: &str = "owners";
const OWNERS6: &str = "owners6";
const GUARD: Hook<'static> = Hook {
    chain: "guard",
    kind: "filter",
    number: HOOK_PREROUTING,
    priority: -300,
};
const ETHER_TYPE_IPV4: u16 = 0x0800;
const ETHER_TYPE_ARP: u16 = 0x0806;
const ETHER_TYPE_IPV6: u16 = 0x86dd;
/// Of ICMPv6 (RFC 4861).
const ADVERTISEMENT: u8 = 136;
const ROUTERS_AND_REDIRECTS: [u8; 3] = [133, 134, 137];

/// What the kernel was told of the bridge's ports.
#[derive(Debug, Default)]
pub(in crate::network) struct Guard {
    /// Whether the kernel can do it.
    is_on: bool,
    ports: BTreeSet<String>,
    /// The key of each port's one entry.
    owners: BTreeMap<String, Vec<u8>>,
    /// The same for those that have an IPv6 address.
    owners6: BTreeMap<String, Vec<u8>>,
    /// Those whose interface is being made: it may not be there yet.
    attaching: BTreeSet<String>,
}

/// Keeps a port guarded that has no interface yet, until dropped.
pub(in crate::network) struct Attaching<'a> {
    inner: &'a Inner,
    port: &'a str,
}

impl Drop for Attaching<'_> {
    fn drop(&mut self) {
        self.inner.guard.lock().attaching.remove(self.port);
    }
}

impl Inner {
    /// Keeps `port` from being forgotten while its interface is made.
    pub(in crate::network) fn guard_keep<'a>(
        &'a self,
        port: &'a str,
    ) -> Attaching<'a> {
        self.guard.lock().attaching.insert(port.to_owned());
        Attaching { inner: self, port }
    }

    /// Sets the table up, or takes over that of an earlier process.
    pub(in crate::network) fn guard_open(
        &self,
    ) -> Result<(), NetworkStepError> {
        if self.groups.is_none() {
            return Ok(());
        }
        let table = table_name(&self.config.name);
        let mut netfilter = Socket::netfilter()?;
        let mut guard = self.guard.lock();
        match netfilter.transaction(&set_up(&table)) {
            Ok(()) => {}
            // A kernel without nftables for bridges: groups hold against all
            // but a task that is privileged and malicious.
            Err(error)
                if is(&error, libc::EAFNOSUPPORT)
                    || is(&error, libc::EOPNOTSUPP) =>
            {
                tracing::warn!(
                    "this kernel has no nftables for bridges \
                     (CONFIG_NF_TABLES_BRIDGE): tasks with NET_RAW can use \
                     each other's addresses"
                );
                return Ok(());
            }
            Err(error) => return Err(error).doing(STEP),
        }
        guard.is_on = true;
        for key in keys(&mut netfilter, &table, PORTS).doing(STEP)? {
            guard.ports.insert(text(&key));
        }
        for key in keys(&mut netfilter, &table, OWNERS).doing(STEP)? {
            guard.owners.insert(port_of(&key), key);
        }
        for key in keys(&mut netfilter, &table, OWNERS6).doing(STEP)? {
            guard.owners6.insert(port_of(&key), key);
        }
        Ok(())
    }

    /// Lets `port` use these addresses and no others.
    pub(in crate::network) fn guard_add(
        &self,
        port: &str,
        mac: MacAddress,
        ip: Ipv4Addr,
        ipv6: Option<Ipv6Addr>,
    ) -> Result<(), NetworkStepError> {
        let table = table_name(&self.config.name);
        let mut guard = self.guard.lock();
        let owner = owner_key(port, mac, ip.into());
        let owner6 = ipv6.map(|ip| owner_key(port, mac, ip.into()));
        let before = guard.owners.get(port).cloned();
        let before6 = guard.owners6.get(port).cloned();
        let is_same = before.as_ref() == Some(&owner) && before6 == owner6;
        if !guard.is_on || is_same && guard.ports.contains(port) {
            return Ok(());
        }
        let Sets { ports, owners, owners6 } = sets(&table);
        let mut requests = nft::set_add(ports, &[interface_key(port)]);
        requests.extend(nft::set_remove(owners, before.as_slice()));
        requests.extend(nft::set_add(owners, std::slice::from_ref(&owner)));
        requests.extend(nft::set_remove(owners6, before6.as_slice()));
        requests.extend(nft::set_add(owners6, owner6.as_slice()));
        send(&mut Socket::netfilter()?, requests).doing(STEP)?;
        guard.ports.insert(port.to_owned());
        guard.owners.insert(port.to_owned(), owner);
        match owner6 {
            Some(owner6) => guard.owners6.insert(port.to_owned(), owner6),
            None => guard.owners6.remove(port),
        };
        Ok(())
    }

    /// Lets `port` use no address any more: nothing enters through it.
    pub(in crate::network) fn guard_close(
        &self,
        port: &str,
    ) -> Result<(), NetworkStepError> {
        let table = table_name(&self.config.name);
        let mut guard = self.guard.lock();
        let (owner, owner6) =
            (guard.owners.remove(port), guard.owners6.remove(port));
        let Sets { owners, owners6, .. } = sets(&table);
        // Each by itself: one that is gone must not keep the other.
        for (set, key) in [(owners, owner), (owners6, owner6)] {
            let requests = nft::set_remove(set, key.as_slice());
            if !requests.is_empty() {
                let sent = send(&mut Socket::netfilter()?, requests);
                ignoring(sent, libc::ENOENT).doing(STEP)?;
            }
        }
        Ok(())
    }

    /// Puts the table back where it is gone, and forgets ports that are.
    pub(in crate::network) fn guard_reassert(
        &self,
        netfilter: &mut Socket,
    ) -> Result<(), NetworkStepError> {
        let table = table_name(&self.config.name);
        let mut guard = self.guard.lock();
        if !guard.is_on {
            return Ok(());
        }
        let links = links()?;
        let is_gone = |port: &&String| {
            !guard.attaching.contains(*port)
                && !links.iter().any(|l| l.name == **port)
        };
        let gone: Vec<_> =
            guard.ports.iter().filter(is_gone).cloned().collect();
        let is_there = tables(netfilter).doing(STEP)?.contains(&table);
        let Sets { ports, owners, owners6 } = sets(&table);
        let mut requests = Vec::new();
        for port in &gone {
            guard.ports.remove(port);
            let owner = guard.owners.remove(port);
            let owner6 = guard.owners6.remove(port);
            if is_there {
                let (owner, owner6) = (owner.as_slice(), owner6.as_slice());
                requests.extend(nft::set_remove(ports, &[interface_key(port)]));
                requests.extend(nft::set_remove(owners, owner));
                requests.extend(nft::set_remove(owners6, owner6));
            }
        }
        if !is_there {
            requests = set_up(&table);
            let names: Vec<_> =
                guard.ports.iter().map(|p| interface_key(p)).collect();
            let keys: Vec<_> = guard.owners.values().cloned().collect();
            let keys6: Vec<_> = guard.owners6.values().cloned().collect();
            let elements = nft::set_add(ports, &names).into_iter();
            let elements = elements
                .chain(nft::set_add(owners, &keys))
                .chain(nft::set_add(owners6, &keys6));
            requests.extend(elements.map(for_bridges));
            return netfilter.transaction(&requests).doing(STEP);
        }
        if requests.is_empty() {
            return Ok(());
        }
        ignoring(send(netfilter, requests), libc::ENOENT).doing(STEP)
    }
}

const STEP: &str = "guard the tasks' addresses";

fn links() -> Result<Vec<Link>, NetworkStepError> {
    let mut socket = Socket::route()?;
    route::links(&mut socket).doing("list the interfaces")
}

/// Makes the table unless it exists, and its rules anew.
fn set_up(table: &str) -> Vec<Request> {
    let Sets { ports, owners, owners6 } = sets(table);
    let owner = |ip| [KeyPart::Interface, KeyPart::Mac, ip];
    let mut requests = vec![
        nft::table_create(table),
        nft::set_create(ports, &[KeyPart::Interface], 1),
        nft::set_create(owners, &owner(KeyPart::Ipv4), 2),
        nft::set_create(owners6, &owner(KeyPart::Ipv6), 3),
        nft::chain_create(table, &GUARD),
        nft::chain_flush(table, GUARD.chain),
    ];
    let append = |rule| nft::rule_append(table, GUARD.chain, &rule);
    requests.extend(rules().into_iter().map(append));
    requests.into_iter().map(for_bridges).collect()
}

fn rules() -> Vec<Rule> {
    let rule = Rule::default;
    let sender = (Layer::Link, 6);
    // Sender's addresses in an IP header, in ARP over Ethernet, and the
    // address that a neighbour advertisement is about.
    let ipv4 = (Layer::Network, IpFamily::V4.source());
    let ipv6 = (Layer::Network, IpFamily::V6.source());
    let (arp_mac, arp_ip) = ((Layer::Network, 8), (Layer::Network, 14));
    let target = (Layer::Transport, 8);
    let owner =
        |rule: Rule, mac, ip| rule.owner_in_set(IpFamily::V4, mac, ip, OWNERS);
    let owner6 =
        |rule: Rule, ip| rule.owner_in_set(IpFamily::V6, sender, ip, OWNERS6);
    let by_ipv6 = || rule().ether_type(ETHER_TYPE_IPV6);
    let icmpv6 = |kind| by_ipv6().protocol(ICMPV6).transport_byte(0, kind);
    let arp = rule().ether_type(ETHER_TYPE_ARP);
    let mut rules = vec![
        rule().in_through_set(PORTS, false).accept(),
        owner(rule().ether_type(ETHER_TYPE_IPV4), sender, ipv4).accept(),
        owner(owner(arp, sender, arp_ip), arp_mac, arp_ip).accept(),
        owner6(owner6(icmpv6(ADVERTISEMENT), ipv6), target).accept(),
        icmpv6(ADVERTISEMENT).drop(),
    ];
    rules.extend(ROUTERS_AND_REDIRECTS.map(|kind| icmpv6(kind).drop()));
    rules.extend([owner6(by_ipv6(), ipv6).accept(), rule().drop()]);
    rules
}

/// The sets of the table.
struct Sets<'a> {
    ports: Set<'a>,
    owners: Set<'a>,
    owners6: Set<'a>,
}

fn sets(table: &str) -> Sets<'_> {
    let set = |name| Set { table, name };
    Sets { ports: set(PORTS), owners: set(OWNERS), owners6: set(OWNERS6) }
}

fn owner_key(port: &str, mac: MacAddress, ip: IpAddr) -> Vec<u8> {
    let mut key = interface_key(port);
    key.extend_from_slice(&mac.0);
    key.extend_from_slice(&[0, 0]);
    key.extend_from_slice(&octets(ip));
    key
}

fn port_of(key: &[u8]) -> String {
    text(key.get(..16).unwrap_or_default())
}

fn send(netfilter: &mut Socket, requests: Vec<Request>) -> io::Result<()> {
    let requests: Vec<_> = requests.into_iter().map(for_bridges).collect();
    netfilter.transaction(&requests)
}

fn keys(
    netfilter: &mut Socket,
    table: &str,
    name: &str,
) -> io::Result<Vec<Vec<u8>>> {
    let request = for_bridges(nft::set_entries(Set { table, name }));
    let mut found = Vec::new();
    netfilter.dump(&request, |_, payload| {
        found.extend(nft::set_keys(payload));
    })?;
    Ok(found)
}

/// The names of all tables for bridges; none where the kernel has no such.
pub(in crate::network) fn tables(
    netfilter: &mut Socket,
) -> io::Result<Vec<String>> {
    nft::table_names(netfilter, NFPROTO_BRIDGE)
}

/// Deletes the tables of all families; those that are gone are no failure.
pub(in crate::network) fn delete_all(
    netfilter: &mut Socket,
    name: &str,
) -> io::Result<()> {
    let table = table_name(name);
    for family in [NFPROTO_IPV4, NFPROTO_IPV6, NFPROTO_BRIDGE] {
        // A kernel without the family has none of its tables.
        if nft::table_names(netfilter, family)?.contains(&table) {
            let request = nft::table_delete(&table).of_family(family);
            ignoring(netfilter.transaction(&[request]), libc::ENOENT)?;
        }
    }
    Ok(())
}
