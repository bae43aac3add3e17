//! Clusters as the API shows them.

use minato_core::capacity::is_fargate;
use minato_core::status::{InstanceStatus, ServiceStatus};
use minato_store::{Snapshot, Tx};
use minato_wire::ecs::{self, ClusterField, KeyValuePair, LaunchType};

use super::super::lookup::Read;
use crate::tables::{Cluster, ContainerInstance, Service, Task};

/// What is counted in a cluster.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    instances: usize,
    running_ec2: usize,
    running_fargate: usize,
    pending_ec2: usize,
    pending_fargate: usize,
    active_ec2: usize,
    active_fargate: usize,
    draining_ec2: usize,
    draining_fargate: usize,
}

impl Counts {
    fn add_task(&mut self, task: &Task) {
        let fargate = task.task.launch_type == Some(LaunchType::Fargate);
        let count = match (task.last_status(), fargate) {
            ("RUNNING", true) => &mut self.running_fargate,
            ("RUNNING", false) => &mut self.running_ec2,
            ("PENDING", true) => &mut self.pending_fargate,
            ("PENDING", false) => &mut self.pending_ec2,
            _ => return,
        };
        *count += 1;
    }

    fn add_instance(&mut self, instance: &ContainerInstance) {
        let status = instance.status.parse::<InstanceStatus>();
        if status.is_ok_and(InstanceStatus::is_registered) {
            self.instances += 1;
        }
    }

    fn add_service(&mut self, service: &Service) {
        let launch_type = service.service.launch_type;
        let by_strategy = service.service.capacity_provider_strategy.iter();
        let fargate = launch_type == Some(LaunchType::Fargate)
            || by_strategy.flatten().any(|item| {
                let name = item.capacity_provider.as_deref();
                is_fargate(name.unwrap_or_default())
            });
        let count = match (service.status, fargate) {
            (ServiceStatus::Active, true) => &mut self.active_fargate,
            (ServiceStatus::Active, false) => &mut self.active_ec2,
            (ServiceStatus::Draining, true) => &mut self.draining_fargate,
            (ServiceStatus::Draining, false) => &mut self.draining_ec2,
            (ServiceStatus::Inactive, _) => return,
        };
        *count += 1;
    }

    fn of(rows: &impl Read, row: &Cluster) -> Counts {
        let within = Cluster::key_of(&row.account, &row.region, &row.name);
        let mut counts = Counts::default();
        for task in rows.rows::<Task>(&within) {
            counts.add_task(&task);
        }
        for instance in rows.rows::<ContainerInstance>(&within) {
            counts.add_instance(&instance);
        }
        for service in rows.rows::<Service>(&within) {
            counts.add_service(&service);
        }
        counts
    }

    fn statistics(&self) -> Vec<KeyValuePair> {
        let all = [
            ("runningEC2TasksCount", self.running_ec2),
            ("runningFargateTasksCount", self.running_fargate),
            ("pendingEC2TasksCount", self.pending_ec2),
            ("pendingFargateTasksCount", self.pending_fargate),
            ("activeEC2ServiceCount", self.active_ec2),
            ("activeFargateServiceCount", self.active_fargate),
            ("drainingEC2ServiceCount", self.draining_ec2),
            ("drainingFargateServiceCount", self.draining_fargate),
        ];
        all.into_iter()
            .map(|(name, count)| KeyValuePair {
                name: Some(name.to_owned()),
                value: Some(count.to_string()),
            })
            .collect()
    }
}

fn number(count: usize) -> Option<i32> {
    Some(i32::try_from(count).unwrap_or(i32::MAX))
}

/// Everything but what `include` asks for.
fn plain(row: &Cluster, counts: Counts) -> ecs::Cluster {
    ecs::Cluster {
        cluster_arn: Some(row.arn()),
        cluster_name: Some(row.name.clone()),
        status: Some(row.status.clone()),
        registered_container_instances_count: number(counts.instances),
        running_tasks_count: number(
            counts.running_ec2 + counts.running_fargate,
        ),
        pending_tasks_count: number(
            counts.pending_ec2 + counts.pending_fargate,
        ),
        active_services_count: number(
            counts.active_ec2 + counts.active_fargate,
        ),
        statistics: Some(vec![]),
        tags: Some(vec![]),
        settings: Some(vec![]),
        capacity_providers: Some(row.capacity_providers.clone()),
        default_capacity_provider_strategy: Some(
            row.default_capacity_provider_strategy.clone(),
        ),
        service_connect_defaults: row.service_connect_defaults.clone(),
        ..Default::default()
    }
}

/// As `CreateCluster` answers: settings, configuration and tags in full.
pub(super) fn created(row: &Cluster) -> ecs::Cluster {
    full(row, Counts::default())
}

/// As the updates and `DeleteCluster` answer.
pub(super) fn changed(tx: &Tx, row: &Cluster) -> ecs::Cluster {
    full(row, Counts::of(tx, row))
}

fn full(row: &Cluster, counts: Counts) -> ecs::Cluster {
    ecs::Cluster {
        settings: Some(row.settings.clone()),
        configuration: row.configuration.clone(),
        tags: Some(row.tags.clone()),
        ..plain(row, counts)
    }
}

/// As `DescribeClusters` answers.
pub(super) fn described(
    rows: &Snapshot,
    row: &Cluster,
    include: &[ClusterField],
) -> ecs::Cluster {
    let counts = Counts::of(rows, row);
    let mut cluster = plain(row, counts);
    for field in include {
        match field {
            // Scaling policies of Auto Scaling groups, of which there are
            // none.
            ClusterField::Attachments => cluster.attachments = Some(vec![]),
            ClusterField::Configurations => {
                cluster.configuration = row.configuration.clone();
            }
            ClusterField::Settings => {
                cluster.settings = Some(row.settings.clone());
            }
            ClusterField::Statistics => {
                cluster.statistics = Some(counts.statistics());
            }
            ClusterField::Tags => cluster.tags = Some(row.tags.clone()),
        }
    }
    cluster
}
