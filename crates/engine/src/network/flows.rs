//! Forgetting connections that the kernel tracks.
//!
//! The kernel decides about a flow once, by its first packet. A UDP client
//! that keeps sending from one socket keeps its flow, and so would stay with
//! a container that is gone, or with nobody, for as long as it sends. What
//! security groups and former holders of addresses need is the same.

use std::io;
use std::net::IpAddr;

use super::Protocol;
use super::family::{self, IpFamily};
use super::firewall::PortEntry;
use super::netlink::{Attributes, Family, Request, Socket};
use super::route::{self, ignoring};

const NFNL_SUBSYS_CTNETLINK: u16 = 1;
const IPCTNL_MSG_CT_GET: u16 = (NFNL_SUBSYS_CTNETLINK << 8) | 1;
const IPCTNL_MSG_CT_DELETE: u16 = (NFNL_SUBSYS_CTNETLINK << 8) | 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_ID: u16 = 12;
const CTA_FILTER: u16 = 25;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
/// Look at the protocol's number only.
const CTA_FILTER_F_CTA_PROTO_NUM: u32 = 1 << 3;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_DST_PORT: u16 = 3;
const CTA_PROTO_ICMP_TYPE: u16 = 5;
const CTA_PROTO_ICMP_CODE: u16 = 6;
const CTA_PROTO_ICMPV6_TYPE: u16 = 8;
const CTA_PROTO_ICMPV6_CODE: u16 = 9;
/// Asks for flows of both families.
const BOTH_FAMILIES: u8 = 0;

/// The flow as its first packet saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Original {
    pub(super) protocol: u8,
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    /// The destination's port, of protocols that have ports; else zero.
    pub(super) port: u16,
    /// Type and code of ICMP, for IPv6 too; else zeros.
    pub(super) icmp: (u8, u8),
}

/// Makes the next packet to any of `ports` choose its way anew.
pub(super) fn forget(ports: &[PortEntry]) -> io::Result<()> {
    let ports: Vec<u16> = ports
        .iter()
        .filter(|entry| entry.protocol == Protocol::Udp)
        .map(|entry| entry.host_port)
        .collect();
    if ports.is_empty() {
        return Ok(());
    }
    let own: Vec<_> = route::addresses(&mut Socket::open(Family::Route)?)?
        .iter()
        .map(|address| IpAddr::V4(address.address))
        .collect();
    let is_meant = |flow: Original| {
        flow.protocol == Protocol::Udp.number()
            && ports.contains(&flow.port)
            // Not what the host itself asks of others at such a port.
            && (flow.destination.is_loopback()
                || own.contains(&flow.destination))
    };
    forget_where(&list_request(), is_meant)
}

/// Makes the next packet of these flows start anew. Looks at all flows.
pub(super) fn forget_all_where(
    is_meant: impl Fn(Original) -> bool,
) -> io::Result<()> {
    forget_where(&request(IPCTNL_MSG_CT_GET, BOTH_FAMILIES), is_meant)
}

/// A request about flows of a family, with its `struct nfgenmsg`.
fn request(message: u16, family: u8) -> Request {
    Request::new(message, 0, &[family, 0, 0, 0])
}

fn forget_where(
    list: &Request,
    is_meant: impl Fn(Original) -> bool,
) -> io::Result<()> {
    let mut socket = Socket::open(Family::Netfilter)?;
    let mut requests = Vec::new();
    socket.dump(list, |_, payload| {
        let Some((header, attributes)) = payload.split_first_chunk::<4>()
        else {
            return;
        };
        let attributes = Attributes(attributes);
        if parse(&attributes).is_some_and(&is_meant) {
            requests.extend(delete_request(header[0], &attributes));
        }
    })?;
    for request in &requests {
        // It may have run out by itself.
        ignoring(socket.call(request), libc::ENOENT)?;
    }
    Ok(())
}

/// Asks for UDP flows; kernels before 5.8 answer with all flows.
fn list_request() -> Request {
    let mut request = request(IPCTNL_MSG_CT_GET, IpFamily::V4.number());
    request
        .nested(CTA_TUPLE_ORIG, |tuple| {
            tuple.nested(CTA_TUPLE_PROTO, |protocol| {
                protocol.attribute(CTA_PROTO_NUM, &[Protocol::Udp.number()]);
            });
        })
        .nested(CTA_FILTER, |filter| {
            filter.u32(CTA_FILTER_ORIG_FLAGS, CTA_FILTER_F_CTA_PROTO_NUM);
        });
    request
}

fn parse(flow: &Attributes<'_>) -> Option<Original> {
    let tuple = Attributes(flow.value(CTA_TUPLE_ORIG)?);
    let addresses = Attributes(tuple.value(CTA_TUPLE_IP)?);
    let protocol = Attributes(tuple.value(CTA_TUPLE_PROTO)?);
    let address = |kinds: [u16; 2]| {
        let octets = kinds.into_iter().find_map(|it| addresses.value(it))?;
        family::address(octets)
    };
    let byte = |kind| protocol.value(kind).and_then(|v| v.first().copied());
    let port = protocol.value(CTA_PROTO_DST_PORT);
    let port = port.and_then(|value| value.first_chunk::<2>());
    let kind = byte(CTA_PROTO_ICMP_TYPE).or(byte(CTA_PROTO_ICMPV6_TYPE));
    let code = byte(CTA_PROTO_ICMP_CODE).or(byte(CTA_PROTO_ICMPV6_CODE));
    Some(Original {
        protocol: byte(CTA_PROTO_NUM)?,
        source: address([CTA_IP_V4_SRC, CTA_IP_V6_SRC])?,
        destination: address([CTA_IP_V4_DST, CTA_IP_V6_DST])?,
        port: port.map_or(0, |port| u16::from_be_bytes(*port)),
        icmp: (kind.unwrap_or(0), code.unwrap_or(0)),
    })
}

/// Deletes exactly this flow: the id tells it from a successor.
fn delete_request(family: u8, flow: &Attributes<'_>) -> Option<Request> {
    let tuple = flow.value(CTA_TUPLE_ORIG)?;
    let mut request = request(IPCTNL_MSG_CT_DELETE, family);
    request.nested(CTA_TUPLE_ORIG, |own| {
        own.raw(tuple);
    });
    request.attribute(CTA_ID, flow.value(CTA_ID)?);
    Some(request)
}
