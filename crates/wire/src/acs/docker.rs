//! The Docker half of a container's description.
//!
//! ACS carries most run options as two JSON texts in Docker's own CamelCase
//! names, which the upstream agent lays over what it builds itself. These are
//! the members that ECS sets there.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::frame::{or_default, strip_nulls};

/// The oldest Docker API that ECS names as a container's need.
const DEFAULT_API_VERSION: &str = "1.17";

/// The texts as they travel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DockerConfig {
    /// [`ContainerConfig`] as JSON.
    pub config: Option<String>,
    /// [`HostConfig`] as JSON.
    pub host_config: Option<String>,
    /// The oldest Docker API that can do it.
    pub version: Option<String>,
}

impl DockerConfig {
    /// Writes the two texts.
    pub fn new(
        config: &ContainerConfig,
        host_config: &HostConfig,
    ) -> Result<DockerConfig, serde_json::Error> {
        Ok(DockerConfig {
            config: Some(compact(serde_json::to_value(config)?)),
            host_config: Some(compact(serde_json::to_value(host_config)?)),
            version: Some(DEFAULT_API_VERSION.to_owned()),
        })
    }

    /// Reads the first text; an absent one has no settings.
    pub fn container_config(
        &self,
    ) -> Result<ContainerConfig, serde_json::Error> {
        read(self.config.as_deref())
    }

    /// Reads the second text; an absent one has no settings.
    pub fn host_config(&self) -> Result<HostConfig, serde_json::Error> {
        read(self.host_config.as_deref())
    }
}

fn compact(mut value: Value) -> String {
    strip_nulls(&mut value);
    value.to_string()
}

fn read<T: Default + for<'de> Deserialize<'de>>(
    text: Option<&str>,
) -> Result<T, serde_json::Error> {
    match text {
        None | Some("") => Ok(T::default()),
        Some(text) => serde_json::from_str(text),
    }
}

/// What is said of the container's process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerConfig {
    /// `user`, `uid:gid` and so on; the image's where absent.
    pub user: Option<String>,
    /// The image's where absent.
    pub working_dir: Option<String>,
    /// Labels of the container.
    pub labels: Option<BTreeMap<String, String>>,
    /// The container's own id where absent.
    pub hostname: Option<String>,
    /// The domain part of its name.
    pub domainname: Option<String>,
    /// Whether it gets a terminal.
    pub tty: Option<bool>,
    /// Whether its standard input stays open.
    pub open_stdin: Option<bool>,
    /// Whether it has no network.
    pub network_disabled: Option<bool>,
    /// The signal that stops it; the image's where absent.
    pub stop_signal: Option<String>,
    /// How its health is asked.
    pub healthcheck: Option<HealthConfig>,
}

/// A health check; the times are nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthConfig {
    /// `["CMD", ...]`, `["CMD-SHELL", "..."]` or `["NONE"]`.
    #[serde(deserialize_with = "or_default")]
    pub test: Vec<String>,
    /// Between two checks.
    pub interval: Option<i64>,
    /// For one check.
    pub timeout: Option<i64>,
    /// In which failures do not count.
    pub start_period: Option<i64>,
    /// Failures in a row until it is unhealthy.
    pub retries: Option<i32>,
}

/// What is said of the container's surroundings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HostConfig {
    /// `bridge`, `host` or `none`.
    pub network_mode: Option<String>,
    /// Capabilities beyond the defaults.
    #[serde(deserialize_with = "or_default")]
    pub cap_add: Vec<String>,
    /// Capabilities taken away.
    #[serde(deserialize_with = "or_default")]
    pub cap_drop: Vec<String>,
    /// Whether it has all of root's powers.
    pub privileged: Option<bool>,
    /// Whether its root file system is read-only.
    pub readonly_rootfs: Option<bool>,
    /// Hard limit in bytes, where it is not the container's own.
    pub memory: Option<i64>,
    /// Soft limit in bytes.
    pub memory_reservation: Option<i64>,
    /// Memory and swap together in bytes; -1 is no limit.
    pub memory_swap: Option<i64>,
    /// 0 to 100.
    pub memory_swappiness: Option<i64>,
    /// Relative weight of CPU time.
    pub cpu_shares: Option<i64>,
    /// Resource limits.
    pub ulimits: Option<Vec<Ulimit>>,
    /// Devices of the host.
    pub devices: Option<Vec<Device>>,
    /// Size of `/dev/shm` in bytes.
    pub shm_size: Option<i64>,
    /// Mount point to its options.
    pub tmpfs: Option<BTreeMap<String, String>>,
    /// Whether a small init reaps its children.
    pub init: Option<bool>,
    /// Name servers.
    pub dns: Option<Vec<String>>,
    /// Search domains.
    pub dns_search: Option<Vec<String>>,
    /// `name:address` lines for `/etc/hosts`.
    pub extra_hosts: Option<Vec<String>>,
    /// SELinux, AppArmor and `no-new-privileges` settings.
    pub security_opt: Option<Vec<String>>,
    /// Kernel parameters.
    pub sysctls: Option<BTreeMap<String, String>>,
    /// Where its output goes.
    pub log_config: Option<LogConfig>,
    /// `host`, or absent.
    pub pid_mode: Option<String>,
    /// `host`, `none`, or absent.
    pub ipc_mode: Option<String>,
}

/// One resource limit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Ulimit {
    /// Such as `nofile`.
    pub name: String,
    /// The soft limit; -1 is none.
    pub soft: i64,
    /// The hard limit; -1 is none.
    pub hard: i64,
}

/// One device of the host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Device {
    /// Outside.
    pub path_on_host: String,
    /// Inside; as outside where absent.
    pub path_in_container: Option<String>,
    /// Letters of `rwm`.
    pub cgroup_permissions: Option<String>,
}

/// A log driver and its options.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct LogConfig {
    /// The driver, such as `awslogs`.
    pub r#type: String,
    /// Its options.
    #[serde(deserialize_with = "or_default")]
    pub config: BTreeMap<String, String>,
}
