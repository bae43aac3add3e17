//! What a host must know of subnets and security groups, made from rows.
//!
//! [`firewall`] is a pure function of a snapshot: the session sends what it
//! gives whenever that is not what it sent last. [`Interest`] says which
//! changes can make it give something else, so that the router wakes nobody
//! for those of others.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use minato_store::{Commit, Key, Snapshot};
use minato_wire::acs::{
    FIREWALL_ATTRIBUTE, Firewall, FirewallGroup, FirewallInterface,
    FirewallMembers, FirewallRule, FirewallSubnet,
};

use super::Peer;
use crate::services::ec2::defaults::DEFAULT_GROUP;
use crate::services::ec2::eni::{gateway, gateway_ipv6};
use crate::services::ec2::rows::{
    EniRow, Rule, RulePeer, SecurityGroupRow, SubnetRow,
};
use crate::tables::{Host, Task};

/// What a host's firewall is made from, beside all subnets and its tasks:
/// keys of the groups that its interfaces are in, and of those that their
/// rules refer to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Interest {
    /// Groups whose rules matter.
    rules: BTreeSet<Key>,
    /// Groups whose members' addresses matter.
    members: BTreeSet<Key>,
}

/// What one commit changed, as far as firewalls are made from it.
#[derive(Debug, Default)]
pub(super) struct Touched {
    has_subnets: bool,
    rules: BTreeSet<Key>,
    members: BTreeSet<Key>,
}

impl Touched {
    /// Adds what a commit changed.
    pub(super) fn add(&mut self, commit: &Commit) {
        for change in commit.of::<SubnetRow>() {
            // Every interface moves the place of the search for a free
            // address, which no host need know.
            let shape = |row: &SubnetRow| {
                let ipv6 = row.ipv6.as_ref().map(|block| block.cidr);
                (row.id.clone(), row.cidr, ipv6)
            };
            self.has_subnets |= change.before.as_deref().map(shape)
                != change.after.as_deref().map(shape);
        }
        for change in commit.of::<SecurityGroupRow>() {
            self.rules.insert(change.key);
        }
        for change in commit.of::<EniRow>() {
            for row in change.before.iter().chain(change.after.iter()) {
                let within = Key::of([&row.account, &row.region]);
                let groups = row.security_groups.iter();
                self.members.extend(groups.map(|id| within.with(id)));
            }
        }
    }

    /// Whether nothing that matters to anyone changed.
    pub(super) fn is_empty(&self) -> bool {
        !self.has_subnets && self.rules.is_empty() && self.members.is_empty()
    }

    /// Whether it matters to a host with this interest.
    pub(super) fn matters_to(&self, interest: &Interest) -> bool {
        let both = |a: &BTreeSet<Key>, b: &BTreeSet<Key>| {
            a.iter().any(|key| b.contains(key))
        };
        self.has_subnets
            || both(&self.rules, &interest.rules)
            || both(&self.members, &interest.members)
    }
}

/// Whether the host's agent takes firewalls.
pub(super) fn is_wanted(rows: &Snapshot, peer: &Peer) -> bool {
    rows.get::<Host>(&peer.host)
        .is_some_and(|host| host.attributes.contains_key(FIREWALL_ATTRIBUTE))
}

/// The host's firewall, without an id of a message, and what it is made from.
///
/// Costs as much as there are subnets, tasks on the host and members of the
/// groups that matter to it.
pub(super) fn firewall(rows: &Snapshot, peer: &Peer) -> (Firewall, Interest) {
    let mut interest = Interest::default();
    let mut interfaces = vec![];
    for eni in interfaces_of(rows, peer) {
        let within = Key::of([&eni.account, &eni.region]);
        let ids = eni.security_groups.iter();
        interest.rules.extend(ids.map(|id| within.with(id)));
        interfaces.push(FirewallInterface {
            address: eni.private_ip.to_string(),
            address_ipv6: eni.ipv6.map(|address| address.to_string()),
            group_ids: eni.security_groups.clone(),
        });
    }
    let mut groups = vec![];
    for key in &interest.rules {
        let Some(row) = rows.get::<SecurityGroupRow>(key) else { continue };
        let within = Key::of([&row.account, &row.region]);
        interest.members.extend(row.peers().map(|id| within.with(id)));
        groups.push(describe_group(&row));
    }
    let members = interest.members.iter().map(|key| {
        let members = rows.by_index::<EniRow>(EniRow::BY_GROUP, key);
        let members = members.flat_map(|it| {
            let ipv6 = it.ipv6.map(|address| address.to_string());
            [it.private_ip.to_string()].into_iter().chain(ipv6)
        });
        FirewallMembers {
            group_id: last_part(key),
            addresses: routers(rows, key).chain(members).collect(),
        }
    });
    let firewall = Firewall {
        message_id: String::new(),
        cluster_arn: peer.cluster_arn.clone(),
        container_instance_arn: peer.instance_arn.clone(),
        revision: rows.revision(),
        subnets: subnets(rows, peer),
        members: members.collect(),
        groups,
        interfaces,
    };
    (firewall, interest)
}

/// The addresses that hosts have in a VPC: they are members of its default
/// group, as an instance is that was launched without another.
fn routers(rows: &Snapshot, group: &Key) -> impl Iterator<Item = String> {
    let group = rows.get::<SecurityGroupRow>(group);
    let group = group.filter(|group| group.name == DEFAULT_GROUP);
    let subnets = group.into_iter().flat_map(|group| {
        let within = Key::of([&group.account, &group.region]);
        let subnets = rows.scan::<SubnetRow>(&within);
        subnets.filter(move |subnet| subnet.vpc_id == group.vpc_id)
    });
    subnets.flat_map(|subnet| {
        let ipv6 = subnet.ipv6.as_ref();
        let ipv6 = ipv6.map(|block| gateway_ipv6(block.cidr).to_string());
        [gateway(subnet.cidr).to_string()].into_iter().chain(ipv6)
    })
}

/// Whether two firewalls say the same, whenever they were made.
pub(super) fn is_same(a: &Firewall, b: &Firewall) -> bool {
    a.subnets == b.subnets
        && a.groups == b.groups
        && a.members == b.members
        && a.interfaces == b.interfaces
}

/// The interfaces of the host's tasks, in the order of the tasks.
fn interfaces_of(rows: &Snapshot, peer: &Peer) -> Vec<std::sync::Arc<EniRow>> {
    let on_host = Task::on_host(&peer.account, &peer.region, &peer.host_id);
    rows.by_index::<Task>("host", &on_host)
        .filter_map(|task| {
            let id = task.network_interface.as_deref()?;
            rows.get(&EniRow::key_of(&task.account, &task.region, id))
        })
        .collect()
}

/// All subnets, each block once: the default networks of all accounts and
/// regions are the same addresses, of which the host's own stand for all.
fn subnets(rows: &Snapshot, peer: &Peer) -> Vec<FirewallSubnet> {
    let is_own = |row: &SubnetRow| {
        row.account == peer.account && row.region == peer.region
    };
    let mut found = BTreeMap::new();
    for row in rows.scan::<SubnetRow>(&Key::root()) {
        let place = (row.cidr.base, row.cidr.prefix);
        if is_own(&row) || !found.contains_key(&place) {
            found.insert(place, row);
        }
    }
    let describe = |row: &SubnetRow| FirewallSubnet {
        id: row.id.clone(),
        cidr: row.cidr.to_string(),
        gateway: gateway(row.cidr).to_string(),
        cidr_ipv6: row.ipv6.as_ref().map(|it| it.cidr.to_string()),
        gateway_ipv6: row
            .ipv6
            .as_ref()
            .map(|it| gateway_ipv6(it.cidr).to_string()),
    };
    found.values().map(|row| describe(row)).collect()
}

fn describe_group(row: &SecurityGroupRow) -> FirewallGroup {
    let rules = |is_egress| {
        let rules = row.rules.iter();
        let rules = rules.filter(|rule| rule.spec.is_egress == is_egress);
        rules.map(describe_rule).collect()
    };
    FirewallGroup {
        id: row.id.clone(),
        ingress: rules(false),
        egress: rules(true),
    }
}

fn describe_rule(rule: &Rule) -> FirewallRule {
    let spec = &rule.spec;
    let has_ports =
        matches!(spec.protocol.as_str(), "tcp" | "udp" | "icmp" | "icmpv6");
    let described = FirewallRule {
        protocol: spec.protocol.clone(),
        from_port: has_ports.then_some(spec.from_port),
        to_port: has_ports.then_some(spec.to_port),
        ..FirewallRule::default()
    };
    match &spec.peer {
        RulePeer::Ipv4(cidr) => {
            FirewallRule { cidr_ipv4: Some(cidr.to_string()), ..described }
        }
        RulePeer::Ipv6(cidr) => {
            FirewallRule { cidr_ipv6: Some(cidr.clone()), ..described }
        }
        RulePeer::Group(id) => {
            FirewallRule { group_id: Some(id.clone()), ..described }
        }
    }
}

fn last_part(key: &Key) -> String {
    let last = key.parts().last().unwrap_or_default();
    String::from_utf8_lossy(&last).into_owned()
}
