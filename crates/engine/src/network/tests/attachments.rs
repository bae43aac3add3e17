//! Tasks, containers, and who reaches whom.

use super::*;

#[test]
fn tasks_the_host_and_each_other() {
    in_world(|world| {
        let network = world.open();
        let a = world.task(&network, 'a', 10);
        let b = world.task(&network, 'b', 10);
        let _a = world.serve(&a, Protocol::Tcp, 80);
        let _b = world.serve(&b, Protocol::Tcp, 80);
        let host = world.host();
        let _host = world.serve(&host, Protocol::Tcp, 8080);
        // Addresses stay as they are: tasks see each other's own.
        assert_eq!(world.ask(&a, (b.ip, 80)).unwrap(), "172.31.0.10");
        assert_eq!(world.ask(&b, (a.ip, 80)).unwrap(), "172.31.16.10");
        assert_eq!(world.ask(&host, (a.ip, 80)).unwrap(), "172.31.0.1");
        let gateway = addr("172.31.16.1");
        assert_eq!(world.ask(&b, (gateway, 8080)).unwrap(), "172.31.16.10");
        world.close(network);
    });
}

#[test]
fn containers_of_a_task_share_its_loopback() {
    in_world(|world| {
        let network = world.open();
        let task = world.task(&network, 'a', 10);
        let again = world.task(&network, 'a', 10);
        assert_eq!(task.netns, again.netns);
        let _server = world.serve(&task, Protocol::Tcp, 80);
        let lo = Ipv4Addr::LOCALHOST;
        assert_eq!(world.ask(&again, (lo, 80)).unwrap(), "127.0.0.1");
        world.close(network);
    });
}

#[test]
fn a_task_has_the_interface_of_its_eni() {
    in_world(|world| {
        let network = world.open();
        let task = world.task(&network, 'b', 77);
        let (link, addresses) = world.at(&task, || {
            let mut socket = Socket::open(Family::Route).unwrap();
            let link = route::link(&mut socket, "eth0").unwrap().unwrap();
            (link, route::addresses(&mut socket).unwrap())
        });
        assert_eq!(link.mac, Some(eni('b', 77).mac));
        let (address, prefix_len) = (task.ip, 20);
        let wanted = Address { link: link.index, address, prefix_len };
        assert!(addresses.contains(&wanted), "{addresses:?}");
        world.close(network);
    });
}

#[test]
fn bridge_containers_reach_each_other_and_tasks() {
    in_world(|world| {
        let network = world.open();
        let one = world.container(&network, "one");
        let two = world.container(&network, "two");
        let task = world.task(&network, 'a', 10);
        assert!(network.bridge_cidr().contains(one.ip));
        let _two = world.serve(&two, Protocol::Tcp, 80);
        let _task = world.serve(&task, Protocol::Tcp, 80);
        let me = one.ip.to_string();
        assert_eq!(world.ask(&one, (two.ip, 80)).unwrap(), me);
        assert_eq!(world.ask(&one, (task.ip, 80)).unwrap(), me);
        assert!(world.ask(&world.host(), (two.ip, 80)).is_ok());
        world.close(network);
    });
}

#[test]
fn what_leaves_the_host_has_its_address() {
    in_world(|world| {
        let network = world.open();
        let outside = world.outside();
        let _server = world.serve(&outside, Protocol::Tcp, 80);
        let _udp = world.serve(&outside, Protocol::Udp, 53);
        let task = world.task(&network, 'b', 9);
        let container = world.container(&network, "one");
        for place in [&task, &container] {
            let answer = world.ask(place, (outside.ip, 80)).unwrap();
            assert_eq!(answer, "198.51.100.1");
            assert_eq!(world.ask_udp(place, (outside.ip, 53)), "198.51.100.1");
        }
        world.remove_outside(outside);
        world.close(network);
    });
}

#[test]
fn strangers_cannot_route_into_a_task() {
    in_world(|world| {
        let network = world.open();
        let outside = world.outside();
        let task = world.task(&network, 'a', 9);
        let _server = world.serve(&task, Protocol::Tcp, 80);
        world.at(&outside, || {
            let mut socket = Socket::open(Family::Route).unwrap();
            let link = route::link(&mut socket, "eth0").unwrap().unwrap();
            let host = addr("198.51.100.1");
            route::default_route_set(&mut socket, host, link.index).unwrap();
        });
        let answer = world.ask_within(&outside, (task.ip, 80), SILENCE);
        assert!(answer.is_err(), "{answer:?}");
        world.remove_outside(outside);
        world.close(network);
    });
}

#[test]
fn none_has_loopback_and_nothing_else() {
    in_world(|world| {
        let network = world.open();
        let netns = world.wait(network.attach_none("alone")).unwrap();
        assert_eq!(world.wait(network.attach_none("alone")).unwrap(), netns);
        let place = Place { netns: Some(netns.clone()), ip: addr("127.0.0.1") };
        let _server = world.serve(&place, Protocol::Tcp, 80);
        assert!(world.ask(&place, (place.ip, 80)).is_ok());
        let links = world.at(&place, || {
            route::links(&mut Socket::open(Family::Route).unwrap()).unwrap()
        });
        let own = links.iter().filter(|l| l.name != "lo" && l.is_up).count();
        assert_eq!(own, 0, "{links:?}");
        world.wait(network.detach_none("alone")).unwrap();
        assert!(!is_pinned(&netns));
        world.close(network);
    });
}

#[test]
fn every_operation_may_be_repeated() {
    in_world(|world| {
        let network = world.open();
        for _ in 0..2 {
            world.task(&network, 'a', 10);
            world.container(&network, "one");
        }
        let found = world.wait(network.attachments()).unwrap();
        let found: Vec<_> =
            found.iter().map(|a| (a.kind, a.id.as_str())).collect();
        assert_eq!(
            found,
            [
                (AttachmentKind::Task, "task-a-10"),
                (AttachmentKind::Bridge, "one")
            ]
        );
        for _ in 0..2 {
            world.wait(network.detach_task("task-a-10")).unwrap();
            world.wait(network.detach_bridge("one")).unwrap();
            world.wait(network.detach_none("never was")).unwrap_err();
            world.wait(network.detach_none("never-was")).unwrap();
        }
        assert_eq!(world.wait(network.attachments()).unwrap(), []);
        let again = network.clone();
        world.close(network);
        world.close(again);
    });
}

#[test]
fn impossible_interfaces_are_refused() {
    in_world(|world| {
        let network = world.open();
        type Spoil = fn(&mut TaskEni);
        let spoilers: [(Spoil, &str); 7] = [
            (|e| e.task_id = "../x".into(), "cannot name"),
            (|e| e.task_id = String::new(), "cannot name"),
            (|e| e.subnet_id = "subnet-z".into(), "no subnet subnet-z"),
            (|e| e.ip = addr("172.31.16.4"), "172.31.0.0/20"),
            (|e| e.ip = addr("172.31.0.1"), "usable"),
            (|e| e.prefix_len = 24, "prefix"),
            (|e| e.mac = MacAddress([0xff; 6]), "unicast"),
        ];
        for (spoil, wanted) in spoilers {
            let mut eni = eni('a', 4);
            spoil(&mut eni);
            let error = world.wait(network.attach_task(&eni)).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(wanted), "{text}");
        }
        world.close(network);
    });
}

#[test]
fn attaching_at_once_works_as_one_by_one() {
    in_world(|world| {
        let network = world.open();
        let ids: Vec<_> = (0..20).map(|n| format!("c{n}")).collect();
        let endpoints = world.wait(futures_util::future::join_all(
            ids.iter().map(|id| network.attach_bridge(id)),
        ));
        let mut addresses: Vec<_> =
            endpoints.into_iter().map(|e| e.unwrap().ip).collect();
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), 20);
        // The same id at once: one wins, the others find it done.
        let same = world.wait(futures_util::future::join_all(
            (0..8).map(|_| network.attach_bridge("same")),
        ));
        let first = same[0].as_ref().unwrap().clone();
        assert!(same.into_iter().all(|e| e.unwrap() == first));
        world.close(network);
    });
}

#[test]
fn two_hundred_tasks_leave_nothing() {
    in_world(|world| {
        let network = world.open();
        for n in 0..200 {
            let eni = eni('a', 2 + n % 100);
            let netns = world.wait(network.attach_task(&eni)).unwrap();
            assert!(is_pinned(&netns));
            world.wait(network.detach_task(&eni.task_id)).unwrap();
            assert!(!netns.exists());
        }
        let mut socket = Socket::open(Family::Route).unwrap();
        let mut ports = || {
            let links = route::links(&mut socket).unwrap();
            links.into_iter().filter(|l| l.master.is_some()).count()
        };
        world.soon(|| ports() == 0, "no interface is left");
        world.close(network);
    });
}
