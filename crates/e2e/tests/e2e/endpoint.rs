//! What containers ask at 169.254.170.2.

use minato_e2e::{IMAGE, Site, run_to_end};
use serde_json::{Value, json};

fn asking(mode: &str, command: &str) -> Value {
    json!({
        "family": format!("asking-{mode}"),
        "networkMode": mode,
        "containerDefinitions": [{
            "name": "ask", "image": IMAGE, "cpu": 16, "memory": 32,
            "command": ["/bin/sh", "-c", command],
        }]
    })
}

/// What a task that runs the command prints before it ends well.
fn said(site: &mut Site, mode: &str, command: &str) -> (String, String) {
    let arn = site.start_task(asking(mode, command), "EC2").unwrap();
    let task = site.wait_task(&arn, "STOPPED").unwrap();
    let said = site.minato(&["logs", &arn]).unwrap();
    assert_eq!(task["containers"][0]["exitCode"], 0, "{mode}: {task} {said}");
    (arn, said)
}

#[test]
fn tasks_read_their_metadata_in_every_network_of_their_own() {
    let mut site = Site::start().unwrap();
    for mode in ["bridge", "awsvpc"] {
        let command = "wget -q -O - $ECS_CONTAINER_METADATA_URI_V4/task && \
                       wget -q -O - $ECS_CONTAINER_METADATA_URI_V4/stats && \
                       echo; echo api $AWS_ENDPOINT_URL";
        let (arn, said) = said(&mut site, mode, command);
        assert!(said.contains(&format!("\"TaskARN\":\"{arn}\"")), "{said}");
        let network = format!("\"NetworkMode\":\"{mode}\"");
        assert!(said.contains(&network), "{said}");
        assert!(said.contains("\"total_usage\""), "{said}");
        assert!(said.contains("api http://169.254.170.2"), "{said}");
    }
    site.finish().unwrap();
}

#[test]
fn a_killed_minato_answers_again_and_the_api_variable_can_be_left_out() {
    let mut site = Site::start_with(&["--no-endpoint-injection"]).unwrap();
    let command = "while true; do \
                       wget -q -O - $ECS_CONTAINER_METADATA_URI_V4 \
                           > /dev/null && echo asked; \
                       sleep 0.2; \
                   done";
    let mut definition = asking("bridge", command);
    definition["containerDefinitions"][0]["stopTimeout"] = json!(2);
    let arn = site.start_task(definition, "EC2").unwrap();
    site.wait_task(&arn, "RUNNING").unwrap();
    let count = |site: &Site| {
        let said = site.minato(&["logs", &arn]).unwrap();
        said.matches("asked").count()
    };
    let grows = |site: &Site, from: usize| {
        let patience = std::time::Duration::from_secs(20);
        let is_answered = minato_e2e::wait_for(patience, || {
            (count(site) > from).then_some(())
        });
        assert!(is_answered.is_some(), "{}", site.log());
    };
    grows(&site, 0);
    site.kill_minato().unwrap();
    site.up().unwrap();
    let before = count(&site);
    grows(&site, before);
    site.stop_task(&arn).unwrap();
    let (_, said) = said(&mut site, "bridge", "env");
    assert!(!said.contains("AWS_ENDPOINT_URL"), "{said}");
    assert!(said.contains("ECS_AGENT_URI=http://169.254.170.2/api/"));
    site.finish().unwrap();
}

/// A definition whose container sees the host's Python with its boto3, which
/// runs a script there with no configuration at all.
fn python(site: &Site, mode: &str, script: &str) -> Value {
    let places = "import sys, boto3; print(sys.executable); print(sys.prefix); \
                  print(sys.base_prefix)";
    let places = site.run("python3", &["-c", places]).unwrap();
    let mut places = places.lines();
    let program = places.next().unwrap();
    let mut dirs = vec!["/usr", "/lib", "/lib64"];
    dirs.extend(places.filter(|dir| !dir.starts_with("/usr")));
    dirs.dedup();
    let name = |at: usize| format!("host{at}");
    let volumes: Vec<Value> = dirs
        .iter()
        .enumerate()
        .map(|(at, dir)| json!({"name": name(at), "host": {"sourcePath": dir}}))
        .collect();
    let mounts: Vec<Value> = dirs
        .iter()
        .enumerate()
        .map(|(at, dir)| {
            json!({"sourceVolume": name(at), "containerPath": dir,
                   "readOnly": true})
        })
        .collect();
    json!({
        "family": format!("python-{mode}"),
        "networkMode": mode,
        "taskRoleArn": "arn:aws:iam::000000000000:role/app",
        "volumes": volumes,
        "containerDefinitions": [{
            "name": "app", "image": IMAGE, "cpu": 128, "memory": 256,
            "stopTimeout": 2,
            "entryPoint": [program], "command": ["-c", script],
            "mountPoints": mounts,
        }]
    })
}

#[test]
fn boto3_in_a_container_needs_no_configuration() {
    let mut site = Site::start().unwrap();
    site.aws(&[
        "ssm",
        "put-parameter",
        "--name",
        "/app/url",
        "--type",
        "String",
        "--value",
        "found",
    ])
    .unwrap();
    let script = "import boto3, time
print(boto3.client('sts').get_caller_identity()['Arn'], flush=True)
ssm = boto3.client('ssm').get_parameter(Name='/app/url')
print(ssm['Parameter']['Value'], flush=True)
keys = boto3.Session().get_credentials().get_frozen_credentials()
print('keys', keys.access_key, keys.secret_key, keys.token, flush=True)
time.sleep(600)";
    for mode in ["bridge", "awsvpc", "host"] {
        let definition = python(&site, mode, script);
        let arn = site.start_task(definition, "EC2").unwrap();
        let patience = std::time::Duration::from_secs(60);
        let said = minato_e2e::wait_for(patience, || {
            let said = site.minato(&["logs", &arn]).unwrap();
            said.contains("keys ").then_some(said)
        });
        let said = said.unwrap_or_else(|| {
            panic!("{mode}: {}", site.minato(&["logs", &arn]).unwrap())
        });
        let id = arn.rsplit('/').next().unwrap();
        let role = format!("arn:aws:sts::000000000000:assumed-role/app/{id}");
        assert!(said.contains(&role) && said.contains("found"), "{said}");
        let keys = said.split("keys ").nth(1).unwrap();
        let keys: Vec<&str> = keys.split_whitespace().take(3).collect();
        assert!(may_call(&site, &keys));
        site.stop_task(&arn).unwrap();
        assert!(!may_call(&site, &keys), "{mode}: a stopped task's keys");
    }
    site.finish().unwrap();
}

/// Whether keys that were taken out of a task still open the API.
fn may_call(site: &Site, keys: &[&str]) -> bool {
    let mut aws = site.command("aws");
    aws.env("AWS_ACCESS_KEY_ID", keys[0])
        .env("AWS_SECRET_ACCESS_KEY", keys[1])
        .env("AWS_SESSION_TOKEN", keys[2])
        .args(["sts", "get-caller-identity"]);
    let answer = run_to_end(&mut aws, b"").unwrap();
    let refusal = String::from_utf8_lossy(&answer.stderr).into_owned();
    assert!(
        answer.status.success() || refusal.contains("InvalidClientTokenId"),
        "{refusal}"
    );
    answer.status.success()
}
