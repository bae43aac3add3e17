//! The names that a query may use at some place, and their slots.

use std::collections::HashMap;

use super::ast::Slot;

/// Fields that every event has.
pub(super) const TIMESTAMP: Slot = 0;
pub(super) const MESSAGE: Slot = 1;
pub(super) const STREAM: Slot = 2;
pub(super) const LOG: Slot = 3;
pub(super) const INGESTED: Slot = 4;
pub(super) const POINTER: Slot = 5;

const BUILT_IN: [&str; 6] =
    ["@timestamp", "@message", "@logStream", "@log", "@ingestionTime", "@ptr"];

/// What is known of a slot once the query is read.
#[derive(Clone, Debug, Default)]
pub(super) struct SlotInfo {
    pub(super) name: String,
    /// Read before any command gave it a value: comes from the event.
    pub(super) discovered: bool,
}

/// Hands out slots by name.
#[derive(Clone, Debug)]
pub(super) struct Names {
    slots: Vec<SlotInfo>,
    by_name: HashMap<String, Slot>,
    defined: Vec<bool>,
    /// Behind `stats`, where only its columns are left.
    pub(super) aggregated: bool,
}

impl Names {
    pub(super) fn new() -> Names {
        let mut names = Names {
            slots: vec![],
            by_name: HashMap::new(),
            defined: vec![],
            aggregated: false,
        };
        for name in BUILT_IN {
            names.slot(name);
        }
        names
    }

    fn slot(&mut self, name: &str) -> Slot {
        if let Some(slot) = self.by_name.get(name) {
            return *slot;
        }
        let slot = self.slots.len();
        self.slots.push(SlotInfo { name: name.to_owned(), discovered: false });
        self.defined.push(false);
        self.by_name.insert(name.to_owned(), slot);
        slot
    }

    /// The slot of a field that is read.
    pub(super) fn read(&mut self, name: &str) -> Slot {
        let slot = self.slot(name);
        if !self.defined[slot] && !self.aggregated {
            self.slots[slot].discovered = true;
        }
        slot
    }

    /// The slot of a name that a command gives a value.
    pub(super) fn define(&mut self, name: &str) -> Slot {
        let slot = self.slot(name);
        self.defined[slot] = true;
        slot
    }

    /// The column that has this text for a name, behind `stats`.
    pub(super) fn column(&self, text: &str) -> Option<Slot> {
        let slot = self.by_name.get(text).copied()?;
        (self.aggregated && self.defined[slot]).then_some(slot)
    }

    /// Leaves nothing but what is defined from now on.
    pub(super) fn aggregate(&mut self) {
        self.aggregated = true;
        self.by_name.clear();
    }

    pub(super) fn into_slots(self) -> Vec<SlotInfo> {
        self.slots
    }

    pub(super) fn count(&self) -> usize {
        self.slots.len()
    }
}
