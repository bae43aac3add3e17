//! Who reaches the task endpoint, and what nobody reaches through it.

use super::*;
use crate::network::endpoint::{ENDPOINT, LISTENER};

/// Long enough for an answer, short where none may come.
const NOTHING: Duration = Duration::from_millis(300);

fn endpoint() -> (Ipv4Addr, u16) {
    (*ENDPOINT.ip(), ENDPOINT.port())
}

fn listen(world: &World, network: &Network) -> (Server, u16) {
    let listener = world.wait(network.listen_endpoint()).unwrap();
    let port = listener.local_addr().unwrap().port();
    (Server::tcp(listener), port)
}

fn seen_by(world: &World, place: &Place) -> String {
    world.ask(place, endpoint()).unwrap()
}

#[test]
fn tasks_containers_and_the_host_reach_it_and_nothing_else() {
    in_world(|world| {
        let network = world.open();
        let task = world.task(&network, 'b', 10);
        let web = world.container(&network, "web");
        let host = world.host();
        let (_server, port) = listen(world, &network);
        assert_eq!(seen_by(world, &task), task.ip.to_string());
        assert_eq!(seen_by(world, &web), web.ip.to_string());
        assert!(world.ask(&host, endpoint()).is_ok());
        // What listens on the host's loopback only stays the host's.
        let lo = Ipv4Addr::LOCALHOST;
        let local = world.at(&host, move || TcpListener::bind((lo, 81)));
        let _local = Server::tcp(local.unwrap());
        for place in [&task, &web] {
            for to in [
                (*ENDPOINT.ip(), 81),
                (*ENDPOINT.ip(), port),
                (LISTENER, port),
                (LISTENER, 80),
            ] {
                let answer = world.ask_within(place, to, NOTHING);
                assert!(answer.is_err(), "{to:?}: {answer:?}");
            }
        }
        let outside = world.outside();
        let ours = addr("198.51.100.1");
        assert!(world.ask_within(&outside, (ours, port), NOTHING).is_err());
        world.remove_outside(outside);
        world.close(network);
    });
}

/// The machine may be a cloud's, and have credentials of its own to give.
#[test]
fn containers_do_not_reach_the_machine_s_own_metadata() {
    in_world(|world| {
        let network = world.open();
        let task = world.task(&network, 'a', 10);
        let web = world.container(&network, "web");
        let outside = world.outside();
        let cloud = addr("169.254.169.254");
        world.at(&outside, move || {
            let mut socket = Socket::open(Family::Route).unwrap();
            let link = route::link(&mut socket, "eth0").unwrap().unwrap();
            let link = link.index;
            let own = Address { link, address: cloud, prefix_len: 32 };
            route::address_add(&mut socket, &own).unwrap();
        });
        let mut host = Socket::open(Family::Route).unwrap();
        let wan = route::link(&mut host, "wan").unwrap().unwrap().index;
        route::link_route_add(&mut host, cloud, wan).unwrap();
        let _servers =
            [80, 53].map(|port| world.serve(&outside, Protocol::Tcp, port));
        world.answers(&world.host(), (cloud, 80));
        for place in [&task, &web] {
            world.answers(place, (outside.ip, 80));
            world.answers(place, (cloud, 53));
            world.silent(place, (cloud, 80));
        }
        world.remove_outside(outside);
        world.close(network);
    });
}

/// Even where it sends what it does not know to the host.
#[test]
fn other_machines_do_not_reach_it() {
    in_world(|world| {
        let network = world.open();
        let outside = world.outside();
        world.at(&outside, || {
            let mut socket = Socket::open(Family::Route).unwrap();
            let link = route::link(&mut socket, "eth0").unwrap().unwrap();
            let gateway = addr("198.51.100.1");
            route::default_route_set(&mut socket, gateway, link.index).unwrap();
        });
        let (_server, port) = listen(world, &network);
        for to in [endpoint(), (LISTENER, port)] {
            assert!(world.ask_within(&outside, to, NOTHING).is_err());
        }
        world.remove_outside(outside);
        world.close(network);
    });
}

#[test]
fn the_last_listener_has_it_also_after_a_kill_and_a_flush() {
    in_world(|world| {
        let network = world.open();
        let task = world.task(&network, 'a', 10);
        let (first, _) = listen(world, &network);
        drop(first);
        // As after a kill: nothing was taken down.
        drop(network);
        let network = world.open();
        let (_server, _) = listen(world, &network);
        assert!(world.ask(&task, endpoint()).is_ok());
        let mut socket = Socket::open(Family::Netfilter).unwrap();
        firewall::table_delete(&mut socket, "mn").unwrap();
        world.wait(network.reassert()).unwrap();
        assert!(world.ask(&task, endpoint()).is_ok());
        world.close(network);
    });
}

#[test]
fn calls_go_nowhere_while_nobody_listens() {
    in_world(|world| {
        let outside = world.outside();
        let network = world.open();
        let task = world.task(&network, 'a', 10);
        world.at(&world.host(), || {
            let mut socket = Socket::open(Family::Route).unwrap();
            let link = route::link(&mut socket, "wan").unwrap().unwrap();
            let gateway = addr("198.51.100.2");
            route::default_route_set(&mut socket, gateway, link.index).unwrap();
        });
        assert!(world.ask_within(&task, endpoint(), NOTHING).is_err());
        world.remove_outside(outside);
        world.close(network);
    });
}

#[test]
fn two_networks_have_one_each_and_the_first_has_the_hosts() {
    in_world(|world| {
        let network = world.open();
        let mut config = world.config();
        config.name = "two".to_owned();
        config.subnets = vec![subnet("subnet-c", "172.29.0.0/20")];
        let other = world.wait(Network::open(config)).unwrap();
        let web = world.container(&network, "web");
        let mine = world.wait(network.listen_endpoint()).unwrap();
        let theirs = world.wait(other.listen_endpoint()).unwrap();
        let mut netfilter = Socket::open(Family::Netfilter).unwrap();
        let seen = firewall::host_endpoints_of_others(&mut netfilter, "two");
        assert_eq!(seen.unwrap(), ["minato-mn"]);
        let (_mine, theirs) = (Server::tcp(mine), Server::tcp(theirs));
        let place = world.container(&other, "web");
        assert_eq!(seen_by(world, &place), place.ip.to_string());
        assert_eq!(seen_by(world, &web), web.ip.to_string());
        drop(theirs);
        assert!(world.ask(&place, endpoint()).is_err());
        assert!(world.ask(&web, endpoint()).is_ok());
        assert!(world.ask(&world.host(), endpoint()).is_ok());
        world.wait(network.teardown()).unwrap();
        let (_theirs, _) = listen(world, &other);
        // The route went with the first one's bridge.
        world.wait(other.reassert()).unwrap();
        assert!(world.ask(&place, endpoint()).is_ok());
        assert!(world.ask(&world.host(), endpoint()).is_ok());
        world.wait(other.teardown()).unwrap();
        assert_eq!(leftovers("two"), Vec::<String>::new());
        assert_eq!(leftovers("mn"), Vec::<String>::new());
    });
}

/// ufw drops what comes in.
#[test]
fn a_closed_input_chain_lets_calls_in() {
    in_world(|world| {
        let policy = ["-w", "-P", "INPUT", "DROP"];
        let mut command = std::process::Command::new("iptables-nft");
        if !command.args(policy).status().is_ok_and(|done| done.success()) {
            eprintln!("iptables-nft is not installed: nothing to test");
            return;
        }
        let network = world.open();
        let task = world.task(&network, 'a', 10);
        let web = world.container(&network, "web");
        let _server = listen(world, &network);
        assert_eq!(seen_by(world, &task), task.ip.to_string());
        assert_eq!(seen_by(world, &web), web.ip.to_string());
        let host = world.serve(&world.host(), Protocol::Tcp, 8080);
        let gateway = (addr("172.31.0.1"), 8080);
        assert!(world.ask_within(&task, gateway, NOTHING).is_err());
        drop(host);
        world.close(network);
    });
}
