//! What forged IPv6 packets and neighbour discovery do not get.

use super::*;

/// A UDP datagram to port 9 with its IPv6 header.
fn datagram(source: Ipv6Addr, to: Ipv6Addr) -> Vec<u8> {
    let mut udp = vec![0, 9, 0, 9, 0, 10, 0, 0, b'!', b'!'];
    let sum = checksum(source, to, 17, &udp);
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    let mut packet = vec![0x60, 0, 0, 0, 0, 10, 17, 64];
    packet.extend(source.octets());
    packet.extend(to.octets());
    packet.extend(udp);
    packet
}

/// The Internet's checksum over pseudo-header and message.
fn checksum(source: Ipv6Addr, to: Ipv6Addr, protocol: u8, text: &[u8]) -> u16 {
    let length = u16::try_from(text.len()).unwrap();
    let words = |bytes: &[u8]| -> u32 {
        let pairs = bytes.chunks(2);
        pairs.map(|p| u32::from(u16::from_be_bytes([p[0], p[1]]))).sum()
    };
    let mut sum = words(&source.octets()) + words(&to.octets());
    sum += u32::from(length) + u32::from(protocol) + words(text);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

/// Whether a datagram that says to be from `source` arrives.
fn spoofed_arrives(
    world: &World,
    from: &Place,
    to: &Dual,
    source: Ipv6Addr,
) -> bool {
    use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto};
    let receiver = world.at(&to.place, || UdpSocket::bind("[::]:9").unwrap());
    receiver.set_read_timeout(Some(SILENCE)).unwrap();
    let packet = datagram(source, to.ip);
    let address = SocketAddr::from((to.ip, 0));
    world.at(from, move || {
        let socket = rustix::net::socket(
            AddressFamily::INET6,
            SocketType::RAW,
            Some(ipproto::RAW),
        )
        .unwrap();
        // Without any route there is nothing to send.
        let _ =
            rustix::net::sendto(&socket, &packet, SendFlags::empty(), &address);
    });
    receiver.recv(&mut [0; 16]).is_ok()
}

#[test]
fn nobody_uses_anothers_ipv6_address() {
    in_world(|world| {
        let network = world.open_dual(true);
        let thief = world.dual_task(&network, 'a', 10);
        let trusted = world.dual_task(&network, 'a', 11);
        let web = world.dual_task(&network, 'a', 12);
        let rules = Rules::default()
            .interface(thief.ip, &["sg-thief"])
            .interface(trusted.ip, &["sg-trusted"])
            .egress("sg-thief", Traffic::All, "::/0")
            .egress("sg-trusted", Traffic::All, "::/0")
            .interface(web.ip, &["sg-web"])
            .ingress("sg-web", Traffic::All, "sg-trusted");
        world.set(&network, &rules);
        let arrives = |from: &Dual, source| {
            spoofed_arrives(world, &from.place, &web, source)
        };
        assert!(arrives(&trusted, trusted.ip));
        assert!(!arrives(&thief, thief.ip));
        assert!(!arrives(&thief, trusted.ip));
        assert!(!arrives(&thief, ip6("fd12::99")));
        assert!(!arrives(&thief, ip6("2001:db8::9")));
        assert!(!arrives(&thief, ip6("fd12::1")));
        // From beyond the host, too.
        let outside = world.outside6();
        world.at(&outside, || {
            let mut socket = Socket::open(Family::Route).unwrap();
            let link = route::link(&mut socket, "eth0").unwrap().unwrap();
            let gateway = ip6("2001:db8::1");
            route::default_route_set(&mut socket, gateway, link.index).unwrap();
        });
        assert!(!spoofed_arrives(world, &outside, &web, trusted.ip));
        world.remove_outside(outside);
        world.close(network);
    });
}

/// Says in neighbour discovery, from `place`, that an address is at `mac`.
fn advertise(
    world: &World,
    place: &Place,
    stolen: Ipv6Addr,
    mac: MacAddress,
    to: Ipv6Addr,
) {
    use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto};
    let mut message = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
    message.extend(stolen.octets());
    message.extend([2, 1]);
    message.extend(mac.0);
    world.at(place, move || {
        let socket = rustix::net::socket(
            AddressFamily::INET6,
            SocketType::RAW,
            Some(ipproto::ICMPV6),
        )
        .unwrap();
        rustix::net::sockopt::set_ipv6_unicast_hops(&socket, Some(255))
            .unwrap();
        let address = SocketAddr::from((to, 0));
        rustix::net::sendto(&socket, &message, SendFlags::empty(), &address)
            .unwrap();
    });
}

/// Without the guard the trick works, which shows that the test can tell.
#[test]
fn nobody_advertises_anothers_ipv6_address() {
    for security_groups in [false, true] {
        in_world(move |world| {
            let network = world.open_dual(security_groups);
            let thief = world.dual_task(&network, 'a', 10);
            let victim = world.dual_task(&network, 'a', 11);
            let rules = open_to_each_other(&thief, &victim).ingress(
                "sg-both",
                Traffic::All,
                "::/0",
            );
            world.set(&network, &rules);
            let _server = world.serve6(&victim.place, Protocol::Tcp, 80);
            world.answers(&world.host(), (victim.ip, 80));
            let (mac, gateway) = (eni('a', 10).mac, ip6("fd12::1"));
            advertise(world, &thief.place, victim.ip, mac, gateway);
            if security_groups {
                world.answers(&world.host(), (victim.ip, 80));
            } else {
                world.silent(&world.host(), (victim.ip, 80));
            }
            world.close(network);
        });
    }
}

/// A task that has no IPv6 address, and makes itself one of the link: it
/// reaches neither the host nor its neighbours.
#[test]
fn addresses_of_the_link_lead_nowhere() {
    in_world(|world| {
        let network = world.open_dual(true);
        let plain = world.task(&network, 'a', 10);
        let dual = world.dual_task(&network, 'a', 11);
        let rules = open_to_each_other(&dual, &dual)
            .interface(plain.ip, &["sg-both"])
            .ingress("sg-both", Traffic::All, "::/0");
        world.set(&network, &rules);
        let _servers = [&world.host(), &dual.place]
            .map(|place| world.serve6(place, Protocol::Udp, 81));
        let own = ip6("fe80::10");
        let index = world.at(&plain, move || {
            sysctl::set("ipv6/conf/eth0/disable_ipv6", "0").unwrap();
            let mut socket = Socket::open(Family::Route).unwrap();
            let link = route::link(&mut socket, "eth0").unwrap().unwrap();
            let index = link.index;
            let link_local =
                |address| Address { link: index, address, prefix_len: 64 };
            route::address_add(&mut socket, &link_local(own)).unwrap();
            let range = Ipv6Cidr::new(own, 64).unwrap();
            route::link_route_set(&mut socket, range, index).unwrap();
            // And one of the subnet, as if it were its own.
            let stolen = link_local(ip6("fd12::99"));
            route::address_add(&mut socket, &stolen).unwrap();
            let range = Ipv6Cidr::new(ip6("fd12::"), 64).unwrap();
            route::link_route_set(&mut socket, range, index).unwrap();
            index
        });
        let asks = |place: &Place, to: Ipv6Addr, scope: u32| {
            let to = std::net::SocketAddrV6::new(to, 81, 0, scope);
            world.at(place, move || {
                let socket = UdpSocket::bind("[::]:0").unwrap();
                socket.set_read_timeout(Some(SILENCE)).unwrap();
                // Its own server is not to hear it.
                socket.set_multicast_loop_v6(false).unwrap();
                let _ = socket.send_to(b"?", to);
                socket.recv(&mut [0; 64]).is_ok()
            })
        };
        for to in ["fe80::1", "ff02::1", "ff02::2"] {
            assert!(!asks(&plain, ip6(to), index), "{to}");
        }
        assert!(!asks(&plain, ip6("fd12::1"), 0));
        assert!(!asks(&plain, dual.ip, 0));
        // One that has an address has no more of the link than that.
        assert!(asks(&dual.place, ip6("fd12::1"), 0));
        world.at(&dual.place, move || {
            let mut socket = Socket::open(Family::Route).unwrap();
            let link = route::link(&mut socket, "eth0").unwrap().unwrap();
            let range = Ipv6Cidr::new(own, 64).unwrap();
            route::link_route_set(&mut socket, range, link.index).unwrap();
        });
        for to in ["fe80::1", "ff02::1", "ff02::2"] {
            assert!(!asks(&dual.place, ip6(to), index), "{to}");
        }
        world.close(network);
    });
}

/// Neighbour discovery is let past the groups; nothing is let past by
/// looking like it.
#[test]
fn messages_that_look_like_neighbour_discovery_go_nowhere() {
    in_world(|world| {
        let network = world.open_dual(true);
        let (a, b) = (
            world.dual_task(&network, 'a', 10),
            world.dual_task(&network, 'a', 11),
        );
        let outside = world.outside6();
        let rules = Rules::default()
            .interface(a.ip, &["sg-a"])
            .interface(b.ip, &["sg-a"]);
        world.set(&network, &rules);
        let mac = eni('a', 10).mac;
        for (place, to) in [(&b.place, b.ip), (&outside, ip6("2001:db8::2"))] {
            use rustix::net::{AddressFamily, SocketType, ipproto};
            let socket = world.at(place, || {
                rustix::net::socket(
                    AddressFamily::INET6,
                    SocketType::RAW,
                    Some(ipproto::ICMPV6),
                )
            });
            let socket = UdpSocket::from(socket.unwrap());
            socket.set_read_timeout(Some(SILENCE)).unwrap();
            advertise(world, &a.place, a.ip, mac, to);
            let mut message = [0; 128];
            let is_it = |message: &[u8]| {
                message[0] == 136 && message[8..24] == a.ip.octets()
            };
            let mut heard = false;
            while let Ok(length) = socket.recv(&mut message) {
                heard |= length >= 24 && is_it(&message);
            }
            assert!(!heard, "{to}");
        }
        world.remove_outside(outside);
        world.close(network);
    });
}
