//! The tables in memory: persistent maps, so that a copy is a few pointers.

use std::{fmt, ops::Bound, sync::Arc};

use imbl::{OrdMap, Vector};

use crate::{
    Key, Row,
    row::{AnyRow, TableKind, Tables, typed},
};

/// All tables at one revision.
#[derive(Clone)]
pub(crate) struct State {
    pub(crate) revision: u64,
    pub(crate) schema: Arc<Tables>,
    tables: Vec<Arc<Table>>,
    pub(crate) recent: Recent,
}

/// The keys that were written last, oldest first.
#[derive(Clone, Default)]
pub(crate) struct Recent {
    /// Revision, table, key.
    log: Vector<(u64, usize, Key)>,
    /// The newest revision whose writes are not all here any more.
    forgotten: u64,
}

impl Recent {
    /// So many keys are remembered.
    const MAX: usize = 32_768;

    /// A log that knows nothing of what happened up to `revision`.
    pub(crate) fn after(revision: u64) -> Recent {
        Recent { log: Vector::new(), forgotten: revision }
    }

    pub(crate) fn note(&mut self, revision: u64, table: usize, key: Key) {
        self.log.push_back((revision, table, key));
        if self.log.len() > Recent::MAX
            && let Some((oldest, _, _)) = self.log.pop_front()
        {
            self.forgotten = self.forgotten.max(oldest);
        }
    }

    /// What was written after `revision`, newest first; `None` if that is
    /// too long ago.
    pub(crate) fn since(
        &self,
        revision: u64,
    ) -> Option<impl Iterator<Item = (usize, &Key)>> {
        (revision >= self.forgotten).then(|| {
            let newest_first = self.log.iter().rev();
            newest_first
                .take_while(move |(at, _, _)| *at > revision)
                .map(|(_, table, key)| (*table, key))
        })
    }
}

/// One table with its indexes.
#[derive(Clone, Default)]
struct Table {
    rows: OrdMap<Key, AnyRow>,
    /// Index name -> (index key + row key) -> row: a look by an index reads
    /// thousands, and searching for each of them would take most of its time.
    indexes: Vec<(&'static str, OrdMap<Key, AnyRow>)>,
}

impl State {
    pub(crate) fn empty(schema: Arc<Tables>) -> State {
        let tables = schema.kinds().iter().map(|_| Arc::default()).collect();
        State { revision: 0, schema, tables, recent: Recent::default() }
    }

    pub(crate) fn row(&self, table: usize, key: &Key) -> Option<&AnyRow> {
        self.tables[table].rows.get(key)
    }

    pub(crate) fn put(
        &mut self,
        table: usize,
        key: Key,
        row: AnyRow,
    ) -> Option<AnyRow> {
        let kind = &self.schema.kinds()[table];
        Arc::make_mut(&mut self.tables[table]).put(kind, key, row)
    }

    pub(crate) fn delete(&mut self, table: usize, key: &Key) -> Option<AnyRow> {
        // Not through make_mut when there is nothing to do.
        self.row(table, key)?;
        let kind = &self.schema.kinds()[table];
        Arc::make_mut(&mut self.tables[table]).delete(kind, key)
    }

    /// The keys written after `revision`, with their tables; `None` where
    /// those are not all known any more.
    pub(crate) fn changed_since(
        &self,
        revision: u64,
    ) -> Option<impl Iterator<Item = (&'static str, &Key)>> {
        let kinds = self.schema.kinds();
        let changed = self.recent.since(revision)?;
        Some(changed.map(|(table, key)| (kinds[table].name, key)))
    }

    /// Every row of every table, tables in the order of the schema.
    pub(crate) fn all_rows(
        &self,
    ) -> impl Iterator<Item = (&TableKind, &Key, &AnyRow)> {
        self.schema.kinds().iter().zip(&self.tables).flat_map(
            |(kind, table)| {
                table.rows.iter().map(move |(key, row)| (kind, key, row))
            },
        )
    }

    pub(crate) fn get<R: Row>(&self, key: &Key) -> Option<Arc<R>> {
        self.row(self.schema.position::<R>(), key).map(typed::<R>)
    }

    pub(crate) fn contains<R: Row>(&self, key: &Key) -> bool {
        self.row(self.schema.position::<R>(), key).is_some()
    }

    pub(crate) fn count<R: Row>(&self) -> usize {
        self.table::<R>().rows.len()
    }

    pub(crate) fn scan<'a, R: Row>(
        &'a self,
        prefix: &Key,
    ) -> impl DoubleEndedIterator<Item = Arc<R>> + use<'a, R> {
        self.table::<R>()
            .rows
            .range(prefix.range())
            .map(|(_, row)| typed::<R>(row))
    }

    pub(crate) fn scan_after<'a, R: Row>(
        &'a self,
        prefix: &Key,
        after: &Key,
    ) -> impl DoubleEndedIterator<Item = Arc<R>> + use<'a, R> {
        self.table::<R>()
            .rows
            .range(prefix.range_after(after))
            .map(|(_, row)| typed::<R>(row))
    }

    pub(crate) fn by_index<'a, R: Row>(
        &'a self,
        index: &str,
        prefix: &Key,
    ) -> impl DoubleEndedIterator<Item = Arc<R>> + use<'a, R> {
        let table = self.table::<R>();
        table
            .indexes
            .iter()
            .find(|(name, _)| *name == index)
            .map(|(_, entries)| entries.range(prefix.range()))
            .into_iter()
            .flatten()
            .map(|(_, row)| typed::<R>(row))
    }

    pub(crate) fn index_keys<R: Row>(
        &self,
        index: &str,
        prefix: &Key,
    ) -> Vec<Key> {
        let mut indexes = self.table::<R>().indexes.iter();
        let mut keys = vec![];
        let Some((_, entries)) = indexes.find(|(name, _)| *name == index)
        else {
            return keys;
        };
        let (mut start, end) = prefix.range();
        // From each key to the first entry of the next.
        while let Some((entry, _)) = entries.range((start, end.clone())).next()
        {
            let key = entry.of_index_entry();
            start = match key.end_of_range() {
                Bound::Excluded(end) => Bound::Included(end),
                Bound::Included(_) | Bound::Unbounded => return vec![key],
            };
            keys.push(key);
        }
        keys
    }

    fn table<R: Row>(&self) -> &Table {
        &self.tables[self.schema.position::<R>()]
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        map.entry(&"revision", &self.revision);
        for (kind, table) in self.schema.kinds().iter().zip(&self.tables) {
            map.entry(&kind.name, &table.rows.len());
        }
        map.finish()
    }
}

impl Table {
    fn put(
        &mut self,
        kind: &TableKind,
        key: Key,
        row: AnyRow,
    ) -> Option<AnyRow> {
        let new = (kind.indexes)(&row);
        let before = self.rows.insert(key.clone(), row.clone());
        let old = before.as_ref().map(kind.indexes).unwrap_or_default();
        for entry in old.iter().filter(|entry| !new.contains(entry)) {
            self.unindex(entry, &key);
        }
        for (name, index_key) in &new {
            let entry = index_key.index_entry(&key);
            self.index_mut(name).insert(entry, row.clone());
        }
        before
    }

    fn delete(&mut self, kind: &TableKind, key: &Key) -> Option<AnyRow> {
        let row = self.rows.remove(key)?;
        for entry in (kind.indexes)(&row) {
            self.unindex(&entry, key);
        }
        Some(row)
    }

    fn unindex(&mut self, (name, index_key): &(&'static str, Key), key: &Key) {
        self.index_mut(name).remove(&index_key.index_entry(key));
    }

    fn index_mut(&mut self, name: &'static str) -> &mut OrdMap<Key, AnyRow> {
        let at = self.indexes.iter().position(|(have, _)| *have == name);
        let at = at.unwrap_or_else(|| {
            self.indexes.push((name, OrdMap::new()));
            self.indexes.len() - 1
        });
        &mut self.indexes[at].1
    }
}
