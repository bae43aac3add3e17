//! Finding out whether this machine can do what networks need.

use std::path::PathBuf;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::error::DoingStep;
use super::{
    AttachError, HostPort, Inner, NetworkConfig, NetworkStepError,
    OpenNetworkError, Protocol, Publish, PublishError, namespace,
};

/// What this machine cannot do.
#[derive(Debug, thiserror::Error)]
pub enum ProbeNetworkError {
    /// Setting a network up failed.
    #[error(transparent)]
    Open(#[from] OpenNetworkError),
    /// Attaching a container failed.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// Publishing a port failed.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// Something around it failed.
    #[error(transparent)]
    Step(#[from] NetworkStepError),
}

/// Sets a network up in namespaces of its own, attaches a container,
/// publishes a port, and takes everything down again. Blocks for some
/// milliseconds; the host's own network is not touched.
pub fn probe() -> Result<(), ProbeNetworkError> {
    let thread = std::thread::Builder::new()
        .name("minato-probe".to_owned())
        .spawn(|| {
            let run_dir = std::env::temp_dir()
                .join(format!("minato-probe-{}", std::process::id()));
            let result = try_out(run_dir.clone());
            // Missing if it never came to that.
            let _ = std::fs::remove_dir_all(run_dir);
            result
        })
        .doing("start a thread")?;
    thread.join().unwrap_or_else(|_| {
        let error = std::io::Error::other("the probe panicked");
        Err(NetworkStepError::new("try out the network", error).into())
    })
}

fn try_out(run_dir: PathBuf) -> Result<(), ProbeNetworkError> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
        .doing("make a network namespace")?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .doing("make mounts private")?;
    let inner = Inner::open(NetworkConfig {
        name: "probe".to_owned(),
        run_dir,
        subnets: Vec::new(),
        bridge_cidr: None,
        dynamic_ports: None,
        security_groups: true,
    })?;
    inner.attach_bridge("probe")?;
    namespace::enter(&inner.host).doing("leave a network namespace")?;
    inner.publish(&Publish {
        endpoint: "probe".to_owned(),
        protocol: Protocol::Tcp,
        container_port: 80,
        count: 1,
        host_port: HostPort::Dynamic,
    })?;
    Ok(inner.teardown()?)
}
