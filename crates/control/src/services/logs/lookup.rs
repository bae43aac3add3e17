//! Finding groups and streams by what callers name them.

use std::sync::Arc;

use minato_store::{Snapshot, Tx};
use minato_wire::ApiError;
use minato_wire::logs::error;

use super::rows::{LogGroupRow, LogStreamRow};
use crate::context::Scope;

pub(super) fn no_such_group() -> ApiError {
    error::resource_not_found_exception(
        "The specified log group does not exist.",
    )
}

pub(super) fn no_such_stream() -> ApiError {
    error::resource_not_found_exception(
        "The specified log stream does not exist.",
    )
}

/// A group by name, as it is now.
pub(super) fn group(
    snapshot: &Snapshot,
    scope: &Scope,
    name: &str,
) -> Result<Arc<LogGroupRow>, ApiError> {
    let key = LogGroupRow::key_of(&scope.account, &scope.region, name);
    snapshot.get(&key).ok_or_else(no_such_group)
}

/// A group by name, within a transaction.
pub(super) fn group_in(
    tx: &Tx,
    scope: &Scope,
    name: &str,
) -> Result<Arc<LogGroupRow>, ApiError> {
    let key = LogGroupRow::key_of(&scope.account, &scope.region, name);
    tx.get(&key).ok_or_else(no_such_group)
}

/// A stream of a group by name.
pub(super) fn stream(
    snapshot: &Snapshot,
    group: &LogGroupRow,
    name: &str,
) -> Result<Arc<LogStreamRow>, ApiError> {
    snapshot.get(&LogStreamRow::key_of(group, name)).ok_or_else(no_such_stream)
}

/// The group that exactly one of the two members names.
pub(super) fn named_group(
    snapshot: &Snapshot,
    scope: &Scope,
    name: Option<&str>,
    identifier: Option<&str>,
) -> Result<Arc<LogGroupRow>, ApiError> {
    let name = match (name, identifier) {
        (Some(name), None) => name,
        (None, Some(identifier)) => group_name(scope, identifier)?,
        (Some(_), Some(_)) | (None, None) => {
            return Err(error::invalid_parameter_exception(
                "Exactly one of logGroupName and logGroupIdentifier must be \
                 specified.",
            ));
        }
    };
    group(snapshot, scope, name)
}

/// The name in a group's name or ARN, `:*` at its end or not.
pub(super) fn group_name<'a>(
    scope: &Scope,
    identifier: &'a str,
) -> Result<&'a str, ApiError> {
    if !identifier.starts_with("arn:") {
        return Ok(identifier);
    }
    let mut parts = identifier.splitn(7, ':').skip(2);
    let service = parts.next();
    let place = (parts.next(), parts.next());
    let kind = parts.next();
    let name = parts.next().unwrap_or_default();
    let name = name.strip_suffix(":*").unwrap_or(name);
    if service != Some("logs")
        || kind != Some("log-group")
        || name.is_empty()
        || name.contains(':')
    {
        return Err(error::invalid_parameter_exception(
            "Invalid log group identifier.",
        ));
    }
    if place != (Some(scope.region.as_str()), Some(scope.account.as_str())) {
        return Err(no_such_group());
    }
    Ok(name)
}
