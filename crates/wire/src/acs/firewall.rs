//! Security groups, as a host needs them to enforce.
//!
//! These messages are Minato's own: in AWS the VPC enforces security groups
//! and the agent never hears of them. They go only to agents that registered
//! [`FIREWALL_ATTRIBUTE`].

use serde::{Deserialize, Serialize};

use crate::frame::or_default;

/// The attribute of a container instance whose agent takes
/// [`Firewall`] messages.
pub const FIREWALL_ATTRIBUTE: &str = "minato.capability.security-groups";

/// [`Message::Firewall`](super::Message::Firewall): all that a host must
/// know of subnets and security groups.
///
/// It is a whole, not a difference: the agent brings the kernel to it. A
/// message with a lower revision than the last one taken is not for use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Firewall {
    /// Echoed in the acknowledgement.
    pub message_id: String,
    /// The instance's cluster.
    pub cluster_arn: String,
    /// The instance it is for.
    pub container_instance_arn: String,
    /// The revision of the control plane's tables it was made from.
    pub revision: u64,
    /// All subnets there are, of all VPCs: the host is a gateway in each.
    #[serde(default, deserialize_with = "or_default")]
    pub subnets: Vec<FirewallSubnet>,
    /// The groups that interfaces of this host are in.
    #[serde(default, deserialize_with = "or_default")]
    pub groups: Vec<FirewallGroup>,
    /// The groups that rules of `groups` refer to, with the addresses that
    /// members have on all hosts.
    #[serde(default, deserialize_with = "or_default")]
    pub members: Vec<FirewallMembers>,
    /// The interfaces of this host's tasks.
    #[serde(default, deserialize_with = "or_default")]
    pub interfaces: Vec<FirewallInterface>,
}

/// A subnet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FirewallSubnet {
    /// `subnet-…`.
    pub id: String,
    /// Its block, such as `172.31.0.0/20`.
    pub cidr: String,
    /// The router's address in it, such as `172.31.0.1`.
    pub gateway: String,
    /// Its IPv6 block, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr_ipv6: Option<String>,
    /// The router's address in that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway_ipv6: Option<String>,
}

/// A security group with its rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FirewallGroup {
    /// `sg-…`.
    pub id: String,
    /// What may come in.
    #[serde(default, deserialize_with = "or_default")]
    pub ingress: Vec<FirewallRule>,
    /// What may go out.
    #[serde(default, deserialize_with = "or_default")]
    pub egress: Vec<FirewallRule>,
}

/// One permission. It has exactly one peer: an IPv4 block, an IPv6 block or
/// the members of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FirewallRule {
    /// `-1` (all), `tcp`, `udp`, `icmp`, `icmpv6`, or a protocol's number.
    pub protocol: String,
    /// The first port; of ICMP the type, where -1 is all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_port: Option<i32>,
    /// The last port; of ICMP the code, where -1 is all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_port: Option<i32>,
    /// An IPv4 block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cidr_ipv4: Option<String>,
    /// An IPv6 block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cidr_ipv6: Option<String>,
    /// A group; its addresses are in [`Firewall::members`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_id: Option<String>,
}

/// Who is in a group that a rule refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FirewallMembers {
    /// `sg-…`.
    pub group_id: String,
    /// The addresses of its interfaces, of all hosts and both families.
    #[serde(default, deserialize_with = "or_default")]
    pub addresses: Vec<String>,
}

/// An interface of a task of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FirewallInterface {
    /// Its private address.
    pub address: String,
    /// Its IPv6 address, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address_ipv6: Option<String>,
    /// The groups it is in.
    #[serde(default, deserialize_with = "or_default")]
    pub group_ids: Vec<String>,
}

/// [`Message::FirewallAck`](super::Message::FirewallAck).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FirewallAck {
    /// The message.
    pub message_id: String,
    /// The message's revision.
    pub revision: u64,
}
