//! The agent's view of Minato's own engine.

mod error;
mod log;

use std::fmt;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use minato_engine::cgroup::{CPU_PERIOD_US, TaskLimits as CgroupLimits};
use minato_engine::container::{Containers, signal_number};
use minato_engine::image::{
    Image, ImageOrigin, ImageReference, ImageStore, PullOptions, RegistryAuth,
};
use minato_engine::network::{
    HostPort, Network, NetworkStepError, Publish, TaskEni, TaskIpv6,
    resolv_conf,
};

use self::error::{container_error, other, pull_error};
use self::log::EngineLog;
use super::*;

/// The engine: containers, images and networks of one host.
#[derive(Clone)]
pub struct EngineRuntime {
    boot_id: String,
    containers: Containers,
    images: ImageStore,
    network: Network,
}

impl fmt::Debug for EngineRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineRuntime").finish_non_exhaustive()
    }
}

impl EngineRuntime {
    /// Puts the engine's parts together. `boot_id` is the one that the
    /// containers were opened with.
    pub fn new(
        boot_id: String,
        containers: Containers,
        images: ImageStore,
        network: Network,
    ) -> EngineRuntime {
        EngineRuntime { boot_id, containers, images, network }
    }

    /// Listens for calls to the task endpoint.
    pub async fn listen_endpoint(
        &self,
    ) -> Result<std::net::TcpListener, NetworkStepError> {
        self.network.listen_endpoint().await
    }

    /// Whether tasks can have IPv6 on this host.
    pub fn has_ipv6(&self) -> bool {
        self.network.has_ipv6()
    }

    /// An image that somebody loaded by hand is meant to be run as it is: its
    /// name may mean nothing to any registry, or something else.
    fn behavior_for(
        &self,
        reference: &ImageReference,
        behavior: PullBehavior,
    ) -> PullBehavior {
        let found = self.images.get(reference).ok().flatten();
        let is_loaded =
            found.is_some_and(|image| image.origin == ImageOrigin::Loaded);
        if is_loaded && behavior == PullBehavior::Default {
            return PullBehavior::PreferCached;
        }
        behavior
    }

    fn subnet_of(&self, ip: Ipv4Addr) -> Result<String, RuntimeError> {
        let subnet = self.network.subnet_with(ip).ok_or_else(|| {
            RuntimeError::other(format!("no subnet has address {ip}"))
        })?;
        Ok(subnet.id)
    }
}

fn id(text: &str) -> Result<ContainerId, RuntimeError> {
    ContainerId::new(text).map_err(|error| other(&error))
}

fn reference(text: &str) -> Result<ImageReference, RuntimeError> {
    text.parse::<ImageReference>()
        .map_err(|error| RuntimeError::other(format!("{text}: {error}")))
}

fn facts(image: Image) -> ImageFacts {
    let given = |text: String| Some(text).filter(|text| !text.is_empty());
    let config = image.config;
    ImageFacts {
        // One that was loaded is in no registry, as Docker says of it too.
        digest: (image.origin == ImageOrigin::Pulled)
            .then(|| image.digest.to_string()),
        id: image.id.to_string(),
        entrypoint: config.entrypoint,
        cmd: config.cmd,
        env: config.env,
        user: given(config.user),
        working_dir: given(config.working_dir),
        stop_signal: config.stop_signal.and_then(given),
        volumes: config.volumes,
        layers: image.layers,
    }
}

impl Runtime for EngineRuntime {
    fn boot_id(&self) -> String {
        self.boot_id.clone()
    }

    fn image_pull<'a>(
        &'a self,
        image: &'a str,
        login: Option<&'a RegistryLogin>,
        behavior: PullBehavior,
    ) -> Op<'a, ImageFacts> {
        Box::pin(async move {
            let reference = reference(image)?;
            let auth = login.map(|login| RegistryAuth::Basic {
                username: login.username.clone(),
                password: login.password.clone(),
            });
            let behavior = self.behavior_for(&reference, behavior);
            let options =
                PullOptions { auth, behavior, ..PullOptions::default() };
            let pulled = self.images.pull(&reference, options).await;
            pulled.map(facts).map_err(|error| pull_error(&error))
        })
    }

    fn cgroup_create<'a>(
        &'a self,
        task_id: &'a str,
        limits: &'a TaskLimits,
    ) -> Op<'a, String> {
        Box::pin(async move {
            let limits = CgroupLimits {
                cpu_quota_us: limits.cpus.map(cpu_quota),
                cpu_shares: limits.cpu_shares,
                memory_bytes: limits.memory_bytes,
            };
            let groups = self.containers.cgroups().clone();
            let task = task_id.to_owned();
            blocking(move || groups.create_task(&task, &limits))
                .await?
                .map_err(|error| other(&error))
        })
    }

    fn cgroup_remove<'a>(&'a self, task_id: &'a str) -> Op<'a, ()> {
        Box::pin(async move {
            let groups = self.containers.cgroups().clone();
            let task = task_id.to_owned();
            blocking(move || groups.remove_task(&task))
                .await?
                .map_err(|error| other(&error))
        })
    }

    fn firewall_set<'a>(
        &'a self,
        subnets: &'a [Subnet],
        firewall: &'a Firewall,
    ) -> Op<'a, ()> {
        Box::pin(async move {
            // One that this host cannot have is no reason to leave the others
            // open or closed: its tasks are refused when they come.
            if let Err(error) = self.network.subnets_set(subnets).await {
                let error = error_chain(&error);
                tracing::error!(error, "a subnet is not on this host");
            }
            let set = self.network.firewall_set(firewall).await;
            set.map_err(|error| other(&error))
        })
    }

    fn volume_mount<'a>(
        &'a self,
        source: &'a VolumeSource,
        place: &'a Path,
    ) -> Op<'a, ()> {
        Box::pin(async move {
            let (source, place) = (source.clone(), place.to_owned());
            let work = move || minato_engine::volume::mount(&source, &place);
            blocking(work).await?.map_err(|error| other(&error))
        })
    }

    fn volume_unmount<'a>(&'a self, place: &'a Path) -> Op<'a, ()> {
        Box::pin(async move {
            let place = place.to_owned();
            let work = move || minato_engine::volume::unmount(&place);
            blocking(work).await?.map_err(|error| other(&error))
        })
    }

    fn task_attach<'a>(
        &'a self,
        interface: &'a TaskInterface,
    ) -> Op<'a, PathBuf> {
        Box::pin(async move {
            let eni = TaskEni {
                task_id: interface.task_id.clone(),
                mac: interface.mac.parse().map_err(
                    |error: minato_engine::network::ParseMacError| {
                        other(&error)
                    },
                )?,
                ip: interface.ip,
                prefix_len: interface.prefix_len,
                gateway: interface.gateway,
                subnet_id: self.subnet_of(interface.ip)?,
                ipv6: interface.ipv6.map(|ipv6| TaskIpv6 {
                    ip: ipv6.ip,
                    prefix_len: ipv6.prefix_len,
                    gateway: ipv6.gateway,
                }),
            };
            let attached = self.network.attach_task(&eni).await;
            attached.map_err(|error| other(&error))
        })
    }

    fn task_detach<'a>(&'a self, task_id: &'a str) -> Op<'a, ()> {
        Box::pin(async move {
            let detached = self.network.detach_task(task_id).await;
            detached.map_err(|error| other(&error))
        })
    }

    fn proxy_set<'a>(
        &'a self,
        task_id: &'a str,
        rules: &'a ProxyRules,
    ) -> Op<'a, ()> {
        Box::pin(async move {
            let set = self.network.proxy_set(task_id, rules).await;
            set.map_err(|error| other(&error))
        })
    }

    fn fault<'a>(
        &'a self,
        site: &'a FaultSite,
        call: &'a FaultCall,
    ) -> Op<'a, FaultAnswer> {
        Box::pin(fault::call(&self.network, site, call))
    }

    fn host_faults_end<'a>(&'a self, task_id: &'a str) -> Op<'a, ()> {
        Box::pin(async move {
            let ended = self.network.host_faults_end(task_id).await;
            ended.map_err(|error| other(&error))
        })
    }

    fn bridge_attach<'a>(&'a self, id: &'a str) -> Op<'a, BridgeAddress> {
        Box::pin(async move {
            let endpoint = self
                .network
                .attach_bridge(id)
                .await
                .map_err(|error| other(&error))?;
            Ok(BridgeAddress {
                netns: endpoint.netns,
                ip: endpoint.ip,
                gateway: endpoint.gateway,
            })
        })
    }

    fn bridge_detach<'a>(&'a self, id: &'a str) -> Op<'a, ()> {
        Box::pin(async move {
            let detached = self.network.detach_bridge(id).await;
            detached.map_err(|error| other(&error))
        })
    }

    fn port_publish<'a>(&'a self, port: &'a PublishPort) -> Op<'a, u16> {
        Box::pin(async move {
            let wish = Publish {
                endpoint: port.owner.clone(),
                protocol: match port.protocol {
                    PortProtocol::Tcp => Protocol::Tcp,
                    PortProtocol::Udp => Protocol::Udp,
                },
                container_port: port.container_port,
                count: port.count,
                host_port: match port.host_port {
                    0 => HostPort::Dynamic,
                    port => HostPort::Fixed(port),
                },
            };
            let published = self.network.publish(&wish).await;
            Ok(published.map_err(|error| other(&error))?.host_port)
        })
    }

    fn ports_unpublish<'a>(&'a self, owner: &'a str) -> Op<'a, ()> {
        Box::pin(async move {
            for port in self.network.published(owner) {
                self.network
                    .unpublish(owner, &port)
                    .await
                    .map_err(|error| other(&error))?;
            }
            Ok(())
        })
    }

    fn resolver(&self) -> Resolver {
        match resolv_conf() {
            Ok(found) => Resolver {
                nameservers: found.nameservers,
                search: found.search,
                options: found.options,
            },
            Err(error) => {
                tracing::warn!(error = error_chain(&error), "no name server");
                Resolver::default()
            }
        }
    }

    fn create<'a>(&'a self, spec: &'a ContainerSpec) -> Op<'a, ()> {
        Box::pin(async move {
            let created = self.containers.create(spec).await;
            created.map_err(|error| other(&error))
        })
    }

    fn start<'a>(
        &'a self,
        container: &'a str,
        secrets: SecretEnv,
    ) -> Op<'a, Started> {
        Box::pin(async move {
            let id = id(container)?;
            let started = self.containers.start_with(&id, secrets).await;
            started.map_err(|error| other(&error))
        })
    }

    fn restart<'a>(
        &'a self,
        container: &'a str,
        ended_at_ms: i64,
        secrets: SecretEnv,
    ) -> Op<'a, Started> {
        Box::pin(async move {
            let id = id(container)?;
            let again = self.containers.restart_with(&id, ended_at_ms, secrets);
            again.await.map_err(|error| other(&error))
        })
    }

    fn signal<'a>(&'a self, container: &'a str, signal: &'a str) -> Op<'a, ()> {
        Box::pin(async move {
            let number = signal_number(signal).ok_or_else(|| {
                RuntimeError::other(format!("there is no signal {signal}"))
            })?;
            let sent = self.containers.signal(&id(container)?, number).await;
            sent.map_err(container_error)
        })
    }

    fn wait<'a>(&'a self, container: &'a str) -> Op<'a, Exit> {
        Box::pin(async move {
            let exit = self.containers.wait(&id(container)?).await;
            exit.map_err(container_error)
        })
    }

    fn exec<'a>(
        &'a self,
        container: &'a str,
        spec: &'a ExecSpec,
        timeout: Duration,
    ) -> Op<'a, ExecOutput> {
        Box::pin(async move {
            let id = id(container)?;
            let done = self.containers.exec(&id, spec, timeout).await;
            done.map_err(container_error)
        })
    }

    fn exec_terminal<'a>(
        &'a self,
        container: &'a str,
        spec: &'a ExecSpec,
        size: TerminalSize,
    ) -> Op<'a, Terminal> {
        Box::pin(async move {
            let id = id(container)?;
            let opened = self.containers.exec_terminal(&id, spec, size).await;
            opened.map_err(container_error)
        })
    }

    fn usage<'a>(&'a self, container: &'a str) -> Op<'a, Usage> {
        Box::pin(async move {
            let id = id(container)?;
            let containers = self.containers.clone();
            let wanted = id.clone();
            let stats = blocking(move || containers.stats(&wanted))
                .await?
                .map_err(container_error)?;
            let network = match self.containers.state(&id) {
                Some(ContainerState::Running(started)) => {
                    traffic(started.pid).await
                }
                Some(ContainerState::Created | ContainerState::Exited(_))
                | None => None,
            };
            Ok(Usage {
                cpu_ns: stats.cpu_usage_ns,
                memory_bytes: stats
                    .memory_usage_bytes
                    .saturating_sub(stats.memory_inactive_file_bytes),
                network,
                storage: (stats.blkio_read_bytes, stats.blkio_write_bytes),
            })
        })
    }

    fn remove<'a>(&'a self, container: &'a str) -> Op<'a, ()> {
        Box::pin(async move {
            let released = self.containers.release(&id(container)?).await;
            released.map_err(container_error)
        })
    }

    fn list(&self) -> Op<'_, Vec<(String, ContainerState)>> {
        Box::pin(async move {
            let list = self.containers.list().into_iter();
            Ok(list.map(|(id, state)| (id.to_string(), state)).collect())
        })
    }

    fn log_open<'a>(
        &'a self,
        container: &'a str,
        from: Option<&'a LogPosition>,
    ) -> Op<'a, Box<dyn LogSource>> {
        Box::pin(async move {
            let position = match from {
                Some(position) => serde_json::from_str(&position.0)
                    .map_err(|error| other(&error))?,
                None => Default::default(),
            };
            let reader = self
                .containers
                .logs(&id(container)?, position)
                .map_err(container_error)?;
            let source: Box<dyn LogSource> = Box::new(EngineLog { reader });
            Ok(source)
        })
    }

    fn log_remove<'a>(&'a self, container: &'a str) -> Op<'a, ()> {
        Box::pin(async move {
            let removed = self.containers.remove(&id(container)?).await;
            removed.map_err(container_error)
        })
    }
}

/// Microseconds of CPU time in a scheduling period.
fn cpu_quota(cpus: f64) -> u64 {
    let period = f64::from(u32::try_from(CPU_PERIOD_US).unwrap_or(u32::MAX));
    // Far above any machine; also what NaN and infinity become.
    const CPUS_MAX: f64 = 100_000.0;
    let quota = cpus.clamp(0.0, CPUS_MAX) * period;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped above"
    )]
    let quota = quota.round() as u64;
    quota
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, RuntimeError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| other(&error))
}

/// Bytes received and sent in the network namespace of a process.
async fn traffic(pid: i32) -> Option<(u64, u64)> {
    let path = format!("/proc/{pid}/net/dev");
    let text = tokio::fs::read_to_string(path).await.ok()?;
    Some(sum_traffic(&text))
}

/// Adds up `/proc/net/dev` without loopback: received are the first number
/// after the name, sent the ninth.
fn sum_traffic(text: &str) -> (u64, u64) {
    let mut sum = (0_u64, 0_u64);
    for line in text.lines() {
        let Some((name, numbers)) = line.split_once(':') else { continue };
        if name.trim() == "lo" {
            continue;
        }
        let numbers: Vec<u64> = numbers
            .split_whitespace()
            .filter_map(|number| number.parse().ok())
            .collect();
        sum.0 = sum.0.saturating_add(numbers.first().copied().unwrap_or(0));
        sum.1 = sum.1.saturating_add(numbers.get(8).copied().unwrap_or(0));
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_is_summed_without_loopback() {
        let text = "Inter-|   Receive  |  Transmit\n face |bytes packets\n\
            \x20   lo: 100 1 0 0 0 0 0 0 100 1 0 0 0 0 0 0\n\
            \x20 eth0: 7 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n\
            \x20 eth1: 1 1 0 0 0 0 0 0 2 1 0 0 0 0 0 0\n";
        assert_eq!(sum_traffic(text), (8, 11));
    }

    #[test]
    fn a_quarter_of_a_cpu_is_a_quarter_of_the_period() {
        assert_eq!(cpu_quota(0.25), CPU_PERIOD_US / 4);
        assert_eq!(cpu_quota(-1.0), 0);
    }
}
