//! From commands to steps: what order rows come out in, and how many must be
//! kept to know it.

use super::ast::{Assignment, Command, Expr, Slot, SortKey, Stat};
use super::discover::Paths;
use super::parser::{Parsed, is_message, is_timestamp};
use super::pattern::{Like, Parse};
use super::scope::{MESSAGE, POINTER, TIMESTAMP};

/// What is done with rows, one after another.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Compute(Vec<Assignment>),
    Filter(Expr),
    Parse(Parse),
    Stats {
        by: Vec<Assignment>,
        stats: Vec<Stat>,
    },
    Sort {
        order: Order,
        /// Rows that later steps can use, at most; `None` means all.
        keep: Option<usize>,
    },
    /// The first in its order of the rows with the same values.
    Dedup {
        by: Vec<Expr>,
        order: Order,
    },
    Limit(usize),
}

#[derive(Clone, Debug)]
pub(super) enum Order {
    Newest,
    Oldest,
    Keys(Vec<SortKey>),
    /// As the step before gave them.
    Arrival,
}

/// The steps of a query, and the text that messages must have.
pub(super) fn plan(parsed: &Parsed) -> (Vec<Step>, Vec<Like>) {
    let mut steps = vec![];
    let mut changed = Changed::default();
    let mut text = vec![];
    // Until rows are put in order, they come as they are found.
    let mut ordered = false;
    let commands = parsed.commands.iter();
    for (index, command) in commands.enumerate() {
        let rest = &parsed.commands[index + 1..];
        match command {
            Command::Compute(columns) => {
                changed.note(columns.iter().map(|column| column.slot));
                steps.push(Step::Compute(columns.clone()));
            }
            Command::Filter(filter) => {
                if !changed.message && !changed.aggregated {
                    needed_text(filter, &mut text);
                }
                steps.push(Step::Filter(filter.clone()));
            }
            Command::Parse(parse) => {
                changed.note(parse.slots.iter().copied());
                steps.push(Step::Parse(parse.clone()));
            }
            Command::Stats { by, stats } => {
                (changed.aggregated, ordered) = (true, true);
                steps
                    .push(Step::Stats { by: by.clone(), stats: stats.clone() });
            }
            Command::Sort(keys) => {
                ordered = true;
                let order = changed.order(keys);
                sort(&mut steps, order, rest);
            }
            Command::Dedup(by) => {
                let order = match steps.pop() {
                    Some(Step::Sort { order, .. }) => order,
                    Some(other) => {
                        steps.push(other);
                        unordered(ordered)
                    }
                    None => unordered(ordered),
                };
                ordered = true;
                steps.push(Step::Dedup { by: by.clone(), order });
            }
            Command::Limit(limit) => {
                if !ordered {
                    let keep = Some(*limit);
                    steps.push(Step::Sort { order: Order::Newest, keep });
                }
                ordered = true;
                steps.push(Step::Limit(*limit));
            }
        }
    }
    if !ordered {
        let keep = Some(usize::MAX);
        steps.push(Step::Sort { order: Order::Newest, keep });
    }
    (steps, text)
}

fn unordered(ordered: bool) -> Order {
    if ordered { Order::Arrival } else { Order::Newest }
}

/// Adds a sort that keeps no more than what comes behind it can use.
fn sort(steps: &mut Vec<Step>, order: Order, rest: &[Command]) {
    let mut keep = Some(usize::MAX);
    for command in rest {
        match command {
            Command::Compute(_) | Command::Parse(_) => {}
            Command::Limit(limit) => {
                keep = Some(*limit);
                break;
            }
            // Neither sees the order.
            Command::Stats { .. } | Command::Sort(_) => return,
            Command::Filter(_) | Command::Dedup(_) => {
                keep = None;
                break;
            }
        }
    }
    steps.push(Step::Sort { order, keep });
}

/// Which of an event's own fields are no longer its own.
#[derive(Default)]
struct Changed {
    timestamp: bool,
    message: bool,
    aggregated: bool,
}

impl Changed {
    fn note(&mut self, slots: impl Iterator<Item = Slot>) {
        for slot in slots {
            self.timestamp |= slot == TIMESTAMP;
            self.message |= slot == MESSAGE;
        }
    }

    /// The order of a sort; that of time is known without computing keys.
    fn order(&self, keys: &[SortKey]) -> Order {
        match keys {
            [key]
                if is_timestamp(&key.value)
                    && !self.timestamp
                    && !self.aggregated =>
            {
                if key.descending {
                    Order::Newest
                } else {
                    Order::Oldest
                }
            }
            keys => Order::Keys(keys.to_vec()),
        }
    }
}

/// Text that every message must have which passes a filter.
fn needed_text(filter: &Expr, text: &mut Vec<Like>) {
    match filter {
        Expr::All(all) => all.iter().for_each(|e| needed_text(e, text)),
        Expr::Like(value, like) if is_message(value) => {
            text.push(like.clone());
        }
        _ => {}
    }
}

/// For each step, the slots that neither later steps nor the answer read.
fn unneeded(
    steps: &[Step],
    names: &[String],
    shown: &[Slot],
) -> Vec<Vec<Slot>> {
    let mut needed = vec![false; names.len()];
    shown.iter().for_each(|slot| needed[*slot] = true);
    let mut behind = vec![];
    for step in steps.iter().rev() {
        let unread = needed.iter().enumerate().filter(|(_, is)| !**is);
        behind.push(unread.map(|(slot, _)| slot).collect());
        step.reads(&mut |slot| needed[slot] = true);
    }
    behind.reverse();
    behind
}

impl Step {
    fn reads(&self, see: &mut dyn FnMut(Slot)) {
        let assigned = |columns: &[Assignment], see: &mut dyn FnMut(Slot)| {
            let values = columns.iter().filter_map(|c| c.value.as_ref());
            values.for_each(|value| value.reads(see));
        };
        match self {
            Step::Compute(columns) => assigned(columns, see),
            Step::Filter(filter) => filter.reads(see),
            Step::Parse(parse) => parse.from.reads(see),
            Step::Stats { by, stats } => {
                assigned(by, see);
                let values = stats.iter().filter_map(|s| s.argument.as_ref());
                values.for_each(|value| value.reads(see));
            }
            Step::Sort { order, .. } => order.reads(see),
            Step::Dedup { by, order } => {
                by.iter().for_each(|value| value.reads(see));
                order.reads(see);
            }
            Step::Limit(_) => {}
        }
    }
}

impl Order {
    fn reads(&self, see: &mut dyn FnMut(Slot)) {
        match self {
            Order::Keys(keys) => {
                keys.iter().for_each(|key| key.value.reads(see));
            }
            Order::Newest | Order::Oldest | Order::Arrival => {}
        }
    }
}

/// A query that can be run, any number of times.
#[derive(Clone, Debug)]
pub struct Query {
    pub(super) steps: Vec<Step>,
    pub(super) names: Vec<String>,
    pub(super) shown: Vec<Slot>,
    pub(super) paths: Paths,
    pub(super) text: Vec<Like>,
    pub(super) shows_pointer: bool,
    /// For each step, slots that nothing behind it reads: a row that is kept
    /// there need not keep them.
    pub(super) unneeded: Vec<Vec<Slot>>,
}

impl Query {
    pub(super) fn new(parsed: Parsed) -> Query {
        let (steps, text) = plan(&parsed);
        let Parsed { slots, shown, .. } = parsed;
        let paths = Paths::of(&slots);
        let shows_pointer =
            slots.get(POINTER).is_some_and(|slot| slot.discovered);
        let names: Vec<String> =
            slots.into_iter().map(|slot| slot.name).collect();
        let unneeded = unneeded(&steps, &names, &shown);
        Query { steps, names, shown, paths, text, shows_pointer, unneeded }
    }

    /// What its last `limit` asks for.
    pub fn limit(&self) -> Option<usize> {
        self.steps.iter().rev().find_map(|step| match step {
            Step::Limit(limit) => Some(*limit),
            Step::Compute(_)
            | Step::Filter(_)
            | Step::Parse(_)
            | Step::Stats { .. }
            | Step::Sort { .. }
            | Step::Dedup { .. } => None,
        })
    }

    /// Whether some event in `text`, many messages one after another, could
    /// pass the query's filters. `false` is certain; `true` is a maybe.
    ///
    /// Lets a scan drop a whole block by substring searches.
    pub fn could_match_in(&self, text: &[u8]) -> bool {
        self.text.iter().all(|like| like.matches(text))
    }
}
