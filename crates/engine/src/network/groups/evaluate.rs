//! What security groups allow, by their definition.
//!
//! Decides which connections a change interrupts, and is what the kernel's
//! rules are tested against.

use std::net::IpAddr;

use super::{Direction, Firewall, GroupRule, ICMP, ICMPV6, Peer, Traffic};
use crate::network::Protocol;
use crate::network::family::IpFamily;

/// As much of a packet as rules look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) protocol: u8,
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    /// The destination port of protocols that have ports.
    pub(super) port: u16,
    /// Type and code of ICMP, for IPv6 too.
    pub(super) icmp: (u8, u8),
}

impl Packet {
    fn peer(&self, direction: Direction) -> IpAddr {
        match direction {
            Direction::Ingress => self.source,
            Direction::Egress => self.destination,
        }
    }

    fn interface(&self, direction: Direction) -> IpAddr {
        match direction {
            Direction::Ingress => self.destination,
            Direction::Egress => self.source,
        }
    }
}

impl Firewall {
    /// Whether the groups of this host's interface allow a new connection.
    pub(super) fn allows(&self, direction: Direction, packet: &Packet) -> bool {
        let mut rules = self.rules(packet.interface(direction), direction);
        rules.any(|rule| self.matches(rule, direction, packet))
    }

    /// Whether AWS would not track a connection: a rule lets everybody in (or
    /// out) for it, and another all answers back, both in its family. Such a
    /// one is interrupted when the rules go; a tracked one is not. ICMP is
    /// always tracked.
    /// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/security-group-connection-tracking.html>
    pub(super) fn is_untracked(
        &self,
        direction: Direction,
        packet: &Packet,
    ) -> bool {
        let has_ports = Protocol::of_number(packet.protocol).is_some();
        let back = match direction {
            Direction::Ingress => Direction::Egress,
            Direction::Egress => Direction::Ingress,
        };
        let interface = packet.interface(direction);
        let family = IpFamily::of(interface);
        has_ports
            && self.rules(interface, direction).any(|rule| {
                rule.is_for_everybody(family)
                    && self.matches(rule, direction, packet)
            })
            && self.rules(interface, back).any(|rule| {
                rule.is_for_everybody(family)
                    && rule.traffic.has_all_ports(packet.protocol)
            })
    }

    pub(super) fn rules(
        &self,
        interface: IpAddr,
        direction: Direction,
    ) -> impl Iterator<Item = &GroupRule> {
        let groups = self.interfaces.get(&interface).into_iter().flatten();
        let groups = groups.filter_map(|group| self.groups.get(group));
        groups.flat_map(move |group| match direction {
            Direction::Ingress => &group.ingress,
            Direction::Egress => &group.egress,
        })
    }

    fn matches(
        &self,
        rule: &GroupRule,
        direction: Direction,
        packet: &Packet,
    ) -> bool {
        let peer = packet.peer(direction);
        let is_peer = match &rule.peer {
            Peer::Range(range) => range.contains(peer),
            Peer::Group(group) => {
                let members = self.members.get(group);
                members.is_some_and(|members| members.contains(&peer))
            }
        };
        is_peer && rule.traffic.matches(packet)
    }
}

impl GroupRule {
    pub(super) fn is_for_everybody(&self, family: IpFamily) -> bool {
        match &self.peer {
            Peer::Range(range) => {
                range.prefix_len() == 0 && range.family() == family
            }
            Peer::Group(_) => false,
        }
    }
}

impl Traffic {
    fn matches(self, packet: &Packet) -> bool {
        match self {
            Traffic::All => true,
            Traffic::Ports { protocol, first, last } => {
                packet.protocol == protocol.number()
                    && (first..=last).contains(&packet.port)
            }
            Traffic::Icmp { kind, code } => {
                packet.protocol == ICMP
                    && kind.is_none_or(|kind| packet.icmp.0 == kind)
                    && code.is_none_or(|code| packet.icmp.1 == code)
            }
            Traffic::Icmpv6 { kind, code } => {
                packet.protocol == ICMPV6
                    && kind.is_none_or(|kind| packet.icmp.0 == kind)
                    && code.is_none_or(|code| packet.icmp.1 == code)
            }
            Traffic::Number(number) => packet.protocol == number,
        }
    }

    fn has_all_ports(self, number: u8) -> bool {
        match self {
            Traffic::All => true,
            Traffic::Ports { protocol, first, last } => {
                protocol.number() == number && (first, last) == (0, u16::MAX)
            }
            Traffic::Icmp { .. } | Traffic::Icmpv6 { .. } => false,
            Traffic::Number(own) => own == number,
        }
    }
}
