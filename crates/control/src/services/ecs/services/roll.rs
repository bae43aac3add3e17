//! Deployments begin, end and are taken back.

use minato_core::id::ServiceEventId;
use minato_core::status::{
    RolloutEvent, RolloutState, ServiceDeploymentEvent, ServiceDeploymentStatus,
};
use minato_store::Tx;
use minato_wire::{Timestamp, ecs};

use crate::context::Draw;
use crate::tables::{
    Deployment, EVENTS_MAX, Service, ServiceDeployment, ServiceEvent,
    ServiceRevision,
};

/// How many numbers [`begin`] draws.
pub(crate) const BEGIN_DRAWS: usize = 2;

/// What a new revision of a service runs.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    /// As it is shown, but for its ARN and those of its service.
    pub(crate) revision: ecs::ServiceRevision,
    /// The definition's family.
    pub(crate) family: String,
    /// The definition's revision.
    pub(crate) task_revision: u32,
}

/// Makes a new revision and its deployment, which becomes `PRIMARY`.
pub(crate) fn begin(
    tx: &mut Tx,
    service: &mut Service,
    content: Content,
    draw: &mut Draw,
    now: Timestamp,
) {
    let superseded =
        "Service deployment stopped because a newer one was started.";
    supersede(tx, service, superseded, now);
    let revision = digits(draw.next());
    tx.put(ServiceRevision {
        of: service.owner(),
        id: revision.clone(),
        revision: ecs::ServiceRevision {
            service_revision_arn: Some(service.revision_arn(&revision)),
            service_arn: Some(service.arn()),
            cluster_arn: Some(service.cluster_arn()),
            created_at: Some(now),
            ..content.revision
        },
        family: content.family,
        task_revision: content.task_revision,
    });
    let id = nano_id(draw.next());
    let arn = service.deployment_arn(&id);
    tx.put(ServiceDeployment {
        of: service.owner(),
        id: id.clone(),
        deployment: ecs::ServiceDeployment {
            service_deployment_arn: Some(arn),
            service_arn: Some(service.arn()),
            cluster_arn: Some(service.cluster_arn()),
            created_at: Some(now),
            updated_at: Some(now),
            deployment_configuration: service
                .service
                .deployment_configuration
                .clone(),
            ..Default::default()
        },
        status: ServiceDeploymentStatus::Pending,
        target: revision.clone(),
        sources: sources(service),
        failures: 0,
    });
    let deployment_id = format!("ecs-svc/{revision}");
    service.service_deployment = Some(id.clone());
    service.steady_at = None;
    service.complaints.clear();
    service.deployments.insert(
        0,
        Deployment {
            reason: format!("ECS deployment {deployment_id} in progress."),
            id: deployment_id,
            revision,
            service_deployment: id,
            desired_count: 0,
            failed_tasks: 0,
            created_at: now,
            updated_at: now,
            rollout: RolloutState::InProgress,
            failed_rounds: 0,
            retry_at: None,
        },
    );
}

fn sources(service: &Service) -> Vec<String> {
    let mut sources: Vec<String> = vec![];
    for deployment in &service.deployments {
        if !sources.contains(&deployment.revision) {
            sources.push(deployment.revision.clone());
        }
    }
    sources
}

/// The service deployment that is under way ends without its goal.
pub(crate) fn supersede(
    tx: &mut Tx,
    service: &Service,
    why: &str,
    now: Timestamp,
) {
    step(tx, service, ServiceDeploymentEvent::Superseded, now, Some(why));
}

/// Moves the newest service deployment on; nothing happens where the event
/// has no meaning for it (it ended before).
pub(crate) fn step(
    tx: &mut Tx,
    service: &Service,
    event: ServiceDeploymentEvent,
    now: Timestamp,
    why: Option<&str>,
) {
    let Some(id) = &service.service_deployment else { return };
    let key = service.owner().key().with(id);
    let Some(known) = tx.get::<ServiceDeployment>(&key) else { return };
    let Ok(next) = known.status.step(event) else { return };
    if next == known.status {
        return;
    }
    let mut row = ServiceDeployment::clone(&known);
    row.status = next;
    let shown = &mut row.deployment;
    shown.updated_at = Some(now);
    if let Some(why) = why {
        shown.status_reason = Some(why.to_owned());
    }
    match next {
        ServiceDeploymentStatus::InProgress => shown.started_at = Some(now),
        ServiceDeploymentStatus::Stopped => {
            shown.stopped_at = Some(now);
            shown.finished_at = Some(now);
        }
        ServiceDeploymentStatus::Successful
        | ServiceDeploymentStatus::RollbackSuccessful
        | ServiceDeploymentStatus::RollbackFailed => {
            shown.finished_at = Some(now);
        }
        ServiceDeploymentStatus::Pending
        | ServiceDeploymentStatus::StopRequested
        | ServiceDeploymentStatus::RollbackRequested
        | ServiceDeploymentStatus::RollbackInProgress => {}
    }
    tx.put(row);
}

/// The status of the newest service deployment.
pub(crate) fn status(
    rows: &impl super::super::lookup::Read,
    service: &Service,
) -> Option<ServiceDeploymentStatus> {
    let id = service.service_deployment.as_ref()?;
    let key = service.owner().key().with(id);
    rows.row::<ServiceDeployment>(&key).map(|row| row.status)
}

/// The primary deployment is in a steady state.
pub(crate) fn complete(
    tx: &mut Tx,
    service: &mut Service,
    draw: &mut Draw,
    now: Timestamp,
) {
    let Some(primary) = service.deployments.first_mut() else { return };
    if primary.rollout != RolloutState::InProgress {
        return;
    }
    let Ok(next) = primary.rollout.step(RolloutEvent::Settled) else { return };
    primary.rollout = next;
    primary.reason = format!("ECS deployment {} completed.", primary.id);
    primary.updated_at = now;
    let id = primary.id.clone();
    service.completed_revision = Some(primary.revision.clone());
    step(tx, service, ServiceDeploymentEvent::Settled, now, None);
    let text = format!("(deployment {id}) deployment completed.");
    tell(tx, service, draw, now, &text);
}

/// Too many tasks of the primary deployment failed.
pub(crate) fn fail(
    tx: &mut Tx,
    service: &mut Service,
    draw: &mut Draw,
    now: Timestamp,
) {
    let Some(primary) = service.deployments.first_mut() else { return };
    let Ok(next) = primary.rollout.step(RolloutEvent::Broken) else { return };
    primary.rollout = next;
    primary.reason =
        "ECS deployment circuit breaker: tasks failed to start.".to_owned();
    primary.updated_at = now;
    let id = primary.id.clone();
    let text =
        format!("(deployment {id}) deployment failed: tasks failed to start.");
    tell(tx, service, draw, now, &text);
    let breaker = breaker(service);
    let why = "Service deployment rolled back because the circuit breaker \
               threshold was exceeded.";
    let is_back = breaker.rollback == Some(true)
        && roll_back(tx, service, draw, now, why);
    if !is_back {
        let why = "Service deployment stopped because the circuit breaker \
                   threshold was exceeded.";
        step(tx, service, ServiceDeploymentEvent::Broken, now, Some(why));
    }
}

/// The service's circuit breaker; disabled where it has none.
pub(crate) fn breaker(service: &Service) -> ecs::DeploymentCircuitBreaker {
    let configuration = service.service.deployment_configuration.as_ref();
    configuration
        .and_then(|given| given.deployment_circuit_breaker.clone())
        .unwrap_or_default()
}

/// Brings back the revision that completed last; `false` where there is none.
///
/// Its deployment, if it is still there with tasks, becomes `PRIMARY` again
/// and keeps them. Until it is complete there is nothing to go back to.
pub(crate) fn roll_back(
    tx: &mut Tx,
    service: &mut Service,
    draw: &mut Draw,
    now: Timestamp,
    why: &str,
) -> bool {
    let failed = service.primary().map(|primary| primary.revision.clone());
    let Some(target) = service.completed_revision.take() else { return false };
    if failed.as_ref() == Some(&target) {
        return false;
    }
    let known = service
        .deployments
        .iter()
        .position(|deployment| deployment.revision == target);
    let mut back = match known {
        Some(index) => service.deployments.remove(index),
        None => Deployment {
            id: format!("ecs-svc/{}", digits(draw.next())),
            revision: target.clone(),
            service_deployment: String::new(),
            desired_count: 0,
            failed_tasks: 0,
            created_at: now,
            updated_at: now,
            rollout: RolloutState::InProgress,
            reason: String::new(),
            failed_rounds: 0,
            retry_at: None,
        },
    };
    back.service_deployment =
        service.service_deployment.clone().unwrap_or_default();
    back.rollout = back
        .rollout
        .step(RolloutEvent::Returned)
        .unwrap_or(RolloutState::InProgress);
    back.reason = format!(
        "ECS deployment circuit breaker: rolling back to deploymentId {}.",
        back.id
    );
    back.failed_tasks = 0;
    back.failed_rounds = 0;
    back.retry_at = None;
    back.updated_at = now;
    let id = back.id.clone();
    service.deployments.insert(0, back);
    service.steady_at = None;
    show(tx, service, &target);
    step(tx, service, ServiceDeploymentEvent::RollbackBegun, now, Some(why));
    note_rollback(tx, service, &target, why, now);
    let text = format!("rolling back to deployment {id}.");
    tell(tx, service, draw, now, &text);
    true
}

/// The service shows what its primary deployment runs.
fn show(tx: &Tx, service: &mut Service, revision: &str) {
    let key = service.owner().key().with(revision);
    let Some(row) = tx.get::<ServiceRevision>(&key) else { return };
    let of_revision = &row.revision;
    let shown = &mut service.service;
    shown.task_definition = of_revision.task_definition.clone();
    shown.launch_type = of_revision.launch_type;
    shown.capacity_provider_strategy =
        of_revision.capacity_provider_strategy.clone();
    shown.platform_family = of_revision.platform_family.clone();
    shown.network_configuration = of_revision.network_configuration.clone();
}

fn note_rollback(
    tx: &mut Tx,
    service: &Service,
    target: &str,
    why: &str,
    now: Timestamp,
) {
    let Some(id) = &service.service_deployment else { return };
    let key = service.owner().key().with(id);
    let Some(known) = tx.get::<ServiceDeployment>(&key) else { return };
    let mut row = ServiceDeployment::clone(&known);
    row.deployment.rollback = Some(ecs::Rollback {
        reason: Some(why.to_owned()),
        started_at: Some(now),
        service_revision_arn: Some(service.revision_arn(target)),
    });
    tx.put(row);
}

/// Adds an event; the oldest gives way.
pub(crate) fn tell(
    tx: &mut Tx,
    service: &mut Service,
    draw: &mut Draw,
    now: Timestamp,
    text: &str,
) {
    tell_of(tx, service, None, draw, now, text);
}

/// Adds an event of a task set, where one is named.
pub(crate) fn tell_of(
    tx: &mut Tx,
    service: &mut Service,
    task_set: Option<&str>,
    draw: &mut Draw,
    now: Timestamp,
    text: &str,
) {
    let name = &service.name;
    let message = match task_set {
        None => format!("(service {name}) {text}"),
        Some(id) => format!("(service {name}, taskSet {id}) {text}"),
    };
    service.events += 1;
    let number = service.events;
    tx.put(ServiceEvent {
        of: service.owner(),
        number,
        event: ecs::ServiceEvent {
            id: Some(ServiceEventId::new(draw.next()).dashed()),
            created_at: Some(now),
            message: Some(message),
        },
    });
    if let Some(old) = number.checked_sub(EVENTS_MAX) {
        tx.delete::<ServiceEvent>(&service.owner().key().with_u64(old));
    }
}

/// 19 digits, the first of which is not 0.
pub(crate) fn digits(number: u128) -> String {
    /// What 19 digits begin at, and how many numbers of 19 digits there are.
    const BASE: u128 = 1_000_000_000_000_000_000;
    (BASE + number % (9 * BASE)).to_string()
}

/// 21 characters of a URL-safe alphabet.
pub(crate) fn nano_id(number: u128) -> String {
    const ALPHABET: &[u8; 64] =
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
    (0..21)
        .map(|place| {
            let index = usize::try_from((number >> (6 * place)) & 63);
            char::from(ALPHABET[index.unwrap_or(0)])
        })
        .collect()
}
