//! The daemon's side: creates, starts, watches and removes containers.
//!
//! States of one container: *created* (files and mount) → *running* (a shim)
//! → *exited* (files until removed), and from there perhaps *running* again.
//! What is true is on the disk and in the shims; this only remembers it. A new
//! daemon therefore finds everything again by looking.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::error::{
    ContainerError, CreateContainerError, OpenContainersError,
    StartContainerError,
};
use super::logs::{LogPosition, LogReader};
use super::monitor::{self, ShimConnection};
use super::overlay;
use super::paths::ContainerPaths;
use super::program::Program;
use super::protocol::{Answer, Launch, RequestBody, Running};
use super::{
    ContainerId, ContainerSpec, ContainerState, ContainerStats, ExecOutput,
    ExecSpec, Exit, SecretEnv, Started,
};
use crate::cgroup::{Cgroups, Layout};

mod create;
mod exec;
mod recover;
mod remove;
mod restart;
mod start;
mod terminal;

pub use terminal::{Terminal, TerminalInput};

/// How long a shim may take to answer; it does nothing that takes long.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The bottom layer of all containers; no container id begins so.
const MOUNT_POINTS: &str = ".mount-points";

/// Where containers live and how their shims are started.
#[derive(Clone, Debug)]
pub struct ContainersConfig {
    /// Directory on a disk: specifications, written layers, logs.
    pub root: PathBuf,
    /// Directory in memory (below `/run`): mounts, sockets.
    pub run_dir: PathBuf,
    /// Program and arguments that end up in `shim_main`, such as
    /// `["/proc/self/exe", "shim"]`.
    pub shim_command: Vec<OsString>,
    /// The engine's own control group, such as `/minato-1a2b`.
    pub cgroup_root: String,
    /// Says which start of the machine this is.
    pub boot_id_file: PathBuf,
}

impl ContainersConfig {
    /// The usual settings: the kernel's boot id.
    pub fn new(
        root: impl Into<PathBuf>,
        run_dir: impl Into<PathBuf>,
        shim_command: Vec<OsString>,
        cgroup_root: impl Into<String>,
    ) -> Self {
        ContainersConfig {
            root: root.into(),
            run_dir: run_dir.into(),
            shim_command,
            cgroup_root: cgroup_root.into(),
            boot_id_file: "/proc/sys/kernel/random/boot_id".into(),
        }
    }
}

/// The containers of this host. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Containers {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: ContainersConfig,
    /// The first of `config.shim_command`.
    program: Program,
    cgroups: Cgroups,
    boot_id: String,
    entries: Mutex<BTreeMap<ContainerId, Arc<Entry>>>,
}

/// One container, as the daemon knows it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) spec: ContainerSpec,
    pub(super) paths: ContainerPaths,
    pub(super) cgroup: String,
    pub(super) state: watch::Sender<ContainerState>,
    pub(super) log_signal: watch::Sender<super::logs::LogSignal>,
    pub(super) shim_gone: watch::Sender<bool>,
    /// Held by whoever changes what is on the disk.
    turn: tokio::sync::Mutex<()>,
}

impl Entry {
    /// Publishes the end, once.
    pub(super) fn publish_exit(&self, exit: Exit) {
        self.log_signal.send_modify(|signal| signal.is_complete = true);
        self.state.send_if_modified(|state| {
            let is_news = !matches!(state, ContainerState::Exited(_));
            if is_news {
                *state = ContainerState::Exited(exit);
            }
            is_news
        });
    }
}

/// What `spec.json` keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept<Spec> {
    /// The start of the machine that the container belongs to; a build that
    /// did not write it here left nothing that this one can take over.
    #[serde(default)]
    boot_id: String,
    #[serde(flatten)]
    pub(super) spec: Spec,
}

impl Containers {
    /// Takes up the containers found on this host: those that run are watched
    /// again, those that ended meanwhile are reported as exited.
    pub async fn open(
        config: ContainersConfig,
    ) -> Result<Self, OpenContainersError> {
        let Some(program) = config.shim_command.first() else {
            return Err(OpenContainersError::NoShimCommand);
        };
        let program = Program::open(program).map_err(|source| {
            let path = program.into();
            OpenContainersError::Program { path, source }
        })?;
        let cgroups = Cgroups::open(&config.cgroup_root)?;
        let usable = |path: &Path| {
            let path = path.to_owned();
            move |source| OpenContainersError::Io { path, source }
        };
        for dir in [&config.root, &config.run_dir] {
            fs::create_dir_all(dir).map_err(usable(dir))?;
        }
        let bottom = config.root.join(MOUNT_POINTS);
        overlay::make_mount_points(&bottom).map_err(usable(&bottom))?;
        let boot_id = fs::read_to_string(&config.boot_id_file)
            .map_err(usable(&config.boot_id_file))?
            .trim()
            .to_owned();
        let entries = Mutex::new(BTreeMap::new());
        let inner = Inner { config, program, cgroups, boot_id, entries };
        let containers = Containers { inner: Arc::new(inner) };
        containers.recover().await?;
        Ok(containers)
    }

    /// The control groups of tasks, below the same root.
    pub fn cgroups(&self) -> &Cgroups {
        &self.inner.cgroups
    }

    /// Lists all containers with their states.
    pub fn list(&self) -> Vec<(ContainerId, ContainerState)> {
        let entries = self.inner.entries.lock();
        let state = |entry: &Arc<Entry>| entry.state.borrow().clone();
        entries.iter().map(|(id, e)| (id.clone(), state(e))).collect()
    }

    /// Returns a container's state.
    pub fn state(&self, id: &ContainerId) -> Option<ContainerState> {
        Some(self.entry(id)?.state.borrow().clone())
    }

    /// Returns the specification a container was created with.
    pub fn spec(&self, id: &ContainerId) -> Option<ContainerSpec> {
        Some(self.entry(id)?.spec.clone())
    }

    /// Sends a signal to the container's first process. Signalling one that
    /// has ended is no error.
    pub async fn signal(
        &self,
        id: &ContainerId,
        number: i32,
    ) -> Result<(), ContainerError> {
        let entry = self.found(id)?;
        let state = entry.state.borrow().clone();
        match state {
            ContainerState::Exited(_) => return Ok(()),
            ContainerState::Created => {
                return Err(ContainerError::NotRunning { id: id.clone() });
            }
            ContainerState::Running(_) => {}
        }
        let shim = |source| ContainerError::Shim { id: id.clone(), source };
        let asked = async {
            let mut connection = ShimConnection::open(&entry.paths.run)?;
            connection.ask(RequestBody::Signal { number }).await
        };
        let answer = tokio::time::timeout(ANSWER_WITHIN, asked).await;
        match answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(Answer::Ok) => Ok(()),
            // It has just ended; whoever waits is about to hear of it.
            Ok(Answer::Refused { errno: Some(libc::ESRCH), .. }) => Ok(()),
            Ok(Answer::Refused { message, errno }) => {
                Err(ContainerError::Refused { id: id.clone(), message, errno })
            }
            Ok(_) => Err(shim(io::ErrorKind::InvalidData.into())),
            // A shim that does not answer is no reason to live.
            Err(_) if number == libc::SIGKILL => {
                self.inner.layout().kill(&entry.cgroup);
                Ok(())
            }
            Err(_) if *entry.shim_gone.borrow() => Ok(()),
            Err(source) => Err(shim(source)),
        }
    }

    /// Waits until a container has ended; at once if it has.
    pub async fn wait(&self, id: &ContainerId) -> Result<Exit, ContainerError> {
        let entry = self.found(id)?;
        let mut state = entry.state.subscribe();
        let ended = |s: &ContainerState| matches!(s, ContainerState::Exited(_));
        let gone = || ContainerError::NotFound { id: id.clone() };
        match &*state.wait_for(ended).await.map_err(|_| gone())? {
            ContainerState::Exited(exit) => Ok(exit.clone()),
            ContainerState::Created | ContainerState::Running(_) => Err(gone()),
        }
    }

    /// Reads what a running container uses.
    pub fn stats(
        &self,
        id: &ContainerId,
    ) -> Result<ContainerStats, ContainerError> {
        let entry = self.found(id)?;
        let stats = self.inner.layout().stats(&entry.cgroup);
        stats.ok_or_else(|| ContainerError::NotRunning { id: id.clone() })
    }

    /// Opens a container's log and follows it until the container has ended
    /// and everything was read.
    pub fn logs(
        &self,
        id: &ContainerId,
        position: LogPosition,
    ) -> Result<LogReader, ContainerError> {
        let entry = self.found(id)?;
        let signal = entry.log_signal.subscribe();
        Ok(LogReader::follow(&entry.paths.logs(), position, signal))
    }

    fn entry(&self, id: &ContainerId) -> Option<Arc<Entry>> {
        self.inner.entries.lock().get(id).cloned()
    }

    fn found(&self, id: &ContainerId) -> Result<Arc<Entry>, ContainerError> {
        let none = || ContainerError::NotFound { id: id.clone() };
        self.entry(id).ok_or_else(none)
    }
}

impl Inner {
    /// The control groups that the host has, found out once: the host's list
    /// of mounts, where they stand, grows with every container.
    fn layout(&self) -> &Layout {
        self.cgroups.layout()
    }

    fn paths(&self, id: &ContainerId) -> ContainerPaths {
        ContainerPaths::new(&self.config.root, &self.config.run_dir, id)
    }

    /// The bottom layer of all containers.
    fn mount_points(&self) -> PathBuf {
        self.config.root.join(MOUNT_POINTS)
    }

    /// The compiled seccomp filters of all containers.
    fn filters(&self) -> PathBuf {
        self.config.run_dir.join(".seccomp")
    }

    fn new_entry(&self, spec: ContainerSpec, state: ContainerState) -> Entry {
        let paths = self.paths(&spec.id);
        let parent = spec.cgroup_parent.as_deref();
        let parent = parent.unwrap_or(&self.config.cgroup_root);
        let cgroup = format!("{parent}/{}", spec.id);
        let is_complete = matches!(state, ContainerState::Exited(_));
        let signal = super::logs::LogSignal { writes: 0, is_complete };
        Entry {
            spec,
            paths,
            cgroup,
            state: watch::Sender::new(state),
            log_signal: watch::Sender::new(signal),
            shim_gone: watch::Sender::new(true),
            turn: tokio::sync::Mutex::new(()),
        }
    }
}

/// Runs blocking work off the async threads. The work must not panic.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(io::Error::other)
}
