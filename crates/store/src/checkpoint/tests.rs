use std::sync::Arc;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::*;
use crate::{Key, Row, Tables};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Item {
    id: u64,
    text: String,
}

impl Row for Item {
    const TABLE: &'static str = "item";
    fn key(&self) -> Key {
        Key::root().with_u64(self.id)
    }
}

fn state(rows: &[Item]) -> State {
    let schema = Arc::new(Tables::new().with::<Item>());
    let mut state = State::empty(schema);
    for row in rows {
        state.put(0, row.key(), Arc::new(row.clone()));
    }
    state.revision = 42;
    state
}

fn file(rows: &[Item]) -> Vec<u8> {
    let mut file = Vec::new();
    write(&state(rows), &mut file).unwrap();
    file
}

fn items(count: u64, size: usize) -> Vec<Item> {
    (0..count).map(|id| Item { id, text: "x".repeat(size) }).collect()
}

fn read_back(file: &[u8]) -> Result<u64, ReadCheckpointError> {
    let mut rows = RawTables::new(Arc::new(Tables::new().with::<Item>()));
    read(file, &mut rows).map(|(revision, _)| revision)
}

#[test]
fn an_empty_checkpoint_is_a_checkpoint() {
    assert_eq!(read_back(&file(&[])).unwrap(), 42);
}

#[test]
fn rows_over_many_blocks_come_back() {
    let file = file(&items(100, BLOCK / 10));
    assert!(file.len() < BLOCK, "it is compressed");
    assert_eq!(read_back(&file).unwrap(), 42);
}

#[test]
fn one_that_goes_on_after_its_end_is_none() {
    let mut file = file(&items(1, 1));
    file.push(0);
    assert!(read_back(&file).is_err());
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let mut file = file(&[]);
    file[4] = 7;
    let error = read_back(&file).unwrap_err();
    assert_eq!(
        error.to_string(),
        "its format 7 is newer than the newest known, 1"
    );
}

/// A length that lies must not make us ask for 4 GiB.
#[test]
fn a_block_that_claims_to_be_huge_is_refused() {
    let mut bytes = file(&[])[..HEADER].to_vec();
    let mut out = zstd::Encoder::new(&mut bytes, 1).unwrap();
    out.write_all(&u32::MAX.to_le_bytes()).unwrap();
    out.write_all(&[0; 4]).unwrap();
    out.finish().unwrap();
    let error = read_back(&bytes).unwrap_err().to_string();
    assert!(error.contains("too long"), "{error}");
}

proptest! {
    #[test]
    fn a_cut_checkpoint_is_none(count in 0..20u64, at: prop::sample::Index) {
        let mut file = file(&items(count, 30));
        file.truncate(at.index(file.len()));
        prop_assert!(read_back(&file).is_err());
    }

    /// Not every flipped bit can be noticed (zstd's frame header has unused
    /// ones), but a checkpoint that reads well holds what was written.
    #[test]
    fn damage_is_noticed_or_harmless(
        at: prop::sample::Index,
        flip in 1..=255u8,
    ) {
        let rows = items(9, 30);
        let mut file = file(&rows);
        let at = at.index(file.len());
        file[at] ^= flip;
        let mut read_rows =
            RawTables::new(Arc::new(Tables::new().with::<Item>()));
        if let Ok((revision, _)) = read(file.as_slice(), &mut read_rows) {
            prop_assert_eq!(revision, 42);
            prop_assert_eq!(read_rows.len(), rows.len());
        }
    }
}
