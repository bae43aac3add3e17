//! Query strings, forms and headers that say which operation is meant.

#![no_main]

use http::{HeaderMap, HeaderValue, Method};
use libfuzzer_sys::fuzz_target;
use minato_fuzz::SERVICES;
use minato_wire::protocol::{Target, decode, route};
use minato_wire::sigv4::RequestParts;

// A scope or target, a query and a body, each in a line; JSON if the scope
// begins with a star.
fuzz_target!(|input: &[u8]| {
    let mut lines = input.splitn(3, |byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let (scope, query, body) = (line(), line(), line());
    let Ok(scope) = std::str::from_utf8(scope) else { return };
    let Ok(query) = std::str::from_utf8(query) else { return };
    let is_json = scope.starts_with('*');
    let scope = scope.trim_start_matches('*');
    let scope = (!scope.is_empty()).then_some(scope);
    let mut headers = HeaderMap::new();
    let kind = if is_json {
        "application/x-amz-json-1.1"
    } else {
        "application/x-www-form-urlencoded"
    };
    headers.insert("content-type", HeaderValue::from_static(kind));
    if let Some(target) = scope
        && is_json
        && let Ok(target) = HeaderValue::from_str(target)
    {
        headers.insert("x-amz-target", target);
    }
    let method = if body.is_empty() { Method::GET } else { Method::POST };
    let parts = RequestParts {
        method: &method,
        path: "/",
        query: Some(query),
        headers: &headers,
        body,
    };
    let Ok(route) = route(&SERVICES, &parts, scope) else { return };
    if let Target::Operation(operation) = route.target {
        let _ = decode(&route, operation, body);
    }
});
