//! Who follows groups: events are shown to them once they are on disk.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::{GroupId, NewEvent, StreamId};

/// Events that one session is shown for one second; AWS shows as many
/// (`LiveTailSessionUpdate`).
const MOST_EVENTS: usize = 500;
/// Bytes of their messages: one event may have one MiB.
const MOST_BYTES: usize = 2 * 1024 * 1024;

/// An event for a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TailEvent {
    pub(crate) group: GroupId,
    pub(crate) stream: StreamId,
    pub(crate) timestamp: i64,
    pub(crate) ingested_at: i64,
    pub(crate) message: String,
}

/// What has come in since it was last asked.
#[derive(Debug, Default)]
pub(crate) struct TailEvents {
    pub(crate) events: Vec<TailEvent>,
    /// There were more than a session is shown.
    pub(crate) sampled: bool,
    bytes: usize,
}

type Wanted = dyn Fn(GroupId, StreamId, &str) -> bool + Send + Sync;

/// Where one session's events wait. Whoever appends never waits for it: what
/// does not fit is left out, and the session is told.
pub(crate) struct TailQueue {
    wanted: Box<Wanted>,
    waiting: Mutex<TailEvents>,
}

impl fmt::Debug for TailQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TailQueue").finish_non_exhaustive()
    }
}

impl TailQueue {
    /// What has come in since the last time.
    pub(crate) fn take(&self) -> TailEvents {
        std::mem::take(&mut *self.waiting.lock())
    }

    fn offer(
        &self,
        group: GroupId,
        stream: StreamId,
        ingested_at: i64,
        events: &[NewEvent],
    ) {
        for event in events {
            if !(self.wanted)(group, stream, &event.message) {
                continue;
            }
            let mut waiting = self.waiting.lock();
            let bytes = waiting.bytes + event.message.len();
            if waiting.events.len() >= MOST_EVENTS || bytes > MOST_BYTES {
                waiting.sampled = true;
                return;
            }
            waiting.bytes = bytes;
            waiting.events.push(TailEvent {
                group,
                stream,
                timestamp: event.timestamp,
                ingested_at,
                message: event.message.clone(),
            });
        }
    }
}

/// The sessions of a store, by the groups that they follow. One that was
/// dropped is forgotten when its group next has events or followers.
#[derive(Debug, Default)]
pub(super) struct Tails {
    by_group: Mutex<HashMap<GroupId, Vec<Weak<TailQueue>>>>,
}

impl Tails {
    /// Follows groups until the queue is dropped; `wanted` says of a stream
    /// and a message whether they are.
    pub(super) fn follow(
        &self,
        groups: &[GroupId],
        wanted: Box<Wanted>,
    ) -> Arc<TailQueue> {
        let waiting = Mutex::new(TailEvents::default());
        let queue = Arc::new(TailQueue { wanted, waiting });
        let mut by_group = self.by_group.lock();
        by_group.retain(|_, queues| {
            queues.retain(|queue| queue.strong_count() > 0);
            !queues.is_empty()
        });
        for group in groups {
            let queues = by_group.entry(*group).or_default();
            queues.push(Arc::downgrade(&queue));
        }
        queue
    }

    /// Shows events to those who follow their group.
    pub(super) fn show(
        &self,
        group: GroupId,
        stream: StreamId,
        ingested_at: i64,
        events: &[NewEvent],
    ) {
        let queues: Vec<Arc<TailQueue>> = {
            let by_group = self.by_group.lock();
            let Some(queues) = by_group.get(&group) else { return };
            queues.iter().filter_map(Weak::upgrade).collect()
        };
        for queue in queues {
            queue.offer(group, stream, ingested_at, events);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(message: &str) -> NewEvent {
        NewEvent { timestamp: 7, message: message.to_owned() }
    }

    #[test]
    fn followers_see_what_they_want_of_their_groups() {
        let tails = Tails::default();
        let (a, b, stream) = (GroupId(1), GroupId(2), StreamId(3));
        let wanted = Box::new(|_, _, message: &str| message.contains('x'));
        let queue = tails.follow(&[a], wanted);
        tails.show(a, stream, 9, &[event("x1"), event("y"), event("x2")]);
        tails.show(b, stream, 9, &[event("x3")]);
        let seen = queue.take();
        let texts: Vec<&str> =
            seen.events.iter().map(|e| e.message.as_str()).collect();
        assert_eq!(texts, ["x1", "x2"]);
        assert!(!seen.sampled && queue.take().events.is_empty());
        drop(queue);
        tails.show(a, stream, 9, &[event("x4")]);
        let _other = tails.follow(&[b], Box::new(|_, _, _| true));
        assert_eq!(tails.by_group.lock().len(), 1);
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_said() {
        let tails = Tails::default();
        let group = GroupId(1);
        let queue = tails.follow(&[group], Box::new(|_, _, _| true));
        let events = vec![event("m"); MOST_EVENTS + 1];
        tails.show(group, StreamId(1), 9, &events);
        let seen = queue.take();
        assert_eq!((seen.events.len(), seen.sampled), (MOST_EVENTS, true));
        let large = event(&"x".repeat(MOST_BYTES));
        tails.show(group, StreamId(1), 9, &[large, event("m")]);
        let seen = queue.take();
        assert_eq!((seen.events.len(), seen.sampled), (1, true));
    }
}
