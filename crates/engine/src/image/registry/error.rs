//! What a registry refused, in Docker's words.
//!
//! ECS puts `CannotPullContainerError: Error response from daemon: ` before
//! them, and people search for them.

use std::time::Duration;

use hyper::{StatusCode, header};
use serde::Deserialize;

use super::{
    Repository, Response, SMALL_BYTES_MAX, challenge, header_text, http,
};
use crate::image::Digest;

/// A server's own words are cut here.
const DETAIL_CHARS_MAX: usize = 512;

/// Why a registry did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No such repository, or not for us; registries do not say which.
    #[error(
        "pull access denied for {name}, repository does not exist or may \
         require 'docker login': {detail}"
    )]
    AccessDenied {
        /// The familiar name.
        name: String,
        /// The registry's own words.
        detail: String,
    },
    /// No such repository.
    #[error("repository {name} not found: {detail}")]
    RepositoryNotFound {
        /// The familiar name.
        name: String,
        /// The registry's own words.
        detail: String,
    },
    /// No such tag or digest.
    #[error("manifest for {reference} not found: {detail}")]
    ManifestNotFound {
        /// The familiar reference.
        reference: String,
        /// The registry's own words.
        detail: String,
    },
    /// The user name or password is wrong.
    #[error("{host}: unauthorized: {detail}")]
    Unauthorized {
        /// The host that said so.
        host: String,
        /// Its own words.
        detail: String,
    },
    /// Asked too often.
    #[error("toomanyrequests: {detail}")]
    TooManyRequests {
        /// The registry's own words.
        detail: String,
        /// How long the registry asked us to wait.
        retry_after: Option<Duration>,
    },
    /// Any other status.
    #[error("{host}: received unexpected HTTP status: {status}: {detail}")]
    Status {
        /// The host that said so.
        host: String,
        /// The status.
        status: StatusCode,
        /// Its own words.
        detail: String,
    },
    /// The network or TLS failed.
    #[error("could not reach registry {host}")]
    Unreachable {
        /// Which.
        host: String,
        /// What the system said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The answer broke off.
    #[error("the connection to registry {host} broke off")]
    Interrupted {
        /// Which.
        host: String,
        /// What the system said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The answer took too long.
    #[error("registry {host} did not answer within {} seconds", .limit.as_secs_f32())]
    TimedOut {
        /// Which.
        host: String,
        /// The limit.
        limit: Duration,
    },
    /// An answer that makes no sense.
    #[error("registry {host} answered nonsense: {what}")]
    Protocol {
        /// Which.
        host: String,
        /// What is wrong with it.
        what: String,
    },
    /// The bytes are not those that were asked for.
    #[error(
        "{what} digest mismatch from registry {host}: expected {expected}, \
         got {found}"
    )]
    WrongDigest {
        /// Which.
        host: String,
        /// What they should have been.
        what: &'static str,
        /// As asked for.
        expected: Digest,
        /// As received.
        found: Digest,
    },
}

impl RegistryError {
    pub(super) fn timed_out(host: &str, limit: Duration) -> RegistryError {
        RegistryError::TimedOut { host: host.to_owned(), limit }
    }

    pub(super) fn protocol(
        host: &str,
        what: impl Into<String>,
    ) -> RegistryError {
        RegistryError::Protocol { host: host.to_owned(), what: what.into() }
    }

    /// Tells whether the same request may succeed in a moment.
    pub(super) fn is_passing(&self) -> bool {
        use RegistryError::*;
        match self {
            TooManyRequests { .. }
            | Unreachable { .. }
            | Interrupted { .. }
            | TimedOut { .. } => true,
            Status { status, .. } => {
                status.is_server_error()
                    || *status == StatusCode::REQUEST_TIMEOUT
            }
            AccessDenied { .. }
            | RepositoryNotFound { .. }
            | ManifestNotFound { .. }
            | Unauthorized { .. }
            | Protocol { .. }
            | WrongDigest { .. } => false,
        }
    }

    /// Tells whether the registry was heard at all.
    pub(crate) fn is_answer(&self) -> bool {
        !matches!(
            self,
            RegistryError::Unreachable { .. }
                | RegistryError::Interrupted { .. }
                | RegistryError::TimedOut { .. }
        )
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        let RegistryError::TooManyRequests { retry_after, .. } = self else {
            return None;
        };
        *retry_after
    }
}

/// The distribution specification's error body.
#[derive(Deserialize)]
struct ErrorBody {
    #[serde(default)]
    errors: Vec<ErrorEntry>,
    /// What token servers write instead.
    #[serde(default, alias = "message")]
    details: Option<String>,
}

#[derive(Deserialize)]
struct ErrorEntry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// Makes an error of a response that is no success.
pub(super) async fn of_response(
    repository: &Repository<'_>,
    response: Response,
    host: &str,
) -> RegistryError {
    let status = response.status();
    let retry_after = header_text(&response, header::RETRY_AFTER)
        .and_then(|text| text.parse().ok())
        .map(Duration::from_secs);
    let lacks_scope = challenge::parse(response.headers())
        .iter()
        .any(|c| c.get("error") == Some("insufficient_scope"));
    let (code, detail) = describe(response, host).await;
    let name = repository.reference.familiar_name();
    match (status, code.as_str()) {
        (StatusCode::UNAUTHORIZED, _) if lacks_scope => {
            let detail =
                "denied: requested access to the resource is denied".to_owned();
            RegistryError::AccessDenied { name, detail }
        }
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _)
        | (_, "DENIED") => RegistryError::AccessDenied { name, detail },
        (StatusCode::NOT_FOUND, "NAME_UNKNOWN") => {
            RegistryError::RepositoryNotFound { name, detail }
        }
        (StatusCode::NOT_FOUND, code) if code != "BLOB_UNKNOWN" => {
            let reference = repository.reference.familiar();
            RegistryError::ManifestNotFound { reference, detail }
        }
        (StatusCode::TOO_MANY_REQUESTS, _) => {
            RegistryError::TooManyRequests { detail, retry_after }
        }
        _ => RegistryError::Status { host: host.to_owned(), status, detail },
    }
}

/// Reads a server's own words: a code, and a line for people.
pub(super) async fn describe(
    response: Response,
    host: &str,
) -> (String, String) {
    let status = response.status();
    let reason = status.canonical_reason().unwrap_or("unknown status");
    let read = http::read_body(response, SMALL_BYTES_MAX, host);
    let body = tokio::time::timeout(Duration::from_secs(10), read).await;
    let plain = (String::new(), reason.to_ascii_lowercase());
    let Ok(Ok(bytes)) = body else { return plain };
    let Ok(body) = serde_json::from_slice::<ErrorBody>(&bytes) else {
        return plain;
    };
    match (body.errors.into_iter().next(), body.details) {
        (Some(entry), _) => {
            let code = entry.code.to_ascii_lowercase().replace('_', " ");
            let text = match entry.message.as_str() {
                "" => code,
                message if status == StatusCode::TOO_MANY_REQUESTS => {
                    message.to_owned()
                }
                message => format!("{code}: {message}"),
            };
            (entry.code, shorten(&text))
        }
        (None, Some(details)) => (String::new(), shorten(&details)),
        (None, None) => plain,
    }
}

/// Keeps a stranger's text to one line of bearable length.
fn shorten(text: &str) -> String {
    let visible = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    visible.take(DETAIL_CHARS_MAX).collect()
}
