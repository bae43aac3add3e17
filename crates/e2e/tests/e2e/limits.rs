//! Limits and Linux parameters: what a container sees of them, and what a
//! host without the means is not asked for.

use minato_e2e::{IMAGE, Site};
use serde_json::{Value, json};

/// Prints a line for each setting. Version 1 of cgroups counts memory and
/// swap together, version 2 swap alone; kernels need not count swap at all.
const LOOK: &str = r#"
echo shm $(grep ' /dev/shm ' /proc/mounts | grep -o 'size=[0-9a-z]*')
echo tmpfs $(grep ' /scratch ' /proc/mounts | cut -d' ' -f3) \
    $(grep ' /scratch ' /proc/mounts | grep -o 'size=[0-9a-z]*') \
    $(grep ' /scratch ' /proc/mounts | grep -o noexec)
echo device $(head -c 2 /dev/mine | tr '\0' 0)
echo other-device $(head -c 1 /dev/full 2>/dev/null | wc -c) $(test -e /dev/kmsg || echo none)
echo somaxconn $(cat /proc/sys/net/core/somaxconn)
echo shmmni $(cat /proc/sys/kernel/shmmni)
echo nofile $(ulimit -n) $(ulimit -Hn)
echo core $(ulimit -c) $(ulimit -Hc)
cd /sys/fs/cgroup
echo memory $(cat memory/memory.limit_in_bytes 2>/dev/null || cat memory.max)
if test -e memory/memory.memsw.limit_in_bytes; then
    echo swap $(cat memory/memory.memsw.limit_in_bytes)
    echo swappiness $(cat memory/memory.swappiness)
elif test -e memory.swap.max; then
    echo swap-alone $(cat memory.swap.max)
fi
"#;

fn container(name: &str, command: &str) -> Value {
    json!({
        "name": name, "image": IMAGE, "cpu": 16, "memory": 32,
        "command": ["/bin/sh", "-c", command],
    })
}

/// One task with everything.
fn everything() -> Value {
    let mut look = container("look", LOOK);
    look["ulimits"] = json!([
        {"name": "nofile", "softLimit": 1234, "hardLimit": 2345},
        {"name": "core", "softLimit": 0, "hardLimit": 0},
    ]);
    look["systemControls"] = json!([
        {"namespace": "net.core.somaxconn", "value": "77"},
        {"namespace": "kernel.shmmni", "value": "99"},
    ]);
    look["linuxParameters"] = json!({
        "sharedMemorySize": 100,
        "tmpfs": [{
            "containerPath": "/scratch", "size": 3,
            "mountOptions": ["noexec"],
        }],
        "devices": [{
            "hostPath": "/dev/zero", "containerPath": "/dev/mine",
            "permissions": ["read"],
        }],
        "maxSwap": 16,
        "swappiness": 11,
    });
    json!({
        "family": "limits", "networkMode": "bridge",
        "containerDefinitions": [look],
    })
}

#[test]
fn a_container_sees_every_limit_it_was_given() {
    let mut site = Site::start().unwrap();
    let arn = site.start_task(everything(), "EC2").unwrap();
    let task = site.wait_task(&arn, "STOPPED").unwrap();
    let said = site.minato(&["logs", &arn]).unwrap();
    assert_eq!(task["containers"][0]["exitCode"], 0, "{task} {said}");
    let line = |name: &str| {
        let marker = format!("{name} ");
        let mut found = said.lines().filter_map(|line| {
            let at = line.find(&marker)?;
            Some(line[at + marker.len()..].trim().to_owned())
        });
        found.next()
    };
    for (name, expected) in [
        ("shm", "size=102400k"),
        ("tmpfs", "tmpfs size=3072k noexec"),
        ("device", "00"),
        ("other-device", "1 none"),
        ("somaxconn", "77"),
        ("shmmni", "99"),
        ("nofile", "1234 2345"),
        ("core", "0 0"),
        ("memory", &(32 << 20).to_string()),
    ] {
        assert_eq!(line(name).as_deref(), Some(expected), "{name}: {said}");
    }
    // Where the kernel counts swap.
    if let Some(both) = line("swap") {
        assert_eq!(both, ((32 + 16) << 20).to_string(), "{said}");
        assert_eq!(line("swappiness").as_deref(), Some("11"), "{said}");
    }
    if let Some(swap) = line("swap-alone") {
        assert_eq!(swap, (16 << 20).to_string(), "{said}");
    }
    site.finish().unwrap();
}

#[test]
fn what_a_mode_or_launch_type_cannot_have_is_not_registered() {
    let mut site = Site::start().unwrap();
    let mut refused = |change: &dyn Fn(&mut Value), expected: &str| {
        let mut definition = json!({
            "family": "refused",
            "containerDefinitions": [container("c", "true")],
        });
        change(&mut definition);
        let answer = site.call("ecs", "register_task_definition", definition);
        let error = format!("{:#}", answer.unwrap_err());
        assert!(error.contains(expected), "{expected}: {error}");
        assert!(error.contains("ClientException"), "{error}");
    };
    let control = |name: &str| json!([{"namespace": name, "value": "1"}]);
    refused(
        &|d| {
            d["networkMode"] = json!("host");
            d["containerDefinitions"][0]["systemControls"] =
                control("net.core.somaxconn");
        },
        "networkMode=host",
    );
    refused(
        &|d| {
            d["ipcMode"] = json!("host");
            d["containerDefinitions"][0]["systemControls"] =
                control("kernel.shmmni");
        },
        "ipcMode=host",
    );
    refused(
        &|d| {
            d["containerDefinitions"][0]["systemControls"] =
                control("kernel.panic");
        },
        "kernel.panic",
    );
    for (setting, value) in [
        ("maxSwap", json!(16)),
        ("swappiness", json!(10)),
        ("sharedMemorySize", json!(16)),
    ] {
        refused(
            &|d| {
                d["networkMode"] = json!("awsvpc");
                d["requiresCompatibilities"] = json!(["FARGATE"]);
                d["cpu"] = json!("256");
                d["memory"] = json!("512");
                d["containerDefinitions"][0]["linuxParameters"] =
                    json!({setting: value});
            },
            setting,
        );
    }
    site.finish().unwrap();
}

#[test]
fn a_host_without_gpus_is_not_asked_for_one() {
    let mut site = Site::start().unwrap();
    let mut wants = container("wants", "true");
    wants["resourceRequirements"] = json!([{"type": "GPU", "value": "1"}]);
    let definition = json!({"family": "gpu", "containerDefinitions": [wants]});
    let refused = site.run_task(definition, "EC2").unwrap();
    assert_eq!(refused["tasks"], json!([]), "{refused}");
    assert_eq!(refused["failures"][0]["reason"], "RESOURCE:GPU", "{refused}");
    site.finish().unwrap();
}

/// Where the kernel cannot make packets late or lose them, a task that wants
/// to inject faults is not placed; where it can, it does.
#[test]
fn faults_are_injected_where_the_kernel_can_and_nowhere_else() {
    let mut site = Site::start().unwrap();
    let wanted = "ecs.capability.fault-injection";
    let ask = r#"
        wget -q -O - --post-data '{"Port": 9, "Protocol": "tcp",
            "TrafficType": "egress"}' \
            $ECS_AGENT_URI/fault/v1/network-blackhole-port/start"#;
    let definition = json!({
        "family": "faulty", "networkMode": "awsvpc",
        "enableFaultInjection": true,
        "containerDefinitions": [container("c", ask)],
    });
    let answer = site.run_task(definition, "EC2").unwrap();
    let hosts = site
        .call("ecs", "list_container_instances", json!({"cluster": "default"}))
        .unwrap();
    let input = json!({
        "cluster": "default",
        "containerInstances": hosts["containerInstanceArns"],
    });
    let hosts =
        site.call("ecs", "describe_container_instances", input).unwrap();
    let attributes = &hosts["containerInstances"][0]["attributes"];
    let mut attributes = attributes.as_array().unwrap().iter();
    if attributes.any(|attribute| attribute["name"] == wanted) {
        let arn = answer["tasks"][0]["taskArn"].as_str().unwrap().to_owned();
        site.wait_task(&arn, "STOPPED").unwrap();
        let said = site.minato(&["logs", &arn]).unwrap();
        assert!(said.contains(r#"{"Status":"running"}"#), "{said}");
    } else {
        let failure = &answer["failures"][0];
        assert_eq!(answer["tasks"], json!([]), "{answer}");
        assert_eq!(failure["reason"], "ATTRIBUTE", "{answer}");
        let detail = failure["detail"].as_str().unwrap_or(wanted);
        assert!(detail.contains(wanted), "{answer}");
    }
    site.finish().unwrap();
}

/// A server that says which port was called, as the proxy; the application
/// calls an address where nobody is, and is answered by it.
#[test]
fn an_application_behind_a_proxy_calls_through_it() {
    let mut site = Site::start().unwrap();
    let mut proxy = container(
        "proxy",
        "mkdir /tmp/www && echo proxied > /tmp/www/index.html && \
         exec httpd -f -p 15001 -h /tmp/www",
    );
    proxy["user"] = json!("1337");
    proxy["linuxParameters"] =
        json!({"tmpfs": [{"containerPath": "/tmp", "size": 1}]});
    proxy["essential"] = json!(false);
    proxy["stopTimeout"] = json!(2);
    let mut app = container(
        "app",
        "for i in $(seq 50); do \
             wget -q -O - http://203.0.113.9/ && break; sleep 0.2; \
         done; \
         wget -q -O - $ECS_CONTAINER_METADATA_URI_V4 | head -c 11",
    );
    app["dependsOn"] =
        json!([{"containerName": "proxy", "condition": "START"}]);
    let property =
        |name: &str, value: &str| json!({"name": name, "value": value});
    let definition = json!({
        "family": "meshed", "networkMode": "awsvpc",
        "containerDefinitions": [proxy, app],
        "proxyConfiguration": {
            "type": "APPMESH", "containerName": "proxy",
            "properties": [
                property("IgnoredUID", "1337"),
                property("AppPorts", "8080"),
                property("ProxyIngressPort", "15000"),
                property("ProxyEgressPort", "15001"),
            ],
        },
    });
    let arn = site.start_task(definition, "EC2").unwrap();
    site.wait_task(&arn, "STOPPED").unwrap();
    let said = site.minato(&["logs", &arn]).unwrap();
    assert!(said.contains("proxied"), "{said}");
    // The task endpoint is called directly.
    assert!(said.contains("{\"Container"), "{said}");
    site.finish().unwrap();
}
