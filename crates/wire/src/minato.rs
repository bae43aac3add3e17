//! Minato's own API: what no AWS service has an operation for. It is spoken
//! as AWS's JSON services are, by the `minato` command line.

use serde::{Deserialize, Serialize};

use crate::model as m;

/// The whole API.
pub static SERVICE: m::Service = m::Service {
    name: "minato",
    signing_name: "minato",
    api_version: "2026-11-27",
    target_prefix: Some("Minato_20261127"),
    xml_namespace: None,
    protocol: m::Protocol::AwsJson(m::JsonVersion::V1_1),
    operations: OPERATIONS,
    unserved: &[],
};

static OPERATIONS: &[m::Operation] = &[
    m::Operation {
        name: "ExplainPlacement",
        input: Some(&EXPLAIN_INPUT),
        output: Some(&EXPLAIN_OUTPUT),
        result_wrapper: None,
        event_stream: false,
        errors: &["ServiceNotFoundException", "ClusterNotFoundException"],
    },
    m::Operation {
        name: "InterruptSpotTasks",
        input: Some(&INTERRUPT_INPUT),
        output: Some(&INTERRUPT_OUTPUT),
        result_wrapper: None,
        event_stream: false,
        errors: &["InvalidParameterException", "ClusterNotFoundException"],
    },
    m::Operation {
        name: "SweepVolumes",
        input: Some(&SWEEP_INPUT),
        output: Some(&SWEEP_OUTPUT),
        result_wrapper: None,
        event_stream: false,
        errors: &["InvalidParameterException"],
    },
];

/// Asks which hosts could take one more task of a service, and what the
/// others lack.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainPlacementRequest {
    /// Name or ARN of the cluster; `default` where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// The service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
}

/// What placement makes of each host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainPlacementResponse {
    /// The task definition of the task that was tried; none where the service
    /// has nothing to run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_definition: Option<String>,
    /// CPU units that it takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<i32>,
    /// MiB of memory that it takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<i32>,
    /// The hosts that were considered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hosts: Option<Vec<ConsideredHost>>,
}

/// A host, and what keeps the task from it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsideredHost {
    /// The host's id, which is that of its container instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Its availability zone, if it names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub availability_zone: Option<String>,
    /// Everything that keeps the task from it; empty if it could have it now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lacks: Option<Vec<HostLack>>,
}

/// One thing that keeps a task from a host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostLack {
    /// In the words of `RunTask` failures, such as `RESOURCE:CPU`; `STATUS`
    /// and `CAPACITY_PROVIDER` for hosts that `RunTask` does not look at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// In numbers and names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

static EXPLAIN_INPUT: m::Shape = m::Shape::Structure(m::Structure {
    name: "ExplainPlacementRequest",
    members: &[member("cluster", &STRING), member("service", &STRING)],
});

static EXPLAIN_OUTPUT: m::Shape = m::Shape::Structure(m::Structure {
    name: "ExplainPlacementResponse",
    members: &[
        member("taskDefinition", &STRING),
        member("cpu", &COUNT),
        member("memory", &COUNT),
        member("hosts", &HOSTS),
    ],
});

static HOSTS: m::Shape = m::Shape::List(m::List {
    member: &HOST,
    location_name: None,
    flattened: false,
    length: m::Range::ANY,
});

static HOST: m::Shape = m::Shape::Structure(m::Structure {
    name: "ConsideredHost",
    members: &[
        member("host", &STRING),
        member("availabilityZone", &STRING),
        member("lacks", &LACKS),
    ],
});

static LACKS: m::Shape = m::Shape::List(m::List {
    member: &LACK,
    location_name: None,
    flattened: false,
    length: m::Range::ANY,
});

static LACK: m::Shape = m::Shape::Structure(m::Structure {
    name: "HostLack",
    members: &[member("reason", &STRING), member("detail", &STRING)],
});

/// Takes the Spot capacity back from under tasks, as AWS does when it needs
/// it: each gets its SIGTERM at once and `stopCode` `SpotInterruption`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InterruptSpotTasksRequest {
    /// Name or ARN of the cluster; `default` where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Ids or ARNs of tasks, all of which must run on Spot capacity. Either
    /// these or `service`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tasks: Option<Vec<String>>,
    /// A service, whose tasks on Spot capacity are meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The most tasks of the service that are interrupted, oldest first; all
    /// where there is no number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<i32>,
}

/// What was interrupted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InterruptSpotTasksResponse {
    /// The ARNs of the tasks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_arns: Option<Vec<String>>,
}

static INTERRUPT_INPUT: m::Shape = m::Shape::Structure(m::Structure {
    name: "InterruptSpotTasksRequest",
    members: &[
        member("cluster", &STRING),
        member("tasks", &STRINGS),
        member("service", &STRING),
        member("count", &COUNT),
    ],
});

static INTERRUPT_OUTPUT: m::Shape = m::Shape::Structure(m::Structure {
    name: "InterruptSpotTasksResponse",
    members: &[member("taskArns", &STRINGS)],
});

/// By which an agent learns which of the volumes that it kept were deleted
/// since, and says which of those are gone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SweepVolumesRequest {
    /// Volumes that this host has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_ids: Option<Vec<String>>,
    /// Deleted ones whose files it has removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub removed_volume_ids: Option<Vec<String>>,
}

/// Which volumes are to go.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SweepVolumesResponse {
    /// Those of the host's that were deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleted_volume_ids: Option<Vec<String>>,
}

static SWEEP_INPUT: m::Shape = m::Shape::Structure(m::Structure {
    name: "SweepVolumesRequest",
    members: &[
        member("volumeIds", &STRINGS),
        member("removedVolumeIds", &STRINGS),
    ],
});

static SWEEP_OUTPUT: m::Shape = m::Shape::Structure(m::Structure {
    name: "SweepVolumesResponse",
    members: &[member("deletedVolumeIds", &STRINGS)],
});

const fn member(name: &'static str, shape: &'static m::Shape) -> m::Member {
    m::Member {
        name,
        location_name: None,
        query_name: None,
        required: false,
        shape,
    }
}

static COUNT: m::Shape =
    m::Shape::Integer(m::Range { min: Some(1), max: None });

static STRING: m::Shape = m::Shape::String(m::Text {
    length: m::Range::ANY,
    pattern: None,
    values: &[],
});

static STRINGS: m::Shape = m::Shape::List(m::List {
    member: &STRING,
    location_name: None,
    flattened: false,
    length: m::Range::ANY,
});
