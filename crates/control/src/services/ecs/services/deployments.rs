//! Service deployments and service revisions.

use std::sync::Arc;

use minato_core::status::{
    ServiceDeploymentEvent, ServiceDeploymentStatus, ServiceStatus,
};
use minato_wire::ApiError;
use minato_wire::ecs::{
    ContinueServiceDeploymentRequest, ContinueServiceDeploymentResponse,
    DescribeServiceDeploymentsRequest, DescribeServiceDeploymentsResponse,
    DescribeServiceRevisionsRequest, DescribeServiceRevisionsResponse,
    ListServiceDeploymentsRequest, ListServiceDeploymentsResponse,
    ServiceDeploymentBrief, StopServiceDeploymentRequest,
    StopServiceDeploymentResponse, StopServiceDeploymentStopType, error,
};

use super::super::lookup::{self, Read};
use super::super::page;
use super::super::tasks::missing;
use super::{roll, view};
use crate::context::{Context, Scope};
use crate::tables::{Service, ServiceDeployment, ServiceRevision};

/// The most ARNs one call describes (API reference).
const DESCRIBE_MAX: usize = 20;
/// Service deployments on a page where nothing is said, and at most.
const PAGE: usize = 20;
const PAGE_MAX: usize = 100;

/// What an ARN of a service's part names.
struct Part {
    service: Arc<Service>,
    id: String,
}

/// Reads `arn:…:KIND/CLUSTER/SERVICE/ID`; `None` where there is no such
/// service here.
fn part(
    rows: &impl Read,
    scope: &Scope,
    kind: &str,
    arn: &str,
) -> Option<Part> {
    let fields: Vec<&str> = arn.splitn(6, ':').collect();
    let ["arn", _, "ecs", region, account, resource] = fields[..] else {
        return None;
    };
    if region != scope.region || account != scope.account {
        return None;
    }
    let parts: Vec<&str> = resource.split('/').collect();
    let [of, cluster, name, id] = parts[..] else { return None };
    let key = Service::key_of(account, region, cluster, name);
    let service = rows.row::<Service>(&key).filter(|_| of == kind)?;
    Some(Part { service, id: id.to_owned() })
}

fn check_count(arns: &[String], member: &str) -> Result<(), ApiError> {
    if (1..=DESCRIBE_MAX).contains(&arns.len()) {
        return Ok(());
    }
    Err(error::invalid_parameter_exception(format!(
        "{member} must have between 1 and {DESCRIBE_MAX} elements."
    )))
}

pub(crate) async fn describe_service_deployments(
    cx: &Context,
    scope: &Scope,
    input: DescribeServiceDeploymentsRequest,
) -> Result<DescribeServiceDeploymentsResponse, ApiError> {
    let arns = input.service_deployment_arns.unwrap_or_default();
    check_count(&arns, "serviceDeploymentArns")?;
    let rows = cx.snapshot();
    let (mut found, mut failures) = (vec![], vec![]);
    for arn in arns {
        let part = part(&rows, scope, "service-deployment", &arn);
        let row = part.and_then(|Part { service, id }| {
            let key = service.owner().key().with(&id);
            let row = rows.get::<ServiceDeployment>(&key)?;
            Some(view::service_deployment(&rows, &service, &row))
        });
        match row {
            Some(shown) => found.push(shown),
            None => failures.push(missing(arn)),
        }
    }
    Ok(DescribeServiceDeploymentsResponse {
        service_deployments: Some(found),
        failures: Some(failures),
    })
}

pub(crate) async fn describe_service_revisions(
    cx: &Context,
    scope: &Scope,
    input: DescribeServiceRevisionsRequest,
) -> Result<DescribeServiceRevisionsResponse, ApiError> {
    let arns = input.service_revision_arns.unwrap_or_default();
    check_count(&arns, "serviceRevisionArns")?;
    let rows = cx.snapshot();
    let (mut found, mut failures) = (vec![], vec![]);
    for arn in arns {
        let part = part(&rows, scope, "service-revision", &arn);
        let row = part.and_then(|Part { service, id }| {
            rows.get::<ServiceRevision>(&service.owner().key().with(&id))
        });
        match row {
            Some(row) => found.push(row.revision.clone()),
            None => failures.push(missing(arn)),
        }
    }
    Ok(DescribeServiceRevisionsResponse {
        service_revisions: Some(found),
        failures: Some(failures),
    })
}

pub(crate) async fn list_service_deployments(
    cx: &Context,
    scope: &Scope,
    input: ListServiceDeploymentsRequest,
) -> Result<ListServiceDeploymentsResponse, ApiError> {
    let rows = cx.snapshot();
    let cluster = lookup::cluster(&rows, scope, input.cluster.as_deref())?;
    let service = lookup::service(&rows, &cluster, input.service.as_deref())?;
    let mut all = rows.rows::<ServiceDeployment>(&service.owner().key());
    all.retain(|row| {
        let created = row.deployment.created_at;
        let window = input.created_at.as_ref();
        let after = window.and_then(|window| window.after);
        let before = window.and_then(|window| window.before);
        input.status.as_ref().is_none_or(|wanted| {
            wanted.is_empty()
                || wanted.iter().any(|one| one.as_str() == row.status.as_str())
        }) && after.is_none_or(|after| created >= Some(after))
            && before.is_none_or(|before| created <= Some(before))
    });
    // Newest first.
    all.sort_by(|a, b| {
        let (a_at, b_at) = (a.deployment.created_at, b.deployment.created_at);
        b_at.cmp(&a_at).then_with(|| b.id.cmp(&a.id))
    });
    let keyed = all.iter().map(|row| {
        let created = row.deployment.created_at.map_or(0, |at| at.as_millis());
        // Keys go up where times go down.
        let key = format!("{:019}{}", i64::MAX - created, row.id);
        (key, brief(row))
    });
    let mut keyed: Vec<(String, ServiceDeploymentBrief)> = keyed.collect();
    keyed.sort_by(|a, b| a.0.cmp(&b.0));
    let page = page::page_between(
        keyed.into_iter(),
        |(key, _)| key.as_str(),
        input.max_results,
        input.next_token.as_deref(),
        PAGE,
        PAGE_MAX,
    )?;
    Ok(ListServiceDeploymentsResponse {
        service_deployments: Some(
            page.items.into_iter().map(|(_, brief)| brief).collect(),
        ),
        next_token: page.next_token,
    })
}

fn brief(row: &ServiceDeployment) -> ServiceDeploymentBrief {
    let shown = &row.deployment;
    let service_arn = shown.service_arn.as_deref().unwrap_or_default();
    let revision = service_arn.replacen(":service/", ":service-revision/", 1);
    ServiceDeploymentBrief {
        service_deployment_arn: shown.service_deployment_arn.clone(),
        service_arn: shown.service_arn.clone(),
        cluster_arn: shown.cluster_arn.clone(),
        started_at: shown.started_at,
        created_at: shown.created_at,
        finished_at: shown.finished_at,
        target_service_revision_arn: Some(format!("{revision}/{}", row.target)),
        status: row.status.as_str().parse().ok(),
        status_reason: shown.status_reason.clone(),
    }
}

/// Asks for a rollback; the reconciler carries it out.
pub(crate) async fn stop_service_deployment(
    cx: &Context,
    scope: &Scope,
    input: StopServiceDeploymentRequest,
) -> Result<StopServiceDeploymentResponse, ApiError> {
    if input.stop_type == Some(StopServiceDeploymentStopType::Abort) {
        return Err(error::invalid_parameter_exception(
            "The stopType must be ROLLBACK.",
        ));
    }
    let scope = scope.clone();
    let arn = input.service_deployment_arn.unwrap_or_default();
    let answer = arn.clone();
    cx.transact(move |tx| {
        let missing = || {
            error::service_deployment_not_found_exception(
                "The service deployment was not found.",
            )
        };
        let Part { service, id } =
            part(tx, &scope, "service-deployment", &arn).ok_or_else(missing)?;
        let key = service.owner().key().with(&id);
        let row = tx.get::<ServiceDeployment>(&key).ok_or_else(missing)?;
        let is_newest = service.service_deployment.as_ref() == Some(&id);
        let is_over = row.status.is_final()
            || !is_newest
            || service.status != ServiceStatus::Active;
        let is_back = row.status == ServiceDeploymentStatus::RollbackInProgress;
        if is_over || is_back {
            return Err(error::conflict_exception(format!(
                "The service deployment cannot be stopped because it is {}.",
                row.status
            )));
        }
        let target = service.completed_revision.as_ref();
        if target.is_none_or(|target| *target == row.target) {
            return Err(error::conflict_exception(
                "The service deployment cannot be rolled back because the \
                 service has no completed service revision to return to.",
            ));
        }
        let why = "Service deployment rollback requested by the user.";
        let event = ServiceDeploymentEvent::RollbackAsked;
        roll::step(tx, &service, event, scope.now, Some(why));
        Ok(())
    })
    .await?;
    Ok(StopServiceDeploymentResponse { service_deployment_arn: Some(answer) })
}

/// No deployment waits here: there are no hooks that would have it wait.
pub(crate) async fn continue_service_deployment(
    cx: &Context,
    scope: &Scope,
    input: ContinueServiceDeploymentRequest,
) -> Result<ContinueServiceDeploymentResponse, ApiError> {
    let rows = cx.snapshot();
    let arn = input.service_deployment_arn.unwrap_or_default();
    let missing = || {
        error::service_deployment_not_found_exception(
            "The service deployment was not found.",
        )
    };
    let Part { service, id } =
        part(&rows, scope, "service-deployment", &arn).ok_or_else(missing)?;
    let key = service.owner().key().with(&id);
    let row = rows.get::<ServiceDeployment>(&key).ok_or_else(missing)?;
    if row.status.is_final() {
        return Err(error::invalid_parameter_exception(format!(
            "The service deployment cannot be continued because it is {}.",
            row.status
        )));
    }
    Err(error::invalid_parameter_exception(format!(
        "The service deployment has no lifecycle hook {} that awaits an \
         action.",
        input.hook_id.unwrap_or_default()
    )))
}
