//! GetParameter, GetParameters, GetParametersByPath: values.

use std::collections::BTreeSet;
use std::sync::Arc;

use minato_wire::ApiError;
use minato_wire::ssm::{
    GetParameterRequest, GetParameterResult, GetParametersByPathRequest,
    GetParametersByPathResult, GetParametersRequest, GetParametersResult,
    Parameter, ParameterType,
};
use serde_json::Value;

use super::filter::{self, Filter, Of};
use super::page::Start;
use super::rows::{ParameterRow, ParameterVersion};
use super::{broken, invalid, names, not_sealed};
use crate::context::{Context, Scope};
use crate::seal::SealKey;

pub(super) async fn get_parameter(
    cx: &Context,
    scope: &Scope,
    input: GetParameterRequest,
) -> Result<GetParameterResult, ApiError> {
    let name = input.name.unwrap_or_default();
    let found = names::find(&cx.snapshot(), scope, &name)?;
    let view = View::of(cx, input.with_decryption);
    let parameter = view.show(&found.row, found.version()?, found.selector)?;
    Ok(GetParameterResult { parameter: Some(parameter) })
}

pub(super) async fn get_parameters(
    cx: &Context,
    scope: &Scope,
    input: GetParametersRequest,
) -> Result<GetParametersResult, ApiError> {
    let names = input.names.unwrap_or_default();
    let mut seen = BTreeSet::new();
    if let Some(twice) = names.iter().find(|name| !seen.insert(name.trim())) {
        return Err(invalid(format!(
            "The list of names has {} more than once.",
            twice.trim()
        )));
    }
    let view = View::of(cx, input.with_decryption);
    let snapshot = cx.snapshot();
    let (mut parameters, mut missing) = (vec![], vec![]);
    for name in &names {
        let found = match names::find(&snapshot, scope, name) {
            Ok(found) => found,
            Err(error) if is_missing(&error) => {
                missing.push(name.clone());
                continue;
            }
            Err(error) => return Err(error),
        };
        match found.version() {
            Ok(version) => {
                let selector = found.selector;
                parameters.push(view.show(&found.row, version, selector)?);
            }
            Err(_) => missing.push(name.clone()),
        }
    }
    // "listed in alphabetical order" (API reference, GetParameters).
    parameters.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(GetParametersResult {
        parameters: Some(parameters),
        invalid_parameters: Some(missing),
    })
}

fn is_missing(error: &ApiError) -> bool {
    error.code() == "ParameterNotFound"
}

/// Parameters on a page, by default and at most (API model,
/// GetParametersByPathMaxResults).
const PAGE: usize = 10;

pub(super) async fn get_parameters_by_path(
    cx: &Context,
    scope: &Scope,
    input: GetParametersByPathRequest,
) -> Result<GetParametersByPathResult, ApiError> {
    let path = input.path.unwrap_or_default();
    let path = names::checked_path(&path).ok_or_else(|| {
        invalid(
            "The parameter doesn't meet the parameter name requirements. The \
             parameter name must begin with a forward slash \"/\". It can't \
             be prefixed with \"aws\" or \"ssm\" (case-insensitive). It must \
             use only letters, numbers, or the following symbols: . \
             (period), - (hyphen), _ (underscore). Special characters are \
             not allowed. All sub-paths, if specified, must use the forward \
             slash symbol \"/\". Valid example: \
             /get/parameters2-/by1./path0_.",
        )
    })?;
    let recursive = input.recursive.unwrap_or(false);
    let filters =
        filter::checked(Of::GetParametersByPath, input.parameter_filters)?;
    let start = Start {
        list: "path",
        most: PAGE,
        max_results: input.max_results,
        token: input.next_token.as_deref(),
    };
    let page = start.of_parameters(&cx.snapshot(), scope, |row| {
        let is_shown = names::is_in(&row.name, path, recursive)
            && filters.iter().all(|filter| filter.fits(row));
        is_shown.then(|| Arc::clone(row))
    })?;
    let view = View::of(cx, input.with_decryption);
    let shown = page.items.iter().map(|row| {
        let (version, label) = labelled(row, &filters);
        view.show(row, version, label)
    });
    Ok(GetParametersByPathResult {
        parameters: Some(shown.collect::<Result<_, ApiError>>()?),
        next_token: page.next_token,
    })
}

/// The newest version that has a label asked for, and the label; without
/// such a filter the newest of all.
fn labelled<'a>(
    row: &'a ParameterRow,
    filters: &[Filter],
) -> (&'a ParameterVersion, Option<&'a str>) {
    let label_of = |version: &'a ParameterVersion| {
        let label = filters.iter().find_map(|one| one.label_of(version))?;
        Some((version, Some(label)))
    };
    row.versions().rev().find_map(label_of).unwrap_or((&row.newest, None))
}

/// How values are shown to a caller.
pub(super) struct View<'a> {
    seal_key: &'a SealKey,
    with_decryption: bool,
}

impl View<'_> {
    pub(super) fn of(cx: &Context, with_decryption: Option<bool>) -> View<'_> {
        View {
            seal_key: &cx.config.seal_key,
            with_decryption: with_decryption.unwrap_or(false),
        }
    }

    fn show(
        &self,
        row: &ParameterRow,
        version: &ParameterVersion,
        selector: Option<&str>,
    ) -> Result<Parameter, ApiError> {
        Ok(Parameter {
            name: Some(row.name.clone()),
            r#type: Some(version.r#type),
            value: Some(self.value(row, version)?),
            version: Some(version.number),
            selector: selector.map(|selector| format!(":{selector}")),
            source_result: None,
            last_modified_date: Some(version.modified_at),
            arn: Some(row.arn()),
            data_type: Some(version.data_type.clone()),
        })
    }

    /// The value; that of a SecureString as it is kept, unless decryption is
    /// asked for.
    pub(super) fn value(
        &self,
        row: &ParameterRow,
        version: &ParameterVersion,
    ) -> Result<String, ApiError> {
        let in_clear = match version.r#type {
            ParameterType::SecureString => self.with_decryption,
            ParameterType::String | ParameterType::StringList => true,
        };
        if !in_clear {
            return base64(version);
        }
        let place = row.place(version.number);
        let value = self.seal_key.open(&place, &version.value);
        let value = value.map_err(|e| not_sealed(&e))?;
        // The error would carry the value.
        String::from_utf8(value)
            .map_err(|_| broken("a value is not text".to_owned()))
    }
}

fn base64(version: &ParameterVersion) -> Result<String, ApiError> {
    match serde_json::to_value(version.value.ciphertext()) {
        Ok(Value::String(text)) => Ok(text),
        Ok(_) | Err(_) => Err(broken("a blob is not text".to_owned())),
    }
}
