//! Checking a claim against the key it names.

use std::fmt;

use aws_lc_rs::{constant_time, hmac};

use super::canonical::{self, RequestParts, hex_sha256};
use super::error::AuthError;
use super::keys::{KeyCache, KeyId};
use super::parse::Unverified;
use super::proof::Proof;
use super::{TERMINATOR, UNSIGNED_PAYLOAD, time};
use crate::Timestamp;
use crate::model::{Protocol, Service};

/// What the looked-up credential holds.
#[derive(Clone, Copy)]
pub struct Key<'a> {
    /// The secret access key.
    pub secret: &'a str,
    /// The session token that must come with it.
    pub session_token: Option<&'a str>,
    /// When it stops to be valid.
    pub expires_at: Option<Timestamp>,
}

impl fmt::Debug for Key<'_> {
    // Secrets stay out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// What a service demands of signatures.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The service part of the scope.
    pub signing_name: &'a str,
    /// How far the client's clock may be off.
    pub skew_minutes: i64,
}

impl Expected<'static> {
    /// What a service of the AWS models demands. ECS and the other JSON
    /// services allow 5 minutes and say so in their answers ("... - 5 min.");
    /// STS, IAM and EC2 allow 15.
    pub fn of(service: &'static Service) -> Expected<'static> {
        let skew_minutes = match service.protocol {
            Protocol::AwsJson(_) => 5,
            Protocol::Query | Protocol::Ec2Query => 15,
        };
        Expected { signing_name: service.signing_name, skew_minutes }
    }
}

impl Unverified {
    /// Checks everything: scope, time, token, signed headers, body, signature.
    pub fn verify(
        self,
        request: &RequestParts<'_>,
        key: Key<'_>,
        expected: Expected<'_>,
        now: Timestamp,
        keys: &KeyCache,
    ) -> Result<Proof, AuthError> {
        self.check_token(key, now)?;
        self.check_scope(expected)?;
        self.check_time(expected, now)?;
        self.check_headers(request)?;
        let payload_hash = self.payload_hash(request)?;
        self.check_signature(request, key, &payload_hash, keys)?;
        Ok(Proof {
            access_key_id: self.access_key_id,
            region: self.region,
            service: self.service,
            signed_at: self.time,
        })
    }

    fn check_token(
        &self,
        key: Key<'_>,
        now: Timestamp,
    ) -> Result<(), AuthError> {
        match (key.session_token, self.session_token.as_deref()) {
            (None, None) => {}
            (Some(ours), Some(theirs)) => {
                constant_time::verify_slices_are_equal(
                    ours.as_bytes(),
                    theirs.as_bytes(),
                )
                .map_err(|_| AuthError::UnknownKey)?;
            }
            (None, Some(_)) | (Some(_), None) => {
                return Err(AuthError::UnknownKey);
            }
        }
        if key.expires_at.is_some_and(|end| now >= end) {
            return Err(AuthError::ExpiredToken);
        }
        Ok(())
    }

    fn check_scope(&self, expected: Expected<'_>) -> Result<(), AuthError> {
        let scope = |text: String| Err(AuthError::Scope(text));
        if self.terminator != TERMINATOR {
            return scope(format!(
                "Credential should be scoped with a valid terminator: \
                 '{TERMINATOR}', not '{}'.",
                shown(&self.terminator)
            ));
        }
        if self.service != expected.signing_name {
            return scope(format!(
                "Credential should be scoped to correct service: '{}'.",
                expected.signing_name
            ));
        }
        if !is_region(&self.region) {
            return scope(format!(
                "Credential should be scoped to a valid region, not '{}'.",
                shown(&self.region)
            ));
        }
        let day = &self.time_text[..8];
        if self.date != day {
            return scope(format!(
                "Date in Credential scope does not match YYYYMMDD from \
                 ISO-8601 version of date from HTTP: '{}' != '{day}', from \
                 '{}'.",
                shown(&self.date),
                self.time_text
            ));
        }
        Ok(())
    }

    fn check_time(
        &self,
        expected: Expected<'_>,
        now: Timestamp,
    ) -> Result<(), AuthError> {
        let minutes = expected.skew_minutes;
        let skew = minutes * 60_000;
        let lifetime = self.expires_secs.map_or(skew, |secs| secs * 1000);
        let (oldest, newest) =
            (now.plus_millis(-lifetime), now.plus_millis(skew));
        let (at, now) = (&self.time_text, time::format(now));
        if self.time < oldest {
            let oldest = time::format(oldest);
            let allowed = match self.expires_secs {
                Some(secs) => format!("{secs} sec."),
                None => format!("{minutes} min."),
            };
            return Err(AuthError::Skewed(format!(
                "Signature expired: {at} is now earlier than {oldest} ({now} \
                 - {allowed})"
            )));
        }
        if self.time > newest {
            let newest = time::format(newest);
            return Err(AuthError::Skewed(format!(
                "Signature not yet current: {at} is still later than {newest} \
                 ({now} + {minutes} min.)"
            )));
        }
        Ok(())
    }

    /// `host` and every `x-amz-*` header must be signed, else a stranger on
    /// the way could change what the request means. The list must be in its
    /// canonical form and name only headers that are there.
    fn check_headers(
        &self,
        request: &RequestParts<'_>,
    ) -> Result<(), AuthError> {
        let signed: Vec<&str> = self.signed_headers.split(';').collect();
        if !signed.is_sorted_by(|left, right| left < right) {
            return Err(AuthError::Mismatch);
        }
        if signed.binary_search(&"host").is_err() {
            return Err(AuthError::UnsignedHeader(
                "Host' or ':authority".to_owned(),
            ));
        }
        for name in request.headers.keys() {
            let name = name.as_str();
            if name.starts_with("x-amz-")
                && signed.binary_search(&name).is_err()
            {
                return Err(AuthError::UnsignedHeader(name.to_owned()));
            }
        }
        if signed.iter().any(|name| !is_present(request, name)) {
            return Err(AuthError::Mismatch);
        }
        Ok(())
    }

    fn payload_hash(
        &self,
        request: &RequestParts<'_>,
    ) -> Result<String, AuthError> {
        match self.payload_hash.as_deref() {
            Some(UNSIGNED_PAYLOAD) => Ok(UNSIGNED_PAYLOAD.to_owned()),
            claimed => {
                let computed = hex_sha256(request.body);
                match claimed {
                    Some(claimed) if claimed != computed => {
                        Err(AuthError::PayloadHash)
                    }
                    _ => Ok(computed),
                }
            }
        }
    }

    fn check_signature(
        &self,
        request: &RequestParts<'_>,
        key: Key<'_>,
        payload_hash: &str,
        keys: &KeyCache,
    ) -> Result<(), AuthError> {
        let signed: Vec<&str> = self.signed_headers.split(';').collect();
        let canonical = canonical::request(request, &signed, payload_hash);
        let Unverified { date, region, service, .. } = self;
        let scope = format!("{date}/{region}/{service}/{TERMINATOR}");
        let text =
            canonical::string_to_sign(&self.time_text, &scope, &canonical);
        let id = KeyId {
            secret: key.secret.to_owned(),
            date: date.clone(),
            region: region.clone(),
            service: service.clone(),
        };
        let theirs = unhex(&self.signature).ok_or(AuthError::Mismatch)?;
        let (signing_key, was_known) = keys.get(&id);
        // Compares in constant time.
        hmac::verify(&signing_key, text.as_bytes(), &theirs)
            .map_err(|_| AuthError::Mismatch)?;
        if !was_known {
            keys.put(id, signing_key);
        }
        Ok(())
    }
}

fn is_present(request: &RequestParts<'_>, name: &str) -> bool {
    // `HeaderMap` ignores case; a canonical name has none.
    !name.bytes().any(|byte| byte.is_ascii_uppercase())
        && request.headers.contains_key(name)
}

/// The form of region names; which of them exist is not ours to say, as a
/// region is only a namespace here.
fn is_region(region: &str) -> bool {
    (1..=64).contains(&region.len())
        && region.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'
        })
}

fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}

/// 64 lower-case hexadecimal digits as 32 bytes.
fn unhex(text: &str) -> Option<[u8; 32]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let text = text.as_bytes();
    if text.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}
