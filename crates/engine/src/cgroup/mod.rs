//! Control groups of tasks and containers, version 1 (also hybrid) and 2.
//!
//! A task's limits live in a parent group made here; its containers' groups
//! lie below, made by the shim. A path such as `/minato-1a2b/task/container`
//! names the same group in every hierarchy. On a hybrid host the version 1
//! controllers do the work and the unified hierarchy is left alone.
//!
//! Refused: systemd as the manager of groups. It needs D-Bus in every shim
//! and gives nothing but a second opinion on who owns the tree.

mod layout;
mod stats;

use std::io;
use std::path::PathBuf;

pub(crate) use layout::Layout;

/// One CPU scheduling period: 100 ms, the kernel's and ECS's own.
pub const CPU_PERIOD_US: u64 = 100_000;
/// Least quota the kernel takes (1 ms).
pub const CPU_QUOTA_MIN_US: u64 = 1_000;
/// Least CPU shares the kernel takes; ECS raises 0 and 1 to it.
pub const CPU_SHARES_MIN: u64 = 2;
/// Least memory a container is given: ECS and Docker refuse less than 6 MiB.
pub const MEMORY_MIN_BYTES: u64 = 6 << 20;
/// Least processes: the command and one child.
pub const PIDS_MIN: u64 = 2;

/// A control group could not be made, changed, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// No usable hierarchy is mounted below `/sys/fs/cgroup`.
    #[error("no control groups are mounted at /sys/fs/cgroup")]
    NotMounted,
    /// A path that would leave the engine's own group.
    #[error("{path:?} cannot be a control group")]
    InvalidPath {
        /// The path as given.
        path: String,
    },
    /// A file or directory of the group could not be used.
    #[error("could not {action} control group {}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Limits shared by all containers of a task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskLimits {
    /// CPU time per 100 ms, in microseconds: 100 000 = one CPU.
    pub cpu_quota_us: Option<u64>,
    /// Relative weight against other tasks.
    pub cpu_shares: Option<u64>,
    /// Hard memory limit.
    pub memory_bytes: Option<u64>,
}

/// The groups of tasks, all below one group of the engine's own.
#[derive(Clone, Debug)]
pub struct Cgroups {
    layout: Layout,
    root: String,
}

impl Cgroups {
    /// Finds out what the host has; `root` is the engine's own group, such as
    /// `/minato-1a2b`. Nothing is made yet.
    pub fn open(root: &str) -> Result<Self, CgroupError> {
        let root = checked(root)?;
        Ok(Cgroups { layout: Layout::detect()?, root })
    }

    /// What the host has.
    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Says whether the host uses cgroup version 2 only.
    pub fn is_unified(&self) -> bool {
        self.layout.is_unified()
    }

    /// Makes (or changes) a task's group and returns its path, for
    /// `ContainerSpec::cgroup_parent`.
    pub fn create_task(
        &self,
        name: &str,
        limits: &TaskLimits,
    ) -> Result<String, CgroupError> {
        let path = checked(&format!("{}/{name}", self.root))?;
        self.layout.create_parent(&path)?;
        self.layout.limit_cpu(&path, limits.cpu_quota_us, limits.cpu_shares)?;
        self.layout.limit_memory(&path, limits.memory_bytes)?;
        Ok(path)
    }

    /// Kills what is left in a task's group and removes it, with everything
    /// below. Repeating it is no error.
    pub fn remove_task(&self, name: &str) -> Result<(), CgroupError> {
        self.layout.remove_tree(&checked(&format!("{}/{name}", self.root))?)
    }

    /// Removes the engine's own group with everything below.
    pub fn remove_all(&self) -> Result<(), CgroupError> {
        self.layout.remove_tree(&self.root)
    }
}

/// Refuses paths that are empty, relative, or step upwards.
pub(crate) fn checked(path: &str) -> Result<String, CgroupError> {
    let whole = path.strip_prefix('/').unwrap_or("");
    let plain = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && part.len() <= 255
            && part.bytes().all(|b| b.is_ascii_graphic())
    };
    if path.len() <= 1024 && whole.split('/').all(plain) {
        Ok(path.to_owned())
    } else {
        Err(CgroupError::InvalidPath { path: path.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checked_refuses_paths_that_leave_the_root() {
        for good in ["/a", "/minato-1/task-2/c_3.x"] {
            assert_eq!(checked(good).unwrap(), good);
        }
        for bad in ["", "/", "a", "/a/../b", "/./a", "/a//b", "/a/", "/a b"] {
            assert!(checked(bad).is_err(), "{bad:?}");
        }
    }
}
