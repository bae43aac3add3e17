//! Security groups and subnets, as the control plane tells them.
//!
//! The last message is kept, so that an agent that starts again opens and
//! closes nothing before the control plane speaks. A power loss may take the
//! file: then no task runs, and the engine begins closed.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use minato_wire::acs;

use crate::agent::Services;
use crate::runtime::{
    Firewall, GroupRule, IpCidr, Peer, Protocol, RuntimeError, SecurityGroup,
    Subnet, SubnetIpv6, Traffic, error_chain,
};
use crate::store::{Sync, replace_file};

/// A thousand interfaces make some hundred KiB.
const BYTES_MAX: u64 = 64 << 20;

/// Why a message was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakeFirewallError {
    /// It could not be kept.
    #[error("could not write {}", .path.display())]
    Keep {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The engine could not do it.
    #[error("the engine did not take the security groups")]
    Engine {
        /// Why.
        source: RuntimeError,
    },
}

fn path(dir: &Path) -> PathBuf {
    dir.join("firewall.json")
}

/// Has the engine enforce what an earlier agent was told last.
pub(crate) async fn resume(services: &Services) {
    let path = path(&services.config.dir);
    let message = match load(&path) {
        Ok(Some(message)) => message,
        Ok(None) => return,
        Err(error) => {
            // The kernel has what was enforced, if anything runs.
            tracing::warn!(%error, "{} is of no use", path.display());
            return;
        }
    };
    if let Err(error) = apply(services, &message).await {
        tracing::error!(
            error = error_chain(&error),
            "security groups are as an earlier agent left them"
        );
    }
}

fn load(path: &Path) -> io::Result<Option<acs::Firewall>> {
    let length = match std::fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    if length > BYTES_MAX {
        return Err(io::Error::other("the file is too large"));
    }
    Ok(Some(serde_json::from_slice(&std::fs::read(path)?)?))
}

/// Keeps a message and has the engine enforce it.
pub(crate) async fn take(
    services: &Services,
    message: &acs::Firewall,
) -> Result<(), TakeFirewallError> {
    let path = path(&services.config.dir);
    // First, so that an agent killed in between goes on with the new one.
    let keep = |source| TakeFirewallError::Keep { path: path.clone(), source };
    let bytes = serde_json::to_vec(message)
        .map_err(|error| keep(io::Error::other(error)))?;
    replace_file(path.clone(), bytes, Sync::No).await.map_err(keep)?;
    apply(services, message)
        .await
        .map_err(|source| TakeFirewallError::Engine { source })
}

async fn apply(
    services: &Services,
    message: &acs::Firewall,
) -> Result<(), RuntimeError> {
    let (subnets, firewall) = (subnets(message), firewall(message));
    services.runtime.firewall_set(&subnets, &firewall).await
}

/// The subnets that can be read.
fn subnets(message: &acs::Firewall) -> Vec<Subnet> {
    let subnets = message.subnets.iter().filter_map(|subnet| {
        let read = || {
            Some(Subnet {
                id: subnet.id.clone(),
                cidr: subnet.cidr.parse().ok()?,
                gateway: subnet.gateway.parse().ok()?,
                ipv6: subnet_ipv6(subnet)?,
            })
        };
        told(read(), "a subnet cannot be read", subnet)
    });
    subnets.collect()
}

/// The IPv6 part of a subnet, if it has one; `None` where it cannot be read.
fn subnet_ipv6(subnet: &acs::FirewallSubnet) -> Option<Option<SubnetIpv6>> {
    let (Some(cidr), Some(gateway)) = (&subnet.cidr_ipv6, &subnet.gateway_ipv6)
    else {
        return Some(None);
    };
    let (cidr, gateway) = (cidr.parse().ok()?, gateway.parse().ok()?);
    Some(Some(SubnetIpv6 { cidr, gateway }))
}

/// What the groups allow. What cannot be read allows nothing.
fn firewall(message: &acs::Firewall) -> Firewall {
    let address = |text: &String| {
        told(text.parse::<IpAddr>().ok(), "an address cannot be read", text)
    };
    let groups = message.groups.iter().map(|group| {
        let rules = |rules: &[acs::FirewallRule]| {
            rules.iter().filter_map(rule).collect()
        };
        let ingress = rules(&group.ingress);
        let egress = rules(&group.egress);
        (group.id.clone(), SecurityGroup { ingress, egress })
    });
    let members = message.members.iter().map(|members| {
        let addresses = members.addresses.iter().filter_map(address);
        (members.group_id.clone(), addresses.collect())
    });
    let interfaces = message.interfaces.iter().flat_map(|interface| {
        let groups: BTreeSet<String> =
            interface.group_ids.iter().cloned().collect();
        let texts = [Some(&interface.address), interface.address_ipv6.as_ref()];
        let read = texts.into_iter().flatten().filter_map(address);
        read.map(move |address| (address, groups.clone()))
    });
    Firewall {
        groups: groups.collect(),
        members: members.collect(),
        interfaces: interfaces.collect(),
    }
}

fn rule(rule: &acs::FirewallRule) -> Option<GroupRule> {
    let read = || {
        let ranges = [&rule.cidr_ipv4, &rule.cidr_ipv6].into_iter().flatten();
        let ranges = ranges.map(|cidr| range(cidr).map(Peer::Range));
        let group = rule.group_id.clone().map(|it| Some(Peer::Group(it)));
        let peers: Vec<Option<Peer>> = ranges.chain(group).collect();
        let Ok([peer]) = <[Option<Peer>; 1]>::try_from(peers) else {
            return None;
        };
        let peer = peer?;
        Some(GroupRule { traffic: traffic(rule)?, peer })
    };
    told(read(), "a security group's rule cannot be read", rule)
}

/// AWS takes host bits for what they are: not there.
fn range(text: &str) -> Option<IpCidr> {
    let (address, prefix) = text.split_once('/')?;
    IpCidr::new(address.parse().ok()?, prefix.parse().ok()?)
}

/// The packets meant by protocol, ports, type and code.
fn traffic(rule: &acs::FirewallRule) -> Option<Traffic> {
    // Not given and -1 both stand for all.
    let given = |value: Option<i32>| value.filter(|value| *value != -1);
    let (from, to) = (given(rule.from_port), given(rule.to_port));
    let ports = |protocol| {
        let first = u16::try_from(from.unwrap_or(0)).ok()?;
        let last = u16::try_from(to.unwrap_or(u16::MAX.into())).ok()?;
        Some(Traffic::Ports { protocol, first, last })
    };
    let byte = |value: Option<i32>| match value {
        Some(value) => u8::try_from(value).ok().map(Some),
        None => Some(None),
    };
    match rule.protocol.as_str() {
        "-1" => Some(Traffic::All),
        "tcp" | "6" => ports(Protocol::Tcp),
        "udp" | "17" => ports(Protocol::Udp),
        "icmp" | "1" => {
            Some(Traffic::Icmp { kind: byte(from)?, code: byte(to)? })
        }
        "icmpv6" | "58" => {
            Some(Traffic::Icmpv6 { kind: byte(from)?, code: byte(to)? })
        }
        number => number.parse().ok().map(Traffic::Number),
    }
}

/// Warns of what could not be read.
fn told<T>(read: Option<T>, what: &str, of: &dyn std::fmt::Debug) -> Option<T> {
    if read.is_none() {
        tracing::warn!(?of, "{what}");
    }
    read
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(rule: Value) -> Option<GroupRule> {
        super::rule(&serde_json::from_value(rule).expect("it is a rule"))
    }

    #[test]
    fn rules_are_read_as_aws_means_them() {
        let all = "0.0.0.0/0".parse().expect("it is a range");
        for (protocol, from, to, wanted) in [
            ("-1", None, None, Traffic::All),
            ("-1", Some(-1), Some(-1), Traffic::All),
            (
                "tcp",
                Some(80),
                Some(81),
                Traffic::Ports { protocol: Protocol::Tcp, first: 80, last: 81 },
            ),
            (
                "17",
                Some(0),
                Some(65535),
                Traffic::Ports {
                    protocol: Protocol::Udp,
                    first: 0,
                    last: 65535,
                },
            ),
            (
                "udp",
                None,
                None,
                Traffic::Ports {
                    protocol: Protocol::Udp,
                    first: 0,
                    last: 65535,
                },
            ),
            (
                "icmp",
                Some(-1),
                Some(-1),
                Traffic::Icmp { kind: None, code: None },
            ),
            (
                "icmp",
                Some(8),
                Some(-1),
                Traffic::Icmp { kind: Some(8), code: None },
            ),
            (
                "1",
                Some(3),
                Some(4),
                Traffic::Icmp { kind: Some(3), code: Some(4) },
            ),
            (
                "icmpv6",
                Some(128),
                Some(-1),
                Traffic::Icmpv6 { kind: Some(128), code: None },
            ),
            ("47", None, None, Traffic::Number(47)),
        ] {
            let rule = read(json!({
                "protocol": protocol, "fromPort": from, "toPort": to,
                "cidrIpv4": "0.0.0.0/0",
            }));
            let traffic = wanted;
            let wanted = GroupRule { traffic, peer: Peer::Range(all) };
            assert_eq!(rule, Some(wanted), "{protocol} {from:?} {to:?}");
        }
    }

    #[test]
    fn peers_are_ranges_of_either_family_and_groups() {
        let rule = read(json!({"protocol": "-1", "groupId": "sg-1"}));
        let peer = Peer::Group("sg-1".into());
        assert_eq!(rule, Some(GroupRule { traffic: Traffic::All, peer }));
        let rule = read(json!({"protocol": "-1", "cidrIpv6": "fd12::1/16"}));
        let peer = Peer::Range("fd12::/16".parse().expect("it is a range"));
        assert_eq!(rule, Some(GroupRule { traffic: Traffic::All, peer }));
        let rule = read(json!({"protocol": "-1", "cidrIpv4": "10.1.2.3/8"}));
        let peer = Peer::Range("10.0.0.0/8".parse().expect("it is a range"));
        assert_eq!(rule, Some(GroupRule { traffic: Traffic::All, peer }));
    }

    #[test]
    fn what_cannot_be_read_allows_nothing() {
        for bad in [
            json!({"protocol": "-1"}),
            json!({"protocol": "-1", "cidrIpv6": "::/129"}),
            json!({"protocol": "-1", "cidrIpv4": "0.0.0.0/0",
                "cidrIpv6": "::/0"}),
            json!({"protocol": "tcpx", "cidrIpv4": "0.0.0.0/0"}),
            json!({"protocol": "256", "cidrIpv4": "0.0.0.0/0"}),
            json!({"protocol": "-1", "cidrIpv4": "0.0.0.0"}),
            json!({"protocol": "-1", "cidrIpv4": "0.0.0.0/33"}),
            json!({"protocol": "-1", "cidrIpv4": "0.0.0.0/0", "groupId": "g"}),
            json!({"protocol": "tcp", "fromPort": 70000, "toPort": 70001,
                "cidrIpv4": "0.0.0.0/0"}),
            json!({"protocol": "icmp", "fromPort": 256,
                "cidrIpv4": "0.0.0.0/0"}),
        ] {
            assert_eq!(read(bad.clone()), None, "{bad}");
        }
        let message = json!({
            "messageId": "m", "clusterArn": "c", "containerInstanceArn": "i",
            "revision": 1,
            "subnets": [{"id": "s", "cidr": "10.0.0.0", "gateway": "x"}],
            "interfaces": [{"address": "nowhere", "groupIds": ["g"]}],
            "members": [{"groupId": "g", "addresses": ["nowhere", "10.0.0.1"]}],
        });
        let message = serde_json::from_value(message).expect("it is a message");
        assert_eq!(subnets(&message), []);
        let firewall = firewall(&message);
        assert!(firewall.interfaces.is_empty());
        assert_eq!(firewall.members["g"].len(), 1);
    }

    #[test]
    fn both_families_are_read() {
        let message = json!({
            "messageId": "m", "clusterArn": "c", "containerInstanceArn": "i",
            "revision": 1,
            "subnets": [{
                "id": "s", "cidr": "10.0.0.0/24", "gateway": "10.0.0.1",
                "cidrIpv6": "fd12::/64", "gatewayIpv6": "fd12::1",
            }],
            "interfaces": [{"address": "10.0.0.4", "addressIpv6": "fd12::4",
                "groupIds": ["g"]}],
            "members": [{"groupId": "g", "addresses": ["fd12::4"]}],
        });
        let message = serde_json::from_value(message).expect("it is a message");
        let ipv6 = subnets(&message)[0].ipv6.expect("it has IPv6");
        assert_eq!(ipv6.cidr.to_string(), "fd12::/64");
        let firewall = firewall(&message);
        let interfaces: Vec<String> =
            firewall.interfaces.keys().map(ToString::to_string).collect();
        assert_eq!(interfaces, ["10.0.0.4", "fd12::4"]);
        assert_eq!(firewall.members["g"].len(), 1);
    }
}
