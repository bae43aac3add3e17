//! Finding and removing what a network made on the host.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::{DoingStep, NetworkStepError};
use super::firewall::{self, Segment};
use super::netlink::Socket;
use super::open::bridge_names;
use super::route::{self, Link};
use super::{firewall6, forwarding, groups, host6, inside, namespace};

/// Where the namespaces of the network `name` are pinned.
pub(super) fn pin_dir(run_dir: &Path, name: &str) -> PathBuf {
    run_dir.join("netns").join(name)
}

/// Where the host's former setting of forwarding is kept.
pub(super) fn forward_note(run_dir: &Path, name: &str) -> PathBuf {
    run_dir.join("netns").join(format!("{name}.ip_forward"))
}

/// The same for IPv6, with the interfaces that were set to go on listening.
pub(super) fn forward_note6(run_dir: &Path, name: &str) -> PathBuf {
    run_dir.join("netns").join(format!("{name}.ip6_forward"))
}

/// Everything of the network `name` that is still on this host, in the
/// calling thread's namespaces: interfaces, nftables and iptables rules,
/// pinned namespaces. Empty after a teardown; what could not be looked at is
/// listed as such.
pub fn leftovers(name: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut add = |part: Result<Vec<String>, NetworkStepError>| match part {
        Ok(items) => found.extend(items),
        Err(error) => found.push(format!("{error}: {}", error.cause())),
    };
    add(interfaces(name));
    add(tables(name));
    add(faults(name));
    add(pins(name));
    add(forwarding::rules_left(&segments(name)));
    found
}

/// The network's bridges, whatever ranges they had.
fn segments(name: &str) -> [Segment; 2] {
    let (vpc, bridge) = bridge_names(name);
    [vpc, bridge].map(|bridge| Segment { bridge, ranges: Vec::new() })
}

/// Removes everything that the network `name` made.
pub(super) fn remove(
    name: &str,
    run_dir: &Path,
) -> Result<(), NetworkStepError> {
    forwarding::forget_other_firewalls(&segments(name))?;
    let mut socket = Socket::route()?;
    for link in links(&mut socket, name)? {
        route::link_delete(&mut socket, &link.name)
            .doing(format_args!("delete interface {}", link.name))?;
    }
    let mut netfilter = Socket::netfilter()?;
    groups::guard::delete_all(&mut netfilter, name)
        .doing("delete the security groups' rules")?;
    firewall::table_delete(&mut netfilter, name)
        .doing("delete the nftables table")?;
    firewall6::table_delete(&mut netfilter, name)
        .doing("delete the nftables table for IPv6")?;
    inside::remove_host_faults(name)?;
    forwarding::switch_back(name, run_dir)?;
    host6::forwarding_back(name, run_dir)?;
    let dir = pin_dir(run_dir, name);
    let shown = dir.display();
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).doing(format_args!("list {shown}")),
    };
    for entry in entries {
        let entry = entry.doing(format_args!("list {shown}"))?;
        namespace::unpin(&entry.path())?;
    }
    namespace::remove_pin_dir(&dir)?;
    // Shared with other networks of the same run directory, if any.
    let _ = dir.parent().map(fs::remove_dir);
    Ok(())
}

fn links(
    socket: &mut Socket,
    name: &str,
) -> Result<Vec<Link>, NetworkStepError> {
    let mut links = route::links(socket).doing("list the interfaces")?;
    let prefix = format!("{name}-");
    links.retain(|link| link.name.starts_with(&prefix));
    Ok(links)
}

fn interfaces(name: &str) -> Result<Vec<String>, NetworkStepError> {
    let mut socket = Socket::route()?;
    let links = links(&mut socket, name)?.into_iter();
    Ok(links.map(|link| format!("interface {}", link.name)).collect())
}

fn tables(name: &str) -> Result<Vec<String>, NetworkStepError> {
    let mut socket = Socket::netfilter()?;
    let mut tables =
        firewall::tables(&mut socket).doing("list the nftables tables")?;
    tables.extend(
        firewall6::tables(&mut socket).doing("list the nftables tables")?,
    );
    tables.extend(
        groups::guard::tables(&mut socket)
            .doing("list the nftables tables for bridges")?,
    );
    let ours = [firewall::table_name(name), groups::table_name(name)];
    tables.retain(|table| ours.contains(table));
    Ok(tables.into_iter().map(|t| format!("nftables table {t}")).collect())
}

fn faults(name: &str) -> Result<Vec<String>, NetworkStepError> {
    let tables = inside::host_tables(name)?.into_iter();
    Ok(tables.map(|table| format!("nftables table {table}")).collect())
}

fn pins(name: &str) -> Result<Vec<String>, NetworkStepError> {
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo")
        .doing("list the mounts")?;
    let (part, end) = (format!("/netns/{name}/"), format!("/netns/{name}"));
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    let pins = points.filter(|p| p.contains(&part) || p.ends_with(&end));
    Ok(pins.map(|point| format!("pinned namespace {point}")).collect())
}
