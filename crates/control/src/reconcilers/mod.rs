//! What moves by itself.
//!
//! A reconciler takes no hint about what changed: the watch or a timer wakes
//! it, it reads the newest snapshot and does what is due; the next pass is the
//! retry. After a restart there is nothing to remember.

mod expire;
mod provision;
mod roles;
pub(crate) mod services;

use std::sync::Arc;
use std::time::Duration;

use minato_store::{Key, StoreError, TransactError};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::context::Context;
use crate::tables::{Host, Task};

/// How often what has run out, or soon will, is looked for.
const EXPIRE_EVERY: Duration = Duration::from_secs(60);

/// The wait after a pass that could not store its decision.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How often expired log events are looked for; retention counts in days.
const SWEEP_LOGS_EVERY: Duration = Duration::from_secs(10 * 60);

/// After so many changed rows the books of the fleet are brought up to date,
/// placement or not. The store remembers the keys of 32,768 writes; books that
/// are further behind are written anew, which with 100,000 tasks takes seconds
/// in which nothing is committed.
const BOOKS_EVERY: usize = 512;

/// Starts every reconciler; `rest` ends the service scheduler alone.
pub(crate) fn spawn(
    cx: &Arc<Context>,
    running: &TaskTracker,
    stop: &CancellationToken,
    rest: &CancellationToken,
) {
    running.spawn(run_books(Arc::clone(cx), stop.clone()));
    running.spawn(run_provision(Arc::clone(cx), stop.clone()));
    running.spawn(services::run(Arc::clone(cx), rest.clone()));
    running.spawn(run_expire(Arc::clone(cx), stop.clone()));
    running.spawn(run_sweep_logs(Arc::clone(cx), stop.clone()));
}

/// After a restart no session is up, whatever the rows say.
pub(crate) async fn forget_connections(cx: &Context) -> Result<(), StoreError> {
    let forgotten = cx.store.transact(|tx| -> Result<(), StoreError> {
        let connected: Vec<Arc<Host>> = tx
            .scan::<Host>(&Key::root())
            .filter(|host| host.is_connected)
            .collect();
        for host in connected {
            tx.put(Host { is_connected: false, ..Host::clone(&host) });
        }
        Ok(())
    });
    forgotten.await.map_err(|error| match error {
        TransactError::Refused(error) | TransactError::Store(error) => error,
    })
}

async fn run_books(cx: Arc<Context>, stop: CancellationToken) {
    let mut watch = cx.store.watch();
    let mut behind = BOOKS_EVERY;
    loop {
        if behind >= BOOKS_EVERY {
            let fleet = Arc::clone(&cx.fleet);
            let caught_up = cx.transact(move |tx| {
                fleet.catch_up(tx);
                Ok(())
            });
            // The store is closed, and the watch says so too.
            let _ = caught_up.await;
            behind = 0;
        }
        tokio::select! {
            biased; // a run from one seed is the same run
            () = stop.cancelled() => return,
            changed = watch.changed() => if changed.is_err() { return },
        }
        behind += match watch.changes() {
            minato_store::Changes::Resync(_) => BOOKS_EVERY,
            minato_store::Changes::Rows(commits) => {
                commits.iter().map(|commit| commit.keys().count()).sum()
            }
        };
    }
}

async fn run_provision(cx: Arc<Context>, stop: CancellationToken) {
    let mut watch = cx.store.watch();
    loop {
        // Look first: what was there before the watch counts too.
        let is_touched = match watch.changes() {
            minato_store::Changes::Resync(_) => true,
            minato_store::Changes::Rows(commits) => {
                commits.is_empty()
                    || commits.iter().any(|commit| commit.touches::<Task>())
            }
        };
        let mut is_done = true;
        if is_touched {
            is_done = provision::pass(&cx).await;
        }
        tokio::select! {
            biased; // a run from one seed is the same run
            () = stop.cancelled() => return,
            changed = watch.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(RETRY_AFTER), if !is_done => {}
        }
    }
}

async fn run_expire(cx: Arc<Context>, stop: CancellationToken) {
    let mut timer = tokio::time::interval(EXPIRE_EVERY);
    loop {
        tokio::select! {
            biased; // a run from one seed is the same run
            () = stop.cancelled() => return,
            _ = timer.tick() => {
                expire::pass(&cx).await;
                crate::services::secretsmanager::sweep::pass(&cx).await;
                roles::pass(&cx).await;
            }
        }
    }
}

async fn run_sweep_logs(cx: Arc<Context>, stop: CancellationToken) {
    // Not at once: a start has better things to do than to read every group.
    let start = tokio::time::Instant::now() + SWEEP_LOGS_EVERY;
    let mut timer = tokio::time::interval_at(start, SWEEP_LOGS_EVERY);
    loop {
        tokio::select! {
            biased; // a run from one seed is the same run
            () = stop.cancelled() => return,
            _ = timer.tick() => crate::services::logs::sweep::pass(&cx).await,
        }
    }
}
