//! Bridge mode: containers reached through ports of the host.

use std::io::{BufRead, BufReader};

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

/// A server of one page on each of three ports.
fn servers(family: &str, mode: &str) -> Value {
    let serve = "for port in 8000 8001 8002; do
            mkdir -p /www/$port; echo page $port > /www/$port/index.html
            httpd -p $port -h /www/$port
        done
        trap 'exit 0' TERM; while :; do sleep 0.1; done";
    json!({
        "family": family,
        "networkMode": mode,
        "containerDefinitions": [{
            "name": "web", "image": minato_e2e::IMAGE,
            "cpu": 16, "memory": 32,
            "command": ["/bin/sh", "-c", serve],
            "portMappings": [{ "containerPortRange": "8000-8002" }],
        }]
    })
}

#[test]
fn a_range_of_ports_leads_to_a_range_of_the_host() {
    let mut site = Site::start().unwrap();
    let mut taken = std::collections::BTreeSet::new();
    for family in ["first", "second"] {
        let arn = site.start_task(servers(family, "bridge"), "EC2").unwrap();
        let task = site.wait_task(&arn, "RUNNING").unwrap();
        let bindings = &task["containers"][0]["networkBindings"];
        let range = bindings[0]["hostPortRange"].as_str().unwrap().to_owned();
        let expected = json!([{
            "bindIP": "0.0.0.0", "protocol": "tcp",
            "containerPortRange": "8000-8002", "hostPortRange": range,
        }]);
        assert_eq!(*bindings, expected);
        let (first, last) = range.split_once('-').unwrap();
        let (first, last): (u64, u64) =
            (first.parse().unwrap(), last.parse().unwrap());
        assert_eq!(last - first, 2, "{range}");
        assert!(first >= 32768, "{range}");
        for (port, container) in (first..=last).zip(8000..) {
            assert_eq!(page(&site, port), format!("page {container}"));
            assert!(taken.insert(port), "{port} is the first task's");
        }
    }

    // Where a task has its own address, its ports are the range.
    let own = site.start_task(servers("own", "awsvpc"), "EC2").unwrap();
    let task = site.wait_task(&own, "RUNNING").unwrap();
    let container = &task["containers"][0];
    let bindings = container["networkBindings"].as_array();
    assert!(bindings.is_none_or(Vec::is_empty), "{container}");
    let interface = &container["networkInterfaces"][0];
    let address = interface["privateIpv4Address"].as_str().unwrap();
    let url = format!("http://{address}:8002/");
    let retry = ["--retry", "20", "--retry-all-errors", "--retry-delay", "1"];
    let args = [&["-sS", "-m", "20", &url], &retry[..]].concat();
    assert_eq!(site.run("curl", &args).unwrap().trim(), "page 8002");
    site.finish().unwrap();
}

/// Answers every datagram on a port, in the network of a container.
const ECHO: &str = "import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('0.0.0.0', int(sys.argv[1])))
print('ready', flush=True)
while True:
    said, who = s.recvfrom(100)
    s.sendto(b'echo of ' + said, who)
";
/// Asks until there is an answer, for ten seconds.
const ASK: &str = "import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(0.5)
for _ in range(20):
    s.sendto(b'hello', ('127.0.0.1', int(sys.argv[1])))
    try:
        print(s.recv(100).decode())
        break
    except OSError:
        pass
";

/// The server in a container's network; ends when it is dropped.
struct Echo(std::process::Child);

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Echo {
    /// Beside the process of the site that has this word.
    fn start(site: &Site, word: &str, port: u16) -> Echo {
        let is_it = |pid: &&i32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline"));
            let line = line.unwrap_or_default();
            line.split(|byte| *byte == 0).any(|it| it == word.as_bytes())
        };
        let processes = site.traces().unwrap().processes();
        let pid = processes.iter().find(is_it).unwrap().to_string();
        let mut child = site
            .command("nsenter")
            .args(["-t", &pid, "-n", "python3", "-c", ECHO])
            .arg(port.to_string())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let said = child.stdout.take().unwrap();
        let echo = Echo(child);
        BufReader::new(said).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        echo
    }
}

#[test]
fn udp_ports_of_the_host_lead_to_containers() {
    let mut site = Site::start().unwrap();
    let waiting = json!({
        "family": "udp",
        "networkMode": "bridge",
        "containerDefinitions": [{
            "name": "dns", "image": minato_e2e::IMAGE,
            "cpu": 16, "memory": 32, "stopTimeout": 2,
            "command": ["/bin/sh", "-c", "while :; do sleep 1; done", "of-udp"],
            "portMappings": [
                {"containerPort": 5300, "hostPort": 5353, "protocol": "udp"},
                {"containerPort": 5300, "hostPort": 5353, "protocol": "tcp"},
            ],
        }]
    });
    let arn = site.start_task(waiting, "EC2").unwrap();
    let task = site.wait_task(&arn, "RUNNING").unwrap();
    let mut bindings = task["containers"][0]["networkBindings"].clone();
    let shown = bindings.as_array_mut().unwrap();
    shown.sort_by_key(|binding| binding["protocol"].to_string());
    let binding = |protocol: &str| {
        json!({"bindIP": "0.0.0.0", "containerPort": 5300, "hostPort": 5353,
               "protocol": protocol})
    };
    assert_eq!(bindings, json!([binding("tcp"), binding("udp")]));
    let _echo = Echo::start(&site, "of-udp", 5300);
    let said = site.run("python3", &["-c", ASK, "5353"]).unwrap();
    assert_eq!(said.trim(), "echo of hello");
    site.finish().unwrap();
}
