//! What security groups let through, and what not.

mod forged;
mod former;

use std::collections::BTreeSet;
use std::process::Command;

use self::forged::spoofed_arrives;
use super::*;
use crate::network::endpoint::ENDPOINT;

/// A firewall in the making.
#[derive(Clone, Default)]
pub(super) struct Rules(Firewall);

impl Rules {
    /// The interface with this address is in these groups.
    pub(super) fn interface(
        mut self,
        ip: impl Into<IpAddr>,
        groups: &[&str],
    ) -> Rules {
        let ip = ip.into();
        let ids = groups.iter().map(|id| (*id).to_owned());
        self.0.interfaces.insert(ip, ids.collect());
        for group in groups {
            self.0.groups.entry((*group).to_owned()).or_default();
            let members = self.0.members.entry((*group).to_owned());
            members.or_default().insert(ip);
        }
        self
    }

    pub(super) fn ingress(
        mut self,
        group: &str,
        traffic: Traffic,
        peer: &str,
    ) -> Rules {
        let group = self.0.groups.entry(group.to_owned()).or_default();
        group.ingress.insert(GroupRule { traffic, peer: peer_of(peer) });
        self
    }

    pub(super) fn egress(
        mut self,
        group: &str,
        traffic: Traffic,
        peer: &str,
    ) -> Rules {
        let group = self.0.groups.entry(group.to_owned()).or_default();
        group.egress.insert(GroupRule { traffic, peer: peer_of(peer) });
        self
    }

    pub(super) fn open_egress(self, group: &str) -> Rules {
        self.egress(group, Traffic::All, "0.0.0.0/0")
    }
}

fn peer_of(text: &str) -> Peer {
    match text.parse() {
        Ok(range) => Peer::Range(range),
        Err(_) => Peer::Group(text.to_owned()),
    }
}

pub(super) fn tcp_ports(first: u16, last: u16) -> Traffic {
    Traffic::Ports { protocol: Protocol::Tcp, first, last }
}

pub(super) fn udp_port(port: u16) -> Traffic {
    Traffic::Ports { protocol: Protocol::Udp, first: port, last: port }
}

impl World {
    pub(super) fn open_guarded(&self) -> Network {
        self.wait(Network::open(self.guarded_config())).unwrap()
    }

    pub(super) fn guarded_config(&self) -> NetworkConfig {
        NetworkConfig { security_groups: true, ..self.config() }
    }

    pub(super) fn set(&self, network: &Network, rules: &Rules) {
        self.wait(network.firewall_set(&rules.0)).unwrap();
    }

    /// Whether a datagram is answered within `limit`.
    fn udp(&self, place: &Place, to: (Ipv4Addr, u16), limit: Duration) -> bool {
        self.at(place, move || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_read_timeout(Some(limit)).unwrap();
            socket.connect(to).unwrap();
            // Refused by the kernel where it is the host's own.
            let _ = socket.send(b"?");
            socket.recv(&mut [0; 64]).is_ok()
        })
    }

    /// Whether an echo request is answered within `limit`.
    fn ping(&self, place: &Place, to: Ipv4Addr, limit: Duration) -> bool {
        use rustix::net::{AddressFamily, SocketType, ipproto, socket};
        self.at(place, move || {
            sysctl::set("ipv4/ping_group_range", "0 2147483647").unwrap();
            let socket = socket(
                AddressFamily::INET,
                SocketType::DGRAM,
                Some(ipproto::ICMP),
            );
            let socket = UdpSocket::from(socket.unwrap());
            socket.set_read_timeout(Some(limit)).unwrap();
            socket.connect((to, 0)).unwrap();
            let _ = socket.send(&[8, 0, 0, 0, 0, 0, 0, 1, 42]);
            socket.recv(&mut [0; 64]).is_ok()
        })
    }
}

#[test]
fn a_task_is_closed_until_its_groups_are_known() {
    in_world(|world| {
        let network = world.open_guarded();
        let outside = world.outside();
        let (a, b) =
            (world.task(&network, 'a', 10), world.task(&network, 'a', 11));
        let _servers = [&a, &b, &outside]
            .map(|place| world.serve(place, Protocol::Tcp, 80));
        world.silent(&a, (b.ip, 80));
        world.silent(&world.host(), (b.ip, 80));
        world.silent(&a, (outside.ip, 80));
        // A group without rules allows as much.
        let rules = Rules::default()
            .interface(a.ip, &["sg-a"])
            .interface(b.ip, &["sg-b"]);
        world.set(&network, &rules);
        world.silent(&a, (b.ip, 80));
        world.silent(&world.host(), (b.ip, 80));
        assert!(!world.ping(&a, b.ip, SILENCE));
        // What is not subject to groups.
        let listener = world.wait(network.listen_endpoint()).unwrap();
        let _endpoint = Server::tcp(listener);
        world.answers(&a, (*ENDPOINT.ip(), ENDPOINT.port()));
        let _names = world.serve(&world.host(), Protocol::Udp, 53);
        assert!(world.udp(&a, (addr("172.31.0.1"), 53), PATIENCE));
        assert!(!world.udp(&a, (addr("198.51.100.1"), 53), SILENCE));
        world.remove_outside(outside);
        world.close(network);
    });
}

#[test]
fn a_range_opens_one_port_at_once() {
    in_world(|world| {
        let network = world.open_guarded();
        let a = world.task(&network, 'a', 10);
        let b = world.task(&network, 'b', 10);
        let web = world.container(&network, "web");
        let _servers =
            [80, 81].map(|port| world.serve(&b, Protocol::Tcp, port));
        let closed = Rules::default()
            .interface(a.ip, &["sg-client"])
            .open_egress("sg-client")
            .interface(b.ip, &["sg-web"]);
        world.set(&network, &closed);
        world.silent(&a, (b.ip, 80));
        let open = closed.clone().ingress(
            "sg-web",
            tcp_ports(80, 80),
            "172.31.0.0/20",
        );
        world.set(&network, &open);
        assert_eq!(world.ask(&a, (b.ip, 80)).unwrap(), "172.31.0.10");
        world.silent(&a, (b.ip, 81));
        // Not of the range.
        world.silent(&web, (b.ip, 80));
        world.set(&network, &closed);
        world.silent(&a, (b.ip, 80));
        world.close(network);
    });
}

#[test]
fn protocols_ranges_of_ports_and_icmp_are_told_apart() {
    in_world(|world| {
        let network = world.open_guarded();
        let a = world.task(&network, 'a', 10);
        let b = world.task(&network, 'a', 11);
        let _tcp = [8000, 8001, 8002, 8003]
            .map(|port| world.serve(&b, Protocol::Tcp, port));
        let _udp =
            [8001, 9000].map(|port| world.serve(&b, Protocol::Udp, port));
        let base = Rules::default()
            .interface(a.ip, &["sg-a"])
            .open_egress("sg-a")
            .interface(b.ip, &["sg-b"]);
        let all = "0.0.0.0/0";
        let rules = base
            .clone()
            .ingress("sg-b", tcp_ports(8001, 8002), all)
            .ingress("sg-b", udp_port(9000), all);
        world.set(&network, &rules);
        world.silent(&a, (b.ip, 8000));
        world.answers(&a, (b.ip, 8001));
        world.answers(&a, (b.ip, 8002));
        world.silent(&a, (b.ip, 8003));
        assert!(world.udp(&a, (b.ip, 9000), PATIENCE));
        assert!(!world.udp(&a, (b.ip, 8001), SILENCE));
        assert!(!world.ping(&a, b.ip, SILENCE));
        for (kind, code, is_let_in) in [
            (None, None, true),
            (Some(8), None, true),
            (Some(8), Some(0), true),
            (Some(8), Some(1), false),
            (Some(13), None, false),
        ] {
            let traffic = Traffic::Icmp { kind, code };
            world.set(&network, &base.clone().ingress("sg-b", traffic, all));
            let limit = if is_let_in { PATIENCE } else { SILENCE };
            assert_eq!(world.ping(&a, b.ip, limit), is_let_in, "{traffic:?}");
        }
        let number = Traffic::Number(Protocol::Tcp.number());
        world.set(&network, &base.ingress("sg-b", number, all));
        world.answers(&a, (b.ip, 8000));
        assert!(!world.udp(&a, (b.ip, 9000), SILENCE));
        world.close(network);
    });
}

#[test]
fn groups_refer_to_each_other_in_and_across_subnets() {
    in_world(|world| {
        let network = world.open_guarded();
        let near = world.task(&network, 'a', 10);
        let far = world.task(&network, 'b', 10);
        let stranger = world.task(&network, 'a', 12);
        let web = world.task(&network, 'a', 11);
        let _web = world.serve(&web, Protocol::Tcp, 80);
        let mut rules = Rules::default()
            .interface(near.ip, &["sg-client"])
            .interface(far.ip, &["sg-client", "sg-other"])
            .interface(stranger.ip, &["sg-other"])
            .interface(web.ip, &["sg-web", "sg-none"])
            .open_egress("sg-client")
            .open_egress("sg-other")
            .ingress("sg-web", tcp_ports(80, 80), "sg-client");
        world.set(&network, &rules);
        world.answers(&near, (web.ip, 80));
        world.answers(&far, (web.ip, 80));
        world.silent(&stranger, (web.ip, 80));
        // One more member is one element more.
        rules = rules.interface(stranger.ip, &["sg-client"]);
        world.set(&network, &rules);
        world.answers(&stranger, (web.ip, 80));
        // A group of nobody known, and groups that go.
        rules = rules.ingress("sg-web", Traffic::All, "sg-nobody");
        rules.0.members.remove("sg-client");
        world.set(&network, &rules);
        world.silent(&near, (web.ip, 80));
        world.set(&network, &Rules::default());
        world.silent(&near, (web.ip, 80));
        world.close(network);
    });
}

#[test]
fn what_goes_out_is_judged_by_where_it_was_sent() {
    in_world(|world| {
        let network = world.open_guarded();
        let outside = world.outside();
        let a = world.task(&network, 'a', 10);
        let b = world.task(&network, 'a', 11);
        let web = world.container(&network, "web");
        let _servers = [&b, &outside, &web]
            .map(|place| world.serve(place, Protocol::Tcp, 80));
        let _host = world.serve(&world.host(), Protocol::Tcp, 8081);
        let wish = super::tcp("web", 80, HostPort::Fixed(8080));
        world.wait(network.publish(&wish)).unwrap();
        let base = Rules::default()
            .interface(a.ip, &["sg-a"])
            .interface(b.ip, &["sg-b"])
            .ingress("sg-b", Traffic::All, "0.0.0.0/0");
        world.set(&network, &base);
        let host = addr("198.51.100.1");
        let everywhere =
            [(b.ip, 80), (outside.ip, 80), (host, 8080), (host, 8081)];
        for to in everywhere {
            world.silent(&a, to);
        }
        for allowed in everywhere {
            let (ip, port) = allowed;
            let peer = format!("{ip}/32");
            let rules =
                base.clone().egress("sg-a", tcp_ports(port, port), &peer);
            world.set(&network, &rules);
            for to in everywhere {
                if to == allowed {
                    world.answers(&a, to);
                } else {
                    world.silent(&a, to);
                }
            }
        }
        world.set(&network, &base.open_egress("sg-a"));
        assert_eq!(world.ask(&a, (outside.ip, 80)).unwrap(), "198.51.100.1");
        world.remove_outside(outside);
        world.close(network);
    });
}

/// A connection that answers each line.
fn converse(world: &World, from: &Place, to: &Place) -> impl FnMut() -> bool {
    let listener = world.at(to, || TcpListener::bind("0.0.0.0:80").unwrap());
    let address = SocketAddr::from((to.ip, 80));
    let mut client = world
        .at(from, move || TcpStream::connect_timeout(&address, PATIENCE))
        .unwrap();
    let (mut server, _) = listener.accept().unwrap();
    client.set_read_timeout(Some(SILENCE)).unwrap();
    std::thread::spawn(move || {
        let mut byte = [0];
        while server.read_exact(&mut byte).is_ok() {
            let _ = server.write_all(&byte);
        }
    });
    move || {
        let _ = client.write_all(b"x");
        client.read_exact(&mut [0]).is_ok()
    }
}

#[test]
fn a_tracked_connection_goes_on_and_an_untracked_one_does_not() {
    in_world(|world| {
        let network = world.open_guarded();
        let a = world.task(&network, 'a', 10);
        let b = world.task(&network, 'a', 11);
        let closed = Rules::default()
            .interface(a.ip, &["sg-a"])
            .open_egress("sg-a")
            .interface(b.ip, &["sg-b"])
            .open_egress("sg-b");
        for (peer, goes_on) in
            [("172.31.0.0/16", true), ("sg-a", true), ("0.0.0.0/0", false)]
        {
            let rule = tcp_ports(80, 80);
            let open = closed.clone().ingress("sg-b", rule, peer);
            world.set(&network, &open);
            let mut is_answered = converse(world, &a, &b);
            assert!(is_answered());
            // A change of other rules interrupts nothing.
            let other = open.clone().ingress("sg-b", udp_port(1), peer);
            world.set(&network, &other);
            world.set(&network, &open);
            assert!(is_answered());
            world.set(&network, &closed);
            world.silent(&a, (b.ip, 80));
            assert_eq!(is_answered(), goes_on, "{peer}");
        }
        world.close(network);
    });
}

#[test]
fn the_host_obeys_as_any_client_of_the_subnet() {
    in_world(|world| {
        let network = world.open_guarded();
        let a = world.task(&network, 'a', 10);
        let _server = world.serve(&a, Protocol::Tcp, 80);
        let host = world.host();
        let closed = Rules::default().interface(a.ip, &["sg-a"]);
        world.set(&network, &closed);
        world.silent(&host, (a.ip, 80));
        assert!(!world.ping(&host, a.ip, SILENCE));
        let traffic = tcp_ports(80, 80);
        let open = closed.clone().ingress("sg-a", traffic, "172.31.0.1/32");
        world.set(&network, &open);
        assert_eq!(world.ask(&host, (a.ip, 80)).unwrap(), "172.31.0.1");
        world.close(network);
    });
}

#[test]
fn a_restart_and_a_flush_keep_what_was_set() {
    in_world(|world| {
        let network = world.open_guarded();
        let (a, b) =
            (world.task(&network, 'a', 10), world.task(&network, 'a', 11));
        let _a = world.serve(&a, Protocol::Tcp, 80);
        let _b = [80, 81].map(|port| world.serve(&b, Protocol::Tcp, port));
        let rules = Rules::default()
            .interface(a.ip, &["sg-a"])
            .open_egress("sg-a")
            .interface(b.ip, &["sg-b", "sg-c"])
            .ingress("sg-b", tcp_ports(80, 80), "sg-a");
        let check = || {
            world.answers(&a, (b.ip, 80));
            world.silent(&a, (b.ip, 81));
            world.silent(&b, (a.ip, 80));
        };
        world.set(&network, &rules);
        check();
        // Killed: nobody is there, then one who has not heard of rules yet.
        drop(network);
        check();
        let network = world.open_guarded();
        check();
        world.wait(network.reassert()).unwrap();
        check();
        world.set(&network, &rules);
        check();
        let mut socket = Socket::open(Family::Netfilter).unwrap();
        groups::guard::delete_all(&mut socket, "mn").unwrap();
        world.wait(network.reassert()).unwrap();
        check();
        assert!(!spoofed_arrives(world, &b, &a, a.ip));
        // What another changes in our table is made anew by the next change.
        let table = groups::table_name("mn");
        let flush = format!("delete element ip {table} m-sg-a {{ {} }}", a.ip);
        let mut nft = Command::new("nft");
        if nft.args(flush.split(' ')).status().is_ok_and(|s| s.success()) {
            world.silent(&a, (b.ip, 80));
            let mut gone = rules.clone();
            gone.0.members.remove("sg-a");
            world.set(&network, &gone);
            world.set(&network, &rules);
            check();
        }
        // Without security groups the next process takes all of it away.
        drop(network);
        let network = world.open();
        world.answers(&a, (b.ip, 81));
        world.close(network);
    });
}

#[test]
fn subnets_come_and_go_while_tasks_run() {
    in_world(|world| {
        let network = world.open_guarded();
        let outside = world.outside();
        let _server = world.serve(&outside, Protocol::Tcp, 80);
        let a = world.task(&network, 'a', 10);
        let new = subnet("subnet-c", "10.20.0.0/24");
        let eni = TaskEni {
            task_id: "new".into(),
            mac: MacAddress([2, 0, 0, 0, 0, 9]),
            ip: addr("10.20.0.9"),
            prefix_len: 24,
            gateway: new.gateway,
            subnet_id: new.id.clone(),
            ipv6: None,
        };
        world.wait(network.attach_task(&eni)).unwrap_err();
        let mut subnets = world.config().subnets;
        subnets.push(new.clone());
        world.wait(network.subnets_set(&subnets)).unwrap();
        let netns = world.wait(network.attach_task(&eni)).unwrap();
        let c = Place { netns: Some(netns), ip: eni.ip };
        let server = world.serve(&c, Protocol::Tcp, 80);
        let rules = Rules::default()
            .interface(a.ip, &["sg-a"])
            .interface(c.ip, &["sg-c"])
            .open_egress("sg-a")
            .open_egress("sg-c")
            .ingress("sg-c", Traffic::All, "sg-a");
        world.set(&network, &rules);
        world.answers(&a, (c.ip, 80));
        assert_eq!(world.ask(&c, (outside.ip, 80)).unwrap(), "198.51.100.1");
        assert_eq!(network.subnet_with(c.ip), Some(new));
        // Removed while a task is in it, and even found again like that.
        subnets.pop();
        world.wait(network.subnets_set(&subnets)).unwrap();
        world.wait(network.attach_task(&eni)).unwrap_err();
        world.answers(&a, (c.ip, 80));
        drop(network);
        let network = world.open_guarded();
        world.answers(&a, (c.ip, 80));
        assert_eq!(world.ask(&c, (outside.ip, 80)).unwrap(), "198.51.100.1");
        drop(server);
        world.wait(network.detach_task("new")).unwrap();
        let gateway = || {
            let mut socket = Socket::open(Family::Route).unwrap();
            world.wait(network.reassert()).unwrap();
            let addresses = route::addresses::<Ipv4Addr>(&mut socket).unwrap();
            addresses.iter().any(|a| a.address == addr("10.20.0.1"))
        };
        world.soon(|| !gateway(), "the subnet is gone");
        // One that cannot be does not keep others out.
        subnets.push(subnet("subnet-x", "198.51.100.0/24"));
        subnets.push(subnet("subnet-d", "10.30.0.0/24"));
        let error = world.wait(network.subnets_set(&subnets)).unwrap_err();
        assert!(error.to_string().contains("198.51.100.0/24"), "{error}");
        assert!(network.subnet_with(addr("10.30.0.5")).is_some());
        assert!(network.subnet_with(addr("198.51.100.5")).is_none());
        world.remove_outside(outside);
        world.close(network);
    });
}

/// How many datagrams with a mark have arrived since the last look.
fn arrived(receiver: &UdpSocket, mark: u8) -> usize {
    let next = || {
        let mut byte = [0];
        receiver.recv(&mut byte).ok().map(|_| byte[0])
    };
    std::iter::from_fn(next).filter(|byte| *byte == mark).count()
}

/// Changes are one transaction each: what both sides of a change deny never
/// arrives. What both allow arrives, but for a packet that another CPU has
/// between a map and a new chain at that very moment.
#[test]
fn a_change_has_no_moment_of_its_own() {
    in_world(|world| {
        let network = world.open_guarded();
        let (a, b) =
            (world.task(&network, 'a', 10), world.task(&network, 'b', 11));
        let base = Rules::default()
            .interface(a.ip, &["sg-a"])
            .open_egress("sg-a")
            .ingress("sg-b", udp_port(9), "sg-a")
            .interface(b.ip, &["sg-b"]);
        let all = base.clone().ingress("sg-c", udp_port(11), "0.0.0.0/0");
        let others = [
            all.clone().interface(b.ip, &["sg-b", "sg-c"]),
            // Other chains, and another set, that allow the same.
            Rules::default()
                .interface(a.ip, &["sg-d"])
                .egress("sg-d", Traffic::All, "172.31.0.0/16")
                .ingress("sg-e", udp_port(9), "sg-d")
                .interface(b.ip, &["sg-e"]),
            base.clone(),
        ];
        world.set(&network, &base);
        let receivers = [9, 10].map(|port| {
            let receiver = world
                .at(&b, move || UdpSocket::bind(("0.0.0.0", port)).unwrap());
            receiver.set_nonblocking(true).unwrap();
            receiver
        });
        let [allowed, denied] = receivers.each_ref().map(|receiver| {
            let port = receiver.local_addr().unwrap().port();
            let socket = world.at(&a, || UdpSocket::bind("0.0.0.0:0").unwrap());
            socket.connect((b.ip, port)).unwrap();
            socket
        });
        // The neighbours must know each other before none may be lost.
        world.soon(
            || {
                let _ = allowed.send(b"?");
                arrived(&receivers[0], b'?') > 0
            },
            "a datagram arrives",
        );
        let is_over = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&is_over);
        let sender = std::thread::spawn(move || {
            let (mut sent, mut got) = (0, 0);
            while !stop.load(Ordering::Relaxed) {
                for _ in 0..20 {
                    allowed.send(b"+").unwrap();
                    denied.send(b"-").unwrap();
                    sent += 1;
                }
                got += arrived(&receivers[0], b'+');
            }
            (sent, got, arrived(&receivers[1], b'-'))
        });
        for _ in 0..40 {
            for rules in &others {
                world.set(&network, rules);
            }
        }
        is_over.store(true, Ordering::Relaxed);
        let (sent, got, let_in) = sender.join().unwrap();
        assert!(sent > 100, "{sent}");
        assert_eq!(let_in, 0);
        assert!(sent - got <= sent / 1000, "{got} of {sent}");
        world.close(network);
    });
}

/// A thousand tasks in a group, and one in hundreds of groups: more than a
/// socket's buffers hold unasked.
#[test]
fn many_interfaces_and_groups_are_set() {
    in_world(|world| {
        let network = world.open_guarded();
        let mut rules = Rules::default().open_egress("sg-many").ingress(
            "sg-many",
            Traffic::All,
            "sg-many",
        );
        let address = |n: u16| {
            let [high, low] = n.to_be_bytes();
            Ipv4Addr::new(172, 31, high, low)
        };
        for n in 100..1100 {
            rules = rules.interface(address(n), &["sg-many", "sg-default"]);
        }
        world.set(&network, &rules);
        let (a, b) =
            (world.task(&network, 'a', 10), world.task(&network, 'a', 11));
        let _b = world.serve(&b, Protocol::Tcp, 80);
        for ip in [a.ip, b.ip] {
            rules = rules.interface(ip, &["sg-many"]);
            world.set(&network, &rules);
        }
        world.answers(&a, (b.ip, 80));
        let ids: BTreeSet<String> =
            (0..200).map(|n| format!("sg-{n}")).collect();
        for id in &ids {
            let ids: Vec<_> = ids.iter().map(String::as_str).collect();
            rules = rules.ingress(id, tcp_ports(1, 2), "10.0.0.0/8");
            rules = rules.interface(a.ip, &ids);
        }
        world.set(&network, &rules);
        world.silent(&a, (b.ip, 80));
        world.close(network);
    });
}
