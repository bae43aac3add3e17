//! Fetching objects from S3 and putting them there, or with a server that
//! speaks as S3 does.
//!
//! Two operations, `GetObject` and `PutObject`, with the bucket in the path:
//! no server needs a name for each bucket then. Everything is bounded: an
//! object's size, the time for it, the number of attempts.

use std::time::Duration;
use std::{fmt, io};

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use minato_client::Credentials;
use minato_core::env::Clock;
use minato_wire::sigv4::{
    PayloadHash, SignError, Signer, s3_object_path, sign_hashed,
};

use crate::backoff::patiently;

/// ECS names no limit of a file. The kernel takes 2 MiB of arguments and
/// environment together where nobody raised the stack's limit (execve(2)), so
/// a larger file could not become an environment. It is far more than a log
/// router's configuration has.
const OBJECT_BYTES_MAX: usize = 2 << 20;
/// What is read of an answer that is an error.
const ERROR_BYTES_MAX: usize = 64 << 10;
/// What is passed on of a server's words.
const WORDS_MAX: usize = 300;
/// For an object altogether, as upstream's.
const OBJECT_TIMEOUT: Duration = Duration::from_secs(30);
/// For one attempt.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// A first attempt and three more, as the AWS SDKs.
const ATTEMPTS: u32 = 4;
/// Waits between them: the first and the longest.
const WAITS: [Duration; 2] =
    [Duration::from_millis(200), Duration::from_secs(2)];

/// Where S3 is, and who asks it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Config {
    /// The server.
    pub endpoint: S3Endpoint,
    /// The region that requests are signed for.
    pub region: String,
    /// Who asks; where absent, each task's execution role. A server outside
    /// Minato does not know the keys of Minato's roles.
    pub credentials: Option<Credentials>,
}

/// A server that speaks as S3 does: `http://host:port` or `https://host`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Endpoint {
    scheme: Scheme,
    authority: Authority,
}

/// A text that is no endpoint of S3.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an http:// or https:// URL with a host alone")]
pub struct NotAnS3Endpoint(pub String);

impl S3Endpoint {
    /// Reads a URL, with or without a slash at the end.
    pub fn parse(url: &str) -> Result<S3Endpoint, NotAnS3Endpoint> {
        let refuse = || NotAnS3Endpoint(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| refuse())?;
        let parts = uri.into_parts();
        let is_bare =
            parts.path_and_query.as_ref().is_none_or(|path| *path == "/");
        match (parts.scheme, parts.authority) {
            (Some(scheme), Some(authority))
                if (scheme == Scheme::HTTP || scheme == Scheme::HTTPS)
                    && is_bare
                    && !authority.as_str().contains('@') =>
            {
                Ok(S3Endpoint { scheme, authority })
            }
            _ => Err(refuse()),
        }
    }
}

impl fmt::Display for S3Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority)
    }
}

/// Why an object was not fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ObjectError {
    /// The server answered with an error.
    #[error("{code}: {message} (status code {status})")]
    Refused { code: String, message: String, status: u16 },
    /// It could not be asked, or its answer did not come.
    #[error("could not reach {endpoint}: {why}")]
    Unreachable { endpoint: S3Endpoint, why: String },
    /// It took too long.
    #[error("no answer from {endpoint} within {timeout:?}")]
    TimedOut { endpoint: S3Endpoint, timeout: Duration },
    /// The object is too large.
    #[error("the object has more than {OBJECT_BYTES_MAX} bytes")]
    TooLarge,
    /// The request cannot be made.
    #[error("the request cannot be made: {why}")]
    Request { why: String },
    /// It cannot be signed.
    #[error("the request cannot be signed: {0}")]
    Sign(#[from] SignError),
}

impl ObjectError {
    /// Whether the next attempt may fare better.
    fn is_transient(&self) -> bool {
        match self {
            ObjectError::Refused { status, .. } => {
                *status >= 500
                    || *status == StatusCode::TOO_MANY_REQUESTS.as_u16()
                    || *status == StatusCode::REQUEST_TIMEOUT.as_u16()
            }
            ObjectError::Unreachable { .. } | ObjectError::TimedOut { .. } => {
                true
            }
            ObjectError::TooLarge
            | ObjectError::Request { .. }
            | ObjectError::Sign(_) => false,
        }
    }
}

/// The bytes of an object on their way to S3.
pub(crate) type ObjectBody = UnsyncBoxBody<Bytes, io::Error>;

/// An object to be put into S3.
pub(crate) trait NewObject: Sync {
    /// Its size in bytes.
    fn length(&self) -> u64;
    /// SHA-256 of its bytes, in lower-case hexadecimal.
    fn sha256(&self) -> &str;
    /// Its bytes, anew for each attempt.
    fn body(&self) -> ObjectBody;
}

type HyperClient = Client<HttpsConnector<HttpConnector>, ObjectBody>;

/// Fetches and puts objects in somebody's name. It is made for a few of them: it
/// holds connections.
pub(crate) struct Objects<'a> {
    client: HyperClient,
    config: &'a S3Config,
    credentials: &'a Credentials,
    clock: &'a dyn Clock,
}

impl<'a> Objects<'a> {
    /// Makes no connection yet.
    pub(crate) fn new(
        config: &'a S3Config,
        credentials: &'a Credentials,
        clock: &'a dyn Clock,
    ) -> Result<Objects<'a>, ObjectError> {
        let client = client(&config.endpoint).map_err(|error| {
            ObjectError::Request { why: format!("no TLS: {error}") }
        })?;
        Ok(Objects { client, config, credentials, clock })
    }

    /// The bytes of an object.
    pub(crate) async fn get(
        &self,
        bucket: &str,
        key: &str,
    ) -> Result<Bytes, ObjectError> {
        let all = self.get_patiently(bucket, key);
        let all = tokio::time::timeout(OBJECT_TIMEOUT, all).await;
        all.unwrap_or_else(|_| Err(self.timed_out(OBJECT_TIMEOUT)))
    }

    /// Makes an object of plain text, or replaces it. `timeout` is for one
    /// attempt; there are as many as for [`Objects::get`].
    pub(crate) async fn put(
        &self,
        bucket: &str,
        key: &str,
        object: &dyn NewObject,
        timeout: Duration,
    ) -> Result<(), ObjectError> {
        let is_transient = ObjectError::is_transient;
        patiently(ATTEMPTS, WAITS, is_transient, || async {
            let put = self.ask(self.put_request(bucket, key, object)?);
            let put = tokio::time::timeout(timeout, put).await;
            put.unwrap_or_else(|_| Err(self.timed_out(timeout)))
        })
        .await
        .map(drop)
    }

    async fn get_patiently(
        &self,
        bucket: &str,
        key: &str,
    ) -> Result<Bytes, ObjectError> {
        let is_transient = ObjectError::is_transient;
        patiently(ATTEMPTS, WAITS, is_transient, || async {
            let got = self.ask(self.get_request(bucket, key)?);
            let got = tokio::time::timeout(ATTEMPT_TIMEOUT, got).await;
            got.unwrap_or_else(|_| Err(self.timed_out(ATTEMPT_TIMEOUT)))
        })
        .await
    }

    fn timed_out(&self, timeout: Duration) -> ObjectError {
        ObjectError::TimedOut {
            endpoint: self.config.endpoint.clone(),
            timeout,
        }
    }

    async fn ask(
        &self,
        request: Request<ObjectBody>,
    ) -> Result<Bytes, ObjectError> {
        let unreachable = |error: &(dyn std::error::Error + 'static)| {
            ObjectError::Unreachable {
                endpoint: self.config.endpoint.clone(),
                why: crate::runtime::error_chain(error),
            }
        };
        let sent = self.client.request(request).await;
        let (head, body) =
            sent.map_err(|error| unreachable(&error))?.into_parts();
        let is_object = head.status == StatusCode::OK;
        let limit = if is_object { OBJECT_BYTES_MAX } else { ERROR_BYTES_MAX };
        match Limited::new(body, limit).collect().await {
            Ok(body) if is_object => Ok(body.to_bytes()),
            Ok(body) => Err(refused(head.status, &body.to_bytes())),
            Err(error) if error.is::<LengthLimitError>() => match is_object {
                true => Err(ObjectError::TooLarge),
                false => Err(refused(head.status, b"")),
            },
            Err(error) => Err(unreachable(&*error)),
        }
    }

    fn get_request(
        &self,
        bucket: &str,
        key: &str,
    ) -> Result<Request<ObjectBody>, ObjectError> {
        let nothing = Empty::new().map_err(|never| match never {});
        let (headers, hash) = (HeaderMap::new(), PayloadHash::default());
        let body = ObjectBody::new(nothing);
        let at = s3_object_path(bucket, key);
        self.request(Method::GET, at, headers, &hash.finish(), body)
    }

    fn put_request(
        &self,
        bucket: &str,
        key: &str,
        object: &dyn NewObject,
    ) -> Result<Request<ObjectBody>, ObjectError> {
        let mut headers = HeaderMap::new();
        let text = HeaderValue::from_static("text/plain");
        headers.insert(header::CONTENT_TYPE, text);
        headers.insert(header::CONTENT_LENGTH, object.length().into());
        let at = s3_object_path(bucket, key);
        let hash = object.sha256();
        self.request(Method::PUT, at, headers, hash, object.body())
    }

    fn request(
        &self,
        method: Method,
        path: String,
        mut headers: HeaderMap,
        payload_hash: &str,
        body: ObjectBody,
    ) -> Result<Request<ObjectBody>, ObjectError> {
        let S3Endpoint { scheme, authority } = &self.config.endpoint;
        let invalid = |error: &dyn fmt::Display| ObjectError::Request {
            why: error.to_string(),
        };
        let host = HeaderValue::from_str(authority.as_str());
        headers.insert(header::HOST, host.map_err(|error| invalid(&error))?);
        let signer = Signer {
            access_key_id: &self.credentials.access_key_id,
            secret: &self.credentials.secret_access_key,
            session_token: self.credentials.session_token.as_deref(),
            region: &self.config.region,
            service: "s3",
            now: self.clock.now(),
        };
        let at = (path.as_str(), None);
        sign_hashed(&signer, &method, at, &mut headers, payload_hash)?;
        let path = PathAndQuery::try_from(path);
        let uri = Uri::builder()
            .scheme(scheme.clone())
            .authority(authority.clone())
            .path_and_query(path.map_err(|error| invalid(&error))?)
            .build()
            .map_err(|error| invalid(&error))?;
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        Ok(request)
    }
}

/// The system's certificates, or else Mozilla's; none for plain HTTP, which
/// spares reading them.
fn client(endpoint: &S3Endpoint) -> Result<HyperClient, rustls::Error> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let provider = rustls::crypto::aws_lc_rs::default_provider;
    let builder = HttpsConnectorBuilder::new();
    let tls = if endpoint.scheme == Scheme::HTTP {
        let versions =
            rustls::ClientConfig::builder_with_provider(provider().into())
                .with_safe_default_protocol_versions()?;
        let none = versions
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        builder.with_tls_config(none)
    } else {
        match builder.with_provider_and_native_roots(provider()) {
            Ok(tls) => tls,
            Err(error) => {
                tracing::debug!(%error, "no system certificates");
                HttpsConnectorBuilder::new()
                    .with_provider_and_webpki_roots(provider())?
            }
        }
    };
    let connector = tls.https_or_http().enable_http1().wrap_connector(tcp);
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}

/// Reads `<Error><Code>..</Code><Message>..</Message>...</Error>`; what is
/// not that is known by its status alone.
fn refused(status: StatusCode, body: &[u8]) -> ObjectError {
    let text = String::from_utf8_lossy(body);
    let element = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        let (words, _) = rest.split_once(&format!("</{name}>"))?;
        let words = words.chars().filter(|letter| !letter.is_control());
        Some(words.take(WORDS_MAX).collect::<String>())
    };
    let reason = || status.canonical_reason().unwrap_or("no reason given");
    ObjectError::Refused {
        code: element("Code").unwrap_or_else(|| "Error".to_owned()),
        message: element("Message").unwrap_or_else(|| reason().to_owned()),
        status: status.as_u16(),
    }
}

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;
