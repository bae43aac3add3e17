//! What can go wrong, one enum per operation.

use std::io;
use std::path::PathBuf;

use super::{ContainerId, ResolveUserError, RootfsError, UnknownCapability};
use crate::cgroup::CgroupError;

/// The engine could not take up its containers.
#[derive(Debug, thiserror::Error)]
pub enum OpenContainersError {
    /// A directory or file could not be used.
    #[error("could not use {}", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Control groups are missing or misnamed.
    #[error("could not use control groups")]
    Cgroup(#[from] CgroupError),
    /// Without a command there is no shim.
    #[error("the shim command is empty")]
    NoShimCommand,
    /// The shim's program cannot be kept from being changed.
    #[error("could not take the program {}", .path.display())]
    Program {
        /// The program.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// A container could not be created.
#[derive(Debug, thiserror::Error)]
pub enum CreateContainerError {
    /// The id is taken by a container with another specification.
    #[error("container {id} exists with another specification")]
    Exists {
        /// The id.
        id: ContainerId,
    },
    /// A field that can never work.
    #[error("invalid specification: {reason}")]
    Invalid {
        /// Which field, and why.
        reason: String,
    },
    /// A capability that does not exist.
    #[error("invalid specification")]
    Capability(#[from] UnknownCapability),
    /// The root file system could not be set up.
    #[error("could not set up the root file system of container {id}")]
    Rootfs {
        /// The container.
        id: ContainerId,
        /// Why not.
        source: RootfsError,
    },
    /// A directory or file could not be written.
    #[error("could not write {}", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// How far a start got before it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartStage {
    /// The shim could not be run or prepared.
    Shim,
    /// Root file system, user, devices or seccomp filter.
    Prepare,
    /// Namespaces, mounts or control groups.
    Create,
    /// The command itself: not found, not executable, wrong format.
    Exec,
}

/// A container could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartContainerError {
    /// No such container.
    #[error("there is no container {id}")]
    NotFound {
        /// The id.
        id: ContainerId,
    },
    /// It has ended, and was not to be started again.
    #[error("container {id} has ended")]
    Ended {
        /// The id.
        id: ContainerId,
    },
    /// The container whose namespace it would share does not run.
    #[error("container {id} shares a namespace of {other}, which does not run")]
    NoSuchNamespace {
        /// The container.
        id: ContainerId,
        /// The other.
        other: ContainerId,
    },
    /// A file could not be used or the shim not be run.
    #[error("could not {action} for container {id}")]
    Io {
        /// The container.
        id: ContainerId,
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The shim reports that the container cannot run.
    #[error("cannot start container {id}: {message}")]
    CannotStart {
        /// The container.
        id: ContainerId,
        /// How far it got.
        stage: StartStage,
        /// The system's error number if there is one, such as ENOENT for a
        /// command that is not there.
        errno: Option<i32>,
        /// In words.
        message: String,
    },
}

/// A container could not be signalled, watched, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// No such container.
    #[error("there is no container {id}")]
    NotFound {
        /// The id.
        id: ContainerId,
    },
    /// It does not run (any more).
    #[error("container {id} is not running")]
    NotRunning {
        /// The id.
        id: ContainerId,
    },
    /// Its shim could not be asked.
    #[error("could not ask the shim of container {id}")]
    Shim {
        /// The container.
        id: ContainerId,
        /// Why not.
        source: io::Error,
    },
    /// Its shim said no.
    #[error("container {id}: {message}")]
    Refused {
        /// The container.
        id: ContainerId,
        /// The shim's reason.
        message: String,
        /// The system's error number if there is one.
        errno: Option<i32>,
    },
    /// A control group could not be removed.
    #[error("could not remove the control group of container {id}")]
    Cgroup {
        /// The container.
        id: ContainerId,
        /// Why not.
        source: CgroupError,
    },
    /// The root file system could not be taken down.
    #[error("could not take down the root file system of container {id}")]
    Rootfs {
        /// The container.
        id: ContainerId,
        /// Why not.
        source: RootfsError,
    },
    /// The user of an exec does not exist.
    #[error("could not resolve the user for container {id}")]
    User {
        /// The container.
        id: ContainerId,
        /// Why not.
        source: ResolveUserError,
    },
}
