//! Makes the rows of new tasks.

use minato_core::id::{AttachmentId, ContainerId, TaskId};
use minato_core::launch_volume::{LaunchVolume, XFS_ATTRIBUTE};
use minato_core::overrides;
use minato_core::status::{DesiredStatus, TaskStatus};
use minato_core::task_definition::{self, Demand};
use minato_wire::ecs::{
    self, Attachment, Attribute, Connectivity, Container, EphemeralStorage,
    KeyValuePair, LaunchType, ManagedAgent, ManagedAgentName, NetworkMode,
    TaskEphemeralStorage, TaskOverride,
};

use super::subnets::Subnets;
use super::volumes;
use crate::context::Scope;
use crate::services::ec2::eni::hex_id;
use crate::services::ecs_arn;
use crate::tables::{
    Cluster, Host, Needs, OfService, OfVolume, Task, TaskDefinition,
};

/// The disk a Fargate task has where nothing else is said, in GiB (developer
/// guide, "Fargate task ephemeral storage").
const FARGATE_DISK_GIB: i32 = 20;
/// What `LATEST` stands for on Linux (developer guide, platform versions).
pub(crate) const PLATFORM_VERSION: &str = "1.4.0";

/// The type of a network interface's attachment.
pub(crate) const ENI_ATTACHMENT: &str = "ElasticNetworkInterface";

/// What a host's agent has that can run commands in containers (ECS Exec).
pub(crate) const EXEC_ATTRIBUTE: &str = "ecs.capability.execute-command";

/// What all tasks of one call have in common.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    pub(crate) launch_type: LaunchType,
    /// Each task's capacity provider, where a strategy decides.
    pub(crate) providers: Vec<String>,
    pub(crate) group: Option<String>,
    pub(crate) started_by: Option<String>,
    pub(crate) tags: Vec<ecs::Tag>,
    pub(crate) overrides: Option<TaskOverride>,
    pub(crate) subnets: Subnets,
    pub(crate) security_groups: Vec<String>,
    /// Whether they get IPv6 addresses where their subnets give some: the
    /// caller's account setting `dualStackIPv6`.
    pub(crate) dual_stack: bool,
    /// The service that starts them, if one does.
    pub(crate) service: Option<OfService>,
    /// Whether `enableExecuteCommand` was asked for.
    pub(crate) can_exec: bool,
    /// The volume that each of them gets.
    pub(crate) volume: Option<LaunchVolume>,
}

/// Where one task goes, and the numbers its ids are made of.
pub(crate) struct Spot<'a> {
    pub(crate) capacity_provider: Option<String>,
    pub(crate) host: &'a Host,
    /// For EC2 tasks, the host's registration in the cluster.
    pub(crate) instance_arn: Option<String>,
    pub(crate) zone: Option<String>,
    /// The subnets that its interface may be in, the best first.
    pub(crate) subnets: Vec<String>,
    /// One more than the task has containers: task, containers, attachment.
    pub(crate) ids: Vec<u128>,
}

/// The row of a new task.
#[expect(
    clippy::too_many_lines,
    reason = "one member after the other of one large shape"
)]
pub(crate) fn task(
    scope: &Scope,
    cluster: &Cluster,
    row: &TaskDefinition,
    demand: &Demand,
    launch: &Launch,
    spot: Spot<'_>,
) -> Task {
    let definition = &row.definition;
    let mut ids = spot.ids.iter().copied();
    let mut next = move || ids.next().unwrap_or_default();
    let id = TaskId::new(next()).to_string();
    let number = next();
    let attachment = AttachmentId::new(number);
    let volume = launch.volume.as_ref().map(|volume| OfVolume {
        id: hex_id("vol", number),
        // As random as the interface's, and another one.
        attachment_id: AttachmentId::new(!number).dashed(),
        volume: volume.clone(),
    });
    let (region, account) = (&scope.region, &scope.account);
    let arn = ecs_arn(region, account, &format!("task/{}/{id}", cluster.name));
    let is_fargate = launch.launch_type == LaunchType::Fargate;
    let is_awsvpc = definition.network_mode == Some(NetworkMode::Awsvpc);
    let status = if is_awsvpc || volume.is_some() {
        TaskStatus::Provisioning
    } else {
        TaskStatus::Pending
    };
    let interface =
        is_awsvpc.then(|| eni_attachment(attachment, spot.subnets.first()));
    let effective =
        overrides::containers(definition, launch.overrides.as_ref());
    let containers = effective
        .iter()
        .map(|one| {
            container(scope, cluster, &id, &arn, one, ContainerId::new(next()))
        })
        .map(|one| Container {
            managed_agents: launch.can_exec.then(|| vec![exec_agent()]),
            ..one
        })
        .collect();
    let task = ecs::Task {
        attachments: Some(
            interface
                .into_iter()
                .chain(volume.as_ref().map(volumes::attachment))
                .collect(),
        ),
        attributes: Some(vec![Attribute {
            name: Some("ecs.cpu-architecture".to_owned()),
            value: architecture(spot.host),
            ..Default::default()
        }]),
        availability_zone: spot.zone,
        capacity_provider_name: spot.capacity_provider,
        cluster_arn: Some(cluster.arn()),
        connectivity: Some(Connectivity::Connected),
        connectivity_at: Some(scope.now),
        container_instance_arn: spot.instance_arn,
        containers: Some(containers),
        cpu: Some(demand.cpu_units.to_string()),
        memory: Some(demand.memory_mib.to_string()),
        created_at: Some(scope.now),
        desired_status: Some(DesiredStatus::Running.to_string()),
        enable_execute_command: Some(launch.can_exec),
        group: launch
            .group
            .clone()
            .or_else(|| Some(format!("family:{}", row.family))),
        health_status: Some(ecs::HealthStatus::Unknown),
        inference_accelerators: Some(vec![]),
        last_status: Some(status.to_string()),
        launch_type: Some(launch.launch_type),
        overrides: Some(overrides::echo(definition, launch.overrides.clone())),
        platform_version: is_fargate.then(|| PLATFORM_VERSION.to_owned()),
        platform_family: is_fargate.then(|| "Linux".to_owned()),
        started_by: launch.started_by.clone(),
        tags: Some(launch.tags.clone()),
        task_arn: Some(arn),
        task_definition_arn: definition.task_definition_arn.clone(),
        version: Some(1),
        ephemeral_storage: is_fargate.then(|| disk(definition, launch)),
        fargate_ephemeral_storage: is_fargate.then(|| TaskEphemeralStorage {
            size_in_gi_b: disk(definition, launch).size_in_gi_b,
            ..Default::default()
        }),
        ..Default::default()
    };
    Task {
        account: scope.account.clone(),
        region: scope.region.clone(),
        cluster: cluster.name.clone(),
        id,
        host: spot.host.id.clone(),
        task,
        family: row.family.clone(),
        revision: row.revision,
        needs: needs(demand),
        subnets: spot.subnets,
        security_groups: launch.security_groups.clone(),
        network_interface: None,
        dual_stack: launch.dual_stack,
        volume,
        service: launch.service.clone(),
    }
}

/// What a task takes from a host, and what the host must have beside what the
/// definition requires: for its volume, and for ECS Exec.
pub(crate) fn demand(
    definition: &ecs::TaskDefinition,
    volume: Option<&LaunchVolume>,
    can_exec: bool,
) -> Demand {
    let mut demand = task_definition::demand(definition);
    if volume.is_some_and(|volume| volume.file_system == "xfs") {
        demand.attributes.push(XFS_ATTRIBUTE.to_owned());
    }
    if can_exec {
        demand.attributes.push(EXEC_ATTRIBUTE.to_owned());
    }
    demand
}

/// What a task takes off its host's ledger.
pub(super) fn needs(demand: &Demand) -> Needs {
    Needs {
        cpu: i64::from(demand.cpu_units),
        memory_mib: i64::from(demand.memory_mib),
        ports: demand.tcp_ports.iter().copied().collect(),
        ports_udp: demand.udp_ports.iter().copied().collect(),
        gpus: demand.gpus,
        enis: demand.enis,
    }
}

fn disk(definition: &ecs::TaskDefinition, launch: &Launch) -> EphemeralStorage {
    let overridden = launch
        .overrides
        .as_ref()
        .and_then(|change| change.ephemeral_storage.as_ref());
    let given = overridden.or(definition.ephemeral_storage.as_ref());
    EphemeralStorage {
        size_in_gi_b: given
            .and_then(|disk| disk.size_in_gi_b)
            .or(Some(FARGATE_DISK_GIB)),
    }
}

fn architecture(host: &Host) -> Option<String> {
    host.attributes.get("ecs.cpu-architecture").cloned().flatten()
}

fn eni_attachment(id: AttachmentId, subnet: Option<&String>) -> Attachment {
    Attachment {
        id: Some(id.dashed()),
        r#type: Some(ENI_ATTACHMENT.to_owned()),
        status: Some("PRECREATED".to_owned()),
        details: Some(vec![KeyValuePair {
            name: Some("subnetId".to_owned()),
            value: subnet.cloned(),
        }]),
    }
}

/// What ECS Exec goes through, before the container runs.
fn exec_agent() -> ManagedAgent {
    ManagedAgent {
        name: Some(ManagedAgentName::ExecuteCommandAgent),
        last_status: Some(TaskStatus::Pending.to_string()),
        ..Default::default()
    }
}

fn container(
    scope: &Scope,
    cluster: &Cluster,
    task_id: &str,
    task_arn: &str,
    definition: &ecs::ContainerDefinition,
    id: ContainerId,
) -> Container {
    Container {
        container_arn: Some(ecs_arn(
            &scope.region,
            &scope.account,
            &format!("container/{}/{task_id}/{}", cluster.name, id.dashed()),
        )),
        task_arn: Some(task_arn.to_owned()),
        name: definition.name.clone(),
        image: definition.image.clone(),
        last_status: Some(TaskStatus::Pending.to_string()),
        network_interfaces: Some(vec![]),
        health_status: definition
            .health_check
            .is_some()
            .then_some(ecs::HealthStatus::Unknown),
        cpu: Some(definition.cpu.unwrap_or(0).to_string()),
        memory: definition.memory.map(|mib| mib.to_string()),
        memory_reservation: definition
            .memory_reservation
            .map(|mib| mib.to_string()),
        ..Default::default()
    }
}
