//! Unpacks one layer's tar stream into a directory for overlayfs.
//!
//! The archive is hostile until shown otherwise. Names are cleaned lexically
//! and may not climb out; every name is then resolved by the kernel with the
//! layer's directory as its root (`openat2`, `RESOLVE_IN_ROOT`), so that a
//! link planted by an earlier entry leads nowhere else. What an image may not
//! bring along (devices of the host, `trusted.*` attributes) is left out.
//!
//! Whiteouts become what overlayfs reads: a character device 0:0 for a
//! removed name, the attribute `trusted.overlay.opaque` for a directory whose
//! lower contents are hidden. As in the OCI specification they speak only of
//! the layers below, never of files in their own layer.
//!
//! Refused: PAX sparse files (no image builder writes them) and entry types
//! outside POSIX and GNU tar's.

mod entry;
mod metadata;
mod tree;

use std::{cell::Cell, io, io::Read, path::Path, path::PathBuf, rc::Rc};

use rustix::fs::StatVfs;

use entry::{Kind, LayerPath};
use metadata::Metadata;
use tree::Tree;

/// A tar header, long name or PAX record that is longer than this is an
/// attack: names end at 4 KiB and extended attributes at 64 KiB each.
pub(crate) const HEADER_BYTES_MAX: u64 = 2 << 20;
/// Directory names are kept until the end, when their times are set.
const DIRECTORY_NAMES_BYTES_MAX: usize = 128 << 20;
/// How often the free space of the disk is looked at.
const SPACE_CHECK_BYTES: u64 = 64 << 20;
const COPY_BUFFER_BYTES: usize = 128 << 10;
/// Zeros at least this long in a sparse file become a hole.
const HOLE_BYTES: usize = 4096;

/// How much a layer may unpack to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnpackLimits {
    /// Bytes of file contents and headers. The default is 200 GiB: the most
    /// ephemeral storage a Fargate task can have, so no larger image runs.
    pub bytes: u64,
    /// Entries. The default, four million, is several times the largest
    /// images in use and stays well below a common ext4's inodes.
    pub entries: u64,
    /// Free bytes that stay on the disk, for the host's own sake; at most
    /// 2 % of a small disk is kept.
    pub reserve_bytes: u64,
}

impl Default for UnpackLimits {
    fn default() -> UnpackLimits {
        UnpackLimits {
            bytes: 200 << 30,
            entries: 4_000_000,
            reserve_bytes: 512 << 20,
        }
    }
}

/// What a layer held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Unpacked {
    /// Bytes of file contents.
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
}

/// Why a layer was not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackLayerError {
    /// The stream is not a whole, sound archive.
    #[error("the layer's archive is broken")]
    Archive {
        /// What the reader said.
        source: io::Error,
    },
    /// A name climbs out of the layer.
    #[error("the layer writes outside of its root: {}", .path.display())]
    EscapesRoot {
        /// The name as the archive has it.
        path: PathBuf,
    },
    /// A name that no file can have.
    #[error("the layer has an invalid name: {}", .path.display())]
    Name {
        /// The name as the archive has it.
        path: PathBuf,
    },
    /// An entry that we cannot represent.
    #[error("the layer has {what}: {}", .path.display())]
    Unsupported {
        /// What it is.
        what: String,
        /// The name as the archive has it.
        path: PathBuf,
    },
    /// The file system refused an entry.
    #[error("could not unpack {}", .path.display())]
    Write {
        /// The name as the archive has it.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// More than a layer may unpack to.
    #[error("the layer unpacks to more than {limit} {what}")]
    TooLarge {
        /// `bytes`, `entries` or `bytes of directory names`.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The disk is nearly full.
    #[error(
        "no space left on device: unpacking would leave less than {0} bytes free"
    )]
    DiskFull(u64),
    /// The bytes are not those that were asked for.
    #[error("{what} digest mismatch: expected {expected}, got {found}")]
    Digest {
        /// `layer` or `diff id`.
        what: &'static str,
        /// As the manifest or config says.
        expected: super::Digest,
        /// As received.
        found: super::Digest,
    },
}

impl UnpackLayerError {
    pub(super) fn archive(source: io::Error) -> UnpackLayerError {
        UnpackLayerError::Archive { source }
    }
}

/// Unpacks a plain tar stream into the empty directory `root`.
///
/// Reads up to the archive's end; what follows is the caller's.
pub(crate) fn unpack(
    reader: &mut impl Read,
    root: &Path,
    limits: &UnpackLimits,
) -> Result<Unpacked, UnpackLayerError> {
    let (metered, allowance) = Metered::new(reader);
    let mut archive = tar::Archive::new(metered);
    let mut entries = archive.entries().map_err(UnpackLayerError::archive)?;
    let tree = Tree::open(root).map_err(|source| UnpackLayerError::Write {
        path: root.into(),
        source,
    })?;
    let mut unpacker = Unpacker {
        tree,
        limits,
        done: Unpacked::default(),
        next_space_check: 0,
        buffer: vec![0; COPY_BUFFER_BYTES],
    };
    loop {
        // The archive's own reader keeps whole headers in memory.
        allowance.set(HEADER_BYTES_MAX);
        let Some(entry) = entries.next() else { break };
        let mut entry = entry.map_err(UnpackLayerError::archive)?;
        allowance.set(u64::MAX);
        unpacker.entry(&mut entry)?;
    }
    unpacker
        .tree
        .finish()
        .map_err(|(path, source)| UnpackLayerError::Write { path, source })?;
    Ok(unpacker.done)
}

struct Unpacker<'a> {
    tree: Tree,
    limits: &'a UnpackLimits,
    done: Unpacked,
    next_space_check: u64,
    buffer: Vec<u8>,
}

impl Unpacker<'_> {
    fn entry(
        &mut self,
        entry: &mut tar::Entry<'_, impl Read>,
    ) -> Result<(), UnpackLayerError> {
        self.count_entry()?;
        let Some(kind) = Kind::of(entry)? else { return Ok(()) };
        let raw = entry.path_bytes().into_owned();
        let path = LayerPath::parse(&raw)?;
        let metadata = Metadata::read(entry)?;
        let write =
            |source| UnpackLayerError::Write { path: path.shown(), source };
        let Some((parent, name)) = path.split() else {
            // "./" describes the layer's root; nothing else can stand there.
            return match kind {
                Kind::Directory => {
                    self.tree.describe_root(&metadata).map_err(write)
                }
                Kind::File { .. }
                | Kind::Symlink { .. }
                | Kind::Hardlink { .. }
                | Kind::Node(_) => {
                    Err(UnpackLayerError::Name { path: path.shown() })
                }
            };
        };
        if let Some(hidden) = name.strip_prefix(b".wh.") {
            return self.whiteout(&path, parent, hidden);
        }
        match kind {
            Kind::Directory => {
                self.count_directory()?;
                self.tree.directory(parent, name, &metadata).map_err(write)
            }
            Kind::File { is_sparse } => {
                self.file(entry, &path, &metadata, is_sparse)
            }
            Kind::Symlink { target } => self
                .tree
                .symlink(parent, name, &target, &metadata)
                .map_err(write),
            Kind::Hardlink { target } => {
                let target = LayerPath::parse(&target)?;
                let (target_parent, target_name) =
                    target.split().ok_or_else(|| UnpackLayerError::Name {
                        path: target.shown(),
                    })?;
                self.tree
                    .hardlink(parent, name, target_parent, target_name)
                    .map_err(write)
            }
            Kind::Node(node) => {
                self.tree.node(parent, name, node, &metadata).map_err(write)
            }
        }
    }

    fn whiteout(
        &mut self,
        path: &LayerPath,
        parent: &[u8],
        hidden: &[u8],
    ) -> Result<(), UnpackLayerError> {
        let done = match hidden {
            b".wh..opq" => self.tree.hide_below(parent),
            // AUFS's own bookkeeping (.wh..wh.plnk, .wh..wh.aufs).
            _ if hidden.starts_with(b".wh.") => Ok(()),
            b"" | b"." | b".." => {
                return Err(UnpackLayerError::Name { path: path.shown() });
            }
            _ => self.tree.whiteout(parent, hidden),
        };
        done.map_err(|source| UnpackLayerError::Write {
            path: path.shown(),
            source,
        })
    }

    fn file(
        &mut self,
        entry: &mut tar::Entry<'_, impl Read>,
        path: &LayerPath,
        metadata: &Metadata,
        is_sparse: bool,
    ) -> Result<(), UnpackLayerError> {
        let Some((parent, name)) = path.split() else { return Ok(()) };
        let write =
            |source| UnpackLayerError::Write { path: path.shown(), source };
        let size = entry.size();
        self.count_bytes(size)?;
        let file = self.tree.create(parent, name).map_err(write)?;
        let mut out = tree::FileWriter::new(file, is_sparse);
        let mut left = size;
        while left > 0 {
            let n = entry
                .read(&mut self.buffer)
                .map_err(UnpackLayerError::archive)?;
            if n == 0 {
                let truncated = io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    format!("{} ends too early", path.shown().display()),
                );
                return Err(UnpackLayerError::archive(truncated));
            }
            out.write(&self.buffer[..n]).map_err(write)?;
            left = left.saturating_sub(n as u64);
        }
        out.finish(size, metadata).map_err(write)
    }

    fn count_entry(&mut self) -> Result<(), UnpackLayerError> {
        self.done.entries += 1;
        if self.done.entries > self.limits.entries {
            return Err(UnpackLayerError::TooLarge {
                what: "entries",
                limit: self.limits.entries,
            });
        }
        Ok(())
    }

    fn count_bytes(&mut self, size: u64) -> Result<(), UnpackLayerError> {
        let bytes = self.done.bytes.saturating_add(size);
        if bytes > self.limits.bytes {
            return Err(UnpackLayerError::TooLarge {
                what: "bytes",
                limit: self.limits.bytes,
            });
        }
        self.done.bytes = bytes;
        if bytes >= self.next_space_check {
            self.next_space_check = bytes.saturating_add(SPACE_CHECK_BYTES);
            self.check_space(size)?;
        }
        Ok(())
    }

    fn count_directory(&self) -> Result<(), UnpackLayerError> {
        if self.tree.names_bytes() > DIRECTORY_NAMES_BYTES_MAX {
            return Err(UnpackLayerError::TooLarge {
                what: "bytes of directory names",
                limit: DIRECTORY_NAMES_BYTES_MAX as u64,
            });
        }
        Ok(())
    }

    /// Stops before the disk is full: a full disk hurts more than a failed
    /// pull. A file system that cannot tell is not asked again.
    fn check_space(&self, wanted: u64) -> Result<(), UnpackLayerError> {
        let Ok(stat) = self.tree.space() else { return Ok(()) };
        let StatVfs { f_bavail, f_blocks, f_frsize, .. } = stat;
        let free = f_bavail.saturating_mul(f_frsize);
        let total = f_blocks.saturating_mul(f_frsize);
        let reserve = self.limits.reserve_bytes.min(total / 50);
        if free < reserve.saturating_add(wanted.min(SPACE_CHECK_BYTES)) {
            return Err(UnpackLayerError::DiskFull(reserve));
        }
        Ok(())
    }
}

/// Ends the stream with an error once a header goes on for too long.
pub(crate) struct Metered<R> {
    inner: R,
    allowance: Rc<Cell<u64>>,
}

impl<R> Metered<R> {
    /// Returns the reader and the allowance, to be renewed for each header.
    pub(crate) fn new(inner: R) -> (Metered<R>, Rc<Cell<u64>>) {
        let allowance = Rc::new(Cell::new(HEADER_BYTES_MAX));
        (Metered { inner, allowance: Rc::clone(&allowance) }, allowance)
    }
}

impl<R: io::Seek> io::Seek for Metered<R> {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        match self.allowance.get().checked_sub(n as u64) {
            Some(left) => self.allowance.set(left),
            None => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("a header is longer than {HEADER_BYTES_MAX} bytes"),
                ));
            }
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests;
