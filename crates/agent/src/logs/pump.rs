//! What moves a container's log to its destination, as its runner sees it.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long a log that cannot be read is left alone. Where only a part of it
/// is damaged, the next part can be.
pub(crate) const READ_AGAIN: Duration = Duration::from_secs(10);

/// A running pump.
#[derive(Debug)]
pub struct Pump {
    task: JoinHandle<()>,
    runs: watch::Sender<Runs>,
    done: watch::Receiver<bool>,
}

/// What the pump must know of the container to tell an end from the last one.
#[derive(Clone, Copy, Debug, Default)]
struct Runs {
    /// How often it was started again.
    restarts: u64,
    /// Whether it will not be again.
    is_last: bool,
}

impl Pump {
    /// Starts the work that `make` makes.
    pub(crate) fn start<F>(make: impl FnOnce(RunWatch) -> F) -> Pump
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (done_tx, done) = watch::channel(false);
        let (runs, seen) = watch::channel(Runs::default());
        let work = make(RunWatch { runs: seen, restarts: 0 });
        let task = tokio::spawn(async move {
            work.await;
            // Nobody may be waiting for it.
            let _ = done_tx.send(true);
        });
        Pump { task, runs, done }
    }

    /// The container was started again, and its log goes on.
    pub fn goes_on(&self) {
        self.runs.send_modify(|runs| runs.restarts += 1);
    }

    /// Waits until everything the container wrote has arrived, but no longer
    /// than `patience`; answers whether it has. It must have ended for good.
    pub async fn drained(&mut self, patience: Duration) -> bool {
        self.runs.send_modify(|runs| runs.is_last = true);
        let wait = self.done.wait_for(|done| *done);
        matches!(tokio::time::timeout(patience, wait).await, Ok(Ok(_)))
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a pump's work is told of the container.
#[derive(Clone, Debug)]
pub(crate) struct RunWatch {
    runs: watch::Receiver<Runs>,
    /// How many of the container's restarts lie before what is read now.
    restarts: u64,
}

impl RunWatch {
    /// At the end of the log: whether it goes on, once that is known.
    pub(crate) async fn is_started_again(&mut self) -> bool {
        let before = self.restarts;
        let known =
            self.runs.wait_for(|runs| runs.is_last || runs.restarts > before);
        // A pump that is dropped has ended this work, too.
        let Ok(runs) = known.await.map(|runs| *runs) else { return false };
        let is_more = runs.restarts > before;
        self.restarts = runs.restarts;
        is_more
    }

    /// Whether the container ends for good within a while, or has.
    pub(crate) async fn ends_within(&self, wait: Duration) -> bool {
        tokio::time::timeout(wait, self.clone().last_end()).await.is_ok()
    }

    /// Waits until the container has ended for good.
    pub(crate) async fn last_end(mut self) {
        if self.runs.wait_for(|runs| runs.is_last).await.is_err() {
            std::future::pending().await
        }
    }
}
