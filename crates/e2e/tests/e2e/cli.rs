//! What `minato` offers beside the API.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Duration;

use minato_e2e::{IMAGE, Site, minato_program, run_to_end, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
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
    // What is in the container; its shim may be in no group of ours.
    assert!(!site.traces().unwrap().processes().is_empty());
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

#[test]
fn a_reader_that_goes_is_no_failure() {
    let site = Site::start().unwrap();
    let program = minato_program().unwrap();
    for words in ["ps", "completions bash", "doctor --coverage"] {
        let script = format!(
            "'{}' {words} | true; echo ${{PIPESTATUS[0]}}",
            program.display(),
        );
        let mut bash = site.command("bash");
        let done = run_to_end(bash.args(["-c", &script]), b"").unwrap();
        let told = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!told.contains("panicked"), "{words}: {told}");
        let code = String::from_utf8_lossy(&done.stdout).into_owned();
        // Ended by then, or told that nobody reads.
        assert!(["0", "141"].contains(&code.trim()), "{words}: {code} {told}");
    }
    let again = site.minato(&["up"]).unwrap_err().to_string();
    assert!(again.contains("already running"), "{again}");
    site.finish().unwrap();
}

#[test]
fn copies_are_told_apart_and_heard_to_the_end() {
    let site = Site::start().unwrap();
    let definition = json!({
        "family": "said",
        "containerDefinitions": [{
            "name": "app", "image": IMAGE, "memory": 16,
            "command": ["/bin/sh", "-c",
                "trap 'echo goodbye; exit 0' TERM; echo hello; \
                 while :; do sleep 0.1; done"]
        }]
    });
    let file = site.dir().join("two.json");
    std::fs::write(&file, definition.to_string()).unwrap();
    let mut run = site
        .command(&minato_program().unwrap().to_string_lossy())
        .arg("run")
        .arg(&file)
        .args(["--count", "2"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(run.stdout.take().unwrap()).lines();
    let mut seen = vec![];
    let mut await_words = |word: &str, seen: &mut Vec<String>| {
        let count = |seen: &[String]| {
            seen.iter().filter(|line| line.ends_with(word)).count()
        };
        while count(seen) < 2 {
            let line = lines.next().unwrap_or_else(|| panic!("{seen:?}"));
            seen.push(line.unwrap());
        }
    };
    await_words("| hello", &mut seen);
    let pid = Pid::from_raw(i32::try_from(run.id()).unwrap());
    kill(pid, Signal::SIGINT).unwrap();
    await_words("| goodbye", &mut seen);
    for line in lines {
        seen.push(line.unwrap());
    }
    assert!(run.wait().unwrap().success(), "{seen:?}");
    let labels: BTreeSet<&str> = seen
        .iter()
        .filter_map(|line| line.split_once("/app | "))
        .map(|(task, _)| task)
        .collect();
    assert_eq!(labels.len(), 2, "{seen:?}");
    site.finish().unwrap();
}
