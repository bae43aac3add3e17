//! Containers: what to run, running it, and what became of it.
//!
//! Each running container has a *shim*: a small single-threaded process of
//! its own (this binary, re-executed) that owns the container's output, exit
//! status and log files and outlives the daemon. See `docs/adr/0003-shim.md`.

mod spec;

pub use spec::*;
