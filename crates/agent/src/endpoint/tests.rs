//! The endpoint's answers over the fakes, and the server on a socket.

use std::net::Ipv4Addr;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::config::TaskEndpoint;
use crate::test_support::{Rig, TASK_ARN, id_of, task};

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 17, 0, 2));
const OTHER_ID: &str = "fedcba9876543210fedcba9876543210";

/// An endpoint with one running task: `web`, with credentials `c1`.
pub(super) struct Fixture {
    pub(super) rig: Rig,
    pub(super) endpoint: Endpoint,
}

fn fallback() -> Fallback {
    let answer = |request: Request<Bytes>| async move {
        let host = request.headers().get("host").cloned();
        let mut response = Response::new(request.into_body());
        if let Some(host) = host {
            response.headers_mut().insert("x-host", host);
        }
        Ok(response)
    };
    BoxCloneSyncService::new(tower::service_fn(answer))
}

pub(super) fn web_task() -> minato_wire::acs::Task {
    let log = json!({"LogConfig": {"Type": "awslogs", "Config": {
        "awslogs-group": "/app", "awslogs-region": "us-east-1",
        "awslogs-stream-prefix": "ecs",
    }}});
    let mut task = task(json!([{
        "name": "web", "image": "web", "cpu": 10, "memory": 64,
        "containerArn": "arn:web",
        "restartPolicy": {"enabled": true, "restartAttemptPeriod": 60},
        "portMappings": [
            {"containerPort": 80, "hostPort": 0, "protocol": "tcp"},
        ],
        "dockerConfig": {"hostConfig": log.to_string()},
    }]));
    task.cpu = Some(0.25);
    task.memory = Some(512);
    task.service_name = Some("shop".into());
    task.role_credentials = Some(minato_wire::acs::IamRoleCredentials {
        credentials_id: "c1".into(),
        secret_access_key: Some("hush".into()),
        ..Default::default()
    });
    task
}

async fn fixture() -> Fixture {
    fixture_of(web_task()).await
}

pub(super) async fn fixture_of(task: minato_wire::acs::Task) -> Fixture {
    let rig = Rig::new();
    let mut services = Arc::into_inner(rig.services()).unwrap();
    services.config.task_endpoint = TaskEndpoint::AndApi;
    let services = Arc::new(services);
    let engine = TaskEngine::open(Arc::clone(&services)).unwrap();
    engine.accept(task).await.unwrap();
    let endpoint = Endpoint::new(services, engine, Arc::default(), fallback());
    rig.reported("RUNNING").await;
    Fixture { rig, endpoint }
}

impl Fixture {
    /// A variable of the container's environment.
    fn env(&self, id: &str, name: &str) -> Option<String> {
        let world = self.rig.runtime.world.lock();
        let env = &world.containers[id].spec.env;
        let prefix = format!("{name}=");
        env.iter().find_map(|pair| Some(pair.strip_prefix(&prefix)?.into()))
    }

    /// A path of the endpoint, from a variable of `web`.
    pub(super) fn path(&self, variable: &str) -> String {
        let url = self.env(&id_of("web"), variable).unwrap();
        url.trim_start_matches("http://169.254.170.2").to_owned()
    }

    pub(super) async fn send(&self, request: Request<Bytes>) -> (u16, Value) {
        let response = self.endpoint.answer(request, PEER).await;
        let body = serde_json::from_slice(response.body()).unwrap();
        (response.status().as_u16(), body)
    }

    pub(super) async fn get(&self, path: &str) -> (u16, Value) {
        self.send(Request::get(path).body(Bytes::new()).unwrap()).await
    }

    async fn put(&self, path: &str, body: &'static str) -> (u16, Value) {
        self.send(Request::put(path).body(Bytes::from(body)).unwrap()).await
    }
}

#[test]
fn paths_are_told_apart() {
    let cases = [
        ("/v1/credentials", Some("id=c1"), Route::Credentials(1, Some("c1"))),
        ("/v1/credentials", None, Route::Credentials(1, None)),
        ("/v2/credentials/c1", None, Route::Credentials(2, Some("c1"))),
        ("/v2/credentials/", None, Route::Credentials(2, None)),
        ("/v2/metadata", None, Route::Unbuilt),
        ("/v3/t", None, Route::Metadata(3, "t", "")),
        ("/v4/t/task/stats", None, Route::Metadata(4, "t", "task/stats")),
        ("/api/t/fault/v1/x", None, Route::Agent("t", "fault/v1/x")),
        ("/", None, Route::Other),
        ("/v2/apis", None, Route::Other),
        ("/v1/tags/arn", None, Route::Other),
    ];
    for (path, query, expected) in cases {
        assert_eq!(route(path, query), expected, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_container_is_told_where_to_ask() {
    let fixture = fixture().await;
    let env = |name| fixture.env(&id_of("web"), name);
    assert_eq!(
        env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").unwrap(),
        "/v2/credentials/c1"
    );
    let token = "00000000-0000-0000-0000-";
    for (name, part) in [
        ("ECS_CONTAINER_METADATA_URI", "v3"),
        ("ECS_CONTAINER_METADATA_URI_V4", "v4"),
        ("ECS_AGENT_URI", "api"),
    ] {
        let start = format!("http://169.254.170.2/{part}/{token}");
        assert!(env(name).unwrap().starts_with(&start), "{name}");
    }
    assert_eq!(env("AWS_ENDPOINT_URL").unwrap(), "http://169.254.170.2");
    let kept = fixture.endpoint.engine.tasks();
    assert!(!format!("{kept:?}").contains(token), "a token in a log");
    assert!(!format!("{kept:?}").contains("hush"));
}

#[tokio::test(start_paused = true)]
async fn credentials_are_for_who_knows_their_id() {
    let fixture = fixture().await;
    let (status, body) = fixture.get("/v2/credentials/c1").await;
    assert_eq!(
        (status, &body["code"]),
        (503, &"CredentialsUninitialized".into())
    );
    for id in ["c1", "c2"] {
        fixture.endpoint.credentials.put(
            minato_wire::acs::IamRoleCredentials {
                credentials_id: id.into(),
                role_arn: Some("arn:role".into()),
                access_key_id: Some("AKIA".into()),
                secret_access_key: Some("hush".into()),
                session_token: Some("token".into()),
                expiration: Some("2026-11-22T20:00:00Z".into()),
                credential_scope: None,
            },
            minato_wire::Timestamp::from_millis(0),
        );
    }
    let expected = json!({
        "RoleArn": "arn:role", "AccessKeyId": "AKIA",
        "SecretAccessKey": "hush", "Token": "token",
        "Expiration": "2026-11-22T20:00:00Z",
    });
    for path in ["/v2/credentials/c1", "/v1/credentials?id=c1"] {
        assert_eq!(fixture.get(path).await, (200, expected.clone()));
    }
    // An execution role's are here, and are no task's.
    let missing = json!({
        "code": "InvalidIdInRequest",
        "message": "CredentialsV2Request: Credentials not found",
        "HTTPErrorCode": 400,
    });
    assert_eq!(fixture.get("/v2/credentials/c2").await, (400, missing));
    let (status, body) = fixture.get("/v1/credentials").await;
    assert_eq!((status, &body["code"]), (400, &"NoIdInRequest".into()));
    // A token is no id.
    let token = fixture.path("ECS_AGENT_URI").replace("/api/", "");
    let (status, _) = fixture.get(&format!("/v2/credentials/{token}")).await;
    assert_eq!(status, 400);
}

#[tokio::test(start_paused = true)]
async fn a_container_reads_its_metadata() {
    let fixture = fixture().await;
    let path = fixture.path("ECS_CONTAINER_METADATA_URI_V4");
    let (status, body) = fixture.get(&path).await;
    assert_eq!(status, 200);
    let port = body["Ports"][0]["HostPort"].as_u64().unwrap();
    let expected = json!({
        "DockerId": id_of("web"), "Name": "web", "DockerName": "web",
        "Image": "web", "ImageID": body["ImageID"],
        "Ports": [{"ContainerPort": 80, "Protocol": "tcp", "HostPort": port,
                   "HostIp": "0.0.0.0"}],
        "Labels": {
            "com.amazonaws.ecs.cluster":
                "arn:aws:ecs:us-east-1:000000000000:cluster/default",
            "com.amazonaws.ecs.container-name": "web",
            "com.amazonaws.ecs.task-arn": TASK_ARN,
            "com.amazonaws.ecs.task-definition-family": "fam",
            "com.amazonaws.ecs.task-definition-version": "1",
        },
        "DesiredStatus": "RUNNING", "KnownStatus": "RUNNING",
        "Limits": {"CPU": 10, "Memory": 64},
        "StartedAt": body["StartedAt"], "Type": "NORMAL",
        "LogDriver": "awslogs",
        "LogOptions": {
            "awslogs-group": "/app", "awslogs-region": "us-east-1",
            "awslogs-stream": body["LogOptions"]["awslogs-stream"],
        },
        "ContainerARN": "arn:web", "RestartCount": 0,
        "Networks": [{
            "NetworkMode": "bridge",
            "IPv4Addresses": body["Networks"][0]["IPv4Addresses"],
        }],
    });
    assert_eq!(body, expected);
    assert!(body["StartedAt"].as_str().unwrap().ends_with('Z'));
    assert!(body["Networks"][0]["IPv4Addresses"][0].is_string());
    // Version 3 knows less.
    let path = fixture.path("ECS_CONTAINER_METADATA_URI");
    let (_, body) = fixture.get(&path).await;
    assert_eq!(body["Name"], "web");
    assert!(body.get("LogDriver").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_task_reads_its_metadata() {
    let fixture = fixture().await;
    let path = fixture.path("ECS_CONTAINER_METADATA_URI_V4");
    let (status, mut body) = fixture.get(&format!("{path}/task")).await;
    assert_eq!(status, 200);
    let containers = body["Containers"].take();
    assert_eq!(containers, json!([fixture.get(&path).await.1]));
    let expected = json!({
        "Cluster": "default", "TaskARN": TASK_ARN, "Family": "fam",
        "Revision": "1", "DesiredStatus": "RUNNING",
        "KnownStatus": "RUNNING", "Limits": {"CPU": 0.25, "Memory": 512},
        "PullStartedAt": body["PullStartedAt"],
        "PullStoppedAt": body["PullStoppedAt"],
        "AvailabilityZone": "us-east-1a", "LaunchType": "EC2",
        "ServiceName": "shop", "FaultInjectionEnabled": false,
        "Containers": null,
    });
    assert_eq!(body, expected);
    let path = fixture.path("ECS_CONTAINER_METADATA_URI");
    let (_, old) = fixture.get(&format!("{path}/task")).await;
    assert!(old.get("LaunchType").is_none());
    assert_eq!(old["Family"], "fam");
}

#[tokio::test(start_paused = true)]
async fn tags_that_cannot_be_had_are_errors_in_the_answer() {
    let fixture = fixture().await;
    let path = fixture.path("ECS_CONTAINER_METADATA_URI_V4");
    fixture.endpoint.set_container_instance("arn:instance");
    fixture.rig.api.fail_next("ListTagsForResource", "AccessDeniedException");
    let path = format!("{path}/taskWithTags");
    let (status, body) = fixture.get(&path).await;
    assert_eq!(status, 200);
    assert_eq!(
        body["Errors"],
        json!([{
            "ErrorField": "ContainerInstanceTags",
            "ErrorCode": "AccessDeniedException", "ErrorMessage": "no",
            "ResourceARN": "arn:instance",
        }])
    );
    assert_eq!(body["TaskTags"], json!({"team": "blue"}));
    assert!(body.get("ContainerInstanceTags").is_none());
}

#[tokio::test(start_paused = true)]
async fn statistics_have_dockers_form() {
    let fixture = fixture().await;
    let path = fixture.path("ECS_CONTAINER_METADATA_URI_V4");
    let (_, first) = fixture.get(&format!("{path}/stats")).await;
    assert_eq!(first["precpu_stats"], Value::Null);
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    let (_, all) = fixture.get(&format!("{path}/task/stats")).await;
    let stats = &all[id_of("web")];
    assert_eq!(stats["cpu_stats"]["cpu_usage"]["total_usage"], 1_000_000_000);
    assert_eq!(stats["memory_stats"]["usage"], 10 << 20);
    assert_eq!(stats["networks"]["eth0"]["rx_bytes"], 1);
    assert_eq!(stats["network_rate_stats"]["tx_bytes_per_sec"], 0.0);
    let system = |of: &str| stats[of]["system_cpu_usage"].as_u64().unwrap();
    let grown = system("cpu_stats") - system("precpu_stats");
    assert_eq!(grown, 1_000_000_000);
}

#[tokio::test(start_paused = true)]
async fn protection_is_passed_on() {
    let fixture = fixture().await;
    let path = fixture.path("ECS_AGENT_URI");
    let path = format!("{path}/task-protection/v1/state");
    let expected = json!({"protection": {
        "ExpirationDate": "1970-01-01T00:01:00Z", "ProtectionEnabled": true,
        "TaskArn": TASK_ARN,
    }});
    let body = r#"{"ProtectionEnabled": true, "ExpiresInMinutes": 1}"#;
    assert_eq!(fixture.put(&path, body).await, (200, expected));
    assert_eq!(
        fixture.rig.api.calls("UpdateTaskProtection"),
        [json!({
            "cluster": "arn:aws:ecs:us-east-1:000000000000:cluster/default",
            "tasks": [TASK_ARN], "protectionEnabled": true,
            "expiresInMinutes": 1,
        })]
    );
    let failure = json!({"failure": {
        "Arn": TASK_ARN, "Detail": null, "Reason": "TASK_NOT_VALID",
    }});
    assert_eq!(fixture.get(&path).await, (200, failure));
    fixture.rig.api.fail_next("GetTaskProtection", "AccessDeniedException");
    let error = json!({"error": {
        "Arn": TASK_ARN, "Code": "AccessDeniedException", "Message": "no",
    }});
    assert_eq!(fixture.get(&path).await, (400, error));
    for body in [r#"{"ProtectionEnabled": true, "Minutes": 1}"#, "{}", "?"] {
        let (status, answer) = fixture.put(&path, body).await;
        assert_eq!(status, 400, "{body}");
        assert_eq!(answer["error"]["Code"], "InvalidParameterException");
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_unknown_or_asks_for_what_is_not_here_is_told_so() {
    let fixture = fixture().await;
    let mut other = web_task();
    other.arn = TASK_ARN.replace(crate::test_support::TASK_ID, OTHER_ID);
    other.role_credentials = None;
    fixture.endpoint.engine.accept(other).await.unwrap();
    let (status, body) = fixture.get("/v4/nobody/task").await;
    assert_eq!(status, 404);
    assert!(body.as_str().unwrap().contains("nobody"));
    let (status, body) =
        fixture.get("/api/nobody/task-protection/v1/state").await;
    assert_eq!(status, 404);
    assert_eq!(body["error"]["Code"], "ResourceNotFoundException");
    let own = fixture.path("ECS_CONTAINER_METADATA_URI_V4");
    for path in [
        format!("{own}/associations/elastic-inference"),
        "/v2/metadata".into(),
        "/api/nobody/fault/v1/network-latency/begin".into(),
    ] {
        let (status, body) = fixture.get(&path).await;
        assert_eq!((status, &body["HTTPErrorCode"]), (404, &404.into()));
    }
    // One's own token leads to one's own task only.
    let (_, body) = fixture.get(&format!("{own}/task")).await;
    assert_eq!(body["TaskARN"], TASK_ARN);
    assert!(!body.to_string().contains(OTHER_ID));
    assert_eq!(fixture.put(&own, "{}").await.0, 405);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_asks_too_often_is_told_to_wait() {
    let fixture = fixture().await;
    let path = fixture.path("ECS_CONTAINER_METADATA_URI_V4");
    let mut answered = 0;
    while fixture.get(&path).await.0 == 200 {
        answered += 1;
    }
    assert_eq!(answered, 60);
    assert_eq!(fixture.get(&path).await.0, 429);
    // Others are not held up, and guesses are counted too.
    assert_eq!(fixture.get("/v4/nobody").await.0, 404);
    while fixture.get("/v4/nobody").await.0 == 404 {}
    assert_eq!(fixture.get("/v2/credentials/guess").await.0, 429);
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    let mut again = 0;
    while fixture.get(&path).await.0 == 200 {
        again += 1;
    }
    assert_eq!(again, 40);
}

#[tokio::test]
async fn the_server_reads_small_bodies_and_passes_on_the_rest() {
    let fixture = fixture().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let endpoint = Arc::new(fixture.endpoint);
    let server = tokio::spawn(serve(listener, endpoint));
    let ask = |text: String| async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.to_lowercase()
    };
    let head = |start: &str, length: usize| {
        format!(
            "{start} HTTP/1.1\r\nHost: 169.254.170.2\r\nConnection: close\r\n\
             Content-Length: {length}\r\n\r\n"
        )
    };
    // The fallback sees what the client signed.
    let answer = ask(head("POST /", 5) + "hello").await;
    assert!(answer.starts_with("http/1.1 200"), "{answer}");
    assert!(answer.contains("x-host: 169.254.170.2"), "{answer}");
    assert!(answer.ends_with("hello"), "{answer}");
    let large = "x".repeat(100 << 10);
    let answer = ask(head("POST /", large.len()) + &large).await;
    assert!(answer.ends_with(&large));
    let answer = ask(head("PUT /api/x/y", large.len())).await;
    assert!(answer.starts_with("http/1.1 413"), "{answer}");
    let answer = ask(head("GET /v4/nobody", 0)).await;
    assert!(answer.starts_with("http/1.1 404"), "{answer}");
    server.abort();
}
