//! Which host directories a container sees, and where.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::image_volumes::directories;
use super::volumes::{Source, source};
use super::{ContainerContext, StepError};
use crate::runtime::{BindMount, ImageFacts};
use crate::task::plan::ContainerPlan;

/// How far `volumesFrom` is followed; more is a circle, which the check of
/// the dependencies has already refused.
const DEPTH_MAX: usize = 32;

/// A container's mounts: its own, those of the containers it names, and the
/// `VOLUME`s of its image.
pub(super) fn mounts(
    cx: &ContainerContext,
    image: &ImageFacts,
) -> Result<Vec<BindMount>, StepError> {
    let mut by_target = BTreeMap::new();
    collect(cx, &cx.plan, false, 0, &mut by_target)?;
    // Those of the image come last: whatever else is mounted there wins.
    for (path, dir) in directories(cx, &cx.plan, &image.volumes)? {
        add(&mut by_target, path, Source::writable(dir), false);
    }
    Ok(by_target.into_values().collect())
}

fn add(
    by_target: &mut BTreeMap<PathBuf, BindMount>,
    destination: PathBuf,
    source: Source,
    read_only: bool,
) {
    by_target.entry(destination.clone()).or_insert(BindMount {
        source: source.path,
        destination,
        readonly: read_only || source.read_only,
        within: source.within,
    });
}

fn collect(
    cx: &ContainerContext,
    plan: &ContainerPlan,
    read_only: bool,
    depth: usize,
    by_target: &mut BTreeMap<PathBuf, BindMount>,
) -> Result<(), StepError> {
    let error =
        |what: String| StepError::new("CannotCreateContainerError", what);
    if depth > DEPTH_MAX {
        return Err(error("volumesFrom goes in a circle".into()));
    }
    for mount in &plan.mounts {
        let volume =
            cx.task.plan.volumes.get(&mount.volume).ok_or_else(|| {
                error(format!("Unknown volume '{}'.", mount.volume))
            })?;
        let source = source(&cx.task, &mount.volume, volume)?;
        // The container's own mounts come first and win.
        let read_only = mount.read_only || read_only;
        add(by_target, mount.path.clone(), source, read_only);
    }
    if depth > 0
        && let Some(volumes) = cx.image_volumes.get(&plan.name)
    {
        for (path, dir) in directories(cx, plan, volumes)? {
            add(by_target, path, Source::writable(dir), read_only);
        }
    }
    for from in &plan.volumes_from {
        let other =
            cx.task.plan.container(&from.container).ok_or_else(|| {
                error(format!("there is no container {}", from.container))
            })?;
        let read_only = read_only || from.read_only;
        collect(cx, other, read_only, depth + 1, by_target)?;
    }
    Ok(())
}
