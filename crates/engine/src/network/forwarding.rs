//! Being a router on a host that others manage too.
//!
//! dockerd, ufw and firewalld set the policy of iptables' FORWARD chain to
//! DROP, and dockerd has bridged frames pass through it as well, so that even
//! two tasks on one bridge cannot talk. An accept in our own table does not
//! help: every table must let a packet through. So we ask for passage where
//! dockerd invites others to, in DOCKER-USER, or else in FORWARD itself.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use super::error::{DoingStep, NetworkStepError};
use super::firewall::{self, Segment};
use super::leftovers;
use super::netlink::{Attributes, Family, Socket, text};
use super::{NetworkConfig, nft, sysctl};

const IP_FORWARD: &str = "ipv4/ip_forward";
const DOCKER_USER: &str = "DOCKER-USER";
const FORWARD: &str = "FORWARD";
const NF_DROP: u32 = 0;
/// Where iptables lives when PATH does not say.
const TOOL_DIRS: [&str; 4] =
    ["/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin"];

/// Lets the host forward packets, noting how it was.
pub(super) fn switch_on(
    config: &NetworkConfig,
) -> Result<(), NetworkStepError> {
    let before = sysctl::get(IP_FORWARD)?;
    if before == "1" {
        return Ok(());
    }
    let note = leftovers::forward_note(&config.run_dir, &config.name);
    fs::write(&note, &before)
        .doing(format_args!("write {}", note.display()))?;
    sysctl::set(IP_FORWARD, "1")
}

/// Makes forwarding what it was, unless another Minato needs it.
pub(super) fn switch_back(
    config: &NetworkConfig,
) -> Result<(), NetworkStepError> {
    let note = leftovers::forward_note(&config.run_dir, &config.name);
    let before = match fs::read_to_string(&note) {
        Ok(before) => before,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(error).doing(format_args!("read {}", note.display()));
        }
    };
    let mut netfilter =
        Socket::open(Family::Netfilter).doing("open an nftables socket")?;
    let tables =
        firewall::tables(&mut netfilter).doing("list the nftables tables")?;
    let others = tables.iter().any(|t| t.starts_with(firewall::TABLE_PREFIX));
    if !others {
        sysctl::set(IP_FORWARD, before.trim())?;
    }
    fs::remove_file(&note).doing(format_args!("remove {}", note.display()))
}

/// The two programs called iptables keep their rules in different places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Backend {
    Nft,
    Legacy,
}

/// Has every iptables let our bridges' packets through that might not.
pub(super) fn pass_other_firewalls(
    segments: &[Segment],
) -> Result<(), NetworkStepError> {
    for (backend, chain) in obstacles()? {
        for rule in passage(segments) {
            if iptables(backend, "-C", chain, &rule)?.status.success() {
                continue;
            }
            let output = iptables(backend, "-I", chain, &rule)?;
            if !output.status.success() {
                let told = String::from_utf8_lossy(&output.stderr);
                let error = io::Error::other(told.trim().to_owned());
                return Err(NetworkStepError::new(step(backend), error));
            }
        }
    }
    Ok(())
}

/// Takes our rules out of every iptables.
pub(super) fn forget_other_firewalls(
    segments: &[Segment],
) -> Result<(), NetworkStepError> {
    for backend in backends()? {
        for chain in [DOCKER_USER, FORWARD] {
            for rule in passage(segments) {
                // Each call deletes one; none left is the usual failure.
                while iptables(backend, "-D", chain, &rule)?.status.success() {}
            }
        }
    }
    Ok(())
}

/// iptables rules in which one of our bridges stands, for finding leftovers.
pub(super) fn rules_left(
    segments: &[Segment],
) -> Result<Vec<String>, NetworkStepError> {
    let mut left = Vec::new();
    for backend in backends()? {
        for chain in [DOCKER_USER, FORWARD] {
            for rule in passage(segments) {
                if iptables(backend, "-C", chain, &rule)?.status.success() {
                    left.push(format!("{chain} {}", rule.join(" ")));
                }
            }
        }
    }
    Ok(left)
}

fn passage(segments: &[Segment]) -> Vec<[String; 4]> {
    let rule = |direction: &str, bridge: &str| {
        [direction, bridge, "-j", "ACCEPT"].map(str::to_owned)
    };
    let both = |s: &Segment| [rule("-i", &s.bridge), rule("-o", &s.bridge)];
    segments.iter().flat_map(both).collect()
}

/// The chains in which our rules are needed.
fn obstacles() -> Result<Vec<(Backend, &'static str)>, NetworkStepError> {
    let mut found = Vec::new();
    let nft = nft_chains()?;
    found.extend(obstacle(&nft).map(|chain| (Backend::Nft, chain)));
    if has_legacy_rules() {
        let listing = iptables(Backend::Legacy, "-S", "", &[])?;
        let chains = parse_listing(&String::from_utf8_lossy(&listing.stdout));
        let chain = obstacle(&chains);
        found.extend(chain.map(|chain| (Backend::Legacy, chain)));
    }
    Ok(found)
}

/// A chain of the filter table, and whether it drops what no rule accepts.
type Chain = (String, bool);

fn obstacle(chains: &[Chain]) -> Option<&'static str> {
    let has = |wanted: &str| chains.iter().any(|(name, _)| name == wanted);
    if has(DOCKER_USER) {
        return Some(DOCKER_USER);
    }
    let drops = |(name, drops): &Chain| name == FORWARD && *drops;
    chains.iter().any(drops).then_some(FORWARD)
}

/// The iptables that may hold rules of ours: where its program is missing we
/// cannot have made any.
fn backends() -> Result<Vec<Backend>, NetworkStepError> {
    let mut found = Vec::new();
    if !nft_chains()?.is_empty() {
        found.push(Backend::Nft);
    }
    if has_legacy_rules() {
        found.push(Backend::Legacy);
    }
    found.retain(|backend| tool(*backend).is_some());
    Ok(found)
}

/// The chains of iptables-nft's filter table, asked without the program.
fn nft_chains() -> Result<Vec<Chain>, NetworkStepError> {
    let mut socket =
        Socket::open(Family::Netfilter).doing("open an nftables socket")?;
    let mut chains = Vec::new();
    socket
        .dump(&nft::chains(), |_, payload| {
            let attributes = Attributes(payload.get(4..).unwrap_or_default());
            let table = attributes.value(1).map(text);
            let name = attributes.value(3).map(text);
            let policy = attributes.value(5).and_then(|v| v.first_chunk());
            let drops =
                policy.is_some_and(|v| u32::from_be_bytes(*v) == NF_DROP);
            if table.as_deref() == Some("filter") {
                chains.extend(name.map(|name| (name, drops)));
            }
        })
        .doing("list the nftables chains")?;
    Ok(chains)
}

/// Whether iptables-legacy has been used in this namespace; asking the
/// program itself would load its kernel modules.
fn has_legacy_rules() -> bool {
    let tables = fs::read_to_string("/proc/thread-self/net/ip_tables_names");
    tables.is_ok_and(|names| names.lines().any(|name| name == "filter"))
}

/// Reads the output of `iptables -S`.
fn parse_listing(listing: &str) -> Vec<Chain> {
    let chains = listing.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        match (words.next()?, words.next()?, words.next()) {
            ("-P", name, policy) => {
                Some((name.to_owned(), policy == Some("DROP")))
            }
            ("-N", name, _) => Some((name.to_owned(), false)),
            _ => None,
        }
    });
    chains.collect()
}

fn iptables(
    backend: Backend,
    action: &str,
    chain: &str,
    rule: &[String],
) -> Result<Output, NetworkStepError> {
    let missing = || {
        let error = io::Error::new(
            io::ErrorKind::NotFound,
            "its program is not installed (package iptables)",
        );
        NetworkStepError::new(step(backend), error)
    };
    let tool = tool(backend).ok_or_else(missing)?;
    let mut command = Command::new(tool);
    // Waits for other users of the tables' lock, five seconds at most.
    command.args(["-w", "5", "-t", "filter", action]);
    if !chain.is_empty() {
        command.arg(chain).args(rule);
    }
    command.stdin(Stdio::null()).output().doing(step(backend))
}

fn step(backend: Backend) -> &'static str {
    match backend {
        Backend::Nft => "get past the host's firewall by iptables-nft",
        Backend::Legacy => "get past the host's firewall by iptables-legacy",
    }
}

fn tool(backend: Backend) -> Option<PathBuf> {
    let names = match backend {
        Backend::Nft => ["iptables-nft", "iptables"],
        Backend::Legacy => ["iptables-legacy", "iptables"],
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs: Vec<_> = std::env::split_paths(&path)
        .chain(TOOL_DIRS.map(PathBuf::from))
        .collect();
    let candidates = names.iter().flat_map(|name| {
        dirs.iter().map(move |dir| dir.join(OsStr::new(name)))
    });
    candidates.into_iter().find(|candidate| candidate.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_chain_is_preferred() {
        let docker = "-P INPUT ACCEPT\n-P FORWARD DROP\n-P OUTPUT ACCEPT\n\
            -N DOCKER\n-N DOCKER-USER\n-A FORWARD -j DOCKER-USER\n";
        assert_eq!(obstacle(&parse_listing(docker)), Some(DOCKER_USER));
        let ufw = "-P INPUT DROP\n-P FORWARD DROP\n-N ufw-user-forward\n";
        assert_eq!(obstacle(&parse_listing(ufw)), Some(FORWARD));
        let plain = "-P INPUT DROP\n-P FORWARD ACCEPT\n";
        assert_eq!(obstacle(&parse_listing(plain)), None);
        assert_eq!(obstacle(&parse_listing("")), None);
    }
}
