//! The rules of tags.

use std::collections::BTreeMap;

use minato_wire::ecs::Tag;

use crate::rule::RuleError;

/// The most tags one resource can have.
pub const TAGS_MAX: usize = 50;

/// Whether a key is reserved for AWS itself: `aws:`, in any case.
pub fn is_reserved(key: &str) -> bool {
    key.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("aws:"))
}

/// Checks the tags of a request and gives them as a map.
pub fn check(tags: &[Tag]) -> Result<BTreeMap<String, String>, RuleError> {
    let mut checked = BTreeMap::new();
    for tag in tags {
        let key = tag.key.as_deref().unwrap_or_default();
        let value = tag.value.as_deref().unwrap_or_default();
        check_one(key, value)?;
        if checked.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(RuleError::invalid(format!(
                "Duplicate tag keys found. Please note that Tag keys are \
                 case insensitive. Key: {key}"
            )));
        }
    }
    check_count(checked.len())?;
    Ok(checked)
}

/// Refuses more tags than a resource can have.
pub fn check_count(count: usize) -> Result<(), RuleError> {
    if count > TAGS_MAX {
        return Err(RuleError::invalid(format!(
            "The number of tags exceeds the limit of {TAGS_MAX} for a \
             resource."
        )));
    }
    Ok(())
}

/// A map of tags in the shape of the wire.
pub fn to_wire(tags: &BTreeMap<String, String>) -> Vec<Tag> {
    tags.iter()
        .map(|(key, value)| Tag {
            key: Some(key.clone()),
            value: Some(value.clone()),
        })
        .collect()
}

fn check_one(key: &str, value: &str) -> Result<(), RuleError> {
    let (keys, values) = (key.chars().count(), value.chars().count());
    if !(1..=128).contains(&keys) {
        return Err(RuleError::invalid(
            "Tag keys must have between 1 and 128 characters.",
        ));
    }
    if values > 256 {
        return Err(RuleError::invalid(
            "Tag values must have at most 256 characters.",
        ));
    }
    if is_reserved(key) {
        return Err(RuleError::invalid(
            "Tag keys beginning with aws: are reserved for system use.",
        ));
    }
    if !key.chars().chain(value.chars()).all(is_tag_char) {
        return Err(RuleError::invalid(format!(
            "The tag {key} has characters that are not allowed."
        )));
    }
    Ok(())
}

/// `[\p{L}\p{Z}\p{N}_.:/=+\-@]`
fn is_tag_char(c: char) -> bool {
    c.is_alphanumeric()
        || (c.is_whitespace() && !c.is_control())
        || "_.:/=+-@".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(key: &str, value: &str) -> Tag {
        Tag { key: Some(key.into()), value: Some(value.into()) }
    }

    #[test]
    fn good_tags_pass() {
        let tags = [tag("Stage", ""), tag("größe: a/b=c+d-e@f", "ñ 1")];
        assert_eq!(check(&tags).unwrap().len(), 2);
    }

    #[test]
    fn each_rule_holds() {
        for bad in [
            vec![tag("", "x")],
            vec![tag(&"k".repeat(129), "x")],
            vec![tag("k", &"v".repeat(257))],
            vec![tag("aws:x", "x")],
            vec![tag("AWS:x", "x")],
            vec![tag("a", "x\ny")],
            vec![tag("a{", "x")],
            vec![tag("a", "1"), tag("a", "2")],
            (0..51).map(|n| tag(&format!("k{n}"), "")).collect(),
        ] {
            assert!(check(&bad).is_err(), "{bad:?}");
        }
    }
}
