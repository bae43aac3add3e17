//! The messages of the Telemetry Communication Service (TCS): metrics,
//! container health and instance health, from an agent to the control plane.
//!
//! Container health reaches ECS only this way. What an agent sends is not the
//! bare frame but a signed one: headers, a blank line, then the frame.

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::acs::{Heartbeat, Text};
use crate::frame::{Frame, FrameError, messages, or_default};

/// The longest TCS frame taken: agents send at most ten tasks and 1 MiB in one
/// request; the rest is for the signature's headers.
pub const MAX_FRAME_BYTES: usize = (1 << 20) + (64 << 10);

/// The most tasks that one metrics request holds.
pub const MAX_TASKS_PER_REQUEST: usize = 10;

messages! {
    /// Every TCS message, both ways.
    Message;
    /// Agent: what its containers use.
    PublishMetrics = "PublishMetricsRequest" (Box<PublishMetrics>),
    /// Agent: how its containers are.
    PublishHealth = "PublishHealthRequest" (PublishHealth),
    /// Agent: how it is itself.
    PublishInstanceStatus = "PublishInstanceStatusRequest" (PublishInstanceStatus),
    /// Server: are you there?
    Heartbeat = "HeartbeatMessage" (Heartbeat),
    /// Server: metrics taken.
    AckPublishMetric = "AckPublishMetric" (Text),
    /// Server: health taken.
    AckPublishHealth = "AckPublishHealth" (Text),
    /// Server: status taken.
    AckPublishInstanceStatus = "AckPublishInstanceStatus" (Text),
    /// Server: the session ends.
    StopTelemetrySession = "StopTelemetrySessionMessage" (Text),
    /// Server: it failed.
    ServerException = "ServerException" (Text),
    /// Server: the request is wrong.
    BadRequestException = "BadRequestException" (Text),
    /// Server: the instance does not fit the session.
    ResourceValidationException = "ResourceValidationException" (Text),
    /// Server: a value is wrong.
    InvalidParameterException = "InvalidParameterException" (Text),
}

impl Message {
    /// Reads a bare frame.
    pub fn decode(text: &str) -> Result<Message, FrameError> {
        Frame::decode(text, MAX_FRAME_BYTES).and_then(Message::from_frame)
    }
}

/// Splits a signed frame into its header lines and the bare frame. A text
/// without headers is a bare frame already.
pub fn split_signed(text: &str) -> (Vec<(&str, &str)>, &str) {
    if text.starts_with('{') {
        return (Vec::new(), text);
    }
    let Some((head, frame)) = text.split_once("\r\n\r\n") else {
        return (Vec::new(), text);
    };
    let headers = head
        .split("\r\n")
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim(), value.trim()))
        .collect();
    (headers, frame)
}

/// [`Message::PublishMetrics`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PublishMetrics {
    /// Whose, and which part of the batch.
    pub metadata: MetricsMetadata,
    /// Of the whole instance.
    pub instance_metrics: Option<serde_json::Value>,
    /// At most [`MAX_TASKS_PER_REQUEST`].
    pub task_metrics: Option<Vec<TaskMetric>>,
    /// When they were taken.
    pub timestamp: Option<Timestamp>,
}

/// Whose metrics, and which part of a batch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MetricsMetadata {
    /// The agent's cluster, as it was configured.
    pub cluster: Option<String>,
    /// The container instance.
    pub container_instance: Option<String>,
    /// The batch.
    pub message_id: Option<String>,
    /// Whether no task runs.
    pub idle: Option<bool>,
    /// Whether this is the batch's last part.
    pub fin: Option<bool>,
}

/// What a task uses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TaskMetric {
    /// The task.
    pub task_arn: Option<String>,
    /// The task's cluster.
    pub cluster_arn: Option<String>,
    /// The task definition's family.
    pub task_definition_family: Option<String>,
    /// The task definition's revision.
    pub task_definition_version: Option<String>,
    /// By container.
    #[serde(deserialize_with = "or_default")]
    pub container_metrics: Vec<ContainerMetric>,
}

/// What a container uses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerMetric {
    /// Its name in the task definition.
    pub container_name: Option<String>,
    /// The container.
    pub container_arn: Option<String>,
    /// Per cent of the whole host.
    pub cpu_stats_set: Option<StatsSet>,
    /// MiB without the page cache.
    pub memory_stats_set: Option<StatsSet>,
    /// Traffic.
    pub network_stats_set: Option<NetworkStatsSet>,
    /// Disk traffic.
    pub storage_stats_set: Option<StorageStatsSet>,
    /// Restarts, with a restart policy.
    pub restart_stats_set: Option<RestartStatsSet>,
}

/// A number over the sampling period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StatsSet {
    /// The smallest sample.
    pub min: Option<f64>,
    /// The largest sample.
    pub max: Option<f64>,
    /// How many.
    pub sample_count: Option<i64>,
    /// All together.
    pub sum: Option<f64>,
}

/// A counter over the sampling period; the overflow members carry what does
/// not fit a signed number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CounterSet {
    /// The smallest sample.
    pub min: Option<i64>,
    /// The largest sample.
    pub max: Option<i64>,
    /// How many.
    pub sample_count: Option<i64>,
    /// All together.
    pub sum: Option<i64>,
    /// Beyond the signed range.
    pub overflow_min: Option<i64>,
    /// Beyond the signed range.
    pub overflow_max: Option<i64>,
    /// Beyond the signed range.
    pub overflow_sum: Option<i64>,
}

/// A container's traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkStatsSet {
    /// Bytes received.
    pub rx_bytes: Option<CounterSet>,
    /// Bytes received in a second.
    pub rx_bytes_per_second: Option<StatsSet>,
    /// Packets received and dropped.
    pub rx_dropped: Option<CounterSet>,
    /// Packets received wrongly.
    pub rx_errors: Option<CounterSet>,
    /// Packets received.
    pub rx_packets: Option<CounterSet>,
    /// Bytes sent.
    pub tx_bytes: Option<CounterSet>,
    /// Bytes sent in a second.
    pub tx_bytes_per_second: Option<StatsSet>,
    /// Packets not sent.
    pub tx_dropped: Option<CounterSet>,
    /// Packets that failed.
    pub tx_errors: Option<CounterSet>,
    /// Packets sent.
    pub tx_packets: Option<CounterSet>,
}

/// A container's disk traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StorageStatsSet {
    /// Bytes read.
    pub read_size_bytes: Option<CounterSet>,
    /// Bytes written.
    pub write_size_bytes: Option<CounterSet>,
}

/// A container's restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RestartStatsSet {
    /// Since the task started.
    pub restart_count: Option<i64>,
}

/// [`Message::PublishHealth`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PublishHealth {
    /// Whose, and which part of the batch.
    pub metadata: HealthMetadata,
    /// Tasks with a health check.
    #[serde(default, deserialize_with = "or_default")]
    pub tasks: Vec<TaskHealth>,
    /// When it was taken.
    pub timestamp: Option<Timestamp>,
}

/// Whose health, and which part of a batch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HealthMetadata {
    /// The agent's cluster, as it was configured.
    pub cluster: Option<String>,
    /// The container instance.
    pub container_instance: Option<String>,
    /// The batch.
    pub message_id: Option<String>,
    /// Whether this is the batch's last part.
    pub fin: Option<bool>,
}

/// How a task's containers are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TaskHealth {
    /// The task.
    pub task_arn: Option<String>,
    /// The task's cluster.
    pub cluster_arn: Option<String>,
    /// The task definition's family.
    pub task_definition_family: Option<String>,
    /// The task definition's revision.
    pub task_definition_version: Option<String>,
    /// Those with a health check.
    #[serde(deserialize_with = "or_default")]
    pub containers: Vec<ContainerHealth>,
}

/// How a container is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerHealth {
    /// Its name in the task definition.
    pub container_name: Option<String>,
    /// `HEALTHY`, `UNHEALTHY` or `UNKNOWN`.
    pub health_status: Option<String>,
    /// Since when.
    pub status_since: Option<Timestamp>,
    /// What the check printed.
    pub status_message: Option<String>,
}

/// [`Message::PublishInstanceStatus`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PublishInstanceStatus {
    /// Whose.
    pub metadata: InstanceStatusMetadata,
    /// By part of the instance.
    #[serde(default, deserialize_with = "or_default")]
    pub statuses: Vec<InstanceStatus>,
    /// When it was sent.
    pub timestamp: Option<Timestamp>,
}

/// Whose status.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InstanceStatusMetadata {
    /// The agent's cluster, as it was configured.
    pub cluster: Option<String>,
    /// The container instance.
    pub container_instance: Option<String>,
    /// The request.
    pub request_id: Option<String>,
}

/// How a part of the instance is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InstanceStatus {
    /// `ContainerRuntime`.
    pub r#type: Option<String>,
    /// `INITIALIZING`, `OK` or `IMPAIRED`.
    pub status: Option<String>,
    /// Why.
    pub status_reason: Option<String>,
    /// When it was last asked.
    pub last_updated: Option<Timestamp>,
    /// When it last changed.
    pub last_status_change: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an agent sent once, headers and all.
    const SIGNED: &str = concat!(
        "Authorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261122/",
        "us-west-2/ecs/aws4_request, SignedHeaders=host;x-amz-date, ",
        "Signature=00\r\nHost: 127.0.0.1:18080\r\n",
        "X-Amz-Date: 20261122T122450Z\r\n\r\n",
        r#"{"type":"PublishMetricsRequest","message":{"metadata":{"#,
        r#""cluster":"default","containerInstance":"arn","fin":true,"#,
        r#""idle":true,"messageId":"m"},"timestamp":1795350290.379}}"#,
    );

    #[test]
    fn a_signed_frame_splits_at_its_blank_line() {
        let (headers, frame) = split_signed(SIGNED);
        assert_eq!(headers.len(), 3);
        assert_eq!(headers[1], ("Host", "127.0.0.1:18080"));
        let Message::PublishMetrics(metrics) = Message::decode(frame).unwrap()
        else {
            panic!("not metrics");
        };
        assert_eq!(metrics.metadata.idle, Some(true));
        assert_eq!(metrics.timestamp.unwrap().as_millis(), 1_795_350_290_379);
        let again = Message::PublishMetrics(metrics).encode().unwrap();
        let left: serde_json::Value = serde_json::from_str(&again).unwrap();
        let right: serde_json::Value = serde_json::from_str(frame).unwrap();
        assert_eq!(left, right);
    }

    #[test]
    fn instance_status_round_trips() {
        let text = r#"{"type":"PublishInstanceStatusRequest","message":{
            "metadata":{"cluster":"default","containerInstance":"<arn>",
            "requestId":"<uuid>"},"statuses":[{"lastStatusChange":
            1795350310.382,"lastUpdated":1795350290.364,"status":"OK",
            "type":"ContainerRuntime"}],"timestamp":1795350330.379}}"#;
        let again = Message::decode(text).unwrap().encode().unwrap();
        let left: serde_json::Value = serde_json::from_str(&again).unwrap();
        let right: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(left, right);
    }

    #[test]
    fn container_health_is_read() {
        let text = r#"{"type":"PublishHealthRequest","message":{"metadata":
            {"cluster":"c","containerInstance":"i","messageId":"m","fin":true},
            "tasks":[{"taskArn":"t","containers":[{"containerName":"web",
            "healthStatus":"HEALTHY","statusSince":1.5,"later":1}]}],
            "timestamp":2}}"#;
        let Message::PublishHealth(health) = Message::decode(text).unwrap()
        else {
            panic!("not health");
        };
        let web = &health.tasks[0].containers[0];
        assert_eq!(web.health_status.as_deref(), Some("HEALTHY"));
        assert_eq!(web.status_since, Some(Timestamp::from_millis(1500)));
    }

    #[test]
    fn a_long_frame_is_refused_before_it_is_parsed() {
        let text = "x".repeat(MAX_FRAME_BYTES + 1);
        let error = Message::decode(&text).unwrap_err();
        assert!(matches!(error, FrameError::TooLong { .. }));
    }
}
