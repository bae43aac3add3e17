//! The layer's directory on disk, and the only code that writes to it.
//!
//! Every name is a parent, resolved by the kernel inside the layer, and one
//! last part that is never followed.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    rc::Rc,
};

use rustix::{
    fs::{
        AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, StatVfs,
        Timestamps, XattrFlags, makedev,
    },
    io::Errno,
};

use super::{
    HOLE_BYTES,
    entry::{Node, split_last},
    metadata::Metadata,
};

/// Enough for a deep path's parents; archives are sorted, so few are in use.
const OPEN_DIRECTORIES_MAX: usize = 64;
/// `openat2` gives up when anything on the host is renamed meanwhile.
const RESOLVE_ATTEMPTS: usize = 256;
/// Parents that the archive forgot to list.
const IMPLICIT_MODE: Mode = Mode::from_raw_mode(0o755);

pub(super) struct Tree {
    root: Rc<OwnedFd>,
    open: HashMap<Vec<u8>, Rc<OwnedFd>>,
    /// Written last, since every new file touches its directory's time.
    times: Vec<(Vec<u8>, Timestamps)>,
    root_times: Option<Timestamps>,
    names_bytes: usize,
}

impl Tree {
    pub(super) fn open(root: &Path) -> io::Result<Tree> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, root, flags, Mode::empty())?;
        rustix::fs::fchmod(&root, IMPLICIT_MODE)?;
        Ok(Tree {
            root: Rc::new(root),
            open: HashMap::new(),
            times: vec![],
            root_times: None,
            names_bytes: 0,
        })
    }

    pub(super) fn names_bytes(&self) -> usize {
        self.names_bytes
    }

    pub(super) fn space(&self) -> io::Result<StatVfs> {
        Ok(rustix::fs::fstatvfs(&*self.root)?)
    }

    pub(super) fn describe_root(
        &mut self,
        metadata: &Metadata,
    ) -> io::Result<()> {
        self.root_times = Some(metadata.times());
        metadata.apply(&*self.root)
    }

    /// Makes a directory, or describes anew the one that is there.
    pub(super) fn directory(
        &mut self,
        parent: &[u8],
        name: &[u8],
        metadata: &Metadata,
    ) -> io::Result<()> {
        let dir = self.parent(parent)?;
        self.make_directory(&dir, name)?;
        let flags = OFlags::RDONLY
            | OFlags::DIRECTORY
            | OFlags::NOFOLLOW
            | OFlags::CLOEXEC;
        let made = rustix::fs::openat(&*dir, name, flags, Mode::empty())?;
        metadata.apply(&made)?;
        let path = join(parent, name);
        self.names_bytes += path.len() + size_of::<(Vec<u8>, Timestamps)>();
        self.times.push((path, metadata.times()));
        Ok(())
    }

    pub(super) fn create(
        &mut self,
        parent: &[u8],
        name: &[u8],
    ) -> io::Result<File> {
        let flags = OFlags::WRONLY
            | OFlags::CREATE
            | OFlags::EXCL
            | OFlags::NOFOLLOW
            | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        let file = self.insert(parent, name, |dir, name| {
            rustix::fs::openat(dir, name, flags, mode)
        })?;
        Ok(File::from(file))
    }

    pub(super) fn symlink(
        &mut self,
        parent: &[u8],
        name: &[u8],
        target: &[u8],
        metadata: &Metadata,
    ) -> io::Result<()> {
        self.insert(parent, name, |dir, name| {
            rustix::fs::symlinkat(target, dir, name)
        })?;
        let dir = self.parent(parent)?;
        metadata.apply_to_name(&*dir, name, false)
    }

    /// Links to a file of this layer. The link shares its owner and mode.
    pub(super) fn hardlink(
        &mut self,
        parent: &[u8],
        name: &[u8],
        target_parent: &[u8],
        target_name: &[u8],
    ) -> io::Result<()> {
        // Not created when missing: a link's target came earlier.
        let target = self.resolve(target_parent)?;
        if (parent, name) == (target_parent, target_name) {
            return Ok(());
        }
        self.insert(parent, name, |dir, name| {
            let flags = AtFlags::empty();
            rustix::fs::linkat(&*target, target_name, dir, name, flags)
        })
    }

    pub(super) fn node(
        &mut self,
        parent: &[u8],
        name: &[u8],
        node: Node,
        metadata: &Metadata,
    ) -> io::Result<()> {
        let mode = Mode::from_raw_mode(0o600);
        self.insert(parent, name, |dir, name| {
            rustix::fs::mknodat(dir, name, node.kind, mode, node.device)
        })?;
        let dir = self.parent(parent)?;
        metadata.apply_to_name(&*dir, name, true)
    }

    /// Hides `name` of the layers below.
    pub(super) fn whiteout(
        &mut self,
        parent: &[u8],
        name: &[u8],
    ) -> io::Result<()> {
        let dir = self.parent(parent)?;
        match kind_of(&dir, name)? {
            // The layer's own directory stays, what is below it goes.
            Some(FileType::Directory) => self.hide_below(&join(parent, name)),
            // The layer's own file hides the lower one already.
            Some(_) => Ok(()),
            None => make_whiteout(&dir, name),
        }
    }

    /// Hides what the layers below have in a directory.
    pub(super) fn hide_below(&mut self, path: &[u8]) -> io::Result<()> {
        let dir = self.parent(path)?;
        set_opaque(&*dir)
    }

    /// Sets the directories' times, once nothing is written any more.
    pub(super) fn finish(&mut self) -> Result<(), (PathBuf, io::Error)> {
        self.open.clear();
        for (path, times) in std::mem::take(&mut self.times) {
            self.set_directory_times(&path, &times).map_err(|source| {
                (PathBuf::from(OsStr::from_bytes(&path)), source)
            })?;
        }
        if let Some(times) = &self.root_times {
            rustix::fs::futimens(&*self.root, times)
                .map_err(|error| (PathBuf::from("/"), error.into()))?;
        }
        Ok(())
    }

    fn set_directory_times(
        &mut self,
        path: &[u8],
        times: &Timestamps,
    ) -> io::Result<()> {
        let (parent, name) = split_last(path);
        match self.resolve(parent) {
            Ok(dir) => match kind_of(&dir, name)? {
                Some(FileType::Directory) => {
                    let nofollow = AtFlags::SYMLINK_NOFOLLOW;
                    Ok(rustix::fs::utimensat(&*dir, name, times, nofollow)?)
                }
                // A later entry put something else in its place.
                _ => Ok(()),
            },
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes something new under a name, in place of what was there.
    fn insert<T>(
        &mut self,
        parent: &[u8],
        name: &[u8],
        mut make: impl FnMut(&OwnedFd, &[u8]) -> Result<T, Errno>,
    ) -> io::Result<T> {
        let dir = self.parent(parent)?;
        match make(&dir, name) {
            Err(Errno::EXIST) => {
                self.remove(&dir, name)?;
                Ok(make(&dir, name)?)
            }
            other => Ok(other?),
        }
    }

    fn make_directory(&mut self, dir: &OwnedFd, name: &[u8]) -> io::Result<()> {
        match rustix::fs::mkdirat(dir, name, IMPLICIT_MODE) {
            Ok(()) => {}
            Err(Errno::EXIST) => match kind_of(dir, name)? {
                Some(FileType::Directory) => return Ok(()),
                Some(kind) => {
                    let was_hidden = kind == FileType::CharacterDevice
                        && is_whiteout(dir, name)?;
                    self.remove(dir, name)?;
                    rustix::fs::mkdirat(dir, name, IMPLICIT_MODE)?;
                    if was_hidden {
                        set_opaque_at(dir, name)?;
                    }
                }
                None => return Err(Errno::EXIST.into()),
            },
            Err(error) => return Err(error.into()),
        }
        // The umask took its share of mkdir's mode.
        let none = AtFlags::empty();
        Ok(rustix::fs::chmodat(dir, name, IMPLICIT_MODE, none)?)
    }

    fn remove(&mut self, dir: &OwnedFd, name: &[u8]) -> io::Result<()> {
        // What is open may be inside of what goes.
        self.open.clear();
        match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => {
                // One name under an open directory.
                let mut path = PathBuf::from("/proc/self/fd");
                path.push(dir.as_raw_fd().to_string());
                path.push(OsStr::from_bytes(name));
                crate::tree::remove(&path)
            }
            other => Ok(other?),
        }
    }

    /// Opens a directory of the layer, making the parts that are missing.
    fn parent(&mut self, path: &[u8]) -> io::Result<Rc<OwnedFd>> {
        if let Some(dir) = self.open.get(path) {
            return Ok(Rc::clone(dir));
        }
        let dir = match self.resolve(path) {
            Err(Errno::NOENT | Errno::NOTDIR) => self.make_parents(path)?,
            other => other?,
        };
        if self.open.len() >= OPEN_DIRECTORIES_MAX {
            self.open.clear();
        }
        self.open.insert(path.to_owned(), Rc::clone(&dir));
        Ok(dir)
    }

    fn make_parents(&mut self, path: &[u8]) -> io::Result<Rc<OwnedFd>> {
        let mut dir = Rc::clone(&self.root);
        let ends = path
            .iter()
            .enumerate()
            .filter(|(_, b)| **b == b'/')
            .map(|(at, _)| at)
            .chain([path.len()]);
        for end in ends {
            dir = match self.resolve(&path[..end]) {
                Err(Errno::NOENT | Errno::NOTDIR) => {
                    let (_, name) = split_last(&path[..end]);
                    self.make_parent(&dir, name)?;
                    self.resolve(&path[..end])?
                }
                other => other?,
            };
        }
        Ok(dir)
    }

    /// Makes a missing parent. A file or a dangling link in its place is an
    /// error, as in Docker; a whiteout gives way.
    fn make_parent(&mut self, dir: &OwnedFd, name: &[u8]) -> io::Result<()> {
        match kind_of(dir, name)? {
            None => self.make_directory(dir, name),
            Some(FileType::CharacterDevice) if is_whiteout(dir, name)? => {
                self.make_directory(dir, name)
            }
            Some(_) => Err(Errno::NOTDIR.into()),
        }
    }

    fn resolve(&self, path: &[u8]) -> Result<Rc<OwnedFd>, Errno> {
        if path.is_empty() {
            return Ok(Rc::clone(&self.root));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let mut attempt = 0;
        loop {
            let none = Mode::empty();
            match rustix::fs::openat2(&*self.root, path, flags, none, inside) {
                Err(Errno::AGAIN) if attempt < RESOLVE_ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
                Ok(dir) => return Ok(Rc::new(dir)),
            }
        }
    }
}

/// Writes a file's contents; in a sparse one, zeros become holes.
pub(super) struct FileWriter {
    file: File,
    is_sparse: bool,
}

impl FileWriter {
    pub(super) fn new(file: File, is_sparse: bool) -> FileWriter {
        FileWriter { file, is_sparse }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        use io::{Seek as _, SeekFrom, Write as _};
        let is_hole = self.is_sparse
            && bytes.len() >= HOLE_BYTES
            && bytes.iter().all(|b| *b == 0);
        if is_hole {
            let length = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
            self.file.seek(SeekFrom::Current(length))?;
            return Ok(());
        }
        self.file.write_all(bytes)
    }

    pub(super) fn finish(
        self,
        size: u64,
        metadata: &Metadata,
    ) -> io::Result<()> {
        if self.is_sparse {
            self.file.set_len(size)?;
        }
        metadata.apply_to_file(&self.file)
    }
}

fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    match parent {
        b"" => name.to_owned(),
        parent => [parent, b"/", name].concat(),
    }
}

fn kind_of(dir: &OwnedFd, name: &[u8]) -> io::Result<Option<FileType>> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn is_whiteout(dir: &OwnedFd, name: &[u8]) -> io::Result<bool> {
    let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(stat.st_rdev == 0)
}

fn make_whiteout(dir: &OwnedFd, name: &[u8]) -> io::Result<()> {
    let kind = FileType::CharacterDevice;
    let device = makedev(0, 0);
    Ok(rustix::fs::mknodat(dir, name, kind, Mode::empty(), device)?)
}

fn set_opaque_at(dir: &OwnedFd, name: &[u8]) -> io::Result<()> {
    let flags =
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    set_opaque(rustix::fs::openat(dir, name, flags, Mode::empty())?)
}

fn set_opaque(dir: impl AsFd) -> io::Result<()> {
    let name = "trusted.overlay.opaque";
    Ok(rustix::fs::fsetxattr(dir, name, b"y", XattrFlags::empty())?)
}
