//! What the tests of this crate share: a clock, ids, an API that remembers
//! what it was told, and tasks.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use minato_client::Credentials;
use minato_core::env::{Clock, Ids};
use minato_wire::{Timestamp, acs};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::agent::Services;
use crate::api::{Api, ApiCall, ApiCallError, ApiService};
use crate::config::AgentConfig;
use crate::engine::TaskEngine;
use crate::runtime::fake::FakeRuntime;

pub(crate) const TASK_ID: &str = "0123456789abcdef0123456789abcdef";
pub(crate) const TASK_ARN: &str = "arn:aws:ecs:us-east-1:000000000000:task/default/0123456789abcdef0123456789abcdef";

/// Time that goes with tokio's, so that tests can pause it.
#[derive(Debug)]
pub(crate) struct TestClock(Instant);

impl TestClock {
    pub(crate) fn new() -> TestClock {
        TestClock(Instant::now())
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        let millis = i64::try_from(self.0.elapsed().as_millis()).unwrap();
        Timestamp::from_millis(millis)
    }
}

#[derive(Debug, Default)]
pub(crate) struct TestIds(AtomicU64);

impl Ids for TestIds {
    fn uuid(&self) -> u128 {
        u128::from(self.0.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// A control plane that takes reports, and keeps logs.
#[derive(Clone, Debug, Default)]
pub(crate) struct FakeApi {
    pub(crate) state: Arc<Mutex<ApiState>>,
}

#[derive(Debug, Default)]
pub(crate) struct ApiState {
    pub(crate) calls: Vec<(String, Value)>,
    /// The region of each.
    pub(crate) regions: Vec<String>,
    /// The access key of each; none is the agent's own.
    pub(crate) roles: Vec<Option<String>>,
    /// Errors for the next calls of an operation.
    pub(crate) errors: BTreeMap<String, Vec<ApiCallError>>,
    /// What `SweepVolumes` answers.
    pub(crate) deleted_volumes: Vec<String>,
    pub(crate) groups: Vec<String>,
    /// Events by stream.
    pub(crate) streams: BTreeMap<String, Vec<(i64, String)>>,
}

pub(crate) fn api_error(code: &str) -> ApiCallError {
    let message = match code {
        "ResourceNotFoundException" => {
            "The specified log group does not exist."
        }
        _ => "no",
    };
    ApiCallError { code: Some(code.into()), message: message.into() }
}

impl FakeApi {
    pub(crate) fn fail_next(&self, operation: &str, code: &str) {
        let mut state = self.state.lock();
        let errors = state.errors.entry(operation.into()).or_default();
        errors.push(api_error(code));
    }

    pub(crate) fn calls(&self, operation: &str) -> Vec<Value> {
        let state = self.state.lock();
        let calls = state.calls.iter();
        calls
            .filter(|(name, _)| name == operation)
            .map(|(_, input)| input.clone())
            .collect()
    }

    pub(crate) fn reports(&self) -> Vec<Value> {
        self.calls("SubmitTaskStateChange")
    }

    pub(crate) fn lines(&self, stream: &str) -> Vec<String> {
        let state = self.state.lock();
        let events = state.streams.get(stream);
        events.into_iter().flatten().map(|(_, m)| m.clone()).collect()
    }

    fn answer(
        state: &mut ApiState,
        operation: &str,
        input: &Value,
    ) -> Result<Value, ApiCallError> {
        let text = |name: &str| input[name].as_str().unwrap_or("").to_owned();
        match operation {
            "RegisterContainerInstance" => Ok(json!({"containerInstance": {
                "containerInstanceArn": "arn:aws:ecs:us-east-1:000000000000:container-instance/default/1",
                "attributes": input["attributes"],
            }})),
            "SweepVolumes" => {
                Ok(json!({"deletedVolumeIds": state.deleted_volumes}))
            }
            "DiscoverPollEndpoint" => Ok(json!({
                "endpoint": "http://acs", "telemetryEndpoint": "http://tcs",
            })),
            "CreateLogGroup" => {
                state.groups.push(text("logGroupName"));
                Ok(Value::Null)
            }
            "CreateLogStream" => {
                if !state.groups.contains(&text("logGroupName")) {
                    return Err(api_error("ResourceNotFoundException"));
                }
                state.streams.entry(text("logStreamName")).or_default();
                Ok(Value::Null)
            }
            "PutLogEvents" => {
                let stream = state.streams.entry(text("logStreamName"));
                let events = input["logEvents"].as_array().unwrap();
                stream.or_default().extend(events.iter().map(|event| {
                    let message = event["message"].as_str().unwrap();
                    (event["timestamp"].as_i64().unwrap(), message.into())
                }));
                Ok(json!({}))
            }
            "GetLogEvents" => {
                let start = input["startTime"].as_i64().unwrap_or(0);
                let events: Vec<Value> = state
                    .streams
                    .get(&text("logStreamName"))
                    .into_iter()
                    .flatten()
                    .filter(|(time, _)| *time >= start)
                    .map(|(t, m)| json!({"timestamp": t, "message": m}))
                    .collect();
                Ok(json!({"events": events}))
            }
            "GetSecretValue" => match &*text("SecretId") {
                "arn:aws:secretsmanager:us-east-1:1:secret:db-AbCdEf" => {
                    Ok(json!({"SecretString": r#"{"user":"u","port":5}"#}))
                }
                "arn:aws:secretsmanager:eu-west-1:1:secret:hub-AbCdEf"
                | "hub" => {
                    let login =
                        json!({"username": "me", "password": "hunter2"});
                    Ok(json!({"SecretString": login.to_string()}))
                }
                _ => Err(api_error("ResourceNotFoundException")),
            },
            "GetParameters" => {
                let names = input["Names"].as_array().unwrap();
                let (known, unknown): (Vec<_>, Vec<_>) =
                    names.iter().partition(|name| *name != "missing");
                let known = known.iter().map(
                    |name| json!({"Name": name, "Value": format!("of {name}")}),
                );
                Ok(json!({
                    "Parameters": known.collect::<Vec<_>>(),
                    "InvalidParameters": unknown,
                }))
            }
            _ => Ok(FakeApi::answer_task(operation, input)),
        }
    }

    /// What tasks ask by way of the agent, and everything else.
    fn answer_task(operation: &str, input: &Value) -> Value {
        match operation {
            "ListTagsForResource" => {
                json!({"tags": [{"key": "team", "value": "blue"}]})
            }
            "UpdateTaskProtection" => json!({"protectedTasks": [{
                "taskArn": input["tasks"][0], "expirationDate": 60,
                "protectionEnabled": input["protectionEnabled"],
            }]}),
            "GetTaskProtection" => json!({"failures": [{
                "arn": input["tasks"][0], "reason": "TASK_NOT_VALID",
            }]}),
            _ => json!({"acknowledgment": "ACK"}),
        }
    }
}

impl Api for FakeApi {
    fn call_as<'a>(
        &'a self,
        role: Option<Credentials>,
        _service: ApiService,
        region: &'a str,
        operation: &'static str,
        input: Value,
    ) -> ApiCall<'a> {
        Box::pin(async move {
            let mut state = self.state.lock();
            if let Some(errors) = state.errors.get_mut(operation)
                && !errors.is_empty()
            {
                return Err(errors.remove(0));
            }
            state.calls.push((operation.into(), input.clone()));
            state.regions.push(region.into());
            state.roles.push(role.map(|role| role.access_key_id));
            FakeApi::answer(&mut state, operation, &input)
        })
    }
}

/// The agent is gone from one moment to the next: its tasks end unheard.
pub(crate) async fn killed(engine: TaskEngine) {
    drop(engine);
    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
}

/// An agent over fakes, with a directory that outlives it.
pub(crate) struct Rig {
    pub(crate) runtime: FakeRuntime,
    pub(crate) api: FakeApi,
    pub(crate) dir: tempfile::TempDir,
}

impl Rig {
    pub(crate) fn new() -> Rig {
        let api = FakeApi::default();
        api.state.lock().groups.push("/app".into());
        let dir = tempfile::tempdir().unwrap();
        Rig { runtime: FakeRuntime::new(), api, dir }
    }

    pub(crate) fn services(&self) -> Arc<Services> {
        services(&self.runtime, &self.api, self.dir.path())
    }

    pub(crate) fn engine(&self) -> TaskEngine {
        TaskEngine::open(self.services()).unwrap()
    }

    /// Waits until the control plane has heard that.
    pub(crate) async fn reported(&self, status: &str) -> Value {
        let is_it = |report: &Value| report["status"] == status;
        self.until(status, || self.api.reports().into_iter().find(is_it)).await
    }

    pub(crate) async fn until<T>(
        &self,
        what: &str,
        mut probe: impl FnMut() -> Option<T>,
    ) -> T {
        // Paused time goes on by itself whenever there is nothing to do.
        for _ in 0..20_000 {
            if let Some(found) = probe() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!(
            "never {what}\ncalls {:#?}\nreports {:#?}",
            self.runtime.calls(),
            self.api.reports()
        );
    }
}

pub(crate) fn services(
    runtime: &FakeRuntime,
    api: &FakeApi,
    dir: &Path,
) -> Arc<Services> {
    Arc::new(Services {
        runtime: Arc::new(runtime.clone()),
        api: Arc::new(api.clone()),
        clock: Arc::new(TestClock::new()),
        ids: Arc::new(TestIds::default()),
        credentials: Arc::default(),
        config: AgentConfig::new("default", "us-east-1", dir),
    })
}

/// A task of the containers given, in bridge mode.
pub(crate) fn task(containers: Value) -> acs::Task {
    serde_json::from_value(json!({
        "arn": TASK_ARN,
        "desiredStatus": "RUNNING",
        "taskClusterArn": "arn:aws:ecs:us-east-1:000000000000:cluster/default",
        "family": "fam",
        "version": "1",
        "containers": containers,
        "volumes": [],
        "networkMode": "bridge",
        "launchType": "EC2",
    }))
    .unwrap()
}

pub(crate) fn stop_of(task: &acs::Task) -> acs::Task {
    acs::Task {
        arn: task.arn.clone(),
        desired_status: "STOPPED".into(),
        ..acs::Task::default()
    }
}

/// The id of a test task's container.
pub(crate) fn id_of(name: &str) -> String {
    crate::task::container_decode::container_id(TASK_ID, name)
}
