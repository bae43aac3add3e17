//! The task's own volumes: empty directories that live as long as it does,
//! and host directories, made where there are none, as Docker does.

use std::path::{Path, PathBuf};

use futures_util::future::BoxFuture;

use super::{Step, StepError, TaskContext};
use crate::task::plan::VolumePlan;
use crate::task::record::TaskFacts;

pub(super) struct Volumes;

const KIND: &str = "CannotCreateVolumeError";

/// Where the files of a volume are.
pub(super) fn volume_path(
    task_dir: &Path,
    name: &str,
    volume: &VolumePlan,
) -> PathBuf {
    match volume {
        VolumePlan::Task => task_dir.join("volumes").join(file_name(name)),
        VolumePlan::Host(path) => path.clone(),
    }
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
            for (name, volume) in &cx.plan.volumes {
                let path = volume_path(&cx.dir, name, volume);
                tokio::fs::create_dir_all(&path).await.map_err(|error| {
                    StepError::new(KIND, format!("{}: {error}", path.display()))
                })?;
            }
            Ok(())
        })
    }

    fn down<'a>(
        &'a self,
        cx: &'a TaskContext,
        _facts: &'a mut TaskFacts,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move { remove_dir(cx.dir.join("volumes"), KIND).await })
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
