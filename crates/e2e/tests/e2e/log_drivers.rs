//! Log drivers, with receivers that the test runs.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use minato_e2e::{IMAGE, Site, wait_for};
use serde_json::{Value, json};

const RECEIVERS: &str = include_str!("log_receivers.py");
const PATIENCE: Duration = Duration::from_secs(60);
const STAY: &str = "trap 'exit 0' TERM; while :; do sleep 0.1; done";

/// `log_receivers.py` in the site's network.
struct Receivers {
    process: Child,
    told: Arc<Mutex<Vec<Value>>>,
}

impl Receivers {
    fn start(site: &Site, folder: &Path) -> Receivers {
        let mut process = site
            .command("python3")
            .args(["-c", RECEIVERS, "all"])
            .arg(folder)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(process.stdout.take().unwrap());
        let told = Arc::<Mutex<Vec<Value>>>::default();
        let into = Arc::clone(&told);
        // It ends with the process.
        std::thread::spawn(move || {
            for line in said.lines().map_while(Result::ok) {
                let event = serde_json::from_str(&line).unwrap();
                into.lock().unwrap().push(event);
            }
        });
        let receivers = Receivers { process, told };
        receivers.wait("ready", |_| true);
        receivers
    }

    fn at(&self, name: &str) -> Vec<Value> {
        let told = self.told.lock().unwrap();
        told.iter().filter(|event| event["at"] == name).cloned().collect()
    }

    /// Waits for something that a receiver got.
    fn wait(&self, name: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let look = || self.at(name).into_iter().find(&is_it);
        wait_for(PATIENCE, look)
            .unwrap_or_else(|| panic!("{name} got {:#?}", self.at(name)))
    }

    /// The record of a line, as Fluentd got it.
    fn record(&self, name: &str, log: &str) -> Value {
        self.wait(name, |event| event["record"]["log"] == log)
    }

    /// The message with a line.
    fn message(&self, name: &str, line: &str) -> String {
        let has = |event: &Value| {
            event["message"].as_str().is_some_and(|it| it.contains(line))
        };
        self.wait(name, has)["message"].as_str().unwrap().to_owned()
    }
}

impl Drop for Receivers {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn container(name: &str, driver: &str, options: Value) -> Value {
    json!({
        "name": name, "image": IMAGE, "memory": 16, "cpu": 1,
        "environment": [{"name": "COLOUR", "value": "blue"}],
        "dockerLabels": {"team": "red"},
        "command": [
            "/bin/sh", "-c",
            format!("echo out-{name}; echo err-{name} >&2; {STAY}"),
        ],
        "logConfiguration": {"logDriver": driver, "options": options},
    })
}

/// The containers of a running task by name.
fn containers(task: &Value) -> impl Fn(&str) -> Value + '_ {
    |name| {
        let all = task["containers"].as_array().unwrap();
        all.iter().find(|it| it["name"] == name).unwrap().clone()
    }
}

/// A file with a name of this end, below a directory.
fn find(dir: &Path, end: &str) -> Option<PathBuf> {
    for entry in std::fs::read_dir(dir).ok()?.flatten() {
        let path = entry.path();
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_dir && let Some(found) = find(&path, end) {
            return Some(found);
        }
        if path.to_string_lossy().ends_with(end) {
            return Some(path);
        }
    }
    None
}

/// Containers of the driver `fluentd`.
fn to_fluentd(folder: &Path) -> Vec<Value> {
    let socket = format!("unix://{}/fluentd", folder.display());
    let extras = json!({
        "fluentd-address": "127.0.0.1:24224", "labels": "team",
        "env": "COLOUR", "tag": "{{.Name}}.x",
        "fluentd-sub-second-precision": "true",
    });
    let acknowledged = json!({
        "fluentd-address": "tcp://127.0.0.1:24225",
        "fluentd-request-ack": "true", "fluentd-retry-wait": "100",
    });
    vec![
        container("plain", "fluentd", extras),
        container("ack", "fluentd", acknowledged),
        container("unix", "fluentd", json!({"fluentd-address": socket})),
    ]
}

/// Containers of the driver `syslog`.
fn to_syslog(folder: &Path) -> Vec<Value> {
    let socket = format!("unixgram://{}/syslog", folder.display());
    vec![
        container(
            "stcp",
            "syslog",
            json!({
                "syslog-address": "tcp://127.0.0.1:1514", "tag": "stcp",
                "syslog-format": "rfc5424micro", "syslog-facility": "local3",
            }),
        ),
        container(
            "sudp",
            "syslog",
            json!({
                "syslog-address": "udp://127.0.0.1:1514", "tag": "sudp",
                "syslog-format": "rfc3164",
            }),
        ),
        container(
            "sunix",
            "syslog",
            json!({
                "syslog-address": socket,
                "tag": "sunix",
            }),
        ),
    ]
}

/// Containers of the driver `gelf`.
fn to_gelf() -> Vec<Value> {
    vec![
        container(
            "gudp",
            "gelf",
            json!({"gelf-address": "udp://127.0.0.1:12201", "env": "COLOUR"}),
        ),
        container(
            "gzlib",
            "gelf",
            json!({
                "gelf-address": "udp://127.0.0.1:12202",
                "gelf-compression-type": "zlib",
            }),
        ),
        container(
            "gtcp",
            "gelf",
            json!({"gelf-address": "tcp://127.0.0.1:12201"}),
        ),
    ]
}

fn check_fluentd(receivers: &Receivers, shown: impl Fn(&str) -> Value) {
    let out = receivers.record("fluentd", "out-plain");
    assert_eq!(out["tag"], "plain.x");
    assert_eq!(out["time"].as_array().unwrap().len(), 2, "{out}");
    let record = &out["record"];
    assert_eq!(record["container_id"], shown("plain")["runtimeId"]);
    assert_eq!(record["container_name"], "/plain");
    assert_eq!(record["source"], "stdout");
    assert_eq!(
        (&record["team"], &record["COLOUR"]),
        (&json!("red"), &json!("blue"))
    );
    let err = receivers.record("fluentd", "err-plain");
    assert_eq!(err["record"]["source"], "stderr");
    let id = shown("unix")["runtimeId"].as_str().unwrap().to_owned();
    let out = receivers.record("unix", "out-unix");
    assert_eq!(out["tag"], json!(id[..12]));
    assert!(out["time"].is_u64() && out["chunk"].is_null(), "{out}");
    // What was not acknowledged has come again.
    receivers.wait("ack", |event| event["dropped"].is_string());
    for line in ["out-ack", "err-ack"] {
        let event = receivers.record("ack", line);
        assert!(event["chunk"].is_string(), "{event}");
    }
}

fn check_syslog(receivers: &Receivers) {
    // Facility and severity make the number.
    let said = receivers.message("syslog-tcp", "out-stcp");
    assert!(said.starts_with("<158>1 2"), "{said}");
    assert!(said.contains(" stcp ") && said.ends_with(" - out-stcp"), "{said}");
    let said = receivers.message("syslog-tcp", "err-stcp");
    assert!(said.starts_with("<155>1 "), "{said}");
    let said = receivers.message("syslog-udp", "out-sudp");
    assert!(said.starts_with("<30>") && said.contains(" sudp["), "{said}");
    let said = receivers.message("syslog-unix", "err-sunix");
    assert!(said.starts_with("<27>") && said.contains(" sunix["), "{said}");
}

fn check_gelf(receivers: &Receivers, shown: impl Fn(&str) -> Value) {
    for (at, name) in
        [("gelf-udp", "gudp"), ("gelf-zlib", "gzlib"), ("gelf-tcp", "gtcp")]
    {
        for (line, level) in [("out", 6), ("err", 3)] {
            let line = format!("{line}-{name}");
            let text = format!("\"short_message\":\"{line}\"");
            let said = receivers.message(at, &text);
            let message: Value = serde_json::from_str(&said).unwrap();
            assert_eq!(message["version"], "1.1");
            assert_eq!(message["level"], level);
            let id = &shown(name)["runtimeId"];
            assert_eq!(message["_container_id"], *id);
            assert_eq!(message["_image_name"], IMAGE);
        }
    }
    let said = receivers.message("gelf-udp", "\"level\":6");
    assert!(said.contains("\"_COLOUR\":\"blue\""), "{said}");
}

#[test]
fn receivers_get_what_containers_say() {
    let mut site = Site::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let receivers = Receivers::start(&site, folder.path());
    let folder = folder.path();
    let all = [to_fluentd(folder), to_syslog(folder), to_gelf()].concat();
    let definition = json!({
        "family": "drivers", "networkMode": "bridge",
        "containerDefinitions": all,
    });
    let arn = site.start_task(definition, "EC2").unwrap();
    let task = site.wait_task(&arn, "RUNNING").unwrap();
    check_fluentd(&receivers, containers(&task));
    check_syslog(&receivers);
    check_gelf(&receivers, containers(&task));
    site.stop_task(&arn).unwrap();
    drop(receivers);
    site.finish().unwrap();
}

#[test]
fn without_a_receiver_a_container_starts_only_if_it_may() {
    let mut site = Site::start().unwrap();
    let options = json!({"fluentd-address": "127.0.0.1:24224"});
    let definition = json!({
        "family": "strict", "networkMode": "bridge",
        "containerDefinitions": [container("app", "fluentd", options)],
    });
    let arn = site.start_task(definition, "EC2").unwrap();
    let task = site.wait_task(&arn, "STOPPED").unwrap();
    let why = task["containers"][0]["reason"].as_str().unwrap();
    let expected = "CannotStartContainerError: failed to initialize logging \
                    driver: dial tcp 127.0.0.1:24224";
    assert!(why.starts_with(expected), "{why}");

    // One that may be away gets all of it when it is there.
    let options = json!({
        "fluentd-address": "127.0.0.1:24224", "fluentd-async": "true",
        "fluentd-retry-wait": "100",
    });
    let definition = json!({
        "family": "patient", "networkMode": "bridge",
        "containerDefinitions": [container("app", "fluentd", options)],
    });
    let arn = site.start_task(definition, "EC2").unwrap();
    site.wait_task(&arn, "RUNNING").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let receivers = Receivers::start(&site, folder.path());
    receivers.record("fluentd", "out-app");
    receivers.record("fluentd", "err-app");
    site.stop_task(&arn).unwrap();
    drop(receivers);
    site.finish().unwrap();
}

#[test]
fn files_have_lines_as_docker_writes_them() {
    let mut site = Site::start().unwrap();
    let options = json!({"max-size": "1m", "max-file": "2", "tag": "t", "labels": "team"});
    let definition = json!({
        "family": "files", "networkMode": "bridge",
        "containerDefinitions": [container("kept", "json-file", options)],
    });
    let arn = site.start_task(definition, "EC2").unwrap();
    site.wait_task(&arn, "RUNNING").unwrap();
    let data = site.dir().join("data");
    let text = wait_for(PATIENCE, || {
        let path = find(&data, "/kept.json.log")?;
        let text = std::fs::read_to_string(path).ok()?;
        (text.lines().count() == 2).then_some(text)
    });
    let text = text.unwrap_or_else(|| panic!("{}", site.log()));
    let lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let streams: BTreeSet<(&str, &str)> = lines
        .iter()
        .map(|line| {
            (line["stream"].as_str().unwrap(), line["log"].as_str().unwrap())
        })
        .collect();
    let expected =
        BTreeSet::from([("stdout", "out-kept\n"), ("stderr", "err-kept\n")]);
    assert_eq!(streams, expected);
    let line = &lines[0];
    assert_eq!(line["attrs"], json!({"tag": "t", "team": "red"}), "{line}");
    assert!(line["time"].as_str().unwrap().ends_with('Z'), "{line}");
    site.stop_task(&arn).unwrap();

    // Docker's driver `none` is no driver of ECS's.
    let definition = json!({
        "family": "mute",
        "containerDefinitions": [container("mute", "none", json!({}))],
    });
    let boto = site.boto().unwrap();
    let refused = boto.call("ecs", "register_task_definition", definition);
    assert_eq!(refused.unwrap_err().code, "ClientException");
    site.finish().unwrap();
}

/// A router of the host's Python, which the image does not have, and the
/// volumes that it comes with.
fn router(site: &Site) -> (Value, Vec<Value>) {
    let asked = ["-c", "import sys; print(sys.base_prefix)"];
    let prefix = site.run("python3", &asked).unwrap();
    let prefix = prefix.trim();
    let mut folders =
        vec![("/usr", "/usr"), ("/usr/lib", "/lib"), ("/usr/lib64", "/lib64")];
    if prefix != "/usr" {
        folders.push((prefix, prefix));
    }
    let name = |at: usize| format!("folder{at}");
    let numbered = || folders.iter().enumerate();
    let mounts: Vec<Value> = numbered()
        .map(|(at, (_, to))| {
            json!({
                "sourceVolume": name(at), "containerPath": to,
                "readOnly": true,
            })
        })
        .collect();
    let volumes = numbered()
        .map(|(at, (from, _))| {
            json!({"name": name(at), "host": {"sourcePath": from}})
        })
        .collect();
    let python = format!("{prefix}/bin/python3");
    let router = json!({
        "name": "router", "image": IMAGE, "memory": 64,
        "command": [python, "-c", RECEIVERS, "router"],
        "mountPoints": mounts,
        "firelensConfiguration": {"type": "fluentbit"},
        "logConfiguration": {"logDriver": "awslogs", "options": {
            "awslogs-group": "/router", "awslogs-region": "us-east-1",
            "awslogs-stream-prefix": "own", "awslogs-create-group": "true",
        }},
    });
    (router, volumes)
}

#[test]
fn a_log_router_gets_records_with_the_tasks_names() {
    let mut site = Site::start().unwrap();
    let options = json!({"Name": "stdout", "Format": "json_lines"});
    let (router, volumes) = router(&site);
    let definition = json!({
        "family": "routed", "networkMode": "bridge", "volumes": volumes,
        "containerDefinitions": [
            container("app", "awsfirelens", options), router,
        ],
    });
    let arn = site.start_task(definition, "EC2").unwrap();
    let task = site.wait_task(&arn, "RUNNING").unwrap();
    let shown = containers(&task);
    let mut last = vec![];
    let mut records = || {
        let own = site.messages("/router", "own/router/").unwrap_or_default();
        last.clone_from(&own);
        let events = own
            .iter()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let events: Vec<Value> = events.collect();
        let of = |log: &str| {
            events.iter().find(|it| it["record"]["log"] == log).cloned()
        };
        let own_words = own.iter().any(|it| it == "a router's own error");
        let is_output = |it: &&Value| {
            it["at"] == "output" && it["Match"] == "app-firelens*"
        };
        let output = events.iter().find(is_output).cloned();
        Some((
            of("out-app")?,
            of("err-app")?,
            output?,
            own_words.then_some(())?,
        ))
    };
    let found = wait_for(PATIENCE, &mut records);
    let Some((out, err, output, ())) = found else {
        panic!("{last:#?}\n{}", site.log());
    };
    let id = arn.rsplit('/').next().unwrap();
    assert_eq!(out["tag"], format!("app-firelens-{id}"));
    assert_eq!(out["time"].as_array().unwrap().len(), 2, "{out}");
    let definition = task["taskDefinitionArn"].as_str().unwrap();
    let expected = json!({
        "log": "out-app", "source": "stdout",
        "container_name": "/app",
        "container_id": shown("app")["runtimeId"],
        "ecs_cluster": "default", "ecs_task_arn": arn,
        "ecs_task_definition": definition.rsplit('/').next().unwrap(),
    });
    assert_eq!(out["record"], expected);
    assert_eq!(err["record"]["source"], "stderr");
    assert_eq!(output["Name"], "stdout");
    assert_eq!(output["Format"], "json_lines");
    site.stop_task(&arn).unwrap();
    site.finish().unwrap();
}
