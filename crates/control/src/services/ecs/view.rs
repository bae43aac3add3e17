//! Rows as the API shows them, with what is counted rather than stored.

use std::collections::BTreeSet;

use minato_core::placement::Ledger;
use minato_store::{Snapshot, Tx};
use minato_wire::ecs::{self, LaunchType, Resource};
use std::sync::Arc;

use super::lookup::Read;
use crate::tables::{ContainerInstance, Host, Task};

/// Reading by index, from a snapshot or a transaction.
pub(crate) trait ReadIndex: Read {
    /// Tasks that still hold part of a host.
    fn tasks_on(
        &self,
        account: &str,
        region: &str,
        host: &str,
    ) -> Vec<Arc<Task>>;
}

impl ReadIndex for Snapshot {
    fn tasks_on(
        &self,
        account: &str,
        region: &str,
        host: &str,
    ) -> Vec<Arc<Task>> {
        let key = Task::on_host(account, region, host);
        self.by_index::<Task>("host", &key).collect()
    }
}

impl ReadIndex for Tx {
    fn tasks_on(
        &self,
        account: &str,
        region: &str,
        host: &str,
    ) -> Vec<Arc<Task>> {
        let key = Task::on_host(account, region, host);
        self.by_index::<Task>("host", &key).collect()
    }
}

/// A container instance as `DescribeContainerInstances` shows it.
pub(crate) fn container_instance(
    rows: &impl ReadIndex,
    row: &ContainerInstance,
) -> ecs::ContainerInstance {
    let host_key = Host::key_of(&row.account, &row.region, &row.host);
    let host = rows.row::<Host>(&host_key);
    let tasks = rows.tasks_on(&row.account, &row.region, &row.host);
    let ledger =
        host.as_ref().map(|host| host.ledger(tasks.iter().map(AsRef::as_ref)));
    let is_ours = |task: &&Arc<Task>| {
        task.cluster == row.cluster
            && task.task.launch_type != Some(LaunchType::Fargate)
    };
    let count = |status: &str| {
        let ours = tasks.iter().filter(is_ours);
        let count = ours.filter(|task| task.last_status() == status).count();
        i32::try_from(count).unwrap_or(i32::MAX)
    };
    let is_active = row.status != "INACTIVE";
    ecs::ContainerInstance {
        container_instance_arn: Some(row.arn()),
        ec2_instance_id: Some(row.ec2_instance_id.clone()),
        capacity_provider_name: row.capacity_provider.clone(),
        version: Some(row.version),
        version_info: Some(row.version_info.clone().unwrap_or_default()),
        remaining_resources: Some(remaining(row, ledger.as_ref())),
        registered_resources: Some(
            row.registered_resources.iter().map(filled).collect(),
        ),
        status: Some(row.status.clone()),
        agent_connected: Some(
            is_active && host.is_some_and(|host| host.is_connected),
        ),
        running_tasks_count: Some(count("RUNNING")),
        pending_tasks_count: Some(count("PENDING")),
        attributes: Some(
            row.attributes
                .iter()
                .chain(&row.custom_attributes)
                .cloned()
                .collect(),
        ),
        registered_at: Some(row.registered_at),
        attachments: Some(vec![]),
        tags: Some(row.tags.clone()),
        ..Default::default()
    }
}

/// ECS shows every scalar of a resource, the unused ones as zero.
fn filled(resource: &Resource) -> Resource {
    Resource {
        double_value: Some(resource.double_value.unwrap_or(0.0)),
        long_value: Some(resource.long_value.unwrap_or(0)),
        integer_value: Some(resource.integer_value.unwrap_or(0)),
        ..resource.clone()
    }
}

/// What is left of the host; for ports, as ECS has it, those in use.
fn remaining(
    row: &ContainerInstance,
    ledger: Option<&Ledger>,
) -> Vec<Resource> {
    let left_over = |resource: &Resource| {
        let mut left = filled(resource);
        // The host of a deregistered instance is gone: nothing is in use.
        let Some(ledger) = ledger else { return left };
        let integer = |left: i64| Some(i32::try_from(left).unwrap_or(0));
        let ports = |ports: BTreeSet<u16>| {
            Some(ports.iter().map(u16::to_string).collect())
        };
        match resource.name.as_deref() {
            Some("CPU") => left.integer_value = integer(ledger.free_cpu()),
            Some("MEMORY") => {
                left.integer_value = integer(ledger.free_memory_mib());
            }
            Some("PORTS") => {
                left.string_set_value = ports(ledger.used_ports());
            }
            Some("PORTS_UDP") => {
                left.string_set_value = ports(ledger.used_ports_udp());
            }
            _ => {}
        }
        left
    };
    row.registered_resources.iter().map(left_over).collect()
}
