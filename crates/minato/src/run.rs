//! `minato run`: a task definition file, running in front of you.

use std::collections::BTreeMap;
use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use minato_wire::ecs;
use tokio::signal::unix::{SignalKind, signal};

use crate::api::{Api, address_of, block_on, id_of};
use crate::args::{LaunchType, RunArgs};
use crate::explain;
use crate::home::Home;
use crate::logs::Follower;
use crate::out::say;

/// How often states and logs are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(150);
/// Looks after the end of all tasks: last lines may still be on their way.
const LAST_LOOKS: u32 = 5;
/// What a program that dies of SIGINT ends with in a shell.
const INTERRUPTED: u8 = 130;
/// Largest definition that is read: ECS takes 64 KiB.
const FILE_MAX: u64 = 1 << 20;

pub(crate) fn run(home: &Home, args: &RunArgs) -> Result<ExitCode> {
    let request = read(args)?;
    let api = Api::of(home)?;
    block_on(async {
        let definition = register(&api, request).await?;
        let tasks = start(&api, args, &definition).await?;
        for task in &tasks {
            say!("task {} started", id_of(task))?;
        }
        if args.detach {
            return Ok(ExitCode::SUCCESS);
        }
        watch(home, &api, &definition, tasks).await
    })
}

/// Reads the file, which may also be what DescribeTaskDefinition prints.
fn read(args: &RunArgs) -> Result<serde_json::Value> {
    let path = args.file.display();
    let size = fs::metadata(&args.file)
        .with_context(|| format!("could not read {path}"))?
        .len();
    if size > FILE_MAX {
        bail!("{path} is too large to be a task definition");
    }
    let text = fs::read(&args.file)
        .with_context(|| format!("could not read {path}"))?;
    let value: serde_json::Value = serde_json::from_slice(&text)
        .with_context(|| format!("{path} is not JSON"))?;
    match value.get("taskDefinition") {
        Some(inner) if inner.is_object() => Ok(inner.clone()),
        _ if value.is_object() => Ok(value),
        _ => bail!("{path} holds no task definition"),
    }
}

async fn register(
    api: &Api,
    request: serde_json::Value,
) -> Result<ecs::TaskDefinition> {
    let registered: ecs::RegisterTaskDefinitionResponse =
        api.ecs("RegisterTaskDefinition", &request).await?;
    registered.task_definition.context("the answer holds no definition")
}

async fn start(
    api: &Api,
    args: &RunArgs,
    definition: &ecs::TaskDefinition,
) -> Result<Vec<ecs::Task>> {
    let requires = definition.requires_compatibilities.iter().flatten();
    let wants_fargate =
        requires.clone().any(|one| *one == ecs::Compatibility::Fargate);
    let launch_type = match args.launch_type {
        Some(LaunchType::Ec2) => ecs::LaunchType::Ec2,
        Some(LaunchType::Fargate) => ecs::LaunchType::Fargate,
        None if wants_fargate => ecs::LaunchType::Fargate,
        None => ecs::LaunchType::Ec2,
    };
    let is_awsvpc = definition.network_mode == Some(ecs::NetworkMode::Awsvpc);
    let answer: ecs::RunTaskResponse = api
        .ecs(
            "RunTask",
            &ecs::RunTaskRequest {
                cluster: Some(args.cluster.clone()),
                count: Some(i32::from(args.count)),
                launch_type: Some(launch_type),
                task_definition: definition.task_definition_arn.clone(),
                started_by: Some("minato-run".to_owned()),
                overrides: overrides(args, definition),
                network_configuration: is_awsvpc.then(|| network(api)),
                ..Default::default()
            },
        )
        .await?;
    let tasks = answer.tasks.unwrap_or_default();
    if let Some(failure) = answer.failures.iter().flatten().next() {
        // What was started is stopped: half a run is no run.
        for task in &tasks {
            let reason = Some("Not all copies could be placed".to_owned());
            api.stop(task, reason).await?;
        }
        bail!("{}", in_plain_words(failure));
    }
    Ok(tasks)
}

/// A placement failure for people.
fn in_plain_words(failure: &ecs::Failure) -> String {
    let reason = failure.reason.as_deref().unwrap_or("no reason given");
    let detail = failure.detail.as_deref().unwrap_or_default();
    let meaning = match reason {
        "ATTRIBUTE" => {
            "the definition needs something that this host cannot do"
        }
        "AGENT" => "the host's agent is not connected",
        "RESOURCE:CPU" => "the host has not enough CPU units left",
        "RESOURCE:MEMORY" => "the host has not enough memory left",
        "RESOURCE:PORTS" | "RESOURCE:PORTS_UDP" => "a host port is taken",
        _ => "the task could not be placed",
    };
    format!(
        "{meaning} ({reason}{}{detail})",
        if detail.is_empty() { "" } else { ": " }
    )
}

fn overrides(
    args: &RunArgs,
    definition: &ecs::TaskDefinition,
) -> Option<ecs::TaskOverride> {
    if args.env.is_empty() {
        return None;
    }
    let environment: Vec<ecs::KeyValuePair> = args
        .env
        .iter()
        .map(|(name, value)| ecs::KeyValuePair {
            name: Some(name.clone()),
            value: Some(value.clone()),
        })
        .collect();
    let containers = definition.container_definitions.iter().flatten();
    Some(ecs::TaskOverride {
        container_overrides: Some(
            containers
                .map(|container| ecs::ContainerOverride {
                    name: container.name.clone(),
                    environment: Some(environment.clone()),
                    ..Default::default()
                })
                .collect(),
        ),
        ..Default::default()
    })
}

/// The first default subnet, where the local host is.
fn network(api: &Api) -> ecs::NetworkConfiguration {
    let running = &api.running;
    let subnets =
        minato_control::default_subnets(&running.account, &running.region);
    ecs::NetworkConfiguration {
        awsvpc_configuration: Some(ecs::AwsVpcConfiguration {
            subnets: Some(
                subnets.into_iter().take(1).map(|subnet| subnet.id).collect(),
            ),
            ..Default::default()
        }),
    }
}

/// Shows states and logs until all tasks have ended or Ctrl-C stops them.
async fn watch(
    home: &Home,
    api: &Api,
    definition: &ecs::TaskDefinition,
    tasks: Vec<ecs::Task>,
) -> Result<ExitCode> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut shown: BTreeMap<String, String> = BTreeMap::new();
    let mut followers: BTreeMap<String, Follower> = BTreeMap::new();
    let mut looks_left = LAST_LOOKS;
    let mut is_stopping = false;
    loop {
        let now = now(api, &tasks).await?;
        for task in &now {
            let id = id_of(task).to_owned();
            let line = state_line(task);
            if shown.insert(id.clone(), line.clone()).as_ref() != Some(&line) {
                say!("{line}")?;
            }
            // Runtime ids come with the first containers.
            let is_up = task.started_at.is_some() || task.stopped_at.is_some();
            if is_up && !followers.contains_key(&id) {
                let mut follower = Follower::of(home, task, definition);
                if tasks.len() > 1 {
                    follower.name_task(task);
                }
                followers.insert(id, follower);
            }
        }
        for follower in followers.values_mut() {
            follower.look(api).await?;
        }
        let is_over =
            |task: &ecs::Task| task.last_status.as_deref() == Some("STOPPED");
        if now.iter().all(is_over) {
            looks_left -= 1;
            if looks_left == 0 {
                return Ok(finish(&now, is_stopping));
            }
        }
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            () = tokio::time::sleep(LOOK_EVERY) => continue,
        }
        if is_stopping {
            // Asked twice: whoever asks does not want to wait.
            say!("not waiting; `minato ps` shows what still stops")?;
            return Ok(ExitCode::from(INTERRUPTED));
        }
        is_stopping = true;
        say!("stopping")?;
        for task in &tasks {
            api.stop(task, Some("Stopped by minato run".to_owned())).await?;
        }
    }
}

async fn now(api: &Api, tasks: &[ecs::Task]) -> Result<Vec<ecs::Task>> {
    let cluster = tasks.first().and_then(|task| task.cluster_arn.clone());
    let arns: Vec<String> =
        tasks.iter().filter_map(|task| task.task_arn.clone()).collect();
    api.describe(&cluster.unwrap_or_default(), &arns).await
}

fn state_line(task: &ecs::Task) -> String {
    let id: String = id_of(task).chars().take(12).collect();
    let status = task.last_status.as_deref().unwrap_or_default();
    let mut line = format!("task {id} {status}");
    if let Some(address) = address_of(task) {
        line.push_str(&format!("  {address}"));
    }
    for container in task.containers.iter().flatten() {
        let name = container.name.as_deref().unwrap_or_default();
        let state = container.last_status.as_deref().unwrap_or_default();
        line.push_str(&format!("  {name}:{state}"));
        for binding in container.network_bindings.iter().flatten() {
            if let (Some(host), Some(inner)) =
                (binding.host_port, binding.container_port)
            {
                line.push_str(&format!("(127.0.0.1:{host}->{inner})"));
            }
        }
    }
    line
}

/// The end: why, and with which exit code.
fn finish(tasks: &[ecs::Task], was_asked: bool) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for task in tasks {
        let failed =
            task.containers.iter().flatten().any(|container| {
                container.exit_code.is_none_or(|code| code != 0)
            });
        if failed && !was_asked {
            eprintln!("{}", explain::paragraph(task));
            code = ExitCode::FAILURE;
        }
    }
    code
}
