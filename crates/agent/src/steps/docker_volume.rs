//! Docker's volumes: a directory `_data`, and beside it a file that says with
//! what labels and driver options it was made.
//!
//! One of scope `task` is in the task's directory and goes with it. One of
//! scope `shared` is in the agent's, and nothing here ever removes it. It is
//! made elsewhere and put in its place whole, so that of tasks that start at
//! once one makes it, and none finds half of it.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::volumes::{KIND, Source, mounts_dir, own_dir, place};
use super::{StepError, TaskContext};
use crate::runtime::VolumeSource;
use crate::task::plan::{DockerVolumePlan, VolumeScope};
use crate::task::volume_decode::LocalMount;

/// The volume's files.
const DATA: &str = "_data";

/// What is kept of it.
const ABOUT: &str = "volume.json";

/// Volumes in the making, by task; no volume's name begins with a dot.
const UNFINISHED: &str = ".new";

/// What a volume was made with.
#[derive(Debug, Default, Serialize, Deserialize)]
struct About {
    name: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    options: BTreeMap<String, String>,
}

fn shared_dir(cx: &TaskContext) -> PathBuf {
    cx.services.config.dir.join("volumes")
}

fn volume_dir(
    cx: &TaskContext,
    name: &str,
    plan: &DockerVolumePlan,
) -> PathBuf {
    match plan.scope {
        VolumeScope::Task => own_dir(cx, name),
        VolumeScope::Shared { .. } => shared_dir(cx).join(name),
    }
}

/// Where this task's half-made volumes are.
pub(super) fn unfinished(cx: &TaskContext) -> PathBuf {
    shared_dir(cx).join(UNFINISHED).join(&cx.plan.id)
}

fn failed(path: &Path, error: &dyn Display) -> StepError {
    StepError::new(KIND, format!("{}: {error}", path.display()))
}

/// Makes a volume, where there is none and it may be made.
///
/// A shared one that is there is taken as it is: upstream compares labels and
/// options only where `ECS_SHARED_VOLUME_MATCH_FULL_CONFIG` is set, which it
/// is not by default, and Docker goes by the name alone.
pub(super) fn make(
    cx: &TaskContext,
    name: &str,
    plan: &DockerVolumePlan,
) -> Result<(), StepError> {
    let dir = volume_dir(cx, name, plan);
    if is_there(&dir) {
        return Ok(());
    }
    match plan.scope {
        VolumeScope::Task => {
            // What a crash left of it holds nothing yet.
            fill(&dir, &about(cx.plan.own_volume_name(name), plan))
                .map_err(|error| failed(&dir, &error))
        }
        VolumeScope::Shared { autoprovision: true } => {
            let unfinished = unfinished(cx).join(name);
            fill(&unfinished, &about(name.to_owned(), plan))
                .map_err(|error| failed(&unfinished, &error))?;
            match fs::rename(&unfinished, &dir) {
                // Another task was faster.
                Err(_) if is_there(&dir) => Ok(()),
                done => done.map_err(|error| failed(&dir, &error)),
            }
        }
        VolumeScope::Shared { autoprovision: false } => Err(StepError::new(
            "ResourceInitializationError",
            format!(
                "initialize volume: volume detection failed, volume '{name}' \
                 does not exist and autoprovision is set to false"
            ),
        )),
    }
}

fn about(name: String, plan: &DockerVolumePlan) -> About {
    About { name, labels: plan.labels.clone(), options: plan.options.clone() }
}

fn is_there(dir: &Path) -> bool {
    // Not through a link.
    dir.join(DATA).symlink_metadata().is_ok_and(|data| data.is_dir())
}

/// Fills a directory: the files last, as they are what makes it a volume.
fn fill(dir: &Path, about: &About) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let mut file = File::create(dir.join(ABOUT))?;
    file.write_all(&serde_json::to_vec(about)?)?;
    file.sync_all()?;
    let data = dir.join(DATA);
    fs::create_dir_all(&data)?;
    fs::set_permissions(&data, Permissions::from_mode(0o755))
}

/// Where its files are: in `_data`, or where its driver options say.
pub(super) fn source(
    cx: &TaskContext,
    name: &str,
    plan: &DockerVolumePlan,
) -> Result<Source, StepError> {
    let dir = volume_dir(cx, name, plan);
    if !is_there(&dir) {
        return Err(failed(&dir, &"there is no such volume"));
    }
    match local_mount(&dir)? {
        None => Ok(Source::writable(dir.join(DATA))),
        Some(LocalMount::Bind { device, read_only }) if device.is_dir() => {
            Ok(Source { path: device, read_only, within: None })
        }
        Some(LocalMount::Bind { device, .. }) => Err(StepError::new(
            KIND,
            format!(
                "failed to mount local volume: mount {}:{}: no such directory",
                device.display(),
                dir.join(DATA).display()
            ),
        )),
        Some(LocalMount::Tmpfs(_) | LocalMount::Nfs { .. }) => {
            Ok(Source::writable(mount_place(cx, name, plan)))
        }
    }
}

/// What is to be mounted on the host for it, and where; nothing for most.
///
/// As Docker does, in memory until the last task that has it is gone.
pub(super) fn to_mount(
    cx: &TaskContext,
    name: &str,
    plan: &DockerVolumePlan,
) -> Result<Option<(VolumeSource, PathBuf)>, StepError> {
    let source = match local_mount(&volume_dir(cx, name, plan))? {
        None | Some(LocalMount::Bind { .. }) => return Ok(None),
        Some(LocalMount::Tmpfs(options)) => {
            let siblings = match plan.scope {
                VolumeScope::Task => None,
                VolumeScope::Shared { .. } => Some(mounts_dir(cx)),
            };
            VolumeSource::Tmpfs { options, siblings }
        }
        Some(LocalMount::Nfs { kind, device, options }) => {
            VolumeSource::Nfs { kind, device, options }
        }
    };
    Ok(Some((source, mount_place(cx, name, plan))))
}

/// Shared volumes have names of their own there: those of a task's own may
/// be the same.
fn mount_place(
    cx: &TaskContext,
    name: &str,
    plan: &DockerVolumePlan,
) -> PathBuf {
    match plan.scope {
        VolumeScope::Task => place(cx, name),
        VolumeScope::Shared { .. } => {
            place(cx, name).with_file_name(format!("={name}"))
        }
    }
}

/// What the driver options say that a volume was made with.
fn local_mount(dir: &Path) -> Result<Option<LocalMount>, StepError> {
    let file = dir.join(ABOUT);
    let about: About = match fs::read(&file) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|error| failed(&file, &error))?,
        // Made by hand, which is how a volume is provided for definitions
        // that do not have it made.
        Err(error) if error.kind() == ErrorKind::NotFound => About::default(),
        Err(error) => return Err(failed(&file, &error)),
    };
    LocalMount::of(&about.options)
        .map_err(|what| failed(&file, &format!("{what} cannot be used")))
}

/// Its files, where they are in `_data`.
pub(super) fn own_files(
    cx: &TaskContext,
    name: &str,
    plan: &DockerVolumePlan,
) -> Result<Option<PathBuf>, StepError> {
    let data = volume_dir(cx, name, plan).join(DATA);
    let source = source(cx, name, plan)?;
    Ok((source.path == data).then_some(data))
}
