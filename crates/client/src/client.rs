//! The client itself.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};
use minato_core::env::Clock;
use minato_wire::ApiError;
use minato_wire::frame::strip_nulls;
use minato_wire::model::{JsonVersion, Protocol, Service};
use minato_wire::sigv4::{Signer, sign};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tower::util::BoxCloneSyncService;
use tower::{Service as TowerService, ServiceExt};

use crate::error::{BoxError, CallError, NotAnEndpoint};

/// Longer than any operation works: ECS's own clients wait 60 seconds.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// An access key.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The key's public half.
    pub access_key_id: String,
    /// The key's secret half.
    pub secret_access_key: String,
    /// The token of temporary credentials.
    pub session_token: Option<String>,
}

impl fmt::Debug for Credentials {
    // Secrets stay out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("access_key_id", &self.access_key_id)
            .finish_non_exhaustive()
    }
}

/// Where an API is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    authority: Authority,
}

impl Endpoint {
    /// Reads `http://host:port`, with or without a slash at the end.
    pub fn parse(url: &str) -> Result<Endpoint, NotAnEndpoint> {
        let refuse = || NotAnEndpoint(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| refuse())?;
        let parts = uri.into_parts();
        let is_bare = parts
            .path_and_query
            .as_ref()
            .is_none_or(|path| path.as_str() == "/");
        match (parts.scheme, parts.authority) {
            (Some(scheme), Some(authority))
                if scheme == Scheme::HTTP && is_bare =>
            {
                Ok(Endpoint { authority })
            }
            _ => Err(refuse()),
        }
    }

    /// The endpoint of a gateway in this process. Nothing resolves the name;
    /// it only fills the signed host header.
    pub fn in_memory() -> Endpoint {
        Endpoint { authority: Authority::from_static("minato.internal") }
    }

    fn uri(&self) -> Uri {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
        Uri::from_parts(parts).unwrap_or_else(|_| {
            unreachable!("a scheme, an authority and a path make a URI")
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.authority)
    }
}

/// A client of the JSON services: ECS and CloudWatch Logs.
///
/// A clone shares the transport.
#[derive(Clone)]
pub struct ApiClient {
    transport: BoxCloneSyncService<Request<Bytes>, Response<Bytes>, BoxError>,
    endpoint: Endpoint,
    credentials: Arc<Credentials>,
    region: Arc<str>,
    clock: Arc<dyn Clock>,
    timeout: Duration,
}

impl fmt::Debug for ApiClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiClient")
            .field("endpoint", &self.endpoint)
            .field("credentials", &self.credentials)
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

impl ApiClient {
    /// A client over a transport.
    pub fn new<S>(
        transport: S,
        endpoint: Endpoint,
        credentials: Credentials,
        region: &str,
        clock: Arc<dyn Clock>,
    ) -> ApiClient
    where
        S: TowerService<Request<Bytes>, Response = Response<Bytes>>,
        S: Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
    {
        ApiClient {
            transport: BoxCloneSyncService::new(
                transport.map_err(Into::<BoxError>::into),
            ),
            endpoint,
            credentials: Arc::new(credentials),
            region: region.into(),
            clock,
            timeout: DEFAULT_TIMEOUT,
        }
    }

    /// The same client for another region.
    #[must_use]
    pub fn in_region(&self, region: &str) -> ApiClient {
        ApiClient { region: region.into(), ..self.clone() }
    }

    /// The same client with other credentials.
    #[must_use]
    pub fn with_credentials(&self, credentials: Credentials) -> ApiClient {
        ApiClient { credentials: Arc::new(credentials), ..self.clone() }
    }

    /// The same client with another limit on how long a call may take.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> ApiClient {
        ApiClient { timeout, ..self.clone() }
    }

    /// The region it signs for.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Calls an operation with its typed shapes.
    pub async fn call<I, O>(
        &self,
        service: &'static Service,
        operation: &str,
        input: &I,
    ) -> Result<O, CallError>
    where
        I: Serialize + ?Sized + Sync,
        O: DeserializeOwned,
    {
        let mut input = serde_json::to_value(input).map_err(|source| {
            CallError::Encode { operation: operation.to_owned(), source }
        })?;
        strip_nulls(&mut input);
        let output = self.call_value(service, operation, &input).await?;
        serde_json::from_value(output).map_err(|source| CallError::Decode {
            operation: operation.to_owned(),
            source,
        })
    }

    /// Calls an operation with documents.
    pub async fn call_value(
        &self,
        service: &'static Service,
        operation: &str,
        input: &Value,
    ) -> Result<Value, CallError> {
        let request = self.request(service, operation, input)?;
        let mut transport = self.transport.clone();
        let sending = async { transport.ready().await?.call(request).await };
        let response = tokio::time::timeout(self.timeout, sending)
            .await
            .map_err(|_| CallError::TimedOut {
                endpoint: self.endpoint.to_string(),
                timeout: self.timeout,
            })?
            .map_err(|source| CallError::Transport {
                endpoint: self.endpoint.to_string(),
                source,
            })?;
        read(operation, &response)
    }

    fn request(
        &self,
        service: &'static Service,
        operation: &str,
        input: &Value,
    ) -> Result<Request<Bytes>, CallError> {
        let no_operation = || CallError::NoOperation {
            service: service.name,
            operation: operation.to_owned(),
        };
        let (Protocol::AwsJson(version), Some(prefix)) =
            (service.protocol, service.target_prefix)
        else {
            return Err(no_operation());
        };
        let known = service.operation(operation).ok_or_else(no_operation)?;
        let value = |text: &str| {
            HeaderValue::from_str(text).map_err(|_| no_operation())
        };
        let mut headers = HeaderMap::new();
        headers.insert(HOST, value(self.endpoint.authority.as_str())?);
        let content_type = match version {
            JsonVersion::V1_0 => "application/x-amz-json-1.0",
            JsonVersion::V1_1 => "application/x-amz-json-1.1",
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        let target = format!("{prefix}.{}", known.name);
        headers.insert("x-amz-target", value(&target)?);
        let body = Bytes::from(input.to_string());
        let signer = Signer {
            access_key_id: &self.credentials.access_key_id,
            secret: &self.credentials.secret_access_key,
            session_token: self.credentials.session_token.as_deref(),
            region: &self.region,
            service: service.signing_name,
            now: self.clock.now(),
        };
        sign(&signer, &Method::POST, ("/", None), &mut headers, &body)
            .map_err(|source| CallError::Sign {
                operation: operation.to_owned(),
                source,
            })?;
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.endpoint.uri();
        *request.headers_mut() = headers;
        Ok(request)
    }
}

fn read(
    operation: &str,
    response: &Response<Bytes>,
) -> Result<Value, CallError> {
    let body = response.body();
    if !response.status().is_success() {
        return Err(CallError::Api(read_error(response)));
    }
    if body.is_empty() {
        return Ok(Value::Object(serde_json::Map::new()));
    }
    serde_json::from_slice(body).map_err(|source| CallError::Decode {
        operation: operation.to_owned(),
        source,
    })
}

/// Reads an error; one that is not AWS's is known by its status alone.
fn read_error(response: &Response<Bytes>) -> ApiError {
    let status = response.status();
    let body: Value =
        serde_json::from_slice(response.body()).unwrap_or_default();
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    let header = response.headers().get("x-amzn-errortype");
    let code = text("__type")
        .or_else(|| header.and_then(|header| header.to_str().ok()))
        .map(bare_code);
    let code = match code {
        Some(code) if !code.is_empty() => code.to_owned(),
        _ => format!("Http{}", status.as_u16()),
    };
    let message = text("message").or_else(|| text("Message"));
    let message = message.unwrap_or_default();
    let mut error = ApiError::new(code, status.as_u16(), message);
    for (name, value) in body.as_object().into_iter().flatten() {
        if !matches!(name.as_str(), "__type" | "message" | "Message") {
            error = error.with_field(name, value.clone());
        }
    }
    error
}

/// The code without the namespace before it and the URL after it.
fn bare_code(code: &str) -> &str {
    let code = code.rsplit_once('#').map_or(code, |(_, code)| code);
    code.split_once(':').map_or(code, |(code, _)| code)
}
