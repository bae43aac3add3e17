//! The agent of a host: what the control plane wants on it, it makes so.
//!
//! A [`session`] speaks ACS with the control plane and hands payloads to the
//! [`engine`], which has an actor for each task ([`task`]). An actor brings
//! its containers up and down by lists of [`steps`] over a
//! [`runtime::Runtime`], keeps what it knows in a file ([`store`]), and
//! reports by ordinary API calls ([`api`]). [`logs`] sends output to
//! CloudWatch Logs, [`telemetry`] sends metrics and health, [`endpoint`]
//! answers what containers ask, [`objects`] fetches files from S3.
//!
//! The agent knows the control plane only as messages and API calls; the
//! upstream ECS agent could take its place.

pub mod agent;
pub mod api;
pub mod backoff;
pub mod config;
pub mod endpoint;
pub mod engine;
mod firewall;
pub mod logs;
pub mod objects;
pub mod runtime;
pub mod session;
pub mod steps;
pub mod store;
pub(crate) mod submit;
pub(crate) mod sweep;
pub mod task;
pub mod telemetry;
#[cfg(test)]
pub(crate) mod test_support;
