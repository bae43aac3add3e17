//! Our nftables table: who may come in, who goes out under which address.
//!
//! ```text
//! table ip minato-NAME {
//!   map ports     { inet_proto . inet_service : ipv4_addr . inet_service }
//!   chain guard   { prerouting raw:  127/8 from a bridge, drop }
//!   chain enter   { prerouting nat:  to this host, dnat to the map's entry }
//!   chain local   { output nat:      the same for the host's own processes }
//!   chain forward { forward filter:  new, not published, from outside, drop }
//!   chain leave   { postrouting nat: masquerade what leaves, what comes from
//!                   127/8, and what returns to the bridge it came from }
//! }
//! ```
//!
//! The table belongs to no process, so that published ports work while Minato
//! is down. It is replaced in one transaction that keeps the map, so that
//! nothing is interrupted when Minato comes up again.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use super::netlink::{Attributes, Request, Socket, text};
use super::nft::{
    self, HOOK_FORWARD, HOOK_OUTPUT, HOOK_POSTROUTING, HOOK_PREROUTING, Hook,
    MapEntry, Rule,
};
use super::route::{ignoring, is};
use super::{Ipv4Cidr, Protocol};

const PORTS: &str = "ports";

const GUARD: Hook = hook("guard", "filter", HOOK_PREROUTING, -300);
const ENTER: Hook = hook("enter", "nat", HOOK_PREROUTING, -100);
const LOCAL: Hook = hook("local", "nat", HOOK_OUTPUT, -100);
const FORWARD: Hook = hook("forward", "filter", HOOK_FORWARD, 0);
const LEAVE: Hook = hook("leave", "nat", HOOK_POSTROUTING, 100);

const fn hook(
    chain: &'static str,
    kind: &'static str,
    number: u32,
    priority: i32,
) -> Hook {
    Hook { chain, kind, number, priority }
}

/// One of our bridges with the ranges behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) bridge: String,
    pub(super) ranges: Vec<Ipv4Cidr>,
}

/// One published port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct PortEntry {
    pub(super) protocol: Protocol,
    pub(super) host_port: u16,
    pub(super) target: SocketAddrV4,
}

/// The name of the table of the network `name`.
pub(super) fn table_name(name: &str) -> String {
    format!("{TABLE_PREFIX}{name}")
}

pub(super) const TABLE_PREFIX: &str = "minato-";

/// Sets the table up, keeping the published ports of an earlier process.
pub(super) fn table_set_up(
    socket: &mut Socket,
    name: &str,
    segments: &[Segment],
) -> io::Result<()> {
    let requests = table_requests(&table_name(name), segments);
    match socket.transaction(&requests) {
        // A table of another shape: from another version of Minato.
        Err(error)
            if is(&error, libc::EEXIST) || is(&error, libc::EOPNOTSUPP) =>
        {
            let table = table_name(name);
            let mut renewed =
                vec![nft::table_create(&table), nft::table_delete(&table)];
            let ports = ports(socket, name).unwrap_or_default();
            renewed.extend(requests);
            let entries: Vec<_> = ports.iter().map(PortEntry::entry).collect();
            renewed.extend(nft::map_add(&table, PORTS, &entries));
            socket.transaction(&renewed)
        }
        other => other,
    }
}

fn table_requests(table: &str, segments: &[Segment]) -> Vec<Request> {
    let mut requests =
        vec![nft::table_create(table), nft::map_create(table, PORTS)];
    for hook in [GUARD, ENTER, LOCAL, FORWARD, LEAVE] {
        requests.push(nft::chain_create(table, &hook));
        requests.push(nft::chain_flush(table, hook.chain));
    }
    for (hook, rule) in rules(segments) {
        requests.push(nft::rule_append(table, hook.chain, &rule));
    }
    requests
}

fn rules(segments: &[Segment]) -> Vec<(Hook, Rule)> {
    let loopback = Ipv4Cidr::new(Ipv4Addr::LOCALHOST, 8)
        .unwrap_or_else(|| unreachable!("8 bits are a prefix"));
    let rule = Rule::default;
    let publish = rule().for_this_host().destination_nat(PORTS);
    let mut rules = vec![(ENTER, publish.clone()), (LOCAL, publish)];
    for segment in segments {
        let bridge = &segment.bridge;
        // route_localnet would let containers reach what listens on the
        // host's loopback only (CVE-2020-8558).
        let from = rule().in_through(true, bridge);
        rules.push((GUARD, from.destination_in(loopback).drop()));
        // Others on the host's networks may not route into ours.
        let mut strangers = rule().out_through(true, bridge);
        for other in segments {
            strangers = strangers.in_through(false, &other.bridge);
        }
        let strangers = strangers.new_connection().published(false);
        rules.push((FORWARD, strangers.drop()));
        let local = rule().source_in(loopback).out_through(true, bridge);
        rules.push((LEAVE, local.masquerade()));
        for range in &segment.ranges {
            // A container that calls a neighbour by a published port must
            // get its answer through the host.
            let hairpin = rule().source_in(*range).out_through(true, bridge);
            rules.push((LEAVE, hairpin.published(true).masquerade()));
            let mut outgoing = rule().source_in(*range);
            for other in segments {
                outgoing = outgoing.out_through(false, &other.bridge);
            }
            rules.push((LEAVE, outgoing.masquerade()));
        }
    }
    rules
}

/// Deletes the table; one that is gone already is no failure.
pub(super) fn table_delete(socket: &mut Socket, name: &str) -> io::Result<()> {
    let request = nft::table_delete(&table_name(name));
    ignoring(socket.transaction(&[request]), libc::ENOENT)
}

/// The names of all IPv4 tables.
pub(super) fn tables(socket: &mut Socket) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    socket.dump(&nft::tables(), |_, payload| {
        let attributes = Attributes(payload.get(4..).unwrap_or_default());
        names.extend(attributes.value(1).map(text));
    })?;
    Ok(names)
}

/// The ports that the kernel forwards for the network `name`.
pub(super) fn ports(
    socket: &mut Socket,
    name: &str,
) -> io::Result<Vec<PortEntry>> {
    let request = nft::map_entries(&table_name(name), PORTS);
    let mut entries = Vec::new();
    socket.dump(&request, |_, payload| {
        nft::parse_entries(payload, &mut entries);
    })?;
    Ok(entries.iter().filter_map(PortEntry::of_entry).collect())
}

/// Forwards all of `ports`, or none.
pub(super) fn ports_add(
    socket: &mut Socket,
    name: &str,
    ports: &[PortEntry],
) -> io::Result<()> {
    let entries: Vec<_> = ports.iter().map(PortEntry::entry).collect();
    socket.transaction(&nft::map_add(&table_name(name), PORTS, &entries))
}

/// Forwards none of `ports` any more.
pub(super) fn ports_remove(
    socket: &mut Socket,
    name: &str,
    ports: &[PortEntry],
) -> io::Result<()> {
    let table = table_name(name);
    let entries: Vec<_> = ports.iter().map(PortEntry::entry).collect();
    match socket.transaction(&nft::map_remove(&table, PORTS, &entries)) {
        // One of them is gone already: take the others one by one.
        Err(error) if is(&error, libc::ENOENT) => {
            for entry in entries {
                let request = nft::map_remove(&table, PORTS, &[entry]);
                ignoring(socket.transaction(&request), libc::ENOENT)?;
            }
            Ok(())
        }
        other => other,
    }
}

impl PortEntry {
    fn entry(&self) -> MapEntry {
        let [a, b] = self.host_port.to_be_bytes();
        let key = [self.protocol.number(), 0, 0, 0, a, b, 0, 0];
        let [c, d] = self.target.port().to_be_bytes();
        let [e, f, g, h] = self.target.ip().octets();
        (key, [e, f, g, h, c, d, 0, 0])
    }

    fn of_entry((key, value): &MapEntry) -> Option<PortEntry> {
        let target = SocketAddrV4::new(
            Ipv4Addr::new(value[0], value[1], value[2], value[3]),
            u16::from_be_bytes([value[4], value[5]]),
        );
        Some(PortEntry {
            protocol: Protocol::of_number(key[0])?,
            host_port: u16::from_be_bytes([key[4], key[5]]),
            target,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn port_entries_survive_the_kernels_form(
            tcp: bool, host_port: u16, address: u32, port: u16,
        ) {
            let protocol = if tcp { Protocol::Tcp } else { Protocol::Udp };
            let address = Ipv4Addr::from_bits(address);
            let target = SocketAddrV4::new(address, port);
            let entry = PortEntry { protocol, host_port, target };
            prop_assert_eq!(PortEntry::of_entry(&entry.entry()), Some(entry));
        }
    }
}
