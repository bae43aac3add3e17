//! Attributes of mounts, for which rustix has no call yet.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Sets `MOUNT_ATTR_` flags of the mount at `path`, seen from the directory
/// `dir`; flags of the call, such as `AT_RECURSIVE`, in `how`.
///
/// Fails on a kernel older than 5.12.
pub(super) fn set(
    dir: impl AsFd,
    path: &Path,
    attributes: u64,
    how: libc::c_int,
) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: all zeros are "change nothing".
    let mut wanted = unsafe { std::mem::zeroed::<libc::mount_attr>() };
    wanted.attr_set = attributes;
    // SAFETY: an open descriptor, a string that ends in a zero byte, and a
    // structure of the size given; all outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            dir.as_fd().as_raw_fd(),
            path.as_ptr(),
            how,
            &raw const wanted,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
