//! Connections whose permission was taken away.
//!
//! The kernel tracks every connection and lets known ones go on, as AWS does
//! with those that it tracks. Those that AWS would not track are forgotten
//! here, so that their next packet is judged by the rules as they are now.

use std::io;

use super::evaluate::Packet;
use super::{Direction, Firewall};
use crate::network::family::IpFamily;
use crate::network::flows::{self, Original};

/// Interrupts what `before` let through untracked and `after` does not allow.
pub(super) fn interrupt(before: &Firewall, after: &Firewall) -> io::Result<()> {
    if !takes_away(before, after) {
        return Ok(());
    }
    flows::forget_all_where(|flow| is_over(before, after, &flow.packet()))
}

fn is_over(before: &Firewall, after: &Firewall, packet: &Packet) -> bool {
    [Direction::Ingress, Direction::Egress].into_iter().any(|direction| {
        before.is_untracked(direction, packet)
            && !after.allows(direction, packet)
    })
}

/// Whether an interface has lost a rule for everybody: no other makes
/// connections untracked. One that is gone has lost nothing; whoever gets its
/// address next gets no connections with it (see `former`).
fn takes_away(before: &Firewall, after: &Firewall) -> bool {
    before.interfaces.iter().any(|(address, groups)| {
        let Some(now) = after.interfaces.get(address) else { return false };
        if now == groups
            && groups
                .iter()
                .all(|g| before.groups.get(g) == after.groups.get(g))
        {
            return false;
        }
        let family = IpFamily::of(*address);
        [Direction::Ingress, Direction::Egress].into_iter().any(|direction| {
            before.rules(*address, direction).any(|rule| {
                let mut now = after.rules(*address, direction);
                rule.is_for_everybody(family) && !now.any(|other| other == rule)
            })
        })
    })
}

impl Original {
    fn packet(&self) -> Packet {
        Packet {
            protocol: self.protocol,
            source: self.source,
            destination: self.destination,
            port: self.port,
            icmp: self.icmp,
        }
    }
}
