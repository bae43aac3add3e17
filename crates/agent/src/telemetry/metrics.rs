//! What running containers use, and how they are.

use std::collections::HashMap;

use minato_wire::tcs::{
    ContainerHealth, ContainerMetric, CounterSet, NetworkStatsSet,
    RestartStatsSet, StatsSet, StorageStatsSet, TaskHealth, TaskMetric,
};
use tokio::time::Instant;

use crate::agent::Services;
use crate::engine::TaskView;
use crate::runtime::Usage;
use crate::task::plan::{ContainerPlan, TaskPlan};
use crate::task::status::ContainerStatus;

/// Remembers the last look at each container, to tell rates.
#[derive(Debug, Default)]
pub(super) struct Sampler {
    last: HashMap<String, (Instant, Usage)>,
}

impl Sampler {
    /// Looks at every running container.
    pub(super) async fn sample(
        &mut self,
        services: &Services,
        tasks: &[TaskView],
    ) -> Vec<TaskMetric> {
        let mut seen = HashMap::new();
        let mut metrics = vec![];
        for task in tasks {
            let Some(plan) = &task.plan else { continue };
            let mut containers = vec![];
            for container in running(task, plan) {
                let usage = services.runtime.usage(&container.id).await;
                // It may have ended a moment ago.
                let Ok(usage) = usage else { continue };
                let look = (Instant::now(), usage);
                let before = self.last.get(&container.id).copied();
                let mut metric = metric(services, container, before, look);
                metric.restart_stats_set = restarts(task, container);
                containers.push(metric);
                seen.insert(container.id.clone(), look);
            }
            if !containers.is_empty() {
                metrics.push(TaskMetric {
                    task_arn: Some(task.arn.clone()),
                    cluster_arn: Some(plan.cluster_arn.clone()),
                    task_definition_family: Some(plan.family.clone()),
                    task_definition_version: Some(plan.revision.clone()),
                    container_metrics: containers,
                });
            }
        }
        self.last = seen;
        metrics
    }
}

fn running<'a>(
    task: &'a TaskView,
    plan: &'a TaskPlan,
) -> impl Iterator<Item = &'a ContainerPlan> {
    plan.containers.iter().filter(|container| {
        task.record
            .containers
            .get(&container.name)
            .is_some_and(|known| known.status == ContainerStatus::Running)
    })
}

fn one(value: f64) -> StatsSet {
    StatsSet {
        min: Some(value),
        max: Some(value),
        sample_count: Some(1),
        sum: Some(value),
    }
}

fn count(value: u64) -> CounterSet {
    let value = i64::try_from(value).unwrap_or(i64::MAX);
    CounterSet {
        min: Some(value),
        max: Some(value),
        sample_count: Some(1),
        sum: Some(value),
        ..CounterSet::default()
    }
}

/// Counters below 2^53 are exact, which bytes and nanoseconds are for years.
fn float(value: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "see above")]
    let float = value as f64;
    float
}

fn metric(
    services: &Services,
    container: &ContainerPlan,
    before: Option<(Instant, Usage)>,
    (now, usage): (Instant, Usage),
) -> ContainerMetric {
    let cpu = before.and_then(|(then, old)| {
        let elapsed = now.duration_since(then).as_secs_f64();
        let cpus = f64::from(services.config.cpu_units) / 1024.0;
        let used = float(usage.cpu_ns.saturating_sub(old.cpu_ns)) / 1e9;
        // Per cent of the whole host, whatever the task's share is.
        (elapsed > 0.0 && cpus > 0.0)
            .then(|| one(used / elapsed / cpus * 100.0))
    });
    let network = usage.network.map(|(rx, tx)| NetworkStatsSet {
        rx_bytes: Some(count(rx)),
        tx_bytes: Some(count(tx)),
        ..NetworkStatsSet::default()
    });
    ContainerMetric {
        container_name: Some(container.name.clone()),
        container_arn: container.arn.clone(),
        cpu_stats_set: cpu,
        memory_stats_set: Some(one(float(usage.memory_bytes >> 20))),
        network_stats_set: network,
        storage_stats_set: Some(StorageStatsSet {
            read_size_bytes: Some(count(usage.storage.0)),
            write_size_bytes: Some(count(usage.storage.1)),
        }),
        restart_stats_set: None,
    }
}

/// How often a container was started again, where it has a policy for it.
fn restarts(
    task: &TaskView,
    container: &ContainerPlan,
) -> Option<RestartStatsSet> {
    container.restart.as_ref()?;
    let known = task.record.containers.get(&container.name)?;
    let restart_count = Some(i64::from(known.restart_count));
    Some(RestartStatsSet { restart_count })
}

/// What the health checks of running containers say.
pub(super) fn health(tasks: &[TaskView]) -> Vec<TaskHealth> {
    let mut list = vec![];
    for task in tasks {
        let Some(plan) = &task.plan else { continue };
        let containers: Vec<ContainerHealth> = running(task, plan)
            .filter(|container| container.health_check.is_some())
            .filter_map(|container| {
                let known = task.record.containers.get(&container.name)?;
                let health = &known.health;
                Some(ContainerHealth {
                    container_name: Some(container.name.clone()),
                    health_status: Some(health.status.as_str().to_owned()),
                    status_since: health.since.or(known.started_at),
                    status_message: Some(health.output.clone())
                        .filter(|output| !output.is_empty()),
                })
            })
            .collect();
        if !containers.is_empty() {
            list.push(TaskHealth {
                task_arn: Some(task.arn.clone()),
                cluster_arn: Some(plan.cluster_arn.clone()),
                task_definition_family: Some(plan.family.clone()),
                task_definition_version: Some(plan.revision.clone()),
                containers,
            });
        }
    }
    list
}
