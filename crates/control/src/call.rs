//! A request after the gateway: verified, decoded and stamped.

use std::fmt;
use std::future::Future;

use bytes::Bytes;
use minato_wire::event_stream::StreamEvent;
use minato_wire::model::{Operation, Protocol, Service};
use minato_wire::sigv4::Proof;
use minato_wire::{ApiError, Timestamp};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::sessions::DataChannel;

/// Who calls, as the signature proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The 12-digit account.
    pub account: String,
    /// The principal's ARN, as `GetCallerIdentity` shows it.
    pub arn: String,
    /// The principal's unique id, as `GetCallerIdentity` shows it.
    pub user_id: String,
    /// The access key the call was signed with.
    pub access_key_id: String,
}

/// What is needed to check a signature, and who it then is.
#[derive(Clone)]
pub struct Credential {
    /// The secret access key.
    pub secret: String,
    /// The session token that must come with it, for temporary credentials.
    pub session_token: Option<String>,
    /// When it stops to be valid, for temporary credentials.
    pub expires_at: Option<Timestamp>,
    /// The principal.
    pub caller: Caller,
}

impl fmt::Debug for Credential {
    // Never prints the secret or the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("caller", &self.caller)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// One verified API call.
#[derive(Clone, Debug)]
pub struct Call {
    /// The service called.
    pub service: &'static Service,
    /// The operation called.
    pub operation: &'static Operation,
    /// The input, checked against the model.
    pub input: Value,
    /// Who calls.
    pub caller: Caller,
    /// The region of the signature's scope.
    pub region: String,
    /// The id that the answer carries.
    pub request_id: String,
    /// When the gateway took it in.
    pub received_at: Timestamp,
    /// How the caller named this server, with its port.
    pub authority: Option<String>,
}

/// A request as its protocol decoded it, before anyone vouches for it.
#[derive(Clone, Debug)]
pub struct Request {
    /// The service called.
    pub service: &'static Service,
    /// The operation called.
    pub operation: &'static Operation,
    /// The input, checked against the model.
    pub input: Value,
    /// The id that the answer carries.
    pub request_id: String,
    /// When the gateway took it in.
    pub received_at: Timestamp,
    /// How the caller named this server, with its port.
    pub authority: Option<String>,
}

/// A value that a checked signature vouches for.
///
/// A backend takes nothing else, so a path from a socket to a handler that
/// goes around the signature does not compile.
#[derive(Clone, Debug)]
pub struct Verified<T>(T);

impl Verified<Call> {
    /// Joins a request with the proof of who sent it.
    pub fn new(proof: Proof, caller: Caller, request: Request) -> Self {
        Verified(Call {
            service: request.service,
            operation: request.operation,
            input: request.input,
            caller: Caller {
                access_key_id: proof.access_key_id().to_owned(),
                ..caller
            },
            region: proof.region().to_owned(),
            request_id: request.request_id,
            received_at: request.received_at,
            authority: request.authority,
        })
    }
}

impl<T> Verified<T> {
    /// The value.
    pub fn get(&self) -> &T {
        &self.0
    }

    /// The value, without its proof.
    pub fn into_inner(self) -> T {
        self.0
    }
}

/// An answer that goes on: events as they happen. The first is sent when the
/// call has succeeded; the stream ends when the sender is gone, and whoever
/// sends hears of it when the client has gone.
pub type EventStream = mpsc::Receiver<StreamEvent>;

/// What stands behind a gateway.
pub trait Backend: Send + Sync + 'static {
    /// The credential of an access key id, if it is known.
    fn credential(&self, access_key_id: &str) -> Option<Credential>;

    /// Carries out a call.
    fn call(
        &self,
        call: Verified<Call>,
    ) -> impl Future<Output = Result<Value, ApiError>> + Send;

    /// Carries out a call of an operation that answers with a stream of
    /// events ([`Operation::event_stream`]).
    fn stream(
        &self,
        call: Verified<Call>,
    ) -> impl Future<Output = Result<EventStream, ApiError>> + Send {
        let name = call.get().operation.name;
        let message = format!("Minato does not stream events of {name}.");
        let code = "UnsupportedOperationException";
        std::future::ready(Err(ApiError::new(code, 400, message)))
    }

    /// Opens the client's end of a data channel (ECS Exec) with the first
    /// frame that the client sent. The error is a frame too: the client is
    /// told of it before the channel closes.
    fn open_data_channel(
        &self,
        session_id: &str,
        opening: &str,
    ) -> Result<DataChannel, Bytes>;

    /// The answer to an operation that the AWS model has and this build has
    /// no shapes for.
    fn unserved(&self, service: &Service, operation: &str) -> ApiError {
        let code = match service.protocol {
            Protocol::AwsJson(_) => "UnsupportedOperationException",
            Protocol::Query | Protocol::Ec2Query => "UnsupportedOperation",
        };
        let name = service.name;
        ApiError::new(
            code,
            400,
            format!("Minato does not serve {operation} of {name}."),
        )
    }
}
