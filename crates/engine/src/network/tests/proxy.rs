//! Connections that are led through a task's proxy, with real sockets.

use super::*;

const INGRESS: u16 = 15_000;
const EGRESS: u16 = 15_001;
const PROXY_USER: u32 = 1337;
const PROXY_GROUP: u32 = 1338;

fn rules() -> ProxyRules {
    ProxyRules {
        ignored_uid: Some(PROXY_USER),
        ignored_gid: Some(PROXY_GROUP),
        ingress_port: INGRESS,
        egress_port: EGRESS,
        app_ports: vec![80, 81],
        egress_ignored_ports: vec![22],
        egress_ignored_ranges: vec![
            "172.31.16.13".parse().unwrap(),
            "fd00::/8".parse().unwrap(),
        ],
    }
}

/// Serves with the port's own name as the answer.
fn serve_named(world: &World, place: &Place, port: u16) -> Server {
    let address = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port);
    let listener = world.at(place, move || TcpListener::bind(address)).unwrap();
    let own = listener.try_clone().unwrap();
    let name = format!("{}:{port}", place.ip);
    let thread = std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.write_all(name.as_bytes());
            let _ = stream.shutdown(Shutdown::Write);
        }
    });
    let is_over = Arc::default();
    Server { is_over, listener: Some(own), thread: Some(thread) }
}

/// Who answers a call to `to` by a process with the ids given.
fn answer_to(
    world: &World,
    place: &Place,
    ids: (u32, u32),
    to: (Ipv4Addr, u16),
) -> String {
    world.at(place, move || {
        // Of the thread only, which ends with the call.
        rustix::thread::set_thread_gid(rustix::thread::Gid::from_raw(ids.1))
            .unwrap();
        rustix::thread::set_thread_uid(rustix::thread::Uid::from_raw(ids.0))
            .unwrap();
        let address = SocketAddr::from(to);
        let mut stream =
            TcpStream::connect_timeout(&address, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    })
}

#[test]
fn what_goes_out_goes_through_the_proxy_but_for_its_own_and_the_exempt() {
    in_world(|world| {
        let network = world.open();
        let task = world.task(&network, 'a', 10);
        let peer = world.task(&network, 'b', 12);
        let spared = world.task(&network, 'b', 13);
        // A repeat, as after a crash.
        for _ in 0..2 {
            world.wait(network.proxy_set("task-a-10", &rules())).unwrap();
        }
        let _servers = [
            (&task, EGRESS),
            (&task, 80),
            (&peer, 80),
            (&peer, 22),
            (&spared, 80),
        ]
        .map(|(at, port)| serve_named(world, at, port));
        let (anybody, user) = ((0, 0), (PROXY_USER, 7));
        let group = (7, PROXY_GROUP);
        let proxy = format!("{}:{EGRESS}", task.ip);
        let direct = |to: (Ipv4Addr, u16)| format!("{}:{}", to.0, to.1);
        let far = (peer.ip, 80);
        for (ids, to, expected) in [
            (anybody, far, proxy.clone()),
            // Whatever is there, if anything.
            (anybody, (peer.ip, 9), proxy.clone()),
            (anybody, (addr("203.0.113.9"), 443), proxy.clone()),
            (user, far, direct(far)),
            (group, far, direct(far)),
            (anybody, (peer.ip, 22), direct((peer.ip, 22))),
            (anybody, (spared.ip, 80), direct((spared.ip, 80))),
            // What stays within the task is not led anywhere.
            (anybody, (Ipv4Addr::LOCALHOST, 80), direct((task.ip, 80))),
            (anybody, (task.ip, 80), direct((task.ip, 80))),
        ] {
            let answer = answer_to(world, &task, ids, to);
            assert_eq!(answer, expected, "{ids:?} to {to:?}");
        }
        // Neighbours are none of its business, and neither is UDP.
        assert_eq!(answer_to(world, &spared, anybody, far), direct(far));
        let _udp = world.serve(&peer, Protocol::Udp, 80);
        assert_eq!(world.ask_udp(&task, far), task.ip.to_string());
        world.close(network);
    });
}

#[test]
fn what_comes_in_for_an_application_goes_to_the_proxy() {
    in_world(|world| {
        let network = world.open();
        let task = world.task(&network, 'a', 10);
        let peer = world.task(&network, 'b', 12);
        world.wait(network.proxy_set("task-a-10", &rules())).unwrap();
        let _servers =
            [INGRESS, 80, 90].map(|port| serve_named(world, &task, port));
        let ask = |port| answer_to(world, &peer, (0, 0), (task.ip, port));
        let proxy = format!("{}:{INGRESS}", task.ip);
        assert_eq!(ask(80), proxy);
        assert_eq!(ask(81), proxy);
        assert_eq!(ask(90), format!("{}:90", task.ip));
        // From the host too, as health checks come.
        let host = world.host();
        assert_eq!(answer_to(world, &host, (0, 0), (task.ip, 80)), proxy);
        // A task without a network has no connections to lead.
        assert!(world.wait(network.proxy_set("gone", &rules())).is_err());
        world.close(network);
    });
}
