//! Active segments: append-only files of frames.
//!
//! The committer alone writes; readers use the index of extents, which grows
//! only after fsync. A crash leaves at most a torn frame at the end, which
//! nobody was told about and which opening cuts off.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::bytes::Reader;
use super::error::LogFileError;
use super::frame::{self, Encoded};
use super::{EventRef, Extent, StreamId, StreamStats};

const MAGIC: &[u8; 8] = b"MNTOLOG1";
/// Frames are indexed together until they reach this size: few enough
/// entries to keep in memory, small enough to be read for one stream.
const EXTENT_BYTES: u32 = 64 * 1024;

/// Statistics by stream.
pub(super) type Streams = BTreeMap<StreamId, StreamStats>;

/// Adds one stream's statistics to a table of them.
pub(super) fn join(streams: &mut Streams, id: StreamId, stats: StreamStats) {
    streams
        .entry(id)
        .and_modify(|known| *known = known.join(stats))
        .or_insert(stats);
}

/// An open segment file. It can be read even after it was removed.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
}

/// What readers need of an active (or frozen) segment.
#[derive(Clone, Debug)]
pub(super) struct ActiveIndex {
    pub(super) number: u64,
    pub(super) log: Arc<LogFile>,
    pub(super) extents: Vec<Extent>,
    pub(super) streams: Streams,
    /// The sequence of the first event of whatever is appended next.
    pub(super) next_sequence: u64,
    /// Bytes that are written, synced and indexed.
    pub(super) length: u64,
}

impl ActiveIndex {
    /// Makes the file of an empty segment, durably.
    pub(super) fn create(
        directory: &Path,
        number: u64,
        next_sequence: u64,
    ) -> Result<ActiveIndex, LogFileError> {
        let path = path_of(directory, number);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .map_err(LogFileError::io("create", &path))?;
        file.write_all(MAGIC).map_err(LogFileError::io("write", &path))?;
        file.sync_data().map_err(LogFileError::io("sync", &path))?;
        sync_directory(directory)?;
        Ok(ActiveIndex {
            number,
            log: Arc::new(LogFile { path, file }),
            extents: vec![],
            streams: Streams::new(),
            next_sequence,
            length: MAGIC.len() as u64,
        })
    }

    /// Reads an existing file and cuts off a torn end.
    pub(super) fn recover(
        directory: &Path,
        number: u64,
    ) -> Result<ActiveIndex, LogFileError> {
        let path = path_of(directory, number);
        // Bounded by the size at which segments are rotated.
        let bytes =
            std::fs::read(&path).map_err(LogFileError::io("read", &path))?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(LogFileError::io("open", &path))?;
        let mut index = ActiveIndex {
            number,
            log: Arc::new(LogFile { path: path.clone(), file }),
            extents: vec![],
            streams: Streams::new(),
            next_sequence: 1,
            length: 0,
        };
        let mut reader = Reader::new(&bytes);
        if reader.take(MAGIC.len()) != Some(MAGIC.as_slice()) {
            // Created but never synced: it can hold nothing.
            if bytes.len() > MAGIC.len() {
                return Err(LogFileError::Damaged {
                    path,
                    at: 0,
                    what: "it does not begin as a log segment does",
                });
            }
            return ActiveIndex::create(directory, number, 1);
        }
        index.length = MAGIC.len() as u64;
        while !reader.is_empty() {
            let before = reader;
            let Some(frame) = frame::read(&mut reader) else { break };
            let mut stats = None;
            let seen = frame.events(|event| note(&mut stats, event));
            let (Some(()), Some(stats)) = (seen, stats) else {
                reader = before;
                break;
            };
            let used = before.rest().len() - reader.rest().len();
            index.publish(frame.stream, stats, used as u64);
            index.next_sequence = frame.first_sequence + frame.count;
        }
        let torn = reader.rest().len();
        if torn > 0 {
            tracing::warn!(
                path = %path.display(), bytes = torn,
                "cut off the torn end of a log segment"
            );
            let file = &index.log.file;
            file.set_len(index.length)
                .and_then(|()| file.sync_data())
                .map_err(LogFileError::io("truncate", &path))?;
        }
        Ok(index)
    }

    /// Lets readers see a frame that is on disk.
    pub(super) fn publish(
        &mut self,
        stream: StreamId,
        stats: StreamStats,
        bytes: u64,
    ) {
        let length = u32::try_from(bytes).unwrap_or(u32::MAX);
        match self.extents.last_mut() {
            Some(extent) if extent.length < EXTENT_BYTES => {
                extent.length += length;
                extent.earliest = extent.earliest.min(stats.first_event_at);
                extent.latest = extent.latest.max(stats.last_event_at);
                extent.add_stream(stream);
            }
            _ => self.extents.push(Extent {
                offset: self.length,
                length,
                earliest: stats.first_event_at,
                latest: stats.last_event_at,
                streams: Some(vec![stream]),
            }),
        }
        self.length += bytes;
        self.next_sequence += stats.events;
        join(&mut self.streams, stream, stats);
    }

    /// Writes frames behind the published ones, without syncing; gives the
    /// length of each. Sequences are handed out from `next_sequence`.
    pub(super) fn write(
        &self,
        appends: &[&Encoded],
    ) -> Result<Vec<u64>, LogFileError> {
        let size = appends.iter().map(|a| a.size() + 64).sum();
        let mut buffer = Vec::with_capacity(size);
        let mut lengths = Vec::with_capacity(appends.len());
        let mut sequence = self.next_sequence;
        for append in appends {
            let before = buffer.len();
            append.write(sequence, &mut buffer);
            lengths.push((buffer.len() - before) as u64);
            sequence += append.count();
        }
        let file = &self.log.file;
        if let Err(source) = file.write_all_at(&buffer, self.length) {
            // A full disk: give the partial frames back, so that the next
            // append starts clean. Failing that, recovery cuts them off.
            let _ = file.set_len(self.length);
            let path = self.log.path.clone();
            return Err(LogFileError::Io { action: "write", path, source });
        }
        Ok(lengths)
    }
}

impl LogFile {
    /// Makes everything written durable.
    pub(super) fn sync(&self) -> Result<(), LogFileError> {
        self.file.sync_data().map_err(LogFileError::io("sync", &self.path))
    }

    /// Shows the events of an extent to `see`, unless `skip` says that its
    /// bytes cannot be of interest.
    pub(super) fn read(
        &self,
        extent: &Extent,
        see: impl FnMut(EventRef<'_>),
        skip: impl FnOnce(&[u8]) -> bool,
    ) -> Result<(), LogFileError> {
        let bytes = read_extent(&self.file, &self.path, extent)?;
        if skip(&bytes) {
            return Ok(());
        }
        self.frames(&bytes, extent.offset, see)
    }

    /// The bytes of the first `length` bytes' frames, for sealing.
    pub(super) fn contents(
        &self,
        length: u64,
    ) -> Result<Vec<u8>, LogFileError> {
        let start = MAGIC.len() as u64;
        let extent = Extent {
            offset: start,
            length: u32::try_from(length - start).unwrap_or(u32::MAX),
            earliest: 0,
            latest: 0,
            streams: None,
        };
        read_extent(&self.file, &self.path, &extent)
    }

    /// Shows the events in frames that were read from `offset` to `see`.
    pub(super) fn frames<'a>(
        &self,
        bytes: &'a [u8],
        offset: u64,
        mut see: impl FnMut(EventRef<'a>),
    ) -> Result<(), LogFileError> {
        let mut reader = Reader::new(bytes);
        while !reader.is_empty() {
            let at = offset + (bytes.len() - reader.rest().len()) as u64;
            let damaged = || LogFileError::Damaged {
                path: self.path.clone(),
                at,
                what: "a frame's checksum does not match",
            };
            let frame = frame::read(&mut reader).ok_or_else(damaged)?;
            frame.events(&mut see).ok_or_else(damaged)?;
        }
        Ok(())
    }
}

/// Reads the bytes of an extent.
pub(super) fn read_extent(
    file: &File,
    path: &Path,
    extent: &Extent,
) -> Result<Vec<u8>, LogFileError> {
    let mut bytes = vec![0; extent.length as usize];
    file.read_exact_at(&mut bytes, extent.offset)
        .map_err(LogFileError::io("read", path))?;
    Ok(bytes)
}

/// Counts one event in a stream's statistics.
pub(super) fn note(stats: &mut Option<StreamStats>, event: EventRef<'_>) {
    let at = event.position.timestamp;
    let one = StreamStats {
        first_event_at: at,
        last_event_at: at,
        last_ingested_at: event.ingested_at,
        events: 1,
        bytes: event.message.len() as u64 + super::EVENT_OVERHEAD,
    };
    *stats = Some(stats.map_or(one, |known| known.join(one)));
}

/// The file of an active segment.
pub(super) fn path_of(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:010}.log"))
}

/// Makes names in a directory durable.
pub(super) fn sync_directory(directory: &Path) -> Result<(), LogFileError> {
    File::open(directory)
        .and_then(|file| file.sync_all())
        .map_err(LogFileError::io("sync", directory))
}
