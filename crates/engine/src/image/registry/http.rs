//! One HTTP exchange: TLS, time limits, redirects.

use std::{collections::HashMap, sync::OnceLock, time::Duration};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    HeaderMap, Method, StatusCode, Uri, body::Incoming, header,
    header::HeaderValue, http::uri::Scheme,
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use parking_lot::Mutex;

use super::RegistryError;

/// Go's client, which Docker uses, follows ten.
const REDIRECTS_MAX: usize = 10;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
const USER_AGENT: &str = concat!("minato/", env!("CARGO_PKG_VERSION"));

pub(super) type Response = hyper::Response<Incoming>;
type HyperClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// What to ask.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) url: String,
    pub(super) accept: Option<String>,
    /// The first byte wanted, if not all.
    pub(super) from: u64,
    /// A form to post.
    pub(super) form: Option<String>,
}

impl Request {
    pub(super) fn get(url: String) -> Request {
        Request { method: Method::GET, url, accept: None, from: 0, form: None }
    }
}

/// The connections to all registries.
#[derive(Debug)]
pub(super) struct Http {
    /// Made with the first request: reading the system's certificates takes
    /// time and memory that a host without pulls need not spend.
    client: OnceLock<HyperClient>,
    header_timeout: Duration,
    plain: Mutex<HashMap<String, bool>>,
}

impl Http {
    pub(super) fn new(header_timeout: Duration) -> Http {
        let plain = Mutex::new(HashMap::new());
        Http { client: OnceLock::new(), header_timeout, plain }
    }

    /// Sends a request and follows redirects up to the final response.
    ///
    /// The authorization goes to the host that it is for and no other.
    pub(super) async fn send(
        &self,
        request: &Request,
        authorization: Option<HeaderValue>,
    ) -> Result<Response, RegistryError> {
        let first = parse(&request.url, &request.url)?;
        let mut uri = first.clone();
        for _ in 0..=REDIRECTS_MAX {
            let is_home = origin(&uri) == origin(&first);
            let authorization =
                if is_home { authorization.clone() } else { None };
            let response = self.once(request, &uri, authorization).await?;
            let Some(target) = redirect(&response) else { return Ok(response) };
            let host = uri.authority().map_or("", |a| a.as_str());
            let next = join(&uri, target).ok_or_else(|| {
                RegistryError::protocol(host, "a redirect to nowhere")
            })?;
            if uri.scheme() == Some(&Scheme::HTTPS)
                && next.scheme() != Some(&Scheme::HTTPS)
            {
                let what = "a redirect from https to plain http";
                return Err(RegistryError::protocol(host, what));
            }
            uri = next;
        }
        let host = first.authority().map_or("", |a| a.as_str());
        Err(RegistryError::protocol(host, "too many redirects"))
    }

    async fn once(
        &self,
        request: &Request,
        uri: &Uri,
        authorization: Option<HeaderValue>,
    ) -> Result<Response, RegistryError> {
        let host = uri.authority().map_or("", |a| a.as_str());
        let mut builder = hyper::Request::builder()
            .method(&request.method)
            .uri(uri)
            .header(header::USER_AGENT, USER_AGENT);
        if let Some(accept) = &request.accept {
            builder = builder.header(header::ACCEPT, accept);
        }
        if request.from > 0 {
            let range = format!("bytes={}-", request.from);
            builder = builder.header(header::RANGE, range);
        }
        if let Some(authorization) = authorization {
            builder = builder.header(header::AUTHORIZATION, authorization);
        }
        let mut body = Bytes::new();
        if let Some(form) = &request.form {
            let kind = "application/x-www-form-urlencoded";
            builder = builder.header(header::CONTENT_TYPE, kind);
            body = Bytes::from(form.clone());
        }
        let request = builder.body(Full::new(body)).map_err(|error| {
            RegistryError::protocol(host, error.to_string())
        })?;
        let sent = self.client()?.request(request);
        match tokio::time::timeout(self.header_timeout, sent).await {
            Err(_) => Err(RegistryError::timed_out(host, self.header_timeout)),
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(RegistryError::Unreachable {
                host: host.to_owned(),
                source: error.into(),
            }),
        }
    }

    /// Tells whether a host that may be asked over plain http is to be.
    ///
    /// A TLS server answers plain http with 400 or not at all.
    pub(super) async fn speaks_plain_http(&self, host: &str) -> bool {
        if let Some(known) = self.plain.lock().get(host) {
            return *known;
        }
        let request = Request::get(format!("http://{host}/v2/"));
        let answer = match parse(&request.url, host) {
            Ok(uri) => self.once(&request, &uri, None).await,
            Err(error) => Err(error),
        };
        match answer {
            Ok(response) => {
                let is_plain = response.status() != StatusCode::BAD_REQUEST;
                self.plain.lock().insert(host.to_owned(), is_plain);
                is_plain
            }
            // Nobody there: the next request will say so, over http or TLS.
            // Someone who hangs up on http may speak TLS.
            Err(RegistryError::Unreachable { source, .. }) => source
                .downcast_ref::<hyper_util::client::legacy::Error>()
                .is_some_and(hyper_util::client::legacy::Error::is_connect),
            Err(_) => true,
        }
    }

    fn client(&self) -> Result<&HyperClient, RegistryError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let built = build().map_err(|source| RegistryError::Unreachable {
            host: "(no TLS)".to_owned(),
            source: source.into(),
        })?;
        Ok(self.client.get_or_init(|| built))
    }
}

fn build() -> Result<HyperClient, rustls::Error> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let provider = rustls::crypto::aws_lc_rs::default_provider;
    let tls =
        HttpsConnectorBuilder::new().with_provider_and_native_roots(provider());
    let tls = match tls {
        Ok(tls) => tls,
        Err(error) => {
            tracing::debug!(%error, "no system certificates, using Mozilla's");
            HttpsConnectorBuilder::new()
                .with_provider_and_webpki_roots(provider())?
        }
    };
    let connector = tls.https_or_http().enable_http1().wrap_connector(tcp);
    Ok(Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .build(connector))
}

/// Reads a small body whole.
pub(super) async fn read_body(
    response: Response,
    limit: u64,
    host: &str,
) -> Result<Bytes, RegistryError> {
    let mut body = response.into_body();
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| RegistryError::Interrupted {
            host: host.to_owned(),
            source: error.into(),
        })?;
        if let Ok(data) = frame.into_data() {
            if bytes.len() as u64 + data.len() as u64 > limit {
                let what = format!("more than {limit} bytes");
                return Err(RegistryError::protocol(host, what));
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes.freeze())
}

fn parse(url: &str, host: &str) -> Result<Uri, RegistryError> {
    url.parse().map_err(|_| RegistryError::protocol(host, "not a valid URL"))
}

fn origin(uri: &Uri) -> (Option<&Scheme>, Option<&str>, Option<u16>) {
    let default = match uri.scheme_str() {
        Some("https") => Some(443),
        Some("http") => Some(80),
        _ => None,
    };
    (uri.scheme(), uri.host(), uri.port_u16().or(default))
}

fn redirect(response: &Response) -> Option<&str> {
    let headers: &HeaderMap = response.headers();
    match response.status().as_u16() {
        301 | 302 | 303 | 307 | 308 => {
            headers.get(header::LOCATION)?.to_str().ok()
        }
        _ => None,
    }
}

/// Resolves a redirect's target, whole or from the root of its host.
fn join(base: &Uri, target: &str) -> Option<Uri> {
    let target = target.split('#').next()?;
    if target.starts_with("http://") || target.starts_with("https://") {
        return target.parse().ok();
    }
    let (scheme, authority) = (base.scheme_str()?, base.authority()?);
    if let Some(rest) = target.strip_prefix("//") {
        return format!("{scheme}://{rest}").parse().ok();
    }
    if target.starts_with('/') {
        return format!("{scheme}://{authority}{target}").parse().ok();
    }
    let (directory, _) = base.path().rsplit_once('/')?;
    format!("{scheme}://{authority}{directory}/{target}").parse().ok()
}
