//! The control plane: what the AWS APIs mean, and who makes it so.
//!
//! A verified [`Call`] enters [`ControlPlane::call`], is dispatched to a
//! handler under `services/<aws service>/`, and becomes a transaction of the
//! store. Reconcilers watch the store and move what must move by itself;
//! sessions carry decisions to the agents. Nothing here listens on a socket
//! or starts a process.

pub mod call;
mod config;
mod context;
pub mod coverage;
mod fleet;
pub mod logs;
mod reconcilers;
pub mod seal;
mod services;
mod sessions;
pub mod tables;
#[cfg(test)]
pub(crate) mod testing;

pub use call::{Backend, Call, Caller, Credential, Request, Verified};
pub use config::Config;
pub use context::{ControlPlane, OpenControlError};
pub use services::ec2::defaults::{
    DefaultSubnet, PlaceVpcError, check_vpc_cidr, default_subnets,
};
pub use sessions::{
    AgentHello, AgentLink, DataChannel, OpenSessionError, SessionKind,
};
