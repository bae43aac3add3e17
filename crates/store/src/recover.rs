//! From what is on disk to the tables in memory.

use std::{collections::HashMap, sync::Arc};

use serde_json::Value;

use crate::{
    FrameError, Key, MigrateRowError, OpenStoreError, ReadCheckpointError,
    checkpoint::{self, Checkpoints},
    error::chain,
    frame::{self, Frame, FrameWriter, Record},
    journal::{Journal, ReplayError},
    row::{AnyRow, TableKind, Tables},
    state::{Recent, State},
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
    /// The log after the checkpoint.
    pub(crate) log: LogSize,
    /// Size of the checkpoint; 0 if there is none.
    pub(crate) checkpoint: u64,
}

/// A row that has another key since its migration.
#[derive(Debug)]
struct Moved {
    table: usize,
    from: Key,
    to: Key,
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

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.rows.iter().map(HashMap::len).sum()
    }

    /// Applies one change; `None` if its key is not one.
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
    fn decode(
        self,
        revision: u64,
    ) -> Result<(State, Vec<Moved>), OpenStoreError> {
        if let Some(table) = self.unknown {
            return Err(OpenStoreError::UnknownTable { table });
        }
        let mut state = State::empty(self.schema.clone());
        state.revision = revision;
        state.recent = Recent::after(revision);
        let mut moved = Vec::new();
        for (table, rows) in self.rows.into_iter().enumerate() {
            let kind = &self.schema.kinds()[table];
            for (from, raw) in rows {
                let row = decode_row(&self.schema, kind, &from, &raw)?;
                let to = (kind.key)(&row);
                if state.put(table, to.clone(), row).is_some() {
                    let table = kind.name;
                    return Err(OpenStoreError::Collision { table, key: to });
                }
                if to != from {
                    moved.push(Moved { table, from, to });
                }
            }
        }
        Ok((state, moved))
    }
}

fn decode_row(
    schema: &Tables,
    kind: &TableKind,
    key: &Key,
    raw: &RawRow,
) -> Result<AnyRow, OpenStoreError> {
    if raw.version != kind.version {
        return migrate(schema, kind, key, raw);
    }
    (kind.decode)(&raw.json).map_err(|e| row_error(kind, key, e))
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

/// Reads the newest good checkpoint and the log after it.
pub(crate) fn recover(
    journal: &dyn Journal,
    checkpoints: Option<&dyn Checkpoints>,
    schema: &Arc<Tables>,
) -> Result<Recovered, OpenStoreError> {
    let mut bad = None;
    let mut base = (RawTables::new(schema.clone()), 0, 0);
    if let Some(checkpoints) = checkpoints {
        let mut revisions =
            checkpoints.revisions().map_err(OpenStoreError::Checkpoints)?;
        revisions.sort_unstable_by(|a, b| b.cmp(a));
        for revision in revisions {
            let mut rows = RawTables::new(schema.clone());
            match read_checkpoint(checkpoints, revision, &mut rows) {
                Ok(size) => {
                    base = (rows, revision, size);
                    break;
                }
                Err(error) => {
                    let why = chain(&error);
                    tracing::warn!(revision, why, "checkpoint not usable");
                    bad.get_or_insert((revision, error));
                }
            }
        }
    }
    let (mut rows, mut revision, checkpoint) = base;
    let log = replay(journal, &mut rows, &mut revision);
    // A bad checkpoint is no loss while the log has all that was in it.
    if let Some((needed, source)) = bad
        && (revision < needed || matches!(log, Err(OpenStoreError::Gap { .. })))
    {
        return Err(OpenStoreError::Checkpoint { revision: needed, source });
    }
    let mut log = log?;
    let (mut state, moved) = rows.decode(revision)?;
    if !moved.is_empty() {
        log.add(append_moved(journal, &mut state, &moved)?);
    }
    Ok(Recovered { state, log, checkpoint })
}

fn read_checkpoint(
    checkpoints: &dyn Checkpoints,
    revision: u64,
    rows: &mut RawTables,
) -> Result<u64, ReadCheckpointError> {
    let from = checkpoints.open(revision).map_err(ReadCheckpointError::Io)?;
    let (found, size) = checkpoint::read(from, rows)?;
    if found == revision {
        Ok(size)
    } else {
        let what = "it is of another revision than its name says";
        Err(ReadCheckpointError::Damaged { what })
    }
}

/// Applies the log's frames after `revision`, which becomes the newest.
fn replay(
    journal: &dyn Journal,
    rows: &mut RawTables,
    revision: &mut u64,
) -> Result<LogSize, OpenStoreError> {
    let trimmed = journal.trimmed().map_err(OpenStoreError::Journal)?;
    if trimmed > *revision {
        let next = trimmed.saturating_add(1);
        return Err(OpenStoreError::Gap { have: *revision, next });
    }
    let mut log = LogSize::default();
    let mut gap = None;
    let replayed = journal.replay(*revision, &mut |stored_at, bytes| {
        let frame = Frame::read(bytes)?;
        if frame.last_revision() != stored_at {
            return Err(FrameError::Content { at: 0 });
        }
        if frame.first_revision != *revision + 1 {
            gap.get_or_insert((*revision, frame.first_revision));
        }
        let mut keys_are_good = true;
        frame.each(|record| {
            keys_are_good &= rows.apply(record).is_some();
        })?;
        if !keys_are_good {
            return Err(FrameError::Content { at: 0 });
        }
        *revision = stored_at;
        log.add(bytes.len());
        Ok(())
    });
    match (replayed, gap) {
        (Err(ReplayError::Journal(error)), _) => {
            Err(OpenStoreError::Journal(error))
        }
        (Err(ReplayError::Frame { revision, source }), _) => {
            Err(OpenStoreError::Frame { revision, source })
        }
        (Ok(()), Some((have, next))) => Err(OpenStoreError::Gap { have, next }),
        (Ok(()), None) => Ok(log),
    }
}

/// Moves migrated rows to their new keys in the log too: a later change of
/// such a row would otherwise leave its old record to come back beside it.
fn append_moved(
    journal: &dyn Journal,
    state: &mut State,
    moved: &[Moved],
) -> Result<usize, OpenStoreError> {
    state.revision += 1;
    let mut frame = FrameWriter::new(state.revision);
    frame.transaction(2 * moved.len(), |out| {
        // All deletions first: one row's new key may be another's old one.
        for Moved { table, from, .. } in moved {
            let kind = &state.schema.kinds()[*table];
            frame::push_delete(out, kind.name, kind.version, from);
        }
        for Moved { table, to, .. } in moved {
            let kind = &state.schema.kinds()[*table];
            let Some(row) = state.row(*table, to) else { continue };
            frame::push_put(out, kind.name, kind.version, to, |out| {
                (kind.encode)(row, out)
            })
            .map_err(|source| row_error(kind, to, source))?;
        }
        Ok(())
    })?;
    let frame = frame.finish();
    journal.append(state.revision, &frame).map_err(OpenStoreError::Journal)?;
    Ok(frame.len())
}
