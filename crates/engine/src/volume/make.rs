//! Making file systems, by the programs that come with them.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::MemfdFlags;

use super::{VolumeError, io_error};

/// Where the programs are, in case the search path is a user's.
const PROGRAM_DIRS: [&str; 4] =
    ["/usr/sbin", "/sbin", "/usr/bin", "/usr/local/sbin"];
/// Longest text kept of a program that failed.
const OUTPUT_MAX: usize = 512;
/// How often a program is asked whether it has ended: for two minutes.
const RUN_TRIES: u32 = 12_000;
/// From one time to the next.
const RUN_PAUSE: Duration = Duration::from_millis(10);

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

/// The name of a file before it is whole; one that is left is of no use.
pub fn unfinished(file: &Path) -> PathBuf {
    file.with_extension("new")
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
    let unfinished = unfinished(file);
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
        // What goes with its task need not survive a crash.
        let is_kept = format != Format::Scratch;
        let sync = |path: &Path| match is_kept {
            true => File::open(path).and_then(|file| file.sync_all()),
            false => Ok(()),
        };
        sync(&unfinished)
            .and_then(|()| fs::rename(&unfinished, file))
            .and_then(|()| file.parent().map_or(Ok(()), sync))
            .map_err(io_error("create", file))
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
    let mut command = Command::new(found);
    command.args(format.arguments()).arg(path).env_clear();
    let (status, output) = run(&mut command, RUN_TRIES)
        .map_err(io_error("run", Path::new(program)))?;
    if status.success() {
        return Ok(());
    }
    Err(VolumeError::Make { program, output })
}

/// Runs a program to its end, or kills it when that does not come; what it
/// said of errors.
fn run(command: &mut Command, tries: u32) -> io::Result<(ExitStatus, String)> {
    // Not a pipe, which somebody would have to read meanwhile.
    let said = rustix::fs::memfd_create("output", MemfdFlags::CLOEXEC)?;
    let mut said = File::from(said);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(said.try_clone()?)
        .spawn()?;
    for _ in 0..tries {
        let Some(status) = child.try_wait()? else {
            sleep(RUN_PAUSE);
            continue;
        };
        said.rewind()?;
        let mut bytes = vec![];
        said.take(4 * OUTPUT_MAX as u64).read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        return Ok((status, text.trim().chars().take(OUTPUT_MAX).collect()));
    }
    child.kill()?;
    child.wait()?;
    Err(ErrorKind::TimedOut.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_does_not_end_is_killed() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo why >&2; exit 3"]);
        let (status, said) = run(&mut command, RUN_TRIES).unwrap();
        assert_eq!((status.code(), said.as_str()), (Some(3), "why"));
        let mut command = Command::new("sleep");
        let error = run(command.arg("1000"), 3).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }
}
