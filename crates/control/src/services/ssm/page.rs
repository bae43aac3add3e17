//! Pages of parameters, in the order of their names.

use std::sync::Arc;

use minato_store::Snapshot;
use minato_wire::ApiError;
use minato_wire::ssm::error;

use super::rows::ParameterRow;
use crate::context::Scope;
use crate::services::{open_token, seal_token};

/// Which list a token is of, how long its pages are and where this one begins.
pub(super) struct Start<'a> {
    /// Ties tokens to their operation.
    pub(super) list: &'static str,
    /// Items on a page, by default and at most.
    pub(super) most: usize,
    /// Items asked for.
    pub(super) max_results: Option<i32>,
    pub(super) token: Option<&'a str>,
}

/// One page and the token of the next.
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    pub(super) next_token: Option<String>,
}

impl Start<'_> {
    /// The place after which the page begins.
    pub(super) fn after(&self) -> Result<Option<String>, ApiError> {
        let Some(token) = self.token else { return Ok(None) };
        let place = open_token(token).and_then(|place| {
            let place = place.strip_prefix(self.list)?.strip_prefix(':')?;
            Some(place.to_owned())
        });
        place.map(Some).ok_or_else(invalid_token)
    }

    /// Cuts a page out of items that come with their places.
    pub(super) fn cut<T>(
        &self,
        mut rest: impl Iterator<Item = (String, T)>,
    ) -> Page<T> {
        let asked = self.max_results.and_then(|max| usize::try_from(max).ok());
        let size = asked.unwrap_or(self.most).clamp(1, self.most);
        let (places, items): (Vec<String>, Vec<T>) =
            rest.by_ref().take(size).unzip();
        let next_token = match (places.last(), rest.next()) {
            (Some(last), Some(_)) => {
                Some(seal_token(&format!("{}:{last}", self.list)))
            }
            (Some(_) | None, Some(_) | None) => None,
        };
        Page { items, next_token }
    }

    /// A page of an account's parameters in a region, of which some are
    /// picked.
    pub(super) fn of_parameters<T>(
        &self,
        snapshot: &Snapshot,
        scope: &Scope,
        pick: impl Fn(&Arc<ParameterRow>) -> Option<T>,
    ) -> Result<Page<T>, ApiError> {
        let prefix = ParameterRow::prefix_of(&scope.account, &scope.region);
        let after = match self.after()? {
            Some(name) => prefix.with(name),
            None => prefix.clone(),
        };
        let rows = snapshot.scan_after::<ParameterRow>(&prefix, &after);
        Ok(self
            .cut(rows.filter_map(|row| Some((row.name.clone(), pick(&row)?)))))
    }
}

pub(super) fn invalid_token() -> ApiError {
    error::invalid_next_token("The specified token isn't valid.")
}
