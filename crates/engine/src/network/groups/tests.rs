//! The kernel's rules against what groups mean.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::collection::{btree_map, btree_set};
use proptest::prelude::*;
use proptest::sample::select;

use super::evaluate::Packet;
use super::layout::Layout;
use super::*;
use crate::network::family::{address as address_in, octets};
use crate::network::nft::model::{Outcome, Seen};

const GROUPS: [&str; 4] = ["sg-1", "sg-2", "sg-3", "sg-4"];

/// Few, so that rules and packets often meet.
fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![3 => address_of(IpFamily::V4), 2 => address_of(IpFamily::V6)]
}

fn address_of(family: IpFamily) -> BoxedStrategy<IpAddr> {
    match family {
        IpFamily::V4 => {
            let near = (1..6u8).prop_map(|it| Ipv4Addr::new(172, 31, 0, it));
            let far = any::<u32>().prop_map(Ipv4Addr::from_bits);
            prop_oneof![4 => near, 1 => far].prop_map(IpAddr::V4).boxed()
        }
        IpFamily::V6 => {
            let near = (1..6u16)
                .prop_map(|it| Ipv6Addr::new(0xfd12, 0, 0, 0, 0, 0, 0, it));
            let far = any::<u128>().prop_map(Ipv6Addr::from_bits);
            prop_oneof![4 => near, 1 => far].prop_map(IpAddr::V6).boxed()
        }
    }
}

fn family() -> impl Strategy<Value = IpFamily> {
    select(&[IpFamily::V4, IpFamily::V6][..])
}

fn group() -> impl Strategy<Value = String> {
    select(&GROUPS[..]).prop_map(str::to_owned)
}

fn port() -> impl Strategy<Value = u16> {
    prop_oneof![select(&[0, 1, 79, 80, 81, 443, u16::MAX][..]), any::<u16>()]
}

fn protocol() -> impl Strategy<Value = Protocol> {
    select(&[Protocol::Tcp, Protocol::Udp][..])
}

fn traffic() -> impl Strategy<Value = Traffic> {
    let ports = |(protocol, a, b): (_, u16, u16)| {
        let (first, last) = (a.min(b), a.max(b));
        Traffic::Ports { protocol, first, last }
    };
    let byte = || proptest::option::of(0..4u8);
    let icmp = |(kind, code)| Traffic::Icmp { kind, code };
    prop_oneof![
        Just(Traffic::All),
        (protocol(), port(), port()).prop_map(ports),
        (protocol(), port()).prop_map(move |(p, a)| ports((p, a, a))),
        protocol().prop_map(move |protocol| ports((protocol, 0, u16::MAX))),
        (byte(), byte()).prop_map(icmp),
        (byte(), byte())
            .prop_map(|(kind, code)| Traffic::Icmpv6 { kind, code }),
        select(&[1, 6, 17, 47, 58][..]).prop_map(Traffic::Number),
    ]
}

fn rule() -> impl Strategy<Value = GroupRule> {
    // Where an IPv4 prefix is long, an IPv6 one is by as much as it can be.
    let range = |(address, prefix): (IpAddr, u8)| {
        let prefix = match address {
            IpAddr::V6(_) if prefix > 8 => prefix + 96,
            IpAddr::V6(_) | IpAddr::V4(_) => prefix,
        };
        Peer::Range(IpCidr::new(address, prefix).unwrap())
    };
    let prefix = select(&[0, 1, 8, 29, 30, 31, 32][..]);
    let peer = prop_oneof![
        (address(), prefix).prop_map(range),
        group().prop_map(Peer::Group),
    ];
    (traffic(), peer).prop_map(|(traffic, peer)| GroupRule { traffic, peer })
}

fn any_firewall() -> impl Strategy<Value = Firewall> {
    let group_of = (btree_set(rule(), 0..4), btree_set(rule(), 0..4))
        .prop_map(|(ingress, egress)| SecurityGroup { ingress, egress });
    (
        btree_map(group(), group_of, 0..5),
        btree_map(group(), btree_set(address(), 0..5), 0..5),
        btree_map(address(), btree_set(group(), 0..4), 0..6),
    )
        .prop_map(|(groups, members, interfaces)| Firewall {
            groups,
            members,
            interfaces,
        })
}

fn packet() -> impl Strategy<Value = Packet> {
    let number = select(&[1, 6, 17, 47, 50, 58][..]);
    let icmp = (0..4u8, 0..4u8);
    let ends = family().prop_flat_map(|it| (address_of(it), address_of(it)));
    (number, ends, port(), icmp).prop_map(
        |(protocol, (source, destination), port, icmp)| Packet {
            protocol,
            source,
            destination,
            port,
            icmp,
        },
    )
}

fn seen(packet: &Packet) -> Seen {
    let mut network = match packet.source {
        IpAddr::V4(_) => {
            let mut start = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64];
            start.extend([packet.protocol, 0, 0]);
            start
        }
        IpAddr::V6(_) => vec![0x60, 0, 0, 0, 0, 8, packet.protocol, 64],
    };
    network.extend(octets(packet.source));
    network.extend(octets(packet.destination));
    let transport = if matches!(packet.protocol, 1 | 58) {
        vec![packet.icmp.0, packet.icmp.1, 0, 0, 0, 0, 0, 0]
    } else {
        let [high, low] = packet.port.to_be_bytes();
        vec![9, 9, high, low, 0, 0, 0, 0]
    };
    Seen { network, transport }
}

/// What the kernel's objects let through: no chain, and the end of one, drop.
fn lets_through(
    layout: &Layout,
    direction: Direction,
    packet: &Packet,
) -> bool {
    let chain = match direction {
        Direction::Ingress => layout.ingress.get(&packet.destination),
        Direction::Egress => layout.egress.get(&packet.source),
    };
    chain.is_some_and(|chain| accepts(layout, chain, &seen(packet)))
}

fn accepts(layout: &Layout, chain: &str, seen: &Seen) -> bool {
    let has = |set: &str, key: &[u8]| {
        layout.sets[set].contains(&address_in(key).unwrap())
    };
    layout.chains[chain].iter().any(|rule| match rule.run(seen, &has) {
        Outcome::Accept => true,
        Outcome::Drop => panic!("groups only allow"),
        Outcome::Jump(chain) => accepts(layout, &chain, seen),
        Outcome::Next => false,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_kernels_rules_mean_what_the_groups_mean(
        firewall in any_firewall(),
        packets in proptest::collection::vec(packet(), 20),
    ) {
        let none = BTreeSet::new();
        for packet in packets {
            let family = IpFamily::of(packet.source);
            let layout = Layout::of(&firewall, &none, family);
            for direction in [Direction::Ingress, Direction::Egress] {
                prop_assert_eq!(
                    lets_through(&layout, direction, &packet),
                    firewall.allows(direction, &packet),
                    "{:?} {:?}", direction, packet
                );
            }
        }
    }
}

#[test]
fn one_more_member_is_an_element_of_its_set_and_of_each_map() {
    let ip = |last| IpAddr::from([172, 31, 0, last]);
    let all =
        GroupRule { traffic: Traffic::All, peer: Peer::Group("sg-1".into()) };
    let rules = BTreeSet::from([all]);
    let group = SecurityGroup { ingress: rules.clone(), egress: rules };
    let groups = BTreeSet::from(["sg-1".to_owned()]);
    let mut firewall = Firewall::default();
    firewall.groups.insert("sg-1".into(), group);
    let mut add = |last| {
        firewall.interfaces.insert(ip(last), groups.clone());
        firewall.members.entry("sg-1".into()).or_default().insert(ip(last));
        Layout::of(&firewall, &BTreeSet::new(), IpFamily::V4)
    };
    let (before, after) = (add(4), add(5));
    assert_eq!(after.changes("t", &before).len(), 3);
    assert_eq!(before.changes("t", &after).len(), 3);
    assert!(after.changes("t", &after).is_empty());
}

#[test]
fn ids_that_no_chain_can_be_called_allow_nothing() {
    let all = GroupRule {
        traffic: Traffic::All,
        peer: Peer::Range("0.0.0.0/0".parse().unwrap()),
    };
    let rules = BTreeSet::from([all]);
    for id in ["", "a b", "../x", "ü", &"g".repeat(41), "a\0b"] {
        let mut firewall = Firewall::default();
        let group =
            SecurityGroup { ingress: rules.clone(), egress: rules.clone() };
        firewall.groups.insert(id.to_owned(), group);
        let interface = IpAddr::from([172, 31, 0, 4]);
        let ids = BTreeSet::from([id.to_owned()]);
        firewall.interfaces.insert(interface, ids);
        let none = BTreeSet::new();
        let layout = Layout::of(&firewall, &none, IpFamily::V4);
        assert!(layout.chains.is_empty(), "{id:?}");
        assert!(layout.ingress.is_empty(), "{id:?}");
    }
}

#[test]
fn who_lets_the_host_in_lets_its_containers_in() {
    let rule = |id: &str, first: u16| GroupRule {
        traffic: Traffic::Ports { protocol: Protocol::Tcp, first, last: first },
        peer: Peer::Group(id.into()),
    };
    let (host, other) =
        (IpAddr::from([172, 31, 0, 1]), IpAddr::from([172, 31, 0, 4]));
    let mut firewall = Firewall::default();
    firewall.members.insert("sg-host".into(), [host, other].into());
    firewall.members.insert("sg-other".into(), [other].into());
    let group = SecurityGroup {
        ingress: [rule("sg-host", 80), rule("sg-other", 81)].into(),
        egress: BTreeSet::new(),
    };
    firewall.groups.insert("sg-1".into(), group);
    let range: Ipv4Cidr = "172.17.0.0/16".parse().unwrap();
    firewall.take_in(&[host].into(), range);
    let peer = Peer::Range(range.into());
    let added = GroupRule { peer, ..rule("sg-host", 80) };
    assert_eq!(
        firewall.groups["sg-1"].ingress,
        [rule("sg-host", 80), rule("sg-other", 81), added].into()
    );
    assert!(firewall.groups["sg-1"].egress.is_empty());
}
