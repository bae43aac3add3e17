//! From an HTTP request to an operation and its input, and back.
//!
//! [`route`] finds the operation without looking into the input, so that the
//! signature can be checked in between; [`decode`] then reads and validates
//! the input. [`encode`] and [`encode_error`] write answers as AWS does, in
//! the protocol the request came in.

mod form;
mod json;
#[cfg(test)]
mod tests;
mod violations;
mod xml;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serde_json::Value;

pub use violations::refuse;

use crate::ApiError;
use crate::event_stream;
use crate::model::{JsonVersion, Operation, Protocol, Service};
use crate::sigv4::RequestParts;
use crate::validate;

/// Where a request leads.
#[derive(Debug)]
pub struct Route {
    /// The service.
    pub service: &'static Service,
    /// The protocol to answer in: for JSON, of the version asked with.
    pub protocol: Protocol,
    /// The operation.
    pub target: Target,
    /// The request's query, where parameters of query protocols may be.
    query: Option<String>,
}

/// The operation a request names.
#[derive(Clone, Debug)]
pub enum Target {
    /// One with shapes.
    Operation(&'static Operation),
    /// One that the AWS model has and this build has no shapes for.
    Unserved(&'static str),
}

/// A request that leads nowhere.
#[derive(Debug)]
pub struct NoRoute {
    /// The protocol to answer in.
    pub protocol: Protocol,
    /// The service, where that much is clear.
    pub service: Option<&'static Service>,
    /// The answer.
    pub error: ApiError,
}

/// Finds the operation of a request.
///
/// `scope_service` is the service of the signature's scope: query services
/// share operation names, and only the scope tells them apart.
pub fn route(
    services: &[&'static Service],
    request: &RequestParts<'_>,
    scope_service: Option<&str>,
) -> Result<Route, NoRoute> {
    let target = request.headers.get("x-amz-target");
    let content_type = request.headers.get("content-type");
    let content_type = content_type.map_or(&[][..], HeaderValue::as_bytes);
    if target.is_some() || content_type.starts_with(b"application/x-amz-json") {
        return json::route(services, target, content_type);
    }
    form::route(services, request, scope_service)
}

/// Reads and validates the input of a routed request.
pub fn decode(
    route: &Route,
    operation: &'static Operation,
    body: &[u8],
) -> Result<Value, ApiError> {
    let mut input = match (route.protocol, operation.input) {
        (Protocol::AwsJson(_), _) => json::decode(body)?,
        (_, None) => Value::Null,
        (protocol @ (Protocol::Query | Protocol::Ec2Query), Some(shape)) => {
            form::decode(protocol, shape, route.query.as_deref(), body)?
        }
    };
    if let Some(shape) = operation.input {
        let violations = validate::check(shape, &mut input);
        if !violations.is_empty() {
            return Err(refuse(route.service, operation, &violations));
        }
    }
    Ok(input)
}

/// Writes an operation's output.
pub fn encode(
    service: &Service,
    protocol: Protocol,
    operation: &Operation,
    output: &Value,
    request_id: &str,
) -> Response<Bytes> {
    let (content_type, body) = match protocol {
        Protocol::AwsJson(version) => {
            let body = match operation.output {
                Some(_) if output.is_null() => "{}".to_owned(),
                Some(_) => output.to_string(),
                None => String::new(),
            };
            (json::content_type(version), body)
        }
        Protocol::Query | Protocol::Ec2Query => (
            xml::content_type(protocol),
            xml::output(service, protocol, operation, output, request_id),
        ),
    };
    respond(StatusCode::OK, content_type, body, request_id)
}

/// The head of an answer that is a stream of events, and the content type of
/// their payloads.
pub fn encode_stream(
    protocol: Protocol,
    request_id: &str,
) -> (Response<Bytes>, &'static str) {
    let payloads = match protocol {
        Protocol::AwsJson(version) => json::content_type(version),
        Protocol::Query | Protocol::Ec2Query => xml::content_type(protocol),
    };
    let content_type = event_stream::CONTENT_TYPE;
    let head = respond(StatusCode::OK, content_type, String::new(), request_id);
    (head, payloads)
}

/// Writes an error.
pub fn encode_error(
    service: Option<&Service>,
    protocol: Protocol,
    error: &ApiError,
    request_id: &str,
) -> Response<Bytes> {
    let status = StatusCode::from_u16(error.status())
        .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let (content_type, body) = match protocol {
        Protocol::AwsJson(version) => {
            (json::content_type(version), json::error(error))
        }
        Protocol::Query => (
            xml::content_type(protocol),
            xml::query_error(service, error, request_id),
        ),
        Protocol::Ec2Query => {
            (xml::content_type(protocol), xml::ec2_error(error, request_id))
        }
    };
    let mut response = respond(status, content_type, body, request_id);
    if matches!(protocol, Protocol::AwsJson(_)) {
        let name = HeaderName::from_static("x-amzn-errortype");
        put(response.headers_mut(), name, error.code());
    }
    response
}

/// The protocol to answer in where nothing is known of the request.
pub const FALLBACK: Protocol = Protocol::AwsJson(JsonVersion::V1_1);

/// The error for our own failures, in the words of the protocol.
pub fn internal_error(protocol: Protocol) -> ApiError {
    match protocol {
        Protocol::AwsJson(_) => ApiError::new(
            "ServerException",
            500,
            "Service Unavailable. Please try again later.",
        ),
        Protocol::Query => ApiError::new(
            "InternalFailure",
            500,
            "The request processing has failed because of an unknown error, \
             exception or failure.",
        ),
        Protocol::Ec2Query => ApiError::new(
            "InternalError",
            500,
            "An internal error has occurred",
        ),
    }
}

fn respond(
    status: StatusCode,
    content_type: &'static str,
    body: String,
    request_id: &str,
) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static(content_type));
    put(headers, HeaderName::from_static("x-amzn-requestid"), request_id);
    response
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
