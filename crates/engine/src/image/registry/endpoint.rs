//! Where a registry's API is: scheme, host and the repository's path.

use std::{net::IpAddr, str::FromStr};

use super::{ImageReference, RegistryClient};
use crate::image::DEFAULT_REGISTRY;

/// Docker Hub's API does not live under its name.
const DOCKER_HUB_HOST: &str = "registry-1.docker.io";

/// A repository at one registry or mirror.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Endpoint {
    is_https: bool,
    host: String,
    /// With the mirror's own prefix, if it has one.
    repository: String,
}

impl Endpoint {
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn is_https(&self) -> bool {
        self.is_https
    }

    /// Returns the URL of `manifests/..` or `blobs/..`.
    pub(super) fn url(&self, path: &str) -> String {
        let Endpoint { host, repository, .. } = self;
        let scheme = if self.is_https { "https" } else { "http" };
        format!("{scheme}://{host}/v2/{repository}/{path}")
    }

    /// Returns what a token must allow.
    pub(super) fn scope(&self) -> String {
        format!("repository:{}:pull", self.repository)
    }
}

/// A mirror from the configuration.
#[derive(Debug, Clone)]
pub(super) struct Mirror {
    is_https: bool,
    host: String,
    prefix: String,
}

/// Why a mirror's URL is unusable.
#[derive(Debug, thiserror::Error)]
#[error("the mirror {0:?} is not an http or https URL")]
pub struct ParseMirrorError(String);

impl FromStr for Mirror {
    type Err = ParseMirrorError;

    fn from_str(url: &str) -> Result<Mirror, ParseMirrorError> {
        let invalid = || ParseMirrorError(url.to_owned());
        let (is_https, rest) = match url.split_once("://") {
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            _ => return Err(invalid()),
        };
        let (host, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let is_host = host.parse::<hyper::http::uri::Authority>().is_ok();
        if !is_host || host.contains('@') || prefix.contains(['?', '#']) {
            return Err(invalid());
        }
        let prefix = prefix.trim_matches('/').to_owned();
        Ok(Mirror { is_https, host: host.to_owned(), prefix })
    }
}

impl Mirror {
    pub(super) fn endpoint(&self, reference: &ImageReference) -> Endpoint {
        let repository = match self.prefix.as_str() {
            "" => reference.repository().to_owned(),
            prefix => format!("{prefix}/{}", reference.repository()),
        };
        Endpoint {
            is_https: self.is_https,
            host: self.host.clone(),
            repository,
        }
    }
}

impl RegistryClient {
    /// Returns the registry itself. Where plain http is allowed, what
    /// answers it decides.
    pub(super) async fn upstream(
        &self,
        reference: &ImageReference,
    ) -> Endpoint {
        let host = match reference.registry() {
            DEFAULT_REGISTRY => DOCKER_HUB_HOST,
            host => host,
        };
        let is_https =
            !self.may_be_http(host) || !self.http.speaks_plain_http(host).await;
        Endpoint {
            is_https,
            host: host.to_owned(),
            repository: reference.repository().to_owned(),
        }
    }

    fn may_be_http(&self, host: &str) -> bool {
        let name = host_name(host);
        let listed = |insecure: &String| insecure == host || insecure == name;
        is_loopback(name) || self.config.insecure.iter().any(listed)
    }
}

/// Drops the port and an IPv6 literal's brackets.
fn host_name(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split_once(']').map_or(rest, |(name, _)| name);
    }
    host.split_once(':').map_or(host, |(name, _)| name)
}

fn is_loopback(name: &str) -> bool {
    name == "localhost"
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_take_the_repository_behind_their_path() {
        let reference: ImageReference = "nginx".parse().unwrap();
        let url = |mirror: &str| {
            let mirror: Mirror = mirror.parse().unwrap();
            mirror.endpoint(&reference).url("manifests/latest")
        };
        let plain = "http://127.0.0.1:5000/v2/library/nginx/manifests/latest";
        assert_eq!(url("http://127.0.0.1:5000"), plain);
        assert_eq!(url("http://127.0.0.1:5000/"), plain);
        assert_eq!(
            url("https://harbor.example/hub/"),
            "https://harbor.example/v2/hub/library/nginx/manifests/latest"
        );
        for bad in [
            "127.0.0.1:5000",
            "ftp://x",
            "http://",
            "http://u@h",
            "http://h/?a",
        ] {
            assert!(bad.parse::<Mirror>().is_err(), "{bad}");
        }
    }

    #[test]
    fn loopback_is_known_in_every_spelling() {
        for host in ["localhost:5000", "127.8.9.1", "[::1]:5000"] {
            assert!(is_loopback(host_name(host)), "{host}");
        }
        for host in ["localhost.example", "128.0.0.1:80", "[fe80::1]:80"] {
            assert!(!is_loopback(host_name(host)), "{host}");
        }
    }
}
