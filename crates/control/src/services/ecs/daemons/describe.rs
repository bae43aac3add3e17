//! Daemons, their deployments and revisions as the API shows them.

use std::collections::BTreeMap;
use std::sync::Arc;

use minato_core::status::TaskStatus;
use minato_wire::ApiError;
use minato_wire::ecs::{
    self, DaemonCapacityProvider, DaemonDeploymentCapacityProvider,
    DaemonDeploymentRevisionDetail, DaemonDeploymentRollbackMonitorsStatus,
    DaemonDeploymentStatus, DaemonDeploymentSummary, DaemonDetail,
    DaemonRevisionDetail, DaemonStatus, DaemonSummary,
    DescribeDaemonDeploymentsRequest, DescribeDaemonDeploymentsResponse,
    DescribeDaemonRequest, DescribeDaemonResponse,
    DescribeDaemonRevisionsRequest, DescribeDaemonRevisionsResponse,
    ListDaemonDeploymentsRequest, ListDaemonDeploymentsResponse,
    ListDaemonsRequest, ListDaemonsResponse, error,
};

use super::super::lookup::{self, Read};
use super::super::page::{page, page_between};
use super::super::services::tasks_of;
use super::super::tasks::missing;
use super::{find, parts};
use crate::context::{Context, Scope};
use crate::tables::{
    CapacityProvider, Cluster, Daemon, DaemonDeployment, DaemonRevision, Task,
    namespace,
};

/// The most ARNs one call describes (API reference).
const DESCRIBE_MAX: usize = 20;
/// Daemons on a page.
const DAEMONS_MAX: usize = 100;
/// Deployments on a page where nothing is said.
const DEPLOYMENTS: usize = 20;

/// The tasks of one revision of a daemon.
struct Counted<'a> {
    daemon: &'a Daemon,
    tasks: Vec<Arc<Task>>,
}

impl<'a> Counted<'a> {
    fn of(rows: &impl Read, daemon: &'a Daemon) -> Counted<'a> {
        let tasks = tasks_of(rows, &daemon.as_service());
        Counted { daemon, tasks }
    }

    /// Running and stopping tasks of a revision on the instances of a
    /// provider.
    fn count(&self, revision: &str, provider: &str) -> (usize, usize) {
        let of_revision = |id: &str| {
            let mut all = self.daemon.deployments.iter();
            all.any(|one| one.id == id && one.revision == revision)
        };
        let ours = self.tasks.iter().filter(|task| {
            let of = task.service.as_ref();
            task.task.capacity_provider_name.as_deref() == Some(provider)
                && of.is_some_and(|of| of_revision(&of.deployment))
        });
        let (mut running, mut draining) = (0, 0);
        for task in ours {
            if task.last_status().parse() == Ok(TaskStatus::Running) {
                running += 1;
            } else if !task.should_run() && !task.is_stopped() {
                draining += 1;
            }
        }
        (running, draining)
    }

    fn provider_arn(&self, provider: &str) -> String {
        let of = &self.daemon.of;
        CapacityProvider::arn_of(&of.account, &of.region, provider)
    }

    fn revision(&self, revision: &str) -> DaemonRevisionDetail {
        let mut total = 0;
        let providers = self.daemon.providers.iter().map(|provider| {
            let (running, _) = self.count(revision, provider);
            total += running;
            DaemonCapacityProvider {
                arn: Some(self.provider_arn(provider)),
                running_count: number(running),
            }
        });
        let providers: Vec<_> = providers.collect();
        DaemonRevisionDetail {
            arn: Some(self.daemon.revision_arn(revision)),
            capacity_providers: Some(providers),
            total_running_count: number(total),
        }
    }

    fn deployed(&self, revision: &str) -> DaemonDeploymentRevisionDetail {
        let (mut all_running, mut all_draining) = (0, 0);
        let providers = self.daemon.providers.iter().map(|provider| {
            let (running, draining) = self.count(revision, provider);
            all_running += running;
            all_draining += draining;
            DaemonDeploymentCapacityProvider {
                arn: Some(self.provider_arn(provider)),
                running_instance_count: number(running),
                draining_instance_count: number(draining),
            }
        });
        let providers: Vec<_> = providers.collect();
        DaemonDeploymentRevisionDetail {
            arn: Some(self.daemon.revision_arn(revision)),
            capacity_providers: Some(providers),
            total_running_instance_count: number(all_running),
            total_draining_instance_count: number(all_draining),
        }
    }
}

fn number(count: usize) -> Option<i32> {
    Some(i32::try_from(count).unwrap_or(i32::MAX))
}

fn status(row: &Daemon) -> DaemonStatus {
    if row.is_deleted {
        DaemonStatus::DeleteInProgress
    } else {
        DaemonStatus::Active
    }
}

pub(crate) async fn describe_daemon(
    cx: &Context,
    scope: &Scope,
    input: DescribeDaemonRequest,
) -> Result<DescribeDaemonResponse, ApiError> {
    let rows = cx.snapshot();
    let arn = input.daemon_arn.unwrap_or_default();
    let row = find(&rows, scope, &arn).ok_or_else(|| {
        error::daemon_not_found_exception("The specified daemon was not found.")
    })?;
    let counted = Counted::of(&rows, &row);
    let mut revisions: Vec<&str> = vec![];
    for deployment in &row.deployments {
        if !revisions.contains(&deployment.revision.as_str()) {
            revisions.push(&deployment.revision);
        }
    }
    Ok(DescribeDaemonResponse {
        daemon: Some(DaemonDetail {
            daemon_arn: Some(row.arn()),
            cluster_arn: Some(row.cluster_arn()),
            status: Some(status(&row)),
            current_revisions: Some(
                revisions.into_iter().map(|it| counted.revision(it)).collect(),
            ),
            deployment_arn: Some(row.deployment_arn(&row.deployment)),
            created_at: Some(row.created_at),
            updated_at: Some(row.updated_at),
        }),
    })
}

pub(crate) async fn list_daemons(
    cx: &Context,
    scope: &Scope,
    input: ListDaemonsRequest,
) -> Result<ListDaemonsResponse, ApiError> {
    let rows = cx.snapshot();
    let within = match input.cluster_arn.as_deref() {
        None => namespace(&scope.account, &scope.region),
        Some(given) => {
            let cluster = lookup::cluster(&rows, scope, Some(given))?;
            let Scope { account, region, .. } = scope;
            Cluster::key_of(account, region, &cluster.name)
        }
    };
    let wanted = input.capacity_provider_arns.unwrap_or_default();
    let is_wanted = |row: &Daemon| {
        wanted.is_empty()
            || wanted.iter().any(|given| {
                let name = minato_core::capacity::provider_name(given);
                row.providers.iter().any(|known| known == name)
            })
    };
    let found = rows.scan::<Daemon>(&within).filter(|row| is_wanted(row));
    let found = found.map(|row| (row.arn(), row));
    let found = page(
        found,
        |(arn, _)| arn,
        input.max_results,
        input.next_token.as_deref(),
        DAEMONS_MAX,
    )?;
    let summaries = found.items.into_iter().map(|(arn, row)| DaemonSummary {
        daemon_arn: Some(arn),
        status: Some(status(&row)),
        created_at: Some(row.created_at),
        updated_at: Some(row.updated_at),
    });
    Ok(ListDaemonsResponse {
        daemon_summaries_list: Some(summaries.collect()),
        next_token: found.next_token,
    })
}

pub(crate) async fn list_daemon_deployments(
    cx: &Context,
    scope: &Scope,
    input: ListDaemonDeploymentsRequest,
) -> Result<ListDaemonDeploymentsResponse, ApiError> {
    let rows = cx.snapshot();
    let arn = input.daemon_arn.unwrap_or_default();
    let daemon = find(&rows, scope, &arn).ok_or_else(|| {
        error::invalid_parameter_exception(
            "The specified daemon was not found.",
        )
    })?;
    let statuses = input.status.unwrap_or_default();
    let created = input.created_at.unwrap_or_default();
    let found = rows.scan::<DaemonDeployment>(&daemon.of.key()).filter(|row| {
        let at = row.shown.created_at;
        (statuses.is_empty() || statuses.contains(&row.status()))
            && created.after.is_none_or(|after| at > Some(after))
            && created.before.is_none_or(|before| at < Some(before))
    });
    // Newest first; pages go on by time and id.
    let mut keyed: BTreeMap<String, Arc<DaemonDeployment>> = BTreeMap::new();
    for row in found {
        let created = row.shown.created_at.map_or(0, |at| at.as_millis());
        let key = format!("{:019}{}", i64::MAX - created, row.id);
        keyed.insert(key, row);
    }
    let found = page_between(
        keyed.into_iter(),
        |(key, _)| key,
        input.max_results,
        input.next_token.as_deref(),
        DEPLOYMENTS,
        DAEMONS_MAX,
    )?;
    let summaries = found.items.into_iter().map(|(_, row)| {
        let shown = &row.shown;
        DaemonDeploymentSummary {
            daemon_deployment_arn: shown.daemon_deployment_arn.clone(),
            daemon_arn: Some(daemon.arn()),
            cluster_arn: shown.cluster_arn.clone(),
            status: shown.status,
            status_reason: shown.status_reason.clone(),
            target_daemon_revision_arn: Some(daemon.revision_arn(&row.target)),
            created_at: shown.created_at,
            started_at: shown.started_at,
            stopped_at: shown.stopped_at,
            finished_at: shown.finished_at,
        }
    });
    Ok(ListDaemonDeploymentsResponse {
        daemon_deployments: Some(summaries.collect()),
        next_token: found.next_token,
    })
}

/// The daemon and the id of a part that an ARN names.
fn part(
    rows: &impl Read,
    scope: &Scope,
    kind: &str,
    arn: &str,
) -> Option<(Arc<Daemon>, String)> {
    let parts = parts(scope, kind, arn)?;
    let [cluster, name, id] = parts[..] else { return None };
    let Scope { account, region, .. } = scope;
    let key = Daemon::key_of(account, region, cluster, name);
    Some((rows.row(&key)?, id.to_owned()))
}

fn check_count(arns: &[String], member: &str) -> Result<(), ApiError> {
    if (1..=DESCRIBE_MAX).contains(&arns.len()) {
        return Ok(());
    }
    Err(error::invalid_parameter_exception(format!(
        "{member} must have between 1 and {DESCRIBE_MAX} elements."
    )))
}

pub(crate) async fn describe_daemon_deployments(
    cx: &Context,
    scope: &Scope,
    input: DescribeDaemonDeploymentsRequest,
) -> Result<DescribeDaemonDeploymentsResponse, ApiError> {
    let rows = cx.snapshot();
    let arns = input.daemon_deployment_arns.unwrap_or_default();
    check_count(&arns, "daemonDeploymentArns")?;
    let (mut found, mut failures) = (vec![], vec![]);
    for arn in arns {
        let row = part(&rows, scope, "daemon-deployment", &arn).and_then(
            |(daemon, id)| {
                let key = daemon.of.key().with(&id);
                let row = rows.get::<DaemonDeployment>(&key)?;
                Some(deployment(&rows, &daemon, &row))
            },
        );
        match row {
            Some(row) => found.push(row),
            None => failures.push(missing(arn)),
        }
    }
    Ok(DescribeDaemonDeploymentsResponse {
        daemon_deployments: Some(found),
        failures: Some(failures),
    })
}

fn deployment(
    rows: &impl Read,
    daemon: &Daemon,
    row: &DaemonDeployment,
) -> ecs::DaemonDeployment {
    let counted = Counted::of(rows, daemon);
    let threshold = minato_core::service::breaker_threshold(daemon.desired);
    let monitors = match row.status() {
        DaemonDeploymentStatus::RollbackInProgress
        | DaemonDeploymentStatus::RollbackSuccessful
        | DaemonDeploymentStatus::RollbackFailed => {
            DaemonDeploymentRollbackMonitorsStatus::Triggered
        }
        DaemonDeploymentStatus::Pending
        | DaemonDeploymentStatus::InProgress => {
            DaemonDeploymentRollbackMonitorsStatus::Monitoring
        }
        DaemonDeploymentStatus::Successful
        | DaemonDeploymentStatus::Stopped
        | DaemonDeploymentStatus::StopRequested => {
            DaemonDeploymentRollbackMonitorsStatus::MonitoringComplete
        }
    };
    let narrow = |count: u32| Some(i32::try_from(count).unwrap_or(i32::MAX));
    ecs::DaemonDeployment {
        target_daemon_revision: Some(counted.deployed(&row.target)),
        source_daemon_revisions: Some(
            row.sources.iter().map(|it| counted.deployed(it)).collect(),
        ),
        circuit_breaker: Some(ecs::DaemonCircuitBreaker {
            failure_count: narrow(row.failures),
            status: Some(monitors),
            threshold: narrow(threshold),
        }),
        ..row.shown.clone()
    }
}

pub(crate) async fn describe_daemon_revisions(
    cx: &Context,
    scope: &Scope,
    input: DescribeDaemonRevisionsRequest,
) -> Result<DescribeDaemonRevisionsResponse, ApiError> {
    let rows = cx.snapshot();
    let arns = input.daemon_revision_arns.unwrap_or_default();
    check_count(&arns, "daemonRevisionArns")?;
    let (mut found, mut failures) = (vec![], vec![]);
    for arn in arns {
        let row = part(&rows, scope, "daemon-revision", &arn).and_then(
            |(daemon, id)| {
                rows.get::<DaemonRevision>(&daemon.of.key().with(&id))
            },
        );
        match row {
            Some(row) => found.push(row.shown.clone()),
            None => failures.push(missing(arn)),
        }
    }
    Ok(DescribeDaemonRevisionsResponse {
        daemon_revisions: Some(found),
        failures: Some(failures),
    })
}
