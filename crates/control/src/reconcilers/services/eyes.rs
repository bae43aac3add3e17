//! The facts behind a look: what the scheduler has to know of a service's
//! tasks, instances and zones.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use minato_core::capacity::{self, is_fargate};
use minato_core::launch_volume::{self, LaunchVolume};
use minato_core::placement;
use minato_core::service::{
    Health, Member, Pace, Phase, Post, Target, VictimOrder, rules,
};
use minato_core::status::{RolloutState, TaskStatus};
use minato_core::task_definition::has_health_check;
use minato_store::Key;
use minato_wire::Timestamp;
use minato_wire::ecs::{
    self, AvailabilityZoneRebalancing, HealthStatus, LaunchType,
    PlacementStrategyType,
};

use crate::services::ecs::tasks::subnets::Subnets;
use crate::services::ecs::tasks::{launch, place};
use crate::services::ecs::view::ReadIndex;
use crate::tables::{
    ContainerInstance, DAEMON_PREFIX, Host, Service, ServiceRevision, Task,
    TaskDefinition, namespace,
};

/// What is looked up once for all tasks of a service.
pub(super) struct Eyes<'a, R: ReadIndex> {
    rows: &'a R,
    service: &'a Service,
    now: Timestamp,
    revision: Option<Arc<ServiceRevision>>,
    victims: VictimOrder,
    packs_cpu: bool,
    known: RefCell<Known>,
}

#[derive(Default)]
struct Known {
    /// Families and revisions, and whether they have health checks; few.
    checks: Vec<(String, u32, bool)>,
    /// The container instances that take no tasks any more.
    leaving: Option<BTreeSet<String>>,
    /// Hosts of tasks without a container instance, and whether they are gone.
    gone: BTreeMap<String, bool>,
    free: BTreeMap<String, i64>,
}

impl<'a, R: ReadIndex> Eyes<'a, R> {
    pub(super) fn new(
        rows: &'a R,
        service: &'a Service,
        now: Timestamp,
    ) -> Self {
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
            known: RefCell::default(),
        }
    }

    /// Whether tasks of others, on the same hosts, matter to the service.
    pub(super) fn minds_others(&self) -> bool {
        self.service.is_daemon() || self.victims == VictimOrder::Binpack
    }

    pub(super) fn member(&self, row: &Task) -> Member {
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
        let place = row.task.container_instance_arn.clone();
        Member {
            id: row.id.clone(),
            // One of no deployment that is left is older than all.
            age: age
                .and_then(|age| u32::try_from(age).ok())
                .unwrap_or(u32::MAX),
            phase,
            health: self.health(row),
            protected_until: of.and_then(|of| of.protected_until),
            is_displaced: self.is_displaced(row),
            zone: row.task.availability_zone.as_deref().map(Arc::from),
            place: place.unwrap_or_else(|| row.host.clone()),
            place_free: self.free(row),
            provider: row.task.capacity_provider_name.clone(),
            created_at: row.task.created_at.unwrap_or(self.now),
        }
    }

    fn health(&self, row: &Task) -> Health {
        if !self.has_checks(row) {
            return Health::Unchecked;
        }
        match row.task.health_status {
            Some(HealthStatus::Healthy) => Health::Healthy,
            Some(HealthStatus::Unhealthy) => Health::Unhealthy,
            Some(HealthStatus::Unknown) | None => Health::Unknown,
        }
    }

    /// Whether an essential container of the task has a health check.
    fn has_checks(&self, row: &Task) -> bool {
        let mut known = self.known.borrow_mut();
        let found = known.checks.iter().find(|(family, revision, _)| {
            *revision == row.revision && *family == row.family
        });
        if let Some((_, _, has_checks)) = found {
            return *has_checks;
        }
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
        let has_checks = containers.into_iter().flatten().any(|container| {
            container.essential.unwrap_or(true) && has_health_check(container)
        });
        known.checks.push((row.family.clone(), row.revision, has_checks));
        has_checks
    }

    /// Whether the task's container instance takes no tasks any more, or its
    /// host is gone. A deregistered instance has no tasks that should run.
    fn is_displaced(&self, row: &Task) -> bool {
        let mut known = self.known.borrow_mut();
        if let Some(arn) = &row.task.container_instance_arn {
            let leaving = known.leaving.get_or_insert_with(|| self.leaving());
            return leaving.contains(arn);
        }
        if let Some(is_gone) = known.gone.get(&row.host) {
            return *is_gone;
        }
        let host = Host::key_of(&row.account, &row.region, &row.host);
        let is_gone = self.rows.row::<Host>(&host).is_none();
        known.gone.insert(row.host.clone(), is_gone);
        is_gone
    }

    fn leaving(&self) -> BTreeSet<String> {
        let Service { account, region, cluster, .. } = self.service;
        let within = Key::of([account, region, cluster]);
        let leaving =
            self.rows.indexed::<ContainerInstance>("leaving", &within);
        leaving.iter().map(|row| row.arn()).collect()
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

    pub(super) fn target(&self, pace: Pace, zones: BTreeSet<String>) -> Target {
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
            shares: self.shares(),
            now: self.now,
        }
    }

    /// How many tasks each capacity provider should have.
    fn shares(&self) -> BTreeMap<String, u32> {
        let revision = self.revision.as_ref().map(|row| &row.revision);
        let items = revision.and_then(|revision| {
            revision.capacity_provider_strategy.as_deref()
        });
        let shares = capacity::shares(items.unwrap_or_default());
        let parts = capacity::distribute(&shares, self.service.desired);
        let names = shares.into_iter().map(|share| share.provider);
        names.zip(parts).collect()
    }

    /// The zones that tasks can be balanced over.
    pub(super) fn zones(&self) -> BTreeSet<String> {
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
        let mut zones = self.zones_of_instances(&revision.revision);
        if let Some(subnets) = subnets {
            zones.retain(|zone| subnets.contains(zone));
        }
        zones
    }

    /// The zones in which an instance that may get tasks is connected.
    fn zones_of_instances(
        &self,
        revision: &ecs::ServiceRevision,
    ) -> BTreeSet<String> {
        let items = revision.capacity_provider_strategy.as_deref();
        let shares = capacity::shares(items.unwrap_or_default());
        let is_offered = |row: &ContainerInstance| {
            let mut providers = shares.iter().map(|share| &share.provider);
            shares.is_empty()
                || providers
                    .any(|it| row.capacity_provider.as_ref() == Some(it))
        };
        let is_connected = |row: &ContainerInstance| {
            let key = Host::key_of(&row.account, &row.region, &row.host);
            self.rows.row::<Host>(&key).is_some_and(|host| host.is_connected)
        };
        let Service { account, region, cluster, .. } = self.service;
        let within = Key::of([account, region, cluster]);
        // The first that will do tells of its zone; one that names no zone is
        // in all of them, so none of its own.
        let zones = self.rows.index_keys::<ContainerInstance>("zone", &within);
        let zones = zones.iter().filter_map(|zone| {
            let mut rows =
                self.rows.each_indexed::<ContainerInstance>("zone", zone);
            let found = rows.find(|row| is_offered(row) && is_connected(row));
            found?.zone().map(str::to_owned)
        });
        zones.collect()
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
    pub(super) fn posts(&self) -> Vec<Post> {
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
        // It was checked when the revision was made.
        let volume = volume(&revision.revision, &definition).flatten();
        let demand = launch::demand(
            &definition.definition,
            volume.as_ref(),
            self.service.service.enable_execute_command == Some(true),
        );
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
        // Where there is no subnet there is no task.
        request.zones =
            subnet_zones(self.rows, self.service, &revision.revision);
        let instances = self.instances();
        let posts = instances.iter().map(|one| {
            let post = self.post(one, &request);
            // A managed daemon is on the instances of its providers only.
            let is_manned = post.is_manned && self.is_of_provider(&one.0);
            Post { is_manned, ..post }
        });
        posts.collect()
    }

    /// Whether an instance is of the service's capacity providers, if it names
    /// any.
    fn is_of_provider(&self, row: &ContainerInstance) -> bool {
        let items = self.service.service.capacity_provider_strategy.as_deref();
        let items = items.unwrap_or_default();
        items.is_empty()
            || items.iter().any(|item| {
                item.capacity_provider.is_some()
                    && item.capacity_provider == row.capacity_provider
            })
    }

    /// Whether a task is of a service that places its tasks where it likes.
    /// Daemons do not wait for each other.
    fn is_of_replicas(&self, task: &Task) -> bool {
        let Some(part) = &task.service else { return false };
        let within = namespace(&task.account, &task.region);
        let key = within.with(&task.cluster).with(&part.name);
        let is_daemon = part.name.starts_with(DAEMON_PREFIX)
            || self.rows.row::<Service>(&key).is_some_and(|it| it.is_daemon());
        !is_daemon
    }

    fn post(
        &self,
        (row, host): &(Arc<ContainerInstance>, Arc<Host>),
        request: &placement::Request,
    ) -> Post {
        let tasks = self.rows.tasks_on(&row.account, &row.region, &host.id);
        let ours = self.service.group();
        let groups = tasks
            .iter()
            .map(|task| task.task.group.as_deref().unwrap_or_default())
            .collect();
        // Fargate's tasks, which only share the host, do not leave with it.
        let arn = row.arn();
        let has_others = tasks.iter().any(|task| {
            task.task.container_instance_arn.as_ref() == Some(&arn)
                && task.task.group.as_ref() != Some(&ours)
                && task.should_run()
                && self.is_of_replicas(task)
        });
        let candidate = place::candidate(row, host, 0, groups);
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

/// The volume of each of a revision's tasks, if they have one; `None` where
/// its configuration does not fit the definition.
pub(super) fn volume(
    revision: &ecs::ServiceRevision,
    definition: &TaskDefinition,
) -> Option<Option<LaunchVolume>> {
    let given = revision.volume_configurations.as_deref().unwrap_or_default();
    let is_fargate = runs_on_fargate(revision);
    launch_volume::of_service(&definition.definition, given, is_fargate).ok()
}

/// The zones of a revision's subnets; `None` where it names none.
pub(super) fn subnet_zones(
    rows: &impl ReadIndex,
    service: &Service,
    revision: &ecs::ServiceRevision,
) -> Option<BTreeSet<String>> {
    let awsvpc = revision.network_configuration.as_ref()?;
    let ids = awsvpc.awsvpc_configuration.as_ref()?.subnets.as_ref()?;
    let Service { account, region, .. } = service;
    Some(Subnets::read(rows, account, region, ids).zones())
}
