//! DescribeParameters and GetParameterHistory: what is known of parameters
//! and of their versions.

use minato_wire::ApiError;
use minato_wire::ssm::{
    DescribeParametersRequest, DescribeParametersResult,
    GetParameterHistoryRequest, GetParameterHistoryResult, ParameterHistory,
    ParameterMetadata,
};

use super::filter::{self, Of};
use super::get::View;
use super::page::{Page, Start, invalid_token};
use super::rows::{ParameterRow, ParameterVersion};
use super::{invalid, names};
use crate::context::{Context, Scope};

/// Items on a page, by default and at most (API model, MaxResults).
const PAGE: usize = 50;

pub(super) async fn describe_parameters(
    cx: &Context,
    scope: &Scope,
    input: DescribeParametersRequest,
) -> Result<DescribeParametersResult, ApiError> {
    let deprecated = input.filters.unwrap_or_default();
    let has_both = !deprecated.is_empty()
        && input.parameter_filters.as_ref().is_some_and(|all| !all.is_empty());
    if has_both {
        return Err(invalid(
            "You can use either Filters or ParameterFilters in a single \
             request.",
        ));
    }
    let mut filters =
        filter::checked(Of::DescribeParameters, input.parameter_filters)?;
    filters.extend(filter::deprecated(deprecated)?);
    let start = Start {
        list: "describe",
        most: PAGE,
        max_results: input.max_results,
        token: input.next_token.as_deref(),
    };
    // Those that other accounts share: none does.
    let is_own = !input.shared.unwrap_or(false);
    let page = start.of_parameters(&cx.snapshot(), scope, |row| {
        let fits = is_own && filters.iter().all(|filter| filter.fits(row));
        fits.then(|| metadata(row))
    })?;
    let Page { items, next_token } = page;
    Ok(DescribeParametersResult { parameters: Some(items), next_token })
}

fn metadata(row: &ParameterRow) -> ParameterMetadata {
    let version = row.newest.clone();
    ParameterMetadata {
        name: Some(row.name.clone()),
        arn: Some(row.arn()),
        r#type: Some(version.r#type),
        key_id: version.key_id,
        last_modified_date: Some(version.modified_at),
        last_modified_user: Some(version.modified_by),
        description: version.description,
        allowed_pattern: version.allowed_pattern,
        version: Some(version.number),
        tier: Some(version.tier),
        policies: Some(vec![]),
        data_type: Some(version.data_type),
    }
}

pub(super) async fn get_parameter_history(
    cx: &Context,
    scope: &Scope,
    input: GetParameterHistoryRequest,
) -> Result<GetParameterHistoryResult, ApiError> {
    let name = input.name.unwrap_or_default();
    let found = names::find(&cx.snapshot(), scope, &name)?;
    if found.selector.is_some() {
        return Err(invalid("The history is of all versions and labels."));
    }
    let start = Start {
        list: "history",
        most: PAGE,
        max_results: input.max_results,
        token: input.next_token.as_deref(),
    };
    let after = start.after()?.map_or(Ok(0), |number| {
        number.parse::<i64>().map_err(|_| invalid_token())
    })?;
    let versions = found
        .row
        .versions()
        .filter(|version| version.number > after)
        .map(|version| (version.number.to_string(), version));
    let Page { items, next_token } = start.cut(versions);
    let view = View::of(cx, input.with_decryption);
    let entry = |version: &ParameterVersion| entry(&view, &found.row, version);
    let parameters = items.into_iter().map(entry);
    Ok(GetParameterHistoryResult {
        parameters: Some(parameters.collect::<Result<_, ApiError>>()?),
        next_token,
    })
}

fn entry(
    view: &View<'_>,
    row: &ParameterRow,
    version: &ParameterVersion,
) -> Result<ParameterHistory, ApiError> {
    let value = view.value(row, version)?;
    let version = version.clone();
    Ok(ParameterHistory {
        name: Some(row.name.clone()),
        r#type: Some(version.r#type),
        key_id: version.key_id,
        last_modified_date: Some(version.modified_at),
        last_modified_user: Some(version.modified_by),
        description: version.description,
        value: Some(value),
        allowed_pattern: version.allowed_pattern,
        version: Some(version.number),
        labels: Some(version.labels),
        tier: Some(version.tier),
        policies: Some(vec![]),
        data_type: Some(version.data_type),
    })
}
