//! Host ports: fixed, dynamic, ranges, taken ones, and every way to them.

use super::*;

const FIXED: HostPort = HostPort::Fixed(8080);

#[test]
fn a_published_port_is_reached_from_everywhere() {
    in_world(|world| {
        let network = world.open();
        let outside = world.outside();
        let web = world.container(&network, "web");
        let neighbour = world.container(&network, "neighbour");
        let task = world.task(&network, 'a', 10);
        let _server = world.serve(&web, Protocol::Tcp, 80);
        let port = world.wait(network.publish(&tcp("web", 80, FIXED))).unwrap();
        assert_eq!((port.host_port, port.container_port), (8080, 80));
        let (host, lo) = (world.host(), Ipv4Addr::LOCALHOST);
        let lan = addr("198.51.100.1");
        let gateway = network.bridge_cidr().nth(1).unwrap();
        for (who, place, ip) in [
            ("loopback", &host, lo),
            ("the host by its own address", &host, lan),
            ("another machine", &outside, lan),
            ("a task", &task, lan),
            ("a neighbour by the host's address", &neighbour, lan),
            ("a neighbour by the gateway", &neighbour, gateway),
            ("itself by the host's address", &web, lan),
        ] {
            let answer = world.ask(place, (ip, 8080));
            assert!(answer.is_ok(), "{who}: {answer:?}");
        }
        // Callers keep their address unless they must not.
        let seen = world.ask(&outside, (lan, 8080)).unwrap();
        assert_eq!(seen, "198.51.100.2");
        world.remove_outside(outside);
        world.close(network);
    });
}

#[test]
fn udp_is_published_too() {
    in_world(|world| {
        let network = world.open();
        let outside = world.outside();
        let dns = world.container(&network, "dns");
        let _server = world.serve(&dns, Protocol::Udp, 53);
        let mut wish = tcp("dns", 53, HostPort::Fixed(5300));
        wish.protocol = Protocol::Udp;
        world.wait(network.publish(&wish)).unwrap();
        let lan = addr("198.51.100.1");
        assert_eq!(world.ask_udp(&outside, (lan, 5300)), "198.51.100.2");
        let lo = Ipv4Addr::LOCALHOST;
        assert!(!world.ask_udp(&world.host(), (lo, 5300)).is_empty());
        // The same number of the other protocol is another port.
        let tcp = tcp("dns", 53, HostPort::Fixed(5300));
        world.wait(network.publish(&tcp)).unwrap();
        world.remove_outside(outside);
        world.close(network);
    });
}

#[test]
fn a_udp_client_that_never_pauses_follows_the_port() {
    in_world(|world| {
        let network = world.open();
        let wish = |endpoint: &str| Publish {
            protocol: Protocol::Udp,
            ..tcp(endpoint, 8125, HostPort::Fixed(8125))
        };
        let client = world.at(&world.host(), || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_read_timeout(Some(SILENCE)).unwrap();
            socket
        });
        let ask = || {
            client.send_to(b"?", "127.0.0.1:8125").unwrap();
            client.recv_from(&mut [0; 16]).map(drop)
        };
        // First there is nobody, and the kernel remembers that.
        assert!(ask().is_err());
        for id in ["one", "two"] {
            let place = world.container(&network, id);
            let _server = world.serve(&place, Protocol::Udp, 8125);
            world.wait(network.publish(&wish(id))).unwrap();
            world.soon(|| ask().is_ok(), "the client is answered");
            world.wait(network.detach_bridge(id)).unwrap();
        }
        world.close(network);
    });
}

#[test]
fn a_port_of_another_program_is_taken() {
    in_world(|world| {
        let network = world.open();
        world.container(&network, "web");
        let theirs = world.serve(&world.host(), Protocol::Tcp, 8080);
        let wish = tcp("web", 80, FIXED);
        let error = world.wait(network.publish(&wish)).unwrap_err();
        assert_eq!(error.to_string(), "host port 8080/tcp is already in use");
        assert_eq!(network.published("web"), []);
        drop(theirs);
        world.wait(network.publish(&wish)).unwrap();
        let bound = world.at(&world.host(), || {
            TcpListener::bind(("127.0.0.1", 8080)).map(drop)
        });
        let kind = bound.unwrap_err().kind();
        assert_eq!(kind, io::ErrorKind::AddrInUse);
        world.close(network);
    });
}

#[test]
fn a_port_of_another_container_is_taken() {
    in_world(|world| {
        let network = world.open();
        world.container(&network, "one");
        world.container(&network, "two");
        world.wait(network.publish(&tcp("one", 80, FIXED))).unwrap();
        world.wait(network.publish(&tcp("one", 80, FIXED))).unwrap();
        let error = world.wait(network.publish(&tcp("two", 80, FIXED)));
        assert!(matches!(
            error,
            Err(PublishError::PortTaken { port: 8080, .. })
        ));
        // A task that stops frees it.
        world.wait(network.detach_bridge("one")).unwrap();
        world.wait(network.publish(&tcp("two", 80, FIXED))).unwrap();
        world.close(network);
    });
}

#[test]
fn dynamic_ports_start_where_the_kernels_do() {
    in_world(|world| {
        let network = world.open();
        let web = world.container(&network, "web");
        let _server = world.serve(&web, Protocol::Tcp, 80);
        let dynamic = |port| tcp("web", port, HostPort::Dynamic);
        let one = world.wait(network.publish(&dynamic(80))).unwrap();
        assert!(one.host_port >= 32768, "{one:?}");
        assert_eq!(world.wait(network.publish(&dynamic(80))).unwrap(), one);
        let two = world.wait(network.publish(&dynamic(81))).unwrap();
        assert_ne!(one.host_port, two.host_port);
        let lo = Ipv4Addr::LOCALHOST;
        assert!(world.ask(&world.host(), (lo, one.host_port)).is_ok());
        world.close(network);
    });
}

#[test]
fn dynamic_ports_step_over_taken_ones_and_run_out() {
    in_world(|world| {
        let mut config = world.config();
        config.dynamic_ports = Some((40000, 40003));
        let network = world.wait(Network::open(config)).unwrap();
        world.container(&network, "web");
        let _theirs = world.serve(&world.host(), Protocol::Tcp, 40001);
        let mut got = vec![];
        for port in 1..=3 {
            let wish = tcp("web", port, HostPort::Dynamic);
            got.push(world.wait(network.publish(&wish)).unwrap().host_port);
        }
        assert_eq!(got, [40000, 40002, 40003]);
        let wish = tcp("web", 4, HostPort::Dynamic);
        let error = world.wait(network.publish(&wish)).unwrap_err();
        assert!(matches!(error, PublishError::NoFreePort { .. }), "{error}");
        // A freed one is found again.
        let freed = PublishedPort {
            protocol: Protocol::Tcp,
            host_port: 40002,
            container_port: 2,
            count: 1,
        };
        world.wait(network.unpublish("web", &freed)).unwrap();
        world.wait(network.unpublish("web", &freed)).unwrap();
        let port = world.wait(network.publish(&wish)).unwrap();
        assert_eq!(port.host_port, 40002);
        world.close(network);
    });
}

#[test]
fn ranges_are_published_whole_or_not_at_all() {
    in_world(|world| {
        let network = world.open();
        let web = world.container(&network, "web");
        let _server = world.serve(&web, Protocol::Tcp, 7009);
        let theirs = world.serve(&world.host(), Protocol::Tcp, 9005);
        let mut wish = tcp("web", 7000, HostPort::Fixed(9000));
        wish.count = 10;
        let error = world.wait(network.publish(&wish)).unwrap_err();
        assert!(matches!(error, PublishError::PortTaken { port: 9005, .. }));
        assert_eq!(network.published("web"), []);
        drop(theirs);
        world.wait(network.publish(&wish)).unwrap();
        assert_eq!(network.published("web").len(), 10);
        let lo = Ipv4Addr::LOCALHOST;
        assert!(world.ask(&world.host(), (lo, 9009)).is_ok());
        wish.host_port = HostPort::Dynamic;
        wish.count = 1000;
        let many = world.wait(network.publish(&wish)).unwrap();
        assert_eq!(many.count, 1000);
        assert_eq!(world.wait(network.publish(&wish)).unwrap(), many);
        wish.count = 1001;
        let error = world.wait(network.publish(&wish)).unwrap_err();
        assert!(matches!(error, PublishError::InvalidRange { .. }), "{error}");
        world.close(network);
    });
}

#[test]
fn nothing_is_published_for_nobody() {
    in_world(|world| {
        let network = world.open();
        let error = world.wait(network.publish(&tcp("ghost", 80, FIXED)));
        assert!(matches!(error, Err(PublishError::NoEndpoint { .. })));
        world.close(network);
    });
}

#[test]
fn loopback_services_stay_on_loopback() {
    in_world(|world| {
        let network = world.open();
        let task = world.task(&network, 'a', 10);
        let lo = Ipv4Addr::LOCALHOST;
        let _private =
            Server::tcp(world.at(&world.host(), move || {
                TcpListener::bind((lo, 6000)).unwrap()
            }));
        // route_localnet lets 127.0.0.1 in from a bridge; the guard does not.
        let gateway = addr("172.31.0.1");
        world.at(&task, move || {
            let mut socket = Socket::open(Family::Route).unwrap();
            let link = route::link(&mut socket, "eth0").unwrap().unwrap();
            sysctl::set("ipv4/conf/eth0/route_localnet", "1").unwrap();
            sysctl::set("ipv4/conf/all/route_localnet", "1").unwrap();
            let all = Address { link: 1, address: lo, prefix_len: 8 };
            route::address_delete(&mut socket, &all).unwrap();
            route::default_route_set(&mut socket, gateway, link.index).unwrap();
        });
        let answer = world.ask_within(&task, (lo, 6000), SILENCE);
        assert!(answer.is_err(), "{answer:?}");
        world.close(network);
    });
}
