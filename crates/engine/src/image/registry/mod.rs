//! A client for registries: OCI distribution and Docker's v2 API.
//!
//! A pull asks each endpoint in turn: the registry's mirrors, then itself.
//! Requests are repeated when the network or the registry fails for a
//! moment; a blob goes on where it broke off. Every wait has an end.
//!
//! Refused: plain http but for loopback and hosts named as insecure; a
//! redirect from https to http; credentials on their way to another host.

mod blob;
#[cfg(fuzzing)]
pub(super) mod challenge;
#[cfg(not(fuzzing))]
mod challenge;
mod endpoint;
mod error;
mod http;
mod token;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    time::Duration,
};

use bytes::Bytes;
use hyper::{Method, StatusCode, header};
use parking_lot::Mutex;
use tokio::time::Instant;

pub use endpoint::ParseMirrorError;
pub use error::RegistryError;

pub(super) use blob::{BlobReader, Transfer, Transferred};
pub(super) use endpoint::Endpoint;

use super::{
    Digest, ImageReference,
    manifest::{
        DOCKER_INDEX, DOCKER_MANIFEST, MANIFEST_BYTES_MAX, OCI_INDEX,
        OCI_MANIFEST,
    },
};
use endpoint::Mirror;
use http::{Http, Request, Response};
use token::Tokens;

/// An answer that is no manifest, config or layer: errors and tokens.
const SMALL_BYTES_MAX: u64 = 1 << 20;

/// How long a registry may take to say whether an image that is here is still
/// the newest.
const FALLBACK_PATIENCE: Duration = Duration::from_secs(10);
/// A registry that could not be reached is not asked that for so long: a host
/// without a network must not make every task wait.
const UNREACHABLE_FOR: Duration = Duration::from_secs(60);

/// Where images come from and how long to wait for them.
#[derive(Debug, Clone)]
pub struct RegistryConfig {
    /// For a registry (`docker.io`), the URLs to ask before itself, for
    /// example `http://127.0.0.1:5000`. A path is put before the repository.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// Hosts (`host` or `host:port`) that may be asked over plain http.
    /// Loopback always may.
    pub insecure: Vec<String>,
    /// How long to wait.
    pub timeouts: RegistryTimeouts,
    /// Layers in flight at once, over all pulls. Docker has three for each
    /// pull; more only makes them wait for the disk.
    pub parallel_layers: usize,
}

impl Default for RegistryConfig {
    fn default() -> RegistryConfig {
        RegistryConfig {
            mirrors: BTreeMap::new(),
            insecure: vec![],
            timeouts: RegistryTimeouts::default(),
            parallel_layers: 4,
        }
    }
}

/// How long to wait for a registry.
#[derive(Debug, Clone)]
pub struct RegistryTimeouts {
    /// For a whole manifest or config, repetitions included. ECS gives a
    /// manifest a minute.
    pub document: Duration,
    /// Between two pieces of a layer; ECS' agent waits a minute too.
    pub inactivity: Duration,
    /// Before the first repetition; it doubles with each.
    pub backoff: Duration,
    /// The longest wait between repetitions, also if the registry asks for
    /// more.
    pub backoff_max: Duration,
    /// Requests for one thing, repetitions included. For a layer, those
    /// that brought no byte.
    pub attempts: u32,
}

impl Default for RegistryTimeouts {
    fn default() -> RegistryTimeouts {
        RegistryTimeouts {
            document: Duration::from_secs(60),
            inactivity: Duration::from_secs(60),
            backoff: Duration::from_millis(250),
            backoff_max: Duration::from_secs(10),
            attempts: 5,
        }
    }
}

/// What a registry wants to know before it hands out an image.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum RegistryAuth {
    /// A user name and password; for Amazon ECR `AWS` and a token.
    Basic {
        /// The user.
        username: String,
        /// The secret.
        password: String,
    },
    /// A refresh token, Docker's `identitytoken`.
    IdentityToken(String),
    /// A ready access token, Docker's `registrytoken`.
    Bearer(String),
}

impl fmt::Debug for RegistryAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Secrets never reach a log.
        f.write_str(match self {
            RegistryAuth::Basic { .. } => "Basic(..)",
            RegistryAuth::IdentityToken(_) => "IdentityToken(..)",
            RegistryAuth::Bearer(_) => "Bearer(..)",
        })
    }
}

/// A manifest or index as a registry serves it.
pub(super) struct Fetched {
    pub(super) bytes: Bytes,
    pub(super) digest: Digest,
}

/// Talks to registries; one for each image store.
#[derive(Debug)]
pub(super) struct RegistryClient {
    http: Http,
    tokens: Tokens,
    mirrors: BTreeMap<String, Vec<Mirror>>,
    config: RegistryConfig,
    unreachable: Mutex<HashMap<String, Instant>>,
}

/// One image's repository, with the credentials for it.
pub(super) struct Repository<'a> {
    pub(super) reference: &'a ImageReference,
    pub(super) auth: Option<&'a RegistryAuth>,
    pub(super) endpoint: Endpoint,
    /// The image is here already and would do: not worth much waiting.
    pub(super) has_fallback: bool,
}

impl RegistryClient {
    pub(super) fn new(
        config: RegistryConfig,
    ) -> Result<RegistryClient, ParseMirrorError> {
        let mut mirrors = BTreeMap::new();
        for (registry, urls) in &config.mirrors {
            let parsed: Result<Vec<Mirror>, _> =
                urls.iter().map(|url| url.parse()).collect();
            mirrors.insert(registry.clone(), parsed?);
        }
        let http = Http::new(config.timeouts.document);
        Ok(RegistryClient {
            http,
            tokens: Tokens::default(),
            mirrors,
            config,
            unreachable: Mutex::default(),
        })
    }

    /// Lists where to ask for an image: mirrors first.
    pub(super) async fn endpoints(
        &self,
        reference: &ImageReference,
    ) -> Vec<Endpoint> {
        let mirrors = self.mirrors.get(reference.registry());
        let mut endpoints: Vec<Endpoint> = mirrors
            .into_iter()
            .flatten()
            .map(|mirror| mirror.endpoint(reference))
            .collect();
        endpoints.push(self.upstream(reference).await);
        endpoints
    }

    /// Asks what a tag means now, without the registry counting a pull.
    pub(super) async fn manifest_digest(
        &self,
        repository: &Repository<'_>,
        key: &str,
    ) -> Option<Digest> {
        let url = repository.endpoint.url(&format!("manifests/{key}"));
        let mut request = manifest_request(url);
        request.method = Method::HEAD;
        if repository.has_fallback {
            self.check_reached_lately(repository.endpoint.host()).ok()?;
        }
        // Only a short cut: whoever is slow here is asked for all of it.
        let patience =
            (self.config.timeouts.document / 4).min(FALLBACK_PATIENCE);
        let asked = self.ask(repository, &request);
        let response =
            tokio::time::timeout(patience, asked).await.ok()?.ok()?;
        content_digest(&response)
    }

    /// Fetches a manifest or index by tag or digest.
    pub(super) async fn manifest(
        &self,
        repository: &Repository<'_>,
        key: &str,
    ) -> Result<Fetched, RegistryError> {
        let url = repository.endpoint.url(&format!("manifests/{key}"));
        let request = manifest_request(url);
        let limit = MANIFEST_BYTES_MAX;
        let (bytes, said) = self.document(repository, &request, limit).await?;
        let digest = Digest::of(&bytes);
        let expected = key.parse().ok().or(said);
        if let Some(expected) = expected.filter(|said| *said != digest) {
            return Err(repository.wrong_digest("manifest", expected, digest));
        }
        Ok(Fetched { bytes, digest })
    }

    /// Fetches a small blob whole, and checks it.
    pub(super) async fn small_blob(
        &self,
        repository: &Repository<'_>,
        digest: &Digest,
        limit: u64,
    ) -> Result<Bytes, RegistryError> {
        let url = repository.endpoint.url(&format!("blobs/{digest}"));
        let request = Request::get(url);
        let (bytes, _) = self.document(repository, &request, limit).await?;
        let found = Digest::of(&bytes);
        if found != *digest {
            return Err(repository.wrong_digest("config", *digest, found));
        }
        Ok(bytes)
    }

    /// Fetches something small within its time, repeating what may pass.
    async fn document(
        &self,
        repository: &Repository<'_>,
        request: &Request,
        limit: u64,
    ) -> Result<(Bytes, Option<Digest>), RegistryError> {
        let host = repository.endpoint.host();
        let mut timeout = self.config.timeouts.document;
        if repository.has_fallback {
            self.check_reached_lately(host)?;
            timeout = timeout.min(FALLBACK_PATIENCE);
        }
        let repeated = self.document_repeated(repository, request, limit);
        let result = tokio::time::timeout(timeout, repeated)
            .await
            .unwrap_or_else(|_| Err(RegistryError::timed_out(host, timeout)));
        match &result {
            Err(error) if !error.is_answer() => {
                let mut unreachable = self.unreachable.lock();
                unreachable.insert(host.to_owned(), Instant::now());
            }
            _ => {
                self.unreachable.lock().remove(host);
            }
        }
        result
    }

    fn check_reached_lately(&self, host: &str) -> Result<(), RegistryError> {
        match self.unreachable.lock().get(host) {
            Some(since) if since.elapsed() < UNREACHABLE_FOR => {
                Err(RegistryError::Unreachable {
                    host: host.to_owned(),
                    source: "it could not be reached a moment ago".into(),
                })
            }
            _ => Ok(()),
        }
    }

    async fn document_repeated(
        &self,
        repository: &Repository<'_>,
        request: &Request,
        limit: u64,
    ) -> Result<(Bytes, Option<Digest>), RegistryError> {
        let host = repository.endpoint.host();
        let mut attempt = 1;
        loop {
            let once = async {
                let response = self.ask(repository, request).await?;
                let digest = content_digest(&response);
                let bytes = http::read_body(response, limit, host).await?;
                Ok((bytes, digest))
            };
            let error: RegistryError = match once.await {
                Ok(document) => return Ok(document),
                Err(error) => error,
            };
            let attempts = match repository.has_fallback {
                true => 1,
                false => self.config.timeouts.attempts,
            };
            if !error.is_passing() || attempt >= attempts {
                return Err(error);
            }
            self.back_off(attempt, &error).await;
            attempt += 1;
        }
    }

    /// Sends a request with what authorization it takes.
    ///
    /// Answers only successes; all else is an error.
    async fn ask(
        &self,
        repository: &Repository<'_>,
        request: &Request,
    ) -> Result<Response, RegistryError> {
        let host = repository.endpoint.host();
        let known = self.tokens.known(repository);
        let is_new = known.is_none();
        let mut response = self.http.send(request, known).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            let challenges = challenge::parse(response.headers());
            let granted =
                self.authorize(repository, &challenges, is_new).await?;
            if let Some(authorization) = granted {
                response = self.http.send(request, Some(authorization)).await?;
            }
        }
        if response.status().is_success() {
            return Ok(response);
        }
        Err(error::of_response(repository, response, host).await)
    }

    /// Waits before a repetition: twice as long each time, with a part left
    /// to chance so that many hosts do not come back at once.
    async fn back_off(&self, attempt: u32, error: &RegistryError) {
        let timeouts = &self.config.timeouts;
        let doubled = timeouts.backoff.saturating_mul(1 << attempt.min(16));
        let asked = error.retry_after().unwrap_or_default();
        let wait = doubled.max(asked).min(timeouts.backoff_max);
        let mut random = [0u8; 1];
        // Without randomness all wait equally long, which is no harm.
        let _ = aws_lc_rs::rand::fill(&mut random);
        let share = 0.5 + f64::from(random[0]) / 512.0;
        tracing::debug!(%error, ?wait, attempt, "asking a registry again");
        tokio::time::sleep(wait.mul_f64(share)).await;
    }
}

impl Repository<'_> {
    fn wrong_digest(
        &self,
        what: &'static str,
        expected: Digest,
        found: Digest,
    ) -> RegistryError {
        let host = self.endpoint.host().to_owned();
        RegistryError::WrongDigest { host, what, expected, found }
    }
}

fn manifest_request(url: String) -> Request {
    let accept =
        [OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST].join(", ");
    Request { accept: Some(accept), ..Request::get(url) }
}

fn content_digest(response: &Response) -> Option<Digest> {
    let value = response.headers().get("docker-content-digest")?;
    value.to_str().ok()?.parse().ok()
}

fn header_text(response: &Response, name: header::HeaderName) -> Option<&str> {
    response.headers().get(name)?.to_str().ok()
}
