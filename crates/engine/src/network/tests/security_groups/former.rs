//! What is left of those who had an address before.

use super::*;

/// A client at `from` that keeps its socket; whether it is answered.
fn talker(
    world: &World,
    from: &Place,
    to: (Ipv4Addr, u16),
) -> impl Fn(Duration) -> bool + use<> {
    let socket = world.at(from, move || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect(to).unwrap();
        socket
    });
    move |limit| {
        socket.set_read_timeout(Some(limit)).unwrap();
        let _ = socket.send(b"?");
        socket.recv(&mut [0; 64]).is_ok()
    }
}

#[test]
fn the_next_holder_of_an_address_gets_no_connections_with_it() {
    in_world(|world| {
        let mut network = world.open_guarded();
        let a = world.task(&network, 'a', 10);
        let shared = eni('a', 11);
        let asks = talker(world, &a, (shared.ip, 53));
        let closed = Rules::default()
            .interface(a.ip, &["sg-a"])
            .open_egress("sg-a")
            .interface(shared.ip, &["sg-b"]);
        let open = closed.clone().ingress("sg-b", udp_port(53), "sg-a");
        // A holder that leaves, then one that leaves while nobody looks.
        for (id, is_restarted) in [("one", false), ("two", true), ("3", false)]
        {
            let holder = TaskEni { task_id: id.to_owned(), ..shared.clone() };
            let netns = world.wait(network.attach_task(&holder)).unwrap();
            let holder = Place { netns: Some(netns), ip: holder.ip };
            world.set(&network, &closed);
            let server = world.serve(&holder, Protocol::Udp, 53);
            assert!(!asks(SILENCE), "the holder {id} was reached");
            world.set(&network, &open);
            assert!(asks(PATIENCE));
            drop(server);
            world.wait(network.detach_task(id)).unwrap();
            if is_restarted {
                drop(network);
                network = world.open_guarded();
            }
        }
        world.close(network);
    });
}

#[test]
fn an_interface_in_the_making_is_not_taken_for_gone() {
    in_world(|world| {
        let network = world.open_guarded();
        let shared = eni('a', 10);
        for round in 0..10 {
            // An address that comes round again has the kernel asked, while
            // another's interface is not there yet.
            let id = format!("again-{round}");
            let again = TaskEni { task_id: id.clone(), ..shared.clone() };
            let first = eni('b', 20 + round);
            world.wait(async {
                let (first, again) = tokio::join!(
                    network.attach_task(&first),
                    network.attach_task(&again),
                );
                first.and(again).unwrap();
            });
            let former = network.inner.former.lock();
            assert!(former.knows(first.ip.into()), "round {round}");
            drop(former);
            world.wait(network.detach_task(&id)).unwrap();
        }
        world.close(network);
    });
}
