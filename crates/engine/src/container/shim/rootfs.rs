//! The root file system, in a mount namespace that only a start sees.
//!
//! A mount in the host's namespace costs every later start: the kernel copies
//! all mounts for each new container, and runtimes read the whole table. Here
//! the shim leaves for a namespace of its own, mounts, lets the container be
//! made, and comes back; the container's own namespace is then all that holds
//! the mount, and it ends with the container, whoever was killed before.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use crate::container::overlay::{Overlay, RootfsError};
use crate::container::paths::ContainerPaths;
use crate::container::user::open_inside;
use crate::container::{BindMount, ContainerSpec, Netns};

/// Where POSIX shared memory is.
const SHM: &str = "/dev/shm";

/// Where the runtime mounts what is the kernel's, and makes devices and links.
const SYSTEM: [&str; 3] = ["dev", "proc", "sys"];

/// A mount namespace of the shim's own; dropped, the shim is back where it
/// was.
#[derive(Debug)]
pub(super) struct Retreat {
    host: File,
}

impl Retreat {
    pub(super) fn enter() -> io::Result<Self> {
        let host = File::open("/proc/self/ns/mnt")?;
        unshare(CloneFlags::CLONE_NEWNS)?;
        let retreat = Retreat { host };
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        let none = None::<&str>;
        nix::mount::mount(none, "/", none, private, none)?;
        Ok(retreat)
    }
}

impl Drop for Retreat {
    fn drop(&mut self) {
        // The shim has one thread and its descriptors stay good, so this can
        // only fail for want of memory. It would go on with the mounts of
        // this moment, which hold all it needs.
        let _ = setns(&self.host, CloneFlags::CLONE_NEWNS);
    }
}

/// Opens the network namespace that the container joins, and takes the
/// directory of its pin out of sight with those of all others: the runtime
/// reads the table of mounts a dozen times for each container.
///
/// The specification names the open file then, which must outlive the start.
pub(super) fn hold_netns(spec: &mut ContainerSpec) -> io::Result<Option<File>> {
    let Netns::Path(path) = &mut spec.netns else { return Ok(None) };
    let file = File::open(&path)?;
    if let Some(pins) = path.parent() {
        // A Minato of before made them in a directory that is no mount.
        match umount2(pins, MntFlags::MNT_DETACH) {
            Ok(()) | Err(Errno::EINVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    *path = format!("/proc/self/fd/{}", file.as_raw_fd()).into();
    Ok(Some(file))
}

/// Mounts the container's root file system.
pub(super) fn mount(
    spec: &ContainerSpec,
    mount_points: &Path,
    paths: &ContainerPaths,
) -> Result<(), RootfsError> {
    let merged = paths.rootfs();
    let (upper, work) = match &spec.writable {
        Some(dir) => (dir.join("upper"), dir.join("work")),
        None => (paths.upper(), paths.work()),
    };
    Overlay {
        layers: &spec.layers,
        mount_points,
        upper: &upper,
        work: &work,
        merged: &merged,
    }
    .mount()?;
    check_system_directories(&merged)?;
    make_working_directory(&merged, &spec.cwd).map_err(|source| {
        let action = "make the working directory in";
        RootfsError::Io { action, path: merged.clone(), source }
    })
}

/// Refuses links of an image's in the places where the runtime makes files:
/// it would follow them as the host sees them.
fn check_system_directories(rootfs: &Path) -> Result<(), RootfsError> {
    for name in SYSTEM {
        let path = rootfs.join(name);
        let is_other = match path.symlink_metadata() {
            Ok(found) => !found.is_dir(),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        };
        if is_other {
            return Err(RootfsError::NotADirectory { name });
        }
    }
    Ok(())
}

/// Binds sources that others could lead elsewhere to places of the shim's
/// own, and has the specification name those.
pub(super) fn confine(
    spec: &mut ContainerSpec,
    paths: &ContainerPaths,
) -> Result<(), RootfsError> {
    for (number, mount) in spec.mounts.iter_mut().enumerate() {
        let Some(top) = &mount.within else { continue };
        let place = paths.run.join("mounts").join(number.to_string());
        let bound = bind_below(top, &mount.source, &place);
        bound.map_err(|source| {
            let (action, path) = ("mount", mount.source.clone());
            RootfsError::Io { action, path, source }
        })?;
        mount.source = place;
    }
    Ok(())
}

/// Has the container see the `/dev/shm` of the container whose IPC namespace
/// it joins, as Docker does: POSIX names for shared memory are files there.
pub(super) fn share_shm(
    spec: &mut ContainerSpec,
    ipc_namespace: &Path,
    paths: &ContainerPaths,
) -> Result<(), RootfsError> {
    let place = paths.run.join("mounts").join("shm");
    let taken = take_mount(&ipc_namespace.with_file_name("mnt"), SHM, &place);
    taken.map_err(|source| {
        let (action, path) = ("share", ipc_namespace.to_owned());
        RootfsError::Io { action, path, source }
    })?;
    // Before mounts of the caller's, which may be below it.
    let shm = BindMount {
        source: place,
        destination: SHM.into(),
        readonly: false,
        within: None,
    };
    spec.mounts.insert(0, shm);
    Ok(())
}

/// Mounts here what is mounted at a path of another mount namespace.
///
/// The kernel binds nothing of another namespace, but gives its visitors a
/// copy that belongs to none, which can be mounted anywhere.
fn take_mount(namespace: &Path, path: &str, place: &Path) -> io::Result<()> {
    let own = File::open("/proc/self/ns/mnt")?;
    let other = File::open(namespace)?;
    setns(&other, CloneFlags::CLONE_NEWNS)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_NO_AUTOMOUNT;
    let copy = open_tree(CWD, path, flags);
    setns(&own, CloneFlags::CLONE_NEWNS)?;
    std::fs::create_dir_all(place)?;
    let from_copy = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(move_mount(copy?, "", CWD, place, from_copy)?)
}

fn bind_below(top: &Path, source: &Path, place: &Path) -> io::Result<()> {
    let below = source
        .strip_prefix(top)
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let below =
        if below.as_os_str().is_empty() { Path::new(".") } else { below };
    let opened = rustix::fs::openat2(
        File::open(top)?,
        below,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS,
    )?;
    std::fs::create_dir_all(place)?;
    let opened = format!("/proc/self/fd/{}", opened.as_raw_fd());
    let (none, bind) = (None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC);
    Ok(nix::mount::mount(Some(opened.as_str()), place, none, bind, none)?)
}

/// Makes the working directory, as Docker does; links cannot lead out of the
/// root file system.
fn make_working_directory(rootfs: &Path, cwd: &str) -> io::Result<()> {
    let mut dir = File::open(rootfs)?.into();
    if cwd.is_empty() || open_inside(&dir, cwd, OFlags::PATH).is_ok() {
        return Ok(());
    }
    let mut path = String::new();
    let root: OwnedFd = File::open(rootfs)?.into();
    for part in cwd.split('/').filter(|p| !p.is_empty() && *p != ".") {
        path = format!("{path}/{part}");
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        dir = match open_inside(&root, &path, flags) {
            Ok(next) => next,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                rustix::fs::mkdirat(&dir, part, Mode::from_raw_mode(0o755))?;
                open_inside(&root, &path, flags)?
            }
            Err(e) => return Err(e),
        };
    }
    Ok(())
}
