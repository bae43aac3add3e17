//! Which host directories a container sees, and where.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::volumes::source;
use super::{ContainerContext, StepError};
use crate::runtime::BindMount;
use crate::task::plan::ContainerPlan;

/// How far `volumesFrom` is followed; more is a circle, which the check of
/// the dependencies has already refused.
const DEPTH_MAX: usize = 32;

/// A container's mounts: its own, and those of the containers it names.
pub(super) fn mounts(
    cx: &ContainerContext,
) -> Result<Vec<BindMount>, StepError> {
    let mut by_target = BTreeMap::new();
    collect(cx, &cx.plan, false, 0, &mut by_target)?;
    Ok(by_target.into_values().collect())
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
        by_target.entry(mount.path.clone()).or_insert(BindMount {
            source: source.path,
            destination: mount.path.clone(),
            readonly: mount.read_only || read_only || source.read_only,
            within: source.within,
        });
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
