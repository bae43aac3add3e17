//! Signing our own requests: the agent's, the command line's, the tests'.

use std::fmt;

use aws_lc_rs::{digest, hmac};
use http::{HeaderMap, HeaderValue, Method};

use super::canonical::{self, RequestParts, encode, hex, hex_sha256};
use super::{ALGORITHM, TERMINATOR, keys, time};
use crate::Timestamp;

/// Who signs, for what and when.
#[derive(Clone, Copy)]
pub struct Signer<'a> {
    /// The access key.
    pub access_key_id: &'a str,
    /// Its secret.
    pub secret: &'a str,
    /// The token of temporary credentials.
    pub session_token: Option<&'a str>,
    /// The region of the scope.
    pub region: &'a str,
    /// The service of the scope.
    pub service: &'a str,
    /// The time of signing.
    pub now: Timestamp,
}

impl fmt::Debug for Signer<'_> {
    // Secrets stay out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer")
            .field("access_key_id", &self.access_key_id)
            .field("region", &self.region)
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}

impl Signer<'_> {
    fn scope(&self, time: &str) -> String {
        let Signer { region, service, .. } = self;
        format!("{}/{region}/{service}/{TERMINATOR}", &time[..8])
    }

    fn signature(&self, time: &str, canonical: &[u8]) -> String {
        let text =
            canonical::string_to_sign(time, &self.scope(time), canonical);
        let Signer { secret, region, service, .. } = self;
        let key = keys::derive(secret, &time[..8], region, service);
        hex(hmac::sign(&key, text.as_bytes()).as_ref())
    }
}

/// Why a request cannot be signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The token or the key id cannot stand in a header.
    #[error("credentials with characters that no header may have")]
    Credentials,
    /// There is no host to sign.
    #[error("a request without a host header cannot be signed")]
    NoHost,
}

/// By this service's rules a path is signed as it stands, and the body's hash
/// is a header (S3 API reference, "Signature Calculations for the
/// Authorization Header").
const S3: &str = "s3";

/// SHA-256 over pieces, for [`sign_hashed`].
pub struct PayloadHash(digest::Context);

impl fmt::Debug for PayloadHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PayloadHash").finish_non_exhaustive()
    }
}

impl Default for PayloadHash {
    fn default() -> PayloadHash {
        PayloadHash(digest::Context::new(&digest::SHA256))
    }
}

impl PayloadHash {
    /// Takes the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// Of all pieces, in lower-case hexadecimal.
    pub fn finish(self) -> String {
        hex(self.0.finish().as_ref())
    }
}

/// The path of an object below an endpoint, the bucket in the path: all but
/// the unreserved characters and the slashes of the key are encoded.
pub fn s3_object_path(bucket: &str, key: &str) -> String {
    let mut path = String::with_capacity(bucket.len() + key.len() + 8);
    for segment in std::iter::once(bucket).chain(key.split('/')) {
        path.push('/');
        encode(segment.as_bytes(), &mut path);
    }
    path
}

/// Adds `x-amz-date`, `x-amz-security-token` and `authorization`, for S3
/// `x-amz-content-sha256` too. Signs the host, the content type and every
/// `x-amz-*` header.
pub fn sign(
    signer: &Signer<'_>,
    method: &Method,
    path_and_query: (&str, Option<&str>),
    headers: &mut HeaderMap,
    body: &[u8],
) -> Result<(), SignError> {
    let payload_hash = hex_sha256(body);
    sign_hashed(signer, method, path_and_query, headers, &payload_hash)
}

/// As [`sign`], for a body that is known by its SHA-256 in lower-case
/// hexadecimal alone.
pub fn sign_hashed(
    signer: &Signer<'_>,
    method: &Method,
    path_and_query: (&str, Option<&str>),
    headers: &mut HeaderMap,
    payload_hash: &str,
) -> Result<(), SignError> {
    if !headers.contains_key("host") {
        return Err(SignError::NoHost);
    }
    let value = |text: &str| {
        HeaderValue::from_str(text).map_err(|_| SignError::Credentials)
    };
    let time = time::format(signer.now);
    headers.insert("x-amz-date", value(&time)?);
    headers.remove("authorization");
    headers.remove("x-amz-security-token");
    if let Some(token) = signer.session_token {
        headers.insert("x-amz-security-token", value(token)?);
    }
    if signer.service == S3 {
        headers.insert("x-amz-content-sha256", value(payload_hash)?);
    }
    let mut signed: Vec<&str> = headers
        .keys()
        .map(http::HeaderName::as_str)
        .filter(|name| {
            matches!(*name, "host" | "content-type")
                || name.starts_with("x-amz-")
        })
        .collect();
    signed.sort_unstable();
    let (path, query) = path_and_query;
    // The hash stands for the body.
    let parts = RequestParts { method, path, query, headers, body: b"" };
    let canonical = if signer.service == S3 {
        canonical::request_to_s3(&parts, &signed, payload_hash)
    } else {
        canonical::request(&parts, &signed, payload_hash)
    };
    let authorization = format!(
        "{ALGORITHM} Credential={}/{}, SignedHeaders={}, Signature={}",
        signer.access_key_id,
        signer.scope(&time),
        signed.join(";"),
        signer.signature(&time, &canonical)
    );
    let mut authorization = value(&authorization)?;
    authorization.set_sensitive(true);
    headers.insert("authorization", authorization);
    Ok(())
}

/// Why a request cannot be presigned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PresignError {
    /// AWS takes 1 second to 7 days.
    #[error("a presigned request is good for 1 to 604800 seconds, not {0}")]
    Expires(i64),
    /// The host cannot stand in a header.
    #[error("not a host: {0:?}")]
    Host(String),
}

/// The query of a presigned `GET` without headers but the host.
pub fn presign(
    signer: &Signer<'_>,
    host: &str,
    path_and_query: (&str, Option<&str>),
    expires_secs: i64,
) -> Result<String, PresignError> {
    if !(1..=super::MAX_EXPIRES_SECS).contains(&expires_secs) {
        return Err(PresignError::Expires(expires_secs));
    }
    let (path, query) = path_and_query;
    let time = time::format(signer.now);
    let credential =
        format!("{}/{}", signer.access_key_id, signer.scope(&time));
    let mut text = query.unwrap_or_default().to_owned();
    let mut add = |name: &str, value: &str| {
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(name);
        text.push('=');
        encode(value.as_bytes(), &mut text);
    };
    add("X-Amz-Algorithm", ALGORITHM);
    add("X-Amz-Credential", &credential);
    add("X-Amz-Date", &time);
    add("X-Amz-Expires", &expires_secs.to_string());
    add("X-Amz-SignedHeaders", "host");
    if let Some(token) = signer.session_token {
        add("X-Amz-Security-Token", token);
    }
    let mut headers = HeaderMap::new();
    let value = HeaderValue::from_str(host)
        .map_err(|_| PresignError::Host(host.to_owned()))?;
    headers.insert("host", value);
    let parts = RequestParts {
        method: &Method::GET,
        path,
        query: Some(&text),
        headers: &headers,
        body: &[],
    };
    let canonical = canonical::request(&parts, &["host"], &hex_sha256(b""));
    let signature = signer.signature(&time, &canonical);
    Ok(format!("{text}&X-Amz-Signature={signature}"))
}
