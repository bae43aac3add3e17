//! Names of parameters, and finding parameters by what callers name them.

use std::sync::Arc;

use minato_store::Snapshot;
use minato_wire::ApiError;
use minato_wire::ssm::error;

use super::rows::{self, ParameterRow, ParameterVersion};
use super::{invalid, no_such_parameter};
use crate::context::Scope;

/// Levels of a hierarchy, the parameter's own name among them (user guide,
/// "Requirements and constraints for parameter names").
const MAX_LEVELS: usize = 15;
/// Characters of a name with the part of the ARN before it (likewise).
const MAX_ARN_LENGTH: usize = 1011;

/// The name for a parameter to be put.
pub(super) fn new_name(scope: &Scope, given: &str) -> Result<String, ApiError> {
    let name = checked(given)?;
    if name.strip_prefix('/').unwrap_or(name).split('/').count() > MAX_LEVELS {
        return Err(error::hierarchy_level_limit_exceeded_exception(format!(
            "A hierarchy can have a maximum of {MAX_LEVELS} levels."
        )));
    }
    let bare = name.strip_prefix('/').unwrap_or(name);
    if ["aws", "ssm"].iter().any(|head| has_head(bare, head)) {
        return Err(invalid(
            "Parameter name: can't be prefixed with \"aws\" or \"ssm\" \
             (case-insensitive).",
        ));
    }
    let arn = rows::arn(&scope.account, &scope.region, name);
    if arn.len() > MAX_ARN_LENGTH {
        return Err(invalid(format!(
            "Parameter name: with the ARN before it, it can have at most \
             {MAX_ARN_LENGTH} characters."
        )));
    }
    Ok(name.to_owned())
}

/// A name without the spaces around it, if it has the form of a name.
pub(super) fn checked(given: &str) -> Result<&str, ApiError> {
    let name = given.trim();
    let bare = name.strip_prefix('/').unwrap_or(name);
    if !bare.split('/').all(is_part) {
        return Err(malformed());
    }
    if bare.contains('/') && bare == name {
        return Err(invalid("Parameter name must be a fully qualified name."));
    }
    Ok(name)
}

/// A path without the slash at its end: empty for the root.
pub(super) fn checked_path(given: &str) -> Option<&str> {
    let path = given.trim();
    let path = path.strip_suffix('/').unwrap_or(path);
    let is_root = given.trim() == "/";
    let is_path =
        path.strip_prefix('/').is_some_and(|path| path.split('/').all(is_part));
    (is_root || is_path).then_some(path)
}

/// Whether a parameter is in a checked path, itself or deeper.
pub(super) fn is_in(name: &str, path: &str, recursive: bool) -> bool {
    // A name without a slash is one at the root: `/x` and `x` have one ARN.
    let rest = match name.starts_with('/') {
        true => name.strip_prefix(path).and_then(|rest| rest.strip_prefix('/')),
        false => path.is_empty().then_some(name),
    };
    rest.is_some_and(|rest| recursive || !rest.contains('/'))
}

/// The same name with the slash at its beginning, or without it: it has the
/// same ARN, so that there cannot be both.
pub(super) fn other_spelling(name: &str) -> Option<String> {
    match name.strip_prefix('/') {
        Some(bare) => (!bare.contains('/')).then(|| bare.to_owned()),
        None => Some(format!("/{name}")),
    }
}

/// Whether a text begins like this, in capitals or not.
pub(super) fn has_head(text: &str, head: &str) -> bool {
    text.get(..head.len()).is_some_and(|text| text.eq_ignore_ascii_case(head))
}

fn is_part(part: &str) -> bool {
    let is_allowed =
        |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    !part.is_empty() && part.bytes().all(is_allowed)
}

fn malformed() -> ApiError {
    invalid(
        "Parameter name: can't be prefixed with \"ssm\" (case-insensitive). \
         If formed as a path, it can consist of sub-paths divided by slash \
         symbol; each sub-path can be formed as a mix of letters, numbers \
         and the following 3 symbols .-_",
    )
}

/// A parameter and the selector that came with its name.
pub(super) struct Found<'a> {
    pub(super) row: Arc<ParameterRow>,
    pub(super) selector: Option<&'a str>,
}

/// The parameter that a name or ARN names, with or without a selector.
pub(super) fn find<'a>(
    snapshot: &Snapshot,
    scope: &Scope,
    given: &'a str,
) -> Result<Found<'a>, ApiError> {
    let given = given.trim();
    let get = |name: &str| {
        let key = ParameterRow::key_of(&scope.account, &scope.region, name);
        snapshot.get::<ParameterRow>(&key)
    };
    let (row, selector) = if given.starts_with("arn:") {
        let (bare, selector) = split_arn(scope, given)?;
        (get(&format!("/{bare}")).or_else(|| get(bare)), selector)
    } else {
        let (name, selector) = split_selector(given);
        (get(checked(name)?), selector)
    };
    if selector == Some("") {
        return Err(malformed());
    }
    let row = row.ok_or_else(no_such_parameter)?;
    Ok(Found { row, selector })
}

fn split_selector(text: &str) -> (&str, Option<&str>) {
    match text.split_once(':') {
        Some((name, selector)) => (name, Some(selector)),
        None => (text, None),
    }
}

/// The name without its slash and the selector in an ARN of this account and
/// region.
fn split_arn<'a>(
    scope: &Scope,
    arn: &'a str,
) -> Result<(&'a str, Option<&'a str>), ApiError> {
    let mut parts = arn.splitn(6, ':').skip(1);
    let partition = parts.next();
    let service = parts.next();
    let place = (parts.next(), parts.next());
    let resource = parts.next().unwrap_or_default();
    let resource = resource.strip_prefix("parameter/");
    let (Some("ssm"), Some(resource)) = (service, resource) else {
        return Err(malformed());
    };
    let here = (Some(scope.region.as_str()), Some(scope.account.as_str()));
    let own = crate::services::partition_of(&scope.region);
    if place != here || partition != Some(own) {
        return Err(no_such_parameter());
    }
    Ok(split_selector(resource))
}

impl Found<'_> {
    /// The version that the selector asks for; the newest without one.
    pub(super) fn version(&self) -> Result<&ParameterVersion, ApiError> {
        let Found { row, selector } = self;
        let Some(selector) = *selector else { return Ok(&row.newest) };
        let name = &row.name;
        if selector.bytes().all(|byte| byte.is_ascii_digit()) {
            let number = selector.parse().ok();
            let mut versions = row.versions();
            let found = versions.find(|one| Some(one.number) == number);
            return found.ok_or_else(|| no_such_version(name, selector));
        }
        let has_label = |one: &&ParameterVersion| {
            one.labels.iter().any(|label| label == selector)
        };
        row.versions().find(has_label).ok_or_else(|| {
            error::parameter_version_not_found(format!(
                "Systems Manager could not find label {selector} for \
                 parameter {name}. Verify the label and try again."
            ))
        })
    }
}

pub(super) fn no_such_version(name: &str, number: &str) -> ApiError {
    error::parameter_version_not_found(format!(
        "Systems Manager could not find version {number} of {name}. Verify \
         the version and try again."
    ))
}
