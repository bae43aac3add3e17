use serde_json::{Value, json};

use super::*;

mod platform;

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
fn roles() {
    let path = format!("arn:aws:iam::1:role/{}", "a".repeat(513));
    for member in ["taskRoleArn", "executionRoleArn"] {
        for role in [
            "",
            "ecsTaskExecutionRole",
            "arn:aws:iam::123456789012:role/a",
            "arn:aws-cn:iam::123456789012:role/team/a+b=c,d.e@f-g",
            // Real definitions are published with such an account.
            "arn:aws:iam::XXXXXXXXXXXX:role/a",
        ] {
            good(ec2(json!({member: role})));
        }
        for role in [
            "{{must_env `ROLE`}}",
            "arn:aws:iam::<account>:role/a",
            "arn:aws:iam:::role/a",
            "arn:aws:iam::123456789012:user/a",
            "arn:aws:iam::123456789012:role/",
            "arn:aws:iam::123456789012:role/a/",
            "arn:aws:s3:::bucket",
            "role/a",
            path.as_str(),
        ] {
            bad(ec2(json!({member: role})), "Role is not valid");
        }
    }
}

#[test]
fn name_servers() {
    let given = |servers: Value, domains: Value| {
        app(json!({"dnsServers": servers, "dnsSearchDomains": domains}))
    };
    good(given(json!(["10.0.0.2", "fd00::2"]), json!(["a.example", "."])));
    for server in ["", "ns.example", "10.0.0.2\noptions x"] {
        bad(given(json!([server]), json!([])), "is not an IP address");
    }
    for domain in ["", "a b", "a\nnameserver 1.1.1.1"] {
        bad(given(json!([]), json!([domain])), "is not a domain");
    }
    let host = json!({"hostname": "a\n1.1.1.1 b", "ipAddress": "10.0.0.1"});
    bad(app(json!({"extraHosts": [host]})), "must have a hostname");
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
    bad(
        app(json!({"portMappings": [
            {"containerPort": 9}, {"containerPortRange": "1-9"}]})),
        "is in another port mapping",
    );
    good(app(json!({"portMappings": [
        {"containerPort": 9, "protocol": "udp"},
        {"containerPortRange": "1-9"}]})));
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
    let off = json!({"healthCheck": {"command": ["NONE"]}});
    bad(depends(json!("HEALTHY"), off), "to have a healthCheck");
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
    good(volume(json!({"name": "a", "host": {"sourcePath": ""}})));
    bad(
        volume(json!({"name": "a", "host": {"sourcePath": "x/y"}})),
        "must be an absolute path, not 'x/y'",
    );
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
    bad(
        mounts(json!([{"sourceVolume": "a", "containerPath": "a"}])),
        "must be an absolute path, not 'a'",
    );
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
    let role = json!({"executionRoleArn": "arn:aws:iam::1:role/exec"});
    let with_files = |files: Value| {
        patched(app(json!({"environmentFiles": files})), role.clone())
    };
    let file =
        |value: &str| with_files(json!([{"type": "s3", "value": value}]));
    good(file("arn:aws:s3:::bucket/a.env"));
    bad(file("arn:aws:s3:::/a.env"), "'environmentFiles'");
    bad(file("arn:aws:s3:::a.env"), "'environmentFiles'");
    bad(
        patched(
            file("arn:aws:s3:::bucket/a.env"),
            json!({"executionRoleArn": null}),
        ),
        "When you are specifying environmentFiles, you must also specify",
    );
    let typeless = json!([{"value": "arn:aws:s3:::bucket/a.env"}]);
    bad(with_files(typeless), "one of [s3]");
    bad(file("arn:aws:s3:::bucket/a.txt"), "'environmentFiles'");
    bad(file("s3://bucket/a.env"), "'environmentFiles'");
    let many: Vec<Value> = (0..11)
        .map(|_| json!({"type": "s3", "value": "arn:aws:s3:::b/a.env"}))
        .collect();
    bad(with_files(json!(many)), "at most 10 files");
}
