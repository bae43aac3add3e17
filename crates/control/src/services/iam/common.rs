//! What IAM's handlers share.

use std::collections::BTreeMap;
use std::sync::Arc;

use minato_store::{Snapshot, Tx};
use minato_wire::ApiError;
use minato_wire::iam::{Tag, error};
use serde_json::Value;

use super::rows::RoleRow;
use crate::context::{Context, Scope};
use crate::services::{open_token, seal_token};

pub(super) type Tags = BTreeMap<String, String>;

/// Tags on one role or policy.
const MAX_TAGS: usize = 50;

pub(super) fn no_such_role(name: &str) -> ApiError {
    error::no_such_entity_exception(format!(
        "The role with name {name} cannot be found."
    ))
}

pub(super) fn role(
    snapshot: &Snapshot,
    scope: &Scope,
    name: Option<&str>,
) -> Result<Arc<RoleRow>, ApiError> {
    let name = name.unwrap_or_default();
    snapshot
        .get(&RoleRow::key_of(&scope.account, name))
        .ok_or_else(|| no_such_role(name))
}

/// Changes a role, all or not at all.
pub(super) async fn change_role<T: Send + 'static>(
    cx: &Context,
    scope: &Scope,
    name: Option<String>,
    change: impl FnOnce(&Tx, &mut RoleRow) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let account = scope.account.clone();
    let name = name.unwrap_or_default();
    cx.transact(move |tx| {
        let key = RoleRow::key_of(&account, &name);
        let row = tx.get::<RoleRow>(&key);
        let mut row = RoleRow::clone(&*row.ok_or_else(|| no_such_role(&name))?);
        let done = change(tx, &mut row)?;
        tx.put(row);
        Ok(done)
    })
    .await
}

/// An id in IAM's form: a prefix and 17 characters of base 32.
pub(super) fn unique_id(prefix: &str, number: u128) -> String {
    let digits = base32(number, 17);
    format!("{prefix}{digits}")
}

/// The lowest bits of a number in the alphabet of AWS's ids.
pub(crate) fn base32(number: u128, length: usize) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    // The lowest 62 bits of a version 4 UUID are all random.
    let mut rest = number;
    (0..length)
        .map(|_| {
            let digit = usize::try_from(rest & 31).unwrap_or_default();
            rest >>= 5;
            char::from(ALPHABET[digit])
        })
        .collect()
}

/// Checks the form of a policy: a JSON object with statements.
pub(super) fn check_document(document: &str) -> Result<(), ApiError> {
    let malformed = |text: &str| {
        Err(error::malformed_policy_document_exception(text.to_owned()))
    };
    let Ok(Value::Object(policy)) = serde_json::from_str(document) else {
        return malformed("This policy contains invalid Json");
    };
    match policy.get("Version") {
        None => {}
        Some(Value::String(v)) if v == "2012-10-17" || v == "2008-10-17" => {}
        Some(_) => {
            return malformed("The policy must contain a valid version string");
        }
    }
    let statements = match policy.get("Statement") {
        Some(Value::Array(list)) => list.as_slice(),
        Some(one @ Value::Object(_)) => std::slice::from_ref(one),
        _ => return malformed("Syntax errors in policy."),
    };
    let has_effect = |statement: &Value| {
        matches!(statement["Effect"].as_str(), Some("Allow" | "Deny"))
    };
    if statements.is_empty() || !statements.iter().all(has_effect) {
        return malformed("Syntax errors in policy.");
    }
    Ok(())
}

/// How IAM sends documents: percent-encoded as RFC 3986 says.
pub(super) fn encode_document(document: &str) -> String {
    let mut out = String::with_capacity(document.len() * 2);
    for byte in document.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Adds tags to others, within the limit.
pub(super) fn add_tags(
    all: &mut Tags,
    given: Option<Vec<Tag>>,
) -> Result<(), ApiError> {
    let mut seen = vec![];
    for tag in given.unwrap_or_default() {
        let key = tag.key.unwrap_or_default();
        if key.get(..4).is_some_and(|h| h.eq_ignore_ascii_case("aws:")) {
            return Err(error::invalid_input_exception(
                "Tag keys beginning with aws: are reserved.",
            ));
        }
        if seen.contains(&key.to_lowercase()) {
            return Err(error::invalid_input_exception(
                "Duplicate tag keys found. Please note that Tag keys are \
                 case insensitive.",
            ));
        }
        seen.push(key.to_lowercase());
        all.insert(key, tag.value.unwrap_or_default());
    }
    if all.len() > MAX_TAGS {
        return Err(error::limit_exceeded_exception(format!(
            "The number of tags has reached the maximum limit of {MAX_TAGS}."
        )));
    }
    Ok(())
}

pub(super) fn tag_list(tags: &Tags) -> Vec<Tag> {
    let tag = |(key, value): (&String, &String)| Tag {
        key: Some(key.clone()),
        value: Some(value.clone()),
    };
    tags.iter().map(tag).collect()
}

/// One page and the marker of the next.
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    pub(super) marker: Option<String>,
}

impl<T> Page<T> {
    pub(super) fn is_truncated(&self) -> Option<bool> {
        Some(self.marker.is_some())
    }
}

/// Cuts a page out of items in the order of their names.
pub(super) fn page<T>(
    items: impl IntoIterator<Item = T>,
    name_of: impl Fn(&T) -> &str,
    max_items: Option<i32>,
    marker: Option<&str>,
) -> Result<Page<T>, ApiError> {
    const PAGE: usize = 100;
    let size = max_items.and_then(|size| usize::try_from(size).ok());
    let size = size.unwrap_or(PAGE).max(1);
    let invalid = || ApiError::new("ValidationError", 400, "Invalid Marker.");
    let after = marker
        .map(|marker| open_token(marker).ok_or_else(invalid))
        .transpose()?;
    let mut rest = items.into_iter().filter(|item| {
        after.as_deref().is_none_or(|after| name_of(item) > after)
    });
    let items: Vec<T> = rest.by_ref().take(size).collect();
    let marker = match (items.last(), rest.next()) {
        (Some(last), Some(_)) => Some(seal_token(name_of(last))),
        _ => None,
    };
    Ok(Page { items, marker })
}
