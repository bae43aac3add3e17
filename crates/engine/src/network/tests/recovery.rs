//! Killed processes, half-made things, and configurations that cannot be.

use super::*;

#[test]
fn a_killed_process_interrupts_nothing() {
    in_world(|world| {
        let network = world.open();
        let web = world.container(&network, "web");
        let task = world.task(&network, 'a', 10);
        let _web = world.serve(&web, Protocol::Tcp, 80);
        let _task = world.serve(&task, Protocol::Tcp, 80);
        let wish = tcp("web", 80, HostPort::Dynamic);
        let port = world.wait(network.publish(&wish)).unwrap();
        drop(network);
        let (host, lo) = (world.host(), Ipv4Addr::LOCALHOST);
        assert!(world.ask(&host, (lo, port.host_port)).is_ok());
        assert!(world.ask(&host, (task.ip, 80)).is_ok());

        let network = world.open();
        assert!(world.ask(&host, (lo, port.host_port)).is_ok());
        assert_eq!(network.published("web"), [port]);
        assert_eq!(world.wait(network.publish(&wish)).unwrap(), port);
        assert_eq!(world.container(&network, "web").ip, web.ip);
        assert_ne!(world.container(&network, "other").ip, web.ip);
        assert_eq!(world.task(&network, 'a', 10).netns, task.netns);
        assert_eq!(world.wait(network.attachments()).unwrap().len(), 3);
        let held = world.at(&host, move || {
            TcpListener::bind((lo, port.host_port)).map(drop)
        });
        assert!(held.is_err(), "the port is reserved again");
        world.close(network);
    });
}

#[test]
fn a_port_lost_while_down_still_leads_to_its_container() {
    in_world(|world| {
        let network = world.open();
        let web = world.container(&network, "web");
        let _web = world.serve(&web, Protocol::Tcp, 80);
        let wish = tcp("web", 80, HostPort::Fixed(8080));
        world.wait(network.publish(&wish)).unwrap();
        drop(network);
        let thief = world.serve(&world.host(), Protocol::Tcp, 8080);
        let network = world.open();
        world.wait(network.publish(&wish)).unwrap();
        drop(thief);
        // Repeating the wish reserves the port again.
        world.wait(network.publish(&wish)).unwrap();
        let bound = world.at(&world.host(), || {
            TcpListener::bind(("127.0.0.1", 8080)).map(drop)
        });
        assert!(bound.is_err());
        let lo = Ipv4Addr::LOCALHOST;
        assert!(world.ask(&world.host(), (lo, 8080)).is_ok());
        world.close(network);
    });
}

#[test]
fn half_made_attachments_are_mended() {
    in_world(|world| {
        let network = world.open();
        let task = world.task(&network, 'a', 10);
        let _task = world.serve(&task, Protocol::Tcp, 80);
        let host = world.host();
        let mut socket = Socket::open(Family::Route).unwrap();
        let port = || {
            let mut socket = Socket::open(Family::Route).unwrap();
            let links = route::links(&mut socket).unwrap();
            let ours = |l: &route::Link| {
                l.alias.as_deref() == Some("minato task task-a-10 172.31.0.10")
            };
            links.into_iter().find(ours)
        };
        // Killed after pinning, before the interface.
        route::link_delete(&mut socket, &port().unwrap().name).unwrap();
        world.task(&network, 'a', 10);
        assert!(world.ask(&host, (task.ip, 80)).is_ok());
        // Killed between the interface and its address.
        world.at(&task, || {
            let mut inside = Socket::open(Family::Route).unwrap();
            let all = route::addresses::<Ipv4Addr>(&mut inside).unwrap();
            for address in all {
                route::address_delete(&mut inside, &address).unwrap();
            }
        });
        world.task(&network, 'a', 10);
        assert!(world.ask(&host, (task.ip, 80)).is_ok());
        // Killed between creating the file and pinning to it.
        world.wait(network.detach_task("task-a-10")).unwrap();
        let pin = task.netns.as_ref().unwrap();
        std::fs::write(pin, "").unwrap();
        world.task(&network, 'a', 10);
        assert!(is_pinned(pin));
        // Killed while detaching.
        route::port_disable(&mut socket, port().unwrap().index).unwrap();
        world.task(&network, 'a', 10);
        let _task = world.serve(&task, Protocol::Tcp, 80);
        assert!(world.ask(&host, (task.ip, 80)).is_ok());
        // Detaching mends as well: only a file, only an interface.
        world.wait(network.detach_task("task-a-10")).unwrap();
        std::fs::write(pin, "").unwrap();
        world.wait(network.detach_task("task-a-10")).unwrap();
        assert!(!pin.exists());
        world.task(&network, 'a', 10);
        namespace::unpin(pin).unwrap();
        world.wait(network.detach_task("task-a-10")).unwrap();
        world.soon(|| port().is_none(), "the interface is gone");
        world.close(network);
    });
}

#[test]
fn an_interface_kept_alive_by_a_process_is_swept() {
    in_world(|world| {
        let network = world.open();
        let web = world.container(&network, "web");
        let wish = tcp("web", 80, HostPort::Fixed(8080));
        world.wait(network.publish(&wish)).unwrap();
        // A process that does not end keeps the namespace, not its network.
        let _lingering = File::open(web.netns.as_ref().unwrap()).unwrap();
        let _server = world.serve(&web, Protocol::Tcp, 80);
        world.wait(network.detach_bridge("web")).unwrap();
        let host = world.host();
        assert!(world.ask_within(&host, (web.ip, 80), SILENCE).is_err());
        drop(network);
        let network = world.open();
        let mut socket = Socket::open(Family::Route).unwrap();
        let links = route::links(&mut socket).unwrap();
        assert!(links.iter().all(|l| l.alias.is_none()), "{links:?}");
        assert_eq!(world.wait(network.attachments()).unwrap(), []);
        // It may come back under the same name.
        let web = world.container(&network, "web");
        let _server = world.serve(&web, Protocol::Tcp, 80);
        assert!(world.ask(&host, (web.ip, 80)).is_ok());
        world.close(network);
    });
}

#[test]
fn a_detached_id_may_come_back_at_once() {
    in_world(|world| {
        let network = world.open();
        for _ in 0..10 {
            let task = world.task(&network, 'a', 10);
            let _server = world.serve(&task, Protocol::Tcp, 80);
            assert!(world.ask(&world.host(), (task.ip, 80)).is_ok());
            world.wait(network.detach_task("task-a-10")).unwrap();
        }
        world.close(network);
    });
}

#[test]
fn ports_of_a_vanished_container_are_dropped() {
    in_world(|world| {
        let network = world.open();
        world.container(&network, "web");
        let wish = tcp("web", 80, HostPort::Fixed(8080));
        world.wait(network.publish(&wish)).unwrap();
        drop(network);
        let mut socket = Socket::open(Family::Route).unwrap();
        let links = route::links(&mut socket).unwrap();
        let port = links.iter().find(|l| l.alias.is_some()).unwrap();
        route::link_delete(&mut socket, &port.name).unwrap();
        let network = world.open();
        world.container(&network, "new");
        let wish = tcp("new", 80, HostPort::Fixed(8080));
        world.wait(network.publish(&wish)).unwrap();
        world.close(network);
    });
}

#[test]
fn teardown_after_a_kill_leaves_nothing() {
    in_world(|world| {
        sysctl::set("ipv4/ip_forward", "0").unwrap();
        let network = world.open();
        let web = world.container(&network, "web");
        world.task(&network, 'a', 10);
        world.wait(network.attach_none("alone")).unwrap();
        let wish = tcp("web", 80, HostPort::Dynamic);
        world.wait(network.publish(&wish)).unwrap();
        let left = leftovers("mn");
        for wanted in ["mn-vpc", "mn-br", "minato-mn", "task-a-10", "none-"] {
            assert!(left.iter().any(|l| l.contains(wanted)), "{left:?}");
        }
        assert!(is_pinned(web.netns.as_ref().unwrap()));
        drop(network);
        assert_eq!(sysctl::get("ipv4/ip_forward").unwrap(), "1");
        let network = world.open();
        world.close(network);
        assert_eq!(sysctl::get("ipv4/ip_forward").unwrap(), "0");
    });
}

#[test]
fn what_is_left_can_be_removed_without_opening() {
    in_world(|world| {
        let run_dir = world.config().run_dir;
        for _ in 0..2 {
            // First there is nothing at all.
            world.wait(Network::remove("mn", &run_dir)).unwrap();
            assert_eq!(leftovers("mn"), Vec::<String>::new());
            let network = world.open();
            world.task(&network, 'a', 10);
            world.container(&network, "web");
            let wish = tcp("web", 80, HostPort::Fixed(8080));
            world.wait(network.publish(&wish)).unwrap();
        }
        world.wait(Network::remove("mn", &run_dir)).unwrap();
        assert_eq!(leftovers("mn"), Vec::<String>::new());
        assert_eq!(std::fs::read_dir(run_dir).unwrap().count(), 0);
    });
}

#[test]
fn nothing_comes_back_after_a_teardown() {
    in_world(|world| {
        let network = world.open();
        let clone = network.clone();
        world.close(network);
        world.wait(clone.reassert()).unwrap();
        assert_eq!(leftovers("mn"), Vec::<String>::new());
        world.close(clone);
    });
}

#[test]
fn two_networks_live_on_one_host() {
    in_world(|world| {
        sysctl::set("ipv4/ip_forward", "0").unwrap();
        let one = world.open();
        let mut config = world.config();
        config.name = "other1".to_owned();
        let error = world.wait(Network::open(config.clone())).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("through mn-vpc"), "{text}");
        config.subnets = vec![subnet("subnet-a", "10.99.0.0/24")];
        let two = world.wait(Network::open(config)).unwrap();
        assert_ne!(one.bridge_cidr(), two.bridge_cidr());
        let web = world.container(&one, "web");
        let same = world.container(&two, "web");
        assert_ne!(web.netns, same.netns);
        let _server = world.serve(&same, Protocol::Tcp, 80);
        world.wait(one.teardown()).unwrap();
        assert_eq!(leftovers("mn"), Vec::<String>::new());
        assert!(world.ask(&world.host(), (same.ip, 80)).is_ok());
        assert_eq!(sysctl::get("ipv4/ip_forward").unwrap(), "1");
        world.wait(two.teardown()).unwrap();
        assert_eq!(leftovers("other1"), Vec::<String>::new());
    });
}

#[test]
fn ranges_in_use_are_refused_by_name_of_the_option() {
    in_world(|world| {
        // An EC2 machine in the default VPC.
        let mut socket = Socket::open(Family::Route).unwrap();
        let mac = MacAddress([2, 0, 0, 0, 0, 1]);
        route::bridge_create(&mut socket, "eth9", mac, 1500).unwrap();
        let link = route::link(&mut socket, "eth9").unwrap().unwrap().index;
        let address = addr("172.31.5.4");
        let own = Address { link, address, prefix_len: 20 };
        route::address_add(&mut socket, &own).unwrap();
        let error = world.wait(Network::open(world.config())).unwrap_err();
        assert_eq!(
            error.to_string(),
            "range 172.31.0.0/20 overlaps 172.31.0.0/20, which this host \
             already reaches through eth9; choose another range with \
             --vpc-cidr"
        );
        let mut config = world.config();
        config.subnets.clear();
        config.bridge_cidr = Some("172.31.0.0/16".parse().unwrap());
        let error = world.wait(Network::open(config)).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("--bridge-cidr"), "{text}");
        assert_eq!(leftovers("mn"), Vec::<String>::new());
    });
}

#[test]
fn the_bridges_own_range_is_free_and_stays() {
    in_world(|world| {
        let mut socket = Socket::open(Family::Route).unwrap();
        let mac = MacAddress([2, 0, 0, 0, 0, 1]);
        route::bridge_create(&mut socket, "docker0", mac, 1500).unwrap();
        let link = route::link(&mut socket, "docker0").unwrap().unwrap().index;
        let address = addr("172.17.0.1");
        let docker = Address { link, address, prefix_len: 16 };
        route::address_add(&mut socket, &docker).unwrap();
        let network = world.open();
        assert_eq!(network.bridge_cidr().to_string(), "172.18.0.0/16");
        drop(network);
        route::link_delete(&mut socket, "docker0").unwrap();
        let network = world.open();
        assert_eq!(network.bridge_cidr().to_string(), "172.18.0.0/16");
        world.close(network);
    });
}

#[test]
fn the_probe_finds_this_machine_fit_and_leaves_nothing() {
    in_world(|_| {
        probe().unwrap();
        assert_eq!(leftovers("probe"), Vec::<String>::new());
        let run_dir = std::env::temp_dir()
            .join(format!("minato-probe-{}", std::process::id()));
        assert!(!run_dir.exists());
    });
}

#[test]
fn impossible_configurations_are_refused() {
    in_world(|world| {
        for name in ["", "Minato", "toolong", "a-b", "1a", "a/b"] {
            let mut config = world.config();
            config.name = name.to_owned();
            let error = world.wait(Network::open(config)).unwrap_err();
            assert!(matches!(error, OpenNetworkError::InvalidName { .. }));
        }
        type Spoil = fn(&mut NetworkConfig);
        let spoilers: [(Spoil, &str); 4] = [
            (|c| c.subnets[0].gateway = addr("10.0.0.1"), "gateway"),
            (|c| c.subnets[0].gateway = addr("172.31.0.0"), "gateway"),
            (|c| c.subnets[1] = subnet("x", "172.31.8.0/24"), "overlaps"),
            (|c| c.bridge_cidr = "10.0.0.0/30".parse().ok(), "prefix"),
        ];
        for (spoil, wanted) in spoilers {
            let mut config = world.config();
            spoil(&mut config);
            let error = world.wait(Network::open(config)).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(wanted), "{text}");
        }
        assert_eq!(leftovers("mn"), Vec::<String>::new());
    });
}
