//! What agents call to join: RegisterContainerInstance, DiscoverPollEndpoint.

use std::collections::{BTreeMap, BTreeSet};

use minato_core::id::ContainerInstanceId;
use minato_store::{Key, Tx};
use minato_wire::ApiError;
use minato_wire::ecs::{
    Attribute, DiscoverPollEndpointRequest, DiscoverPollEndpointResponse,
    RegisterContainerInstanceRequest, RegisterContainerInstanceResponse,
    Resource, error,
};

use super::capacity_providers;
use super::lookup;
use super::view;
use crate::context::{Context, Scope};
use crate::tables::{Cluster, ContainerInstance, Host};

/// The cluster that agents may join without anyone having made it.
const DEFAULT_CLUSTER: &str = "default";
/// An agent sets this to `false` to keep Fargate tasks off its host. It is
/// ours, not ECS's: there is no such host on AWS.
pub(crate) const OFFERS_FARGATE: &str = "minato.fargate";

pub(crate) async fn register_container_instance(
    cx: &Context,
    scope: &Scope,
    input: RegisterContainerInstanceRequest,
) -> Result<RegisterContainerInstanceResponse, ApiError> {
    let scope = scope.clone();
    let fresh = ContainerInstanceId::new(cx.ids.uuid());
    let instance = cx
        .transact(move |tx| {
            let cluster = cluster_for_agent(tx, &scope, &input)?;
            let known = known(tx, &scope, &cluster, &input)?;
            let totals = Totals::of(&input)?;
            let mut row = merge(known, fresh, &scope, &cluster, input);
            let key = Cluster::key_of(&scope.account, &scope.region, &cluster);
            row.capacity_provider = tx
                .get::<Cluster>(&key)
                .and_then(|of| capacity_providers::of_instance(tx, &of, &row));
            let host = host(tx, &row, totals);
            tx.put(host);
            tx.put(row.clone());
            Ok(view::container_instance(tx, &row))
        })
        .await?;
    Ok(RegisterContainerInstanceResponse { container_instance: Some(instance) })
}

/// The cluster named, or `default`, which the first agent brings into being.
fn cluster_for_agent(
    tx: &mut Tx,
    scope: &Scope,
    input: &RegisterContainerInstanceRequest,
) -> Result<String, ApiError> {
    let name = lookup::cluster_name(input.cluster.as_deref()).to_owned();
    match lookup::cluster(tx, scope, Some(&name)) {
        Ok(cluster) => Ok(cluster.name.clone()),
        Err(_) if name == DEFAULT_CLUSTER => {
            tx.put(Cluster {
                account: scope.account.clone(),
                region: scope.region.clone(),
                name: name.clone(),
                status: "ACTIVE".to_owned(),
                settings: vec![],
                configuration: None,
                service_connect_defaults: None,
                capacity_providers: vec![
                    "FARGATE".to_owned(),
                    "FARGATE_SPOT".to_owned(),
                ],
                default_capacity_provider_strategy: vec![],
                tags: vec![],
                created_at: scope.now,
            });
            Ok(name)
        }
        Err(error) => Err(error),
    }
}

/// The row of an agent that registers again.
fn known(
    tx: &Tx,
    scope: &Scope,
    cluster: &str,
    input: &RegisterContainerInstanceRequest,
) -> Result<Option<ContainerInstance>, ApiError> {
    let Some(arn) = input.container_instance_arn.as_deref() else {
        return Ok(None);
    };
    let gone = || {
        error::client_exception(format!(
            "The container instance {arn} is not registered here."
        ))
    };
    let id = lookup::resource_id(arn).ok_or_else(gone)?;
    let key =
        ContainerInstance::key_of(&scope.account, &scope.region, cluster, &id);
    let row = tx.get::<ContainerInstance>(&key).ok_or_else(gone)?;
    if row.status == "INACTIVE" {
        return Err(gone());
    }
    Ok(Some(ContainerInstance::clone(&row)))
}

fn merge(
    known: Option<ContainerInstance>,
    fresh: ContainerInstanceId,
    scope: &Scope,
    cluster: &str,
    input: RegisterContainerInstanceRequest,
) -> ContainerInstance {
    let mut attributes = input.attributes.unwrap_or_default();
    let resources = input.total_resources.unwrap_or_default();
    if let Some(known) = known {
        attributes.extend(told_once(&known, &attributes));
        return ContainerInstance {
            attributes,
            registered_resources: resources,
            version_info: input.version_info.or(known.version_info.clone()),
            version: known.version + 1,
            ..known
        };
    }
    let id = fresh.to_string();
    ContainerInstance {
        account: scope.account.clone(),
        region: scope.region.clone(),
        cluster: cluster.to_owned(),
        host: id.clone(),
        // Not a virtual machine of EC2: named as ECS Anywhere names such
        // machines (`mi-` and 17 digits).
        ec2_instance_id: format!("mi-{}", &id[..17]),
        id,
        status: "ACTIVE".to_owned(),
        attributes,
        custom_attributes: vec![],
        registered_resources: resources,
        version_info: input.version_info,
        capacity_provider: None,
        tags: input.tags.unwrap_or_default(),
        registered_at: scope.now,
        version: 1,
    }
}

/// Attributes of the first registration that agents do not repeat: all but
/// their capabilities and facts (agent guide, `ECS_INSTANCE_ATTRIBUTES`).
fn told_once(known: &ContainerInstance, told: &[Attribute]) -> Vec<Attribute> {
    let is_repeated = |name: &str| {
        ["ecs.", "com.amazonaws.", "minato."]
            .iter()
            .any(|prefix| name.starts_with(prefix))
            || told.iter().any(|it| it.name.as_deref() == Some(name))
    };
    let known = known.attributes.iter();
    known
        .filter(|it| !is_repeated(it.name.as_deref().unwrap_or_default()))
        .cloned()
        .collect()
}

/// What the host has in all, out of the registration's resources.
struct Totals {
    cpu: i64,
    memory_mib: i64,
    ports: BTreeSet<u16>,
    ports_udp: BTreeSet<u16>,
}

impl Totals {
    fn of(
        input: &RegisterContainerInstanceRequest,
    ) -> Result<Totals, ApiError> {
        let resources = input.total_resources.as_deref().unwrap_or_default();
        let find = |name: &str| {
            resources.iter().find(|one| one.name.as_deref() == Some(name))
        };
        let integer = |name: &str| -> Result<i64, ApiError> {
            let value = find(name).and_then(|one| one.integer_value);
            value.filter(|value| *value > 0).map(i64::from).ok_or_else(|| {
                error::invalid_parameter_exception(format!(
                    "The resource {name} must be registered as a positive \
                     INTEGER."
                ))
            })
        };
        let ports = |name: &str| -> Result<BTreeSet<u16>, ApiError> {
            let given = find(name)
                .and_then(|one: &Resource| one.string_set_value.as_ref());
            given
                .into_iter()
                .flatten()
                .map(|port| {
                    port.parse().map_err(|_| {
                    error::invalid_parameter_exception(format!(
                        "The resource {name} holds {port:?}, which is no port."
                    ))
                })
                })
                .collect()
        };
        Ok(Totals {
            cpu: integer("CPU")?,
            memory_mib: integer("MEMORY")?,
            ports: ports("PORTS")?,
            ports_udp: ports("PORTS_UDP")?,
        })
    }
}

fn host(tx: &Tx, row: &ContainerInstance, totals: Totals) -> Host {
    let key = Host::key_of(&row.account, &row.region, &row.host);
    let known = tx.get::<Host>(&key);
    let attributes: BTreeMap<String, Option<String>> = row
        .attributes
        .iter()
        .filter_map(|attribute: &Attribute| {
            Some((attribute.name.clone()?, attribute.value.clone()))
        })
        .collect();
    let offers = attributes.get(OFFERS_FARGATE).and_then(Option::as_deref);
    Host {
        account: row.account.clone(),
        region: row.region.clone(),
        id: row.host.clone(),
        cluster: row.cluster.clone(),
        cpu: totals.cpu,
        memory_mib: totals.memory_mib,
        reserved_ports: totals.ports,
        reserved_ports_udp: totals.ports_udp,
        is_connected: known.is_some_and(|known| known.is_connected),
        offers_fargate: offers != Some("false"),
        attributes,
    }
}

pub(crate) async fn discover_poll_endpoint(
    cx: &Context,
    scope: &Scope,
    input: DiscoverPollEndpointRequest,
) -> Result<DiscoverPollEndpointResponse, ApiError> {
    let rows = cx.snapshot();
    if let Some(given) = input.container_instance.as_deref() {
        let cluster = lookup::cluster(&rows, scope, input.cluster.as_deref())?;
        let key = lookup::resource_id(given).map(|id| -> Key {
            let (account, region) = (&scope.account, &scope.region);
            ContainerInstance::key_of(account, region, &cluster.name, &id)
        });
        let row = key.and_then(|key| rows.get::<ContainerInstance>(&key));
        if row.is_none_or(|row| row.status == "INACTIVE") {
            return Err(error::client_exception(
                "The container instance is not registered.",
            ));
        }
    }
    let endpoint = |path: &str| {
        Some(format!(
            "{}/{path}/",
            cx.config.poll_endpoint.trim_end_matches('/')
        ))
    };
    Ok(DiscoverPollEndpointResponse {
        endpoint: endpoint("acs"),
        telemetry_endpoint: endpoint("tcs"),
        ..Default::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestBed;

    fn resource(name: &str, value: i32) -> Resource {
        Resource {
            name: Some(name.to_owned()),
            r#type: Some("INTEGER".to_owned()),
            integer_value: Some(value),
            ..Default::default()
        }
    }

    pub(crate) fn registration() -> RegisterContainerInstanceRequest {
        RegisterContainerInstanceRequest {
            total_resources: Some(vec![
                resource("CPU", 2048),
                resource("MEMORY", 4096),
            ]),
            attributes: Some(vec![Attribute {
                name: Some("ecs.os-type".to_owned()),
                value: Some("linux".to_owned()),
                ..Default::default()
            }]),
            ..Default::default()
        }
    }

    #[tokio::test]
    async fn the_first_agent_brings_the_default_cluster_into_being() {
        let bed = TestBed::new();
        let answer =
            register_container_instance(&bed.cx, &bed.scope(), registration())
                .await
                .unwrap();
        let instance = answer.container_instance.unwrap();
        assert_eq!(instance.status.as_deref(), Some("ACTIVE"));
        assert_eq!(instance.agent_connected, Some(false));
        let attributes = instance.attributes.unwrap();
        assert_eq!(attributes[0].value.as_deref(), Some("linux"));
        let scope = bed.scope();
        assert!(lookup::cluster(&bed.cx.snapshot(), &scope, None).is_ok());
    }

    #[tokio::test]
    async fn an_unknown_cluster_is_not_made() {
        let bed = TestBed::new();
        let input = RegisterContainerInstanceRequest {
            cluster: Some("other".to_owned()),
            ..registration()
        };
        let refused =
            register_container_instance(&bed.cx, &bed.scope(), input).await;
        assert_eq!(refused.unwrap_err().code(), "ClusterNotFoundException");
    }

    #[tokio::test]
    async fn registering_again_keeps_the_identity() {
        let bed = TestBed::new();
        let (cx, scope) = (&bed.cx, bed.scope());
        let first = register_container_instance(cx, &scope, registration())
            .await
            .unwrap();
        let arn = first.container_instance.unwrap().container_instance_arn;
        let input = RegisterContainerInstanceRequest {
            container_instance_arn: arn.clone(),
            total_resources: Some(vec![
                resource("CPU", 4096),
                resource("MEMORY", 4096),
            ]),
            ..registration()
        };
        let again = register_container_instance(cx, &scope, input)
            .await
            .unwrap()
            .container_instance
            .unwrap();
        assert_eq!(again.container_instance_arn, arn);
        assert_eq!(again.version, Some(2));
        assert_eq!(
            cx.snapshot().scan::<Host>(&minato_store::Key::root()).count(),
            1
        );
    }

    #[tokio::test]
    async fn a_host_without_memory_is_refused() {
        let bed = TestBed::new();
        let input = RegisterContainerInstanceRequest {
            total_resources: Some(vec![resource("CPU", 1024)]),
            ..registration()
        };
        let refused =
            register_container_instance(&bed.cx, &bed.scope(), input).await;
        assert_eq!(refused.unwrap_err().code(), "InvalidParameterException");
    }
}
