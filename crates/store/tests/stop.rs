//! What becomes of callers whose transactions are on their way while the
//! store stops.

mod common;

use std::{
    sync::{Arc, Barrier, mpsc},
    thread,
    time::Duration,
};

use common::step;
use minato_store::{
    Journal, JournalError, ReplayError, SeeFrame, Store, StoreOptions,
};

/// Writers that call at once.
const WRITERS: usize = 4;
/// How often the store stops. Before callers were turned away, one was left
/// waiting in the first few of them.
const ROUNDS: u64 = 500;
/// Far more than a round takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Takes nothing.
struct Broken;

impl Journal for Broken {
    fn append(&self, _: u64, _: &[u8]) -> Result<(), JournalError> {
        let source = Box::from("injected");
        Err(JournalError { action: "append to", source })
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

/// Lets all writers call at once; gives how many were refused in the end.
fn round(stop: impl FnOnce(&Store)) -> usize {
    let mut options = StoreOptions::default();
    options.queue = 2;
    let store = Store::open(Box::new(Broken), common::tables(), options)
        .expect("nothing to recover");
    let (refused, refusals) = mpsc::channel();
    let gate = Arc::new(Barrier::new(WRITERS + 1));
    for writer in (0..).take(WRITERS) {
        let (store, gate) = (store.clone(), gate.clone());
        let refused = refused.clone();
        thread::spawn(move || {
            gate.wait();
            // The first that is refused is not the last that calls.
            for _ in 0..3 {
                let result = store.transact_blocking(step(writer, 1));
                assert!(common::is_stopped(&result), "{result:?}");
            }
            let _ = refused.send(());
        });
    }
    gate.wait();
    stop(&store);
    let heard = (0..WRITERS).map(|_| refusals.recv_timeout(PATIENCE));
    heard.take_while(Result::is_ok).count()
}

#[test]
fn a_store_that_fails_leaves_no_caller_waiting() {
    for round_number in 0..ROUNDS {
        let answered = round(|_| {});
        assert_eq!(answered, WRITERS, "in round {round_number}");
    }
}

#[test]
fn a_store_that_is_closed_leaves_no_caller_waiting() {
    for round_number in 0..ROUNDS {
        let answered = round(Store::close);
        assert_eq!(answered, WRITERS, "in round {round_number}");
    }
}
