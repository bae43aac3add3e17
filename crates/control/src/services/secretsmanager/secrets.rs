//! Secrets themselves: create, describe, update, delete, restore, tags.

use std::collections::{BTreeMap, BTreeSet};

use minato_store::Row as _;
use minato_wire::secretsmanager::{
    CreateSecretRequest, CreateSecretResponse, DeleteSecretRequest,
    DeleteSecretResponse, DescribeSecretRequest, DescribeSecretResponse,
    RestoreSecretRequest, RestoreSecretResponse, Tag, TagResourceRequest,
    UntagResourceRequest, UpdateSecretRequest, UpdateSecretResponse, error,
};
use minato_wire::{ApiError, Timestamp};

use super::rows::{CURRENT, DAY_MS, SecretRow};
use super::values::{self, Value};
use super::{lookup, rotation};
use crate::context::{Context, Scope};
use crate::services::Empty;

/// Tags on one secret (quotas).
const TAGS_MAX: usize = 50;
/// Days until a deleted secret is gone: the default and the bounds.
const RECOVERY_DAYS: i64 = 30;
const RECOVERY_RANGE: std::ops::RangeInclusive<i64> = 7..=30;
/// Characters at the end of an ARN.
const SUFFIX_LENGTH: usize = 6;

type Tags = BTreeMap<String, String>;

pub(super) async fn create_secret(
    cx: &Context,
    scope: &Scope,
    input: CreateSecretRequest,
) -> Result<CreateSecretResponse, ApiError> {
    let name = input.name.unwrap_or_default();
    check_name(&name)?;
    check_type(input.r#type.as_deref())?;
    if input.add_replica_regions.is_some_and(|regions| !regions.is_empty()) {
        return Err(error::invalid_request_exception(
            "Minato does not replicate secrets: a secret lives in one region \
             here.",
        ));
    }
    let value = Value::of(input.secret_string, input.secret_binary)?;
    let tags = tags_of(input.tags)?;
    let id = values::token(cx, input.client_request_token);
    let row = SecretRow {
        account: scope.account.clone(),
        region: scope.region.clone(),
        name,
        suffix: suffix(cx.ids.uuid()),
        description: input.description,
        kms_key_id: input.kms_key_id,
        tags,
        versions: BTreeMap::new(),
        rotation: None,
        policy: None,
        created_at: scope.now,
        changed_at: scope.now,
        accessed_at: None,
        deleted_at: None,
        gone_at: None,
    };
    let (key, now) = (cx.config.seal_key.clone(), scope.now);
    cx.transact(move |tx| {
        let known = tx
            .get::<SecretRow>(&row.key())
            .filter(|known| !lookup::is_gone(known, now));
        let mut row = match known {
            Some(known) => again(&known, &row, &id, value.is_some())?,
            None => row,
        };
        if let Some(value) = &value {
            let stages = BTreeSet::from([CURRENT.to_owned()]);
            values::add(&mut row, &key, &id, value, &stages, now)?;
        }
        let answer = CreateSecretResponse {
            arn: Some(row.arn()),
            name: Some(row.name.clone()),
            version_id: value.is_some().then_some(id),
            replication_status: None,
        };
        tx.put(row);
        Ok(answer)
    })
    .await
}

/// The secret that the same call made before, if it is one.
fn again(
    known: &SecretRow,
    wanted: &SecretRow,
    id: &str,
    has_value: bool,
) -> Result<SecretRow, ApiError> {
    if known.gone_at.is_some() {
        return Err(error::invalid_request_exception(
            "You can't create this secret because a secret with this name is \
             already scheduled for deletion.",
        ));
    }
    let is_same = has_value
        && known.versions.contains_key(id)
        && known.description == wanted.description
        && known.kms_key_id == wanted.kms_key_id;
    if !is_same {
        let name = &known.name;
        return Err(error::resource_exists_exception(format!(
            "The operation failed because the secret {name} already exists."
        )));
    }
    Ok(known.clone())
}

/// Letters and digits, as AWS's suffixes.
fn suffix(number: u128) -> String {
    const DIGITS: &[u8; 62] =
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut rest = number;
    (0..SUFFIX_LENGTH)
        .map(|_| {
            let digit = usize::try_from(rest % 62).unwrap_or_default();
            rest /= 62;
            char::from(DIGITS[digit])
        })
        .collect()
}

fn check_name(name: &str) -> Result<(), ApiError> {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || "/_+=.@!-".contains(c);
    if name.is_empty() || !name.chars().all(is_fine) {
        return Err(error::invalid_parameter_exception(
            "Invalid name. Must be a valid name containing alphanumeric \
             characters, or any of the following: -/_+=.@!",
        ));
    }
    Ok(())
}

fn check_type(given: Option<&str>) -> Result<(), ApiError> {
    match given {
        None => Ok(()),
        Some(_) => Err(error::invalid_parameter_exception(
            "Minato has no partners' managed external secrets, so a secret \
             has no Type.",
        )),
    }
}

fn tags_of(given: Option<Vec<Tag>>) -> Result<Tags, ApiError> {
    let mut tags = Tags::new();
    for Tag { key, value } in given.into_iter().flatten() {
        let key = key.unwrap_or_default();
        let head = key.get(..4).unwrap_or_default();
        if key.is_empty() || head.eq_ignore_ascii_case("aws:") {
            return Err(error::invalid_parameter_exception(
                "A tag key can't be empty or begin with aws:, which is \
                 reserved.",
            ));
        }
        tags.insert(key, value.unwrap_or_default());
    }
    check_tags(&tags)?;
    Ok(tags)
}

fn check_tags(tags: &Tags) -> Result<(), ApiError> {
    if tags.len() > TAGS_MAX {
        return Err(error::invalid_parameter_exception(format!(
            "A secret can have at most {TAGS_MAX} tags."
        )));
    }
    Ok(())
}

pub(super) fn shown_tags(tags: &Tags) -> Vec<Tag> {
    let shown = |(key, value): (&String, &String)| Tag {
        key: Some(key.clone()),
        value: Some(value.clone()),
    };
    tags.iter().map(shown).collect()
}

pub(super) async fn describe_secret(
    cx: &Context,
    scope: &Scope,
    input: DescribeSecretRequest,
) -> Result<DescribeSecretResponse, ApiError> {
    let id = input.secret_id.unwrap_or_default();
    let row = lookup::any(&cx.snapshot(), scope, &id)?;
    let rotation = row.rotation.as_ref();
    Ok(DescribeSecretResponse {
        arn: Some(row.arn()),
        name: Some(row.name.clone()),
        description: row.description.clone(),
        kms_key_id: row.kms_key_id.clone(),
        rotation_enabled: rotation.map(|it| it.is_enabled),
        rotation_lambda_arn: rotation.map(|it| it.lambda_arn.clone()),
        rotation_rules: rotation.and_then(|it| it.rules.clone()),
        last_changed_date: Some(row.changed_at),
        last_accessed_date: row.accessed_at,
        deleted_date: row.deleted_at,
        next_rotation_date: rotation.and_then(rotation::next),
        tags: Some(shown_tags(&row.tags)),
        version_ids_to_stages: Some(row.stages())
            .filter(|stages| !stages.is_empty()),
        created_date: Some(row.created_at),
        ..DescribeSecretResponse::default()
    })
}

pub(super) async fn update_secret(
    cx: &Context,
    scope: &Scope,
    input: UpdateSecretRequest,
) -> Result<UpdateSecretResponse, ApiError> {
    check_type(input.r#type.as_deref())?;
    let value = Value::of(input.secret_string, input.secret_binary)?;
    let id = values::token(cx, input.client_request_token);
    let (description, kms_key_id) = (input.description, input.kms_key_id);
    let (key, now) = (cx.config.seal_key.clone(), scope.now);
    lookup::change(cx, scope, input.secret_id, move |row| {
        if let Some(description) = description {
            row.description = Some(description).filter(|text| !text.is_empty());
        }
        if let Some(kms_key_id) = kms_key_id {
            row.kms_key_id = Some(kms_key_id).filter(|id| !id.is_empty());
        }
        if let Some(value) = &value {
            // Unlike PutSecretValue (API reference, UpdateSecret).
            if row.versions.contains_key(&id) {
                return Err(values::version_exists());
            }
            let stages = BTreeSet::from([CURRENT.to_owned()]);
            values::add(row, &key, &id, value, &stages, now)?;
        }
        Ok(UpdateSecretResponse {
            arn: Some(row.arn()),
            name: Some(row.name.clone()),
            version_id: value.is_some().then_some(id),
        })
    })
    .await
}

/// When a deleted secret is gone for good.
fn gone_at(
    input: &DeleteSecretRequest,
    now: Timestamp,
) -> Result<Timestamp, ApiError> {
    let is_forced = input.force_delete_without_recovery.unwrap_or(false);
    match input.recovery_window_in_days {
        Some(_) if is_forced => Err(error::invalid_parameter_exception(
            "You can't use ForceDeleteWithoutRecovery in conjunction with \
             RecoveryWindowInDays.",
        )),
        None if is_forced => Ok(now),
        given => {
            let days = given.unwrap_or(RECOVERY_DAYS);
            if !RECOVERY_RANGE.contains(&days) {
                return Err(error::invalid_parameter_exception(
                    "The RecoveryWindowInDays value must be between 7 and 30 \
                     days (inclusive).",
                ));
            }
            Ok(now.plus_millis(days * DAY_MS))
        }
    }
}

pub(super) async fn delete_secret(
    cx: &Context,
    scope: &Scope,
    input: DeleteSecretRequest,
) -> Result<DeleteSecretResponse, ApiError> {
    let gone = gone_at(&input, scope.now)?;
    let is_forced = gone <= scope.now;
    let scope = scope.clone();
    cx.transact(move |tx| {
        let id = input.secret_id.unwrap_or_default();
        let known = match lookup::any(tx, &scope, &id) {
            Err(_) if is_forced => return Ok(never_there(id, gone)),
            known => known?,
        };
        let mut row = SecretRow::clone(&known);
        if row.gone_at.is_some() && !is_forced {
            return Err(error::invalid_request_exception(
                "You can't perform this operation on the secret because it \
                 was already scheduled for deletion.",
            ));
        }
        let answer = DeleteSecretResponse {
            arn: Some(row.arn()),
            name: Some(row.name.clone()),
            deletion_date: Some(gone),
        };
        if is_forced {
            tx.delete::<SecretRow>(&row.key());
        } else {
            row.changed_at = scope.now;
            row.deleted_at = Some(scope.now);
            row.gone_at = Some(gone);
            tx.put(row);
        }
        Ok(answer)
    })
    .await
}

/// The answer to a forced deletion of what is not there, so that the call can
/// be sent again (API reference, ForceDeleteWithoutRecovery).
fn never_there(id: String, now: Timestamp) -> DeleteSecretResponse {
    let is_arn = id.starts_with("arn:");
    let (arn, name) = if is_arn { (Some(id), None) } else { (None, Some(id)) };
    DeleteSecretResponse { arn, name, deletion_date: Some(now) }
}

pub(super) async fn restore_secret(
    cx: &Context,
    scope: &Scope,
    input: RestoreSecretRequest,
) -> Result<RestoreSecretResponse, ApiError> {
    let scope = scope.clone();
    cx.transact(move |tx| {
        let id = input.secret_id.unwrap_or_default();
        let row = lookup::any(tx, &scope, &id)?;
        let answer = RestoreSecretResponse {
            arn: Some(row.arn()),
            name: Some(row.name.clone()),
        };
        if row.gone_at.is_some() {
            let mut row = SecretRow::clone(&row);
            row.changed_at = scope.now;
            row.deleted_at = None;
            row.gone_at = None;
            tx.put(row);
        }
        Ok(answer)
    })
    .await
}

pub(super) async fn tag_resource(
    cx: &Context,
    scope: &Scope,
    input: TagResourceRequest,
) -> Result<Empty, ApiError> {
    let tags = tags_of(input.tags)?;
    lookup::change(cx, scope, input.secret_id, move |row| {
        row.tags.extend(tags);
        check_tags(&row.tags)?;
        Ok(Empty {})
    })
    .await
}

pub(super) async fn untag_resource(
    cx: &Context,
    scope: &Scope,
    input: UntagResourceRequest,
) -> Result<Empty, ApiError> {
    let keys = input.tag_keys.unwrap_or_default();
    lookup::change(cx, scope, input.secret_id, move |row| {
        row.tags.retain(|key, _| !keys.contains(key));
        Ok(Empty {})
    })
    .await
}
