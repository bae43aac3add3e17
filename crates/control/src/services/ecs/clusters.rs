//! Clusters: created, described, changed, deleted.

mod check;
mod view;

use std::sync::Arc;

use minato_core::capacity;
use minato_core::status::{
    ClusterEvent, ClusterStatus, InstanceStatus, ServiceStatus,
};
use minato_store::Tx;
use minato_wire::ApiError;
use minato_wire::ecs::{
    CreateClusterRequest, CreateClusterResponse, DeleteClusterRequest,
    DeleteClusterResponse, DescribeClustersRequest, DescribeClustersResponse,
    ListClustersRequest, ListClustersResponse,
    PutClusterCapacityProvidersRequest, PutClusterCapacityProvidersResponse,
    UpdateClusterRequest, UpdateClusterResponse, UpdateClusterSettingsRequest,
    UpdateClusterSettingsResponse, error,
};

use super::page::page;
use super::tasks::missing;
use super::{capacity_providers, lookup};
use crate::context::{Context, Scope};
use crate::services::ecs_arn;
use crate::tables::{Cluster, ContainerInstance, Service, Task, namespace};

/// The most clusters one call describes, and one page lists.
const CLUSTERS_MAX: usize = 100;

/// The most clusters of an account in a region (service quotas).
const CLUSTERS_PER_REGION_MAX: usize = 10_000;

pub(crate) async fn create_cluster(
    cx: &Context,
    scope: &Scope,
    input: CreateClusterRequest,
) -> Result<CreateClusterResponse, ApiError> {
    let name = match input.cluster_name.as_deref() {
        None | Some("") => "default".to_owned(),
        Some(name) => name.to_owned(),
    };
    if !minato_core::name::is_name(&name) {
        return Err(error::invalid_parameter_exception(format!(
            "Invalid cluster name: {name}"
        )));
    }
    let scope = scope.clone();
    let cluster = cx
        .transact(move |tx| {
            let key = Cluster::key_of(&scope.account, &scope.region, &name);
            let known = tx.get::<Cluster>(&key);
            // Creating what is there gives what is there.
            if let Some(active) = known.as_ref().filter(|row| row.is_active()) {
                return Ok(view::created(active));
            }
            let within = namespace(&scope.account, &scope.region);
            let count = tx.scan::<Cluster>(&within);
            let count = count.filter(|row| row.is_active()).count();
            if count >= CLUSTERS_PER_REGION_MAX {
                return Err(error::client_exception(
                    "The maximum number of clusters for this account was \
                     reached.",
                ));
            }
            let status =
                known.map_or("INACTIVE".to_owned(), |row| row.status.clone());
            let row = new_row(tx, &scope, name, &status, input)?;
            forget_stopped_tasks(tx, &row);
            tx.put(row.clone());
            Ok(view::created(&row))
        })
        .await?;
    Ok(CreateClusterResponse { cluster: Some(cluster) })
}

fn new_row(
    tx: &Tx,
    scope: &Scope,
    name: String,
    status: &str,
    input: CreateClusterRequest,
) -> Result<Cluster, ApiError> {
    let default = super::account_settings::container_insights(tx, scope);
    let settings = input.settings.as_deref().unwrap_or_default();
    let configuration = check::configuration(input.configuration)?;
    check::namespace(input.service_connect_defaults.as_ref())?;
    let providers = input.capacity_providers.unwrap_or_default();
    let providers = check::providers(tx, scope, &providers)?;
    let strategy = input.default_capacity_provider_strategy.unwrap_or_default();
    let strategy = capacity::strategy(&strategy, &providers)?;
    let tags =
        minato_core::tags::check(input.tags.as_deref().unwrap_or_default())?;
    Ok(Cluster {
        account: scope.account.clone(),
        region: scope.region.clone(),
        name,
        status: step(status, ClusterEvent::Created)?,
        settings: check::settings(settings, Some(default))?,
        configuration,
        service_connect_defaults: None,
        capacity_providers: providers,
        default_capacity_provider_strategy: capacity::echo(&strategy),
        tags: minato_core::tags::to_wire(&tags),
        created_at: scope.now,
    })
}

/// The status after an event, of a status that the store keeps as text.
fn step(status: &str, event: ClusterEvent) -> Result<String, ApiError> {
    let next = status
        .parse::<ClusterStatus>()
        .map_err(|error| error.to_string())
        .and_then(|status| {
            status.step(event).map_err(|error| error.to_string())
        });
    next.map(|status| status.to_string()).map_err(|why| {
        error::server_exception("Service Unavailable.").with_internal(why)
    })
}

/// The tasks of a deleted cluster are not those of the next one of its name.
fn forget_stopped_tasks(tx: &mut Tx, cluster: &Cluster) {
    let within =
        Cluster::key_of(&cluster.account, &cluster.region, &cluster.name);
    let old: Vec<Arc<Task>> =
        tx.scan::<Task>(&within).filter(|task| task.is_stopped()).collect();
    for task in old {
        tx.delete::<Task>(&minato_store::Row::key(&*task));
    }
}

pub(crate) async fn describe_clusters(
    cx: &Context,
    scope: &Scope,
    input: DescribeClustersRequest,
) -> Result<DescribeClustersResponse, ApiError> {
    let mut wanted = input.clusters.unwrap_or_default();
    if wanted.is_empty() {
        wanted.push("default".to_owned());
    }
    if wanted.len() > CLUSTERS_MAX {
        return Err(error::invalid_parameter_exception(format!(
            "Clusters cannot have more than {CLUSTERS_MAX} elements."
        )));
    }
    let include = input.include.unwrap_or_default();
    let rows = cx.snapshot();
    let (mut clusters, mut failures) = (vec![], vec![]);
    for given in wanted {
        let name = lookup::cluster_name(Some(&given));
        let key = Cluster::key_of(&scope.account, &scope.region, name);
        match rows.get::<Cluster>(&key) {
            Some(row) if is_meant(&given, &row) => {
                clusters.push(view::described(&rows, &row, &include));
            }
            _ => failures.push(missing(cluster_arn(scope, &given))),
        }
    }
    Ok(DescribeClustersResponse {
        clusters: Some(clusters),
        failures: Some(failures),
    })
}

/// Whether an ARN, where one is given, is that of the row.
fn is_meant(given: &str, row: &Cluster) -> bool {
    !given.starts_with("arn:") || given == row.arn()
}

/// The ARN given, or one made of the name given.
fn cluster_arn(scope: &Scope, given: &str) -> String {
    if given.starts_with("arn:") {
        return given.to_owned();
    }
    let rest = format!("cluster/{given}");
    ecs_arn(&scope.region, &scope.account, &rest)
}

pub(crate) async fn list_clusters(
    cx: &Context,
    scope: &Scope,
    input: ListClustersRequest,
) -> Result<ListClustersResponse, ApiError> {
    let rows = cx.snapshot();
    let within = namespace(&scope.account, &scope.region);
    let active = rows
        .scan::<Cluster>(&within)
        .filter(|row| row.is_active())
        .map(|row| row.arn());
    let found = page(
        active,
        |arn| arn.as_str(),
        input.max_results,
        input.next_token.as_deref(),
        CLUSTERS_MAX,
    )?;
    Ok(ListClustersResponse {
        cluster_arns: Some(found.items),
        next_token: found.next_token,
    })
}

/// Changes an active cluster and gives it as `CreateCluster` does.
async fn change(
    cx: &Context,
    scope: &Scope,
    given: Option<String>,
    change: impl FnOnce(&Tx, &mut Cluster) -> Result<(), ApiError> + Send + 'static,
) -> Result<minato_wire::ecs::Cluster, ApiError> {
    let scope = scope.clone();
    cx.transact(move |tx| {
        let known = lookup::cluster(tx, &scope, given.as_deref())?;
        let mut row = Cluster::clone(&known);
        change(tx, &mut row)?;
        tx.put(row.clone());
        if row.capacity_providers != known.capacity_providers {
            assign_instances(tx, &row);
        }
        Ok(view::changed(tx, &row))
    })
    .await
}

pub(crate) async fn update_cluster(
    cx: &Context,
    scope: &Scope,
    input: UpdateClusterRequest,
) -> Result<UpdateClusterResponse, ApiError> {
    let settings = input.settings;
    let configuration = check::configuration(input.configuration)?;
    check::namespace(input.service_connect_defaults.as_ref())?;
    let cluster = change(cx, scope, input.cluster, move |_, row| {
        if let Some(settings) = settings {
            row.settings = check::settings(&settings, None)?;
        }
        if configuration.is_some() {
            row.configuration = configuration;
        }
        Ok(())
    })
    .await?;
    Ok(UpdateClusterResponse { cluster: Some(cluster) })
}

pub(crate) async fn update_cluster_settings(
    cx: &Context,
    scope: &Scope,
    input: UpdateClusterSettingsRequest,
) -> Result<UpdateClusterSettingsResponse, ApiError> {
    let settings = input.settings.unwrap_or_default();
    let cluster = change(cx, scope, input.cluster, move |_, row| {
        row.settings = check::settings(&settings, None)?;
        Ok(())
    })
    .await?;
    Ok(UpdateClusterSettingsResponse { cluster: Some(cluster) })
}

pub(crate) async fn put_cluster_capacity_providers(
    cx: &Context,
    scope: &Scope,
    input: PutClusterCapacityProvidersRequest,
) -> Result<PutClusterCapacityProvidersResponse, ApiError> {
    let given = input.capacity_providers.unwrap_or_default();
    let strategy = input.default_capacity_provider_strategy.unwrap_or_default();
    let here = scope.clone();
    let cluster = change(cx, scope, input.cluster, move |tx, row| {
        let providers = check::providers(tx, &here, &given)?;
        let strategy = capacity::strategy(&strategy, &providers)?;
        let within = Cluster::key_of(&row.account, &row.region, &row.name);
        let of_tasks = tx
            .scan::<Task>(&within)
            .filter(|task| !task.is_stopped())
            .filter_map(|task| task.task.capacity_provider_name.clone());
        let of_services = tx
            .scan::<Service>(&within)
            .filter(|service| service.status == ServiceStatus::Active)
            .flat_map(|service| {
                let items = service.service.capacity_provider_strategy.clone();
                items.unwrap_or_default()
            })
            .filter_map(|item| item.capacity_provider);
        let in_use =
            of_tasks.chain(of_services).find(|used| !providers.contains(used));
        if let Some(used) = in_use {
            return Err(error::resource_in_use_exception(format!(
                "The specified capacity provider is in use and cannot be \
                 removed: {used}"
            )));
        }
        row.capacity_providers = providers;
        row.default_capacity_provider_strategy = capacity::echo(&strategy);
        Ok(())
    })
    .await?;
    Ok(PutClusterCapacityProvidersResponse { cluster: Some(cluster) })
}

/// Gives each container instance the provider it is of, now that the cluster
/// has others.
fn assign_instances(tx: &mut Tx, cluster: &Cluster) {
    let within =
        Cluster::key_of(&cluster.account, &cluster.region, &cluster.name);
    let instances: Vec<_> = tx.scan::<ContainerInstance>(&within).collect();
    for instance in instances {
        let provider = capacity_providers::of_instance(tx, cluster, &instance);
        if provider != instance.capacity_provider {
            tx.put(ContainerInstance {
                capacity_provider: provider,
                version: instance.version + 1,
                ..ContainerInstance::clone(&instance)
            });
        }
    }
}

pub(crate) async fn delete_cluster(
    cx: &Context,
    scope: &Scope,
    input: DeleteClusterRequest,
) -> Result<DeleteClusterResponse, ApiError> {
    let cluster = change(cx, scope, input.cluster, move |tx, row| {
        let within = Cluster::key_of(&row.account, &row.region, &row.name);
        let registered =
            tx.scan::<ContainerInstance>(&within).any(|instance| {
                let status = instance.status.parse::<InstanceStatus>();
                status.is_ok_and(InstanceStatus::is_registered)
            });
        if registered {
            return Err(error::cluster_contains_container_instances_exception(
                "The Cluster cannot be deleted while Container Instances are \
                 active or draining.",
            ));
        }
        let has_services = tx
            .scan::<Service>(&within)
            .any(|service| service.status == ServiceStatus::Active);
        if has_services {
            return Err(error::cluster_contains_services_exception(
                "The Cluster cannot be deleted while Services are active.",
            ));
        }
        if tx.scan::<Task>(&within).any(|task| !task.is_stopped()) {
            return Err(error::cluster_contains_tasks_exception(
                "The Cluster cannot be deleted while Tasks are active.",
            ));
        }
        row.status = step(&row.status, ClusterEvent::Deleted)?;
        // Deleting a resource deletes its tags.
        row.tags = vec![];
        Ok(())
    })
    .await?;
    Ok(DeleteClusterResponse { cluster: Some(cluster) })
}

#[cfg(test)]
mod tests;
