//! Tasks: what they are to be, what they are, and bringing the one to the
//! other.
//!
//! [`decode`] makes a [`plan`] of an ACS task; [`record`] is what is known of
//! it and kept on disk; [`graph`] decides, purely, what may happen next;
//! [`actor`] does it, with one [`runner`] for each container.

pub(crate) mod actor;
pub(crate) mod attachment_decode;
pub(crate) mod container_decode;
pub mod decode;
pub(crate) mod firelens_decode;
pub mod graph;
pub mod health;
pub(crate) mod log_decode;
pub mod log_plan;
pub mod plan;
mod proxy_decode;
pub mod record;
pub mod report;
#[cfg(test)]
mod restart_tests;
#[cfg(test)]
mod resume_tests;
pub(crate) mod runner;
pub mod status;
#[cfg(test)]
mod tests;
pub(crate) mod volume_decode;
