//! Making file systems, by the programs that come with them.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{VolumeError, io_error};

/// Where the programs are, in case the search path is a user's.
const PROGRAM_DIRS: [&str; 4] =
    ["/usr/sbin", "/sbin", "/usr/bin", "/usr/local/sbin"];
/// Longest text kept of a program that failed.
const OUTPUT_MAX: usize = 512;

/// A file system in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// ext3, as ext4's kernel code writes it.
    Ext3,
    /// ext4.
    Ext4,
    /// ext4 without a journal: for what need not survive a crash.
    Scratch,
    /// XFS.
    Xfs,
}

impl Format {
    /// By which the kernel knows it.
    pub(super) const fn kernel_name(self) -> &'static str {
        match self {
            Format::Ext3 | Format::Ext4 | Format::Scratch => "ext4",
            Format::Xfs => "xfs",
        }
    }

    /// Options of its mount.
    pub(super) const fn options(self) -> &'static str {
        match self {
            // Freed blocks go back to the host's disk.
            Format::Ext3 | Format::Ext4 | Format::Xfs => "discard",
            // Nor does it matter what reached the disk, or in what order.
            Format::Scratch => "discard,noinit_itable",
        }
    }

    const fn program(self) -> (&'static str, &'static str) {
        match self {
            Format::Ext3 => ("mkfs.ext3", "e2fsprogs"),
            Format::Ext4 | Format::Scratch => ("mkfs.ext4", "e2fsprogs"),
            Format::Xfs => ("mkfs.xfs", "xfsprogs"),
        }
    }

    /// No block is kept for root, whom every container has; the file is
    /// empty already.
    const fn arguments(self) -> &'static [&'static str] {
        match self {
            Format::Ext3 | Format::Ext4 => {
                &["-q", "-F", "-m", "0", "-E", "nodiscard"]
            }
            Format::Scratch => &[
                "-q",
                "-F",
                "-m",
                "0",
                "-E",
                "nodiscard",
                "-O",
                "^has_journal",
            ],
            Format::Xfs => &["-q", "-f", "-K"],
        }
    }
}

/// What this host can make volumes of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VolumeSupport {
    /// ext3 and ext4 in files.
    pub ext4: bool,
    /// XFS in files.
    pub xfs: bool,
    /// NFS.
    pub nfs: bool,
}

/// Looks at what this host has: loop devices, programs and the kernel's file
/// systems, those too that it would load when asked.
pub fn support() -> VolumeSupport {
    let loops = Path::new("/dev/loop-control").exists();
    let can_make = |format: Format| {
        loops
            && find(format.program().0).is_some()
            && kernel_has(format.kernel_name())
    };
    VolumeSupport {
        ext4: can_make(Format::Ext4) && can_make(Format::Ext3),
        xfs: can_make(Format::Xfs),
        nfs: kernel_has("nfs4") || kernel_has("nfs"),
    }
}

fn kernel_has(kind: &str) -> bool {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if known.lines().any(|line| line.split_whitespace().last() == Some(kind)) {
        return true;
    }
    // `nfs4` is of the module `nfs`.
    let module = kind.trim_end_matches(|c: char| kind == "nfs4" && c == '4');
    let release = fs::read_to_string("/proc/sys/kernel/osrelease");
    let release = release.unwrap_or_default();
    let modules = Path::new("/lib/modules").join(release.trim());
    modules.join("kernel/fs").join(module).is_dir()
}

fn find(program: &str) -> Option<PathBuf> {
    let dirs = PROGRAM_DIRS.iter().map(|dir| Path::new(dir).join(program));
    dirs.into_iter().find(|path| path.is_file())
}

/// Makes a file with a file system in it, where it is not there.
///
/// It gets its name when it is whole, so that one which is there is good.
pub(super) fn image(
    file: &Path,
    bytes: u64,
    format: Format,
) -> Result<(), VolumeError> {
    if file.exists() {
        return Ok(());
    }
    let unfinished = file.with_extension("new");
    if let Some(dir) = file.parent() {
        super::make_dir(dir)?;
    }
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(io_error("remove", &unfinished)(error));
        }
        Ok(()) | Err(_) => {}
    }
    let made = fill(&unfinished, bytes, format).and_then(|()| {
        fs::rename(&unfinished, file).map_err(io_error("create", file))
    });
    if made.is_err() {
        // What is left takes room; why it failed says more than that.
        let _ = fs::remove_file(&unfinished);
    }
    made
}

fn fill(path: &Path, bytes: u64, format: Format) -> Result<(), VolumeError> {
    let file = File::create_new(path).map_err(io_error("create", path))?;
    file.set_len(bytes).map_err(io_error("size", path))?;
    let (program, package) = format.program();
    let found =
        find(program).ok_or(VolumeError::NoProgram { program, package })?;
    let output = Command::new(found)
        .args(format.arguments())
        .arg(path)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .map_err(io_error("run", Path::new(program)))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: String = said.trim().chars().take(OUTPUT_MAX).collect();
    Err(VolumeError::Make { program, output: said })
}
