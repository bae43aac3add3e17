//! Opening: checkpoints, damage, and shapes of older versions.

#![expect(
    clippy::unwrap_used,
    reason = "a test; clippy does not know helpers of tests as such"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use minato_store::{
    Key, MigrateRowError, OpenStoreError, Row, Store, StoreOptions, Tables,
    TransactError,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Tasks as they were: their table had no cluster in the key.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct OldTask {
    name: String,
    cpu: String,
}

impl Row for OldTask {
    const TABLE: &'static str = "task";
    fn key(&self) -> Key {
        Key::from(self.name.as_str())
    }
}

/// Two versions later: cpu is a number, and the key has a cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Task {
    cluster: String,
    name: String,
    cpu: u32,
}

impl Row for Task {
    const TABLE: &'static str = "task";
    const VERSION: u16 = 3;
    fn key(&self) -> Key {
        Key::of([&self.cluster, &self.name])
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Gone {
    id: u64,
}

impl Row for Gone {
    const TABLE: &'static str = "gone";
    fn key(&self) -> Key {
        Key::root().with_u64(self.id)
    }
}

fn numeric_cpu(mut row: Value) -> Result<Value, MigrateRowError> {
    let wrong = || MigrateRowError::Shape("cpu is not a number".to_owned());
    let cpu = row["cpu"].as_str().ok_or_else(wrong)?;
    row["cpu"] = json!(cpu.parse::<u32>().map_err(|_| wrong())?);
    Ok(row)
}

fn default_cluster(mut row: Value) -> Result<Value, MigrateRowError> {
    row["cluster"] = json!("default");
    Ok(row)
}

fn new_tables() -> Tables {
    Tables::new().with::<Task>().migrate("task", 1, numeric_cpu).migrate(
        "task",
        2,
        default_cluster,
    )
}

fn old_tables() -> Tables {
    Tables::new().with::<OldTask>()
}

/// Options under which a checkpoint is made every `frames` transactions.
fn every(frames: u64) -> StoreOptions {
    let mut options = StoreOptions::default();
    options.checkpoint_frames = frames;
    options
}

fn open(
    path: &Path,
    tables: Tables,
    frames: u64,
) -> Result<Store, OpenStoreError> {
    Store::open_dir(path, tables, every(frames))
}

fn put<R: Row>(store: &Store, row: R) {
    let done: Result<(), TransactError<()>> =
        store.transact_blocking(move |tx| {
            tx.put(row);
            Ok(())
        });
    done.unwrap();
}

fn old(name: &str, cpu: &str) -> OldTask {
    OldTask { name: name.to_owned(), cpu: cpu.to_owned() }
}

fn checkpoints(path: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "zst"))
        .collect();
    files.sort();
    files
}

/// A store with `count` old tasks, checkpoints every `frames`.
fn old_store(path: &Path, count: u32, frames: u64) {
    let store = open(path, old_tables(), frames).unwrap();
    for at in 0..count {
        put(&store, old(&format!("t{at}"), "256"));
    }
}

fn old_names(store: &Store) -> Vec<String> {
    let rows = store.snapshot();
    rows.scan::<OldTask>(&Key::root()).map(|row| row.name.clone()).collect()
}

#[test]
fn a_checkpoint_replaces_the_log_and_older_checkpoints() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    for round in 1..=5u32 {
        // Closing waits for the checkpoint, so every round ends with one.
        let store = open(path, old_tables(), 2).unwrap();
        put(&store, old(&format!("t{round}"), "256"));
        put(&store, old(&format!("t{round}"), "512"));
        store.close();
        let expected = format!("checkpoint-{:020}.zst", round * 2);
        let names: Vec<_> = checkpoints(path)
            .iter()
            .map(|path| path.file_name().unwrap().to_owned())
            .collect();
        assert_eq!(names, [&*expected]);
    }
    let store = open(path, old_tables(), 100).unwrap();
    assert_eq!(store.snapshot().revision(), 10);
    assert_eq!(old_names(&store), ["t1", "t2", "t3", "t4", "t5"]);
}

#[test]
fn a_checkpoint_that_is_needed_and_damaged_is_an_error_not_a_loss() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    old_store(path, 3, 3);
    let file = checkpoints(path).remove(0);
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).unwrap();
    let error = open(path, old_tables(), 3).unwrap_err();
    assert!(
        matches!(error, OpenStoreError::Checkpoint { revision: 3, .. }),
        "{error:?}"
    );
    fs::remove_file(&file).unwrap();
    let error = open(path, old_tables(), 3).unwrap_err();
    assert!(
        matches!(error, OpenStoreError::Gap { have: 0, next: 4 }),
        "{error:?}"
    );
}

#[test]
fn a_damaged_checkpoint_is_no_harm_while_the_log_has_it_all() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    old_store(path, 3, 100);
    let file = path.join(format!("checkpoint-{:020}.zst", 2));
    fs::write(file, "half a checkpoi").unwrap();
    fs::write(path.join("checkpoint.tmp"), "not even that").unwrap();
    let store = open(path, old_tables(), 100).unwrap();
    assert_eq!(old_names(&store), ["t0", "t1", "t2"]);
    assert!(!path.join("checkpoint.tmp").exists());
}

#[test]
fn a_checkpoint_newer_than_the_log_has_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    old_store(path, 3, 100);
    let file = path.join(format!("checkpoint-{:020}.zst", 9));
    fs::write(file, "revisions 4 to 9 were here").unwrap();
    let error = open(path, old_tables(), 100).unwrap_err();
    assert!(
        matches!(error, OpenStoreError::Checkpoint { revision: 9, .. }),
        "{error:?}"
    );
}

fn migrated_names(path: &Path) -> Vec<(String, u32)> {
    let store = open(path, new_tables(), 100).unwrap();
    let snapshot = store.snapshot();
    snapshot
        .scan::<Task>(&Key::from("default"))
        .map(|task| (task.name.clone(), task.cpu))
        .collect()
}

/// The fixture is what version 1 of the table wrote: part of it as
/// checkpoint, part of it as log.
#[test]
fn rows_of_version_1_are_migrated_and_stay_so() {
    for checkpoint_every in [2, 100] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        old_store(path, 2, checkpoint_every);
        old_store(path, 3, 100);
        let all = [("t0", 256), ("t1", 256), ("t2", 256)]
            .map(|(name, cpu)| (name.to_owned(), cpu));
        assert_eq!(migrated_names(path), all);
        let store = open(path, new_tables(), 100).unwrap();
        let key = Key::of(["default", "t1"]);
        let deleted: Result<_, TransactError<()>> =
            store.transact_blocking(move |tx| Ok(tx.delete::<Task>(&key)));
        assert!(deleted.unwrap().is_some());
        let (cluster, name) = ("default".to_owned(), "t0".to_owned());
        put(&store, Task { cluster, name, cpu: 1024 });
        drop(store);
        // The record under its old key does not come back.
        let expected = [("t0".to_owned(), 1024), ("t2".to_owned(), 256)];
        assert_eq!(migrated_names(path), expected);
    }
}

#[test]
fn what_cannot_be_migrated_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let store = open(path, old_tables(), 100).unwrap();
    put(&store, old("odd", "a quarter"));
    drop(store);

    let error = open(path, new_tables(), 100).unwrap_err();
    let text = error.to_string();
    assert_eq!(text, "could not migrate row odd of table task from version 1");

    let tables = Tables::new().with::<Task>().migrate("task", 1, Ok);
    let error = open(path, tables, 100).unwrap_err();
    let OpenStoreError::Migrate { from: 2, source, .. } = error else {
        panic!("{error:?}")
    };
    assert!(matches!(source, MigrateRowError::Missing));
}

#[test]
fn rows_that_fall_together_by_migration_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    old_store(path, 2, 100);
    let same_name = |mut row: Value| {
        row["name"] = json!("same");
        numeric_cpu(row)
    };
    let tables = Tables::new()
        .with::<Task>()
        .migrate("task", 1, same_name)
        .migrate("task", 2, default_cluster);
    let error = open(path, tables, 100).unwrap_err();
    assert!(matches!(error, OpenStoreError::Collision { .. }), "{error:?}");
}

#[test]
fn a_store_of_a_newer_version_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let store = open(path, new_tables(), 100).unwrap();
    let (cluster, name) = ("c".to_owned(), "t".to_owned());
    put(&store, Task { cluster, name, cpu: 1 });
    drop(store);
    let error = open(path, old_tables(), 100).unwrap_err();
    assert!(
        matches!(error, OpenStoreError::NewerRow { found: 3, known: 1, .. }),
        "{error:?}"
    );
}

#[test]
fn an_unknown_table_is_an_error_and_a_retired_one_is_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let store = open(path, old_tables().with::<Gone>(), 100).unwrap();
    put(&store, Gone { id: 1 });
    put(&store, old("t", "1"));
    drop(store);
    let error = open(path, old_tables(), 100).unwrap_err();
    assert!(
        matches!(&error, OpenStoreError::UnknownTable { table } if table == "gone"),
        "{error:?}"
    );
    let store = open(path, old_tables().retired("gone"), 100).unwrap();
    assert_eq!(old_names(&store), ["t"]);
    assert_eq!(store.snapshot().revision(), 2);
}

#[test]
fn a_member_may_be_added_without_a_version() {
    #[derive(Clone, Serialize, Deserialize)]
    struct Wider {
        name: String,
        cpu: String,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tags: Vec<String>,
    }
    impl Row for Wider {
        const TABLE: &'static str = "task";
        fn key(&self) -> Key {
            Key::from(self.name.as_str())
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    old_store(path, 1, 100);
    let store = open(path, Tables::new().with::<Wider>(), 100).unwrap();
    let row: Arc<Wider> = store.snapshot().get(&Key::from("t0")).unwrap();
    assert_eq!((row.cpu.as_str(), row.tags.len()), ("256", 0));
}

#[test]
fn files_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("made").join("by the store");
    old_store(&path, 2, 2);
    let mode =
        |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    for entry in fs::read_dir(&path).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[test]
fn a_directory_that_cannot_be_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = open(&file.path().join("x"), old_tables(), 1).unwrap_err();
    let OpenStoreError::Directory { path, .. } = error else {
        panic!("{error:?}")
    };
    assert_eq!(path, file.path().join("x"));
}
