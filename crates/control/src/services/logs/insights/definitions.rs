//! PutQueryDefinition, DescribeQueryDefinitions and DeleteQueryDefinition:
//! queries with a name.

use minato_store::{Key, Row};
use minato_wire::logs::{
    DeleteQueryDefinitionRequest, DeleteQueryDefinitionResponse,
    DescribeQueryDefinitionsRequest, DescribeQueryDefinitionsResponse,
    PutQueryDefinitionRequest, PutQueryDefinitionResponse, QueryDefinition,
    QueryLanguage, QueryParameter, error,
};
use minato_wire::{ApiError, Timestamp};
use serde::{Deserialize, Serialize};

use super::check_language;
use crate::context::{Context, Scope};
use crate::services::logs::token::invalid_token;
use crate::tables::namespace;

/// Definitions of an account in a region (CloudWatch Logs quotas).
const MOST_DEFINITIONS: usize = 1000;
/// Definitions on a page, by default and at most.
const PAGE: usize = 1000;

/// A query with a name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct QueryDefinitionRow {
    pub(crate) account: String,
    pub(crate) region: String,
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) text: String,
    #[serde(default)]
    pub(crate) groups: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) parameters: Option<Vec<QueryParameter>>,
    /// Of the call that made it, which may be sent again.
    #[serde(default)]
    pub(crate) client_token: Option<String>,
    pub(crate) modified_at: Timestamp,
}

impl Row for QueryDefinitionRow {
    const TABLE: &'static str = "logs.query_definition";

    fn key(&self) -> Key {
        Key::of([&self.account, &self.region, &self.id])
    }
}

fn no_such_definition() -> ApiError {
    error::resource_not_found_exception(
        "The specified query definition does not exist.",
    )
}

pub(crate) async fn put_query_definition(
    cx: &Context,
    scope: &Scope,
    input: PutQueryDefinitionRequest,
) -> Result<PutQueryDefinitionResponse, ApiError> {
    check_language(input.query_language)?;
    let given = input.query_definition_id;
    let mut row = QueryDefinitionRow {
        account: scope.account.clone(),
        region: scope.region.clone(),
        id: minato_core::id::hyphenated(cx.ids.uuid()),
        name: input.name.unwrap_or_default(),
        text: input.query_string.unwrap_or_default(),
        groups: input.log_group_names,
        parameters: input.parameters,
        client_token: input.client_token,
        modified_at: scope.now,
    };
    cx.transact(move |tx| {
        let namespace = namespace(&row.account, &row.region);
        let answer = |id: &str| {
            let id = Some(id.to_owned());
            Ok(PutQueryDefinitionResponse { query_definition_id: id })
        };
        if let Some(id) = given {
            row.id = id;
            let known = tx.get::<QueryDefinitionRow>(&row.key());
            row.client_token =
                known.ok_or_else(no_such_definition)?.client_token.clone();
        } else {
            let mut count = 0;
            for known in tx.scan::<QueryDefinitionRow>(&namespace) {
                let token = row.client_token.as_ref();
                if token.is_some() && known.client_token.as_ref() == token {
                    return answer(&known.id);
                }
                count += 1;
            }
            if count >= MOST_DEFINITIONS {
                return Err(error::limit_exceeded_exception(
                    "Resource limit exceeded.",
                ));
            }
        }
        let answer = answer(&row.id);
        tx.put(row);
        answer
    })
    .await
}

pub(crate) async fn describe_query_definitions(
    cx: &Context,
    scope: &Scope,
    input: DescribeQueryDefinitionsRequest,
) -> Result<DescribeQueryDefinitionsResponse, ApiError> {
    let snapshot = cx.snapshot();
    let prefix = input.query_definition_name_prefix.unwrap_or_default();
    let is_ours = input.query_language.is_none_or(|l| l == QueryLanguage::Cwli);
    let mut rows: Vec<_> = snapshot
        .scan::<QueryDefinitionRow>(&namespace(&scope.account, &scope.region))
        .filter(|row| is_ours && row.name.starts_with(&prefix))
        .collect();
    rows.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    let after = match input.next_token.as_deref() {
        None => None,
        Some(token) => {
            let place = crate::services::open_token(token);
            let place = place.ok_or_else(invalid_token)?;
            let place = place.split_once('\n');
            let (id, name) = place.ok_or_else(invalid_token)?;
            Some((name.to_owned(), id.to_owned()))
        }
    };
    let most = input.max_results.and_then(|most| usize::try_from(most).ok());
    let most = most.unwrap_or(PAGE).clamp(1, PAGE);
    let mut rest = rows.into_iter().filter(|row| {
        let after = after.as_ref();
        after.is_none_or(|(name, id)| (&row.name, &row.id) > (name, id))
    });
    let page: Vec<_> = rest.by_ref().take(most).collect();
    let next_token = match (page.last(), rest.next()) {
        (Some(last), Some(_)) => {
            let place = format!("{}\n{}", last.id, last.name);
            Some(crate::services::seal_token(&place))
        }
        _ => None,
    };
    let definitions = page.iter().map(|row| QueryDefinition {
        query_language: Some(QueryLanguage::Cwli),
        query_definition_id: Some(row.id.clone()),
        name: Some(row.name.clone()),
        query_string: Some(row.text.clone()),
        last_modified: Some(row.modified_at.as_millis()),
        log_group_names: row.groups.clone(),
        parameters: row.parameters.clone(),
    });
    Ok(DescribeQueryDefinitionsResponse {
        query_definitions: Some(definitions.collect()),
        next_token,
    })
}

pub(crate) async fn delete_query_definition(
    cx: &Context,
    scope: &Scope,
    input: DeleteQueryDefinitionRequest,
) -> Result<DeleteQueryDefinitionResponse, ApiError> {
    let id = input.query_definition_id.unwrap_or_default();
    let key = Key::of([&scope.account, &scope.region, &id]);
    cx.transact(move |tx| {
        let known = tx.delete::<QueryDefinitionRow>(&key);
        known.ok_or_else(no_such_definition)?;
        Ok(DeleteQueryDefinitionResponse { success: Some(true) })
    })
    .await
}
