//! Credentials of tasks' roles.

use std::net::IpAddr;

use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::json;

use super::{Endpoint, Payer, refuse, respond, too_many_requests};

impl Endpoint {
    /// The id is what only the task knows; execution roles' credentials are
    /// the agent's own and given to nobody.
    pub(super) fn answer_credentials(
        &self,
        version: u8,
        id: Option<&str>,
        peer: IpAddr,
    ) -> Response<Bytes> {
        let bad = |status, code, what: &str| {
            let message = format!("CredentialsV{version}Request: {what}");
            refuse(status, code, &message)
        };
        let Some(id) = id else {
            self.charge(&Payer::Peer(peer));
            let what = "No Credential ID in the request";
            return bad(StatusCode::BAD_REQUEST, "NoIdInRequest", what);
        };
        let Some(task) = self.engine.find_by_credentials(id) else {
            self.charge(&Payer::Peer(peer));
            let what = "Credentials not found";
            return bad(StatusCode::BAD_REQUEST, "InvalidIdInRequest", what);
        };
        if !self.charge(&Payer::Task(task)) {
            return too_many_requests();
        }
        // A new agent has to be sent them first.
        let Some(set) = self.credentials.get(id) else {
            return bad(
                StatusCode::SERVICE_UNAVAILABLE,
                "CredentialsUninitialized",
                "Credentials uninitialized for ID",
            );
        };
        let body = json!({
            "RoleArn": set.role_arn.unwrap_or_default(),
            "AccessKeyId": set.access_key_id.unwrap_or_default(),
            "SecretAccessKey": set.secret_access_key.unwrap_or_default(),
            "Token": set.session_token.unwrap_or_default(),
            "Expiration": set.expiration.unwrap_or_default(),
        });
        respond(StatusCode::OK, &body)
    }
}
