//! Links, addresses, routes and neighbours over rtnetlink.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use super::family::{Ip, IpFamily, octets};
use super::netlink::{
    Attributes, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Request, Socket, text,
    u32_at,
};
use super::{Ipv4Cidr, Ipv6Cidr, MacAddress};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
const RTM_NEWNEIGH: u16 = 28;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_PROTINFO: u16 = 12;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BRPORT_STATE: u16 = 1;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_ISOLATED: u16 = 33;
const BR_STATE_DISABLED: u8 = 0;
const BR_STATE_FORWARDING: u8 = 3;
const VETH_INFO_PEER: u16 = 1;
/// Leaves out the statistics, most of an answer's bytes.
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;
const IFF_UP: u32 = 1;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const IFA_F_NODAD: u32 = 0x02;
const IFA_F_NOPREFIXROUTE: u32 = 0x200;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_STATIC: u8 = 4;
const RTN_UNICAST: u8 = 1;
const RT_SCOPE_LINK: u8 = 253;

const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NUD_STALE: u16 = 4;

const AF_BRIDGE: u8 = 7;

/// The index of `lo` in every network namespace.
pub(super) const LOOPBACK: u32 = 1;

/// One network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) is_up: bool,
    pub(super) mtu: u32,
    pub(super) mac: Option<MacAddress>,
    pub(super) master: Option<u32>,
    pub(super) alias: Option<String>,
    /// Whether it is a bridge port that lets frames through.
    pub(super) is_forwarding: bool,
    /// Whether it is a bridge port that reaches no other such port.
    pub(super) is_isolated: bool,
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address<A = Ipv4Addr> {
    pub(super) link: u32,
    pub(super) address: A,
    pub(super) prefix_len: u8,
}

/// A unicast route of the main table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route<A: Ip = Ipv4Addr> {
    pub(super) destination: A::Cidr,
    pub(super) link: Option<u32>,
    pub(super) gateway: Option<A>,
}

/// A pair of virtual interfaces: one on a bridge, one in a namespace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Veth<'a> {
    pub(super) name: &'a str,
    pub(super) bridge: u32,
    pub(super) mtu: u32,
    pub(super) peer_name: &'a str,
    pub(super) peer_mac: MacAddress,
    pub(super) peer_namespace: BorrowedFd<'a>,
}

/// All interfaces.
pub(super) fn links(socket: &mut Socket) -> io::Result<Vec<Link>> {
    let mut request = Request::new(RTM_GETLINK, 0, &link_header(0, 0, 0));
    request.u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    let mut links = Vec::new();
    socket.dump(&request, |kind, payload| {
        if kind == RTM_NEWLINK {
            links.extend(parse_link(payload));
        }
    })?;
    Ok(links)
}

/// The interface called `name`, if there is one.
pub(super) fn link(
    socket: &mut Socket,
    name: &str,
) -> io::Result<Option<Link>> {
    let mut request = Request::new(RTM_GETLINK, 0, &link_header(0, 0, 0));
    request
        .string(IFLA_IFNAME, name)
        .u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    match socket.get(&request) {
        Ok(payload) => Ok(parse_link(&payload)),
        Err(error) if is(&error, libc::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

fn parse_link(payload: &[u8]) -> Option<Link> {
    let attributes = Attributes(payload.get(16..)?);
    let number = |kind| attributes.value(kind).and_then(|v| u32_at(v, 0));
    let mac = attributes.value(IFLA_ADDRESS).and_then(|v| v.first_chunk::<6>());
    Some(Link {
        index: u32_at(payload, 4)?,
        is_up: u32_at(payload, 8)? & IFF_UP != 0,
        name: text(attributes.value(IFLA_IFNAME)?),
        mtu: number(IFLA_MTU)?,
        mac: mac.map(|bytes| MacAddress(*bytes)),
        master: number(IFLA_MASTER),
        alias: attributes.value(IFLA_IFALIAS).map(text),
        is_forwarding: port_setting(&attributes, IFLA_BRPORT_STATE)
            == Some(BR_STATE_FORWARDING),
        is_isolated: port_setting(&attributes, IFLA_BRPORT_ISOLATED) == Some(1),
    })
}

fn port_setting(link: &Attributes<'_>, kind: u16) -> Option<u8> {
    let info = Attributes(link.value(IFLA_LINKINFO)?);
    let port = Attributes(info.value(IFLA_INFO_SLAVE_DATA)?);
    port.value(kind)?.first().copied()
}

/// Makes a bridge that is up; fails if the name is taken.
pub(super) fn bridge_create(
    socket: &mut Socket,
    name: &str,
    mac: MacAddress,
    mtu: u32,
) -> io::Result<()> {
    let mut request = Request::new(
        RTM_NEWLINK,
        NLM_F_CREATE | NLM_F_EXCL,
        &link_header(0, IFF_UP, IFF_UP),
    );
    request
        .string(IFLA_IFNAME, name)
        .attribute(IFLA_ADDRESS, &mac.0)
        .u32(IFLA_MTU, mtu)
        .nested(IFLA_LINKINFO, |info| {
            info.string(IFLA_INFO_KIND, "bridge");
        });
    socket.call(&request)
}

/// Makes a pair whose bridge end is up and whose peer is born where it lives.
pub(super) fn veth_create(
    socket: &mut Socket,
    veth: &Veth<'_>,
) -> io::Result<()> {
    let mut request = Request::new(
        RTM_NEWLINK,
        NLM_F_CREATE | NLM_F_EXCL,
        &link_header(0, IFF_UP, IFF_UP),
    );
    let namespace = veth.peer_namespace.as_raw_fd().to_ne_bytes();
    request
        .string(IFLA_IFNAME, veth.name)
        .u32(IFLA_MTU, veth.mtu)
        .u32(IFLA_MASTER, veth.bridge)
        .nested(IFLA_LINKINFO, |info| {
            info.string(IFLA_INFO_KIND, "veth").nested(IFLA_INFO_DATA, |d| {
                d.nested(VETH_INFO_PEER, |peer| {
                    peer.raw(&link_header(0, 0, 0))
                        .string(IFLA_IFNAME, veth.peer_name)
                        .attribute(IFLA_ADDRESS, &veth.peer_mac.0)
                        .u32(IFLA_MTU, veth.mtu)
                        .attribute(IFLA_NET_NS_FD, &namespace);
                });
            });
        });
    socket.call(&request)
}

/// Notes what a bridge port is for, where `ip link` shows it.
///
/// With `hairpin` a frame may leave through the port it came from: a
/// container that calls itself by a published port needs it when br_netfilter
/// rewrites frames on the bridge. `isolated` ports reach the host, but not
/// each other.
pub(super) fn port_describe(
    socket: &mut Socket,
    name: &str,
    alias: &str,
    hairpin: bool,
    isolated: bool,
) -> io::Result<()> {
    let mut request = Request::new(RTM_NEWLINK, 0, &link_header(0, 0, 0));
    request.string(IFLA_IFNAME, name).attribute(IFLA_IFALIAS, alias.as_bytes());
    request.nested(IFLA_LINKINFO, |info| {
        info.string(IFLA_INFO_SLAVE_KIND, "bridge").nested(
            IFLA_INFO_SLAVE_DATA,
            |data| {
                data.attribute(IFLA_BRPORT_MODE, &[u8::from(hairpin)])
                    .attribute(IFLA_BRPORT_ISOLATED, &[u8::from(isolated)]);
            },
        );
    });
    socket.call(&request)
}

/// Makes a bridge port deaf and mute at once.
///
/// Deleting it would wait, with all other interface work on the host, until
/// no CPU can still be looking at it; tens of milliseconds. The kernel does
/// that by itself when the namespace at the other end goes.
pub(super) fn port_disable(socket: &mut Socket, index: u32) -> io::Result<()> {
    port_set(socket, index, IFLA_BRPORT_STATE, BR_STATE_DISABLED)
}

/// Keeps a bridge port and other such ports apart, or not.
pub(super) fn port_isolate(
    socket: &mut Socket,
    index: u32,
    isolated: bool,
) -> io::Result<()> {
    port_set(socket, index, IFLA_BRPORT_ISOLATED, u8::from(isolated))
}

fn port_set(
    socket: &mut Socket,
    index: u32,
    kind: u16,
    value: u8,
) -> io::Result<()> {
    let mut header = link_header(index, 0, 0);
    header[0] = AF_BRIDGE;
    let mut request = Request::new(RTM_SETLINK, 0, &header);
    request.nested(IFLA_PROTINFO, |port| {
        port.attribute(kind, &[value]);
    });
    ignoring(socket.call(&request), libc::ENODEV)
}

/// Brings an interface up.
pub(super) fn link_up(socket: &mut Socket, index: u32) -> io::Result<()> {
    let header = link_header(index, IFF_UP, IFF_UP);
    socket.call(&Request::new(RTM_NEWLINK, 0, &header))
}

/// Deletes an interface; one that is gone already is no failure.
pub(super) fn link_delete(socket: &mut Socket, name: &str) -> io::Result<()> {
    let mut request = Request::new(RTM_DELLINK, 0, &link_header(0, 0, 0));
    request.string(IFLA_IFNAME, name);
    ignoring(socket.call(&request), libc::ENODEV)
}

/// All addresses of a family; none where the kernel does not have it.
pub(super) fn addresses<A: Ip>(
    socket: &mut Socket,
) -> io::Result<Vec<Address<A>>> {
    let family = A::FAMILY;
    let request = Request::new(RTM_GETADDR, 0, &address_header(family, 0, 0));
    let mut addresses = Vec::new();
    socket.dump(&request, |kind, payload| {
        // A kernel without the family answers with all others.
        if kind == RTM_NEWADDR && payload.first() == Some(&family.number()) {
            addresses.extend(parse_address(payload));
        }
    })?;
    Ok(addresses)
}

fn parse_address<A: Ip>(payload: &[u8]) -> Option<Address<A>> {
    let attributes = Attributes(payload.get(8..)?);
    // Of a point-to-point link, `IFA_ADDRESS` is the other end's.
    let own = attributes.value(IFA_LOCAL).or(attributes.value(IFA_ADDRESS))?;
    Some(Address {
        link: u32_at(payload, 4)?,
        address: A::of_octets(own)?,
        prefix_len: *payload.get(1)?,
    })
}

/// Gives an interface an address; one it has already is no failure.
///
/// One of IPv6 is given without a search for others that have it: the control
/// plane gives each out once, and a task must not wait a second for its own.
/// It brings no route to its subnet either, so that a task's only neighbour is
/// its gateway.
pub(super) fn address_add<A: Ip>(
    socket: &mut Socket,
    address: &Address<A>,
) -> io::Result<()> {
    let mut request =
        address_request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, address);
    match address.address.into() {
        IpAddr::V4(own) => {
            let range = Ipv4Cidr::new(own, address.prefix_len);
            if let Some(range) = range.filter(|r| r.prefix_len() < 31) {
                request.attribute(IFA_BROADCAST, &range.broadcast().octets());
            }
        }
        IpAddr::V6(_) => {
            request.u32(IFA_FLAGS, IFA_F_NODAD | IFA_F_NOPREFIXROUTE);
        }
    }
    socket.call(&request)
}

/// Takes an address from an interface.
pub(super) fn address_delete<A: Ip>(
    socket: &mut Socket,
    address: &Address<A>,
) -> io::Result<()> {
    let request = address_request(RTM_DELADDR, 0, address);
    ignoring(socket.call(&request), libc::EADDRNOTAVAIL)
}

fn address_request<A: Ip>(
    kind: u16,
    flags: u16,
    address: &Address<A>,
) -> Request {
    let header = address_header(A::FAMILY, address.prefix_len, address.link);
    let mut request = Request::new(kind, flags, &header);
    let own = octets(address.address.into());
    request.attribute(IFA_LOCAL, &own).attribute(IFA_ADDRESS, &own);
    request
}

/// A family's unicast routes of the main table, the default route included;
/// none where the kernel does not have the family.
pub(super) fn routes<A: Ip>(socket: &mut Socket) -> io::Result<Vec<Route<A>>> {
    let family = A::FAMILY;
    let request = Request::new(RTM_GETROUTE, 0, &route_header(family, 0));
    let mut routes = Vec::new();
    socket.dump(&request, |kind, payload| {
        if kind == RTM_NEWROUTE && payload.first() == Some(&family.number()) {
            routes.extend(parse_route(payload));
        }
    })?;
    Ok(routes)
}

fn parse_route<A: Ip>(payload: &[u8]) -> Option<Route<A>> {
    let header = payload.first_chunk::<12>()?;
    if header[4] != RT_TABLE_MAIN || header[7] != RTN_UNICAST {
        return None;
    }
    let attributes = Attributes(&payload[12..]);
    let address = match attributes.value(RTA_DST) {
        Some(bytes) => A::of_octets(bytes)?,
        None => A::UNSPECIFIED,
    };
    Some(Route {
        destination: address.range(header[1])?,
        link: attributes.value(RTA_OIF).and_then(|v| u32_at(v, 0)),
        gateway: attributes.value(RTA_GATEWAY).and_then(A::of_octets),
    })
}

/// Sends everything that has no better route to `gateway`.
pub(super) fn default_route_set<A: Ip>(
    socket: &mut Socket,
    gateway: A,
    link: u32,
) -> io::Result<()> {
    let mut request = Request::new(
        RTM_NEWROUTE,
        NLM_F_CREATE | NLM_F_REPLACE,
        &route_header(A::FAMILY, RT_TABLE_MAIN),
    );
    let gateway = octets(gateway.into());
    request.attribute(RTA_GATEWAY, &gateway).u32(RTA_OIF, link);
    socket.call(&request)
}

/// Says that an IPv6 range's addresses are neighbours on `link`.
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
    let mut header = route_header(IpFamily::V6, RT_TABLE_MAIN);
    header[1] = range.prefix_len();
    let mut request = Request::new(kind, flags, &header);
    request.attribute(RTA_DST, &range.network().octets()).u32(RTA_OIF, link);
    request
}

/// Says that `address` is a neighbour on `link`; one that another link has is
/// refused with EEXIST.
pub(super) fn link_route_add(
    socket: &mut Socket,
    address: Ipv4Addr,
    link: u32,
) -> io::Result<()> {
    let mut header = route_header(IpFamily::V4, RT_TABLE_MAIN);
    header[1] = 32;
    header[6] = RT_SCOPE_LINK;
    let mut request =
        Request::new(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &header);
    request.attribute(RTA_DST, &address.octets()).u32(RTA_OIF, link);
    socket.call(&request)
}

/// Tells the host who has `address` now.
///
/// An address that moved to a new interface would otherwise be unreachable
/// until the old neighbour entry is found out, some five seconds.
pub(super) fn neighbour_set(
    socket: &mut Socket,
    link: u32,
    address: IpAddr,
    mac: MacAddress,
) -> io::Result<()> {
    let mut header = vec![IpFamily::of(address).number(), 0, 0, 0];
    header.extend_from_slice(&link.to_ne_bytes());
    header.extend_from_slice(&NUD_STALE.to_ne_bytes());
    header.extend_from_slice(&[0, RTN_UNICAST]);
    let mut request =
        Request::new(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, &header);
    request.attribute(NDA_DST, &octets(address)).attribute(NDA_LLADDR, &mac.0);
    socket.call(&request)
}

/// Whether the kernel's answer was `code`.
pub(super) fn is(error: &io::Error, code: i32) -> bool {
    error.raw_os_error() == Some(code)
}

/// Takes the answer `code` for a success.
pub(super) fn ignoring(result: io::Result<()>, code: i32) -> io::Result<()> {
    match result {
        Err(error) if is(&error, code) => Ok(()),
        other => other,
    }
}

/// struct ifinfomsg
fn link_header(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

/// struct ifaddrmsg
fn address_header(family: IpFamily, prefix_len: u8, link: u32) -> [u8; 8] {
    let [a, b, c, d] = link.to_ne_bytes();
    [family.number(), prefix_len, 0, 0, a, b, c, d]
}

/// struct rtmsg
fn route_header(family: IpFamily, table: u8) -> [u8; 12] {
    let family = family.number();
    [family, 0, 0, 0, table, RTPROT_STATIC, 0, RTN_UNICAST, 0, 0, 0, 0]
}
