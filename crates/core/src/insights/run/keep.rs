//! Rows that `sort` and `dedup` keep.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};

use super::stats::write_key;
use super::{Budget, Origin, Row, TooLarge};
use crate::insights::ast::{Expr, Slot};
use crate::insights::plan::Order;
use crate::insights::value::Value;

/// A row and its place in an order; the greater comes later.
#[derive(Debug)]
struct Kept {
    keys: Vec<Key>,
    /// Newest first, where keys say nothing else.
    origin: Option<Origin>,
    oldest_first: bool,
    arrival: u64,
    row: Row<'static>,
}

#[derive(Debug)]
enum Key {
    Ascending(Value<'static>),
    Descending(Value<'static>),
}

impl Key {
    fn order(&self, other: &Key) -> Ordering {
        match (self, other) {
            (Key::Ascending(a), Key::Ascending(b)) => a.order(b),
            (Key::Descending(a), Key::Descending(b)) => b.order(a),
            // Rows of one order have the same directions.
            (Key::Ascending(_) | Key::Descending(_), _) => Ordering::Equal,
        }
    }

    fn weight(&self) -> usize {
        let (Key::Ascending(value) | Key::Descending(value)) = self;
        value.weight() + size_of::<Key>()
    }
}

impl Ord for Kept {
    fn cmp(&self, other: &Kept) -> Ordering {
        let mut keys = self.keys.iter().zip(&other.keys);
        keys.find_map(|(a, b)| Some(a.order(b)).filter(|o| o.is_ne()))
            .unwrap_or_else(|| {
                let by_time = self.origin.cmp(&other.origin);
                if self.oldest_first { by_time } else { by_time.reverse() }
            })
            .then(self.arrival.cmp(&other.arrival))
    }
}

impl PartialOrd for Kept {
    fn partial_cmp(&self, other: &Kept) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Kept {
    fn eq(&self, other: &Kept) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Kept {}

impl Kept {
    fn weight(&self) -> usize {
        let keys: usize = self.keys.iter().map(Key::weight).sum();
        keys + self.row.weight() + size_of::<Kept>()
    }
}

/// Makes [`Kept`] rows of one order.
#[derive(Debug)]
struct Ranker<'q> {
    order: &'q Order,
    unneeded: &'q [Slot],
    arrived: u64,
}

impl Ranker<'_> {
    /// A row's rank, without its values yet.
    fn rank(&mut self, row: &Row<'_>, now: i64) -> Kept {
        self.arrived += 1;
        let keys = match self.order {
            Order::Keys(keys) => keys.iter().map(|key| {
                let value = key.value.value(&row.values, now).into_owned();
                match key.descending {
                    true => Key::Descending(value),
                    false => Key::Ascending(value),
                }
            }),
            Order::Newest | Order::Oldest | Order::Arrival => {
                return self.bare(row);
            }
        };
        Kept { keys: keys.collect(), ..self.bare(row) }
    }

    fn bare(&self, row: &Row<'_>) -> Kept {
        let by_time = !matches!(self.order, Order::Arrival);
        Kept {
            keys: vec![],
            origin: row.origin.filter(|_| by_time),
            oldest_first: matches!(self.order, Order::Oldest),
            arrival: self.arrived,
            row: Row { values: vec![], origin: row.origin },
        }
    }
}

/// The first rows of an order.
#[derive(Debug)]
pub(super) struct Keeper<'q> {
    ranker: Ranker<'q>,
    /// How many; `None` means all.
    keep: Option<usize>,
    /// The last of the order on top.
    rows: BinaryHeap<Kept>,
    weight: usize,
}

impl<'q> Keeper<'q> {
    pub(super) fn new(
        order: &'q Order,
        keep: Option<usize>,
        unneeded: &'q [Slot],
    ) -> Keeper<'q> {
        let ranker = Ranker { order, unneeded, arrived: 0 };
        Keeper { ranker, keep, rows: BinaryHeap::new(), weight: 0 }
    }

    pub(super) fn push(
        &mut self,
        mut row: Row<'_>,
        now: i64,
        budget: &mut Budget,
    ) -> Result<(), TooLarge> {
        let mut kept = self.ranker.rank(&row, now);
        if self.is_full() && self.rows.peek().is_none_or(|last| kept >= *last) {
            return Ok(());
        }
        row.forget(self.ranker.unneeded);
        kept.row = row.into_owned();
        let weight = kept.weight();
        budget.take(weight)?;
        self.weight += weight;
        self.rows.push(kept);
        while self.keep.is_some_and(|keep| self.rows.len() > keep) {
            let Some(dropped) = self.rows.pop() else { break };
            budget.give_back(dropped.weight());
            self.weight -= dropped.weight();
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.keep.is_some_and(|keep| self.rows.len() >= keep)
    }

    /// Whether an event within these times could be among the first.
    pub(super) fn wants(&self, earliest: i64, latest: i64) -> bool {
        if !self.is_full() {
            return true;
        }
        let last = self.rows.peek().and_then(|kept| kept.origin);
        match (self.ranker.order, last) {
            (Order::Newest, Some(last)) => latest >= last.timestamp,
            (Order::Oldest, Some(last)) => earliest <= last.timestamp,
            _ => true,
        }
    }

    pub(super) fn finish(&mut self) -> (Vec<Row<'static>>, usize) {
        let rows = std::mem::take(&mut self.rows).into_sorted_vec();
        let rows = rows.into_iter().map(|kept| kept.row).collect();
        (rows, std::mem::take(&mut self.weight))
    }
}

/// The first row of an order for each of some values.
#[derive(Debug)]
pub(super) struct Unique<'q> {
    by: &'q [Expr],
    ranker: Ranker<'q>,
    rows: HashMap<Box<[u8]>, Kept>,
    weight: usize,
}

impl<'q> Unique<'q> {
    pub(super) fn new(
        by: &'q [Expr],
        order: &'q Order,
        unneeded: &'q [Slot],
    ) -> Unique<'q> {
        let ranker = Ranker { order, unneeded, arrived: 0 };
        Unique { by, ranker, rows: HashMap::new(), weight: 0 }
    }

    pub(super) fn push(
        &mut self,
        mut row: Row<'_>,
        now: i64,
        budget: &mut Budget,
    ) -> Result<(), TooLarge> {
        let mut key = vec![];
        for value in self.by {
            write_key(&value.value(&row.values, now), &mut key);
        }
        let mut kept = self.ranker.rank(&row, now);
        let known = self.rows.get(key.as_slice());
        if known.is_some_and(|known| *known <= kept) {
            return Ok(());
        }
        row.forget(self.ranker.unneeded);
        kept.row = row.into_owned();
        let weight = kept.weight() + 2 * key.len() + 32;
        budget.take(weight)?;
        self.weight += weight;
        let key_weight = 2 * key.len() + 32;
        if let Some(dropped) = self.rows.insert(key.into(), kept) {
            let weight = dropped.weight() + key_weight;
            budget.give_back(weight);
            self.weight -= weight;
        }
        Ok(())
    }

    pub(super) fn finish(&mut self) -> (Vec<Row<'static>>, usize) {
        let rows = std::mem::take(&mut self.rows);
        let mut rows: Vec<Kept> = rows.into_values().collect();
        rows.sort_unstable();
        let rows = rows.into_iter().map(|kept| kept.row).collect();
        (rows, std::mem::take(&mut self.weight))
    }
}
