//! Security groups of awsvpc tasks, enforced by the kernel.
//!
//! All ports of the VPC's bridge are isolated from each other and the host
//! answers ARP for everybody, so every packet between two tasks is routed and
//! seen by conntrack. What a task sends is judged where it comes in, before
//! any address is translated; what a task gets is judged where it leaves:
//!
//! ```text
//! table ip minato-NAME-sg {
//!   set resolvers       { ipv4_addr: name servers, the gateways }
//!   set m-GROUP         { ipv4_addr: the members of a group that rules name }
//!   map egress, ingress { ipv4_addr : jump to a group's chain, or to one of a
//!                         combination, for each interface of this host }
//!   chain out-GROUP, in-GROUP      { a group's rules: accept }
//!   chain out-COMBINED, in-COMBINED { jump to each of its groups' chains }
//!   chain out { prerouting:  from the bridge: known connection, accept; to
//!               link-local or a resolver, accept; by map egress; drop }
//!   chain in  { postrouting: to the bridge: redirects, drop; known connection,
//!               accept; by map ingress; drop }
//! }
//! ```
//!
//! Where the host has IPv6 there is the same in `table ip6 minato-NAME-sg`. In
//! it, neighbour discovery between a task and the host is always let through,
//! and nothing else to addresses of the link or of multicast. ARP needs no
//! such rule, since it is not IP.
//!
//! An address without an entry gets nothing in and nothing out. A change is
//! one transaction of what differs, so that there is no moment at which more
//! is allowed than before or after it. The kernel keeps the table when Minato
//! goes; [`guard`] keeps tasks from using each other's addresses.

mod evaluate;
mod flows;
pub(super) mod guard;
mod layout;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use super::error::DoingStep;
use super::family::IpFamily;
use super::netlink::Socket;
use super::nft;
use super::{
    Inner, IpCidr, Ipv4Cidr, NetworkStepError, Protocol, firewall, resolv_conf,
};
use layout::Layout;

/// The protocol numbers of ICMP, for IPv4 and for IPv6.
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// What the security groups of this host's interfaces allow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Firewall {
    /// The groups that interfaces of this host are in, by their ids: letters,
    /// digits and dashes, 40 at most. Others are as if they had no rules.
    pub groups: BTreeMap<String, SecurityGroup>,
    /// The addresses, on all hosts, of groups that rules refer to.
    pub members: BTreeMap<String, BTreeSet<IpAddr>>,
    /// The groups of each interface of this host, by each of its addresses.
    pub interfaces: BTreeMap<IpAddr, BTreeSet<String>>,
}

impl Firewall {
    /// Has the groups that one of `hosts` is in have all of `range`, too: on
    /// AWS, containers in bridge mode share their instance's interface, and
    /// with it its groups.
    fn take_in(&mut self, hosts: &BTreeSet<IpAddr>, range: Ipv4Cidr) {
        let members = &self.members;
        let has_host = |peer: &Peer| match peer {
            Peer::Range(_) => false,
            Peer::Group(id) => members
                .get(id)
                .is_some_and(|members| !members.is_disjoint(hosts)),
        };
        for group in self.groups.values_mut() {
            for rules in [&mut group.ingress, &mut group.egress] {
                let more = rules.iter().filter(|rule| has_host(&rule.peer));
                let more: Vec<GroupRule> = more
                    .map(|rule| GroupRule {
                        traffic: rule.traffic,
                        peer: Peer::Range(range.into()),
                    })
                    .collect();
                rules.extend(more);
            }
        }
    }
}

/// The rules of a group; what no rule allows is not allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecurityGroup {
    /// What may come in.
    pub ingress: BTreeSet<GroupRule>,
    /// What may go out.
    pub egress: BTreeSet<GroupRule>,
}

/// One permission.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupRule {
    /// What is allowed.
    pub traffic: Traffic,
    /// From, or to, whom.
    pub peer: Peer,
}

/// Packets that a rule allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Traffic {
    /// All.
    All,
    /// Those to a range of ports, both ends included.
    Ports {
        /// Their protocol.
        protocol: Protocol,
        /// The first port.
        first: u16,
        /// The last port.
        last: u16,
    },
    /// ICMP messages; `None` stands for all.
    Icmp {
        /// Their type.
        kind: Option<u8>,
        /// Their code.
        code: Option<u8>,
    },
    /// ICMP messages of IPv6; `None` stands for all.
    Icmpv6 {
        /// Their type.
        kind: Option<u8>,
        /// Their code.
        code: Option<u8>,
    },
    /// Those of an IP protocol, by its number.
    Number(u8),
}

/// The other end of an allowed connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    /// Addresses of a range.
    Range(IpCidr),
    /// Members of a group.
    Group(String),
}

/// Which way a packet goes, seen from an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Direction {
    Ingress,
    Egress,
}

/// What was last given to the kernel.
#[derive(Debug, Default)]
pub(super) struct Groups {
    firewall: Firewall,
    /// What the kernel has, by family; empty until this process has set it.
    layouts: BTreeMap<IpFamily, Layout>,
}

/// The name of the table of the network `name`, in all families.
pub(super) fn table_name(name: &str) -> String {
    format!("{}-sg", firewall::table_name(name))
}

impl Inner {
    /// Runs in the host's namespace.
    pub(super) fn firewall_set(
        &self,
        mut wanted: Firewall,
    ) -> Result<(), NetworkStepError> {
        let Some(groups) = &self.groups else { return Ok(()) };
        let hosts = self.subnets.lock().gateways().collect();
        wanted.take_in(&hosts, self.leases.lock().range());
        // Held throughout: nothing may come back once it is torn down.
        let ports = self.ports.lock();
        if ports.is_closed() {
            return Ok(());
        }
        let mut netfilter = Socket::netfilter()?;
        // Held throughout: changes reach the kernel in their order.
        let mut groups = groups.lock();
        let name = &self.config.name;
        let resolvers = self.resolvers();
        for family in self.families() {
            let layout = Layout::of(&wanted, &resolvers, *family);
            let before = groups.layouts.get(family);
            install(&mut netfilter, name, before, &layout)
                .doing("set the security groups' rules")?;
            groups.layouts.insert(*family, layout);
        }
        let before = std::mem::replace(&mut groups.firewall, wanted);
        flows::interrupt(&before, &groups.firewall)
            .doing("interrupt connections that are not allowed any more")
    }

    /// Closes everything where nothing was set, keeps what an earlier process
    /// set, and lets new name servers through.
    pub(super) fn groups_reassert(
        &self,
        netfilter: &mut Socket,
    ) -> Result<(), NetworkStepError> {
        let Some(groups) = &self.groups else { return Ok(()) };
        let mut groups = groups.lock();
        let name = &self.config.name;
        let resolvers = self.resolvers();
        for family in self.families() {
            let tables = nft::table_names(netfilter, family.number())
                .doing("list the nftables tables")?;
            let is_there = tables.contains(&table_name(name));
            let known = groups.layouts.get(family);
            if is_there && known.is_none() {
                continue;
            }
            let layout = Layout::of(&groups.firewall, &resolvers, *family);
            let before = known.filter(|_| is_there);
            if before == Some(&layout) {
                continue;
            }
            install(netfilter, name, before, &layout)
                .doing("set the security groups' rules")?;
            if known.is_some() {
                groups.layouts.insert(*family, layout);
            }
        }
        Ok(())
    }

    /// Whom tasks may always ask for names, as AWS's own resolver is not
    /// subject to security groups: the host's resolvers and the gateways.
    fn resolvers(&self) -> BTreeSet<IpAddr> {
        let servers = resolv_conf().map(|found| found.nameservers);
        let servers = servers.unwrap_or_default();
        let servers = servers.iter().filter_map(|text| text.parse().ok());
        let subnets = self.subnets.lock();
        servers.chain(subnets.gateways()).collect()
    }
}

/// Brings the table of the network `name` from `before`, or from whatever it
/// is, to `wanted`.
fn install(
    netfilter: &mut Socket,
    name: &str,
    before: Option<&Layout>,
    wanted: &Layout,
) -> io::Result<()> {
    if let Some(before) = before {
        let requests = wanted.changes(&table_name(name), before);
        if requests.is_empty() || netfilter.transaction(&requests).is_ok() {
            return Ok(());
        }
        // Someone else changed our table: it is made anew.
    }
    netfilter.transaction(&wanted.whole(name))
}
