//! What a user of the store sees.

#![expect(
    clippy::unwrap_used,
    reason = "a test; clippy does not know helpers of tests as such"
)]

use std::{sync::Arc, time::Duration};

use minato_store::{
    Changes, Key, OpenStoreError, Row, Snapshot, Store, StoreError,
    StoreOptions, Tables, TransactError, Watch,
};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Cluster {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

impl Row for Cluster {
    const TABLE: &'static str = "cluster";
    fn key(&self) -> Key {
        Key::from(self.name.as_str())
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Task {
    cluster: String,
    id: u64,
    status: String,
}

impl Row for Task {
    const TABLE: &'static str = "task";
    fn key(&self) -> Key {
        Key::from(self.cluster.as_str()).with_u64(self.id)
    }
    fn indexes(&self) -> Vec<(&'static str, Key)> {
        vec![("status", Key::of([&self.status, &self.cluster]))]
    }
}

/// A row with more to it than its keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Noted {
    name: String,
    kind: String,
    note: u64,
}

impl Row for Noted {
    const TABLE: &'static str = "noted";
    fn key(&self) -> Key {
        Key::from(self.name.as_str())
    }
    fn indexes(&self) -> Vec<(&'static str, Key)> {
        vec![("kind", Key::from(self.kind.as_str()))]
    }
}

/// A row that JSON cannot express, or that panics when asked to.
#[derive(Clone, Debug, Deserialize)]
struct Odd {
    panics: bool,
}

impl Serialize for Odd {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        assert!(!self.panics, "serialising is not for me");
        Err(serde::ser::Error::custom("not expressible"))
    }
}

impl Row for Odd {
    const TABLE: &'static str = "odd";
    fn key(&self) -> Key {
        Key::from("odd")
    }
}

fn open(directory: &TempDir) -> Store {
    try_open(directory).unwrap()
}

fn try_open(directory: &TempDir) -> Result<Store, OpenStoreError> {
    Store::open_dir(directory.path(), tables(), StoreOptions::default())
}

fn tables() -> Tables {
    Tables::new().with::<Cluster>().with::<Task>().with::<Odd>().with::<Noted>()
}

fn cluster(name: &str) -> Cluster {
    Cluster { name: name.to_owned(), note: None }
}

fn task(cluster: &str, id: u64, status: &str) -> Task {
    Task { cluster: cluster.to_owned(), id, status: status.to_owned() }
}

fn put<R: Row>(store: &Store, row: R) {
    let done: Result<(), TransactError<()>> =
        store.transact_blocking(move |tx| {
            tx.put(row);
            Ok(())
        });
    done.unwrap();
}

fn ids(rows: impl Iterator<Item = Arc<Task>>) -> Vec<u64> {
    rows.map(|task| task.id).collect()
}

#[test]
fn rows_come_back_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    put(&store, cluster("default"));
    put(&store, task("default", 1, "RUNNING"));
    put(&store, task("default", 1, "STOPPED"));
    put(&store, task("default", 2, "RUNNING"));
    let deleted: Result<_, TransactError<()>> = store.transact_blocking(|tx| {
        Ok(tx.delete::<Task>(&Key::from("default").with_u64(2)).is_some())
    });
    assert_eq!(deleted, Ok(true));
    drop(store);

    let snapshot = open(&directory).snapshot();
    assert_eq!(snapshot.revision(), 5);
    let key = Key::from("default");
    assert_eq!(
        snapshot.get::<Cluster>(&key).as_deref(),
        Some(&cluster("default"))
    );
    let tasks: Vec<Arc<Task>> = snapshot.scan(&key).collect();
    assert_eq!(tasks, [Arc::new(task("default", 1, "STOPPED"))]);
    let stopped = Key::from("STOPPED");
    assert_eq!(ids(snapshot.by_index("status", &stopped)), [1]);
}

#[test]
fn a_refused_transaction_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    put(&store, cluster("a"));
    let refused = store.transact_blocking(|tx| {
        tx.put(cluster("b"));
        tx.delete::<Cluster>(&Key::from("a"));
        Err::<(), _>("no")
    });
    assert_eq!(refused, Err(TransactError::Refused("no")));
    let snapshot = store.snapshot();
    assert_eq!(snapshot.revision(), 1);
    assert!(snapshot.contains::<Cluster>(&Key::from("a")));
    assert!(!snapshot.contains::<Cluster>(&Key::from("b")));
}

#[test]
fn a_transaction_reads_its_own_writes() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let seen: Result<_, TransactError<()>> = store.transact_blocking(|tx| {
        tx.put(task("c", 2, "PENDING"));
        tx.put(task("c", 10, "RUNNING"));
        tx.put(task("d", 3, "RUNNING"));
        tx.put(task("c", 2, "RUNNING"));
        let pending = tx.by_index("status", &Key::from("PENDING"));
        assert_eq!(ids(pending), Vec::<u64>::new());
        tx.delete::<Task>(&Key::from("c").with_u64(10));
        Ok(ids(tx.by_index("status", &Key::of(["RUNNING", "c"]))))
    });
    assert_eq!(seen, Ok(vec![2]));
    assert_eq!(ids(store.snapshot().scan(&Key::root())), [2, 3]);
}

#[test]
fn an_index_has_the_newest_rows_and_knows_its_keys() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    put(&store, Noted { name: "a".into(), kind: "x".into(), note: 1 });
    put(&store, Noted { name: "b".into(), kind: "x".into(), note: 2 });
    put(&store, Noted { name: "c".into(), kind: "xy".into(), note: 3 });
    put(&store, Noted { name: "d".into(), kind: "z\0".into(), note: 4 });
    // Its key in the index stays as it is.
    put(&store, Noted { name: "a".into(), kind: "x".into(), note: 5 });
    let snapshot = store.snapshot();
    let notes = |kind: &str| {
        let rows = snapshot.by_index::<Noted>("kind", &Key::from(kind));
        rows.map(|row| row.note).collect::<Vec<_>>()
    };
    assert_eq!(notes("x"), [5, 2]);
    let keys = |prefix: &Key| snapshot.index_keys::<Noted>("kind", prefix);
    let all = ["x", "xy", "z\0"].map(Key::from);
    assert_eq!(keys(&Key::root()), all);
    assert_eq!(keys(&all[0]), all[..1]);
    assert_eq!(keys(&Key::from("y")), []);
    assert_eq!(snapshot.index_keys::<Noted>("none", &Key::root()), []);
    let gone: Result<_, TransactError<()>> = store.transact_blocking(|tx| {
        tx.delete::<Noted>(&Key::from("c"));
        Ok(tx.index_keys::<Noted>("kind", &Key::root()))
    });
    assert_eq!(gone.unwrap(), [all[0].clone(), all[2].clone()]);
}

#[test]
fn scans_are_ordered_bounded_and_go_on_after_a_key() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    for id in [300, 5, 10] {
        put(&store, task("web", id, "RUNNING"));
    }
    put(&store, task("web-2", 1, "RUNNING"));
    let (snapshot, web) = (store.snapshot(), Key::from("web"));
    assert_eq!(ids(snapshot.scan(&web)), [5, 10, 300]);
    assert_eq!(ids(snapshot.scan(&web).rev()), [300, 10, 5]);
    // The key to go on after need not exist.
    let after = web.with_u64(7);
    assert_eq!(ids(snapshot.scan_after(&web, &after)), [10, 300]);
}

#[test]
fn snapshots_do_not_move() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    put(&store, cluster("a"));
    let before = store.snapshot();
    put(&store, cluster("b"));
    assert_eq!((before.revision(), before.count::<Cluster>()), (1, 1));
    assert_eq!(store.snapshot().count::<Cluster>(), 2);
    drop(store);
    assert!(before.contains::<Cluster>(&Key::from("a")));
}

#[test]
fn a_transaction_without_changes_takes_no_revision() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let nothing: Result<_, TransactError<()>> = store.transact_blocking(|tx| {
        tx.put(cluster("a"));
        tx.delete::<Cluster>(&Key::from("a"));
        Ok(tx.count::<Cluster>())
    });
    assert_eq!(nothing, Ok(0));
    assert_eq!(store.snapshot().revision(), 0);
}

#[test]
fn panics_and_rows_that_do_not_encode_hurt_nobody_else() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let panicked = store.transact_blocking(|tx| -> Result<(), ()> {
        tx.put(cluster("half"));
        panic!("oh")
    });
    let message = "oh".to_owned();
    let expected = TransactError::Store(StoreError::Panicked { message });
    assert_eq!(panicked, Err(expected));
    for panics in [true, false] {
        let odd: Result<(), TransactError<()>> =
            store.transact_blocking(move |tx| {
                tx.put(cluster("half"));
                tx.put(Odd { panics });
                Ok(())
            });
        let Err(TransactError::Store(error)) = odd else { panic!("{odd:?}") };
        let expected = if panics { "panicked" } else { "could not encode" };
        assert!(error.to_string().contains(expected), "{error}");
    }
    put(&store, cluster("whole"));
    drop(store);
    let snapshot = open(&directory).snapshot();
    assert_eq!((snapshot.revision(), snapshot.count::<Cluster>()), (1, 1));
}

#[test]
fn keys_and_transactions_have_limits() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let error = |row: Cluster| -> StoreError {
        let result: Result<(), TransactError<()>> =
            store.transact_blocking(move |tx| {
                tx.put(row);
                Ok(())
            });
        match result {
            Err(TransactError::Store(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    let long = error(cluster(&"k".repeat(Key::MAX_BYTES)));
    assert!(matches!(long, StoreError::KeyTooLong { .. }), "{long}");
    let note = Some("n".repeat(17 << 20));
    let large = error(Cluster { name: "a".to_owned(), note });
    assert!(matches!(large, StoreError::TooLarge { .. }), "{large}");
    assert_eq!(store.snapshot().revision(), 0);
}

#[test]
fn two_cannot_open_one_directory() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let error = try_open(&directory).unwrap_err();
    let OpenStoreError::InUse { holder, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(*holder, std::process::id().to_string());
    store.close();
    // The handle is still there, its directory is free.
    open(&directory);
    let closed: Result<(), TransactError<()>> =
        store.transact_blocking(|_| Ok(()));
    let Err(TransactError::Store(StoreError::Stopped { reason })) = closed
    else {
        panic!("{closed:?}")
    };
    assert_eq!(&*reason, "it was closed");
}

async fn next_revisions(watch: &mut Watch) -> Vec<u64> {
    let waited =
        tokio::time::timeout(Duration::from_secs(20), watch.changed()).await;
    waited.expect("a change within 20 s").unwrap();
    match watch.changes() {
        Changes::Rows(commits) => {
            commits.iter().map(|commit| commit.revision()).collect()
        }
        Changes::Resync(_) => panic!("the watch kept up"),
    }
}

#[tokio::test]
async fn a_watch_sees_every_commit_once_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let mut watch = store.watch();
    let writers: Vec<_> = (0..8u64)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for id in 0..25 {
                    let row = task("c", writer * 1000 + id, "RUNNING");
                    let done: Result<_, TransactError<()>> = store
                        .transact(move |tx| {
                            tx.put(row);
                            Ok(())
                        })
                        .await;
                    done.unwrap();
                }
            })
        })
        .collect();
    let mut seen = Vec::new();
    while seen.len() < 200 {
        seen.extend(next_revisions(&mut watch).await);
    }
    assert_eq!(seen, (1..=200).collect::<Vec<u64>>());
    for writer in writers {
        writer.await.unwrap();
    }
    drop(store);
    assert!(watch.changed().await.is_err(), "closed with the store");
}

#[tokio::test]
async fn a_change_shows_before_and_after() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let put_status = async |status: &'static str| {
        let done: Result<_, TransactError<()>> = store
            .transact(move |tx| {
                tx.put(task("c", 1, status));
                Ok(())
            })
            .await;
        done.unwrap();
    };
    put_status("PENDING").await;
    let mut watch = store.watch();
    put_status("RUNNING").await;
    let Changes::Rows(commits) = watch.changes() else { panic!("kept up") };
    assert_eq!(commits.len(), 1);
    assert!(commits[0].touches::<Task>() && !commits[0].touches::<Cluster>());
    let changed: Vec<_> = commits[0].of::<Task>().collect();
    assert_eq!(changed.len(), 1);
    let status = |row: &Option<Arc<Task>>| row.as_ref().unwrap().status.clone();
    assert_eq!(status(&changed[0].before), "PENDING");
    assert_eq!(status(&changed[0].after), "RUNNING");
}

#[test]
fn a_watch_that_lags_is_told_to_resync_and_misses_nothing_after() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = StoreOptions::default();
    options.watch_commits = 4;
    let store = Store::open_dir(directory.path(), tables(), options).unwrap();
    let mut watch = store.watch();
    for id in 0..5 {
        put(&store, task("c", id, "RUNNING"));
    }
    let Changes::Resync(snapshot) = watch.changes() else {
        panic!("five commits do not fit a ring of four")
    };
    assert_eq!((snapshot.revision(), watch.revision()), (5, 5));
    put(&store, task("c", 9, "RUNNING"));
    let Changes::Rows(commits) = watch.changes() else { panic!("kept up") };
    assert_eq!(commits.len(), 1);
    assert_eq!(commits[0].revision(), 6);
}

#[test]
fn a_watch_from_an_old_snapshot_begins_there() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let snapshots: Vec<Snapshot> = (0..3)
        .map(|id| {
            put(&store, task("c", id, "RUNNING"));
            store.snapshot()
        })
        .collect();
    let Changes::Rows(commits) = store.watch_from(&snapshots[0]).changes()
    else {
        panic!("the ring covers it")
    };
    let revisions: Vec<u64> = commits.iter().map(|c| c.revision()).collect();
    assert_eq!(revisions, [2, 3]);
}

/// What a transaction finds written since `revision`, and its own revision.
fn changed_since(
    store: &Store,
    revision: u64,
    writes: &[&'static str],
    commits: bool,
) -> (Option<Vec<String>>, u64) {
    let writes = writes.to_vec();
    let answer = Arc::new(std::sync::Mutex::new((None, 0)));
    let told = Arc::clone(&answer);
    let _: Result<(), TransactError<()>> = store.transact_blocking(move |tx| {
        for name in writes {
            tx.put(cluster(name));
        }
        let changed = tx.changed_since(revision).map(|changed| {
            changed
                .map(|(table, key)| format!("{table} {key:?}"))
                .collect::<Vec<_>>()
        });
        *told.lock().unwrap() = (changed, tx.revision());
        if commits { Ok(()) } else { Err(()) }
    });
    Arc::try_unwrap(answer).unwrap().into_inner().unwrap()
}

#[test]
fn transactions_know_what_was_written_lately() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let name = |name: &str| format!("cluster {:?}", Key::from(name));
    put(&store, cluster("a"));
    put(&store, task("a", 1, "RUNNING"));
    let (all, now) = changed_since(&store, 0, &["b"], true);
    let of_task = format!("task {:?}", Key::from("a").with_u64(1));
    assert_eq!(all.unwrap(), [name("b"), of_task, name("a")]);
    // Its own writes were of its own revision.
    let (later, _) = changed_since(&store, now - 1, &[], true);
    assert_eq!(later.unwrap(), [name("b")]);
    // What is rolled back was never written, though it was seen within.
    let (own, tried) = changed_since(&store, now, &["c", "d"], false);
    assert_eq!(own.unwrap(), [name("d"), name("c")]);
    let (after, next) = changed_since(&store, now, &["e"], true);
    assert_eq!((after.unwrap(), next), (vec![name("e")], tried));
    // A key that is written twice in a transaction comes once.
    let (twice, _) = changed_since(&store, next, &["f", "f"], true);
    assert_eq!(twice.unwrap(), [name("f")]);
    store.close();
    drop(store);
    // A store that was opened anew knows only what came after.
    let store = open(&directory);
    let opened = store.snapshot().revision();
    assert_eq!(changed_since(&store, opened - 1, &[], true).0, None);
    let (since, _) = changed_since(&store, opened, &["g"], true);
    assert_eq!(since.unwrap(), [name("g")]);
}

#[test]
fn what_is_too_long_ago_is_not_told() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    put(&store, cluster("a"));
    let start = store.snapshot().revision();
    let many: Result<(), TransactError<()>> =
        store.transact_blocking(move |tx| {
            for id in 0..40_000 {
                tx.put(task("a", id, "RUNNING"));
            }
            Ok(())
        });
    many.unwrap();
    let (changed, now) = changed_since(&store, start, &[], true);
    assert_eq!(changed, None);
    assert_eq!(changed_since(&store, now - 1, &[], true).0, Some(vec![]));
}
