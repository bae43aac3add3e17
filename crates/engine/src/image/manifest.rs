//! The JSON of images: OCI and Docker v2 manifests, indexes and configs.
//!
//! Only the members that we act on are read; the bytes themselves are kept,
//! because a digest names bytes and not a meaning.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::digest::Digest;

pub(crate) const OCI_MANIFEST: &str =
    "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const DOCKER_MANIFEST: &str =
    "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_INDEX: &str =
    "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// The OCI distribution specification has registries take at least 4 MiB, and
/// none is known to serve more.
pub(crate) const MANIFEST_BYTES_MAX: u64 = 4 << 20;
/// containerd's limit; real ones are a few KiB.
pub(crate) const CONFIG_BYTES_MAX: u64 = 8 << 20;
/// The kernel's `OVL_MAX_STACK`; Docker itself stops at 127.
pub(crate) const LAYERS_MAX: usize = 500;
/// An index of an index of an index has no use; a loop must end.
pub(crate) const INDEX_DEPTH_MAX: usize = 3;

/// Points to a blob: its digest, size and kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

impl Descriptor {
    pub(crate) fn of(media_type: &str, bytes: &[u8]) -> Descriptor {
        Descriptor {
            media_type: media_type.to_owned(),
            digest: Digest::of(bytes),
            size: bytes.len() as u64,
            platform: None,
            annotations: BTreeMap::new(),
        }
    }
}

/// A manifest or an index, told apart by what they hold.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: Option<u32>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
}

/// What a registry answers for a tag or a digest.
#[derive(Debug)]
pub(crate) enum Content {
    Manifest(Manifest),
    Index(Index),
}

/// One image for one platform.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) schema_version: u32,
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

/// Images for several platforms.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    pub(crate) schema_version: u32,
    pub(crate) manifests: Vec<Descriptor>,
}

/// Why a manifest, index or config cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Not the JSON it should be.
    #[error("the {kind} is not valid: {reason}")]
    Json {
        /// `manifest` or `config`.
        kind: &'static str,
        /// What the JSON reader said.
        reason: String,
    },
    /// Docker's first manifest format, unsupported by Docker itself today.
    #[error(
        "Docker image format v1 (manifest schema 1) is not supported; \
         push the image again with a newer tool"
    )]
    Schema1,
    /// An artifact that is no container image.
    #[error("not a container image (config is {0:?})")]
    NotAnImage(String),
    /// An index without an entry for this machine.
    #[error("no matching manifest for {0} in the manifest list entries")]
    NoPlatform(String),
    /// An image for another platform.
    #[error(
        "image operating system or architecture {found} cannot be used on \
         this platform ({wanted})"
    )]
    WrongPlatform {
        /// What the image is for.
        found: String,
        /// What this machine is.
        wanted: String,
    },
    /// Config and manifest disagree.
    #[error("the config names {diff_ids} layers, the manifest {layers}")]
    LayerCount {
        /// In the config.
        diff_ids: usize,
        /// In the manifest.
        layers: usize,
    },
    /// More layers than overlayfs can stack.
    #[error("the image has {0} layers, the most is {LAYERS_MAX}")]
    TooManyLayers(usize),
    /// Indexes within indexes without end.
    #[error("indexes are nested more than {INDEX_DEPTH_MAX} deep")]
    TooDeep,
}

impl Content {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Content, ManifestError> {
        let document: Document = parse_json("manifest", bytes)?;
        let schema_version = document.schema_version.unwrap_or(2);
        match document {
            Document { schema_version: Some(1), .. } => {
                Err(ManifestError::Schema1)
            }
            Document { manifests: Some(manifests), .. } => {
                Ok(Content::Index(Index { schema_version, manifests }))
            }
            Document { config: Some(config), layers, .. } => {
                let layers = layers.unwrap_or_default();
                if layers.len() > LAYERS_MAX {
                    return Err(ManifestError::TooManyLayers(layers.len()));
                }
                let media_type = String::new();
                Ok(Content::Manifest(Manifest {
                    schema_version,
                    media_type,
                    config,
                    layers,
                }))
            }
            Document { .. } => Err(ManifestError::Json {
                kind: "manifest",
                reason: "neither config nor manifests in it".to_owned(),
            }),
        }
    }
}

impl Index {
    /// Chooses the entry for this machine; an entry without a platform only
    /// if nothing fits better.
    pub(crate) fn select(
        &self,
        wanted: &Platform,
    ) -> Result<&Descriptor, ManifestError> {
        let unknown = self.manifests.iter().filter(|entry| {
            entry.platform.is_none()
                && matches!(
                    entry.media_type.as_str(),
                    OCI_MANIFEST
                        | OCI_INDEX
                        | DOCKER_MANIFEST
                        | DOCKER_INDEX
                        | ""
                )
        });
        self.manifests
            .iter()
            .filter_map(|entry| {
                let rank = wanted.rank(entry.platform.as_ref()?)?;
                Some((rank, entry))
            })
            // The first of equals: max_by_key would take the last.
            .reduce(|best, next| if next.0 > best.0 { next } else { best })
            .map(|(_, entry)| entry)
            .or_else(|| { unknown }.next())
            .ok_or_else(|| ManifestError::NoPlatform(wanted.to_string()))
    }
}

/// An operating system and processor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Platform {
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) variant: Option<String>,
}

impl Platform {
    /// Returns this machine's platform in OCI's (Go's) words.
    pub(crate) fn host() -> Platform {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", Some("v8".to_owned())),
            "x86" => ("386", None),
            "arm" => ("arm", Some("v7".to_owned())),
            other => (other, None),
        };
        Platform {
            architecture: architecture.to_owned(),
            os: "linux".to_owned(),
            variant,
        }
    }

    /// Returns how well `offered` fits this machine; none if it does not run.
    fn rank(&self, offered: &Platform) -> Option<u32> {
        if offered.os != self.os || offered.architecture != self.architecture {
            return None;
        }
        let level = |variant: &Option<String>| -> Option<u32> {
            variant.as_deref()?.strip_prefix('v')?.parse().ok()
        };
        match (level(&self.variant), level(&offered.variant)) {
            // No variant asked for or given: amd64, or arm64 which means v8.
            (_, None) => Some(1),
            // amd64/v2 and above need a newer processor than we can promise.
            (None, Some(offered)) => (offered <= 1).then_some(1),
            (Some(own), Some(offered)) => (offered <= own).then(|| offered + 1),
        }
    }

    /// Refuses an image whose config says another platform; an empty one is
    /// taken, since old builders left it out.
    pub(crate) fn check(
        &self,
        config: &ConfigFile,
    ) -> Result<(), ManifestError> {
        let differs = |own: &str, said: &str| !said.is_empty() && own != said;
        if differs(&self.os, &config.os)
            || differs(&self.architecture, &config.architecture)
        {
            let found = format!("{}/{}", config.os, config.architecture);
            return Err(ManifestError::WrongPlatform {
                found,
                wanted: self.to_string(),
            });
        }
        Ok(())
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

/// What an image says about how to run it; absent is what it left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// The program and first arguments.
    #[serde(
        default,
        rename = "Entrypoint",
        deserialize_with = "null_is_absent"
    )]
    pub entrypoint: Vec<String>,
    /// More arguments, or the program if there is no entry point.
    #[serde(default, rename = "Cmd", deserialize_with = "null_is_absent")]
    pub cmd: Vec<String>,
    /// `NAME=value` strings.
    #[serde(default, rename = "Env", deserialize_with = "null_is_absent")]
    pub env: Vec<String>,
    /// `user[:group]`, names or numbers; empty is root.
    #[serde(default, rename = "User", deserialize_with = "null_is_absent")]
    pub user: String,
    /// Empty is `/`.
    #[serde(
        default,
        rename = "WorkingDir",
        deserialize_with = "null_is_absent"
    )]
    pub working_dir: String,
    /// The signal that asks the program to stop, for example `SIGQUIT`.
    #[serde(
        default,
        rename = "StopSignal",
        skip_serializing_if = "Option::is_none"
    )]
    pub stop_signal: Option<String>,
    /// Paths for anonymous volumes.
    #[serde(default, rename = "Volumes", with = "set_of_keys")]
    pub volumes: Vec<String>,
    /// `80/tcp` and the like.
    #[serde(default, rename = "ExposedPorts", with = "set_of_keys")]
    pub exposed_ports: Vec<String>,
    /// Free text for tools.
    #[serde(default, rename = "Labels", deserialize_with = "null_is_absent")]
    pub labels: BTreeMap<String, String>,
    /// Docker's health check, which ECS ignores; kept to be shown.
    #[serde(
        default,
        rename = "Healthcheck",
        skip_serializing_if = "Option::is_none"
    )]
    pub healthcheck: Option<serde_json::Value>,
}

/// The config blob: how to run the image and what its layers unpack to.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct ConfigFile {
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) created: Option<String>,
    #[serde(default, deserialize_with = "null_is_absent")]
    pub(crate) config: ImageConfig,
    #[serde(default)]
    pub(crate) rootfs: RootFs,
}

/// The digests of the uncompressed layers, bottom first.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct RootFs {
    #[serde(default, rename = "type")]
    pub(crate) kind: String,
    #[serde(default, deserialize_with = "null_is_absent")]
    pub(crate) diff_ids: Vec<Digest>,
}

impl ConfigFile {
    pub(crate) fn parse(bytes: &[u8]) -> Result<ConfigFile, ManifestError> {
        parse_json("config", bytes)
    }

    /// Checks that a manifest's layers and the config's diff ids pair up.
    pub(crate) fn pair<'a>(
        &'a self,
        manifest: &'a Manifest,
    ) -> Result<Vec<(Digest, &'a Descriptor)>, ManifestError> {
        let (diff_ids, layers) = (&self.rootfs.diff_ids, &manifest.layers);
        if diff_ids.len() != layers.len() {
            let media_type = &manifest.config.media_type;
            let is_image = media_type.is_empty()
                || media_type.contains("image.v1+json")
                || media_type.contains("image.config.v1+json");
            if !is_image {
                return Err(ManifestError::NotAnImage(media_type.clone()));
            }
            return Err(ManifestError::LayerCount {
                diff_ids: diff_ids.len(),
                layers: layers.len(),
            });
        }
        Ok(diff_ids.iter().copied().zip(layers).collect())
    }
}

fn parse_json<T: for<'de> Deserialize<'de>>(
    kind: &'static str,
    bytes: &[u8],
) -> Result<T, ManifestError> {
    serde_json::from_slice(bytes).map_err(|error| ManifestError::Json {
        kind,
        reason: error.to_string(),
    })
}

/// Docker writes `null` where OCI leaves a member out.
fn null_is_absent<'de, D, T>(d: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

/// Go's `map[string]struct{}`: `{"80/tcp": {}}`.
mod set_of_keys {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        keys: &[String],
        s: S,
    ) -> Result<S::Ok, S::Error> {
        let empty = serde_json::Map::new();
        keys.iter()
            .map(|key| (key, &empty))
            .collect::<BTreeMap<_, _>>()
            .serialize(s)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Vec<String>, D::Error> {
        let keys =
            Option::<BTreeMap<String, serde_json::Value>>::deserialize(d)?;
        Ok(keys.unwrap_or_default().into_keys().collect())
    }
}

#[cfg(test)]
mod tests;
