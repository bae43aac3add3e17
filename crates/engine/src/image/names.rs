//! Which names the store knows, and what each of them means.
//!
//! One small JSON file, replaced whole: a few hundred names are a few tens of
//! KiB, and a person can read it.

use std::{collections::BTreeMap, fs, io, time::SystemTime};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{Digest, store::Store};

/// The format of `images.json`.
const FORMAT: u32 = 1;

/// How an image came here; `once` pulls what was only loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageOrigin {
    /// From a registry.
    Pulled,
    /// From a file.
    Loaded,
}

/// What a name means.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// What the reference resolved to at the registry: an index or manifest.
    pub(crate) digest: Digest,
    pub(crate) manifest: Digest,
    /// The config.
    pub(crate) id: Digest,
    /// Bottom first, no layer twice.
    pub(crate) layers: Vec<Digest>,
    pub(crate) origin: ImageOrigin,
    pub(crate) added_at_ms: i64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Names {
    format: u32,
    images: BTreeMap<String, Record>,
}

/// The names, read again when another process changed them.
#[derive(Debug, Default)]
pub(crate) struct NameTable {
    cached: Mutex<(Option<Stamp>, Names)>,
}

/// Tells whether a file is still the one that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    modified: Option<SystemTime>,
}

impl NameTable {
    pub(crate) fn get(
        &self,
        store: &Store,
        key: &str,
    ) -> io::Result<Option<Record>> {
        self.read(store, |images| images.get(key).cloned())
    }

    pub(crate) fn all(
        &self,
        store: &Store,
    ) -> io::Result<BTreeMap<String, Record>> {
        self.read(store, Clone::clone)
    }

    /// Changes the names; durable when it returns.
    pub(crate) fn change<T>(
        &self,
        store: &Store,
        change: impl FnOnce(&mut BTreeMap<String, Record>) -> T,
    ) -> io::Result<T> {
        let _lock = store.lock_names()?;
        let mut cached = self.cached.lock();
        refresh(store, &mut cached)?;
        let mut images = cached.1.images.clone();
        let answer = change(&mut images);
        if images != cached.1.images {
            let names = Names { format: FORMAT, images };
            let json = serde_json::to_vec_pretty(&names)?;
            store.write_file(&path(store), &json)?;
            *cached = (stamp(store)?, names);
        }
        Ok(answer)
    }

    fn read<T>(
        &self,
        store: &Store,
        read: impl FnOnce(&BTreeMap<String, Record>) -> T,
    ) -> io::Result<T> {
        let mut cached = self.cached.lock();
        refresh(store, &mut cached)?;
        Ok(read(&cached.1.images))
    }
}

fn path(store: &Store) -> std::path::PathBuf {
    store.root().join("images.json")
}

fn stamp(store: &Store) -> io::Result<Option<Stamp>> {
    use std::os::unix::fs::MetadataExt as _;
    match fs::metadata(path(store)) {
        Ok(file) => Ok(Some(Stamp {
            inode: file.ino(),
            length: file.len(),
            modified: file.modified().ok(),
        })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn refresh(
    store: &Store,
    cached: &mut (Option<Stamp>, Names),
) -> io::Result<()> {
    let now = stamp(store)?;
    if now == cached.0 {
        return Ok(());
    }
    let names = match now {
        Some(_) => {
            let names: Names = serde_json::from_slice(&fs::read(path(store))?)?;
            if names.format > FORMAT {
                return Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    "images.json was written by a newer Minato",
                ));
            }
            names
        }
        None => Names::default(),
    };
    *cached = (now, names);
    Ok(())
}
