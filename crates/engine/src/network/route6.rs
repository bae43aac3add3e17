//! IPv6 addresses, routes and neighbours over rtnetlink.
//!
//! Addresses are given without a search for others that have them: the control
//! plane gives each out once, and a task must not wait a second for its own.
//! They bring no route to their subnet either, so that a task's only neighbour
//! is its gateway.

use std::io;
use std::net::Ipv6Addr;

use super::netlink::{
    Attributes, NLM_F_CREATE, NLM_F_REPLACE, Request, Socket, u32_at,
};
use super::route::{
    IFA_ADDRESS, IFA_LOCAL, NDA_DST, NDA_LLADDR, NUD_STALE, RT_TABLE_MAIN,
    RTA_DST, RTA_GATEWAY, RTA_OIF, RTM_DELADDR, RTM_DELROUTE, RTM_GETADDR,
    RTM_GETROUTE, RTM_NEWADDR, RTM_NEWNEIGH, RTM_NEWROUTE, RTN_UNICAST,
    RTPROT_STATIC, ignoring,
};
use super::{Ipv6Cidr, MacAddress};

const AF_INET6: u8 = 10;
const IFA_FLAGS: u16 = 8;
const IFA_F_NODAD: u32 = 0x02;
const IFA_F_NOPREFIXROUTE: u32 = 0x200;

/// An IPv6 address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address6 {
    pub(super) link: u32,
    pub(super) address: Ipv6Addr,
    pub(super) prefix_len: u8,
}

/// A unicast route of the main table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route6 {
    pub(super) destination: Ipv6Cidr,
    pub(super) link: Option<u32>,
    pub(super) gateway: Option<Ipv6Addr>,
}

/// All IPv6 addresses; none where the kernel has no IPv6.
pub(super) fn addresses(socket: &mut Socket) -> io::Result<Vec<Address6>> {
    let request = Request::new(RTM_GETADDR, 0, &address_header(0, 0));
    let mut addresses = Vec::new();
    socket.dump(&request, |kind, payload| {
        // A kernel without the family answers with all others.
        if kind == RTM_NEWADDR && payload.first() == Some(&AF_INET6) {
            addresses.extend(parse_address(payload));
        }
    })?;
    Ok(addresses)
}

fn parse_address(payload: &[u8]) -> Option<Address6> {
    let attributes = Attributes(payload.get(8..)?);
    // Of a point-to-point link, `IFA_ADDRESS` is the other end's.
    let own = attributes.value(IFA_LOCAL).or(attributes.value(IFA_ADDRESS))?;
    Some(Address6 {
        link: u32_at(payload, 4)?,
        address: ipv6(own)?,
        prefix_len: *payload.get(1)?,
    })
}

/// Gives an interface an address; one it has already is no failure.
pub(super) fn address_add(
    socket: &mut Socket,
    address: &Address6,
) -> io::Result<()> {
    let flags = NLM_F_CREATE | NLM_F_REPLACE;
    let mut request = address_request(RTM_NEWADDR, flags, address);
    request.u32(IFA_FLAGS, IFA_F_NODAD | IFA_F_NOPREFIXROUTE);
    socket.call(&request)
}

/// Takes an address from an interface.
pub(super) fn address_delete(
    socket: &mut Socket,
    address: &Address6,
) -> io::Result<()> {
    let request = address_request(RTM_DELADDR, 0, address);
    ignoring(socket.call(&request), libc::EADDRNOTAVAIL)
}

fn address_request(kind: u16, flags: u16, address: &Address6) -> Request {
    let header = address_header(address.prefix_len, address.link);
    let mut request = Request::new(kind, flags, &header);
    request
        .attribute(IFA_LOCAL, &address.address.octets())
        .attribute(IFA_ADDRESS, &address.address.octets());
    request
}

/// The unicast routes of the main table; none where the kernel has no IPv6.
pub(super) fn routes(socket: &mut Socket) -> io::Result<Vec<Route6>> {
    let request = Request::new(RTM_GETROUTE, 0, &route_header(0));
    let mut routes = Vec::new();
    socket.dump(&request, |kind, payload| {
        if kind == RTM_NEWROUTE && payload.first() == Some(&AF_INET6) {
            routes.extend(parse_route(payload));
        }
    })?;
    Ok(routes)
}

fn parse_route(payload: &[u8]) -> Option<Route6> {
    let header = payload.first_chunk::<12>()?;
    if header[4] != RT_TABLE_MAIN || header[7] != RTN_UNICAST {
        return None;
    }
    let attributes = Attributes(&payload[12..]);
    let address = match attributes.value(RTA_DST) {
        Some(bytes) => ipv6(bytes)?,
        None => Ipv6Addr::UNSPECIFIED,
    };
    Some(Route6 {
        destination: Ipv6Cidr::new(address, header[1])?,
        link: attributes.value(RTA_OIF).and_then(|v| u32_at(v, 0)),
        gateway: attributes.value(RTA_GATEWAY).and_then(ipv6),
    })
}

/// Sends everything that has no better route to `gateway`.
pub(super) fn default_route_set(
    socket: &mut Socket,
    gateway: Ipv6Addr,
    link: u32,
) -> io::Result<()> {
    let flags = NLM_F_CREATE | NLM_F_REPLACE;
    let header = route_header(RT_TABLE_MAIN);
    let mut request = Request::new(RTM_NEWROUTE, flags, &header);
    request.attribute(RTA_GATEWAY, &gateway.octets()).u32(RTA_OIF, link);
    socket.call(&request)
}

/// Says that a range's addresses are neighbours on `link`.
pub(super) fn link_route_set(
    socket: &mut Socket,
    range: Ipv6Cidr,
    link: u32,
) -> io::Result<()> {
    let flags = NLM_F_CREATE | NLM_F_REPLACE;
    socket.call(&link_route(RTM_NEWROUTE, flags, range, link))
}

/// Takes back what [`link_route_set`] said.
pub(super) fn link_route_delete(
    socket: &mut Socket,
    range: Ipv6Cidr,
    link: u32,
) -> io::Result<()> {
    let request = link_route(RTM_DELROUTE, 0, range, link);
    ignoring(socket.call(&request), libc::ESRCH)
}

fn link_route(kind: u16, flags: u16, range: Ipv6Cidr, link: u32) -> Request {
    let mut header = route_header(RT_TABLE_MAIN);
    header[1] = range.prefix_len();
    let mut request = Request::new(kind, flags, &header);
    request.attribute(RTA_DST, &range.network().octets()).u32(RTA_OIF, link);
    request
}

/// Tells the host who has `address` now, as for IPv4.
pub(super) fn neighbour_set(
    socket: &mut Socket,
    link: u32,
    address: Ipv6Addr,
    mac: MacAddress,
) -> io::Result<()> {
    let mut header = vec![AF_INET6, 0, 0, 0];
    header.extend_from_slice(&link.to_ne_bytes());
    header.extend_from_slice(&NUD_STALE.to_ne_bytes());
    header.extend_from_slice(&[0, RTN_UNICAST]);
    let flags = NLM_F_CREATE | NLM_F_REPLACE;
    let mut request = Request::new(RTM_NEWNEIGH, flags, &header);
    request.attribute(NDA_DST, &address.octets()).attribute(NDA_LLADDR, &mac.0);
    socket.call(&request)
}

/// struct ifaddrmsg
fn address_header(prefix_len: u8, link: u32) -> [u8; 8] {
    let [a, b, c, d] = link.to_ne_bytes();
    [AF_INET6, prefix_len, 0, 0, a, b, c, d]
}

/// struct rtmsg
fn route_header(table: u8) -> [u8; 12] {
    [AF_INET6, 0, 0, 0, table, RTPROT_STATIC, 0, RTN_UNICAST, 0, 0, 0, 0]
}

fn ipv6(bytes: &[u8]) -> Option<Ipv6Addr> {
    bytes.first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets))
}
