//! EFS file systems: directories of this host that stand for them.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs;
use std::path::PathBuf;

use super::StepError;
use crate::task::plan::EfsPlan;

/// The file system's directory, and the one in it that a volume means.
///
/// As on AWS it must be there: only access points make theirs. Links may not
/// lead out of the file system, whoever made them.
pub(super) fn resolve(
    efs: &BTreeMap<String, PathBuf>,
    plan: &EfsPlan,
) -> Result<(PathBuf, PathBuf), StepError> {
    let id = &plan.file_system_id;
    let failed = |why: &dyn Display| {
        StepError::new(
            "ResourceInitializationError",
            format!(
                "failed to set up EFS volumes: mounting {id}:{} failed: {why}",
                plan.root.display()
            ),
        )
    };
    let top = efs.get(id).ok_or_else(|| {
        failed(&format!(
            "no directory stands for the file system (minato up --efs {id}=DIR)"
        ))
    })?;
    let top = fs::canonicalize(top).map_err(|error| {
        failed(&format!("its directory {}: {error}", top.display()))
    })?;
    let below = plan.root.strip_prefix("/").unwrap_or(&plan.root);
    let path =
        fs::canonicalize(top.join(below)).map_err(|error| failed(&error))?;
    if !path.starts_with(&top) {
        return Err(failed(&"it leads out of the file system"));
    }
    if !path.is_dir() {
        return Err(failed(&"it is not a directory"));
    }
    Ok((top, path))
}
