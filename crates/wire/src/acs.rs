//! The messages of the Agent Communication Service (ACS).
//!
//! The control plane tells an agent what to run through these, and nothing
//! else; the agent answers with acknowledgements here and with ordinary API
//! calls. Shapes and names are the upstream agent's, so either side can be
//! replaced by it.

mod docker;
mod firewall;
mod task;
#[cfg(test)]
mod tests;

pub use docker::{
    ContainerConfig, Device, DockerConfig, HealthConfig, HostConfig, LogConfig,
    Ulimit,
};
pub use firewall::{
    FIREWALL_ATTRIBUTE, Firewall, FirewallAck, FirewallGroup,
    FirewallInterface, FirewallMembers, FirewallRule, FirewallSubnet,
};
pub use task::{
    AsmAuthentication, Association, AssociationContent, Attachment,
    AttachmentProperty, Container, ContainerOverrides, Dependency,
    DockerVolume, EcrAuthentication, EfsAuthorization, EfsVolume,
    ElasticNetworkInterface, EnvironmentFile, FirelensConfiguration,
    HostVolume, IPV6_ATTRIBUTE, InterfaceVlan, Ipv4Address, Ipv6Address,
    ManagedAgent, MountPoint, PortMapping, ProxyConfiguration,
    RegistryAuthentication, RestartPolicy, Secret, Task, Volume, VolumesFrom,
};

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::frame::{Frame, FrameError, messages, or_default};

/// The longest ACS frame taken: the ten tasks of one RunTask at ECS's 64 KiB
/// for a task definition, and room for what the control plane merges in, with
/// a factor of four.
pub const MAX_FRAME_BYTES: usize = 4 << 20;

messages! {
    /// Every ACS message, both ways.
    Message;
    /// Server: are you there?
    Heartbeat = "HeartbeatMessage" (Heartbeat),
    /// Agent: yes.
    HeartbeatAck = "HeartbeatAckRequest" (HeartbeatAck),
    /// Server: tasks to run or to stop.
    Payload = "PayloadMessage" (Box<Payload>),
    /// Agent: the message is understood and kept.
    Ack = "AckRequest" (Ack),
    /// Agent: the message is refused.
    Nack = "NackRequest" (Nack),
    /// Server: credentials of a running task, new or renewed.
    IamRoleCredentials = "IAMRoleCredentialsMessage" (Box<IamRoleCredentialsMessage>),
    /// Agent: the credentials are in use.
    IamRoleCredentialsAck = "IAMRoleCredentialsAckRequest" (IamRoleCredentialsAck),
    /// Server: a task's network interfaces are coming.
    AttachTaskNetworkInterfaces = "AttachTaskNetworkInterfacesMessage" (AttachTaskNetworkInterfaces),
    /// Server: the instance's own network interfaces are coming.
    AttachInstanceNetworkInterfaces = "AttachInstanceNetworkInterfacesMessage" (AttachInstanceNetworkInterfaces),
    /// Server: a volume is coming.
    ConfirmAttachment = "ConfirmAttachmentMessage" (ConfirmAttachment),
    /// Server: every task this instance should have.
    TaskManifest = "TaskManifestMessage" (TaskManifest),
    /// Agent: these tasks are not in the manifest; stop them?
    TaskStopVerification = "TaskStopVerificationMessage" (TaskStopVerification),
    /// Server: stop these.
    TaskStopVerificationAck = "TaskStopVerificationAck" (TaskStopVerificationAck),
    /// Server: subnets and security groups, as they are now. Minato's own.
    Firewall = "MinatoFirewallMessage" (Box<Firewall>),
    /// Agent: the host enforces them, or will after the next try.
    FirewallAck = "MinatoFirewallAckRequest" (FirewallAck),
    /// Server: somebody wants to run a command in a container. Minato's own:
    /// on AWS an SSM agent in the container is told, over its own channel.
    ExecuteCommand = "ExecuteCommandMessage" (Box<ExecuteCommand>),
    /// Server: fetch a new agent.
    StageUpdate = "StageUpdateMessage" (Update),
    /// Server: change to the fetched agent.
    PerformUpdate = "PerformUpdateMessage" (Update),
    /// Server: the session ends.
    Close = "CloseMessage" (Text),
    /// Server: something is wrong.
    Error = "ErrorMessage" (Text),
    /// Server: it failed.
    ServerException = "ServerException" (Text),
    /// Server: the request is wrong.
    BadRequestException = "BadRequestException" (Text),
    /// Server: no such cluster.
    InvalidClusterException = "InvalidClusterException" (Text),
    /// Server: no such container instance.
    InvalidInstanceException = "InvalidInstanceException" (Text),
    /// Server: not allowed.
    AccessDeniedException = "AccessDeniedException" (Text),
    /// Server: the container instance is deregistered.
    InactiveInstanceException = "InactiveInstanceException" (Text),
}

impl Message {
    /// Reads a text frame.
    ///
    /// Errors also come unframed, as `{"InactiveInstanceException": "why"}`.
    pub fn decode(text: &str) -> Result<Message, FrameError> {
        let not_a_frame = match Frame::decode(text, MAX_FRAME_BYTES) {
            Ok(frame) => return Message::from_frame(frame),
            Err(error @ FrameError::NotAFrame { .. }) => error,
            Err(error) => return Err(error),
        };
        let Ok(pairs) = serde_json::from_str::<OneString>(text) else {
            return Err(not_a_frame);
        };
        let mut pairs = pairs.0.into_iter();
        match (pairs.next(), pairs.next()) {
            (Some((r#type, message)), None)
                if r#type.ends_with("Exception") =>
            {
                let message = serde_json::json!({ "message": message });
                Message::from_frame(Frame { r#type, message })
            }
            _ => Err(not_a_frame),
        }
    }
}

#[derive(Deserialize)]
struct OneString(std::collections::BTreeMap<String, String>);

/// [`Message::Heartbeat`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Heartbeat {
    /// Echoed in the acknowledgement.
    pub message_id: Option<String>,
    /// Whether the server is healthy.
    pub healthy: Option<bool>,
}

/// [`Message::HeartbeatAck`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HeartbeatAck {
    /// The heartbeat's.
    pub message_id: Option<String>,
}

/// [`Message::Payload`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Payload {
    /// Echoed in the acknowledgement.
    pub message_id: String,
    /// The instance's cluster.
    pub cluster_arn: String,
    /// The instance it is for.
    pub container_instance_arn: String,
    /// Desired states of some tasks.
    #[serde(default, deserialize_with = "or_default")]
    pub tasks: Vec<Task>,
    /// When it was made, in milliseconds since the epoch.
    pub generated_at: Option<i64>,
    /// Place in the instance's one sequence of payloads and manifests.
    pub seq_num: Option<i64>,
    /// The manifest counter, where the server sends it here.
    pub timeline: Option<i64>,
}

/// [`Message::Ack`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ack {
    /// The message's cluster.
    pub cluster: Option<String>,
    /// The message's container instance.
    pub container_instance: Option<String>,
    /// The message.
    pub message_id: String,
}

/// [`Message::Nack`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Nack {
    /// The message's cluster.
    pub cluster: Option<String>,
    /// The message's container instance.
    pub container_instance: Option<String>,
    /// The message.
    pub message_id: String,
    /// Why not.
    pub reason: Option<String>,
}

/// Which of a task's two roles credentials are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RoleType {
    /// The task role, for its containers.
    TaskApplication,
    /// The execution role, for the agent.
    TaskExecution,
}

/// [`Message::IamRoleCredentials`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IamRoleCredentialsMessage {
    /// Echoed in the acknowledgement.
    pub message_id: String,
    /// Whose credentials.
    pub task_arn: String,
    /// The task's cluster.
    pub task_cluster_arn: Option<String>,
    /// Which role.
    pub role_type: RoleType,
    /// The credentials.
    pub role_credentials: IamRoleCredentials,
}

/// Temporary credentials of a role.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IamRoleCredentials {
    /// Names the set in the task's credentials URL.
    pub credentials_id: String,
    /// The role.
    pub role_arn: Option<String>,
    /// The public half of the key.
    pub access_key_id: Option<String>,
    /// The secret half of the key.
    pub secret_access_key: Option<String>,
    /// The session token.
    pub session_token: Option<String>,
    /// RFC 3339; echoed as it came.
    pub expiration: Option<String>,
    /// Narrows what they are good for, where the server says so.
    pub credential_scope: Option<String>,
}

impl fmt::Debug for IamRoleCredentials {
    // Secrets stay out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IamRoleCredentials")
            .field("credentials_id", &self.credentials_id)
            .field("role_arn", &self.role_arn)
            .field("access_key_id", &self.access_key_id)
            .field("expiration", &self.expiration)
            .finish_non_exhaustive()
    }
}

/// [`Message::IamRoleCredentialsAck`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IamRoleCredentialsAck {
    /// The message that brought them; a payload's, for a new task.
    pub message_id: String,
    /// As it came.
    pub expiration: Option<String>,
    /// Which set.
    pub credentials_id: String,
}

/// [`Message::AttachTaskNetworkInterfaces`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttachTaskNetworkInterfaces {
    /// Echoed in the acknowledgement.
    pub message_id: String,
    /// The instance's cluster.
    pub cluster_arn: String,
    /// The instance it is for.
    pub container_instance_arn: String,
    /// The task the interfaces are for.
    pub task_arn: String,
    /// The task's cluster.
    pub task_cluster_arn: Option<String>,
    /// How long to wait for the interfaces.
    pub wait_timeout_ms: i64,
    /// When it was made, in milliseconds since the epoch.
    pub generated_at: Option<i64>,
    /// At least one.
    pub elastic_network_interfaces: Vec<ElasticNetworkInterface>,
}

/// [`Message::AttachInstanceNetworkInterfaces`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttachInstanceNetworkInterfaces {
    /// Echoed in the acknowledgement.
    pub message_id: String,
    /// The instance's cluster.
    pub cluster_arn: String,
    /// The instance it is for.
    pub container_instance_arn: String,
    /// How long to wait for the interfaces.
    pub wait_timeout_ms: i64,
    /// When it was made, in milliseconds since the epoch.
    pub generated_at: Option<i64>,
    /// At least one.
    pub elastic_network_interfaces: Vec<ElasticNetworkInterface>,
}

/// [`Message::ConfirmAttachment`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfirmAttachment {
    /// Echoed in the acknowledgement.
    pub message_id: String,
    /// The instance's cluster.
    pub cluster_arn: String,
    /// The instance it is for.
    pub container_instance_arn: String,
    /// The task it is for, if one.
    pub task_arn: Option<String>,
    /// The task's cluster.
    pub task_cluster_arn: Option<String>,
    /// How long to wait; five minutes where absent.
    pub wait_timeout_ms: Option<i64>,
    /// When it was made, in milliseconds since the epoch.
    pub generated_at: Option<i64>,
    /// What is coming.
    pub attachment: Attachment,
}

/// Which task, and what should become of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskIdentifier {
    /// The task.
    pub task_arn: String,
    /// The task's cluster.
    pub task_cluster_arn: Option<String>,
    /// `RUNNING` or `STOPPED`.
    pub desired_status: String,
}

/// [`Message::TaskManifest`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskManifest {
    /// Echoed in the acknowledgement.
    pub message_id: String,
    /// The instance's cluster.
    pub cluster_arn: Option<String>,
    /// The instance it is for.
    pub container_instance_arn: Option<String>,
    /// Every task the instance should have.
    #[serde(default, deserialize_with = "or_default")]
    pub tasks: Vec<TaskIdentifier>,
    /// When it was made, in milliseconds since the epoch.
    pub generated_at: Option<i64>,
    /// Place in the instance's one sequence of payloads and manifests.
    pub timeline: Option<i64>,
}

/// [`Message::TaskStopVerification`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskStopVerification {
    /// The manifest's.
    pub message_id: String,
    /// Tasks the agent has and the manifest has not.
    #[serde(default, deserialize_with = "or_default")]
    pub stop_candidates: Vec<TaskIdentifier>,
}

/// [`Message::TaskStopVerificationAck`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskStopVerificationAck {
    /// The manifest's.
    pub message_id: String,
    /// When it was made, in milliseconds since the epoch.
    pub generated_at: Option<i64>,
    /// Those of the candidates that are to stop.
    #[serde(default, deserialize_with = "or_default")]
    pub stop_tasks: Vec<TaskIdentifier>,
}

/// [`Message::ExecuteCommand`].
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecuteCommand {
    /// Names the message.
    pub message_id: String,
    /// The session, whose data channel the agent is to open.
    pub session_id: String,
    /// What the agent opens it with, once.
    pub token_value: String,
    /// The task.
    pub task_arn: String,
    /// The container's name.
    pub container_name: String,
    /// The command, as the caller gave it.
    pub command: String,
    /// Where its output is written down.
    #[serde(default)]
    pub logging: SessionLogging,
}

/// Where the output of a session is written down: the cluster's
/// `executeCommandConfiguration`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SessionLogging {
    /// Nowhere.
    #[default]
    None,
    /// In the log group of the container's `awslogs` driver, if it has that.
    Default,
    /// In these places.
    #[serde(rename_all = "camelCase")]
    Override {
        /// A log group of CloudWatch Logs; its stream is the session's id.
        log_group: Option<String>,
        /// A bucket of S3.
        bucket: Option<String>,
        /// What the object's key begins with.
        key_prefix: Option<String>,
    },
}

impl fmt::Debug for ExecuteCommand {
    // The token stays out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecuteCommand")
            .field("session_id", &self.session_id)
            .field("task_arn", &self.task_arn)
            .field("container_name", &self.container_name)
            .field("logging", &self.logging)
            .finish_non_exhaustive()
    }
}

/// [`Message::StageUpdate`] and [`Message::PerformUpdate`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Update {
    /// Echoed in the answer.
    pub message_id: String,
    /// The instance's cluster.
    pub cluster_arn: Option<String>,
    /// The instance it is for.
    pub container_instance_arn: Option<String>,
    /// What to fetch.
    pub update_info: Option<UpdateInfo>,
}

/// Where a new agent is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UpdateInfo {
    /// A URL.
    pub location: Option<String>,
    /// SHA-256, hexadecimal.
    pub signature: Option<String>,
}

/// A message that is only a text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Text {
    /// The text.
    #[serde(alias = "Message")]
    pub message: Option<String>,
}
