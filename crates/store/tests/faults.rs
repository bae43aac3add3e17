//! Storage that fails: full disks, failing fsyncs and power cuts, at seeded
//! points, under the real journal.
//!
//! Even seeds run one batch at a time and no checkpoints, and replay
//! exactly; odd ones run four writers and checkpoints at once, and replay
//! the same faults, but not the same interleaving.

mod common;
mod disk;

use std::{
    collections::BTreeMap,
    sync::{Arc, mpsc},
    thread,
};

use common::{Follower, Rng, SayOnPanic, assert_kept, positions, step};
use disk::{Disk, Fault, MemoryCheckpoints};
use minato_store::{
    Checkpoints, RedbJournal, Store, StoreOptions, TransactError,
};

const WRITERS: u64 = 4;

/// One run of the program on a disk, from opening to the fault.
struct Life {
    store: Store,
    follower: Follower,
    acked: BTreeMap<u64, u64>,
}

fn open(disk: &Disk, checkpoints: Option<&MemoryCheckpoints>) -> Store {
    try_open(disk, checkpoints).expect("what is on the disk is whole")
}

fn try_open(
    disk: &Disk,
    checkpoints: Option<&MemoryCheckpoints>,
) -> Result<Store, Box<dyn std::error::Error>> {
    let journal = RedbJournal::with_backend(disk.clone())?;
    let checkpoints =
        checkpoints.map(|c| Arc::new(c.clone()) as Arc<dyn Checkpoints>);
    let mut options = StoreOptions::default();
    options.checkpoint_frames = 8;
    let tables = common::tables();
    let journal = Box::new(journal);
    Ok(Store::open_with_checkpoints(journal, checkpoints, tables, options)?)
}

impl Life {
    fn new(store: Store) -> Life {
        let acked = positions(&store.snapshot());
        Life { follower: Follower::new(&store), store, acked }
    }

    fn next_of(&self, writer: u64) -> u64 {
        self.acked.get(&writer).copied().unwrap_or(0) + 1
    }

    /// Runs one batch of `count` transactions; false once writing stopped.
    fn batch(&mut self, count: u64, rng: &mut Rng) -> bool {
        let before = self.acked.clone();
        let mut next = self.acked.clone();
        let steps: Vec<(u64, u64)> = (0..count)
            .map(|_| {
                let writer = rng.below(WRITERS);
                let n = next.entry(writer).or_insert(0);
                *n += 1;
                (writer, *n)
            })
            .collect();
        let results = run_together(&self.store, &steps);
        let stopped = results.iter().any(common::is_stopped);
        for ((writer, n), result) in steps.iter().zip(&results) {
            if result.is_ok() {
                self.acked.insert(*writer, *n);
            }
            // One frame: one fate.
            assert_eq!(common::is_stopped(result), stopped, "{results:?}");
        }
        self.follower.look();
        let visible = positions(&self.store.snapshot());
        assert_eq!(visible, if stopped { before } else { next });
        !stopped
    }

    /// Runs all writers until the store stops or each has done `count`.
    fn crowd(&mut self, count: u64) -> bool {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (store, first) = (self.store.clone(), self.next_of(writer));
                thread::spawn(move || {
                    let mut acked = first - 1;
                    for n in first..first + count {
                        match store.transact_blocking(step(writer, n)) {
                            Ok(()) => acked = n,
                            Err(error) => {
                                let error = Err::<(), _>(error);
                                assert!(common::is_stopped(&error));
                                break;
                            }
                        }
                    }
                    (writer, acked)
                })
            })
            .collect();
        for writer in writers {
            let (writer, acked) = writer.join().expect("a writer panicked");
            self.acked.insert(writer, acked);
        }
        self.follower.look();
        self.store.stopped_reason().is_none()
    }
}

/// Queues the transactions behind one that waits for them, so that the
/// committer takes them as one batch.
fn run_together(
    store: &Store,
    steps: &[(u64, u64)],
) -> Vec<Result<(), TransactError<String>>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let (open_gate, gate) = mpsc::channel::<()>();
        let gate = store.transact(move |_| {
            let _ = gate.recv();
            Ok::<(), String>(())
        });
        let mut waiting = vec![queued(gate).await];
        for (writer, n) in steps {
            waiting.push(queued(store.transact(step(*writer, *n))).await);
        }
        drop(open_gate);
        let mut results = Vec::new();
        for answer in waiting {
            results.push(answer.await);
        }
        results.split_off(1)
    })
}

type Waiting<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + 'a>>;

/// Polls a transaction once: it is in the queue then.
async fn queued<'a, T: 'a>(
    transaction: impl Future<Output = T> + 'a,
) -> Waiting<'a, T> {
    let mut transaction = Box::pin(transaction);
    let polled = std::future::poll_fn(|context| {
        std::task::Poll::Ready(transaction.as_mut().poll(context))
    })
    .await;
    match polled {
        std::task::Poll::Ready(result) => Box::pin(async { result }),
        std::task::Poll::Pending => transaction,
    }
}

fn life(seed: u64, rng: &mut Rng, disk: &Disk, kept: &MemoryCheckpoints) {
    let crowd = !seed.is_multiple_of(2);
    let checkpoints = crowd.then_some(kept);
    let mut life = Life::new(open(disk, checkpoints));
    let fault = match rng.below(4) {
        0 => Fault::Full,
        1 => Fault::Sync,
        2 => Fault::PowerCut,
        _ => Fault::ShortWrite,
    };
    disk.fail_after(rng.below(if crowd { 300 } else { 150 }), fault);
    kept.fail_one_in(if rng.chance(2) { 3 } else { 0 }, rng.next());
    for _ in 0..20 {
        let count = 1 + rng.below(6);
        let goes_on =
            if crowd { life.crowd(count) } else { life.batch(count, rng) };
        if !goes_on {
            break;
        }
    }
    let readable = positions(&life.store.snapshot());
    assert_kept(&readable, &life.acked);
    if let Some(reason) = life.store.stopped_reason() {
        // Every later write is refused, whatever the disk would say now.
        disk.repair();
        let again = life.store.transact_blocking(step(0, life.next_of(0)));
        assert!(common::is_stopped(&again), "{again:?}");
        assert!(reason.contains(disk::SAYS), "a reason to act on: {reason}");
    }
    let Life { store, acked, .. } = life;
    store.close();
    disk.restart(fault == Fault::PowerCut || rng.chance(2), rng);
    kept.fail_one_in(0, 0);
    let store = open(disk, checkpoints);
    assert_kept(&positions(&store.snapshot()), &acked);
}

#[test]
fn acknowledged_writes_outlive_failing_storage() {
    for seed in common::seeds(100) {
        let _say = SayOnPanic(seed);
        let mut rng = Rng(seed);
        let (disk, kept) = (Disk::default(), MemoryCheckpoints::default());
        for _ in 0..3 {
            life(seed, &mut rng, &disk, &kept);
        }
    }
}

/// Opening is a sequence of reads and writes too.
#[test]
fn a_fault_while_opening_loses_nothing() {
    for seed in common::seeds(40) {
        let _say = SayOnPanic(seed);
        let mut rng = Rng(seed ^ 0x5eed);
        let (disk, kept) = (Disk::default(), MemoryCheckpoints::default());
        let mut life = Life::new(open(&disk, Some(&kept)));
        assert!(life.crowd(3));
        let acked = life.acked.clone();
        // A crash, so that there is something to repair.
        disk.fail_after(rng.below(30), Fault::PowerCut);
        life.crowd(5);
        drop(life);
        disk.restart(true, &mut rng);
        for _ in 0..3 {
            disk.fail_after(rng.below(40), Fault::PowerCut);
            drop(try_open(&disk, Some(&kept)));
            disk.restart(true, &mut rng);
        }
        let store = open(&disk, Some(&kept));
        assert_kept(&positions(&store.snapshot()), &acked);
    }
}

/// A checkpoint that fails is no reason to stop.
#[test]
fn checkpoints_that_fail_are_tried_again() {
    let (disk, kept) = (Disk::default(), MemoryCheckpoints::default());
    kept.fail_one_in(1, 7);
    let mut life = Life::new(open(&disk, Some(&kept)));
    assert!(life.crowd(20));
    life.store.close();
    assert_eq!(kept.revisions().expect("in memory"), Vec::<u64>::new());
    kept.fail_one_in(0, 0);
    let mut life = Life::new(open(&disk, Some(&kept)));
    assert!(life.crowd(20));
    life.store.close();
    assert_eq!(kept.revisions().expect("in memory").len(), 1);
    let store = open(&disk, Some(&kept));
    assert_eq!(positions(&store.snapshot()).values().sum::<u64>(), 160);
}
