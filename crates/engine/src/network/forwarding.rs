//! Being a router on a host that others manage too.
//!
//! dockerd, ufw and firewalld set the policy of iptables' FORWARD chain to
//! DROP, and dockerd has bridged frames pass through it as well, so that even
//! two tasks on one bridge cannot talk. An accept in our own table does not
//! help: every table must let a packet through. So we ask for passage where
//! dockerd invites others to, in DOCKER-USER, or else in FORWARD itself; and in
//! INPUT for calls to the task endpoint, whose listener is on the host.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::error::{DoingStep, NetworkStepError};
use super::firewall::{self, Segment};
use super::leftovers;
use super::netlink::Socket;
use super::{IpFamily, NetworkConfig, endpoint, nft, sysctl};

const IP_FORWARD: &str = "ipv4/ip_forward";
const DOCKER_USER: &str = "DOCKER-USER";
const FORWARD: &str = "FORWARD";
const INPUT: &str = "INPUT";
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
    name: &str,
    run_dir: &Path,
) -> Result<(), NetworkStepError> {
    let note = leftovers::forward_note(run_dir, name);
    let before = match fs::read_to_string(&note) {
        Ok(before) => before,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(error).doing(format_args!("read {}", note.display()));
        }
    };
    let mut netfilter = Socket::netfilter()?;
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

/// One of them, for one family.
#[derive(Clone, Copy, Debug)]
struct Iptables {
    family: IpFamily,
    backend: Backend,
}

/// Has every iptables of a family let our bridges' packets through that might
/// not.
pub(super) fn pass_other_firewalls(
    family: IpFamily,
    segments: &[Segment],
) -> Result<(), NetworkStepError> {
    for (tables, chain) in obstacles(family)? {
        let present = tables.listing(chain)?;
        for rule in passage(family, chain, segments) {
            if is_listed(&present, chain, &rule) {
                continue;
            }
            let output = tables.run("-I", chain, &rule)?;
            if !output.status.success() {
                let told = String::from_utf8_lossy(&output.stderr);
                let error = io::Error::other(told.trim().to_owned());
                return Err(NetworkStepError::new(tables.step(), error));
            }
        }
    }
    Ok(())
}

/// Takes our rules out of every iptables.
pub(super) fn forget_other_firewalls(
    segments: &[Segment],
) -> Result<(), NetworkStepError> {
    for (tables, chain, rule) in ours_in_other_firewalls(segments)? {
        // Each call deletes one; none left is the usual failure.
        while tables.run("-D", chain, &rule)?.status.success() {}
    }
    Ok(())
}

/// iptables rules in which one of our bridges stands, for finding leftovers.
pub(super) fn rules_left(
    segments: &[Segment],
) -> Result<Vec<String>, NetworkStepError> {
    let ours = ours_in_other_firewalls(segments)?.into_iter();
    Ok(ours
        .map(|(tables, chain, rule)| {
            format!("{} rule {chain} {}", tables.name(), rule.join(" "))
        })
        .collect())
}

type Rule = Vec<String>;

fn ours_in_other_firewalls(
    segments: &[Segment],
) -> Result<Vec<(Iptables, &'static str, Rule)>, NetworkStepError> {
    let mut ours = Vec::new();
    let mut all = present(IpFamily::V4)?;
    all.extend(present(IpFamily::V6)?);
    for tables in all {
        for chain in [DOCKER_USER, FORWARD, INPUT] {
            let present = tables.listing(chain)?;
            let mut rules = passage(tables.family, chain, segments);
            rules.retain(|rule| is_listed(&present, chain, rule));
            ours.extend(rules.into_iter().map(|rule| (tables, chain, rule)));
        }
    }
    Ok(ours)
}

fn is_listed(listing: &str, chain: &str, rule: &Rule) -> bool {
    let wanted = format!("-A {chain} {}", rule.join(" "));
    listing.lines().any(|line| line == wanted)
}

/// The rules needed in a chain, as iptables prints them. By IPv6 tasks call
/// nothing on the host but its neighbours' questions, which every firewall
/// that knows IPv6 lets in.
fn passage(family: IpFamily, chain: &str, segments: &[Segment]) -> Vec<Rule> {
    let rule = |matches: &[&str]| {
        let words = matches.iter().chain(&["-j", "ACCEPT"]);
        words.map(|word| (*word).to_owned()).collect::<Rule>()
    };
    let listener = format!("{}/32", endpoint::LISTENER);
    let mut rules = Vec::new();
    for Segment { bridge, .. } in segments {
        if chain == INPUT && family == IpFamily::V6 {
            continue;
        }
        if chain == INPUT {
            // Our own table drops what was not led there.
            rules.push(rule(&["-d", &listener, "-i", bridge]));
        } else {
            rules.push(rule(&["-i", bridge]));
            rules.push(rule(&["-o", bridge]));
        }
    }
    rules
}

/// The chains in which our rules are needed.
fn obstacles(
    family: IpFamily,
) -> Result<Vec<(Iptables, &'static str)>, NetworkStepError> {
    let mut found = Vec::new();
    let chains = obstacles_among(&nft_chains(family)?);
    let tables = Iptables { family, backend: Backend::Nft };
    found.extend(chains.into_iter().map(|chain| (tables, chain)));
    if has_legacy_rules(family) {
        let tables = Iptables { family, backend: Backend::Legacy };
        let chains = obstacles_among(&parse_listing(&tables.listing("")?));
        found.extend(chains.into_iter().map(|chain| (tables, chain)));
    }
    Ok(found)
}

/// A chain of the filter table, and whether it drops what no rule accepts.
type Chain = (String, bool);

fn obstacles_among(chains: &[Chain]) -> Vec<&'static str> {
    let has = |wanted: &str| chains.iter().any(|(name, _)| name == wanted);
    let drops = |wanted: &str| {
        chains.iter().any(|(name, drops)| name == wanted && *drops)
    };
    let mut found = Vec::new();
    if has(DOCKER_USER) {
        found.push(DOCKER_USER);
    } else if drops(FORWARD) {
        found.push(FORWARD);
    }
    if drops(INPUT) {
        found.push(INPUT);
    }
    found
}

/// The iptables of a family that may hold rules of ours: where its program is
/// missing we cannot have made any.
fn present(family: IpFamily) -> Result<Vec<Iptables>, NetworkStepError> {
    let mut found = Vec::new();
    if !nft_chains(family)?.is_empty() {
        found.push(Iptables { family, backend: Backend::Nft });
    }
    if has_legacy_rules(family) {
        found.push(Iptables { family, backend: Backend::Legacy });
    }
    found.retain(|tables| tables.tool().is_some());
    Ok(found)
}

/// The chains of iptables-nft's filter table, asked without the program.
fn nft_chains(family: IpFamily) -> Result<Vec<Chain>, NetworkStepError> {
    let mut chains = all_chains()?;
    chains.retain(|chain| is_of_iptables(chain, family));
    Ok(chains.into_iter().map(|chain| (chain.name, chain.drops)).collect())
}

fn is_of_iptables(chain: &nft::Chain, family: IpFamily) -> bool {
    chain.family == family.number() && chain.table == "filter"
}

fn all_chains() -> Result<Vec<nft::Chain>, NetworkStepError> {
    let mut socket = Socket::netfilter()?;
    let mut chains = Vec::new();
    socket
        .dump(&nft::chains(), |_, payload| {
            chains.extend(nft::parse_chain(payload));
        })
        .doing("list the nftables chains")?;
    Ok(chains)
}

/// Firewalls that stop containers' packets and that only the host's owner
/// can open, in the calling thread's network namespace; each with its cure.
/// `name` is the network's.
pub fn closed_firewalls(name: &str) -> Result<Vec<String>, NetworkStepError> {
    let (vpc, bridge) = super::open::bridge_names(name);
    let mut found = Vec::new();
    let mut has_firewalld = false;
    for chain in all_chains()? {
        let family = match chain.family {
            nft::NFPROTO_IPV4 => "ip",
            nft::NFPROTO_INET => "inet",
            _ => continue,
        };
        has_firewalld |= chain.table == "firewalld";
        if !chain.drops || is_of_iptables(&chain, IpFamily::V4) {
            continue;
        }
        let nft::Chain { hook, table, name: chain, .. } = chain;
        if hook == Some(nft::HOOK_INPUT) {
            found.push(format!(
                "nftables drops packets to this host; let tasks reach their \
                 endpoint: nft insert rule {family} {table} {chain} \
                 iifname '{{ \"{vpc}\", \"{bridge}\" }}' \
                 ip daddr {} accept",
                endpoint::LISTENER
            ));
        }
        if hook == Some(nft::HOOK_FORWARD) {
            found.push(format!(
                "nftables drops forwarded packets; let those of Minato pass: \
                 nft insert rule {family} {table} {chain} \
                 iifname '{{ \"{vpc}\", \"{bridge}\" }}' accept; \
                 nft insert rule {family} {table} {chain} \
                 oifname '{{ \"{vpc}\", \"{bridge}\" }}' accept"
            ));
        }
    }
    if has_firewalld {
        found.push(format!(
            "firewalld is running; unless it is done already, trust Minato's \
             bridges: firewall-cmd --permanent --zone=trusted \
             --add-interface={vpc} --add-interface={bridge} && \
             firewall-cmd --reload"
        ));
    }
    Ok(found)
}

/// Whether iptables-legacy has been used in this namespace; asking the
/// program itself would load its kernel modules.
fn has_legacy_rules(family: IpFamily) -> bool {
    let path = format!("/proc/thread-self/net/{}_tables_names", family.name());
    let tables = fs::read_to_string(path);
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

impl Iptables {
    /// What its program is usually called.
    fn name(self) -> String {
        format!("{}tables", self.family.name())
    }

    /// The rules of a chain; none where there is no such chain.
    fn listing(self, chain: &str) -> Result<String, NetworkStepError> {
        let output = self.run("-S", chain, &[])?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn run(
        self,
        action: &str,
        chain: &str,
        rule: &[String],
    ) -> Result<Output, NetworkStepError> {
        let missing = || {
            let error = io::Error::new(
                io::ErrorKind::NotFound,
                "its program is not installed (package iptables)",
            );
            NetworkStepError::new(self.step(), error)
        };
        let tool = self.tool().ok_or_else(missing)?;
        let mut command = Command::new(tool);
        // Waits for other users of the tables' lock, five seconds at most.
        command.args(["-w", "5", "-t", "filter", action]);
        if !chain.is_empty() {
            command.arg(chain).args(rule);
        }
        command.stdin(Stdio::null()).output().doing(self.step())
    }

    fn step(self) -> String {
        format!("get past the host's firewall by {}", self.program())
    }

    fn program(self) -> String {
        let backend = match self.backend {
            Backend::Nft => "nft",
            Backend::Legacy => "legacy",
        };
        format!("{}-{backend}", self.name())
    }

    fn tool(self) -> Option<PathBuf> {
        let names = [self.program(), self.name()];
        let path = std::env::var_os("PATH").unwrap_or_default();
        let dirs: Vec<_> = std::env::split_paths(&path)
            .chain(TOOL_DIRS.map(PathBuf::from))
            .collect();
        let mut candidates = names
            .iter()
            .flat_map(|name| dirs.iter().map(move |dir| dir.join(name)));
        candidates.find(|candidate| candidate.is_file())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_chain_is_preferred() {
        let docker = "-P INPUT ACCEPT\n-P FORWARD DROP\n-P OUTPUT ACCEPT\n\
            -N DOCKER\n-N DOCKER-USER\n-A FORWARD -j DOCKER-USER\n";
        let obstacles = |text| obstacles_among(&parse_listing(text));
        assert_eq!(obstacles(docker), [DOCKER_USER]);
        let ufw = "-P INPUT DROP\n-P FORWARD DROP\n-N ufw-user-forward\n";
        assert_eq!(obstacles(ufw), [FORWARD, INPUT]);
        let plain = "-P INPUT ACCEPT\n-P FORWARD ACCEPT\n";
        let none: [&str; 0] = [];
        assert_eq!(obstacles(plain), none);
        assert_eq!(obstacles(""), none);
    }
}
