//! AWS JSON 1.0 and 1.1.

use http::HeaderValue;
use serde_json::{Map, Value};

use super::{NoRoute, Route, Target};
use crate::ApiError;
use crate::model::{JsonVersion, Protocol, Service};

pub(super) fn content_type(version: JsonVersion) -> &'static str {
    match version {
        JsonVersion::V1_0 => "application/x-amz-json-1.0",
        JsonVersion::V1_1 => "application/x-amz-json-1.1",
    }
}

/// The version to answer with: the one asked with, else the service's.
fn version(content_type: &[u8], service: Option<&Service>) -> JsonVersion {
    if content_type.starts_with(b"application/x-amz-json-1.0") {
        return JsonVersion::V1_0;
    }
    if content_type.starts_with(b"application/x-amz-json-1.1") {
        return JsonVersion::V1_1;
    }
    match service.map(|service| service.protocol) {
        Some(Protocol::AwsJson(version)) => version,
        Some(Protocol::Query | Protocol::Ec2Query) | None => JsonVersion::V1_1,
    }
}

pub(super) fn route(
    services: &[&'static Service],
    target: Option<&HeaderValue>,
    content_type: &[u8],
) -> Result<Route, NoRoute> {
    let named = target
        .and_then(|target| target.to_str().ok())
        .and_then(|target| target.split_once('.'));
    let service = named.and_then(|(prefix, _)| {
        services
            .iter()
            .copied()
            .find(|service| service.target_prefix == Some(prefix))
    });
    let protocol = Protocol::AwsJson(version(content_type, service));
    let (Some(service), Some((_, name))) = (service, named) else {
        return Err(unknown(protocol, service));
    };
    if let Some(operation) = service.operation(name) {
        let target = Target::Operation(operation);
        return Ok(Route { service, protocol, target, query: None });
    }
    match service.unserved.iter().find(|unserved| **unserved == name) {
        Some(unserved) => {
            let target = Target::Unserved(unserved);
            Ok(Route { service, protocol, target, query: None })
        }
        None => Err(unknown(protocol, Some(service))),
    }
}

fn unknown(protocol: Protocol, service: Option<&'static Service>) -> NoRoute {
    let error = ApiError::new("UnknownOperationException", 400, "");
    NoRoute { protocol, service, error }
}

/// Reads a body; an empty one is an empty input.
///
/// `serde_json` stops at 128 levels of nesting, far beyond any model's.
pub(super) fn decode(body: &[u8]) -> Result<Value, ApiError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Object(Map::new()));
    }
    let refuse = |message: &str| {
        Err(ApiError::new("SerializationException", 400, message))
    };
    match serde_json::from_slice(body) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => refuse("Start of structure expected."),
        Err(error) => Err(ApiError::new(
            "SerializationException",
            400,
            "Unable to parse the request as JSON.",
        )
        .with_internal(error.to_string())),
    }
}

/// The body of an error.
pub(super) fn error(error: &ApiError) -> String {
    let mut body = Map::new();
    body.insert("__type".into(), error.code().into());
    if !error.message().is_empty() {
        body.insert("message".into(), error.message().into());
    }
    for (name, value) in error.fields() {
        body.insert(name.clone(), value.clone());
    }
    Value::Object(body).to_string()
}
