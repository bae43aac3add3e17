//! Values: GetSecretValue, BatchGetSecretValue, PutSecretValue.

use std::collections::BTreeSet;
use std::sync::Arc;

use minato_wire::secretsmanager::{
    APIErrorType, BatchGetSecretValueRequest, BatchGetSecretValueResponse,
    GetSecretValueRequest, GetSecretValueResponse, PutSecretValueRequest,
    PutSecretValueResponse, SecretValueEntry, error,
};
use minato_wire::{ApiError, Blob, Timestamp};

use super::rows::{CURRENT, DAY_MS, SecretRow, Version};
use super::{list, lookup, not_opened, not_sealed};
use crate::context::{Context, Scope};
use crate::seal::SealKey;

/// Most bytes of a value (quotas, "Secret value size").
const VALUE_MAX_BYTES: usize = 65_536;
/// Most labels on all versions of a secret together (quotas).
const LABELS_MAX: usize = 20;
/// Most versions of a secret (quotas).
const VERSIONS_MAX: usize = 100;

/// A value as a call brings it.
#[derive(Clone)]
pub(super) enum Value {
    Text(String),
    Binary(Blob),
}

impl Value {
    /// What a call gives: one, or none.
    pub(super) fn of(
        text: Option<String>,
        binary: Option<Blob>,
    ) -> Result<Option<Value>, ApiError> {
        let value = match (text, binary) {
            (Some(_), Some(_)) => {
                return Err(error::invalid_parameter_exception(
                    "You can't specify both a binary secret value and a \
                     string secret value in the same secret.",
                ));
            }
            (Some(text), None) => Value::Text(text),
            (None, Some(binary)) => Value::Binary(binary),
            (None, None) => return Ok(None),
        };
        if value.bytes().len() > VALUE_MAX_BYTES {
            return Err(error::invalid_parameter_exception(format!(
                "The secret value can't be longer than {VALUE_MAX_BYTES} \
                 bytes."
            )));
        }
        Ok(Some(value))
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Value::Text(text) => text.as_bytes(),
            Value::Binary(binary) => &binary.0,
        }
    }

    fn is_binary(&self) -> bool {
        matches!(self, Value::Binary(_))
    }
}

/// The version id of a call: its token, or a new one.
pub(super) fn token(cx: &Context, given: Option<String>) -> String {
    given.unwrap_or_else(|| {
        let id = format!("{:032x}", cx.ids.uuid());
        let parts = [&id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]];
        parts.join("-")
    })
}

/// Adds a version, or finds that the same call added it before. A secret's
/// first version is the current one, whatever its labels.
pub(super) fn add(
    row: &mut SecretRow,
    key: &SealKey,
    id: &str,
    value: &Value,
    stages: &BTreeSet<String>,
    now: Timestamp,
) -> Result<(), ApiError> {
    let place = row.place(id);
    if let Some(known) = row.versions.get(id) {
        let same =
            key.open(&place, &known.value).map_err(|e| not_opened(&e))?
                == value.bytes();
        if same && known.is_binary == value.is_binary() {
            return Ok(());
        }
        return Err(version_exists());
    }
    let sealed = key.seal(&place, value.bytes()).map_err(|e| not_sealed(&e))?;
    let version = Version {
        value: sealed,
        is_binary: value.is_binary(),
        stages: BTreeSet::new(),
        created_at: now,
        accessed_at: None,
    };
    let is_first = row.versions.is_empty();
    row.versions.insert(id.to_owned(), version);
    if is_first {
        row.label(CURRENT, id);
    }
    for stage in stages {
        row.label(stage, id);
    }
    check_labels(row)?;
    drop_deprecated(row, now);
    if row.versions.len() > VERSIONS_MAX {
        return Err(error::limit_exceeded_exception(format!(
            "A secret can have at most {VERSIONS_MAX} versions. Those without \
             a staging label are removed when they are a day old."
        )));
    }
    Ok(())
}

pub(super) fn version_exists() -> ApiError {
    error::resource_exists_exception(
        "You can't use this ClientRequestToken: the version that it names \
         exists, and a version can't be modified.",
    )
}

pub(super) fn check_labels(row: &SecretRow) -> Result<(), ApiError> {
    let labels = row.versions.values().map(|it| it.stages.len());
    if labels.sum::<usize>() > LABELS_MAX {
        return Err(error::limit_exceeded_exception(format!(
            "The versions of a secret can have at most {LABELS_MAX} staging \
             labels together."
        )));
    }
    Ok(())
}

/// Removes the oldest versions without a label beyond the quota, but none of
/// the last day (API reference, PutSecretValue).
fn drop_deprecated(row: &mut SecretRow, now: Timestamp) {
    while row.versions.len() > VERSIONS_MAX {
        let oldest = row
            .versions
            .iter()
            .filter(|(_, it)| it.stages.is_empty())
            .filter(|(_, it)| it.created_at.plus_millis(DAY_MS) <= now)
            .min_by_key(|(_, it)| it.created_at)
            .map(|(id, _)| id.clone());
        let Some(oldest) = oldest else { return };
        row.versions.remove(&oldest);
    }
}

pub(super) async fn put_secret_value(
    cx: &Context,
    scope: &Scope,
    input: PutSecretValueRequest,
) -> Result<PutSecretValueResponse, ApiError> {
    let value = Value::of(input.secret_string, input.secret_binary)?
        .ok_or_else(|| {
            error::invalid_request_exception(
                "You must provide either SecretString or SecretBinary.",
            )
        })?;
    if input.rotation_token.is_some() {
        return Err(error::invalid_parameter_exception(
            "Minato runs no rotation functions, so no rotation token is valid.",
        ));
    }
    let stages: BTreeSet<String> = input
        .version_stages
        .unwrap_or_else(|| vec![CURRENT.to_owned()])
        .into_iter()
        .collect();
    let id = token(cx, input.client_request_token);
    let (key, now) = (cx.config.seal_key.clone(), scope.now);
    lookup::change(cx, scope, input.secret_id, move |row| {
        add(row, &key, &id, &value, &stages, now)?;
        let kept = row.versions.get(&id).map(|it| it.stages.iter());
        Ok(PutSecretValueResponse {
            arn: Some(row.arn()),
            name: Some(row.name.clone()),
            version_stages: kept.map(|stages| stages.cloned().collect()),
            version_id: Some(id),
        })
    })
    .await
}

/// The version that a call means.
fn pick<'a>(
    row: &'a SecretRow,
    id: Option<&str>,
    stage: Option<&str>,
) -> Result<(&'a String, &'a Version), ApiError> {
    let missing = |what: String| {
        error::resource_not_found_exception(format!(
            "Secrets Manager can't find the specified secret value for {what}"
        ))
    };
    let Some(id) = id else {
        let stage = stage.unwrap_or(CURRENT);
        let found = row.staged(stage);
        return found.ok_or_else(|| missing(format!("staging label: {stage}")));
    };
    let found = row.versions.get_key_value(id);
    let found = found.ok_or_else(|| missing(format!("VersionId: {id}")))?;
    if stage.is_some_and(|stage| !found.1.stages.contains(stage)) {
        return Err(error::invalid_request_exception(
            "You provided a VersionStage that is not associated to the \
             provided VersionId.",
        ));
    }
    Ok(found)
}

fn read(
    cx: &Context,
    row: &SecretRow,
    id: Option<&str>,
    stage: Option<&str>,
) -> Result<SecretValueEntry, ApiError> {
    let (id, version) = pick(row, id, stage)?;
    let value = cx
        .config
        .seal_key
        .open(&row.place(id), &version.value)
        .map_err(|e| not_opened(&e))?;
    let (text, binary) = if version.is_binary {
        (None, Some(Blob(value)))
    } else {
        (Some(String::from_utf8_lossy(&value).into_owned()), None)
    };
    Ok(SecretValueEntry {
        arn: Some(row.arn()),
        name: Some(row.name.clone()),
        version_id: Some(id.clone()),
        secret_binary: binary,
        secret_string: text,
        version_stages: Some(version.stages.iter().cloned().collect()),
        created_date: Some(version.created_at),
    })
}

/// Notes the day of a read, where it is news. The secret may be deleted by
/// now: it was there when it was read.
async fn touch(
    cx: &Context,
    scope: &Scope,
    row: &SecretRow,
    version: Option<&String>,
) -> Result<(), ApiError> {
    let version = version.cloned().unwrap_or_default();
    if row.is_touched(&version, scope.now) {
        return Ok(());
    }
    let (scope, arn) = (scope.clone(), row.arn());
    cx.transact(move |tx| {
        if let Ok(known) = lookup::secret(tx, &scope, &arn) {
            let mut row = SecretRow::clone(&known);
            row.touch(&version, scope.now);
            tx.put(row);
        }
        Ok(())
    })
    .await
}

pub(super) async fn get_secret_value(
    cx: &Context,
    scope: &Scope,
    input: GetSecretValueRequest,
) -> Result<GetSecretValueResponse, ApiError> {
    let id = input.secret_id.unwrap_or_default();
    let row = lookup::secret(&cx.snapshot(), scope, &id)?;
    let (version, stage) =
        (input.version_id.as_deref(), input.version_stage.as_deref());
    let found = read(cx, &row, version, stage)?;
    touch(cx, scope, &row, found.version_id.as_ref()).await?;
    Ok(GetSecretValueResponse {
        arn: found.arn,
        name: found.name,
        version_id: found.version_id,
        secret_binary: found.secret_binary,
        secret_string: found.secret_string,
        version_stages: found.version_stages,
        created_date: found.created_date,
    })
}

/// Values on a page, by default and at most (API reference).
const PAGE: usize = 20;

pub(super) async fn batch_get_secret_value(
    cx: &Context,
    scope: &Scope,
    input: BatchGetSecretValueRequest,
) -> Result<BatchGetSecretValueResponse, ApiError> {
    let snapshot = cx.snapshot();
    let mut taken = vec![];
    let mut errors = vec![];
    let mut take = |id: &str, row: Result<Arc<SecretRow>, ApiError>| match row
        .and_then(|row| Ok((read(cx, &row, None, None)?, row)))
    {
        Ok(value) => taken.push(value),
        Err(e) => errors.push(APIErrorType {
            secret_id: Some(id.to_owned()),
            error_code: Some(e.code().to_owned()),
            message: Some(e.message().to_owned()),
        }),
    };
    let next_token = match (input.secret_id_list, input.filters) {
        (Some(ids), None) => {
            if input.max_results.is_some() || input.next_token.is_some() {
                return Err(error::invalid_parameter_exception(
                    "MaxResults and NextToken go with Filters only.",
                ));
            }
            for id in &ids {
                take(id, lookup::secret(&snapshot, scope, id));
            }
            None
        }
        (None, Some(filters)) => {
            let found = list::found(&snapshot, scope, &filters, false);
            let size = list::size(input.max_results, PAGE);
            let token = input.next_token.as_deref();
            let (page, next) = list::page(found, size, token)?;
            for row in page {
                take(&row.arn(), Ok(row.clone()));
            }
            next
        }
        (Some(_), Some(_)) | (None, None) => {
            return Err(error::invalid_parameter_exception(
                "You must include Filters or SecretIdList, but not both.",
            ));
        }
    };
    let mut values = vec![];
    for (value, row) in taken {
        touch(cx, scope, &row, value.version_id.as_ref()).await?;
        values.push(value);
    }
    Ok(BatchGetSecretValueResponse {
        secret_values: Some(values),
        next_token,
        errors: Some(errors),
    })
}
