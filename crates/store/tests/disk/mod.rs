//! A disk in memory that loses what was not synced, and checkpoints on it.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    sync::Arc,
};

use minato_store::{Checkpoints, WriteContent};
use parking_lot::Mutex;
use redb::StorageBackend;

use crate::common::Rng;

/// What every injected error says.
pub(crate) const SAYS: &str = "injected";
const SECTOR: usize = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Writes that need room fail from here on.
    Full,
    /// One write is done in part and fails.
    ShortWrite,
    /// One sync fails, and what it should have kept is forgotten.
    Sync,
    /// Nothing works from here on.
    PowerCut,
}

/// The disk; clones are the same disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// What reads see.
    current: Vec<u8>,
    /// What a power cut leaves for sure.
    durable: Vec<u8>,
    /// What it may leave besides, in the order of writing.
    unsynced: Vec<Change>,
    /// Operations until the fault.
    countdown: Option<(u64, Fault)>,
    active: Option<Fault>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

impl Disk {
    pub(crate) fn fail_after(&self, operations: u64, fault: Fault) {
        self.0.lock().countdown = Some((operations, fault));
    }

    pub(crate) fn repair(&self) {
        let mut state = self.0.lock();
        (state.countdown, state.active) = (None, None);
    }

    /// The process starts again; after a power cut, so does the machine,
    /// and each unsynced sector was written or not.
    ///
    /// Without a power cut all that was written is there, but for what a
    /// failed sync forgot: opening a directory syncs the journal's file and
    /// has the page cache forget it too.
    pub(crate) fn restart(&self, power_cut: bool, rng: &mut Rng) {
        let mut state = self.0.lock();
        (state.countdown, state.active) = (None, None);
        let mut left = std::mem::take(&mut state.durable);
        for change in std::mem::take(&mut state.unsynced) {
            match change {
                Change::Length(length) if !power_cut || rng.chance(2) => {
                    left.resize(length, 0);
                }
                Change::Length(_) => {}
                Change::Write { offset, bytes } => {
                    for (at, sector) in bytes.chunks(SECTOR).enumerate() {
                        if !power_cut || rng.chance(2) {
                            put(&mut left, offset + at * SECTOR, sector);
                        }
                    }
                }
            }
        }
        state.current.clone_from(&left);
        state.durable = left;
    }
}

fn index(number: u64) -> usize {
    usize::try_from(number).expect("a 64-bit machine")
}

fn put(file: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[offset..end].copy_from_slice(bytes);
}

fn injected(kind: io::ErrorKind) -> io::Error {
    io::Error::new(kind, format!("{SAYS}: {kind}"))
}

impl State {
    /// Counts an operation; gives the fault that has begun, and whether it
    /// did right now.
    fn tick(&mut self) -> (Option<Fault>, bool) {
        if let Some((left, fault)) = &mut self.countdown {
            if *left > 0 {
                *left -= 1;
            } else {
                self.active = Some(*fault);
                self.countdown = None;
                return (self.active, true);
            }
        }
        (self.active, false)
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        put(&mut self.current, offset, bytes);
        let bytes = bytes.to_vec();
        self.unsynced.push(Change::Write { offset, bytes });
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.0.lock().current.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let mut state = self.0.lock();
        if let (Some(Fault::PowerCut), _) = state.tick() {
            return Err(injected(io::ErrorKind::Other));
        }
        let offset = index(offset);
        let from = state.current.get(offset..offset + out.len());
        let from = from.ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(from);
        Ok(())
    }

    fn set_len(&self, length: u64) -> Result<(), io::Error> {
        let mut state = self.0.lock();
        let length = index(length);
        match state.tick() {
            (Some(Fault::PowerCut), _) => {
                return Err(injected(io::ErrorKind::Other));
            }
            (Some(Fault::Full), _) if length > state.current.len() => {
                return Err(injected(io::ErrorKind::StorageFull));
            }
            _ => {}
        }
        state.current.resize(length, 0);
        state.unsynced.push(Change::Length(length));
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        let mut state = self.0.lock();
        match state.tick() {
            (Some(Fault::PowerCut), _) => Err(injected(io::ErrorKind::Other)),
            (Some(Fault::Sync), true) => {
                // As Linux does: the pages count as clean from now on, so
                // that a sync tried again would succeed and keep nothing.
                state.unsynced.clear();
                Err(injected(io::ErrorKind::Other))
            }
            _ => {
                for change in std::mem::take(&mut state.unsynced) {
                    match change {
                        Change::Length(length) => {
                            state.durable.resize(length, 0);
                        }
                        Change::Write { offset, bytes } => {
                            put(&mut state.durable, offset, &bytes);
                        }
                    }
                }
                Ok(())
            }
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let mut state = self.0.lock();
        let offset = index(offset);
        match state.tick() {
            (Some(Fault::PowerCut), _) => Err(injected(io::ErrorKind::Other)),
            (Some(Fault::ShortWrite), true) | (Some(Fault::Full), _) => {
                state.write(offset, &data[..data.len() / 2]);
                Err(injected(io::ErrorKind::StorageFull))
            }
            _ => {
                state.write(offset, data);
                Ok(())
            }
        }
    }
}

/// Checkpoints that may fail half-way; clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryCheckpoints(Arc<Mutex<Kept>>);

#[derive(Debug)]
struct Kept {
    files: BTreeMap<u64, Vec<u8>>,
    one_in: u64,
    rng: Rng,
}

impl Default for Kept {
    fn default() -> Kept {
        Kept { files: BTreeMap::new(), one_in: 0, rng: Rng(0) }
    }
}

impl MemoryCheckpoints {
    /// One in so many fails; none for 0.
    pub(crate) fn fail_one_in(&self, one_in: u64, seed: u64) {
        let mut kept = self.0.lock();
        (kept.one_in, kept.rng) = (one_in, Rng(seed));
    }
}

/// Has room for so many bytes only.
struct Limited {
    bytes: Vec<u8>,
    room: usize,
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.room - self.bytes.len());
        if taken == 0 && !bytes.is_empty() {
            return Err(injected(io::ErrorKind::StorageFull));
        }
        self.bytes.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Checkpoints for MemoryCheckpoints {
    fn revisions(&self) -> io::Result<Vec<u64>> {
        Ok(self.0.lock().files.keys().copied().collect())
    }

    fn open(&self, revision: u64) -> io::Result<Box<dyn Read>> {
        let kept = self.0.lock();
        let file = kept.files.get(&revision).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(io::Cursor::new(file.clone())))
    }

    fn write(
        &self,
        revision: u64,
        content: &mut WriteContent<'_>,
    ) -> io::Result<()> {
        let room = {
            let mut kept = self.0.lock();
            let one_in = kept.one_in;
            let fails = one_in > 0 && kept.rng.chance(one_in);
            if fails { index(kept.rng.below(200)) } else { usize::MAX }
        };
        let mut out = Limited { bytes: Vec::new(), room };
        content(&mut out)?;
        self.0.lock().files.insert(revision, out.bytes);
        Ok(())
    }

    fn remove(&self, revision: u64) -> io::Result<()> {
        self.0.lock().files.remove(&revision);
        Ok(())
    }
}
