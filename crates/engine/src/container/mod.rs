//! Containers: what to run, running it, and what became of it.
//!
//! Each running container has a *shim*: a small single-threaded process of
//! its own (this binary, re-executed) that owns the container's output, exit
//! status and log files and outlives the daemon. See `docs/adr/0003-shim.md`.
//!
//! `Containers` is the daemon's side; `shim_main` is the whole of the shim's.

#[expect(unsafe_code, reason = "mount_setattr(2) has no safe wrapper here")]
mod attributes;
mod caps;
mod containers;
mod devices;
mod error;
mod in_use;
mod logs;
mod monitor;
mod oci;
mod overlay;
mod paths;
mod plan;
mod program;
mod protocol;
mod seccomp;
mod secret_env;
#[expect(
    unsafe_code,
    reason = "fork, setns, capset, seccomp and bpf have no safe wrappers"
)]
mod shim;
mod spec;
mod user;

pub use caps::UnknownCapability;
pub use containers::{Containers, ContainersConfig, Terminal, TerminalInput};
pub use devices::DeviceError;
pub use error::*;
pub use in_use::layers_in_use;
pub use logs::{
    LINE_MAX_BYTES, LogEntry, LogLine, LogPosition, LogReader, LogStream,
    ReadLogError,
};
pub use overlay::{LAYERS_MAX, RootfsError};
pub use seccomp::SeccompError;
pub use secret_env::SecretEnv;
pub use shim::shim_main;
pub use spec::*;
pub use user::ResolveUserError;
