//! DeleteParameter and DeleteParameters: with all versions and labels.

use minato_store::Tx;
use minato_wire::ApiError;
use minato_wire::ssm::{
    DeleteParameterRequest, DeleteParametersRequest, DeleteParametersResult,
};

use super::no_such_parameter;
use super::rows::ParameterRow;
use crate::context::{Context, Scope};
use crate::services::Empty;

pub(super) async fn delete_parameter(
    cx: &Context,
    scope: &Scope,
    input: DeleteParameterRequest,
) -> Result<Empty, ApiError> {
    let scope = scope.clone();
    let name = input.name.unwrap_or_default();
    cx.transact(move |tx| match delete(tx, &scope, &name) {
        true => Ok(Empty {}),
        false => Err(no_such_parameter()),
    })
    .await
}

pub(super) async fn delete_parameters(
    cx: &Context,
    scope: &Scope,
    input: DeleteParametersRequest,
) -> Result<DeleteParametersResult, ApiError> {
    let scope = scope.clone();
    let names = input.names.unwrap_or_default();
    cx.transact(move |tx| {
        let (deleted, missing) =
            names.into_iter().partition(|name| delete(tx, &scope, name));
        Ok(DeleteParametersResult {
            deleted_parameters: Some(deleted),
            invalid_parameters: Some(missing),
        })
    })
    .await
}

/// Deletes a parameter by name, if there is one.
fn delete(tx: &mut Tx, scope: &Scope, name: &str) -> bool {
    let key = ParameterRow::key_of(&scope.account, &scope.region, name.trim());
    tx.delete::<ParameterRow>(&key).is_some()
}
