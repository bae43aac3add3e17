//! Volumes: what outlives a task, and what goes with it.

use minato_e2e::{IMAGE, Site};
use serde_json::{Value, json};

/// A task that runs a command with these volumes at `/v/NAME`.
fn with_volumes(family: &str, volumes: &Value, command: &str) -> Value {
    let mounts: Vec<Value> = volumes
        .as_array()
        .unwrap()
        .iter()
        .map(|volume| {
            let name = volume["name"].as_str().unwrap();
            json!({"sourceVolume": name, "containerPath": format!("/v/{name}")})
        })
        .collect();
    json!({
        "family": family,
        "networkMode": "bridge",
        "volumes": volumes,
        "containerDefinitions": [{
            "name": "app", "image": IMAGE, "cpu": 16, "memory": 16,
            "mountPoints": mounts,
            "command": ["/bin/sh", "-c", command],
        }]
    })
}

/// Runs it to its end, which must be a good one; what it printed.
fn run(site: &mut Site, definition: Value) -> String {
    let arn = site.start_task(definition, "EC2").unwrap();
    let task = site.wait_task(&arn, "STOPPED").unwrap();
    let said = site.minato(&["logs", &arn]).unwrap();
    assert_eq!(task["containers"][0]["exitCode"], 0, "{task:#} {said}");
    said
}

#[test]
fn shared_volumes_stay_and_a_task_s_own_go() {
    let efs = tempfile::tempdir().unwrap();
    std::fs::create_dir(efs.path().join("www")).unwrap();
    let mapping = format!("fs-0123abcd={}", efs.path().display());
    let mut site = Site::start_with(&["--efs", &mapping]).unwrap();
    let volumes = json!([
        {"name": "own", "dockerVolumeConfiguration": {"scope": "task"}},
        {"name": "shared", "dockerVolumeConfiguration": {
            "scope": "shared", "autoprovision": true,
            "labels": {"team": "blue"},
        }},
        {"name": "efs", "efsVolumeConfiguration": {
            "fileSystemId": "fs-0123abcd", "rootDirectory": "/www",
        }},
    ]);
    let write = "for v in own shared efs; do \
                     echo written > /v/$v/file || exit 1; \
                 done";
    run(&mut site, with_volumes("writes", &volumes, write));
    let look = "for v in own shared efs; do \
                    [ -e /v/$v/file ] && echo $v is there; \
                done; true";
    let said = run(&mut site, with_volumes("looks", &volumes, look));
    assert!(said.contains("shared is there"), "{said}");
    assert!(said.contains("efs is there"), "{said}");
    assert!(!said.contains("own is there"), "{said}");
    let file = efs.path().join("www/file");
    assert_eq!(std::fs::read_to_string(file).unwrap(), "written\n");

    let strict = json!([{"name": "none", "dockerVolumeConfiguration": {
        "scope": "shared", "autoprovision": false,
    }}]);
    let missing = with_volumes("missing", &strict, "true");
    let arn = site.start_task(missing, "EC2").unwrap();
    let task = site.wait_task(&arn, "STOPPED").unwrap();
    assert_eq!(task["stopCode"], "TaskFailedToStart", "{task:#}");
    site.finish().unwrap();
}

#[test]
fn an_empty_volume_gets_what_the_image_has_there() {
    let mut site = Site::start().unwrap();
    let mut definition = with_volumes("copies", &json!([]), "ls /bin/sh");
    definition["volumes"] = json!([
        {"name": "bin", "dockerVolumeConfiguration": {"scope": "task"}},
    ]);
    definition["containerDefinitions"][0]["mountPoints"] =
        json!([{"sourceVolume": "bin", "containerPath": "/bin"}]);
    let said = run(&mut site, definition);
    assert!(said.contains("/bin/sh"), "{said}");
    site.finish().unwrap();
}
