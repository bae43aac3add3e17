//! Roles and their tags.

use minato_store::{Key, Row as _};
use minato_wire::ApiError;
use minato_wire::iam::{
    AttachedPermissionsBoundary, CreateRoleRequest, CreateRoleResponse,
    DeleteRoleRequest, GetRoleRequest, GetRoleResponse,
    ListInstanceProfilesForRoleRequest, ListInstanceProfilesForRoleResponse,
    ListRoleTagsRequest, ListRoleTagsResponse, ListRolesRequest,
    ListRolesResponse, PermissionsBoundaryAttachmentType, Role, RoleLastUsed,
    TagRoleRequest, UntagRoleRequest, UpdateAssumeRolePolicyRequest,
    UpdateRoleRequest, UpdateRoleResponse, error,
};

use super::common::{
    Tags, add_tags, change_role, check_document, encode_document, no_such_role,
    page, role, tag_list, unique_id,
};
use super::policies::exists;
use super::rows::RoleRow;
use crate::context::{Context, Scope};
use crate::services::{Empty, partition_of};

/// The session length of a role that says none, in seconds.
const SESSION_SECONDS: i32 = 3600;

pub(super) async fn create_role(
    cx: &Context,
    scope: &Scope,
    input: CreateRoleRequest,
) -> Result<CreateRoleResponse, ApiError> {
    let trust = input.assume_role_policy_document.unwrap_or_default();
    check_document(&trust)?;
    let mut tags = Tags::new();
    add_tags(&mut tags, input.tags)?;
    let row = RoleRow {
        account: scope.account.clone(),
        name: input.role_name.unwrap_or_default(),
        path: input.path.unwrap_or_else(|| "/".to_owned()),
        id: unique_id("AROA", cx.ids.uuid()),
        partition: partition_of(&scope.region).to_owned(),
        trust,
        description: input.description,
        max_session_seconds: input
            .max_session_duration
            .unwrap_or(SESSION_SECONDS),
        boundary: input.permissions_boundary,
        tags,
        attached: vec![],
        inline: Tags::new(),
        created_at: scope.now,
    };
    let role = describe(&row, true);
    cx.transact(move |tx| {
        if tx.contains::<RoleRow>(&row.key()) {
            return Err(error::entity_already_exists_exception(format!(
                "Role with name {} already exists.",
                row.name
            )));
        }
        if let Some(boundary) = &row.boundary
            && !exists(tx, &row.account, boundary)
        {
            return Err(error::no_such_entity_exception(format!(
                "Scope ARN: {boundary} does not exist or is not attachable."
            )));
        }
        tx.put(row);
        Ok(())
    })
    .await?;
    Ok(CreateRoleResponse { role: Some(role) })
}

/// A role as the API shows it; lists leave out what `whole` adds.
fn describe(row: &RoleRow, whole: bool) -> Role {
    let boundary =
        row.boundary.clone().map(|arn| AttachedPermissionsBoundary {
            permissions_boundary_type: Some(
                PermissionsBoundaryAttachmentType::PermissionsBoundaryPolicy,
            ),
            permissions_boundary_arn: Some(arn),
        });
    let tags = tag_list(&row.tags);
    Role {
        path: Some(row.path.clone()),
        role_name: Some(row.name.clone()),
        role_id: Some(row.id.clone()),
        arn: Some(row.arn()),
        create_date: Some(row.created_at),
        assume_role_policy_document: Some(encode_document(&row.trust)),
        description: row.description.clone(),
        max_session_duration: Some(row.max_session_seconds),
        permissions_boundary: boundary.filter(|_| whole),
        tags: Some(tags).filter(|tags| whole && !tags.is_empty()),
        role_last_used: whole.then(RoleLastUsed::default),
    }
}

pub(super) async fn get_role(
    cx: &Context,
    scope: &Scope,
    input: GetRoleRequest,
) -> Result<GetRoleResponse, ApiError> {
    let row = role(&cx.snapshot(), scope, input.role_name.as_deref())?;
    Ok(GetRoleResponse { role: Some(describe(&row, true)) })
}

pub(super) async fn list_roles(
    cx: &Context,
    scope: &Scope,
    input: ListRolesRequest,
) -> Result<ListRolesResponse, ApiError> {
    let prefix = input.path_prefix.unwrap_or_default();
    let snapshot = cx.snapshot();
    let mut rows: Vec<_> = snapshot
        .scan::<RoleRow>(&Key::of([&scope.account]))
        .filter(|row| row.path.starts_with(&prefix))
        .collect();
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    let marker = input.marker.as_deref();
    let page = page(rows, |row| &row.name, input.max_items, marker)?;
    Ok(ListRolesResponse {
        is_truncated: page.is_truncated(),
        roles: Some(page.items.iter().map(|r| describe(r, false)).collect()),
        marker: page.marker,
    })
}

pub(super) async fn delete_role(
    cx: &Context,
    scope: &Scope,
    input: DeleteRoleRequest,
) -> Result<Empty, ApiError> {
    let account = scope.account.clone();
    cx.transact(move |tx| {
        let name = input.role_name.unwrap_or_default();
        let key = RoleRow::key_of(&account, &name);
        let Some(row) = tx.get::<RoleRow>(&key) else {
            return Err(no_such_role(&name));
        };
        let conflict =
            |text: &str| Err(error::delete_conflict_exception(text.to_owned()));
        if !row.attached.is_empty() {
            return conflict(
                "Cannot delete entity, must detach all policies first.",
            );
        }
        if !row.inline.is_empty() {
            return conflict(
                "Cannot delete entity, must delete policies first.",
            );
        }
        tx.delete::<RoleRow>(&key);
        Ok(Empty {})
    })
    .await
}

pub(super) async fn update_role(
    cx: &Context,
    scope: &Scope,
    input: UpdateRoleRequest,
) -> Result<UpdateRoleResponse, ApiError> {
    change_role(cx, scope, input.role_name, move |_, row| {
        if let Some(description) = input.description {
            row.description = Some(description);
        }
        if let Some(seconds) = input.max_session_duration {
            row.max_session_seconds = seconds;
        }
        Ok(UpdateRoleResponse {})
    })
    .await
}

pub(super) async fn update_assume_role_policy(
    cx: &Context,
    scope: &Scope,
    input: UpdateAssumeRolePolicyRequest,
) -> Result<Empty, ApiError> {
    let document = input.policy_document.unwrap_or_default();
    check_document(&document)?;
    change_role(cx, scope, input.role_name, move |_, row| {
        row.trust = document;
        Ok(Empty {})
    })
    .await
}

pub(super) async fn tag_role(
    cx: &Context,
    scope: &Scope,
    input: TagRoleRequest,
) -> Result<Empty, ApiError> {
    change_role(cx, scope, input.role_name, move |_, row| {
        add_tags(&mut row.tags, input.tags)?;
        Ok(Empty {})
    })
    .await
}

pub(super) async fn untag_role(
    cx: &Context,
    scope: &Scope,
    input: UntagRoleRequest,
) -> Result<Empty, ApiError> {
    change_role(cx, scope, input.role_name, move |_, row| {
        let keys = input.tag_keys.unwrap_or_default();
        row.tags.retain(|key, _| !keys.contains(key));
        Ok(Empty {})
    })
    .await
}

pub(super) async fn list_role_tags(
    cx: &Context,
    scope: &Scope,
    input: ListRoleTagsRequest,
) -> Result<ListRoleTagsResponse, ApiError> {
    let row = role(&cx.snapshot(), scope, input.role_name.as_deref())?;
    let key = |tag: &minato_wire::iam::Tag| tag.key.clone();
    let tags = tag_list(&row.tags)
        .into_iter()
        .map(|tag| (key(&tag).unwrap_or_default(), tag));
    let marker = input.marker.as_deref();
    let page = page(tags, |(key, _)| key, input.max_items, marker)?;
    Ok(ListRoleTagsResponse {
        is_truncated: page.is_truncated(),
        tags: Some(page.items.into_iter().map(|(_, tag)| tag).collect()),
        marker: page.marker,
    })
}

/// Instance profiles do not exist here, so no role is in one.
pub(super) async fn list_instance_profiles_for_role(
    cx: &Context,
    scope: &Scope,
    input: ListInstanceProfilesForRoleRequest,
) -> Result<ListInstanceProfilesForRoleResponse, ApiError> {
    role(&cx.snapshot(), scope, input.role_name.as_deref())?;
    Ok(ListInstanceProfilesForRoleResponse {
        instance_profiles: Some(vec![]),
        is_truncated: Some(false),
        marker: None,
    })
}
