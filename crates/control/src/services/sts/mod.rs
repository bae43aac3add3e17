//! AWS STS: who calls, and temporary credentials.

mod identity;
pub(crate) mod rows;
mod sessions;
pub(crate) mod tasks;
#[cfg(test)]
mod tests;

use minato_store::Tables;
use minato_wire::ApiError;

use super::operations;
use crate::call::{Caller, Credential};
use crate::context::Context;
use crate::coverage::Support;

/// The error of an operation that Minato does not serve.
fn unserved(message: String) -> ApiError {
    ApiError::new("InvalidAction", 400, message)
}

const FEDERATION: &str = "identity providers are not built";

operations! {
    served {
        "AssumeRole", Support::Partial("trust policies are not evaluated; no session policies, tags or MFA") => sessions::assume_role;
        "GetCallerIdentity", Support::Full => identity::get_caller_identity;
        "GetSessionToken", Support::Partial("no MFA") => sessions::get_session_token;
    }
    refused {
        "AssumeRoleWithSAML": FEDERATION;
        "AssumeRoleWithWebIdentity": FEDERATION;
        "AssumeRoot": "organisations are not built";
        "DecodeAuthorizationMessage": "nothing here encodes such messages";
        "GetAccessKeyInfo": "there is one account to a key, and its owner knows";
        "GetDelegatedAccessToken": FEDERATION;
        "GetFederationToken": FEDERATION;
        "GetWebIdentityToken": FEDERATION;
    }
}

/// Adds the tables of the service.
pub(crate) fn tables(tables: Tables) -> Tables {
    tables
        .with::<rows::SessionRow>()
        .with::<rows::TaskRoles>()
        .retired("sts.session")
}

/// The temporary credential of an access key id.
pub(crate) fn credential(
    cx: &Context,
    access_key_id: &str,
) -> Option<Credential> {
    let row = cx
        .snapshot()
        .get::<rows::SessionRow>(&rows::SessionRow::key_of(access_key_id))?;
    let opened = row.open(&cx.config.seal_key).inspect_err(|error| {
        tracing::warn!(access_key_id, %error, "a session cannot be used");
    });
    let rows::Secrets { secret, token } = opened.ok()?;
    Some(Credential {
        secret,
        session_token: Some(token),
        expires_at: Some(row.expires_at),
        caller: Caller {
            account: row.account.clone(),
            arn: row.arn.clone(),
            user_id: row.user_id.clone(),
            access_key_id: row.access_key_id.clone(),
        },
    })
}
