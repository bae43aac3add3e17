//! Our nftables table: who may come in, who goes out under which address.
//!
//! ```text
//! table ip minato-NAME {
//!   map ports     { inet_proto . inet_service : ipv4_addr . inet_service }
//!   map endpoint  { the same: port 80 of the task endpoint, its listener }
//!   map host-endpoint { the same, for the host's own processes }
//!   chain guard   { prerouting raw:  127/8 from a bridge, drop; from one of
//!                   our ranges, but not through its bridge, drop }
//!   chain enter   { prerouting nat:  to this host, dnat to the map's entry;
//!                   from a bridge to the task endpoint, the same }
//!   chain local   { output nat:      the same for the host's own processes }
//!   chain forward { forward filter:  new, not published, from outside, drop;
//!                   from a bridge to the task endpoint, drop }
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

use super::netlink::{Request, Socket};
use super::nft::{
    self, HOOK_FORWARD, HOOK_OUTPUT, HOOK_POSTROUTING, HOOK_PREROUTING, Hook,
    Map, MapEntry, NFPROTO_IPV4, Rule,
};
use super::route::{ignoring, is};
use super::{Ipv4Cidr, Protocol, endpoint};

const PORTS: Map = Map { name: "ports", id: 1 };
const ENDPOINT: Map = Map { name: "endpoint", id: 2 };
const HOST_ENDPOINT: Map = Map { name: "host-endpoint", id: 3 };

const GUARD: Hook<'static> = hook("guard", "filter", HOOK_PREROUTING, -300);
const ENTER: Hook<'static> = hook("enter", "nat", HOOK_PREROUTING, -100);
const LOCAL: Hook<'static> = hook("local", "nat", HOOK_OUTPUT, -100);
const FORWARD: Hook<'static> = hook("forward", "filter", HOOK_FORWARD, 0);
const LEAVE: Hook<'static> = hook("leave", "nat", HOOK_POSTROUTING, 100);

const fn hook(
    chain: &'static str,
    kind: &'static str,
    number: u32,
    priority: i32,
) -> Hook<'static> {
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
    let mut requests = vec![
        nft::table_create(table),
        nft::map_create(table, PORTS),
        nft::map_create(table, ENDPOINT),
        nft::map_create(table, HOST_ENDPOINT),
    ];
    for hook in [GUARD, ENTER, LOCAL, FORWARD, LEAVE] {
        requests.push(nft::chain_create(table, &hook));
        requests.push(nft::chain_flush(table, hook.chain));
    }
    for (hook, rule) in rules(segments) {
        requests.push(nft::rule_append(table, hook.chain, &rule));
    }
    requests
}

fn rules(segments: &[Segment]) -> Vec<(Hook<'static>, Rule)> {
    let loopback = Ipv4Cidr::new(Ipv4Addr::LOCALHOST, 8)
        .unwrap_or_else(|| unreachable!("8 bits are a prefix"));
    let rule = Rule::default;
    let publish = rule().for_this_host().destination_nat(PORTS);
    let to_endpoint = |rule: Rule| rule.destination_in(endpoint::range());
    let mut rules = vec![
        (ENTER, publish.clone()),
        (LOCAL, publish),
        (LOCAL, to_endpoint(rule()).destination_nat(HOST_ENDPOINT)),
    ];
    for segment in segments {
        rules.extend(endpoint_rules(&segment.bridge));
        rules.push((FORWARD, instance_metadata_rule(&segment.bridge)));
        let bridge = &segment.bridge;
        // route_localnet would let containers reach what listens on the
        // host's loopback only (CVE-2020-8558).
        let from = rule().in_through(true, bridge);
        rules.push((GUARD, from.destination_in(loopback).drop()));
        for range in &segment.ranges {
            // Nobody else may seem to be one of ours. The host calls its own
            // addresses through loopback.
            let others = rule().in_through(false, bridge);
            let others = others.in_through(false, "lo");
            rules.push((GUARD, others.source_in(*range).drop()));
        }
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

/// Only what comes from our own bridges is led to the listener, and what is
/// not led there goes nowhere: it may be signed, and is nobody else's.
fn endpoint_rules(bridge: &str) -> [(Hook<'static>, Rule); 2] {
    let from = Rule::default().in_through(true, bridge);
    let calls = from.destination_in(endpoint::range());
    [(ENTER, calls.clone().destination_nat(ENDPOINT)), (FORWARD, calls.drop())]
}

/// Where the machine is a cloud's, it tells whoever asks who the machine is
/// and what it may do; that is not its containers' business. Name servers that
/// some clouds have at the same address stay.
fn instance_metadata_rule(bridge: &str) -> Rule {
    let calls = Rule::default().in_through(true, bridge);
    let calls = calls.destination_in(endpoint::instance_metadata());
    calls.protocol(Protocol::Tcp.number()).ports(80, 80).drop()
}

/// Deletes the table; one that is gone already is no failure.
pub(super) fn table_delete(socket: &mut Socket, name: &str) -> io::Result<()> {
    let request = nft::table_delete(&table_name(name));
    ignoring(socket.transaction(&[request]), libc::ENOENT)
}

/// The names of all IPv4 tables.
pub(super) fn tables(socket: &mut Socket) -> io::Result<Vec<String>> {
    nft::table_names(socket, NFPROTO_IPV4)
}

/// The ports that the kernel forwards for the network `name`.
pub(super) fn ports(
    socket: &mut Socket,
    name: &str,
) -> io::Result<Vec<PortEntry>> {
    entries(socket, &table_name(name), PORTS)
}

/// Leads calls of the task endpoint to `listener` from now on: those from our
/// bridges, and the host's own ones where they are this network's.
pub(super) fn endpoint_set(
    socket: &mut Socket,
    name: &str,
    listener: SocketAddrV4,
    has_host: bool,
) -> io::Result<()> {
    let table = table_name(name);
    let entry = PortEntry {
        protocol: Protocol::Tcp,
        host_port: endpoint::ENDPOINT.port(),
        target: listener,
    };
    let mut requests = Vec::new();
    for (map, is_led) in [(ENDPOINT, true), (HOST_ENDPOINT, has_host)] {
        let before = entries(socket, &table, map)?;
        let before: Vec<_> = before.iter().map(PortEntry::entry).collect();
        requests.extend(nft::map_remove(&table, map, &before));
        if is_led {
            requests.extend(nft::map_add(&table, map, &[entry.entry()]));
        }
    }
    socket.transaction(&requests)
}

/// Whether this network has the host's own calls.
pub(super) fn has_host_endpoint(
    socket: &mut Socket,
    name: &str,
) -> io::Result<bool> {
    let entries = entries(socket, &table_name(name), HOST_ENDPOINT)?;
    Ok(!entries.is_empty())
}

/// The tables of other networks that have the host's own calls.
pub(super) fn host_endpoints_of_others(
    socket: &mut Socket,
    name: &str,
) -> io::Result<Vec<String>> {
    let mut others = tables(socket)?;
    let own = table_name(name);
    others.retain(|t| t.starts_with(TABLE_PREFIX) && *t != own);
    let mut found = Vec::new();
    for table in others {
        match entries(socket, &table, HOST_ENDPOINT) {
            Ok(entries) if entries.is_empty() => {}
            Ok(_) => found.push(table),
            // Of an older Minato, or gone by now.
            Err(error) if is(&error, libc::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn entries(
    socket: &mut Socket,
    table: &str,
    map: Map,
) -> io::Result<Vec<PortEntry>> {
    let request = nft::map_entries(table, map);
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
