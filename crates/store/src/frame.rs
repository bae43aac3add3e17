//! The log's unit: one commit batch as one frame of bytes.
//!
//! ```text
//! "MNTJ"  format u16  0 u16  first revision u64  transactions u32
//! payload length u32  crc32 u32 (of everything else)  payload
//!
//! payload: per transaction  changes u32, then per change a record:
//!   op u8 (1 put, 2 delete)  table length u8, table
//!   row version u16  key length u16, key
//!   put only: row length u32, row as JSON
//! ```
//!
//! Numbers are little-endian. The transactions have consecutive revisions.
//! A record says table and version by itself, so that a log can be read, and
//! its rows migrated, one by one; checkpoints hold the same records.

use crate::{FrameError, Key};

/// The format written today.
pub(crate) const FORMAT: u16 = 1;
const MAGIC: [u8; 4] = *b"MNTJ";
const HEADER: usize = 28;
const CHECKSUM: std::ops::Range<usize> = 24..28;
const PUT: u8 = 1;
const DELETE: u8 = 2;

/// One change as it stands in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) table: &'a str,
    pub(crate) version: u16,
    pub(crate) key: &'a [u8],
    /// The row's JSON; `None` when it was deleted.
    pub(crate) row: Option<&'a [u8]>,
}

/// Builds a frame, one transaction after the other.
#[derive(Debug)]
pub(crate) struct FrameWriter {
    bytes: Vec<u8>,
    transactions: u32,
}

impl FrameWriter {
    pub(crate) fn new(first_revision: u64) -> FrameWriter {
        let mut bytes = Vec::with_capacity(4096);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(&first_revision.to_le_bytes());
        bytes.extend_from_slice(&[0; 12]);
        FrameWriter { bytes, transactions: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.transactions == 0
    }

    /// Adds a transaction that `write` writes; nothing, if it fails.
    pub(crate) fn transaction<E>(
        &mut self,
        changes: usize,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&length32(changes));
        match write(&mut self.bytes) {
            Ok(()) => {
                self.transactions += 1;
                Ok(())
            }
            Err(error) => {
                self.bytes.truncate(start);
                Err(error)
            }
        }
    }

    /// The finished frame.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        let payload = length32(self.bytes.len() - HEADER);
        self.bytes[16..20].copy_from_slice(&self.transactions.to_le_bytes());
        self.bytes[20..24].copy_from_slice(&payload);
        let crc = checksum(&self.bytes).to_le_bytes();
        self.bytes[CHECKSUM].copy_from_slice(&crc);
        self.bytes
    }
}

/// Appends the record of a deleted row.
pub(crate) fn push_delete(
    out: &mut Vec<u8>,
    table: &str,
    version: u16,
    key: &Key,
) {
    push_head(out, DELETE, table, version, key);
}

/// Appends the record of a written row, whose JSON `row` writes.
pub(crate) fn push_put<E>(
    out: &mut Vec<u8>,
    table: &str,
    version: u16,
    key: &Key,
    row: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    push_head(out, PUT, table, version, key);
    let length_at = out.len();
    out.extend_from_slice(&[0; 4]);
    let start = out.len();
    row(out)?;
    let length = length32(out.len() - start);
    out[length_at..start].copy_from_slice(&length);
    Ok(())
}

fn push_head(out: &mut Vec<u8>, op: u8, table: &str, version: u16, key: &Key) {
    let key = key.as_bytes();
    let (Ok(table_length), Ok(key_length)) =
        (u8::try_from(table.len()), u16::try_from(key.len()))
    else {
        unreachable!("Tables::with and the committer check these lengths");
    };
    out.push(op);
    out.push(table_length);
    out.extend_from_slice(table.as_bytes());
    out.extend_from_slice(&version.to_le_bytes());
    out.extend_from_slice(&key_length.to_le_bytes());
    out.extend_from_slice(key);
}

fn length32(length: usize) -> [u8; 4] {
    match u32::try_from(length) {
        Ok(length) => length.to_le_bytes(),
        Err(_) => unreachable!("the committer limits transactions to 16 MiB"),
    }
}

fn checksum(frame: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&frame[..CHECKSUM.start]);
    crc.update(&frame[CHECKSUM.end..]);
    crc.finalize()
}

/// A frame whose header and checksum were found good.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) first_revision: u64,
    pub(crate) transactions: u32,
    payload: &'a [u8],
}

impl<'a> Frame<'a> {
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Frame<'a>, FrameError> {
        let mut header = Reader { bytes, at: 0 };
        if header.take(4)? != MAGIC {
            return Err(FrameError::Magic);
        }
        let format = header.u16()?;
        // Formats that came before would be read by functions of their own
        // here; 1 is the first.
        if format != FORMAT {
            let found = format;
            return Err(FrameError::Newer { found, known: FORMAT });
        }
        header.u16()?;
        let first_revision = header.u64()?;
        let transactions = header.u32()?;
        let length = header.u32()?;
        let crc = header.u32()?;
        let payload = &bytes[HEADER..];
        if u32::try_from(payload.len()) != Ok(length) {
            return Err(FrameError::Length);
        }
        if checksum(bytes) != crc {
            return Err(FrameError::Checksum);
        }
        Ok(Frame { first_revision, transactions, payload })
    }

    /// The revision of the last transaction in the frame.
    pub(crate) fn last_revision(&self) -> u64 {
        self.first_revision
            .saturating_add(u64::from(self.transactions))
            .saturating_sub(1)
    }

    /// Shows every change, in order.
    pub(crate) fn each(
        &self,
        mut see: impl FnMut(Record<'a>),
    ) -> Result<(), FrameError> {
        let mut reader = Reader { bytes: self.payload, at: 0 };
        for _ in 0..self.transactions {
            for _ in 0..reader.u32()? {
                see(reader.record()?);
            }
        }
        if reader.at == self.payload.len() {
            Ok(())
        } else {
            Err(FrameError::Content { at: reader.at })
        }
    }
}

/// Reads records from bytes that someone may have damaged.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], FrameError> {
        let end = self.at.checked_add(length).ok_or(FrameError::Length)?;
        let taken = self.bytes.get(self.at..end).ok_or(FrameError::Length)?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, FrameError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub(crate) fn u16(&mut self) -> Result<u16, FrameError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, FrameError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, FrameError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn length(&mut self) -> Result<usize, FrameError> {
        usize::try_from(self.u32()?).map_err(|_| FrameError::Length)
    }

    pub(crate) fn record(&mut self) -> Result<Record<'a>, FrameError> {
        let start = self.at;
        let op = self.u8()?;
        let length = usize::from(self.u8()?);
        let table = std::str::from_utf8(self.take(length)?)
            .map_err(|_| FrameError::Content { at: start })?;
        let version = self.u16()?;
        let length = usize::from(self.u16()?);
        let key = self.take(length)?;
        let row = match op {
            PUT => {
                let length = self.length()?;
                Some(self.take(length)?)
            }
            DELETE => None,
            _ => return Err(FrameError::Content { at: start }),
        };
        Ok(Record { table, version, key, row })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Owned = (String, u16, Vec<String>, Option<Vec<u8>>);

    fn write(first: u64, transactions: &[Vec<Owned>]) -> Vec<u8> {
        let mut writer = FrameWriter::new(first);
        for changes in transactions {
            writer
                .transaction(changes.len(), |out| {
                    for (table, version, key, row) in changes {
                        let key = Key::of(key);
                        match row {
                            None => push_delete(out, table, *version, &key),
                            Some(row) => {
                                push_put(out, table, *version, &key, |out| {
                                    out.extend_from_slice(row);
                                    Ok::<(), ()>(())
                                })?;
                            }
                        }
                    }
                    Ok::<(), ()>(())
                })
                .unwrap();
        }
        writer.finish()
    }

    fn change() -> impl Strategy<Value = Owned> {
        let key = prop::collection::vec("[a-c]{0,3}", 0..3);
        let row = prop::option::of(prop::collection::vec(any::<u8>(), 0..9));
        ("[a-z]{1,5}", any::<u16>(), key, row)
    }

    fn frames() -> impl Strategy<Value = (u64, Vec<Vec<Owned>>)> {
        let changes = prop::collection::vec(change(), 0..4);
        (1..1_000_000u64, prop::collection::vec(changes, 1..4))
    }

    proptest! {
        #[test]
        fn a_frame_comes_back((first, transactions) in frames()) {
            let bytes = write(first, &transactions);
            let frame = Frame::read(&bytes).unwrap();
            prop_assert_eq!(frame.first_revision, first);
            let last = first + transactions.len() as u64 - 1;
            prop_assert_eq!(frame.last_revision(), last);
            let mut back = Vec::new();
            frame.each(|record| back.push((
                record.table.to_owned(),
                record.version,
                Key::from_bytes(record.key).unwrap(),
                record.row.map(<[u8]>::to_vec),
            ))).unwrap();
            let wrote: Vec<_> = transactions.into_iter().flatten()
                .map(|(table, version, key, row)| {
                    (table, version, Key::of(key), row)
                })
                .collect();
            prop_assert_eq!(back, wrote);
        }

        #[test]
        fn any_damage_is_noticed(
            (first, transactions) in frames(),
            at: prop::sample::Index,
            flip in 1..=255u8,
            cut: bool,
        ) {
            let mut bytes = write(first, &transactions);
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at); } else { bytes[at] ^= flip; }
            // The two reserved bytes are under the checksum too.
            prop_assert!(Frame::read(&bytes).is_err());
        }

        #[test]
        fn reading_noise_never_panics(bytes: Vec<u8>) {
            let _ = Frame::read(&bytes);
            let _ = (Reader { bytes: &bytes, at: 0 }).record();
            let noise =
                Frame { first_revision: 1, transactions: 9, payload: &bytes };
            let _ = noise.each(|_| ());
        }
    }

    /// Format 1 to the byte: what is on people's disks must stay readable.
    #[test]
    fn format_1_is_pinned() {
        let cluster = (
            "cluster".to_owned(),
            1,
            vec!["default".to_owned()],
            Some(b"{}".to_vec()),
        );
        let gone =
            ("task".to_owned(), 2, vec!["a".to_owned(), "b".into()], None);
        let bytes = write(7, &[vec![cluster], vec![gone]]);
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            concat!(
                "4d4e544a01000000070000000000000002000000340000007097cfe2",
                "010000000107636c757374657201000900",
                "64656661756c740001020000007b7d",
                "0100000002047461736b02000600610001620001",
            )
        );
    }

    #[test]
    fn a_newer_format_is_refused_by_name() {
        let mut bytes = write(1, &[vec![]]);
        bytes[4] = 9;
        let error = Frame::read(&bytes).unwrap_err();
        assert_eq!(error, FrameError::Newer { found: 9, known: 1 });
    }

    #[test]
    fn a_failed_transaction_leaves_no_bytes() {
        let mut writer = FrameWriter::new(1);
        let before = writer.len();
        let failed = writer.transaction(1, |out| {
            out.extend_from_slice(b"half");
            Err("no")
        });
        assert_eq!(failed, Err("no"));
        assert_eq!((writer.len(), writer.is_empty()), (before, true));
    }
}
