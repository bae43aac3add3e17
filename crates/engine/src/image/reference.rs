//! Image references, read exactly as Docker reads them.
//!
//! "nginx" is `docker.io/library/nginx:latest`. The first part of a name is a
//! registry only if it looks like a host: it has a `.` or a `:`, is
//! `localhost`, or has an upper-case letter (which a repository cannot have).
//! With both a tag and a digest the digest decides, as in Docker.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::digest::{Digest, ParseDigestError};

/// The registry of names that do not give one.
pub const DEFAULT_REGISTRY: &str = "docker.io";
/// Docker Hub's older name for itself.
const LEGACY_DEFAULT_REGISTRY: &str = "index.docker.io";
/// The tag of references that give neither tag nor digest.
pub const DEFAULT_TAG: &str = "latest";
/// The OCI distribution specification's pattern for tags.
const TAG_LENGTH_MAX: usize = 128;
/// Docker's `RepositoryNameTotalLengthMax`.
const REPOSITORY_LENGTH_MAX: usize = 255;
/// A DNS name (253), a port and room for an IPv6 literal's brackets.
const REGISTRY_LENGTH_MAX: usize = 262;

/// Where an image is: registry, repository, and a tag or a digest.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageReference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a string is not an image reference. The words are Docker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseReferenceError {
    /// It does not follow the grammar.
    #[error("invalid reference format")]
    Format,
    /// Nothing at all.
    #[error("invalid reference format: the image name is empty")]
    Empty,
    /// The repository has an upper-case letter.
    #[error(
        "invalid reference format: repository name ({0}) must be lowercase"
    )]
    Uppercase(String),
    /// 64 hex digits could be taken for an image id.
    #[error(
        "invalid repository name ({0}), cannot specify 64-byte hexadecimal \
         strings"
    )]
    LooksLikeId(String),
    /// The repository is too long.
    #[error(
        "repository name must not be more than {REPOSITORY_LENGTH_MAX} \
         characters"
    )]
    TooLong,
    /// The part behind `@` is not a digest.
    #[error("invalid reference format: {0}")]
    Digest(#[from] ParseDigestError),
}

/// The account and region that an Amazon ECR host name carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EcrRegistry {
    /// Twelve digits.
    pub account_id: String,
    /// For example `eu-west-1`.
    pub region: String,
}

impl ImageReference {
    /// Returns the registry's host and port; `docker.io` for Docker Hub.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Returns the repository, for example `library/nginx`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Returns the tag; none if only a digest was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Returns the digest, if the reference pins one.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Returns `registry/repository`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// Returns the name people type: `nginx`, `me/app`, `host/app`.
    pub fn familiar_name(&self) -> String {
        if self.registry != DEFAULT_REGISTRY {
            return self.name();
        }
        match self.repository.strip_prefix("library/") {
            Some(short) if !short.contains('/') => short.to_owned(),
            // "docker.io/a.b/c" without its registry would name host a.b.
            _ if split_registry(&self.repository).0 != DEFAULT_REGISTRY => {
                self.name()
            }
            _ => self.repository.clone(),
        }
    }

    /// Returns the form people type, with tag or digest: `nginx:latest`.
    pub fn familiar(&self) -> String {
        format!("{}{}", self.familiar_name(), self.suffix())
    }

    /// Returns what a registry's manifest URL ends with: the digest if there
    /// is one, else the tag.
    pub fn manifest_key(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => DEFAULT_TAG.to_owned(),
        }
    }

    /// Returns the same repository pinned to a digest.
    pub fn with_digest(&self, digest: Digest) -> ImageReference {
        ImageReference { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// Returns the key under which the image store keeps the reference: a
    /// tag beside a digest says nothing, so it is dropped.
    pub(crate) fn store_key(&self) -> String {
        let separator = if self.digest.is_some() { '@' } else { ':' };
        format!("{}{separator}{}", self.name(), self.manifest_key())
    }

    /// Recognises the host of a private Amazon ECR registry.
    pub fn ecr(&self) -> Option<EcrRegistry> {
        let host = self.registry.split(':').next()?;
        let mut labels = host.split('.');
        let account_id = labels.next()?;
        let (kind, service) = (labels.next()?, labels.next()?);
        let region = labels.next()?;
        let rest: Vec<&str> = labels.collect();
        let is_amazon = matches!(
            rest.as_slice(),
            ["amazonaws", "com"] | ["amazonaws", "com", "cn"]
        );
        let is_ecr = kind == "dkr" && matches!(service, "ecr" | "ecr-fips");
        let is_account = account_id.len() == 12
            && account_id.bytes().all(|b| b.is_ascii_digit());
        (is_amazon && is_ecr && is_account).then(|| EcrRegistry {
            account_id: account_id.to_owned(),
            region: region.to_owned(),
        })
    }

    fn suffix(&self) -> String {
        let tag = self.tag.iter().map(|tag| format!(":{tag}"));
        let digest = self.digest.iter().map(|digest| format!("@{digest}"));
        tag.chain(digest).collect()
    }
}

impl FromStr for ImageReference {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<ImageReference, ParseReferenceError> {
        if text.is_empty() {
            return Err(ParseReferenceError::Empty);
        }
        if text.len() == 64 && Digest::from_hex(text).is_ok() {
            return Err(ParseReferenceError::LooksLikeId(text.to_owned()));
        }
        let (registry, rest) = split_registry(text);
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (rest, None),
        };
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (rest, None),
        };
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            let shown = path.chars().take(REPOSITORY_LENGTH_MAX).collect();
            return Err(ParseReferenceError::Uppercase(shown));
        }
        let repository = match registry {
            DEFAULT_REGISTRY if !path.contains('/') => {
                format!("library/{path}")
            }
            _ => path.to_owned(),
        };
        if repository.len() > REPOSITORY_LENGTH_MAX {
            return Err(ParseReferenceError::TooLong);
        }
        let is_valid = is_registry(registry)
            && repository.split('/').all(is_path_component)
            && tag.is_none_or(is_tag);
        if !is_valid {
            return Err(ParseReferenceError::Format);
        }
        let tag = match (tag, &digest) {
            (None, None) => Some(DEFAULT_TAG),
            (tag, _) => tag,
        };
        Ok(ImageReference {
            registry: registry.to_owned(),
            repository,
            tag: tag.map(str::to_owned),
            digest,
        })
    }
}

/// Splits off the registry as Docker's `splitDockerDomain` does.
fn split_registry(text: &str) -> (&str, &str) {
    match text.split_once('/') {
        Some((first, rest)) if looks_like_host(first) => {
            let is_hub = first == LEGACY_DEFAULT_REGISTRY;
            (if is_hub { DEFAULT_REGISTRY } else { first }, rest)
        }
        _ => (DEFAULT_REGISTRY, text),
    }
}

fn looks_like_host(first: &str) -> bool {
    first == "localhost"
        || first.contains(['.', ':'])
        || first.bytes().any(|b| b.is_ascii_uppercase())
}

fn is_registry(registry: &str) -> bool {
    if registry.len() > REGISTRY_LENGTH_MAX {
        return false;
    }
    let (host, port) = match registry.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((ip, "")) => return is_ipv6(ip),
            Some((ip, port)) => match port.strip_prefix(':') {
                Some(port) => return is_ipv6(ip) && is_port(port),
                None => return false,
            },
            None => return false,
        },
        None => match registry.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (registry, None),
        },
    };
    host.split('.').all(is_host_label) && port.is_none_or(is_port)
}

fn is_ipv6(text: &str) -> bool {
    text.parse::<std::net::Ipv6Addr>().is_ok()
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

fn is_host_label(label: &str) -> bool {
    let is_alphanumeric =
        |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = label.as_bytes();
    is_alphanumeric(bytes.first())
        && is_alphanumeric(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
}

/// `[a-z0-9]+` runs joined by `.`, `_`, `__` or any number of `-`.
fn is_path_component(component: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let ends_well = |b: Option<&u8>| b.is_some_and(|b| is_word(*b));
    if !ends_well(bytes.first()) || !ends_well(bytes.last()) {
        return false;
    }
    bytes.split(|b| is_word(*b)).filter(|separator| !separator.is_empty()).all(
        |separator| {
            matches!(separator, b"." | b"_" | b"__")
                || separator.iter().all(|b| *b == b'-')
        },
    )
}

fn is_tag(tag: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= TAG_LENGTH_MAX
        && tag.bytes().next().is_some_and(is_word)
        && tag.bytes().all(|b| is_word(b) || matches!(b, b'.' | b'-'))
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.registry, self.repository, self.suffix())
    }
}

impl fmt::Debug for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ImageReference {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ImageReference {
    fn deserialize<D: serde::Deserializer<'de>>(
        d: D,
    ) -> Result<ImageReference, D::Error> {
        let text = String::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn full(text: &str) -> String {
        text.parse::<ImageReference>()
            .map_or_else(|e| format!("! {e}"), |r| r.to_string())
    }

    #[test]
    fn names_are_read_as_docker_reads_them() {
        let hex = "a".repeat(64);
        let cases = [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.27", "docker.io/library/nginx:1.27"),
            ("me/app", "docker.io/me/app:latest"),
            ("index.docker.io/nginx", "docker.io/library/nginx:latest"),
            ("docker.io/nginx", "docker.io/library/nginx:latest"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/app:v1", "localhost:5000/app:v1"),
            ("foo/bar/baz", "docker.io/foo/bar/baz:latest"),
            ("a.b/c", "a.b/c:latest"),
            ("HOST/app", "HOST/app:latest"),
            ("[::1]:5000/app", "[::1]:5000/app:latest"),
            ("public.ecr.aws/nginx/nginx:1", "public.ecr.aws/nginx/nginx:1"),
            ("a__b/c-----d.e", "docker.io/a__b/c-----d.e:latest"),
            ("nginx:", "! invalid reference format"),
            ("a..b", "! invalid reference format"),
            ("a___b", "! invalid reference format"),
            ("-a", "! invalid reference format"),
            ("a//b", "! invalid reference format"),
            ("host:70000/a", "! invalid reference format"),
            (":5000/a", "! invalid reference format"),
            ("nginx:1 ", "! invalid reference format"),
            ("nginx\n", "! invalid reference format"),
            ("", "! invalid reference format: the image name is empty"),
            (
                "Nginx",
                "! invalid reference format: repository name (Nginx) must be lowercase",
            ),
            (
                "a@sha256:12",
                "! invalid reference format: invalid checksum digest length or characters",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(full(text), expected, "{text:?}");
        }
        let pinned = format!("nginx@sha256:{hex}");
        assert_eq!(full(&pinned), format!("docker.io/library/{pinned}"));
        assert!(full(&hex).starts_with("! invalid repository name"));
        assert!(full(&"a".repeat(256)).contains("must not be more than 255"));
        assert!(full(&format!("a:{}", "t".repeat(129))).starts_with('!'));
    }

    #[test]
    fn a_digest_decides_over_a_tag() {
        let text = format!("app:v1@sha256:{}", "b".repeat(64));
        let reference: ImageReference = text.parse().unwrap();
        assert_eq!(reference.tag(), Some("v1"));
        assert_eq!(reference.familiar(), text);
        assert_eq!(reference.manifest_key(), text[7..]);
        assert!(!reference.store_key().contains("v1"));
    }

    #[test]
    fn ecr_hosts_give_account_and_region() {
        let image = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/app";
        let ecr = image.parse::<ImageReference>().unwrap().ecr().unwrap();
        assert_eq!(
            (ecr.account_id.as_str(), ecr.region.as_str()),
            ("123456789012", "eu-west-1")
        );
        for other in
            ["nginx", "1.dkr.ecr.eu-west-1.amazonaws.com/app", "a.b.c/app"]
        {
            assert_eq!(other.parse::<ImageReference>().unwrap().ecr(), None);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken_or_refused_without_panic(text in ".{0,300}") {
            let _ = text.parse::<ImageReference>();
        }

        #[test]
        fn whatever_parses_reads_back_the_same(
            text in "([a-z0-9.:]{1,12}/)?[a-z0-9][a-z0-9._/-]{0,20}(:[a-zA-Z0-9._-]{1,10})?(@sha256:[0-9a-f]{64})?"
        ) {
            if let Ok(reference) = text.parse::<ImageReference>() {
                prop_assert_eq!(&full(&reference.to_string()), &reference.to_string());
                let again: ImageReference = reference.familiar().parse().unwrap();
                prop_assert_eq!(again, reference);
            }
        }
    }
}
