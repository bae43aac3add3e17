//! ListTaskDefinitions and ListTaskDefinitionFamilies.

use std::collections::BTreeMap;
use std::sync::Arc;

use minato_store::Key;
use minato_wire::ApiError;
use minato_wire::ecs::{
    ListTaskDefinitionFamiliesRequest, ListTaskDefinitionFamiliesResponse,
    ListTaskDefinitionsRequest, ListTaskDefinitionsResponse, SortOrder,
    TaskDefinitionFamilyStatus, TaskDefinitionStatus,
};

use super::super::page::{Page, open, page, page_size, seal};
use crate::context::{Context, Scope};
use crate::tables::{DAEMON_PREFIX, TaskDefinition, namespace};

/// The most entries of a page (API reference).
const PAGE_MAX: usize = 100;

pub(crate) async fn list_task_definitions(
    cx: &Context,
    scope: &Scope,
    input: ListTaskDefinitionsRequest,
) -> Result<ListTaskDefinitionsResponse, ApiError> {
    let size = page_size(input.max_results, PAGE_MAX, PAGE_MAX)?;
    let after = input.next_token.as_deref().map(open).transpose()?;
    let status = input.status.unwrap_or(TaskDefinitionStatus::Active);
    // Despite its name, the prefix is the whole family.
    let within = match input.family_prefix.as_deref() {
        None | Some("") => namespace(&scope.account, &scope.region),
        Some(family) => Key::of([&scope.account, &scope.region, family]),
    };
    let rows = cx.snapshot();
    let all = rows
        .scan::<TaskDefinition>(&within)
        .filter(|row| !row.family.starts_with(DAEMON_PREFIX))
        .filter(|row| row.definition.status == Some(status));
    let found = match input.sort.unwrap_or(SortOrder::Asc) {
        SortOrder::Asc => cut(all, size, |row| {
            after.as_ref().is_none_or(|after| place(row) > *after)
        }),
        SortOrder::Desc => cut(all.rev(), size, |row| {
            after.as_ref().is_none_or(|after| place(row) < *after)
        }),
    };
    Ok(ListTaskDefinitionsResponse {
        task_definition_arns: Some(found.items),
        next_token: found.next_token,
    })
}

/// Where a revision stands in the order of families, then numbers.
fn place(row: &TaskDefinition) -> String {
    // Below every character of a family, so that `web` precedes `web-1`.
    format!("{}\u{1}{:010}", row.family, row.revision)
}

fn cut(
    rows: impl Iterator<Item = Arc<TaskDefinition>>,
    size: usize,
    is_left: impl Fn(&TaskDefinition) -> bool,
) -> Page<String> {
    let mut rows = rows.filter(|row| is_left(row));
    let taken: Vec<_> = rows.by_ref().take(size).collect();
    let more = rows.next().is_some();
    Page {
        next_token: taken
            .last()
            .filter(|_| more)
            .map(|last| seal(&place(last))),
        items: taken
            .into_iter()
            .filter_map(|row| row.definition.task_definition_arn.clone())
            .collect(),
    }
}

pub(crate) async fn list_task_definition_families(
    cx: &Context,
    scope: &Scope,
    input: ListTaskDefinitionFamiliesRequest,
) -> Result<ListTaskDefinitionFamiliesResponse, ApiError> {
    let prefix = input.family_prefix.unwrap_or_default();
    let status = input.status.unwrap_or(TaskDefinitionFamilyStatus::All);
    let rows = cx.snapshot();
    // Whether each family has an active revision; those being deleted do
    // not make a family.
    let mut families: BTreeMap<String, bool> = BTreeMap::new();
    let within = namespace(&scope.account, &scope.region);
    for row in rows.scan::<TaskDefinition>(&within) {
        if row.family.starts_with(DAEMON_PREFIX) {
            continue;
        }
        let active = match row.definition.status {
            Some(TaskDefinitionStatus::Active) => true,
            Some(TaskDefinitionStatus::Inactive) => false,
            Some(TaskDefinitionStatus::DeleteInProgress) | None => continue,
        };
        if row.family.starts_with(&prefix) {
            *families.entry(row.family.clone()).or_insert(false) |= active;
        }
    }
    let wanted = families
        .into_iter()
        .filter(|(_, active)| match status {
            TaskDefinitionFamilyStatus::All => true,
            TaskDefinitionFamilyStatus::Active => *active,
            TaskDefinitionFamilyStatus::Inactive => !*active,
        })
        .map(|(family, _)| family);
    let found = page(
        wanted,
        |family| family.as_str(),
        input.max_results,
        input.next_token.as_deref(),
        PAGE_MAX,
    )?;
    Ok(ListTaskDefinitionFamiliesResponse {
        families: Some(found.items),
        next_token: found.next_token,
    })
}
