//! What readers hold: all tables at one durable revision.

use std::sync::Arc;

use crate::{Key, Row, state::State};

/// All tables at one revision. Cheap to take, to clone and to keep: later
/// writes share what they did not change. Only ever shows durable state.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub(crate) state: Arc<State>,
}

impl Snapshot {
    /// The revision of the last transaction that this snapshot includes; 0
    /// for a new store.
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

    /// Like [`Snapshot::scan`], from the first key after `after`: the next
    /// page of a list, even if the row at `after` is gone by now.
    pub fn scan_after<'a, R: Row>(
        &'a self,
        prefix: &Key,
        after: &Key,
    ) -> impl DoubleEndedIterator<Item = Arc<R>> + use<'a, R> {
        self.state.scan_after(prefix, after)
    }

    /// The keys written by the transactions after the one of `revision`, up to
    /// that of the snapshot; as [`Tx::changed_since`](crate::Tx::changed_since)
    /// has them.
    pub fn changed_since(
        &self,
        revision: u64,
    ) -> Option<impl Iterator<Item = (&'static str, &Key)>> {
        self.state.changed_since(revision)
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
}
