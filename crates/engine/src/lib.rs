//! Runs containers: images, networks, cgroups, the overlay root, the shim and
//! its log files.
//!
//! The engine knows nothing of ECS. The agent hands it finished
//! specifications and reads facts back: started, exited, log lines, numbers.
//! This is the only crate that needs root and the only one with `unsafe`.

pub mod cgroup;
pub mod container;
pub mod image;
pub mod network;
mod time;
pub mod tree;
pub mod volume;
