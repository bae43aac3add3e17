//! The task's volumes: directories of its own that live as long as it does,
//! host directories, made where there are none, as Docker does, Docker's
//! volumes, directories that stand for EFS file systems, and file systems of
//! a fixed size: EBS volumes, and the one that bounds what a task writes.
//!
//! What is mounted on the host is mounted below `mounts/<task>`, and nothing
//! there is ever removed with its files: what could not be unmounted may be
//! somebody's data.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use futures_util::future::BoxFuture;
use minato_engine::volume::unfinished;

use super::efs::Found;
use super::{Step, StepError, TaskContext, docker_volume, efs};
use crate::config::AgentConfig;
use crate::runtime::{Format, VolumeSource};
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
            match efs::resolve(&cx.services.config, plan)? {
                // Links in a file system that others write to may lead
                // elsewhere by the time it is mounted.
                Found::Here(top, path) => {
                    Ok(Source { path, read_only: false, within: Some(top) })
                }
                Found::There(_) => Ok(Source::writable(place(cx, name))),
            }
        }
        VolumePlan::Ebs(_) => Ok(Source::writable(place(cx, name))),
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
        // An EBS volume is mounted as it is: nothing is copied into it.
        VolumePlan::Host(_) | VolumePlan::Efs(_) | VolumePlan::Ebs(_) => {
            Ok(None)
        }
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
        VolumePlan::Ebs(_) => Ok(()),
    }
}

/// Where this host's tasks have their mounts.
pub(super) fn mounts_dir(cx: &TaskContext) -> PathBuf {
    cx.services.config.dir.join("mounts")
}

/// Where a volume of the task is mounted on the host, if it is.
pub(super) fn place(cx: &TaskContext, name: &str) -> PathBuf {
    mounts_dir(cx).join(&cx.plan.id).join(file_name(name))
}

/// The file system that bounds what the task writes; no volume's place has a
/// dot in its name.
fn disk_place(cx: &TaskContext) -> PathBuf {
    mounts_dir(cx).join(&cx.plan.id).join(".disk")
}

/// The file that it is in.
fn disk_file(cx: &TaskContext) -> PathBuf {
    cx.dir.join("disk.img")
}

/// Where a container's written layer is, if what the task writes is bounded.
pub(super) fn writable(cx: &TaskContext, container: &str) -> Option<PathBuf> {
    let is_bounded = cx.plan.disk_bytes.is_some();
    is_bounded.then(|| disk_place(cx).join("containers").join(container))
}

/// The task's volume that is the place given, if that is an EBS volume.
pub(super) fn is_ebs(cx: &TaskContext, path: &Path) -> bool {
    let mut volumes = cx.plan.volumes.iter();
    volumes.any(|(name, volume)| {
        matches!(volume, VolumePlan::Ebs(_)) && place(cx, name) == path
    })
}

/// Where the files of EBS volumes are, those too that outlived their tasks.
pub(crate) fn ebs_dir(config: &AgentConfig) -> PathBuf {
    config.dir.join("ebs")
}

/// The file of an EBS volume.
pub(crate) fn ebs_file(config: &AgentConfig, id: &str) -> PathBuf {
    ebs_dir(config).join(format!("{id}.img"))
}

/// Mounts what bounds the task's own directories, before they are made.
async fn mount_disk(cx: &TaskContext) -> Result<(), StepError> {
    let Some(bytes) = cx.plan.disk_bytes else { return Ok(()) };
    let source = VolumeSource::Image {
        file: disk_file(cx),
        bytes,
        format: Format::Scratch,
        mode: 0o755,
    };
    let runtime = &cx.services.runtime;
    let mounted = runtime.volume_mount(&source, &disk_place(cx)).await;
    mounted.map_err(StepError::of(KIND))
}

/// Mounts the volumes that are no directories of the host's.
async fn mount_all(cx: &TaskContext) -> Result<(), StepError> {
    for (name, volume) in &cx.plan.volumes {
        let to_mount = match volume {
            VolumePlan::Ebs(plan) => Some((
                VolumeSource::Image {
                    file: ebs_file(&cx.services.config, &plan.volume_id),
                    bytes: plan.bytes,
                    format: plan.format,
                    // Its group may write (developer guide, "Non-root user
                    // behavior"), which such containers are given.
                    mode: 0o775,
                },
                place(cx, name),
            )),
            VolumePlan::Docker(docker) => {
                docker_volume::to_mount(cx, name, docker)?
            }
            VolumePlan::Efs(plan) => {
                match efs::resolve(&cx.services.config, plan)? {
                    Found::Here(..) => None,
                    Found::There(source) => Some((source, place(cx, name))),
                }
            }
            VolumePlan::Task | VolumePlan::Host(_) => None,
        };
        let Some((source, place)) = to_mount else { continue };
        let mounted = cx.services.runtime.volume_mount(&source, &place).await;
        mounted.map_err(|error| {
            let what = format!("failed to mount volume {name}: {error}");
            StepError::new(KIND, what)
        })?;
    }
    Ok(())
}

/// Does what could not be done when a task was undone: it took too long, or
/// somebody held on to a file.
pub(crate) async fn clear(cx: &TaskContext) -> Result<(), StepError> {
    unmount_all(cx).await?;
    remove_images(cx).await
}

/// Unmounts everything that the task has mounted, whatever its plan says.
async fn unmount_all(cx: &TaskContext) -> Result<(), StepError> {
    let dir = mounts_dir(cx).join(&cx.plan.id);
    let failed = |error: std::io::Error| {
        StepError::new(KIND, format!("{}: {error}", dir.display()))
    };
    let mut entries = match tokio::fs::read_dir(&dir).await {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    while let Some(entry) = entries.next_entry().await.map_err(failed)? {
        let place = entry.path();
        let unmounted = cx.services.runtime.volume_unmount(&place).await;
        unmounted.map_err(StepError::of(KIND))?;
    }
    tokio::fs::remove_dir(&dir).await.map_err(failed)
}

/// Removes the files of what goes with the task.
async fn remove_images(cx: &TaskContext) -> Result<(), StepError> {
    let ebs = cx.plan.volumes.values().filter_map(|volume| match volume {
        VolumePlan::Ebs(plan) if plan.delete_on_termination => {
            Some(ebs_file(&cx.services.config, &plan.volume_id))
        }
        VolumePlan::Task
        | VolumePlan::Host(_)
        | VolumePlan::Docker(_)
        | VolumePlan::Efs(_)
        | VolumePlan::Ebs(_) => None,
    });
    for file in ebs.chain([disk_file(cx)]) {
        remove_image(&file).await.map_err(|error| {
            StepError::new(KIND, format!("{}: {error}", file.display()))
        })?;
    }
    Ok(())
}

/// Removes a volume's file, and one that was never finished.
pub(crate) async fn remove_image(file: &Path) -> std::io::Result<()> {
    for file in [file, &unfinished(file)] {
        match tokio::fs::remove_file(file).await {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error);
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// The directory of a volume of the task's own.
pub(super) fn own_dir(cx: &TaskContext, name: &str) -> PathBuf {
    own_dirs(cx).join(file_name(name))
}

/// Where these are: what is written there counts, if the task's disk is
/// bounded.
pub(super) fn own_dirs(cx: &TaskContext) -> PathBuf {
    let dir = match cx.plan.disk_bytes {
        Some(_) => disk_place(cx),
        None => cx.dir.clone(),
    };
    dir.join("volumes")
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
        Box::pin(async move {
            mount_disk(cx).await?;
            let own = cx.clone();
            let work = move || {
                let mut volumes = own.plan.volumes.iter();
                volumes.try_for_each(|(name, volume)| make(&own, name, volume))
            };
            let done = tokio::task::spawn_blocking(work).await;
            done.map_err(|error| StepError::new(KIND, error))??;
            mount_all(cx).await
        })
    }

    fn down<'a>(
        &'a self,
        cx: &'a TaskContext,
        _facts: &'a mut TaskFacts,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move {
            unmount_all(cx).await?;
            remove_images(cx).await?;
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
    let shown = path.display().to_string();
    let work = move || minato_engine::tree::remove(&path);
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| StepError::new(kind, error))?
        .map_err(|error| StepError::new(kind, format!("{shown}: {error}")))
}
