//! What is set within tasks' networks: faults, and a proxy's redirections.
//!
//! All of it is the kernel's state in the task's namespace and goes with it;
//! only faults of tasks in host mode live in the host's namespace and are
//! taken away by name.

mod fault;
mod mesh;
mod range;
mod rule;
mod tc;

use std::fs::File;

pub use fault::{
    Blackhole, Direction, FaultSite, Impairment, ImpairmentKind, Port,
    probe_faults,
};
pub use mesh::ProxyRules;
pub use range::{IpRange, ParseIpRangeError};

pub(super) use fault::{host_tables, remove_host_faults};

use super::error::DoingStep;
use super::{
    AttachError, AttachmentKind, Inner, Network, NetworkStepError, namespace,
};

impl Network {
    /// Leads a task's connections through its proxy; the task is attached.
    pub async fn proxy_set(
        &self,
        task_id: &str,
        rules: &ProxyRules,
    ) -> Result<(), NetworkStepError> {
        let (task, rules) = (task_id.to_owned(), rules.clone());
        self.on_thread(move |inner| inner.proxy_set(&task, &rules)).await
    }

    /// Begins to drop a port's packets; one that is dropped already stays as
    /// it is.
    pub async fn blackhole_start(
        &self,
        site: &FaultSite,
        blackhole: &Blackhole,
    ) -> Result<(), AttachError> {
        let (site, wanted) = (site.clone(), blackhole.clone());
        self.on_thread(move |inner| inner.blackhole_start(&site, &wanted)).await
    }

    /// Lets a port's packets through again.
    pub async fn blackhole_stop(
        &self,
        site: &FaultSite,
        port: Port,
    ) -> Result<(), AttachError> {
        let site = site.clone();
        self.on_thread(move |inner| inner.blackhole_stop(&site, port)).await
    }

    /// Whether a port's packets are dropped.
    pub async fn is_blackhole(
        &self,
        site: &FaultSite,
        port: Port,
    ) -> Result<bool, AttachError> {
        let site = site.clone();
        self.on_thread(move |inner| inner.is_blackhole(&site, port)).await
    }

    /// Impairs what the site sends to `sources`, but not what it sends to
    /// `except` and to the task endpoint. Answers with the impairment that
    /// is there already, if there is one; then nothing is done.
    pub async fn impair(
        &self,
        site: &FaultSite,
        impairment: Impairment,
        sources: &[IpRange],
        except: &[IpRange],
    ) -> Result<Option<ImpairmentKind>, AttachError> {
        let site = site.clone();
        let (sources, except) = (sources.to_vec(), except.to_vec());
        self.on_thread(move |inner| {
            inner.impair(&site, &impairment, &sources, &except)
        })
        .await
    }

    /// What impairs the site, if anything does.
    pub async fn impairment(
        &self,
        site: &FaultSite,
    ) -> Result<Option<ImpairmentKind>, AttachError> {
        let site = site.clone();
        self.on_thread(move |inner| inner.impairment(&site)).await
    }

    /// Ends an impairment of the kind given, if there is one.
    pub async fn impairment_stop(
        &self,
        site: &FaultSite,
        kind: ImpairmentKind,
    ) -> Result<(), AttachError> {
        let site = site.clone();
        self.on_thread(move |inner| inner.impairment_stop(&site, kind)).await
    }

    /// Ends every fault of a task in host mode. Those of others end with the
    /// task's namespace.
    pub async fn host_faults_end(
        &self,
        task_id: &str,
    ) -> Result<(), AttachError> {
        let site = FaultSite { task_id: task_id.to_owned(), in_host: true };
        self.on_thread(move |inner| inner.faults_end(&site)).await
    }
}

impl Inner {
    /// The namespace of a site; that of an unattached task is an error.
    fn netns_of(&self, site: &FaultSite) -> Result<File, NetworkStepError> {
        if site.in_host {
            return self
                .host
                .try_clone()
                .doing("keep hold of the host's network namespace");
        }
        let path = self.pin_path(AttachmentKind::Task, &site.task_id);
        File::open(&path).doing(format_args!("open {}", path.display()))
    }
}

/// The thread must end with its work.
fn enter(netns: &File) -> Result<(), NetworkStepError> {
    namespace::enter(netns).doing("enter a task's network namespace")
}
