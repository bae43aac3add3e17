//! The groups of `stats`.

use std::collections::HashMap;

use super::{Budget, Row, TooLarge};
use crate::insights::aggregate::State;
use crate::insights::ast::{Assignment, Expr, Stat};
use crate::insights::value::Value;

/// What one group takes beside its key, values and aggregates.
const GROUP_BYTES: usize = 128;

/// Groups by the text of their values.
#[derive(Debug)]
pub(super) struct Groups<'q> {
    by: &'q [Assignment],
    stats: &'q [Stat],
    width: usize,
    groups: Vec<Group>,
    /// Their places by their keys.
    places: HashMap<Box<[u8]>, usize>,
    /// The key of the row at hand, kept for its memory.
    key: Vec<u8>,
    /// Key and place of the row before: neighbours are often of one group.
    before: Option<(Vec<u8>, usize)>,
    weight: usize,
}

#[derive(Debug)]
struct Group {
    by: Vec<Value<'static>>,
    states: Vec<State>,
}

impl<'q> Groups<'q> {
    pub(super) fn new(
        by: &'q [Assignment],
        stats: &'q [Stat],
        width: usize,
    ) -> Groups<'q> {
        Groups {
            by,
            stats,
            width,
            groups: vec![],
            places: HashMap::new(),
            key: vec![],
            before: None,
            weight: 0,
        }
    }

    pub(super) fn push(
        &mut self,
        row: &Row<'_>,
        now: i64,
        budget: &mut Budget,
    ) -> Result<(), TooLarge> {
        self.key.clear();
        let by = self.by.iter().filter_map(|by| by.value.as_ref());
        for value in by {
            write_key(&value.value(&row.values, now), &mut self.key);
        }
        let place = match &self.before {
            Some((key, place)) if *key == self.key => *place,
            _ => self.place(row, now, budget)?,
        };
        let Some(group) = self.groups.get_mut(place) else { return Ok(()) };
        let at = row.origin.map_or((0, 0), |o| (o.timestamp, o.sequence));
        let mut grew = 0;
        for (stat, state) in self.stats.iter().zip(&mut group.states) {
            let argument = stat.argument.as_ref();
            let value = argument
                .map_or(Value::Null, |e| Expr::value(e, &row.values, now));
            grew += stat.aggregate.add(state, &value, at);
        }
        if grew > 0 {
            budget.take(grew)?;
            self.weight += grew;
        }
        Ok(())
    }

    /// The place of the group with the key at hand, made if there is none.
    fn place(
        &mut self,
        row: &Row<'_>,
        now: i64,
        budget: &mut Budget,
    ) -> Result<usize, TooLarge> {
        let place = match self.places.get(self.key.as_slice()) {
            Some(place) => *place,
            None => {
                let by = self.by.iter().filter_map(|by| by.value.as_ref());
                let by: Vec<Value<'static>> = by
                    .map(|value| value.value(&row.values, now).into_owned())
                    .collect();
                let weight = GROUP_BYTES
                    + 2 * self.key.len()
                    + size_of::<Value<'_>>() * by.len()
                    + size_of::<State>() * self.stats.len();
                budget.take(weight)?;
                self.weight += weight;
                let states = self.stats.iter().map(|s| s.aggregate.start());
                self.groups.push(Group { by, states: states.collect() });
                let place = self.groups.len() - 1;
                self.places.insert(self.key.as_slice().into(), place);
                place
            }
        };
        let (key, before) = self.before.get_or_insert_with(|| (vec![], place));
        std::mem::swap(key, &mut self.key);
        *before = place;
        Ok(place)
    }

    /// One row for each group, times from the newest, others from the least.
    pub(super) fn finish(&mut self) -> (Vec<Row<'static>>, usize) {
        let mut groups = std::mem::take(&mut self.groups);
        self.places.clear();
        self.before = None;
        if groups.is_empty() && self.by.is_empty() {
            // Without groups there is one row, even of nothing.
            let states = self.stats.iter().map(|s| s.aggregate.start());
            groups.push(Group { by: vec![], states: states.collect() });
        }
        groups.sort_by(|a, b| {
            let pairs = a.by.iter().zip(&b.by);
            let mut orders = pairs.map(|(a, b)| match (a, b) {
                (Value::Time(a), Value::Time(b)) => b.cmp(a),
                (a, b) => a.order(b),
            });
            orders
                .find(|order| order.is_ne())
                .unwrap_or(std::cmp::Ordering::Equal)
        });
        let row = |group: Group| {
            let mut values = vec![Value::Null; self.width];
            for (by, value) in self.by.iter().zip(group.by) {
                values[by.slot] = value;
            }
            for (stat, state) in self.stats.iter().zip(group.states) {
                values[stat.slot] = stat.aggregate.finish(state);
            }
            Row { values, origin: None }
        };
        let rows = groups.into_iter().map(row).collect();
        (rows, std::mem::take(&mut self.weight))
    }
}

/// Appends a value so that different ones give different keys.
pub(super) fn write_key(value: &Value<'_>, key: &mut Vec<u8>) {
    match value {
        Value::Null => key.push(0),
        Value::Time(at) => {
            key.push(1);
            key.extend_from_slice(&at.to_le_bytes());
        }
        other => {
            let text = other.text().unwrap_or_default();
            key.push(2);
            key.extend_from_slice(&(text.len() as u64).to_le_bytes());
            key.extend_from_slice(text.as_bytes());
        }
    }
}
