//! The log router's files: its configuration, and the directory in which it
//! makes the socket that records come by.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use futures_util::future::BoxFuture;

use super::volumes::remove_dir;
use super::{ContainerContext, Step, StepError, TaskContext};
use crate::logs::firelens::{self, config, config_path};
use crate::runtime::BindMount;
use crate::task::plan::{LogAddress, LogPlan, NetworkPlan};
use crate::task::record::ContainerFacts;

pub(super) struct RouterFiles;

const KIND: &str = "ResourceInitializationError";

/// The directory that a router shares with the host, where its socket is.
pub(crate) fn socket_dir(cx: &TaskContext) -> PathBuf {
    cx.dir.join("firelens/socket")
}

fn config_file(cx: &TaskContext) -> PathBuf {
    cx.dir.join("firelens/config/fluent.conf")
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
            let work = move || write(&file, &text, &dir);
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

fn write(file: &Path, text: &str, socket_dir: &Path) -> std::io::Result<()> {
    if let Some(dir) = file.parent() {
        fs::create_dir_all(dir)?;
    }
    // Not replaced by renaming: a running router has it mounted.
    fs::write(file, text)?;
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
    vec![
        mount(config_file(&cx.task), config_path(plan.kind)),
        mount(socket_dir(&cx.task), "/var/run"),
    ]
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
