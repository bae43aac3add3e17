//! Tokens: from a challenge to an `Authorization` header.

use std::{collections::HashMap, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper::{Method, StatusCode, header::HeaderValue};
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::time::Instant;

use super::{
    Endpoint, RegistryAuth, RegistryClient, RegistryError, Repository,
    SMALL_BYTES_MAX, challenge::Challenge, error, http, http::Request,
};

/// What a token lasts if its server does not say (distribution's default).
const DEFAULT_LIFETIME: Duration = Duration::from_secs(60);
/// Renewed this much earlier, so that it does not end under way.
const MARGIN: Duration = Duration::from_secs(10);
/// Forgotten all at once beyond this; they are quickly had again.
const TOKENS_MAX: usize = 1000;

/// Authorizations that worked, for each repository and user.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    known: Mutex<HashMap<Key, Granted>>,
}

type Key = (Endpoint, Option<RegistryAuth>);

#[derive(Debug, Clone)]
struct Granted {
    header: HeaderValue,
    until: Option<Instant>,
}

#[derive(Deserialize)]
struct TokenResponse {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Tokens {
    pub(super) fn known(
        &self,
        repository: &Repository<'_>,
    ) -> Option<HeaderValue> {
        let mut known = self.known.lock();
        let key = key(repository);
        let granted = known.get(&key)?;
        if granted.until.is_some_and(|until| until <= Instant::now()) {
            known.remove(&key);
            return None;
        }
        Some(granted.header.clone())
    }

    fn keep(&self, repository: &Repository<'_>, granted: Granted) {
        let mut known = self.known.lock();
        if known.len() >= TOKENS_MAX {
            known.clear();
        }
        known.insert(key(repository), granted);
    }
}

fn key(repository: &Repository<'_>) -> Key {
    (repository.endpoint.clone(), repository.auth.cloned())
}

impl RegistryClient {
    /// Answers a registry's challenge; none if we have nothing to answer.
    ///
    /// `is_new` is false if an authorization was sent and refused: one that
    /// has no other form is not sent again.
    pub(super) async fn authorize(
        &self,
        repository: &Repository<'_>,
        challenges: &[Challenge],
        is_new: bool,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let bearer = challenges.iter().find(|c| c.scheme == "bearer");
        let basic = challenges.iter().any(|c| c.scheme == "basic");
        let granted = match (bearer, repository.auth) {
            (_, Some(RegistryAuth::Bearer(token))) if is_new => {
                Some(Granted { header: bearer_header(token)?, until: None })
            }
            (_, Some(RegistryAuth::Bearer(_))) => None,
            (Some(challenge), _) => {
                Some(self.fetch_token(repository, challenge).await?)
            }
            (None, Some(RegistryAuth::Basic { username, password }))
                if basic && is_new =>
            {
                let header = basic_header(username, password)?;
                Some(Granted { header, until: None })
            }
            (None, _) => None,
        };
        let header = granted.as_ref().map(|granted| granted.header.clone());
        if let Some(granted) = granted {
            self.tokens.keep(repository, granted);
        }
        Ok(header)
    }

    /// Asks a token server, with or without credentials.
    async fn fetch_token(
        &self,
        repository: &Repository<'_>,
        challenge: &Challenge,
    ) -> Result<Granted, RegistryError> {
        let host = repository.endpoint.host();
        let realm = challenge.get("realm").ok_or_else(|| {
            RegistryError::protocol(host, "a challenge without realm")
        })?;
        // A registry on https must not make us send secrets in clear.
        if repository.endpoint.is_https() && !realm.starts_with("https://") {
            let what = "it wants credentials sent over plain http";
            return Err(RegistryError::protocol(host, what));
        }
        let (request, authorization) =
            token_request(repository, challenge, realm)?;
        let response = self.http.send(&request, authorization).await?;
        let realm_host = host_of(realm);
        match response.status() {
            status if status.is_success() => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let (_, detail) = error::describe(response, realm_host).await;
                let host = realm_host.to_owned();
                return Err(RegistryError::Unauthorized { host, detail });
            }
            _ => {
                return Err(error::of_response(
                    repository, response, realm_host,
                )
                .await);
            }
        }
        let asked = Instant::now();
        let body =
            http::read_body(response, SMALL_BYTES_MAX, realm_host).await?;
        let answer: TokenResponse =
            serde_json::from_slice(&body).map_err(|error| {
                RegistryError::protocol(realm_host, error.to_string())
            })?;
        let lifetime =
            answer.expires_in.map_or(DEFAULT_LIFETIME, Duration::from_secs);
        let token = answer
            .token
            .or(answer.access_token)
            .filter(|token| !token.is_empty())
            .ok_or_else(|| {
                RegistryError::protocol(realm_host, "no token in its answer")
            })?;
        let until = asked.checked_add(lifetime.saturating_sub(MARGIN));
        Ok(Granted { header: bearer_header(&token)?, until })
    }
}

fn token_request(
    repository: &Repository<'_>,
    challenge: &Challenge,
    realm: &str,
) -> Result<(Request, Option<HeaderValue>), RegistryError> {
    let scope = repository.endpoint.scope();
    let service = challenge.get("service").unwrap_or_default();
    let mut query =
        format!("service={}&scope={}", escape(service), escape(&scope));
    if let Some(RegistryAuth::IdentityToken(token)) = repository.auth {
        query.push_str(
            "&grant_type=refresh_token&client_id=minato&refresh_token=",
        );
        query.push_str(&escape(token));
        let mut request = Request::get(realm.to_owned());
        request.method = Method::POST;
        request.form = Some(query);
        return Ok((request, None));
    }
    let mut authorization = None;
    if let Some(RegistryAuth::Basic { username, password }) = repository.auth {
        query = format!("account={}&{query}", escape(username));
        authorization = Some(basic_header(username, password)?);
    }
    let separator = if realm.contains('?') { '&' } else { '?' };
    let request = Request::get(format!("{realm}{separator}{query}"));
    Ok((request, authorization))
}

fn basic_header(
    username: &str,
    password: &str,
) -> Result<HeaderValue, RegistryError> {
    let encoded = STANDARD.encode(format!("{username}:{password}"));
    secret_header(&format!("Basic {encoded}"))
}

fn bearer_header(token: &str) -> Result<HeaderValue, RegistryError> {
    secret_header(&format!("Bearer {token}"))
}

fn secret_header(text: &str) -> Result<HeaderValue, RegistryError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        RegistryError::protocol(
            "(credentials)",
            "a token with control characters",
        )
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?']).next().unwrap_or(rest)
}

/// Percent-encodes for a query or form.
fn escape(text: &str) -> String {
    use std::fmt::Write as _;
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z'
            | b'A'..=b'Z'
            | b'0'..=b'9'
            | b'-'
            | b'.'
            | b'_'
            | b'~' => {
                escaped.push(char::from(byte));
            }
            _ => {
                // Writing to a String cannot fail.
                let _ = write!(escaped, "%{byte:02X}");
            }
        }
    }
    escaped
}
