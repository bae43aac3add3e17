//! From an HTTP request to a verified call and back.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use minato_control::call::{
    self, Backend, Call, Caller, EventStream, Verified,
};
use minato_core::env::{Clock, Ids};
use minato_wire::model::{JsonVersion, Operation, Protocol, Service};
use minato_wire::protocol::{self, Route, Target};
use minato_wire::sigv4::{
    AuthError, Expected, Key, KeyCache, Proof, RequestParts, Unverified,
};
use minato_wire::{ApiError, Timestamp};
use tokio::sync::Semaphore;

use crate::request_id;

/// Answers `GET` without a signature, for load balancers and scripts.
pub const HEALTH_PATH: &str = "/_minato/health";

/// Calls at work at once, over every listener and the agent. Further ones
/// wait; connections are limited, so the waiting are too.
const MAX_CALLS_AT_WORK: usize = 512;

/// What a signature must prove.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Everything: the way to run.
    Signatures,
    /// Nothing: a request must carry a signature, but it is not compared.
    /// Unknown access keys are taken for this caller. For CI jobs on hosts
    /// that nobody else reaches (`--any-credentials`).
    AnyCredentials(Caller),
}

/// A gateway to a backend. A clone is the same gateway.
pub struct Gateway<B> {
    inner: Arc<Inner<B>>,
}

struct Inner<B> {
    backend: B,
    services: Vec<&'static Service>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    trust: Trust,
    keys: KeyCache,
    at_work: Arc<Semaphore>,
}

impl<B> Clone for Gateway<B> {
    fn clone(&self) -> Gateway<B> {
        Gateway { inner: Arc::clone(&self.inner) }
    }
}

impl<B> fmt::Debug for Gateway<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway")
            .field("services", &self.inner.services)
            .field("trust", &self.inner.trust)
            .finish_non_exhaustive()
    }
}

impl<B: Backend> Gateway<B> {
    /// A gateway that serves these services from a backend.
    pub fn new(
        backend: B,
        services: Vec<&'static Service>,
        trust: Trust,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
    ) -> Gateway<B> {
        Gateway {
            inner: Arc::new(Inner {
                backend,
                services,
                clock,
                ids,
                trust,
                keys: KeyCache::new(),
                at_work: Arc::new(Semaphore::new(MAX_CALLS_AT_WORK)),
            }),
        }
    }

    /// What stands behind it.
    pub fn backend(&self) -> &B {
        &self.inner.backend
    }

    /// Answers a request. Never fails: every failure is an answer.
    ///
    /// The work goes on if the caller stops waiting, as it does at AWS: a
    /// client that hangs up must not leave an operation half done. A panic
    /// ends as a 500 with its details in the log alone.
    ///
    /// An operation that answers with events is refused: they need a
    /// connection ([`Gateway::answer_or_stream`]).
    pub async fn answer(&self, request: Request<Bytes>) -> Response<Bytes> {
        self.carry_out(request, false).await.map(|answer| match answer {
            Answer::Whole(body) => body,
            Answer::Events(_) => Bytes::new(),
        })
    }

    /// As [`Gateway::answer`], for a connection that carries events too.
    pub(crate) async fn answer_or_stream(
        &self,
        request: Request<Bytes>,
    ) -> Response<Answer> {
        self.carry_out(request, true).await
    }

    async fn carry_out(
        &self,
        request: Request<Bytes>,
        may_stream: bool,
    ) -> Response<Answer> {
        if let Some(answer) = health(&request) {
            return answer.map(Answer::Whole);
        }
        let inner = &self.inner;
        let request_id = request_id::format(inner.ids.uuid());
        let fallback = likely_protocol(&request);
        let Ok(permit) = Arc::clone(&inner.at_work).acquire_owned().await
        else {
            return failed(fallback, &request_id, "the gateway is closed")
                .map(Answer::Whole);
        };
        let work = {
            let inner = Arc::clone(inner);
            let request_id = request_id.clone();
            async move {
                let _permit = permit;
                inner.work(request, request_id, may_stream).await
            }
        };
        match tokio::spawn(work).await {
            Ok(response) => response,
            Err(error) => {
                // The panic's own message is in the log already, by its hook.
                failed(fallback, &request_id, &error.to_string())
                    .map(Answer::Whole)
            }
        }
    }

    /// A new id and the time, for what the server says of itself.
    pub(crate) fn id_and_time(&self) -> (u128, i64) {
        (self.inner.ids.uuid(), self.inner.clock.now().as_millis())
    }

    /// The answer to a request that the server gave up on before it was
    /// whole.
    pub(crate) fn refusal(
        &self,
        protocol: Protocol,
        status: StatusCode,
        code: &'static str,
        message: &str,
    ) -> Response<Bytes> {
        let request_id = request_id::format(self.inner.ids.uuid());
        let error = ApiError::new(code, status.as_u16(), message);
        protocol::encode_error(None, protocol, &error, &request_id)
    }
}

impl<B: Backend> Inner<B> {
    async fn work(
        &self,
        mut request: Request<Bytes>,
        request_id: String,
        may_stream: bool,
    ) -> Response<Answer> {
        host_from_authority(&mut request);
        let received_at = self.clock.now();
        let admitted = self.admit(&request, &request_id, received_at);
        let (call, operation, protocol) = match admitted {
            Ok(admitted) => admitted,
            Err(response) => return response.map(Answer::Whole),
        };
        let service = call.get().service;
        let result = if operation.event_stream && may_stream {
            let (head, payloads) =
                protocol::encode_stream(protocol, &request_id);
            let stream = self.backend.stream(call).await;
            stream.map(|events| {
                head.map(|_| Answer::Events(Events { events, payloads }))
            })
        } else {
            let output = self.backend.call(call).await;
            output.map(|output| {
                protocol::encode(
                    service,
                    protocol,
                    operation,
                    &output,
                    &request_id,
                )
                .map(Answer::Whole)
            })
        };
        result.unwrap_or_else(|error| {
            refused(Some(service), protocol, &error, &request_id)
                .map(Answer::Whole)
        })
    }

    /// Everything before the call: where it leads, who sent it, what it says.
    fn admit(
        &self,
        request: &Request<Bytes>,
        request_id: &str,
        received_at: Timestamp,
    ) -> Result<Admitted, Box<Response<Bytes>>> {
        let parts = RequestParts {
            method: request.method(),
            path: request.uri().path(),
            query: request.uri().query(),
            headers: request.headers(),
            body: request.body(),
        };
        if !matches!(*parts.method, Method::POST | Method::GET) {
            return Err(Box::new(method_not_allowed()));
        }
        let claim = Unverified::parse(&parts);
        let scope = claim.as_ref().ok().map(Unverified::service);
        let route =
            protocol::route(&self.services, &parts, scope).map_err(|no| {
                refused(no.service, no.protocol, &no.error, request_id)
            })?;
        let (service, protocol) = (route.service, route.protocol);
        let refuse = |error: &ApiError| {
            Box::new(refused(Some(service), protocol, error, request_id))
        };
        let (proof, caller) = claim
            .and_then(|claim| self.verify(claim, &parts, service, received_at))
            .map_err(|error| refuse(&error.to_api_error(protocol)))?;
        let (operation, input) =
            self.read(&route, parts.body).map_err(|error| refuse(&error))?;
        let authority = parts.headers.get(HOST);
        let authority = authority.and_then(|host| host.to_str().ok());
        let request = call::Request {
            authority: authority.map(str::to_owned),
            service,
            operation,
            input,
            request_id: request_id.to_owned(),
            received_at,
        };
        let call = Verified::new(proof, caller, request);
        Ok((call, operation, protocol))
    }

    fn read(
        &self,
        route: &Route,
        body: &[u8],
    ) -> Result<(&'static Operation, serde_json::Value), ApiError> {
        match route.target {
            Target::Operation(operation) => {
                let input = protocol::decode(route, operation, body)?;
                Ok((operation, input))
            }
            Target::Unserved(name) => {
                Err(self.backend.unserved(route.service, name))
            }
        }
    }

    fn verify(
        &self,
        claim: Unverified,
        parts: &RequestParts<'_>,
        service: &'static Service,
        now: Timestamp,
    ) -> Result<(Proof, Caller), AuthError> {
        let credential = self.backend.credential(claim.access_key_id());
        match (&self.trust, credential) {
            (Trust::AnyCredentials(anyone), credential) => {
                let caller = credential
                    .map_or_else(|| anyone.clone(), |known| known.caller);
                Ok((claim.waive(), caller))
            }
            (Trust::Signatures, None) => Err(AuthError::UnknownKey),
            (Trust::Signatures, Some(credential)) => {
                let key = Key {
                    secret: &credential.secret,
                    session_token: credential.session_token.as_deref(),
                    expires_at: credential.expires_at,
                };
                let expected = Expected::of(service);
                let proof =
                    claim.verify(parts, key, expected, now, &self.keys)?;
                Ok((proof, credential.caller))
            }
        }
    }
}

/// The body of an answer.
pub(crate) enum Answer {
    Whole(Bytes),
    Events(Events),
}

/// Events that follow an answer's head.
pub(crate) struct Events {
    pub(crate) events: EventStream,
    /// The content type of their payloads.
    pub(crate) payloads: &'static str,
}

type Admitted = (Verified<Call>, &'static Operation, Protocol);

impl<B: Backend> tower::Service<Request<Bytes>> for Gateway<B> {
    type Response = Response<Bytes>;
    type Error = Infallible;
    type Future = Pin<
        Box<dyn Future<Output = Result<Response<Bytes>, Infallible>> + Send>,
    >;

    fn poll_ready(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let gateway = self.clone();
        Box::pin(async move { Ok(gateway.answer(request).await) })
    }
}

fn health(request: &Request<Bytes>) -> Option<Response<Bytes>> {
    let is_get = matches!(*request.method(), Method::GET | Method::HEAD);
    if !is_get || request.uri().path() != HEALTH_PATH {
        return None;
    }
    let body = Bytes::from_static(b"{\"status\":\"ok\"}");
    let mut response = Response::new(body);
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert("content-type", json);
    Some(response)
}

fn method_not_allowed() -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    let allowed = HeaderValue::from_static("GET, POST");
    response.headers_mut().insert("allow", allowed);
    response
}

/// The protocol to answer in where all else failed.
pub(crate) fn likely_protocol<T>(request: &Request<T>) -> Protocol {
    let is_form = request.headers().get("content-type").is_some_and(|value| {
        value.as_bytes().starts_with(b"application/x-www")
    });
    if is_form { Protocol::Query } else { Protocol::AwsJson(JsonVersion::V1_1) }
}

/// In-memory and HTTP/2 requests may name their host in the URI alone.
fn host_from_authority(request: &mut Request<Bytes>) {
    if request.headers().contains_key(HOST) {
        return;
    }
    let Some(authority) = request.uri().authority() else { return };
    if let Ok(host) = HeaderValue::from_str(authority.as_str()) {
        request.headers_mut().insert(HOST, host);
    }
}

fn refused(
    service: Option<&Service>,
    protocol: Protocol,
    error: &ApiError,
    request_id: &str,
) -> Response<Bytes> {
    if error.status() >= 500 || error.internal().is_some() {
        tracing::warn!(
            request_id,
            code = error.code(),
            details = error.internal(),
            "call failed"
        );
    }
    protocol::encode_error(service, protocol, error, request_id)
}

fn failed(
    protocol: Protocol,
    request_id: &str,
    details: &str,
) -> Response<Bytes> {
    let error = protocol::internal_error(protocol).with_internal(details);
    refused(None, protocol, &error, request_id)
}
