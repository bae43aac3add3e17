//! Faults over the fake engine: who may, what is refused, how often.

use serde_json::json;

use super::super::tests::{Fixture, fixture_of, web_task};
use super::*;
use crate::test_support::{Rig, TASK_ARN, TASK_ID};

/// A running task that may inject faults, in the network mode given.
async fn faulty(mode: &str, may: Option<bool>) -> Fixture {
    let mut task = web_task();
    task.enable_fault_injection = may;
    task.network_mode = Some(mode.into());
    if mode == "awsvpc" {
        task.elastic_network_interfaces = serde_json::from_value(json!([{
            "attachmentArn": "arn:a", "ec2Id": "eni-1",
            "macAddress": "02:00:00:00:00:01",
            "ipv4Addresses":
                [{"primary": true, "privateAddress": "10.0.0.5"}],
            "subnetGatewayIpv4Address": "10.0.0.1/24",
        }]))
        .unwrap();
    }
    fixture_of(task).await
}

impl Fixture {
    /// Waits until no request is too many, then sends one.
    async fn fault(&self, path: &str, body: &str) -> (u16, Value) {
        tokio::time::advance(Duration::from_secs(5)).await;
        self.fault_at_once(path, body).await
    }

    async fn fault_at_once(&self, path: &str, body: &str) -> (u16, Value) {
        let url = self.path("ECS_AGENT_URI");
        let body = Bytes::copy_from_slice(body.as_bytes());
        let url = format!("{url}/fault/v1/{path}");
        self.send(Request::post(url).body(body).unwrap()).await
    }

    fn running(&self) -> Vec<String> {
        let world = self.rig.runtime.world.lock();
        world.faults.iter().map(|(_, name)| name.clone()).collect()
    }
}

fn status(text: &str) -> (u16, Value) {
    (200, json!({"Status": text}))
}

fn error(code: u16, text: &str) -> (u16, Value) {
    (code, json!({"Error": text}))
}

const HOLE: &str =
    r#"{"Port": 80, "Protocol": "tcp", "TrafficType": "egress"}"#;
const LATE: &str = r#"{"DelayMilliseconds": 200, "JitterMilliseconds": 10,
    "Sources": ["0.0.0.0/0", "::/0"], "SourcesToFilter": ["10.0.0.1"]}"#;
const LOSS: &str = r#"{"LossPercent": 5, "Sources": ["10.0.0.0/8"]}"#;

#[tokio::test(start_paused = true)]
async fn faults_start_show_and_stop() {
    for mode in ["awsvpc", "host"] {
        let fixture = faulty(mode, Some(true)).await;
        let ask = |path: &'static str, body| fixture.fault(path, body);
        for (kind, body, name) in [
            ("network-blackhole-port", HOLE, "egress-tcp-80"),
            ("network-latency", LATE, "Latency"),
            ("network-packet-loss", LOSS, "PacketLoss"),
        ] {
            let on = |verb: &str| format!("{kind}/{verb}");
            let (start, stop) = (on("start"), on("stop"));
            let look = on("status");
            let fault = |path, body| fixture.fault(path, body);
            assert_eq!(fault(&look, body).await, status("not-running"));
            assert_eq!(fault(&start, body).await, status("running"));
            assert_eq!(fault(&look, body).await, status("running"));
            assert_eq!(fixture.running(), [name]);
            assert_eq!(fault(&stop, body).await, status("stopped"));
            assert_eq!(fault(&stop, body).await, status("stopped"));
            assert_eq!(fault(&look, body).await, status("not-running"));
            assert!(fixture.running().is_empty());
        }
        // Of these two there is one at a time; stops and looks need no body.
        ask("network-latency/start", LATE).await;
        let conflict = "There is already one network latency fault running";
        for (path, body) in [
            ("network-latency/start", LATE),
            ("network-packet-loss/start", LOSS),
        ] {
            assert_eq!(ask(path, body).await, error(409, conflict));
        }
        let look = ask("network-packet-loss/status", "").await;
        assert_eq!(look, status("not-running"));
        assert_eq!(ask("network-latency/stop", "").await, status("stopped"));
        // Black holes are as many as there are ports, and repeats are fine.
        let udp = HOLE.replace("tcp", "udp");
        for body in [HOLE, &udp, HOLE] {
            let start = fixture.fault("network-blackhole-port/start", body);
            assert_eq!(start.await, status("running"));
        }
        assert_eq!(fixture.running(), ["egress-tcp-80", "egress-udp-80"]);
        let path = fixture.path("ECS_CONTAINER_METADATA_URI_V4");
        let (_, task) = fixture.get(&format!("{path}/task")).await;
        assert_eq!(task["FaultInjectionEnabled"], true);
    }
}

#[test]
fn a_task_can_always_stop_what_it_started() {
    let call = |body: &str| {
        fault_call((FaultKind::Blackhole, FaultVerb::Start), body.as_bytes())
    };
    let except = |body: &str| {
        let FaultCall::BlackholeStart(hole) = call(body).unwrap() else {
            panic!("{body} is no start");
        };
        hole.except
    };
    let endpoint: IpRange = "169.254.170.2".parse().unwrap();
    assert_eq!(except(HOLE), [endpoint]);
    assert_eq!(except(&HOLE.replace("egress", "ingress")), []);
    assert_eq!(except(&HOLE.replace("80", "81")), []);
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn bodies_are_checked_as_upstream_does() {
    let hole = "network-blackhole-port/start";
    let (late, loss) = ("network-latency/start", "network-packet-loss/start");
    let cases = [
        (hole, "", "required request body is missing"),
        (hole, "{}", "required parameter Port is missing"),
        (hole, r#"{"Port": 1}"#, "required parameter Protocol is missing"),
        (
            hole,
            r#"{"Port": 1, "Protocol": "tcp", "TrafficType": ""}"#,
            "required parameter TrafficType is missing",
        ),
        (
            hole,
            r#"{"Port": 1, "Protocol": "icmp", "TrafficType": "egress"}"#,
            "invalid value icmp for parameter Protocol",
        ),
        (
            hole,
            r#"{"Port": 1, "Protocol": "tcp", "TrafficType": "both"}"#,
            "invalid value both for parameter TrafficType",
        ),
        (
            hole,
            r#"{"Port": 1, "Protocol": "tcp", "TrafficType": "egress",
                "SourcesToFilter": ["10.0.0.1", "example.com"]}"#,
            "invalid value example.com for parameter SourcesToFilter",
        ),
        (late, "{}", "required parameter DelayMilliseconds is missing"),
        (
            late,
            r#"{"DelayMilliseconds": 1}"#,
            "required parameter JitterMilliseconds is missing",
        ),
        (
            late,
            r#"{"DelayMilliseconds": 1, "JitterMilliseconds": 0}"#,
            "required parameter Sources is missing",
        ),
        (
            late,
            r#"{"DelayMilliseconds": 1, "JitterMilliseconds": 0,
                "Sources": [null]}"#,
            "invalid value  for parameter Sources",
        ),
        (loss, "{}", "required parameter LossPercent is missing"),
        (
            loss,
            r#"{"LossPercent": 101, "Sources": ["10.0.0.1"]}"#,
            "invalid value 101 for parameter LossPercent",
        ),
        (
            loss,
            r#"{"LossPercent": 0, "Sources": ["10.0.0.1"]}"#,
            "invalid value 0 for parameter LossPercent",
        ),
        (
            loss,
            r#"{"LossPercent": 1, "Sources": []}"#,
            "required parameter Sources is missing",
        ),
    ];
    for (path, body, expected) in cases {
        let path = fault_path(&format!("fault/v1/{path}")).unwrap();
        let refused = fault_call(path, body.as_bytes()).unwrap_err();
        assert_eq!(refused, expected, "{body}");
    }
    let path = fault_path("fault/v1/network-blackhole-port/stop").unwrap();
    for body in ["[1]", "7", "{", r#"{"Port": 65536}"#, r#"{"Port": -1}"#] {
        assert!(fault_call(path, body.as_bytes()).is_err(), "{body}");
    }
    for path in [
        "fault/v1/network-latency",
        "fault/v1/network-latency/start/x",
        "fault/v1/disk/start",
        "fault/v2/network-latency/start",
    ] {
        assert_eq!(fault_path(path), None, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn only_tasks_that_said_so_inject_faults_and_not_everywhere() {
    for may in [None, Some(false)] {
        let fixture = faulty("awsvpc", may).await;
        let refused =
            format!("enableFaultInjection is not enabled for task: {TASK_ARN}");
        for verb in ["start", "stop", "status"] {
            let path = format!("network-blackhole-port/{verb}");
            assert_eq!(fixture.fault(&path, HOLE).await, error(400, &refused));
        }
        assert!(fixture.running().is_empty());
    }
    for mode in ["bridge", "none"] {
        let fixture = faulty(mode, Some(true)).await;
        let refused = format!(
            "{mode} mode is not supported. Please use either host or awsvpc \
             mode."
        );
        let answer = fixture.fault("network-latency/start", LATE).await;
        assert_eq!(answer, error(400, &refused));
    }
    let fixture = faulty("host", Some(true)).await;
    let path = "/api/nobody/fault/v1/network-latency/stop";
    let ask = |method: Method| {
        let request = Request::builder().method(method).uri(path);
        fixture.send(request.body(Bytes::new()).unwrap())
    };
    let (code, body) = ask(Method::POST).await;
    assert_eq!(code, 404);
    assert!(body["Error"].as_str().unwrap().ends_with("ID: nobody"), "{body}");
    let (code, _) = ask(Method::GET).await;
    assert_eq!(code, 405);
}

#[tokio::test(start_paused = true)]
async fn each_request_may_come_once_in_five_seconds() {
    let fixture = faulty("host", Some(true)).await;
    let look = "network-latency/status";
    let throttled = error(429, "Request was throttled");
    assert_eq!(fixture.fault_at_once(look, "").await.0, 200);
    assert_eq!(fixture.fault_at_once(look, "").await, throttled);
    // Others are counted for themselves.
    let stop = fixture.fault_at_once("network-latency/stop", "").await;
    assert_eq!(stop.0, 200);
    let other = fixture.fault_at_once("network-packet-loss/status", "").await;
    assert_eq!(other.0, 200);
    tokio::time::advance(Duration::from_millis(4900)).await;
    assert_eq!(fixture.fault_at_once(look, "").await, throttled);
    tokio::time::advance(Duration::from_millis(100)).await;
    assert_eq!(fixture.fault_at_once(look, "").await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn what_the_kernel_refuses_or_never_answers_is_an_internal_error() {
    let fixture = faulty("awsvpc", Some(true)).await;
    fixture.rig.runtime.fail("fault");
    let start = "network-blackhole-port/start";
    assert_eq!(fixture.fault(start, HOLE).await, error(500, "internal error"));
    fixture.rig.runtime.world.lock().hanging.insert("fault".into());
    let late = "start network-blackhole-port: request timed out";
    assert_eq!(fixture.fault(start, HOLE).await, error(500, late));
}

#[tokio::test(start_paused = true)]
async fn faults_end_with_their_task() {
    for mode in ["awsvpc", "host"] {
        let fixture = faulty(mode, Some(true)).await;
        fixture.fault("network-blackhole-port/start", HOLE).await;
        fixture.fault("network-latency/start", LATE).await;
        assert_eq!(fixture.running().len(), 2);
        fixture.endpoint.engine.stop(TASK_ID).await.unwrap();
        let rig: &Rig = &fixture.rig;
        rig.reported("STOPPED").await;
        assert!(fixture.running().is_empty(), "{mode}");
        let ends = rig.runtime.calls();
        let ends = ends.iter().filter(|call| call.starts_with("unfault"));
        assert_eq!(ends.count() > 0, mode == "host");
    }
}
