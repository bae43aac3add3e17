//! The parts of an archive by name, from a directory or a tar file.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufReader, Read, Seek as _, SeekFrom},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use tar::EntryType;

use super::{super::store::Store, LoadImageError};
use crate::image::{
    Digest,
    unpack::{HEADER_BYTES_MAX, Metered},
};

/// An archive of 500-layer images has a few thousand parts.
const PARTS_MAX: usize = 100_000;
/// Old `docker save` archives share layers by links, one deep.
const LINKS_MAX: usize = 8;
/// What a compressed archive may inflate to: Fargate's largest disk.
const INFLATED_BYTES_MAX: u64 = 200 << 30;

/// Where the parts of an archive are.
pub(super) enum Source {
    Directory(PathBuf),
    Tar { file: Arc<File>, parts: HashMap<String, Part> },
}

pub(super) enum Part {
    File { offset: u64, size: u64 },
    Link { target: String },
}

/// Returns the name of a blob in an OCI layout.
pub(super) fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

impl Source {
    pub(super) fn open(
        path: &Path,
        store: &Store,
    ) -> Result<Source, LoadImageError> {
        if path.is_dir() {
            return Ok(Source::Directory(path.to_owned()));
        }
        let read = || -> io::Result<Source> {
            let file = File::open(path)?;
            let file = inflated(file, store)?;
            let parts = index(&file)?;
            Ok(Source::Tar { file: Arc::new(file), parts })
        };
        read().map_err(|source| LoadImageError::Io {
            what: path.display().to_string(),
            source,
        })
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.size(name).is_ok()
    }

    pub(super) fn size(&self, name: &str) -> Result<u64, LoadImageError> {
        let missing = || LoadImageError::Missing(name.to_owned());
        match self {
            Source::Directory(root) => {
                let path = root.join(clean(name).ok_or_else(missing)?);
                let file = path.metadata().map_err(|_| missing())?;
                if file.is_file() { Ok(file.len()) } else { Err(missing()) }
            }
            Source::Tar { .. } => Ok(self.part(name)?.1),
        }
    }

    /// Reads a small part whole.
    pub(super) fn read(
        &self,
        name: &str,
        limit: u64,
    ) -> Result<Vec<u8>, LoadImageError> {
        let size = self.size(name)?;
        let what = name.to_owned();
        if size > limit {
            return Err(LoadImageError::TooLarge { what, limit });
        }
        let mut bytes = vec![];
        self.reader(name, |_| {})?
            .take(limit)
            .read_to_end(&mut bytes)
            .map_err(|source| LoadImageError::Io { what, source })?;
        Ok(bytes)
    }

    /// Reads a small blob whole and checks that it is what its name says.
    pub(super) fn blob(
        &self,
        digest: &Digest,
        limit: u64,
    ) -> Result<Vec<u8>, LoadImageError> {
        let bytes = self.read(&blob_name(digest), limit)?;
        if Digest::of(&bytes) != *digest {
            return Err(LoadImageError::Damaged(*digest));
        }
        Ok(bytes)
    }

    /// Reads a part as a stream, reporting bytes as they go.
    pub(super) fn reader<'a>(
        &'a self,
        name: &str,
        report: impl Fn(u64) + Send + 'a,
    ) -> Result<Box<dyn Read + Send + 'a>, LoadImageError> {
        match self {
            Source::Directory(root) => {
                let missing = || LoadImageError::Missing(name.to_owned());
                let path = root.join(clean(name).ok_or_else(missing)?);
                let file = File::open(path).map_err(|source| {
                    LoadImageError::Io { what: name.to_owned(), source }
                })?;
                Ok(Box::new(Reporting { inner: file, report }))
            }
            Source::Tar { file, .. } => {
                let (offset, size) = self.part(name)?;
                let end = offset + size;
                let file = Arc::clone(file);
                let inner = Range { file, position: offset, end };
                Ok(Box::new(Reporting { inner, report }))
            }
        }
    }

    fn part(&self, name: &str) -> Result<(u64, u64), LoadImageError> {
        let missing = || LoadImageError::Missing(name.to_owned());
        let Source::Tar { parts, .. } = self else { return Err(missing()) };
        let mut name = clean(name).ok_or_else(missing)?;
        for _ in 0..LINKS_MAX {
            match parts.get(&name).ok_or_else(missing)? {
                Part::File { offset, size } => return Ok((*offset, *size)),
                Part::Link { target } => name = target.clone(),
            }
        }
        Err(missing())
    }
}

/// Cleans a part's name; none if it leads out of the archive.
fn clean(name: &str) -> Option<String> {
    let mut parts = vec![];
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Finds the parts of a plain tar file without reading their contents.
fn index(file: &File) -> io::Result<HashMap<String, Part>> {
    let mut parts = HashMap::new();
    let (metered, allowance) = Metered::new(BufReader::new(file));
    let mut archive = tar::Archive::new(metered);
    let mut entries = archive.entries_with_seek()?;
    loop {
        allowance.set(HEADER_BYTES_MAX);
        let Some(entry) = entries.next() else { break };
        let entry = entry?;
        if parts.len() >= PARTS_MAX {
            return Err(invalid("the archive has too many parts"));
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let Some(name) = clean(&name) else { continue };
        let link = entry
            .link_name_bytes()
            .map(|link| String::from_utf8_lossy(&link).into_owned());
        let part = match (entry.header().entry_type(), link) {
            (EntryType::Regular | EntryType::Continuous, _) => Part::File {
                offset: entry.raw_file_position(),
                size: entry.size(),
            },
            (EntryType::Link, Some(link)) => match clean(&link) {
                Some(target) => Part::Link { target },
                None => continue,
            },
            (EntryType::Symlink, Some(link)) => {
                match clean(&format!("{name}/../{link}")) {
                    Some(target) => Part::Link { target },
                    None => continue,
                }
            }
            _ => continue,
        };
        parts.insert(name, part);
    }
    Ok(parts)
}

/// Inflates a compressed archive into a file that has no name.
fn inflated(mut file: File, store: &Store) -> io::Result<File> {
    let mut magic = [0; 4];
    let n = file.read_at(&mut magic, 0)?;
    let reader: Box<dyn Read + '_> = match &magic[..n] {
        [0x1f, 0x8b, ..] => {
            Box::new(flate2::read::MultiGzDecoder::new(BufReader::new(&file)))
        }
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::Decoder::new(&file)?),
        _ => {
            file.seek(SeekFrom::Start(0))?;
            return Ok(file);
        }
    };
    let path = store.temporary();
    let mut plain =
        File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    let n = io::copy(&mut reader.take(INFLATED_BYTES_MAX), &mut plain)?;
    if n == INFLATED_BYTES_MAX {
        return Err(invalid("the archive inflates to more than 200 GiB"));
    }
    plain.seek(SeekFrom::Start(0))?;
    Ok(plain)
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// A part of a file, readable by many at once.
struct Range {
    file: Arc<File>,
    position: u64,
    end: u64,
}

impl Read for Range {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left =
            usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        let want = buf.len().min(left);
        let n = self.file.read_at(&mut buf[..want], self.position)?;
        if n == 0 && want > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.position += n as u64;
        Ok(n)
    }
}

struct Reporting<R, F> {
    inner: R,
    report: F,
}

impl<R: Read, F: Fn(u64)> Read for Reporting<R, F> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        (self.report)(n as u64);
        Ok(n)
    }
}
