//! Rules of ports and links.

use std::collections::BTreeSet;

use minato_wire::ecs::{
    ContainerDefinition, NetworkMode, PortMapping, TaskDefinition,
    TransportProtocol,
};

use super::{containers, find, list, name, text};
use crate::name::is_port_name;
use crate::rule::RuleError;

/// The most port ranges of one container.
const RANGES_MAX: usize = 100;

const PORTS: std::ops::RangeInclusive<i32> = 1..=65535;

/// The port mappings of all containers.
fn mappings(
    definition: &TaskDefinition,
) -> impl Iterator<Item = (&ContainerDefinition, &PortMapping)> {
    containers(definition).iter().flat_map(|container| {
        list(&container.port_mappings)
            .iter()
            .map(move |mapping| (container, mapping))
    })
}

pub(super) fn ports(definition: &TaskDefinition) -> Result<(), RuleError> {
    let mode = definition.network_mode;
    let mut host_ports = BTreeSet::new();
    for (container, mapping) in mappings(definition) {
        if mode == Some(NetworkMode::None) {
            return Err(RuleError::client(
                "Port mappings are not supported when networkMode=none.",
            ));
        }
        if mapping.container_port_range.is_some() {
            continue;
        }
        one_port(mode, container, mapping)?;
        let host = mapping.host_port.unwrap_or(0);
        let protocol = mapping.protocol.unwrap_or(TransportProtocol::Tcp);
        if host != 0 && !host_ports.insert((host, protocol)) {
            return Err(RuleError::client(format!(
                "The host port {host}/{protocol} is used more than once in \
                 the task definition."
            )));
        }
    }
    Ok(())
}

fn one_port(
    mode: Option<NetworkMode>,
    container: &ContainerDefinition,
    mapping: &PortMapping,
) -> Result<(), RuleError> {
    let host = mapping.host_port.unwrap_or(0);
    let Some(port) = mapping.container_port else {
        return Err(RuleError::client(format!(
            "Invalid port mapping for container '{}'. 'containerPort' or \
             'containerPortRange' must be specified.",
            name(container)
        )));
    };
    if !PORTS.contains(&port) {
        return Err(RuleError::client(format!(
            "Invalid containerPort {port} for container '{}'. It must be \
             between 1 and 65535.",
            name(container)
        )));
    }
    if host != 0 && !PORTS.contains(&host) {
        return Err(RuleError::client(format!(
            "Invalid hostPort {host} for container '{}'. It must be between \
             0 and 65535.",
            name(container)
        )));
    }
    let shared = match mode {
        Some(mode @ (NetworkMode::Awsvpc | NetworkMode::Host)) => mode,
        Some(NetworkMode::Bridge | NetworkMode::None) | None => return Ok(()),
    };
    if host != port {
        return Err(RuleError::client(format!(
            "When networkMode={shared}, the host ports and container ports \
             in port mappings must match."
        )));
    }
    Ok(())
}

pub(super) fn ranges(definition: &TaskDefinition) -> Result<(), RuleError> {
    for container in containers(definition) {
        let mut taken: Vec<(u16, u16, TransportProtocol)> = vec![];
        for mapping in list(&container.port_mappings) {
            let Some(range) = &mapping.container_port_range else {
                continue;
            };
            let (low, high) = one_range(definition, container, mapping, range)?;
            let protocol = mapping.protocol.unwrap_or(TransportProtocol::Tcp);
            let singles = list(&container.port_mappings).iter();
            let mut singles = singles.filter(|single| {
                single.protocol.unwrap_or(TransportProtocol::Tcp) == protocol
            });
            let is_single = singles.any(|single| {
                let port = single.container_port.unwrap_or(0);
                (i32::from(low)..=i32::from(high)).contains(&port)
            });
            if is_single {
                return Err(RuleError::client(format!(
                    "A port of the containerPortRange {range} of container \
                     '{}' is in another port mapping.",
                    name(container)
                )));
            }
            let clash = taken.iter().any(|(from, to, other)| {
                *other == protocol && *from <= high && low <= *to
            });
            if clash {
                return Err(RuleError::client(format!(
                    "The containerPortRange {range} of container '{}' \
                     overlaps another one.",
                    name(container)
                )));
            }
            taken.push((low, high, protocol));
        }
        if taken.len() > RANGES_MAX {
            return Err(RuleError::client(format!(
                "Container '{}' has more than {RANGES_MAX} port ranges.",
                name(container)
            )));
        }
    }
    Ok(())
}

fn one_range(
    definition: &TaskDefinition,
    container: &ContainerDefinition,
    mapping: &PortMapping,
    range: &str,
) -> Result<(u16, u16), RuleError> {
    let name = name(container);
    if matches!(
        definition.network_mode,
        Some(NetworkMode::Host | NetworkMode::None)
    ) {
        return Err(RuleError::client(format!(
            "Invalid port mapping for container '{name}'. \
             'containerPortRange' is only supported when networkMode=bridge \
             or networkMode=awsvpc."
        )));
    }
    if mapping.container_port.is_some() || mapping.host_port.is_some() {
        return Err(RuleError::client(format!(
            "Invalid port mapping for container '{name}'. \
             'containerPortRange' cannot be used with 'containerPort' or \
             'hostPort'."
        )));
    }
    parse_range(range).ok_or_else(|| {
        RuleError::client(format!(
            "Invalid containerPortRange '{range}' for container '{name}'. It \
             must be 'start-end' with ports between 1 and 65535."
        ))
    })
}

/// `"8000-8010"` as its ends.
fn parse_range(range: &str) -> Option<(u16, u16)> {
    let (low, high) = range.split_once('-')?;
    let (low, high) = (low.parse().ok()?, high.parse().ok()?);
    (0 < low && low < high).then_some((low, high))
}

pub(super) fn links(definition: &TaskDefinition) -> Result<(), RuleError> {
    for container in containers(definition) {
        let links = list(&container.links);
        if links.is_empty() {
            continue;
        }
        if let Some(
            mode
            @ (NetworkMode::Awsvpc | NetworkMode::Host | NetworkMode::None),
        ) = definition.network_mode
        {
            return Err(RuleError::client(format!(
                "Links are not supported when networkMode={mode}."
            )));
        }
        for link in links {
            let (target, alias) = link.split_once(':').unwrap_or((link, ""));
            let good = find(definition, target).is_some()
                && target != name(container)
                && (!link.contains(':') || !alias.is_empty());
            if !good {
                return Err(RuleError::client(format!(
                    "Invalid link '{link}' of container '{}'. A link must \
                     name another container of the task definition.",
                    name(container)
                )));
            }
        }
    }
    Ok(())
}

pub(super) fn names(definition: &TaskDefinition) -> Result<(), RuleError> {
    let mut names = BTreeSet::new();
    for (container, mapping) in mappings(definition) {
        let Some(port_name) = &mapping.name else {
            continue;
        };
        if !is_port_name(port_name) {
            return Err(RuleError::client(format!(
                "Invalid port mapping name '{port_name}' for container '{}'.",
                text(&container.name)
            )));
        }
        if !names.insert(port_name) {
            return Err(RuleError::client(format!(
                "Port mapping names must be unique. '{port_name}' is used \
                 more than once."
            )));
        }
    }
    Ok(())
}
