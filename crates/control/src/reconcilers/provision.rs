//! Network interfaces come before a task's agent and go after it.
//!
//! `PROVISIONING` tasks get their interface and become `PENDING`;
//! `DEPROVISIONING` tasks give it back and become `STOPPED`.

use std::sync::Arc;

use minato_core::status::{TaskEvent, TaskStatus};
use minato_store::{Key, Row, Tx};
use minato_wire::ApiError;
use minato_wire::Timestamp;
use minato_wire::acs::IPV6_ATTRIBUTE;
use minato_wire::ecs::{
    KeyValuePair, LaunchType, NetworkInterface, TaskStopCode,
};

use crate::context::Context;
use crate::services::ec2::eni::{EniRequest, allocate_eni, release_eni};
use crate::services::ec2::rows::EniRow;
use crate::services::ec2::volumes::VolumeRow;
use crate::services::ecs::tasks::launch::ENI_ATTACHMENT;
use crate::services::ecs::tasks::{report, stop, volumes};
use crate::tables::{Host, Task};

/// Moves every task that waits for its interface or its release; `false`
/// where something could not be stored and another pass is due.
pub(super) async fn pass(cx: &Arc<Context>) -> bool {
    let rows = cx.snapshot();
    let waiting = |status: TaskStatus| {
        let key = Key::of([status.as_str()]);
        let keys: Vec<Key> = rows
            .by_index::<Task>("status", &key)
            .map(|row| row.key())
            .collect();
        keys
    };
    let provisioning = waiting(TaskStatus::Provisioning);
    let deprovisioning = waiting(TaskStatus::Deprovisioning);
    let mut is_done = true;
    for key in provisioning {
        is_done &= step(cx, key, provision).await;
    }
    for key in deprovisioning {
        is_done &= step(cx, key, deprovision).await;
    }
    is_done
}

/// One task's step, in a transaction of its own.
async fn step(
    cx: &Context,
    key: Key,
    change: fn(&mut Tx, Task, u128, Timestamp),
) -> bool {
    let (id, now) = (cx.ids.uuid(), cx.clock.now());
    let shown = format!("{key:?}");
    let stepped = cx.transact(move |tx| -> Result<(), ApiError> {
        if let Some(row) = tx.get::<Task>(&key) {
            change(tx, Task::clone(&row), id, now);
        }
        Ok(())
    });
    match stepped.await {
        Ok(()) => true,
        Err(error) => {
            tracing::error!(
                task = shown,
                details = error.internal(),
                "could not move a task's network interface",
            );
            false
        }
    }
}

fn provision(tx: &mut Tx, mut row: Task, id: u128, now: Timestamp) {
    // Read again: it may have been stopped since the pass looked.
    if row.last_status() != TaskStatus::Provisioning.as_str() {
        return;
    }
    if attachment_id(&row).is_empty() {
        provisioned(&mut row);
        send(tx, row, now);
        return;
    }
    let wants_ipv6 = row.dual_stack && has_ipv6(tx, &row);
    let mut refusal = "The task has no subnet.".to_owned();
    for subnet_id in row.subnets.clone() {
        let request = EniRequest {
            account: row.account.clone(),
            region: row.region.clone(),
            id,
            subnet_id,
            security_groups: row.security_groups.clone(),
            attachment_id: attachment_id(&row),
            task_arn: row.arn(),
            wants_ipv6,
            now,
        };
        match allocate_eni(tx, request) {
            Ok(eni) => {
                attached(&mut row, &eni);
                send(tx, row, now);
                return;
            }
            Err(error) => refusal = error.to_string(),
        }
    }
    let reason = format!(
        "Unexpected EC2 error while attempting to Create Network Interface: \
         {refusal}"
    );
    stop::begin(&mut row, TaskStopCode::TaskFailedToStart, reason, now);
    for container in row.task.containers.iter_mut().flatten() {
        container.last_status = Some(TaskStatus::Stopped.to_string());
    }
    tx.put(row);
}

/// Whether the task's host has IPv6: where it has none, an address would be
/// one that nobody answers at.
fn has_ipv6(tx: &Tx, row: &Task) -> bool {
    tx.get::<Host>(&Host::key_of(&row.account, &row.region, &row.host))
        .is_some_and(|host| host.attributes.contains_key(IPV6_ATTRIBUTE))
}

/// Makes the task's volume, if it has one, and leaves the task to its agent.
fn send(tx: &mut Tx, mut row: Task, now: Timestamp) {
    if let Some(of) = &row.volume {
        tx.put(VolumeRow::new(tx, &row, of, now));
        volumes::show(&mut row, "ATTACHING");
    }
    tx.put(row);
}

/// The id of its network interface's attachment; empty where it has none.
fn attachment_id(row: &Task) -> String {
    row.task
        .attachments
        .iter()
        .flatten()
        .filter(|attachment| {
            attachment.r#type.as_deref() == Some(ENI_ATTACHMENT)
        })
        .find_map(|attachment| attachment.id.clone())
        .unwrap_or_default()
}

/// All that it needs is there: the task goes to its agent.
fn provisioned(row: &mut Task) {
    let event = TaskEvent::Provisioned;
    let Ok(next) = TaskStatus::Provisioning.step(event) else { return };
    row.task.last_status = Some(next.as_str().to_owned());
    row.task.version = Some(row.task.version.unwrap_or(0) + 1);
}

/// The interface is there: the task shows it.
fn attached(row: &mut Task, eni: &EniRow) {
    let detail = |name: &str, value: String| KeyValuePair {
        name: Some(name.to_owned()),
        value: Some(value),
    };
    row.network_interface = Some(eni.id.clone());
    let task = &mut row.task;
    for attachment in task.attachments.iter_mut().flatten() {
        if attachment.r#type.as_deref() != Some(ENI_ATTACHMENT) {
            continue;
        }
        attachment.status = Some("ATTACHED".to_owned());
        let mut details = vec![
            detail("subnetId", eni.subnet_id.clone()),
            detail("networkInterfaceId", eni.id.clone()),
            detail("macAddress", eni.mac.clone()),
            detail("privateDnsName", eni.private_dns_name()),
            detail("privateIPv4Address", eni.private_ip.to_string()),
        ];
        let ipv6 = eni.ipv6.map(|it| detail("ipv6Address", it.to_string()));
        details.extend(ipv6);
        attachment.details = Some(details);
    }
    for container in task.containers.iter_mut().flatten() {
        container.network_interfaces = Some(vec![NetworkInterface {
            attachment_id: Some(eni.attachment_id.clone()),
            private_ipv4_address: Some(eni.private_ip.to_string()),
            ipv6_address: eni.ipv6.map(|address| address.to_string()),
        }]);
    }
    if task.launch_type == Some(LaunchType::Fargate) {
        task.availability_zone = Some(eni.zone.clone());
    }
    provisioned(row);
}

fn deprovision(tx: &mut Tx, mut row: Task, _id: u128, now: Timestamp) {
    if row.last_status() != TaskStatus::Deprovisioning.as_str() {
        return;
    }
    if let Some(id) = row.network_interface.take() {
        release_eni(tx, &row.account, &row.region, &id);
    }
    for attachment in row.task.attachments.iter_mut().flatten() {
        attachment.status = Some("DELETED".to_owned());
    }
    if let Some(of) = &row.volume {
        let is_kept = VolumeRow::release(tx, &row.account, &row.region, of);
        volumes::show(&mut row, if is_kept { "DETACHED" } else { "DELETED" });
        row.volume = None;
    }
    row.task.version = Some(row.task.version.unwrap_or(0) + 1);
    report::ended(&mut row, now);
    report::keep(tx, row);
}

#[cfg(test)]
#[path = "provision_ipv6_tests.rs"]
mod ipv6_tests;
#[cfg(test)]
#[path = "provision_tests.rs"]
mod tests;
