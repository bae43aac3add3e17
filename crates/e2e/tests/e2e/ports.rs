//! Bridge mode: containers reached through ports of the host.

use minato_e2e::Site;
use serde_json::{Value, json};

fn server(family: &str, host_port: u16) -> Value {
    json!({
        "family": family,
        "networkMode": "bridge",
        "containerDefinitions": [{
            "name": "web",
            "image": minato_e2e::IMAGE,
            "cpu": 16,
            "memory": 32,
            "command": [
                "/bin/sh", "-c",
                format!("mkdir /www; echo {family} > /www/index.html; \
                         exec httpd -f -p 80 -h /www")
            ],
            "portMappings": [{ "containerPort": 80, "hostPort": host_port }],
            "stopTimeout": 2
        }]
    })
}

/// The one host port of a running task, as DescribeTasks shows it.
fn host_port(task: &Value) -> u64 {
    let bindings = task["containers"][0]["networkBindings"].as_array().unwrap();
    assert_eq!(bindings.len(), 1, "{task}");
    assert_eq!(bindings[0]["containerPort"], 80);
    assert_eq!(bindings[0]["protocol"], "tcp");
    bindings[0]["hostPort"].as_u64().unwrap()
}

fn page(site: &Site, port: u64) -> String {
    let url = format!("http://127.0.0.1:{port}/");
    let retry = ["--retry", "20", "--retry-all-errors", "--retry-delay", "1"];
    let args = [&["-sS", "-m", "20", &url], &retry[..]].concat();
    site.run("curl", &args).unwrap().trim().to_owned()
}

#[test]
fn ports_of_the_host_lead_to_containers() {
    let mut site = Site::start().unwrap();
    let fixed = site.start_task(server("fixed", 8088), "EC2").unwrap();
    let dynamic = site.start_task(server("dynamic", 0), "EC2").unwrap();
    let task = site.wait_task(&fixed, "RUNNING").unwrap();
    assert_eq!(host_port(&task), 8088);
    assert_eq!(page(&site, 8088), "fixed");
    let task = site.wait_task(&dynamic, "RUNNING").unwrap();
    let port = host_port(&task);
    assert!((32768..=65535).contains(&port), "{port}");
    assert_eq!(page(&site, port), "dynamic");

    // The port is the first task's as long as that runs.
    let refused = site.run_task(server("second", 8088), "EC2").unwrap();
    assert_eq!(refused["tasks"], json!([]));
    assert_eq!(refused["failures"][0]["reason"], "RESOURCE:PORTS");
    site.stop_task(&fixed).unwrap();
    let second = site.start_task(server("second", 8088), "EC2").unwrap();
    site.wait_task(&second, "RUNNING").unwrap();
    assert_eq!(page(&site, 8088), "second");
    site.finish().unwrap();
}

#[test]
fn tasks_with_their_own_addresses_reach_each_other() {
    let mut site = Site::start().unwrap();
    let mut serving = server("serving", 80);
    serving["networkMode"] = json!("awsvpc");
    let serving = site.start_task(serving, "EC2").unwrap();
    let task = site.wait_task(&serving, "RUNNING").unwrap();
    let interface = &task["containers"][0]["networkInterfaces"][0];
    let address = interface["privateIpv4Address"].as_str().unwrap();
    // Another task of another network mode gets there too.
    for mode in ["awsvpc", "bridge"] {
        let asking = json!({
            "family": "asking",
            "networkMode": mode,
            "containerDefinitions": [{
                "name": "ask",
                "image": minato_e2e::IMAGE,
                "cpu": 16,
                "memory": 32,
                "command": [
                    "/bin/sh", "-c",
                    format!("n=0; until wget -q -O - http://{address}/; do \
                             n=$((n+1)); [ $n -lt 50 ] || exit 5; \
                             sleep 0.1; done")
                ]
            }]
        });
        let asking = site.start_task(asking, "EC2").unwrap();
        let task = site.wait_task(&asking, "STOPPED").unwrap();
        assert_eq!(task["containers"][0]["exitCode"], 0, "{mode}: {task}");
        let said = site.minato(&["logs", &asking]).unwrap();
        assert!(said.contains("serving"), "{mode}: {said}");
    }
    site.finish().unwrap();
}
