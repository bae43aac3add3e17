//! A registry in this process that can misbehave on demand.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body_util::{
    BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody,
};
use hyper::{
    Method, Request, Response, StatusCode, body::Frame, service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use minato_engine::image::{
    Digest, ImageConfig, ImageStoreConfig, RegistryConfig, RegistryTimeouts,
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::time::Duration;

type Body = UnsyncBoxBody<Bytes, io::Error>;

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// What goes wrong, with requests whose path contains a text.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// This status, body and `Retry-After`.
    Status(u16, &'static str),
    /// The connection breaks after so many bytes.
    Break(usize),
    /// No byte more after so many, but the connection stays.
    Stall(usize),
    /// No answer at all.
    Silence,
    /// These bytes instead.
    Bytes(Bytes),
    /// The whole, whatever range was asked for.
    IgnoreRange,
    /// Go there.
    Redirect(String),
    /// Every piece takes this long.
    Slow(Duration),
}

/// What a client must show.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Access {
    #[default]
    Open,
    Basic(String),
    /// A token from `/token`, which may itself want basic credentials.
    Token {
        basic: Option<String>,
        lifetime: u64,
    },
    /// Nobody.
    Closed,
}

#[derive(Default)]
struct State {
    manifests: Mutex<HashMap<String, (String, Bytes)>>,
    blobs: Mutex<HashMap<String, Bytes>>,
    faults: Mutex<Vec<(String, usize, Fault)>>,
    access: Mutex<Access>,
    log: Mutex<Vec<String>>,
    tokens: AtomicUsize,
    host: Mutex<String>,
}

pub(crate) struct Registry {
    pub(crate) host: String,
    state: Arc<State>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Registry {
    pub(crate) async fn start() -> Registry {
        let listener =
            tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let state = Arc::new(State::default());
        *state.host.lock() = host.clone();
        let served = Arc::clone(&state);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&served);
                connections.spawn(async move {
                    let service = service_fn(move |request| {
                        answer(Arc::clone(&state), request)
                    });
                    let _ = hyper_util::server::conn::auto::Builder::new(
                        TokioExecutor::new(),
                    )
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
                });
            }
        });
        Registry { host, state, task }
    }

    /// The next `times` requests whose path contains `path` go wrong.
    pub(crate) fn fault(&self, path: &str, times: usize, fault: Fault) {
        self.state.faults.lock().push((path.to_owned(), times, fault));
    }

    pub(crate) fn access(&self, access: Access) {
        *self.state.access.lock() = access;
    }

    /// Lines of `METHOD path [range] [auth]` so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.state.log.lock().clone()
    }

    pub(crate) fn count(&self, text: &str) -> usize {
        self.log().iter().filter(|line| line.contains(text)).count()
    }

    pub(crate) fn blob(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let bytes = Bytes::copy_from_slice(bytes);
        self.state.blobs.lock().insert(digest.to_string(), bytes);
        digest
    }

    /// Keeps a manifest under its digest and, if given, a tag.
    pub(crate) fn manifest(
        &self,
        repository: &str,
        tag: Option<&str>,
        kind: &str,
        body: &Value,
    ) -> Digest {
        let bytes = Bytes::from(body.to_string());
        let digest = Digest::of(&bytes);
        let mut manifests = self.state.manifests.lock();
        for key in
            tag.map(str::to_owned).into_iter().chain([digest.to_string()])
        {
            manifests.insert(
                format!("{repository}/manifests/{key}"),
                (kind.to_owned(), bytes.clone()),
            );
        }
        digest
    }

    /// Pushes an image of `(blob, tar)` layers; returns its manifest's digest.
    pub(crate) fn push(
        &self,
        repository: &str,
        tag: &str,
        layers: &[(Vec<u8>, Vec<u8>)],
    ) -> Digest {
        self.push_for(repository, Some(tag), layers, arch())
    }

    pub(crate) fn push_for(
        &self,
        repository: &str,
        tag: Option<&str>,
        layers: &[(Vec<u8>, Vec<u8>)],
        architecture: &str,
    ) -> Digest {
        let diff_ids: Vec<Digest> =
            layers.iter().map(|(_, tar)| Digest::of(tar)).collect();
        let config = json!({
            "architecture": architecture, "os": "linux",
            "config": ImageConfig { cmd: vec![repository.into()], ..Default::default() },
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        })
        .to_string();
        let descriptors: Vec<Value> = layers
            .iter()
            .map(|(blob, _)| json!({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": self.blob(blob), "size": blob.len()}))
            .collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": self.blob(config.as_bytes()), "size": config.len()},
            "layers": descriptors,
        });
        self.manifest(repository, tag, MANIFEST, &manifest)
    }

    /// Settings under which this registry is `docker.io`'s mirror.
    pub(crate) fn as_mirror(&self) -> ImageStoreConfig {
        let mut config = quick();
        let url = format!("http://{}", self.host);
        config.registries.mirrors =
            BTreeMap::from([("docker.io".into(), vec![url])]);
        config
    }
}

/// Settings that give up soon.
pub(crate) fn quick() -> ImageStoreConfig {
    ImageStoreConfig {
        registries: RegistryConfig {
            timeouts: RegistryTimeouts {
                document: Duration::from_secs(20),
                inactivity: Duration::from_secs(20),
                backoff: Duration::from_millis(1),
                backoff_max: Duration::from_millis(20),
                attempts: 3,
            },
            ..RegistryConfig::default()
        },
        ..ImageStoreConfig::default()
    }
}

pub(crate) fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

async fn answer(
    state: Arc<State>,
    request: Request<hyper::body::Incoming>,
) -> Result<Response<Body>, Infallible> {
    let path = request.uri().to_string();
    let header = |name: &str| {
        let value = request.headers().get(name)?;
        value.to_str().ok().map(str::to_owned)
    };
    let (range, authorization) = (header("range"), header("authorization"));
    let method = request.method().clone();
    let form = request
        .into_body()
        .collect()
        .await
        .map(|b| b.to_bytes())
        .unwrap_or_default();
    let mut line = format!("{method} {path}");
    for part in [&range, &authorization].into_iter().flatten() {
        line = format!("{line} [{part}]");
    }
    line.push_str(&String::from_utf8_lossy(&form));
    state.log.lock().push(line);
    if path.starts_with("/token") {
        return Ok(token(&state, authorization.as_deref(), &form));
    }
    if !is_allowed(&state, authorization.as_deref()) {
        return Ok(challenge(&state, &path));
    }
    let fault = take_fault(&state, &path);
    let response = respond(&state, &method, &path, range.as_deref(), fault);
    match response {
        Some(response) => Ok(response),
        None => std::future::pending().await,
    }
}

fn take_fault(state: &State, path: &str) -> Option<Fault> {
    let mut faults = state.faults.lock();
    let found = faults
        .iter_mut()
        .find(|(text, times, _)| *times > 0 && path.contains(text.as_str()))?;
    found.1 -= 1;
    Some(found.2.clone())
}

fn is_allowed(state: &State, authorization: Option<&str>) -> bool {
    let current = state.tokens.load(Ordering::Relaxed);
    match &*state.access.lock() {
        Access::Open => true,
        Access::Closed => false,
        Access::Basic(basic) => {
            authorization == Some(&format!("Basic {basic}"))
        }
        Access::Token { .. } => {
            authorization == Some(&format!("Bearer token-{current}"))
        }
    }
}

/// Hands out a token; only the newest one is valid.
fn token(
    state: &State,
    authorization: Option<&str>,
    form: &[u8],
) -> Response<Body> {
    let Access::Token { basic, lifetime } = state.access.lock().clone() else {
        return status(404, "{}");
    };
    let is_right = match &basic {
        Some(basic) => {
            authorization == Some(&format!("Basic {basic}"))
                || form.windows(21).any(|w| w == b"refresh_token=refresh")
        }
        None => true,
    };
    if !is_right {
        return status(401, r#"{"details":"incorrect username or password"}"#);
    }
    let n = state.tokens.fetch_add(1, Ordering::Relaxed) + 1;
    let body = json!({"token": format!("token-{n}"), "expires_in": lifetime});
    full(200, Bytes::from(body.to_string()))
}

fn challenge(state: &State, path: &str) -> Response<Body> {
    let host = state.host.lock().clone();
    let value = match &*state.access.lock() {
        Access::Token { .. } => format!(
            "Bearer realm=\"http://{host}/token?x=1\",service=\"test\",scope=\"{path}\""
        ),
        Access::Basic(_) => "Basic realm=\"test\"".to_owned(),
        Access::Open | Access::Closed => "Unknown".to_owned(),
    };
    let body = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
    let mut response = status(401, body);
    response.headers_mut().insert("www-authenticate", value.parse().unwrap());
    response
}

fn respond(
    state: &State,
    method: &Method,
    path: &str,
    range: Option<&str>,
    fault: Option<Fault>,
) -> Option<Response<Body>> {
    match &fault {
        Some(Fault::Status(code, body)) => {
            let mut response = status(*code, body);
            response
                .headers_mut()
                .insert("retry-after", "3600".parse().unwrap());
            return Some(response);
        }
        Some(Fault::Redirect(to)) => {
            let mut response = status(307, "");
            response.headers_mut().insert("location", to.parse().unwrap());
            return Some(response);
        }
        Some(Fault::Silence) => return None,
        _ => {}
    }
    if path == "/v2/" {
        return Some(full(200, Bytes::from("{}")));
    }
    let rest = path.strip_prefix("/v2/").unwrap_or(path);
    if let Some((kind, bytes)) = state.manifests.lock().get(rest).cloned() {
        let digest = Digest::of(&bytes).to_string();
        let bytes = match fault {
            Some(Fault::Bytes(other)) => other,
            _ => bytes,
        };
        let body = if method == Method::HEAD { Bytes::new() } else { bytes };
        let mut response = full(200, body);
        response
            .headers_mut()
            .insert("docker-content-digest", digest.parse().unwrap());
        response.headers_mut().insert("content-type", kind.parse().unwrap());
        return Some(response);
    }
    let blob = rest
        .split_once("/blobs/")
        .and_then(|(_, digest)| state.blobs.lock().get(digest).cloned());
    match blob {
        Some(bytes) => Some(send_blob(bytes, range, fault)),
        None if path.contains("/unknown/") => Some(status(
            404,
            r#"{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known to registry"}]}"#,
        )),
        None => Some(status(
            404,
            r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#,
        )),
    }
}

fn send_blob(
    mut bytes: Bytes,
    range: Option<&str>,
    fault: Option<Fault>,
) -> Response<Body> {
    let total = bytes.len();
    let start = range
        .and_then(|r| {
            r.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok()
        })
        .filter(|_| !matches!(fault, Some(Fault::IgnoreRange)));
    if let Some(start) = start {
        bytes = bytes.slice(start..);
    }
    if let Some(Fault::Bytes(other)) = &fault {
        bytes = other.clone();
    }
    let length = bytes.len();
    let pieces: Vec<Bytes> =
        bytes.chunks(1000).map(Bytes::copy_from_slice).collect();
    let stream = futures_util::stream::iter(pieces.into_iter().enumerate())
        .then(move |(n, piece)| {
            let fault = fault.clone();
            async move {
                match fault {
                    Some(Fault::Break(after)) if n * 1000 >= after => {
                        // What was sent before must not be lost with the connection.
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        return Err(io::Error::other("the test breaks it"));
                    }
                    Some(Fault::Stall(after)) if n * 1000 >= after => {
                        std::future::pending().await
                    }
                    Some(Fault::Slow(pause)) => tokio::time::sleep(pause).await,
                    _ => {}
                }
                Ok(Frame::data(piece))
            }
        });
    let body = StreamBody::new(Box::pin(stream)).boxed_unsync();
    let mut response = Response::new(body);
    response.headers_mut().insert("content-length", length.into());
    if let Some(start) = start {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let range = format!("bytes {start}-{}/{total}", total - 1);
        response.headers_mut().insert("content-range", range.parse().unwrap());
    }
    response
}

fn status(code: u16, body: &'static str) -> Response<Body> {
    full(code, Bytes::from(body))
}

fn full(code: u16, body: Bytes) -> Response<Body> {
    let body = Full::new(body).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}
