//! The root file system: read-only layers below, one writable layer on top.
//!
//! Layers are named to the kernel as `/proc/self/fd/N`. That is short enough
//! for 127 layers in one mount(2) page on every kernel, needs no directory of
//! symbolic links, and no path can be misread as an option.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags};

/// Most layers of an image; Docker's own limit, and what fits in one page.
pub const LAYERS_MAX: usize = 127;

/// A root file system could not be set up or taken down.
#[derive(Debug, thiserror::Error)]
pub enum RootfsError {
    /// An image needs a layer.
    #[error("a container needs at least one layer")]
    NoLayers,
    /// More layers than an image can have.
    #[error("{count} layers are more than the {LAYERS_MAX} an image can have")]
    TooManyLayers {
        /// How many were given.
        count: usize,
    },
    /// A layer or directory could not be opened, made or removed.
    #[error("could not {action} {}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A place of the kernel's files is something else in the image.
    #[error("the image's /{name} is not a directory")]
    NotADirectory {
        /// `dev`, `proc` or `sys`.
        name: &'static str,
    },
    /// The kernel refused the mount.
    #[error("could not mount the root file system at {}", .path.display())]
    Mount {
        /// The mount point.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// The directories of one container's root file system.
#[derive(Clone, Debug)]
pub(crate) struct Overlay<'a> {
    /// Image layers, bottom first.
    pub(crate) layers: &'a [PathBuf],
    /// The layer below them, see [`make_mount_points`].
    pub(crate) mount_points: &'a Path,
    /// What the container writes; on a disk.
    pub(crate) upper: &'a Path,
    /// The kernel's scratch directory, on the same disk.
    pub(crate) work: &'a Path,
    /// Where it appears.
    pub(crate) merged: &'a Path,
}

impl Overlay<'_> {
    /// Mounts it.
    pub(crate) fn mount(&self) -> Result<(), RootfsError> {
        let layers = usable(self.layers)?;
        for dir in [self.upper, self.work, self.merged] {
            make_dir(dir)?;
        }
        // A volatile overlay that was not unmounted (a crash) refuses to be
        // mounted again; nothing below depends on what it missed to write.
        let stale = self.work.join("work/incompat");
        remove_dir_all(&stale)?;
        let open =
            |dir: &Path| File::open(dir).map_err(io_error("open layer", dir));
        // The kernel wants the topmost first.
        let lower = layers
            .iter()
            .rev()
            .map(|dir| dir.as_path())
            .chain([self.mount_points])
            .map(open)
            .collect::<Result<Vec<_>, _>>()?;
        let (upper, work) = (open(self.upper)?, open(self.work)?);
        let link = |file: &File| format!("/proc/self/fd/{}", file.as_raw_fd());
        let lower = lower.iter().map(link).collect::<Vec<_>>().join(":");
        let options = format!(
            "lowerdir={lower},upperdir={},workdir={},volatile",
            link(&upper),
            link(&work)
        );
        nix::mount::mount(
            Some("overlay"),
            self.merged,
            Some("overlay"),
            MsFlags::empty(),
            Some(options.as_str()),
        )
        .map_err(|errno| RootfsError::Mount {
            path: self.merged.to_owned(),
            source: errno.into(),
        })
    }
}

/// Makes the layer below all images: what is mounted in every container. An
/// image that has not even these directories would get them in the written
/// layer, at each start. Docker lays the same over its images.
pub(crate) fn make_mount_points(dir: &Path) -> io::Result<()> {
    for name in ["dev", "etc", "proc", "sys"] {
        DirBuilder::new().recursive(true).mode(0o755).create(dir.join(name))?;
    }
    for name in ["hostname", "hosts", "resolv.conf"] {
        let path = dir.join("etc").join(name);
        match File::create_new(&path) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            made => made?.set_permissions(Permissions::from_mode(0o644))?,
        }
    }
    Ok(())
}

/// Refuses what no root file system can be made of.
pub(crate) fn check(layers: &[PathBuf]) -> Result<(), RootfsError> {
    for dir in usable(layers)? {
        fs::metadata(dir).map_err(io_error("open layer", dir))?;
    }
    Ok(())
}

fn usable(layers: &[PathBuf]) -> Result<Vec<&PathBuf>, RootfsError> {
    if layers.is_empty() {
        return Err(RootfsError::NoLayers);
    }
    let layers = without_repeats(layers);
    if layers.len() > LAYERS_MAX {
        return Err(RootfsError::TooManyLayers { count: layers.len() });
    }
    Ok(layers)
}

/// Unmounts a root file system, however many times it was mounted.
pub(crate) fn unmount(merged: &Path) -> Result<(), RootfsError> {
    loop {
        match nix::mount::umount2(merged, MntFlags::MNT_DETACH) {
            Ok(()) => {}
            Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => {
                return Ok(());
            }
            Err(errno) => {
                return Err(io_error("unmount", merged)(errno.into()));
            }
        }
    }
}

/// Keeps the topmost of equal layers: what a lower one adds, the upper one
/// adds again, and the kernel refuses the same directory twice.
fn without_repeats(layers: &[PathBuf]) -> Vec<&PathBuf> {
    let mut kept: Vec<&PathBuf> = vec![];
    for layer in layers.iter().rev() {
        if !kept.contains(&layer) {
            kept.push(layer);
        }
    }
    kept.reverse();
    kept
}

/// Makes a directory with its parents. The container's root must be open to
/// all users in it (0755); what lies around it stays closed by the data
/// directory's own mode.
fn make_dir(dir: &Path) -> Result<(), RootfsError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(dir)
        .map_err(io_error("create", dir))
}

/// Removes a directory with what is in it; none is no error.
pub(crate) fn remove_dir_all(dir: &Path) -> Result<(), RootfsError> {
    crate::tree::remove(dir).map_err(io_error("remove", dir))
}

fn io_error(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> RootfsError {
    let path = path.to_owned();
    move |source| RootfsError::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topmost_of_equal_layers_stays() {
        let layers = ["a", "b", "a", "c", "b"].map(PathBuf::from);
        let kept: Vec<_> = without_repeats(&layers)
            .into_iter()
            .map(|l| l.to_str().unwrap())
            .collect();
        assert_eq!(kept, ["a", "c", "b"]);
    }
}
