//! `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` of the container.
//!
//! They are files of the host's, mounted into the container, as Docker's are:
//! an image need not have them, and a read-only root file system does not
//! matter.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use futures_util::future::BoxFuture;

use super::volumes::remove_dir;
use super::{ContainerContext, Step, StepError};
use crate::runtime::{BindMount, Resolver};
use crate::task::plan::{InterfacePlan, NetworkPlan};
use crate::task::record::ContainerFacts;

pub(super) struct Files;

const KIND: &str = "CannotCreateContainerError";

/// What every container's `/etc/hosts` begins with, as Docker's do.
const LOCAL_HOSTS: &str = "127.0.0.1\tlocalhost\n\
    ::1\tlocalhost ip6-localhost ip6-loopback\n\
    fe00::0\tip6-localnet\n\
    ff00::0\tip6-mcastprefix\n\
    ff02::1\tip6-allnodes\n\
    ff02::2\tip6-allrouters\n";

/// The three files on the host.
const NAMES: [&str; 3] = ["hosts", "hostname", "resolv.conf"];

impl Step<ContainerContext, ContainerFacts> for Files {
    fn name(&self) -> &'static str {
        "files"
    }

    fn up<'a>(
        &'a self,
        cx: &'a ContainerContext,
        facts: &'a mut ContainerFacts,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move {
            let dir = cx.dir();
            let ip = address(cx, facts);
            let host_hosts = if cx.task.plan.network == NetworkPlan::Host {
                tokio::fs::read_to_string("/etc/hosts").await.ok()
            } else {
                None
            };
            let resolver = cx.task.services.runtime.resolver();
            let contents = [
                hosts(cx, ip, host_hosts),
                hostname(cx).map(|name| name + "\n").unwrap_or_default(),
                resolv_conf(cx, resolver),
            ];
            write_all(&dir, contents).await.map_err(|error| {
                StepError::new(KIND, format!("{}: {error}", dir.display()))
            })
        })
    }

    fn down<'a>(
        &'a self,
        cx: &'a ContainerContext,
        _facts: &'a mut ContainerFacts,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(remove_dir(cx.dir(), KIND))
    }
}

async fn write_all(dir: &Path, contents: [String; 3]) -> std::io::Result<()> {
    tokio::fs::create_dir_all(dir).await?;
    for (name, content) in NAMES.iter().zip(contents) {
        // Not replaced by renaming: a running container has it mounted.
        tokio::fs::write(dir.join(name), content).await?;
    }
    Ok(())
}

/// The mounts that show the files to the container.
pub(super) fn file_mounts(cx: &ContainerContext) -> Vec<BindMount> {
    let dir = cx.dir();
    NAMES
        .iter()
        .filter(|name| **name != "hostname" || hostname(cx).is_some())
        .map(|name| BindMount {
            source: dir.join(name),
            destination: PathBuf::from("/etc").join(name),
            readonly: false,
            within: None,
        })
        .collect()
}

/// The container's host name; `None` in the host's network, whose name the
/// container shares.
pub(super) fn hostname(cx: &ContainerContext) -> Option<String> {
    if let NetworkPlan::Awsvpc(interface) = &cx.task.plan.network {
        return Some(interface_name(cx, interface));
    }
    if let Some(name) = &cx.plan.hostname {
        return Some(name.clone());
    }
    if cx.task.plan.network == NetworkPlan::Host {
        return None;
    }
    // As Docker does, twelve hexadecimal digits, and its own for each
    // container (ids of one task begin alike).
    let hash = cx.plan.id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, byte| {
        (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    Some(format!("{:012x}", hash & 0xffff_ffff_ffff))
}

fn interface_name(cx: &ContainerContext, interface: &InterfacePlan) -> String {
    interface.private_dns_name.clone().unwrap_or_else(|| {
        let [a, b, c, d] = interface.ip.octets();
        let region = &cx.task.services.config.region;
        format!("ip-{a}-{b}-{c}-{d}.{region}.compute.internal")
    })
}

fn address(cx: &ContainerContext, facts: &ContainerFacts) -> Option<Ipv4Addr> {
    if cx.plan.network_disabled {
        return None;
    }
    match &cx.task.plan.network {
        NetworkPlan::Awsvpc(interface) => Some(interface.ip),
        NetworkPlan::Bridge => facts.address.as_ref().map(|address| address.ip),
        NetworkPlan::Host | NetworkPlan::None => None,
    }
}

fn hosts(
    cx: &ContainerContext,
    ip: Option<Ipv4Addr>,
    host_hosts: Option<String>,
) -> String {
    let mut text = host_hosts.unwrap_or_else(|| LOCAL_HOSTS.to_owned());
    if !text.ends_with('\n') {
        text.push('\n');
    }
    for (name, address) in &cx.plan.extra_hosts {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{address}\t{name}");
    }
    for (names, address) in cx.links.values() {
        let _ = writeln!(text, "{address}\t{}", names.join(" "));
    }
    if let Some((ip, name)) = ip.zip(hostname(cx)) {
        match name.split_once('.') {
            Some((short, _)) => {
                let _ = writeln!(text, "{ip}\t{name} {short}");
            }
            None => {
                let _ = writeln!(text, "{ip}\t{name}");
            }
        }
    }
    text
}

fn resolv_conf(cx: &ContainerContext, host: Resolver) -> String {
    let (mut servers, mut search) = (host.nameservers, host.search);
    if let NetworkPlan::Awsvpc(interface) = &cx.task.plan.network {
        if !interface.nameservers.is_empty() {
            servers.clone_from(&interface.nameservers);
        }
        if !interface.search.is_empty() {
            search.clone_from(&interface.search);
        }
    }
    if !cx.plan.dns_servers.is_empty() {
        servers.clone_from(&cx.plan.dns_servers);
    }
    if !cx.plan.dns_search.is_empty() {
        search.clone_from(&cx.plan.dns_search);
    }
    let mut text = String::new();
    for server in servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    // A single dot is Docker's way to ask for no search domain at all.
    if !search.is_empty() && search != ["."] {
        let _ = writeln!(text, "search {}", search.join(" "));
    }
    if !host.options.is_empty() {
        let _ = writeln!(text, "options {}", host.options.join(" "));
    }
    text
}
