//! UpdateService.

use minato_core::service::rules;
use minato_core::status::ServiceStatus;
use minato_store::Tx;
use minato_wire::ApiError;
use minato_wire::ecs::{
    self, DeploymentCircuitBreaker, DeploymentConfiguration, LaunchType,
    UpdateServiceRequest, UpdateServiceResponse, error,
};

use super::super::lookup;
use super::super::tasks::run;
use super::check::{self, Unserved};
use super::{roll, view};
use crate::context::{Context, Draw, Scope};
use crate::tables::{Cluster, Service, ServiceRevision};

pub(crate) async fn update_service(
    cx: &Context,
    scope: &Scope,
    input: UpdateServiceRequest,
) -> Result<UpdateServiceResponse, ApiError> {
    unserved(&input).refuse()?;
    let scope = scope.clone();
    let mut draw = cx.draw(roll::BEGIN_DRAWS);
    let service = cx
        .transact(move |tx| {
            let cluster =
                lookup::cluster(tx, &scope, input.cluster.as_deref())?;
            let known =
                lookup::service(tx, &cluster, input.service.as_deref())?;
            if known.status != ServiceStatus::Active {
                return Err(error::service_not_active_exception(
                    "Service was not ACTIVE.",
                ));
            }
            let mut row = Service::clone(&known);
            change(tx, &scope, &cluster, &mut row, input, &mut draw)?;
            let shown = view::service(tx, &row);
            tx.put(row);
            Ok(shown)
        })
        .await?;
    Ok(UpdateServiceResponse { service: Some(service) })
}

fn unserved(input: &UpdateServiceRequest) -> Unserved<'_> {
    Unserved {
        load_balancers: input.load_balancers.as_deref(),
        service_registries: input.service_registries.as_deref(),
        service_connect: input.service_connect_configuration.as_ref(),
        lattice: input.vpc_lattice_configurations.as_deref(),
        deployment: input.deployment_configuration.as_ref(),
        controller: input
            .deployment_controller
            .as_ref()
            .and_then(|controller| controller.r#type),
    }
}

/// Applies the request and begins a deployment where it asks for one.
///
/// Which members do is AWS's list (API reference, UpdateService).
fn change(
    tx: &mut Tx,
    scope: &Scope,
    cluster: &Cluster,
    row: &mut Service,
    input: UpdateServiceRequest,
    draw: &mut Draw,
) -> Result<(), ApiError> {
    if row.is_daemon() && input.desired_count.is_some() {
        return Err(error::invalid_parameter_exception(
            "The desired count cannot be changed for services with the DAEMON \
             scheduling strategy.",
        ));
    }
    let controller = input.deployment_controller.as_ref();
    if controller.is_some_and(|given| {
        given.r#type.is_some()
            && given.r#type != Some(rules::controller(&row.service))
    }) {
        return Err(error::unsupported_feature_exception(
            "Minato does not change the deployment controller of a service.",
        ));
    }
    if !row.is_rolling() {
        return change_external(row, input);
    }
    let before = row.service.clone();
    let is_forced = input.force_new_deployment == Some(true);
    let definition = input.task_definition.clone();
    let strategy = input.capacity_provider_strategy.clone();
    let volumes = input.volume_configurations.clone();
    let is_exec_checked =
        definition.is_some() || input.enable_execute_command == Some(true);
    merge(&mut row.service, input);
    let launch_type = launch_type(row, cluster, strategy.as_deref())?;
    let definition = match (&definition, &before.task_definition) {
        (Some(given), _) => run::definition(tx, scope, Some(given))?,
        // A service keeps on with a definition that was deregistered since.
        (None, current) => current
            .as_deref()
            .and_then(|arn| run::any_definition(tx, scope, arn))
            .ok_or_else(|| {
                error::client_exception("TaskDefinition not found.")
            })?,
    };
    if is_exec_checked {
        check::exec_role(&row.service, &definition.definition, "updated")?;
    }
    let mut content =
        check::content(tx, scope, &mut row.service, launch_type, &definition)?;
    let are_new = volumes.is_some();
    let volumes = volumes.or_else(|| current_volumes(tx, row));
    check::volumes(&mut content, &definition, launch_type, volumes)?;
    let desired = row.service.desired_count.unwrap_or(0);
    let desired = u32::try_from(desired).unwrap_or(0);
    if row.desired != desired && !row.is_daemon() {
        row.desired = desired;
        row.steady_at = None;
    }
    let after = &row.service;
    let is_new = is_forced
        || are_new
        || after.task_definition != before.task_definition
        || after.platform_version != before.platform_version
        || after.network_configuration != before.network_configuration;
    if is_new {
        roll::begin(tx, row, content, draw, scope.now);
    }
    Ok(())
}

/// The volumes of the primary deployment's tasks, which go on where an update
/// does not name them (API reference, UpdateService).
fn current_volumes(
    tx: &Tx,
    row: &Service,
) -> Option<Vec<ecs::ServiceVolumeConfiguration>> {
    let key = row.owner().key().with(&row.primary()?.revision);
    let revision = tx.get::<ServiceRevision>(&key)?;
    revision.revision.volume_configurations.clone()
}

/// What task sets say cannot be changed at their service (API reference,
/// UpdateService).
fn change_external(
    row: &mut Service,
    input: UpdateServiceRequest,
) -> Result<(), ApiError> {
    rules::external(&ecs::Service {
        task_definition: input.task_definition.clone(),
        capacity_provider_strategy: input.capacity_provider_strategy.clone(),
        platform_version: input.platform_version.clone(),
        network_configuration: input.network_configuration.clone(),
        ..Default::default()
    })?;
    if input.volume_configurations.as_ref().is_some_and(|it| !it.is_empty()) {
        return Err(error::invalid_parameter_exception(
            "volumeConfigurations are only supported with the ECS deployment \
             controller.",
        ));
    }
    if input.force_new_deployment == Some(true) {
        return Err(error::invalid_parameter_exception(
            "A service with an EXTERNAL deployment controller has no \
             deployments to force.",
        ));
    }
    merge(&mut row.service, input);
    rules::check(&row.service)?;
    let desired = row.service.desired_count.unwrap_or(0);
    row.desired = u32::try_from(desired).unwrap_or(0);
    Ok(())
}

/// What the tasks run on after the update: an empty strategy leads back to a
/// launch type.
fn launch_type(
    row: &mut Service,
    cluster: &Cluster,
    strategy: Option<&[ecs::CapacityProviderStrategyItem]>,
) -> Result<LaunchType, ApiError> {
    let current = row.service.capacity_provider_strategy.clone();
    match strategy {
        Some(items) if row.is_daemon() && !items.is_empty() => {
            Err(error::invalid_parameter_exception(
                "The daemon scheduling strategy does not support capacity \
                 provider strategies.",
            ))
        }
        Some([]) => {
            let was_fargate = current.iter().flatten().any(|item| {
                let name = item.capacity_provider.as_deref();
                minato_core::capacity::is_fargate(name.unwrap_or_default())
            });
            let launch_type = match row.service.launch_type {
                Some(launch_type) => launch_type,
                None if was_fargate => LaunchType::Fargate,
                None => LaunchType::Ec2,
            };
            check::choose(&mut row.service, cluster, Some(launch_type), None)
        }
        Some(items) => {
            check::choose(&mut row.service, cluster, None, Some(items))
        }
        None => match row.service.launch_type {
            Some(launch_type) => Ok(launch_type),
            None => {
                let items = current.as_deref();
                check::choose(&mut row.service, cluster, None, items)
            }
        },
    }
}

/// Members that are absent keep their values; empty lists clear theirs.
fn merge(service: &mut ecs::Service, input: UpdateServiceRequest) {
    fn set<T>(member: &mut Option<T>, given: Option<T>) {
        if given.is_some() {
            *member = given;
        }
    }
    set(&mut service.desired_count, input.desired_count);
    set(&mut service.placement_constraints, input.placement_constraints);
    set(&mut service.placement_strategy, input.placement_strategy);
    set(&mut service.platform_version, input.platform_version);
    set(
        &mut service.network_configuration,
        input.network_configuration.map(check::network),
    );
    set(
        &mut service.health_check_grace_period_seconds,
        input.health_check_grace_period_seconds,
    );
    set(&mut service.enable_execute_command, input.enable_execute_command);
    set(&mut service.enable_ecs_managed_tags, input.enable_ecs_managed_tags);
    set(&mut service.propagate_tags, input.propagate_tags);
    set(
        &mut service.availability_zone_rebalancing,
        input.availability_zone_rebalancing,
    );
    if let Some(given) = input.deployment_configuration {
        let known = service.deployment_configuration.take();
        service.deployment_configuration =
            Some(merge_deployment(known.unwrap_or_default(), given));
    }
}

fn merge_deployment(
    known: DeploymentConfiguration,
    given: DeploymentConfiguration,
) -> DeploymentConfiguration {
    let breaker = given.deployment_circuit_breaker.map(|given| {
        DeploymentCircuitBreaker {
            enable: given.enable.or(Some(false)),
            rollback: given.rollback.or(Some(false)),
        }
    });
    DeploymentConfiguration {
        deployment_circuit_breaker: breaker
            .or(known.deployment_circuit_breaker),
        maximum_percent: given.maximum_percent.or(known.maximum_percent),
        minimum_healthy_percent: given
            .minimum_healthy_percent
            .or(known.minimum_healthy_percent),
        alarms: given.alarms.or(known.alarms),
        bake_time_in_minutes: given
            .bake_time_in_minutes
            .or(known.bake_time_in_minutes),
        ..known
    }
}
