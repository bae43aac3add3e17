//! The workload of the crash and fault tests, and what must hold after it.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::{collections::BTreeMap, sync::Arc};

use minato_store::{
    Changes, Key, Row, Snapshot, Store, Tables, TransactError, Tx, Watch,
};
use serde::{Deserialize, Serialize};

/// Entries that each writer keeps; older ones are deleted.
const KEPT: u64 = 16;

/// A writer's counter. Every transaction sets both of its rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Counter {
    pub(crate) writer: u64,
    pub(crate) side: String,
    pub(crate) n: u64,
}

impl Row for Counter {
    const TABLE: &'static str = "counter";
    fn key(&self) -> Key {
        counter_key(self.writer, &self.side)
    }
}

fn counter_key(writer: u64, side: &str) -> Key {
    Key::root().with_u64(writer).with(side)
}

/// What a writer's transaction adds; the one [`KEPT`] before it goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) writer: u64,
    pub(crate) n: u64,
    pub(crate) padding: String,
}

impl Row for Entry {
    const TABLE: &'static str = "entry";
    fn key(&self) -> Key {
        entry_key(self.writer, self.n)
    }
    fn indexes(&self) -> Vec<(&'static str, Key)> {
        vec![("n", Key::root().with_u64(self.n))]
    }
}

fn entry_key(writer: u64, n: u64) -> Key {
    Key::root().with_u64(writer).with_u64(n)
}

pub(crate) fn tables() -> Tables {
    Tables::new().with::<Counter>().with::<Entry>()
}

/// Transaction `n` of `writer`.
pub(crate) fn step(
    writer: u64,
    n: u64,
) -> impl FnOnce(&mut Tx) -> Result<(), String> + Send + 'static {
    move |tx| {
        let before = tx.get::<Counter>(&counter_key(writer, "left"));
        let before = before.map_or(0, |counter| counter.n);
        if before + 1 != n {
            return Err(format!("{writer} is at {before}, not before {n}"));
        }
        tx.put(Counter { writer, side: "left".to_owned(), n });
        // Rows of uneven size, so that frames end anywhere in a page.
        let padding = "x".repeat(usize::try_from(n * 37 % 900).unwrap_or(0));
        tx.put(Entry { writer, n, padding });
        if n > KEPT {
            tx.delete::<Entry>(&entry_key(writer, n - KEPT));
        }
        tx.put(Counter { writer, side: "right".to_owned(), n });
        Ok(())
    }
}

/// Where each writer is; also checks that no transaction is there in part.
pub(crate) fn positions(snapshot: &Snapshot) -> BTreeMap<u64, u64> {
    let mut positions = BTreeMap::new();
    for counter in snapshot.scan::<Counter>(&Key::root()) {
        let (writer, n) = (counter.writer, counter.n);
        let before = positions.insert(writer, n);
        assert!(
            before.is_none_or(|before| before == n),
            "writer {writer} is half there: {before:?} and {n}"
        );
    }
    let mut entries = 0;
    for (&writer, &n) in &positions {
        let both = snapshot.scan::<Counter>(&Key::root().with_u64(writer));
        assert_eq!(both.count(), 2, "writer {writer} has both sides");
        let rows: Vec<Arc<Entry>> =
            snapshot.scan(&Key::root().with_u64(writer)).collect();
        let found: Vec<u64> = rows.iter().map(|entry| entry.n).collect();
        let first = n.saturating_sub(KEPT) + 1;
        let expected: Vec<u64> = (first..=n).collect();
        assert_eq!(found, expected, "entries of writer {writer}");
        entries += found.len();
    }
    assert_eq!(snapshot.count::<Entry>(), entries, "no entry without writer");
    let indexed = snapshot.by_index::<Entry>("n", &Key::root());
    assert_eq!(indexed.count(), entries, "the index has every entry");
    let total: u64 = positions.values().sum();
    assert_eq!(snapshot.revision(), total, "one revision per transaction");
    positions
}

/// Checks that every acknowledged transaction is there.
pub(crate) fn assert_kept(
    found: &BTreeMap<u64, u64>,
    acked: &BTreeMap<u64, u64>,
) {
    for (writer, acked) in acked {
        let found = found.get(writer).copied().unwrap_or(0);
        assert!(
            found >= *acked,
            "writer {writer}: {acked} was acknowledged, {found} is there"
        );
    }
}

/// A watch that checks what it sees.
pub(crate) struct Follower {
    watch: Watch,
    pub(crate) revision: u64,
}

impl Follower {
    pub(crate) fn new(store: &Store) -> Follower {
        let snapshot = store.snapshot();
        let revision = snapshot.revision();
        Follower { watch: store.watch_from(&snapshot), revision }
    }

    /// Takes what there is: revisions without a gap, each transaction whole.
    pub(crate) fn look(&mut self) {
        let commits = match self.watch.changes() {
            Changes::Rows(commits) => commits,
            Changes::Resync(snapshot) => {
                self.revision = snapshot.revision();
                return;
            }
        };
        for commit in commits {
            assert_eq!(commit.revision(), self.revision + 1, "no gap");
            self.revision += 1;
            let counters: Vec<u64> = commit
                .of::<Counter>()
                .filter_map(|change| change.after.map(|c| c.n))
                .collect();
            assert!(
                counters.len() == 2 && counters[0] == counters[1],
                "a commit is whole: {commit:?}"
            );
        }
    }
}

/// SplitMix64: small, and the same everywhere for the same seed.
#[derive(Clone, Debug)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn chance(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }
}

/// The seeds to run: `MINATO_SEED` alone if it is set, else `count` of them.
pub(crate) fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("MINATO_SEED") {
        Ok(seed) => vec![seed.parse().expect("MINATO_SEED is a number")],
        Err(_) => (0..count).collect(),
    }
}

/// Says how to run a failing seed again.
pub(crate) struct SayOnPanic(pub(crate) u64);

impl Drop for SayOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("to run this again: MINATO_SEED={}", self.0);
        }
    }
}

pub(crate) fn is_stopped<T, E>(result: &Result<T, TransactError<E>>) -> bool {
    use minato_store::StoreError::Stopped;
    matches!(result, Err(TransactError::Store(Stopped { .. })))
}
