//! Capacity providers: FARGATE and FARGATE_SPOT, which always exist, and
//! those of Auto Scaling groups.

mod change;

use std::collections::BTreeMap;

use minato_core::capacity::{group::GROUP_ATTRIBUTE, provider_name};
use minato_wire::ApiError;
use minato_wire::ecs::{
    self, CapacityProviderField, CapacityProviderStatus, CapacityProviderType,
    DescribeCapacityProvidersRequest, DescribeCapacityProvidersResponse, error,
};

pub(crate) use self::change::{
    create_capacity_provider, delete_capacity_provider,
    update_capacity_provider,
};
use super::lookup::{self, Read};
use super::page::page;
use super::tasks::missing;
use crate::context::{Context, Scope};
use crate::tables::{CapacityProvider, Cluster, ContainerInstance, namespace};

/// The most providers of a page (API reference).
const PAGE_MAX: usize = 10;
/// The most providers a call may name (API reference).
const NAMED_MAX: usize = 100;

/// The providers that always exist.
const FARGATE: [(&str, CapacityProviderType); 2] = [
    ("FARGATE", CapacityProviderType::Fargate),
    ("FARGATE_SPOT", CapacityProviderType::FargateSpot),
];

/// The active provider of a name or ARN, of those that users made.
pub(crate) fn find(
    rows: &impl Read,
    scope: &Scope,
    given: &str,
) -> Option<std::sync::Arc<CapacityProvider>> {
    let Scope { account, region, .. } = scope;
    let name = provider_name(given);
    if given.starts_with("arn:")
        && given != CapacityProvider::arn_of(account, region, name)
    {
        return None;
    }
    rows.row::<CapacityProvider>(&CapacityProvider::key_of(
        account, region, name,
    ))
    .filter(|row| row.is_active())
}

/// The provider through which an instance came: the one of its cluster's
/// that has its Auto Scaling group.
pub(crate) fn of_instance(
    rows: &impl Read,
    cluster: &Cluster,
    instance: &ContainerInstance,
) -> Option<String> {
    let told = instance
        .attributes
        .iter()
        .find(|attribute| attribute.name.as_deref() == Some(GROUP_ATTRIBUTE))?;
    let group = told.value.as_deref()?;
    let Cluster { account, region, .. } = cluster;
    let mut names = cluster.capacity_providers.iter();
    names
        .find(|name| {
            let key = CapacityProvider::key_of(account, region, name);
            let row = rows.row::<CapacityProvider>(&key);
            row.is_some_and(|row| row.group_name() == Some(group))
        })
        .cloned()
}

/// A provider as the API shows it.
fn shown(row: &CapacityProvider) -> ecs::CapacityProvider {
    let CapacityProvider { account, region, name, .. } = row;
    ecs::CapacityProvider {
        capacity_provider_arn: Some(CapacityProvider::arn_of(
            account, region, name,
        )),
        name: Some(name.clone()),
        status: Some(if row.is_active() {
            CapacityProviderStatus::Active
        } else {
            CapacityProviderStatus::Inactive
        }),
        auto_scaling_group_provider: Some(row.group.clone()),
        update_status: row.update_status,
        tags: Some(row.tags.clone()),
        r#type: Some(CapacityProviderType::Ec2Autoscaling),
        ..Default::default()
    }
}

fn fargate(
    scope: &Scope,
    name: &str,
    kind: CapacityProviderType,
) -> ecs::CapacityProvider {
    ecs::CapacityProvider {
        capacity_provider_arn: Some(arn(scope, name)),
        name: Some(name.to_owned()),
        status: Some(CapacityProviderStatus::Active),
        tags: Some(vec![]),
        r#type: Some(kind),
        ..Default::default()
    }
}

pub(crate) async fn describe_capacity_providers(
    cx: &Context,
    scope: &Scope,
    input: DescribeCapacityProvidersRequest,
) -> Result<DescribeCapacityProvidersResponse, ApiError> {
    let rows = cx.snapshot();
    let wanted = input.capacity_providers.unwrap_or_default();
    if wanted.len() > NAMED_MAX {
        return Err(error::invalid_parameter_exception(format!(
            "Capacity providers cannot have more than {NAMED_MAX} elements."
        )));
    }
    // A cluster filters out what is not associated with it.
    let associated = match input.cluster.as_deref() {
        None => None,
        Some(given) => {
            let cluster = lookup::cluster(&rows, scope, Some(given))?;
            Some(cluster.capacity_providers.clone())
        }
    };
    let here = |name: &str| {
        associated
            .as_ref()
            .is_none_or(|all| all.iter().any(|known| known == name))
    };
    let has_tags = input
        .include
        .iter()
        .flatten()
        .any(|field| *field == CapacityProviderField::Tags);
    let mut known: BTreeMap<String, ecs::CapacityProvider> = BTreeMap::new();
    for (name, kind) in FARGATE {
        known.insert(name.to_owned(), fargate(scope, name, kind));
    }
    let within = namespace(&scope.account, &scope.region);
    for row in rows.scan::<CapacityProvider>(&within) {
        // One that was deleted is still told to who asks for it by name.
        if row.is_active() || !wanted.is_empty() {
            let mut provider = shown(&row);
            if !has_tags {
                provider.tags = Some(vec![]);
            }
            known.insert(row.name.clone(), provider);
        }
    }
    known.retain(|name, _| here(name));
    let (mut failures, mut named) = (vec![], BTreeMap::new());
    for given in &wanted {
        let arn = arn(scope, given);
        let found = known.values().find(|provider| {
            provider.capacity_provider_arn.as_ref() == Some(&arn)
        });
        match found {
            Some(found) => {
                let name = found.name.clone().unwrap_or_default();
                named.insert(name, found.clone());
            }
            None => failures.push(missing(arn)),
        }
    }
    let all = if wanted.is_empty() { known } else { named };
    let found = page(
        all.into_iter(),
        |(name, _)| name,
        input.max_results,
        input.next_token.as_deref(),
        PAGE_MAX,
    )?;
    let shown = found.items.into_iter().map(|(_, provider)| provider);
    Ok(DescribeCapacityProvidersResponse {
        failures: Some(failures),
        capacity_providers: Some(shown.collect()),
        next_token: found.next_token,
    })
}

fn arn(scope: &Scope, given: &str) -> String {
    if given.starts_with("arn:") {
        return given.to_owned();
    }
    CapacityProvider::arn_of(&scope.account, &scope.region, given)
}

#[cfg(test)]
mod tests;
