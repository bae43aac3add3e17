//! Versions and their labels: ListSecretVersionIds, UpdateSecretVersionStage.

use minato_wire::ApiError;
use minato_wire::secretsmanager::{
    ListSecretVersionIdsRequest, ListSecretVersionIdsResponse,
    SecretVersionsListEntry, UpdateSecretVersionStageRequest,
    UpdateSecretVersionStageResponse, error,
};

use super::rows::{CURRENT, PREVIOUS, SecretRow, Version};
use super::{list, lookup, values};
use crate::context::{Context, Scope};

/// Versions on a page, by default and at most.
const PAGE: usize = 100;

pub(super) async fn list_secret_version_ids(
    cx: &Context,
    scope: &Scope,
    input: ListSecretVersionIdsRequest,
) -> Result<ListSecretVersionIdsResponse, ApiError> {
    let id = input.secret_id.unwrap_or_default();
    let row = lookup::any(&cx.snapshot(), scope, &id)?;
    let all = input.include_deprecated.unwrap_or(false);
    let found: Vec<_> = row
        .versions
        .iter()
        .filter(|(_, version)| all || !version.stages.is_empty())
        .collect();
    let size = list::size(input.max_results, PAGE);
    let token = input.next_token.as_deref();
    let (page, next_token) = list::page(found, size, token)?;
    let entry = |(id, version): (&String, &Version)| {
        let stages = version.stages.iter().cloned().collect();
        let key = row.kms_key_id.clone();
        SecretVersionsListEntry {
            version_id: Some(id.clone()),
            version_stages: Some(stages),
            last_accessed_date: version.accessed_at,
            created_date: Some(version.created_at),
            kms_key_ids: Some(vec![
                key.unwrap_or_else(|| "DefaultEncryptionKey".to_owned()),
            ]),
        }
    };
    Ok(ListSecretVersionIdsResponse {
        versions: Some(page.into_iter().map(entry).collect()),
        next_token,
        arn: Some(row.arn()),
        name: Some(row.name.clone()),
    })
}

pub(super) async fn update_secret_version_stage(
    cx: &Context,
    scope: &Scope,
    input: UpdateSecretVersionStageRequest,
) -> Result<UpdateSecretVersionStageResponse, ApiError> {
    let stage = input.version_stage.unwrap_or_default();
    let (from, to) = (input.remove_from_version_id, input.move_to_version_id);
    lookup::change(cx, scope, input.secret_id, move |row| {
        relabel(row, &stage, from.as_deref(), to.as_deref())?;
        Ok(UpdateSecretVersionStageResponse {
            arn: Some(row.arn()),
            name: Some(row.name.clone()),
        })
    })
    .await
}

fn relabel(
    row: &mut SecretRow,
    stage: &str,
    from: Option<&str>,
    to: Option<&str>,
) -> Result<(), ApiError> {
    for id in [from, to].into_iter().flatten() {
        if !row.versions.contains_key(id) {
            return Err(error::resource_not_found_exception(format!(
                "Secrets Manager can't find the specified secret value for \
                 VersionId: {id}"
            )));
        }
    }
    let holder = row.staged(stage).map(|(id, _)| id.clone());
    if let Some(holder) = holder.as_deref()
        && from != Some(holder)
        && to != Some(holder)
    {
        return Err(error::invalid_parameter_exception(format!(
            "The parameter RemoveFromVersionId can't be empty. Staging label \
             {stage} is currently attached to version {holder}, so you must \
             explicitly reference that version in RemoveFromVersionId."
        )));
    }
    if let Some(from) = from
        && holder.as_deref() != Some(from)
    {
        return Err(error::invalid_parameter_exception(format!(
            "Staging label {stage} is not attached to version {from}."
        )));
    }
    match (from, to) {
        (_, Some(to)) if stage == PREVIOUS && row.is_current(to) => {
            Err(error::invalid_parameter_exception(
                "The version with staging label AWSCURRENT can't be \
                 AWSPREVIOUS.",
            ))
        }
        (_, Some(to)) => {
            row.label(stage, to);
            values::check_labels(row)
        }
        (Some(_), None) if stage == CURRENT => {
            Err(error::invalid_parameter_exception(
                "You can only move staging label AWSCURRENT to a different \
                 secret version. It can't be completely removed.",
            ))
        }
        (Some(from), None) => {
            if let Some(version) = row.versions.get_mut(from) {
                version.stages.remove(stage);
            }
            Ok(())
        }
        (None, None) => Err(error::invalid_parameter_exception(
            "You must specify MoveToVersionId, RemoveFromVersionId or both.",
        )),
    }
}
