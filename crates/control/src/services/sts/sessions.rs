//! AssumeRole and GetSessionToken.

use std::sync::Arc;

use minato_store::{Key, Row as _, Tx};
use minato_wire::ApiError;
use minato_wire::sts::{
    AssumeRoleRequest, AssumeRoleResponse, AssumedRoleUser, Credentials,
    GetSessionTokenRequest, GetSessionTokenResponse,
};

use super::rows::SessionRow;
use crate::context::{Context, Scope};
use crate::services::iam::base32;
use crate::services::iam::rows::RoleRow;

/// How long a role is assumed where nothing is said, and how long a session
/// that assumes another role may last at most (role chaining).
const HOUR_SECONDS: i32 = 3600;
/// How long GetSessionToken's credentials last where nothing is said.
const SESSION_SECONDS: i32 = 12 * HOUR_SECONDS;
/// Expired rows removed beside each new one: more than one, so that their
/// number falls, and few, so that no call pays for a long pause.
const EXPIRED_AT_ONCE: usize = 16;

fn denied(message: impl Into<String>) -> ApiError {
    ApiError::new("AccessDenied", 403, message)
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new("ValidationError", 400, message)
}

/// Credentials of temporary sessions begin so.
fn is_temporary(scope: &Scope) -> bool {
    scope.caller.access_key_id.starts_with("ASIA")
}

pub(super) async fn assume_role(
    cx: &Context,
    scope: &Scope,
    input: AssumeRoleRequest,
) -> Result<AssumeRoleResponse, ApiError> {
    check_unsupported(&input)?;
    let role = role(cx, scope, input.role_arn.as_deref().unwrap_or_default())?;
    let seconds = input.duration_seconds.unwrap_or(HOUR_SECONDS);
    if seconds > role.max_session_seconds {
        return Err(invalid(
            "The requested DurationSeconds exceeds the MaxSessionDuration \
             set for this role.",
        ));
    }
    if is_temporary(scope) && seconds > HOUR_SECONDS {
        return Err(invalid(
            "The requested DurationSeconds exceeds the 1 hour session limit \
             for roles assumed by role chaining.",
        ));
    }
    let session = input.role_session_name.unwrap_or_default();
    let RoleRow { account, name, partition, id, .. } = &*role;
    let arn =
        format!("arn:{partition}:sts::{account}:assumed-role/{name}/{session}");
    let user_id = format!("{id}:{session}");
    let user = AssumedRoleUser {
        assumed_role_id: Some(user_id.clone()),
        arn: Some(arn.clone()),
    };
    let row = new_session(cx, scope, account.clone(), arn, user_id, seconds);
    let credentials = keep(cx, scope, row).await?;
    Ok(AssumeRoleResponse {
        credentials: Some(credentials),
        assumed_role_user: Some(user),
        packed_policy_size: None,
        source_identity: input.source_identity,
    })
}

/// Refuses what would have to narrow the session's rights, or prove the
/// caller's: nothing here could keep that promise.
fn check_unsupported(input: &AssumeRoleRequest) -> Result<(), ApiError> {
    let policies = input.policy_arns.as_ref().is_some_and(|p| !p.is_empty());
    if input.policy.is_some() || policies {
        return Err(invalid("Minato does not support session policies."));
    }
    let tags = input.tags.as_ref().is_some_and(|tags| !tags.is_empty());
    if tags || input.provided_contexts.is_some() {
        return Err(invalid("Minato does not support session tags."));
    }
    if input.serial_number.is_some() || input.token_code.is_some() {
        return Err(denied(
            "MultiFactorAuthentication failed, unable to validate MFA code.",
        ));
    }
    Ok(())
}

/// The role that an ARN names. AWS does not say whether a role is missing
/// or only forbidden.
fn role(
    cx: &Context,
    scope: &Scope,
    arn: &str,
) -> Result<Arc<RoleRow>, ApiError> {
    let mut parts = arn.splitn(6, ':');
    let head = (parts.next(), parts.next(), parts.next(), parts.next());
    let (Some("arn"), Some(_), Some("iam"), Some("")) = head else {
        return Err(invalid(format!("{arn} is invalid")));
    };
    let account = parts.next().unwrap_or_default();
    let name = parts.next().and_then(|resource| {
        let name = resource.strip_prefix("role/")?;
        name.rsplit('/').next()
    });
    let Some(name) = name else {
        return Err(invalid(format!("{arn} is invalid")));
    };
    cx.snapshot()
        .get::<RoleRow>(&RoleRow::key_of(account, name))
        .filter(|role| role.arn() == arn)
        .ok_or_else(|| {
            denied(format!(
                "User: {} is not authorized to perform: sts:AssumeRole on \
                 resource: {arn}",
                scope.caller.arn
            ))
        })
}

pub(super) async fn get_session_token(
    cx: &Context,
    scope: &Scope,
    input: GetSessionTokenRequest,
) -> Result<GetSessionTokenResponse, ApiError> {
    if is_temporary(scope) {
        return Err(denied(
            "Cannot call GetSessionToken with session credentials",
        ));
    }
    if input.serial_number.is_some() || input.token_code.is_some() {
        return Err(denied(
            "MultiFactorAuthentication failed, unable to validate MFA code.",
        ));
    }
    let seconds = input.duration_seconds.unwrap_or(SESSION_SECONDS);
    // The root user's tokens last an hour at most, whatever is asked for.
    let is_root = scope.caller.arn.ends_with(":root");
    let seconds = if is_root { seconds.min(HOUR_SECONDS) } else { seconds };
    let caller = &scope.caller;
    let (arn, user_id) = (caller.arn.clone(), caller.user_id.clone());
    let account = scope.account.clone();
    let row = new_session(cx, scope, account, arn, user_id, seconds);
    let credentials = keep(cx, scope, row).await?;
    Ok(GetSessionTokenResponse { credentials: Some(credentials) })
}

/// Draws a key, a secret and a token.
fn new_session(
    cx: &Context,
    scope: &Scope,
    account: String,
    arn: String,
    user_id: String,
    seconds: i32,
) -> SessionRow {
    // A UUID gives 80 bits that are all random to 16 digits of base 32.
    let random = |count: usize| -> String {
        (0..count).map(|_| base32(cx.ids.uuid(), 8)).collect()
    };
    SessionRow {
        access_key_id: format!("ASIA{}", random(2)),
        secret: random(5),
        token: format!("FwoGZXIvYXdzE{}", random(12)),
        expires_at: scope.now.plus_millis(i64::from(seconds) * 1000),
        account,
        arn,
        user_id,
    }
}

async fn keep(
    cx: &Context,
    scope: &Scope,
    row: SessionRow,
) -> Result<Credentials, ApiError> {
    let credentials = Credentials {
        access_key_id: Some(row.access_key_id.clone()),
        secret_access_key: Some(row.secret.clone()),
        session_token: Some(row.token.clone()),
        expiration: Some(row.expires_at),
    };
    let now = scope.now;
    cx.transact(move |tx| {
        forget_expired(tx, now);
        tx.put(row);
        Ok(())
    })
    .await?;
    Ok(credentials)
}

/// Removes some of the sessions that are over.
fn forget_expired(tx: &mut Tx, now: minato_wire::Timestamp) {
    let expired: Vec<Arc<SessionRow>> = tx
        .by_index::<SessionRow>(SessionRow::BY_EXPIRY, &Key::root())
        .take_while(|session| session.expires_at <= now)
        .take(EXPIRED_AT_ONCE)
        .collect();
    for session in expired {
        tx.delete::<SessionRow>(&session.key());
    }
}
