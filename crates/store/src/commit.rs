//! The committer: the one thread that changes state.
//!
//! It takes all transactions that wait, applies each on the working state,
//! makes them durable by one append, publishes the new snapshot, feeds the
//! watches, and only then answers the callers.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock},
};

use tokio::sync::{mpsc, oneshot};

use crate::{
    JournalError, Key, StoreError, TransactError, Tx,
    checkpoint::Checkpointer,
    error::chain,
    frame::{self, FrameWriter},
    journal::Journal,
    row::Tables,
    state::State,
    watch::{Commit, Feed, Ringer},
};

/// Most transactions in one frame. Bounds how long the first of them waits
/// for the last; at this size the fsync is already shared so widely that
/// more would not be felt.
const BATCH_TRANSACTIONS: usize = 512;

/// A batch is closed when its frame has this many bytes: a few milliseconds
/// of writing on an ordinary disk.
const BATCH_BYTES: usize = 4 << 20;

/// Largest single transaction. The largest real one is a page of task
/// definitions (64 KiB each in ECS); this is far above, and far below what
/// redb and a 32-bit length can hold.
pub(crate) const TRANSACTION_BYTES: usize = 16 << 20;

/// The reason of a store that was closed.
pub(crate) const CLOSED: &str = "it was closed";

/// What a caller hands to the committer.
pub(crate) enum Message {
    Transaction(Job),
    Close,
}

/// A transaction whose types only its caller knows.
pub(crate) type Job = Box<dyn FnOnce(&mut Tx) -> (Verdict, Answer) + Send>;

/// Tells the caller, once it is known whether the batch is durable.
pub(crate) type Answer = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Commit,
    RollBack,
}

/// Wraps a caller's closure into a [`Job`] and the channel of its answer.
pub(crate) fn job<T, E, F>(
    closure: F,
) -> (Job, oneshot::Receiver<Result<T, TransactError<E>>>)
where
    F: FnOnce(&mut Tx) -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    let job: Job = Box::new(move |tx| {
        // The transaction is thrown away after a panic, so nothing half
        // done can be seen.
        let result = match catch_unwind(AssertUnwindSafe(|| closure(tx))) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(refusal)) => Err(TransactError::Refused(refusal)),
            Err(panic) => Err(TransactError::Store(StoreError::Panicked {
                message: panic_message(panic.as_ref()),
            })),
        };
        let verdict = match &result {
            Ok(_) => Verdict::Commit,
            Err(_) => Verdict::RollBack,
        };
        let answer: Answer = Box::new(move |done| {
            // A caller that went away does not want to know.
            let _ = reply.send(match done {
                Ok(()) => result,
                Err(error) => Err(TransactError::Store(error)),
            });
        });
        (verdict, answer)
    });
    (job, answer)
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    if let Some(message) = panic.downcast_ref::<&str>() {
        (*message).to_owned()
    } else if let Some(message) = panic.downcast_ref::<String>() {
        message.clone()
    } else {
        "no message".to_owned()
    }
}

/// What the committer shares with the store's handles.
pub(crate) struct Shared {
    pub(crate) feed: Arc<Feed>,
    /// Set once, when writing ends; says why.
    pub(crate) stopped: OnceLock<Arc<str>>,
}

impl Shared {
    /// Ends writing because the journal failed; says it loudly, once.
    pub(crate) fn stop(&self, error: &JournalError) {
        let reason = chain(error);
        if self.stopped.set(reason.as_str().into()).is_ok() {
            tracing::error!(reason, "the store takes no more writes");
        }
    }

    /// Whether writing ended because the journal failed.
    pub(crate) fn failed(&self) -> bool {
        self.stopped.get().is_some_and(|reason| &**reason != CLOSED)
    }

    pub(crate) fn stopped(&self) -> Option<StoreError> {
        let reason = self.stopped.get()?.clone();
        Some(StoreError::Stopped { reason })
    }
}

/// The committer's own state.
pub(crate) struct Committer {
    pub(crate) shared: Arc<Shared>,
    /// Not shared with the handles: it closes when the committer ends.
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) queue: mpsc::Receiver<Message>,
    pub(crate) ringer: Ringer,
    pub(crate) state: State,
    /// None if the journal needs no cutting by us.
    pub(crate) checkpointer: Option<Checkpointer>,
}

impl Committer {
    /// Works until the store is closed, dropped, or cannot write.
    pub(crate) fn run(mut self) {
        while let Some(message) = self.queue.blocking_recv() {
            let batch = Batch::new(&self.state);
            let open = self.fill(message, batch);
            if !open || self.shared.stopped.get().is_some() {
                break;
            }
        }
        self.turn_away();
        self.end();
    }

    /// Lets go of all that is queued, and of what its callers are just
    /// queueing: they had a place in the queue before it closed, and would
    /// wait for ever for a transaction that lies in a queue without reader.
    fn turn_away(&mut self) {
        self.queue.close();
        while self.queue.blocking_recv().is_some() {}
    }

    /// Runs one transaction as a batch of its own, on this thread.
    pub(crate) fn commit_one(&mut self, job: Job) {
        let mut batch = Batch::new(&self.state);
        batch.apply(job);
        self.commit(batch);
    }

    /// Takes no more writes.
    pub(crate) fn end(mut self) {
        if let Some(checkpointer) = &mut self.checkpointer {
            checkpointer.wait();
        }
        let _ = self.shared.stopped.set(CLOSED.into());
    }

    /// Runs one batch that begins with `message`; false ends the thread.
    fn fill(&mut self, message: Message, mut batch: Batch) -> bool {
        let mut open = true;
        let mut next = Some(message);
        while let Some(message) = next {
            match message {
                Message::Transaction(job) => batch.apply(job),
                Message::Close => {
                    // What is queued by now is still done.
                    self.queue.close();
                    open = false;
                }
            }
            if batch.is_full() {
                if !self.commit(batch) {
                    return false;
                }
                batch = Batch::new(&self.state);
                if open {
                    return true;
                }
            }
            next = self.queue.try_recv().ok();
        }
        self.commit(batch) && open
    }

    /// Makes a batch durable, then visible, then answers its callers.
    fn commit(&mut self, batch: Batch) -> bool {
        let Batch { state, frame, commits, answers } = batch;
        if !frame.is_empty() {
            let frame = frame.finish();
            if let Err(stopped) = self.append(state.revision, &frame) {
                for (answer, _) in answers {
                    answer(Err(stopped.clone()));
                }
                return false;
            }
            if let Some(checkpointer) = &mut self.checkpointer {
                checkpointer.appended(frame.len(), &state);
            }
            self.state = state.clone();
            self.shared.feed.publish(state, commits, &self.ringer);
        }
        for (answer, outcome) in answers {
            answer(outcome);
        }
        true
    }

    fn append(&self, revision: u64, frame: &[u8]) -> Result<(), StoreError> {
        // Never retried: after a failed fsync the kernel may have dropped
        // the pages, and a second one that succeeds proves nothing.
        if self.shared.stopped.get().is_none()
            && let Err(error) = self.journal.append(revision, frame)
        {
            self.shared.stop(&error);
        }
        self.shared.stopped().map_or(Ok(()), Err)
    }
}

/// Transactions applied but not yet durable.
struct Batch {
    state: State,
    frame: FrameWriter,
    commits: Vec<Commit>,
    answers: Vec<(Answer, Result<(), StoreError>)>,
}

impl Batch {
    fn new(state: &State) -> Batch {
        Batch {
            state: state.clone(),
            frame: FrameWriter::new(state.revision + 1),
            commits: Vec::new(),
            answers: Vec::new(),
        }
    }

    fn is_full(&self) -> bool {
        self.answers.len() >= BATCH_TRANSACTIONS
            || self.frame.len() >= BATCH_BYTES
    }

    fn apply(&mut self, job: Job) {
        let mut tx = Tx::new(&self.state);
        let (verdict, answer) = job(&mut tx);
        let outcome = match verdict {
            Verdict::Commit => self.keep(tx),
            Verdict::RollBack => Ok(()),
        };
        // Refusals wait for the batch too: they may rest on what an
        // earlier transaction in it wrote.
        self.answers.push((answer, outcome));
    }

    fn keep(&mut self, tx: Tx) -> Result<(), StoreError> {
        let Some((state, commit)) = tx.finish() else { return Ok(()) };
        self.frame.transaction(commit.changes().len(), |out| {
            // A row's `Serialize` is not ours either.
            let encoded = catch_unwind(AssertUnwindSafe(|| {
                encode(out, &state.schema, &commit)
            }));
            encoded.unwrap_or_else(|panic| {
                let message = panic_message(panic.as_ref());
                Err(StoreError::Panicked { message })
            })
        })?;
        self.state = state;
        self.commits.push(commit);
        Ok(())
    }
}

fn encode(
    out: &mut Vec<u8>,
    schema: &Tables,
    commit: &Commit,
) -> Result<(), StoreError> {
    let start = out.len();
    for change in commit.changes() {
        let (kind, key) = (&schema.kinds()[change.table], &change.key);
        if key.as_bytes().len() > Key::MAX_BYTES {
            return Err(StoreError::KeyTooLong {
                table: kind.name,
                bytes: key.as_bytes().len(),
                limit: Key::MAX_BYTES,
            });
        }
        match &change.after {
            None => frame::push_delete(out, kind.name, kind.version, key),
            Some(row) => {
                frame::push_put(out, kind.name, kind.version, key, |out| {
                    (kind.encode)(row, out)
                })
                .map_err(|source| StoreError::Encode {
                    table: kind.name,
                    key: key.clone(),
                    source: Arc::new(source),
                })?;
            }
        }
        let bytes = out.len() - start;
        if bytes > TRANSACTION_BYTES {
            let limit = TRANSACTION_BYTES;
            return Err(StoreError::TooLarge { bytes, limit });
        }
    }
    Ok(())
}
