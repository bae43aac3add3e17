//! ResumeSession and TerminateSession: what the session-manager-plugin calls,
//! at the endpoint that the AWS CLI used for ECS (`exec-channel.md`, 1 and 9).

use minato_wire::ApiError;
use minato_wire::ssm::{
    ResumeSessionRequest, ResumeSessionResponse, TerminateSessionRequest,
    TerminateSessionResponse,
};

use crate::context::{Context, Scope};
use crate::services::ecs::tasks::stream_url;
use crate::sessions::exec::new_token;

/// A session that is over is answered without a token: the plugin then says
/// that it timed out, where an error would have it hang.
pub(super) async fn resume_session(
    cx: &Context,
    scope: &Scope,
    input: ResumeSessionRequest,
) -> Result<ResumeSessionResponse, ApiError> {
    let session_id = input.session_id.unwrap_or_default();
    let token = new_token(cx);
    let (account, region) = (&scope.account, &scope.region);
    let is_there =
        cx.exec.renew(account, region, &session_id, &token, scope.now);
    Ok(ResumeSessionResponse {
        stream_url: is_there.then(|| stream_url(cx, scope, &session_id)),
        token_value: is_there.then_some(token),
        session_id: Some(session_id),
    })
}

pub(super) async fn terminate_session(
    cx: &Context,
    scope: &Scope,
    input: TerminateSessionRequest,
) -> Result<TerminateSessionResponse, ApiError> {
    let session_id = input.session_id.unwrap_or_default();
    cx.exec.terminate(&scope.account, &scope.region, &session_id);
    Ok(TerminateSessionResponse { session_id: Some(session_id) })
}
