//! What ECS Exec's sessions are written down in.

use std::time::Duration;

use minato_e2e::{IMAGE, Site, wait_for};
use serde_json::{Value, json};

use crate::exec_client::Client;
use crate::s3_server::{SECRET, WithS3};

const ROLE: &str = "arn:aws:iam::000000000000:role/app";
const PATIENCE: Duration = Duration::from_secs(60);

/// A task with a role in a cluster of the name given, and the ARN of it.
fn start(site: &mut Site, has_log: bool) -> String {
    let mut container = json!({
        "name": "app", "image": IMAGE, "memory": 64,
        "command": ["/bin/sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"]
    });
    if has_log {
        container["logConfiguration"] = json!({
            "logDriver": "awslogs", "options": {
                "awslogs-group": "/app", "awslogs-region": "us-east-1",
                "awslogs-stream-prefix": "app", "awslogs-create-group": "true",
            },
        });
    }
    let definition = json!({
        "family": "logged", "taskRoleArn": ROLE,
        "containerDefinitions": [container],
    });
    site.call("ecs", "register_task_definition", definition).unwrap();
    let input = json!({
        "taskDefinition": "logged", "launchType": "EC2",
        "enableExecuteCommand": true
    });
    let answer = site.call("ecs", "run_task", input).unwrap();
    let arn = answer["tasks"][0]["taskArn"].as_str().unwrap().to_owned();
    site.wait_task(&arn, "RUNNING").unwrap();
    arn
}

fn configure(site: &mut Site, exec: Value) {
    let input = json!({
        "cluster": "default",
        "configuration": {"executeCommandConfiguration": exec},
    });
    let answer = site.call("ecs", "update_cluster", input).unwrap();
    let shown = &answer["cluster"]["configuration"];
    assert_eq!(shown["executeCommandConfiguration"], exec, "{answer}");
}

fn to(places: Value) -> Value {
    json!({"logging": "OVERRIDE", "logConfiguration": places})
}

fn order(task: &str, command: &str) -> Value {
    json!({"task": task, "command": command, "interactive": true})
}

/// Runs a command to its end; the session's id.
fn run(site: &mut Site, task: &str, command: &str) -> String {
    let input = order(task, command);
    let answer = site.call("ecs", "execute_command", input).unwrap();
    let mut client = Client::open(site, &answer);
    client.closed();
    answer["session"]["sessionId"].as_str().unwrap().to_owned()
}

/// Waits for the text of a session's stream.
fn logged(site: &mut Site, group: &str, session: &str, end: &str) -> String {
    let mut last = String::new();
    let found = wait_for(PATIENCE, || {
        last = site.messages(group, session).unwrap().join("\n");
        last.ends_with(end).then_some(())
    });
    assert!(found.is_some(), "{session} has {last:?}\n{}", site.log());
    last
}

#[test]
fn a_session_is_in_the_log_group_that_the_cluster_or_the_container_names() {
    let mut site = Site::start().unwrap();
    let task = start(&mut site, true);
    // Nothing is configured: the container's own group.
    let speak =
        "sh -c 'printf \"\\033[31mone\\033[0m\\n\"; busybox seq 2 2000'";
    let session = run(&mut site, &task, speak);
    let text = logged(&mut site, "/app", &session, "\n2000");
    let expected: Vec<String> = std::iter::once("one".to_owned())
        .chain((2..=2000).map(|number| number.to_string()))
        .collect();
    assert_eq!(text, expected.join("\n"));

    // While the session runs, and what was typed with it.
    let group = json!({"logGroupName": "/audit"});
    site.call("logs", "create_log_group", group).unwrap();
    configure(&mut site, to(json!({"cloudWatchLogGroupName": "/audit"})));
    let input = order(&task, "/bin/sh");
    let answer = site.call("ecs", "execute_command", input).unwrap();
    let session = answer["session"]["sessionId"].as_str().unwrap();
    let mut client = Client::open(&site, &answer);
    client.shows("# ");
    client.types("echo see''n\r");
    client.shows("seen");
    let text = logged(&mut site, "/audit", session, "seen");
    assert!(text.contains("echo see''n\nseen"), "{text}");
    client.types("exit\r");
    client.closed();
    assert!(site.messages("/app", session).unwrap().is_empty());

    // A group that is not there is told, and holds nothing up.
    configure(&mut site, to(json!({"cloudWatchLogGroupName": "/none"})));
    let session = run(&mut site, &task, "echo unheard");
    let told = || site.log().contains("it is not logged in CloudWatch Logs");
    wait_for(PATIENCE, || told().then_some(())).unwrap();
    assert!(site.log().contains(&session));

    configure(&mut site, json!({"logging": "NONE"}));
    let session = run(&mut site, &task, "echo unheard");
    assert!(site.messages("/app", &session).unwrap().is_empty());
    drop(client);
    site.stop_task(&task).unwrap();
    site.finish().unwrap();
}

#[test]
fn a_session_is_an_object_in_s3() {
    let s3 = WithS3::start(SECRET, &[]).unwrap();
    let bucket = s3.path("audit");
    let mut site = s3.site;
    std::fs::create_dir(&bucket).unwrap();
    let task = start(&mut site, false);
    let group = json!({"logGroupName": "/audit"});
    site.call("logs", "create_log_group", group).unwrap();
    configure(
        &mut site,
        to(json!({
            "s3BucketName": "audit", "s3KeyPrefix": "exec/sessions",
            "cloudWatchLogGroupName": "/audit",
        })),
    );
    let speak =
        "sh -c 'printf \"\\033[31mone\\033[0m\\n\"; busybox seq 2 20000'";
    let session = run(&mut site, &task, speak);
    let path = bucket.join(format!("exec/sessions/{session}.log"));
    let read = || std::fs::read_to_string(&path).ok();
    let ended = || read().filter(|text| text.ends_with("20000\r\n"));
    let text = wait_for(PATIENCE, ended).unwrap_or_else(|| site.log());
    // As the terminal showed it.
    assert!(text.starts_with("\x1b[31mone\x1b[0m\r\n2\r\n3\r\n"), "{text}");
    assert_eq!(text.lines().count(), 20000);
    logged(&mut site, "/audit", &session, "\n20000");

    // A bucket that takes nothing is told, and holds nothing up.
    std::fs::write(bucket.with_file_name("none"), "").unwrap();
    configure(&mut site, to(json!({"s3BucketName": "none"})));
    let session = run(&mut site, &task, "echo unheard");
    let told = || {
        let log = site.log();
        let line = log.lines().find(|line| line.contains(&session))?;
        line.contains("was not put into S3").then_some(())
    };
    wait_for(PATIENCE, told).unwrap();
    assert!(!site.log().contains(SECRET));
    site.stop_task(&task).unwrap();
    site.finish().unwrap();
}

#[test]
fn a_log_that_cannot_be_written_as_asked_is_refused() {
    let mut site = Site::start().unwrap();
    let task = start(&mut site, false);
    for (exec, member) in [
        (json!({"kmsKeyId": "k", "logging": "DEFAULT"}), "kmsKeyId"),
        (to(json!({"s3BucketName": "audit"})), "s3BucketName"),
        (
            to(json!({
                "cloudWatchLogGroupName": "/audit",
                "cloudWatchEncryptionEnabled": true,
            })),
            "cloudWatchEncryptionEnabled",
        ),
    ] {
        configure(&mut site, exec);
        let boto = site.boto().unwrap();
        let input = order(&task, "sh");
        let error = boto.call("ecs", "execute_command", input).unwrap_err();
        assert_eq!(error.code, "ClientException");
        assert!(error.message.contains(member), "{error}");
    }
    for exec in [
        json!({"logging": "OVERRIDE"}),
        to(json!({})),
        to(json!({"s3KeyPrefix": "p", "cloudWatchLogGroupName": "/g"})),
        json!({"logConfiguration": {"cloudWatchLogGroupName": "/g"}}),
    ] {
        let input = json!({
            "clusterName": "other",
            "configuration": {"executeCommandConfiguration": exec},
        });
        let boto = site.boto().unwrap();
        let error = boto.call("ecs", "create_cluster", input).unwrap_err();
        assert_eq!(error.code, "InvalidParameterException", "{error}");
    }
    site.stop_task(&task).unwrap();
    site.finish().unwrap();
}
