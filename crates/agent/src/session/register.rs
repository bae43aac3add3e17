//! Registering the host, and asking where to talk.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use minato_wire::ecs::VersionInfo;
use minato_wire::ecs::{
    DiscoverPollEndpointRequest, DiscoverPollEndpointResponse,
    RegisterContainerInstanceRequest, RegisterContainerInstanceResponse,
    Resource,
};
use serde::{Deserialize, Serialize};

use super::attributes::attributes;
use crate::agent::Services;
use crate::api::{ApiCallError, ApiService, call};
use crate::backoff::Backoff;
use crate::store::{Sync, replace_file};

/// Who the agent is to the control plane; kept from one agent to the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The cluster it registered in, as configured.
    pub cluster: String,
    /// The container instance.
    pub container_instance_arn: String,
    /// The last place in the control plane's sequence of manifests.
    #[serde(default = "before_first")]
    pub sequence: i64,
}

const fn before_first() -> i64 {
    -1
}

/// Why the host is not registered, for good.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The control plane says no.
    #[error("the control plane refused the registration")]
    Refused {
        /// What it said.
        source: ApiCallError,
    },
    /// It answered with something else than was asked.
    #[error("the control plane changed attribute {name}")]
    Attribute {
        /// The attribute.
        name: String,
    },
    /// It answered without an ARN.
    #[error("the control plane gave no container instance ARN")]
    NoArn,
    /// The answer could not be kept.
    #[error("could not keep {}", .path.display())]
    Keep {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn identity_path(dir: &Path) -> PathBuf {
    dir.join("identity.json")
}

/// Reads who an earlier agent was, if it was in the same cluster.
pub fn load_identity(services: &Services) -> Option<Identity> {
    let path = identity_path(&services.config.dir);
    let bytes = std::fs::read(path).ok()?;
    let identity: Identity = serde_json::from_slice(&bytes).ok()?;
    (identity.cluster == services.config.cluster).then_some(identity)
}

/// Keeps who the agent is.
pub async fn save_identity(
    services: &Services,
    identity: &Identity,
) -> Result<(), RegisterError> {
    let path = identity_path(&services.config.dir);
    let keep = |source| RegisterError::Keep { path: path.clone(), source };
    let bytes = serde_json::to_vec(identity)
        .map_err(|error| keep(io::Error::other(error)))?;
    replace_file(path.clone(), bytes, Sync::Yes).await.map_err(keep)
}

/// Registers the host, or registers it again.
///
/// Goes on trying while the control plane cannot be reached.
pub async fn register(services: &Services) -> Result<Identity, RegisterError> {
    let known = load_identity(services);
    let request = request(services, known.as_ref());
    let mut backoff =
        Backoff::new(Duration::from_secs(1), Duration::from_secs(30), 2.0);
    let response = loop {
        let result: Result<RegisterContainerInstanceResponse, _> = call(
            &*services.api,
            ApiService::Ecs,
            &services.config.region,
            "RegisterContainerInstance",
            &request,
        )
        .await;
        match result {
            Ok(response) => break response,
            Err(error) if error.is_transient() => {
                tracing::warn!(%error, "not registered yet");
            }
            Err(source) => return Err(RegisterError::Refused { source }),
        }
        tokio::time::sleep(backoff.next_delay(services.ids.seed())).await;
    };
    let instance = response.container_instance.unwrap_or_default();
    let echoed = instance.attributes.unwrap_or_default();
    for sent in request.attributes.iter().flatten() {
        let is_same = sent.value.is_none()
            || echoed.iter().any(|attribute| {
                attribute.name == sent.name && attribute.value == sent.value
            });
        if !is_same {
            let name = sent.name.clone().unwrap_or_default();
            return Err(RegisterError::Attribute { name });
        }
    }
    let arn = match &known {
        Some(known) => known.container_instance_arn.clone(),
        None => instance.container_instance_arn.ok_or(RegisterError::NoArn)?,
    };
    let identity = Identity {
        cluster: services.config.cluster.clone(),
        container_instance_arn: arn,
        sequence: known.map_or(before_first(), |known| known.sequence),
    };
    save_identity(services, &identity).await?;
    Ok(identity)
}

fn request(
    services: &Services,
    known: Option<&Identity>,
) -> RegisterContainerInstanceRequest {
    let config = &services.config;
    let integer = |name: &str, value: i32| Resource {
        name: Some(name.into()),
        r#type: Some("INTEGER".into()),
        integer_value: Some(value),
        ..Resource::default()
    };
    let ports = |name: &str, ports: &[u16]| Resource {
        name: Some(name.into()),
        r#type: Some("STRINGSET".into()),
        string_set_value: Some(ports.iter().map(u16::to_string).collect()),
        ..Resource::default()
    };
    RegisterContainerInstanceRequest {
        cluster: Some(config.cluster.clone()),
        container_instance_arn: known
            .map(|known| known.container_instance_arn.clone()),
        total_resources: Some(vec![
            integer("CPU", config.cpu_units),
            integer("MEMORY", config.memory_mib),
            ports("PORTS", &config.reserved_ports),
            ports("PORTS_UDP", &config.reserved_udp_ports),
        ]),
        // Within one process no URL tells the version (upstream's does).
        version_info: Some(VersionInfo {
            agent_version: Some(config.version.clone()),
            ..VersionInfo::default()
        }),
        attributes: Some(attributes(config, known.is_none())),
        ..RegisterContainerInstanceRequest::default()
    }
}

/// Asks where ACS and TCS are: `(endpoint, telemetry endpoint)`.
pub async fn discover(
    services: &Services,
    identity: &Identity,
) -> Result<(String, String), ApiCallError> {
    let request = DiscoverPollEndpointRequest {
        container_instance: Some(identity.container_instance_arn.clone()),
        cluster: Some(identity.cluster.clone()),
    };
    let response: DiscoverPollEndpointResponse = call(
        &*services.api,
        ApiService::Ecs,
        &services.config.region,
        "DiscoverPollEndpoint",
        &request,
    )
    .await?;
    let endpoint = response.endpoint.ok_or_else(|| ApiCallError {
        code: None,
        message: "DiscoverPollEndpoint gave no endpoint".into(),
    })?;
    let telemetry = response.telemetry_endpoint.unwrap_or_default();
    Ok((endpoint, telemetry))
}
