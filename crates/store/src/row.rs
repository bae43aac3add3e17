//! Rows, and the set of tables a store is opened with.

use std::{
    any::{Any, TypeId},
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{Key, MigrateRowError};

/// One row of a table.
///
/// Rows are kept as JSON in the journal: a member may be added with
/// `#[serde(default)]` without ceremony; any other change of shape takes a
/// new [`Row::VERSION`] and a migration ([`Tables::migrate`]).
pub trait Row:
    Serialize + DeserializeOwned + Clone + Send + Sync + 'static
{
    /// The table's name in the journal: at most 255 bytes, never reused.
    const TABLE: &'static str;

    /// Version of the row's JSON shape. One that is found in the journal
    /// with a lower version goes through the migrations of its table.
    const VERSION: u16 = 1;

    /// The row's place in its table. Must not change while the row lives.
    fn key(&self) -> Key;

    /// Names and keys under which [`crate::Snapshot::by_index`] finds the
    /// row. Several entries of one index are allowed.
    fn indexes(&self) -> Vec<(&'static str, Key)> {
        Vec::new()
    }
}

/// A row whose type only its table knows.
pub(crate) type AnyRow = Arc<dyn Any + Send + Sync>;

/// Turns a row's JSON of one version into that of the next.
pub type Migration = fn(Value) -> Result<Value, MigrateRowError>;

/// The tables a store is opened with.
#[derive(Default)]
pub struct Tables {
    kinds: Vec<TableKind>,
    by_type: BTreeMap<TypeId, usize>,
    retired: BTreeSet<&'static str>,
    migrations: BTreeMap<(&'static str, u16), Migration>,
}

impl Tables {
    /// No tables yet.
    pub fn new() -> Tables {
        Tables::default()
    }

    /// Adds the table of `R`.
    ///
    /// # Panics
    ///
    /// If another type already has the table's name, or the name is longer
    /// than 255 bytes: both are mistakes in the program, not in its input.
    #[must_use]
    pub fn with<R: Row>(mut self) -> Tables {
        assert!(R::TABLE.len() <= 255, "table name {} is too long", R::TABLE);
        if self.by_type.contains_key(&TypeId::of::<R>()) {
            return self;
        }
        assert!(
            self.index_of(R::TABLE).is_none(),
            "two row types claim the table {}",
            R::TABLE
        );
        self.by_type.insert(TypeId::of::<R>(), self.kinds.len());
        self.kinds.push(TableKind::of::<R>());
        self
    }

    /// Says how rows of `table` at version `from` become version `from + 1`.
    #[must_use]
    pub fn migrate(
        mut self,
        table: &'static str,
        from: u16,
        migration: Migration,
    ) -> Tables {
        self.migrations.insert((table, from), migration);
        self
    }

    /// Says that `table` is no longer used: its rows are dropped on opening.
    /// Any other unknown table in the journal is an error.
    #[must_use]
    pub fn retired(mut self, table: &'static str) -> Tables {
        self.retired.insert(table);
        self
    }

    pub(crate) fn kinds(&self) -> &[TableKind] {
        &self.kinds
    }

    pub(crate) fn index_of(&self, table: &str) -> Option<usize> {
        self.kinds.iter().position(|kind| kind.name == table)
    }

    pub(crate) fn is_retired(&self, table: &str) -> bool {
        self.retired.contains(table)
    }

    pub(crate) fn migration(
        &self,
        table: &'static str,
        from: u16,
    ) -> Option<Migration> {
        self.migrations.get(&(table, from)).copied()
    }

    /// Where the table of `R` is.
    ///
    /// # Panics
    ///
    /// If the store was opened without it.
    pub(crate) fn position<R: Row>(&self) -> usize {
        match self.by_type.get(&TypeId::of::<R>()) {
            Some(position) => *position,
            None => panic!("the store was opened without table {}", R::TABLE),
        }
    }
}

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.kinds.iter().map(|kind| kind.name)).finish()
    }
}

/// What the store can do with the rows of one table without their type.
pub(crate) struct TableKind {
    pub(crate) name: &'static str,
    pub(crate) version: u16,
    pub(crate) encode: fn(&AnyRow, &mut Vec<u8>) -> serde_json::Result<()>,
    pub(crate) decode: fn(&[u8]) -> serde_json::Result<AnyRow>,
    pub(crate) decode_value: fn(Value) -> serde_json::Result<AnyRow>,
    pub(crate) key: fn(&AnyRow) -> Key,
    pub(crate) indexes: fn(&AnyRow) -> Vec<(&'static str, Key)>,
}

impl TableKind {
    fn of<R: Row>() -> TableKind {
        TableKind {
            name: R::TABLE,
            version: R::VERSION,
            encode: |row, out| serde_json::to_writer(out, typed_ref::<R>(row)),
            decode: |json| Ok(Arc::new(serde_json::from_slice::<R>(json)?)),
            decode_value: |json| {
                Ok(Arc::new(serde_json::from_value::<R>(json)?))
            },
            key: |row| typed_ref::<R>(row).key(),
            indexes: |row| typed_ref::<R>(row).indexes(),
        }
    }
}

fn typed_ref<R: Row>(row: &AnyRow) -> &R {
    match row.downcast_ref::<R>() {
        Some(row) => row,
        None => unreachable!("table {} holds rows of one type", R::TABLE),
    }
}

/// The row as what it is.
pub(crate) fn typed<R: Row>(row: &AnyRow) -> Arc<R> {
    match Arc::clone(row).downcast::<R>() {
        Ok(row) => row,
        Err(_) => unreachable!("table {} holds rows of one type", R::TABLE),
    }
}
