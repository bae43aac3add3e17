//! Tables in memory with snapshots, watches and a durable journal.
//!
//! The store knows nothing of AWS: it keeps rows ([`Row`]) in tables, by key
//! and by index. Everything is in memory in persistent maps, so readers take
//! a [`Snapshot`] in a few nanoseconds and keep it as long as they like. All
//! writes go through one committer thread: [`Store::transact`] runs a
//! closure there on the newest state, and answers when its changes are on
//! disk. Transactions that wait at the same time share one fsync.
//!
//! ```
//! use minato_store::{Key, Row, Store, StoreOptions, Tables};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Clone, Debug, Serialize, Deserialize)]
//! struct Cluster {
//!     account: String,
//!     name: String,
//! }
//!
//! impl Row for Cluster {
//!     const TABLE: &'static str = "cluster";
//!
//!     fn key(&self) -> Key {
//!         Key::of([&self.account, &self.name])
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let directory = directory.path();
//! let tables = Tables::new().with::<Cluster>();
//! let store = Store::open_dir(directory, tables, StoreOptions::default())?;
//! let default =
//!     Cluster { account: "1".to_owned(), name: "default".to_owned() };
//! store.transact_blocking(|tx| {
//!     if tx.contains::<Cluster>(&default.key()) {
//!         return Err("exists");
//!     }
//!     tx.put(default);
//!     Ok(())
//! })?;
//! let names: Vec<String> = store
//!     .snapshot()
//!     .scan::<Cluster>(&Key::from("1"))
//!     .map(|cluster| cluster.name.clone())
//!     .collect();
//! assert_eq!(names, ["default"]);
//! # Ok(())
//! # }
//! ```
//!
//! # What is promised
//!
//! - A transaction happens all or not at all, and after an answer of `Ok` it
//!   survives `kill -9` and power cuts.
//! - Snapshots and watches only ever show durable state.
//! - A [`Watch`] sees every commit once, in order of revision, or is told to
//!   start again from a snapshot ([`Changes::Resync`]).
//! - When the journal fails (a full disk, a failing fsync) the store takes no
//!   more writes ([`StoreError::Stopped`]); snapshots stay readable, and after
//!   a restart everything that was acknowledged is there.

mod checkpoint;
mod commit;
mod error;
mod frame;
mod journal;
mod key;
mod lock;
mod recover;
mod row;
mod snapshot;
mod state;
mod store;
mod tx;
mod watch;

pub use checkpoint::{
    CheckpointDirectory, Checkpoints, ReadCheckpointError, WriteContent,
};
pub use error::{
    FrameError, JournalError, MigrateRowError, OpenStoreError, StoreError,
    TransactError,
};
pub use journal::{Journal, RedbJournal, ReplayError, SeeFrame};
pub use key::Key;
pub use row::{Migration, Row, Tables};
pub use snapshot::Snapshot;
pub use store::{Store, StoreOptions};
pub use tx::Tx;
pub use watch::{Changed, Changes, Commit, Watch, WatchClosed};
