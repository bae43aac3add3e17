//! An engine for tests: containers are entries in a table, and the test says
//! when they end.

mod fault;
mod log;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use self::log::FakeLog;
use super::*;

/// A container's script.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    /// Ends at once with this code.
    pub(crate) exits: Option<i32>,
    /// Does not heed SIGTERM.
    pub(crate) ignores_term: bool,
    /// Exit codes of its health checks, the last one for ever.
    pub(crate) health: Vec<i32>,
    /// Lines it writes when started.
    pub(crate) lines: Vec<String>,
}

#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) boot_id: String,
    pub(crate) images: BTreeSet<String>,
    /// What the registry of an image was last shown.
    pub(crate) logins: BTreeMap<String, RegistryLogin>,
    pub(crate) cgroups: BTreeSet<String>,
    /// Volumes by where they are mounted.
    pub(crate) mounts: BTreeMap<PathBuf, VolumeSource>,
    pub(crate) task_nets: BTreeSet<String>,
    pub(crate) proxies: BTreeMap<String, ProxyRules>,
    /// What runs, by task: a port's name or a kind of impairment.
    pub(crate) faults: BTreeSet<(String, String)>,
    pub(crate) endpoints: BTreeSet<String>,
    pub(crate) ports: BTreeMap<u16, String>,
    pub(crate) containers: BTreeMap<String, FakeContainer>,
    pub(crate) logs: BTreeMap<String, Vec<LogLine>>,
    /// The last security groups.
    pub(crate) firewall: Option<(Vec<Subnet>, Firewall)>,
    /// What was called, in order.
    pub(crate) calls: Vec<String>,
    /// Calls that fail: operation, or operation and id.
    pub(crate) failing: BTreeSet<String>,
    /// Calls that never end.
    pub(crate) hanging: BTreeSet<String>,
    /// By image.
    pub(crate) scripts: HashMap<String, Script>,
}

#[derive(Debug)]
pub(crate) struct FakeContainer {
    pub(crate) spec: ContainerSpec,
    pub(crate) started: Option<Started>,
    pub(crate) exit: Option<Exit>,
    pub(crate) secrets: SecretEnv,
    checks: usize,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct FakeRuntime {
    pub(crate) world: Arc<Mutex<World>>,
    pub(crate) changed: Arc<Notify>,
}

impl FakeRuntime {
    pub(crate) fn new() -> FakeRuntime {
        let fake = FakeRuntime::default();
        fake.world.lock().boot_id = "boot-1".into();
        fake
    }

    pub(crate) fn script(&self, image: &str, script: Script) {
        self.world.lock().scripts.insert(image.into(), script);
    }

    pub(crate) fn fail(&self, what: &str) {
        self.world.lock().failing.insert(what.into());
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        self.world.lock().calls.clone()
    }

    /// A container ends.
    pub(crate) fn exit(&self, id: &str, code: i32) {
        self.exit_as(id, code, false, ExitReason::Exited);
    }

    pub(crate) fn exit_as(
        &self,
        id: &str,
        code: i32,
        oom_killed: bool,
        reason: ExitReason,
    ) {
        self.exit_with(id, code, 5_000, oom_killed, reason);
    }

    /// A container ends at the time given.
    pub(crate) fn exit_at(&self, id: &str, code: i32, at_ms: i64) {
        self.exit_with(id, code, at_ms, false, ExitReason::Exited);
    }

    fn exit_with(
        &self,
        id: &str,
        code: i32,
        at_ms: i64,
        oom_killed: bool,
        reason: ExitReason,
    ) {
        let mut world = self.world.lock();
        if let Some(container) = world.containers.get_mut(id) {
            container.exit.get_or_insert(Exit {
                code,
                signal: None,
                oom_killed,
                at_ms,
                reason,
            });
        }
        drop(world);
        self.changed.notify_waiters();
    }

    pub(crate) fn write(&self, id: &str, time_ms: i64, text: &str) {
        self.world.lock().logs.entry(id.into()).or_default().push(LogLine {
            stream: Stream::Stdout,
            time_ns: time_ms * 1_000_000,
            bytes: text.as_bytes().to_vec(),
            partial: false,
        });
        self.changed.notify_waiters();
    }

    /// Whether nothing is left of any task but images and logs.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let world = self.world.lock();
        let mut left = vec![];
        left.extend(world.cgroups.iter().map(|id| format!("cgroup {id}")));
        let places = world.mounts.keys();
        left.extend(places.map(|place| format!("mount {}", place.display())));
        left.extend(world.task_nets.iter().map(|id| format!("net {id}")));
        left.extend(world.endpoints.iter().map(|id| format!("bridge {id}")));
        left.extend(world.ports.keys().map(|port| format!("port {port}")));
        let containers = world.containers.keys();
        left.extend(containers.map(|id| format!("container {id}")));
        left
    }

    /// Notes a call; fails or hangs it, where the test says so.
    fn enter<T: Send + 'static>(
        &self,
        operation: &str,
        id: &str,
        then: impl FnOnce(&mut World) -> Result<T, RuntimeError> + Send + 'static,
    ) -> Op<'static, T> {
        let call = format!("{operation} {id}");
        let operation = operation.to_owned();
        let fake = self.clone();
        Box::pin(async move {
            let hangs = {
                let mut world = fake.world.lock();
                world.calls.push(call.clone());
                world.hanging.contains(&operation)
            };
            if hangs {
                std::future::pending::<()>().await;
            }
            let result = {
                let mut world = fake.world.lock();
                if world.failing.contains(&operation)
                    || world.failing.contains(&call)
                {
                    return Err(RuntimeError::other(format!("no {call}")));
                }
                then(&mut world)
            };
            fake.changed.notify_waiters();
            result
        })
    }
}

fn not_found(id: &str) -> RuntimeError {
    RuntimeError::new(RuntimeErrorKind::NotFound, format!("no container {id}"))
}

impl Runtime for FakeRuntime {
    fn boot_id(&self) -> String {
        self.world.lock().boot_id.clone()
    }

    fn image_pull<'a>(
        &'a self,
        reference: &'a str,
        login: Option<&'a RegistryLogin>,
        _behavior: PullBehavior,
    ) -> Op<'a, ImageFacts> {
        let image = reference.to_owned();
        let login = login.cloned();
        self.enter("pull", reference, move |world| {
            world.images.insert(image.clone());
            world.logins.extend(login.map(|login| (image.clone(), login)));
            Ok(image_facts(&image))
        })
    }

    fn cgroup_create<'a>(
        &'a self,
        task_id: &'a str,
        _limits: &'a TaskLimits,
    ) -> Op<'a, String> {
        let id = task_id.to_owned();
        self.enter("cgroup", task_id, move |world| {
            world.cgroups.insert(id.clone());
            Ok(format!("/minato/{id}"))
        })
    }

    fn cgroup_remove<'a>(&'a self, task_id: &'a str) -> Op<'a, ()> {
        let id = task_id.to_owned();
        self.enter("uncgroup", task_id, move |world| {
            world.cgroups.remove(&id);
            Ok(())
        })
    }

    fn firewall_set<'a>(
        &'a self,
        subnets: &'a [Subnet],
        firewall: &'a Firewall,
    ) -> Op<'a, ()> {
        let set = (subnets.to_vec(), firewall.clone());
        self.enter("firewall", "", move |world| {
            world.firewall = Some(set);
            Ok(())
        })
    }

    fn volume_mount<'a>(
        &'a self,
        source: &'a VolumeSource,
        place: &'a Path,
    ) -> Op<'a, ()> {
        let (source, path) = (source.clone(), place.to_owned());
        self.enter("mount", &place.display().to_string(), move |world| {
            // A real one's files would be elsewhere; the place is enough.
            std::fs::create_dir_all(&path)
                .map_err(|error| RuntimeError::other(error.to_string()))?;
            if let VolumeSource::Image { file, .. } = &source {
                let dir = file.parent().unwrap();
                std::fs::create_dir_all(dir).unwrap();
                std::fs::write(file, "").unwrap();
            }
            world.mounts.entry(path).or_insert(source);
            Ok(())
        })
    }

    fn volume_unmount<'a>(&'a self, place: &'a Path) -> Op<'a, ()> {
        let path = place.to_owned();
        self.enter("unmount", &place.display().to_string(), move |world| {
            world.mounts.remove(&path);
            let _ = std::fs::remove_dir_all(&path);
            Ok(())
        })
    }

    fn task_attach<'a>(
        &'a self,
        interface: &'a TaskInterface,
    ) -> Op<'a, PathBuf> {
        let id = interface.task_id.clone();
        self.enter("attach", &interface.task_id, move |world| {
            world.task_nets.insert(id.clone());
            Ok(PathBuf::from(format!("/run/netns/{id}")))
        })
    }

    fn task_detach<'a>(&'a self, task_id: &'a str) -> Op<'a, ()> {
        let id = task_id.to_owned();
        self.enter("detach", task_id, move |world| {
            world.task_nets.remove(&id);
            world.proxies.remove(&id);
            world.faults.retain(|(task, _)| *task != id);
            Ok(())
        })
    }

    fn proxy_set<'a>(
        &'a self,
        task_id: &'a str,
        rules: &'a ProxyRules,
    ) -> Op<'a, ()> {
        let (id, rules) = (task_id.to_owned(), rules.clone());
        self.enter("proxy", task_id, move |world| {
            world.proxies.insert(id, rules);
            Ok(())
        })
    }

    fn fault<'a>(
        &'a self,
        site: &'a FaultSite,
        call: &'a FaultCall,
    ) -> Op<'a, FaultAnswer> {
        let (id, call) = (site.task_id.clone(), call.clone());
        self.enter("fault", &site.task_id, move |world| {
            Ok(world.fault(&id, &call))
        })
    }

    fn host_faults_end<'a>(&'a self, task_id: &'a str) -> Op<'a, ()> {
        let id = task_id.to_owned();
        self.enter("unfault", task_id, move |world| {
            world.faults.retain(|(task, _)| *task != id);
            Ok(())
        })
    }

    fn bridge_attach<'a>(&'a self, id: &'a str) -> Op<'a, BridgeAddress> {
        let owned = id.to_owned();
        self.enter("bridge", id, move |world| {
            world.endpoints.insert(owned.clone());
            let host = u8::try_from(world.endpoints.len()).unwrap();
            Ok(BridgeAddress {
                netns: PathBuf::from(format!("/run/netns/{owned}")),
                ip: Ipv4Addr::new(172, 31, 0, host + 1),
                gateway: Ipv4Addr::new(172, 31, 0, 1),
            })
        })
    }

    fn bridge_detach<'a>(&'a self, id: &'a str) -> Op<'a, ()> {
        let owned = id.to_owned();
        self.enter("unbridge", id, move |world| {
            world.endpoints.remove(&owned);
            Ok(())
        })
    }

    fn port_publish<'a>(&'a self, port: &'a PublishPort) -> Op<'a, u16> {
        let wanted = port.clone();
        self.enter("publish", &port.owner, move |world| {
            let run = |first: u16| first..first + wanted.count;
            let first = match wanted.host_port {
                0 => (32768..)
                    .find(|first| {
                        let mut run = run(*first);
                        !run.any(|port| world.ports.contains_key(&port))
                    })
                    .unwrap(),
                port => port,
            };
            let is_others = |port: &u16| {
                let owner = world.ports.get(port);
                owner.is_some_and(|owner| *owner != wanted.owner)
            };
            if let Some(port) = run(first).find(is_others) {
                return Err(RuntimeError::other(format!(
                    "port {port} is already in use"
                )));
            }
            let held = run(first).map(|port| (port, wanted.owner.clone()));
            world.ports.extend(held);
            Ok(first)
        })
    }

    fn ports_unpublish<'a>(&'a self, owner: &'a str) -> Op<'a, ()> {
        let id = owner.to_owned();
        self.enter("unpublish", owner, move |world| {
            world.ports.retain(|_, owner| *owner != id);
            Ok(())
        })
    }

    fn resolver(&self) -> Resolver {
        Resolver {
            nameservers: vec!["192.0.2.53".into()],
            search: vec!["example.org".into()],
            options: vec![],
        }
    }

    fn create<'a>(&'a self, spec: &'a ContainerSpec) -> Op<'a, ()> {
        let spec = spec.clone();
        let id = spec.id.as_str().to_owned();
        self.enter("create", &id.clone(), move |world| {
            world.containers.entry(id).or_insert(FakeContainer {
                spec,
                started: None,
                exit: None,
                secrets: SecretEnv::default(),
                checks: 0,
            });
            Ok(())
        })
    }

    fn start<'a>(&'a self, id: &'a str, secrets: SecretEnv) -> Op<'a, Started> {
        let owned = id.to_owned();
        self.enter("start", id, move |world| {
            let id = owned.as_str();
            let container =
                world.containers.get_mut(id).ok_or_else(|| not_found(id))?;
            if let Some(started) = container.started {
                return Ok(started);
            }
            let started = Started { pid: 1, at_ms: 1_000 };
            container.started = Some(started);
            container.secrets = secrets;
            let image = container.spec.args[0].clone();
            let script = world.scripts.get(&image).cloned();
            let script = script.unwrap_or_default();
            for line in &script.lines {
                let line = LogLine {
                    stream: Stream::Stdout,
                    time_ns: 1_000_000_000,
                    bytes: line.as_bytes().to_vec(),
                    partial: false,
                };
                world.logs.entry(owned.clone()).or_default().push(line);
            }
            if let Some(code) = script.exits {
                world.containers.get_mut(&owned).unwrap().exit = Some(Exit {
                    code,
                    signal: None,
                    oom_killed: false,
                    at_ms: 2_000,
                    reason: ExitReason::Exited,
                });
            }
            Ok(started)
        })
    }

    fn restart<'a>(
        &'a self,
        id: &'a str,
        ended_at_ms: i64,
        secrets: SecretEnv,
    ) -> Op<'a, Started> {
        let owned = id.to_owned();
        self.enter("restart", id, move |world| {
            let id = owned.as_str();
            let container =
                world.containers.get_mut(id).ok_or_else(|| not_found(id))?;
            let exit = container.exit.as_ref();
            if exit.is_some_and(|exit| exit.at_ms == ended_at_ms) {
                let at_ms = ended_at_ms + 1_000;
                container.exit = None;
                container.started = Some(Started { pid: 2, at_ms });
                container.secrets = secrets;
            }
            Ok(container.started.unwrap())
        })
    }

    fn signal<'a>(&'a self, id: &'a str, signal: &'a str) -> Op<'a, ()> {
        let (owned, signal) = (id.to_owned(), signal.to_owned());
        let call = format!("{id} {signal}");
        self.enter("signal", &call, move |world| {
            let id = owned.as_str();
            let container =
                world.containers.get_mut(id).ok_or_else(|| not_found(id))?;
            let image = &container.spec.args[0];
            let ignores = world
                .scripts
                .get(image)
                .is_some_and(|script| script.ignores_term);
            let code = if signal == "SIGKILL" { 137 } else { 143 };
            if signal == "SIGKILL" || !ignores {
                container.exit.get_or_insert(Exit {
                    code,
                    signal: None,
                    oom_killed: false,
                    at_ms: 9_000,
                    reason: ExitReason::Exited,
                });
            }
            Ok(())
        })
    }

    fn wait<'a>(&'a self, id: &'a str) -> Op<'a, Exit> {
        Box::pin(async move {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                {
                    let world = self.world.lock();
                    let container = world
                        .containers
                        .get(id)
                        .ok_or_else(|| not_found(id))?;
                    if let Some(exit) = &container.exit {
                        return Ok(exit.clone());
                    }
                }
                changed.await;
            }
        })
    }

    fn exec<'a>(
        &'a self,
        id: &'a str,
        _spec: &'a ExecSpec,
        _timeout: Duration,
    ) -> Op<'a, ExecOutput> {
        let owned = id.to_owned();
        self.enter("exec", id, move |world| {
            let id = owned.as_str();
            let container =
                world.containers.get_mut(id).ok_or_else(|| not_found(id))?;
            let script = world.scripts.get(&container.spec.args[0]);
            let codes = script.map(|s| s.health.clone()).unwrap_or_default();
            let at = container.checks.min(codes.len().saturating_sub(1));
            container.checks += 1;
            Ok(ExecOutput {
                exit_code: codes.get(at).copied().unwrap_or(0),
                output: vec![],
                truncated: false,
                timed_out: false,
            })
        })
    }

    /// Shows what is typed, and ends at `q`.
    fn exec_terminal<'a>(
        &'a self,
        id: &'a str,
        spec: &'a ExecSpec,
        size: TerminalSize,
    ) -> Op<'a, Terminal> {
        let said =
            format!("{} {}x{}", spec.args.join("|"), size.cols, size.rows);
        let owned = id.to_owned();
        self.enter("exec_terminal", id, move |world| {
            let id = owned.as_str();
            world.containers.get(id).ok_or_else(|| not_found(id))?;
            let (input, mut inputs) = tokio::sync::mpsc::channel(4);
            let (outputs, output) = tokio::sync::mpsc::channel(4);
            let (told, exit) = tokio::sync::oneshot::channel();
            tokio::spawn(async move {
                let _ = outputs.send(said.into()).await;
                while let Some(input) = inputs.recv().await {
                    match input {
                        TerminalInput::Bytes(bytes) => {
                            let _ = outputs.send(bytes.clone()).await;
                            if bytes.as_ref() == b"q" {
                                break;
                            }
                        }
                        TerminalInput::Size(size) => {
                            let text = format!("{}x{}", size.cols, size.rows);
                            let _ = outputs.send(text.into()).await;
                        }
                    }
                }
                drop(outputs);
                let _ = told.send(3);
            });
            Ok(Terminal { input, output, exit })
        })
    }

    fn usage<'a>(&'a self, id: &'a str) -> Op<'a, Usage> {
        self.enter("usage", id, |_| {
            Ok(Usage {
                cpu_ns: 1_000_000_000,
                memory_bytes: 10 << 20,
                network: Some((1, 2)),
                storage: (3, 4),
            })
        })
    }

    fn remove<'a>(&'a self, id: &'a str) -> Op<'a, ()> {
        let owned = id.to_owned();
        self.enter("remove", id, move |world| {
            world.containers.remove(&owned);
            Ok(())
        })
    }

    fn list(&self) -> Op<'_, Vec<(String, ContainerState)>> {
        self.enter("list", "", |world| {
            let state = |container: &FakeContainer| match (
                &container.exit,
                container.started,
            ) {
                (Some(exit), _) => ContainerState::Exited(exit.clone()),
                (None, Some(started)) => ContainerState::Running(started),
                (None, None) => ContainerState::Created,
            };
            Ok(world
                .containers
                .iter()
                .map(|(id, container)| (id.clone(), state(container)))
                .collect())
        })
    }

    fn log_open<'a>(
        &'a self,
        id: &'a str,
        from: Option<&'a LogPosition>,
    ) -> Op<'a, Box<dyn LogSource>> {
        let at = from.map_or(0, |position| position.0.parse().unwrap());
        let source: Box<dyn LogSource> =
            Box::new(FakeLog { fake: self.clone(), id: id.into(), at });
        Box::pin(async { Ok(source) })
    }

    fn log_remove<'a>(&'a self, id: &'a str) -> Op<'a, ()> {
        let owned = id.to_owned();
        self.enter("unlog", id, move |world| {
            world.logs.remove(&owned);
            Ok(())
        })
    }
}

/// An image whose command is its own name, so that scripts find it.
fn image_facts(image: &str) -> ImageFacts {
    ImageFacts {
        digest: Some(format!("sha256:{image}")),
        id: format!("sha256:config-of-{image}"),
        cmd: vec![image.to_owned()],
        env: vec!["PATH=/bin".into()],
        layers: vec![PathBuf::from("/layers/1")],
        ..ImageFacts::default()
    }
}
