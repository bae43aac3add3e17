//! Keeps tasks and containers from using addresses that are not theirs.
//!
//! Who has CAP_NET_RAW or CAP_NET_ADMIN can send what it likes. Where its
//! frames enter the bridge, interface, hardware address and IPv4 address must
//! be those of one attachment, in ARP as well; nothing else enters. That is
//! EC2's source check.
//!
//! ```text
//! table bridge minato-NAME-sg {
//!   set ports  { ifname: all ports of our bridges }
//!   set owners { ifname . ether_addr . ipv4_addr }
//!   chain guard { prerouting: other ports, accept; IPv4 and ARP of an owner,
//!                 accept; drop }
//! }
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::Ipv4Addr;

use super::super::error::DoingStep;
use super::super::netlink::{Request, Socket, text};
use super::super::nft::{
    self, HOOK_PREROUTING, Hook, KeyPart, Layer, NFPROTO_BRIDGE, Rule, Set,
    for_bridges, interface_key,
};
use super::super::route::{self, Link, ignoring, is};
use super::super::{Inner, MacAddress, NetworkStepError};
use super::table_name;

const PORTS: &str = "ports";
const OWNERS: &str = "owners";
const GUARD: Hook<'static> = Hook {
    chain: "guard",
    kind: "filter",
    number: HOOK_PREROUTING,
    priority: -300,
};
const ETHER_TYPE_IPV4: u16 = 0x0800;
const ETHER_TYPE_ARP: u16 = 0x0806;

/// What the kernel was told of the bridge's ports.
#[derive(Debug, Default)]
pub(in crate::network) struct Guard {
    /// Whether the kernel can do it.
    is_on: bool,
    ports: BTreeSet<String>,
    /// The key of each port's one entry.
    owners: BTreeMap<String, Vec<u8>>,
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
            let name = text(key.get(..16).unwrap_or_default());
            guard.owners.insert(name, key);
        }
        Ok(())
    }

    /// Lets `port` use these addresses and no others.
    pub(in crate::network) fn guard_add(
        &self,
        port: &str,
        mac: MacAddress,
        ip: Ipv4Addr,
    ) -> Result<(), NetworkStepError> {
        let table = table_name(&self.config.name);
        let mut guard = self.guard.lock();
        let owner = owner_key(port, mac, ip);
        let before = guard.owners.get(port).cloned();
        let is_same = before.as_ref() == Some(&owner);
        if !guard.is_on || is_same && guard.ports.contains(port) {
            return Ok(());
        }
        let (ports, owners) = sets(&table);
        let mut requests = nft::set_add(ports, &[interface_key(port)]);
        if let Some(before) = before {
            requests.extend(nft::set_remove(owners, &[before]));
        }
        requests.extend(nft::set_add(owners, std::slice::from_ref(&owner)));
        send(&mut Socket::netfilter()?, requests).doing(STEP)?;
        guard.ports.insert(port.to_owned());
        guard.owners.insert(port.to_owned(), owner);
        Ok(())
    }

    /// Lets `port` use no address any more: nothing enters through it.
    pub(in crate::network) fn guard_close(
        &self,
        port: &str,
    ) -> Result<(), NetworkStepError> {
        let table = table_name(&self.config.name);
        let mut guard = self.guard.lock();
        let Some(owner) = guard.owners.remove(port) else { return Ok(()) };
        let requests = nft::set_remove(sets(&table).1, &[owner]);
        ignoring(send(&mut Socket::netfilter()?, requests), libc::ENOENT)
            .doing(STEP)
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
        let (ports, owners) = sets(&table);
        let mut requests = Vec::new();
        for port in &gone {
            guard.ports.remove(port);
            let owner = guard.owners.remove(port);
            if is_there {
                let owner = owner.as_slice();
                requests.extend(nft::set_remove(ports, &[interface_key(port)]));
                requests.extend(nft::set_remove(owners, owner));
            }
        }
        if !is_there {
            requests = set_up(&table);
            let names: Vec<_> =
                guard.ports.iter().map(|p| interface_key(p)).collect();
            let keys: Vec<_> = guard.owners.values().cloned().collect();
            let elements = nft::set_add(ports, &names).into_iter();
            let elements = elements.chain(nft::set_add(owners, &keys));
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
    let (ports, owners) = sets(table);
    let owner = [KeyPart::Interface, KeyPart::Mac, KeyPart::Ipv4];
    let mut requests = vec![
        nft::table_create(table),
        nft::set_create(ports, &[KeyPart::Interface], 1),
        nft::set_create(owners, &owner, 2),
        nft::chain_create(table, &GUARD),
        nft::chain_flush(table, GUARD.chain),
    ];
    let append = |rule| nft::rule_append(table, GUARD.chain, &rule);
    requests.extend(rules().into_iter().map(append));
    requests.into_iter().map(for_bridges).collect()
}

fn rules() -> [Rule; 4] {
    let rule = Rule::default;
    let sender = (Layer::Link, 6);
    // Sender's addresses in an IPv4 header, and in ARP over Ethernet.
    let ipv4 = (Layer::Network, 12);
    let (arp_mac, arp_ip) = ((Layer::Network, 8), (Layer::Network, 14));
    [
        rule().in_through_set(PORTS, false).accept(),
        rule()
            .ether_type(ETHER_TYPE_IPV4)
            .owner_in_set(sender, ipv4, OWNERS)
            .accept(),
        rule()
            .ether_type(ETHER_TYPE_ARP)
            .owner_in_set(sender, arp_ip, OWNERS)
            .owner_in_set(arp_mac, arp_ip, OWNERS)
            .accept(),
        rule().drop(),
    ]
}

fn sets(table: &str) -> (Set<'_>, Set<'_>) {
    (Set { table, name: PORTS }, Set { table, name: OWNERS })
}

fn owner_key(port: &str, mac: MacAddress, ip: Ipv4Addr) -> Vec<u8> {
    let mut key = interface_key(port);
    key.extend_from_slice(&mac.0);
    key.extend_from_slice(&[0, 0]);
    key.extend_from_slice(&ip.octets());
    key
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

/// Deletes the tables of both families; those that are gone are no failure.
pub(in crate::network) fn delete_all(
    netfilter: &mut Socket,
    name: &str,
) -> io::Result<()> {
    let table = table_name(name);
    let request = nft::table_delete(&table);
    ignoring(netfilter.transaction(&[request]), libc::ENOENT)?;
    if tables(netfilter)?.contains(&table) {
        let request = for_bridges(nft::table_delete(&table));
        ignoring(netfilter.transaction(&[request]), libc::ENOENT)?;
    }
    Ok(())
}
