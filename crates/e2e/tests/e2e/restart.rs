//! Minato is killed, its containers' shims are killed, the machine is
//! restarted: tasks live on where they can and say why where they cannot.

use std::collections::BTreeMap;
use std::time::Duration;

use minato_e2e::{Site, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

const GROUP: &str = "/minato/restart";

/// Says a number every 50 ms; ends well at SIGTERM, and with 7 at SIGUSR1.
const COUNT: &str = "trap 'exit 0' TERM; trap 'exit 7' USR1; \
                     i=0; while :; do echo n $i; i=$((i+1)); sleep 0.05; done";

fn counter(family: &str) -> Value {
    json!({
        "family": family,
        "networkMode": "awsvpc",
        "containerDefinitions": [{
            "name": "count",
            "image": minato_e2e::IMAGE,
            "cpu": 16,
            "memory": 16,
            "essential": true,
            "command": ["/bin/sh", "-c", COUNT],
            "logConfiguration": {
                "logDriver": "awslogs",
                "options": {
                    "awslogs-group": GROUP,
                    "awslogs-region": "us-east-1",
                    "awslogs-stream-prefix": family,
                    "awslogs-create-group": "true"
                }
            }
        }]
    })
}

fn start_counters(site: &mut Site, count: usize) -> Vec<String> {
    (0..count)
        .map(|n| site.start_task(counter(&format!("count{n}")), "EC2").unwrap())
        .collect()
}

fn text<'a>(value: &'a Value, what: &str) -> &'a str {
    value.as_str().unwrap_or_else(|| panic!("no {what} in {value}"))
}

/// Where a task runs: its address and its container's id.
fn place(task: &Value) -> (String, String) {
    let container = &task["containers"][0];
    let address = &container["networkInterfaces"][0]["privateIpv4Address"];
    let runtime_id = text(&container["runtimeId"], "runtimeId").to_owned();
    (text(address, "address").to_owned(), runtime_id)
}

/// The processes of a container, as the engine wrote them down: its shim and
/// its first process.
fn processes(site: &Site, runtime_id: &str) -> (i32, i32) {
    let containers = site.traces().unwrap().run_dir().join("containers");
    let file = containers.join(runtime_id).join("running.json");
    let bytes = std::fs::read(&file)
        .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let running: Value = serde_json::from_slice(&bytes).unwrap();
    let pid =
        |of: &str| i32::try_from(running[of]["pid"].as_i64().unwrap()).unwrap();
    (pid("shim"), pid("init"))
}

/// Whether a process runs; one that only waits to be reaped does not.
fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

/// How many numbers a counter's log has; there must be no gap and no number
/// twice.
fn counted(site: &mut Site, family: &str) -> usize {
    let messages = site.messages(GROUP, &format!("{family}/")).unwrap();
    for (n, message) in messages.iter().enumerate() {
        assert_eq!(message, &format!("n {n}"), "{family}");
    }
    messages.len()
}

#[test]
fn tasks_outlive_a_killed_minato() {
    let mut site = Site::start().unwrap();
    let arns = start_counters(&mut site, 11);
    let mut places = BTreeMap::new();
    for arn in &arns {
        let task = site.wait_task(arn, "RUNNING").unwrap();
        places.insert(arn.clone(), place(&task));
    }
    let ids: Vec<&String> = places.values().map(|place| &place.1).collect();
    let pids: Vec<i32> = ids.iter().map(|id| processes(&site, id).1).collect();

    site.kill_minato().unwrap();
    assert!(
        pids.iter().all(|pid| is_alive(*pid)),
        "containers died with Minato"
    );
    // One ends while nobody is there to see it.
    let (ended, living) = arns.split_last().unwrap();
    let (_, init) = processes(&site, &places[ended].1);
    signal(init, Signal::SIGUSR1);
    wait_for(Duration::from_secs(10), || (!is_alive(init)).then_some(()))
        .unwrap();
    let before: Vec<(i32, i32)> =
        living.iter().map(|arn| processes(&site, &places[arn].1)).collect();

    site.up().unwrap();
    let stopped = site.wait_task(ended, "STOPPED").unwrap();
    assert_eq!(stopped["containers"][0]["exitCode"], 7, "{stopped}");
    assert_eq!(stopped["stopCode"], "EssentialContainerExited");
    for (arn, processes_before) in living.iter().zip(before) {
        let task = site.wait_task(arn, "RUNNING").unwrap();
        assert_eq!(place(&task), places[arn]);
        assert_eq!(processes(&site, &places[arn].1), processes_before);
    }
    // Once more, at moments when lines are on their way.
    for _ in 0..3 {
        site.kill_minato().unwrap();
        site.up().unwrap();
    }
    for n in 0..living.len() {
        let family = format!("count{n}");
        let already = counted(&mut site, &family);
        // Lines written after the restart arrive too.
        wait_for(Duration::from_secs(60), || {
            (counted(&mut site, &family) > already + 5).then_some(())
        })
        .unwrap_or_else(|| panic!("{family} says no more"));
    }
    for arn in living {
        let task = site.stop_task(arn).unwrap();
        assert_eq!(task["stopCode"], "UserInitiated");
        assert_eq!(task["containers"][0]["exitCode"], 0, "{task}");
    }
    for n in 0..arns.len() {
        assert!(counted(&mut site, &format!("count{n}")) > 0);
    }
    site.finish().unwrap();
}

#[test]
fn a_killed_shim_costs_one_container() {
    let mut site = Site::start().unwrap();
    let arns = start_counters(&mut site, 3);
    let places: Vec<_> = arns
        .iter()
        .map(|arn| place(&site.wait_task(arn, "RUNNING").unwrap()))
        .collect();
    let (shim, init) = processes(&site, &places[1].1);
    signal(shim, Signal::SIGKILL);
    let task = site.wait_task(&arns[1], "STOPPED").unwrap();
    let reason = text(&task["containers"][0]["reason"], "reason");
    assert!(reason.contains("supervisor process was killed"), "{reason}");
    assert_eq!(task["stopCode"], "EssentialContainerExited", "{task}");
    assert!(!is_alive(init), "the container outlived its shim's report");
    for n in [0, 2] {
        let task = site.task(&arns[n]).unwrap();
        assert_eq!(task["lastStatus"], "RUNNING", "{task}");
        assert_eq!(place(&task), places[n]);
    }
    site.finish().unwrap();
}

#[test]
fn after_a_reboot_tasks_say_why_they_stopped() {
    let mut site = Site::start().unwrap();
    let arns = start_counters(&mut site, 2);
    for arn in &arns {
        site.wait_task(arn, "RUNNING").unwrap();
    }
    site.reboot("5f9c1c3e-0000-4000-8000-000000000002").unwrap();
    for arn in &arns {
        let task = site.wait_task(arn, "STOPPED").unwrap();
        let reason = text(&task["containers"][0]["reason"], "reason");
        assert!(reason.contains("The host was restarted"), "{reason}");
        assert!(!text(&task["stoppedReason"], "stoppedReason").is_empty());
    }
    // The host takes tasks again.
    let arn = site.start_task(counter("again"), "EC2").unwrap();
    site.wait_task(&arn, "RUNNING").unwrap();
    site.finish().unwrap();
}
