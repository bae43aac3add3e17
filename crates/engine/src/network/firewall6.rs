//! Our nftables table for IPv6: who may come in, who goes out under which
//! address. Nothing is published by IPv6, and the task endpoint has none.
//!
//! ```text
//! table ip6 minato-NAME {
//!   chain guard   { prerouting raw:  from one of our ranges, but not through
//!                   its bridge, drop }
//!   chain forward { forward filter:  new, from outside, drop; from a task to
//!                   a cloud's instance metadata, drop }
//!   chain leave   { postrouting nat: masquerade what leaves }
//! }
//! ```

use std::io;
use std::net::Ipv6Addr;

use super::family::IpFamily;
use super::firewall::table_name;
use super::netlink::{Request, Socket};
use super::nft::{
    self, HOOK_FORWARD, HOOK_POSTROUTING, HOOK_PREROUTING, Hook, Rule,
};
use super::{Ipv6Cidr, Protocol, SubnetIpv6, sysctl};

const GUARD: Hook<'static> = hook("guard", "filter", HOOK_PREROUTING, -300);
const FORWARD: Hook<'static> = hook("forward", "filter", HOOK_FORWARD, 0);
const LEAVE: Hook<'static> = hook("leave", "nat", HOOK_POSTROUTING, 100);

/// Where clouds tell a machine of itself by IPv6: Amazon's and Google's.
const INSTANCE_METADATA: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
];

const fn hook(
    chain: &'static str,
    kind: &'static str,
    number: u32,
    priority: i32,
) -> Hook<'static> {
    Hook { chain, kind, number, priority }
}

/// Whether tasks can have IPv6 on this host: its kernel has it, nobody has
/// switched it off, and nftables does for it what our rules need.
pub(super) fn is_available(socket: &mut Socket, name: &str) -> bool {
    let is_on = ["all", "default"].iter().all(|which| {
        sysctl::get(&format!("ipv6/conf/{which}/disable_ipv6"))
            .is_ok_and(|value| value == "0")
    });
    if !is_on {
        return false;
    }
    // Made and deleted in one transaction, so that nobody ever sees it.
    let table = format!("{}-try", table_name(name));
    let rule = Rule::default().for_this_host().new_connection().masquerade();
    let requests = vec![
        nft::table_create(&table),
        nft::chain_create(&table, &LEAVE),
        nft::rule_append(&table, LEAVE.chain, &rule),
        nft::table_delete(&table),
    ];
    let tried = socket.transaction(&IpFamily::V6.all(requests));
    if let Err(error) = &tried {
        tracing::warn!(
            %error,
            "this kernel's nftables cannot do what tasks with IPv6 need"
        );
    }
    tried.is_ok()
}

/// Sets the table up, in place of that of an earlier process.
pub(super) fn table_set_up(
    socket: &mut Socket,
    name: &str,
    bridge: &str,
    subnets: &[SubnetIpv6],
) -> io::Result<()> {
    let ranges: Vec<_> = subnets.iter().map(|subnet| subnet.cidr).collect();
    let requests = table_requests(&table_name(name), bridge, &ranges);
    socket.transaction(&IpFamily::V6.all(requests))
}

fn table_requests(
    table: &str,
    bridge: &str,
    ranges: &[Ipv6Cidr],
) -> Vec<Request> {
    let mut requests = vec![nft::table_create(table)];
    for hook in [GUARD, FORWARD, LEAVE] {
        requests.push(nft::chain_create(table, &hook));
        requests.push(nft::chain_flush(table, hook.chain));
    }
    for (hook, rule) in rules(bridge, ranges) {
        requests.push(nft::rule_append(table, hook.chain, &rule));
    }
    requests
}

fn rules(bridge: &str, ranges: &[Ipv6Cidr]) -> Vec<(Hook<'static>, Rule)> {
    let rule = Rule::default;
    // Others on the host's networks may not route into ours.
    let strangers = rule().out_through(true, bridge).in_through(false, bridge);
    let mut rules = vec![(FORWARD, strangers.new_connection().drop())];
    for address in INSTANCE_METADATA {
        let calls = rule().in_through(true, bridge);
        let calls = calls.destination_in(Ipv6Cidr::of_address(address));
        let calls = calls.protocol(Protocol::Tcp.number()).ports(80, 80);
        rules.push((FORWARD, calls.drop()));
    }
    for range in ranges {
        // Nobody else may seem to be one of ours. The host calls its own
        // addresses through loopback.
        let others = rule().in_through(false, bridge).in_through(false, "lo");
        rules.push((GUARD, others.source_in(*range).drop()));
        let outgoing = rule().source_in(*range).out_through(false, bridge);
        rules.push((LEAVE, outgoing.masquerade()));
    }
    rules
}

/// The names of all tables for IPv6; none where the kernel has none.
pub(super) fn tables(socket: &mut Socket) -> io::Result<Vec<String>> {
    nft::table_names(socket, IpFamily::V6.number())
}

/// Deletes the table; one that is gone already is no failure.
pub(super) fn table_delete(socket: &mut Socket, name: &str) -> io::Result<()> {
    let table = table_name(name);
    if !tables(socket)?.contains(&table) {
        return Ok(());
    }
    let request = nft::table_delete(&table);
    let request = request.of_family(IpFamily::V6.number());
    super::route::ignoring(socket.transaction(&[request]), libc::ENOENT)
}
