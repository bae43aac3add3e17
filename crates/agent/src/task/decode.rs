//! From an ACS task to a plan, or to the reason why there is none.
//!
//! Two kinds of bad tasks: one that cannot be read is the control plane's
//! fault, and its message is not acknowledged; one that asks for something
//! this agent cannot do is refused with a reason. The control plane should
//! not have placed the latter here, as the agent's attributes say what it
//! can do; nothing is accepted and then ignored.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use minato_wire::acs;

use super::attachment_decode::decode_attachments;
use super::container_decode::decode_container;
use super::firelens_decode::decode_firelens;
use super::plan::{
    Condition, InterfaceIpv6, InterfacePlan, IpcPlan, NetworkPlan, PidPlan,
    TaskPlan,
};
use super::proxy_decode::decode_proxy;
use super::volume_decode::decode_volumes;

/// Most containers a task may have; ECS allows 10, and its own sidecars.
const CONTAINERS_MAX: usize = 32;

/// Bytes in the MiB that ECS counts memory in.
pub(crate) const MIB: u64 = 1 << 20;

/// Why a task does not become a plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeTaskError {
    /// The message is wrong.
    #[error("{what}")]
    Malformed {
        /// What is wrong with it.
        what: String,
    },
    /// This agent cannot do it.
    #[error("{what} is not supported by this agent")]
    Unsupported {
        /// What it cannot do.
        what: String,
    },
    /// The containers wait for each other, or for one that is not there.
    #[error("Task dependencies cannot be resolved, taskArn: {arn}")]
    Dependencies {
        /// The task.
        arn: String,
    },
}

pub(crate) fn malformed(what: impl Into<String>) -> DecodeTaskError {
    DecodeTaskError::Malformed { what: what.into() }
}

pub(crate) fn unsupported(what: impl Into<String>) -> DecodeTaskError {
    DecodeTaskError::Unsupported { what: what.into() }
}

/// Makes a plan of a task.
pub fn decode_task(task: &acs::Task) -> Result<TaskPlan, DecodeTaskError> {
    let id = task_id(&task.arn)?;
    refuse_unsupported(task)?;
    if task.containers.is_empty() {
        return Err(malformed("the task has no containers"));
    }
    if task.containers.len() > CONTAINERS_MAX {
        return Err(malformed(format!(
            "the task has {} containers, over {CONTAINERS_MAX}",
            task.containers.len()
        )));
    }
    let network = decode_network(task)?;
    let attached = decode_attachments(&task.attachments)?;
    let volumes = decode_volumes(task, &attached.volumes)?;
    let mut containers = vec![];
    for container in &task.containers {
        containers.push(decode_container(&id, container)?);
    }
    decode_firelens(task, &mut containers)?;
    let memory_mib = task.memory.unwrap_or(0);
    let plan = TaskPlan {
        arn: task.arn.clone(),
        id,
        cluster_arn: task.task_cluster_arn.clone().unwrap_or_default(),
        family: task.family.clone().unwrap_or_default(),
        revision: task.version.clone().unwrap_or_default(),
        launch_type: task.launch_type.clone().unwrap_or_default(),
        credentials_id: credentials_id(task.role_credentials.as_ref()),
        execution_credentials_id: credentials_id(
            task.execution_role_credentials.as_ref(),
        ),
        proxy: decode_proxy(task, &network)?,
        network,
        pid: decode_pid(task)?,
        ipc: decode_ipc(task)?,
        fault_injection: task.enable_fault_injection == Some(true),
        cpus: task.cpu.filter(|cpus| *cpus > 0.0),
        memory_bytes: u64::try_from(memory_mib)
            .ok()
            .filter(|mib| *mib > 0)
            .map(|mib| mib.saturating_mul(MIB)),
        disk_bytes: attached.disk_bytes,
        volumes,
        containers,
    };
    check_references(&plan)?;
    check_order(&plan)?;
    Ok(plan)
}

fn credentials_id(set: Option<&acs::IamRoleCredentials>) -> Option<String> {
    set.map(|set| set.credentials_id.clone()).filter(|id| !id.is_empty())
}

/// The id of a task: the last part of its ARN.
pub fn task_id(arn: &str) -> Result<String, DecodeTaskError> {
    let id = arn.rsplit('/').next().unwrap_or_default();
    let plain = id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    // It names files, cgroups and namespaces.
    if !arn.contains('/') || id.is_empty() || id.len() > 64 || !plain {
        return Err(malformed(format!("{arn:?} is not the ARN of a task")));
    }
    Ok(id.to_owned())
}

fn refuse_unsupported(task: &acs::Task) -> Result<(), DecodeTaskError> {
    if !task.associations.is_empty() {
        return Err(unsupported("a GPU or accelerator"));
    }
    Ok(())
}

fn decode_pid(task: &acs::Task) -> Result<PidPlan, DecodeTaskError> {
    match task.pid_mode.as_deref() {
        None | Some("") => Ok(PidPlan::Own),
        Some("task") => Ok(PidPlan::Task),
        Some("host") => Ok(PidPlan::Host),
        Some(mode) => Err(malformed(format!("pidMode {mode:?}"))),
    }
}

fn decode_ipc(task: &acs::Task) -> Result<IpcPlan, DecodeTaskError> {
    match task.ipc_mode.as_deref() {
        None | Some("") => Ok(IpcPlan::Own),
        Some("none") => Ok(IpcPlan::None),
        Some("task") => Ok(IpcPlan::Task),
        Some("host") => Ok(IpcPlan::Host),
        Some(mode) => Err(malformed(format!("ipcMode {mode:?}"))),
    }
}

fn decode_network(task: &acs::Task) -> Result<NetworkPlan, DecodeTaskError> {
    match task.network_mode.as_deref().unwrap_or_default() {
        "" | "bridge" => Ok(NetworkPlan::Bridge),
        "host" => Ok(NetworkPlan::Host),
        "none" => Ok(NetworkPlan::None),
        "awsvpc" => match task.elastic_network_interfaces.as_slice() {
            [eni] => Ok(NetworkPlan::Awsvpc(decode_interface(eni)?)),
            [] => Err(malformed("an awsvpc task without network interface")),
            _ => Err(unsupported("more than one network interface")),
        },
        other => Err(malformed(format!("network mode {other:?}"))),
    }
}

fn decode_interface(
    eni: &acs::ElasticNetworkInterface,
) -> Result<InterfacePlan, DecodeTaskError> {
    if eni.interface_association_protocol.as_deref() == Some("vlan") {
        return Err(unsupported("a branch network interface"));
    }
    let address = eni
        .ipv4_addresses
        .iter()
        .find(|address| address.primary == Some(true))
        .or(eni.ipv4_addresses.first())
        .and_then(|address| address.private_address.parse::<Ipv4Addr>().ok())
        .ok_or_else(|| malformed("a network interface without address"))?;
    let gateway =
        eni.subnet_gateway_ipv4_address.as_deref().unwrap_or_default();
    let (gateway, prefix) = gateway
        .split_once('/')
        .and_then(|(ip, prefix)| {
            Some((ip.parse::<Ipv4Addr>().ok()?, prefix.parse::<u8>().ok()?))
        })
        .filter(|(_, prefix)| *prefix <= 32)
        .ok_or_else(|| malformed(format!("subnet gateway {gateway:?}")))?;
    let ipv6 = decode_ipv6(eni)?;
    Ok(InterfacePlan {
        attachment_arn: eni.attachment_arn.clone().unwrap_or_default(),
        mac: eni.mac_address.clone(),
        ip: address,
        prefix_len: prefix,
        gateway,
        ipv6,
        nameservers: eni.domain_name_servers.clone(),
        search: eni.domain_name.clone(),
        private_dns_name: eni
            .private_dns_name
            .clone()
            .filter(|name| !name.is_empty()),
    })
}

/// The interface's IPv6 address with its gateway, if it has one.
fn decode_ipv6(
    eni: &acs::ElasticNetworkInterface,
) -> Result<Option<InterfaceIpv6>, DecodeTaskError> {
    let address = match eni.ipv6_addresses.as_slice() {
        [] => return Ok(None),
        [address] => &address.address,
        _ => return Err(unsupported("more than one IPv6 address")),
    };
    let ip = address
        .parse::<Ipv6Addr>()
        .map_err(|_| malformed(format!("IPv6 address {address:?}")))?;
    let gateway =
        eni.subnet_gateway_ipv6_address.as_deref().unwrap_or_default();
    let (gateway, prefix_len) = gateway
        .split_once('/')
        .and_then(|(ip, prefix)| {
            Some((ip.parse::<Ipv6Addr>().ok()?, prefix.parse::<u8>().ok()?))
        })
        .filter(|(_, prefix)| *prefix <= 128)
        .ok_or_else(|| malformed(format!("subnet gateway {gateway:?}")))?;
    Ok(Some(InterfaceIpv6 { ip, prefix_len, gateway }))
}

/// Whether every container, volume and condition that is named exists.
fn check_references(plan: &TaskPlan) -> Result<(), DecodeTaskError> {
    let mut names = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for container in &plan.containers {
        if !names.insert(container.name.as_str())
            || !ids.insert(container.id.as_str())
        {
            return Err(malformed(format!(
                "two containers named {}",
                container.name
            )));
        }
    }
    let dependencies =
        || DecodeTaskError::Dependencies { arn: plan.arn.clone() };
    for container in &plan.containers {
        for dependency in &container.depends_on {
            let target = plan
                .container(&dependency.container)
                .ok_or_else(dependencies)?;
            if dependency.condition == Condition::Healthy
                && target.health_check.is_none()
            {
                return Err(malformed(format!(
                    "{} waits for the health of {}, which has no check",
                    container.name, target.name
                )));
            }
        }
        for mount in &container.mounts {
            if !plan.volumes.contains_key(&mount.volume) {
                return Err(malformed(format!(
                    "Unknown volume '{}'.",
                    mount.volume
                )));
            }
        }
    }
    Ok(())
}

/// Whether the containers can be started one after the other.
fn check_order(plan: &TaskPlan) -> Result<(), DecodeTaskError> {
    let mut done = BTreeSet::new();
    while done.len() < plan.containers.len() {
        let ready: Vec<&str> = plan
            .containers
            .iter()
            .filter(|container| {
                !done.contains(container.name.as_str())
                    && container.depends_on.iter().all(|dependency| {
                        done.contains(dependency.container.as_str())
                    })
            })
            .map(|container| container.name.as_str())
            .collect();
        if ready.is_empty() {
            return Err(DecodeTaskError::Dependencies {
                arn: plan.arn.clone(),
            });
        }
        done.extend(ready);
    }
    Ok(())
}

/// A number of seconds that is one; zero and less are none.
pub(crate) fn seconds(value: Option<i64>) -> Option<Duration> {
    let seconds = u64::try_from(value?).ok()?;
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(more: Value) -> Result<InterfacePlan, DecodeTaskError> {
        let mut eni = json!({
            "ec2Id": "eni-1", "macAddress": "02:00:00:00:00:01",
            "ipv4Addresses":
                [{"primary": true, "privateAddress": "10.0.0.5"}],
            "subnetGatewayIpv4Address": "10.0.0.1/24",
        });
        let members = eni.as_object_mut().unwrap();
        members.extend(more.as_object().unwrap().clone());
        decode_interface(&serde_json::from_value(eni).unwrap())
    }

    #[test]
    fn an_interface_may_have_an_ipv6_address() {
        assert_eq!(read(json!({})).unwrap().ipv6, None);
        let address = json!({"address": "fd12::5", "primary": true});
        let both = json!({
            "ipv6Addresses": [address], "subnetGatewayIpv6Address": "fd12::1/64",
        });
        let ipv6 = InterfaceIpv6 {
            ip: "fd12::5".parse().unwrap(),
            prefix_len: 64,
            gateway: "fd12::1".parse().unwrap(),
        };
        assert_eq!(read(both).unwrap().ipv6, Some(ipv6));
        for bad in [
            json!({"ipv6Addresses": [address]}),
            json!({"ipv6Addresses": [{"address": "10.0.0.5"}],
                "subnetGatewayIpv6Address": "fd12::1/64"}),
            json!({"ipv6Addresses": [address],
                "subnetGatewayIpv6Address": "fd12::1/129"}),
            json!({"ipv6Addresses": [address, address],
                "subnetGatewayIpv6Address": "fd12::1/64"}),
        ] {
            assert!(read(bad.clone()).is_err(), "{bad}");
        }
    }
}
