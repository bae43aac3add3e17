//! Forgetting where UDP packets went before a port was (un)published.
//!
//! The kernel decides about a flow once, by its first packet. A UDP client
//! that keeps sending from one socket keeps its flow, and so would stay with
//! a container that is gone, or with nobody, for as long as it sends.

use std::io;
use std::net::Ipv4Addr;

use super::Protocol;
use super::firewall::PortEntry;
use super::netlink::{Attributes, Family, Request, Socket};
use super::nft::NFPROTO_IPV4;
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
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_DST_PORT: u16 = 3;
const CTA_PROTO_ICMP_TYPE: u16 = 5;
const CTA_PROTO_ICMP_CODE: u16 = 6;
/// struct nfgenmsg
const HEADER: [u8; 4] = [NFPROTO_IPV4, 0, 0, 0];

/// The flow as its first packet saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Original {
    pub(super) protocol: u8,
    pub(super) source: Ipv4Addr,
    pub(super) destination: Ipv4Addr,
    /// The destination's port, of protocols that have ports; else zero.
    pub(super) port: u16,
    /// Type and code of ICMP; else zeros.
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
        .map(|address| address.address)
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
    forget_where(&Request::new(IPCTNL_MSG_CT_GET, 0, &HEADER), is_meant)
}

fn forget_where(
    list: &Request,
    is_meant: impl Fn(Original) -> bool,
) -> io::Result<()> {
    let mut socket = Socket::open(Family::Netfilter)?;
    let mut requests = Vec::new();
    socket.dump(list, |_, payload| {
        let attributes = Attributes(payload.get(4..).unwrap_or_default());
        if parse(&attributes).is_some_and(&is_meant) {
            requests.extend(delete_request(&attributes));
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
    let mut request = Request::new(IPCTNL_MSG_CT_GET, 0, &HEADER);
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
    let address = |kind| {
        let octets = addresses.value(kind)?.first_chunk::<4>()?;
        Some(Ipv4Addr::from(*octets))
    };
    let byte = |kind| protocol.value(kind).and_then(|v| v.first().copied());
    let port = protocol.value(CTA_PROTO_DST_PORT);
    let port = port.and_then(|value| value.first_chunk::<2>());
    let kind = byte(CTA_PROTO_ICMP_TYPE).unwrap_or(0);
    let code = byte(CTA_PROTO_ICMP_CODE).unwrap_or(0);
    Some(Original {
        protocol: byte(CTA_PROTO_NUM)?,
        source: address(CTA_IP_V4_SRC)?,
        destination: address(CTA_IP_V4_DST)?,
        port: port.map_or(0, |port| u16::from_be_bytes(*port)),
        icmp: (kind, code),
    })
}

/// Deletes exactly this flow: the id tells it from a successor.
fn delete_request(flow: &Attributes<'_>) -> Option<Request> {
    let tuple = flow.value(CTA_TUPLE_ORIG)?;
    let mut request = Request::new(IPCTNL_MSG_CT_DELETE, 0, &HEADER);
    request.nested(CTA_TUPLE_ORIG, |own| {
        own.raw(tuple);
    });
    request.attribute(CTA_ID, flow.value(CTA_ID)?);
    Some(request)
}
