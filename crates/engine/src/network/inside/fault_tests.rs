//! Impairments on a loopback interface. They need a kernel that has netem:
//! `scripts/test-cgroup-v2` runs them in a guest with one.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use tokio::time::Instant;

use super::*;

const LO: Ipv4Addr = Ipv4Addr::LOCALHOST;
const SPARED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// Runs `test` in a network namespace of its own whose loopback is up.
fn alone(test: impl FnOnce(&mut Socket) + Send + 'static) {
    let run = || {
        unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
        let mut socket = Socket::route().unwrap();
        route::link_up(&mut socket, route::LOOPBACK).unwrap();
        test(&mut socket);
    };
    if let Err(panic) = std::thread::spawn(run).join() {
        std::panic::resume_unwind(panic);
    }
}

/// Whether this kernel has what impairments need; elsewhere, that it is
/// missed is what can be tested.
fn has_netem() -> bool {
    match probe_faults() {
        Ok(()) => true,
        Err(error) => {
            let what = error.to_string();
            assert!(what.contains("sch_netem"), "{what}");
            assert_eq!(error.cause().raw_os_error(), Some(libc::ENOENT));
            eprintln!("skipped: {what}: {}", error.cause());
            false
        }
    }
}

/// How long a connection takes to `to`, if it comes about within `limit`.
fn connect(
    listener: &TcpListener,
    to: Ipv4Addr,
    limit: Duration,
) -> Option<Duration> {
    let port = listener.local_addr().unwrap().port();
    let start = Instant::now();
    TcpStream::connect_timeout(&(to, port).into(), limit).ok()?;
    Some(start.elapsed())
}

fn range(text: &str) -> IpRange {
    text.parse().unwrap()
}

#[test]
fn what_is_sent_to_the_sources_is_late_or_lost_until_it_is_stopped() {
    if !has_netem() {
        return;
    }
    alone(|socket| {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let lo = route::LOOPBACK;
        let (long, delay) = (Duration::from_secs(20), 300);
        let late = Duration::from_millis(delay);
        let sources = [range("127.0.0.0/8"), range("::/0")];
        let spared = [range("127.0.0.3"), range("fd00::/8")];
        assert_eq!(tc::impairment(socket, lo).unwrap(), None);
        let latency = Impairment::Latency { delay_ms: delay, jitter_ms: 0 };
        tc::impair(socket, lo, &latency, &sources, &spared).unwrap();
        let found = tc::impairment(socket, lo).unwrap();
        assert_eq!(found, Some(ImpairmentKind::Latency));
        assert!(connect(&listener, LO, long).unwrap() >= late);
        // Answers come from the address called, which is spared, to the
        // caller's, which is not: what goes out is on time.
        let to_spared = connect(&listener, SPARED, long).unwrap();
        assert!(to_spared < late * 2, "{to_spared:?}");
        // A second one is refused, and the first one stays.
        assert!(tc::impair(socket, lo, &latency, &sources, &[]).is_err());
        tc::clear(socket, lo).unwrap();
        tc::clear(socket, lo).unwrap();
        assert_eq!(tc::impairment(socket, lo).unwrap(), None);
        assert!(connect(&listener, LO, long).unwrap() < late);

        let loss = Impairment::PacketLoss { percent: 100 };
        tc::impair(socket, lo, &loss, &[range("127.0.0.1")], &[]).unwrap();
        let found = tc::impairment(socket, lo).unwrap();
        assert_eq!(found, Some(ImpairmentKind::PacketLoss));
        assert_eq!(connect(&listener, LO, late), None);
        tc::clear(socket, lo).unwrap();
        assert!(connect(&listener, LO, long).is_some());
    });
}

#[test]
fn a_discipline_of_the_administrators_stays() {
    alone(|socket| {
        let lo = route::LOOPBACK;
        if tc::others_root(socket, lo).is_err() {
            // This kernel has no such discipline.
            return;
        }
        let loss = Impairment::PacketLoss { percent: 1 };
        let peer = [range("127.0.0.1")];
        tc::impair(socket, lo, &loss, &peer, &[]).unwrap_err();
        tc::clear(socket, lo).unwrap();
        // It is still in the way.
        assert!(tc::others_root(socket, lo).is_err());
    });
}

#[test]
fn what_this_kernel_lacks_leaves_nothing_behind() {
    alone(|socket| {
        let lo = route::LOOPBACK;
        let loss = Impairment::PacketLoss { percent: 1 };
        let peer = [range("127.0.0.1")];
        let made = tc::impair(socket, lo, &loss, &peer, &[]);
        assert_eq!(made.is_ok(), has_netem());
        tc::clear(socket, lo).unwrap();
        assert_eq!(tc::impairment(socket, lo).unwrap(), None);
    });
}
