//! Connections that outlive the interface that had them.
//!
//! The kernel tracks connections by address, and would let those of a former
//! holder go on to the next one. To find them it walks through its whole
//! table, for ten milliseconds however little is in it. So it is asked when
//! the network is opened and when subnets change, and after that only when an
//! address is given out again: then for all that were given up by then.

use std::collections::HashSet;
use std::net::IpAddr;

use super::attach::{bridge_gateway, parse_bridge_alias, parse_task_alias};
use super::error::DoingStep;
use super::flows;
use super::netlink::Socket;
use super::route::{self, Link};
use super::subnets::Subnets;
use super::{Inner, IpCidr, NetworkStepError};

/// Addresses whose former holders the kernel may still know.
#[derive(Debug, Default)]
pub(super) struct Former {
    /// Had by an interface since the kernel was last asked.
    had: HashSet<IpAddr>,
}

impl Inner {
    /// Prepares for an interface that is to have `address`;
    /// [`Inner::former_note`] says that it does.
    pub(super) fn former_forget(
        &self,
        host: &mut Socket,
        address: IpAddr,
    ) -> Result<(), NetworkStepError> {
        if self.former.lock().had.insert(address) {
            return Ok(());
        }
        let ranges = self.ranges_of(&self.subnets.lock());
        // Held throughout: one that has an address now is not forgotten.
        let mut former = self.former.lock();
        let links = route::links(host).doing("list the interfaces")?;
        former.ask(&ranges, &links, Some(address))
    }

    /// Notes that there is an interface for `address`. While it was made
    /// another may have asked the kernel, and taken the address for free.
    pub(super) fn former_note(&self, address: IpAddr) {
        self.former.lock().had.insert(address);
    }

    /// Forgets former holders of all addresses behind our bridges.
    pub(super) fn former_forget_all(
        &self,
        subnets: &Subnets,
        links: &[Link],
    ) -> Result<(), NetworkStepError> {
        if self.groups.is_none() {
            return Ok(());
        }
        let ranges = self.ranges_of(subnets);
        self.former.lock().ask(&ranges, links, None)
    }

    /// The gateways behind our bridges, each in its range.
    pub(super) fn ranges_of(&self, subnets: &Subnets) -> Vec<(IpAddr, IpCidr)> {
        let range = self.leases.lock().range();
        let of_bridge = (bridge_gateway(range), range);
        let ipv4 = subnets.gateways_in_ranges().into_iter().chain([of_bridge]);
        let ipv6 = subnets.ipv6().into_iter();
        ipv4.map(|(gateway, range)| (gateway.into(), IpCidr::V4(range)))
            .chain(ipv6.map(|it| (it.gateway.into(), IpCidr::V6(it.cidr))))
            .collect()
    }
}

impl Former {
    #[cfg(test)]
    pub(super) fn knows(&self, address: IpAddr) -> bool {
        self.had.contains(&address)
    }

    /// Has the kernel forget what it knows of addresses behind our bridges
    /// that no interface has, and of the one that will be had `next`.
    fn ask(
        &mut self,
        ranges: &[(IpAddr, IpCidr)],
        links: &[Link],
        next: Option<IpAddr>,
    ) -> Result<(), NetworkStepError> {
        let mut held: HashSet<_> = links.iter().flat_map(held_by).collect();
        // A task's interface may outlive the task for a moment.
        let is_free = |address: IpAddr| {
            Some(address) == next
                || (!held.contains(&address) && is_for_tasks(ranges, address))
        };
        flows::forget_all_where(|flow| {
            is_free(flow.source) || is_free(flow.destination)
        })
        .doing("forget connections of interfaces that are gone")?;
        held.extend(next);
        self.had = held;
        Ok(())
    }
}

/// Whether an interface behind our bridges can have `address`.
fn is_for_tasks(ranges: &[(IpAddr, IpCidr)], address: IpAddr) -> bool {
    ranges
        .iter()
        .any(|(gateway, range)| range.contains(address) && address != *gateway)
}

/// The addresses of an interface, if it is one of ours.
fn held_by(link: &Link) -> impl Iterator<Item = IpAddr> {
    let alias = link.alias.as_deref();
    let task = alias.and_then(parse_task_alias);
    let container = alias.and_then(parse_bridge_alias);
    let ipv4 = task.map(|(ipv4, _)| ipv4).or(container.map(|(_, ipv4)| ipv4));
    let ipv6 = task.and_then(|(_, ipv6)| ipv6);
    ipv4.map(IpAddr::V4).into_iter().chain(ipv6.map(IpAddr::V6))
}
