//! Services as the API shows them, with what is counted rather than stored.

use std::sync::Arc;

use minato_core::status::TaskStatus;
use minato_wire::ecs::{
    self, NetworkMode, ServiceCurrentRevisionSummary, ServiceRevisionSummary,
};

use super::super::lookup::Read;
use super::super::task_sets;
use super::roll;
use crate::services::partition_of;
use crate::tables::{
    Deployment, Service, ServiceDeployment, ServiceEvent, ServiceRevision,
    Task, TaskDefinition,
};

/// The tasks that a service still looks at.
pub(crate) fn tasks_of(rows: &impl Read, service: &Service) -> Vec<Arc<Task>> {
    let Service { account, region, cluster, name, .. } = service;
    let key = Service::key_of(account, region, cluster, name);
    let mut tasks = rows.indexed::<Task>("service", &key);
    tasks.retain(|task| {
        task.service.as_ref().is_some_and(|of| of.id == service.id)
    });
    tasks
}

/// How many tasks run and how many are about to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    running: usize,
    pending: usize,
}

impl Counts {
    /// Counts those tasks for which `wanted` holds.
    pub(crate) fn of(
        tasks: &[Arc<Task>],
        wanted: impl Fn(&Task) -> bool,
    ) -> Counts {
        let mut counts = Counts::default();
        for task in tasks.iter().filter(|task| wanted(task)) {
            match task.last_status().parse::<TaskStatus>() {
                Ok(TaskStatus::Running) => counts.running += 1,
                Ok(
                    TaskStatus::Provisioning
                    | TaskStatus::Pending
                    | TaskStatus::Activating,
                ) if task.should_run() => counts.pending += 1,
                Ok(
                    TaskStatus::Provisioning
                    | TaskStatus::Pending
                    | TaskStatus::Activating
                    | TaskStatus::Deactivating
                    | TaskStatus::Stopping
                    | TaskStatus::Deprovisioning
                    | TaskStatus::Stopped
                    | TaskStatus::Deleted,
                )
                | Err(_) => {}
            }
        }
        counts
    }

    /// How many run.
    pub(crate) fn running(&self) -> u32 {
        u32::try_from(self.running).unwrap_or(u32::MAX)
    }

    /// How many are about to.
    pub(crate) fn pending(&self) -> u32 {
        u32::try_from(self.pending).unwrap_or(u32::MAX)
    }

    fn of_revision(
        tasks: &[Arc<Task>],
        service: &Service,
        revision: &str,
    ) -> Counts {
        let ids: Vec<&str> = service
            .deployments
            .iter()
            .filter(|deployment| deployment.revision == revision)
            .map(|deployment| deployment.id.as_str())
            .collect();
        Counts::of(tasks, |task| {
            let of = task.service.as_ref();
            of.is_some_and(|of| ids.contains(&of.deployment.as_str()))
        })
    }
}

fn number(count: usize) -> Option<i32> {
    Some(i32::try_from(count).unwrap_or(i32::MAX))
}

fn narrow(count: u32) -> Option<i32> {
    Some(i32::try_from(count).unwrap_or(i32::MAX))
}

/// The service as `DescribeServices` shows it, tags included.
pub(super) fn service(rows: &impl Read, row: &Service) -> ecs::Service {
    let tasks = tasks_of(rows, row);
    let counts = Counts::of(&tasks, |_| true);
    let is_active = row.deployments.iter().any(|one| one.desired_count > 0);
    ecs::Service {
        service_arn: Some(row.arn()),
        service_name: Some(row.name.clone()),
        cluster_arn: Some(row.cluster_arn()),
        status: Some(row.status.to_string()),
        desired_count: narrow(row.desired),
        running_count: number(counts.running),
        pending_count: number(counts.pending),
        deployments: Some(
            row.deployments
                .iter()
                .enumerate()
                .map(|(age, one)| deployment(rows, row, age, one, &tasks))
                .collect(),
        ),
        task_sets: (!row.is_rolling()).then(|| {
            let sets = task_sets::task_sets_of(rows, row);
            sets.iter().map(|set| task_sets::task_set(rows, row, set)).collect()
        }),
        role_arn: role(rows, row),
        events: Some(events(rows, row)),
        current_service_deployment: row
            .service_deployment
            .as_ref()
            .filter(|_| row.is_rolling() && (is_active || row.desired == 0))
            .map(|id| row.deployment_arn(id)),
        current_service_revisions: Some(current_revisions(row, &tasks)),
        ..row.service.clone()
    }
}

fn deployment(
    rows: &impl Read,
    service: &Service,
    age: usize,
    row: &Deployment,
    tasks: &[Arc<Task>],
) -> ecs::Deployment {
    let counts = Counts::of(tasks, |task| {
        task.service.as_ref().is_some_and(|of| of.deployment == row.id)
    });
    let key = service.owner().key().with(&row.revision);
    let revision = rows.row::<ServiceRevision>(&key);
    let revision = revision.map(|row| row.revision.clone()).unwrap_or_default();
    ecs::Deployment {
        id: Some(row.id.clone()),
        status: Some(if age == 0 { "PRIMARY" } else { "ACTIVE" }.to_owned()),
        task_definition: revision.task_definition,
        desired_count: narrow(row.desired_count),
        pending_count: number(counts.pending),
        running_count: number(counts.running),
        failed_tasks: narrow(row.failed_tasks),
        created_at: Some(row.created_at),
        updated_at: Some(row.updated_at),
        capacity_provider_strategy: revision.capacity_provider_strategy,
        launch_type: revision.launch_type,
        platform_version: revision.platform_version,
        platform_family: revision.platform_family,
        network_configuration: revision.network_configuration,
        volume_configurations: revision.volume_configurations,
        rollout_state: row.rollout.as_str().parse().ok(),
        rollout_state_reason: Some(row.reason.clone()),
        ..Default::default()
    }
}

/// The service-linked role, which services with network interfaces use.
fn role(rows: &impl Read, row: &Service) -> Option<String> {
    let revision = match row.primary() {
        Some(primary) => primary.revision.clone(),
        None => {
            let set = task_sets::primary_of(rows, row)?;
            set.deployment.revision.clone()
        }
    };
    let key = row.owner().key().with(&revision);
    let revision = rows.row::<ServiceRevision>(&key)?;
    let definition = rows.row::<TaskDefinition>(&TaskDefinition::key_of(
        &row.account,
        &row.region,
        &revision.family,
        revision.task_revision,
    ))?;
    let is_awsvpc =
        definition.definition.network_mode == Some(NetworkMode::Awsvpc);
    let partition = partition_of(&row.region);
    is_awsvpc.then(|| {
        format!(
            "arn:{partition}:iam::{}:role/aws-service-role/ecs.amazonaws.com/\
             AWSServiceRoleForECS",
            row.account
        )
    })
}

/// The events, newest first.
fn events(rows: &impl Read, row: &Service) -> Vec<ecs::ServiceEvent> {
    let events = rows.rows::<ServiceEvent>(&row.owner().key());
    events.iter().rev().map(|row| row.event.clone()).collect()
}

fn current_revisions(
    row: &Service,
    tasks: &[Arc<Task>],
) -> Vec<ServiceCurrentRevisionSummary> {
    let mut seen: Vec<&str> = vec![];
    let mut all = vec![];
    for deployment in &row.deployments {
        if seen.contains(&deployment.revision.as_str()) {
            continue;
        }
        seen.push(&deployment.revision);
        let counts = Counts::of_revision(tasks, row, &deployment.revision);
        all.push(ServiceCurrentRevisionSummary {
            arn: Some(row.revision_arn(&deployment.revision)),
            requested_task_count: narrow(deployment.desired_count),
            running_task_count: number(counts.running),
            pending_task_count: number(counts.pending),
        });
    }
    all
}

/// A service deployment as `DescribeServiceDeployments` shows it.
pub(super) fn service_deployment(
    rows: &impl Read,
    service: &Service,
    row: &ServiceDeployment,
) -> ecs::ServiceDeployment {
    let tasks = tasks_of(rows, service);
    let breaker = roll::breaker(service);
    let threshold = minato_core::service::breaker_threshold(service.desired);
    let is_enabled = breaker.enable == Some(true);
    let summary = |revision: &String| summary(service, revision, &tasks);
    let status = if !is_enabled {
        ecs::ServiceDeploymentRollbackMonitorsStatus::Disabled
    } else if row.deployment.rollback.is_some() || row.failures >= threshold {
        ecs::ServiceDeploymentRollbackMonitorsStatus::Triggered
    } else if row.status.is_final() {
        ecs::ServiceDeploymentRollbackMonitorsStatus::MonitoringComplete
    } else {
        ecs::ServiceDeploymentRollbackMonitorsStatus::Monitoring
    };
    ecs::ServiceDeployment {
        status: row.status.as_str().parse().ok(),
        target_service_revision: Some(summary(&row.target)),
        source_service_revisions: Some(
            row.sources.iter().map(summary).collect(),
        ),
        deployment_circuit_breaker: Some(
            ecs::ServiceDeploymentCircuitBreaker {
                status: Some(status),
                failure_count: narrow(row.failures),
                threshold: narrow(threshold),
            },
        ),
        ..row.deployment.clone()
    }
}

fn summary(
    service: &Service,
    revision: &str,
    tasks: &[Arc<Task>],
) -> ServiceRevisionSummary {
    let counts = Counts::of_revision(tasks, service, revision);
    let requested = service
        .deployments
        .iter()
        .filter(|deployment| deployment.revision == revision)
        .map(|deployment| deployment.desired_count)
        .sum();
    ServiceRevisionSummary {
        arn: Some(service.revision_arn(revision)),
        requested_task_count: narrow(requested),
        running_task_count: number(counts.running),
        pending_task_count: number(counts.pending),
        ..Default::default()
    }
}
