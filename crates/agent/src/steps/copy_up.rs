//! What an image has where an empty volume is mounted goes into the volume,
//! as Docker does it: a database finds its directory with the right owner.
//!
//! Only volumes of Docker's are filled, never host directories. A path that
//! leads through a symbolic link of the image's fills nothing.

use std::ffi::CStr;
use std::fs::{self, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{
    FileTypeExt as _, MetadataExt as _, PermissionsExt as _, lchown, symlink,
};
use std::path::{Component, Path, PathBuf};

use minato_engine::tree::remove;
use parking_lot::Mutex;
use rustix::buffer::spare_capacity;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, RenameFlags, Timespec, Timestamps,
    UTIME_OMIT, XattrFlags, renameat_with,
};
use rustix::io::Errno;

/// That of a directory which hides what lower layers have in it.
const OPAQUE: &CStr = c"trusted.overlay.opaque";

/// The kernel's limits on names and values alike.
const XATTR_BYTES: usize = 64 << 10;

/// Whoever finds a volume empty fills it before the next one looks.
static FILLING: Mutex<()> = Mutex::new(());

/// Fills a volume with what an image's layers have at a path.
///
/// The copy is made beside the volume, and its parts are then moved there:
/// somebody may have the volume mounted, and may put links in the way. A copy
/// that is whole has a name of its own: after a crash the rest of it follows.
pub(super) fn fill(
    volume: &Path,
    layers: &[PathBuf],
    target: &Path,
) -> io::Result<()> {
    let name = volume.file_name().unwrap_or_default().to_string_lossy();
    let whole = volume.with_file_name(format!(".whole-{name}"));
    let is_cut_short = || whole.symlink_metadata().is_ok();
    // Most are full, and need not wait for one that is being filled.
    if is_full(volume)? && !is_cut_short() {
        return Ok(());
    }
    let _one_at_a_time = FILLING.lock();
    if is_cut_short() {
        return move_in(&whole, volume);
    }
    if is_full(volume)? {
        return Ok(());
    }
    let parts = parts(layers, target)?;
    if parts.is_empty() {
        return Ok(());
    }
    let copy = volume.with_file_name(format!(".new-{name}"));
    remove(&copy)?;
    fs::create_dir(&copy)?;
    for part in parts.iter().rev() {
        merge(part, &copy)?;
    }
    fs::rename(&copy, &whole)?;
    move_in(&whole, volume)
}

fn is_full(volume: &Path) -> io::Result<bool> {
    match fs::read_dir(volume) {
        Ok(mut files) => Ok(files.next().is_some()),
        // Its mount will fail, and say so.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

/// Moves what is left of a whole copy into its volume.
fn move_in(whole: &Path, volume: &Path) -> io::Result<()> {
    describe(whole, &whole.symlink_metadata()?, volume)?;
    for entry in fs::read_dir(whole)? {
        let entry = entry?;
        let place = volume.join(entry.file_name());
        let keep = RenameFlags::NOREPLACE;
        match renameat_with(CWD, entry.path(), CWD, &place, keep) {
            // Whoever has the volume mounted was faster, and theirs stays.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    remove(whole)
}

/// The directories of the layers that make up a directory of the image, the
/// topmost first.
fn parts(layers: &[PathBuf], target: &Path) -> io::Result<Vec<PathBuf>> {
    let mut parts = vec![];
    let mut names = vec![];
    for component in target.components() {
        match component {
            Component::Normal(name) => names.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return Ok(parts),
        }
    }
    if names.is_empty() {
        return Ok(parts);
    }
    'layers: for layer in layers.iter().rev() {
        let mut path = layer.clone();
        let mut hides_lower = false;
        for name in &names {
            path.push(name);
            match path.symlink_metadata() {
                Ok(found) if found.is_dir() => {
                    hides_lower |= is_opaque(&path)?;
                }
                // A whiteout, a file, a link: whatever is below, it hides.
                Ok(_) => return Ok(parts),
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    if hides_lower {
                        return Ok(parts);
                    }
                    continue 'layers;
                }
                Err(error) => return Err(error),
            }
        }
        parts.push(path);
        if hides_lower {
            break;
        }
    }
    Ok(parts)
}

/// Lays a directory of a layer's over what lower ones gave, level by level:
/// an image may nest more of them than a stack has room for.
fn merge(from: &Path, to: &Path) -> io::Result<()> {
    let mut dirs = vec![(from.to_owned(), to.to_owned())];
    let mut next = 0;
    while let Some((from, to)) = dirs.get(next).cloned() {
        merge_dir(&from, &to, &mut dirs)?;
        next += 1;
    }
    // What is put into a directory changes its time; so they are last.
    for (from, to) in dirs.iter().rev() {
        describe(from, &from.symlink_metadata()?, to)?;
    }
    Ok(())
}

/// Lays the files of one, and notes the directories in it.
fn merge_dir(
    from: &Path,
    to: &Path,
    dirs: &mut Vec<(PathBuf, PathBuf)>,
) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, copy) = (entry.path(), to.join(entry.file_name()));
        let about = entry.metadata()?;
        let is_kept = about.is_dir()
            && copy.symlink_metadata().is_ok_and(|below| below.is_dir())
            && !is_opaque(&source)?;
        if !is_kept {
            remove(&copy)?;
        }
        if is_whiteout(&about) {
            continue;
        }
        if about.is_dir() {
            if !is_kept {
                fs::create_dir(&copy)?;
            }
            dirs.push((source, copy));
            continue;
        }
        if about.is_file() {
            fs::copy(&source, &copy)?;
        } else if about.is_symlink() {
            symlink(fs::read_link(&source)?, &copy)?;
        } else {
            let kind = FileType::from_raw_mode(about.mode());
            let mode = Mode::from_raw_mode(about.mode());
            rustix::fs::mknodat(CWD, &copy, kind, mode, about.rdev())?;
        }
        describe(&source, &about, &copy)?;
    }
    Ok(())
}

/// Gives a copy the owner, mode, attributes and time of what it is one of.
///
/// A change of owner drops set-user-id bits and capabilities; so it is first.
fn describe(source: &Path, about: &Metadata, copy: &Path) -> io::Result<()> {
    lchown(copy, Some(about.uid()), Some(about.gid()))?;
    if !about.is_symlink() {
        let mode = Permissions::from_mode(about.mode() & 0o7777);
        fs::set_permissions(copy, mode)?;
        copy_attributes(source, copy)?;
    }
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec {
            tv_sec: about.mtime(),
            tv_nsec: about.mtime_nsec(),
        },
    };
    let nofollow = AtFlags::SYMLINK_NOFOLLOW;
    Ok(rustix::fs::utimensat(CWD, copy, &times, nofollow)?)
}

fn copy_attributes(source: &Path, copy: &Path) -> io::Result<()> {
    let mut names = Vec::with_capacity(XATTR_BYTES);
    match rustix::fs::llistxattr(source, spare_capacity(&mut names)) {
        Err(Errno::OPNOTSUPP) => return Ok(()),
        done => done?,
    };
    for name in names.split_inclusive(|byte| *byte == 0) {
        // Overlayfs's own marks are about the layer, not about the file.
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        if name.to_bytes().starts_with(b"trusted.") {
            continue;
        }
        let mut value = Vec::with_capacity(XATTR_BYTES);
        rustix::fs::lgetxattr(source, name, spare_capacity(&mut value))?;
        let flags = XattrFlags::empty();
        match rustix::fs::lsetxattr(copy, name, &value, flags) {
            // Docker goes on too where the file system lacks some.
            Err(Errno::OPNOTSUPP) => {}
            done => done?,
        }
    }
    Ok(())
}

fn is_whiteout(about: &Metadata) -> bool {
    about.file_type().is_char_device() && about.rdev() == 0
}

fn is_opaque(dir: &Path) -> io::Result<bool> {
    let mut value = Vec::with_capacity(8);
    match rustix::fs::lgetxattr(dir, OPAQUE, spare_capacity(&mut value)) {
        Ok(_) => Ok(value == b"y"),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Image {
        dir: tempfile::TempDir,
        layers: Vec<PathBuf>,
    }

    impl Image {
        /// Files of its layers by path; one of no content is a whiteout.
        fn new(layers: &[&[(&str, &str)]]) -> Image {
            let dir = tempfile::tempdir().unwrap();
            let mut paths = vec![];
            for (number, files) in layers.iter().enumerate() {
                let layer = dir.path().join(number.to_string());
                for (name, content) in *files {
                    let path = layer.join(name);
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    if content.is_empty() {
                        let (kind, mode) =
                            (FileType::CharacterDevice, Mode::empty());
                        rustix::fs::mknodat(CWD, &path, kind, mode, 0).unwrap();
                    } else {
                        fs::write(path, content).unwrap();
                    }
                }
                paths.push(layer);
            }
            fs::create_dir(dir.path().join("volume")).unwrap();
            Image { dir, layers: paths }
        }

        fn fill(&self, target: &str) -> Vec<(String, String)> {
            let volume = self.dir.path().join("volume");
            fill(&volume, &self.layers, Path::new(target)).unwrap();
            for left in [".new-volume", ".whole-volume"] {
                assert!(!self.dir.path().join(left).exists());
            }
            let mut found = vec![];
            list(&volume, "", &mut found);
            found.sort();
            found
        }
    }

    fn list(dir: &Path, under: &str, found: &mut Vec<(String, String)>) {
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let name = format!("{under}{name}");
            if entry.file_type().unwrap().is_dir() {
                list(&entry.path(), &format!("{name}/"), found);
            } else {
                let text = fs::read_to_string(entry.path()).unwrap();
                found.push((name, text));
            }
        }
    }

    fn files(of: &[(&str, &str)]) -> Vec<(String, String)> {
        of.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect()
    }

    #[test]
    fn a_copy_cut_short_is_finished_and_takes_nothing_away() {
        let image = Image::new(&[&[("d/a", "1"), ("d/b", "1"), ("d/c", "1")]]);
        let (volume, whole) = (
            image.dir.path().join("volume"),
            image.dir.path().join(".whole-volume"),
        );
        // Killed after the first of three; then somebody wrote the second.
        fs::create_dir(&whole).unwrap();
        fs::set_permissions(&whole, Permissions::from_mode(0o750)).unwrap();
        fs::write(volume.join("a"), "1").unwrap();
        fs::write(volume.join("b"), "theirs").unwrap();
        fs::write(whole.join("b"), "1").unwrap();
        fs::write(whole.join("c"), "1").unwrap();
        let expected = files(&[("a", "1"), ("b", "theirs"), ("c", "1")]);
        assert_eq!(image.fill("/d"), expected);
        let mode = fs::metadata(&volume).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o750);
        // Full: nothing is ever copied again.
        fs::remove_file(volume.join("c")).unwrap();
        let expected = files(&[("a", "1"), ("b", "theirs")]);
        assert_eq!(image.fill("/d"), expected);
    }

    #[test]
    fn layers_are_laid_over_each_other() {
        let image = Image::new(&[
            &[("d/a", "1"), ("d/b", "1"), ("d/s/x", "1"), ("d/s/y", "1")],
            &[("other", "2")],
            &[("d/a", "3"), ("d/b", ""), ("d/s/x", ""), ("d/n/z", "3")],
        ]);
        let mode = Permissions::from_mode(0o1700);
        fs::set_permissions(image.layers[2].join("d"), mode).unwrap();
        let found = image.fill("/d");
        assert_eq!(found, files(&[("a", "3"), ("n/z", "3"), ("s/y", "1")]));
        let volume = image.dir.path().join("volume");
        let about = fs::metadata(&volume).unwrap();
        assert_eq!(about.mode() & 0o7777, 0o1700);
        // Once only: what is in it is its own.
        fs::remove_file(volume.join("a")).unwrap();
        assert_eq!(image.fill("/d"), files(&[("n/z", "3"), ("s/y", "1")]));
    }

    #[test]
    fn what_is_hidden_or_no_directory_fills_nothing() {
        let image = Image::new(&[&[("d/e/a", "1"), ("f", "1")], &[("d", "")]]);
        symlink("d", image.layers[0].join("link")).unwrap();
        for target in ["/d/e", "/f", "/link/e", "/no", "/", "/x/../f"] {
            assert_eq!(image.fill(target), [], "{target}");
        }
    }

    #[test]
    fn an_opaque_directory_hides_what_is_below() {
        let image =
            Image::new(&[&[("d/e/a", "1"), ("d/b", "1")], &[("d/e/c", "2")]]);
        let dir = image.layers[1].join("d/e");
        let flags = XattrFlags::empty();
        match rustix::fs::lsetxattr(&dir, OPAQUE, b"y", flags) {
            // Only root may.
            Err(Errno::PERM | Errno::OPNOTSUPP) => return,
            done => done.unwrap(),
        }
        assert_eq!(image.fill("/d"), files(&[("b", "1"), ("e/c", "2")]));
        let volume = image.dir.path().join("volume");
        fs::remove_dir_all(&volume).unwrap();
        fs::create_dir(&volume).unwrap();
        assert_eq!(image.fill("/d/e"), files(&[("c", "2")]));
    }
}
