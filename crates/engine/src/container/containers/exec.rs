//! Running a further command inside a container.

use super::*;
use crate::container::monitor::CODE_KILLED;
use crate::container::paths::read_json;
use crate::container::plan;
use crate::container::protocol::ProcessPlan;
use crate::container::user::{self, Identity};

impl Containers {
    /// Runs a command inside a running container and waits for it. When the
    /// time is up it is killed and the output says so.
    pub async fn exec(
        &self,
        id: &ContainerId,
        spec: &ExecSpec,
        timeout: Duration,
    ) -> Result<ExecOutput, ContainerError> {
        let entry = self.found(id)?;
        let shim = |source| ContainerError::Shim { id: id.clone(), source };
        let process = self.process_in(&entry, spec).await?;
        let request = RequestBody::Exec {
            process: Box::new(process),
            output_max_bytes: spec.output_max_bytes,
        };
        let mut connection =
            ShimConnection::open(&entry.paths.run).map_err(shim)?;
        // Closing the connection, here by giving up, kills the command.
        let answer = tokio::time::timeout(timeout, connection.ask(request));
        let Ok(answer) = answer.await else {
            return Ok(ExecOutput {
                exit_code: CODE_KILLED,
                output: vec![],
                truncated: false,
                timed_out: true,
            });
        };
        match answer.map_err(shim)? {
            Answer::ExecEnded { code, output, truncated } => Ok(ExecOutput {
                exit_code: code,
                output: output.0,
                truncated,
                timed_out: false,
            }),
            Answer::Refused { message, errno } => {
                Err(ContainerError::Refused { id: id.clone(), message, errno })
            }
            Answer::Ok
            | Answer::Terminal
            | Answer::Logged
            | Answer::Exited(_) => Err(shim(io::ErrorKind::InvalidData.into())),
        }
    }

    /// How a process becomes the command in a container that runs.
    pub(super) async fn process_in(
        &self,
        entry: &Arc<Entry>,
        spec: &ExecSpec,
    ) -> Result<ProcessPlan, ContainerError> {
        let id = &entry.spec.id;
        let state = entry.state.borrow().clone();
        let ContainerState::Running(started) = state else {
            return Err(ContainerError::NotRunning { id: id.clone() });
        };
        let mut as_container = ContainerSpec {
            args: spec.args.clone(),
            user: spec.user.clone().unwrap_or(entry.spec.user.clone()),
            cwd: spec.cwd.clone().unwrap_or(entry.spec.cwd.clone()),
            ..entry.spec.clone()
        };
        let own_env = spec.env.clone();
        if let Err(e) = plan::check(&as_container) {
            let (id, message) = (id.clone(), e.to_string());
            return Err(ContainerError::Refused { id, message, errno: None });
        }
        let shim = |source| ContainerError::Shim { id: id.clone(), source };
        let (inner, owner) = (self.inner.clone(), entry.clone());
        blocking(move || {
            let launch = read_json::<Launch>(&owner.paths.launch());
            if let Some(launch) = launch.ok().flatten() {
                launch.secret_env.set_in(&mut as_container.env);
            }
            as_container.env.extend(own_env);
            let groups = &as_container.additional_groups;
            let identity =
                identity_in(&owner, started, &as_container.user, groups)?;
            plan::process(&as_container, &identity, &inner.filters()).map_err(
                |e| ContainerError::Refused {
                    id: owner.spec.id.clone(),
                    message: e.to_string(),
                    errno: None,
                },
            )
        })
        .await
        .map_err(shim)?
    }
}

/// Looks a user up in the root file system that the container's first
/// process sees; nobody else does.
fn identity_in(
    entry: &Entry,
    started: Started,
    user: &str,
    groups: &[String],
) -> Result<Identity, ContainerError> {
    let id = || entry.spec.id.clone();
    let rootfs = PathBuf::from(format!("/proc/{}/root", started.pid));
    let found = user::resolve(&rootfs, user, groups);
    // Asked afterwards: the process id may be another's by now.
    let running = read_json::<Running>(&entry.paths.running());
    let is_it = running.ok().flatten().is_some_and(|running| {
        running.started == started && running.init.is_alive()
    });
    if !is_it {
        return Err(ContainerError::NotRunning { id: id() });
    }
    found.map_err(|source| ContainerError::User { id: id(), source })
}
