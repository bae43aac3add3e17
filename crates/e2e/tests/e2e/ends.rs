//! How tasks end, and why some never begin.

use minato_e2e::{Site, uptime};
use serde_json::{Value, json};

/// A container of the tests' image that runs a shell script.
fn container(name: &str, script: &str) -> Value {
    json!({
        "name": name,
        "image": minato_e2e::IMAGE,
        "cpu": 16,
        "memory": 32,
        "command": ["/bin/sh", "-c", script]
    })
}

fn definition(family: &str, containers: &[Value]) -> Value {
    json!({
        "family": family,
        "networkMode": "bridge",
        "containerDefinitions": containers
    })
}

fn part<'a>(task: &'a Value, name: &str) -> &'a Value {
    let containers = task["containers"].as_array().unwrap();
    let found = containers.iter().find(|one| one["name"] == name);
    found.unwrap_or_else(|| panic!("no container {name} in {task}"))
}

fn starts_with(value: &Value, start: &str) {
    let text = value.as_str().unwrap_or_default();
    assert!(text.starts_with(start), "{value} does not start with {start}");
}

#[test]
fn too_much_memory_is_the_end() {
    let mut site = Site::start().unwrap();
    // dd's buffer is larger than what the container may have.
    let greedy =
        container("greedy", "exec dd if=/dev/zero of=/dev/null bs=200M");
    let arn = site.start_task(definition("greedy", &[greedy]), "EC2").unwrap();
    let task = site.wait_task(&arn, "STOPPED").unwrap();
    assert_eq!(task["stopCode"], "EssentialContainerExited");
    assert_eq!(part(&task, "greedy")["exitCode"], 137, "{task}");
    starts_with(&part(&task, "greedy")["reason"], "OutOfMemoryError");
    let told = site.minato(&["explain", &arn]).unwrap();
    assert!(told.contains("OutOfMemoryError"), "{told}");
    site.finish().unwrap();
}

#[test]
fn who_ignores_sigterm_is_killed_after_stop_timeout() {
    let mut site = Site::start().unwrap();
    let mut deaf =
        container("deaf", "trap '' TERM; while :; do sleep 0.1; done");
    deaf["stopTimeout"] = json!(3);
    let arn = site.start_task(definition("deaf", &[deaf]), "EC2").unwrap();
    site.wait_task(&arn, "RUNNING").unwrap();
    let before = uptime();
    let task = site.stop_task(&arn).unwrap();
    let took = (uptime() - before).as_secs_f64();
    assert!(took >= 3.0, "killed after {took} s already");
    assert_eq!(part(&task, "deaf")["exitCode"], 137, "{task}");
    assert_eq!(task["stopCode"], "UserInitiated");
    site.finish().unwrap();
}

#[test]
fn containers_wait_for_those_they_depend_on() {
    let mut site = Site::start().unwrap();
    // Each adds its name to a file on a volume; the last shows it.
    let step = |name: &str, script: &str, on: Value, essential: bool| {
        let mut made = container(name, script);
        made["dependsOn"] = on;
        made["essential"] = json!(essential);
        made["mountPoints"] =
            json!([{ "sourceVolume": "shared", "containerPath": "/shared" }]);
        made
    };
    let last = "echo last >> /shared/order; \
                [ \"$(cat /shared/order | tr '\\n' ' ')\" = 'first second last ' ]";
    let last = last.replace("tr ", "/bin/busybox tr ");
    let on = |name: &str, condition: &str| json!([{ "containerName": name, "condition": condition }]);
    let containers = [
        step("last", &last, on("second", "COMPLETE"), true),
        step(
            "second",
            "sleep 0.3; echo second >> /shared/order; exit 3",
            on("first", "SUCCESS"),
            false,
        ),
        step(
            "first",
            "sleep 0.3; echo first >> /shared/order",
            json!([]),
            false,
        ),
    ];
    let mut ordered = definition("ordered", &containers);
    ordered["volumes"] = json!([{ "name": "shared" }]);
    let arn = site.start_task(ordered, "EC2").unwrap();
    let task = site.wait_task(&arn, "STOPPED").unwrap();
    assert_eq!(part(&task, "first")["exitCode"], 0, "{task}");
    assert_eq!(part(&task, "second")["exitCode"], 3, "{task}");
    assert_eq!(part(&task, "last")["exitCode"], 0, "{task}");

    // A dependency that fails where SUCCESS is asked for stops the task.
    let containers = [
        step("app", "sleep 100", on("init", "SUCCESS"), true),
        step("init", "exit 4", json!([]), false),
    ];
    let mut failing = definition("failing", &containers);
    failing["volumes"] = json!([{ "name": "shared" }]);
    let arn = site.start_task(failing, "EC2").unwrap();
    let task = site.wait_task(&arn, "STOPPED").unwrap();
    assert_eq!(part(&task, "init")["exitCode"], 4, "{task}");
    // It never ran; the ECS agent gives such a container this code.
    assert_eq!(part(&task, "app")["exitCode"], 143, "{task}");
    starts_with(&part(&task, "app")["reason"], "TaskDependencyError");
    assert_eq!(task["stopCode"], "TaskFailedToStart", "{task}");
    assert_eq!(part(&task, "app")["runtimeId"], Value::Null, "{task}");
    site.finish().unwrap();
}

#[test]
fn what_cannot_start_says_why() {
    let mut site = Site::start().unwrap();
    let mut unknown = container("app", "true");
    // Port 1 of loopback: nobody listens, so the answer comes at once.
    unknown["image"] = json!("127.0.0.1:1/nobody/knows:1");
    let arn =
        site.start_task(definition("unknown", &[unknown]), "EC2").unwrap();
    let task = site.wait_task(&arn, "STOPPED").unwrap();
    assert_eq!(task["stopCode"], "TaskFailedToStart", "{task}");
    starts_with(&task["stoppedReason"], "CannotPullContainerError");
    assert_eq!(part(&task, "app")["exitCode"], Value::Null);

    let mut missing = container("app", "true");
    missing["command"] = json!(["/bin/no-such-program"]);
    let arn =
        site.start_task(definition("missing", &[missing]), "EC2").unwrap();
    let task = site.wait_task(&arn, "STOPPED").unwrap();
    assert_eq!(task["stopCode"], "TaskFailedToStart", "{task}");
    starts_with(&part(&task, "app")["reason"], "CannotStartContainerError");
    site.finish().unwrap();
}
