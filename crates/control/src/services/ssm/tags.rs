//! AddTagsToResource, ListTagsForResource, RemoveTagsFromResource: tags of
//! parameters.

use std::collections::{BTreeMap, BTreeSet};

use minato_store::Key;
use minato_wire::ApiError;
use minato_wire::ssm::{
    AddTagsToResourceRequest, ListTagsForResourceRequest,
    ListTagsForResourceResult, RemoveTagsFromResourceRequest,
    ResourceTypeForTagging, Tag, error,
};

use super::rows::ParameterRow;
use super::{invalid, names};
use crate::context::{Context, Scope};
use crate::services::Empty;

/// Tags of one parameter (API reference, AddTagsToResource).
const MAX_TAGS: usize = 50;

pub(super) type Tags = BTreeMap<String, String>;

pub(super) async fn add_tags_to_resource(
    cx: &Context,
    scope: &Scope,
    input: AddTagsToResourceRequest,
) -> Result<Empty, ApiError> {
    let key = key_of(scope, input.resource_type, input.resource_id)?;
    let given = input.tags.unwrap_or_default();
    change(cx, key, move |tags| add(tags, given)).await
}

pub(super) async fn remove_tags_from_resource(
    cx: &Context,
    scope: &Scope,
    input: RemoveTagsFromResourceRequest,
) -> Result<Empty, ApiError> {
    let key = key_of(scope, input.resource_type, input.resource_id)?;
    let gone = input.tag_keys.unwrap_or_default();
    change(cx, key, move |tags| {
        tags.retain(|key, _| !gone.contains(key));
        Ok(())
    })
    .await
}

pub(super) async fn list_tags_for_resource(
    cx: &Context,
    scope: &Scope,
    input: ListTagsForResourceRequest,
) -> Result<ListTagsForResourceResult, ApiError> {
    let key = key_of(scope, input.resource_type, input.resource_id)?;
    let row = cx.snapshot().get::<ParameterRow>(&key);
    let row = row.ok_or_else(no_such_resource)?;
    let tag = |(key, value): (&String, &String)| Tag {
        key: Some(key.clone()),
        value: Some(value.clone()),
    };
    Ok(ListTagsForResourceResult {
        tag_list: Some(row.tags.iter().map(tag).collect()),
    })
}

/// Adds tags to others, within the limit.
pub(super) fn add(tags: &mut Tags, given: Vec<Tag>) -> Result<(), ApiError> {
    let mut seen = BTreeSet::new();
    for tag in given {
        let key = tag.key.unwrap_or_default();
        if names::has_head(&key, "aws:") {
            return Err(invalid(
                "Tag keys cannot begin with aws:, which is reserved.",
            ));
        }
        if !seen.insert(key.clone()) {
            return Err(invalid(format!(
                "The request has the tag key {key} more than once."
            )));
        }
        tags.insert(key, tag.value.unwrap_or_default());
    }
    if tags.len() > MAX_TAGS {
        return Err(error::too_many_tags_error(format!(
            "A parameter can have at most {MAX_TAGS} tags."
        )));
    }
    Ok(())
}

/// The key of the parameter that a resource id names.
fn key_of(
    scope: &Scope,
    r#type: Option<ResourceTypeForTagging>,
    id: Option<String>,
) -> Result<Key, ApiError> {
    if r#type != Some(ResourceTypeForTagging::Parameter) {
        return Err(error::invalid_resource_type(
            "The resource type isn't valid: of Systems Manager, Minato has \
             only parameters.",
        ));
    }
    let name = id.unwrap_or_default();
    let Scope { account, region, .. } = scope;
    Ok(ParameterRow::key_of(account, region, name.trim()))
}

fn no_such_resource() -> ApiError {
    error::invalid_resource_id(
        "The resource ID isn't valid. Verify that you entered the correct ID \
         and try again.",
    )
}

async fn change(
    cx: &Context,
    key: Key,
    change: impl FnOnce(&mut Tags) -> Result<(), ApiError> + Send + 'static,
) -> Result<Empty, ApiError> {
    cx.transact(move |tx| {
        let row = tx.get::<ParameterRow>(&key).ok_or_else(no_such_resource)?;
        let mut row = ParameterRow::clone(&row);
        change(&mut row.tags)?;
        tx.put(row);
        Ok(Empty {})
    })
    .await
}
