//! Minato is killed while it starts and stops tasks: what it has answered
//! still holds, and nothing is left of what was half done.

use std::time::Duration;

use minato_e2e::Site;
use serde_json::{Value, json};

fn sleeper() -> Value {
    json!({
        "family": "sleeper",
        "networkMode": "awsvpc",
        "containerDefinitions": [
            {
                "name": "first",
                "image": minato_e2e::IMAGE,
                "cpu": 16,
                "memory": 16,
                "essential": false,
                "command": ["/bin/sh", "-c", "sleep 0.2"]
            },
            {
                "name": "second",
                "image": minato_e2e::IMAGE,
                "cpu": 16,
                "memory": 16,
                "command": [
                    "/bin/sh", "-c",
                    "trap 'exit 0' TERM; while :; do sleep 0.1; done"
                ],
                "dependsOn": [
                    { "containerName": "first", "condition": "SUCCESS" }
                ]
            }
        ]
    })
}

#[test]
fn killed_at_any_moment_it_finishes_what_it_began() {
    let mut site = Site::start().unwrap();
    let mut arns = vec![];
    for round in 0..8_u64 {
        let arn = site.start_task(sleeper(), "EC2").unwrap();
        arns.push(arn);
        // Every round dies at another moment of a task's first second.
        std::thread::sleep(Duration::from_millis(round * 70));
        site.kill_minato().unwrap();
        site.up().unwrap();
    }
    for arn in &arns {
        let task = site.wait_task(arn, "RUNNING").unwrap();
        assert_eq!(task["desiredStatus"], "RUNNING");
    }
    for (round, arn) in (0_u64..).zip(&arns) {
        let stop = json!({ "cluster": "default", "task": arn });
        site.call("ecs", "stop_task", stop).unwrap();
        std::thread::sleep(Duration::from_millis(round * 20));
        site.kill_minato().unwrap();
        site.up().unwrap();
    }
    for arn in &arns {
        let task = site.wait_task(arn, "STOPPED").unwrap();
        assert_eq!(task["stopCode"], "UserInitiated", "{task}");
        for container in task["containers"].as_array().unwrap() {
            assert_eq!(container["exitCode"], 0, "{task}");
        }
    }
    // What the stopped tasks had is free, while Minato runs on.
    minato_e2e::wait_for(Duration::from_secs(20), || {
        let traces = site.traces().unwrap();
        traces.processes().is_empty().then_some(())
    })
    .unwrap_or_else(|| panic!("left: {:?}", site.traces().unwrap().all()));
    site.finish().unwrap();
}
