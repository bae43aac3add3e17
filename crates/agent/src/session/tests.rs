//! The ACS conversation, frame by frame.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use minato_wire::Timestamp;
use minato_wire::acs::IamRoleCredentials;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::*;
use crate::agent::Agent;
use crate::test_support::{Rig, TASK_ARN, TASK_ID, task};

#[path = "exec_tests.rs"]
mod exec_tests;

/// The control plane's ends of the connections an agent opened.
#[derive(Debug, Default)]
struct FakeConnector {
    acs: Mutex<Vec<(Hello, Server)>>,
    tcs: Mutex<Vec<(Hello, Server)>>,
    /// Session, token and client's end.
    execs: Mutex<Vec<(String, String, exec_tests::Client)>>,
}

#[derive(Debug)]
struct Server {
    to_agent: mpsc::Sender<String>,
    from_agent: mpsc::Receiver<String>,
}

fn pair() -> (Channel, Server) {
    let (to_agent, receiver) = mpsc::channel(16);
    let (sender, from_agent) = mpsc::channel(16);
    (Channel { sender, receiver }, Server { to_agent, from_agent })
}

impl Connector for FakeConnector {
    fn open_acs<'a>(
        &'a self,
        hello: &'a Hello,
    ) -> BoxFuture<'a, Result<Channel, ConnectError>> {
        let (channel, server) = pair();
        self.acs.lock().push((hello.clone(), server));
        Box::pin(async { Ok(channel) })
    }

    fn open_tcs<'a>(
        &'a self,
        hello: &'a Hello,
    ) -> BoxFuture<'a, Result<Channel, ConnectError>> {
        let (channel, server) = pair();
        self.tcs.lock().push((hello.clone(), server));
        Box::pin(async { Ok(channel) })
    }

    fn open_exec<'a>(
        &'a self,
        session_id: &'a str,
        token: &'a str,
    ) -> BoxFuture<'a, Result<DataChannel, ConnectError>> {
        let (sender, from_agent) = mpsc::channel(16);
        let (to_agent, receiver) = mpsc::channel(16);
        let client = exec_tests::Client::new(to_agent, from_agent);
        self.execs.lock().push((session_id.into(), token.into(), client));
        Box::pin(async { Ok(DataChannel { sender, receiver }) })
    }
}

impl Server {
    async fn send(&self, kind: &str, message: Value) {
        let frame = json!({"type": kind, "message": message});
        self.to_agent.send(frame.to_string()).await.unwrap();
    }

    async fn receive(&mut self) -> (String, Value) {
        let wait = Duration::from_secs(30);
        let frame = tokio::time::timeout(wait, self.from_agent.recv()).await;
        let frame: Value =
            serde_json::from_str(&frame.unwrap().unwrap()).unwrap();
        let kind = frame["type"].as_str().unwrap().to_owned();
        (kind, frame["message"].clone())
    }

    /// Whether the agent says nothing for a while.
    async fn is_silent(&mut self) -> bool {
        let wait = Duration::from_secs(5);
        tokio::time::timeout(wait, self.from_agent.recv()).await.is_err()
    }
}

struct Talk {
    rig: Rig,
    agent: Agent,
    connector: Arc<FakeConnector>,
}

impl Talk {
    async fn begin() -> Talk {
        let rig = Rig::new();
        let connector = Arc::new(FakeConnector::default());
        let dynamic: Arc<dyn Connector> = connector.clone();
        let agent = Agent::start(rig.services(), dynamic, None).await.unwrap();
        Talk { rig, agent, connector }
    }

    async fn acs(&self) -> (Hello, Server) {
        let take = || self.connector.acs.lock().pop();
        self.rig.until("connected", take).await
    }
}

fn payload(sequence: i64, tasks: Value) -> Value {
    json!({
        "messageId": format!("m{sequence}"), "clusterArn": "cluster-arn",
        "containerInstanceArn": "instance-arn", "seqNum": sequence,
        "tasks": tasks,
    })
}

fn web() -> Value {
    let task = task(json!([{"name": "web", "image": "web"}]));
    serde_json::to_value(task).unwrap()
}

#[tokio::test(start_paused = true)]
async fn it_registers_with_what_it_can_do() {
    let talk = Talk::begin().await;
    let calls = talk.rig.api.calls("RegisterContainerInstance");
    let attributes = calls[0]["attributes"].as_array().unwrap();
    let has = |name: &str| attributes.iter().any(|a| a["name"] == name);
    assert!(has("ecs.capability.task-eni"));
    assert!(has("minato.capability.security-groups"));
    assert!(has("ecs.capability.aws-appmesh"));
    // The fake host's kernel can do no faults.
    assert!(!has("ecs.capability.fault-injection"));
    assert!(has("ecs.capability.container-restart-policy"));
    assert!(has("com.amazonaws.ecs.capability.logging-driver.awslogs"));
    assert!(has("com.amazonaws.ecs.capability.task-iam-role"));
    assert!(has("ecs.capability.secrets.ssm.environment-variables"));
    let login = "private-registry-authentication.secretsmanager";
    assert!(has(&format!("ecs.capability.{login}")));
    assert!(has("ecs.capability.execute-command"));
    let value_of = |name: &str| {
        attributes.iter().find(|a| a["name"] == name).unwrap()["value"].clone()
    };
    assert_eq!(value_of("ecs.os-type"), "linux");
    assert_eq!(value_of("ecs.availability-zone"), "us-east-1a");
    assert_eq!(calls[0]["totalResources"][0]["name"], "CPU");
    let (hello, _server) = talk.acs().await;
    assert_eq!(hello.endpoint, "http://acs");
    assert!(hello.send_credentials);
    assert_eq!(
        hello.container_instance_arn,
        talk.agent.container_instance_arn()
    );
}

#[tokio::test(start_paused = true)]
async fn a_second_start_registers_as_the_same_instance() {
    let talk = Talk::begin().await;
    let arn = talk.agent.container_instance_arn().to_owned();
    let Talk { rig, agent, connector } = talk;
    drop(agent);
    let dynamic: Arc<dyn Connector> = connector;
    let again = Agent::start(rig.services(), dynamic, None).await.unwrap();
    assert_eq!(again.container_instance_arn(), arn);
    let calls = rig.api.calls("RegisterContainerInstance");
    assert_eq!(calls[1]["containerInstanceArn"], arn);
}

#[tokio::test(start_paused = true)]
async fn heartbeats_are_answered_and_nonsense_is_survived() {
    let talk = Talk::begin().await;
    let (_, mut server) = talk.acs().await;
    for nonsense in ["", "{", "[]", r#"{"type":"X","message":{}}"#, "null"] {
        server.to_agent.send(nonsense.into()).await.unwrap();
    }
    server.send("PayloadMessage", json!({"tasks": [{}]})).await;
    server.send("HeartbeatMessage", json!({"messageId": "h1"})).await;
    let (kind, message) = server.receive().await;
    assert_eq!(kind, "HeartbeatAckRequest");
    assert_eq!(message, json!({"messageId": "h1"}));
}

#[tokio::test(start_paused = true)]
async fn a_payload_is_acknowledged_once_it_is_kept() {
    let talk = Talk::begin().await;
    let (_, mut server) = talk.acs().await;
    let mut task = web();
    task["roleCredentials"] = json!({
        "credentialsId": "c1", "secretAccessKey": "hush",
        "expiration": "2026-11-22T20:00:00Z",
    });
    task["executionRoleCredentials"] = json!({
        "credentialsId": "c2", "secretAccessKey": "hush too",
        "expiration": "2026-11-22T20:00:00Z",
    });
    server.send("PayloadMessage", payload(1, json!([task]))).await;
    for id in ["c1", "c2"] {
        let (kind, message) = server.receive().await;
        assert_eq!(kind, "IAMRoleCredentialsAckRequest");
        assert_eq!(message["credentialsId"], id);
    }
    let (kind, message) = server.receive().await;
    assert_eq!(kind, "AckRequest");
    assert_eq!(
        message,
        json!({
            "cluster": "cluster-arn", "containerInstance": "instance-arn",
            "messageId": "m1",
        })
    );
    let file = talk.rig.dir.path().join(format!("tasks/{TASK_ID}/task.json"));
    let kept = std::fs::read_to_string(file).unwrap();
    assert!(!kept.contains("hush"), "secrets are on disk");
    assert!(kept.contains("c2"), "a new agent could not find them");
    for id in ["c1", "c2"] {
        assert!(talk.agent.credentials().get(id).is_some());
    }
    // Again: acknowledged, and nothing else.
    server.send("PayloadMessage", payload(2, json!([web()]))).await;
    assert_eq!(server.receive().await.1["messageId"], "m2");
    talk.rig.reported("RUNNING").await;
    let calls = talk.rig.runtime.calls();
    let starts = calls.iter().filter(|call| call.starts_with("start "));
    assert_eq!(starts.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_task_is_told_of_and_not_acknowledged() {
    let talk = Talk::begin().await;
    let (_, mut server) = talk.acs().await;
    let mut task = web();
    task["networkMode"] = json!("carrier-pigeon");
    server.send("PayloadMessage", payload(1, json!([task]))).await;
    let report = talk.rig.reported("STOPPED").await;
    assert_eq!(
        report["reason"],
        "UnrecogniedTaskError: Error loading task - network mode \
         \"carrier-pigeon\""
    );
    assert!(server.is_silent().await);
}

#[tokio::test(start_paused = true)]
async fn tasks_missing_in_the_manifest_stop_only_after_verification() {
    let talk = Talk::begin().await;
    let (_, mut server) = talk.acs().await;
    server.send("PayloadMessage", payload(1, json!([web()]))).await;
    server.receive().await;
    talk.rig.reported("RUNNING").await;
    let manifest = |timeline: i64| {
        json!({"messageId": format!("x{timeline}"), "timeline": timeline,
               "clusterArn": "cluster-arn", "tasks": []})
    };
    // Older than what the agent has seen: dropped.
    server.send("TaskManifestMessage", manifest(1)).await;
    assert!(server.is_silent().await);
    server.send("TaskManifestMessage", manifest(3)).await;
    assert_eq!(server.receive().await.0, "AckRequest");
    let (kind, message) = server.receive().await;
    assert_eq!(kind, "TaskStopVerificationMessage");
    assert_eq!(message["stopCandidates"][0]["taskArn"], TASK_ARN);
    let stop = json!([{"taskArn": TASK_ARN, "desiredStatus": "STOPPED"}]);
    let verified = |id: &str| json!({"messageId": id, "stopTasks": stop});
    server.send("TaskStopVerificationAck", verified("x2")).await;
    assert!(server.is_silent().await);
    assert_eq!(talk.rig.api.reports().len(), 1);
    server.send("TaskStopVerificationAck", verified("x3")).await;
    talk.rig.reported("STOPPED").await;
}

#[tokio::test(start_paused = true)]
async fn a_closed_connection_is_opened_again_without_asking_for_secrets() {
    let talk = Talk::begin().await;
    let (_, server) = talk.acs().await;
    drop(server);
    let (hello, mut server) = talk.acs().await;
    assert!(!hello.send_credentials);
    // Silence closes it from this side.
    let closed = tokio::time::timeout(
        Duration::from_secs(180),
        server.from_agent.recv(),
    );
    assert_eq!(closed.await.unwrap(), None);
    talk.acs().await;
}

#[tokio::test(start_paused = true)]
async fn updates_are_refused() {
    let talk = Talk::begin().await;
    let (_, mut server) = talk.acs().await;
    server.send("StageUpdateMessage", json!({"messageId": "u1"})).await;
    let (kind, message) = server.receive().await;
    assert_eq!(kind, "NackRequest");
    assert_eq!(message["reason"], "Updates are disabled");
}

#[tokio::test(start_paused = true)]
async fn telemetry_tells_metrics_and_health() {
    let talk = Talk::begin().await;
    let (_, mut server) = talk.acs().await;
    let config = json!({"Healthcheck": {
        "Test": ["CMD", "true"], "Interval": 5_000_000_000_i64,
    }});
    let task = task(json!([{
        "name": "web", "image": "web", "healthCheckType": "docker",
        "dockerConfig": {"config": config.to_string()},
    }]));
    let task = serde_json::to_value(task).unwrap();
    server.send("PayloadMessage", payload(1, json!([task]))).await;
    server.receive().await;
    let take = || talk.connector.tcs.lock().pop();
    let (_, mut telemetry) = talk.rig.until("telemetry", take).await;
    let (kind, message) = telemetry.receive().await;
    assert_eq!(kind, "PublishMetricsRequest");
    assert_eq!(message["metadata"]["fin"], true);
    let mut has_metrics = false;
    loop {
        let (kind, message) = telemetry.receive().await;
        if kind == "PublishMetricsRequest" {
            let metric = &message["taskMetrics"][0]["containerMetrics"][0];
            assert_eq!(metric["containerName"], "web");
            assert_eq!(metric["memoryStatsSet"]["sum"], 10.0);
            has_metrics = true;
        }
        if kind == "PublishHealthRequest" {
            let web = &message["tasks"][0]["containers"][0];
            if web["healthStatus"] == "HEALTHY" && has_metrics {
                break;
            }
        }
    }
}

#[test]
fn credential_sets_of_the_past_are_forgotten() {
    let sets = super::acs::CredentialSets::default();
    let set = |id: &str, expiration: Option<&str>| IamRoleCredentials {
        credentials_id: id.into(),
        expiration: expiration.map(str::to_owned),
        ..IamRoleCredentials::default()
    };
    let at = |text: &str| Timestamp::from_iso(text).unwrap();
    let noon = at("2026-01-01T12:00:00Z");
    sets.put(set("old", Some("2026-01-01T18:00:00Z")), noon);
    sets.put(set("odd", None), noon);
    let evening = at("2026-01-01T18:00:00Z");
    sets.put(set("new", Some("2026-01-02T00:00:00Z")), evening);
    assert!(sets.get("old").is_none());
    assert!(sets.get("odd").is_some() && sets.get("new").is_some());
}

fn security_groups(revision: u64, port: u16) -> Value {
    json!({
        "messageId": format!("f{revision}"), "clusterArn": "cluster-arn",
        "containerInstanceArn": "instance-arn", "revision": revision,
        "subnets": [{
            "id": "subnet-1", "cidr": "172.31.0.0/20", "gateway": "172.31.0.1"
        }],
        "groups": [{"id": "sg-1", "egress": [], "ingress": [{
            "protocol": "tcp", "fromPort": port, "toPort": port,
            "cidrIpv4": "0.0.0.0/0"
        }]}],
        "members": [],
        "interfaces": [{"address": "172.31.0.7", "groupIds": ["sg-1"]}],
    })
}

impl Talk {
    /// The one port that the engine was last told to open.
    fn open_port(&self) -> Option<u16> {
        let world = self.rig.runtime.world.lock();
        let (subnets, firewall) = world.firewall.as_ref()?;
        assert_eq!(subnets[0].id, "subnet-1");
        let rule = firewall.groups["sg-1"].ingress.first()?;
        let crate::runtime::Traffic::Ports { first, .. } = rule.traffic else {
            panic!("{rule:?}");
        };
        Some(first)
    }
}

#[tokio::test(start_paused = true)]
async fn security_groups_are_enforced_acknowledged_and_kept() {
    let mut talk = Talk::begin().await;
    assert_eq!(talk.open_port(), None);
    let (_, mut server) = talk.acs().await;
    let kind = "MinatoFirewallMessage";
    server.send(kind, security_groups(7, 80)).await;
    let (answer, ack) = server.receive().await;
    assert_eq!(answer, "MinatoFirewallAckRequest");
    assert_eq!(ack, json!({"messageId": "f7", "revision": 7}));
    assert_eq!(talk.open_port(), Some(80));
    // An earlier one is not for use, nor is one that the engine refuses
    // acknowledged.
    server.send(kind, security_groups(6, 81)).await;
    assert!(server.is_silent().await);
    assert_eq!(talk.open_port(), Some(80));
    talk.rig.runtime.fail("firewall");
    server.send(kind, security_groups(8, 82)).await;
    assert!(server.is_silent().await);
    // The next agent knows it before anything else happens.
    talk.rig.runtime.world.lock().failing.clear();
    let calls = talk.rig.runtime.calls().len();
    let connector: Arc<dyn Connector> = talk.connector.clone();
    talk.agent =
        Agent::start(talk.rig.services(), connector, None).await.unwrap();
    assert_eq!(talk.open_port(), Some(82));
    assert!(talk.rig.runtime.calls()[calls].starts_with("firewall"));
    // Another connection may count from an earlier revision.
    drop(server);
    let (_, mut server) = talk.acs().await;
    server.send(kind, security_groups(3, 83)).await;
    assert_eq!(server.receive().await.1["revision"], 3);
    assert_eq!(talk.open_port(), Some(83));
}
