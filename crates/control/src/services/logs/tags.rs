//! Tags of log groups, by ARN and, in the older operations, by name.

use std::collections::BTreeMap;

use minato_wire::ApiError;
use minato_wire::logs::{
    ListTagsForResourceRequest, ListTagsForResourceResponse,
    ListTagsLogGroupRequest, ListTagsLogGroupResponse, TagFilter,
    TagLogGroupRequest, TagResourceRequest, UntagLogGroupRequest,
    UntagResourceRequest, error,
};

use super::lookup;
use super::rows::LogGroupRow;
use crate::context::{Context, Scope};
use crate::services::Empty;

/// Tags on one log group.
const MAX_TAGS: usize = 50;

type Tags = BTreeMap<String, String>;

/// Refuses the keys that AWS keeps for itself.
pub(super) fn check_keys<'a>(
    mut keys: impl Iterator<Item = &'a String>,
) -> Result<(), ApiError> {
    let reserved = keys.any(|key| {
        key.get(..4).is_some_and(|head| head.eq_ignore_ascii_case("aws:"))
    });
    if reserved {
        return Err(error::invalid_parameter_exception(
            "Tag keys cannot begin with aws:, which is reserved.",
        ));
    }
    Ok(())
}

/// Whether a group's tags satisfy one filter of ListLogGroups.
pub(super) fn fits(filter: &TagFilter, tags: &Tags) -> bool {
    let key = filter.key.as_deref().unwrap_or_default();
    let Some(value) = tags.get(key) else { return false };
    filter
        .values
        .as_ref()
        .is_none_or(|values| values.is_empty() || values.contains(value))
}

pub(super) async fn tag_resource(
    cx: &Context,
    scope: &Scope,
    input: TagResourceRequest,
) -> Result<Empty, ApiError> {
    let name = name_of(scope, input.resource_arn)?;
    add(cx, scope, name, input.tags.unwrap_or_default()).await
}

pub(super) async fn untag_resource(
    cx: &Context,
    scope: &Scope,
    input: UntagResourceRequest,
) -> Result<Empty, ApiError> {
    let name = name_of(scope, input.resource_arn)?;
    remove(cx, scope, name, input.tag_keys.unwrap_or_default()).await
}

pub(super) async fn list_tags_for_resource(
    cx: &Context,
    scope: &Scope,
    input: ListTagsForResourceRequest,
) -> Result<ListTagsForResourceResponse, ApiError> {
    let name = name_of(scope, input.resource_arn)?;
    let tags = lookup::group(&cx.snapshot(), scope, &name)?.tags.clone();
    Ok(ListTagsForResourceResponse { tags: Some(tags) })
}

pub(super) async fn tag_log_group(
    cx: &Context,
    scope: &Scope,
    input: TagLogGroupRequest,
) -> Result<Empty, ApiError> {
    let name = input.log_group_name.unwrap_or_default();
    add(cx, scope, name, input.tags.unwrap_or_default()).await
}

pub(super) async fn untag_log_group(
    cx: &Context,
    scope: &Scope,
    input: UntagLogGroupRequest,
) -> Result<Empty, ApiError> {
    let name = input.log_group_name.unwrap_or_default();
    remove(cx, scope, name, input.tags.unwrap_or_default()).await
}

pub(super) async fn list_tags_log_group(
    cx: &Context,
    scope: &Scope,
    input: ListTagsLogGroupRequest,
) -> Result<ListTagsLogGroupResponse, ApiError> {
    let name = input.log_group_name.unwrap_or_default();
    let tags = lookup::group(&cx.snapshot(), scope, &name)?.tags.clone();
    Ok(ListTagsLogGroupResponse { tags: Some(tags) })
}

/// The group that an ARN names.
fn name_of(scope: &Scope, arn: Option<String>) -> Result<String, ApiError> {
    let arn = arn.unwrap_or_default();
    if !arn.starts_with("arn:") {
        return Err(error::invalid_parameter_exception(
            "The resource ARN is invalid.",
        ));
    }
    lookup::group_name(scope, &arn).map(str::to_owned)
}

async fn add(
    cx: &Context,
    scope: &Scope,
    name: String,
    tags: Tags,
) -> Result<Empty, ApiError> {
    check_keys(tags.keys())?;
    change(cx, scope, name, move |all| all.extend(tags)).await
}

async fn remove(
    cx: &Context,
    scope: &Scope,
    name: String,
    keys: Vec<String>,
) -> Result<Empty, ApiError> {
    let gone = move |all: &mut Tags| all.retain(|key, _| !keys.contains(key));
    change(cx, scope, name, gone).await
}

async fn change(
    cx: &Context,
    scope: &Scope,
    name: String,
    change: impl FnOnce(&mut Tags) + Send + 'static,
) -> Result<Empty, ApiError> {
    let scope = scope.clone();
    cx.transact(move |tx| {
        let mut group =
            LogGroupRow::clone(&*lookup::group_in(tx, &scope, &name)?);
        change(&mut group.tags);
        if group.tags.len() > MAX_TAGS {
            return Err(error::too_many_tags_exception(format!(
                "A log group can have at most {MAX_TAGS} tags."
            )));
        }
        tx.put(group);
        Ok(Empty {})
    })
    .await
}
