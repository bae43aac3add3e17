//! Finds hosts for tasks: gathers what the planner needs, asks it, and keeps
//! its answer only because the transaction it runs in saw the newest ledger.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use minato_core::placement::{
    self, Candidate, Groups, Plan, Request, fargate_failure,
};
use minato_core::task_definition::Demand;
use minato_store::{Row, Tx};
use minato_wire::ApiError;
use minato_wire::ecs::{
    Failure, LaunchType, NetworkMode, PlacementConstraint, PlacementStrategy,
    error,
};

use minato_wire::minato::{ConsideredHost, HostLack};

use super::launch::Launch;
use super::subnets::Subnets;
use crate::context::Scope;
use crate::fleet::{Fleet, Pool};
use crate::tables::{
    CapacityProvider, Cluster, ContainerInstance, Host, TaskDefinition,
};

/// What is to be placed.
pub(crate) struct Wanted<'a> {
    pub(crate) scope: &'a Scope,
    pub(crate) fleet: &'a Fleet,
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
    let mut request = request(wanted)?;
    let launch = wanted.launch;
    if launch.launch_type == LaunchType::Fargate {
        return Ok(on_fargate(tx, wanted, &request));
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

/// What the planner is asked.
fn request(wanted: &Wanted<'_>) -> Result<Request, ApiError> {
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
        return Ok(request);
    }
    request.constraints = placement::constraints(of_definition, of_call)?;
    request.strategies = placement::strategies(strategy)?;
    request.zones = zones(wanted.definition, &launch.subnets);
    if let Some(zone) = wanted.zone {
        request.zones = Some([zone.to_owned()].into());
    }
    Ok(request)
}

/// What placement makes of every host that there is for a task, also of those
/// that it would not look at.
pub(crate) fn consider(
    tx: &Tx,
    wanted: &Wanted<'_>,
) -> Result<Vec<ConsideredHost>, ApiError> {
    let request = request(wanted)?;
    let Scope { account, region, .. } = wanted.scope;
    let is_fargate = wanted.launch.launch_type == LaunchType::Fargate;
    let providers = &wanted.launch.providers;
    let lack = |reason: &str, detail: String| HostLack {
        reason: Some(reason.to_owned()),
        detail: Some(detail),
    };
    let considered = wanted.fleet.with(tx, account, region, |space| {
        let pool = if is_fargate {
            space.members(&Pool::Fargate)
        } else {
            space.registered(&wanted.cluster.name)
        };
        let verdicts = placement::explain(space.world(), &pool, &request);
        let hosts = verdicts.into_iter().filter_map(|verdict| {
            let (host, instance) = space.seat(verdict.candidate)?;
            let mut lacks = vec![];
            if let Some(row) = instance.filter(|_| !is_fargate) {
                if row.status != "ACTIVE" {
                    let detail = format!("The instance is {}.", row.status);
                    lacks.push(lack("STATUS", detail));
                }
                let is_of = row
                    .capacity_provider
                    .as_ref()
                    .is_some_and(|of| providers.contains(of));
                if !providers.is_empty() && !is_of {
                    lacks.push(lack(
                        "CAPACITY_PROVIDER",
                        format!(
                            "It is not of the capacity provider {}.",
                            providers.join(", ")
                        ),
                    ));
                }
            }
            let found = verdict.lacks.into_iter();
            lacks.extend(
                found.map(|(reason, detail)| lack(reason.as_str(), detail)),
            );
            Some(ConsideredHost {
                host: Some(host.id.clone()),
                availability_zone: zone_of(&host),
                lacks: Some(lacks),
            })
        });
        hosts.collect()
    });
    Ok(considered)
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
    let Scope { account, region, .. } = wanted.scope;
    wanted.fleet.with(tx, account, region, |space| {
        let pool = Pool::Cluster {
            cluster: wanted.cluster.name.clone(),
            provider: provider.map(str::to_owned),
        };
        if space.is_empty(&pool) {
            return None;
        }
        let plan = space.plan(&pool, request);
        let candidates = &space.world().candidates;
        let refusals = plan.refusals.iter();
        let failures = refusals.map(|refusal| refusal.to_failure(candidates));
        let seats = plan.placed.iter().filter_map(|index| {
            let (host, instance) = space.seat(*index)?;
            Some(Seat {
                instance_arn: instance.map(|row| row.arn()),
                zone: zone_of(&host),
                provider: provider.map(str::to_owned),
                host,
            })
        });
        Some(Placed { hosts: seats.collect(), failures: failures.collect() })
    })
}

/// Whether one named instance can take a task: StartTask places nothing, but
/// it does not oversell a host, nor leave a task without a subnet in its zone.
/// `zones` are those of the subnets, for awsvpc.
pub(crate) fn check_one(
    tx: &Tx,
    fleet: &Fleet,
    instance: &ContainerInstance,
    demand: &Demand,
    zones: Option<BTreeSet<String>>,
) -> Result<Seat, Failure> {
    let request = Request { zones, ..Request::of(demand, 1, "") };
    let ContainerInstance { account, region, .. } = instance;
    fleet.with(tx, account, region, |space| {
        let pool = Pool::Instance(instance.key());
        let Plan { placed, refusals } = space.plan(&pool, &request);
        match placed.first().and_then(|index| space.seat(*index)) {
            Some((host, _)) => Ok(Seat {
                instance_arn: Some(instance.arn()),
                zone: zone_of(&host),
                provider: None,
                host,
            }),
            None => Err(refusals.first().map_or_else(
                || failure(Some(instance.arn()), "INACTIVE"),
                |refusal| refusal.to_failure(&space.world().candidates),
            )),
        }
    })
}

/// The zones that tasks of a definition may be in, if it matters.
pub(crate) fn zones(
    definition: &TaskDefinition,
    subnets: &Subnets,
) -> Option<BTreeSet<String>> {
    let mode = definition.definition.network_mode;
    (mode == Some(NetworkMode::Awsvpc)).then(|| subnets.zones())
}

fn zone_of(host: &Host) -> Option<String> {
    host.attributes.get(placement::ZONE_ATTRIBUTE).cloned().flatten()
}

/// Fargate: any host of the account that offers what it has left.
fn on_fargate(tx: &Tx, wanted: &Wanted<'_>, request: &Request) -> Placed {
    let Scope { account, region, .. } = wanted.scope;
    wanted.fleet.with(tx, account, region, |space| {
        let plan = space.plan(&Pool::Fargate, request);
        let is_short = plan.placed.len() < wanted.count;
        let hosts = plan.placed.iter().enumerate();
        let hosts = hosts.filter_map(|(number, index)| {
            Some(Seat {
                host: space.seat(*index)?.0,
                instance_arn: None,
                // That of the subnet, known once there is an interface.
                zone: None,
                provider: wanted.launch.providers.get(number).cloned(),
            })
        });
        let failures = is_short.then(|| fargate_failure(&plan.refusals));
        Placed {
            hosts: hosts.collect(),
            failures: failures.into_iter().collect(),
        }
    })
}

/// A container instance as the planner sees it; `index` is its host's place
/// among the ledgers, `groups` how many tasks it has of each group.
pub(crate) fn candidate(
    row: &ContainerInstance,
    host: &Host,
    index: usize,
    groups: Groups,
) -> Candidate {
    Candidate {
        arn: row.arn(),
        host: index,
        agent_connected: host.is_connected,
        agent_version: row.agent_version(),
        ec2_instance_id: Some(row.ec2_instance_id.clone()),
        registered_at: row.registered_at,
        attributes: Arc::new(attributes(host, &row.custom_attributes)),
        running_tasks: groups.total(),
        groups,
    }
}

/// A host's attributes and those that users put, by name.
pub(crate) fn attributes(
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
