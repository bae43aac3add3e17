//! AssumeRole and GetSessionToken.

use std::sync::Arc;

use minato_store::{Key, Row as _, Tx};
use minato_wire::arn::Arn;
use minato_wire::sts::{
    AssumeRoleRequest, AssumeRoleResponse, AssumedRoleUser, Credentials,
    GetSessionTokenRequest, GetSessionTokenResponse,
};
use minato_wire::{ApiError, Timestamp};

use super::rows::{Principal, Secrets, SessionRow};
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
    let principal = Principal {
        account: account.clone(),
        arn: assumed_arn(partition, account, name, &session),
        user_id: format!("{id}:{session}"),
    };
    let user = AssumedRoleUser {
        assumed_role_id: Some(principal.user_id.clone()),
        arn: Some(principal.arn.clone()),
    };
    let credentials = begin(cx, scope, principal, seconds).await?;
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
    let named = RoleArn::parse(arn)
        .ok_or_else(|| invalid(format!("{arn} is invalid")))?;
    cx.snapshot()
        .get::<RoleRow>(&RoleRow::key_of(named.account(), named.name()))
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
    let principal = Principal {
        account: scope.account.clone(),
        arn: caller.arn.clone(),
        user_id: caller.user_id.clone(),
    };
    let credentials = begin(cx, scope, principal, seconds).await?;
    Ok(GetSessionTokenResponse { credentials: Some(credentials) })
}

/// The ARN of a role.
pub(super) struct RoleArn(Arn);

impl RoleArn {
    /// `None` where it names something else.
    pub(super) fn parse(text: &str) -> Option<RoleArn> {
        let arn = RoleArn(text.parse().ok()?);
        let is_role = arn.0.service() == "iam"
            && arn.0.region().is_empty()
            && arn.0.resource().starts_with("role/")
            && is_role_name(arn.name());
        is_role.then_some(arn)
    }

    pub(super) fn partition(&self) -> &str {
        self.0.partition()
    }

    pub(super) fn account(&self) -> &str {
        self.0.account()
    }

    /// The name, without the path.
    pub(super) fn name(&self) -> &str {
        minato_wire::arn::last_part(self.0.resource())
    }
}

/// IAM API reference, CreateRole.
pub(super) fn is_role_name(text: &str) -> bool {
    let fits =
        |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte);
    (1..=64).contains(&text.len()) && text.bytes().all(fits)
}

/// The ARN of a role's session.
pub(super) fn assumed_arn(
    partition: &str,
    account: &str,
    role: &str,
    session: &str,
) -> String {
    format!("arn:{partition}:sts::{account}:assumed-role/{role}/{session}")
}

/// Draws a key, a secret and a token.
pub(super) fn new_session(
    cx: &Context,
    principal: Principal,
    expires_at: Timestamp,
) -> Result<(SessionRow, Secrets), ApiError> {
    // A UUID gives 80 bits that are all random to 16 digits of base 32.
    let random = |count: usize| -> String {
        (0..count).map(|_| base32(cx.ids.uuid(), 8)).collect()
    };
    let access_key_id = format!("ASIA{}", random(2));
    let secrets = Secrets {
        secret: random(5),
        token: format!("FwoGZXIvYXdzE{}", random(12)),
    };
    let key = &cx.config.seal_key;
    SessionRow::seal(key, access_key_id, &secrets, principal, expires_at)
        .map(|row| (row, secrets))
        .map_err(|failure| {
            ApiError::new("InternalFailure", 500, "Service Unavailable.")
                .with_internal(failure.to_string())
        })
}

/// Begins a session and keeps it.
async fn begin(
    cx: &Context,
    scope: &Scope,
    principal: Principal,
    seconds: i32,
) -> Result<Credentials, ApiError> {
    let now = scope.now;
    let expires_at = now.plus_millis(i64::from(seconds) * 1000);
    let (row, secrets) = new_session(cx, principal, expires_at)?;
    let credentials = Credentials {
        access_key_id: Some(row.access_key_id.clone()),
        secret_access_key: Some(secrets.secret),
        session_token: Some(secrets.token),
        expiration: Some(expires_at),
    };
    cx.transact(move |tx| {
        forget_expired(tx, now);
        tx.put(row);
        Ok(())
    })
    .await?;
    Ok(credentials)
}

/// Removes some of the sessions that are over.
fn forget_expired(tx: &mut Tx, now: Timestamp) {
    let expired: Vec<Arc<SessionRow>> = tx
        .by_index::<SessionRow>(SessionRow::BY_EXPIRY, &Key::root())
        .take_while(|session| session.expires_at <= now)
        .take(EXPIRED_AT_ONCE)
        .collect();
    for session in expired {
        tx.delete::<SessionRow>(&session.key());
    }
}
