//! Networks in a world of their own: each test runs on a thread with its own
//! network and mount namespaces, which plays the host.

mod attachments;
mod coexistence;
mod endpoint;
mod faults;
mod ipv6;
mod kills;
mod proxy;
mod published_ports;
mod recovery;
mod security_groups;

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{
    IpAddr, Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener,
    TcpStream, UdpSocket,
};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::netlink::{Family, Socket};
use super::route::{self, Address, Veth};
use super::*;

/// Far more than a packet needs; only failures wait for it.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long something that must not arrive is given to arrive.
const SILENCE: Duration = Duration::from_millis(300);

/// A host of its own, with its loopback up.
struct World {
    dir: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    host: File,
}

/// Runs `test` in a new world and checks that its networks left nothing.
fn in_world(test: impl FnOnce(&World) + Send + 'static) {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
            .expect("these tests need root");
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        let mut socket = Socket::open(Family::Route).unwrap();
        route::link_up(&mut socket, route::LOOPBACK).unwrap();
        let world = World {
            dir: tempfile::tempdir().unwrap(),
            runtime: tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap(),
            host: File::open(namespace::OWN_NAMESPACE).unwrap(),
        };
        test(&world);
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

impl World {
    fn config(&self) -> NetworkConfig {
        config(self.dir.path().join("run"))
    }

    fn open(&self) -> Network {
        self.wait(Network::open(self.config())).unwrap()
    }

    fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Takes the network down and checks that nothing of it is left.
    fn close(&self, network: Network) {
        self.wait(network.teardown()).unwrap();
        assert_eq!(leftovers("mn"), Vec::<String>::new());
        let run_dir = self.dir.path().join("run");
        let left: Vec<_> = std::fs::read_dir(run_dir).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }

    /// Waits until `is_so`, which the kernel brings about in its own time.
    fn soon(&self, mut is_so: impl FnMut() -> bool, what: &str) {
        let start = tokio::time::Instant::now();
        while !is_so() {
            assert!(start.elapsed() < PATIENCE, "not so in time: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A task in subnet `a` or `b` whose address ends in `last`.
    fn task(&self, network: &Network, subnet: char, last: u8) -> Place {
        let eni = eni(subnet, last);
        let netns = self.wait(network.attach_task(&eni)).unwrap();
        Place { netns: Some(netns), ip: eni.ip }
    }

    fn container(&self, network: &Network, id: &str) -> Place {
        let endpoint = self.wait(network.attach_bridge(id)).unwrap();
        Place { netns: Some(endpoint.netns), ip: endpoint.ip }
    }

    /// A machine on a network beyond the host, which knows no routes.
    fn outside(&self) -> Place {
        let path = self.dir.path().join("outside");
        let (address, ours) = (addr("198.51.100.2"), addr("198.51.100.1"));
        let mut host = Socket::open(Family::Route).unwrap();
        let mac = MacAddress::of_address(ours);
        route::bridge_create(&mut host, "wan", mac, 1500).unwrap();
        let bridge = route::link(&mut host, "wan").unwrap().unwrap().index;
        let on = |link, address| Address { link, address, prefix_len: 24 };
        route::address_add(&mut host, &on(bridge, ours)).unwrap();
        let pinned = path.clone();
        std::thread::spawn(move || {
            namespace::enter_or_create(&pinned).unwrap();
            let own = File::open(namespace::OWN_NAMESPACE).unwrap();
            let veth = Veth {
                name: "wan-port",
                bridge,
                mtu: 1500,
                peer_name: "eth0",
                peer_mac: MacAddress::of_address(address),
                peer_namespace: own.as_fd(),
            };
            route::veth_create(&mut host, &veth).unwrap();
            let mut inside = Socket::open(Family::Route).unwrap();
            let link = route::link(&mut inside, "eth0").unwrap().unwrap();
            let link = link.index;
            route::address_add(&mut inside, &on(link, address)).unwrap();
            route::link_up(&mut inside, link).unwrap();
        })
        .join()
        .unwrap();
        Place { netns: Some(path), ip: address }
    }

    fn remove_outside(&self, outside: Place) {
        let mut host = Socket::open(Family::Route).unwrap();
        route::link_delete(&mut host, "wan-port").unwrap();
        route::link_delete(&mut host, "wan").unwrap();
        namespace::unpin(&outside.netns.unwrap()).unwrap();
    }

    /// The world's host itself.
    fn host(&self) -> Place {
        Place { netns: None, ip: Ipv4Addr::LOCALHOST }
    }

    /// Runs `work` in the namespace of `place`.
    fn at<T: Send + 'static>(
        &self,
        place: &Place,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let namespace = match &place.netns {
            Some(path) => File::open(path).unwrap(),
            None => self.host.try_clone().unwrap(),
        };
        let thread = std::thread::spawn(move || {
            namespace::enter(&namespace).unwrap();
            work()
        });
        thread.join().unwrap()
    }

    /// Serves on `port` of all addresses of `place`; tells callers who they
    /// seem to be.
    fn serve(&self, place: &Place, protocol: Protocol, port: u16) -> Server {
        self.serve_at(place, protocol, (Ipv4Addr::UNSPECIFIED, port).into())
    }

    fn serve_at(
        &self,
        place: &Place,
        protocol: Protocol,
        address: SocketAddr,
    ) -> Server {
        match protocol {
            Protocol::Tcp => Server::tcp(
                self.at(place, move || TcpListener::bind(address)).unwrap(),
            ),
            Protocol::Udp => Server::udp(
                self.at(place, move || UdpSocket::bind(address)).unwrap(),
            ),
        }
    }

    fn answers(&self, place: &Place, (ip, port): (impl Into<IpAddr>, u16)) {
        let to = (ip.into(), port);
        let answer = self.ask(place, to);
        assert!(answer.is_ok(), "{place:?} to {to:?}: {answer:?}");
    }

    fn silent(&self, place: &Place, (ip, port): (impl Into<IpAddr>, u16)) {
        let to = (ip.into(), port);
        let answer = self.ask_within(place, to, SILENCE);
        assert!(answer.is_err(), "{place:?} to {to:?}: {answer:?}");
    }

    /// What the server at `address` answers a caller at `place`.
    fn ask(
        &self,
        place: &Place,
        address: (impl Into<IpAddr>, u16),
    ) -> io::Result<String> {
        self.ask_within(place, address, PATIENCE)
    }

    fn ask_within(
        &self,
        place: &Place,
        (ip, port): (impl Into<IpAddr>, u16),
        limit: Duration,
    ) -> io::Result<String> {
        let address = SocketAddr::from((ip.into(), port));
        self.at(place, move || {
            let mut stream = TcpStream::connect_timeout(&address, limit)?;
            stream.set_read_timeout(Some(limit))?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        })
    }

    fn ask_udp(&self, place: &Place, address: (Ipv4Addr, u16)) -> String {
        self.at(place, move || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.connect(address).unwrap();
            socket.send(b"?").unwrap();
            let mut answer = [0; 64];
            let length = socket.recv(&mut answer).unwrap();
            String::from_utf8_lossy(&answer[..length]).into_owned()
        })
    }
}

/// Somewhere to serve or to call from.
#[derive(Clone, Debug)]
struct Place {
    netns: Option<PathBuf>,
    ip: Ipv4Addr,
}

/// Stops when dropped.
struct Server {
    is_over: Arc<AtomicBool>,
    listener: Option<TcpListener>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn tcp(listener: TcpListener) -> Server {
        let own = listener.try_clone().unwrap();
        let thread = std::thread::spawn(move || {
            // A shut down listener answers with an error.
            while let Ok((mut stream, peer)) = listener.accept() {
                let _ = stream.write_all(peer.ip().to_string().as_bytes());
                let _ = stream.shutdown(Shutdown::Write);
            }
        });
        let is_over = Arc::default();
        Server { is_over, listener: Some(own), thread: Some(thread) }
    }

    fn udp(socket: UdpSocket) -> Server {
        let is_over = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&is_over);
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let thread = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                if let Ok((_, peer)) = socket.recv_from(&mut [0; 16]) {
                    let text = peer.ip().to_string();
                    let _ = socket.send_to(text.as_bytes(), peer);
                }
            }
        });
        Server { is_over, listener: None, thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(listener) = &self.listener {
            let _ =
                rustix::net::shutdown(listener, rustix::net::Shutdown::Both);
        }
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn config(run_dir: PathBuf) -> NetworkConfig {
    NetworkConfig {
        name: "mn".to_owned(),
        run_dir,
        subnets: vec![
            subnet("subnet-a", "172.31.0.0/20"),
            subnet("subnet-b", "172.31.16.0/20"),
        ],
        bridge_cidr: None,
        dynamic_ports: None,
        security_groups: false,
    }
}

fn subnet(id: &str, cidr: &str) -> Subnet {
    let cidr: Ipv4Cidr = cidr.parse().unwrap();
    let gateway = cidr.nth(1).unwrap();
    Subnet { id: id.to_owned(), cidr, gateway, ipv6: None }
}

fn eni(subnet: char, last: u8) -> TaskEni {
    let third = if subnet == 'a' { 0 } else { 16 };
    TaskEni {
        task_id: format!("task-{subnet}-{last}"),
        mac: MacAddress([0x02, 0xaa, 0, 0, third, last]),
        ip: Ipv4Addr::new(172, 31, third, last),
        prefix_len: 20,
        gateway: Ipv4Addr::new(172, 31, third, 1),
        subnet_id: format!("subnet-{subnet}"),
        ipv6: None,
    }
}

fn addr(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

/// A wish for one TCP port.
fn tcp(endpoint: &str, container_port: u16, host_port: HostPort) -> Publish {
    Publish {
        endpoint: endpoint.to_owned(),
        protocol: Protocol::Tcp,
        container_port,
        count: 1,
        host_port,
    }
}

/// Whether a pinned namespace is at `path`.
fn is_pinned(path: &Path) -> bool {
    namespace::is_pinned(path).unwrap()
}
