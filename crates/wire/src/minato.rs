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

static OPERATIONS: &[m::Operation] = &[m::Operation {
    name: "InterruptSpotTasks",
    input: Some(&INTERRUPT_INPUT),
    output: Some(&INTERRUPT_OUTPUT),
    result_wrapper: None,
    errors: &["InvalidParameterException", "ClusterNotFoundException"],
}];

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
