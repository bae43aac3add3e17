//! Services over a store of their own, with an agent that does as the test
//! says.

use minato_core::env::Clock;
use minato_core::service::Pace;
use minato_core::status::ServiceDeploymentStatus;
use minato_wire::ecs::{
    Compatibility, ContainerDefinition, CreateClusterRequest,
    CreateServiceRequest, DeploymentCircuitBreaker, DeploymentConfiguration,
    HealthCheck, NetworkMode, RegisterTaskDefinitionRequest,
    UpdateServiceRequest,
};

use super::super::*;
use crate::services::ecs::services::{create_service, update_service};
use crate::services::ecs::tasks::report::{Report, apply};
use crate::services::ecs::{clusters, task_definitions};
use crate::tables::{ServiceDeployment, ServiceEvent, namespace};
use crate::testing::{ACCOUNT, REGION, TestBed, instance};

pub(super) struct Play {
    pub(super) bed: TestBed,
    pub(super) rosters: Arc<Rosters>,
}

impl Play {
    /// A cluster with `hosts` container instances.
    pub(super) async fn new(hosts: usize) -> Play {
        Play::at_pace(hosts, Pace::FAST).await
    }

    /// The same with a patience of its own.
    pub(super) async fn at_pace(hosts: usize, pace: Pace) -> Play {
        let mut play = Play { bed: TestBed::new(), rosters: Arc::default() };
        // Nobody else has the context yet.
        Arc::get_mut(&mut play.bed.cx).unwrap().config.pace = pace;
        let (cx, scope) = (&play.bed.cx, play.bed.scope());
        let input = CreateClusterRequest::default();
        clusters::create_cluster(cx, &scope, input).await.unwrap();
        for number in 0..hosts {
            play.add_host(number).await;
        }
        play
    }

    pub(super) async fn add_host(&self, number: usize) {
        let registered_at = self.bed.clock.now();
        let zone = ["us-east-1a", "us-east-1b"][number % 2];
        let (mut host, row) = instance(number, zone);
        let offered = [
            "ecs.capability.container-health-check",
            "com.amazonaws.ecs.capability.docker-remote-api.1.24",
        ];
        let offered = offered.map(|name| (name.to_owned(), None));
        host.attributes.extend(offered);
        let put = self.bed.cx.transact(move |tx| {
            tx.put(Host { memory_mib: 1000, ..host });
            tx.put(ContainerInstance { registered_at, ..row });
            Ok(())
        });
        put.await.unwrap();
    }

    pub(super) async fn define(
        &self,
        family: &str,
        memory: i32,
        checked: bool,
    ) {
        let command = checked.then_some(&["CMD", "true"][..]);
        self.define_checked(family, memory, command).await;
    }

    /// The same with the command of a health check.
    pub(super) async fn define_checked(
        &self,
        family: &str,
        memory: i32,
        command: Option<&[&str]>,
    ) {
        let check = |command: &[&str]| HealthCheck {
            command: Some(command.iter().map(|it| (*it).into()).collect()),
            ..Default::default()
        };
        let container = ContainerDefinition {
            name: Some("app".into()),
            image: Some("busybox".into()),
            memory: Some(memory),
            health_check: command.map(check),
            ..Default::default()
        };
        let input = RegisterTaskDefinitionRequest {
            family: Some(family.into()),
            container_definitions: Some(vec![container]),
            ..Default::default()
        };
        let (cx, scope) = (&self.bed.cx, self.bed.scope());
        task_definitions::register_task_definition(cx, &scope, input)
            .await
            .unwrap();
    }

    /// Defines `web` with a task role, and has the hosts offer what it needs.
    pub(super) async fn define_with_role(&self) {
        let container = ContainerDefinition {
            name: Some("app".into()),
            image: Some("busybox".into()),
            memory: Some(50),
            ..Default::default()
        };
        self.define_offered(RegisterTaskDefinitionRequest {
            family: Some("web".into()),
            task_role_arn: Some("arn:aws:iam::000000000000:role/task".into()),
            container_definitions: Some(vec![container]),
            ..Default::default()
        })
        .await;
    }

    /// Defines `web` with an address of its own, for EC2 and Fargate, and has
    /// the hosts offer what it needs.
    pub(super) async fn define_awsvpc(&self) {
        let container = ContainerDefinition {
            name: Some("app".into()),
            image: Some("busybox".into()),
            ..Default::default()
        };
        let both = vec![Compatibility::Ec2, Compatibility::Fargate];
        self.define_offered(RegisterTaskDefinitionRequest {
            family: Some("web".into()),
            network_mode: Some(NetworkMode::Awsvpc),
            requires_compatibilities: Some(both),
            cpu: Some("256".into()),
            memory: Some("512".into()),
            container_definitions: Some(vec![container]),
            ..Default::default()
        })
        .await;
    }

    /// Defines it and has the hosts offer what it needs.
    async fn define_offered(&self, input: RegisterTaskDefinitionRequest) {
        let (cx, scope) = (&self.bed.cx, self.bed.scope());
        let register = task_definitions::register_task_definition;
        let registered = register(cx, &scope, input).await.unwrap();
        let needed = registered.task_definition.unwrap().requires_attributes;
        let needed = needed.into_iter().flatten().filter_map(|one| one.name);
        let needed: Vec<String> = needed.collect();
        let put = cx.transact(move |tx| -> Result<(), ApiError> {
            let hosts: Vec<_> = tx.scan::<Host>(&Key::root()).collect();
            for host in hosts {
                let mut host = Host { memory_mib: 8192, ..(*host).clone() };
                let needed = needed.iter().map(|name| (name.clone(), None));
                host.attributes.extend(needed);
                tx.put(host);
            }
            Ok(())
        });
        put.await.unwrap();
    }

    pub(super) async fn create(&self, input: CreateServiceRequest) {
        let (cx, scope) = (&self.bed.cx, self.bed.scope());
        create_service(cx, &scope, input).await.unwrap();
        self.settle().await;
    }

    pub(super) async fn update(&self, input: UpdateServiceRequest) {
        let input =
            UpdateServiceRequest { service: Some("web".into()), ..input };
        let (cx, scope) = (&self.bed.cx, self.bed.scope());
        update_service(cx, &scope, input).await.unwrap();
        self.settle().await;
    }

    pub(super) fn key(&self) -> Key {
        Service::key_of(ACCOUNT, REGION, "default", "web")
    }

    pub(super) fn service(&self) -> Arc<Service> {
        self.bed.cx.snapshot().get(&self.key()).unwrap()
    }

    /// Has the scheduler look once.
    pub(super) async fn see_to(&self, key: Key) {
        let rosters = Arc::clone(&self.rosters);
        see_to(Arc::clone(&self.bed.cx), rosters, key).await;
    }

    /// Has the scheduler look until it finds nothing to do.
    pub(super) async fn settle(&self) {
        for _ in 0..50 {
            let before = self.bed.cx.snapshot().revision();
            self.see_to(self.key()).await;
            if self.bed.cx.snapshot().revision() == before {
                return;
            }
        }
        panic!("the scheduler does not come to rest: {:?}", self.service());
    }

    pub(super) fn tasks(&self) -> Vec<Arc<Task>> {
        let rows = self.bed.cx.snapshot();
        rows.scan::<Task>(&namespace(ACCOUNT, REGION)).collect()
    }

    pub(super) fn live(&self) -> Vec<Arc<Task>> {
        self.tasks().into_iter().filter(|task| task.should_run()).collect()
    }

    pub(super) fn count(&self, status: &str) -> usize {
        let tasks = self.live();
        tasks.iter().filter(|task| task.last_status() == status).count()
    }

    pub(super) async fn change(
        &self,
        which: &Task,
        change: impl FnOnce(&mut Task),
    ) {
        let mut row = which.clone();
        change(&mut row);
        let put = self.bed.cx.transact(move |tx| {
            tx.put(row);
            Ok(())
        });
        put.await.unwrap();
    }

    pub(super) async fn report(&self, which: &Task, report: Report) {
        let now = self.bed.clock.now();
        self.change(which, |row| {
            apply(row, report, |_| true, now);
        })
        .await;
    }

    /// Every pending task comes up; every stopping one ends.
    pub(super) async fn agent(&self) {
        self.agents_only().await;
        self.settle().await;
    }

    /// The same, before anybody looks.
    pub(super) async fn agents_only(&self) {
        for task in self.tasks() {
            let status = match task.last_status() {
                "PENDING" => "RUNNING",
                "STOPPING" => "STOPPED",
                _ => continue,
            };
            let status = Some(status.to_owned());
            self.report(&task, Report { status, ..Report::default() }).await;
        }
    }

    /// A task cannot be started.
    pub(super) async fn fail(&self, task: &Task) {
        let report = Report {
            status: Some("STOPPED".into()),
            reason: Some("CannotPullContainerError".into()),
            ..Report::default()
        };
        self.report(task, report).await;
    }

    /// Every pending task fails.
    pub(super) async fn fail_all(&self) {
        for task in self.tasks() {
            if task.last_status() == "PENDING" {
                self.fail(&task).await;
            }
        }
        self.settle().await;
    }

    pub(super) fn events(&self) -> Vec<String> {
        let rows = self.bed.cx.snapshot();
        let events = rows.scan::<ServiceEvent>(&self.service().owner().key());
        events.map(|row| row.event.message.clone().unwrap()).collect()
    }

    pub(super) fn has_event(&self, part: &str) -> bool {
        self.events().iter().any(|event| event.contains(part))
    }

    pub(super) fn deployment_status(&self) -> ServiceDeploymentStatus {
        let service = self.service();
        let id = service.service_deployment.clone().unwrap();
        let key = service.owner().key().with(&id);
        let rows = self.bed.cx.snapshot();
        rows.get::<ServiceDeployment>(&key).unwrap().status
    }
}

pub(super) fn web(count: i32) -> CreateServiceRequest {
    CreateServiceRequest {
        service_name: Some("web".into()),
        task_definition: Some("web".into()),
        desired_count: Some(count),
        ..Default::default()
    }
}

pub(super) fn breaker(rollback: bool) -> DeploymentConfiguration {
    DeploymentConfiguration {
        deployment_circuit_breaker: Some(DeploymentCircuitBreaker {
            enable: Some(true),
            rollback: Some(rollback),
        }),
        ..Default::default()
    }
}
