use serde_json::{Value, json};

use super::*;

/// A plain EC2 definition with `patch` over it; containers are patched one by
/// one, so that a test says only what it is about.
fn ec2(patch: Value) -> Value {
    let base = json!({
        "family": "web",
        "containerDefinitions": [
            {"name": "app", "image": "nginx", "memory": 128},
        ],
    });
    patched(base, patch)
}

/// The same for Fargate.
fn fargate(patch: Value) -> Value {
    let base = json!({
        "family": "web",
        "networkMode": "awsvpc",
        "requiresCompatibilities": ["FARGATE"],
        "cpu": "256",
        "memory": "512",
        "executionRoleArn": "arn:aws:iam::000000000000:role/exec",
        "containerDefinitions": [{"name": "app", "image": "nginx"}],
    });
    patched(base, patch)
}

/// An EC2 definition whose only container is patched.
fn app(patch: Value) -> Value {
    ec2(json!({"containerDefinitions": [patch]}))
}

/// A Fargate definition whose only container is patched.
fn fargate_app(patch: Value) -> Value {
    fargate(json!({"containerDefinitions": [patch]}))
}

fn patched(mut base: Value, patch: Value) -> Value {
    merge(&mut base, patch);
    base
}

fn merge(base: &mut Value, patch: Value) {
    match (base, patch) {
        (Value::Object(base), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (Value::Array(base), Value::Array(patch)) => {
            for (index, value) in patch.into_iter().enumerate() {
                match base.get_mut(index) {
                    Some(each) => merge(each, value),
                    None => base.push(value),
                }
            }
        }
        (base, patch) => *base = patch,
    }
}

fn register(definition: &Value) -> Result<TaskDefinition, RuleError> {
    let request = serde_json::from_value(definition.clone()).unwrap();
    normalise_and_check(request)
}

#[track_caller]
fn good(definition: Value) -> TaskDefinition {
    match register(&definition) {
        Ok(registered) => registered,
        Err(error) => panic!("{error}\n{definition:#}"),
    }
}

#[track_caller]
fn bad(definition: Value, message: &str) {
    match register(&definition) {
        Ok(_) => panic!("accepted, expected: {message}\n{definition:#}"),
        Err(error) => assert!(
            error.message.contains(message),
            "expected: {message}\nfound: {error}"
        ),
    }
}

#[test]
fn the_defaults_are_echoed() {
    let registered = good(app(json!({
        "cpu": null,
        "portMappings": [{"containerPort": 80}],
        "healthCheck": {"command": ["CMD-SHELL", "true"]},
        "logConfiguration": {"logDriver": "json-file"},
        "restartPolicy": {"enabled": true},
    })));
    let shown = serde_json::to_value(&registered).unwrap();
    assert_eq!(
        shown,
        json!({
            "family": "web",
            "containerDefinitions": [{
                "name": "app", "image": "nginx", "memory": 128,
                "cpu": 0, "essential": true, "environment": [],
                "mountPoints": [], "volumesFrom": [], "systemControls": [],
                "portMappings": [
                    {"containerPort": 80, "hostPort": 0, "protocol": "tcp"},
                ],
                "healthCheck": {
                    "command": ["CMD-SHELL", "true"],
                    "interval": 30, "timeout": 5, "retries": 3,
                },
                "logConfiguration":
                    {"logDriver": "json-file", "secretOptions": []},
                "restartPolicy":
                    {"enabled": true, "restartAttemptPeriod": 300},
            }],
            "volumes": [],
            "placementConstraints": [],
            "compatibilities": ["EXTERNAL", "EC2"],
            "requiresAttributes": [
                {"name": "com.amazonaws.ecs.capability.docker-remote-api.1.24"},
                {"name": "com.amazonaws.ecs.capability.logging-driver.json-file"},
                {"name": "ecs.capability.container-health-check"},
                {"name": "ecs.capability.container-restart-policy"},
            ],
        })
    );
}

#[test]
fn plain_definitions_require_nothing() {
    let registered = good(ec2(json!({})));
    assert_eq!(registered.requires_attributes, None);
    assert_eq!(registered.network_mode, None);
}

#[test]
fn names() {
    bad(ec2(json!({"family": null})), "Family should not be null or empty.");
    bad(ec2(json!({"family": "a b"})), "Family contains invalid");
    bad(app(json!({"name": ""})), "Container.name should not be null");
    bad(app(json!({"name": "a.b"})), "Container.name contains invalid");
    bad(app(json!({"image": null})), "Container.image should not be null");
    bad(app(json!({"image": "a b"})), "Container.image contains invalid");
    bad(app(json!({"image": "a@sha256:12"})), "Container.image of container");
    bad(app(json!({"image": "a".repeat(256)})), "Container.image of container");
    let digest = format!("a@sha256:{}", "0f".repeat(32));
    good(app(json!({"image": digest})));
    bad(
        ec2(json!({"containerDefinitions": [
            {}, {"name": "app", "image": "b", "memory": 1}]})),
        "Container.name must be unique",
    );
    bad(
        json!({"family": "a", "containerDefinitions": []}),
        "Container list cannot be empty.",
    );
    let many: Vec<Value> = (0..11)
        .map(|n| json!({"name": format!("c{n}"), "image": "a", "memory": 4}))
        .collect();
    bad(
        ec2(json!({"containerDefinitions": many.clone()})),
        "more than 10 containers",
    );
    good(ec2(json!({"containerDefinitions": many[..10]})));
    bad(app(json!({"essential": false})), "must be essential");
    bad(
        app(json!({"repositoryCredentials": {}})),
        "credentialsParameter' should not be null",
    );
}

#[test]
fn memory_and_cpu() {
    bad(
        app(json!({"memory": null})),
        "Invalid setting for container 'app'. At least one of 'memory' or \
         'memoryReservation' must be specified.",
    );
    good(app(json!({"memory": null, "memoryReservation": 64})));
    good(app(json!({"memory": 64, "memoryReservation": 64})));
    bad(app(json!({"memoryReservation": 129})), "Invalid 'memory' setting");
    bad(app(json!({"memory": 0})), "Invalid 'memory' setting");
    bad(
        app(json!({"memoryReservation": -1})),
        "Invalid 'memoryReservation' setting",
    );
    bad(app(json!({"cpu": -1})), "Invalid 'cpu' setting for container");
    bad(ec2(json!({"cpu": "64"})), "Invalid 'cpu' setting for task.");
    bad(ec2(json!({"cpu": "a lot"})), "Invalid 'cpu' setting for task.");
    bad(ec2(json!({"memory": "2"})), "Invalid 'memory' setting for task.");
    bad(ec2(json!({"memory": "1 TB"})), "Invalid 'memory' setting for task.");
    let echoed = good(ec2(json!({"cpu": ".5 vCPU", "memory": "2 GB"})));
    assert_eq!(echoed.cpu.as_deref(), Some("512"));
    assert_eq!(echoed.memory.as_deref(), Some("2048"));
    good(ec2(json!({
        "memory": "64", "containerDefinitions": [{"memory": null}]})));
    bad(ec2(json!({"memory": "64"})), "greater than the memory of the task");
    bad(
        ec2(json!({"memory": "192", "containerDefinitions": [
            {}, {"name": "b", "image": "b", "memory": 65}]})),
        "memory reserved by all containers (193)",
    );
    bad(
        ec2(json!({"cpu": "128", "containerDefinitions": [{"cpu": 129}]})),
        "'cpu' of all containers (129)",
    );
}

#[test]
fn the_whole_has_a_limit() {
    let long = "x".repeat(SIZE_BYTES_MAX);
    bad(
        app(json!({"command": [long]})),
        "Max allowed length is '65536' bytes.",
    );
    bad(
        ec2(json!({"tags": [{"key": "aws:a", "value": "b"}]})),
        "reserved for system use",
    );
}

#[test]
fn ports() {
    let ports = |mode: &str, mapping: Value| {
        ec2(json!({"networkMode": mode,
            "containerDefinitions": [{"portMappings": [mapping]}]}))
    };
    let first = |definition: TaskDefinition| {
        containers(&definition)[0].port_mappings.clone().unwrap()[0].clone()
    };
    let one = json!({"containerPort": 80});
    assert_eq!(first(good(ports("bridge", one.clone()))).host_port, Some(0));
    assert_eq!(first(good(ports("awsvpc", one.clone()))).host_port, Some(80));
    assert_eq!(first(good(ports("host", one.clone()))).host_port, Some(80));
    bad(ports("none", one), "not supported when networkMode=none");
    let other = json!({"containerPort": 80, "hostPort": 8080});
    good(ports("bridge", other.clone()));
    bad(
        ports("awsvpc", other.clone()),
        "When networkMode=awsvpc, the host ports and container ports in port \
         mappings must match.",
    );
    bad(ports("host", other), "When networkMode=host");
    bad(ports("bridge", json!({})), "'containerPort' or 'containerPortRange'");
    bad(ports("bridge", json!({"containerPort": 0})), "Invalid containerPort");
    bad(
        ports("bridge", json!({"containerPort": 1, "hostPort": 65536})),
        "Invalid hostPort",
    );
    let twice = |a: &str, b: &str| {
        app(json!({"portMappings": [
            {"containerPort": 53, "hostPort": 53, "protocol": a},
            {"containerPort": 53, "hostPort": 53, "protocol": b},
        ]}))
    };
    bad(twice("tcp", "tcp"), "host port 53/tcp is used more than once");
    good(twice("tcp", "udp"));
}

#[test]
fn port_ranges_and_names() {
    let range = |range: &str| {
        app(json!({"portMappings": [{"containerPortRange": range}]}))
    };
    good(range("8000-8010"));
    for wrong in ["8000", "8010-8000", "80-80", "0-10", "1-65536", "a-b"] {
        bad(range(wrong), "Invalid containerPortRange");
    }
    bad(
        patched(range("1-9"), json!({"networkMode": "host"})),
        "only supported when networkMode=bridge",
    );
    bad(
        app(json!({"portMappings": [
            {"containerPortRange": "1-9", "hostPort": 1}]})),
        "cannot be used with",
    );
    bad(
        app(json!({"portMappings": [
            {"containerPortRange": "1-9"}, {"containerPortRange": "9-12"}]})),
        "overlaps",
    );
    good(app(json!({"portMappings": [
        {"containerPortRange": "1-9"},
        {"containerPortRange": "9-12", "protocol": "udp"}]})));
    let named = |a: &str, b: &str| {
        app(json!({"portMappings": [
            {"containerPort": 1, "name": a},
            {"containerPort": 2, "name": b}]}))
    };
    good(named("http", "https"));
    bad(named("http", "http"), "names must be unique");
    bad(named("HTTP", "https"), "Invalid port mapping name");
}

#[test]
fn links() {
    let linked = |mode: &str, link: &str| {
        ec2(json!({"networkMode": mode, "containerDefinitions": [
            {"links": [link]}, {"name": "db", "image": "b", "memory": 4}]}))
    };
    good(linked("bridge", "db"));
    good(linked("bridge", "db:database"));
    bad(linked("awsvpc", "db"), "Links are not supported when networkMode=aw");
    bad(linked("host", "db"), "Links are not supported when networkMode=host");
    bad(linked("bridge", "nobody"), "Invalid link");
    bad(linked("bridge", "app"), "Invalid link");
    bad(linked("bridge", "db:"), "Invalid link");
    let circle = json!({"containerDefinitions": [
        {"links": ["db"]},
        {"name": "db", "image": "b", "memory": 4, "links": ["app"]}]});
    bad(ec2(circle), "must not have a cycle");
}

#[test]
fn dependencies() {
    let depends = |condition: Value, target: Value| {
        ec2(json!({"containerDefinitions": [
            {"dependsOn": [
                {"containerName": "dep", "condition": condition}]},
            patched(json!({"name": "dep", "image": "b", "memory": 4}), target),
        ]}))
    };
    good(depends(json!("START"), json!({})));
    bad(depends(json!("COMPLETE"), json!({})), "essential container 'dep'");
    bad(depends(json!("SUCCESS"), json!({})), "essential container 'dep'");
    good(depends(json!("SUCCESS"), json!({"essential": false})));
    bad(depends(json!("HEALTHY"), json!({})), "to have a healthCheck");
    let check = json!({"healthCheck": {"command": ["CMD", "true"]}});
    good(depends(json!("HEALTHY"), check));
    bad(depends(Value::Null, json!({})), "condition should be one of");
    bad(depends(json!("START"), json!({"name": "x"})), "is not a container");
    bad(
        app(json!({"dependsOn": [
            {"containerName": "app", "condition": "START"}]})),
        "cannot depend on itself",
    );
    let back = json!({"dependsOn": [
        {"containerName": "app", "condition": "START"}]});
    bad(depends(json!("START"), back), "must not have a cycle");
}

#[test]
fn containers_start_and_stop_in_order() {
    let definition = good(ec2(json!({"containerDefinitions": [
        {"dependsOn": [{"containerName": "c", "condition": "START"}],
         "logConfiguration": {"logDriver": "awsfirelens"}},
        {"name": "b", "image": "b", "memory": 4, "links": ["app"]},
        {"name": "c", "image": "b", "memory": 4},
        {"name": "log", "image": "b", "memory": 4,
         "firelensConfiguration": {"type": "fluentbit"}},
    ]})));
    assert_eq!(start_order(&definition).unwrap(), ["c", "log", "app", "b"]);
    assert_eq!(stop_dependents(&definition, "log"), ["app"]);
    assert_eq!(stop_dependents(&definition, "app"), ["b"]);
    assert!(stop_dependents(&definition, "b").is_empty());
}

#[test]
fn volumes() {
    let volume = |volume: Value| ec2(json!({"volumes": [volume]}));
    good(volume(json!({"name": "a"})));
    good(volume(json!({"name": "a", "host": {"sourcePath": "/x"}})));
    bad(volume(json!({})), "Volume.name should not be null");
    bad(volume(json!({"name": "a/b"})), "Volume.name contains invalid");
    bad(
        ec2(json!({"volumes": [{"name": "a"}, {"name": "a"}]})),
        "Volume.name must be unique",
    );
    bad(
        volume(json!({"name": "a", "host": {},
            "dockerVolumeConfiguration": {}})),
        "Only one volume type",
    );
    bad(
        volume(json!({"name": "a", "dockerVolumeConfiguration":
            {"autoprovision": true}})),
        "scope is shared",
    );
    good(volume(json!({"name": "a", "dockerVolumeConfiguration":
        {"autoprovision": true, "scope": "shared"}})));
    let efs = |efs: Value| {
        volume(json!({"name": "a", "efsVolumeConfiguration": efs}))
    };
    bad(efs(json!({})), "fileSystemId' should not be null");
    good(efs(json!({"fileSystemId": "fs-1", "rootDirectory": "/x"})));
    bad(
        efs(json!({"fileSystemId": "fs-1", "transitEncryptionPort": 1})),
        "requires transit encryption",
    );
    let point = json!({"fileSystemId": "fs-1", "transitEncryption": "ENABLED",
        "authorizationConfig": {"accessPointId": "fsap-1", "iam": "ENABLED"}});
    good(efs(point.clone()));
    bad(
        efs(patched(point.clone(), json!({"rootDirectory": "/x"}))),
        "root directory must be omitted",
    );
    bad(
        efs(patched(point.clone(), json!({"transitEncryption": "DISABLED"}))),
        "Transit encryption must be enabled when an EFS access point",
    );
    let iam = json!({"transitEncryption": null,
        "authorizationConfig": {"accessPointId": null}});
    bad(efs(patched(point, iam)), "when EFS IAM authorization is enabled");
    bad(
        volume(json!({"name": "a",
            "fsxWindowsFileServerVolumeConfiguration": {"fileSystemId": "f"}})),
        "requires 'fileSystemId', 'rootDirectory'",
    );
    bad(
        volume(json!({"name": "a", "s3filesVolumeConfiguration":
            {"fileSystemArn": "arn:x"}})),
        "to have a task role",
    );
    bad(
        ec2(json!({"volumes": [
            {"name": "a", "configuredAtLaunch": true},
            {"name": "b", "configuredAtLaunch": true}]})),
        "Only one volume can be configured at launch",
    );
}

#[test]
fn mounts() {
    let mounts = |mounts: Value| {
        ec2(json!({"volumes": [{"name": "a"}],
            "containerDefinitions": [{"mountPoints": mounts}]}))
    };
    let one = json!({"sourceVolume": "a", "containerPath": "/a"});
    good(mounts(json!([one])));
    bad(mounts(json!([one, one])), "Duplicate mount point '/a'");
    bad(
        mounts(json!([{"sourceVolume": "b", "containerPath": "/a"}])),
        "Unknown volume 'b'.",
    );
    bad(mounts(json!([{"sourceVolume": "a"}])), "must have a containerPath");
    for source in ["nobody", "app"] {
        bad(
            app(json!({"volumesFrom": [{"sourceContainer": source}]})),
            "Invalid 'volumesFrom'",
        );
    }
}

#[test]
fn environment_and_secrets() {
    bad(app(json!({"environment": [{"value": "x"}]})), "'environment'");
    bad(app(json!({"environment": [{"name": "a=b"}]})), "'environment'");
    let secrets = |from: &str| {
        fargate_app(json!({"environment": [{"name": "A", "value": "x"}],
            "secrets": [{"name": "B", "valueFrom": from}]}))
    };
    let asm = "arn:aws:secretsmanager:us-east-1:000000000000:secret:s-AbCdEf";
    good(secrets("/my/parameter"));
    good(secrets("arn:aws:ssm:us-east-1:000000000000:parameter/x"));
    good(secrets(asm));
    good(secrets(&format!("{asm}:user::")));
    good(secrets(&format!("{asm}::AWSPREVIOUS:")));
    bad(secrets(&format!("{asm}::A:B")), "Invalid secret 'B'");
    bad(secrets(&format!("{asm}:a")), "Invalid secret 'B'");
    bad(secrets("arn:aws:s3:::bucket"), "Invalid secret 'B'");
    bad(secrets(""), "should not be null or empty");
    let same = json!({"containerDefinitions": [{"secrets": [{"name": "A"}]}]});
    bad(
        patched(secrets("p"), same),
        "not shared with any new or existing environment variables set on \
         the container, such as 'A'.",
    );
    bad(
        patched(secrets("p"), json!({"executionRoleArn": null})),
        "you must also specify a value for 'executionRoleArn'",
    );
    let file = |value: &str| {
        app(json!({"environmentFiles": [{"type": "s3", "value": value}]}))
    };
    good(file("arn:aws:s3:::bucket/a.env"));
    bad(file("arn:aws:s3:::bucket/a.txt"), "'environmentFiles'");
    bad(file("s3://bucket/a.env"), "'environmentFiles'");
    let many: Vec<Value> = (0..11)
        .map(|_| json!({"type": "s3", "value": "arn:aws:s3:::b/a.env"}))
        .collect();
    bad(app(json!({"environmentFiles": many})), "at most 10 files");
}

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
