//! Starts tasks of a service's primary deployment.

use std::collections::BTreeMap;
use std::sync::Arc;

use minato_core::capacity;
use minato_core::service::Member;
use minato_core::task_definition::Demand;
use minato_store::Tx;
use minato_wire::ecs::{self, LaunchType, PropagateTags};

use minato_wire::minato::ConsideredHost;

use super::eyes::{runs_on_fargate, volume};
use crate::call::Caller;
use crate::context::Scope;
use crate::fleet::Fleet;
use crate::services::ecs::account_settings;
use crate::services::ecs::tasks::launch::{self, Launch, Spot};
use crate::services::ecs::tasks::place::{self, Placed, Seat, Wanted};
use crate::services::ecs::tasks::subnets::Subnets;
use crate::tables::{
    Cluster, ContainerInstance, DAEMON_PREFIX, Deployment, OfService, Service,
    ServiceRevision, TaskDefinition,
};

/// The tasks to start.
pub(super) struct Order<'a> {
    pub(super) service: &'a Service,
    pub(super) deployment: &'a Deployment,
    /// Those that are there, to keep zones and providers in proportion.
    pub(super) members: &'a [Arc<Member>],
    pub(super) zone: Option<&'a str>,
    /// The numbers each task's ids are made of; as many as there are tasks.
    pub(super) ids: Vec<Vec<u128>>,
    pub(super) seed: u64,
    pub(super) fleet: &'a Fleet,
    pub(super) now: minato_wire::Timestamp,
}

/// What came of an order.
#[derive(Debug, Default)]
pub(super) struct Started {
    /// Ids of the new tasks.
    pub(super) tasks: Vec<String>,
    /// Why there are not more.
    pub(super) refusal: Option<Refusal>,
}

/// Why a task found no place.
#[derive(Debug)]
pub(super) struct Refusal {
    /// The reason as `RunTask` names it.
    pub(super) reason: String,
    /// The same in the words of a service event.
    pub(super) text: String,
}

/// What placement makes of each host for one more task of a service's primary
/// deployment; `None` where it has nothing to run.
pub(crate) fn consider(
    tx: &Tx,
    fleet: &Fleet,
    service: &Service,
    now: minato_wire::Timestamp,
) -> Option<Considered> {
    let order = Order {
        service,
        deployment: service.primary()?,
        members: &[],
        zone: None,
        ids: vec![vec![]],
        seed: 0,
        fleet,
        now,
    };
    let plan = Prepared::new(tx, &order)?;
    Some(Considered {
        hosts: place::consider(tx, &plan.wanted(&order, 1)).ok()?,
        task_definition: plan.definition.definition.task_definition_arn.clone(),
        demand: plan.demand,
    })
}

/// A task that was tried on every host.
pub(crate) struct Considered {
    pub(crate) hosts: Vec<ConsideredHost>,
    pub(crate) task_definition: Option<String>,
    pub(crate) demand: Demand,
}

impl Order<'_> {
    /// Starts as many as find a place, anywhere.
    pub(super) fn carry_out(self, tx: &mut Tx) -> Started {
        let Some(plan) = Prepared::new(tx, &self) else {
            return Started::refused("Internal error.");
        };
        let wanted = plan.wanted(&self, self.ids.len());
        match place::place(tx, &wanted) {
            Ok(Placed { hosts, failures }) => {
                let refusal = failures.first().map(refusal);
                let tasks = plan.start(tx, &self, hosts);
                Started { tasks, refusal }
            }
            Err(error) => Started {
                tasks: vec![],
                refusal: Some(Refusal {
                    reason: error.code().to_owned(),
                    text: format!("{NO_PLACE} Reason: {}", error.message()),
                }),
            },
        }
    }

    /// Starts one task on each of these container instances.
    pub(super) fn carry_out_on(
        self,
        tx: &mut Tx,
        places: &[String],
    ) -> Started {
        let Some(plan) = Prepared::new(tx, &self) else {
            return Started::refused("Internal error.");
        };
        let (mut seats, mut why) = (vec![], None);
        for arn in places.iter().take(self.ids.len()) {
            let id = arn.rsplit('/').next().unwrap_or_default();
            let key = ContainerInstance::key_of(
                &self.service.account,
                &self.service.region,
                &self.service.cluster,
                id,
            );
            let Some(instance) = tx.get::<ContainerInstance>(&key) else {
                continue;
            };
            let checked = place::check_one(
                tx,
                self.fleet,
                &instance,
                &plan.demand,
                place::zones(&plan.definition, &plan.launch.subnets),
            );
            match checked {
                // One task for each instance, so no seat can take what
                // another needs.
                Ok(seat) => {
                    let is_daemon = self.service.group.is_some();
                    let of = instance.capacity_provider.clone();
                    seats.push(Seat {
                        provider: of.filter(|_| is_daemon),
                        ..seat
                    });
                }
                Err(failure) => why = Some(refusal(&failure)),
            }
        }
        let tasks = plan.start(tx, &self, seats);
        Started { tasks, refusal: why }
    }
}

impl Started {
    fn refused(reason: &str) -> Started {
        let text = format!("was unable to place a task. Reason: {reason}");
        let refusal = Some(Refusal { reason: reason.to_owned(), text });
        Started { tasks: vec![], refusal }
    }
}

/// A failed placement as a service tells it (developer guide, "Amazon ECS
/// service event messages").
fn refusal(failure: &ecs::Failure) -> Refusal {
    let reason = failure.reason.clone().unwrap_or_default();
    Refusal { text: refusal_text(failure, &reason), reason }
}

const NO_PLACE: &str = "was unable to place a task because no container \
                        instance met all of its requirements.";

fn refusal_text(failure: &ecs::Failure, reason: &str) -> String {
    const MORE: &str = "For more information, see the Troubleshooting section \
                        of the Amazon ECS Developer Guide.";
    let arn = failure.arn.as_deref().unwrap_or_default();
    if arn.is_empty() {
        return format!("was unable to place a task. Reason: {reason}");
    }
    let id = arn.rsplit('/').next().unwrap_or_default();
    let lacks = match reason {
        "RESOURCE:MEMORY" => "has insufficient memory available.".to_owned(),
        "RESOURCE:CPU" => "has insufficient CPU units available.".to_owned(),
        "RESOURCE:PORTS" | "RESOURCE:PORTS_UDP" => {
            "is already using a port required by your task.".to_owned()
        }
        "ATTRIBUTE" => {
            "is missing an attribute required by your task.".to_owned()
        }
        other => format!("encountered error \"{other}\"."),
    };
    format!(
        "{NO_PLACE} The closest matching (container-instance {id}) {lacks} {MORE}"
    )
}

/// What all tasks of an order have in common.
struct Prepared {
    scope: Scope,
    cluster: Arc<Cluster>,
    definition: Arc<TaskDefinition>,
    demand: Demand,
    launch: Launch,
}

impl Prepared {
    fn new(tx: &Tx, order: &Order<'_>) -> Option<Prepared> {
        let service = order.service;
        let Service { account, region, cluster, .. } = service;
        let key = service.owner().key().with(&order.deployment.revision);
        let revision = tx.get::<ServiceRevision>(&key)?;
        let definition = tx.get::<TaskDefinition>(&TaskDefinition::key_of(
            account,
            region,
            &revision.family,
            revision.task_revision,
        ))?;
        let cluster =
            tx.get::<Cluster>(&Cluster::key_of(account, region, cluster))?;
        let awsvpc = revision
            .revision
            .network_configuration
            .as_ref()
            .and_then(|network| network.awsvpc_configuration.as_ref());
        let list =
            |list: Option<&Vec<String>>| list.cloned().unwrap_or_default();
        let subnets = list(awsvpc.and_then(|given| given.subnets.as_ref()));
        let is_fargate = runs_on_fargate(&revision.revision);
        let launch_type = if is_fargate {
            LaunchType::Fargate
        } else {
            revision.revision.launch_type.unwrap_or(LaunchType::Ec2)
        };
        let subnets = Subnets::read(tx, account, region, &subnets);
        let volume = volume(&revision.revision, &definition)?;
        let can_exec = service.service.enable_execute_command == Some(true);
        let demand =
            launch::demand(&definition.definition, volume.as_ref(), can_exec);
        let scope = scope(service, order.now);
        let creator = service.service.created_by.as_deref();
        let creator = creator.unwrap_or(&scope.caller.arn);
        let dual_stack = account_settings::dual_stack(tx, &scope, creator);
        Some(Prepared {
            scope,
            launch: Launch {
                launch_type,
                providers: providers(&revision.revision, order),
                group: Some(service.group()),
                started_by: Some(order.deployment.id.clone()),
                tags: tags(service, &definition),
                overrides: None,
                subnets,
                security_groups: list(
                    awsvpc.and_then(|given| given.security_groups.as_ref()),
                ),
                service: Some(OfService {
                    name: service.name.clone(),
                    id: service.id.clone(),
                    deployment: order.deployment.id.clone(),
                    is_counted: false,
                    protected_until: None,
                }),
                dual_stack,
                volume,
                can_exec,
            },
            demand,
            cluster,
            definition,
        })
    }

    fn wanted<'a>(&'a self, order: &'a Order<'_>, count: usize) -> Wanted<'a> {
        let service = &order.service.service;
        let is_fargate = self.launch.launch_type == LaunchType::Fargate;
        Wanted {
            scope: &self.scope,
            fleet: order.fleet,
            cluster: &self.cluster,
            definition: &self.definition,
            demand: &self.demand,
            launch: &self.launch,
            constraints: service.placement_constraints.as_deref(),
            strategy: service.placement_strategy.as_deref(),
            // A Fargate task is in the zone of its subnet.
            zone: order.zone.filter(|_| !is_fargate),
            count,
            seed: order.seed,
        }
    }

    /// Writes the rows of the tasks that have a seat.
    fn start(
        &self,
        tx: &mut Tx,
        order: &Order<'_>,
        seats: Vec<Seat>,
    ) -> Vec<String> {
        let launch_type = self.launch.launch_type;
        let mut subnets = self.launch.subnets.clone();
        let is_spread = launch_type == LaunchType::Fargate;
        let there = order.members.iter().filter(|_| is_spread);
        for member in there.filter(|member| member.age == 0) {
            subnets.count(member.zone.as_deref().unwrap_or_default());
        }
        let mut started = vec![];
        for (seat, ids) in seats.into_iter().zip(&order.ids) {
            let zone = seat.zone.as_deref();
            let subnets = subnets.of_task(launch_type, zone, order.zone);
            let row = launch::task(
                &self.scope,
                &self.cluster,
                &self.definition,
                &self.demand,
                &self.launch,
                Spot {
                    subnets,
                    capacity_provider: seat.provider,
                    host: &seat.host,
                    instance_arn: seat.instance_arn,
                    zone: seat.zone,
                    ids: ids.clone(),
                },
            );
            started.push(row.id.clone());
            tx.put(row);
        }
        started
    }
}

/// A service's own doings, in the name of its service-linked role.
fn scope(service: &Service, now: minato_wire::Timestamp) -> Scope {
    let partition = crate::services::partition_of(&service.region);
    Scope {
        caller: Caller {
            account: service.account.clone(),
            arn: format!(
                "arn:{partition}:sts::{}:assumed-role/AWSServiceRoleForECS/\
                 ecs-service-scheduler",
                service.account
            ),
            user_id: service.account.clone(),
            access_key_id: String::new(),
        },
        account: service.account.clone(),
        region: service.region.clone(),
        now,
        authority: None,
    }
}

/// The capacity provider of each new task: what the strategy gives each of
/// them of all tasks, less what it has.
fn providers(
    revision: &ecs::ServiceRevision,
    order: &Order<'_>,
) -> Vec<String> {
    let items = revision.capacity_provider_strategy.as_deref();
    let shares = capacity::shares(items.unwrap_or_default());
    let parts = capacity::distribute(&shares, order.service.desired);
    let mut lacking: Vec<(String, u32)> = vec![];
    for (share, part) in shares.iter().zip(parts) {
        let has = order.members.iter().filter(|member| {
            member.age == 0 && member.provider.as_ref() == Some(&share.provider)
        });
        let has = u32::try_from(has.count()).unwrap_or(u32::MAX);
        lacking.push((share.provider.clone(), part.saturating_sub(has)));
    }
    let mut providers = vec![];
    if lacking.iter().all(|(_, lack)| *lack == 0)
        && let Some(crowded) = order.zone.and_then(|_| crowded(order.members))
    {
        // It takes the place of one in the fullest zone. With another provider
        // that one would have more than its share, and the task that goes
        // would be of that provider, whatever zone it is in: for ever.
        return vec![crowded; order.ids.len()];
    }
    for _ in 0..order.ids.len() {
        // The first with the largest lack; where nobody lacks anything (one
        // more than desired, during a deployment) the first of all.
        let most = lacking.iter().map(|(_, lack)| *lack).max().unwrap_or(0);
        let next = lacking.iter_mut().find(|(_, lack)| *lack == most);
        let Some((provider, lack)) = next else { break };
        *lack = lack.saturating_sub(1);
        providers.push(provider.clone());
    }
    providers
}

/// The capacity provider of a task in the zone that has most of them.
fn crowded(members: &[Arc<Member>]) -> Option<String> {
    let mut zones: BTreeMap<&str, Vec<&Member>> = BTreeMap::new();
    for member in members.iter().filter(|member| member.age == 0) {
        let zone = member.zone.as_deref()?;
        zones.entry(zone).or_default().push(member);
    }
    let fullest = zones.values().max_by_key(|members| members.len())?;
    fullest.iter().find_map(|member| member.provider.clone())
}

/// The tags of a service's tasks.
fn tags(service: &Service, definition: &TaskDefinition) -> Vec<ecs::Tag> {
    let shown = &service.service;
    let mut tags: Vec<ecs::Tag> = match shown.propagate_tags {
        Some(PropagateTags::Service) => shown.tags.clone().unwrap_or_default(),
        Some(PropagateTags::TaskDefinition) => definition.tags.clone(),
        Some(PropagateTags::None) | None => vec![],
    };
    if shown.enable_ecs_managed_tags == Some(true) {
        let daemon = service.name.strip_prefix(DAEMON_PREFIX);
        let (key, name) = match daemon {
            Some(name) => ("aws:ecs:daemonName", name),
            None => ("aws:ecs:serviceName", service.name.as_str()),
        };
        let managed =
            [("aws:ecs:clusterName", service.cluster.as_str()), (key, name)];
        tags.extend(managed.map(|(key, value)| ecs::Tag {
            key: Some(key.to_owned()),
            value: Some(value.to_owned()),
        }));
    }
    tags
}
