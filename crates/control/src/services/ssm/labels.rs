//! LabelParameterVersion and UnlabelParameterVersion.

use minato_wire::ApiError;
use minato_wire::ssm::{
    LabelParameterVersionRequest, LabelParameterVersionResult,
    UnlabelParameterVersionRequest, UnlabelParameterVersionResult, error,
};

use super::rows::{ParameterRow, ParameterVersion};
use super::{names, no_such_parameter};
use crate::context::{Context, Scope};

/// Labels of one version (API reference, LabelParameterVersion).
const MAX_LABELS: usize = 10;
/// Characters of a label (likewise).
const MAX_LABEL_LENGTH: usize = 100;

pub(super) async fn label_parameter_version(
    cx: &Context,
    scope: &Scope,
    input: LabelParameterVersionRequest,
) -> Result<LabelParameterVersionResult, ApiError> {
    let number = input.parameter_version;
    let labels = input.labels.unwrap_or_default();
    let (labels, invalid): (Vec<String>, Vec<String>) =
        labels.into_iter().partition(|label| is_label(label));
    change(cx, scope, input.name, move |row| {
        let number = number.unwrap_or(row.newest.number);
        // Whether there is such a version comes before what moves to it.
        version_mut(row, number)?;
        for version in row.versions_mut() {
            if version.number != number {
                version.labels.retain(|label| !labels.contains(label));
            }
        }
        let version = version_mut(row, number)?;
        for label in labels {
            if !version.labels.contains(&label) {
                version.labels.push(label);
            }
        }
        if version.labels.len() > MAX_LABELS {
            return Err(error::parameter_version_label_limit_exceeded(
                format!(
                    "A parameter version can have a maximum of {MAX_LABELS} \
                     labels."
                ),
            ));
        }
        Ok(LabelParameterVersionResult {
            invalid_labels: Some(invalid),
            parameter_version: Some(number),
        })
    })
    .await
}

pub(super) async fn unlabel_parameter_version(
    cx: &Context,
    scope: &Scope,
    input: UnlabelParameterVersionRequest,
) -> Result<UnlabelParameterVersionResult, ApiError> {
    let number = input.parameter_version.unwrap_or_default();
    let labels = input.labels.unwrap_or_default();
    change(cx, scope, input.name, move |row| {
        let version = version_mut(row, number)?;
        let (removed, invalid): (Vec<String>, Vec<String>) =
            labels.into_iter().partition(|one| version.labels.contains(one));
        version.labels.retain(|label| !removed.contains(label));
        Ok(UnlabelParameterVersionResult {
            removed_labels: Some(removed),
            invalid_labels: Some(invalid),
        })
    })
    .await
}

/// Whether a text has the form of a label: none begins like a version number
/// or a name that AWS keeps for itself.
fn is_label(text: &str) -> bool {
    let is_allowed =
        |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let has_digit = text.starts_with(|first: char| first.is_ascii_digit());
    (1..=MAX_LABEL_LENGTH).contains(&text.len())
        && text.bytes().all(is_allowed)
        && !has_digit
        && !names::has_head(text, "aws")
        && !names::has_head(text, "ssm")
}

fn version_mut(
    row: &mut ParameterRow,
    number: i64,
) -> Result<&mut ParameterVersion, ApiError> {
    let missing = names::no_such_version(&row.name, &number.to_string());
    let mut versions = row.versions_mut();
    versions.find(|version| version.number == number).ok_or(missing)
}

/// Changes a parameter, all or not at all.
async fn change<T, F>(
    cx: &Context,
    scope: &Scope,
    name: Option<String>,
    change: F,
) -> Result<T, ApiError>
where
    T: Send + 'static,
    F: FnOnce(&mut ParameterRow) -> Result<T, ApiError> + Send + 'static,
{
    let name = name.unwrap_or_default();
    let name = names::checked(&name)?;
    let key = ParameterRow::key_of(&scope.account, &scope.region, name);
    cx.transact(move |tx| {
        let row = tx.get::<ParameterRow>(&key).ok_or_else(no_such_parameter)?;
        let mut row = ParameterRow::clone(&row);
        let done = change(&mut row)?;
        tx.put(row);
        Ok(done)
    })
    .await
}
