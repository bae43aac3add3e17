//! What `minato` offers beside the API.

use std::time::Duration;

use minato_e2e::{IMAGE, Site, wait_for};
use serde_json::json;

/// Writes a definition whose container says what `LEVEL` is, and waits.
fn definition_file(site: &Site) -> String {
    let definition = json!({
        "family": "said",
        "networkMode": "bridge",
        "containerDefinitions": [{
            "name": "app",
            "image": IMAGE,
            "cpu": 16,
            "memory": 16,
            "command": [
                "/bin/sh", "-c",
                "trap 'exit 0' TERM; echo level $LEVEL; \
                 while :; do sleep 0.1; done"
            ]
        }]
    });
    let file = site.dir().join("said.json");
    std::fs::write(&file, definition.to_string()).unwrap();
    file.to_string_lossy().into_owned()
}

#[test]
fn a_definition_file_runs_logs_and_stops() {
    let site = Site::start().unwrap();
    let listed = site.minato(&["image", "ls"]).unwrap();
    assert!(listed.contains("minato-example/web:1"), "{listed}");
    let file = definition_file(&site);
    let said = site
        .minato(&["run", &file, "--detach", "--env", "LEVEL=high"])
        .unwrap();
    let id = said.split(' ').nth(1).unwrap().to_owned();
    wait_for(Duration::from_secs(30), || {
        let logs = site.minato(&["logs", &id[..8]]).unwrap();
        logs.contains("app | level high").then_some(())
    })
    .unwrap_or_else(|| panic!("no logs of {id}: {}", site.log()));
    let listed = site.minato(&["ps"]).unwrap();
    assert!(listed.contains(&id[..12]), "{listed}");

    let stopped = site.minato(&["stop", &id[..8], "--reason", "done"]).unwrap();
    assert!(stopped.contains("stopped"), "{stopped}");
    let listed = site.minato(&["ps"]).unwrap();
    assert!(!listed.contains(&id[..12]), "{listed}");
    let listed = site.minato(&["ps", "--all"]).unwrap();
    assert!(listed.contains("STOPPED"), "{listed}");
    assert!(listed.contains("app:exit 0"), "{listed}");
    let told = site.minato(&["explain", &id[..8]]).unwrap();
    assert!(told.contains("(done)"), "{told}");
    assert!(site.minato(&["explain", "nosuch"]).is_err());

    let removed = site.minato(&["image", "rm", IMAGE]).unwrap();
    assert!(removed.contains("removed"), "{removed}");
    let listed = site.minato(&["image", "ls"]).unwrap();
    assert!(!listed.contains("minato-example"), "{listed}");
    site.finish().unwrap();
}

#[test]
fn tasks_run_on_through_an_orderly_restart() {
    let mut site = Site::start().unwrap();
    let file = definition_file(&site);
    let said = site.minato(&["run", &file, "--detach"]).unwrap();
    let id = said.split(' ').nth(1).unwrap().trim().to_owned();
    let before = site.wait_task(&id, "RUNNING").unwrap();
    site.down_keeping_tasks().unwrap();
    // The container and its shim.
    assert!(site.traces().unwrap().processes().len() >= 2);
    assert!(site.minato(&["ps"]).is_err());
    site.up().unwrap();
    let after = site.wait_task(&id, "RUNNING").unwrap();
    let runtime_id = |task: &serde_json::Value| {
        task["containers"][0]["runtimeId"].as_str().unwrap().to_owned()
    };
    assert_eq!(runtime_id(&after), runtime_id(&before));
    assert_eq!(after["startedAt"], before["startedAt"]);
    site.finish().unwrap();
}
