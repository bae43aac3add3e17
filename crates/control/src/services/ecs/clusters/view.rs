//! Clusters as the API shows them.

use minato_core::status::InstanceStatus;
use minato_store::{Snapshot, Tx};
use minato_wire::ecs::{self, ClusterField, KeyValuePair, LaunchType};

use crate::tables::{Cluster, ContainerInstance, Task};

/// What is counted in a cluster.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    instances: usize,
    running_ec2: usize,
    running_fargate: usize,
    pending_ec2: usize,
    pending_fargate: usize,
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

    fn of_snapshot(rows: &Snapshot, row: &Cluster) -> Counts {
        let within = Cluster::key_of(&row.account, &row.region, &row.name);
        let mut counts = Counts::default();
        rows.scan::<Task>(&within).for_each(|task| counts.add_task(&task));
        rows.scan::<ContainerInstance>(&within)
            .for_each(|instance| counts.add_instance(&instance));
        counts
    }

    fn of_tx(tx: &Tx, row: &Cluster) -> Counts {
        let within = Cluster::key_of(&row.account, &row.region, &row.name);
        let mut counts = Counts::default();
        tx.scan::<Task>(&within).for_each(|task| counts.add_task(&task));
        tx.scan::<ContainerInstance>(&within)
            .for_each(|instance| counts.add_instance(&instance));
        counts
    }

    fn statistics(&self) -> Vec<KeyValuePair> {
        // No services yet, so their counts are true as they stand.
        let all = [
            ("runningEC2TasksCount", self.running_ec2),
            ("runningFargateTasksCount", self.running_fargate),
            ("pendingEC2TasksCount", self.pending_ec2),
            ("pendingFargateTasksCount", self.pending_fargate),
            ("activeEC2ServiceCount", 0),
            ("activeFargateServiceCount", 0),
            ("drainingEC2ServiceCount", 0),
            ("drainingFargateServiceCount", 0),
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
        active_services_count: Some(0),
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
    full(row, Counts::of_tx(tx, row))
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
    let counts = Counts::of_snapshot(rows, row);
    let mut cluster = plain(row, counts);
    for field in include {
        match field {
            // Only Auto Scaling group providers make attachments.
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
