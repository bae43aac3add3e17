//! Subnets that come and go while tasks run.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::attach::{is_host_address, parse_task_alias};
use super::error::{DoingStep, outside};
use super::firewall::{self, Segment};
use super::netlink::Socket;
use super::open::{Host, PREFIX_LENGTHS, bridge_names, bridge_set_up};
use super::route::Link;
use super::{
    Inner, Ipv4Cidr, Ipv6Cidr, NetworkStepError, OpenNetworkError, Subnet,
    SubnetIpv6, VPC_CIDR_OPTION, host6,
};

/// The subnets behind the VPC's bridge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Subnets {
    /// Those that tasks can be attached to.
    current: Vec<Subnet>,
    /// Those that were removed while interfaces were in them.
    leaving: Vec<Subnet>,
    /// IPv6 ranges that were removed while interfaces were in them.
    leaving6: Vec<SubnetIpv6>,
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
        has_ipv6: bool,
    ) -> Subnets {
        let link = host.link(bridge).map(|link| link.index);
        let mut current = wanted.to_vec();
        if !has_ipv6 {
            current.iter_mut().for_each(|subnet| subnet.ipv6 = None);
        }
        let ipv6: Vec<_> = current.iter().filter_map(|it| it.ipv6).collect();
        let leaving6 = host
            .addresses6
            .iter()
            .filter(|it| has_ipv6 && Some(it.link) == link)
            .filter_map(|it| {
                let cidr = Ipv6Cidr::new(it.address, it.prefix_len)?;
                let is_wanted = ipv6.iter().any(|it| it.cidr.overlaps(cidr));
                (!is_wanted && has_interface6(cidr, &host.links))
                    .then_some(SubnetIpv6 { cidr, gateway: it.address })
            })
            .collect();
        let present = host.addresses.iter().filter(|a| Some(a.link) == link);
        let leaving = present.filter_map(|address| {
            let cidr = Ipv4Cidr::new(address.address, address.prefix_len)?;
            let is_wanted = wanted.iter().any(|s| s.cidr.overlaps(cidr));
            let gateway = address.address;
            let is_kept = !is_wanted && has_interface(cidr, &host.links);
            let (id, ipv6) = (String::new(), None);
            is_kept.then_some(Subnet { id, cidr, gateway, ipv6 })
        });
        Subnets {
            leaving: leaving.collect(),
            leaving6,
            current,
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

    /// The host's addresses on the bridge.
    pub(super) fn gateways(&self) -> impl Iterator<Item = IpAddr> {
        let ipv6 = self.ipv6().into_iter().map(|it| IpAddr::V6(it.gateway));
        self.all().map(|subnet| IpAddr::V4(subnet.gateway)).chain(ipv6)
    }

    /// The IPv6 ranges behind the bridge.
    pub(super) fn ipv6(&self) -> Vec<SubnetIpv6> {
        let current = self.current.iter().filter_map(|subnet| subnet.ipv6);
        current.chain(self.leaving6.iter().copied()).collect()
    }

    pub(super) fn gateways_in_ranges(&self) -> Vec<(Ipv4Addr, Ipv4Cidr)> {
        self.all().map(|subnet| (subnet.gateway, subnet.cidr)).collect()
    }

    fn ranges(&self) -> Vec<Ipv4Cidr> {
        self.all().map(|subnet| subnet.cidr).collect()
    }
}

fn has_interface(cidr: Ipv4Cidr, links: &[Link]) -> bool {
    let is_in = |(ip, _): (Ipv4Addr, _)| cidr.contains(ip);
    task_addresses(links).any(is_in)
}

fn has_interface6(cidr: Ipv6Cidr, links: &[Link]) -> bool {
    let mut addresses = task_addresses(links).filter_map(|(_, ipv6)| ipv6);
    addresses.any(|address| cidr.contains(address))
}

fn task_addresses(
    links: &[Link],
) -> impl Iterator<Item = (Ipv4Addr, Option<Ipv6Addr>)> {
    let aliases = links.iter().filter_map(|link| link.alias.as_deref());
    aliases.filter_map(parse_task_alias)
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
                let mut subnet = subnet.clone();
                if let Err(error) =
                    self.check_ipv6(&mut subnet, &next, &subnets, &host)
                {
                    _ = refused.get_or_insert(error);
                }
                match self.check_subnet(&subnet, &next, &subnets, &host) {
                    Ok(()) => next.current.push(subnet),
                    Err(error) => _ = refused.get_or_insert(error),
                }
            }
            let is_kept = |old: &SubnetIpv6| {
                next.current.iter().all(|s| s.ipv6 != Some(*old))
                    && has_interface6(old.cidr, &host.links)
            };
            let leaving6 = subnets.ipv6().into_iter().filter(is_kept);
            next.leaving6 = leaving6.collect();
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
        let is_nobody_leaving =
            subnets.leaving.is_empty() && subnets.leaving6.is_empty();
        if ports.is_closed() || is_nobody_leaving {
            return Ok(());
        }
        let mut socket = Socket::route()?;
        let host = Host::look(&mut socket)?;
        let mut next = subnets.clone();
        next.leaving.retain(|old| has_interface(old.cidr, &host.links));
        next.leaving6.retain(|old| has_interface6(old.cidr, &host.links));
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
        }
        let ipv6 = next.ipv6();
        if self.has_ipv6 && ipv6 != subnets.ipv6() {
            host6::set_up(&self.config, host, self.vpc_link, &ipv6, true)?;
        }
        if self.ranges_of(&next) != self.ranges_of(subnets) {
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
        let invalid = |reason| {
            let cidr = cidr.into();
            Err(OpenNetworkError::InvalidRange { cidr, reason })
        };
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

    /// Takes the IPv6 part off a subnet that cannot have it here. On a host
    /// without IPv6 that is as it should be, else there is a reason.
    fn check_ipv6(
        &self,
        subnet: &mut Subnet,
        accepted: &Subnets,
        present: &Subnets,
        host: &Host,
    ) -> Result<(), OpenNetworkError> {
        let Some(SubnetIpv6 { cidr, gateway }) = subnet.ipv6 else {
            return Ok(());
        };
        if !self.has_ipv6 {
            subnet.ipv6 = None;
            return Ok(());
        }
        let leaving =
            present.ipv6().into_iter().map(|old| old.cidr).filter(|old| {
                *old != cidr && has_interface6(*old, &host.links)
            });
        let accepted = accepted.ipv6().into_iter().map(|it| it.cidr);
        let mut others = accepted.chain(leaving);
        let reason = if !cidr.contains(gateway) {
            Some(format!("its gateway {gateway} is not in it"))
        } else if let Some(other) = others.find(|it| it.overlaps(cidr)) {
            Some(format!("it overlaps {other}"))
        } else {
            host.conflict6(cidr, self.vpc_link).map(|(route, via)| {
                format!("this host reaches {route} through {via}")
            })
        };
        let Some(reason) = reason else { return Ok(()) };
        subnet.ipv6 = None;
        Err(OpenNetworkError::InvalidRange { cidr: cidr.into(), reason })
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
