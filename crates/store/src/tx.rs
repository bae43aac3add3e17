//! A transaction: reads that see its own writes, and writes that happen all
//! or not at all.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use crate::{
    Key, Row,
    row::AnyRow,
    state::State,
    watch::{Commit, RowChange},
};

/// The store's newest state and the changes made to it so far.
///
/// It exists on the committer thread only, so everything in it happens one
/// after the other; closures should be short and must not block.
#[derive(Debug)]
pub struct Tx {
    state: State,
    /// What each touched row was before the transaction.
    touched: BTreeMap<(usize, Key), Option<AnyRow>>,
}

impl Tx {
    pub(crate) fn new(base: &State) -> Tx {
        let mut state = base.clone();
        state.revision += 1;
        Tx { state, touched: BTreeMap::new() }
    }

    /// The revision this transaction has if it commits with any change.
    pub fn revision(&self) -> u64 {
        self.state.revision
    }

    /// The row at `key`.
    pub fn get<R: Row>(&self, key: &Key) -> Option<Arc<R>> {
        self.state.get(key)
    }

    /// Whether there is a row at `key`.
    pub fn contains<R: Row>(&self, key: &Key) -> bool {
        self.state.contains::<R>(key)
    }

    /// Number of rows in the table of `R`.
    pub fn count<R: Row>(&self) -> usize {
        self.state.count::<R>()
    }

    /// The rows whose keys begin with `prefix`, in the order of their keys.
    pub fn scan<'a, R: Row>(
        &'a self,
        prefix: &Key,
    ) -> impl DoubleEndedIterator<Item = Arc<R>> + use<'a, R> {
        self.state.scan(prefix)
    }

    /// The rows whose key in `index` begins with `prefix`, in the order of
    /// index key, then row key.
    pub fn by_index<'a, R: Row>(
        &'a self,
        index: &str,
        prefix: &Key,
    ) -> impl DoubleEndedIterator<Item = Arc<R>> + use<'a, R> {
        self.state.by_index(index, prefix)
    }

    /// The different keys in `index` that begin with `prefix`, in their order;
    /// costs as many searches as there are keys, however many rows have them.
    pub fn index_keys<R: Row>(&self, index: &str, prefix: &Key) -> Vec<Key> {
        self.state.index_keys::<R>(index, prefix)
    }

    /// Tables and keys of the rows that were written after `revision`, by this
    /// transaction or before it, newest first: what someone who knew the rows
    /// of that revision has to look at again. A key comes once for each
    /// transaction that wrote it. `None` if `revision` is too long ago; then
    /// everything may have changed.
    ///
    /// A transaction that is rolled back leaves nothing here, and its
    /// revision is that of the next one.
    pub fn changed_since(
        &self,
        revision: u64,
    ) -> Option<impl Iterator<Item = (&'static str, &Key)>> {
        self.state.changed_since(revision)
    }

    /// Writes `row` at its key; gives the row that was there.
    pub fn put<R: Row>(&mut self, row: R) -> Option<Arc<R>> {
        let (table, key) = (self.state.schema.position::<R>(), row.key());
        let before = self.state.put(table, key.clone(), Arc::new(row));
        self.touch(table, key, before.as_ref());
        before.as_ref().map(crate::row::typed::<R>)
    }

    /// Removes the row at `key`; gives the row that was there.
    pub fn delete<R: Row>(&mut self, key: &Key) -> Option<Arc<R>> {
        let table = self.state.schema.position::<R>();
        let before = self.state.delete(table, key)?;
        self.touch(table, key.clone(), Some(&before));
        Some(crate::row::typed::<R>(&before))
    }

    fn touch(&mut self, table: usize, key: Key, before: Option<&AnyRow>) {
        if let Entry::Vacant(first) = self.touched.entry((table, key.clone())) {
            first.insert(before.cloned());
            self.state.recent.note(self.state.revision, table, key);
        }
    }

    /// The new state and what changed; `None` if nothing did.
    pub(crate) fn finish(self) -> Option<(State, Commit)> {
        let Tx { state, touched } = self;
        let changes: Vec<RowChange> = touched
            .into_iter()
            .map(|((table, key), before)| {
                let after = state.row(table, &key).cloned();
                RowChange { table, key, before, after }
            })
            .filter(|change| change.before.is_some() || change.after.is_some())
            .collect();
        if changes.is_empty() {
            return None;
        }
        let commit = Commit::new(state.revision, state.schema.clone(), changes);
        Some((state, commit))
    }
}
