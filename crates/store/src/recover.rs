//! From what is on disk to the tables in memory.

use std::{collections::HashMap, sync::Arc};

use serde_json::Value;

use crate::{
    FrameError, Key, MigrateRowError, OpenStoreError,
    frame::{Frame, Record},
    journal::{Journal, ReplayError},
    row::{AnyRow, TableKind, Tables},
    state::State,
};

/// How much log there is since a checkpoint was last begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogSize {
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
}

impl LogSize {
    pub(crate) fn add(&mut self, frame: usize) {
        self.frames += 1;
        self.bytes += frame as u64;
    }
}

/// What recovery found.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) state: State,
    pub(crate) log: LogSize,
    #[expect(dead_code, reason = "for checkpoints, which come next")]
    /// Some rows were migrated: older records of them must not be replayed
    /// over newer ones under another key, so a checkpoint comes first.
    pub(crate) migrated: bool,
}

/// Rows as they stand in checkpoint and log: only the last form of each is
/// worth decoding.
#[derive(Debug)]
pub(crate) struct RawTables {
    schema: Arc<Tables>,
    rows: Vec<HashMap<Key, RawRow>>,
    unknown: Option<String>,
}

#[derive(Debug)]
struct RawRow {
    version: u16,
    json: Box<[u8]>,
}

impl RawTables {
    pub(crate) fn new(schema: Arc<Tables>) -> RawTables {
        let rows = schema.kinds().iter().map(|_| HashMap::new()).collect();
        RawTables { schema, rows, unknown: None }
    }

    /// Applies one change.
    pub(crate) fn apply(&mut self, record: Record<'_>) -> Option<()> {
        let key = Key::from_bytes(record.key)?;
        let Some(table) = self.schema.index_of(record.table) else {
            if !self.schema.is_retired(record.table) {
                self.unknown.get_or_insert_with(|| record.table.to_owned());
            }
            return Some(());
        };
        match record.row {
            None => self.rows[table].remove(&key),
            Some(json) => self.rows[table].insert(
                key,
                RawRow { version: record.version, json: json.into() },
            ),
        };
        Some(())
    }

    /// Decodes and migrates the rows that are left.
    fn decode(self, revision: u64) -> Result<(State, bool), OpenStoreError> {
        if let Some(table) = self.unknown {
            return Err(OpenStoreError::UnknownTable { table });
        }
        let mut state = State::empty(self.schema.clone());
        state.revision = revision;
        let mut migrated = false;
        for (table, rows) in self.rows.into_iter().enumerate() {
            let kind = &self.schema.kinds()[table];
            for (key, raw) in rows {
                if raw.version == kind.version {
                    let row = (kind.decode)(&raw.json)
                        .map_err(|e| row_error(kind, &key, e))?;
                    state.put(table, key, row);
                } else {
                    migrated = true;
                    let row = migrate(&self.schema, kind, &key, &raw)?;
                    state.put(table, (kind.key)(&row), row);
                }
            }
        }
        Ok((state, migrated))
    }
}

fn migrate(
    schema: &Tables,
    kind: &TableKind,
    key: &Key,
    raw: &RawRow,
) -> Result<AnyRow, OpenStoreError> {
    let table = kind.name;
    if raw.version > kind.version {
        return Err(OpenStoreError::NewerRow {
            table,
            key: key.clone(),
            found: raw.version,
            known: kind.version,
        });
    }
    let failed = |from, source| OpenStoreError::Migrate {
        table,
        key: key.clone(),
        from,
        source,
    };
    let mut row: Value = serde_json::from_slice(&raw.json)
        .map_err(|e| failed(raw.version, MigrateRowError::Json(e)))?;
    for from in raw.version..kind.version {
        let step = schema
            .migration(table, from)
            .ok_or_else(|| failed(from, MigrateRowError::Missing))?;
        row = step(row).map_err(|e| failed(from, e))?;
    }
    (kind.decode_value)(row).map_err(|e| row_error(kind, key, e))
}

fn row_error(
    kind: &TableKind,
    key: &Key,
    source: serde_json::Error,
) -> OpenStoreError {
    OpenStoreError::Row { table: kind.name, key: key.clone(), source }
}

/// Applies the log's frames after `revision` to `rows` and decodes the lot.
pub(crate) fn replay(
    journal: &dyn Journal,
    mut rows: RawTables,
    mut revision: u64,
) -> Result<Recovered, OpenStoreError> {
    let trimmed = journal.trimmed().map_err(OpenStoreError::Journal)?;
    if trimmed > revision {
        let next = trimmed.saturating_add(1);
        return Err(OpenStoreError::Gap { have: revision, next });
    }
    let mut log = LogSize::default();
    let mut gap = None;
    let replayed = journal.replay(revision, &mut |stored_at, bytes| {
        let frame = Frame::read(bytes)?;
        if frame.last_revision() != stored_at {
            return Err(FrameError::Content { at: 0 });
        }
        if frame.first_revision != revision + 1 {
            gap.get_or_insert((revision, frame.first_revision));
        }
        let mut keys_are_good = true;
        frame.each(|record| {
            keys_are_good &= rows.apply(record).is_some();
        })?;
        if !keys_are_good {
            return Err(FrameError::Content { at: 0 });
        }
        revision = stored_at;
        log.add(bytes.len());
        Ok(())
    });
    match replayed {
        Ok(()) => {}
        Err(ReplayError::Journal(error)) => {
            return Err(OpenStoreError::Journal(error));
        }
        Err(ReplayError::Frame { revision, source }) => {
            return Err(OpenStoreError::Frame { revision, source });
        }
    }
    if let Some((have, next)) = gap {
        return Err(OpenStoreError::Gap { have, next });
    }
    let (state, migrated) = rows.decode(revision)?;
    Ok(Recovered { state, log, migrated })
}
