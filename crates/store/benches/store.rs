//! What a transaction, a snapshot and a read cost.
//!
//! `cargo bench -p minato-store`. The durable ones measure the disk first of
//! all: read them beside each other, not beside another machine's.

use std::{convert::Infallible, hint::black_box, path::Path, sync::Arc};

use criterion::{
    BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
};
use minato_store::{
    Journal, JournalError, Key, ReplayError, Row, SeeFrame, Store,
    StoreOptions, Tables, Tx,
};
use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Runtime};

/// Rows in memory for the benchmarks of reading.
const ROWS: u64 = 100_000;

#[derive(Clone, Serialize, Deserialize)]
struct Task {
    cluster: String,
    id: u64,
    status: String,
    text: String,
}

impl Row for Task {
    const TABLE: &'static str = "task";
    fn key(&self) -> Key {
        Key::from(self.cluster.as_str()).with_u64(self.id)
    }
    fn indexes(&self) -> Vec<(&'static str, Key)> {
        vec![("status", Key::of([&self.cluster, &self.status]))]
    }
}

/// About 1 KB as JSON, as a small task is.
fn task(id: u64) -> Task {
    Task {
        cluster: format!("cluster-{}", id % 100),
        id,
        status: if id.is_multiple_of(10) { "STOPPED" } else { "RUNNING" }
            .to_owned(),
        text: "t".repeat(930),
    }
}

fn tables() -> Tables {
    Tables::new().with::<Task>()
}

/// Keeps nothing: what is left is the store's own work.
struct NoJournal;

impl Journal for NoJournal {
    fn append(&self, _: u64, _: &[u8]) -> Result<(), JournalError> {
        Ok(())
    }
    fn replay(&self, _: u64, _: &mut SeeFrame<'_>) -> Result<(), ReplayError> {
        Ok(())
    }
    fn trim(&self, _: u64) -> Result<(), JournalError> {
        Ok(())
    }
    fn trimmed(&self) -> Result<u64, JournalError> {
        Ok(0)
    }
}

fn put(id: u64) -> impl FnOnce(&mut Tx) -> Result<(), Infallible> + Send {
    let row = task(id);
    move |tx| {
        tx.put(row);
        Ok(())
    }
}

fn in_memory() -> Store {
    let options = StoreOptions::default();
    let store = Store::open(Box::new(NoJournal), tables(), options);
    let store = store.expect("nothing to recover");
    for first in (0..ROWS).step_by(1000) {
        let filled = store.transact_blocking(move |tx| {
            for id in first..first + 1000 {
                tx.put(task(id));
            }
            Ok::<(), Infallible>(())
        });
        filled.expect("it fits");
    }
    store
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).build().expect("a runtime")
}

/// Each of `clients` waits for its own transactions, one after the other.
async fn write_all(store: &Store, clients: u64, each: u64) {
    let clients: Vec<_> = (0..clients)
        .map(|client| {
            let store = store.clone();
            tokio::spawn(async move {
                for n in 0..each {
                    let done = store.transact(put(client * each + n)).await;
                    done.expect("the disk has room");
                }
            })
        })
        .collect();
    for client in clients {
        client.await.expect("no panic");
    }
}

fn durable(c: &mut Criterion) {
    // Cargo's directory is on a disk; the system's may be in memory.
    let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let directory = tempfile::tempdir_in(parent).expect("a directory");
    let options = StoreOptions::default();
    let store = Store::open_dir(directory.path(), tables(), options);
    let store = store.expect("it opens");
    let runtime = runtime();
    let mut group = c.benchmark_group("durable transactions of 1 KB");
    group.sample_size(10);
    for (clients, each) in [(1u64, 32u64), (64, 16), (256, 16)] {
        group.throughput(Throughput::Elements(clients * each));
        group.bench_function(BenchmarkId::new("clients", clients), |b| {
            b.iter(|| runtime.block_on(write_all(&store, clients, each)));
        });
    }
    group.finish();
}

/// From nothing in memory to all rows, with a log that is about to be cut.
fn opening(c: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a directory");
    let open = || {
        let mut options = StoreOptions::default();
        options.checkpoint_bytes = u64::MAX;
        let store = Store::open_dir(directory.path(), tables(), options);
        store.expect("it opens")
    };
    let store = open();
    for first in (0..16_000).step_by(100) {
        let filled = store.transact_blocking(move |tx| {
            for id in first..first + 100 {
                tx.put(task(id));
            }
            Ok::<(), Infallible>(())
        });
        filled.expect("the disk has room");
    }
    drop(store);
    let mut group = c.benchmark_group("opening");
    group.sample_size(10);
    group.bench_function("16 MiB of log", |b| b.iter(open));
    group.finish();
}

fn reads(c: &mut Criterion) {
    let store = in_memory();
    let mut group = c.benchmark_group("100,000 rows");
    group.bench_function("take a snapshot", |b| b.iter(|| store.snapshot()));
    let snapshot = store.snapshot();
    let mut id = 0;
    group.bench_function("get by key", |b| {
        b.iter(|| {
            id = (id + 7919) % ROWS;
            let cluster = format!("cluster-{}", id % 100);
            let key = Key::from(cluster).with_u64(id);
            black_box(snapshot.get::<Task>(&key)).expect("it is there")
        });
    });
    group.throughput(Throughput::Elements(1000));
    let cluster = Key::from("cluster-7");
    group.bench_function("scan 1000 by prefix", |b| {
        b.iter(|| black_box(snapshot.scan::<Task>(&cluster).count()));
    });
    let running = Key::of(["cluster-7", "RUNNING"]);
    group.bench_function("scan 1000 by index", |b| {
        let scan = || snapshot.by_index::<Task>("status", &running).count();
        b.iter(|| black_box(scan()));
    });
    group.finish();
}

fn updates(c: &mut Criterion) {
    let store = in_memory();
    let runtime = runtime();
    let mut group = c.benchmark_group("without a journal, 100,000 rows");
    let mut snapshot = store.snapshot();
    group.throughput(Throughput::Elements(256 * 16));
    group.bench_function("updates, each batch beside a snapshot", |b| {
        b.iter(|| {
            snapshot = store.snapshot();
            runtime.block_on(write_all(&store, 256, 16));
            Arc::new(snapshot.clone())
        });
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("one transaction, there and back", |b| {
        b.iter(|| store.transact_blocking(put(1)));
    });
    group.finish();
}

criterion_group!(benches, durable, opening, reads, updates);
criterion_main!(benches);
