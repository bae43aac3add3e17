//! ListSecrets, its filters and its pages.

use std::sync::Arc;

use minato_store::Snapshot;
use minato_wire::secretsmanager::{
    Filter, FilterNameStringType, ListSecretsRequest, ListSecretsResponse,
    SecretListEntry, SortByType, SortOrderType, error,
};
use minato_wire::{ApiError, Timestamp};

use super::rows::SecretRow;
use super::{lookup, rotation, secrets};
use crate::context::{Context, Scope};
use crate::services::{open_token, seal_token};
use crate::tables::namespace;

/// Secrets on a page, by default and at most.
const PAGE: usize = 100;

pub(super) async fn list_secrets(
    cx: &Context,
    scope: &Scope,
    input: ListSecretsRequest,
) -> Result<ListSecretsResponse, ApiError> {
    let filters = input.filters.unwrap_or_default();
    let planned = input.include_planned_deletion.unwrap_or(false);
    let mut rows = found(&cx.snapshot(), scope, &filters, planned);
    let by = input.sort_by.unwrap_or(SortByType::CreatedDate);
    rows.sort_by_cached_key(|row| place(row, by));
    // AWS's default: the newest first.
    let order = input.sort_order.unwrap_or(SortOrderType::Desc);
    if order == SortOrderType::Desc {
        rows.reverse();
    }
    let size = size(input.max_results, PAGE);
    let (page, next_token) = page(rows, size, input.next_token.as_deref())?;
    Ok(ListSecretsResponse {
        secret_list: Some(page.iter().map(|row| entry(row)).collect()),
        next_token,
    })
}

fn place(row: &SecretRow, by: SortByType) -> (Timestamp, String) {
    let never = Timestamp::from_millis(0);
    let time = match by {
        SortByType::CreatedDate => row.created_at,
        SortByType::LastAccessedDate => row.accessed_at.unwrap_or(never),
        SortByType::LastChangedDate => row.changed_at,
        SortByType::Name => never,
    };
    (time, row.name.clone())
}

/// The secrets that all filters let through, by name.
pub(super) fn found(
    rows: &Snapshot,
    scope: &Scope,
    filters: &[Filter],
    planned: bool,
) -> Vec<Arc<SecretRow>> {
    rows.scan::<SecretRow>(&namespace(&scope.account, &scope.region))
        .filter(|row| !lookup::is_gone(row, scope.now))
        .filter(|row| planned || row.gone_at.is_none())
        .filter(|row| filters.iter().all(|filter| fits(filter, row)))
        .collect()
}

/// Whether any value of a filter fits; a value behind `!` must not fit
/// (user guide, "Find secrets").
fn fits(filter: &Filter, row: &SecretRow) -> bool {
    let key = filter.key.unwrap_or(FilterNameStringType::All);
    let values = filter.values.as_deref().unwrap_or_default();
    let negative = |value: &&String| value.starts_with('!');
    let refused = values
        .iter()
        .filter(negative)
        .any(|value| holds(key, &value[1..], row));
    let mut wanted = values.iter().filter(|value| !negative(value)).peekable();
    let is_wanted =
        wanted.peek().is_none() || wanted.any(|value| holds(key, value, row));
    is_wanted && !refused
}

fn holds(key: FilterNameStringType, value: &str, row: &SecretRow) -> bool {
    let begins = |text: &String| text.starts_with(value);
    match key {
        FilterNameStringType::Name => begins(&row.name),
        FilterNameStringType::Description => {
            let known = known_words(row.description.as_slice());
            words(value).all(|word| begins_one(&known, &word))
        }
        FilterNameStringType::TagKey => row.tags.keys().any(begins),
        FilterNameStringType::TagValue => row.tags.values().any(begins),
        FilterNameStringType::PrimaryRegion => begins(&row.region),
        // No service of AWS's owns a secret here.
        FilterNameStringType::OwningService => false,
        FilterNameStringType::All => {
            let tags = row.tags.iter().flat_map(|(key, value)| [key, value]);
            let known = known_words(
                std::iter::once(&row.name).chain(&row.description).chain(tags),
            );
            words(value).any(|word| begins_one(&known, &word))
        }
    }
}

fn begins_one(known: &[String], word: &str) -> bool {
    known.iter().any(|known| known.starts_with(word))
}

/// The words of texts, and those that are run together also as a whole.
fn known_words<'a>(texts: impl IntoIterator<Item = &'a String>) -> Vec<String> {
    let words =
        |text: &'a String| runs(text).map(str::to_lowercase).chain(words(text));
    texts.into_iter().flat_map(words).collect()
}

/// The words of a text in lower case. They end at punctuation, before a
/// capital letter and between letters and digits (user guide, "Find
/// secrets").
fn words(text: &str) -> impl Iterator<Item = String> {
    runs(text).flat_map(|run| {
        let mut words: Vec<String> = vec![];
        let mut before = None;
        for c in run.chars() {
            let is_same_word = before.is_some_and(|before: char| {
                before.is_numeric() == c.is_numeric()
                    && (before.is_uppercase() || !c.is_uppercase())
            });
            match words.last_mut() {
                Some(word) if is_same_word => word.extend(c.to_lowercase()),
                Some(_) | None => words.push(c.to_lowercase().collect()),
            }
            before = Some(c);
        }
        words
    })
}

fn runs(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|run| !run.is_empty())
}

/// A page's size.
pub(super) fn size(asked: Option<i32>, most: usize) -> usize {
    let asked = asked.and_then(|asked| usize::try_from(asked).ok());
    asked.unwrap_or(most).clamp(1, most)
}

/// A page of a list and the token of the next; the token is a place in the
/// list.
pub(super) fn page<T>(
    list: Vec<T>,
    size: usize,
    token: Option<&str>,
) -> Result<(Vec<T>, Option<String>), ApiError> {
    let invalid = || error::invalid_next_token_exception("Invalid NextToken.");
    let start = match token {
        None => 0,
        Some(token) => open_token(token)
            .and_then(|place| place.parse::<usize>().ok())
            .ok_or_else(invalid)?,
    };
    let end = start.saturating_add(size);
    let next = (end < list.len()).then(|| seal_token(&end.to_string()));
    Ok((list.into_iter().skip(start).take(size).collect(), next))
}

fn entry(row: &SecretRow) -> SecretListEntry {
    let rotation = row.rotation.as_ref();
    SecretListEntry {
        arn: Some(row.arn()),
        name: Some(row.name.clone()),
        description: row.description.clone(),
        kms_key_id: row.kms_key_id.clone(),
        rotation_enabled: rotation.map(|it| it.is_enabled),
        rotation_lambda_arn: rotation.map(|it| it.lambda_arn.clone()),
        rotation_rules: rotation.and_then(|it| it.rules.clone()),
        last_changed_date: Some(row.changed_at),
        last_accessed_date: row.accessed_at,
        deleted_date: row.deleted_at,
        next_rotation_date: rotation.and_then(rotation::next),
        tags: Some(secrets::shown_tags(&row.tags)),
        secret_versions_to_stages: Some(row.stages())
            .filter(|stages| !stages.is_empty()),
        created_date: Some(row.created_at),
        ..SecretListEntry::default()
    }
}
