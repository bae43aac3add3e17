//! Running a query over events, in bounded memory.
//!
//! Rows stream through the steps that look at one row alone. A step that must
//! see all rows keeps what it needs: `stats` its groups, `sort` the first so
//! many rows (all, if a filter or a dedup comes behind), `dedup` one row for
//! each of its values. All of them charge one budget of bytes; a query that
//! needs more ends with [`TooLarge`].

mod keep;
mod stats;

use std::borrow::Cow;

use super::ast::{Expr, Slot};
use super::plan::{Query, Step};
use super::scope::{INGESTED, LOG, MESSAGE, POINTER, STREAM, TIMESTAMP};
use super::value::Value;

use keep::{Keeper, Unique};
use stats::Groups;

/// Memory that one query may keep: groups, sorted rows and results.
pub const QUERY_BYTES: usize = 64 * 1024 * 1024;

/// A query needs more than [`QUERY_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the query keeps more than {QUERY_BYTES} bytes")]
pub struct TooLarge;

/// Where an event stands, from which it can be found again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The event's time, in milliseconds since the epoch.
    pub timestamp: i64,
    /// Its place among the events of its group.
    pub sequence: u64,
    /// Stands for its group.
    pub group: u128,
    /// Stands for its stream.
    pub stream: u128,
}

impl Origin {
    /// The value of `@ptr`.
    pub fn pointer(&self) -> String {
        let Origin { timestamp, sequence, group, stream } = self;
        let timestamp = timestamp.cast_unsigned();
        format!("{group:032x}{stream:032x}{timestamp:016x}{sequence:016x}")
    }

    /// Reads a pointer back.
    pub fn parse(pointer: &str) -> Option<Origin> {
        let is_hex = pointer.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_hex || pointer.len() != 96 {
            return None;
        }
        let long = |at| u128::from_str_radix(&pointer[at..at + 32], 16).ok();
        let short = |at| u64::from_str_radix(&pointer[at..at + 16], 16).ok();
        Some(Origin {
            group: long(0)?,
            stream: long(32)?,
            timestamp: short(64)?.cast_signed(),
            sequence: short(80)?,
        })
    }
}

/// An event as a query sees it.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// Its time and place.
    pub origin: Origin,
    /// When it came in, in milliseconds since the epoch.
    pub ingested_at: i64,
    /// What was logged.
    pub message: &'a str,
    /// The name of its stream.
    pub stream: &'a str,
    /// `account:group`.
    pub log: &'a str,
}

/// A row while it goes through the steps.
#[derive(Clone, Debug)]
struct Row<'a> {
    values: Vec<Value<'a>>,
    origin: Option<Origin>,
}

impl Row<'_> {
    /// Forgets what nobody will read.
    fn forget(&mut self, slots: &[Slot]) {
        for slot in slots {
            self.values[*slot] = Value::Null;
        }
    }

    fn take(&mut self) -> Self {
        let values = std::mem::take(&mut self.values);
        Row { values, origin: self.origin }
    }

    fn into_owned(self) -> Row<'static> {
        let values = self.values.into_iter().map(Value::into_owned);
        Row { values: values.collect(), origin: self.origin }
    }

    fn weight(&self) -> usize {
        let values = self.values.iter();
        values.map(|v| v.weight() + size_of::<Value<'_>>()).sum::<usize>()
            + size_of::<Row<'_>>()
    }
}

/// A row of the answer.
#[derive(Clone, Debug, PartialEq)]
pub struct ResultRow {
    /// Names with values as they are shown; missing ones are left out.
    pub fields: Vec<(String, String)>,
    /// The event that it is, unless it is an aggregate.
    pub origin: Option<Origin>,
}

/// What is left of [`QUERY_BYTES`].
#[derive(Debug)]
struct Budget(usize);

impl Budget {
    fn take(&mut self, bytes: usize) -> Result<(), TooLarge> {
        self.0 = self.0.checked_sub(bytes).ok_or(TooLarge)?;
        Ok(())
    }

    fn give_back(&mut self, bytes: usize) {
        self.0 += bytes;
    }
}

/// A query on its way through events.
#[derive(Debug)]
pub struct Run<'q> {
    query: &'q Query,
    stages: Vec<Stage<'q>>,
    sink: Sink<'q>,
    /// The `now` of functions.
    now: i64,
    matched: u64,
    /// The values of a row that went by, kept for their memory.
    spare: Vec<Value<'static>>,
}

/// A step with what it has kept.
#[derive(Debug)]
enum Stage<'q> {
    /// Looks at one row alone.
    Pass(&'q Step),
    Stats(Groups<'q>),
    Sort(Keeper<'q>),
    Dedup(Unique<'q>),
    Limit(usize),
}

/// Where rows end.
#[derive(Debug)]
struct Sink<'q> {
    query: &'q Query,
    rows: Vec<ResultRow>,
    limit: usize,
    budget: Budget,
}

impl<'q> Run<'q> {
    /// Begins; `now` in milliseconds since the epoch, at most `limit` rows.
    pub fn new(query: &'q Query, now: i64, limit: usize) -> Run<'q> {
        let width = query.names.len();
        let stage = |(step, unneeded): (&'q Step, &'q Vec<_>)| match step {
            Step::Compute(_) | Step::Filter(_) | Step::Parse(_) => {
                Stage::Pass(step)
            }
            Step::Stats { by, stats } => {
                Stage::Stats(Groups::new(by, stats, width))
            }
            Step::Sort { order, keep } => {
                let keep = keep.map(|keep| keep.min(limit));
                Stage::Sort(Keeper::new(order, keep, unneeded))
            }
            Step::Dedup { by, order } => {
                Stage::Dedup(Unique::new(by, order, unneeded))
            }
            Step::Limit(limit) => Stage::Limit(*limit),
        };
        Run {
            query,
            stages: query
                .steps
                .iter()
                .zip(&query.unneeded)
                .map(stage)
                .collect(),
            sink: Sink {
                query,
                rows: vec![],
                limit,
                budget: Budget(QUERY_BYTES),
            },
            now,
            matched: 0,
            spare: vec![],
        }
    }

    /// Takes an event in.
    pub fn push(&mut self, event: &Event<'_>) -> Result<(), TooLarge> {
        let mut values = emptied(std::mem::take(&mut self.spare));
        values.resize(self.query.names.len(), Value::Null);
        let text = |text| Value::Text(Cow::Borrowed(text));
        values[TIMESTAMP] = Value::Time(event.origin.timestamp);
        values[MESSAGE] = text(event.message);
        values[STREAM] = text(event.stream);
        values[LOG] = text(event.log);
        values[INGESTED] = Value::Time(event.ingested_at);
        if self.query.shows_pointer {
            let pointer = event.origin.pointer();
            values[POINTER] = Value::Text(Cow::Owned(pointer));
        }
        if !self.query.paths.is_empty() {
            self.query.paths.fill(event.message, &mut values);
        }
        let mut row = Row { values, origin: Some(event.origin) };
        let Run { stages, sink, now, matched, .. } = self;
        let flowed = flow(stages, sink, *now, &mut row, Some(matched));
        self.spare = emptied(row.values);
        flowed
    }

    /// Whether an event of this time could still change the answer. Lets a
    /// scan leave out what is older (or newer) than all rows that count.
    pub fn wants(&self, earliest: i64, latest: i64) -> bool {
        let first =
            self.stages.iter().find(|stage| !matches!(stage, Stage::Pass(_)));
        match first {
            Some(Stage::Sort(keeper)) => keeper.wants(earliest, latest),
            _ => true,
        }
    }

    /// Events that passed the filters so far.
    pub fn matched(&self) -> u64 {
        self.matched
    }

    /// The answer's rows, in order.
    pub fn finish(mut self) -> Result<Vec<ResultRow>, TooLarge> {
        for index in 0..self.stages.len() {
            let (head, rest) = self.stages.split_at_mut(index + 1);
            let Some(stage) = head.last_mut() else { continue };
            let (rows, weight) = match stage {
                Stage::Pass(_) | Stage::Limit(_) => continue,
                Stage::Stats(groups) => groups.finish(),
                Stage::Sort(keeper) => keeper.finish(),
                Stage::Dedup(unique) => unique.finish(),
            };
            // What comes behind charges for what it keeps of them.
            self.sink.budget.give_back(weight);
            for mut row in rows {
                flow(rest, &mut self.sink, self.now, &mut row, None)?;
            }
        }
        Ok(self.sink.rows)
    }
}

/// The memory of values, for others.
fn emptied<'b>(mut values: Vec<Value<'_>>) -> Vec<Value<'b>> {
    values.clear();
    // Collecting into the same size of value keeps the memory.
    values.into_iter().map(|_| Value::Null).collect()
}

/// Sends a row through stages until one keeps or drops it; one that keeps it
/// takes its values.
fn flow(
    stages: &mut [Stage<'_>],
    sink: &mut Sink<'_>,
    now: i64,
    row: &mut Row<'_>,
    mut matched: Option<&mut u64>,
) -> Result<(), TooLarge> {
    for stage in stages {
        if !matches!(stage, Stage::Pass(_))
            && let Some(matched) = matched.take()
        {
            *matched += 1;
        }
        match stage {
            Stage::Pass(step) => {
                if !pass(step, row, now) {
                    return Ok(());
                }
            }
            Stage::Stats(groups) => {
                return groups.push(row, now, &mut sink.budget);
            }
            Stage::Sort(keeper) => {
                return keeper.push(row.take(), now, &mut sink.budget);
            }
            Stage::Dedup(unique) => {
                return unique.push(row.take(), now, &mut sink.budget);
            }
            Stage::Limit(0) => return Ok(()),
            Stage::Limit(left) => *left -= 1,
        }
    }
    if let Some(matched) = matched {
        *matched += 1;
    }
    sink.push(row)
}

/// A step over one row; whether the row goes on.
fn pass(step: &Step, row: &mut Row<'_>, now: i64) -> bool {
    match step {
        Step::Compute(columns) => {
            for column in columns {
                if let Some(value) = &column.value {
                    row.values[column.slot] = evaluate(value, row, now);
                }
            }
        }
        Step::Filter(filter) => return filter.holds(&row.values, now),
        Step::Parse(parse) => {
            let from = evaluate(&parse.from, row, now);
            let text = match from {
                Value::Text(text) => Some(text),
                other => other.text().map(|t| Cow::Owned(t.into_owned())),
            };
            let found = text.and_then(|text| parse.how.pieces(&text));
            let Some(found) = found else {
                for slot in &parse.slots {
                    row.values[*slot] = Value::Null;
                }
                return true;
            };
            for (slot, piece) in parse.slots.iter().zip(found) {
                row.values[*slot] = piece.map_or(Value::Null, Value::Text);
            }
        }
        Step::Stats { .. }
        | Step::Sort { .. }
        | Step::Dedup { .. }
        | Step::Limit(_) => {}
    }
    true
}

/// A value that outlives the row's other values: a field is taken as it is,
/// so that what is borrowed from the event stays so.
fn evaluate<'a>(value: &Expr, row: &Row<'a>, now: i64) -> Value<'a> {
    match value {
        Expr::Field(slot) => {
            row.values.get(*slot).cloned().unwrap_or(Value::Null)
        }
        other => other.value(&row.values, now).into_owned(),
    }
}

impl Sink<'_> {
    fn push(&mut self, row: &Row<'_>) -> Result<(), TooLarge> {
        if self.rows.len() >= self.limit {
            return Ok(());
        }
        let mut fields = vec![];
        let mut weight = size_of::<ResultRow>();
        for slot in &self.query.shown {
            if let Some(text) = row.values[*slot].text() {
                let name = self.query.names[*slot].clone();
                weight += name.len() + text.len() + 48;
                fields.push((name, text.into_owned()));
            }
        }
        self.budget.take(weight)?;
        self.rows.push(ResultRow { fields, origin: row.origin });
        Ok(())
    }
}
