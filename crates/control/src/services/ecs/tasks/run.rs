//! RunTask and StartTask.

use std::sync::Arc;

use minato_core::task_definition::Demand;
use minato_core::{launch_volume, overrides, run_task as rules};
use minato_store::{Key, Tx};
use minato_wire::ApiError;
use minato_wire::ecs::{
    self, LaunchType, NetworkMode, PropagateTags, RunTaskRequest,
    RunTaskResponse, StartTaskRequest, StartTaskResponse, error,
};

use super::super::account_settings;
use super::super::lookup::{self, Read, resource_id};
use super::launch::{self, Launch, Spot};
use super::place::{self, Placed};
use super::subnets::Subnets;
use crate::context::{Context, Scope};
use crate::services::ec2;
use crate::services::ecs_arn;
use crate::tables::{
    Cluster, ContainerInstance, RunTaskToken, Task, TaskDefinition,
};

/// Most tasks one call may start (API reference, RunTask `count`).
const COUNT_MAX: i32 = 10;
/// Most container instances one StartTask may name.
const INSTANCES_MAX: usize = 10;

pub(crate) async fn run_task(
    cx: &Context,
    scope: &Scope,
    input: RunTaskRequest,
) -> Result<RunTaskResponse, ApiError> {
    let count = input.count.unwrap_or(1);
    if !(1..=COUNT_MAX).contains(&count) {
        return Err(error::invalid_parameter_exception(format!(
            "Count must be between 1 and {COUNT_MAX}."
        )));
    }
    let count = usize::try_from(count).unwrap_or(1);
    let ids = cx.ids_for_tasks(count);
    let seed = cx.ids.seed();
    let fleet = Arc::clone(&cx.fleet);
    let scope = scope.clone();
    cx.transact(move |tx| {
        let cluster = lookup::cluster(tx, &scope, input.cluster.as_deref())?;
        if let Some(answer) = repeated(tx, &scope, &cluster, &input)? {
            return Ok(answer);
        }
        let definition =
            definition(tx, &scope, input.task_definition.as_deref())?;
        let launch = launch_of(tx, &scope, &cluster, &definition, &input)?;
        let demand = overridden_demand(&definition, &launch);
        let wanted = place::Wanted {
            scope: &scope,
            fleet: &fleet,
            cluster: &cluster,
            definition: &definition,
            demand: &demand,
            launch: &launch,
            constraints: input.placement_constraints.as_deref(),
            strategy: input.placement_strategy.as_deref(),
            zone: None,
            count,
            seed,
        };
        let Placed { hosts, failures } = place::place(tx, &wanted)?;
        let mut tasks = vec![];
        let mut subnets = launch.subnets.clone();
        for (host, ids) in hosts.into_iter().zip(ids) {
            let zone = host.zone.as_deref();
            let spot = Spot {
                subnets: subnets.of_task(launch.launch_type, zone, None),
                capacity_provider: host.provider,
                instance_arn: host.instance_arn,
                zone: host.zone,
                host: &host.host,
                ids,
            };
            let row = launch::task(
                &scope,
                &cluster,
                &definition,
                &demand,
                &launch,
                spot,
            );
            tasks.push(row.task.clone());
            tx.put(row);
        }
        remember(tx, &scope, &cluster, &input, &tasks);
        Ok(RunTaskResponse { tasks: Some(tasks), failures: Some(failures) })
    })
    .await
}

pub(crate) async fn start_task(
    cx: &Context,
    scope: &Scope,
    input: StartTaskRequest,
) -> Result<StartTaskResponse, ApiError> {
    let instances = input.container_instances.clone().unwrap_or_default();
    if instances.is_empty() {
        return Err(error::invalid_parameter_exception(
            "Container instances cannot be empty.",
        ));
    }
    if instances.len() > INSTANCES_MAX {
        return Err(error::invalid_parameter_exception(format!(
            "Container instances cannot have more than {INSTANCES_MAX} \
             elements."
        )));
    }
    let most = rules::START_STARTED_BY_MAX;
    rules::started_by(input.started_by.as_deref(), most)?;
    let ids = cx.ids_for_tasks(instances.len());
    let fleet = Arc::clone(&cx.fleet);
    let scope = scope.clone();
    cx.transact(move |tx| {
        let cluster = lookup::cluster(tx, &scope, input.cluster.as_deref())?;
        let definition =
            definition(tx, &scope, input.task_definition.as_deref())?;
        let as_run = as_run_task(&input);
        let launch = launch_of(tx, &scope, &cluster, &definition, &as_run)?;
        let demand = overridden_demand(&definition, &launch);
        let mut tasks = vec![];
        let mut failures = vec![];
        for (given, ids) in instances.iter().zip(ids) {
            match named_instance(tx, &scope, &cluster, given) {
                Err(failure) => failures.push(failure),
                Ok(instance) => {
                    let zones = place::zones(&definition, &launch.subnets);
                    let checked =
                        place::check_one(tx, &fleet, &instance, &demand, zones);
                    match checked {
                        Err(failure) => failures.push(failure),
                        Ok(host) => {
                            let zone = host.zone.as_deref();
                            let spot = Spot {
                                subnets: launch.subnets.of_instance(zone),
                                capacity_provider: host.provider,
                                instance_arn: host.instance_arn,
                                zone: host.zone,
                                host: &host.host,
                                ids,
                            };
                            let row = launch::task(
                                &scope,
                                &cluster,
                                &definition,
                                &demand,
                                &launch,
                                spot,
                            );
                            tasks.push(row.task.clone());
                            tx.put(row);
                        }
                    }
                }
            }
        }
        Ok(StartTaskResponse { tasks: Some(tasks), failures: Some(failures) })
    })
    .await
}

/// What StartTask has in common with RunTask, as RunTask says it.
fn as_run_task(input: &StartTaskRequest) -> RunTaskRequest {
    RunTaskRequest {
        launch_type: Some(LaunchType::Ec2),
        enable_ecs_managed_tags: input.enable_ecs_managed_tags,
        enable_execute_command: input.enable_execute_command,
        group: input.group.clone(),
        network_configuration: input.network_configuration.clone(),
        overrides: input.overrides.clone(),
        propagate_tags: input.propagate_tags,
        started_by: input.started_by.clone(),
        tags: input.tags.clone(),
        volume_configurations: input.volume_configurations.clone(),
        ..Default::default()
    }
}

/// The answer of before, where a client token says it is a retry.
fn repeated(
    tx: &Tx,
    scope: &Scope,
    cluster: &Cluster,
    input: &RunTaskRequest,
) -> Result<Option<RunTaskResponse>, ApiError> {
    let Some(token) = input.client_token.as_deref() else { return Ok(None) };
    let (account, region) = (&scope.account, &scope.region);
    let key = RunTaskToken::key_of(account, region, &cluster.name, token);
    let Some(used) = tx.get::<RunTaskToken>(&key) else { return Ok(None) };
    let rows: Vec<Arc<Task>> = used
        .tasks
        .iter()
        .filter_map(|id| {
            tx.get(&Task::key_of(account, region, &cluster.name, id))
        })
        .collect();
    if used.request != fingerprint(input) {
        let arns = rows.iter().map(|row| row.arn()).collect::<Vec<_>>();
        return Err(error::conflict_exception(
            "The clientToken was used before with other parameters.",
        )
        .with_field("resourceIds", arns.into()));
    }
    Ok(Some(RunTaskResponse {
        tasks: Some(rows.iter().map(|row| row.task.clone()).collect()),
        failures: Some(vec![]),
    }))
}

fn fingerprint(input: &RunTaskRequest) -> String {
    serde_json::to_string(input).unwrap_or_default()
}

fn remember(
    tx: &mut Tx,
    scope: &Scope,
    cluster: &Cluster,
    input: &RunTaskRequest,
    tasks: &[ecs::Task],
) {
    let Some(token) = input.client_token.clone() else { return };
    tx.put(RunTaskToken {
        account: scope.account.clone(),
        region: scope.region.clone(),
        cluster: cluster.name.clone(),
        token,
        request: fingerprint(input),
        tasks: tasks
            .iter()
            .filter_map(|task| resource_id(task.task_arn.as_deref()?))
            .collect(),
        used_at: scope.now,
    });
}

/// The active definition that a family, `family:revision` or ARN means.
pub(crate) fn definition(
    tx: &Tx,
    scope: &Scope,
    given: Option<&str>,
) -> Result<Arc<TaskDefinition>, ApiError> {
    let given = given.unwrap_or_default();
    let name =
        given.split_once(":task-definition/").map_or(given, |(_, name)| name);
    let missing = || error::client_exception("TaskDefinition not found.");
    let (account, region) = (&scope.account, &scope.region);
    let row = match name.split_once(':') {
        Some((family, revision)) => {
            let revision = revision.parse().map_err(|_| missing())?;
            let key = TaskDefinition::key_of(account, region, family, revision);
            tx.get::<TaskDefinition>(&key).ok_or_else(missing)?
        }
        None => tx
            .scan::<TaskDefinition>(&Key::of([account, region, name]))
            .rev()
            .find(|row| is_active(row))
            .ok_or_else(missing)?,
    };
    if !is_active(&row) {
        return Err(error::client_exception("TaskDefinition is inactive"));
    }
    Ok(row)
}

/// The definition that an ARN means, whatever its status.
pub(crate) fn any_definition(
    tx: &Tx,
    scope: &Scope,
    arn: &str,
) -> Option<Arc<TaskDefinition>> {
    let (_, name) = arn.split_once(":task-definition/")?;
    let (family, revision) = name.split_once(':')?;
    let revision = revision.parse().ok()?;
    let (account, region) = (&scope.account, &scope.region);
    tx.get(&TaskDefinition::key_of(account, region, family, revision))
}

fn is_active(row: &TaskDefinition) -> bool {
    row.definition.status == Some(ecs::TaskDefinitionStatus::Active)
}

/// Checks the call against definition and cluster: what all its tasks share.
fn launch_of(
    tx: &mut Tx,
    scope: &Scope,
    cluster: &Cluster,
    row: &TaskDefinition,
    input: &RunTaskRequest,
) -> Result<Launch, ApiError> {
    let choice = super::capacity::choose(
        cluster,
        input.launch_type,
        input.capacity_provider_strategy.as_deref(),
    )?;
    let launch_type = choice.launch_type;
    check_input(row, launch_type, input)?;
    let definition = &row.definition;
    check_compatible(definition, launch_type)?;
    let names: Vec<_> = definition
        .container_definitions
        .iter()
        .flatten()
        .filter_map(|container| container.name.as_deref())
        .collect();
    let changes = input
        .overrides
        .as_ref()
        .and_then(|overrides| overrides.container_overrides.as_ref());
    for change in changes.into_iter().flatten() {
        let name = change.name.as_deref().unwrap_or_default();
        if !names.contains(&name) {
            return Err(error::invalid_parameter_exception(format!(
                "Override for container named {name} is not a container in \
                 the TaskDefinition."
            )));
        }
    }
    overrides::check(definition, input.overrides.as_ref(), launch_type)?;
    if input.enable_execute_command == Some(true) {
        let change = input.overrides.as_ref();
        check_exec_role(definition, change)?;
    }
    let network_configuration = input.network_configuration.as_ref();
    let (subnets, security_groups) =
        network(tx, scope, definition, network_configuration)?;
    let count = u32::try_from(input.count.unwrap_or(1)).unwrap_or(1);
    let (account, region) = (&scope.account, &scope.region);
    let subnets = Subnets::read(tx, account, region, &subnets);
    Ok(Launch {
        launch_type,
        providers: choice.providers(count),
        group: input.group.clone(),
        started_by: input.started_by.clone(),
        tags: tags(cluster, row, input)?,
        overrides: input.overrides.clone(),
        subnets,
        security_groups,
        dual_stack: account_settings::dual_stack(tx, scope, &scope.caller.arn),
        service: None,
        can_exec: input.enable_execute_command == Some(true),
        volume: launch_volume::of_task(
            definition,
            input.volume_configurations.as_deref().unwrap_or_default(),
            launch_type == LaunchType::Fargate,
        )?,
    })
}

/// Whether commands could be run in a task: the session is opened in the name
/// of its task role (API reference, RunTask).
fn check_exec_role(
    definition: &ecs::TaskDefinition,
    change: Option<&ecs::TaskOverride>,
) -> Result<(), ApiError> {
    let change = change.and_then(|change| change.task_role_arn.as_deref());
    let has_role = change.is_some_and(|role| !role.is_empty());
    if has_role || has_task_role(definition) {
        return Ok(());
    }
    Err(error::invalid_parameter_exception(
        "The execute command failed because a valid task role is not being \
         used. Specify a valid task role in your task definition or as a task \
         override and try again.",
    ))
}

/// Whether tasks of a definition have a role of their own.
pub(crate) fn has_task_role(definition: &ecs::TaskDefinition) -> bool {
    definition.task_role_arn.as_ref().is_some_and(|role| !role.is_empty())
}

/// Whether tasks of a definition may have this launch type.
pub(crate) fn check_compatible(
    definition: &ecs::TaskDefinition,
    launch_type: LaunchType,
) -> Result<(), ApiError> {
    let compatibilities = definition.compatibilities.iter().flatten();
    let runs_there = compatibilities
        .map(|one| one.to_string())
        .any(|one| one == launch_type.as_str());
    if runs_there {
        return Ok(());
    }
    Err(error::invalid_parameter_exception(format!(
        "Task definition does not support launch_type {launch_type}."
    )))
}

/// The rules that need nothing but the input.
fn check_input(
    row: &TaskDefinition,
    launch_type: LaunchType,
    input: &RunTaskRequest,
) -> Result<(), ApiError> {
    rules::group(input.group.as_deref(), &row.family)?;
    let most = rules::RUN_STARTED_BY_MAX;
    rules::started_by(input.started_by.as_deref(), most)?;
    rules::overrides(input.overrides.as_ref())?;
    rules::platform_version(input.platform_version.as_deref(), launch_type)?;
    let count = |list: Option<usize>| list.unwrap_or(0);
    rules::fargate_placement(
        launch_type,
        count(input.placement_constraints.as_ref().map(Vec::len)),
        count(input.placement_strategy.as_ref().map(Vec::len)),
    )?;
    Ok(())
}

/// Subnets and security groups of one configuration (ECS API reference,
/// AwsVpcConfiguration).
const SUBNETS_MAX: usize = 16;
const GROUPS_MAX: usize = 5;

/// Refuses a list that is too long.
fn at_most(name: &str, count: usize, most: usize) -> Result<(), ApiError> {
    if count <= most {
        return Ok(());
    }
    Err(error::invalid_parameter_exception(format!(
        "{name} can have at most {most} items."
    )))
}

/// Subnets and groups of an awsvpc task, all of which must exist.
pub(crate) fn network(
    tx: &mut Tx,
    scope: &Scope,
    definition: &ecs::TaskDefinition,
    given: Option<&ecs::NetworkConfiguration>,
) -> Result<(Vec<String>, Vec<String>), ApiError> {
    let given = given.and_then(|network| network.awsvpc_configuration.as_ref());
    let is_awsvpc = definition.network_mode == Some(NetworkMode::Awsvpc);
    let given = match (is_awsvpc, given) {
        (false, None) => return Ok((vec![], vec![])),
        (false, Some(_)) => {
            return Err(error::invalid_parameter_exception(
                "Network Configuration is not valid for the given \
                 networkMode of this task definition.",
            ));
        }
        (true, None) => {
            return Err(error::invalid_parameter_exception(
                "Network Configuration must be provided when networkMode \
                 'awsvpc' is specified.",
            ));
        }
        (true, Some(given)) => given,
    };
    let subnets = given.subnets.clone().unwrap_or_default();
    let groups = given.security_groups.clone().unwrap_or_default();
    if subnets.is_empty() {
        return Err(error::invalid_parameter_exception(
            "subnets can not be empty.",
        ));
    }
    at_most("subnets", subnets.len(), SUBNETS_MAX)?;
    at_most("securityGroups", groups.len(), GROUPS_MAX)?;
    ec2::defaults::ensure(tx, &scope.account, &scope.region);
    let namespace = crate::tables::namespace(&scope.account, &scope.region);
    for id in &subnets {
        if tx.row::<ec2::rows::SubnetRow>(&namespace.with(id)).is_none() {
            return Err(error::invalid_parameter_exception(format!(
                "Error retrieving subnet information for [{id}]: The subnet \
                 ID '{id}' does not exist (ErrorCode: \
                 InvalidSubnetID.NotFound)"
            )));
        }
    }
    for id in &groups {
        let key = namespace.with(id);
        if tx.row::<ec2::rows::SecurityGroupRow>(&key).is_none() {
            return Err(error::invalid_parameter_exception(format!(
                "Error retrieving security group information for [{id}]: The \
                 security group '{id}' does not exist (ErrorCode: \
                 InvalidGroup.NotFound)"
            )));
        }
    }
    Ok((subnets, groups))
}

/// The call's tags, those of the definition where asked for, and ECS's own.
fn tags(
    cluster: &Cluster,
    row: &TaskDefinition,
    input: &RunTaskRequest,
) -> Result<Vec<ecs::Tag>, ApiError> {
    let given = input.tags.as_deref().unwrap_or_default();
    let mut tags = minato_core::tags::check(given)?;
    match input.propagate_tags {
        None | Some(PropagateTags::None) => {}
        Some(PropagateTags::TaskDefinition) => {
            for tag in &row.tags {
                let (Some(key), value) = (&tag.key, &tag.value) else {
                    continue;
                };
                tags.entry(key.clone())
                    .or_insert_with(|| value.clone().unwrap_or_default());
            }
        }
        Some(PropagateTags::Service) => {
            return Err(error::invalid_parameter_exception(
                "Tags can only be propagated from the task definition when \
                 running a task.",
            ));
        }
    }
    minato_core::tags::check_count(tags.len())?;
    if input.enable_ecs_managed_tags == Some(true) {
        tags.insert("aws:ecs:clusterName".to_owned(), cluster.name.clone());
    }
    Ok(minato_core::tags::to_wire(&tags))
}

/// What a task takes, its overrides applied.
fn overridden_demand(row: &TaskDefinition, launch: &Launch) -> Demand {
    let change = launch.overrides.as_ref();
    let applied = overrides::applied(&row.definition, change);
    launch::demand(&applied, launch.volume.as_ref(), launch.can_exec)
}

/// The container instance that StartTask names, or why not.
fn named_instance(
    tx: &Tx,
    scope: &Scope,
    cluster: &Cluster,
    given: &str,
) -> Result<Arc<ContainerInstance>, ecs::Failure> {
    let (account, region) = (&scope.account, &scope.region);
    let arn = if given.starts_with("arn:") {
        given.to_owned()
    } else {
        let rest = format!("container-instance/{}/{given}", cluster.name);
        ecs_arn(region, account, &rest)
    };
    let row = resource_id(given).and_then(|id| {
        tx.get::<ContainerInstance>(&ContainerInstance::key_of(
            account,
            region,
            &cluster.name,
            &id,
        ))
    });
    let Some(row) = row else { return Err(super::missing(arn)) };
    if row.status == "INACTIVE" {
        return Err(place::failure(Some(arn), "INACTIVE"));
    }
    Ok(row)
}
