//! The shims' program, in a form that no container can change.
//!
//! A container can have its command be the program that starts it: a script
//! whose interpreter is `/proc/self/exe`. Another of its processes, root as the
//! program's owner is, then finds the host's file behind `/proc/PID/exe`
//! (CVE-2019-5736). Shims are therefore executed from a mount that is read-only
//! and in no namespace, so that nothing can make it writable again.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{OpenTreeFlags, open_tree};

use super::attributes;

/// A program, ready to be executed.
#[derive(Debug)]
pub(super) struct Program(OwnedFd);

impl Program {
    /// Takes the program at `path`. Fails on a kernel older than 5.12, without
    /// privileges, and where `path` is not in this process's mount namespace.
    pub(super) fn open(path: &OsStr) -> io::Result<Program> {
        let flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let program = Program(open_tree(CWD, path, flags)?);
        let attributes = libc::MOUNT_ATTR_RDONLY
            | libc::MOUNT_ATTR_NOSUID
            | libc::MOUNT_ATTR_NODEV;
        let itself = Path::new("");
        let how = libc::AT_EMPTY_PATH;
        attributes::set(&program.0, itself, attributes, how)?;
        Ok(program)
    }

    /// What this process and its children execute it by.
    pub(super) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }
}
