//! CreateDaemon, UpdateDaemon, DeleteDaemon.

use std::collections::BTreeMap;
use std::sync::Arc;

use minato_core::capacity;
use minato_core::id::ServiceId;
use minato_core::service::rules;
use minato_core::status::RolloutState;
use minato_store::Tx;
use minato_wire::ApiError;
use minato_wire::ecs::{
    self, CreateDaemonRequest, CreateDaemonResponse,
    DaemonDeploymentConfiguration, DaemonDeploymentStatus, DaemonPropagateTags,
    DaemonStatus, DeleteDaemonRequest, DeleteDaemonResponse,
    UpdateDaemonRequest, UpdateDaemonResponse, error,
};

use super::super::services::roll;
use super::super::{capacity_providers, lookup};
use super::definitions;
use super::find;
use crate::context::{Context, Draw, Scope};
use crate::tables::{
    Cluster, DAEMON_PREFIX, Daemon, DaemonDeployment, DaemonRevision,
    DaemonTaskDefinition, Deployment, ServiceRef, ServiceRevision,
    TaskDefinition,
};

/// How much of the instances an update takes at a time where nothing is said.
/// AWS documents no number.
const DRAIN_PERCENT: f64 = 25.0;
/// The longest bake time, in minutes (CloudFormation reference,
/// `DaemonDeploymentConfiguration`).
const BAKE_MAX: i32 = 1440;

pub(crate) async fn create_daemon(
    cx: &Context,
    scope: &Scope,
    input: CreateDaemonRequest,
) -> Result<CreateDaemonResponse, ApiError> {
    let name = input.daemon_name.clone().unwrap_or_default();
    if !minato_core::name::is_name(&name) {
        return Err(error::invalid_parameter_exception(
            "The daemon name must have 1 to 255 letters, digits, hyphens and \
             underscores.",
        ));
    }
    rules::client_token(input.client_token.as_deref())?;
    let configuration = configuration(input.deployment_configuration.clone())?;
    let scope = scope.clone();
    let mut draw = cx.draw(3);
    let row = cx
        .transact(move |tx| {
            let cluster =
                lookup::cluster(tx, &scope, input.cluster_arn.as_deref())?;
            let key = Daemon::key_of(
                &scope.account,
                &scope.region,
                &cluster.name,
                &name,
            );
            if let Some(known) = tx.get::<Daemon>(&key) {
                return repeated(&known, &input);
            }
            let providers = providers(
                tx,
                &scope,
                &cluster,
                input.capacity_provider_arns.as_deref(),
            )?;
            let definition = definition(
                tx,
                &scope,
                input.daemon_task_definition_arn.as_deref(),
            )?;
            let of = ServiceRef {
                account: scope.account.clone(),
                region: scope.region.clone(),
                cluster: cluster.name.clone(),
                name: format!("{DAEMON_PREFIX}{name}"),
                id: ServiceId::new(draw.next()).to_string(),
            };
            let mut row =
                new_row(&scope, of, providers, configuration, &input)?;
            begin(tx, &scope, &mut row, &definition, &mut draw);
            tx.put(row.clone());
            Ok(row)
        })
        .await?;
    Ok(CreateDaemonResponse {
        daemon_arn: Some(row.arn()),
        status: Some(DaemonStatus::Active),
        created_at: Some(row.created_at),
        deployment_arn: Some(row.deployment_arn(&row.deployment)),
    })
}

fn new_row(
    scope: &Scope,
    of: ServiceRef,
    providers: Vec<String>,
    configuration: DaemonDeploymentConfiguration,
    input: &CreateDaemonRequest,
) -> Result<Daemon, ApiError> {
    let tags = input.tags.as_deref().unwrap_or_default();
    let tags = minato_core::tags::check(tags)?;
    let token = input.client_token.clone();
    Ok(Daemon {
        of,
        deployments: vec![],
        desired: 0,
        providers,
        deployment: String::new(),
        completed_revision: None,
        configuration,
        propagate_tags: input
            .propagate_tags
            .unwrap_or(DaemonPropagateTags::None),
        enable_ecs_managed_tags: input.enable_ecs_managed_tags.unwrap_or(false),
        enable_execute_command: input.enable_execute_command.unwrap_or(false),
        tags: minato_core::tags::to_wire(&tags),
        is_deleted: false,
        settled_at: None,
        steady_at: None,
        complaints: BTreeMap::new(),
        token: token.map(|token| (token, fingerprint(input))),
        created_at: scope.now,
        updated_at: scope.now,
    })
}

fn fingerprint(input: &CreateDaemonRequest) -> String {
    let plain = CreateDaemonRequest { client_token: None, ..input.clone() };
    serde_json::to_string(&plain).unwrap_or_default()
}

/// A daemon of that name is there: the same request again, or a mistake.
fn repeated(
    known: &Daemon,
    input: &CreateDaemonRequest,
) -> Result<Daemon, ApiError> {
    let given = input.client_token.clone();
    let given = given.map(|token| (token, fingerprint(input)));
    if given.is_some() && known.token == given && !known.is_deleted {
        return Ok(known.clone());
    }
    Err(error::client_exception(if known.is_deleted {
        "A daemon of this name is being deleted."
    } else {
        "A daemon of this name already exists. Update it instead."
    }))
}

fn configuration(
    given: Option<DaemonDeploymentConfiguration>,
) -> Result<DaemonDeploymentConfiguration, ApiError> {
    let given = given.unwrap_or_default();
    let alarms = given.alarms.as_ref();
    if alarms.is_some_and(|alarms| alarms.enable == Some(true)) {
        return Err(error::unsupported_feature_exception(
            "Minato does not serve deploymentConfiguration.alarms yet.",
        ));
    }
    let drain = given.drain_percent.unwrap_or(DRAIN_PERCENT);
    if !(0.0..=100.0).contains(&drain) {
        return Err(error::invalid_parameter_exception(
            "drainPercent must be between 0 and 100.",
        ));
    }
    let bake = given.bake_time_in_minutes.unwrap_or(0);
    if !(0..=BAKE_MAX).contains(&bake) {
        return Err(error::invalid_parameter_exception(format!(
            "bakeTimeInMinutes must be between 0 and {BAKE_MAX}."
        )));
    }
    Ok(DaemonDeploymentConfiguration {
        drain_percent: Some(drain),
        bake_time_in_minutes: Some(bake),
        alarms: given.alarms,
    })
}

/// The names of capacity providers, which must be the cluster's and of Auto
/// Scaling groups.
fn providers(
    tx: &Tx,
    scope: &Scope,
    cluster: &Cluster,
    given: Option<&[String]>,
) -> Result<Vec<String>, ApiError> {
    let mut names: Vec<String> = vec![];
    for given in given.unwrap_or_default() {
        let name = capacity::provider_name(given);
        if capacity::is_fargate(name) {
            return Err(error::invalid_parameter_exception(
                "Daemons run on container instances: FARGATE and FARGATE_SPOT \
                 cannot be their capacity providers.",
            ));
        }
        let is_known = capacity_providers::find(tx, scope, given).is_some();
        let is_here = cluster.capacity_providers.iter().any(|it| it == name);
        if !is_known || !is_here {
            return Err(error::invalid_parameter_exception(format!(
                "The capacity provider {name} is not one of the cluster's."
            )));
        }
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    if names.is_empty() {
        return Err(error::invalid_parameter_exception(
            "capacityProviderArns cannot be empty.",
        ));
    }
    Ok(names)
}

fn definition(
    tx: &Tx,
    scope: &Scope,
    given: Option<&str>,
) -> Result<Arc<DaemonTaskDefinition>, ApiError> {
    let found = definitions::find(tx, scope, given.unwrap_or_default());
    let found = found.filter(|row| definitions::is_active(row));
    found.ok_or_else(|| {
        error::client_exception("Daemon task definition not found.")
    })
}

/// Makes a revision of the daemon as it is now, and its roll-out.
fn begin(
    tx: &mut Tx,
    scope: &Scope,
    daemon: &mut Daemon,
    definition: &DaemonTaskDefinition,
    draw: &mut Draw,
) {
    supersede(tx, daemon, scope);
    let revision = roll::digits(draw.next());
    let id = roll::nano_id(draw.next());
    let run = tx.get::<TaskDefinition>(&definitions::run_key(definition));
    let containers = run
        .as_ref()
        .and_then(|run| run.definition.container_definitions.as_deref());
    let images = containers.unwrap_or_default().iter().map(|container| {
        ecs::DaemonContainerImage {
            container_name: container.name.clone(),
            image: container.image.clone(),
            ..Default::default()
        }
    });
    let arn = definition.shown.daemon_task_definition_arn.clone();
    tx.put(DaemonRevision {
        of: daemon.of.clone(),
        id: revision.clone(),
        shown: ecs::DaemonRevision {
            daemon_revision_arn: Some(daemon.revision_arn(&revision)),
            cluster_arn: Some(daemon.cluster_arn()),
            daemon_arn: Some(daemon.arn()),
            daemon_task_definition_arn: arn.clone(),
            created_at: Some(scope.now),
            container_images: Some(images.collect()),
            propagate_tags: Some(daemon.propagate_tags),
            enable_ecs_managed_tags: Some(daemon.enable_ecs_managed_tags),
            enable_execute_command: Some(daemon.enable_execute_command),
        },
        providers: daemon.providers.clone(),
    });
    tx.put(ServiceRevision {
        of: daemon.of.clone(),
        id: revision.clone(),
        revision: ecs::ServiceRevision {
            task_definition: arn,
            created_at: Some(scope.now),
            ..Default::default()
        },
        family: DaemonTaskDefinition::run_family(&definition.family),
        task_revision: definition.revision,
    });
    let sources = daemon.deployments.iter().map(|it| it.revision.clone());
    tx.put(DaemonDeployment {
        of: daemon.of.clone(),
        id: id.clone(),
        shown: ecs::DaemonDeployment {
            daemon_deployment_arn: Some(daemon.deployment_arn(&id)),
            cluster_arn: Some(daemon.cluster_arn()),
            status: Some(DaemonDeploymentStatus::Pending),
            deployment_configuration: Some(daemon.configuration.clone()),
            created_at: Some(scope.now),
            ..Default::default()
        },
        target: revision.clone(),
        sources: sources.collect(),
        failures: 0,
    });
    daemon.deployment.clone_from(&id);
    daemon.settled_at = None;
    daemon.steady_at = None;
    daemon.complaints.clear();
    let deployment = new_deployment(revision, id, scope.now);
    daemon.deployments.insert(0, deployment);
}

/// A roll-out that nothing has come of yet.
pub(crate) fn new_deployment(
    revision: String,
    deployment: String,
    now: minato_wire::Timestamp,
) -> Deployment {
    Deployment {
        id: format!("ecs-daemon/{revision}"),
        revision,
        service_deployment: deployment,
        desired_count: 0,
        failed_tasks: 0,
        created_at: now,
        updated_at: now,
        // Its own deployment says how far it is.
        rollout: RolloutState::Completed,
        reason: String::new(),
        failed_rounds: 0,
        retry_at: None,
    }
}

/// A deployment under way ends without its goal.
fn supersede(tx: &mut Tx, daemon: &Daemon, scope: &Scope) {
    let key = daemon.of.key().with(&daemon.deployment);
    let Some(known) = tx.get::<DaemonDeployment>(&key) else { return };
    if is_final(known.status()) {
        return;
    }
    let mut row = DaemonDeployment::clone(&known);
    row.shown.status = Some(DaemonDeploymentStatus::Stopped);
    row.shown.status_reason =
        Some("A newer deployment was started.".to_owned());
    row.shown.stopped_at = Some(scope.now);
    row.shown.finished_at = Some(scope.now);
    tx.put(row);
}

/// Whether a deployment stays as it is.
pub(crate) fn is_final(status: DaemonDeploymentStatus) -> bool {
    match status {
        DaemonDeploymentStatus::Successful
        | DaemonDeploymentStatus::Stopped
        | DaemonDeploymentStatus::RollbackSuccessful
        | DaemonDeploymentStatus::RollbackFailed => true,
        DaemonDeploymentStatus::Pending
        | DaemonDeploymentStatus::StopRequested
        | DaemonDeploymentStatus::InProgress
        | DaemonDeploymentStatus::RollbackInProgress => false,
    }
}

fn not_found() -> ApiError {
    error::daemon_not_found_exception("The specified daemon was not found.")
}

/// The daemon that a change means.
fn known(tx: &Tx, scope: &Scope, arn: &str) -> Result<Daemon, ApiError> {
    let found = find(tx, scope, arn).ok_or_else(not_found)?;
    if found.is_deleted {
        return Err(error::daemon_not_active_exception(
            "The specified daemon is not ACTIVE.",
        ));
    }
    Ok(Daemon::clone(&found))
}

pub(crate) async fn update_daemon(
    cx: &Context,
    scope: &Scope,
    input: UpdateDaemonRequest,
) -> Result<UpdateDaemonResponse, ApiError> {
    let given = input.deployment_configuration.clone();
    let configured = given.map(|it| configuration(Some(it))).transpose()?;
    let scope = scope.clone();
    let mut draw = cx.draw(2);
    let row = cx
        .transact(move |tx| {
            let arn = input.daemon_arn.as_deref().unwrap_or_default();
            let mut row = known(tx, &scope, arn)?;
            let cluster = lookup::cluster(tx, &scope, Some(&row.of.cluster))?;
            let given = input.capacity_provider_arns.as_deref();
            row.providers = providers(tx, &scope, &cluster, given)?;
            let definition = definition(
                tx,
                &scope,
                input.daemon_task_definition_arn.as_deref(),
            )?;
            if let Some(configured) = configured {
                row.configuration = configured;
            }
            row.propagate_tags =
                input.propagate_tags.unwrap_or(row.propagate_tags);
            row.enable_ecs_managed_tags = input
                .enable_ecs_managed_tags
                .unwrap_or(row.enable_ecs_managed_tags);
            row.enable_execute_command = input
                .enable_execute_command
                .unwrap_or(row.enable_execute_command);
            row.updated_at = scope.now;
            begin(tx, &scope, &mut row, &definition, &mut draw);
            tx.put(row.clone());
            Ok(row)
        })
        .await?;
    Ok(UpdateDaemonResponse {
        daemon_arn: Some(row.arn()),
        status: Some(DaemonStatus::Active),
        created_at: Some(row.created_at),
        updated_at: Some(row.updated_at),
        deployment_arn: Some(row.deployment_arn(&row.deployment)),
    })
}

pub(crate) async fn delete_daemon(
    cx: &Context,
    scope: &Scope,
    input: DeleteDaemonRequest,
) -> Result<DeleteDaemonResponse, ApiError> {
    let scope = scope.clone();
    let row = cx
        .transact(move |tx| {
            let arn = input.daemon_arn.as_deref().unwrap_or_default();
            let mut row = known(tx, &scope, arn)?;
            supersede(tx, &row, &scope);
            row.is_deleted = true;
            row.tags = vec![];
            row.updated_at = scope.now;
            tx.put(row.clone());
            Ok(row)
        })
        .await?;
    Ok(DeleteDaemonResponse {
        daemon_arn: Some(row.arn()),
        status: Some(DaemonStatus::DeleteInProgress),
        created_at: Some(row.created_at),
        updated_at: Some(row.updated_at),
        deployment_arn: Some(row.deployment_arn(&row.deployment)),
    })
}
