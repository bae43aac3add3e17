//! Addresses that are somebody else's.

use super::*;

/// Sends a datagram from `place` to port 9 of `to` as if from `source`, with
/// the sender's own hardware address; answers whether it arrives.
pub(super) fn spoofed_arrives(
    world: &World,
    place: &Place,
    to: &Place,
    source: Ipv4Addr,
) -> bool {
    let receiver = world.at(to, || UdpSocket::bind("0.0.0.0:9").unwrap());
    receiver.set_read_timeout(Some(SILENCE)).unwrap();
    let to = to.ip;
    world.at(place, move || send_raw(source, to));
    receiver.recv(&mut [0; 16]).is_ok()
}

fn send_raw(source: Ipv4Addr, to: Ipv4Addr) {
    use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto};
    let socket = rustix::net::socket(
        AddressFamily::INET,
        SocketType::RAW,
        Some(ipproto::RAW),
    )
    .unwrap();
    let mut packet = vec![0x45, 0, 0, 29, 0, 0, 0, 0, 64, 17, 0, 0];
    packet.extend_from_slice(&source.octets());
    packet.extend_from_slice(&to.octets());
    packet.extend_from_slice(&[0, 9, 0, 9, 0, 9, 0, 0, b'!']);
    let address = SocketAddrV4::new(to, 0);
    rustix::net::sendto(&socket, &packet, SendFlags::empty(), &address)
        .unwrap();
}

#[test]
fn nobody_uses_anothers_address() {
    in_world(|world| {
        let network = world.open_guarded();
        let thief = world.task(&network, 'a', 10);
        let trusted = world.task(&network, 'a', 11);
        let web = world.task(&network, 'a', 12);
        let rules = Rules::default()
            .interface(thief.ip, &["sg-thief"])
            .interface(trusted.ip, &["sg-trusted"])
            .open_egress("sg-thief")
            .open_egress("sg-trusted")
            .interface(web.ip, &["sg-web"])
            .ingress("sg-web", Traffic::All, "sg-trusted");
        world.set(&network, &rules);
        // Fills the neighbours' entries, and shows that the datagram works.
        assert!(spoofed_arrives(world, &trusted, &web, trusted.ip));
        assert!(!spoofed_arrives(world, &thief, &web, thief.ip));
        assert!(!spoofed_arrives(world, &thief, &web, trusted.ip));
        assert!(!spoofed_arrives(world, &thief, &web, addr("172.31.0.99")));
        assert!(!spoofed_arrives(world, &thief, &web, addr("8.8.8.8")));
        announce(world, &thief, trusted.ip);
        let _server = world.serve(&trusted, Protocol::Tcp, 80);
        let open = rules.ingress("sg-trusted", Traffic::All, "0.0.0.0/0");
        world.set(&network, &open);
        world.answers(&world.host(), (trusted.ip, 80));
        world.silent(&thief, (web.ip, 80));
        world.close(network);
    });
}

/// Says in ARP, from `place`, that an address is its own.
fn announce(world: &World, place: &Place, stolen: Ipv4Addr) {
    world.at(place, move || {
        let mut socket = Socket::open(Family::Route).unwrap();
        let link = route::link(&mut socket, "eth0").unwrap().unwrap();
        let (link, address) = (link.index, stolen);
        let own = Address { link, address, prefix_len: 32 };
        route::address_add(&mut socket, &own).unwrap();
        sysctl::set("ipv4/conf/eth0/arp_notify", "1").unwrap();
        // Coming up, it announces its addresses.
        link_down(&mut socket, link);
        route::link_up(&mut socket, link).unwrap();
    });
}

fn link_down(socket: &mut Socket, index: u32) {
    const RTM_NEWLINK: u16 = 16;
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[12..16].copy_from_slice(&1u32.to_ne_bytes());
    socket.call(&netlink::Request::new(RTM_NEWLINK, 0, &header)).unwrap();
}

/// A container in bridge mode that calls itself a task.
#[test]
fn nobody_else_seems_to_be_a_task() {
    in_world(|world| {
        let network = world.open_guarded();
        let a = world.task(&network, 'a', 10);
        let b = world.task(&network, 'a', 11);
        let web = world.container(&network, "web");
        let rules = Rules::default()
            .interface(a.ip, &["sg-a"])
            .open_egress("sg-a")
            .interface(b.ip, &["sg-b"])
            .ingress("sg-b", Traffic::All, "sg-a");
        world.set(&network, &rules);
        assert!(spoofed_arrives(world, &a, &b, a.ip));
        assert!(!spoofed_arrives(world, &web, &b, a.ip));
        world.close(network);
    });
}

/// In bridge mode, where neighbours reach each other without the host. One
/// that answered for the host would hear what the others ask the endpoint.
#[test]
fn containers_do_not_answer_for_the_host_or_each_other() {
    in_world(|world| {
        let network = world.open_guarded();
        let thief = world.container(&network, "thief");
        let other = world.container(&network, "other");
        let web = world.container(&network, "web");
        let listener = world.wait(network.listen_endpoint()).unwrap();
        let _server = Server::tcp(listener);
        let endpoint = (*ENDPOINT.ip(), ENDPOINT.port());
        let known = world.ask(&web, endpoint).unwrap();
        assert_eq!(known, web.ip.to_string());
        assert!(spoofed_arrives(world, &thief, &web, thief.ip));
        assert!(!spoofed_arrives(world, &thief, &web, other.ip));
        assert!(!spoofed_arrives(world, &thief, &web, addr("8.8.8.8")));
        let attached = world.wait(network.attach_bridge("thief")).unwrap();
        announce(world, &thief, attached.gateway);
        announce(world, &thief, other.ip);
        let _other = world.serve(&other, Protocol::Tcp, 80);
        assert_eq!(world.ask(&web, endpoint).unwrap(), known);
        assert_eq!(world.ask(&web, (other.ip, 80)).unwrap(), known);
        world.close(network);
    });
}
