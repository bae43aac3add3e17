//! Tags of capacity providers, clusters, container instances, services, task
//! definitions and tasks.

use std::collections::BTreeMap;
use std::sync::Arc;

use minato_core::status::ServiceStatus;
use minato_core::tags;
use minato_store::Tx;
use minato_wire::ApiError;
use minato_wire::ecs::{
    ListTagsForResourceRequest, ListTagsForResourceResponse, Tag,
    TagResourceRequest, TagResourceResponse, UntagResourceRequest,
    UntagResourceResponse, error,
};

use super::lookup::{self, Read, resource_id};
use super::{capacity_providers, container_instances, daemons, task_sets};
use crate::context::{Context, Scope};
use crate::tables::{
    CapacityProvider, Cluster, ContainerInstance, Daemon, DaemonTaskDefinition,
    Service, Task, TaskDefinition, TaskSet,
};

/// A row that has tags.
enum Tagged {
    Cluster(Arc<Cluster>),
    Provider(Arc<CapacityProvider>),
    Instance(Arc<ContainerInstance>),
    Definition(Arc<TaskDefinition>),
    Task(Arc<Task>),
    Service(Arc<Service>),
    TaskSet(Arc<TaskSet>),
    Daemon(Arc<Daemon>),
    DaemonDefinition(Arc<DaemonTaskDefinition>),
}

impl Tagged {
    fn tags(&self) -> &[Tag] {
        match self {
            Tagged::Cluster(row) => &row.tags,
            Tagged::Provider(row) => &row.tags,
            Tagged::Instance(row) => &row.tags,
            Tagged::Definition(row) => &row.tags,
            Tagged::Task(row) => row.task.tags.as_deref().unwrap_or_default(),
            Tagged::Service(row) => {
                row.service.tags.as_deref().unwrap_or_default()
            }
            Tagged::Daemon(row) => &row.tags,
            Tagged::DaemonDefinition(row) => &row.tags,
            Tagged::TaskSet(row) => {
                row.shown.tags.as_deref().unwrap_or_default()
            }
        }
    }

    fn put(&self, tx: &mut Tx, tags: Vec<Tag>) {
        match self {
            Tagged::Cluster(row) => {
                tx.put(Cluster { tags, ..Cluster::clone(row) });
            }
            Tagged::Provider(row) => {
                let row = CapacityProvider::clone(row);
                tx.put(CapacityProvider { tags, ..row });
            }
            Tagged::Instance(row) => {
                let row = ContainerInstance::clone(row);
                let version = row.version + 1;
                tx.put(ContainerInstance { tags, version, ..row });
            }
            Tagged::Definition(row) => {
                tx.put(TaskDefinition { tags, ..TaskDefinition::clone(row) });
            }
            Tagged::Task(row) => {
                let mut row = Task::clone(row);
                row.task.tags = Some(tags);
                tx.put(row);
            }
            Tagged::Daemon(row) => {
                tx.put(Daemon { tags, ..Daemon::clone(row) });
            }
            Tagged::DaemonDefinition(row) => {
                let row = DaemonTaskDefinition::clone(row);
                tx.put(DaemonTaskDefinition { tags, ..row });
            }
            Tagged::TaskSet(row) => {
                let mut row = TaskSet::clone(row);
                row.shown.tags = Some(tags);
                tx.put(row);
            }
            Tagged::Service(row) => {
                let mut row = Service::clone(row);
                row.service.tags = Some(tags);
                tx.put(row);
            }
        }
    }
}

fn invalid() -> ApiError {
    error::invalid_parameter_exception("The ARN provided is invalid.")
}

fn not_found() -> ApiError {
    error::resource_not_found_exception("The specified resource was not found.")
}

/// The row that an ARN names.
fn find(
    rows: &impl Read,
    scope: &Scope,
    arn: Option<&str>,
) -> Result<Tagged, ApiError> {
    let arn = arn.unwrap_or_default();
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let ["arn", _, "ecs", region, account, resource] = parts[..] else {
        return Err(invalid());
    };
    let (kind, name) = resource.split_once('/').ok_or_else(invalid)?;
    if region != scope.region || account != scope.account {
        return Err(not_found());
    }
    // `CLUSTER/ID` of the long form.
    let in_cluster = || name.split_once('/').ok_or_else(invalid);
    match kind {
        "cluster" => {
            lookup::cluster(rows, scope, Some(name)).map(Tagged::Cluster)
        }
        // Those that always exist cannot be tagged.
        "capacity-provider" => capacity_providers::find(rows, scope, arn)
            .map(Tagged::Provider)
            .ok_or_else(not_found),
        "container-instance" => {
            let (cluster, id) = in_cluster()?;
            let cluster = lookup::cluster(rows, scope, Some(cluster))?;
            container_instances::find(rows, scope, &cluster.name, id)
                .filter(|row| row.status != "INACTIVE")
                .map(Tagged::Instance)
                .ok_or_else(not_found)
        }
        "task" => {
            let (cluster, id) = in_cluster()?;
            let cluster = lookup::cluster(rows, scope, Some(cluster))?;
            let id = resource_id(id).ok_or_else(invalid)?;
            rows.row(&Task::key_of(account, region, &cluster.name, &id))
                .map(Tagged::Task)
                .ok_or_else(not_found)
        }
        "task-definition" => {
            let (family, revision) =
                name.split_once(':').ok_or_else(invalid)?;
            let revision = revision.parse().map_err(|_| invalid())?;
            let key = TaskDefinition::key_of(account, region, family, revision);
            rows.row(&key).map(Tagged::Definition).ok_or_else(not_found)
        }
        "service" => {
            // The short ARN of old names no cluster and cannot be tagged
            // (API reference, TagResource).
            let (cluster, name) = in_cluster()?;
            let cluster = lookup::cluster(rows, scope, Some(cluster))?;
            lookup::service(rows, &cluster, Some(name))
                .ok()
                .filter(|row| row.status == ServiceStatus::Active)
                .map(Tagged::Service)
                .ok_or_else(not_found)
        }
        "task-set" => {
            let (cluster, rest) = in_cluster()?;
            let (service, _) = rest.split_once('/').ok_or_else(invalid)?;
            let cluster = lookup::cluster(rows, scope, Some(cluster))?;
            let service = lookup::service(rows, &cluster, Some(service))?;
            task_sets::tagged(rows, &service, arn)
                .filter(|row| !row.is_draining)
                .map(Tagged::TaskSet)
                .ok_or_else(not_found)
        }
        "daemon" => daemons::find(rows, scope, arn)
            .filter(|row| !row.is_deleted)
            .map(Tagged::Daemon)
            .ok_or_else(not_found),
        "daemon-task-definition" => {
            daemons::tagged_definition(rows, scope, arn)
                .map(Tagged::DaemonDefinition)
                .ok_or_else(not_found)
        }
        _ => Err(invalid()),
    }
}

/// Changes the tags of what an ARN names.
async fn change(
    cx: &Context,
    scope: &Scope,
    arn: Option<String>,
    change: impl FnOnce(&mut BTreeMap<String, String>) + Send + 'static,
) -> Result<(), ApiError> {
    let scope = scope.clone();
    cx.transact(move |tx| {
        let tagged = find(tx, &scope, arn.as_deref())?;
        let mut all: BTreeMap<String, String> = tagged
            .tags()
            .iter()
            .map(|tag| {
                let text =
                    |text: &Option<String>| text.clone().unwrap_or_default();
                (text(&tag.key), text(&tag.value))
            })
            .collect();
        change(&mut all);
        // Those that ECS itself gave do not count.
        let own = all.keys().filter(|key| !tags::is_reserved(key)).count();
        tags::check_count(own)?;
        tagged.put(tx, tags::to_wire(&all));
        Ok(())
    })
    .await
}

pub(crate) async fn tag_resource(
    cx: &Context,
    scope: &Scope,
    input: TagResourceRequest,
) -> Result<TagResourceResponse, ApiError> {
    let added = tags::check(input.tags.as_deref().unwrap_or_default())?;
    change(cx, scope, input.resource_arn, move |all| all.extend(added)).await?;
    Ok(TagResourceResponse::default())
}

pub(crate) async fn untag_resource(
    cx: &Context,
    scope: &Scope,
    input: UntagResourceRequest,
) -> Result<UntagResourceResponse, ApiError> {
    let keys = input.tag_keys.unwrap_or_default();
    if let Some(key) = keys.iter().find(|key| tags::is_reserved(key)) {
        return Err(error::invalid_parameter_exception(format!(
            "The tag {key} is reserved for system use and cannot be removed."
        )));
    }
    let remove = move |all: &mut BTreeMap<String, String>| {
        for key in &keys {
            all.remove(key);
        }
    };
    change(cx, scope, input.resource_arn, remove).await?;
    Ok(UntagResourceResponse::default())
}

pub(crate) async fn list_tags_for_resource(
    cx: &Context,
    scope: &Scope,
    input: ListTagsForResourceRequest,
) -> Result<ListTagsForResourceResponse, ApiError> {
    let rows = cx.snapshot();
    let tagged = find(&rows, scope, input.resource_arn.as_deref())?;
    Ok(ListTagsForResourceResponse { tags: Some(tagged.tags().to_vec()) })
}
