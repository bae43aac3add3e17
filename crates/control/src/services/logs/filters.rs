//! Metric filters and subscription filters: kept, described and tested.
//!
//! Nothing is sent: there are no CloudWatch metrics here to count in, and no
//! Kinesis, Firehose or Lambda to deliver to. What is kept is checked as AWS
//! checks it, so that templates which make filters can be applied.

pub(super) mod metric;
pub(super) mod subscription;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use minato_core::filter_pattern::FilterPattern;
use minato_store::{Key, Row};
use minato_wire::ApiError;
use minato_wire::logs::error;

use super::token::invalid_token;

/// Filters on a page, by default and at most.
const PAGE: usize = 50;

/// Refuses what is no pattern.
fn check_pattern(pattern: &str) -> Result<FilterPattern, ApiError> {
    FilterPattern::parse(pattern)
        .map_err(|e| error::invalid_parameter_exception(e.to_string()))
}

/// Refuses the members that need log transformers.
fn check_unbuilt(
    transformed: Option<bool>,
    fields: Option<&[String]>,
    criteria: Option<&str>,
) -> Result<(), ApiError> {
    let what = if transformed == Some(true) {
        "applyOnTransformedLogs"
    } else if fields.is_some_and(|fields| !fields.is_empty()) {
        "system fields of filters"
    } else if criteria.is_some_and(|criteria| !criteria.is_empty()) {
        "fieldSelectionCriteria"
    } else {
        return Ok(());
    };
    Err(error::invalid_parameter_exception(format!(
        "Minato does not support {what}."
    )))
}

fn no_such_filter() -> ApiError {
    error::resource_not_found_exception("The specified filter does not exist.")
}

/// A page of rows in the order of their keys, and the token to the next.
/// `place` gives a row's group and name.
fn page<R: Row>(
    rows: impl Iterator<Item = Arc<R>>,
    place: impl Fn(&R) -> (&str, &str),
    limit: Option<i32>,
    token: Option<&str>,
) -> Result<(Vec<Arc<R>>, Option<String>), ApiError> {
    let after = token.map(|token| {
        let place = crate::services::open_token(token)?;
        let (group, name) = place.split_once('\n')?;
        Some((group.to_owned(), name.to_owned()))
    });
    let after = match after {
        None => None,
        Some(place) => Some(place.ok_or_else(invalid_token)?),
    };
    let limit = limit.and_then(|limit| usize::try_from(limit).ok());
    let limit = limit.unwrap_or(PAGE).clamp(1, PAGE);
    let mut rest = rows.filter(|row| {
        let after = after.as_ref();
        after.is_none_or(|(group, name)| place(row) > (group, name))
    });
    let page: Vec<Arc<R>> = rest.by_ref().take(limit).collect();
    let next = match (page.last(), rest.next()) {
        (Some(last), Some(_)) => {
            let (group, name) = place(last);
            Some(crate::services::seal_token(&format!("{group}\n{name}")))
        }
        _ => None,
    };
    Ok((page, next))
}

/// The key of a filter: its group's, and its name.
fn filter_key(account: &str, region: &str, group: &str, name: &str) -> Key {
    Key::of([account, region, group, name])
}
