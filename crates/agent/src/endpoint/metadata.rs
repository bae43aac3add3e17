//! What a task may know of itself, in the forms of versions 3 and 4.

use bytes::Bytes;
use http::{Response, StatusCode};
use minato_wire::Timestamp;
use minato_wire::ecs::{
    ListTagsForResourceRequest, ListTagsForResourceResponse,
};
use serde_json::{Map, Value, json};

use super::{Asker, Endpoint, not_found, respond};
use crate::api::{ApiCallError, ApiService, call};
use crate::config::AgentConfig;
use crate::steps::labels;
use crate::task::decode::MIB;
use crate::task::plan::{
    ContainerPlan, DockerVolumePlan, InterfaceIpv6, InterfacePlan, LogPlan,
    NetworkPlan, TaskPlan, VolumePlan, VolumeScope,
};
use crate::task::record::{ContainerRecord, TaskRecord};
use crate::task::status::TaskStatus;

type Object = Map<String, Value>;

impl Endpoint {
    pub(super) async fn answer_metadata(
        &self,
        version: u8,
        asker: &Asker,
        rest: &str,
    ) -> Response<Bytes> {
        let body = match rest {
            "" => asker.container().map(|(plan, record)| {
                container_body(version, &asker.plan, plan, record, asker)
            }),
            "task" => Some(self.task_body(version, asker)),
            "taskWithTags" => {
                let mut body = self.task_body(version, asker);
                self.add_tags(&mut body, asker).await;
                Some(body)
            }
            "stats" => {
                let stats = self.container_stats(&asker.plan, &asker.name);
                return respond(StatusCode::OK, &stats.await);
            }
            "task/stats" => {
                let stats = self.task_stats(&asker.plan).await;
                return respond(StatusCode::OK, &stats);
            }
            _ => None,
        };
        match body {
            Some(body) => respond(StatusCode::OK, &Value::Object(body)),
            None => not_found(&format!("/v{version}/<token>/{rest}")),
        }
    }

    fn task_body(&self, version: u8, asker: &Asker) -> Object {
        task_body(version, &self.services.config, asker)
    }

    /// Tags of the task and of the host; what cannot be had is an error in
    /// the answer, as upstream's.
    async fn add_tags(&self, body: &mut Object, asker: &Asker) {
        let instance = self.container_instance_arn.get();
        let wanted = [
            ("ContainerInstanceTags", instance.map(String::as_str)),
            ("TaskTags", Some(asker.task.arn.as_str())),
        ];
        let mut errors = vec![];
        for (key, arn) in wanted {
            let Some(arn) = arn else { continue };
            match self.tags(arn).await {
                Ok(tags) if tags.is_empty() => {}
                Ok(tags) => put(body, key, Some(tags)),
                Err(error) => errors.push(json!({
                    "ErrorField": key,
                    "ErrorCode": error.code.unwrap_or_default(),
                    "ErrorMessage": error.message,
                    "ResourceARN": arn,
                })),
            }
        }
        if !errors.is_empty() {
            put(body, "Errors", Some(errors));
        }
    }

    async fn tags(&self, arn: &str) -> Result<Object, ApiCallError> {
        let services = &self.services;
        let input =
            ListTagsForResourceRequest { resource_arn: Some(arn.to_owned()) };
        let output: ListTagsForResourceResponse = call(
            &*services.api,
            ApiService::Ecs,
            &services.config.region,
            "ListTagsForResource",
            &input,
        )
        .await?;
        let tags = output.tags.unwrap_or_default().into_iter();
        Ok(tags
            .filter_map(|tag| {
                Some((tag.key?, tag.value.unwrap_or_default().into()))
            })
            .collect())
    }
}

/// Adds what there is.
fn put(object: &mut Object, key: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        object.insert(key.to_owned(), value.into());
    }
}

fn time(time: Option<Timestamp>) -> Option<String> {
    time.map(Timestamp::to_iso)
}

fn desired(record: &TaskRecord) -> Value {
    // An enumeration without content always has a JSON form.
    serde_json::to_value(record.desired).unwrap_or_default()
}

fn task_body(version: u8, config: &AgentConfig, asker: &Asker) -> Object {
    let (plan, record) = (&asker.plan, &asker.task.record);
    // Fargate shows the ARN, an instance what its agent was configured with.
    let cluster = match plan.launch_type.as_str() {
        "FARGATE" => &plan.cluster_arn,
        _ => &config.cluster,
    };
    let mut body = Object::new();
    put(&mut body, "Cluster", Some(cluster.as_str()));
    put(&mut body, "TaskARN", Some(plan.arn.as_str()));
    put(&mut body, "Family", Some(plan.family.as_str()));
    put(&mut body, "Revision", Some(plan.revision.as_str()));
    put(&mut body, "DesiredStatus", Some(desired(record)));
    put(&mut body, "KnownStatus", Some(TaskStatus::of(record).as_str()));
    put(&mut body, "Limits", task_limits(plan));
    put(&mut body, "PullStartedAt", time(record.pull_started_at));
    put(&mut body, "PullStoppedAt", time(record.pull_stopped_at));
    put(&mut body, "ExecutionStoppedAt", time(record.execution_stopped_at));
    let zone = config.availability_zone.as_str();
    put(&mut body, "AvailabilityZone", Some(zone));
    if version >= 4 {
        put(&mut body, "LaunchType", Some(plan.launch_type.as_str()));
        let service = record.payload.get("serviceName");
        let service = service.filter(|name| name.is_string()).cloned();
        put(&mut body, "ServiceName", service);
        let can_fault = plan.fault_injection;
        put(&mut body, "FaultInjectionEnabled", Some(can_fault));
    }
    let containers: Vec<Value> = plan
        .containers
        .iter()
        .filter_map(|container| {
            let known = record.containers.get(&container.name)?;
            let body = container_body(version, plan, container, known, asker);
            Some(Value::Object(body))
        })
        .collect();
    put(&mut body, "Containers", Some(containers));
    body
}

fn task_limits(plan: &TaskPlan) -> Option<Value> {
    let mut limits = Object::new();
    put(&mut limits, "CPU", plan.cpus);
    put(&mut limits, "Memory", plan.memory_bytes.map(|bytes| bytes / MIB));
    (!limits.is_empty()).then_some(Value::Object(limits))
}

fn container_body(
    version: u8,
    task: &TaskPlan,
    plan: &ContainerPlan,
    known: &ContainerRecord,
    asker: &Asker,
) -> Object {
    let mut body = Object::new();
    put(&mut body, "DockerId", Some(plan.id.as_str()));
    put(&mut body, "Name", Some(plan.name.as_str()));
    // As on Fargate: there is no Docker that knows it by another name.
    put(&mut body, "DockerName", Some(plan.name.as_str()));
    put(&mut body, "Image", Some(plan.image.as_str()));
    let image = known.facts.image.as_ref();
    put(&mut body, "ImageID", image.map(|image| image.id.as_str()));
    let ports = ports(plan, known);
    put(&mut body, "Ports", (!ports.is_empty()).then_some(ports));
    put(&mut body, "Labels", Some(json!(labels(task, plan))));
    put(&mut body, "DesiredStatus", Some(desired(&asker.task.record)));
    let status = serde_json::to_value(known.status).unwrap_or_default();
    put(&mut body, "KnownStatus", Some(status));
    put(&mut body, "ExitCode", known.exit_code);
    let mut limits = Object::new();
    put(&mut limits, "CPU", Some(plan.cpu_shares));
    put(&mut limits, "Memory", plan.memory_bytes.map(|bytes| bytes / MIB));
    put(&mut body, "Limits", Some(limits));
    put(&mut body, "StartedAt", time(known.started_at));
    put(&mut body, "FinishedAt", time(known.finished_at));
    put(&mut body, "Type", Some("NORMAL"));
    if plan.health_check.is_some() {
        put(&mut body, "Health", Some(health(known)));
    }
    let volumes = volumes(task, plan);
    put(&mut body, "Volumes", (!volumes.is_empty()).then_some(volumes));
    let is_new = version >= 4;
    if is_new {
        let (driver, options) = log(&plan.log);
        put(&mut body, "LogDriver", Some(driver));
        put(&mut body, "LogOptions", options);
        put(&mut body, "ContainerARN", plan.arn.as_deref());
        let restarts = plan.restart.is_some().then_some(known.restart_count);
        put(&mut body, "RestartCount", restarts);
    }
    let network = network(&task.network, known, is_new);
    put(&mut body, "Networks", Some(vec![Value::Object(network)]));
    body
}

fn health(known: &ContainerRecord) -> Object {
    let mut health = Object::new();
    put(&mut health, "status", Some(known.health.status.as_str()));
    put(&mut health, "statusSince", time(known.health.since));
    put(&mut health, "output", Some(known.health.output.as_str()));
    health
}

/// A range is told port by port, as the upstream agent does.
fn ports(plan: &ContainerPlan, known: &ContainerRecord) -> Vec<Value> {
    let bindings = &known.facts.bindings;
    if !bindings.is_empty() {
        let published = bindings.iter().flat_map(|binding| {
            (0..binding.count).map(|offset| {
                json!({
                    "ContainerPort":
                        binding.container_port.saturating_add(offset),
                    "Protocol": binding.protocol.as_str(),
                    "HostPort": binding.host_port.saturating_add(offset),
                    "HostIp": "0.0.0.0",
                })
            })
        });
        return published.collect();
    }
    let wanted = plan.ports.iter().flat_map(|port| {
        (port.container_port..=port.last()).map(|number| {
            json!({
                "ContainerPort": number,
                "Protocol": port.protocol.as_str(),
            })
        })
    });
    wanted.collect()
}

fn volumes(task: &TaskPlan, plan: &ContainerPlan) -> Vec<Value> {
    let mounted = plan.mounts.iter().filter_map(|mount| {
        let mut volume = Object::new();
        match task.volumes.get(&mount.volume)? {
            VolumePlan::Docker(DockerVolumePlan {
                scope: VolumeScope::Shared { .. },
                ..
            }) => {
                put(&mut volume, "DockerName", Some(mount.volume.as_str()));
            }
            VolumePlan::Task | VolumePlan::Docker(_) | VolumePlan::Efs(_) => {
                let name = task.own_volume_name(&mount.volume);
                put(&mut volume, "DockerName", Some(name));
            }
            VolumePlan::Host(path) => {
                put(&mut volume, "Source", Some(path.display().to_string()));
            }
            // Where it is on the host is no path that anybody could use.
            VolumePlan::Ebs(_) => {}
        }
        let path = mount.path.display().to_string();
        put(&mut volume, "Destination", Some(path));
        Some(Value::Object(volume))
    });
    mounted.collect()
}

fn log(plan: &LogPlan) -> (&'static str, Option<Value>) {
    match plan {
        LogPlan::JsonFile { .. } => ("json-file", None),
        LogPlan::None => ("none", None),
        LogPlan::Remote(remote) => (remote.driver, None),
        LogPlan::Awslogs(awslogs) => {
            let mut options = Object::new();
            if awslogs.create_group {
                put(&mut options, "awslogs-create-group", Some("true"));
            }
            put(&mut options, "awslogs-group", Some(awslogs.group.as_str()));
            put(&mut options, "awslogs-region", Some(awslogs.region.as_str()));
            put(&mut options, "awslogs-stream", Some(awslogs.stream.as_str()));
            ("awslogs", Some(Value::Object(options)))
        }
    }
}

fn network(
    plan: &NetworkPlan,
    known: &ContainerRecord,
    is_new: bool,
) -> Object {
    let mut network = Object::new();
    let (mode, address) = match plan {
        NetworkPlan::Bridge => {
            let address = known.facts.address.as_ref();
            ("bridge", address.map(|address| address.ip))
        }
        NetworkPlan::Host => ("host", None),
        NetworkPlan::None => ("none", None),
        NetworkPlan::Awsvpc(interface) => ("awsvpc", Some(interface.ip)),
    };
    put(&mut network, "NetworkMode", Some(mode));
    let addresses: Vec<String> =
        address.iter().map(ToString::to_string).collect();
    put(&mut network, "IPv4Addresses", Some(addresses));
    if let NetworkPlan::Awsvpc(InterfacePlan { ipv6: Some(ipv6), .. }) = plan {
        let addresses = vec![ipv6.ip.to_string()];
        put(&mut network, "IPv6Addresses", Some(addresses));
    }
    if let (NetworkPlan::Awsvpc(interface), true) = (plan, is_new) {
        describe_interface(&mut network, interface);
    }
    network
}

fn describe_interface(network: &mut Object, interface: &InterfacePlan) {
    let prefix = u32::from(interface.prefix_len);
    let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
    let subnet = std::net::Ipv4Addr::from_bits(interface.ip.to_bits() & mask);
    let listed = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
    put(network, "AttachmentIndex", Some(0));
    put(network, "MACAddress", Some(interface.mac.as_str()));
    put(network, "IPv4SubnetCIDRBlock", Some(format!("{subnet}/{prefix}")));
    put(network, "DomainNameServers", listed(&interface.nameservers));
    put(network, "DomainNameSearchList", listed(&interface.search));
    let name = interface.private_dns_name.as_deref();
    put(network, "PrivateDNSName", name);
    let gateway = format!("{}/{prefix}", interface.gateway);
    put(network, "SubnetGatewayIpv4Address", Some(gateway));
    if let Some(ipv6) = &interface.ipv6 {
        describe_ipv6(network, ipv6);
    }
}

fn describe_ipv6(network: &mut Object, ipv6: &InterfaceIpv6) {
    let prefix = u32::from(ipv6.prefix_len);
    let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
    let subnet = std::net::Ipv6Addr::from_bits(ipv6.ip.to_bits() & mask);
    put(network, "IPv6SubnetCIDRBlock", Some(format!("{subnet}/{prefix}")));
    let gateway = format!("{}/{prefix}", ipv6.gateway);
    put(network, "SubnetGatewayIpv6Address", Some(gateway));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_with_ipv6_shows_it() {
        let ipv6 = InterfaceIpv6 {
            ip: "fd12:0:0:107::5".parse().unwrap(),
            prefix_len: 64,
            gateway: "fd12:0:0:107::1".parse().unwrap(),
        };
        let mut network = Object::new();
        describe_ipv6(&mut network, &ipv6);
        assert_eq!(
            Value::Object(network),
            json!({
                "IPv6SubnetCIDRBlock": "fd12:0:0:107::/64",
                "SubnetGatewayIpv6Address": "fd12:0:0:107::1/64",
            })
        );
    }
}
