//! Making, changing and deleting capacity providers of Auto Scaling groups.
//!
//! Nothing here takes time, as it does at AWS: each change is whole when it
//! is answered. The answers still say `IN_PROGRESS`, as AWS's do, and the
//! next description says how it ended.

use minato_core::capacity::{group, is_fargate, provider_name};
use minato_core::status::ServiceStatus;
use minato_core::tags;
use minato_store::Tx;
use minato_wire::ApiError;
use minato_wire::ecs::{
    CapacityProviderUpdateStatus, CreateCapacityProviderRequest,
    CreateCapacityProviderResponse, DeleteCapacityProviderRequest,
    DeleteCapacityProviderResponse, UpdateCapacityProviderRequest,
    UpdateCapacityProviderResponse, error,
};

use super::{find, shown};
use crate::context::{Context, Scope};
use crate::tables::{CapacityProvider, Cluster, Service, namespace};

pub(crate) async fn create_capacity_provider(
    cx: &Context,
    scope: &Scope,
    input: CreateCapacityProviderRequest,
) -> Result<CreateCapacityProviderResponse, ApiError> {
    if input.managed_instances_provider.is_some() {
        return Err(managed_instances());
    }
    let Some(given) = input.auto_scaling_group_provider else {
        return Err(error::invalid_parameter_exception(
            "The capacity provider must have an autoScalingGroupProvider or \
             a managedInstancesProvider.",
        ));
    };
    no_cluster(input.cluster.as_deref())?;
    let name = input.name.unwrap_or_default();
    group::check_name(&name)?;
    let group = group::created(given)?;
    let given = group.auto_scaling_group_arn.as_deref().unwrap_or_default();
    group::group_name(given, &scope.account, &scope.region)?;
    let tags = tags::check(input.tags.as_deref().unwrap_or_default())?;
    let row = CapacityProvider {
        account: scope.account.clone(),
        region: scope.region.clone(),
        name,
        group,
        update_status: None,
        tags: tags::to_wire(&tags),
        deleted_at: None,
    };
    let scope = scope.clone();
    let provider = cx
        .transact(move |tx| {
            if find(tx, &scope, &row.name).is_some() {
                return Err(error::client_exception(
                    "The specified capacity provider already exists. To \
                     change the configuration of an existing capacity \
                     provider, update the capacity provider.",
                ));
            }
            let within = namespace(&row.account, &row.region);
            let is_taken = tx
                .scan::<CapacityProvider>(&within)
                .filter(|other| other.is_active())
                .any(|other| other.group_name() == row.group_name());
            if is_taken {
                return Err(error::client_exception(
                    "The specified Auto Scaling group ARN is already being \
                     used by another capacity provider. Specify a unique \
                     Auto Scaling group ARN and try again.",
                ));
            }
            tx.put(row.clone());
            Ok(shown(&row))
        })
        .await?;
    Ok(CreateCapacityProviderResponse { capacity_provider: Some(provider) })
}

pub(crate) async fn update_capacity_provider(
    cx: &Context,
    scope: &Scope,
    input: UpdateCapacityProviderRequest,
) -> Result<UpdateCapacityProviderResponse, ApiError> {
    if input.managed_instances_provider.is_some() {
        return Err(managed_instances());
    }
    no_cluster(input.cluster.as_deref())?;
    let Some(update) = input.auto_scaling_group_provider else {
        return Err(error::invalid_parameter_exception(
            "The capacity provider must have an autoScalingGroupProvider or \
             a managedInstancesProvider.",
        ));
    };
    let name = input.name.unwrap_or_default();
    let scope = scope.clone();
    let provider = cx
        .transact(move |tx| {
            let before = known(tx, &scope, &name)?;
            let row = CapacityProvider {
                group: group::updated(&before.group, update)?,
                update_status: Some(
                    CapacityProviderUpdateStatus::UpdateComplete,
                ),
                ..before.clone()
            };
            tx.put(row);
            let mut answer = shown(&before);
            answer.update_status =
                Some(CapacityProviderUpdateStatus::UpdateInProgress);
            Ok(answer)
        })
        .await?;
    Ok(UpdateCapacityProviderResponse { capacity_provider: Some(provider) })
}

pub(crate) async fn delete_capacity_provider(
    cx: &Context,
    scope: &Scope,
    input: DeleteCapacityProviderRequest,
) -> Result<DeleteCapacityProviderResponse, ApiError> {
    no_cluster(input.cluster.as_deref())?;
    let given = input.capacity_provider.unwrap_or_default();
    let scope = scope.clone();
    let provider = cx
        .transact(move |tx| {
            let before = known(tx, &scope, &given)?;
            if is_used(tx, &before) {
                return Err(error::client_exception(
                    "The capacity provider cannot be deleted because it is \
                     associated with a cluster. Remove the capacity provider \
                     from the cluster and try again.",
                ));
            }
            let row = CapacityProvider {
                update_status: Some(
                    CapacityProviderUpdateStatus::DeleteComplete,
                ),
                deleted_at: Some(scope.now),
                // Deleting a resource deletes its tags.
                tags: vec![],
                ..before.clone()
            };
            tx.put(row);
            let mut answer = shown(&before);
            answer.update_status =
                Some(CapacityProviderUpdateStatus::DeleteInProgress);
            Ok(answer)
        })
        .await?;
    Ok(DeleteCapacityProviderResponse { capacity_provider: Some(provider) })
}

/// The provider that a change means.
fn known(
    tx: &Tx,
    scope: &Scope,
    given: &str,
) -> Result<CapacityProvider, ApiError> {
    if is_fargate(provider_name(given)) {
        return Err(error::client_exception(
            "The specified capacity provider is reserved and cannot be \
             updated or deleted.",
        ));
    }
    let found = find(tx, scope, given).ok_or_else(|| {
        error::client_exception(
            "The specified capacity provider does not exist. Specify a valid \
             name or ARN and try again.",
        )
    })?;
    Ok(CapacityProvider::clone(&found))
}

/// Whether a cluster has it, or a service's strategy names it.
fn is_used(tx: &Tx, row: &CapacityProvider) -> bool {
    let within = namespace(&row.account, &row.region);
    let mut clusters = tx.scan::<Cluster>(&within);
    let mut services = tx.scan::<Service>(&within);
    clusters.any(|cluster| {
        cluster.is_active() && cluster.capacity_providers.contains(&row.name)
    }) || services.any(|service| {
        let items = &service.service.capacity_provider_strategy;
        service.status != ServiceStatus::Inactive
            && items
                .iter()
                .flatten()
                .any(|item| item.capacity_provider.as_ref() == Some(&row.name))
    })
}

fn managed_instances() -> ApiError {
    error::unsupported_feature_exception(
        "Minato does not serve managedInstancesProvider: there are no \
         instances it could launch.",
    )
}

/// A cluster is for providers of managed instances only.
fn no_cluster(given: Option<&str>) -> Result<(), ApiError> {
    match given {
        None => Ok(()),
        Some(_) => Err(error::invalid_parameter_exception(
            "cluster can only be specified for capacity providers with a \
             managedInstancesProvider.",
        )),
    }
}
