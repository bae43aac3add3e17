//! Finds hosts for tasks: gathers what the planner needs, asks it, and keeps
//! its answer only because the transaction it runs in saw the newest ledger.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use minato_core::placement::{
    self, Candidate, Ledger, Plan, Request, World, fargate_failure,
};
use minato_core::task_definition::Demand;
use minato_store::{Key, Tx};
use minato_wire::ApiError;
use minato_wire::ecs::{
    Failure, LaunchType, NetworkMode, PlacementConstraint, PlacementStrategy,
    error,
};

use super::super::view::ReadIndex;
use super::launch::Launch;
use crate::context::Scope;
use crate::services::ec2::rows::SubnetRow;
use crate::tables::{
    CapacityProvider, Cluster, ContainerInstance, Host, TaskDefinition,
    namespace,
};

/// What is to be placed.
pub(crate) struct Wanted<'a> {
    pub(crate) scope: &'a Scope,
    pub(crate) cluster: &'a Cluster,
    pub(crate) definition: &'a TaskDefinition,
    pub(crate) demand: &'a Demand,
    pub(crate) launch: &'a Launch,
    pub(crate) constraints: Option<&'a [PlacementConstraint]>,
    pub(crate) strategy: Option<&'a [PlacementStrategy]>,
    /// The zone they must be in, if any.
    pub(crate) zone: Option<&'a str>,
    pub(crate) count: usize,
    pub(crate) seed: u64,
}

/// A place for one task.
pub(crate) struct Seat {
    pub(crate) host: Arc<Host>,
    pub(crate) instance_arn: Option<String>,
    pub(crate) zone: Option<String>,
    /// The capacity provider it comes of, where a strategy decides.
    pub(crate) provider: Option<String>,
}

/// Places found, and why there are not more.
pub(crate) struct Placed {
    pub(crate) hosts: Vec<Seat>,
    pub(crate) failures: Vec<Failure>,
}

/// A failure entry.
pub(super) fn failure(arn: Option<String>, reason: &str) -> Failure {
    Failure { arn, reason: Some(reason.to_owned()), ..Default::default() }
}

/// Finds places for all tasks of a call, in the transaction that takes them.
pub(crate) fn place(tx: &Tx, wanted: &Wanted<'_>) -> Result<Placed, ApiError> {
    let count = u32::try_from(wanted.count).unwrap_or(u32::MAX);
    let launch = wanted.launch;
    let group = launch
        .group
        .clone()
        .unwrap_or_else(|| format!("family:{}", wanted.definition.family));
    let mut request = Request::of(wanted.demand, count, &group);
    request.seed = wanted.seed;
    let definition = &wanted.definition.definition;
    let of_definition =
        definition.placement_constraints.as_deref().unwrap_or_default();
    let of_call = wanted.constraints.unwrap_or_default();
    let strategy = wanted.strategy.unwrap_or_default();
    if launch.launch_type == LaunchType::Fargate {
        if !of_call.is_empty() || !strategy.is_empty() {
            return Err(error::invalid_parameter_exception(
                "Placement constraints and strategies are not supported with \
                 the FARGATE launch type.",
            ));
        }
        return Ok(on_fargate(tx, wanted, &request));
    }
    request.constraints = placement::constraints(of_definition, of_call)?;
    request.strategies = placement::strategies(strategy)?;
    if definition.network_mode == Some(NetworkMode::Awsvpc) {
        request.zones = Some(zones(tx, wanted.scope, launch));
    }
    if let Some(zone) = wanted.zone {
        request.zones = Some([zone.to_owned()].into());
    }
    if launch.providers.is_empty() {
        return on_instances(tx, wanted, &request, None).ok_or_else(|| {
            error::invalid_parameter_exception(
                "No Container Instances were found in your cluster.",
            )
        });
    }
    by_provider(tx, wanted, &mut request)
}

/// Places each provider's part of the tasks on the instances of that
/// provider: no instance is of two.
fn by_provider(
    tx: &Tx,
    wanted: &Wanted<'_>,
    request: &mut Request,
) -> Result<Placed, ApiError> {
    let providers = wanted.launch.providers.iter().take(wanted.count);
    let mut parts: Vec<(&str, u32)> = vec![];
    for provider in providers {
        match parts.iter_mut().find(|(known, _)| known == provider) {
            Some((_, count)) => *count += 1,
            None => parts.push((provider, 1)),
        }
    }
    let mut all = Placed { hosts: vec![], failures: vec![] };
    let mut has_instances = false;
    for (provider, count) in parts {
        request.count = count;
        match on_instances(tx, wanted, request, Some(provider)) {
            Some(placed) => {
                has_instances = true;
                all.hosts.extend(placed.hosts);
                all.failures.extend(placed.failures);
            }
            None => {
                let Scope { account, region, .. } = wanted.scope;
                let arn = CapacityProvider::arn_of(account, region, provider);
                all.failures.push(failure(Some(arn), EMPTY_PROVIDER));
            }
        }
    }
    if !has_instances {
        return Err(error::invalid_parameter_exception(
            "No Container Instances were found in your capacity provider.",
        ));
    }
    Ok(all)
}

/// Why a provider without instances takes no task (developer guide, "Amazon
/// ECS stopped task error messages").
const EMPTY_PROVIDER: &str = "EMPTY CAPACITY PROVIDER";

/// Plans over the cluster's active instances, of one provider or all; `None`
/// where there are none.
fn on_instances(
    tx: &Tx,
    wanted: &Wanted<'_>,
    request: &Request,
    provider: Option<&str>,
) -> Option<Placed> {
    let is_wanted = |row: &ContainerInstance| {
        provider.is_none() || row.capacity_provider.as_deref() == provider
    };
    let (mut world, hosts, instances) =
        instances(tx, wanted.scope, wanted.cluster, is_wanted);
    if world.candidates.is_empty() {
        return None;
    }
    let plan = placement::plan(&mut world, request);
    let refusals = plan.refusals.iter();
    let failures =
        refusals.map(|refusal| refusal.to_failure(&world.candidates));
    let seats = plan.placed.iter().map(|index| {
        let candidate = &world.candidates[*index];
        Seat {
            provider: provider.map(str::to_owned),
            ..seat(&hosts[candidate.host], &instances[*index])
        }
    });
    Some(Placed { hosts: seats.collect(), failures: failures.collect() })
}

/// Whether one named instance can take a task: StartTask places nothing, but
/// it does not oversell a host either.
pub(crate) fn check_one(
    tx: &Tx,
    scope: &Scope,
    cluster: &Cluster,
    instance: &ContainerInstance,
    demand: &Demand,
    seed: u64,
) -> Result<Seat, Failure> {
    let (mut world, hosts, instances) =
        instances(tx, scope, cluster, |row| row.id == instance.id);
    let mut request = Request::of(demand, 1, "");
    request.seed = seed;
    let Plan { placed, refusals } = placement::plan(&mut world, &request);
    match placed.first() {
        Some(index) => {
            let candidate = &world.candidates[*index];
            Ok(seat(&hosts[candidate.host], &instances[*index]))
        }
        None => Err(refusals.first().map_or_else(
            || failure(Some(instance.arn()), "INACTIVE"),
            |refusal| refusal.to_failure(&world.candidates),
        )),
    }
}

fn seat(host: &Arc<Host>, instance: &ContainerInstance) -> Seat {
    Seat {
        instance_arn: Some(instance.arn()),
        zone: zone_of(host),
        host: Arc::clone(host),
        provider: None,
    }
}

fn zone_of(host: &Host) -> Option<String> {
    host.attributes.get(placement::ZONE_ATTRIBUTE).cloned().flatten()
}

/// The zones of the subnets that the call names.
fn zones(tx: &Tx, scope: &Scope, launch: &Launch) -> BTreeSet<String> {
    let within = namespace(&scope.account, &scope.region);
    let subnets = launch.subnets.iter();
    subnets
        .filter_map(|id| tx.get::<SubnetRow>(&within.with(id)))
        .map(|subnet| subnet.zone.clone())
        .collect()
}

/// Fargate: any host of the account that offers what it has left.
fn on_fargate(tx: &Tx, wanted: &Wanted<'_>, request: &Request) -> Placed {
    let scope = wanted.scope;
    let within = namespace(&scope.account, &scope.region);
    let hosts: Vec<Arc<Host>> =
        tx.scan::<Host>(&within).filter(|host| host.offers_fargate).collect();
    let mut world = World::default();
    for (index, host) in hosts.iter().enumerate() {
        let (ledger, groups) = books(tx, host);
        world.hosts.push(ledger);
        world.candidates.push(Candidate {
            arn: host.id.clone(),
            host: index,
            agent_connected: host.is_connected,
            agent_version: None,
            ec2_instance_id: None,
            registered_at: scope.now,
            attributes: Arc::new(attributes(host, &[])),
            groups,
            running_tasks: 0,
        });
    }
    let plan = placement::plan(&mut world, request);
    let is_short = plan.placed.len() < wanted.count;
    // The zone is that of the subnet, known once there is an interface.
    let seats = plan.placed.iter().enumerate().map(|(number, index)| Seat {
        host: Arc::clone(&hosts[*index]),
        instance_arn: None,
        zone: None,
        provider: wanted.launch.providers.get(number).cloned(),
    });
    Placed {
        hosts: seats.collect(),
        failures: if is_short {
            vec![fargate_failure(&plan.refusals)]
        } else {
            vec![]
        },
    }
}

type Instances = (World, Vec<Arc<Host>>, Vec<Arc<ContainerInstance>>);

/// The active instances of a cluster with the books of their hosts.
fn instances(
    tx: &Tx,
    scope: &Scope,
    cluster: &Cluster,
    wanted: impl Fn(&ContainerInstance) -> bool,
) -> Instances {
    let within = Key::of([&scope.account, &scope.region, &cluster.name]);
    let mut world = World::default();
    let mut hosts: Vec<Arc<Host>> = vec![];
    let mut rows = vec![];
    let active = tx
        .scan::<ContainerInstance>(&within)
        .filter(|row| row.status == "ACTIVE" && wanted(row));
    for row in active {
        let key = Host::key_of(&row.account, &row.region, &row.host);
        let Some(host) = tx.get::<Host>(&key) else { continue };
        let (ledger, groups) = books(tx, &host);
        let known = hosts.iter().position(|known| known.id == host.id);
        let index = known.unwrap_or_else(|| {
            hosts.push(Arc::clone(&host));
            world.hosts.push(ledger);
            hosts.len() - 1
        });
        world.candidates.push(candidate(&row, &host, index, groups));
        rows.push(row);
    }
    (world, hosts, rows)
}

/// A container instance as the planner sees it; `index` is its host's place
/// among the ledgers, `groups` how many tasks it has of each group.
pub(crate) fn candidate(
    row: &ContainerInstance,
    host: &Host,
    index: usize,
    groups: BTreeMap<String, u32>,
) -> Candidate {
    Candidate {
        arn: row.arn(),
        host: index,
        agent_connected: host.is_connected,
        agent_version: row
            .version_info
            .as_ref()
            .and_then(|info| info.agent_version.clone()),
        ec2_instance_id: Some(row.ec2_instance_id.clone()),
        registered_at: row.registered_at,
        attributes: Arc::new(attributes(host, &row.custom_attributes)),
        running_tasks: groups.values().map(|count| i64::from(*count)).sum(),
        groups,
    }
}

/// A host's ledger and its tasks by group.
fn books(tx: &Tx, host: &Host) -> (Ledger, BTreeMap<String, u32>) {
    let tasks = tx.tasks_on(&host.account, &host.region, &host.id);
    let ledger = host.ledger(tasks.iter().map(AsRef::as_ref));
    let mut groups = BTreeMap::new();
    for task in &tasks {
        let group = task.task.group.clone().unwrap_or_default();
        *groups.entry(group).or_insert(0) += 1;
    }
    (ledger, groups)
}

/// A host's attributes and those that users put, by name.
fn attributes(
    host: &Host,
    custom: &[minato_wire::ecs::Attribute],
) -> BTreeMap<String, String> {
    let registered = host
        .attributes
        .iter()
        .map(|(name, value)| (name.clone(), value.clone().unwrap_or_default()));
    let custom = custom.iter().filter_map(|attribute| {
        let value = attribute.value.clone().unwrap_or_default();
        Some((attribute.name.clone()?, value))
    });
    registered.chain(custom).collect()
}
