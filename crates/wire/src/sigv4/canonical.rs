//! The canonical form of a request, which both sides hash.

use std::borrow::Cow;
use std::fmt::Write as _;

use aws_lc_rs::digest;
use http::{HeaderMap, Method};
use percent_encoding::percent_decode_str;

/// The parts of a request that a signature covers.
#[derive(Clone, Copy, Debug)]
pub struct RequestParts<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path as it stands in the request line.
    pub path: &'a str,
    /// The query as it stands in the request line, without `?`.
    pub query: Option<&'a str>,
    /// All headers; `host` among them.
    pub headers: &'a HeaderMap,
    /// The whole body.
    pub body: &'a [u8],
}

/// A decoded query parameter.
pub(super) type Parameter<'a> = (Cow<'a, [u8]>, Cow<'a, [u8]>);

/// The query's parameters in their order, decoded.
pub(super) fn parameters(
    query: Option<&str>,
) -> impl Iterator<Item = Parameter<'_>> {
    query
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(name), decode(value)))
}

fn decode(text: &str) -> Cow<'_, [u8]> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text.as_bytes());
    }
    let spaced = text.replace('+', " ");
    Cow::Owned(percent_decode_str(&spaced).collect())
}

/// The canonical request, ready to be hashed.
pub(super) fn request(
    parts: &RequestParts<'_>,
    signed_headers: &[&str],
    payload_hash: &str,
) -> Vec<u8> {
    request_for(&path(parts.path), parts, signed_headers, payload_hash)
}

/// The same for S3, whose paths stand as they were sent: a key may well be
/// `a//../b`.
pub(super) fn request_to_s3(
    parts: &RequestParts<'_>,
    signed_headers: &[&str],
    payload_hash: &str,
) -> Vec<u8> {
    request_for(parts.path, parts, signed_headers, payload_hash)
}

fn request_for(
    path: &str,
    parts: &RequestParts<'_>,
    signed_headers: &[&str],
    payload_hash: &str,
) -> Vec<u8> {
    let mut text = Vec::with_capacity(512);
    text.extend_from_slice(parts.method.as_str().as_bytes());
    text.push(b'\n');
    text.extend_from_slice(path.as_bytes());
    text.push(b'\n');
    text.extend_from_slice(query(parts.query).as_bytes());
    text.push(b'\n');
    for name in signed_headers {
        text.extend_from_slice(name.as_bytes());
        text.push(b':');
        let mut values = parts.headers.get_all(*name).iter();
        if let Some(value) = values.next() {
            collapse(value.as_bytes(), &mut text);
        }
        for value in values {
            text.push(b',');
            collapse(value.as_bytes(), &mut text);
        }
        text.push(b'\n');
    }
    text.push(b'\n');
    text.extend_from_slice(signed_headers.join(";").as_bytes());
    text.push(b'\n');
    text.extend_from_slice(payload_hash.as_bytes());
    text
}

/// What is signed: the time, the scope and the canonical request's hash.
pub(super) fn string_to_sign(
    time: &str,
    scope: &str,
    canonical_request: &[u8],
) -> String {
    let hash = hex_sha256(canonical_request);
    format!("{}\n{time}\n{scope}\n{hash}", super::ALGORITHM)
}

/// SHA-256 in lower-case hexadecimal.
pub(super) fn hex_sha256(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(digit(byte >> 4));
        text.push(digit(byte & 15));
    }
    text
}

/// Dot segments resolved, then every byte but the unreserved ones encoded,
/// `%` included: the double encoding of every service but S3.
fn path(path: &str) -> String {
    if path.is_empty() || path == "/" {
        return "/".to_owned();
    }
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    let mut text = String::with_capacity(path.len() + 8);
    for segment in &segments {
        text.push('/');
        encode(segment.as_bytes(), &mut text);
    }
    let ends_open = ["/", "/.", "/.."].iter().any(|end| path.ends_with(end));
    if text.is_empty() || ends_open {
        text.push('/');
    }
    text
}

/// Parameters decoded, encoded one way, sorted; the signature left out.
fn query(query: Option<&str>) -> String {
    let mut pairs: Vec<(String, String)> = parameters(query)
        .filter(|(name, _)| name.as_ref() != b"X-Amz-Signature")
        .map(|(name, value)| {
            let mut pair = (String::new(), String::new());
            encode(&name, &mut pair.0);
            encode(&value, &mut pair.1);
            pair
        })
        .collect();
    pairs.sort_unstable();
    let mut text = String::new();
    for (name, value) in pairs {
        if !text.is_empty() {
            text.push('&');
        }
        let _ = write!(text, "{name}={value}");
    }
    text
}

/// Percent-encodes all but `A-Za-z0-9-._~`.
pub(super) fn encode(bytes: &[u8], text: &mut String) {
    for byte in bytes {
        match byte {
            b'A'..=b'Z'
            | b'a'..=b'z'
            | b'0'..=b'9'
            | b'-'
            | b'.'
            | b'_'
            | b'~' => text.push(char::from(*byte)),
            byte => {
                let _ = write!(text, "%{byte:02X}");
            }
        }
    }
}

/// A header's value with outer white space cut and inner runs made one space.
fn collapse(value: &[u8], text: &mut Vec<u8>) {
    let mut words =
        value.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    if let Some(word) = words.next() {
        text.extend_from_slice(word);
    }
    for word in words {
        text.push(b' ');
        text.extend_from_slice(word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalised_and_encoded_twice() {
        for (raw, canonical) in [
            ("", "/"),
            ("/", "/"),
            ("//", "/"),
            ("/.", "/"),
            ("/a/../..", "/"),
            ("/a/./b//c", "/a/b/c"),
            ("/a/b/..", "/a/"),
            ("/a%20b/", "/a%2520b/"),
            ("/ü", "/%C3%BC"),
        ] {
            assert_eq!(path(raw), canonical, "{raw}");
        }
    }

    #[test]
    fn queries_are_sorted_after_encoding() {
        for (raw, canonical) in [
            ("", ""),
            ("b=2&a=1", "a=1&b=2"),
            ("a=2&a=1", "a=1&a=2"),
            ("a", "a="),
            ("a=x%2fy&&", "a=x%2Fy"),
            ("a=x+y%20z", "a=x%20y%20z"),
            ("a=1&X-Amz-Signature=f", "a=1"),
            ("%61=%zz", "a=%25zz"),
        ] {
            assert_eq!(query(Some(raw)), canonical, "{raw}");
        }
    }

    #[test]
    fn header_values_are_collapsed() {
        let mut text = Vec::new();
        collapse(b"  a \t b  ", &mut text);
        assert_eq!(text, b"a b");
    }
}
