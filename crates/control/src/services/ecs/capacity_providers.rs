//! Capacity providers: FARGATE and FARGATE_SPOT, which always exist.

use minato_core::capacity::provider_name;
use minato_wire::ApiError;
use minato_wire::ecs::{
    CapacityProvider, CapacityProviderStatus, CapacityProviderType,
    DescribeCapacityProvidersRequest, DescribeCapacityProvidersResponse,
};

use super::lookup;
use super::page::page;
use super::tasks::missing;
use crate::context::{Context, Scope};

/// The most providers of a page (API reference).
const PAGE_MAX: usize = 10;

/// The providers that always exist.
const ALL: [(&str, CapacityProviderType); 2] = [
    ("FARGATE", CapacityProviderType::Fargate),
    ("FARGATE_SPOT", CapacityProviderType::FargateSpot),
];

pub(crate) async fn describe_capacity_providers(
    cx: &Context,
    scope: &Scope,
    input: DescribeCapacityProvidersRequest,
) -> Result<DescribeCapacityProvidersResponse, ApiError> {
    // A cluster filters out what is not associated with it.
    let associated = match input.cluster.as_deref() {
        None => None,
        Some(given) => {
            let cluster = lookup::cluster(&cx.snapshot(), scope, Some(given))?;
            Some(cluster.capacity_providers.clone())
        }
    };
    let wanted = input.capacity_providers.unwrap_or_default();
    let is_wanted = |name: &str| {
        let named = wanted.iter().any(|given| provider_name(given) == name);
        let here = associated
            .as_ref()
            .is_none_or(|all| all.iter().any(|known| known == name));
        here && (wanted.is_empty() || named)
    };
    let found = page(
        ALL.into_iter().filter(|(name, _)| is_wanted(name)),
        |(name, _)| *name,
        input.max_results,
        input.next_token.as_deref(),
        PAGE_MAX,
    )?;
    let failures = wanted.iter().filter(|given| {
        let name = provider_name(given);
        ALL.iter().all(|(known, _)| *known != name)
    });
    Ok(DescribeCapacityProvidersResponse {
        failures: Some(
            failures.map(|given| missing(arn(scope, given))).collect(),
        ),
        capacity_providers: Some(
            found
                .items
                .into_iter()
                .map(|(name, kind)| CapacityProvider {
                    capacity_provider_arn: Some(arn(scope, name)),
                    name: Some(name.to_owned()),
                    status: Some(CapacityProviderStatus::Active),
                    tags: Some(vec![]),
                    r#type: Some(kind),
                    ..Default::default()
                })
                .collect(),
        ),
        next_token: found.next_token,
    })
}

fn arn(scope: &Scope, given: &str) -> String {
    if given.starts_with("arn:") {
        return given.to_owned();
    }
    format!(
        "arn:aws:ecs:{}:{}:capacity-provider/{given}",
        scope.region, scope.account
    )
}
