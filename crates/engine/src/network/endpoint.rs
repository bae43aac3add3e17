//! The task endpoint: 169.254.170.2:80, where containers ask the agent.
//!
//! The listener is on an address of the host's loopback that nothing else
//! uses, and the rules of `firewall` lead to it: from our bridges, and from
//! the host's own processes, which are what tasks in host mode are. Loopback
//! rather than the bridges' gateways, because no other machine can reach it,
//! whatever its routes, and because it is one listener for all; the address
//! is not 127.0.0.1, so that a rule that outlives Minato can never lead to
//! another program that takes the port on 127.0.0.1 in the meantime. Answers
//! can go back because the bridges have `route_localnet` anyway, and the chain
//! `guard` drops what containers send to 127/8 themselves.
//!
//! The rules that match are per bridge, so two Minatos on a host have an
//! endpoint each. Host mode has but one network: there the first Minato has it
//! until it is taken down.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};

use super::error::DoingStep;
use super::netlink::Socket;
use super::{Inner, Ipv4Cidr, NetworkStepError, firewall, route};

/// Where containers find the agent.
pub const ENDPOINT: SocketAddrV4 =
    SocketAddrV4::new(Ipv4Addr::new(169, 254, 170, 2), 80);

/// Where the agent listens.
pub(super) const LISTENER: Ipv4Addr = Ipv4Addr::new(127, 169, 170, 2);

/// Ports that only root may have: the rules outlive Minato, and nobody else
/// must be able to answer in its place meanwhile.
const LISTENER_PORTS: std::ops::Range<u16> = 600..1000;

/// Where clouds tell a machine of itself, as rules match it.
pub(super) fn instance_metadata() -> Ipv4Cidr {
    Ipv4Cidr::new(Ipv4Addr::new(169, 254, 169, 254), 32)
        .unwrap_or_else(|| unreachable!("32 bits are a prefix"))
}

/// The endpoint's address, as rules match it.
pub(super) fn range() -> Ipv4Cidr {
    Ipv4Cidr::new(*ENDPOINT.ip(), 32)
        .unwrap_or_else(|| unreachable!("32 bits are a prefix"))
}

impl Inner {
    /// Runs in the host's namespace.
    pub(super) fn listen_endpoint(
        &self,
    ) -> Result<TcpListener, NetworkStepError> {
        let listener = listen(&self.config.name)
            .doing(format_args!("listen on {LISTENER}"))?;
        let address =
            listener.local_addr().doing("find the endpoint's port")?;
        let SocketAddr::V4(address) = address else {
            unreachable!("an IPv4 address was bound")
        };
        let mut netfilter = Socket::netfilter()?;
        // Held throughout: the last listener is the one that is led to.
        let mut endpoint = self.endpoint.lock();
        let others = self.lead(&mut netfilter, address)?;
        *endpoint = Some(address);
        if !others.is_empty() {
            let others = others.join(", ");
            tracing::warn!(
                "another Minato has the task endpoint of host mode ({others}): \
                 tasks of this one in host mode reach that one at {ENDPOINT}"
            );
        }
        Ok(listener)
    }

    /// Leads to the listener again where the table was made anew, and takes
    /// the host's own calls over from a Minato that has gone.
    pub(super) fn endpoint_renew(
        &self,
        netfilter: &mut Socket,
        is_table_new: bool,
    ) -> Result<(), NetworkStepError> {
        let endpoint = self.endpoint.lock();
        let Some(address) = *endpoint else { return Ok(()) };
        let name = &self.config.name;
        if is_table_new
            || !firewall::has_host_endpoint(netfilter, name)
                .doing("read the task endpoint")?
        {
            self.lead(netfilter, address)?;
        }
        Ok(())
    }

    /// Leads to `address`; answers with others that have host mode.
    fn lead(
        &self,
        netfilter: &mut Socket,
        address: SocketAddrV4,
    ) -> Result<Vec<String>, NetworkStepError> {
        let name = &self.config.name;
        let others = firewall::host_endpoints_of_others(netfilter, name)
            .doing("look for other task endpoints")?;
        let has_host = others.is_empty();
        firewall::endpoint_set(netfilter, name, address, has_host)
            .doing("lead containers to the task endpoint")?;
        Ok(others)
    }
}

/// Listens on a port that depends on the network's name: one Minato does not
/// take over what leads to another that is down.
fn listen(name: &str) -> io::Result<TcpListener> {
    let all = LISTENER_PORTS.end - LISTENER_PORTS.start;
    let first = name.bytes().fold(0, |hash: u16, byte| {
        hash.wrapping_mul(31).wrapping_add(u16::from(byte))
    });
    let mut refused = io::Error::from(io::ErrorKind::AddrInUse);
    for step in 0..all {
        let port = LISTENER_PORTS.start + (first % all + step) % all;
        match TcpListener::bind(SocketAddrV4::new(LISTENER, port)) {
            Ok(listener) => return Ok(listener),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

/// Gives the host a route to the endpoint through a bridge: without any, the
/// kernel would refuse calls in host mode before a rule sees them. Nothing is
/// ever sent along it. It goes with the bridge.
pub(super) fn route_add(link: u32) -> Result<(), NetworkStepError> {
    let mut socket = Socket::route()?;
    // Another Minato may have been first; one is enough.
    let added = route::link_route_add(&mut socket, *ENDPOINT.ip(), link);
    route::ignoring(added, libc::EEXIST)
        .doing(format_args!("add a route to {}", ENDPOINT.ip()))
}
