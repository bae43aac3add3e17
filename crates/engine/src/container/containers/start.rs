//! Starting: the shim and its report.

use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::*;
use crate::container::paths::{read_json, write_json};
use crate::container::protocol::{LAUNCH, LaunchReport, LaunchStage};
use crate::container::{NamespaceMode, StartStage};

/// How long a start may take: a loaded host needs a tenth of a second.
const START_WITHIN_S: u8 = 60;
/// Longest report of a shim.
const REPORT_MAX_BYTES: u64 = 64 << 10;

impl Containers {
    /// Starts a container and waits until its command was executed.
    /// Repeating it returns the first start.
    pub async fn start(
        &self,
        id: &ContainerId,
    ) -> Result<Started, StartContainerError> {
        self.start_with(id, SecretEnv::default()).await
    }

    /// As [`Containers::start`], with variables that no disk may hold.
    pub async fn start_with(
        &self,
        id: &ContainerId,
        secret_env: SecretEnv,
    ) -> Result<Started, StartContainerError> {
        let missing = || StartContainerError::NotFound { id: id.clone() };
        let entry = self.entry(id).ok_or_else(missing)?;
        let _turn = entry.turn.lock().await;
        let state = entry.state.borrow().clone();
        match state {
            ContainerState::Running(started) => return Ok(started),
            ContainerState::Exited(_) => {
                let running = read_json::<Running>(&entry.paths.running());
                let running = running.ok().flatten();
                let ended = || StartContainerError::Ended { id: id.clone() };
                return running.map(|r| r.started).ok_or_else(ended);
            }
            ContainerState::Created => {}
        }
        let namespace = |mode: &NamespaceMode, kind: &str| match mode {
            NamespaceMode::Private | NamespaceMode::Host => Ok(None),
            NamespaceMode::Container(other) => {
                let path = self.namespace_of(other, kind);
                path.map(Some).ok_or_else(|| {
                    let (id, other) = (id.clone(), other.clone());
                    StartContainerError::NoSuchNamespace { id, other }
                })
            }
        };
        let pid_namespace = namespace(&entry.spec.pid_mode, "pid")?;
        let ipc_namespace = namespace(&entry.spec.ipc_mode, "ipc")?;
        let (inner, owner) = (self.inner.clone(), entry.clone());
        let failed = |action, source| StartContainerError::Io {
            id: id.clone(),
            action,
            source,
        };
        let started = blocking(move || {
            let launch =
                inner.launch(&owner, pid_namespace, ipc_namespace, secret_env);
            inner.start_shim(&owner, &launch)
        })
        .await
        .map_err(|source| failed("start the shim", source))??;
        self.watch(&entry, started);
        Ok(started)
    }

    /// Publishes a start and follows the shim.
    pub(super) fn watch(&self, entry: &Arc<Entry>, started: Started) {
        entry.state.send_replace(ContainerState::Running(started));
        entry.shim_gone.send_replace(false);
        let layout = self.inner.layout().clone();
        let connection = ShimConnection::open(&entry.paths.run);
        let entry = entry.clone();
        tokio::spawn(async move {
            match connection {
                Ok(connection) => {
                    monitor::follow(entry, connection, layout).await;
                }
                // A quick command may have ended, and its shim with it.
                Err(_) => monitor::follow_none(entry, layout).await,
            }
        });
    }

    fn namespace_of(&self, id: &ContainerId, kind: &str) -> Option<PathBuf> {
        match self.state(id)? {
            ContainerState::Running(started) => {
                Some(format!("/proc/{}/ns/{kind}", started.pid).into())
            }
            ContainerState::Created | ContainerState::Exited(_) => None,
        }
    }
}

impl Inner {
    fn launch(
        &self,
        entry: &Entry,
        pid_namespace: Option<PathBuf>,
        ipc_namespace: Option<PathBuf>,
        secret_env: SecretEnv,
    ) -> Launch {
        Launch {
            version: LAUNCH,
            root: entry.paths.root.clone(),
            run: entry.paths.run.clone(),
            cgroup: entry.cgroup.clone(),
            shim_cgroup: format!("{}/shims", self.config.cgroup_root),
            filters: self.filters(),
            mount_points: self.mount_points(),
            pid_namespace,
            ipc_namespace,
            secret_env,
        }
    }

    fn start_shim(
        &self,
        entry: &Entry,
        launch: &Launch,
    ) -> Result<Started, StartContainerError> {
        let id = || entry.spec.id.clone();
        let failed = |action| {
            let id = id();
            move |source| StartContainerError::Io { id, action, source }
        };
        let paths = &entry.paths;
        write_json(&paths.launch(), launch)
            .map_err(failed("write the plan"))?;
        let report = self.run_shim(&paths.launch());
        if report.is_err() {
            let _ = self.layout().remove_tree(&entry.cgroup);
        }
        match report.map_err(failed("run the shim"))? {
            LaunchReport::Started(started) => Ok(started),
            LaunchReport::Failed(failure) => {
                let _ = fs::remove_file(paths.launch());
                Err(StartContainerError::CannotStart {
                    id: id(),
                    stage: match failure.stage {
                        LaunchStage::Shim => StartStage::Shim,
                        LaunchStage::Prepare => StartStage::Prepare,
                        LaunchStage::Create => StartStage::Create,
                        LaunchStage::Exec => StartStage::Exec,
                    },
                    errno: failure.errno,
                    message: failure.message,
                })
            }
        }
    }

    /// Runs the shim and waits for its report. The process run here is only
    /// the shim's first; the shim itself leaves us at once.
    fn run_shim(&self, plan: &Path) -> io::Result<LaunchReport> {
        let Some((program, args)) = self.config.shim_command.split_first()
        else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let mut child = Command::new(self.program.path())
            .arg0(program)
            .args(args)
            .arg(plan)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let report = child.stdout.take();
        child.wait()?;
        let mut report =
            report.ok_or_else(|| io::Error::from(io::ErrorKind::BrokenPipe))?;
        let timeout = PollTimeout::from(u16::from(START_WITHIN_S) * 1000);
        let mut ready = [PollFd::new(report.as_fd(), PollFlags::POLLIN)];
        if poll(&mut ready, timeout)? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut text = vec![];
        report.by_ref().take(REPORT_MAX_BYTES).read_to_end(&mut text)?;
        if text.is_empty() {
            return Err(io::Error::other("the shim ended without a word"));
        }
        Ok(serde_json::from_slice(&text)?)
    }
}
