//! What the scheduler sees of a service, and what it would do about it.
//!
//! Reading is the same from a snapshot, to find out whether anything is due,
//! and within the transaction that then does it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use minato_core::capacity::is_fargate;
use minato_core::placement::{self, Candidate};
use minato_core::service::{
    DaemonPlan, Health, Member, Pace, Phase, Plan, Post, Target, VictimOrder,
    plan, plan_daemon, rules,
};
use minato_core::status::{
    InstanceStatus, RolloutState, ServiceDeploymentStatus, ServiceStatus,
    TaskStatus,
};
use minato_store::{Key, Row};
use minato_wire::Timestamp;
use minato_wire::ecs::{
    self, AvailabilityZoneRebalancing, HealthStatus, LaunchType,
    PlacementStrategyType,
};

use crate::services::ec2::rows::SubnetRow;
use crate::services::ecs::services::{roll, tasks_of};
use crate::services::ecs::tasks::place;
use crate::services::ecs::view::ReadIndex;
use crate::tables::{
    ContainerInstance, Host, Service, ServiceRevision, Task, TaskDefinition,
    namespace,
};

/// What is to be done about a service's tasks.
#[derive(Clone, Debug)]
pub(super) enum Scheme {
    /// It keeps a number of tasks.
    Replica(Plan),
    /// It keeps one on each instance.
    Daemon(DaemonPlan),
    /// It is deleted: these are to be stopped.
    Drain(Vec<String>),
}

/// A service and what is due.
#[derive(Clone, Debug)]
pub(super) struct Look {
    /// Its tasks that should run.
    pub(super) members: Vec<Member>,
    /// Tasks whose end is not counted yet.
    pub(super) ended: Vec<Arc<Task>>,
    pub(super) scheme: Scheme,
}

impl Look {
    /// How many tasks a pass would start.
    pub(super) fn starts(&self) -> usize {
        let count = match &self.scheme {
            Scheme::Replica(plan) => plan.start,
            Scheme::Daemon(plan) => {
                return plan.start.len();
            }
            Scheme::Drain(_) => 0,
        };
        usize::try_from(count).unwrap_or(usize::MAX)
    }

    /// When time alone makes something due.
    pub(super) fn wake_at(
        &self,
        service: &Service,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let retry = service.primary().and_then(|primary| primary.retry_at);
        let planned = match &self.scheme {
            Scheme::Replica(plan) => plan.wake_at,
            Scheme::Daemon(_) | Scheme::Drain(_) => None,
        };
        let steady = service
            .steady_at
            .map(|at| at.plus_millis(super::pass::REPEAT_AFTER_MS));
        let retry = retry.filter(|at| *at > now);
        [retry, planned, steady, self.recovers_at(service, now)]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether a pass would change anything.
    pub(super) fn is_due(
        &self,
        rows: &impl ReadIndex,
        service: &Service,
        now: Timestamp,
    ) -> bool {
        if !self.ended.is_empty() {
            return true;
        }
        let acts = match &self.scheme {
            Scheme::Replica(plan) => {
                plan.start > 0
                    || !plan.stop.is_empty()
                    || self.is_unfinished(service, plan.is_settled, now)
                    || self.has_complaint(service, plan)
            }
            Scheme::Daemon(plan) => {
                !plan.start.is_empty()
                    || !plan.stop.is_empty()
                    || plan.desired != service.desired
                    || self.is_unfinished(service, plan.is_settled, now)
            }
            Scheme::Drain(_) => true,
        };
        acts || self.counts_differ(service)
            || self.is_recovered(service, now)
            || matches!(
                roll::status(rows, service),
                Some(
                    ServiceDeploymentStatus::Pending
                        | ServiceDeploymentStatus::RollbackRequested
                )
            )
    }

    /// Whether a deployment, or the news of a steady state, is outstanding.
    fn is_unfinished(
        &self,
        service: &Service,
        is_settled: bool,
        now: Timestamp,
    ) -> bool {
        if !is_settled {
            return service.steady_at.is_some();
        }
        let primary = service.primary();
        let told = service.steady_at;
        primary.is_some_and(|one| one.rollout == RolloutState::InProgress)
            || told.is_none_or(|at| {
                now.millis_since(at) >= super::pass::REPEAT_AFTER_MS
            })
    }

    fn has_complaint(&self, service: &Service, plan: &Plan) -> bool {
        let is_blocked = plan.is_stuck || plan.protected > 0;
        is_blocked && service.complaint.is_none()
    }

    /// How many tasks of a deployment should run.
    pub(super) fn remaining(&self, age: usize) -> u32 {
        let age = u32::try_from(age).unwrap_or(u32::MAX);
        let remaining = self.members.iter().filter(|one| one.age == age);
        u32::try_from(remaining.count()).unwrap_or(u32::MAX)
    }

    /// Whether the counts that the deployments show are out of date, or a
    /// former one has no tasks any more.
    fn counts_differ(&self, service: &Service) -> bool {
        let ages = service.deployments.iter().enumerate();
        ages.into_iter().any(|(age, deployment)| {
            let remaining = self.remaining(age);
            if age == 0 {
                return deployment.desired_count != service.desired;
            }
            remaining == 0 || deployment.desired_count != remaining
        })
    }

    /// Whether the primary deployment has failures behind it that a healthy
    /// task makes forgotten.
    pub(super) fn is_recovered(
        &self,
        service: &Service,
        now: Timestamp,
    ) -> bool {
        self.recovery(service).is_some_and(|at| at <= now)
    }

    fn recovers_at(
        &self,
        service: &Service,
        now: Timestamp,
    ) -> Option<Timestamp> {
        self.recovery(service).filter(|at| *at > now)
    }

    fn recovery(&self, service: &Service) -> Option<Timestamp> {
        let primary = service.primary()?;
        let is_marked = primary.failed_tasks > 0 || primary.failed_rounds > 0;
        if !is_marked || primary.rollout == RolloutState::Failed {
            return None;
        }
        let well = self.members.iter().filter(|one| {
            one.age == 0
                && matches!(one.health, Health::Unchecked | Health::Healthy)
        });
        let since = well.filter_map(|one| match one.phase {
            Phase::Running(since) => Some(since),
            Phase::Starting => None,
        });
        since.min().map(|since| since.plus_millis(RECOVERED_MS))
    }
}

/// A task that has run for this long has come up for good, in milliseconds.
const RECOVERED_MS: i64 = 10_000;

/// Looks at a service; `None` where nothing will ever be due.
pub(super) fn look(
    rows: &impl ReadIndex,
    service: &Service,
    pace: Pace,
    now: Timestamp,
) -> Option<Look> {
    if service.status == ServiceStatus::Inactive {
        return None;
    }
    let tasks = tasks_of(rows, service);
    let eyes = Eyes::new(rows, service, now);
    let members: Vec<Member> = tasks
        .iter()
        .filter(|task| task.should_run())
        .map(|task| eyes.member(task))
        .collect();
    let ended =
        tasks.iter().filter(|task| task.is_stopped()).cloned().collect();
    let scheme = if service.status == ServiceStatus::Draining {
        Scheme::Drain(members.iter().map(|one| one.id.clone()).collect())
    } else if service.is_daemon() {
        let target = eyes.target(pace, BTreeSet::new());
        Scheme::Daemon(plan_daemon(&members, &eyes.posts(), &target))
    } else {
        let target = eyes.target(pace, eyes.zones());
        Scheme::Replica(plan(&members, &target))
    };
    Some(Look { members, ended, scheme })
}

/// What is looked up once for all tasks of a service.
struct Eyes<'a, R: ReadIndex> {
    rows: &'a R,
    service: &'a Service,
    now: Timestamp,
    revision: Option<Arc<ServiceRevision>>,
    victims: VictimOrder,
    packs_cpu: bool,
    known: std::cell::RefCell<Known>,
}

#[derive(Default)]
struct Known {
    checks: BTreeMap<(String, u32), bool>,
    displaced: BTreeMap<String, bool>,
    free: BTreeMap<String, i64>,
}

impl<'a, R: ReadIndex> Eyes<'a, R> {
    fn new(rows: &'a R, service: &'a Service, now: Timestamp) -> Self {
        let revision = service.primary().and_then(|primary| {
            rows.row(&service.owner().key().with(&primary.revision))
        });
        let strategy = service.service.placement_strategy.as_deref();
        let first = strategy.unwrap_or_default().first();
        let victims = match first.and_then(|strategy| strategy.r#type) {
            Some(PlacementStrategyType::Binpack) => VictimOrder::Binpack,
            Some(PlacementStrategyType::Random) => VictimOrder::Random,
            Some(PlacementStrategyType::Spread) | None => VictimOrder::Spread,
        };
        let field = first.and_then(|strategy| strategy.field.as_deref());
        Eyes {
            rows,
            service,
            now,
            revision,
            victims,
            packs_cpu: field.is_some_and(|it| it.eq_ignore_ascii_case("cpu")),
            known: std::cell::RefCell::default(),
        }
    }

    fn member(&self, row: &Task) -> Member {
        let of = row.service.as_ref();
        let deployment = of.map(|of| of.deployment.as_str());
        let age = self
            .service
            .deployments
            .iter()
            .position(|one| Some(one.id.as_str()) == deployment);
        let phase = match (row.last_status().parse(), row.task.started_at) {
            (Ok(TaskStatus::Running), Some(since)) => Phase::Running(since),
            _ => Phase::Starting,
        };
        let until = of.and_then(|of| of.protected_until);
        let place = row.task.container_instance_arn.clone();
        Member {
            id: row.id.clone(),
            // One of no deployment that is left is older than all.
            age: age
                .and_then(|age| u32::try_from(age).ok())
                .unwrap_or(u32::MAX),
            phase,
            health: self.health(row),
            is_protected: until.is_some_and(|until| until > self.now),
            is_displaced: self.is_displaced(row),
            zone: row.task.availability_zone.clone(),
            place: place.unwrap_or_else(|| row.host.clone()),
            place_free: self.free(row),
            provider: row.task.capacity_provider_name.clone(),
            created_at: row.task.created_at.unwrap_or(self.now),
        }
    }

    fn health(&self, row: &Task) -> Health {
        let key = (row.family.clone(), row.revision);
        let mut known = self.known.borrow_mut();
        let has_checks = *known.checks.entry(key).or_insert_with(|| {
            let definition =
                self.rows.row::<TaskDefinition>(&TaskDefinition::key_of(
                    &row.account,
                    &row.region,
                    &row.family,
                    row.revision,
                ));
            let containers = definition
                .as_ref()
                .and_then(|row| row.definition.container_definitions.as_ref());
            containers.into_iter().flatten().any(|container| {
                container.essential.unwrap_or(true)
                    && container.health_check.is_some()
            })
        });
        if !has_checks {
            return Health::Unchecked;
        }
        match row.task.health_status {
            Some(HealthStatus::Healthy) => Health::Healthy,
            Some(HealthStatus::Unhealthy) => Health::Unhealthy,
            Some(HealthStatus::Unknown) | None => Health::Unknown,
        }
    }

    /// Whether the task's container instance takes no tasks any more, or its
    /// host is gone.
    fn is_displaced(&self, row: &Task) -> bool {
        let host = Host::key_of(&row.account, &row.region, &row.host);
        let Some(arn) = &row.task.container_instance_arn else {
            return self.rows.row::<Host>(&host).is_none();
        };
        let mut known = self.known.borrow_mut();
        if let Some(is_displaced) = known.displaced.get(arn) {
            return *is_displaced;
        }
        let id = arn.rsplit('/').next().unwrap_or_default();
        let instance =
            self.rows.row::<ContainerInstance>(&ContainerInstance::key_of(
                &row.account,
                &row.region,
                &row.cluster,
                id,
            ));
        let is_active = instance.is_some_and(|row| {
            row.status.parse() == Ok(InstanceStatus::Active)
        });
        known.displaced.insert(arn.clone(), !is_active);
        !is_active
    }

    /// What the task's host has left, where the service packs tasks.
    fn free(&self, row: &Task) -> i64 {
        if self.victims != VictimOrder::Binpack {
            return 0;
        }
        let mut known = self.known.borrow_mut();
        if let Some(free) = known.free.get(&row.host) {
            return *free;
        }
        let key = Host::key_of(&row.account, &row.region, &row.host);
        let free = self.rows.row::<Host>(&key).map_or(0, |host| {
            let (account, region) = (&row.account, &row.region);
            let tasks = self.rows.tasks_on(account, region, &row.host);
            let ledger = host.ledger(tasks.iter().map(AsRef::as_ref));
            if self.packs_cpu {
                ledger.free_cpu()
            } else {
                ledger.free_memory_mib()
            }
        });
        known.free.insert(row.host.clone(), free);
        free
    }

    fn target(&self, pace: Pace, zones: BTreeSet<String>) -> Target {
        let primary = self.service.primary();
        let is_failed =
            primary.is_some_and(|one| one.rollout == RolloutState::Failed);
        let retry_at = primary.and_then(|primary| primary.retry_at);
        let grace = self.service.service.health_check_grace_period_seconds;
        Target {
            desired: self.service.desired,
            limits: rules::limits(&self.service.service),
            settle_ms: pace.settle_ms,
            grace_ms: i64::from(grace.unwrap_or(0)) * 1000,
            can_start: !is_failed && retry_at.is_none_or(|at| at <= self.now),
            can_replace: !is_failed,
            zones,
            victims: self.victims,
            now: self.now,
        }
    }

    /// The zones that tasks can be balanced over.
    fn zones(&self) -> BTreeSet<String> {
        let service = &self.service.service;
        let rebalances = service.availability_zone_rebalancing
            == Some(AvailabilityZoneRebalancing::Enabled);
        let Some(revision) = self.revision.as_ref().filter(|_| rebalances)
        else {
            return BTreeSet::new();
        };
        let subnets = subnet_zones(self.rows, self.service, &revision.revision);
        if runs_on_fargate(&revision.revision) {
            return subnets.unwrap_or_default();
        }
        let mut zones: BTreeSet<String> = self
            .instances()
            .iter()
            .filter(|(row, host)| row.status == "ACTIVE" && host.is_connected)
            .filter_map(|(_, host)| {
                host.attributes.get(placement::ZONE_ATTRIBUTE)?.clone()
            })
            .collect();
        if let Some(subnets) = subnets {
            zones.retain(|zone| subnets.contains(zone));
        }
        zones
    }

    fn instances(&self) -> Vec<(Arc<ContainerInstance>, Arc<Host>)> {
        let Service { account, region, cluster, .. } = self.service;
        let within = Key::of([account, region, cluster]);
        let rows = self.rows.rows::<ContainerInstance>(&within);
        rows.into_iter()
            .filter_map(|row| {
                let key = Host::key_of(&row.account, &row.region, &row.host);
                Some((row, self.rows.row::<Host>(&key)?))
            })
            .collect()
    }

    /// The places where a daemon has, or should have, a task.
    fn posts(&self) -> Vec<Post> {
        let Some(revision) = &self.revision else { return vec![] };
        let Service { account, region, .. } = self.service;
        let key = TaskDefinition::key_of(
            account,
            region,
            &revision.family,
            revision.task_revision,
        );
        let Some(definition) = self.rows.row::<TaskDefinition>(&key) else {
            return vec![];
        };
        let demand =
            minato_core::task_definition::demand(&definition.definition);
        let mut request =
            placement::Request::of(&demand, 1, &self.service.group());
        let of_definition =
            definition.definition.placement_constraints.as_deref();
        let of_service = self.service.service.placement_constraints.as_deref();
        // They were checked when the service was created.
        request.constraints = placement::constraints(
            of_definition.unwrap_or_default(),
            of_service.unwrap_or_default(),
        )
        .unwrap_or_default();
        let instances = self.instances();
        instances.iter().map(|one| self.post(one, &request)).collect()
    }

    fn post(
        &self,
        (row, host): &(Arc<ContainerInstance>, Arc<Host>),
        request: &placement::Request,
    ) -> Post {
        let tasks = self.rows.tasks_on(&row.account, &row.region, &host.id);
        let ours = self.service.group();
        let mut groups = BTreeMap::new();
        for task in &tasks {
            let group = task.task.group.clone().unwrap_or_default();
            *groups.entry(group).or_insert(0) += 1;
        }
        let has_others = tasks.iter().any(|task| {
            task.cluster == row.cluster
                && task.task.group.as_ref() != Some(&ours)
                && task.service.is_some()
                && task.should_run()
        });
        let candidate = Candidate {
            arn: row.arn(),
            host: 0,
            agent_connected: host.is_connected,
            agent_version: row
                .version_info
                .as_ref()
                .and_then(|info| info.agent_version.clone()),
            ec2_instance_id: Some(row.ec2_instance_id.clone()),
            registered_at: row.registered_at,
            attributes: Arc::new(place::attributes(
                host,
                &row.custom_attributes,
            )),
            running_tasks: i64::try_from(tasks.len()).unwrap_or(i64::MAX),
            groups,
        };
        Post {
            place: row.arn(),
            is_manned: row.status == "ACTIVE"
                && placement::is_eligible(&candidate, request),
            has_others,
        }
    }
}

/// Whether a revision's tasks run on Fargate, by launch type or strategy.
pub(super) fn runs_on_fargate(revision: &ecs::ServiceRevision) -> bool {
    let by_strategy =
        revision.capacity_provider_strategy.iter().flatten().any(|item| {
            is_fargate(item.capacity_provider.as_deref().unwrap_or_default())
        });
    revision.launch_type == Some(LaunchType::Fargate) || by_strategy
}

/// The zones of a revision's subnets; `None` where it names none.
pub(super) fn subnet_zones(
    rows: &impl ReadIndex,
    service: &Service,
    revision: &ecs::ServiceRevision,
) -> Option<BTreeSet<String>> {
    let awsvpc = revision.network_configuration.as_ref()?;
    let subnets = awsvpc.awsvpc_configuration.as_ref()?.subnets.as_ref()?;
    let within = namespace(&service.account, &service.region);
    let rows =
        subnets.iter().filter_map(|id| rows.row::<SubnetRow>(&within.with(id)));
    Some(rows.map(|subnet| subnet.zone.clone()).collect())
}

/// The key of a task of a service.
pub(super) fn task_key(service: &Service, id: &str) -> Key {
    let Service { account, region, cluster, .. } = service;
    Task::key_of(account, region, cluster, id)
}

/// Keys of the services of a region or, with `cluster`, of one cluster.
pub(super) fn keys_within(rows: &impl ReadIndex, within: &Key) -> Vec<Key> {
    rows.rows::<Service>(within)
        .iter()
        .filter(|row| row.status != ServiceStatus::Inactive)
        .map(|row| row.key())
        .collect()
}
