//! The task's volumes: directories of its own that live as long as it does,
//! host directories, made where there are none, as Docker does, Docker's
//! volumes, and directories that stand for EFS file systems.

use std::fs;
use std::path::PathBuf;

use futures_util::future::BoxFuture;

use super::{Step, StepError, TaskContext, docker_volume, efs};
use crate::task::plan::VolumePlan;
use crate::task::record::TaskFacts;

pub(super) struct Volumes;

pub(super) const KIND: &str = "CannotCreateVolumeError";

/// What is mounted for a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) read_only: bool,
    /// What links must not lead out of.
    pub(super) within: Option<PathBuf>,
}

impl Source {
    pub(super) fn writable(path: PathBuf) -> Source {
        Source { path, read_only: false, within: None }
    }
}

/// Where the files of a volume are.
pub(super) fn source(
    cx: &TaskContext,
    name: &str,
    volume: &VolumePlan,
) -> Result<Source, StepError> {
    match volume {
        VolumePlan::Task => Ok(Source::writable(own_dir(cx, name))),
        VolumePlan::Host(path) => Ok(Source::writable(path.clone())),
        VolumePlan::Docker(docker) => docker_volume::source(cx, name, docker),
        VolumePlan::Efs(plan) => {
            let found = efs::resolve(&cx.services.config.efs, plan)?;
            let (top, path) = found;
            // Links in a file system that others write to may lead elsewhere
            // by the time it is mounted.
            Ok(Source { path, read_only: false, within: Some(top) })
        }
    }
}

/// The directory of a volume that Docker would fill, which are its own: all
/// but directories that were there before.
pub(super) fn own_files(
    cx: &TaskContext,
    name: &str,
    volume: &VolumePlan,
) -> Result<Option<PathBuf>, StepError> {
    match volume {
        VolumePlan::Task => Ok(Some(own_dir(cx, name))),
        VolumePlan::Docker(docker) => {
            docker_volume::own_files(cx, name, docker)
        }
        VolumePlan::Host(_) | VolumePlan::Efs(_) => Ok(None),
    }
}

/// Makes a volume, where it is not there.
fn make(
    cx: &TaskContext,
    name: &str,
    volume: &VolumePlan,
) -> Result<(), StepError> {
    match volume {
        // A file, a socket or a device is mounted as it is.
        VolumePlan::Host(path) if path.exists() => Ok(()),
        VolumePlan::Task | VolumePlan::Host(_) => {
            let path = source(cx, name, volume)?.path;
            fs::create_dir_all(&path).map_err(|error| {
                StepError::new(KIND, format!("{}: {error}", path.display()))
            })
        }
        VolumePlan::Docker(docker) => {
            docker_volume::make(cx, name, docker)?;
            source(cx, name, volume).map(drop)
        }
        VolumePlan::Efs(_) => source(cx, name, volume).map(drop),
    }
}

/// The directory of a volume of the task's own.
pub(super) fn own_dir(cx: &TaskContext, name: &str) -> PathBuf {
    cx.dir.join("volumes").join(file_name(name))
}

/// A volume's name as the name of a directory: anything but letters, digits,
/// `-` and `_` is written as its number.
fn file_name(name: &str) -> String {
    let mut file = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            file.push(char::from(byte));
        } else {
            file.push_str(&format!("%{byte:02x}"));
        }
    }
    file
}

impl Step<TaskContext, TaskFacts> for Volumes {
    fn name(&self) -> &'static str {
        "volumes"
    }

    fn up<'a>(
        &'a self,
        cx: &'a TaskContext,
        _facts: &'a mut TaskFacts,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        let cx = cx.clone();
        Box::pin(async move {
            let work = move || {
                let mut volumes = cx.plan.volumes.iter();
                volumes.try_for_each(|(name, volume)| make(&cx, name, volume))
            };
            let done = tokio::task::spawn_blocking(work).await;
            done.map_err(|error| StepError::new(KIND, error))?
        })
    }

    fn down<'a>(
        &'a self,
        cx: &'a TaskContext,
        _facts: &'a mut TaskFacts,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move {
            remove_dir(docker_volume::unfinished(cx), KIND).await?;
            remove_dir(cx.dir.join("volumes"), KIND).await
        })
    }
}

/// Removes a directory and what is in it, if it is there.
pub(super) async fn remove_dir(
    path: PathBuf,
    kind: &'static str,
) -> Result<(), StepError> {
    match tokio::fs::remove_dir_all(&path).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(StepError::new(kind, format!("{}: {error}", path.display())))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
