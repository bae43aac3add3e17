//! What can go wrong, one type per operation.

use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use super::{IpCidr, Ipv4Cidr, Protocol};

/// The kernel, or a file, refused a step.
#[derive(Debug, thiserror::Error)]
#[error("could not {step}")]
pub struct NetworkStepError {
    step: String,
    source: io::Error,
}

impl NetworkStepError {
    pub(super) fn new(step: impl Into<String>, source: io::Error) -> Self {
        NetworkStepError { step: step.into(), source }
    }

    /// What the kernel answered.
    pub fn cause(&self) -> &io::Error {
        &self.source
    }
}

/// Names the step that failed.
pub(super) trait DoingStep<T> {
    fn doing(self, step: impl fmt::Display) -> Result<T, NetworkStepError>;
}

impl<T, E: Into<io::Error>> DoingStep<T> for Result<T, E> {
    fn doing(self, step: impl fmt::Display) -> Result<T, NetworkStepError> {
        self.map_err(|source| {
            NetworkStepError::new(step.to_string(), source.into())
        })
    }
}

/// Why a network could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum OpenNetworkError {
    /// The name cannot be part of interface names.
    #[error(
        "network name {name:?} is not one to six lower-case letters and \
         digits that start with a letter"
    )]
    InvalidName {
        /// The name as given.
        name: String,
    },
    /// A subnet, or the bridge's range, cannot work.
    #[error("range {cidr} cannot be used: {reason}")]
    InvalidRange {
        /// The range as given.
        cidr: IpCidr,
        /// What is wrong with it.
        reason: String,
    },
    /// A range is already in use on this host.
    #[error(
        "range {cidr} overlaps {route}, which this host already reaches \
         through {interface}; choose another range with {option}"
    )]
    RouteConflict {
        /// The range asked for.
        cidr: Ipv4Cidr,
        /// The host's route.
        route: Ipv4Cidr,
        /// The interface of the host's route.
        interface: String,
        /// The option that changes the range.
        option: &'static str,
    },
    /// Every range that bridge mode may choose is taken.
    #[error(
        "all ranges that bridge mode tries are in use on this host; choose \
         one with {option}"
    )]
    NoFreeRange {
        /// The option that sets the range.
        option: &'static str,
    },
    /// A step failed.
    #[error(transparent)]
    Step(#[from] NetworkStepError),
}

/// Why a task or container could not be attached or detached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The id cannot be a file name.
    #[error("{id:?} cannot name a network attachment")]
    InvalidId {
        /// The id as given.
        id: String,
    },
    /// The interface asked for does not fit the network.
    #[error("the interface of task {id} cannot work: {reason}")]
    InvalidInterface {
        /// The task.
        id: String,
        /// What does not fit.
        reason: String,
    },
    /// Bridge mode has given out all its addresses.
    #[error("no free address is left in {cidr}")]
    NoFreeAddress {
        /// The range of bridge mode.
        cidr: Ipv4Cidr,
    },
    /// The id is attached in another network mode.
    #[error("{id} is already attached in another network mode")]
    OtherMode {
        /// The id.
        id: String,
    },
    /// A step failed.
    #[error(transparent)]
    Step(#[from] NetworkStepError),
}

/// Why a port could not be published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Someone else has the host port.
    #[error("host port {port}/{protocol} is already in use")]
    PortTaken {
        /// The first port found to be taken.
        port: u16,
        /// Its protocol.
        protocol: Protocol,
    },
    /// No run of free ports of this length is left.
    #[error(
        "no {count} free consecutive {protocol} ports are left from {first} \
         to {last}"
    )]
    NoFreePort {
        /// How many ports are needed.
        count: u16,
        /// The protocol.
        protocol: Protocol,
        /// First port of the dynamic range.
        first: u16,
        /// Last port of the dynamic range.
        last: u16,
    },
    /// A range that is empty, too long or runs past 65535.
    #[error("{count} ports from {first} are not a range that can be published")]
    InvalidRange {
        /// The first port.
        first: u16,
        /// How many.
        count: u16,
    },
    /// The endpoint was never attached, or is detached.
    #[error("no bridge endpoint {endpoint}")]
    NoEndpoint {
        /// The endpoint.
        endpoint: String,
    },
    /// A step failed.
    #[error(transparent)]
    Step(#[from] NetworkStepError),
}

/// Why there is no usable resolver configuration.
#[derive(Debug, thiserror::Error)]
pub enum ResolvConfError {
    /// The file could not be read.
    #[error("could not read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Containers cannot reach any resolver of the host.
    #[error(
        "containers cannot use this host's name servers ({}): they listen on \
         loopback or IPv6 only; name reachable ones in {}",
        servers.join(", "), .path.display()
    )]
    NoneReachable {
        /// The file that lists them.
        path: PathBuf,
        /// The name servers found.
        servers: Vec<String>,
    },
}

impl AttachError {
    pub(super) fn interface(id: &str, reason: impl Into<String>) -> Self {
        AttachError::InvalidInterface { id: id.into(), reason: reason.into() }
    }
}

/// Says that `address` is not in `cidr`.
pub(super) fn outside(address: Ipv4Addr, cidr: Ipv4Cidr) -> String {
    format!("{address} is not a usable address of {cidr}")
}
