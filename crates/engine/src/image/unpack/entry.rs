//! What an entry is and where it goes, before anything touches the disk.

use std::{
    ffi::OsStr,
    io::{self, Read},
    os::unix::ffi::OsStrExt,
    path::PathBuf,
};

use rustix::fs::{Dev, FileType, makedev};
use tar::EntryType;

use super::UnpackLayerError;

/// Linux' `PATH_MAX`, with its closing zero.
const PATH_BYTES_MAX: usize = 4095;

/// A name within the layer: no `.`, `..` or empty parts, never absolute.
pub(super) struct LayerPath(Vec<u8>);

impl LayerPath {
    /// Cleans a name as Docker does: an absolute one starts at the layer's
    /// root, `a/../b` is `b`, and what climbs above the root is refused.
    pub(super) fn parse(raw: &[u8]) -> Result<LayerPath, UnpackLayerError> {
        let shown = || PathBuf::from(OsStr::from_bytes(raw));
        if raw.contains(&0) || raw.len() > PATH_BYTES_MAX {
            return Err(UnpackLayerError::Name { path: shown() });
        }
        let mut parts: Vec<&[u8]> = vec![];
        for part in raw.split(|b| *b == b'/') {
            match part {
                b"" | b"." => {}
                b".." => {
                    parts.pop().ok_or_else(|| {
                        UnpackLayerError::EscapesRoot { path: shown() }
                    })?;
                }
                part => parts.push(part),
            }
        }
        Ok(LayerPath(parts.join(&b'/')))
    }

    /// Returns the parent (empty for the root) and the last part; none for
    /// the root itself.
    pub(super) fn split(&self) -> Option<(&[u8], &[u8])> {
        if self.0.is_empty() {
            return None;
        }
        Some(split_last(&self.0))
    }

    pub(super) fn shown(&self) -> PathBuf {
        PathBuf::from(OsStr::from_bytes(&self.0))
    }
}

/// Splits a clean path into its parent and last part.
pub(super) fn split_last(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

/// The kinds of entry that end up on disk.
pub(super) enum Kind {
    Directory,
    File { is_sparse: bool },
    Symlink { target: Vec<u8> },
    Hardlink { target: Vec<u8> },
    Node(Node),
}

/// A device or a fifo.
#[derive(Clone, Copy)]
pub(super) struct Node {
    pub(super) kind: FileType,
    pub(super) device: Dev,
}

impl Kind {
    /// Tells an entry's kind; none for those that are left out.
    pub(super) fn of(
        entry: &tar::Entry<'_, impl Read>,
    ) -> Result<Option<Kind>, UnpackLayerError> {
        let entry_type = entry.header().entry_type();
        let is_directory_name = entry.path_bytes().ends_with(b"/");
        Ok(Some(match entry_type {
            EntryType::Directory => Kind::Directory,
            // Tar before POSIX had no type for directories.
            EntryType::Regular if is_directory_name => Kind::Directory,
            EntryType::Regular | EntryType::Continuous => {
                Kind::File { is_sparse: false }
            }
            EntryType::GNUSparse => Kind::File { is_sparse: true },
            EntryType::Symlink => Kind::Symlink { target: target(entry)? },
            EntryType::Link => Kind::Hardlink { target: target(entry)? },
            EntryType::Fifo => {
                Kind::Node(Node { kind: FileType::Fifo, device: 0 })
            }
            EntryType::Char => return device(entry, FileType::CharacterDevice),
            EntryType::Block => return device(entry, FileType::BlockDevice),
            // git archive writes one; it describes no file.
            EntryType::XGlobalHeader => return Ok(None),
            other @ (EntryType::GNULongName
            | EntryType::GNULongLink
            | EntryType::XHeader
            | _) => {
                return Err(UnpackLayerError::Unsupported {
                    what: format!("an entry of unknown type {other:?}"),
                    path: shown(entry),
                });
            }
        }))
    }
}

fn shown(entry: &tar::Entry<'_, impl Read>) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(&entry.path_bytes()))
}

fn target(
    entry: &tar::Entry<'_, impl Read>,
) -> Result<Vec<u8>, UnpackLayerError> {
    match entry.link_name_bytes() {
        Some(target) if !target.is_empty() && !target.contains(&0) => {
            Ok(target.into_owned())
        }
        _ => Err(UnpackLayerError::Unsupported {
            what: "a link to nothing".to_owned(),
            path: shown(entry),
        }),
    }
}

/// Keeps the devices that any container has anyway, and leaves out the rest.
///
/// A runtime mounts its own `/dev`; a disk of the host below some other name
/// would only serve a break-out.
fn device(
    entry: &tar::Entry<'_, impl Read>,
    kind: FileType,
) -> Result<Option<Kind>, UnpackLayerError> {
    let header = entry.header();
    let broken = |source: io::Error| UnpackLayerError::archive(source);
    let major = header.device_major().map_err(broken)?.unwrap_or(0);
    let minor = header.device_minor().map_err(broken)?.unwrap_or(0);
    let is_harmless = kind == FileType::CharacterDevice
        && matches!(
            (major, minor),
            // overlayfs' whiteout; null, zero, full, random, urandom; tty,
            // console, ptmx.
            (0, 0) | (1, 3 | 5 | 7 | 8 | 9) | (5, 0..=2)
        );
    if !is_harmless {
        tracing::debug!(path = %shown(entry).display(), major, minor, "left a device node out");
        return Ok(None);
    }
    Ok(Some(Kind::Node(Node { kind, device: makedev(major, minor) })))
}
