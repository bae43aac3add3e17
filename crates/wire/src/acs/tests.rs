use serde_json::{Value, json};

use super::*;

fn same(text: &str) {
    let message = Message::decode(text).unwrap();
    let again = message.encode().unwrap();
    let left: Value = serde_json::from_str(&again).unwrap();
    let right: Value = serde_json::from_str(text).unwrap();
    assert_eq!(left, right);
}

/// Messages of one observed conversation; ids shortened.
const TRANSCRIPT: &[&str] = &[
    r#"{"type":"HeartbeatMessage","message":{"messageId":"h1","healthy":true}}"#,
    r#"{"type":"HeartbeatAckRequest","message":{"messageId":"h1"}}"#,
    r#"{"type":"IAMRoleCredentialsAckRequest","message":{"credentialsId":"c2",
        "expiration":"2026-11-22T20:00:00Z","messageId":"m1"}}"#,
    r#"{"type":"AckRequest","message":{"cluster":"<cluster arn>",
        "containerInstance":"<arn>","messageId":"m1"}}"#,
    r#"{"type":"TaskManifestMessage","message":{"messageId":"m2",
        "clusterArn":"c","containerInstanceArn":"i","generatedAt":1795350317000,
        "timeline":3,"tasks":[]}}"#,
    r#"{"type":"TaskStopVerificationMessage","message":{"messageId":"m2",
        "stopCandidates":[{"desiredStatus":"STOPPED","taskArn":"<task arn>",
        "taskClusterArn":"<cluster arn>"}]}}"#,
    r#"{"type":"TaskStopVerificationAck","message":{"messageId":"m2",
        "stopTasks":[{"taskArn":"<task arn>","desiredStatus":"STOPPED"}]}}"#,
    r#"{"type":"NackRequest","message":{"cluster":"<cluster arn>",
        "containerInstance":"<arn>","messageId":"m",
        "reason":"Updates are disabled"}}"#,
    r#"{"type":"CloseMessage","message":{"message":"ConnectionExpired"}}"#,
    r#"{"type":"IAMRoleCredentialsMessage","message":{"messageId":"m3",
        "taskArn":"t","roleType":"TaskExecution","roleCredentials":
        {"credentialsId":"c","accessKeyId":"A","secretAccessKey":"s",
        "sessionToken":"x","expiration":"2026-11-22T20:00:00Z"}}}"#,
];

const PAYLOAD: &str = r#"{"type":"PayloadMessage","message":{
  "clusterArn":"arn:aws:ecs:us-west-2:123456789012:cluster/default",
  "containerInstanceArn":"<arn>","messageId":"m1",
  "generatedAt":1795350317000,"seqNum":1,"tasks":[{
    "arn":"arn:aws:ecs:us-west-2:123456789012:task/default/86ae",
    "taskClusterArn":"<cluster arn>","family":"fam","version":"1",
    "desiredStatus":"RUNNING","launchType":"EXTERNAL","networkMode":"bridge",
    "overrides":"{}","volumes":[],"someNewMember":{"x":[1]},"cpu":0.25,
    "containers":[{"name":"web","image":"bb:latest","containerArn":"arn",
      "essential":true,"cpu":10,"memory":64,
      "command":["sh","-c","env; sleep 1000"],"entryPoint":[],
      "environment":{"FOO":"bar"},"overrides":"{}","links":null,
      "mountPoints":[],"volumesFrom":[],
      "portMappings":[{"containerPort":80,"hostPort":0,"protocol":"tcp"}],
      "dockerConfig":{"config":"{}","hostConfig":
      "{\"NetworkMode\": \"bridge\", \"CapAdd\": [], \"CapDrop\": []}",
      "version":"1.17"}}],
    "roleCredentials":{"credentialsId":"c1","accessKeyId":"A",
      "secretAccessKey":"hush","sessionToken":"t"}}]}}"#;

#[test]
fn the_observed_conversation_round_trips() {
    TRANSCRIPT.iter().for_each(|text| same(text));
}

#[test]
fn a_payload_is_read() {
    let Message::Payload(payload) = Message::decode(PAYLOAD).unwrap() else {
        panic!("not a payload");
    };
    let task = &payload.tasks[0];
    assert_eq!(payload.seq_num, Some(1));
    assert_eq!(task.cpu, Some(0.25));
    let web = &task.containers[0];
    assert_eq!(web.environment["FOO"], "bar");
    assert_eq!(web.port_mappings[0].host_port, Some(0));
    assert_eq!(web.read_overrides().unwrap().command, None);
    let docker = web.docker_config.as_ref().unwrap();
    let host = docker.host_config().unwrap();
    assert_eq!(host.network_mode.as_deref(), Some("bridge"));
    assert_eq!(docker.container_config().unwrap(), ContainerConfig::default());

    let again = Message::Payload(payload.clone()).encode().unwrap();
    assert_eq!(Message::decode(&again).unwrap(), Message::Payload(payload));
}

#[test]
fn secrets_stay_out_of_debug_output() {
    let message = Message::decode(PAYLOAD).unwrap();
    assert!(!format!("{message:?}").contains("hush"));
}

#[test]
fn docker_texts_use_dockers_names_and_leave_out_what_is_absent() {
    let config = ContainerConfig {
        user: Some("1000:1000".into()),
        healthcheck: Some(HealthConfig {
            test: vec!["CMD-SHELL".into(), "true".into()],
            interval: Some(30_000_000_000),
            ..HealthConfig::default()
        }),
        ..ContainerConfig::default()
    };
    let host = HostConfig {
        network_mode: Some("none".into()),
        ulimits: Some(vec![Ulimit {
            name: "nofile".into(),
            soft: 1024,
            hard: 2048,
        }]),
        log_config: Some(LogConfig {
            r#type: "awslogs".into(),
            config: [("awslogs-group".into(), "g".into())].into(),
        }),
        ..HostConfig::default()
    };
    let docker = DockerConfig::new(&config, &host).unwrap();
    let read = |text: &Option<String>| -> Value {
        serde_json::from_str(text.as_deref().unwrap()).unwrap()
    };
    assert_eq!(
        read(&docker.config),
        json!({"User": "1000:1000", "Healthcheck": {
            "Test": ["CMD-SHELL", "true"], "Interval": 30_000_000_000_i64}})
    );
    assert_eq!(
        read(&docker.host_config),
        json!({"NetworkMode": "none", "CapAdd": [], "CapDrop": [],
            "Ulimits": [{"Name": "nofile", "Soft": 1024, "Hard": 2048}],
            "LogConfig": {"Type": "awslogs",
                "Config": {"awslogs-group": "g"}}})
    );
    assert_eq!(docker.container_config().unwrap(), config);
    assert_eq!(docker.host_config().unwrap(), host);
}

#[test]
fn overrides_may_only_have_a_command() {
    let with = |text: &str| Container {
        overrides: Some(text.into()),
        ..Container::default()
    };
    let read = with(r#"{"command":["a"]}"#).read_overrides().unwrap();
    assert_eq!(read.command, Some(vec!["a".into()]));
    assert!(with(r#"{"memory":1}"#).read_overrides().is_err());
}

#[test]
fn an_unframed_error_is_read() {
    let text = r#"{"InactiveInstanceException":"gone"}"#;
    let expected = Message::InactiveInstanceException(Text {
        message: Some("gone".into()),
    });
    assert_eq!(Message::decode(text).unwrap(), expected);
}

#[test]
fn what_is_not_a_message_says_why() {
    let why = |text: &str| Message::decode(text).unwrap_err();
    assert!(matches!(why("{"), FrameError::NotAFrame { .. }));
    assert!(matches!(why(r#"{"a":"b"}"#), FrameError::NotAFrame { .. }));
    assert!(matches!(
        why(r#"{"type":"Nonsense","message":{}}"#),
        FrameError::UnknownType { .. }
    ));
    // A payload without its message id cannot be acknowledged.
    assert!(matches!(
        why(r#"{"type":"PayloadMessage","message":{"clusterArn":"c"}}"#),
        FrameError::Malformed { r#type: "PayloadMessage", .. }
    ));
    let deep = format!(r#"{{"type":"x","message":{}"#, "[".repeat(100_000));
    assert!(matches!(why(&deep), FrameError::NotAFrame { .. }));
}

#[test]
fn a_firewall_round_trips() {
    same(
        r#"{"type":"MinatoFirewallMessage","message":{"messageId":"f1",
        "clusterArn":"c","containerInstanceArn":"i","revision":7,
        "subnets":[{"id":"subnet-1","cidr":"172.31.0.0/20",
            "gateway":"172.31.0.1"}],
        "groups":[{"id":"sg-1","ingress":[{"protocol":"tcp","fromPort":80,
            "toPort":81,"groupId":"sg-2"}],"egress":[
            {"protocol":"-1","cidrIpv4":"0.0.0.0/0"},
            {"protocol":"-1","cidrIpv6":"::/0"}]}],
        "members":[{"groupId":"sg-2","addresses":["172.31.0.7"]}],
        "interfaces":[{"address":"172.31.0.9","groupIds":["sg-1"]}]}}"#,
    );
    same(
        r#"{"type":"MinatoFirewallAckRequest","message":
        {"messageId":"f1","revision":7}}"#,
    );
}

#[test]
fn a_firewall_may_leave_out_what_is_empty_but_not_its_revision() {
    let read = Message::decode(
        r#"{"type":"MinatoFirewallMessage","message":{"messageId":"f1",
        "clusterArn":"c","containerInstanceArn":"i","revision":1,
        "groups":null}}"#,
    );
    let expected = Firewall {
        message_id: "f1".into(),
        cluster_arn: "c".into(),
        container_instance_arn: "i".into(),
        revision: 1,
        ..Firewall::default()
    };
    assert_eq!(read.unwrap(), Message::Firewall(Box::new(expected)));
    let without = r#"{"type":"MinatoFirewallMessage","message":
        {"messageId":"f1","clusterArn":"c","containerInstanceArn":"i"}}"#;
    assert!(matches!(
        Message::decode(without).unwrap_err(),
        FrameError::Malformed { r#type: "MinatoFirewallMessage", .. }
    ));
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in ".{0,200}") {
        let _ = Message::decode(&text);
        let _ = crate::tcs::split_signed(&text);
    }
}
