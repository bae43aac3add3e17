//! What is asked of a service, checked against the rest of the world.

use std::sync::Arc;

use minato_core::service::rules;
use minato_core::{launch_volume, run_task};
use minato_store::Tx;
use minato_wire::ApiError;
use minato_wire::ecs::{
    self, AssignPublicIp, DeploymentConfiguration, DeploymentControllerType,
    DeploymentStrategy, LaunchType, NetworkConfiguration, error,
};

use super::super::tasks::{capacity, run};
use super::pinned;
use super::roll::Content;
use crate::context::Scope;
use crate::tables::{Cluster, TaskDefinition};

/// Members that need what Minato does not have yet.
#[derive(Debug, Default)]
pub(crate) struct Unserved<'a> {
    pub(crate) load_balancers: Option<&'a [ecs::LoadBalancer]>,
    pub(crate) service_registries: Option<&'a [ecs::ServiceRegistry]>,
    pub(crate) service_connect: Option<&'a ecs::ServiceConnectConfiguration>,
    pub(crate) lattice: Option<&'a [ecs::VpcLatticeConfiguration]>,
    pub(crate) deployment: Option<&'a DeploymentConfiguration>,
    pub(crate) controller: Option<DeploymentControllerType>,
}

impl Unserved<'_> {
    /// Refuses what would otherwise be accepted and then ignored.
    pub(crate) fn refuse(&self) -> Result<(), ApiError> {
        fn some<T>(list: Option<&[T]>) -> bool {
            list.is_some_and(|list| !list.is_empty())
        }
        let deployment = self.deployment;
        let alarms = deployment.and_then(|given| given.alarms.as_ref());
        let hooks = deployment.and_then(|given| given.lifecycle_hooks.as_ref());
        let strategy = deployment.and_then(|given| given.strategy);
        let connects = self
            .service_connect
            .is_some_and(|given| given.enabled == Some(true));
        let wanted = [
            (some(self.load_balancers), "loadBalancers"),
            (some(self.service_registries), "serviceRegistries"),
            (connects, "serviceConnectConfiguration"),
            (some(self.lattice), "vpcLatticeConfigurations"),
            (
                alarms.is_some_and(|given| given.enable == Some(true)),
                "deploymentConfiguration.alarms",
            ),
            (
                hooks.is_some_and(|hooks| !hooks.is_empty()),
                "deploymentConfiguration.lifecycleHooks",
            ),
            (
                strategy.is_some_and(|one| one != DeploymentStrategy::Rolling),
                "a deploymentConfiguration.strategy other than ROLLING",
            ),
            (
                self.controller == Some(DeploymentControllerType::CodeDeploy),
                "the CODE_DEPLOY deployment controller",
            ),
        ];
        match wanted.into_iter().find(|(is_wanted, _)| *is_wanted) {
            None => Ok(()),
            Some((_, what)) => Err(error::unsupported_feature_exception(
                format!("Minato does not serve {what} yet."),
            )),
        }
    }
}

/// What the service's tasks run on: `launchType` or a strategy, never both.
pub(crate) fn choose(
    service: &mut ecs::Service,
    cluster: &Cluster,
    launch_type: Option<LaunchType>,
    strategy: Option<&[ecs::CapacityProviderStrategyItem]>,
) -> Result<LaunchType, ApiError> {
    let choice = capacity::choose(cluster, launch_type, strategy)?;
    if choice.strategy.is_empty() {
        service.launch_type = Some(choice.launch_type);
        service.capacity_provider_strategy = None;
    } else {
        service.launch_type = None;
        service.capacity_provider_strategy =
            Some(minato_core::capacity::echo(&choice.strategy));
    }
    Ok(choice.launch_type)
}

/// The network configuration as ECS shows it, with its defaults.
pub(crate) fn network(given: NetworkConfiguration) -> NetworkConfiguration {
    NetworkConfiguration {
        awsvpc_configuration: given.awsvpc_configuration.map(|given| {
            ecs::AwsVpcConfiguration {
                security_groups: given.security_groups.or(Some(vec![])),
                assign_public_ip: given
                    .assign_public_ip
                    .or(Some(AssignPublicIp::Disabled)),
                ..given
            }
        }),
    }
}

/// Checks a service's volumes against its definition, and puts them into its
/// new revision.
pub(crate) fn volumes(
    content: &mut Content,
    definition: &TaskDefinition,
    launch_type: LaunchType,
    given: Option<Vec<ecs::ServiceVolumeConfiguration>>,
) -> Result<(), ApiError> {
    let given = given.unwrap_or_default();
    let is_fargate = launch_type == LaunchType::Fargate;
    launch_volume::of_service(&definition.definition, &given, is_fargate)?;
    content.revision.volume_configurations =
        Some(given).filter(|given| !given.is_empty());
    Ok(())
}

/// Checks a whole service and gives what a new revision of it would run.
///
/// `launch_type` is what its tasks have, whoever decides it.
pub(crate) fn content(
    tx: &mut Tx,
    scope: &Scope,
    service: &mut ecs::Service,
    launch_type: LaunchType,
    definition: &Arc<TaskDefinition>,
) -> Result<Content, ApiError> {
    rules::check(&ecs::Service {
        launch_type: Some(launch_type),
        ..service.clone()
    })?;
    run_task::platform_version(
        service.platform_version.as_deref(),
        launch_type,
    )?;
    run::check_compatible(&definition.definition, launch_type)?;
    let network = service.network_configuration.as_ref();
    run::network(tx, scope, &definition.definition, network)?;
    let of_definition = definition.definition.placement_constraints.as_deref();
    minato_core::placement::constraints(
        of_definition.unwrap_or_default(),
        service.placement_constraints.as_deref().unwrap_or_default(),
    )?;
    let is_fargate = launch_type == LaunchType::Fargate;
    if is_fargate {
        service.platform_version.get_or_insert_with(|| "LATEST".to_owned());
        service.platform_family = Some("Linux".to_owned());
    } else {
        service.platform_version = None;
        service.platform_family = None;
    }
    let arn = definition.definition.task_definition_arn.clone();
    service.task_definition = arn.clone();
    Ok(Content {
        revision: ecs::ServiceRevision {
            task_definition: arn,
            capacity_provider_strategy: service
                .capacity_provider_strategy
                .clone(),
            launch_type: service.launch_type,
            platform_version: is_fargate
                .then(|| super::super::tasks::launch::PLATFORM_VERSION.into()),
            platform_family: service.platform_family.clone(),
            load_balancers: Some(vec![]),
            service_registries: Some(vec![]),
            network_configuration: service.network_configuration.clone(),
            container_images: Some(pinned::images(&definition.definition)),
            guard_duty_enabled: Some(false),
            ..Default::default()
        },
        family: definition.family.clone(),
        task_revision: definition.revision,
    })
}

/// Whether commands could be run in the tasks of a service: the session is
/// opened in the name of their task role. `done` is what was to be done to the
/// service.
pub(super) fn exec_role(
    service: &ecs::Service,
    definition: &ecs::TaskDefinition,
    done: &str,
) -> Result<(), ApiError> {
    let can_exec = service.enable_execute_command == Some(true);
    if !can_exec || run::has_task_role(definition) {
        return Ok(());
    }
    Err(error::invalid_parameter_exception(format!(
        "The service couldn't be {done} because a valid taskRoleArn is not \
         being used. Specify a valid task role in your task definition and \
         try again."
    )))
}
