//! What a request claims about its signature.

use super::canonical::{RequestParts, parameters};
use super::error::AuthError;
use super::proof::Proof;
use super::{ALGORITHM, MAX_EXPIRES_SECS, time};
use crate::Timestamp;

/// No client signs more headers; real ones sign five to ten.
const MAX_SIGNED_HEADERS: usize = 100;

/// The longest access key id of the IAM model.
const MAX_ACCESS_KEY_LENGTH: usize = 128;

/// What a request claims; nothing of it is checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unverified {
    pub(super) access_key_id: String,
    pub(super) date: String,
    pub(super) region: String,
    pub(super) service: String,
    pub(super) terminator: String,
    pub(super) signed_headers: String,
    pub(super) signature: String,
    pub(super) time: Timestamp,
    pub(super) time_text: String,
    /// For presigned requests: how long they are good for.
    pub(super) expires_secs: Option<i64>,
    pub(super) session_token: Option<String>,
    pub(super) payload_hash: Option<String>,
}

impl Unverified {
    /// Reads the `Authorization` header or the presigned query.
    pub fn parse(request: &RequestParts<'_>) -> Result<Unverified, AuthError> {
        let mut headers = request.headers.get_all("authorization").iter();
        let header = headers.next();
        if headers.next().is_some() {
            return Err(incomplete("More than one Authorization header."));
        }
        let presigned = parameters(request.query).any(|(name, _)| {
            matches!(
                name.as_ref(),
                b"X-Amz-Algorithm" | b"X-Amz-Signature" | b"X-Amz-Credential"
            )
        });
        match (header, presigned) {
            (None, false) => Err(AuthError::Missing),
            (Some(_), true) => Err(incomplete(
                "Only one auth mechanism allowed; only the X-Amz-Algorithm \
                 query parameter or the Authorization header should be \
                 specified.",
            )),
            (Some(header), false) => {
                let text = header.to_str().map_err(|_| {
                    incomplete("The Authorization header is not ASCII.")
                })?;
                from_header(request, text)
            }
            (None, true) => from_query(request),
        }
    }

    /// The access key it claims to be signed with.
    pub fn access_key_id(&self) -> &str {
        &self.access_key_id
    }

    /// The service part of its scope.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// The region part of its scope.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Takes the claim for true without checking it: for a gateway that is
    /// told to accept any credentials, and for nothing else.
    pub fn waive(self) -> Proof {
        Proof {
            access_key_id: self.access_key_id,
            region: self.region,
            service: self.service,
            signed_at: self.time,
        }
    }
}

fn incomplete(text: impl Into<String>) -> AuthError {
    AuthError::Incomplete(text.into())
}

/// The parts that both forms have, before they are put together.
#[derive(Default)]
struct Claims {
    credential: Option<String>,
    signed_headers: Option<String>,
    signature: Option<String>,
    time_text: Option<String>,
}

fn from_header(
    request: &RequestParts<'_>,
    text: &str,
) -> Result<Unverified, AuthError> {
    let (algorithm, rest) = text.split_once(' ').unwrap_or((text, ""));
    if algorithm != ALGORITHM {
        let shown: String = algorithm.chars().take(64).collect();
        return Err(incomplete(format!("Unsupported algorithm '{shown}'.")));
    }
    let mut claims = Claims::default();
    for part in rest.split(',') {
        let Some((name, value)) = part.trim().split_once('=') else {
            return Err(incomplete(
                "Authorization header requires 'name=value' parts.",
            ));
        };
        let slot = match name {
            "Credential" => &mut claims.credential,
            "SignedHeaders" => &mut claims.signed_headers,
            "Signature" => &mut claims.signature,
            _ => continue,
        };
        if slot.replace(value.to_owned()).is_some() {
            return Err(incomplete(format!(
                "Authorization header has more than one '{name}' parameter."
            )));
        }
    }
    let header = |name: &str| {
        let value = request.headers.get(name)?;
        value.to_str().ok().map(str::to_owned)
    };
    claims.time_text = header("x-amz-date").or_else(|| header("date"));
    let missing = missing_in_header(&claims);
    if !missing.is_empty() {
        return Err(incomplete(missing.join(" ")));
    }
    let mut unverified = together(claims)?;
    unverified.session_token = header("x-amz-security-token");
    unverified.payload_hash = header("x-amz-content-sha256");
    Ok(unverified)
}

fn missing_in_header(claims: &Claims) -> Vec<&'static str> {
    let mut missing = Vec::new();
    if claims.credential.is_none() {
        missing.push("Authorization header requires 'Credential' parameter.");
    }
    if claims.signature.is_none() {
        missing.push("Authorization header requires 'Signature' parameter.");
    }
    if claims.signed_headers.is_none() {
        missing
            .push("Authorization header requires 'SignedHeaders' parameter.");
    }
    if claims.time_text.is_none() {
        missing.push(
            "Authorization header requires existence of either a \
             'X-Amz-Date' or a 'Date' header.",
        );
    }
    missing
}

fn from_query(request: &RequestParts<'_>) -> Result<Unverified, AuthError> {
    const NAMES: [&str; 8] = [
        "X-Amz-Algorithm",
        "X-Amz-Credential",
        "X-Amz-Date",
        "X-Amz-Expires",
        "X-Amz-SignedHeaders",
        "X-Amz-Signature",
        "X-Amz-Security-Token",
        "X-Amz-Content-Sha256",
    ];
    let mut values: [Option<String>; 8] = Default::default();
    for (name, value) in parameters(request.query) {
        let at =
            NAMES.iter().position(|known| known.as_bytes() == name.as_ref());
        let Some(at) = at else { continue };
        let known = NAMES[at];
        let value = std::str::from_utf8(&value)
            .map_err(|_| incomplete(format!("'{known}' is not UTF-8.")))?;
        if values[at].replace(value.to_owned()).is_some() {
            return Err(incomplete(format!(
                "AWS query-string parameters must include '{known}' only once."
            )));
        }
    }
    let missing: Vec<String> = NAMES[..6]
        .iter()
        .zip(&values)
        .filter(|(_, value)| value.is_none())
        .map(|(name, _)| {
            format!("AWS query-string parameters must include '{name}'.")
        })
        .collect();
    if !missing.is_empty() {
        let missing = missing.join(" ");
        return Err(incomplete(format!(
            "{missing} Re-examine the query-string parameters."
        )));
    }
    let [
        algorithm,
        credential,
        time_text,
        expires,
        headers,
        signature,
        token,
        hash,
    ] = values;
    if algorithm.as_deref() != Some(ALGORITHM) {
        return Err(incomplete(format!(
            "X-Amz-Algorithm only supports \"{ALGORITHM}\""
        )));
    }
    let expires = expires_secs(expires.as_deref().unwrap_or_default())?;
    let mut unverified = together(Claims {
        credential,
        signed_headers: headers,
        signature,
        time_text,
    })?;
    unverified.expires_secs = Some(expires);
    unverified.session_token = token;
    unverified.payload_hash = hash.or_else(|| {
        let header = request.headers.get("x-amz-content-sha256")?;
        header.to_str().ok().map(str::to_owned)
    });
    Ok(unverified)
}

fn expires_secs(text: &str) -> Result<i64, AuthError> {
    let secs: i64 = text
        .parse()
        .map_err(|_| incomplete("X-Amz-Expires should be a number"))?;
    if secs < 1 {
        return Err(incomplete("X-Amz-Expires must be non-negative"));
    }
    if secs > MAX_EXPIRES_SECS {
        return Err(incomplete(format!(
            "X-Amz-Expires must be less than a week (in seconds); that is, \
             the given X-Amz-Expires must be less than {MAX_EXPIRES_SECS} \
             seconds"
        )));
    }
    Ok(secs)
}

fn together(claims: Claims) -> Result<Unverified, AuthError> {
    let Claims { credential, signed_headers, signature, time_text } = claims;
    let credential = credential.unwrap_or_default();
    let signed_headers = signed_headers.unwrap_or_default();
    let time_text = time_text.unwrap_or_default();
    // A key id may hold slashes; the other four parts may not.
    let mut parts = credential.rsplitn(5, '/');
    let mut next = || parts.next().filter(|part| !part.is_empty());
    let (Some(terminator), Some(service), Some(region), Some(date), Some(key)) =
        (next(), next(), next(), next(), next())
    else {
        let shown: String = credential.chars().take(128).collect();
        return Err(incomplete(format!(
            "Credential must have exactly 5 slash-delimited elements, e.g. \
             keyid/date/region/service/term, got '{shown}'"
        )));
    };
    if key.len() > MAX_ACCESS_KEY_LENGTH {
        return Err(AuthError::UnknownKey);
    }
    if signed_headers.split(';').count() > MAX_SIGNED_HEADERS {
        return Err(incomplete("Too many signed headers."));
    }
    let Some(time) = time::parse(&time_text) else {
        let shown: String = time_text.chars().take(64).collect();
        return Err(incomplete(format!(
            "Date must be in ISO-8601 'basic format'. Got '{shown}'. See \
             http://en.wikipedia.org/wiki/ISO_8601"
        )));
    };
    Ok(Unverified {
        access_key_id: key.to_owned(),
        date: date.to_owned(),
        region: region.to_owned(),
        service: service.to_owned(),
        terminator: terminator.to_owned(),
        signed_headers,
        signature: signature.unwrap_or_default(),
        time,
        time_text: time::format(time),
        expires_secs: None,
        session_token: None,
        payload_hash: None,
    })
}
