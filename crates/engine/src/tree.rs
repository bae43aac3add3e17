//! Removing trees that containers made, however deep they are.
//!
//! The standard library's removal goes down with a stack frame and a
//! descriptor for each level. A container may nest directories without end
//! (`mkdir` and `chdir` know no longest path), and must not bring this process
//! down with them.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, RawDir, RenameFlags, openat, renameat_with,
    unlinkat,
};
use rustix::io::Errno;
use rustix::path::Arg;

/// Room for the names that are read at once.
const NAMES_BYTES: usize = 32 << 10;

/// Removes what is at a path, with all that is in it if that is a directory;
/// nothing there is no error.
///
/// Links are removed, not followed, but for those on the way to the path. At
/// most four descriptors are open at once: what is further down than one
/// level is first moved up into the topmost directory. A directory where
/// something is mounted stays, with an error.
pub fn remove(path: &Path) -> io::Result<()> {
    if !is_full(CWD, path)? {
        return Ok(());
    }
    let Some(top) = open_dir(CWD, path)? else { return Ok(()) };
    let mut moved = 0;
    let mut lower = |name: &CStr| remove_lower(&top, name, &mut moved);
    while each(&top, &mut lower)? {}
    remove_dir(CWD, path)
}

/// Removes one in the topmost directory, and moves what is in it up.
fn remove_lower(top: &OwnedFd, name: &CStr, moved: &mut u64) -> io::Result<()> {
    if !is_full(top, name)? {
        return Ok(());
    }
    let Some(dir) = open_dir(top, name)? else { return Ok(()) };
    let mut move_up = |name: &CStr| {
        if !is_full(&dir, name)? {
            return Ok(());
        }
        loop {
            *moved += 1;
            let free = format!(".removed-{moved}");
            let keep = RenameFlags::NOREPLACE;
            match renameat_with(&dir, name, top, free, keep) {
                Err(Errno::EXIST) => {}
                Ok(()) | Err(Errno::NOENT) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    };
    while each(&dir, &mut move_up)? {}
    remove_dir(top, name)
}

/// Goes once through the names in a directory; whether there were any. What
/// changes while it is read may not be seen, so it is read until there is
/// nothing.
fn each(
    dir: &OwnedFd,
    work: &mut dyn FnMut(&CStr) -> io::Result<()>,
) -> io::Result<bool> {
    let Some(read) = open_dir(dir, c".")? else { return Ok(false) };
    let mut names = Vec::with_capacity(NAMES_BYTES);
    let mut entries = RawDir::new(&read, names.spare_capacity_mut());
    let mut is_any = false;
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            is_any = true;
            work(name)?;
        }
    }
    Ok(is_any)
}

/// Removes a file, link or empty directory; whether it is a directory with
/// something in it, and still there.
fn is_full<P: Arg + Copy>(at: impl AsFd, path: P) -> io::Result<bool> {
    match unlinkat(&at, path, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        Ok(()) | Err(Errno::NOENT) => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    match unlinkat(at, path, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(true),
        Ok(()) | Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn remove_dir(at: impl AsFd, path: impl Arg) -> io::Result<()> {
    match unlinkat(at, path, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// None if it is gone.
fn open_dir(at: impl AsFd, path: impl Arg) -> io::Result<Option<OwnedFd>> {
    let flags =
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(at, path, flags, Mode::empty()) {
        Ok(dir) => Ok(Some(dir)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use rustix::fs::mkdirat;

    use super::*;

    #[test]
    fn a_tree_deeper_than_any_path_goes() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("top");
        fs::create_dir(&top).unwrap();
        let mut at = open_dir(CWD, top.as_path()).unwrap().unwrap();
        for _ in 0..20_000 {
            mkdirat(&at, c"d", Mode::RWXU).unwrap();
            // Whoever knows how they are called does not stop it.
            mkdirat(&at, c".removed-1", Mode::RWXU).unwrap();
            at = open_dir(&at, c"d").unwrap().unwrap();
        }
        drop(at);
        remove(&top).unwrap();
        assert!(!top.exists());
    }

    #[test]
    fn links_are_not_followed_and_modes_do_not_matter() {
        let dir = tempfile::tempdir().unwrap();
        let (top, kept) = (dir.path().join("top"), dir.path().join("kept"));
        fs::create_dir_all(top.join("a/b/c")).unwrap();
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("file"), "1").unwrap();
        fs::write(top.join("a/b/c/file"), "1").unwrap();
        for place in ["link", "a/link", "a/b/link", "a/b/c/link"] {
            symlink(&kept, top.join(place)).unwrap();
        }
        let is_root = rustix::process::geteuid().is_root();
        for place in ["a/b/c", "a/b", "a"].iter().filter(|_| is_root) {
            let none = Permissions::from_mode(0o0);
            fs::set_permissions(top.join(place), none).unwrap();
        }
        remove(&top).unwrap();
        assert!(!top.exists());
        let link = dir.path().join("link");
        symlink(&kept, &link).unwrap();
        remove(&link).unwrap();
        assert!(link.symlink_metadata().is_err());
        assert_eq!(fs::read_to_string(kept.join("file")).unwrap(), "1");
        // Nothing there.
        remove(&top).unwrap();
    }
}
