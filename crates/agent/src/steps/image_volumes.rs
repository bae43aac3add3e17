//! The `VOLUME`s of an image: each container has a directory of its own for
//! each, filled with what the image has there. They live as long as the task
//! does, so that who has `volumesFrom` the container still has them when it
//! has ended.

use std::path::{Component, Path, PathBuf};

use super::volumes::own_dirs;
use super::{ContainerContext, StepError};
use crate::task::plan::ContainerPlan;

const KIND: &str = "CannotCreateContainerError";

/// Where the volumes of an image are mounted in one of the task's containers,
/// and which directories they are; without those in whose place it has
/// something else.
pub(super) fn directories(
    cx: &ContainerContext,
    plan: &ContainerPlan,
    volumes: &[String],
) -> Result<Vec<(PathBuf, PathBuf)>, StepError> {
    let mut found = vec![];
    for (number, given) in volumes.iter().enumerate() {
        let path = absolute(given)?;
        let is_taken = plan.mounts.iter().any(|mount| mount.path == path)
            || plan.tmpfs.iter().any(|tmpfs| tmpfs.destination == path);
        if !is_taken {
            // No volume of the task has such a name: `+` would be written
            // as its number.
            let name = format!("+{}+{number}", plan.id);
            found.push((path, own_dirs(&cx.task).join(name)));
        }
    }
    Ok(found)
}

/// A path of an image's as Docker cleans it.
fn absolute(given: &str) -> Result<PathBuf, StepError> {
    let mut path = PathBuf::from("/");
    for part in Path::new(given).components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::ParentDir => {
                path.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    if path == Path::new("/") {
        let what = format!("the image's VOLUME {given:?} is the root");
        return Err(StepError::new(KIND, what));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned() {
        for (given, path) in [
            ("/var/lib/db", "/var/lib/db"),
            ("data/", "/data"),
            ("/a//b/./../c", "/a/c"),
            ("../../x", "/x"),
        ] {
            assert_eq!(absolute(given), Ok(PathBuf::from(path)));
        }
        for root in ["", "/", "/a/..", "."] {
            let error = absolute(root).unwrap_err();
            assert!(error.message.contains("is the root"), "{error}");
        }
    }
}
