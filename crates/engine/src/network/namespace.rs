//! Network namespaces: making, pinning and entering them.
//!
//! Work inside a namespace happens on a thread that ends with it. A thread of
//! tokio's must never be moved: whatever runs on it next would be lost.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags};

use super::error::{DoingStep, NetworkStepError};

/// The network namespace of the calling thread.
pub(super) const OWN_NAMESPACE: &str = "/proc/thread-self/ns/net";
/// Enough for our netlink buffers, which live on the heap.
const STACK_BYTES: usize = 512 * 1024;
/// The file system type of a pinned namespace (linux/magic.h).
const NSFS_MAGIC: i64 = 0x6e73_6673;

/// Runs `work` on a thread of its own in the namespace `host`.
///
/// The work is finished even if the caller stops waiting.
pub(super) async fn on_thread_in<T, E>(
    host: File,
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: From<NetworkStepError> + Send + 'static,
{
    on_thread(move || {
        enter(&host).doing("enter the host's network namespace")?;
        work()
    })
    .await
}

/// Runs `work` on a thread of its own.
pub(super) async fn on_thread<T, E>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: From<NetworkStepError> + Send + 'static,
{
    let (answer, answered) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("minato-network".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || {
            // Nobody listens any more when the caller was cancelled.
            let _ = answer.send(work());
        })
        .doing("start a network thread")?;
    answered.await.unwrap_or_else(|_| {
        let error = io::Error::other("the network thread panicked");
        Err(NetworkStepError::new("finish a network operation", error).into())
    })
}

/// Moves the calling thread into `namespace`.
pub(super) fn enter(namespace: impl AsFd) -> io::Result<()> {
    Ok(setns(namespace, CloneFlags::CLONE_NEWNET)?)
}

/// Moves the calling thread into the namespace pinned at `path`, making it
/// when there is none; says whether it was made.
pub(super) fn enter_or_create(path: &Path) -> Result<bool, NetworkStepError> {
    let shown = path.display();
    if is_pinned(path).doing(format_args!("look at {shown}"))? {
        let file = File::open(path).doing(format_args!("open {shown}"))?;
        enter(&file).doing(format_args!("enter namespace {shown}"))?;
        return Ok(false);
    }
    unshare(CloneFlags::CLONE_NEWNET).doing("make a network namespace")?;
    // An empty file may be here: a process died between these two steps.
    File::create(path).doing(format_args!("create {shown}"))?;
    mount(
        Some(OWN_NAMESPACE),
        path,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
    .doing(format_args!("pin a network namespace to {shown}"))?;
    Ok(true)
}

/// Makes a directory for pins that is a mount of its own, so that those who
/// need not see the pins can take them out of sight with it.
pub(super) fn make_pin_dir(dir: &Path) -> Result<(), NetworkStepError> {
    let shown = dir.display();
    fs::create_dir_all(dir).doing(format_args!("create {shown}"))?;
    let mut entries = fs::read_dir(dir).doing(format_args!("list {shown}"))?;
    // Pins of a Minato that made no mount of it would be hidden by one.
    if entries.next().is_some()
        || is_mount(dir).doing(format_args!("look at {shown}"))?
    {
        return Ok(());
    }
    let none = None::<&str>;
    mount(Some(dir), dir, none, MsFlags::MS_BIND, none)
        .doing(format_args!("mount {shown}"))
}

/// Removes a directory for pins, which must be empty.
pub(super) fn remove_pin_dir(dir: &Path) -> Result<(), NetworkStepError> {
    let shown = dir.display();
    while is_mount(dir).doing(format_args!("look at {shown}"))? {
        umount2(dir, MntFlags::MNT_DETACH)
            .doing(format_args!("unmount {shown}"))?;
    }
    fs::remove_dir(dir).doing(format_args!("remove {shown}"))
}

fn is_mount(dir: &Path) -> io::Result<bool> {
    let (flags, mask) = (AtFlags::empty(), StatxFlags::empty());
    let found = rustix::fs::statx(CWD, dir, flags, mask)?;
    Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Whether a namespace is mounted at `path`.
pub(super) fn is_pinned(path: &Path) -> io::Result<bool> {
    match rustix::fs::statfs(path) {
        Ok(found) => Ok(is_nsfs(&found)),
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[expect(
    clippy::unnecessary_cast,
    reason = "f_type has another integer type on other architectures"
)]
fn is_nsfs(found: &rustix::fs::StatFs) -> bool {
    found.f_type as i64 == NSFS_MAGIC
}

/// Lets go of the namespace pinned at `path`, if there is one.
///
/// The kernel frees it when its last process has gone.
pub(super) fn unpin(path: &Path) -> Result<(), NetworkStepError> {
    let shown = path.display();
    // A process that died at the wrong moment may have pinned twice.
    while is_pinned(path).doing(format_args!("look at {shown}"))? {
        umount2(path, MntFlags::MNT_DETACH)
            .doing(format_args!("unmount {shown}"))?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).doing(format_args!("remove {shown}"))
        }
        _ => Ok(()),
    }
}
