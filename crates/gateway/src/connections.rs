//! Who sits on the listener.
//!
//! When every seat is taken, the connection that has waited longest for its
//! client gives its seat up: an idle one, one whose head or body never comes.
//! A client that does something is never put out, so somebody who opens a
//! thousand connections and says nothing shuts nobody out.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// The `waiting_since` of a connection whose request is at work.
const AT_WORK: u64 = u64::MAX;

#[derive(Debug)]
pub(crate) struct Connections {
    most: usize,
    seats: Mutex<Seats>,
    /// Counts events, so that "longest" needs no clock.
    ticks: AtomicU64,
}

#[derive(Debug, Default)]
struct Seats {
    next: u64,
    taken: HashMap<u64, Arc<State>>,
}

#[derive(Debug)]
struct State {
    waiting_since: AtomicU64,
    put_out: CancellationToken,
}

impl Connections {
    pub(crate) fn new(most: usize) -> Arc<Connections> {
        Arc::new(Connections {
            most,
            seats: Mutex::default(),
            ticks: AtomicU64::new(0),
        })
    }

    /// A seat, if need be that of the connection that waited longest; `None`
    /// where all are at work.
    pub(crate) fn seat(self: &Arc<Connections>) -> Option<Seat> {
        let mut seats = self.seats.lock();
        if seats.taken.len() >= self.most {
            let (id, waiting) = seats
                .taken
                .iter()
                .map(|(id, state)| {
                    (*id, state.waiting_since.load(Ordering::Relaxed))
                })
                .min_by_key(|(_, since)| *since)?;
            if waiting == AT_WORK {
                return None;
            }
            if let Some(state) = seats.taken.remove(&id) {
                state.put_out.cancel();
            }
        }
        let id = seats.next;
        seats.next += 1;
        let state = Arc::new(State {
            waiting_since: AtomicU64::new(self.tick()),
            put_out: CancellationToken::new(),
        });
        seats.taken.insert(id, Arc::clone(&state));
        Some(Seat { connections: Arc::clone(self), id, state })
    }

    fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(crate) fn taken(&self) -> usize {
        self.seats.lock().taken.len()
    }
}

/// A connection's place; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Seat {
    connections: Arc<Connections>,
    id: u64,
    state: Arc<State>,
}

impl Seat {
    /// A whole request is there.
    pub(crate) fn at_work(&self) {
        self.state.waiting_since.store(AT_WORK, Ordering::Relaxed);
    }

    /// The client's turn.
    pub(crate) fn waiting(&self) {
        let tick = self.connections.tick();
        self.state.waiting_since.store(tick, Ordering::Relaxed);
    }

    /// Cancelled when the seat goes to another.
    pub(crate) fn put_out(&self) -> CancellationToken {
        self.state.put_out.clone()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.connections.seats.lock().taken.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_waiting_gives_up_its_seat() {
        let connections = Connections::new(2);
        let first = connections.seat().unwrap();
        let second = connections.seat().unwrap();
        // The first says something and waits anew: the second is the oldest.
        first.waiting();
        let third = connections.seat().unwrap();
        assert!(second.put_out().is_cancelled());
        assert!(!first.put_out().is_cancelled());
        drop(second);
        assert_eq!(connections.taken(), 2);
        drop((first, third));
        assert_eq!(connections.taken(), 0);
    }

    #[test]
    fn who_is_at_work_keeps_its_seat() {
        let connections = Connections::new(1);
        let seat = connections.seat().unwrap();
        seat.at_work();
        assert!(connections.seat().is_none());
        seat.waiting();
        assert!(connections.seat().is_some());
    }
}
