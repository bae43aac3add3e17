//! The container engine of this host.

use anyhow::{Context, Result};
use minato_agent::runtime::engine::EngineRuntime;
use minato_control::DefaultSubnet;
use minato_engine::cgroup::Cgroups;
use minato_engine::container::{Containers, ContainersConfig};
use minato_engine::image::ImageStore;
use minato_engine::network::{Network, NetworkConfig, Subnet};

use crate::args::UpArgs;
use crate::home::{Home, Registry};

/// What the agent drives.
pub(super) type Runtime = EngineRuntime;

/// Which start of the machine this is; tests put a file of their own here.
const BOOT_ID_VARIABLE: &str = "MINATO_BOOT_ID_FILE";

/// Opens images, containers and networks, and finds what was left running.
pub(super) async fn open(
    home: &Home,
    args: &UpArgs,
    registry: &Registry,
    subnets: Vec<DefaultSubnet>,
) -> Result<Runtime> {
    let images = ImageStore::open(&home.images(), registry.config())
        .context("could not open the image store")?;
    let mut config = ContainersConfig::new(
        home.containers(),
        home.run_dir().join("containers"),
        vec!["/proc/self/exe".into(), "shim".into()],
        cgroup_root(home),
    );
    if let Some(path) = std::env::var_os(BOOT_ID_VARIABLE) {
        config.boot_id_file = path.into();
    }
    let boot_id = std::fs::read_to_string(&config.boot_id_file)
        .context("could not read the boot id")?
        .trim()
        .to_owned();
    let containers = Containers::open(config)
        .await
        .context("could not open the container engine")?;
    let config = network_config(home, args, subnets)?;
    let network =
        Network::open(config).await.context("could not set up the networks")?;
    Ok(EngineRuntime::new(boot_id, containers, images, network))
}

fn network_config(
    home: &Home,
    args: &UpArgs,
    subnets: Vec<DefaultSubnet>,
) -> Result<NetworkConfig> {
    let subnets = subnets
        .into_iter()
        .map(|subnet| {
            Ok(Subnet {
                cidr: subnet.cidr.parse()?,
                id: subnet.id,
                gateway: subnet.gateway,
                // The agent's first message of firewalls brings it.
                ipv6: None,
            })
        })
        .collect::<Result<Vec<Subnet>>>()?;
    Ok(NetworkConfig {
        name: home.name().to_owned(),
        run_dir: home.run_dir().join("network"),
        subnets,
        bridge_cidr: args.bridge_cidr,
        dynamic_ports: None,
        security_groups: true,
    })
}

/// Removes what a home that is down and runs no task still has in the kernel:
/// bridges, rules, namespaces, control groups.
pub(crate) async fn take_down(home: &Home) -> Result<()> {
    Network::remove(home.name(), &home.run_dir().join("network"))
        .await
        .context("could not take down the networks")?;
    Cgroups::open(&cgroup_root(home))
        .and_then(|cgroups| cgroups.remove_all())
        .context("could not remove the control groups")?;
    std::fs::remove_dir_all(home.run_dir())
        .context("could not remove the run directory")
}

fn cgroup_root(home: &Home) -> String {
    format!("/minato-{}", home.name())
}
