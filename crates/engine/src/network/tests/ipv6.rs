//! Tasks with an IPv6 address beside their other one.

mod forged;

use std::net::Ipv6Addr;

use super::security_groups::{Rules, tcp_ports};
use super::*;

/// A task, and its IPv6 address.
struct Dual {
    place: Place,
    ip: Ipv6Addr,
}

fn ip6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

/// The subnets `a` and `b`, each with a range of IPv6.
fn subnets() -> Vec<Subnet> {
    ["a", "b"]
        .map(|name| {
            let third = if name == "a" { 0 } else { 16 };
            let range = format!("fd12:0:0:{third}::");
            let ipv6 = SubnetIpv6 {
                cidr: format!("{range}/64").parse().unwrap(),
                gateway: ip6(&format!("{range}1")),
            };
            let cidr = format!("172.31.{third}.0/20");
            let subnet = subnet(&format!("subnet-{name}"), &cidr);
            Subnet { ipv6: Some(ipv6), ..subnet }
        })
        .to_vec()
}

fn eni6(subnet: char, last: u8) -> TaskEni {
    let third = if subnet == 'a' { 0 } else { 16 };
    let ipv6 = TaskIpv6 {
        ip: ip6(&format!("fd12:0:0:{third}::{last:x}")),
        prefix_len: 64,
        gateway: ip6(&format!("fd12:0:0:{third}::1")),
    };
    TaskEni { ipv6: Some(ipv6), ..eni(subnet, last) }
}

impl World {
    fn dual_config(&self, security_groups: bool) -> NetworkConfig {
        let subnets = subnets();
        NetworkConfig { subnets, security_groups, ..self.config() }
    }

    fn open_dual(&self, security_groups: bool) -> Network {
        let config = self.dual_config(security_groups);
        self.wait(Network::open(config)).unwrap()
    }

    fn dual_task(&self, network: &Network, subnet: char, last: u8) -> Dual {
        let eni = eni6(subnet, last);
        let netns = self.wait(network.attach_task(&eni)).unwrap();
        let place = Place { netns: Some(netns), ip: eni.ip };
        Dual { place, ip: eni.ipv6.unwrap().ip }
    }

    /// As `serve`, on all addresses of both families.
    fn serve6(&self, place: &Place, protocol: Protocol, port: u16) -> Server {
        self.serve_at(place, protocol, (Ipv6Addr::UNSPECIFIED, port).into())
    }

    /// Gives the machine beyond the host, and the host's end, IPv6.
    fn outside6(&self) -> Place {
        let outside = self.outside();
        let give = |link: &'static str, address: &'static str| {
            move || {
                let mut socket = Socket::open(Family::Route).unwrap();
                let link = route::link(&mut socket, link).unwrap().unwrap();
                let address = ip6(address);
                let range = Ipv6Cidr::new(address, 64).unwrap();
                let own = Address { link: link.index, address, prefix_len: 64 };
                route::address_add(&mut socket, &own).unwrap();
                route::link_route_set(&mut socket, range, link.index).unwrap();
            }
        };
        self.at(&self.host(), give("wan", "2001:db8::1"));
        self.at(&outside, give("eth0", "2001:db8::2"));
        outside
    }
}

/// Both in groups that let all out and TCP's port 80 in, from each other.
fn open_to_each_other(a: &Dual, b: &Dual) -> Rules {
    let base = Rules::default().open_egress("sg-both");
    let base = base.egress("sg-both", Traffic::All, "::/0");
    let base = [a, b].into_iter().fold(base, |rules, task| {
        rules
            .interface(task.place.ip, &["sg-both"])
            .interface(task.ip, &["sg-both"])
    });
    base.ingress("sg-both", tcp_ports(80, 80), "sg-both")
}

#[test]
fn tasks_talk_by_ipv6_at_once() {
    for security_groups in [false, true] {
        in_world(move |world| {
            let network = world.open_dual(security_groups);
            assert!(network.has_ipv6());
            let (a, b) = (
                world.dual_task(&network, 'a', 10),
                world.dual_task(&network, 'a', 11),
            );
            let c = world.dual_task(&network, 'b', 12);
            world.set(&network, &open_to_each_other(&a, &b));
            let server = world.serve6(&b.place, Protocol::Tcp, 80);
            let seen = world.ask(&a.place, (b.ip, 80)).unwrap();
            assert_eq!(seen, a.ip.to_string());
            world.answers(&a.place, (b.place.ip, 80));
            let rules =
                open_to_each_other(&a, &b).interface(c.ip, &["sg-both"]);
            world.set(&network, &rules);
            let seen = world.ask(&c.place, (b.ip, 80)).unwrap();
            assert_eq!(seen, c.ip.to_string());
            // Its own loopback, too.
            world.answers(&b.place, (Ipv6Addr::LOCALHOST, 80));
            drop(server);
            world.close(network);
        });
    }
}

#[test]
fn a_task_has_no_address_but_those_it_was_given() {
    in_world(|world| {
        let network = world.open_dual(true);
        let task = world.dual_task(&network, 'a', 10);
        let all = || {
            let mut socket = Socket::open(Family::Route).unwrap();
            let addresses = route::addresses::<Ipv6Addr>(&mut socket).unwrap();
            addresses.iter().map(|it| it.address).collect::<Vec<_>>()
        };
        let found = world.at(&task.place, all);
        assert_eq!(found, [Ipv6Addr::LOCALHOST, task.ip]);
        // Repeating it changes nothing, another address makes it anew.
        let eni = eni6('a', 10);
        world.wait(network.attach_task(&eni)).unwrap();
        assert_eq!(world.at(&task.place, all), found);
        let ip = ip6("fd12::77");
        let ipv6 = Some(TaskIpv6 { ip, ..eni.ipv6.unwrap() });
        world.wait(network.attach_task(&TaskEni { ipv6, ..eni })).unwrap();
        assert_eq!(world.at(&task.place, all), [Ipv6Addr::LOCALHOST, ip]);
        let eni = TaskEni { ipv6: None, ..eni6('a', 10) };
        world.wait(network.attach_task(&eni)).unwrap();
        assert_eq!(world.at(&task.place, all), [Ipv6Addr::LOCALHOST]);
        world.close(network);
    });
}

#[test]
fn addresses_that_cannot_be_are_refused() {
    in_world(|world| {
        let network = world.open_dual(true);
        let good = eni6('a', 10).ipv6.unwrap();
        for (bad, why) in [
            (TaskIpv6 { prefix_len: 56, ..good }, "prefix"),
            (TaskIpv6 { gateway: ip6("fd12::2"), ..good }, "gateway"),
            (TaskIpv6 { ip: ip6("fd13::10"), ..good }, "fd13::10"),
            (TaskIpv6 { ip: good.gateway, ..good }, "fd12::1"),
        ] {
            let eni = TaskEni { ipv6: Some(bad), ..eni6('a', 10) };
            let error = world.wait(network.attach_task(&eni)).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
        world.close(network);
    });
}

/// A host whose owner has switched IPv6 off goes on as before.
#[test]
fn a_host_without_ipv6_has_tasks_without_it() {
    in_world(|world| {
        sysctl::set("ipv6/conf/all/disable_ipv6", "1").unwrap();
        let network = world.open_dual(true);
        assert!(!network.has_ipv6());
        let error = world.wait(network.attach_task(&eni6('a', 10)));
        let error = error.unwrap_err().to_string();
        assert!(error.contains("no IPv6 on this host"), "{error}");
        let (a, b) =
            (world.task(&network, 'a', 10), world.task(&network, 'a', 11));
        let rules = Rules::default()
            .interface(a.ip, &["sg-a"])
            .interface(b.ip, &["sg-a"])
            .open_egress("sg-a")
            .ingress("sg-a", Traffic::All, "sg-a");
        world.set(&network, &rules);
        let _server = world.serve(&b, Protocol::Tcp, 80);
        world.answers(&a, (b.ip, 80));
        let mut netfilter = Socket::open(Family::Netfilter).unwrap();
        let tables = firewall6::tables(&mut netfilter).unwrap();
        assert_eq!(tables, Vec::<String>::new());
        world.wait(network.subnets_set(&subnets())).unwrap();
        let forwarding = sysctl::get("ipv6/conf/all/forwarding").unwrap();
        assert_eq!(forwarding, "0");
        world.close(network);
    });
}

#[test]
fn groups_let_in_by_ipv6_what_they_say() {
    in_world(|world| {
        let network = world.open_dual(true);
        let (a, b) = (
            world.dual_task(&network, 'a', 10),
            world.dual_task(&network, 'b', 11),
        );
        let _servers =
            [80, 81].map(|port| world.serve6(&b.place, Protocol::Tcp, port));
        // Nothing said yet, and nothing let in.
        world.silent(&a.place, (b.ip, 80));
        let base = Rules::default()
            .interface(a.ip, &["sg-a"])
            .interface(b.ip, &["sg-b"])
            .egress("sg-a", Traffic::All, "::/0");
        world.set(&network, &base);
        world.silent(&a.place, (b.ip, 80));
        for peer in ["sg-a", "fd12::/64", "::/0"] {
            let rules = base.clone().ingress("sg-b", tcp_ports(80, 80), peer);
            world.set(&network, &rules);
            world.answers(&a.place, (b.ip, 80));
            world.silent(&a.place, (b.ip, 81));
            world.silent(&b.place, (a.ip, 80));
        }
        // Ranges of the other family, and of others, allow nothing.
        for peer in ["0.0.0.0/0", "fd12:0:0:16::/64", "sg-b"] {
            let rules = base.clone().ingress("sg-b", Traffic::All, peer);
            world.set(&network, &rules);
            world.silent(&a.place, (b.ip, 80));
        }
        // What goes out is judged as well.
        let only_v4 = Rules::default()
            .interface(a.ip, &["sg-a"])
            .interface(b.ip, &["sg-b"])
            .open_egress("sg-a")
            .ingress("sg-b", Traffic::All, "::/0");
        world.set(&network, &only_v4);
        world.silent(&a.place, (b.ip, 80));
        world.close(network);
    });
}

#[test]
fn echo_requests_need_a_rule_and_neighbours_are_found_without() {
    in_world(|world| {
        let network = world.open_dual(true);
        let (a, b) = (
            world.dual_task(&network, 'a', 10),
            world.dual_task(&network, 'a', 11),
        );
        let base = Rules::default()
            .interface(a.ip, &["sg-a"])
            .interface(b.ip, &["sg-b"])
            .egress("sg-a", Traffic::All, "::/0");
        let echo = Traffic::Icmpv6 { kind: Some(128), code: None };
        world.set(&network, &base.clone().ingress("sg-b", echo, "::/0"));
        assert!(ping6(world, &a.place, b.ip, PATIENCE));
        // What the kernels know of each other is asked for anew.
        world.at(&a.place, || forget_neighbour("eth0", ip6("fd12::1")));
        let (host, ip) = (world.host(), b.ip);
        world.at(&host, move || forget_neighbour("mn-vpc", ip));
        assert!(ping6(world, &a.place, b.ip, PATIENCE));
        world.set(&network, &base);
        assert!(!ping6(world, &a.place, b.ip, SILENCE));
        world.close(network);
    });
}

/// Whether an echo request is answered within `limit`.
fn ping6(world: &World, place: &Place, to: Ipv6Addr, limit: Duration) -> bool {
    use rustix::net::{AddressFamily, SocketType, ipproto, socket};
    world.at(place, move || {
        let socket = socket(
            AddressFamily::INET6,
            SocketType::DGRAM,
            Some(ipproto::ICMPV6),
        );
        let socket = UdpSocket::from(socket.unwrap());
        socket.set_read_timeout(Some(limit)).unwrap();
        socket.connect((to, 0)).unwrap();
        let _ = socket.send(&[128, 0, 0, 0, 0, 0, 0, 1, 42]);
        socket.recv(&mut [0; 64]).is_ok()
    })
}

/// Has the kernel find a neighbour again.
fn forget_neighbour(link: &str, neighbour: Ipv6Addr) {
    const RTM_DELNEIGH: u16 = 29;
    const NDA_DST: u16 = 1;
    let mut socket = Socket::open(Family::Route).unwrap();
    let link = route::link(&mut socket, link).unwrap().unwrap().index;
    let mut header = vec![10, 0, 0, 0];
    header.extend(link.to_ne_bytes());
    header.extend([0; 4]);
    let mut request = netlink::Request::new(RTM_DELNEIGH, 0, &header);
    request.attribute(NDA_DST, &neighbour.octets());
    socket.call(&request).unwrap();
}

#[test]
fn connections_by_ipv6_that_are_for_everybody_end_with_their_rule() {
    in_world(|world| {
        let network = world.open_dual(true);
        let (a, b) = (
            world.dual_task(&network, 'a', 10),
            world.dual_task(&network, 'a', 11),
        );
        let closed = Rules::default()
            .interface(a.ip, &["sg-a"])
            .interface(b.ip, &["sg-b"])
            .egress("sg-a", Traffic::All, "::/0")
            .egress("sg-b", Traffic::All, "::/0");
        for (peer, goes_on) in [("sg-a", true), ("::/0", false)] {
            let rule = tcp_ports(80, 80);
            world.set(&network, &closed.clone().ingress("sg-b", rule, peer));
            let (to, ip) = (&b.place, b.ip);
            let listener =
                world.at(to, || TcpListener::bind("[::]:80").unwrap());
            let mut client = world
                .at(&a.place, move || TcpStream::connect((ip, 80)))
                .unwrap();
            let (mut server, _) = listener.accept().unwrap();
            client.set_read_timeout(Some(SILENCE)).unwrap();
            world.set(&network, &closed);
            let _ = server.write_all(b"x");
            let is_read = client.read_exact(&mut [0]).is_ok();
            assert_eq!(is_read, goes_on, "{peer}");
        }
        world.close(network);
    });
}

#[test]
fn the_host_obeys_and_the_world_is_reached_under_its_address() {
    in_world(|world| {
        let network = world.open_dual(true);
        let outside = world.outside6();
        let task = world.dual_task(&network, 'a', 10);
        let _task = world.serve6(&task.place, Protocol::Tcp, 80);
        let _outside = world.serve6(&outside, Protocol::Tcp, 80);
        let closed = Rules::default().interface(task.ip, &["sg-a"]).egress(
            "sg-a",
            Traffic::All,
            "::/0",
        );
        world.set(&network, &closed);
        world.silent(&world.host(), (task.ip, 80));
        let beyond = (ip6("2001:db8::2"), 80);
        let seen = world.ask(&task.place, beyond).unwrap();
        assert_eq!(seen, "2001:db8::1");
        let open = closed.ingress("sg-a", tcp_ports(80, 80), "fd12::1/128");
        world.set(&network, &open);
        let seen = world.ask(&world.host(), (task.ip, 80)).unwrap();
        assert_eq!(seen, "fd12::1");
        // Who guesses the route is not let in.
        let everybody = open.ingress("sg-a", Traffic::All, "::/0");
        world.set(&network, &everybody);
        world.at(&outside, || {
            let mut socket = Socket::open(Family::Route).unwrap();
            let link = route::link(&mut socket, "eth0").unwrap().unwrap();
            let gateway = ip6("2001:db8::1");
            route::default_route_set(&mut socket, gateway, link.index).unwrap();
        });
        world.silent(&outside, (task.ip, 80));
        world.remove_outside(outside);
        world.close(network);
    });
}

#[test]
fn a_router_still_hears_routers_and_stops_being_one() {
    in_world(|world| {
        let outside = world.outside();
        let setting =
            |name: &str| sysctl::get(&format!("ipv6/conf/{name}")).unwrap();
        assert_eq!(setting("wan/accept_ra"), "1");
        let network = world.open_dual(true);
        assert_eq!(setting("wan/accept_ra"), "2");
        assert_eq!(setting("all/forwarding"), "1");
        world.close(network);
        assert_eq!(setting("wan/accept_ra"), "1");
        assert_eq!(setting("all/forwarding"), "0");
        // Without a subnet that has IPv6 nothing is touched.
        let network = world.open();
        assert_eq!(setting("wan/accept_ra"), "1");
        assert_eq!(setting("all/forwarding"), "0");
        assert_eq!(setting("mn-vpc/disable_ipv6"), "1");
        world.wait(network.subnets_set(&subnets())).unwrap();
        assert_eq!(setting("all/forwarding"), "1");
        assert_eq!(setting("mn-br/disable_ipv6"), "1");
        world.remove_outside(outside);
        world.close(network);
    });
}

#[test]
fn ipv6_is_kept_through_a_restart_and_put_back_after_a_flush() {
    in_world(|world| {
        let network = world.open_dual(true);
        let (a, b) = (
            world.dual_task(&network, 'a', 10),
            world.dual_task(&network, 'a', 11),
        );
        let servers =
            [80, 81].map(|port| world.serve6(&b.place, Protocol::Tcp, port));
        let rules = open_to_each_other(&a, &b);
        let check = || {
            world.answers(&a.place, (b.ip, 80));
            world.silent(&a.place, (b.ip, 81));
        };
        world.set(&network, &rules);
        check();
        drop(network);
        check();
        // One that knows of no IPv6 range yet keeps what tasks are in.
        let config = NetworkConfig { security_groups: true, ..world.config() };
        let network = world.wait(Network::open(config)).unwrap();
        check();
        world.wait(network.subnets_set(&subnets())).unwrap();
        check();
        let mut socket = Socket::open(Family::Netfilter).unwrap();
        firewall6::table_delete(&mut socket, "mn").unwrap();
        groups::guard::delete_all(&mut socket, "mn").unwrap();
        world.wait(network.reassert()).unwrap();
        world.set(&network, &rules);
        check();
        // A range that goes stays for those who are in it.
        world.wait(network.subnets_set(&world.config().subnets)).unwrap();
        check();
        let error = world.wait(network.attach_task(&eni6('a', 12)));
        error.unwrap_err();
        drop(servers);
        for task in ["task-a-10", "task-a-11"] {
            world.wait(network.detach_task(task)).unwrap();
        }
        let has_gateway = || {
            world.wait(network.reassert()).unwrap();
            let mut socket = Socket::open(Family::Route).unwrap();
            let addresses = route::addresses::<Ipv6Addr>(&mut socket).unwrap();
            addresses.iter().any(|it| it.address == ip6("fd12::1"))
        };
        world.soon(|| !has_gateway(), "the range is gone");
        world.close(network);
    });
}

#[test]
fn ranges_that_the_host_uses_otherwise_are_left_out() {
    in_world(|world| {
        let outside = world.outside6();
        let network = world.open_guarded();
        let mut wanted = subnets();
        wanted[0].ipv6 = Some(SubnetIpv6 {
            cidr: "2001:db8::/64".parse().unwrap(),
            gateway: ip6("2001:db8::7"),
        });
        let error = world.wait(network.subnets_set(&wanted)).unwrap_err();
        assert!(error.to_string().contains("2001:db8::/64"), "{error}");
        // Tasks of the subnet go on with IPv4, those of the other with both.
        world.task(&network, 'a', 10);
        world.dual_task(&network, 'b', 11);
        world.remove_outside(outside);
        world.close(network);
    });
}

/// What goes out by IPv6 must not go past a task's proxy.
#[test]
fn a_proxy_gets_connections_by_ipv6_as_well() {
    in_world(|world| {
        let network = world.open_dual(false);
        let (a, b) = (
            world.dual_task(&network, 'a', 10),
            world.dual_task(&network, 'a', 11),
        );
        let rules = ProxyRules {
            egress_port: 15_001,
            egress_ignored_ports: vec![81],
            egress_ignored_ranges: vec!["10.0.0.0/8".parse().unwrap()],
            ..ProxyRules::default()
        };
        let _servers =
            [80, 81].map(|port| world.serve6(&b.place, Protocol::Tcp, port));
        world.answers(&a.place, (b.ip, 80));
        world.wait(network.proxy_set("task-a-10", &rules)).unwrap();
        // There is no proxy: what is led there is refused.
        let refused = world.ask(&a.place, (b.ip, 80)).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        world.answers(&a.place, (b.ip, 81));
        world.close(network);
    });
}
