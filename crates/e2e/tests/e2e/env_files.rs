//! Environment files: variables from objects that a real S3 server keeps.

use std::time::Duration;

use minato_e2e::{IMAGE, Site, wait_for};
use serde_json::{Value, json};

use crate::s3_server::{SECRET, WithS3};

const ROLE: &str = "arn:aws:iam::000000000000:role/ecsTaskExecutionRole";
/// What no log may have.
const VALUE: &str = "seen-by-the-container-alone";

/// A site that fetches files with this secret.
fn start(secret: &str) -> WithS3 {
    WithS3::start(secret, &[]).unwrap()
}

/// Says that a task of this definition stops at once, and why.
fn fails(s3: &mut WithS3, wanted: Value, launch_type: &str, reason: &str) {
    let arn = s3.site.start_task(wanted, launch_type).unwrap();
    let task = s3.site.wait_task(&arn, "STOPPED").unwrap();
    assert_eq!(task["stopCode"], "TaskFailedToStart", "{task}");
    let said = task["stoppedReason"].as_str().unwrap();
    assert!(said.starts_with(reason), "{said}");
    assert_eq!(task["containers"][0]["exitCode"], Value::Null);
}

fn finish(s3: WithS3) {
    let log = s3.site.log();
    assert!(!log.contains(VALUE) && !log.contains(SECRET), "{log}");
    s3.site.finish().unwrap();
}

fn files(keys: &[&str]) -> Value {
    let file = |key: &&str| {
        let value = format!("arn:aws:s3:::conf/{key}");
        json!({"type": "s3", "value": value})
    };
    keys.iter().map(file).collect()
}

fn definition(family: &str, keys: &[&str]) -> Value {
    let shell = "echo \"A=$A B=$B C=$C D=$D E=$E V=${#V}\"
        trap 'exit 0' TERM; while :; do sleep 0.1; done";
    json!({
        "family": family,
        "networkMode": "bridge",
        "executionRoleArn": ROLE,
        "containerDefinitions": [{
            "name": "app", "image": IMAGE, "cpu": 16, "memory": 16,
            "environment": [{"name": "A", "value": "environment"}],
            "environmentFiles": files(keys),
            "command": ["/bin/sh", "-c", shell],
        }]
    })
}

/// Waits for what a running task's container said; stops the task.
fn said(site: &mut Site, arn: &str) -> String {
    site.wait_task(arn, "RUNNING").unwrap();
    let id = arn.rsplit('/').next().unwrap().to_owned();
    let said = wait_for(Duration::from_secs(30), || {
        let logs = site.minato(&["logs", &id]).unwrap();
        let line = logs.lines().find(|line| line.contains("A="))?;
        Some(line.split_once("A=")?.1.to_owned())
    });
    site.stop_task(arn).unwrap();
    said.unwrap_or_else(|| panic!("nothing said: {}", site.log()))
}

#[test]
fn containers_get_the_variables_of_files() {
    let mut s3 = start(SECRET);
    let first = format!(
        "# one\nA=first\nB=\"first\"\nC=$A x=y\r\n\nnothing\nV={VALUE}\n"
    );
    s3.put("conf/first.env", &first);
    s3.put("conf/some dir/second+ü.env", "A=second\nB=second\nD=second\n");
    s3.put("conf/other.env", "B=other\n");
    let keys = ["first.env", "some dir/second+ü.env"];
    let arn = s3.site.start_task(definition("files", &keys), "EC2").unwrap();
    let length = VALUE.len();
    assert_eq!(
        said(&mut s3.site, &arn),
        format!("environment B=\"first\" C=$A x=y D=second E= V={length}")
    );

    // Files of an override take the place of the definition's.
    let change = |files: Value| {
        json!({
            "cluster": "default", "taskDefinition": "files",
            "launchType": "EC2",
            "overrides": {"containerOverrides": [{
                "name": "app", "environmentFiles": files,
                "environment": [{"name": "E", "value": "override"}],
            }]},
        })
    };
    let input = change(files(&["other.env"]));
    let answer = s3.site.call("ecs", "run_task", input).unwrap();
    let arn = answer["tasks"][0]["taskArn"].as_str().unwrap();
    let expected = "environment B=other C= D= E=override V=0";
    assert_eq!(said(&mut s3.site, arn), expected);
    let input = change(files(&["other.txt"]));
    let boto = s3.site.boto().unwrap();
    let refused = boto.call("ecs", "run_task", input).unwrap_err();
    let refused = format!("{refused:?}");
    assert!(refused.contains("InvalidParameterException"), "{refused}");
    finish(s3);
}

#[test]
fn a_file_that_is_not_there_stops_the_task_with_the_reason() {
    let mut s3 = start(SECRET);
    s3.put("conf/a.env", "A=1\n");
    let why = "unable to download env file with key none.env from bucket \
               conf, error: NoSuchKey: ";
    let wanted = definition("missing", &["a.env", "none.env"]);
    let reason = format!("ResourceInitializationError: {why}");
    fails(&mut s3, wanted, "EC2", &reason);
    let mut wanted = definition("fargate", &["none.env"]);
    for (name, value) in [
        ("networkMode", json!("awsvpc")),
        ("requiresCompatibilities", json!(["FARGATE"])),
        ("cpu", json!("256")),
        ("memory", json!("512")),
    ] {
        wanted[name] = value;
    }
    let reason = format!(
        "ResourceInitializationError: failed to download env files: file \
         download command: non empty error stream: {why}"
    );
    fails(&mut s3, wanted, "FARGATE", &reason);
    finish(s3);
}

#[test]
fn a_wrong_key_stops_the_task_with_the_reason() {
    let mut s3 = start("another-secret");
    s3.put("conf/a.env", "A=1\n");
    fails(
        &mut s3,
        definition("wrong", &["a.env"]),
        "EC2",
        "ResourceInitializationError: unable to download env file with key \
         a.env from bucket conf, error: SignatureDoesNotMatch: ",
    );
    finish(s3);
}

#[test]
fn without_an_endpoint_no_such_task_is_placed() {
    let mut site = Site::start().unwrap();
    let refused = |answer: &Value| {
        assert_eq!(answer["tasks"], json!([]));
        let failure = &answer["failures"][0];
        assert_eq!(failure["reason"], "ATTRIBUTE", "{answer}");
        let detail = failure["detail"].as_str().unwrap();
        assert!(detail.contains("ecs.capability.env-files.s3"), "{detail}");
    };
    let wanted = definition("files", &["a.env"]);
    refused(&site.run_task(wanted, "EC2").unwrap());

    // Nor one that has files by an override alone.
    let mut plain = definition("plain", &[]);
    plain["containerDefinitions"][0]
        .as_object_mut()
        .unwrap()
        .remove("environmentFiles");
    site.call("ecs", "register_task_definition", plain).unwrap();
    let input = json!({
        "cluster": "default", "taskDefinition": "plain", "launchType": "EC2",
        "overrides": {"containerOverrides": [{
            "name": "app", "environmentFiles": files(&["a.env"]),
        }]},
    });
    refused(&site.call("ecs", "run_task", input).unwrap());
    site.finish().unwrap();
}
