//! The kernel's objects for a firewall, and the way from one to another.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    Direction, Firewall, GroupRule, ICMP, ICMPV6, Peer, Traffic, table_name,
};
use crate::network::family::{IpFamily, octets};
use crate::network::netlink::Request;
use crate::network::nft::{
    self, HOOK_POSTROUTING, HOOK_PREROUTING, Hook, Rule, Set, Verdicts,
};
use crate::network::{IpCidr, Protocol, open};

const RESOLVERS: &str = "resolvers";
const ICMP_REDIRECT: u8 = 5;
/// Of ICMPv6 (RFC 4861): who has an address, and who says so.
const NEIGHBOUR: [u8; 2] = [135, 136];
const ICMPV6_REDIRECT: u8 = 137;
const DNS_PORT: u16 = 53;
/// Chains' names are `in-` or `out-` and a group's id.
const GROUP_ID_MAX: usize = 40;

/// After conntrack (-200), before addresses are translated (-100).
const OUT: Hook<'static> = Hook {
    chain: "out",
    kind: "filter",
    number: HOOK_PREROUTING,
    priority: -150,
};
/// Before addresses are translated (100).
const IN: Hook<'static> = Hook {
    chain: "in",
    kind: "filter",
    number: HOOK_POSTROUTING,
    priority: -150,
};

/// Everything in a family's table but the two chains that start it all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) family: IpFamily,
    /// Addresses by the set's name.
    pub(super) sets: BTreeMap<String, BTreeSet<IpAddr>>,
    /// Rules by the chain's name.
    pub(super) chains: BTreeMap<String, Vec<Rule>>,
    /// Chains by the interface's address, once for what comes in and once for
    /// what goes out.
    pub(super) ingress: BTreeMap<IpAddr, String>,
    pub(super) egress: BTreeMap<IpAddr, String>,
}

impl Layout {
    fn empty(family: IpFamily) -> Layout {
        Layout {
            family,
            sets: BTreeMap::new(),
            chains: BTreeMap::new(),
            ingress: BTreeMap::new(),
            egress: BTreeMap::new(),
        }
    }

    /// The objects for `firewall` in one family's table.
    pub(super) fn of(
        firewall: &Firewall,
        resolvers: &BTreeSet<IpAddr>,
        family: IpFamily,
    ) -> Layout {
        let mut layout = Layout::empty(family);
        let resolvers = layout.of_family(resolvers);
        layout.sets.insert(RESOLVERS.to_owned(), resolvers);
        let interfaces = firewall.interfaces.iter();
        for (address, groups) in
            interfaces.filter(|(it, _)| IpFamily::of(**it) == family)
        {
            for direction in [Direction::Ingress, Direction::Egress] {
                let chain = layout.chain_of(firewall, direction, groups);
                if let Some(chain) = chain {
                    layout.map_mut(direction).insert(*address, chain);
                }
            }
        }
        layout
    }

    fn of_family(&self, addresses: &BTreeSet<IpAddr>) -> BTreeSet<IpAddr> {
        let is_ours = |it: &&IpAddr| IpFamily::of(**it) == self.family;
        addresses.iter().filter(is_ours).copied().collect()
    }

    /// The chain of a combination of groups, made with all that it needs;
    /// `None` where none of them is known.
    fn chain_of(
        &mut self,
        firewall: &Firewall,
        direction: Direction,
        groups: &BTreeSet<String>,
    ) -> Option<String> {
        let known = groups
            .iter()
            .filter(|id| firewall.groups.contains_key(*id) && is_group_id(id));
        let known: Vec<_> = known.collect();
        for id in &known {
            self.group_chain(firewall, direction, id);
        }
        let (first, others) = known.split_first()?;
        if others.is_empty() {
            return Some(chain_name(direction, first));
        }
        let name = chain_name(direction, &combination(&known));
        let jump =
            |id: &&String| Rule::default().jump(&chain_name(direction, id));
        let rules = || known.iter().map(jump).collect();
        self.chains.entry(name.clone()).or_insert_with(rules);
        Some(name)
    }

    fn group_chain(
        &mut self,
        firewall: &Firewall,
        direction: Direction,
        id: &str,
    ) {
        let name = chain_name(direction, id);
        if self.chains.contains_key(&name) {
            return;
        }
        let Some(group) = firewall.groups.get(id) else { return };
        let rules = match direction {
            Direction::Ingress => &group.ingress,
            Direction::Egress => &group.egress,
        };
        let family = self.family;
        let compiled = rules
            .iter()
            .filter_map(|rule| compile(rule, direction, family))
            .collect();
        self.chains.insert(name, compiled);
        for rule in rules {
            let Peer::Group(peer) = &rule.peer else { continue };
            if is_group_id(peer) {
                let name = set_name(peer);
                if self.sets.contains_key(&name) {
                    continue;
                }
                let members = firewall.members.get(peer);
                let members = members.map(|all| self.of_family(all));
                self.sets.insert(name, members.unwrap_or_default());
            }
        }
    }

    fn map_mut(
        &mut self,
        direction: Direction,
    ) -> &mut BTreeMap<IpAddr, String> {
        match direction {
            Direction::Ingress => &mut self.ingress,
            Direction::Egress => &mut self.egress,
        }
    }

    /// Makes the table of the network `name` anew, whatever it was.
    pub(super) fn whole(&self, name: &str) -> Vec<Request> {
        let table = &table_name(name);
        let mut requests = vec![
            nft::table_create(table),
            nft::table_delete(table),
            nft::table_create(table),
        ];
        for (n, direction) in (1..).zip([Direction::Ingress, Direction::Egress])
        {
            let (map, key) = (map(table, direction), self.family.key());
            requests.push(nft::verdicts_create(map, key, n));
        }
        requests.push(nft::set_create(
            Set { table, name: RESOLVERS },
            &[self.family.key()],
            3,
        ));
        for hook in [OUT, IN] {
            requests.push(nft::chain_create(table, &hook));
        }
        let (bridge, _) = open::bridge_names(name);
        for (hook, rule) in base_rules(&bridge, self.family) {
            requests.push(nft::rule_append(table, hook.chain, &rule));
        }
        let resolvers = (RESOLVERS.to_owned(), BTreeSet::new());
        let mut empty = Layout::empty(self.family);
        empty.sets.extend([resolvers]);
        requests.extend(self.changes(table, &empty));
        self.family.all(requests)
    }

    /// What leads from `before` to this; empty where they are the same.
    pub(super) fn changes(&self, table: &str, before: &Layout) -> Vec<Request> {
        let mut requests = self.sets_made(table, before);
        let is_new = |name: &String| !before.chains.contains_key(name);
        let is_gone = |name: &&String| !self.chains.contains_key(*name);
        for chain in self.chains.keys().filter(|name| is_new(name)) {
            requests.push(nft::chain_create_plain(table, chain));
        }
        let changed = before.chains.iter().filter(|(name, rules)| {
            self.chains.get(*name).is_none_or(|now| now != *rules)
        });
        for (chain, _) in changed {
            requests.push(nft::chain_flush(table, chain));
        }
        for (chain, rules) in &self.chains {
            if before.chains.get(chain) == Some(rules) {
                continue;
            }
            let append = |rule| nft::rule_append(table, chain, rule);
            requests.extend(rules.iter().map(append));
        }
        for direction in [Direction::Ingress, Direction::Egress] {
            requests.extend(self.map_changes(table, direction, before));
        }
        for chain in before.chains.keys().filter(is_gone) {
            requests.push(nft::chain_delete(table, chain));
        }
        for name in before.sets.keys() {
            if !self.sets.contains_key(name) {
                requests.push(nft::set_delete(Set { table, name }));
            }
        }
        self.family.all(requests)
    }

    /// New sets, and what differs in others.
    fn sets_made(&self, table: &str, before: &Layout) -> Vec<Request> {
        let mut requests = Vec::new();
        let none = BTreeSet::new();
        // Ids 1 to 3 are those of `whole`.
        for (id, (name, now)) in (4..).zip(&self.sets) {
            let set = Set { table, name };
            let old = before.sets.get(name);
            if old.is_none() {
                let key = [self.family.key()];
                requests.push(nft::set_create(set, &key, id));
            }
            let old = old.unwrap_or(&none);
            let keys = |addresses: &mut dyn Iterator<Item = &IpAddr>| {
                addresses.map(|a| octets(*a)).collect::<Vec<_>>()
            };
            let gone = keys(&mut old.difference(now));
            let new = keys(&mut now.difference(old));
            requests.extend(nft::set_remove(set, &gone));
            requests.extend(nft::set_add(set, &new));
        }
        requests
    }

    fn map_changes(
        &self,
        table: &str,
        direction: Direction,
        before: &Layout,
    ) -> Vec<Request> {
        let (old, new) = match direction {
            Direction::Ingress => (&before.ingress, &self.ingress),
            Direction::Egress => (&before.egress, &self.egress),
        };
        let map = map(table, direction);
        let gone: Vec<_> = old
            .iter()
            .filter(|(address, chain)| new.get(address) != Some(chain))
            .map(|(address, _)| *address)
            .collect();
        let added: Vec<_> = new
            .iter()
            .filter(|(address, chain)| old.get(address) != Some(chain))
            .map(|(address, chain)| (*address, chain.as_str()))
            .collect();
        let mut requests = nft::verdicts_remove(map, &gone);
        requests.extend(nft::verdicts_add(map, &added));
        requests
    }
}

/// The rules that all packets of the bridge meet.
pub(super) fn base_rules(
    bridge: &str,
    family: IpFamily,
) -> Vec<(Hook<'static>, Rule)> {
    let rule = Rule::default;
    let from = || rule().in_through(true, bridge);
    let to = || rule().out_through(true, bridge);
    let ask = |protocol: Protocol| {
        let from = from().destination_in_set(family, RESOLVERS);
        from.protocol(protocol.number()).ports(DNS_PORT, DNS_PORT).accept()
    };
    let map = |direction| map("", direction).name;
    let egress = from().verdict_of_source(family, map(Direction::Egress));
    let ingress = to().verdict_of_destination(family, map(Direction::Ingress));
    let mut rules = vec![(OUT, from().known_connection().accept())];
    rules.extend(link_rules(bridge, family));
    rules.extend([
        (OUT, ask(Protocol::Udp)),
        (OUT, ask(Protocol::Tcp)),
        (OUT, egress),
        (OUT, from().drop()),
        (IN, to().known_connection().accept()),
        (IN, ingress),
        (IN, to().drop()),
    ]);
    rules
}

/// What is not subject to groups, or never passes whatever they say. Tasks
/// are no neighbours of each other: the way through the host is the only one,
/// so nobody is to be told of a shorter one.
fn link_rules(bridge: &str, family: IpFamily) -> Vec<(Hook<'static>, Rule)> {
    let rule = Rule::default;
    let from = || rule().in_through(true, bridge);
    let to = || rule().out_through(true, bridge);
    if family == IpFamily::V4 {
        // The task endpoint, instance metadata, time.
        let link_local = range(Ipv4Addr::new(169, 254, 0, 0), 16);
        let redirect = to().protocol(ICMP).transport_byte(0, ICMP_REDIRECT);
        return vec![
            (OUT, from().destination_in(link_local).accept()),
            (IN, redirect.drop()),
        ];
    }
    let link_local = range(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10);
    let multicast = range(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8);
    let on_link = range(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0), 16);
    let mut rules = Vec::new();
    for kind in NEIGHBOUR {
        // Between a task and the host, never on behalf of others: such a
        // message must not become a way round the groups.
        let find = |rule: Rule| {
            rule.protocol(ICMPV6).transport_byte(0, kind).unforwarded()
        };
        rules.extend([
            (OUT, find(from()).destination_in(on_link).accept()),
            (OUT, find(from()).for_this_host().accept()),
            (IN, find(to()).accept()),
        ]);
    }
    let redirect = to().protocol(ICMPV6).transport_byte(0, ICMPV6_REDIRECT);
    rules.extend([
        (OUT, from().destination_in(link_local).drop()),
        (OUT, from().destination_in(multicast).drop()),
        (IN, redirect.drop()),
    ]);
    rules
}

fn range(address: impl Into<IpAddr>, prefix_len: u8) -> IpCidr {
    IpCidr::new(address.into(), prefix_len)
        .unwrap_or_else(|| unreachable!("prefixes here are short"))
}

fn map(table: &str, direction: Direction) -> Verdicts<'_> {
    let name = match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    };
    Verdicts { table, name }
}

fn chain_name(direction: Direction, id: &str) -> String {
    match direction {
        Direction::Ingress => format!("in-{id}"),
        Direction::Egress => format!("out-{id}"),
    }
}

fn set_name(group: &str) -> String {
    format!("m-{group}")
}

/// Names a combination of groups by its content, the same in every version.
fn combination(ids: &[&String]) -> String {
    let bytes = ids.iter().flat_map(|id| id.bytes().chain([b' ']));
    // 128-bit FNV-1a.
    let basis = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128;
    let hash = bytes.fold(basis, |hash, byte| {
        let prime = 0x0000_0000_0100_0000_0000_0000_0000_013b;
        (hash ^ u128::from(byte)).wrapping_mul(prime)
    });
    format!("all.{hash:032x}")
}

fn is_group_id(id: &str) -> bool {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || c == '-';
    !id.is_empty() && id.len() <= GROUP_ID_MAX && id.chars().all(is_fine)
}

/// A group's rule for the kernel; `None` where it can never match in the
/// family.
fn compile(
    rule: &GroupRule,
    direction: Direction,
    family: IpFamily,
) -> Option<Rule> {
    let compiled = Rule::default();
    let compiled = match &rule.peer {
        Peer::Range(range) if range.family() != family => return None,
        Peer::Range(range) if range.prefix_len() == 0 => compiled,
        Peer::Range(range) => match direction {
            Direction::Ingress => compiled.source_in(*range),
            Direction::Egress => compiled.destination_in(*range),
        },
        Peer::Group(group) if !is_group_id(group) => return None,
        Peer::Group(group) => match direction {
            Direction::Ingress => {
                compiled.source_in_set(family, &set_name(group))
            }
            Direction::Egress => {
                compiled.destination_in_set(family, &set_name(group))
            }
        },
    };
    let compiled = match rule.traffic {
        Traffic::All => compiled,
        Traffic::Ports { protocol, first, last } => {
            let compiled = compiled.protocol(protocol.number());
            if (first, last) == (0, u16::MAX) {
                compiled
            } else {
                compiled.ports(first, last)
            }
        }
        Traffic::Icmp { kind, code } => {
            messages(compiled.protocol(ICMP), kind, code)
        }
        Traffic::Icmpv6 { kind, code } => {
            messages(compiled.protocol(ICMPV6), kind, code)
        }
        Traffic::Number(number) => compiled.protocol(number),
    };
    Some(compiled.accept())
}

/// Matches the type and code of ICMP.
fn messages(rule: Rule, kind: Option<u8>, code: Option<u8>) -> Rule {
    let parts = [(0, kind), (1, code)];
    parts.into_iter().fold(rule, |rule, (offset, value)| match value {
        Some(value) => rule.transport_byte(offset, value),
        None => rule,
    })
}
