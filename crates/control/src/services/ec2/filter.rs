//! What the Describe calls share: filters, ids, paging, dry runs.

use minato_wire::ApiError;
use minato_wire::ec2::Filter;

use crate::services::{open_token, seal_token};

/// Filter values in one call (EC2 API reference, filtering).
const MAX_VALUES: usize = 200;

/// An error of EC2, which models none.
pub(super) fn error(
    code: &'static str,
    message: impl Into<String>,
) -> ApiError {
    ApiError::new(code, 400, message)
}

/// Says that a call lacks a parameter.
pub(super) fn missing(name: &str) -> ApiError {
    error(
        "MissingParameter",
        format!("The request must contain the parameter {name}"),
    )
}

/// Refuses a dry run the way EC2 says that it would have worked.
pub(super) fn check_dry_run(dry_run: Option<bool>) -> Result<(), ApiError> {
    match dry_run {
        Some(true) => Err(ApiError::new(
            "DryRunOperation",
            412,
            "Request would have succeeded, but DryRun flag is set.",
        )),
        Some(false) | None => Ok(()),
    }
}

/// Whether a resource passes all filters. `values_of` gives the values that
/// it has for a filter's name, or nothing for a name that does not exist.
pub(super) fn passes(
    filters: &[Filter],
    values_of: impl Fn(&str) -> Option<Vec<String>>,
) -> Result<bool, ApiError> {
    let mut passes = true;
    let mut count = 0;
    for filter in filters {
        let name = filter.name.as_deref().unwrap_or_default();
        let Some(values) = values_of(name) else {
            return Err(error(
                "InvalidParameterValue",
                format!("The filter '{name}' is invalid"),
            ));
        };
        let wanted = filter.values.as_deref().unwrap_or_default();
        count += wanted.len();
        if count > MAX_VALUES {
            return Err(error(
                "FilterLimitExceeded",
                format!("The maximum number of filter values is {MAX_VALUES}."),
            ));
        }
        passes &= wanted.iter().any(|wanted| {
            values.iter().any(|value| matches_wildcard(wanted, value))
        });
    }
    Ok(passes)
}

/// `*` stands for any characters, `?` for one; a backslash takes the meaning
/// from the character behind it.
pub(super) fn matches_wildcard(pattern: &str, text: &str) -> bool {
    #[derive(PartialEq)]
    enum Token {
        Any,
        One,
        Literal(char),
    }
    let mut tokens = vec![];
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        tokens.push(match c {
            '*' => Token::Any,
            '?' => Token::One,
            '\\' => Token::Literal(chars.next().unwrap_or('\\')),
            c => Token::Literal(c),
        });
    }
    // Greedy, with one step back to the newest star: linear in practice and
    // never worse than the product of the lengths.
    let text: Vec<char> = text.chars().collect();
    let (mut at, mut token) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while at < text.len() {
        match tokens.get(token) {
            Some(Token::Any) => {
                star = Some((token, at));
                token += 1;
            }
            Some(Token::One) => (at, token) = (at + 1, token + 1),
            Some(Token::Literal(c)) if *c == text[at] => {
                (at, token) = (at + 1, token + 1);
            }
            _ => match star {
                Some((after, from)) => {
                    star = Some((after, from + 1));
                    (at, token) = (from + 1, after + 1);
                }
                None => return false,
            },
        }
    }
    tokens[token..].iter().all(|token| *token == Token::Any)
}

/// What a Describe call may ask for by id.
pub(super) struct Ids<'a> {
    /// The ids asked for; empty means all.
    pub(super) given: &'a [String],
    /// What every id begins with, such as `vpc-`.
    pub(super) prefix: &'static str,
    /// The error's stem, such as `InvalidVpcID`.
    pub(super) code: &'static str,
    /// The resource in words, such as `vpc ID`.
    pub(super) noun: &'static str,
}

impl Ids<'_> {
    /// Whether `id` is asked for.
    pub(super) fn holds(&self, id: &str) -> bool {
        self.given.is_empty() || self.given.iter().any(|given| given == id)
    }

    /// Refuses ids that are none, or that none of `known` has.
    pub(super) fn check<'k>(
        &self,
        known: impl Fn(&str) -> bool + 'k,
    ) -> Result<(), ApiError> {
        for id in self.given {
            if !id.starts_with(self.prefix) {
                return Err(ApiError::new(
                    format!("{}.Malformed", self.code),
                    400,
                    format!(
                        "Invalid id: \"{id}\" (expecting \"{}...\")",
                        self.prefix
                    ),
                ));
            }
            if !known(id) {
                return Err(ApiError::new(
                    format!("{}.NotFound", self.code),
                    400,
                    format!("The {} '{id}' does not exist", self.noun),
                ));
            }
        }
        Ok(())
    }
}

/// Results on a page where nothing is asked for, and at most.
const PAGE: usize = 1000;
/// The smallest page that may be asked for.
const SMALLEST_PAGE: i32 = 5;

/// Cuts a page out of items that come in the order of their ids.
pub(super) fn page<T>(
    items: Vec<T>,
    id_of: impl Fn(&T) -> &str,
    ids: &Ids<'_>,
    max_results: Option<i32>,
    token: Option<&str>,
) -> Result<(Vec<T>, Option<String>), ApiError> {
    if max_results.is_some() && !ids.given.is_empty() {
        return Err(error(
            "InvalidParameterCombination",
            "The parameter MaxResults cannot be used with a list of ids",
        ));
    }
    let size = match max_results {
        None => PAGE,
        Some(given) => usize::try_from(given)
            .ok()
            .filter(|size| given >= SMALLEST_PAGE && *size <= PAGE)
            .ok_or_else(|| {
                error(
                    "InvalidParameterValue",
                    format!(
                        "Value ( {given} ) for parameter maxResults is \
                         invalid. Expecting a value between {SMALLEST_PAGE} \
                         and {PAGE}."
                    ),
                )
            })?,
    };
    let invalid = || {
        error(
            "InvalidPaginationToken",
            "The provided pagination token is invalid",
        )
    };
    let after =
        token.map(|token| open_token(token).ok_or_else(invalid)).transpose()?;
    let mut rest = items.into_iter().filter(|item| {
        after.as_deref().is_none_or(|after| id_of(item) > after)
    });
    let page: Vec<T> = rest.by_ref().take(size).collect();
    let next = match (page.last(), rest.next()) {
        (Some(last), Some(_)) => Some(seal_token(id_of(last))),
        _ => None,
    };
    Ok((page, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_and_escapes() {
        for (pattern, text, expected) in [
            ("us-east-1a", "us-east-1a", true),
            ("us-east-*", "us-east-1a", true),
            ("us-east-1?", "us-east-1a", true),
            ("*east*", "us-east-1a", true),
            ("?", "", false),
            ("*", "", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            (r"a\*", "a*", true),
            (r"a\*", "ab", false),
        ] {
            assert_eq!(
                matches_wildcard(pattern, text),
                expected,
                "{pattern} {text}"
            );
        }
    }
}
