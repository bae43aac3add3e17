//! Paging of lists.
//!
//! A token is the last item of the page before, hidden so that nobody builds
//! on its form. Items are compared by their key, so a page goes on at the
//! right place even when the item itself is gone.

use minato_wire::ApiError;
use minato_wire::ecs::error;

/// Items of one page and the way to the next.
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    pub(crate) next_token: Option<String>,
}

/// Cuts a page out of `items`, which must come in the order of their keys.
///
/// `most` is both the default and the largest `maxResults`.
pub(crate) fn page<T>(
    items: impl Iterator<Item = T>,
    key: impl Fn(&T) -> &str,
    max_results: Option<i32>,
    token: Option<&str>,
    most: usize,
) -> Result<Page<T>, ApiError> {
    page_between(items, key, max_results, token, most, most)
}

/// Like [`page`], where the default is not the largest size.
pub(crate) fn page_between<T>(
    items: impl Iterator<Item = T>,
    key: impl Fn(&T) -> &str,
    max_results: Option<i32>,
    token: Option<&str>,
    default: usize,
    most: usize,
) -> Result<Page<T>, ApiError> {
    let size = page_size(max_results, default, most)?;
    let after = token.map(open).transpose()?;
    let mut rest = items
        .filter(|item| after.as_deref().is_none_or(|after| key(item) > after));
    let items: Vec<T> = rest.by_ref().take(size).collect();
    let next_token = match (rest.next(), items.last()) {
        (Some(_), Some(last)) => Some(seal(key(last))),
        _ => None,
    };
    Ok(Page { items, next_token })
}

/// The page size asked for, within 1 and `most`.
pub(crate) fn page_size(
    max_results: Option<i32>,
    default: usize,
    most: usize,
) -> Result<usize, ApiError> {
    let Some(given) = max_results else { return Ok(default) };
    usize::try_from(given)
        .ok()
        .filter(|size| (1..=most).contains(size))
        .ok_or_else(|| {
            error::invalid_parameter_exception(format!(
                "maxResults must be between 1 and {most}."
            ))
        })
}

/// Hides a key in a token.
pub(crate) fn seal(key: &str) -> String {
    key.bytes().map(|byte| format!("{:02x}", byte ^ MASK)).collect()
}

/// The key in a token.
pub(crate) fn open(token: &str) -> Result<String, ApiError> {
    let invalid =
        || error::invalid_parameter_exception("Invalid token in request.");
    if !token.len().is_multiple_of(2) || !token.is_ascii() {
        return Err(invalid());
    }
    let bytes: Option<Vec<u8>> = (0..token.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&token[at..at + 2], 16).ok())
        .map(|byte| byte.map(|byte| byte ^ MASK))
        .collect();
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(invalid)
}

/// Keeps readers from taking a token for a name.
const MASK: u8 = 0x5a;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pages_follow_each_other_without_gap_or_repeat() {
        let all: Vec<String> = (0..25).map(|n| format!("{n:02}")).collect();
        let mut seen = vec![];
        let mut token = None;
        loop {
            let page = page(
                all.iter().cloned(),
                |item| item.as_str(),
                Some(10),
                token.as_deref(),
                100,
            )
            .unwrap();
            seen.extend(page.items);
            token = page.next_token;
            if token.is_none() {
                break;
            }
        }
        assert_eq!(seen, all);
    }

    #[test]
    fn the_last_full_page_has_no_token() {
        let all = ["a", "b"].map(str::to_owned);
        let page =
            page(all.into_iter(), |item| item.as_str(), Some(2), None, 100);
        assert!(page.unwrap().next_token.is_none());
    }

    #[test]
    fn sizes_out_of_range_are_refused() {
        for size in [0, -1, 101] {
            let error = page_size(Some(size), 100, 100).unwrap_err();
            assert_eq!(error.code(), "InvalidParameterException");
        }
    }

    proptest! {
        #[test]
        fn tokens_open_to_what_was_sealed(key in ".*") {
            prop_assert_eq!(open(&seal(&key)).unwrap(), key);
        }

        #[test]
        fn no_token_panics(token in "\\PC*") {
            let _ = open(&token);
        }
    }
}
