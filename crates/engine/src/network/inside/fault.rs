//! Network faults that tasks inject into themselves.
//!
//! A blackhole is a chain that drops a port's packets, in a table of the
//! task's own; an impairment is a queueing discipline (see `tc`). Whether one
//! is there is asked of the kernel, so that nothing is forgotten when Minato
//! is killed.
//!
//! ```text
//! table inet minato-NAME-fault-TASK {
//!   chain ingress-tcp-80 { input filter:  drop, but for the peers excepted }
//!   chain egress-udp-53  { output filter: the same }
//!   chain impairment     { no rules: the task impaired the host's interface }
//! }
//! ```

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr};

use nix::sched::{CloneFlags, unshare};

use super::super::attach::INTERFACE;
use super::super::error::DoingStep;
use super::super::netlink::{Request, Socket};
use super::super::nft::{
    self, End, HOOK_INPUT, HOOK_OUTPUT, Hook, NFPROTO_INET, Rule, parse_chain,
};
use super::super::route::{self, ignoring};
use super::super::{
    AttachError, AttachmentKind, ENDPOINT, Inner, NetworkStepError, Protocol,
};
use super::range::IpRange;
use super::{enter, tc};

/// Notes, in a task's table, who impaired the host's interface.
const IMPAIRMENT: &str = "impairment";

/// Where a fault is injected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultSite {
    /// Whose fault it is.
    pub task_id: String,
    /// Whether the task lives in the host's network, not in its own.
    pub in_host: bool,
}

/// Which way packets go, seen from the task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// To the task.
    Ingress,
    /// From the task.
    Egress,
}

/// Packets of a protocol to a port, one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Port {
    /// The way.
    pub direction: Direction,
    /// The protocol.
    pub protocol: Protocol,
    /// The destination port.
    pub number: u16,
}

/// A port whose packets are dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blackhole {
    /// The port.
    pub port: Port,
    /// Peers whose packets are let through.
    pub except: Vec<IpRange>,
}

/// What happens to packets on their way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Impairment {
    /// They are late.
    Latency {
        /// By so much.
        delay_ms: u64,
        /// And so much more or less.
        jitter_ms: u64,
    },
    /// Some are lost.
    PacketLoss {
        /// So many of a hundred, 1 to 100.
        percent: u8,
    },
}

/// The kinds of impairments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ImpairmentKind {
    /// Packets are late.
    Latency,
    /// Packets are lost.
    PacketLoss,
}

impl Impairment {
    /// Its kind.
    pub fn kind(&self) -> ImpairmentKind {
        match self {
            Impairment::Latency { .. } => ImpairmentKind::Latency,
            Impairment::PacketLoss { .. } => ImpairmentKind::PacketLoss,
        }
    }
}

/// The name of the port's chain, as upstream's.
impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = match self.direction {
            Direction::Ingress => "ingress",
            Direction::Egress => "egress",
        };
        write!(f, "{way}-{}-{}", self.protocol, self.number)
    }
}

impl Inner {
    pub(super) fn blackhole_start(
        &self,
        site: &FaultSite,
        blackhole: &Blackhole,
    ) -> Result<(), AttachError> {
        let _turn = self.turn(AttachmentKind::Task, &site.task_id)?;
        let (table, mut socket) = self.open_site(site)?;
        let chain = blackhole.port.to_string();
        let chains = chains_of(&mut socket, &table)?;
        if chains.contains(&chain) {
            return Ok(());
        }
        socket
            .transaction(&blackhole_requests(&table, blackhole))
            .doing(format_args!("start fault {chain}"))?;
        Ok(())
    }

    pub(super) fn blackhole_stop(
        &self,
        site: &FaultSite,
        port: Port,
    ) -> Result<(), AttachError> {
        let _turn = self.turn(AttachmentKind::Task, &site.task_id)?;
        let (table, mut socket) = self.open_site(site)?;
        let chain = port.to_string();
        Ok(chain_remove(&mut socket, &table, &chain)?)
    }

    pub(super) fn is_blackhole(
        &self,
        site: &FaultSite,
        port: Port,
    ) -> Result<bool, AttachError> {
        let (table, mut socket) = self.open_site(site)?;
        let chains = chains_of(&mut socket, &table)?;
        Ok(chains.contains(&port.to_string()))
    }

    pub(super) fn impair(
        &self,
        site: &FaultSite,
        impairment: &Impairment,
        sources: &[IpRange],
        except: &[IpRange],
    ) -> Result<Option<ImpairmentKind>, AttachError> {
        let _turn = self.turn(AttachmentKind::Task, &site.task_id)?;
        let (table, mut netfilter) = self.open_site(site)?;
        let mut socket = Socket::route()?;
        let link = interface(&mut socket, site)?;
        let found = tc::impairment(&mut socket, link)
            .doing("read the queueing disciplines")?;
        if found.is_some() {
            return Ok(found);
        }
        // First, so that it is undone whatever happens next.
        if site.in_host {
            note_impairment(&mut netfilter, &self.config.name, &table)?;
        }
        let mut spared = vec![IpRange::of_address(IpAddr::V4(*ENDPOINT.ip()))];
        spared.extend_from_slice(except);
        let made = tc::impair(&mut socket, link, impairment, sources, &spared);
        if made.is_err() && site.in_host {
            // What else is there is not ours to take away.
            forget_impairments(&mut netfilter, &self.config.name)?;
        }
        made.doing("impair an interface")?;
        Ok(None)
    }

    pub(super) fn impairment(
        &self,
        site: &FaultSite,
    ) -> Result<Option<ImpairmentKind>, AttachError> {
        enter(&self.netns_of(site)?)?;
        let mut socket = Socket::route()?;
        let link = interface(&mut socket, site)?;
        Ok(tc::impairment(&mut socket, link)
            .doing("read the queueing disciplines")?)
    }

    pub(super) fn impairment_stop(
        &self,
        site: &FaultSite,
        kind: ImpairmentKind,
    ) -> Result<(), AttachError> {
        let _turn = self.turn(AttachmentKind::Task, &site.task_id)?;
        let (_, mut netfilter) = self.open_site(site)?;
        let mut socket = Socket::route()?;
        let link = interface(&mut socket, site)?;
        let found = tc::impairment(&mut socket, link)
            .doing("read the queueing disciplines")?;
        if found != Some(kind) {
            return Ok(());
        }
        tc::clear(&mut socket, link).doing("mend an interface")?;
        if site.in_host {
            forget_impairments(&mut netfilter, &self.config.name)?;
        }
        Ok(())
    }

    pub(super) fn faults_end(
        &self,
        site: &FaultSite,
    ) -> Result<(), AttachError> {
        let _turn = self.turn(AttachmentKind::Task, &site.task_id)?;
        let (table, mut socket) = self.open_site(site)?;
        Ok(table_remove(&mut socket, &table)?)
    }

    /// Moves the thread to the site; answers with its table's name.
    fn open_site(
        &self,
        site: &FaultSite,
    ) -> Result<(String, Socket), NetworkStepError> {
        enter(&self.netns_of(site)?)?;
        let table = format!("{}{}", prefix(&self.config.name), site.task_id);
        Ok((table, Socket::netfilter()?))
    }
}

/// How the tables of the network `name` begin; no network's name has a dash.
fn prefix(name: &str) -> String {
    format!("minato-{name}-fault-")
}

fn inet(request: Request) -> Request {
    request.of_family(NFPROTO_INET)
}

/// Whatever else is at the hook goes on running.
fn blackhole_requests(table: &str, blackhole: &Blackhole) -> Vec<Request> {
    let Port { direction, protocol, number } = blackhole.port;
    let hook = match direction {
        Direction::Ingress => HOOK_INPUT,
        Direction::Egress => HOOK_OUTPUT,
    };
    let chain = blackhole.port.to_string();
    let start =
        Hook { chain: &chain, kind: "filter", number: hook, priority: 0 };
    let mut requests =
        vec![nft::table_create(table), nft::chain_create(table, &start)];
    let packets =
        || Rule::default().protocol(protocol.number()).ports(number, number);
    let mut add = |rule| requests.push(nft::rule_append(table, &chain, &rule));
    // Upstream compares the destination both ways. For what comes in that is
    // the task itself, so the peer is compared too, as documented.
    for range in &blackhole.except {
        add(packets().within(End::Destination, *range).accept());
        if direction == Direction::Ingress {
            add(packets().within(End::Source, *range).accept());
        }
    }
    add(packets().drop());
    requests.into_iter().map(inet).collect()
}

/// The names of a table's chains; none where there is no table.
fn chains_of(
    socket: &mut Socket,
    table: &str,
) -> Result<Vec<String>, NetworkStepError> {
    let all = all_chains(socket)?.into_iter();
    Ok(all.filter(|(of, _)| of == table).map(|(_, chain)| chain).collect())
}

/// Table and name of every chain of our tables' family.
fn all_chains(
    socket: &mut Socket,
) -> Result<Vec<(String, String)>, NetworkStepError> {
    let mut found = Vec::new();
    socket
        .dump(&inet(nft::chains()), |_, payload| {
            let chain = parse_chain(payload);
            let chain = chain.filter(|chain| chain.family == NFPROTO_INET);
            found.extend(chain.map(|chain| (chain.table, chain.name)));
        })
        .doing("list the nftables chains")?;
    Ok(found)
}

/// Removes a chain, and with the last one the table.
fn chain_remove(
    socket: &mut Socket,
    table: &str,
    chain: &str,
) -> Result<(), NetworkStepError> {
    let chains = chains_of(socket, table)?;
    if !chains.iter().any(|found| found == chain) {
        return Ok(());
    }
    let requests = if chains.len() == 1 {
        vec![nft::table_delete(table)]
    } else {
        vec![nft::chain_flush(table, chain), nft::chain_delete(table, chain)]
    };
    let requests: Vec<Request> = requests.into_iter().map(inet).collect();
    socket
        .transaction(&requests)
        .doing(format_args!("remove chain {chain} of {table}"))
}

fn note_impairment(
    socket: &mut Socket,
    name: &str,
    table: &str,
) -> Result<(), NetworkStepError> {
    forget_impairments(socket, name)?;
    let requests =
        [nft::table_create(table), nft::chain_create_plain(table, IMPAIRMENT)]
            .map(inet);
    socket.transaction(&requests).doing("note who impairs the host")
}

/// The interface is not impaired by anybody any more.
fn forget_impairments(
    socket: &mut Socket,
    name: &str,
) -> Result<(), NetworkStepError> {
    for (table, chain) in all_chains(socket)? {
        if chain == IMPAIRMENT && table.starts_with(&prefix(name)) {
            chain_remove(socket, &table, &chain)?;
        }
    }
    Ok(())
}

/// Ends the faults of a table in the thread's namespace, the host's.
fn table_remove(
    socket: &mut Socket,
    table: &str,
) -> Result<(), NetworkStepError> {
    let chains = chains_of(socket, table)?;
    if chains.iter().any(|chain| chain == IMPAIRMENT) {
        let mut route = Socket::route()?;
        // Without a way out there is nothing left to mend.
        if let Some(link) = default_link(&mut route)? {
            tc::clear(&mut route, link).doing("mend the host's interface")?;
        }
    }
    let deleted = socket.transaction(&[inet(nft::table_delete(table))]);
    ignoring(deleted, libc::ENOENT)
        .doing(format_args!("delete nftables table {table}"))
}

/// The tables of host-mode faults of the network `name`.
pub(in super::super) fn host_tables(
    name: &str,
) -> Result<Vec<String>, NetworkStepError> {
    let mut socket = Socket::netfilter()?;
    let mut found = nft::table_names(&mut socket, NFPROTO_INET)
        .doing("list the nftables tables")?;
    found.retain(|table| table.starts_with(&prefix(name)));
    Ok(found)
}

/// Ends all host-mode faults of the network `name`.
pub(in super::super) fn remove_host_faults(
    name: &str,
) -> Result<(), NetworkStepError> {
    for table in host_tables(name)? {
        table_remove(&mut Socket::netfilter()?, &table)?;
    }
    Ok(())
}

/// The interface that a site's packets leave through.
fn interface(
    socket: &mut Socket,
    site: &FaultSite,
) -> Result<u32, NetworkStepError> {
    let found = if site.in_host {
        default_link(socket)?
    } else {
        let link = route::link(socket, INTERFACE)
            .doing("look for the interface of a namespace")?;
        link.map(|link| link.index)
    };
    found.ok_or_else(|| {
        let error = io::Error::from(io::ErrorKind::NotFound);
        NetworkStepError::new("find the interface to impair", error)
    })
}

/// The interface of the host's default route.
fn default_link(socket: &mut Socket) -> Result<Option<u32>, NetworkStepError> {
    let routes = route::routes::<Ipv4Addr>(socket).doing("list the routes")?;
    let mut ways = routes.iter().filter(|r| r.destination.prefix_len() == 0);
    Ok(ways.find_map(|route| route.link))
}

/// Tries every kind of fault out, in a network namespace of its own; fails
/// where the kernel lacks something. Blocks for some milliseconds.
pub fn probe_faults() -> Result<(), NetworkStepError> {
    let thread = std::thread::Builder::new()
        .name("minato-probe".to_owned())
        .spawn(try_out)
        .doing("start a thread")?;
    thread.join().unwrap_or_else(|_| {
        let error = io::Error::other("the probe panicked");
        Err(NetworkStepError::new("try out the faults", error))
    })
}

fn try_out() -> Result<(), NetworkStepError> {
    unshare(CloneFlags::CLONE_NEWNET).doing("make a network namespace")?;
    let port = Port {
        direction: Direction::Egress,
        protocol: Protocol::Tcp,
        number: 80,
    };
    let peer = IpRange::of_address(IpAddr::V4(*ENDPOINT.ip()));
    let blackhole = Blackhole { port, except: vec![peer] };
    Socket::netfilter()?
        .transaction(&blackhole_requests("probe", &blackhole))
        .doing("drop packets")?;
    let latency = Impairment::Latency { delay_ms: 1, jitter_ms: 1 };
    let mut socket = Socket::route()?;
    tc::impair(&mut socket, route::LOOPBACK, &latency, &[peer], &[peer])
        .doing("impair an interface (sch_prio, sch_netem and cls_u32)")
}

#[cfg(test)]
#[path = "fault_tests.rs"]
mod tests;
