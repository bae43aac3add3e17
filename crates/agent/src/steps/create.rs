//! Making the container: everything the plan says, in the engine's terms.

use std::collections::BTreeMap;
use std::fs;

use futures_util::future::BoxFuture;

use super::copy_up::fill;
use super::files::{file_mounts, hostname};
use super::firelens::{router_env, router_mounts};
use super::image_volumes::directories;
use super::mounts::mounts;
use super::volumes::{is_ebs, own_files, writable};
use super::{ContainerContext, Step, StepError, link_env, namespaces};
use crate::config::TaskEndpoint;
use crate::runtime::{
    Capabilities, ContainerId, ContainerSpec, ImageFacts, LogLimits, Netns,
    Resources, Ulimit, WhenLogFull,
};
use crate::task::plan::{
    AwslogsPlan, ContainerPlan, LogPlan, NetworkPlan, TaskPlan,
};
use crate::task::record::ContainerFacts;

pub(super) struct Create;

const KIND: &str = "CannotCreateContainerError";

/// Where the task endpoint is, from every container.
const ENDPOINT_URL: &str = "http://169.254.170.2";

/// Where SDKs look for another address of AWS's APIs.
const API_VARIABLE: &str = "AWS_ENDPOINT_URL";

/// The least memory limit; ECS raises a smaller one to it.
const MEMORY_MIN: u64 = 6 << 20;

/// Log kept for a destination that does not keep up, in mode `blocking`: how
/// far the container may run ahead before it is blocked.
const BLOCKING_LOG_BYTES: u64 = 256 << 20;

impl Step<ContainerContext, ContainerFacts> for Create {
    fn name(&self) -> &'static str {
        "create"
    }

    fn up<'a>(
        &'a self,
        cx: &'a ContainerContext,
        facts: &'a mut ContainerFacts,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move {
            // It looks at directories, some of which may be far away.
            let (own_cx, facts) = (cx.clone(), facts.clone());
            let work = move || {
                let spec = container_spec(&own_cx, &facts)?;
                if let Some(image) = &facts.image {
                    fill_volumes(&own_cx, image)?;
                }
                Ok(spec)
            };
            let spec = tokio::task::spawn_blocking(work)
                .await
                .map_err(|error| StepError::new(KIND, error))??;
            cx.task
                .services
                .runtime
                .create(&spec)
                .await
                .map_err(StepError::of(KIND))
        })
    }

    fn down<'a>(
        &'a self,
        cx: &'a ContainerContext,
        _facts: &'a mut ContainerFacts,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move {
            cx.task
                .services
                .runtime
                .remove(&cx.plan.id)
                .await
                .map_err(StepError::of("CannotRemoveContainerError"))
        })
    }
}

/// Puts what the image has where empty volumes are mounted into them.
fn fill_volumes(
    cx: &ContainerContext,
    image: &ImageFacts,
) -> Result<(), StepError> {
    let layers = &image.layers;
    for (path, dir) in directories(cx, &cx.plan, &image.volumes)? {
        fs::create_dir_all(&dir)
            .and_then(|()| fill(&dir, layers, &path))
            .map_err(|error| {
                let path = path.display();
                StepError::new(KIND, format!("VOLUME {path}: {error}"))
            })?;
    }
    for mount in &cx.plan.mounts {
        let Some(volume) = cx.task.plan.volumes.get(&mount.volume) else {
            continue;
        };
        let Some(dir) = own_files(&cx.task, &mount.volume, volume)? else {
            continue;
        };
        fill(&dir, layers, &mount.path).map_err(|error| {
            let name = &mount.volume;
            StepError::new(KIND, format!("filling volume {name}: {error}"))
        })?;
    }
    Ok(())
}

/// The engine's specification of a container.
pub(super) fn container_spec(
    cx: &ContainerContext,
    facts: &ContainerFacts,
) -> Result<ContainerSpec, StepError> {
    let plan = &cx.plan;
    let image = facts
        .image
        .as_ref()
        .ok_or_else(|| StepError::new(KIND, "the image is not here"))?;
    let id = ContainerId::new(plan.id.clone())
        .map_err(|error| StepError::new(KIND, error))?;
    let args = args(cx, image)?;
    let mut spec = ContainerSpec::new(id, image.layers.clone(), args);
    spec.readonly_rootfs = plan.read_only_root;
    spec.env = env(cx, image);
    spec.cwd = first([&plan.working_dir, &image.working_dir]);
    spec.user = first([&plan.user, &image.user]);
    spec.hostname = hostname(cx);
    spec.netns = netns(cx, facts)?;
    namespaces::join(cx, &mut spec)?;
    spec.writable = writable(&cx.task, &plan.id);
    spec.mounts = mounts(cx, image)?;
    if spec.mounts.iter().any(|mount| is_ebs(&cx.task, &mount.source)) {
        spec.additional_groups.push("0".to_owned());
    }
    spec.mounts.extend(file_mounts(cx));
    spec.mounts.extend(router_mounts(cx));
    spec.tmpfs.clone_from(&plan.tmpfs);
    spec.shm_size_bytes = plan.shm_bytes;
    spec.cgroup_parent.clone_from(&cx.task_facts.cgroup);
    spec.resources = Resources {
        cpu_shares: Some(plan.cpu_shares),
        memory_bytes: plan.memory_bytes.map(|bytes| bytes.max(MEMORY_MIN)),
        memory_reservation_bytes: plan.memory_reservation_bytes,
        swap_bytes: plan.swap_bytes,
        swappiness: plan.swappiness,
        ..Resources::default()
    };
    spec.capabilities =
        Capabilities { add: plan.cap_add.clone(), drop: plan.cap_drop.clone() };
    spec.privileged = plan.privileged;
    spec.no_new_privileges = plan.no_new_privileges;
    spec.ulimits = ulimits(cx);
    spec.sysctls.clone_from(&plan.sysctls);
    spec.devices.clone_from(&plan.devices);
    spec.init = plan.init;
    spec.tty = plan.tty;
    spec.stdin = plan.open_stdin;
    spec.log = log_limits(&plan.log);
    spec.labels = labels(&cx.task.plan, plan);
    spec.stop_signal =
        plan.stop_signal.clone().or_else(|| image.stop_signal.clone());
    Ok(spec)
}

fn first(texts: [&Option<String>; 2]) -> String {
    texts.into_iter().flatten().next().cloned().unwrap_or_default()
}

/// As Docker: an entry point of one's own does without the image's command.
pub(crate) fn args(
    cx: &ContainerContext,
    image: &ImageFacts,
) -> Result<Vec<String>, StepError> {
    let plan = &cx.plan;
    let (entry_point, default_command) = if plan.entry_point.is_empty() {
        (&image.entrypoint, image.cmd.as_slice())
    } else {
        (&plan.entry_point, [].as_slice())
    };
    let command =
        if plan.command.is_empty() { default_command } else { &plan.command };
    let args: Vec<String> =
        entry_point.iter().chain(command).cloned().collect();
    if args.is_empty() {
        return Err(StepError::new(KIND, "no command specified"));
    }
    Ok(args)
}

/// Those of links, then the image's variables, then those of environment
/// files, then the task definition's, then the region where none has it, then
/// where the task endpoint is.
pub(crate) fn env(cx: &ContainerContext, image: &ImageFacts) -> Vec<String> {
    const REGION_NAMES: [&str; 2] = ["AWS_REGION", "AWS_DEFAULT_REGION"];
    let links = link_env::variables(cx);
    let mut env: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, value) in &links {
        env.insert(name, value);
    }
    for pair in &image.env {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        env.insert(name, value);
    }
    for (name, value) in cx.files.variables() {
        env.insert(name, value);
    }
    for (name, value) in &cx.plan.environment {
        env.insert(name, value);
    }
    if !REGION_NAMES.iter().any(|name| env.contains_key(name)) {
        for name in REGION_NAMES {
            env.insert(name, &cx.task.services.config.region);
        }
    }
    let own = [endpoint_env(cx), router_env(cx)].concat();
    for (name, value) in &own {
        env.insert(name, value);
    }
    if cx.task.services.config.task_endpoint == TaskEndpoint::AndApi
        && !cx.plan.secrets.iter().any(|secret| secret.name == API_VARIABLE)
    {
        env.entry(API_VARIABLE).or_insert(ENDPOINT_URL);
    }
    env.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// The variables by which SDKs find credentials, metadata and the agent; no
/// definition may have them otherwise, as upstream.
fn endpoint_env(cx: &ContainerContext) -> Vec<(&'static str, String)> {
    let mut env = vec![];
    if cx.task.services.config.task_endpoint == TaskEndpoint::Absent {
        return env;
    }
    if let Some(id) = &cx.task.plan.credentials_id {
        let name = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
        env.push((name, format!("/v2/credentials/{id}")));
    }
    if let Some(token) = &cx.token {
        let url = |part| format!("{ENDPOINT_URL}/{part}/{}", token.reveal());
        env.push(("ECS_CONTAINER_METADATA_URI", url("v3")));
        env.push(("ECS_CONTAINER_METADATA_URI_V4", url("v4")));
        env.push(("ECS_AGENT_URI", url("api")));
    }
    env
}

fn netns(
    cx: &ContainerContext,
    facts: &ContainerFacts,
) -> Result<Netns, StepError> {
    let missing =
        || StepError::new("ContainerNetworkingError", "there is no network");
    // Docker gives such a container nothing, whatever the others share.
    if cx.plan.network_disabled {
        return Ok(Netns::New);
    }
    Ok(match &cx.task.plan.network {
        NetworkPlan::Host => Netns::Host,
        NetworkPlan::None => Netns::New,
        NetworkPlan::Awsvpc(_) => {
            Netns::Path(cx.task_facts.netns.clone().ok_or_else(missing)?)
        }
        NetworkPlan::Bridge => Netns::Path(
            facts.address.as_ref().ok_or_else(missing)?.netns.clone(),
        ),
    })
}

/// Fargate's default is more open files than the kernel's.
fn ulimits(cx: &ContainerContext) -> Vec<Ulimit> {
    let mut ulimits = cx.plan.ulimits.clone();
    let has_nofile = ulimits.iter().any(|limit| limit.name == "nofile");
    if cx.task.plan.is_fargate() && !has_nofile {
        let files = super::nofile::fargate_default();
        ulimits.push(Ulimit {
            name: "nofile".into(),
            soft: files,
            hard: files,
        });
    }
    ulimits
}

fn log_limits(log: &LogPlan) -> LogLimits {
    let buffer = |bytes: Option<u64>| {
        let segments = LogLimits::default();
        let (bytes, when_full) = match bytes {
            Some(bytes) => (bytes, WhenLogFull::DropOldest),
            None => (BLOCKING_LOG_BYTES, WhenLogFull::Block),
        };
        let max_bytes = bytes.max(segments.segment_bytes);
        LogLimits { max_bytes, when_full, ..segments }
    };
    match log {
        LogPlan::JsonFile { max_size_bytes, max_files, .. } => LogLimits {
            segment_bytes: *max_size_bytes,
            max_bytes: max_size_bytes.saturating_mul(u64::from(*max_files)),
            when_full: WhenLogFull::DropOldest,
        },
        LogPlan::Awslogs(AwslogsPlan { max_buffer_bytes, .. }) => {
            buffer(*max_buffer_bytes)
        }
        LogPlan::Remote(remote) => buffer(remote.max_buffer_bytes),
        // The engine always writes; this is the least it can be told.
        LogPlan::None => LogLimits::LEAST,
    }
}

/// A container's own labels and those of ECS.
pub(crate) fn labels(
    task: &TaskPlan,
    plan: &ContainerPlan,
) -> BTreeMap<String, String> {
    let mut labels = plan.labels.clone();
    for (name, value) in [
        ("task-arn", &task.arn),
        ("container-name", &plan.name),
        ("task-definition-family", &task.family),
        ("task-definition-version", &task.revision),
        ("cluster", &task.cluster_arn),
    ] {
        labels.insert(format!("com.amazonaws.ecs.{name}"), value.clone());
    }
    labels
}
