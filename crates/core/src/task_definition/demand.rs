//! What a task of a definition takes from a host.

use minato_wire::ecs::{
    CPUArchitecture, NetworkMode, OSFamily, ResourceType, TaskDefinition,
    TransportProtocol,
};

use super::{containers, list, text, units};

/// What one task takes from a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// CPU units (1024 are one vCPU).
    pub cpu_units: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// TCP ports of the host.
    pub tcp_ports: Vec<u16>,
    /// UDP ports of the host.
    pub udp_ports: Vec<u16>,
    /// How many GPUs.
    pub gpus: u32,
    /// How many network interfaces of its own: 1 for awsvpc.
    pub enis: u32,
    /// Names of attributes the host's agent must have.
    pub attributes: Vec<String>,
    /// The platform it was built for, where the definition says.
    pub platform: Platform,
}

/// The machine a task was built for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Platform {
    /// `x86_64` or `arm64`, as the attribute `ecs.cpu-architecture`.
    pub cpu_architecture: Option<&'static str>,
    /// `linux` or `windows`, as the attribute `ecs.os-type`.
    pub os_type: Option<&'static str>,
}

/// The network mode that applies: bridge where none is given.
pub fn effective_network_mode(definition: &TaskDefinition) -> NetworkMode {
    definition.network_mode.unwrap_or(NetworkMode::Bridge)
}

/// What one task of the definition takes: the task's own sizes, or the sums
/// over its containers.
pub fn demand(definition: &TaskDefinition) -> Demand {
    let sum = |each: fn(&minato_wire::ecs::ContainerDefinition) -> i32| {
        containers(definition).iter().fold(0_u32, |sum, container| {
            sum.saturating_add(u32::try_from(each(container)).unwrap_or(0))
        })
    };
    let mut demand = Demand {
        cpu_units: text_or(&definition.cpu, units::cpu_units)
            .unwrap_or_else(|| sum(|container| container.cpu.unwrap_or(0))),
        memory_mib: text_or(&definition.memory, units::memory_mib)
            .unwrap_or_else(|| {
                sum(|container| {
                    container
                        .memory_reservation
                        .or(container.memory)
                        .unwrap_or(0)
                })
            }),
        gpus: gpus(definition),
        attributes: list(&definition.requires_attributes)
            .iter()
            .map(|attribute| text(&attribute.name).to_owned())
            .collect(),
        platform: platform(definition),
        ..Demand::default()
    };
    match effective_network_mode(definition) {
        NetworkMode::Awsvpc => demand.enis = 1,
        NetworkMode::Bridge | NetworkMode::Host => {
            ports(definition, &mut demand);
        }
        NetworkMode::None => {}
    }
    demand
}

fn text_or(
    text: &Option<String>,
    read: fn(&str) -> Option<u32>,
) -> Option<u32> {
    text.as_deref().and_then(read)
}

/// The host ports that are fixed; dynamic ones are the agent's choice.
fn ports(definition: &TaskDefinition, demand: &mut Demand) {
    for container in containers(definition) {
        for mapping in list(&container.port_mappings) {
            let port = mapping.host_port.unwrap_or(0);
            let Some(port) = u16::try_from(port).ok().filter(|p| *p > 0) else {
                continue;
            };
            match mapping.protocol {
                Some(TransportProtocol::Udp) => demand.udp_ports.push(port),
                Some(TransportProtocol::Tcp) | None => {
                    demand.tcp_ports.push(port);
                }
            }
        }
    }
}

fn gpus(definition: &TaskDefinition) -> u32 {
    containers(definition)
        .iter()
        .flat_map(|container| list(&container.resource_requirements))
        .filter(|need| need.r#type == Some(ResourceType::Gpu))
        .filter_map(|need| text(&need.value).parse::<u32>().ok())
        .fold(0, u32::saturating_add)
}

fn platform(definition: &TaskDefinition) -> Platform {
    let Some(platform) = &definition.runtime_platform else {
        return Platform::default();
    };
    Platform {
        cpu_architecture: platform.cpu_architecture.map(|each| match each {
            CPUArchitecture::X8664 => "x86_64",
            CPUArchitecture::Arm64 => "arm64",
        }),
        os_type: platform.operating_system_family.map(|each| {
            if each == OSFamily::Linux { "linux" } else { "windows" }
        }),
    }
}
