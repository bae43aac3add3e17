//! The two stock tests over both step lists, and what single steps make.

mod environment_files;
mod firelens;
mod login;
mod ports;
mod sharing;

use std::sync::Arc;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::create::container_spec;
use super::*;
use crate::runtime::{Netns, SecretEnv};
use crate::task::decode::decode_task;
use crate::test_support::{Rig, TASK_ID, id_of, task};

/// A task that gives every step something to do.
fn full_task(network: &str) -> minato_wire::acs::Task {
    let host = json!({
        "LogConfig": {"Type": "awslogs", "Config": {
            "awslogs-group": "/app", "awslogs-region": "us-east-1",
            "awslogs-stream-prefix": "ecs",
        }},
        "ExtraHosts": ["db.local:192.0.2.7"],
        "MemoryReservation": 32 << 20,
        "ReadonlyRootfs": true,
        "CapAdd": ["NET_ADMIN"],
        "CapDrop": ["MKNOD"],
        "Init": true,
    });
    let config = json!({"User": "1000:1000", "WorkingDir": "/srv"});
    let ports = if network == "bridge" {
        json!([{"containerPort": 80, "hostPort": 0, "protocol": "tcp"}])
    } else {
        json!([])
    };
    let mut task = task(json!([{
        "name": "web", "image": "web", "cpu": 10, "memory": 64,
        "command": ["serve"], "environment": {"A": "1", "PATH": "/x"},
        "portMappings": ports,
        "mountPoints": [{"sourceVolume": "data", "containerPath": "/data"}],
        "dockerConfig": {
            "config": config.to_string(), "hostConfig": host.to_string(),
        },
    }]));
    task.network_mode = Some(network.into());
    let volumes = json!([
        {"name": "data", "host": {}},
        {"name": "db", "type": "attachment"},
        {"name": "cache", "type": "docker", "dockerVolumeConfiguration": {
            "driverOpts": {"type": "tmpfs", "device": "tmpfs"},
        }},
    ]);
    task.volumes = serde_json::from_value(volumes).unwrap();
    task.attachments = vec![
        attachment(&[
            ("volumeId", "vol-0123"),
            ("volumeName", "db"),
            ("volumeSizeGib", "1"),
        ]),
        attachment(&[
            ("resourceType", "EphemeralStorage"),
            ("requestedSize", "21"),
        ]),
    ];
    if network == "awsvpc" {
        task.launch_type = Some("FARGATE".into());
        task.cpu = Some(0.25);
        task.memory = Some(512);
        task.elastic_network_interfaces = serde_json::from_value(json!([{
            "ec2Id": "eni-1", "macAddress": "0a:00:00:00:00:01",
            "attachmentArn": "arn:attachment",
            "ipv4Addresses": [{"privateAddress": "10.0.0.5", "primary": true}],
            "subnetGatewayIpv4Address": "10.0.0.1/24",
            "privateDnsName": "ip-10-0-0-5.ec2.internal",
        }]))
        .unwrap();
    }
    if network == "none" {
        task.pid_mode = Some("task".into());
        task.ipc_mode = Some("task".into());
    }
    task
}

fn attachment(properties: &[(&str, &str)]) -> minato_wire::acs::Attachment {
    let properties = properties.iter().map(|(name, value)| {
        minato_wire::acs::AttachmentProperty {
            name: (*name).into(),
            value: (*value).into(),
        }
    });
    let is_disk = properties.clone().any(|one| one.name == "resourceType");
    minato_wire::acs::Attachment {
        attachment_arn: "arn:volume".into(),
        attachment_type: (!is_disk).then(|| "amazonebs".into()),
        attachment_properties: properties.collect(),
    }
}

struct Fixture {
    rig: Rig,
    task: TaskContext,
}

fn fixture(network: &str) -> Fixture {
    fixture_of(&full_task(network))
}

fn fixture_of(task: &minato_wire::acs::Task) -> Fixture {
    let rig = Rig::new();
    let plan = Arc::new(decode_task(task).unwrap());
    let dir = rig.dir.path().join("tasks").join(TASK_ID);
    let task = TaskContext { services: rig.services(), plan, dir };
    Fixture { rig, task }
}

impl Fixture {
    fn container(&self, task_facts: TaskFacts) -> ContainerContext {
        ContainerContext {
            task: self.task.clone(),
            task_facts,
            plan: Arc::new(self.task.plan.containers[0].clone()),
            router_ip: None,
            links: BTreeMap::new(),
            image_volumes: BTreeMap::new(),
            token: Some(EndpointToken::new(7)),
            secrets: SecretCell::default(),
            files: FileCell::default(),
            router_config: RouterConfigCell::default(),
        }
    }

    /// Everything but what is meant to stay: images and logs.
    fn leftovers(&self) -> Vec<String> {
        let mut left = self.rig.runtime.leftovers();
        let of_container = &self.task.plan.containers[0].id;
        for part in ["volumes", "namespaces", of_container] {
            if self.task.dir.join(part).exists() {
                left.push(part.into());
            }
        }
        let files = [
            self.task.dir.join("disk.img"),
            self.rig.dir.path().join("ebs/vol-0123.img"),
            self.rig.dir.path().join("mounts").join(TASK_ID),
        ];
        let there = files.iter().filter(|file| file.exists());
        left.extend(there.map(|file| file.display().to_string()));
        left
    }
}

async fn up<C: Sync, F: Send>(
    list: &StepList<C, F>,
    cx: &C,
    facts: &mut F,
) -> Result<(), UpError> {
    list.up(cx, facts, &CancellationToken::new(), |_, _| {}).await
}

#[tokio::test(start_paused = true)]
async fn every_step_may_be_repeated() {
    for network in ["bridge", "awsvpc", "host", "none"] {
        let fixture = fixture(network);
        let tasks = task_steps();
        let mut task_facts = TaskFacts::default();
        up(&tasks, &fixture.task, &mut task_facts).await.unwrap();
        let cx = fixture.container(task_facts.clone());
        let containers = container_steps();
        let mut facts = ContainerFacts::default();
        up(&containers, &cx, &mut facts).await.unwrap();
        // Again, knowing what is known, and knowing nothing.
        for mut again in [facts.clone(), ContainerFacts::default()] {
            up(&containers, &cx, &mut again).await.unwrap();
            assert_eq!(again.address, facts.address);
            assert_eq!(again.started_at_ms, facts.started_at_ms);
        }
        let mut again = task_facts.clone();
        up(&tasks, &fixture.task, &mut again).await.unwrap();
        assert_eq!(again, task_facts);
        for _ in 0..2 {
            assert_eq!(containers.down(&cx, &mut facts).await, []);
            let down = tasks.down(&fixture.task, &mut task_facts).await;
            assert_eq!(down, []);
        }
        assert_eq!(fixture.leftovers(), Vec::<String>::new(), "{network}");
    }
}

/// A step that fails in place of the one it stands for, having done its work.
struct Broken<C, F>(Box<dyn Step<C, F>>);

impl<C: Sync, F: Send> Step<C, F> for Broken<C, F> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn up<'a>(
        &'a self,
        cx: &'a C,
        facts: &'a mut F,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move {
            self.0.up(cx, facts).await?;
            Err(StepError::new("Broken", "on purpose"))
        })
    }

    fn down<'a>(
        &'a self,
        cx: &'a C,
        facts: &'a mut F,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        self.0.down(cx, facts)
    }
}

fn with_broken<C: 'static + Sync, F: 'static + Send>(
    list: StepList<C, F>,
    at: usize,
) -> StepList<C, F> {
    let steps = list.steps.into_iter().enumerate();
    StepList::new(
        steps
            .map(|(index, step)| -> Box<dyn Step<C, F>> {
                if index == at { Box::new(Broken(step)) } else { step }
            })
            .collect(),
    )
}

#[tokio::test(start_paused = true)]
async fn every_step_may_fail_and_all_is_undone() {
    for network in ["bridge", "awsvpc", "host", "none"] {
        for at in 0..task_steps().names().len() {
            let fixture = fixture(network);
            let list = with_broken(task_steps(), at);
            let mut facts = TaskFacts::default();
            let result = up(&list, &fixture.task, &mut facts).await;
            assert!(matches!(result, Err(UpError::Failed { .. })));
            assert_eq!(list.down(&fixture.task, &mut facts).await, []);
            assert_eq!(fixture.leftovers(), Vec::<String>::new());
        }
        for at in 0..container_steps().names().len() {
            let fixture = fixture(network);
            let tasks = task_steps();
            let mut task_facts = TaskFacts::default();
            up(&tasks, &fixture.task, &mut task_facts).await.unwrap();
            let cx = fixture.container(task_facts.clone());
            let list = with_broken(container_steps(), at);
            let mut facts = ContainerFacts::default();
            let result = up(&list, &cx, &mut facts).await;
            let step = list.names()[at];
            let error = StepError::new("Broken", "on purpose");
            assert_eq!(result, Err(UpError::Failed { step, error }));
            assert_eq!(list.down(&cx, &mut facts).await, []);
            tasks.down(&fixture.task, &mut task_facts).await;
            assert_eq!(fixture.leftovers(), Vec::<String>::new(), "{step}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn failures_on_the_way_down_are_all_kept() {
    let fixture = fixture("bridge");
    let cx = fixture.container(TaskFacts::default());
    let list = container_steps();
    let mut facts = ContainerFacts::default();
    up(&list, &cx, &mut facts).await.unwrap();
    fixture.rig.runtime.fail("remove");
    fixture.rig.runtime.fail("unbridge");
    let failures = list.down(&cx, &mut facts).await;
    let steps: Vec<&str> = failures.iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, ["create", "address"]);
    // What could be undone was.
    assert_eq!(fixture.rig.runtime.world.lock().ports.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_undo_that_hangs_does_not_keep_the_others_from_running() {
    let fixture = fixture("bridge");
    let cx = fixture.container(TaskFacts::default());
    let list = container_steps();
    let mut facts = ContainerFacts::default();
    up(&list, &cx, &mut facts).await.unwrap();
    fixture.rig.runtime.world.lock().hanging.insert("remove".into());
    let failures = list.down(&cx, &mut facts).await;
    assert_eq!(failures[0].1.kind, "DockerTimeoutError");
    assert_eq!(fixture.rig.runtime.world.lock().endpoints.len(), 0);
}

async fn spec_of(network: &str) -> (Fixture, crate::runtime::ContainerSpec) {
    let fixture = fixture(network);
    let mut task_facts = TaskFacts::default();
    up(&task_steps(), &fixture.task, &mut task_facts).await.unwrap();
    let cx = fixture.container(task_facts);
    let mut facts = ContainerFacts::default();
    up(&container_steps(), &cx, &mut facts).await.unwrap();
    let spec = container_spec(&cx, &facts).unwrap();
    (fixture, spec)
}

#[tokio::test(start_paused = true)]
async fn the_plan_reaches_the_engine() {
    let (fixture, spec) = spec_of("bridge").await;
    assert_eq!(spec.args, ["serve"]);
    assert_eq!(spec.user, "1000:1000");
    assert_eq!(spec.cwd, "/srv");
    assert!(spec.readonly_rootfs && spec.init);
    assert_eq!(spec.resources.cpu_shares, Some(10));
    assert_eq!(spec.resources.memory_bytes, Some(64 << 20));
    assert_eq!(spec.resources.memory_reservation_bytes, Some(32 << 20));
    assert_eq!(spec.capabilities.add, ["NET_ADMIN"]);
    assert_eq!(spec.capabilities.drop, ["MKNOD"]);
    assert_eq!(spec.cgroup_parent, Some(format!("/minato/{TASK_ID}")));
    assert_eq!(
        spec.env,
        [
            "A=1",
            "AWS_DEFAULT_REGION=us-east-1",
            "AWS_REGION=us-east-1",
            "PATH=/x"
        ]
    );
    let targets: Vec<String> = spec
        .mounts
        .iter()
        .map(|mount| mount.destination.display().to_string())
        .collect();
    assert_eq!(
        targets,
        ["/data", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"]
    );
    let dir = fixture.container(TaskFacts::default()).dir();
    let hosts = std::fs::read_to_string(dir.join("hosts")).unwrap();
    assert!(hosts.contains("192.0.2.7\tdb.local\n"), "{hosts}");
    let name = std::fs::read_to_string(dir.join("hostname")).unwrap();
    assert!(hosts.contains(&format!("172.31.0.2\t{name}")), "{hosts}");
    let resolv = std::fs::read_to_string(dir.join("resolv.conf")).unwrap();
    assert_eq!(resolv, "nameserver 192.0.2.53\nsearch example.org\n");
}

#[tokio::test(start_paused = true)]
async fn awsvpc_containers_share_the_tasks_network() {
    let (fixture, spec) = spec_of("awsvpc").await;
    let netns = PathBuf::from(format!("/run/netns/{TASK_ID}"));
    assert_eq!(spec.netns, Netns::Path(netns));
    assert_eq!(spec.hostname.as_deref(), Some("ip-10-0-0-5.ec2.internal"));
    // Fargate's default.
    assert_eq!(spec.ulimits[0].name, "nofile");
    let hosts = fixture.container(TaskFacts::default()).dir().join("hosts");
    let hosts = std::fs::read_to_string(hosts).unwrap();
    let line = "10.0.0.5\tip-10-0-0-5.ec2.internal ip-10-0-0-5\n";
    assert!(hosts.contains(line), "{hosts}");
}

#[tokio::test(start_paused = true)]
async fn host_and_none_need_no_address() {
    let (_fixture, spec) = spec_of("host").await;
    assert_eq!(spec.netns, Netns::Host);
    assert_eq!(spec.hostname, None);
    let (_fixture, spec) = spec_of("none").await;
    assert_eq!(spec.netns, Netns::New);
}

#[tokio::test(start_paused = true)]
async fn a_taken_port_is_a_clear_failure() {
    let rig = Rig::new();
    rig.runtime.world.lock().ports.insert(8080, "other".into());
    let engine = rig.engine();
    let containers = json!([{
        "name": "web", "image": "web", "portMappings": [
            {"containerPort": 80, "hostPort": 8080, "protocol": "tcp"},
        ],
    }]);
    engine.accept(task(containers)).await.unwrap();
    let report: Value = rig.reported("STOPPED").await;
    assert_eq!(
        report["containers"][0]["reason"],
        "CannotStartContainerError: port 8080 is already in use"
    );
    let calls = rig.runtime.calls();
    assert!(!calls.contains(&format!("start {}", id_of("web"))));
}

/// A container with these secrets, fetched and started.
async fn with_secrets(
    launch_type: &str,
    secrets: Value,
) -> (Fixture, Result<(), UpError>) {
    let mut task = full_task("bridge");
    task.launch_type = Some(launch_type.into());
    task.containers[0].secrets = serde_json::from_value(secrets).unwrap();
    brought_up(&task).await
}

/// The first container of a task, once its steps ended.
async fn brought_up(
    task: &minato_wire::acs::Task,
) -> (Fixture, Result<(), UpError>) {
    let rig = Rig::new();
    let plan = Arc::new(decode_task(task).unwrap());
    let dir = rig.dir.path().join("tasks").join(TASK_ID);
    let task = TaskContext { services: rig.services(), plan, dir };
    let fixture = Fixture { rig, task };
    let mut task_facts = TaskFacts::default();
    up(&task_steps(), &fixture.task, &mut task_facts).await.unwrap();
    let cx = fixture.container(task_facts);
    let mut facts = ContainerFacts::default();
    let ended = up(&container_steps(), &cx, &mut facts).await;
    (fixture, ended)
}

#[tokio::test(start_paused = true)]
async fn secrets_reach_the_start_and_no_file() {
    let arn = "arn:aws:secretsmanager:us-east-1:1:secret:db-AbCdEf";
    let of = |name: &str, provider: &str, from: &str| {
        json!({"name": name, "provider": provider, "region": "us-east-1",
               "valueFrom": from, "target": "CONTAINER"})
    };
    let mut secrets = vec![
        of("WHOLE", "asm", arn),
        of("USER", "asm", &format!("{arn}:user::")),
        of("PORT", "asm", &format!("{arn}:port::")),
    ];
    // More than one call takes.
    for number in 0..12 {
        let name = format!("P{number}");
        secrets.push(of(&name, "ssm", &format!("/p/{number}")));
    }
    let (fixture, ended) = with_secrets("EC2", json!(secrets)).await;
    ended.unwrap();
    let world = fixture.rig.runtime.world.lock();
    let container = world.containers.values().next().unwrap();
    let has = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut expected = vec![
        has("WHOLE", r#"{"user":"u","port":5}"#),
        has("USER", "u"),
        has("PORT", "5"),
    ];
    for number in 0..12 {
        let value = format!("of \"/p/{number}\"");
        expected.push(has(&format!("P{number}"), &value));
    }
    assert_eq!(container.secrets, SecretEnv::new(expected));
    let spec = format!("{:?}", container.spec);
    assert!(!spec.contains("\"u\"") && !spec.contains("of "), "{spec}");
    let calls = fixture.rig.api.calls("GetParameters");
    let counts = calls.iter().map(|c| c["Names"].as_array().unwrap().len());
    assert_eq!(counts.collect::<Vec<_>>(), [10, 2]);
    assert!(calls.iter().all(|call| call["WithDecryption"] == true));
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_is_not_there_fails_in_the_words_of_ecs() {
    let arn = "arn:aws:secretsmanager:us-east-1:1:secret:";
    let one = |provider: &str, from: String| {
        json!([{"name": "S", "provider": provider, "region": "us-east-1",
                "valueFrom": from}])
    };
    let cases = [
        (
            "FARGATE",
            one("asm", format!("{arn}no-AbCdEf")),
            "ResourceInitializationError: unable to pull secrets or registry",
        ),
        (
            "EC2",
            one("asm", format!("{arn}no-AbCdEf")),
            "Fetching secret data from AWS Secrets Manager in region us-east-1: \
          secret arn:aws:secretsmanager:us-east-1:1:secret:no-AbCdEf: \
          ResourceNotFoundException",
        ),
        (
            "EC2",
            one("asm", format!("{arn}db-AbCdEf:pass::")),
            "retrieved secret from Secrets Manager did not contain json key pass",
        ),
        (
            "EC2",
            one("ssm", "missing".into()),
            "Fetching secret data from SSM Parameter Store in us-east-1: \
          invalid parameters: missing",
        ),
    ];
    for (launch_type, secrets, expected) in cases {
        let (fixture, ended) = with_secrets(launch_type, secrets).await;
        let Err(UpError::Failed { step: "secrets", error }) = ended else {
            panic!("{ended:?}");
        };
        let why = error.to_string();
        assert!(why.contains(expected), "{why}");
        assert!(fixture.rig.runtime.world.lock().containers.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_container_that_has_started_needs_no_secrets_again() {
    let secret = json!([{"name": "S", "provider": "ssm", "valueFrom": "/p"}]);
    let (fixture, ended) = with_secrets("EC2", secret).await;
    ended.unwrap();
    // Another agent, for which nobody has an answer.
    fixture.rig.api.fail_next("GetParameters", "AccessDeniedException");
    let cx = fixture.container(TaskFacts::default());
    let mut facts =
        ContainerFacts { started_at_ms: Some(1), ..ContainerFacts::default() };
    up(&container_steps(), &cx, &mut facts).await.unwrap();
    assert_eq!(fixture.rig.api.calls("GetParameters").len(), 1);
}
