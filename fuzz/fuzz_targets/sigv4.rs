//! What a request says of its signature: parsed, verified, refused. Nothing
//! that was made up may be taken.

#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use libfuzzer_sys::fuzz_target;
use minato_wire::Timestamp;
use minato_wire::ecs;
use minato_wire::sigv4::{Expected, Key, KeyCache, RequestParts, Unverified};

// As in HTTP: a line with path and query, headers, an empty line, the body.
fuzz_target!(|input: &[u8]| {
    let end = input.windows(2).position(|pair| pair == b"\n\n");
    let (head, body) = input.split_at(end.unwrap_or(input.len()));
    let body = body.get(2..).unwrap_or_default();
    let mut lines = head.split(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    let Ok(first) = std::str::from_utf8(first) else { return };
    let (path, query) = match first.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (first, None),
    };
    let mut headers = HeaderMap::new();
    for line in lines.take(64) {
        let Some(colon) = line.iter().position(|it| *it == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    let parts = RequestParts {
        method: &Method::POST,
        path,
        query,
        headers: &headers,
        body,
    };
    let Ok(claim) = Unverified::parse(&parts) else { return };
    let _ = (claim.access_key_id(), claim.region(), claim.service());
    let expected = Expected::of(&ecs::SERVICE);
    let keys = KeyCache::new();
    // The time of the AWS documentation's examples, which the seeds have.
    let now = Timestamp::from_iso("2015-08-30T12:36:00Z").unwrap_or_default();
    for session_token in [None, Some("token")] {
        let key =
            Key { secret: "of nobody else", session_token, expires_at: None };
        let proof = claim.clone().verify(&parts, key, expected, now, &keys);
        assert!(proof.is_err(), "a forged signature was taken");
    }
});
