//! Hosts on which dockerd or a firewall also decides who may talk.

use std::process::Command;

use super::*;

/// Runs a firewall program; `false` where it is not installed.
fn run(program: &str, arguments: &str) -> bool {
    let mut command = Command::new(program);
    match command.args(arguments.split_whitespace()).output() {
        Ok(output) => {
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{program} {arguments}: {told}");
            true
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => panic!("{program}: {error}"),
    }
}

/// What dockerd does to iptables when it starts.
fn start_dockerd(iptables: &str) -> bool {
    run(iptables, "-N DOCKER-USER")
        && run(iptables, "-A DOCKER-USER -j RETURN")
        && run(iptables, "-I FORWARD -j DOCKER-USER")
        && run(iptables, "-P FORWARD DROP")
}

fn everyone_talks(world: &World, network: &Network, outside: &Place) {
    let a = world.task(network, 'a', 10);
    let b = world.task(network, 'a', 11);
    let web = world.container(network, "web");
    let _a = world.serve(&a, Protocol::Tcp, 80);
    let _b = world.serve(&b, Protocol::Tcp, 80);
    let _web = world.serve(&web, Protocol::Tcp, 80);
    let _outside = world.serve(outside, Protocol::Tcp, 80);
    let wish = tcp("web", 80, HostPort::Fixed(8080));
    world.wait(network.publish(&wish)).unwrap();
    for (who, place, address) in [
        ("task to task", &a, (b.ip, 80)),
        ("task to outside", &a, (outside.ip, 80)),
        ("container to task", &web, (b.ip, 80)),
        ("outside to published port", outside, (addr("198.51.100.1"), 8080)),
        ("container to itself", &web, (addr("198.51.100.1"), 8080)),
    ] {
        let answer = world.ask(place, address);
        assert!(answer.is_ok(), "{who}: {answer:?}");
    }
}

fn survives_dockerd(iptables: &'static str) {
    in_world(move |world| {
        let outside = world.outside();
        if !start_dockerd(iptables) {
            eprintln!("{iptables} is not installed: nothing to test");
            return world.remove_outside(outside);
        }
        let network = world.open();
        everyone_talks(world, &network, &outside);
        // Repeating adds nothing.
        world.wait(network.reassert()).unwrap();
        let rules = rules_of(iptables);
        let ours = rules.iter().filter(|rule| rule.contains("mn-")).count();
        assert_eq!(ours, 4, "{rules:?}");
        world.close(network);
        let rules = rules_of(iptables);
        assert!(!rules.iter().any(|rule| rule.contains("mn-")), "{rules:?}");
        world.remove_outside(outside);
    });
}

fn rules_of(iptables: &str) -> Vec<String> {
    let output = Command::new(iptables).arg("-S").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_running_dockerd_is_lived_with() {
    survives_dockerd("iptables-nft");
}

#[test]
fn a_running_dockerd_on_legacy_iptables_is_lived_with() {
    survives_dockerd("iptables-legacy");
}

/// What each of the two interfaces, and everybody, may do.
fn all_open() -> Firewall {
    let peer = Peer::Range("0.0.0.0/0".parse().unwrap());
    let all = GroupRule { traffic: Traffic::All, peer };
    let rules = std::collections::BTreeSet::from([all]);
    let group = SecurityGroup { ingress: rules.clone(), egress: rules };
    let mut firewall = Firewall::default();
    firewall.groups.insert("sg-1".to_owned(), group);
    for last in [10, 11] {
        let groups = ["sg-1".to_owned()].into();
        firewall.interfaces.insert(eni('a', last).ip.into(), groups);
    }
    firewall
}

#[test]
fn security_groups_and_a_dockerd_live_together() {
    in_world(|world| {
        let outside = world.outside();
        start_dockerd("iptables-nft");
        let config = NetworkConfig { security_groups: true, ..world.config() };
        let network = world.wait(Network::open(config)).unwrap();
        world.wait(network.firewall_set(&all_open())).unwrap();
        everyone_talks(world, &network, &outside);
        world.close(network);
        world.remove_outside(outside);
    });
}

#[test]
fn a_dockerd_that_starts_later_is_lived_with() {
    in_world(|world| {
        let outside = world.outside();
        let network = world.open();
        if start_dockerd("iptables-nft") {
            world.wait(network.reassert()).unwrap();
        }
        everyone_talks(world, &network, &outside);
        world.close(network);
        world.remove_outside(outside);
    });
}

#[test]
fn a_forward_policy_alone_is_lived_with() {
    in_world(|world| {
        let outside = world.outside();
        run("iptables-nft", "-P FORWARD DROP");
        let network = world.open();
        everyone_talks(world, &network, &outside);
        world.close(network);
        world.remove_outside(outside);
    });
}

#[test]
fn rules_flushed_by_others_are_put_back() {
    in_world(|world| {
        let outside = world.outside();
        let network = world.open();
        everyone_talks(world, &network, &outside);
        let mut socket = Socket::open(Family::Netfilter).unwrap();
        firewall::table_delete(&mut socket, "mn").unwrap();
        sysctl::set("ipv4/ip_forward", "0").unwrap();
        world.wait(network.reassert()).unwrap();
        everyone_talks(world, &network, &outside);
        world.close(network);
        world.remove_outside(outside);
    });
}

#[test]
fn firewalls_that_only_their_owner_can_open_are_named() {
    in_world(|world| {
        assert_eq!(closed_firewalls("mn").unwrap(), Vec::<String>::new());
        let closed = "add chain inet mine forward { type filter hook forward \
             priority 0; policy drop; }";
        if !run("nft", "add table inet mine") || !run("nft", closed) {
            return;
        }
        let network = world.open();
        let found = closed_firewalls("mn").unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("rule inet mine forward"), "{found:?}");
        // The cure it names is one.
        let cures = found[0].split_once(": ").unwrap().1;
        for cure in cures.replace(['\'', '"'], "").split("; ") {
            run("nft", cure.strip_prefix("nft ").unwrap());
        }
        let outside = world.outside();
        everyone_talks(world, &network, &outside);
        world.close(network);
        world.remove_outside(outside);
    });
}

/// Administrators save the rules of a host and load them at its next start.
#[test]
fn our_rules_can_be_listed_saved_and_loaded() {
    in_world(|world| {
        let network = world.open();
        let web = world.container(&network, "web");
        let wish = tcp("web", 80, HostPort::Fixed(8080));
        world.wait(network.publish(&wish)).unwrap();
        let list = || {
            let table = ["list", "table", "ip", "minato-mn"];
            let output = Command::new("nft").args(table).output().ok()?;
            Some(String::from_utf8_lossy(&output.stdout).into_owned())
        };
        let Some(saved) = list() else { return };
        let element = format!("tcp . 8080 : {} . 80", web.ip);
        assert!(saved.contains(&element), "{saved}");
        let file = world.dir.path().join("rules.nft");
        std::fs::write(&file, &saved).unwrap();
        run("nft", "delete table ip minato-mn");
        run("nft", &format!("-f {}", file.display()));
        assert_eq!(list(), Some(saved));
        world.wait(network.reassert()).unwrap();
        let _server = world.serve(&web, Protocol::Tcp, 80);
        let lo = Ipv4Addr::LOCALHOST;
        assert!(world.ask(&world.host(), (lo, 8080)).is_ok());
        drop(network);
        let network = world.open();
        assert!(world.ask(&world.host(), (lo, 8080)).is_ok());
        world.close(network);
    });
}
