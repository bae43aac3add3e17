//! Faults in tasks' networks: what they stop, and what they let through.

use super::*;

fn site(task_id: &str, in_host: bool) -> FaultSite {
    FaultSite { task_id: task_id.to_owned(), in_host }
}

fn port(direction: Direction, protocol: Protocol, number: u16) -> Port {
    Port { direction, protocol, number }
}

fn blackhole(port: Port, except: &[&str]) -> Blackhole {
    let except = except.iter().map(|text| text.parse().unwrap()).collect();
    Blackhole { port, except }
}

#[test]
fn a_blackhole_takes_one_way_of_one_port_until_it_is_stopped() {
    in_world(|world| {
        let network = world.open();
        let task = world.task(&network, 'a', 10);
        let peer = world.task(&network, 'a', 11);
        let other = world.task(&network, 'b', 12);
        let own = site("task-a-10", false);
        let _servers = [(&task, 80), (&task, 81), (&peer, 80), (&other, 80)]
            .map(|(at, port)| world.serve(at, Protocol::Tcp, port));
        let ingress = port(Direction::Ingress, Protocol::Tcp, 80);
        let egress = port(Direction::Egress, Protocol::Tcp, 80);
        let is_on =
            |port| world.wait(network.is_blackhole(&own, port)).unwrap();

        assert!(!is_on(ingress));
        let wanted = blackhole(ingress, &[&other.ip.to_string(), "fd00::/8"]);
        // A repeat changes nothing, even with other exceptions.
        for wanted in [wanted, blackhole(ingress, &[])] {
            world.wait(network.blackhole_start(&own, &wanted)).unwrap();
            assert!(is_on(ingress) && !is_on(egress));
            world.silent(&peer, (task.ip, 80));
            world.answers(&other, (task.ip, 80));
            world.answers(&peer, (task.ip, 81));
            world.answers(&task, (peer.ip, 80));
        }
        let wanted = blackhole(egress, &["172.31.16.0/20"]);
        world.wait(network.blackhole_start(&own, &wanted)).unwrap();
        world.silent(&task, (peer.ip, 80));
        world.answers(&task, (other.ip, 80));
        // Neighbours have none of it.
        let theirs = site("task-a-11", false);
        assert!(!world.wait(network.is_blackhole(&theirs, ingress)).unwrap());
        world.answers(&other, (peer.ip, 80));

        for _ in 0..2 {
            world.wait(network.blackhole_stop(&own, ingress)).unwrap();
            assert!(!is_on(ingress) && is_on(egress));
        }
        world.answers(&peer, (task.ip, 80));
        world.silent(&task, (peer.ip, 80));
        world.wait(network.blackhole_stop(&own, egress)).unwrap();
        assert!(!is_on(egress));
        world.answers(&task, (peer.ip, 80));
        world.close(network);
    });
}

#[test]
fn the_kernel_keeps_faults_and_they_go_with_the_task() {
    in_world(|world| {
        let network = world.open();
        let task = world.task(&network, 'a', 10);
        let own = site("task-a-10", false);
        let udp = port(Direction::Egress, Protocol::Udp, 53);
        world
            .wait(network.blackhole_start(&own, &blackhole(udp, &[])))
            .unwrap();
        drop(network);
        let network = world.open();
        assert!(world.wait(network.is_blackhole(&own, udp)).unwrap());
        assert!(task.netns.as_deref().is_some_and(is_pinned));
        world.wait(network.detach_task("task-a-10")).unwrap();
        // Without a task there is nothing to break.
        assert!(world.wait(network.is_blackhole(&own, udp)).is_err());
        world.task(&network, 'a', 10);
        assert!(!world.wait(network.is_blackhole(&own, udp)).unwrap());
        world.close(network);
    });
}

#[test]
fn faults_in_host_mode_are_their_tasks_and_end_with_them() {
    in_world(|world| {
        let network = world.open();
        let host = world.host();
        let peer = world.task(&network, 'a', 10);
        let _servers = [80, 81].map(|p| world.serve(&peer, Protocol::Tcp, p));
        let egress = |number| port(Direction::Egress, Protocol::Tcp, number);
        for (task, number) in [("t1", 80), ("t2", 81), ("t1", 81)] {
            let wanted = blackhole(egress(number), &[]);
            let site = site(task, true);
            world.wait(network.blackhole_start(&site, &wanted)).unwrap();
        }
        world.silent(&host, (peer.ip, 80));
        assert_eq!(leftovers("mn").iter().filter(is_fault).count(), 2);
        world.wait(network.host_faults_end("t1")).unwrap();
        world.wait(network.host_faults_end("t1")).unwrap();
        world.answers(&host, (peer.ip, 80));
        world.silent(&host, (peer.ip, 81));
        let other = site("t2", true);
        assert!(world.wait(network.is_blackhole(&other, egress(81))).unwrap());
        // What is left is taken down with the network.
        world.close(network);
    });
}

fn is_fault(left: &&String) -> bool {
    left.contains("minato-mn-fault-")
}

#[test]
fn an_impairment_is_the_interfaces_and_what_cannot_be_leaves_nothing() {
    in_world(|world| {
        let network = world.open();
        world.task(&network, 'a', 10);
        let outside = world.outside();
        world.at(&world.host(), || {
            let mut socket = Socket::open(Family::Route).unwrap();
            let link = route::link(&mut socket, "wan").unwrap().unwrap();
            let gateway = addr("198.51.100.2");
            route::default_route_set(&mut socket, gateway, link.index).unwrap();
        });
        let can = probe_faults().is_ok();
        let sources = ["0.0.0.0/0".parse().unwrap()];
        let latency = Impairment::Latency { delay_ms: 1, jitter_ms: 0 };
        for site in [site("task-a-10", false), site("t1", true)] {
            let impair =
                || world.wait(network.impair(&site, latency, &sources, &[]));
            let found = || world.wait(network.impairment(&site)).unwrap();
            let stop = |kind| {
                world.wait(network.impairment_stop(&site, kind)).unwrap()
            };
            assert_eq!(found(), None);
            let kind = ImpairmentKind::Latency;
            if can {
                assert_eq!(impair().unwrap(), None);
                assert_eq!(impair().unwrap(), Some(kind));
                stop(ImpairmentKind::PacketLoss);
                assert_eq!(found(), Some(kind));
            } else {
                assert!(impair().is_err());
            }
            stop(kind);
            assert_eq!(found(), None);
            if can && site.in_host {
                assert_eq!(leftovers("mn").iter().filter(is_fault).count(), 0);
                assert_eq!(impair().unwrap(), None);
                world.wait(network.host_faults_end("t1")).unwrap();
                assert_eq!(found(), None);
            }
        }
        world.remove_outside(outside);
        world.close(network);
    });
}
