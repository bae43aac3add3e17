//! Published ports.
//!
//! The kernel forwards by an nftables map; that is what works while Minato is
//! down. For each port Minato also holds a bound socket, so that another
//! program's attempt to use it, or ours to use another's, is an error and not
//! a mystery. No packet reaches the socket: the map is asked first.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;

use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt,
};

use super::error::DoingStep;
use super::firewall::{self, PortEntry};
use super::flows;
use super::netlink::Socket;
use super::{
    HostPort, Inner, NetworkStepError, Protocol, Publish, PublishError,
    PublishedPort,
};

/// A port range needs a socket for each port; Docker is known to choke on
/// ranges of thousands, and real task definitions have some tens.
const RANGE_MAX: u16 = 1000;
/// What Amazon ECS takes when it cannot read the kernel's range.
const FALLBACK_RANGE: (u16, u16) = (49153, 65535);
const LOCAL_PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";

type Key = (Protocol, u16);

/// The published ports of this network.
#[derive(Debug)]
pub(super) struct Ports {
    held: BTreeMap<Key, Held>,
    /// First and last dynamic port.
    range: (u16, u16),
    /// Where the search for a free dynamic port starts.
    next: u16,
    is_closed: bool,
}

#[derive(Debug)]
struct Held {
    target: SocketAddrV4,
    /// Missing if another program took the port while Minato was down; the
    /// map still comes first for traffic.
    socket: Option<OwnedFd>,
}

impl Ports {
    /// Takes over the ports that an earlier process published.
    pub(super) fn take_over(
        entries: &[PortEntry],
        range: Option<(u16, u16)>,
    ) -> Ports {
        let range = range.unwrap_or_else(dynamic_range);
        let held = entries.iter().map(|entry| {
            let key = (entry.protocol, entry.host_port);
            let socket = hold(key).inspect_err(|error| {
                let (protocol, port) = key;
                tracing::warn!(
                    %error, %protocol, port,
                    "published port could not be reserved again"
                );
            });
            (key, Held { target: entry.target, socket: socket.ok() })
        });
        Ports { held: held.collect(), range, next: range.0, is_closed: false }
    }

    /// Lets go of all ports, for good: the network is being torn down.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
        self.held.clear();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Every published port, for putting them back into an empty map.
    pub(super) fn entries(&self) -> Vec<PortEntry> {
        let held = self.held.iter();
        held.map(|((protocol, host_port), held)| PortEntry {
            protocol: *protocol,
            host_port: *host_port,
            target: held.target,
        })
        .collect()
    }

    fn of_address(&self, address: Ipv4Addr) -> Vec<PortEntry> {
        let mut entries = self.entries();
        entries.retain(|entry| *entry.target.ip() == address);
        entries
    }

    /// The first port of a dynamic run that leads to `wanted` already.
    fn existing_run(&self, wanted: &Run) -> Option<u16> {
        let first = self.held.iter().find(|((protocol, port), held)| {
            *protocol == wanted.protocol
                && (self.range.0..=self.range.1).contains(port)
                && held.target == wanted.target(0)
        });
        let first = first.map(|((_, port), _)| *port)?;
        let leads = |offset: u16| {
            let port = first.checked_add(offset)?;
            let held = self.held.get(&(wanted.protocol, port))?;
            (held.target == wanted.target(offset)).then_some(())
        };
        (0..wanted.count).all(|offset| leads(offset).is_some()).then_some(first)
    }

    /// Binds a run of ports, except those that lead to the target already.
    fn hold_run(
        &self,
        first: u16,
        wanted: &Run,
    ) -> Result<Vec<(Key, Held)>, HoldError> {
        let mut run = Vec::new();
        for offset in 0..wanted.count {
            let port = first + offset;
            let key = (wanted.protocol, port);
            let target = wanted.target(offset);
            let held = self.held.get(&key);
            let socket = match (held, hold(key)) {
                (Some(held), _) if held.target != target => {
                    return Err(HoldError::Taken(port));
                }
                // A port that could not be reserved again may be free now.
                (Some(Held { socket: Some(_), .. }), _) | (Some(_), Err(_)) => {
                    continue;
                }
                (_, Ok(socket)) => socket,
                (None, Err(error)) => return Err(HoldError::of(port, error)),
            };
            run.push((key, Held { target, socket: Some(socket) }));
        }
        Ok(run)
    }

    /// Binds a run of free ports of the dynamic range.
    fn hold_free_run(
        &mut self,
        wanted: &Run,
    ) -> Result<(u16, Vec<(Key, Held)>), PublishError> {
        let (first, last) = self.range;
        let mut has_wrapped = false;
        let mut start = self.next.clamp(first, last);
        loop {
            let end = u32::from(start) + u32::from(wanted.count) - 1;
            if end > u32::from(last) {
                if has_wrapped {
                    let (count, protocol) = (wanted.count, wanted.protocol);
                    return Err(PublishError::NoFreePort {
                        count,
                        protocol,
                        first,
                        last,
                    });
                }
                has_wrapped = true;
                start = first;
                continue;
            }
            match self.hold_run(start, wanted) {
                Ok(run) => {
                    self.next = start.saturating_add(wanted.count);
                    return Ok((start, run));
                }
                Err(HoldError::Taken(port)) if port < u16::MAX => {
                    start = port + 1;
                }
                Err(error) => return Err(error.into_publish(wanted.protocol)),
            }
        }
    }
}

/// Ports of a container that are published together.
struct Run {
    protocol: Protocol,
    address: Ipv4Addr,
    container_port: u16,
    count: u16,
}

impl Run {
    fn target(&self, offset: u16) -> SocketAddrV4 {
        SocketAddrV4::new(self.address, self.container_port + offset)
    }
}

enum HoldError {
    Taken(u16),
    Other(u16, io::Error),
}

impl HoldError {
    fn of(port: u16, error: io::Error) -> HoldError {
        if error.kind() == io::ErrorKind::AddrInUse {
            return HoldError::Taken(port);
        }
        HoldError::Other(port, error)
    }

    fn into_publish(self, protocol: Protocol) -> PublishError {
        match self {
            HoldError::Taken(port) => {
                PublishError::PortTaken { port, protocol }
            }
            HoldError::Other(port, error) => NetworkStepError::new(
                format!("reserve host port {port}/{protocol}"),
                error,
            )
            .into(),
        }
    }
}

impl Inner {
    pub(super) fn publish(
        &self,
        wish: &Publish,
    ) -> Result<PublishedPort, PublishError> {
        check_run(wish.container_port, wish.count)?;
        if let HostPort::Fixed(first) = wish.host_port {
            check_run(first, wish.count)?;
        }
        // The ports' lock first, everywhere: a detach must not slip between.
        let mut ports = self.ports.lock();
        let address = self.leases.lock().of(&wish.endpoint);
        let address = address.ok_or_else(|| PublishError::NoEndpoint {
            endpoint: wish.endpoint.clone(),
        })?;
        let wanted = Run {
            protocol: wish.protocol,
            address,
            container_port: wish.container_port,
            count: wish.count,
        };
        let (host_port, run) = match wish.host_port {
            HostPort::Fixed(first) => {
                let run = ports.hold_run(first, &wanted);
                (first, run.map_err(|e| e.into_publish(wish.protocol))?)
            }
            HostPort::Dynamic => match ports.existing_run(&wanted) {
                Some(first) => (first, Vec::new()),
                None => ports.hold_free_run(&wanted)?,
            },
        };
        let new: Vec<_> = run
            .iter()
            .map(|((protocol, host_port), held)| PortEntry {
                protocol: *protocol,
                host_port: *host_port,
                target: held.target,
            })
            .collect();
        if !new.is_empty() {
            firewall::ports_add(
                &mut Socket::netfilter()?,
                &self.config.name,
                &new,
            )
            .doing(format_args!("forward host port {host_port}"))?;
            forget_flows(&new);
        }
        ports.held.extend(run);
        let Publish { protocol, container_port, count, .. } = *wish;
        Ok(PublishedPort { protocol, host_port, container_port, count })
    }

    pub(super) fn unpublish(
        &self,
        endpoint: &str,
        port: &PublishedPort,
    ) -> Result<(), NetworkStepError> {
        let last = port.host_port.saturating_add(port.count.saturating_sub(1));
        self.unpublish_where(endpoint, |entry| {
            entry.protocol == port.protocol
                && (port.host_port..=last).contains(&entry.host_port)
        })
    }

    pub(super) fn unpublish_all(
        &self,
        endpoint: &str,
    ) -> Result<(), NetworkStepError> {
        self.unpublish_where(endpoint, |_| true)
    }

    fn unpublish_where(
        &self,
        endpoint: &str,
        is_meant: impl Fn(&PortEntry) -> bool,
    ) -> Result<(), NetworkStepError> {
        let mut ports = self.ports.lock();
        let Some(address) = self.leases.lock().of(endpoint) else {
            return Ok(());
        };
        let mut entries = ports.of_address(address);
        entries.retain(is_meant);
        if entries.is_empty() {
            return Ok(());
        }
        firewall::ports_remove(
            &mut Socket::netfilter()?,
            &self.config.name,
            &entries,
        )
        .doing(format_args!("stop forwarding to {address}"))?;
        for entry in entries {
            ports.held.remove(&(entry.protocol, entry.host_port));
        }
        Ok(())
    }

    pub(super) fn published(&self, endpoint: &str) -> Vec<PublishedPort> {
        let ports = self.ports.lock();
        let Some(address) = self.leases.lock().of(endpoint) else {
            return Vec::new();
        };
        let entries = ports.of_address(address).into_iter();
        entries
            .map(|entry| PublishedPort {
                protocol: entry.protocol,
                host_port: entry.host_port,
                container_port: entry.target.port(),
                count: 1,
            })
            .collect()
    }
}

/// The ports work without this, but for clients that never pause.
fn forget_flows(entries: &[PortEntry]) {
    if let Err(error) = flows::forget(entries) {
        tracing::warn!(%error, "old UDP flows could not be ended");
    }
}

/// Refuses port 0, empty runs, long ones and those past the last port.
fn check_run(first: u16, count: u16) -> Result<(), PublishError> {
    let fits = count > 0
        && count <= RANGE_MAX
        && first > 0
        && first.checked_add(count - 1).is_some();
    if fits {
        return Ok(());
    }
    Err(PublishError::InvalidRange { first, count })
}

/// Binds a port on all IPv4 addresses of the calling thread's namespace.
fn hold((protocol, port): Key) -> io::Result<OwnedFd> {
    let kind = match protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
    };
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::INET, kind, flags, None)?;
    let address = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port);
    match protocol {
        Protocol::Tcp => {
            // Connections of the port's former owner that still linger are no
            // conflict. Listening makes ours one for everybody else.
            sockopt::set_socket_reuseaddr(&socket, true)?;
            bind(&socket, &address)?;
            listen(&socket, 1)?;
        }
        Protocol::Udp => bind(&socket, &address)?,
    }
    Ok(socket)
}

/// The range of dynamic host ports, as the Amazon ECS agent reads it.
fn dynamic_range() -> (u16, u16) {
    let text = fs::read_to_string(LOCAL_PORT_RANGE).unwrap_or_default();
    parse_range(&text).unwrap_or(FALLBACK_RANGE)
}

fn parse_range(text: &str) -> Option<(u16, u16)> {
    let mut words = text.split_whitespace().map(str::parse::<u16>);
    let (first, last) = (words.next()?.ok()?, words.next()?.ok()?);
    (0 < first && first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_range_is_read() {
        assert_eq!(parse_range("32768\t60999\n"), Some((32768, 60999)));
        for bad in ["", "1", "9 2", "0 5", "1 70000", "a b"] {
            assert_eq!(parse_range(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn impossible_runs_are_refused() {
        for (first, count) in [(0, 1), (80, 0), (65535, 2), (1, 1001)] {
            assert!(check_run(first, count).is_err(), "{first} {count}");
        }
        assert!(check_run(65535, 1).is_ok());
        assert!(check_run(64536, 1000).is_ok());
    }
}
