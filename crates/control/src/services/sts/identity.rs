//! GetCallerIdentity.

use minato_wire::ApiError;
use minato_wire::sts::{GetCallerIdentityRequest, GetCallerIdentityResponse};

use crate::context::{Context, Scope};

pub(super) async fn get_caller_identity(
    _cx: &Context,
    scope: &Scope,
    _input: GetCallerIdentityRequest,
) -> Result<GetCallerIdentityResponse, ApiError> {
    Ok(GetCallerIdentityResponse {
        user_id: Some(scope.caller.user_id.clone()),
        account: Some(scope.caller.account.clone()),
        arn: Some(scope.caller.arn.clone()),
    })
}
