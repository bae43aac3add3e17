//! A task's proxy: connections are led through it without their knowing.
//!
//! The rules are those of the App Mesh plugin that the upstream agent runs:
//!
//! ```text
//! table ip minato-proxy {            # in the task's namespace; ip6, too
//!   chain ingress { prerouting nat: tcp from elsewhere to an application's
//!                   port: to the proxy's ingress port }
//!   chain egress  { output nat: tcp to elsewhere, but for the proxy's own
//!                   and what is exempt: to the proxy's egress port }
//! }
//! ```

use super::super::error::DoingStep;
use super::super::family::IpFamily;
use super::super::netlink::{Request, Socket};
use super::super::nft::{self, End, HOOK_OUTPUT, HOOK_PREROUTING, Hook, Rule};
use super::super::{Inner, NetworkStepError, Protocol};
use super::range::IpRange;
use super::{FaultSite, enter};

const TABLE: &str = "minato-proxy";
const INGRESS: &str = "ingress";
const EGRESS: &str = "egress";
const PRIORITY_DSTNAT: i32 = -100;

/// Which connections of a task are led through its proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyRules {
    /// The proxy's user, whose own connections are left alone.
    pub ignored_uid: Option<u32>,
    /// The proxy's group, the same.
    pub ignored_gid: Option<u32>,
    /// Where the proxy takes what comes in.
    pub ingress_port: u16,
    /// Where the proxy takes what goes out.
    pub egress_port: u16,
    /// The applications' ports.
    pub app_ports: Vec<u16>,
    /// Ports elsewhere that are called directly.
    pub egress_ignored_ports: Vec<u16>,
    /// Addresses that are called directly.
    pub egress_ignored_ranges: Vec<IpRange>,
}

impl Inner {
    /// Runs on a thread that ends with the work.
    pub(in super::super) fn proxy_set(
        &self,
        task_id: &str,
        rules: &ProxyRules,
    ) -> Result<(), NetworkStepError> {
        let site = FaultSite { task_id: task_id.to_owned(), in_host: false };
        enter(&self.netns_of(&site)?)?;
        let mut socket = Socket::netfilter()?;
        let families = self.families().iter();
        let all: Vec<Request> =
            families.flat_map(|family| requests(rules, *family)).collect();
        socket
            .transaction(&all)
            .doing(format_args!("lead task {task_id} through its proxy"))
    }
}

/// Replaces what may be there.
fn requests(rules: &ProxyRules, family: IpFamily) -> Vec<Request> {
    let (kind, priority) = ("nat", PRIORITY_DSTNAT);
    let start = |chain, number| {
        nft::chain_create(TABLE, &Hook { chain, kind, number, priority })
    };
    let mut requests = vec![
        nft::table_create(TABLE),
        nft::table_delete(TABLE),
        nft::table_create(TABLE),
        start(INGRESS, HOOK_PREROUTING),
        start(EGRESS, HOOK_OUTPUT),
    ];
    let tcp = || Rule::default().protocol(Protocol::Tcp.number());
    let mut add = |chain: &str, rule: Rule| {
        requests.push(nft::rule_append(TABLE, chain, &rule));
    };
    add(INGRESS, tcp().local(End::Source).accept());
    for port in &rules.app_ports {
        add(INGRESS, tcp().ports(*port, *port).redirect(rules.ingress_port));
    }
    add(EGRESS, tcp().local(End::Destination).accept());
    if let Some(id) = &rules.ignored_uid {
        add(EGRESS, tcp().user(*id).accept());
    }
    if let Some(id) = &rules.ignored_gid {
        add(EGRESS, tcp().group(*id).accept());
    }
    for port in &rules.egress_ignored_ports {
        add(EGRESS, tcp().ports(*port, *port).accept());
    }
    let is_ipv6 = family == IpFamily::V6;
    let ranges = rules.egress_ignored_ranges.iter();
    for range in ranges.filter(|range| range.is_ipv6() == is_ipv6) {
        add(EGRESS, tcp().within(End::Destination, *range).accept());
    }
    add(EGRESS, tcp().redirect(rules.egress_port));
    family.all(requests)
}
