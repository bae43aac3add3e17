//! Subnets that come and go while tasks run.

use std::net::Ipv4Addr;

use super::attach::{is_host_address, parse_task_alias};
use super::error::{DoingStep, outside};
use super::firewall::{self, Segment};
use super::netlink::Socket;
use super::open::{Host, PREFIX_LENGTHS, bridge_names, bridge_set_up};
use super::route::Link;
use super::{
    Inner, Ipv4Cidr, NetworkStepError, OpenNetworkError, Subnet,
    VPC_CIDR_OPTION,
};

/// The subnets behind the VPC's bridge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Subnets {
    /// Those that tasks can be attached to.
    current: Vec<Subnet>,
    /// Those that were removed while interfaces were in them.
    leaving: Vec<Subnet>,
    /// What was asked for last, with those that could not be.
    wanted: Vec<Subnet>,
}

impl Subnets {
    /// The subnets wanted now, and those in which tasks of an earlier process
    /// still are, known by the addresses the bridge has.
    pub(super) fn found(
        wanted: &[Subnet],
        host: &Host,
        bridge: &str,
    ) -> Subnets {
        let link = host.link(bridge).map(|link| link.index);
        let present = host.addresses.iter().filter(|a| Some(a.link) == link);
        let leaving =
            present.filter_map(|address| {
                let cidr = Ipv4Cidr::new(address.address, address.prefix_len)?;
                let is_wanted = wanted.iter().any(|s| s.cidr.overlaps(cidr));
                let gateway = address.address;
                (!is_wanted && has_interface(cidr, &host.links))
                    .then(|| Subnet { id: String::new(), cidr, gateway })
            });
        Subnets {
            leaving: leaving.collect(),
            current: wanted.to_vec(),
            wanted: wanted.to_vec(),
        }
    }

    /// The subnet that new interfaces may be in.
    pub(super) fn get(&self, id: &str) -> Option<&Subnet> {
        self.current.iter().find(|subnet| subnet.id == id)
    }

    pub(super) fn with_address(&self, address: Ipv4Addr) -> Option<&Subnet> {
        self.current.iter().find(|subnet| subnet.cidr.contains(address))
    }

    fn all(&self) -> impl Iterator<Item = &Subnet> {
        self.current.iter().chain(&self.leaving)
    }

    pub(super) fn gateways(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.all().map(|subnet| subnet.gateway)
    }

    pub(super) fn gateways_in_ranges(&self) -> Vec<(Ipv4Addr, Ipv4Cidr)> {
        self.all().map(|subnet| (subnet.gateway, subnet.cidr)).collect()
    }

    fn ranges(&self) -> Vec<Ipv4Cidr> {
        self.all().map(|subnet| subnet.cidr).collect()
    }
}

fn has_interface(cidr: Ipv4Cidr, links: &[Link]) -> bool {
    let aliases = links.iter().filter_map(|link| link.alias.as_deref());
    aliases.filter_map(parse_task_alias).any(|address| cidr.contains(address))
}

impl Inner {
    /// Runs in the host's namespace. Subnets that cannot be are left out, and
    /// the first of them is the answer, once.
    pub(super) fn subnets_set(
        &self,
        wanted: &[Subnet],
    ) -> Result<(), OpenNetworkError> {
        let mut refused = None;
        {
            // Held throughout: nothing may come back once it is torn down.
            let ports = self.ports.lock();
            let mut subnets = self.subnets.lock();
            if ports.is_closed() || subnets.wanted == wanted {
                return Ok(());
            }
            let mut socket = Socket::route()?;
            let host = Host::look(&mut socket)?;
            let mut next =
                Subnets { wanted: wanted.to_vec(), ..Subnets::default() };
            for subnet in wanted {
                match self.check_subnet(subnet, &next, &subnets, &host) {
                    Ok(()) => next.current.push(subnet.clone()),
                    Err(error) => _ = refused.get_or_insert(error),
                }
            }
            next.leaving = subnets
                .all()
                .filter(|old| next.current.iter().all(|s| s.cidr != old.cidr))
                .filter(|old| has_interface(old.cidr, &host.links))
                .cloned()
                .collect();
            self.subnets_change(&mut subnets, next, &host, &mut socket)?;
        }
        let mut netfilter = Socket::netfilter()?;
        self.groups_reassert(&mut netfilter)?;
        refused.map_or(Ok(()), Err)
    }

    /// Takes removed subnets away whose last interface has gone.
    pub(super) fn subnets_prune(&self) -> Result<(), NetworkStepError> {
        let ports = self.ports.lock();
        let mut subnets = self.subnets.lock();
        if ports.is_closed() || subnets.leaving.is_empty() {
            return Ok(());
        }
        let mut socket = Socket::route()?;
        let host = Host::look(&mut socket)?;
        let mut next = subnets.clone();
        next.leaving.retain(|old| has_interface(old.cidr, &host.links));
        self.subnets_change(&mut subnets, next, &host, &mut socket)
    }

    fn subnets_change(
        &self,
        subnets: &mut Subnets,
        next: Subnets,
        host: &Host,
        socket: &mut Socket,
    ) -> Result<(), NetworkStepError> {
        if next.gateways_in_ranges() != subnets.gateways_in_ranges() {
            let (bridge, _) = bridge_names(&self.config.name);
            let gateways = next.gateways_in_ranges();
            // The rules first: what is new is never without them.
            let segments = self.segments_of(&next);
            let mut netfilter = Socket::netfilter()?;
            firewall::table_set_up(
                &mut netfilter,
                &self.config.name,
                &segments,
            )
            .doing("set up the nftables table")?;
            bridge_set_up(socket, host, &bridge, &gateways, self.mtu)?;
            self.former_forget_all(&next, &host.links)?;
        }
        *subnets = next;
        Ok(())
    }

    fn check_subnet(
        &self,
        subnet: &Subnet,
        accepted: &Subnets,
        present: &Subnets,
        host: &Host,
    ) -> Result<(), OpenNetworkError> {
        let cidr = subnet.cidr;
        let invalid =
            |reason| Err(OpenNetworkError::InvalidRange { cidr, reason });
        if !PREFIX_LENGTHS.contains(&cidr.prefix_len()) {
            let (low, high) = (PREFIX_LENGTHS.start(), PREFIX_LENGTHS.end());
            return invalid(format!(
                "its prefix is not from {low} to {high} bits"
            ));
        }
        if !is_host_address(cidr, subnet.gateway) {
            let reason = outside(subnet.gateway, cidr);
            return invalid(format!("its gateway {reason}"));
        }
        // One that is leaving has the range until its last task has gone.
        let leaving = present.all().filter(|old| {
            old.cidr != cidr && has_interface(old.cidr, &host.links)
        });
        let others = accepted.ranges().into_iter();
        let mut others = others.chain(leaving.map(|old| old.cidr));
        let bridge = self.bridge_range();
        if let Some(other) = others
            .find(|other| other.overlaps(cidr))
            .or(bridge.overlaps(cidr).then_some(bridge))
        {
            return invalid(format!("it overlaps {other}"));
        }
        host.check_free(cidr, &self.config.name, VPC_CIDR_OPTION)
    }

    fn bridge_range(&self) -> Ipv4Cidr {
        self.leases.lock().range()
    }

    /// Our bridges with the ranges behind them now.
    pub(super) fn segments(&self) -> Vec<Segment> {
        self.segments_of(&self.subnets.lock())
    }

    fn segments_of(&self, subnets: &Subnets) -> Vec<Segment> {
        segments(&self.config.name, subnets, self.bridge_range())
    }
}

/// The bridges of the network `name` with the ranges behind them.
pub(super) fn segments(
    name: &str,
    subnets: &Subnets,
    bridge_range: Ipv4Cidr,
) -> Vec<Segment> {
    let (vpc, bridge) = bridge_names(name);
    vec![
        Segment { bridge: vpc, ranges: subnets.ranges() },
        Segment { bridge, ranges: vec![bridge_range] },
    ]
}
