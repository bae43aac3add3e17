//! Sealed segments: sorted, compressed, never changed.
//!
//! `magic | blocks, each one zstd frame | footer, zstd of JSON | footer's
//! length u32 | footer's crc32 u32 | magic`. The footer is JSON so that a
//! later version can add to it.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::active::{Streams, note, read_extent, sync_directory};
use super::block::{Block, BlockWriter, MAX_RAW};
use super::bytes::Reader;
use super::error::LogFileError;
use super::{EventRef, Extent, StreamId, StreamStats};

const MAGIC: &[u8; 8] = b"MNTOSEG1";
const TRAILER: usize = 16;
/// Level 3 is zstd's default; sealing runs beside ingestion, so more would
/// take its CPU.
const LEVEL: i32 = 3;
/// A footer takes about 100 bytes for each block and stream; a segment has
/// some hundreds of either.
const MAX_FOOTER: usize = 64 * 1024 * 1024;

/// What is kept in memory of a sealed segment.
#[derive(Clone, Debug)]
pub(super) struct SealedSegment {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    pub(super) earliest: i64,
    pub(super) latest: i64,
    pub(super) last_sequence: u64,
    pub(super) streams: Streams,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Footer {
    version: u32,
    last_sequence: u64,
    streams: Vec<FooterStream>,
    blocks: Vec<FooterBlock>,
}

#[derive(Debug, Serialize, Deserialize)]
struct FooterStream {
    id: String,
    first_event_at: i64,
    last_event_at: i64,
    last_ingested_at: i64,
    events: u64,
    bytes: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct FooterBlock {
    offset: u64,
    length: u32,
    crc32: u32,
    earliest: i64,
    latest: i64,
    /// Indices into the footer's streams; absent means too many to name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    streams: Option<Vec<u32>>,
}

/// A sealed segment opened for reading. Keeps its file even if the segment is
/// replaced or removed meanwhile.
#[derive(Debug)]
pub(super) struct SealedReader {
    file: File,
    path: PathBuf,
    pub(super) extents: Vec<Extent>,
    checksums: Vec<u32>,
}

/// The file of a sealed segment.
pub(super) fn path_of(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:010}.seg"))
}

/// Writes a segment of `events`, which must be sorted by position, and puts
/// it in place by renaming.
pub(super) fn write<'a>(
    directory: &Path,
    number: u64,
    last_sequence: u64,
    events: impl Iterator<Item = EventRef<'a>>,
) -> Result<SealedSegment, LogFileError> {
    let temporary = directory.join(format!("{number:010}.tmp"));
    let io = |action| LogFileError::io(action, &temporary);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(&temporary)
        .map_err(io("create"))?;
    let mut writer = SegmentWriter {
        out: BufWriter::new(file),
        at: MAGIC.len() as u64,
        extents: vec![],
        checksums: vec![],
        streams: Streams::new(),
    };
    writer.out.write_all(MAGIC).map_err(io("write"))?;
    writer.events(events).map_err(io("write"))?;
    writer.footer(last_sequence).map_err(io("write"))?;
    let file = writer
        .out
        .into_inner()
        .map_err(|error| io("write")(error.into_error()))?;
    file.sync_all().map_err(io("sync"))?;
    let path = path_of(directory, number);
    std::fs::rename(&temporary, &path).map_err(io("rename"))?;
    sync_directory(directory)?;
    Ok(SealedSegment::new(number, path, last_sequence, writer.streams))
}

struct SegmentWriter {
    out: BufWriter<File>,
    at: u64,
    extents: Vec<Extent>,
    checksums: Vec<u32>,
    streams: Streams,
}

impl SegmentWriter {
    fn events<'a>(
        &mut self,
        events: impl Iterator<Item = EventRef<'a>>,
    ) -> std::io::Result<()> {
        let mut block = BlockWriter::default();
        let mut extent: Option<Extent> = None;
        for event in events {
            let at = event.position.timestamp;
            let extent_now = extent.get_or_insert_with(|| Extent {
                offset: self.at,
                length: 0,
                earliest: at,
                latest: at,
                streams: Some(vec![]),
            });
            extent_now.earliest = extent_now.earliest.min(at);
            extent_now.latest = extent_now.latest.max(at);
            extent_now.add_stream(event.stream);
            let mut one = None;
            note(&mut one, event);
            if let Some(one) = one {
                super::active::join(&mut self.streams, event.stream, one);
            }
            block.push(event);
            if block.is_full() {
                self.block(&std::mem::take(&mut block), extent.take())?;
            }
        }
        if !block.is_empty() {
            self.block(&block, extent.take())?;
        }
        Ok(())
    }

    fn block(
        &mut self,
        block: &BlockWriter,
        extent: Option<Extent>,
    ) -> std::io::Result<()> {
        let Some(mut extent) = extent else { return Ok(()) };
        let packed = zstd::bulk::compress(&block.finish(), LEVEL)?;
        extent.length = u32::try_from(packed.len()).unwrap_or(u32::MAX);
        self.out.write_all(&packed)?;
        self.at += packed.len() as u64;
        self.checksums.push(crc32fast::hash(&packed));
        self.extents.push(extent);
        Ok(())
    }

    fn footer(&mut self, last_sequence: u64) -> std::io::Result<()> {
        let ids: Vec<StreamId> = self.streams.keys().copied().collect();
        let index = |id: &StreamId| {
            ids.binary_search(id).ok().and_then(|at| u32::try_from(at).ok())
        };
        let blocks = self.extents.iter().zip(&self.checksums);
        let footer = Footer {
            version: 1,
            last_sequence,
            streams: self
                .streams
                .iter()
                .map(|(id, stats)| FooterStream {
                    id: format!("{:032x}", id.0),
                    first_event_at: stats.first_event_at,
                    last_event_at: stats.last_event_at,
                    last_ingested_at: stats.last_ingested_at,
                    events: stats.events,
                    bytes: stats.bytes,
                })
                .collect(),
            blocks: blocks
                .map(|(extent, crc32)| FooterBlock {
                    offset: extent.offset,
                    length: extent.length,
                    crc32: *crc32,
                    earliest: extent.earliest,
                    latest: extent.latest,
                    streams: extent
                        .streams
                        .as_ref()
                        .and_then(|ids| ids.iter().map(index).collect()),
                })
                .collect(),
        };
        let json = serde_json::to_vec(&footer)?;
        let packed = zstd::bulk::compress(&json, LEVEL)?;
        self.out.write_all(&packed)?;
        let length = u32::try_from(packed.len()).unwrap_or(u32::MAX);
        self.out.write_all(&length.to_le_bytes())?;
        self.out.write_all(&crc32fast::hash(&packed).to_le_bytes())?;
        self.out.write_all(MAGIC)
    }
}

impl SealedSegment {
    fn new(
        number: u64,
        path: PathBuf,
        last_sequence: u64,
        streams: Streams,
    ) -> SealedSegment {
        let times = |f: fn(&StreamStats) -> i64| streams.values().map(f);
        SealedSegment {
            number,
            path,
            earliest: times(|s| s.first_event_at).min().unwrap_or(i64::MAX),
            latest: times(|s| s.last_event_at).max().unwrap_or(i64::MIN),
            last_sequence,
            streams,
        }
    }

    /// Reads a segment's footer.
    pub(super) fn open(
        directory: &Path,
        number: u64,
    ) -> Result<SealedSegment, LogFileError> {
        let path = path_of(directory, number);
        let (_, footer) = open(&path)?;
        let mut streams = Streams::new();
        for stream in footer.streams {
            let Some(id) = parse_id(&stream.id) else {
                return Err(damaged(&path, 0, "a stream's id is no id"));
            };
            streams.insert(
                id,
                StreamStats {
                    first_event_at: stream.first_event_at,
                    last_event_at: stream.last_event_at,
                    last_ingested_at: stream.last_ingested_at,
                    events: stream.events,
                    bytes: stream.bytes,
                },
            );
        }
        let last = footer.last_sequence;
        Ok(SealedSegment::new(number, path, last, streams))
    }

    /// Opens the segment for reading.
    pub(super) fn reader(&self) -> Result<SealedReader, LogFileError> {
        SealedReader::open(&self.path)
    }
}

impl SealedReader {
    fn open(path: &Path) -> Result<SealedReader, LogFileError> {
        let (file, footer) = open(path)?;
        let ids: Option<Vec<StreamId>> =
            footer.streams.iter().map(|s| parse_id(&s.id)).collect();
        let Some(ids) = ids else {
            return Err(damaged(path, 0, "a stream's id is no id"));
        };
        let checksums = footer.blocks.iter().map(|b| b.crc32).collect();
        let extents = footer.blocks.into_iter().map(|block| Extent {
            offset: block.offset,
            length: block.length,
            earliest: block.earliest,
            latest: block.latest,
            streams: block.streams.and_then(|indices| {
                indices
                    .iter()
                    .map(|at| ids.get(*at as usize).copied())
                    .collect()
            }),
        });
        let extents = extents.collect();
        Ok(SealedReader { file, path: path.to_owned(), extents, checksums })
    }

    /// Shows the events of a block to `see`.
    pub(super) fn read(
        &self,
        index: usize,
        see: impl FnMut(EventRef<'_>),
    ) -> Result<(), LogFileError> {
        let mut decoder = Decoder::default();
        let raw = self.decode(index, &mut decoder)?;
        Block::parse(raw)
            .and_then(|block| block.events(see))
            .ok_or_else(|| self.wrong(index, "a block makes no sense"))
    }

    /// Reads a block and decompresses it.
    pub(super) fn decode<'d>(
        &self,
        index: usize,
        decoder: &'d mut Decoder,
    ) -> Result<&'d [u8], LogFileError> {
        let (Some(extent), Some(checksum)) =
            (self.extents.get(index), self.checksums.get(index))
        else {
            return Err(self.wrong(index, "there is no such block"));
        };
        let packed = read_extent(&self.file, &self.path, extent)?;
        if crc32fast::hash(&packed) != *checksum {
            return Err(self.wrong(index, "a block's checksum does not match"));
        }
        decoder
            .unpack(&packed)
            .ok_or_else(|| self.wrong(index, "a block cannot be decompressed"))
    }

    /// The error of a block with wrong bytes.
    pub(super) fn wrong(
        &self,
        index: usize,
        what: &'static str,
    ) -> LogFileError {
        let at = self.extents.get(index).map_or(0, |extent| extent.offset);
        damaged(&self.path, at, what)
    }
}

/// Decompresses block after block into the same memory.
#[derive(Default)]
pub(super) struct Decoder {
    zstd: Option<zstd::bulk::Decompressor<'static>>,
    raw: Vec<u8>,
}

impl Decoder {
    fn unpack(&mut self, packed: &[u8]) -> Option<&[u8]> {
        let zstd = match &mut self.zstd {
            Some(zstd) => zstd,
            none => none.insert(zstd::bulk::Decompressor::new().ok()?),
        };
        let size = zstd::zstd_safe::get_frame_content_size(packed).ok()?;
        let size = usize::try_from(size?).ok().filter(|s| *s <= MAX_RAW)?;
        self.raw.clear();
        self.raw.reserve(size);
        zstd.decompress_to_buffer(packed, &mut self.raw).ok()?;
        Some(&self.raw)
    }

    /// The last block, whose memory is then its own.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.raw)
    }
}

/// Opens a segment's file and reads its footer.
fn open(path: &Path) -> Result<(File, Footer), LogFileError> {
    let io = |action| LogFileError::io(action, path);
    let file = File::open(path).map_err(io("open"))?;
    let size = file.metadata().map_err(io("read"))?.len();
    let wrong = |what| damaged(path, size, what);
    let at = size.checked_sub(TRAILER as u64);
    let at = at.ok_or_else(|| wrong("it is too short"))?;
    let mut trailer = [0; TRAILER];
    file.read_exact_at(&mut trailer, at).map_err(io("read"))?;
    let mut reader = Reader::new(&trailer);
    let (Some(length), Some(crc)) = (reader.u32(), reader.u32()) else {
        return Err(wrong("it is too short"));
    };
    if reader.rest() != MAGIC {
        return Err(wrong("it does not end as a segment does"));
    }
    let at = at.checked_sub(u64::from(length));
    let at = at.ok_or_else(|| wrong("the footer's length is wrong"))?;
    let mut packed = vec![0; length as usize];
    file.read_exact_at(&mut packed, at).map_err(io("read"))?;
    if crc32fast::hash(&packed) != crc {
        return Err(wrong("the footer's checksum does not match"));
    }
    let json = zstd::bulk::decompress(&packed, MAX_FOOTER)
        .map_err(|_| wrong("the footer cannot be decompressed"))?;
    let footer: Footer = serde_json::from_slice(&json)
        .map_err(|_| wrong("the footer makes no sense"))?;
    if footer.version != 1 {
        return Err(wrong("its version is not known"));
    }
    Ok((file, footer))
}

fn parse_id(text: &str) -> Option<StreamId> {
    u128::from_str_radix(text, 16).ok().map(StreamId)
}

fn damaged(path: &Path, at: u64, what: &'static str) -> LogFileError {
    LogFileError::Damaged { path: path.to_owned(), at, what }
}
