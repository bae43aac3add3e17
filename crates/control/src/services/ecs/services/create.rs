//! CreateService.

use std::collections::BTreeMap;

use minato_core::id::ServiceId;
use minato_core::service::rules;
use minato_core::status::ServiceStatus;
use minato_store::Tx;
use minato_wire::ApiError;
use minato_wire::ecs::{
    self, CreateServiceRequest, CreateServiceResponse, DeploymentController,
    DeploymentControllerType, LaunchType, PropagateTags,
    ResourceManagementType, SchedulingStrategy, error,
};

use super::super::lookup;
use super::super::tasks::run;
use super::check::{self, Unserved};
use super::{roll, view};
use crate::context::{Context, Draw, Scope};
use crate::tables::{Cluster, Service};

/// The most services of a cluster (service quotas).
const SERVICES_PER_CLUSTER_MAX: usize = 5000;

pub(crate) async fn create_service(
    cx: &Context,
    scope: &Scope,
    input: CreateServiceRequest,
) -> Result<CreateServiceResponse, ApiError> {
    let name = rules::name(input.service_name.as_deref())?.to_owned();
    rules::client_token(input.client_token.as_deref())?;
    unserved(&input).refuse()?;
    let scope = scope.clone();
    // One number for the service, the rest for its first deployment.
    let mut draw = cx.draw(1 + roll::BEGIN_DRAWS);
    let service = cx
        .transact(move |tx| {
            let cluster =
                lookup::cluster(tx, &scope, input.cluster.as_deref())?;
            if let Some(known) = known(tx, &cluster, &name, &input)? {
                return Ok(view::service(tx, &known));
            }
            let row = new_row(tx, &scope, &cluster, name, input, &mut draw)?;
            let shown = view::service(tx, &row);
            tx.put(row);
            Ok(shown)
        })
        .await?;
    Ok(CreateServiceResponse {
        // Shown at once, as AWS does: nobody works on the deployment yet.
        service: Some(ecs::Service {
            current_service_deployment: None,
            tags: service.tags.clone().filter(|tags| !tags.is_empty()),
            ..service
        }),
    })
}

fn unserved(input: &CreateServiceRequest) -> Unserved<'_> {
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

/// The service of that name, where creating it again is no mistake.
fn known(
    tx: &Tx,
    cluster: &Cluster,
    name: &str,
    input: &CreateServiceRequest,
) -> Result<Option<std::sync::Arc<Service>>, ApiError> {
    let Cluster { account, region, name: of_cluster, .. } = cluster;
    let key = Service::key_of(account, region, of_cluster, name);
    let Some(known) = tx.get::<Service>(&key) else { return Ok(None) };
    match known.status {
        ServiceStatus::Inactive => Ok(None),
        ServiceStatus::Draining => Err(error::invalid_parameter_exception(
            "Unable to Start a service that is still Draining.",
        )),
        ServiceStatus::Active if known.request == fingerprint(input) => {
            Ok(Some(known))
        }
        ServiceStatus::Active => Err(error::invalid_parameter_exception(
            "Creation of service was not idempotent.",
        )),
    }
}

/// The request without what says nothing of the service itself.
fn fingerprint(input: &CreateServiceRequest) -> String {
    let plain = CreateServiceRequest {
        cluster: None,
        client_token: None,
        ..input.clone()
    };
    serde_json::to_string(&plain).unwrap_or_default()
}

/// Task sets have no volumes of their own.
fn refuse_volumes(
    volumes: Option<&[ecs::ServiceVolumeConfiguration]>,
) -> Result<(), ApiError> {
    if volumes.is_some_and(|volumes| !volumes.is_empty()) {
        return Err(error::invalid_parameter_exception(
            "volumeConfigurations are only supported with the ECS deployment \
             controller.",
        ));
    }
    Ok(())
}

fn new_row(
    tx: &mut Tx,
    scope: &Scope,
    cluster: &Cluster,
    name: String,
    input: CreateServiceRequest,
    draw: &mut Draw,
) -> Result<Service, ApiError> {
    let within = Cluster::key_of(&scope.account, &scope.region, &cluster.name);
    let services = tx.scan::<Service>(&within);
    let count = services.filter(|row| row.status != ServiceStatus::Inactive);
    if count.count() >= SERVICES_PER_CLUSTER_MAX {
        return Err(error::client_exception(
            "The maximum number of services for this cluster was reached.",
        ));
    }
    let request = fingerprint(&input);
    let launch_type = input.launch_type;
    let strategy = input.capacity_provider_strategy.clone();
    let definition = input.task_definition.clone();
    let volumes = input.volume_configurations.clone();
    let mut service = asked_for(scope, input)?;
    let is_external =
        rules::controller(&service) == DeploymentControllerType::External;
    let launch_type = if is_external {
        rules::external(&ecs::Service {
            task_definition: definition.clone(),
            launch_type,
            capacity_provider_strategy: strategy.clone(),
            ..service.clone()
        })?;
        service.desired_count.get_or_insert(0);
        rules::check(&service)?;
        LaunchType::Ec2
    } else {
        let strategy = strategy.as_deref();
        check::choose(&mut service, cluster, launch_type, strategy)?
    };
    if service.availability_zone_rebalancing.is_none() {
        service.availability_zone_rebalancing =
            Some(rules::default_rebalancing(&ecs::Service {
                launch_type: Some(launch_type),
                ..service.clone()
            }));
    }
    let desired = service.desired_count.unwrap_or(0);
    let mut row = Service {
        account: scope.account.clone(),
        region: scope.region.clone(),
        cluster: cluster.name.clone(),
        name,
        id: ServiceId::new(draw.next()).to_string(),
        status: ServiceStatus::Active,
        service,
        desired: u32::try_from(desired).unwrap_or(0),
        deployments: vec![],
        completed_revision: None,
        service_deployment: None,
        request,
        events: 0,
        steady_at: None,
        inactive_at: None,
        complaints: BTreeMap::new(),
        group: None,
        drain_percent: None,
    };
    if is_external {
        refuse_volumes(volumes.as_deref())?;
        return Ok(row);
    }
    let definition = run::definition(tx, scope, definition.as_deref())?;
    check::exec_role(&row.service, &definition.definition, "created")?;
    let mut content =
        check::content(tx, scope, &mut row.service, launch_type, &definition)?;
    check::volumes(&mut content, &definition, launch_type, volumes)?;
    roll::begin(tx, &mut row, content, draw, scope.now);
    Ok(row)
}

/// The service that a request describes, defaults filled in.
fn asked_for(
    scope: &Scope,
    input: CreateServiceRequest,
) -> Result<ecs::Service, ApiError> {
    let given = input.tags.as_deref().unwrap_or_default();
    let tags = minato_core::tags::check(given)?;
    let is_daemon =
        input.scheduling_strategy == Some(SchedulingStrategy::Daemon);
    let controller =
        input.deployment_controller.and_then(|controller| controller.r#type);
    Ok(ecs::Service {
        load_balancers: Some(vec![]),
        service_registries: Some(vec![]),
        // A daemon has as many tasks as there are instances.
        desired_count: input.desired_count.filter(|_| !is_daemon),
        platform_version: input.platform_version,
        deployment_configuration: Some(rules::deployment_configuration(
            input.deployment_configuration,
            is_daemon,
        )),
        role_arn: input.role.filter(|role| !role.is_empty()),
        created_at: Some(scope.now),
        created_by: Some(scope.caller.arn.clone()),
        placement_constraints: Some(
            input.placement_constraints.unwrap_or_default(),
        ),
        placement_strategy: Some(input.placement_strategy.unwrap_or_default()),
        network_configuration: input.network_configuration.map(check::network),
        health_check_grace_period_seconds: Some(
            input.health_check_grace_period_seconds.unwrap_or(0),
        ),
        scheduling_strategy: input
            .scheduling_strategy
            .or(Some(SchedulingStrategy::Replica)),
        deployment_controller: Some(DeploymentController {
            r#type: controller.or(Some(DeploymentControllerType::Ecs)),
        }),
        tags: Some(minato_core::tags::to_wire(&tags)),
        enable_ecs_managed_tags: Some(
            input.enable_ecs_managed_tags.unwrap_or(false),
        ),
        propagate_tags: input.propagate_tags.or(Some(PropagateTags::None)),
        enable_execute_command: Some(
            input.enable_execute_command.unwrap_or(false),
        ),
        availability_zone_rebalancing: input.availability_zone_rebalancing,
        resource_management_type: Some(ResourceManagementType::Customer),
        ..Default::default()
    })
}
