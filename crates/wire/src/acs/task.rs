//! A task as the control plane describes it to an agent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{DockerConfig, IamRoleCredentials};
use crate::frame::or_default;

/// One task of a payload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Task {
    /// The task.
    pub arn: String,
    /// `RUNNING` or `STOPPED`; a stop needs no more than this and the ARN.
    pub desired_status: String,
    /// The task's cluster.
    pub task_cluster_arn: Option<String>,
    /// The task definition's family.
    pub family: Option<String>,
    /// The task definition's revision.
    pub version: Option<String>,
    /// Its containers.
    #[serde(default, deserialize_with = "or_default")]
    pub containers: Vec<Container>,
    /// JSON that the agent ignores.
    pub overrides: Option<String>,
    /// Volumes that its containers mount.
    #[serde(default, deserialize_with = "or_default")]
    pub volumes: Vec<Volume>,
    /// For its containers.
    pub role_credentials: Option<IamRoleCredentials>,
    /// For the agent on its behalf.
    pub execution_role_credentials: Option<IamRoleCredentials>,
    /// Its own network interfaces, in `awsvpc` mode.
    #[serde(default, deserialize_with = "or_default")]
    pub elastic_network_interfaces: Vec<ElasticNetworkInterface>,
    /// Limit in vCPUs, not CPU units.
    pub cpu: Option<f64>,
    /// Limit in MiB.
    pub memory: Option<i64>,
    /// GPUs and the like.
    #[serde(default, deserialize_with = "or_default")]
    pub associations: Vec<Association>,
    /// `task` or `host`.
    pub pid_mode: Option<String>,
    /// `task`, `host` or `none`.
    pub ipc_mode: Option<String>,
    /// A proxy container for its traffic.
    pub proxy_configuration: Option<ProxyConfiguration>,
    /// `EC2`, `EXTERNAL` or `FARGATE`.
    pub launch_type: Option<String>,
    /// Volumes that are attached to it.
    #[serde(default, deserialize_with = "or_default")]
    pub attachments: Vec<Attachment>,
    /// `bridge`, `host`, `awsvpc` or `none`; empty is `bridge`.
    pub network_mode: Option<String>,
    /// The service it belongs to.
    pub service_name: Option<String>,
    /// Its group.
    pub group: Option<String>,
    /// Whether faults may be injected.
    pub enable_fault_injection: Option<bool>,
}

/// One container of a task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// Its name in the task definition.
    pub name: String,
    /// The image reference.
    pub image: String,
    /// The container.
    pub container_arn: Option<String>,
    /// Whether the task ends with it.
    pub essential: Option<bool>,
    /// CPU shares.
    pub cpu: Option<i64>,
    /// Hard limit in MiB.
    pub memory: Option<i64>,
    /// Replaces the image's command.
    #[serde(default, deserialize_with = "or_default")]
    pub command: Vec<String>,
    /// Replaces the image's entry point.
    #[serde(default, deserialize_with = "or_default")]
    pub entry_point: Vec<String>,
    /// A map here, unlike in the API.
    #[serde(default, deserialize_with = "or_default")]
    pub environment: BTreeMap<String, String>,
    /// Files of more environment.
    #[serde(default, deserialize_with = "or_default")]
    pub environment_files: Vec<EnvironmentFile>,
    /// Values that the agent fetches.
    #[serde(default, deserialize_with = "or_default")]
    pub secrets: Vec<Secret>,
    /// [`ContainerOverrides`] as JSON.
    pub overrides: Option<String>,
    /// Everything Docker-shaped.
    pub docker_config: Option<DockerConfig>,
    /// Ports to publish; empty in `awsvpc` mode.
    #[serde(default, deserialize_with = "or_default")]
    pub port_mappings: Vec<PortMapping>,
    /// `name` or `name:alias` of siblings.
    #[serde(default, deserialize_with = "or_default")]
    pub links: Vec<String>,
    /// Volumes it sees.
    #[serde(default, deserialize_with = "or_default")]
    pub mount_points: Vec<MountPoint>,
    /// Siblings whose volumes it sees.
    #[serde(default, deserialize_with = "or_default")]
    pub volumes_from: Vec<VolumesFrom>,
    /// Siblings it waits for.
    #[serde(default, deserialize_with = "or_default")]
    pub depends_on: Vec<Dependency>,
    /// Seconds until dependents give up on it.
    pub start_timeout: Option<i64>,
    /// Seconds from the stop signal to the kill.
    pub stop_timeout: Option<i64>,
    /// Whether it is restarted in place.
    pub restart_policy: Option<RestartPolicy>,
    /// `docker` where Docker's health check is used.
    pub health_check_type: Option<String>,
    /// How to log in to the image's registry.
    pub registry_authentication: Option<RegistryAuthentication>,
    /// `ExecutionRole` where the log driver signs with it.
    pub logs_auth_strategy: Option<String>,
    /// Set on a log router.
    pub firelens_configuration: Option<FirelensConfiguration>,
    /// Helpers that run beside it.
    #[serde(default, deserialize_with = "or_default")]
    pub managed_agents: Vec<ManagedAgent>,
}

/// The only override that an agent applies.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ContainerOverrides {
    /// Replaces the command.
    pub command: Option<Vec<String>>,
}

impl Container {
    /// Reads the overrides text; an absent one overrides nothing.
    pub fn read_overrides(
        &self,
    ) -> Result<ContainerOverrides, serde_json::Error> {
        match self.overrides.as_deref() {
            None | Some("") => Ok(ContainerOverrides::default()),
            Some(text) => serde_json::from_str(text),
        }
    }
}

/// A file of environment variables.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentFile {
    /// `s3`.
    pub r#type: String,
    /// An ARN.
    pub value: String,
}

/// A value kept elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Secret {
    /// The variable or log option.
    pub name: String,
    /// Where it is.
    pub value_from: String,
    /// The region it is in.
    pub region: Option<String>,
    /// `ENVIRONMENT_VARIABLE`, `MOUNT_POINT` or `BOOTSTRAP`.
    pub r#type: Option<String>,
    /// `ssm` or `asm`.
    pub provider: Option<String>,
    /// `CONTAINER` or `LOG_DRIVER`.
    pub target: Option<String>,
    /// Where it is mounted.
    pub container_path: Option<String>,
}

/// A port to publish.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PortMapping {
    /// Inside.
    pub container_port: Option<i32>,
    /// Outside; 0 for any.
    pub host_port: Option<i32>,
    /// `from-to`, in place of one port.
    pub container_port_range: Option<String>,
    /// `tcp` or `udp`.
    pub protocol: Option<String>,
}

/// A volume in a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MountPoint {
    /// The volume.
    pub source_volume: Option<String>,
    /// Where.
    pub container_path: Option<String>,
    /// Whether it cannot be written.
    pub read_only: Option<bool>,
}

/// A sibling's volumes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumesFrom {
    /// The sibling.
    pub source_container: Option<String>,
    /// Whether they cannot be written.
    pub read_only: Option<bool>,
}

/// A sibling to wait for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dependency {
    /// The sibling.
    pub container_name: String,
    /// `START`, `COMPLETE`, `SUCCESS` or `HEALTHY`.
    pub condition: String,
}

/// Restarts in place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RestartPolicy {
    /// Whether it applies.
    pub enabled: Option<bool>,
    /// Exit codes that end the container all the same.
    #[serde(deserialize_with = "or_default")]
    pub ignored_exit_codes: Vec<i32>,
    /// Seconds it must have run to be restarted.
    pub restart_attempt_period: Option<i64>,
}

/// How to log in to a registry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RegistryAuthentication {
    /// `ecr` or `asm`.
    pub r#type: Option<String>,
    /// For `ecr`.
    pub ecr_auth_data: Option<EcrAuthentication>,
    /// For `asm`.
    pub asm_auth_data: Option<AsmAuthentication>,
}

/// An ECR registry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EcrAuthentication {
    /// The account.
    pub registry_id: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// Where its API is.
    pub endpoint_override: Option<String>,
    /// Whether to sign with the task's execution role.
    pub use_execution_role: Option<bool>,
}

/// A secret with a user name and password.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AsmAuthentication {
    /// The secret's ARN.
    pub credentials_parameter: Option<String>,
    /// The region it is in.
    pub region: Option<String>,
}

/// A log router's settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FirelensConfiguration {
    /// `fluentd` or `fluentbit`.
    pub r#type: Option<String>,
    /// Its options.
    #[serde(deserialize_with = "or_default")]
    pub options: BTreeMap<String, String>,
}

/// A helper that runs beside a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ManagedAgent {
    /// `ExecuteCommandAgent`.
    pub name: Option<String>,
    /// Its settings.
    #[serde(deserialize_with = "or_default")]
    pub properties: BTreeMap<String, String>,
}

/// A volume of a task; exactly one of the settings is there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// What mount points call it.
    pub name: String,
    /// `host` where absent; `docker`, `efs` and so on.
    pub r#type: Option<String>,
    /// For `host`.
    pub host: Option<HostVolume>,
    /// For `docker`.
    pub docker_volume_configuration: Option<DockerVolume>,
    /// For `efs`.
    pub efs_volume_configuration: Option<EfsVolume>,
}

/// A directory of the host, or a fresh one without a path.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HostVolume {
    /// The directory.
    pub source_path: Option<String>,
}

/// A Docker volume.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DockerVolume {
    /// `task` or `shared`.
    pub scope: Option<String>,
    /// Whether a shared one is made when it is not there.
    pub autoprovision: Option<bool>,
    /// The volume driver.
    pub driver: Option<String>,
    /// Its options.
    #[serde(deserialize_with = "or_default")]
    pub driver_opts: BTreeMap<String, String>,
    /// Labels of the volume.
    #[serde(deserialize_with = "or_default")]
    pub labels: BTreeMap<String, String>,
}

/// An EFS file system.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EfsVolume {
    /// The file system.
    pub file_system_id: Option<String>,
    /// The directory in it.
    pub root_directory: Option<String>,
    /// `ENABLED` or `DISABLED`.
    pub transit_encryption: Option<String>,
    /// The port for it.
    pub transit_encryption_port: Option<i32>,
    /// Who may.
    pub authorization_config: Option<EfsAuthorization>,
}

/// Access to an EFS file system.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EfsAuthorization {
    /// An access point.
    pub access_point_id: Option<String>,
    /// `ENABLED` or `DISABLED`.
    pub iam: Option<String>,
}

/// A device that belongs to a task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Association {
    /// For a GPU its UUID.
    pub name: Option<String>,
    /// `gpu` or `elastic-inference`.
    pub r#type: Option<String>,
    /// The containers that use it.
    #[serde(deserialize_with = "or_default")]
    pub containers: Vec<String>,
    /// Its description.
    pub content: Option<AssociationContent>,
}

/// An encoded text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AssociationContent {
    /// `identity` or `base64`.
    pub encoding: Option<String>,
    /// The text.
    pub value: Option<String>,
}

/// A proxy container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyConfiguration {
    /// `APPMESH`.
    pub r#type: Option<String>,
    /// The proxy.
    pub container_name: Option<String>,
    /// Its settings.
    #[serde(deserialize_with = "or_default")]
    pub properties: BTreeMap<String, String>,
}

/// Something attached to a task or instance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// The attachment.
    pub attachment_arn: String,
    /// Such as `amazonebs`.
    pub attachment_type: Option<String>,
    /// Its description.
    #[serde(default, deserialize_with = "or_default")]
    pub attachment_properties: Vec<AttachmentProperty>,
}

/// One line of an attachment's description.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttachmentProperty {
    /// The line's name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// The attribute of a container instance whose tasks can have IPv6 addresses.
pub const IPV6_ATTRIBUTE: &str = "ecs.capability.task-eni.ipv6";

/// A network interface of a task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ElasticNetworkInterface {
    /// The attachment that brings it.
    pub attachment_arn: Option<String>,
    /// Its `eni-...` id.
    pub ec2_id: String,
    /// Its hardware address.
    pub mac_address: String,
    /// Its name in the task.
    pub name: Option<String>,
    /// Its place among the task's interfaces.
    pub index: Option<i64>,
    /// Its addresses.
    #[serde(default, deserialize_with = "or_default")]
    pub ipv4_addresses: Vec<Ipv4Address>,
    /// Its IPv6 addresses.
    #[serde(default, deserialize_with = "or_default")]
    pub ipv6_addresses: Vec<Ipv6Address>,
    /// The gateway with the subnet's prefix length: `10.0.0.1/24`.
    pub subnet_gateway_ipv4_address: Option<String>,
    /// The same for IPv6.
    pub subnet_gateway_ipv6_address: Option<String>,
    /// Name servers.
    #[serde(default, deserialize_with = "or_default")]
    pub domain_name_servers: Vec<String>,
    /// Search domains.
    #[serde(default, deserialize_with = "or_default")]
    pub domain_name: Vec<String>,
    /// The task's host name.
    pub private_dns_name: Option<String>,
    /// `default` or `vlan`.
    pub interface_association_protocol: Option<String>,
    /// For `vlan`.
    pub interface_vlan_properties: Option<InterfaceVlan>,
}

/// An IPv4 address of an interface.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ipv4Address {
    /// The address.
    pub private_address: String,
    /// Whether it is the interface's main one.
    pub primary: Option<bool>,
}

/// An IPv6 address of an interface.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ipv6Address {
    /// The address.
    pub address: String,
    /// Whether it is the interface's main one.
    pub primary: Option<bool>,
}

/// A branch of a trunk interface.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InterfaceVlan {
    /// The VLAN's number.
    pub vlan_id: Option<String>,
    /// The trunk's hardware address.
    pub trunk_interface_mac_address: Option<String>,
}
