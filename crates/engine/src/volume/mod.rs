//! File systems that tasks get beside their layers: in files of a fixed size,
//! in memory, or from an NFS server.
//!
//! They are mounted in the host's mount namespace, from where a container's
//! binds take them. A container's own namespace would do for one container;
//! a volume is the task's, and must be the same file system in all of them,
//! whichever starts first and whoever is killed in between (ADR 0017).
//!
//! Everything may be repeated: a place where something is mounted is left as
//! it is, and a place where nothing is needs no unmounting.

#[expect(unsafe_code, reason = "loop devices are set up by ioctl alone")]
mod loop_device;
mod make;
mod options;
#[cfg(test)]
mod tests;
mod turn;

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags};
use parking_lot::Mutex;
use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags};

pub use make::{Format, VolumeSupport, support, unfinished};
pub use options::MountOptions;

/// How often an unmount is tried while something still looks at the place,
/// before it is only taken out of sight.
const UNMOUNT_TRIES: u32 = 20;
/// From one try to the next.
const UNMOUNT_PAUSE: Duration = Duration::from_millis(25);

/// One at a time: a file must not get a second loop device, which would write
/// over what the first one's file system has there; and what is mounted must
/// be seen by whoever shares it. Never held while a server or a program is
/// waited for: one that is dead would stop all volumes.
static MOUNTING: Mutex<()> = Mutex::new(());

/// Where a volume's files come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeSource {
    /// A file that holds a file system; made where it is not there.
    Image {
        /// The file.
        file: PathBuf,
        /// Its size; it takes room on the disk only as it is written.
        bytes: u64,
        /// The file system in it.
        format: Format,
        /// Permissions of its root directory.
        mode: u32,
    },
    /// Memory.
    Tmpfs {
        /// Options of the mount.
        options: MountOptions,
        /// A directory of directories: where one of them has something
        /// mounted under the place's name, that is what is mounted here too.
        siblings: Option<PathBuf>,
    },
    /// A directory of an NFS server.
    Nfs {
        /// `nfs` or `nfs4`.
        kind: String,
        /// `server:/path`.
        device: String,
        /// Options of the mount.
        options: MountOptions,
    },
}

/// Why a volume is not where it should be.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// A file or directory.
    #[error("could not {action} {}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The program that makes the file system is not there.
    #[error("there is no {program} on this host (package {package})")]
    NoProgram {
        /// The program.
        program: &'static str,
        /// The package that has it.
        package: &'static str,
    },
    /// It is there, and failed.
    #[error("{program} failed: {output}")]
    Make {
        /// The program.
        program: &'static str,
        /// What it said.
        output: String,
    },
    /// There is no loop device to be had.
    #[error("could not {action} a loop device for {}", .file.display())]
    Loop {
        /// What was tried.
        action: &'static str,
        /// For which file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The kernel does not know the file system.
    #[error("this host's kernel has no {kind}")]
    NoFilesystem {
        /// The file system.
        kind: String,
    },
    /// The kernel refused the mount.
    #[error("could not mount {device} at {}", .place.display())]
    Mount {
        /// What.
        device: String,
        /// Where.
        place: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

fn io_error(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> VolumeError {
    let path = path.to_owned();
    move |source| VolumeError::Io { action, path, source }
}

/// Mounts a volume at a place of its own, which is made where it is missing.
pub fn mount(source: &VolumeSource, place: &Path) -> Result<(), VolumeError> {
    let _turn = turn::take(place);
    make_dir(place)?;
    if is_mount_point(place)? {
        return Ok(());
    }
    match source {
        VolumeSource::Image { file, bytes, format, mode } => {
            {
                let _turn = turn::take(file);
                make::image(file, *bytes, *format)?;
            }
            let _one_at_a_time = MOUNTING.lock();
            let device = loop_device::attach(file)?;
            // Devices in it mean nothing: whoever could make some there could
            // make them elsewhere.
            let options = MountOptions {
                flags: MsFlags::MS_NODEV,
                data: format.options().to_owned(),
            };
            let path = device.path();
            mount_at(&path, place, format.kernel_name(), &options)?;
            fs::set_permissions(place, Permissions::from_mode(*mode))
                .map_err(io_error("set the permissions of", place))
        }
        VolumeSource::Tmpfs { options, siblings } => {
            let _one_at_a_time = MOUNTING.lock();
            match siblings.as_deref().map(|dir| sibling(dir, place)) {
                Some(Some(there)) => bind(&there, place),
                Some(None) | None => mount_at("tmpfs", place, "tmpfs", options),
            }
        }
        VolumeSource::Nfs { kind, device, options } => {
            mount_at(device, place, kind, options)
        }
    }
}

/// Unmounts what is at a place and removes the place; nothing there is fine.
///
/// Never removes a file: a place where something is still mounted keeps it.
pub fn unmount(place: &Path) -> Result<(), VolumeError> {
    let mut tries = 0;
    loop {
        let flags = if tries < UNMOUNT_TRIES {
            MntFlags::UMOUNT_NOFOLLOW
        } else {
            MntFlags::UMOUNT_NOFOLLOW | MntFlags::MNT_DETACH
        };
        match nix::mount::umount2(place, flags) {
            // There may be another below it.
            Ok(()) => {}
            Err(Errno::EBUSY) => {
                tries += 1;
                sleep(UNMOUNT_PAUSE);
            }
            Err(Errno::EINVAL | Errno::ENOENT | Errno::ENOTDIR) => break,
            Err(errno) => {
                return Err(io_error("unmount", place)(errno.into()));
            }
        }
    }
    match fs::remove_dir(place) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(io_error("remove", place)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Whether something is mounted just there.
pub fn is_mount_point(place: &Path) -> Result<bool, VolumeError> {
    // Not asked of a server that may be gone.
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::STATX_DONT_SYNC;
    match rustix::fs::statx(CWD, place, flags, StatxFlags::empty()) {
        Ok(found) => {
            Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
        }
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(errno) => Err(io_error("look at", place)(errno.into())),
    }
}

fn bind(there: &Path, place: &Path) -> Result<(), VolumeError> {
    let options = MountOptions { flags: MsFlags::MS_BIND, data: String::new() };
    mount_at(&there.to_string_lossy(), place, "", &options)
}

/// Where a volume is mounted already that others share.
fn sibling(dir: &Path, place: &Path) -> Option<PathBuf> {
    let name = place.file_name()?;
    let entries = fs::read_dir(dir).ok()?;
    let mut places =
        entries.filter_map(|entry| Some(entry.ok()?.path().join(name)));
    places.find(|one| one != place && is_mount_point(one).unwrap_or(false))
}

fn mount_at(
    device: &str,
    place: &Path,
    kind: &str,
    options: &MountOptions,
) -> Result<(), VolumeError> {
    let data = Some(options.data.as_str()).filter(|data| !data.is_empty());
    nix::mount::mount(Some(device), place, Some(kind), options.flags, data)
        .map_err(|errno| {
            if errno == Errno::ENODEV {
                return VolumeError::NoFilesystem { kind: kind.to_owned() };
            }
            VolumeError::Mount {
                device: device.to_owned(),
                place: place.to_owned(),
                source: errno.into(),
            }
        })
}

fn make_dir(dir: &Path) -> Result<(), VolumeError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(dir)
        .map_err(io_error("create", dir))
}
