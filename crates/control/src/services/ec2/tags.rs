//! CreateTags, DeleteTags, DescribeTags, and the tags that come with a
//! resource.

use minato_store::{Key, Row, Snapshot, Tx};
use minato_wire::ApiError;
use minato_wire::ec2::{
    CreateTagsRequest, DeleteTagsRequest, DescribeTagsRequest,
    DescribeTagsResult, ResourceType, Tag, TagDescription, TagSpecification,
};

use super::change;
use super::filter::{Ids, check_dry_run, error, missing, page, passes};
use super::rows::{EniRow, SecurityGroupRow, SubnetRow, Tags, VpcRow};
use crate::context::{Context, Scope};
use crate::services::Empty;

/// Tags of one resource (EC2 user guide, "Tag restrictions").
const TAGS_MAX: usize = 50;
/// Characters of a key.
const KEY_MAX: usize = 128;
/// Characters of a value.
const VALUE_MAX: usize = 256;
/// Resources in one call (EC2 API reference, CreateTags).
const RESOURCES_MAX: usize = 1000;

/// The tags for a new resource out of a call's `TagSpecifications`.
pub(super) fn of_new(
    given: Option<&[TagSpecification]>,
    kind: &ResourceType,
) -> Result<Tags, ApiError> {
    let mut tags = Tags::new();
    for specification in given.unwrap_or_default() {
        if specification.resource_type.as_ref() != Some(kind) {
            let named = specification.resource_type.as_ref();
            let named = named.map_or("", |kind| kind.as_str());
            return Err(error(
                "InvalidParameterValue",
                format!(
                    "'{named}' is not a valid taggable resource type for \
                     this operation."
                ),
            ));
        }
        put(&mut tags, specification.tags.as_deref().unwrap_or_default())?;
    }
    Ok(tags)
}

/// Sets tags; a key that is there gets the new value.
fn put(tags: &mut Tags, given: &[Tag]) -> Result<(), ApiError> {
    let wrong = |message: String| error("InvalidParameterValue", message);
    for tag in given {
        let key = tag.key.clone().unwrap_or_default();
        let value = tag.value.clone().unwrap_or_default();
        if key.is_empty() || key.chars().count() > KEY_MAX {
            return Err(wrong(format!(
                "Tag keys must have 1 to {KEY_MAX} characters: '{key}'"
            )));
        }
        if value.chars().count() > VALUE_MAX {
            return Err(wrong(format!(
                "Tag value exceeds the maximum length of {VALUE_MAX} \
                 characters"
            )));
        }
        if key.to_ascii_lowercase().starts_with("aws:") {
            return Err(wrong(
                "Tag keys starting with 'aws:' are reserved for internal use"
                    .to_owned(),
            ));
        }
        tags.insert(key, value);
    }
    if tags.len() > TAGS_MAX {
        return Err(error(
            "TagLimitExceeded",
            format!("The maximum number of tags is {TAGS_MAX}."),
        ));
    }
    Ok(())
}

/// Tags as EC2 shows them.
pub(super) fn shown(tags: &Tags) -> Option<Vec<Tag>> {
    let tag = |(key, value): (&String, &String)| Tag {
        key: Some(key.clone()),
        value: Some(value.clone()),
    };
    Some(tags.iter().map(tag).collect())
}

/// The values that a resource has for a filter over tags; `None` where the
/// name is of no such filter.
pub(super) fn values(tags: &Tags, name: &str) -> Option<Vec<String>> {
    match name {
        "tag-key" => Some(tags.keys().cloned().collect()),
        "tag-value" => Some(tags.values().cloned().collect()),
        name => {
            let key = name.strip_prefix("tag:")?;
            Some(tags.get(key).cloned().into_iter().collect())
        }
    }
}

pub(super) async fn create_tags(
    cx: &Context,
    scope: &Scope,
    input: CreateTagsRequest,
) -> Result<Empty, ApiError> {
    check_dry_run(input.dry_run)?;
    let resources = resources(input.resources)?;
    let given = input.tags.unwrap_or_default();
    if given.is_empty() {
        return Err(missing("tagSet"));
    }
    edit(cx, scope, resources, move |tags| put(tags, &given)).await
}

pub(super) async fn delete_tags(
    cx: &Context,
    scope: &Scope,
    input: DeleteTagsRequest,
) -> Result<Empty, ApiError> {
    check_dry_run(input.dry_run)?;
    let resources = resources(input.resources)?;
    let given = input.tags.unwrap_or_default();
    // "If you omit this parameter, we delete all user-defined tags"; a tag
    // with a value goes only if it has that value.
    edit(cx, scope, resources, move |tags| {
        if given.is_empty() {
            tags.clear();
        }
        for tag in &given {
            let key = tag.key.as_deref().unwrap_or_default();
            let known = tags.get(key);
            if tag.value.is_none() || tag.value.as_ref() == known {
                tags.remove(key);
            }
        }
        Ok(())
    })
    .await
}

fn resources(given: Option<Vec<String>>) -> Result<Vec<String>, ApiError> {
    match given {
        Some(ids) if ids.len() > RESOURCES_MAX => Err(error(
            "InvalidParameterValue",
            format!("At most {RESOURCES_MAX} resources can be tagged at once."),
        )),
        Some(ids) if !ids.is_empty() => Ok(ids),
        Some(_) | None => Err(missing("resourceIdSet")),
    }
}

/// Changes the tags of all these resources, or of none.
async fn edit(
    cx: &Context,
    scope: &Scope,
    ids: Vec<String>,
    with: impl Fn(&mut Tags) -> Result<(), ApiError> + Send + 'static,
) -> Result<Empty, ApiError> {
    change(cx, scope, move |tx, scope| {
        ids.iter().try_for_each(|id| edit_one(tx, scope, id, &with))
    })
    .await?;
    Ok(Empty {})
}

type Edit<'a> = &'a dyn Fn(&mut Tags) -> Result<(), ApiError>;

fn edit_one(
    tx: &mut Tx,
    scope: &Key,
    id: &str,
    with: Edit<'_>,
) -> Result<(), ApiError> {
    let key = scope.with(id);
    let none = |code: &'static str, noun: &str| {
        error(code, format!("The {noun} '{id}' does not exist"))
    };
    match id.split_once('-').map_or("", |(kind, _)| kind) {
        "vpc" => edit_row::<VpcRow>(tx, &key, |row| with(&mut row.tags))
            .ok_or_else(|| none("InvalidVpcID.NotFound", "vpc ID"))?,
        "subnet" => edit_row::<SubnetRow>(tx, &key, |row| with(&mut row.tags))
            .ok_or_else(|| none("InvalidSubnetID.NotFound", "subnet ID"))?,
        "sg" => {
            edit_row::<SecurityGroupRow>(tx, &key, |row| with(&mut row.tags))
                .ok_or_else(|| {
                    none("InvalidGroup.NotFound", "security group")
                })?
        }
        "eni" => edit_row::<EniRow>(tx, &key, |row| with(&mut row.tags))
            .ok_or_else(|| {
                let code = "InvalidNetworkInterfaceID.NotFound";
                none(code, "networkInterface ID")
            })?,
        "sgr" => edit_rule(tx, scope, id, with).ok_or_else(|| {
            let code = "InvalidSecurityGroupRuleId.NotFound";
            none(code, "security group rule ID")
        })?,
        _ => Err(error(
            "InvalidID",
            format!(
                "The ID '{id}' is not valid: Minato keeps tags of VPCs, \
                 subnets, security groups, their rules and network \
                 interfaces."
            ),
        )),
    }
}

fn edit_row<R: Row>(
    tx: &mut Tx,
    key: &Key,
    with: impl FnOnce(&mut R) -> Result<(), ApiError>,
) -> Option<Result<(), ApiError>> {
    let mut row = R::clone(&*tx.get::<R>(key)?);
    let done = with(&mut row);
    tx.put(row);
    Some(done)
}

fn edit_rule(
    tx: &mut Tx,
    scope: &Key,
    id: &str,
    with: Edit<'_>,
) -> Option<Result<(), ApiError>> {
    let holds =
        |row: &SecurityGroupRow| row.rules.iter().any(|rule| rule.id == id);
    let found = tx.scan::<SecurityGroupRow>(scope).find(|row| holds(row))?;
    let mut row = SecurityGroupRow::clone(&found);
    let rule = row.rules.iter_mut().find(|rule| rule.id == id)?;
    let done = with(&mut rule.tags);
    tx.put(row);
    Some(done)
}

pub(super) async fn describe_tags(
    cx: &Context,
    scope: &Scope,
    input: DescribeTagsRequest,
) -> Result<DescribeTagsResult, ApiError> {
    check_dry_run(input.dry_run)?;
    let snapshot = cx.snapshot();
    let filters = input.filters.as_deref().unwrap_or_default();
    let mut found = vec![];
    for (place, tag) in all(&snapshot, scope) {
        let text = |value: &Option<String>| value.clone().into_iter().collect();
        let fits = passes(filters, |name| match name {
            "key" => Some(text(&tag.key)),
            "value" => Some(text(&tag.value)),
            "resource-id" => Some(text(&tag.resource_id)),
            "resource-type" => Some(
                tag.resource_type.iter().map(|it| it.as_str().into()).collect(),
            ),
            name => {
                let key = name.strip_prefix("tag:")?;
                let has = tag.key.as_deref() == Some(key);
                Some(if has { text(&tag.value) } else { vec![] })
            }
        })?;
        if fits {
            found.push((place, tag));
        }
    }
    let ids = Ids { given: &[], prefix: "", code: "InvalidID", noun: "ID" };
    let token = input.next_token.as_deref();
    let (found, next_token) =
        page(found, |(place, _)| place, &ids, input.max_results, token)?;
    let tags = found.into_iter().map(|(_, tag)| tag).collect();
    Ok(DescribeTagsResult { tags: Some(tags), next_token })
}

/// Every tag, by its resource and key.
fn all(snapshot: &Snapshot, scope: &Scope) -> Vec<(String, TagDescription)> {
    let scope = Key::of([&scope.account, &scope.region]);
    let mut found = vec![];
    let mut add = |id: &str, kind: ResourceType, tags: &Tags| {
        for (key, value) in tags {
            let tag = TagDescription {
                key: Some(key.clone()),
                value: Some(value.clone()),
                resource_id: Some(id.to_owned()),
                resource_type: Some(kind),
            };
            found.push((format!("{id}\0{key}"), tag));
        }
    };
    for row in snapshot.scan::<VpcRow>(&scope) {
        add(&row.id, ResourceType::Vpc, &row.tags);
    }
    for row in snapshot.scan::<SubnetRow>(&scope) {
        add(&row.id, ResourceType::Subnet, &row.tags);
    }
    for row in snapshot.scan::<SecurityGroupRow>(&scope) {
        add(&row.id, ResourceType::SecurityGroup, &row.tags);
        for rule in &row.rules {
            add(&rule.id, ResourceType::SecurityGroupRule, &rule.tags);
        }
    }
    for row in snapshot.scan::<EniRow>(&scope) {
        add(&row.id, ResourceType::NetworkInterface, &row.tags);
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}
