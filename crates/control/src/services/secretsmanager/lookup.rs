//! Finding a secret by its name, its ARN or the part of it before the
//! suffix.

use std::sync::Arc;

use minato_store::{Snapshot, Tx};
use minato_wire::secretsmanager::error;
use minato_wire::{ApiError, Timestamp};

use super::rows::SecretRow;
use crate::context::{Context, Scope};

pub(super) fn no_such_secret() -> ApiError {
    error::resource_not_found_exception(
        "Secrets Manager can't find the specified secret.",
    )
}

pub(super) fn is_leaving() -> ApiError {
    error::invalid_request_exception(
        "You can't perform this operation on the secret because it was \
         marked for deletion.",
    )
}

/// Reads rows of a snapshot or of a transaction.
pub(super) trait Read {
    fn secret(&self, key: &minato_store::Key) -> Option<Arc<SecretRow>>;
}

impl Read for Snapshot {
    fn secret(&self, key: &minato_store::Key) -> Option<Arc<SecretRow>> {
        self.get(key)
    }
}

impl Read for Tx {
    fn secret(&self, key: &minato_store::Key) -> Option<Arc<SecretRow>> {
        self.get(key)
    }
}

/// The secret of an id, deletion planned or not.
pub(super) fn any(
    rows: &impl Read,
    scope: &Scope,
    id: &str,
) -> Result<Arc<SecretRow>, ApiError> {
    let Scope { account, region, .. } = scope;
    let named = |name: &str| {
        rows.secret(&SecretRow::key_of(account, region, name))
            .filter(|row| !is_gone(row, scope.now))
    };
    let partition = crate::services::partition_of(region);
    let prefix = format!("arn:{partition}:secretsmanager:{region}:{account}:");
    let Some(rest) = id.strip_prefix(&prefix) else {
        // Other regions and accounts are out of reach.
        let found = if id.starts_with("arn:") { None } else { named(id) };
        return found.ok_or_else(no_such_secret);
    };
    let rest = rest.strip_prefix("secret:").unwrap_or_default();
    let whole = rest.rsplit_once('-').and_then(|(name, suffix)| {
        named(name).filter(|row| row.suffix == suffix)
    });
    whole.or_else(|| named(rest)).ok_or_else(no_such_secret)
}

/// The secret of an id, unless it is to be deleted.
pub(super) fn secret(
    rows: &impl Read,
    scope: &Scope,
    id: &str,
) -> Result<Arc<SecretRow>, ApiError> {
    let row = any(rows, scope, id)?;
    if row.gone_at.is_some() { Err(is_leaving()) } else { Ok(row) }
}

/// Whether its recovery window has ended.
pub(super) fn is_gone(row: &SecretRow, now: Timestamp) -> bool {
    row.gone_at.is_some_and(|gone| gone <= now)
}

/// Changes a secret that is not to be deleted, all or not at all, and notes
/// the time if that changed anything.
pub(super) async fn change<T: Send + 'static>(
    cx: &Context,
    scope: &Scope,
    id: Option<String>,
    change: impl FnOnce(&mut SecretRow) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let scope = scope.clone();
    cx.transact(move |tx| {
        let known = secret(tx, &scope, &id.unwrap_or_default())?;
        let mut row = SecretRow::clone(&known);
        let done = change(&mut row)?;
        if row != *known {
            row.changed_at = scope.now;
            tx.put(row);
        }
        Ok(done)
    })
    .await
}
