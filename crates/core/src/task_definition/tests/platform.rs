//! Rules about logs, health, the kernel and launch types.

use serde_json::json;

use super::*;

#[test]
fn log_drivers() {
    let log = |driver: &str, options: Value| {
        app(json!({"logConfiguration":
            {"logDriver": driver, "options": options}}))
    };
    let both = json!({"awslogs-group": "g", "awslogs-region": "r"});
    good(log("awslogs", both.clone()));
    bad(
        log("awslogs", json!({})),
        "Log driver awslogs requires options: awslogs-group, awslogs-region",
    );
    bad(
        log("awslogs", patched(both.clone(), json!({"awslogs-stream": "s"}))),
        "Log driver awslogs disallows options: awslogs-stream",
    );
    bad(
        log(
            "awslogs",
            patched(
                both.clone(),
                json!({"awslogs-datetime-format": "%Y",
                    "awslogs-multiline-pattern": "^x"}),
            ),
        ),
        "cannot be used together",
    );
    bad(log("awslogs", patched(both, json!({"mode": "x"}))), "'mode'");
    bad(log("splunk", json!({"splunk-url": "u"})), "splunk-token");
    good(log("syslog", json!({"tag": "x", "mode": "non-blocking"})));
    bad(app(json!({"logConfiguration": {}})), "'logDriver'");
    bad(log("awsfirelens", json!({})), "must have a firelensConfiguration");
}

#[test]
fn firelens() {
    let router = |config: Value, more: Value| {
        let log = json!({"name": "log", "image": "f", "memory": 4,
            "firelensConfiguration": config});
        ec2(json!({"containerDefinitions": [
            {"logConfiguration": {"logDriver": "awsfirelens",
                "options": {"Name": "stdout"}}},
            patched(log, more)]}))
    };
    let kind = json!({"type": "fluentbit"});
    let registered = good(router(kind.clone(), json!({})));
    let names: Vec<_> = registered
        .requires_attributes
        .unwrap()
        .into_iter()
        .map(|attribute| attribute.name.unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "com.amazonaws.ecs.capability.logging-driver.awsfirelens",
            "ecs.capability.firelens.fluentbit",
        ]
    );
    bad(router(json!({}), json!({})), "one of [fluentd, fluentbit]");
    let with = |options: Value| {
        router(json!({"type": "fluentd", "options": options}), json!({}))
    };
    good(with(json!({"config-file-type": "file",
        "config-file-value": "/x"})));
    bad(with(json!({"config-file-type": "file"})), "given together");
    bad(
        with(json!({"config-file-type": "x", "config-file-value": "/x"})),
        "one of [s3, file]",
    );
    bad(with(json!({"enable-ecs-log-metadata": "yes"})), "true or false");
    bad(
        app(json!({"firelensConfiguration": kind})),
        "at least one container has to be configured with the awsfirelens",
    );
    bad(
        patched(
            router(kind.clone(), json!({})),
            json!({"containerDefinitions": [
                {"firelensConfiguration": kind}]}),
        ),
        "Only one container",
    );
}

#[test]
fn health_and_restarts() {
    let check = |check: Value| {
        let base = json!({"command": ["CMD-SHELL", "true"]});
        app(json!({"healthCheck": patched(base, check)}))
    };
    good(check(json!({"interval": 5, "timeout": 60, "retries": 10,
        "startPeriod": 300})));
    for (setting, value) in [
        ("interval", 4),
        ("interval", 301),
        ("timeout", 1),
        ("timeout", 61),
        ("retries", 0),
        ("retries", 11),
        ("startPeriod", -1),
        ("startPeriod", 301),
    ] {
        bad(check(json!({setting: value})), setting);
    }
    for command in [json!([]), json!(["CMD"]), json!(["curl", "x"])] {
        bad(
            app(json!({"healthCheck": {"command": command}})),
            "must begin with CMD",
        );
    }
    for command in [
        json!(["NONE"]),
        json!(["CMD", "a", "b"]),
        json!(["CMD-SHELL", "test", "-e", "/up"]),
    ] {
        good(app(json!({"healthCheck": {"command": command}})));
    }
    bad(app(json!({"stopTimeout": -1})), "Invalid 'stopTimeout'");
    good(app(json!({"stopTimeout": 3600})));
    let policy = |policy: Value| app(json!({"restartPolicy": policy}));
    bad(policy(json!({})), "'enabled' should not be null");
    bad(
        policy(json!({"enabled": true, "restartAttemptPeriod": 59})),
        "between 60 and 1800",
    );
    let codes: Vec<i32> = (0..51).collect();
    bad(
        policy(json!({"enabled": true, "ignoredExitCodes": codes})),
        "at most 50",
    );
}

#[test]
fn linux() {
    let linux = |p: Value| app(json!({"linuxParameters": p}));
    good(linux(json!({
        "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]},
        "sharedMemorySize": 64, "maxSwap": 0, "swappiness": 60,
        "tmpfs": [{"containerPath": "/run", "size": 1}],
        "devices": [{"hostPath": "/dev/fuse"}],
    })));
    bad(
        linux(json!({"capabilities": {"add": ["FLY"]}})),
        "'FLY' is not a capability",
    );
    bad(linux(json!({"sharedMemorySize": 0})), "'sharedMemorySize'");
    bad(linux(json!({"maxSwap": -1})), "'maxSwap'");
    bad(linux(json!({"swappiness": 101})), "'swappiness'");
    bad(linux(json!({"tmpfs": [{"containerPath": "/x"}]})), "'tmpfs'");
    let tmpfs = |option: &str| {
        linux(json!({"tmpfs": [
            {"containerPath": "/x", "size": 1, "mountOptions": [option]},
        ]}))
    };
    for option in ["defaults", "exec", "mode=1777", "uid=5", "nostrictatime"] {
        good(tmpfs(option));
    }
    for option in ["", "mode", "mode=", "size=1", "exec,suid", "uid=5,suid"] {
        bad(tmpfs(option), "is not a mount option");
    }
    let mut unlimited = linux(json!({"maxSwap": 5}));
    unlimited["containerDefinitions"][0]["memory"] = Value::Null;
    unlimited["memory"] = json!("512");
    bad(unlimited, "requires 'memory'");
    bad(linux(json!({"devices": [{}]})), "'devices'");
    let limit = |name: &str, soft: i32, hard: i32| json!({"name": name, "softLimit": soft, "hardLimit": hard});
    let limits = |limits: Value| app(json!({"ulimits": limits}));
    good(limits(json!([limit("nofile", 1, 2), limit("core", 1, -1)])));
    bad(limits(json!([limit("nofile", 2, 1)])), "must not be greater");
    bad(limits(json!([limit("nofile", -1, 1)])), "must not be greater");
    bad(limits(json!([limit("nofile", -2, 1)])), "negative");
    bad(
        limits(json!([limit("core", 1, 1), limit("core", 1, 1)])),
        "more than once",
    );
    bad(limits(json!([{"name": "core"}])), "must be specified");
}

#[test]
fn kernel_parameters_and_gpus() {
    let control = |mode: &str, namespace: &str, value: &str| {
        ec2(json!({"networkMode": mode, "containerDefinitions": [
            {"systemControls":
                [{"namespace": namespace, "value": value}]}]}))
    };
    good(control("bridge", "net.core.somaxconn", "1024"));
    good(control("host", "kernel.msgmax", "1"));
    bad(control("host", "net.core.somaxconn", "1"), "networkMode=host");
    bad(control("bridge", "vm.swappiness", "1"), "not a namespaced");
    bad(control("bridge", "kernel.sem", ""), "must have a value");
    bad(
        patched(
            control("bridge", "kernel.sem", "1"),
            json!({"ipcMode": "host"}),
        ),
        "ipcMode=host",
    );
    let gpu = |kind: &str, value: &str| {
        app(json!({"resourceRequirements":
            [{"type": kind, "value": value}]}))
    };
    assert_eq!(demand(&good(gpu("GPU", "2"))).gpus, 2);
    bad(gpu("GPU", "0"), "is not a valid value");
    bad(gpu("InferenceAccelerator", "dev"), "is not a valid value");
    good(patched(
        gpu("InferenceAccelerator", "dev"),
        json!({"inferenceAccelerators":
            [{"deviceName": "dev", "deviceType": "eia1.medium"}]}),
    ));
    bad(
        ec2(json!({"inferenceAccelerators": [{"deviceName": "dev"}]})),
        "should not be null or empty",
    );
}

#[test]
fn the_rest_of_the_task() {
    bad(
        ec2(json!({"enableFaultInjection": true})),
        "networkMode=awsvpc or networkMode=host",
    );
    good(ec2(json!({"enableFaultInjection": true, "networkMode": "host"})));
    let storage =
        |gib: i32| fargate(json!({"ephemeralStorage": {"sizeInGiB": gib}}));
    good(storage(21));
    bad(storage(20), "between 21 GiB and 200 GiB");
    bad(storage(201), "between 21 GiB and 200 GiB");
    bad(
        ec2(json!({"requiresCompatibilities": ["EC2"],
            "ephemeralStorage": {"sizeInGiB": 30}})),
        "Fargate launch type",
    );
    let constraint = |expression: &str| {
        ec2(json!({"placementConstraints":
            [{"type": "memberOf", "expression": expression}]}))
    };
    good(constraint("attribute:stack == prod"));
    bad(constraint("stack == prod"), "unknown subject 'stack'");
    bad(
        ec2(json!({"placementConstraints": [{"expression": "x"}]})),
        "one of [memberOf]",
    );
    bad(app(json!({"credentialSpecs": ["file://x"]})), "'credentialSpecs'");
    bad(
        app(json!({"extraHosts": [{"hostname": "a", "ipAddress": "b"}]})),
        "'extraHosts'",
    );
    let awsvpc = |patch: Value| {
        ec2(json!({"networkMode": "awsvpc", "containerDefinitions": [patch]}))
    };
    bad(awsvpc(json!({"hostname": "h"})), "Hostname is not supported");
    bad(
        awsvpc(json!({"extraHosts":
            [{"hostname": "a", "ipAddress": "10.0.0.1"}]})),
        "Extra hosts are not supported",
    );
    let windows = json!({"runtimePlatform":
        {"operatingSystemFamily": "WINDOWS_SERVER_2022_CORE"}});
    good(ec2(windows.clone()));
    bad(
        patched(ec2(windows.clone()), json!({"pidMode": "host"})),
        "not supported for Windows",
    );
    bad(patched(fargate(json!({})), windows), "No Fargate configuration");
}

#[test]
fn proxies() {
    let proxy = |properties: Value, patch: Value| {
        let base = ec2(json!({"networkMode": "awsvpc", "proxyConfiguration":
            {"type": "APPMESH", "containerName": "app",
             "properties": properties}}));
        patched(base, patch)
    };
    let all: Vec<Value> =
        ["IgnoredUID", "AppPorts", "ProxyIngressPort", "ProxyEgressPort"]
            .into_iter()
            .map(|name| json!({"name": name, "value": "1"}))
            .collect();
    good(proxy(json!(all), json!({})));
    bad(proxy(json!(all[1..]), json!({})), "IgnoredUID");
    bad(proxy(json!(all[..3]), json!({})), "ProxyEgressPort");
    bad(
        proxy(json!(all), json!({"networkMode": "bridge"})),
        "only supported when networkMode=awsvpc",
    );
    bad(
        proxy(
            json!(all),
            json!({"proxyConfiguration": {"containerName": "x"}}),
        ),
        "'x' is not a container",
    );
}

#[test]
fn fargate_has_rules_of_its_own() {
    let registered = good(fargate(json!({})));
    assert_eq!(
        registered.compatibilities.unwrap(),
        [
            minato_wire::ecs::Compatibility::Ec2,
            minato_wire::ecs::Compatibility::Fargate
        ]
    );
    bad(
        fargate(json!({"networkMode": "bridge"})),
        "Fargate only supports network mode ‘awsvpc’.",
    );
    bad(
        fargate(json!({"cpu": null})),
        "Fargate requires that 'cpu' be defined at the task level.",
    );
    bad(
        fargate(json!({"memory": null, "containerDefinitions":
            [{"memory": 4}]})),
        "Fargate requires that 'memory' be defined at the task level.",
    );
    bad(
        fargate(json!({"memory": "4096"})),
        "No Fargate configuration exists for given values.",
    );
    bad(
        fargate(json!({"pidMode": "host"})),
        "The supported value for pidMode is 'task'.",
    );
    good(fargate(json!({"pidMode": "task"})));
    bad(fargate(json!({"ipcMode": "task"})), "ipcMode");
    bad(
        fargate(json!({"placementConstraints": [{"type": "memberOf",
            "expression": "attribute:a exists"}]})),
        "placement constraints",
    );
    bad(
        fargate(json!({"volumes":
            [{"name": "a", "host": {"sourcePath": "/x"}}]})),
        "host.sourcePath should not be set for volumes in Fargate.",
    );
    good(fargate(json!({"volumes": [{"name": "a", "host": {}}]})));
    bad(
        fargate(json!({"volumes":
            [{"name": "a", "dockerVolumeConfiguration": {}}]})),
        "Docker volumes",
    );
    let ecr = json!({"image":
        "1.dkr.ecr.us-east-1.amazonaws.com/a", "name": "app"});
    bad(
        patched(fargate_app(ecr), json!({"executionRoleArn": null})),
        "to support ECR images",
    );
}

#[test]
fn fargate_containers_have_rules_of_their_own() {
    for (patch, word) in [
        (json!({"privileged": true}), "privileged"),
        (json!({"dockerSecurityOptions": ["x"]}), "dockerSecurityOptions"),
        (
            json!({"resourceRequirements": [{"type": "GPU", "value": "1"}]}),
            "GPU",
        ),
        (json!({"stopTimeout": 121}), "between 2 and 120"),
        (json!({"startTimeout": 1}), "between 2 and 120"),
        (json!({"links": ["x"]}), "Links are not supported"),
        (
            json!({"linuxParameters":
                {"devices": [{"hostPath": "/dev/fuse"}]}}),
            "devices",
        ),
        (
            json!({"linuxParameters": {"sharedMemorySize": 1}}),
            "sharedMemorySize",
        ),
        (json!({"linuxParameters": {"maxSwap": 1}}), "maxSwap"),
        (json!({"linuxParameters": {"swappiness": 1}}), "swappiness"),
        (
            json!({"linuxParameters":
                {"capabilities": {"add": ["NET_ADMIN"]}}}),
            "SYS_PTRACE",
        ),
        (
            json!({"logConfiguration": {"logDriver": "json-file"}}),
            "does not support log driver json-file",
        ),
        (
            json!({"logConfiguration": {"logDriver": "awslogs", "options":
                {"awslogs-group": "g", "awslogs-region": "r"}}}),
            "awslogs-stream-prefix",
        ),
    ] {
        bad(fargate_app(patch), word);
    }
    good(fargate_app(json!({"linuxParameters": {
        "capabilities": {"add": ["SYS_PTRACE"], "drop": ["ALL"]}}})));
    let awslogs = fargate_app(json!({"logConfiguration":
        {"logDriver": "awslogs", "options": {"awslogs-group": "g",
            "awslogs-region": "r", "awslogs-stream-prefix": "p"}}}));
    good(awslogs.clone());
    bad(
        patched(awslogs, json!({"executionRoleArn": null})),
        "Fargate requires task definition to have execution role ARN to \
         support log driver awslogs.",
    );
}

#[test]
fn other_launch_types_have_rules_too() {
    let on = |launch: &str, patch: Value| {
        patched(ec2(json!({"requiresCompatibilities": [launch]})), patch)
    };
    good(on("EXTERNAL", json!({})));
    bad(on("EXTERNAL", json!({"networkMode": "awsvpc"})), "EXTERNAL");
    bad(
        on(
            "EXTERNAL",
            json!({"volumes": [{"name": "a",
                "efsVolumeConfiguration": {"fileSystemId": "f"}}]}),
        ),
        "EXTERNAL",
    );
    bad(on("MANAGED_INSTANCES", json!({})), "Managed Instances");
    good(on("MANAGED_INSTANCES", json!({"networkMode": "host"})));
}

#[test]
fn what_a_task_takes_from_its_host() {
    let containers = json!([
        {"cpu": 10, "memory": 128, "memoryReservation": 64, "portMappings": [
            {"containerPort": 80, "hostPort": 8080},
            {"containerPort": 53, "hostPort": 53, "protocol": "udp"},
            {"containerPort": 81}]},
        {"name": "b", "image": "b", "cpu": 5, "memory": 32},
    ]);
    let taken = demand(&good(ec2(json!({"containerDefinitions": containers}))));
    assert_eq!((taken.cpu_units, taken.memory_mib), (15, 96));
    assert_eq!(taken.tcp_ports, [8080]);
    assert_eq!(taken.udp_ports, [53]);
    assert_eq!(taken.enis, 0);
    let taken = demand(&good(fargate(json!({
        "runtimePlatform": {"cpuArchitecture": "ARM64"}}))));
    assert_eq!((taken.cpu_units, taken.memory_mib), (256, 512));
    assert_eq!(taken.enis, 1);
    assert_eq!(taken.platform.cpu_architecture, Some("arm64"));
    assert!(taken.attributes.contains(&"ecs.capability.task-eni".into()));
}
