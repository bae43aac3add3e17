//! The log router's files: its configuration, and the directory in which it
//! makes the socket that records come by.

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::OnceCell;

use super::s3_access::s3_access;
use super::volumes::remove_dir;
use super::{ContainerContext, Step, StepError, TaskContext};
use crate::logs::firelens::{self, config, config_path, external_path};
use crate::objects::Objects;
use crate::runtime::BindMount;
use crate::task::plan::{
    IncludePlan, LogAddress, LogPlan, NetworkPlan, ObjectPlan,
};
use crate::task::record::ContainerFacts;

pub(super) struct FetchConfig;
pub(super) struct RouterFiles;

const KIND: &str = "ResourceInitializationError";

/// The further configuration of a log router, fetched once.
#[derive(Clone, Default)]
pub struct RouterConfigCell(Arc<OnceCell<Bytes>>);

impl fmt::Debug for RouterConfigCell {
    // Configurations of log routers may hold keys of who takes the logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RouterConfigCell").field(&self.0.initialized()).finish()
    }
}

/// The directory that a router shares with the host, where its socket is.
pub(crate) fn socket_dir(cx: &TaskContext) -> PathBuf {
    cx.dir.join("firelens/socket")
}

fn config_file(cx: &TaskContext) -> PathBuf {
    cx.dir.join("firelens/config/fluent.conf")
}

fn external_file(cx: &TaskContext) -> PathBuf {
    cx.dir.join("firelens/config/external.conf")
}

/// The ARN of the further configuration that is to be fetched.
fn external_arn(cx: &ContainerContext) -> Option<&str> {
    match cx.plan.router.as_ref()?.include.as_ref()? {
        IncludePlan::Object(arn) => Some(arn),
        IncludePlan::File(_) => None,
    }
}

impl Step<ContainerContext, ContainerFacts> for FetchConfig {
    fn name(&self) -> &'static str {
        "firelens configuration"
    }

    fn is_interruptible(&self) -> bool {
        true
    }

    fn up<'a>(
        &'a self,
        cx: &'a ContainerContext,
        facts: &'a mut ContainerFacts,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move {
            let Some(arn) = external_arn(cx) else { return Ok(()) };
            // One that has started has read it; the file is still there.
            if facts.started_at_ms.is_some() {
                return Ok(());
            }
            let fetched = cx.router_config.0.get_or_try_init(|| fetch(cx, arn));
            fetched.await.map(drop).map_err(|why| {
                let what = "unable to download firelens s3 config file";
                StepError::new(KIND, format!("{what}: {why}"))
            })
        })
    }

    fn down<'a>(
        &'a self,
        _cx: &'a ContainerContext,
        _facts: &'a mut ContainerFacts,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async { Ok(()) })
    }
}

async fn fetch(cx: &ContainerContext, arn: &str) -> Result<Bytes, String> {
    let (config, credentials) =
        s3_access(cx).await.map_err(|error| error.to_string())?;
    let ObjectPlan { bucket, key } =
        ObjectPlan::of_arn(arn).ok_or_else(|| {
            let what = "unable to parse bucket and key from s3 arn";
            format!("{what}: {arn:?} is not the ARN of an object in S3")
        })?;
    let clock = &*cx.task.services.clock;
    let objects = Objects::new(config, &credentials, clock)
        .map_err(|error| error.to_string())?;
    objects.get(&bucket, &key).await.map_err(|error| {
        format!(
            "unable to download s3 config {key} from bucket {bucket}: {error}"
        )
    })
}

impl Step<ContainerContext, ContainerFacts> for RouterFiles {
    fn name(&self) -> &'static str {
        "firelens"
    }

    fn up<'a>(
        &'a self,
        cx: &'a ContainerContext,
        _facts: &'a mut ContainerFacts,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move {
            let Some(plan) = &cx.plan.router else { return Ok(()) };
            let cluster = &cx.task.services.config.cluster;
            let text = config(&cx.task.plan, &cx.plan, plan, cluster)
                .map_err(|error| StepError::new(KIND, error))?;
            let (file, dir) = (config_file(&cx.task), socket_dir(&cx.task));
            let external = cx.router_config.0.get().cloned();
            let external =
                external.map(|bytes| (external_file(&cx.task), bytes));
            let work = move || write(&file, &text, external, &dir);
            tokio::task::spawn_blocking(work)
                .await
                .map_err(|error| StepError::new(KIND, error))?
                .map_err(|error| {
                    let what = "unable to write the firelens configuration";
                    StepError::new(KIND, format!("{what}: {error}"))
                })
        })
    }

    fn down<'a>(
        &'a self,
        cx: &'a ContainerContext,
        _facts: &'a mut ContainerFacts,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move {
            if cx.plan.router.is_none() {
                return Ok(());
            }
            remove_dir(cx.task.dir.join("firelens"), KIND).await
        })
    }
}

fn write(
    file: &Path,
    text: &str,
    external: Option<(PathBuf, Bytes)>,
    socket_dir: &Path,
) -> std::io::Result<()> {
    if let Some(dir) = file.parent() {
        fs::create_dir_all(dir)?;
    }
    // Not replaced by renaming: a running router has it mounted.
    fs::write(file, text)?;
    if let Some((file, bytes)) = external {
        fs::write(file, bytes)?;
    }
    fs::create_dir_all(socket_dir)?;
    // The router may run as any user; nobody else gets this far on the host.
    fs::set_permissions(socket_dir, fs::Permissions::from_mode(0o777))
}

/// The mounts that show a router its files.
pub(super) fn router_mounts(cx: &ContainerContext) -> Vec<BindMount> {
    let Some(plan) = &cx.plan.router else { return vec![] };
    let mount = |source: PathBuf, destination: &str| BindMount {
        source,
        destination: PathBuf::from(destination),
        readonly: false,
        within: None,
    };
    let mut mounts = vec![
        mount(config_file(&cx.task), config_path(plan.kind)),
        mount(socket_dir(&cx.task), "/var/run"),
    ];
    if external_arn(cx).is_some() {
        mounts.push(mount(external_file(&cx.task), external_path(plan.kind)));
    }
    mounts
}

/// The variables by which a logging library finds the router.
pub(super) fn router_env(cx: &ContainerContext) -> Vec<(&'static str, String)> {
    let is_routed = matches!(
        &cx.plan.log, LogPlan::Remote(to) if to.address == LogAddress::Router
    );
    let host = match &cx.task.plan.network {
        NetworkPlan::Awsvpc(_) => Some("127.0.0.1".to_owned()),
        NetworkPlan::Bridge => cx.router_ip.map(|ip| ip.to_string()),
        NetworkPlan::Host | NetworkPlan::None => None,
    };
    match host.filter(|_| is_routed) {
        None => vec![],
        Some(host) => vec![
            ("FLUENT_HOST", host),
            ("FLUENT_PORT", firelens::PORT.to_string()),
        ],
    }
}
