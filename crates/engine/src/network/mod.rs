//! Networks for tasks and containers.
//!
//! awsvpc gives each task a network namespace with the interface `eth0`; bridge
//! mode gives each container one, and publishes host ports; `none` gives a
//! namespace with loopback only; `host` needs nothing from here. Behind the
//! first two is one Linux bridge each, with the gateways' addresses on the
//! host's side, and an nftables table (see `firewall`). Tasks in a subnet with
//! an IPv6 range have an address of each family (see `host6`, `firewall6`).
//!
//! Nothing here depends on Minato being up: the kernel holds all state, and
//! [`Network::open`] finds it again. Namespaces are pinned as files; who has
//! which bridge-mode address is written in the interfaces' aliases; published
//! ports are entries of an nftables map. What Minato holds besides is a bound
//! socket for each published port, so that other programs find it in use.
//!
//! All operations may be repeated, and mend what a killed process left half
//! done. They run on threads of their own, never on tokio's.
//!
//! Refused: rtnetlink's event loop per operation, `nft` and CNI plugins as
//! programs to install, a userland proxy in the path (docs/adr/0005).

mod address;
mod attach;
mod endpoint;
mod error;
mod family;
mod firewall;
mod firewall6;
mod flows;
mod former;
mod forwarding;
mod groups;
mod host6;
mod inside;
mod keeper;
mod leases;
mod leftovers;
mod namespace;
mod netlink;
mod nft;
mod open;
mod ports;
mod probe;
mod resolv;
mod route;
mod subnets;
mod sysctl;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::File;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

pub use address::{
    IpCidr, Ipv4Cidr, Ipv6Cidr, MacAddress, ParseCidrError, ParseMacError,
};
pub use endpoint::ENDPOINT;
pub use error::{
    AttachError, NetworkStepError, OpenNetworkError, PublishError,
    ResolvConfError,
};
pub use forwarding::closed_firewalls;
pub use groups::{Firewall, GroupRule, Peer, SecurityGroup, Traffic};
pub use inside::{
    Blackhole, Direction, FaultSite, Impairment, ImpairmentKind, IpRange,
    ParseIpRangeError, Port, ProxyRules, probe_faults,
};
pub use leftovers::leftovers;
pub use probe::{ProbeNetworkError, probe};
pub use resolv::{ResolvConf, resolv_conf};

use family::IpFamily;
use former::Former;
use groups::Groups;
use groups::guard::Guard;
use keeper::Keeper;
use leases::Leases;
use ports::Ports;
use subnets::Subnets;

/// The option that changes the ranges of awsvpc tasks, named in errors.
pub const VPC_CIDR_OPTION: &str = "--vpc-cidr";
/// The option that changes the range of bridge mode, named in errors.
pub const BRIDGE_CIDR_OPTION: &str = "--bridge-cidr";

/// What a network is made of.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// Starts the names of all interfaces: one to six lower-case letters and
    /// digits, unique on the host, the same at every start.
    pub name: String,
    /// A directory that does not outlive a reboot; pins are made in it.
    pub run_dir: PathBuf,
    /// The subnets that awsvpc tasks live in.
    pub subnets: Vec<Subnet>,
    /// The range of bridge mode; `None` takes one that is free on the host.
    pub bridge_cidr: Option<Ipv4Cidr>,
    /// First and last port of dynamic host ports; `None` takes the kernel's
    /// `ip_local_port_range`, as Amazon ECS does.
    pub dynamic_ports: Option<(u16, u16)>,
    /// Whether awsvpc tasks are subject to security groups: closed until
    /// [`Network::firewall_set`] says otherwise. Without, anyone reaches them.
    pub security_groups: bool,
}

/// A subnet of the VPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// Such as `subnet-0a1b2c3d`.
    pub id: String,
    /// Its range.
    pub cidr: Ipv4Cidr,
    /// The router's address in it, held by the host.
    pub gateway: Ipv4Addr,
    /// The same for IPv6, where it has that too. Without effect where the host
    /// has no IPv6, see [`Network::has_ipv6`].
    pub ipv6: Option<SubnetIpv6>,
}

/// The IPv6 part of a subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubnetIpv6 {
    /// Its range.
    pub cidr: Ipv6Cidr,
    /// The router's address in it, held by the host.
    pub gateway: Ipv6Addr,
}

/// The elastic network interface of an awsvpc task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskEni {
    /// The task.
    pub task_id: String,
    /// The interface's hardware address.
    pub mac: MacAddress,
    /// The task's address.
    pub ip: Ipv4Addr,
    /// The subnet's prefix length.
    pub prefix_len: u8,
    /// The subnet's gateway.
    pub gateway: Ipv4Addr,
    /// The subnet.
    pub subnet_id: String,
    /// The task's IPv6 address, if it has one.
    pub ipv6: Option<TaskIpv6>,
}

/// The IPv6 address of a task's interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskIpv6 {
    /// The address.
    pub ip: Ipv6Addr,
    /// The subnet's prefix length.
    pub prefix_len: u8,
    /// The subnet's gateway.
    pub gateway: Ipv6Addr,
}

/// A container's place on the bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeEndpoint {
    /// The file that pins its network namespace.
    pub netns: PathBuf,
    /// Its address.
    pub ip: Ipv4Addr,
    /// The prefix length of the bridge's range.
    pub prefix_len: u8,
    /// The host's address on the bridge.
    pub gateway: Ipv4Addr,
    /// Its hardware address.
    pub mac: MacAddress,
}

/// A transport protocol whose ports can be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Which host ports to publish on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostPort {
    /// Any free ones of the dynamic range.
    Dynamic,
    /// This one and those after it.
    Fixed(u16),
}

/// A wish to make ports of a bridge endpoint reachable on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// The id given to [`Network::attach_bridge`].
    pub endpoint: String,
    /// The protocol.
    pub protocol: Protocol,
    /// The (first) port in the container.
    pub container_port: u16,
    /// How many consecutive ports; 1 unless it is a port range.
    pub count: u16,
    /// The (first) port on the host.
    pub host_port: HostPort,
}

/// Ports that are reachable on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PublishedPort {
    /// The protocol.
    pub protocol: Protocol,
    /// The (first) port on the host.
    pub host_port: u16,
    /// The (first) port in the container.
    pub container_port: u16,
    /// How many consecutive ports.
    pub count: u16,
}

/// How something is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AttachmentKind {
    /// A task with its own interface in a subnet.
    Task,
    /// A container on the bridge.
    Bridge,
    /// A namespace with loopback only.
    None,
}

/// An attachment found on this host, perhaps of an earlier process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attachment {
    /// How it is attached.
    pub kind: AttachmentKind,
    /// The id it was attached with.
    pub id: String,
    /// The file that pins its network namespace.
    pub netns: PathBuf,
}

/// The networks of one Minato on this host. Clones are the same network;
/// dropping the last one leaves everything in place, see [`Network::teardown`].
#[derive(Clone, Debug)]
pub struct Network {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: NetworkConfig,
    /// The namespace that [`Network::open`] was called in.
    host: File,
    vpc_link: u32,
    bridge_link: u32,
    subnets: Mutex<Subnets>,
    /// Nothing where tasks are not subject to security groups. Locked after
    /// `ports` and before `subnets`.
    groups: Option<Mutex<Groups>>,
    guard: Mutex<Guard>,
    /// Locked after `subnets`.
    former: Mutex<Former>,
    mtu: u32,
    /// Whether tasks can have IPv6 on this host.
    has_ipv6: bool,
    leases: Mutex<Leases>,
    ports: Mutex<Ports>,
    /// Where the task endpoint is served, once it is.
    endpoint: Mutex<Option<SocketAddrV4>>,
    /// Keeps two operations on one id apart, by the id's hash.
    turns: [Mutex<()>; TURNS],
    keeper: Keeper,
}

/// More than the operations that run at once.
const TURNS: usize = 64;

impl Network {
    /// Sets the network up in the caller's network namespace, or takes over
    /// what an earlier process set up.
    pub async fn open(
        config: NetworkConfig,
    ) -> Result<Network, OpenNetworkError> {
        let open = || -> Result<Arc<Inner>, OpenNetworkError> {
            let inner = Arc::new(Inner::open(config)?);
            Keeper::start(&inner)?;
            Ok(inner)
        };
        Ok(Network { inner: namespace::on_thread(open).await? })
    }

    /// Gives a task its namespace and interface; returns the pinned namespace.
    pub async fn attach_task(
        &self,
        eni: &TaskEni,
    ) -> Result<PathBuf, AttachError> {
        let eni = eni.clone();
        self.on_thread(move |inner| inner.attach_task(&eni)).await
    }

    /// Takes a task's interface and namespace away.
    pub async fn detach_task(&self, task_id: &str) -> Result<(), AttachError> {
        self.detach(AttachmentKind::Task, task_id).await
    }

    /// Gives a container its namespace, address and interface on the bridge.
    pub async fn attach_bridge(
        &self,
        id: &str,
    ) -> Result<BridgeEndpoint, AttachError> {
        let id = id.to_owned();
        self.on_thread(move |inner| inner.attach_bridge(&id)).await
    }

    /// Takes a container off the bridge and unpublishes its ports.
    pub async fn detach_bridge(&self, id: &str) -> Result<(), AttachError> {
        self.detach(AttachmentKind::Bridge, id).await
    }

    /// Makes a namespace with loopback only; returns its pin.
    pub async fn attach_none(&self, id: &str) -> Result<PathBuf, AttachError> {
        let id = id.to_owned();
        self.on_thread(move |inner| inner.attach_none(&id)).await
    }

    /// Takes away what [`Network::attach_none`] made.
    pub async fn detach_none(&self, id: &str) -> Result<(), AttachError> {
        self.detach(AttachmentKind::None, id).await
    }

    /// Takes away an attachment of any kind.
    pub async fn detach(
        &self,
        kind: AttachmentKind,
        id: &str,
    ) -> Result<(), AttachError> {
        let id = id.to_owned();
        self.on_thread(move |inner| inner.detach(kind, &id)).await
    }

    /// Everything attached, also by an earlier process.
    pub async fn attachments(
        &self,
    ) -> Result<Vec<Attachment>, NetworkStepError> {
        self.on_thread(|inner| inner.attachments()).await
    }

    /// Makes ports of a bridge endpoint reachable on all of the host's
    /// addresses; all of them or none.
    ///
    /// Repeating a wish answers with the ports it has already.
    pub async fn publish(
        &self,
        wish: &Publish,
    ) -> Result<PublishedPort, PublishError> {
        let wish = wish.clone();
        self.on_thread(move |inner| inner.publish(&wish)).await
    }

    /// Unpublishes ports of a bridge endpoint.
    pub async fn unpublish(
        &self,
        endpoint: &str,
        port: &PublishedPort,
    ) -> Result<(), NetworkStepError> {
        let (endpoint, port) = (endpoint.to_owned(), *port);
        self.on_thread(move |inner| inner.unpublish(&endpoint, &port)).await
    }

    /// The published ports of a bridge endpoint, one entry for each port.
    pub fn published(&self, endpoint: &str) -> Vec<PublishedPort> {
        self.inner.published(endpoint)
    }

    /// Listens for calls to the task endpoint at [`ENDPOINT`]: those of tasks
    /// and bridge containers of this network, and of the host's own processes
    /// where no other Minato has them. An earlier listener gets none any more.
    pub async fn listen_endpoint(
        &self,
    ) -> Result<TcpListener, NetworkStepError> {
        self.on_thread(|inner| inner.listen_endpoint()).await
    }

    /// The range of bridge mode.
    pub fn bridge_cidr(&self) -> Ipv4Cidr {
        self.inner.leases.lock().range()
    }

    /// Puts back what others took away: our nftables table (after a
    /// `nft flush ruleset`), forwarding, and the way past a dockerd that was
    /// started after us. Happens by itself every few seconds.
    pub async fn reassert(&self) -> Result<(), NetworkStepError> {
        self.on_thread(|inner| inner.reassert()).await
    }

    /// Has the kernel enforce these security groups from now on, also for
    /// running tasks and after this process. Interfaces of tasks that are not
    /// named get nothing in and nothing out, but the task endpoint and names.
    /// Does nothing on a network without security groups.
    pub async fn firewall_set(
        &self,
        firewall: &Firewall,
    ) -> Result<(), NetworkStepError> {
        let firewall = firewall.clone();
        self.on_thread(move |inner| inner.firewall_set(firewall)).await
    }

    /// Makes these the subnets that tasks can be in. One that is not among
    /// them any more goes when no interface is in it. Those that cannot be,
    /// such as one whose range the host uses otherwise, are left out; the
    /// first of them is the error. Repeating the same wish does nothing.
    pub async fn subnets_set(
        &self,
        subnets: &[Subnet],
    ) -> Result<(), OpenNetworkError> {
        let subnets = subnets.to_vec();
        self.on_thread(move |inner| inner.subnets_set(&subnets)).await
    }

    /// The subnet, of those that tasks can be in, that has an address.
    pub fn subnet_with(&self, address: Ipv4Addr) -> Option<Subnet> {
        self.inner.subnets.lock().with_address(address).cloned()
    }

    /// Whether tasks can have IPv6 here: the kernel has it, and nobody had
    /// switched it off when the network was opened.
    pub fn has_ipv6(&self) -> bool {
        self.inner.has_ipv6
    }

    /// Takes everything away: attachments, ports, bridges, rules.
    pub async fn teardown(self) -> Result<(), NetworkStepError> {
        self.on_thread(|inner| inner.teardown()).await
    }

    /// Takes away what the network `name` of an earlier process left in the
    /// caller's namespaces, without setting anything up.
    pub async fn remove(
        name: &str,
        run_dir: &Path,
    ) -> Result<(), NetworkStepError> {
        let (name, run_dir) = (name.to_owned(), run_dir.to_owned());
        namespace::on_thread(move || leftovers::remove(&name, &run_dir)).await
    }

    async fn on_thread<T, E>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<NetworkStepError> + Send + 'static,
    {
        let inner = Arc::clone(&self.inner);
        let host = error::DoingStep::doing(
            self.inner.host.try_clone(),
            "keep hold of the host's network namespace",
        )?;
        namespace::on_thread_in(host, move || work(&inner)).await
    }
}

impl Inner {
    /// The families that there are tables for.
    fn families(&self) -> &'static [IpFamily] {
        if self.has_ipv6 {
            &[IpFamily::V4, IpFamily::V6]
        } else {
            &[IpFamily::V4]
        }
    }
}

impl Protocol {
    /// The protocol's number in IP headers.
    fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
        }
    }

    fn of_number(number: u8) -> Option<Protocol> {
        match number {
            6 => Some(Protocol::Tcp),
            17 => Some(Protocol::Udp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}
