//! Capacity providers: their strategies' rules and arithmetic.

pub mod group;

use std::collections::BTreeSet;

use minato_wire::ecs::CapacityProviderStrategyItem;

use crate::rule::RuleError;

/// The most items in a strategy.
pub const ITEMS_MAX: usize = 20;

/// One provider's part in a strategy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// The provider's name.
    pub provider: String,
    /// Its part of what is left when the base is served.
    pub weight: u32,
    /// How many tasks it gets before anybody else.
    pub base: u32,
}

/// Whether the provider is one of those that always exist.
pub fn is_fargate(provider: &str) -> bool {
    matches!(provider, "FARGATE" | "FARGATE_SPOT")
}

/// The name in a capacity provider's name or ARN.
pub fn provider_name(given: &str) -> &str {
    match given.split_once(":capacity-provider/") {
        Some((_, name)) => name,
        None => given,
    }
}

/// Checks a strategy against the providers of its cluster.
pub fn strategy(
    items: &[CapacityProviderStrategyItem],
    associated: &[String],
) -> Result<Vec<Share>, RuleError> {
    if items.len() > ITEMS_MAX {
        return Err(RuleError::invalid(format!(
            "The specified capacity provider strategy has too many items. \
             The maximum is {ITEMS_MAX}."
        )));
    }
    let shares: Vec<Share> =
        items.iter().map(share).collect::<Result<_, _>>()?;
    for share in &shares {
        if !associated.contains(&share.provider) {
            return Err(RuleError::invalid(format!(
                "The specified capacity provider strategy cannot contain a \
                 capacity provider that is not associated with the cluster. \
                 Associate the capacity provider with the cluster and try \
                 again: {}",
                share.provider
            )));
        }
    }
    let providers: BTreeSet<&str> =
        shares.iter().map(|share| share.provider.as_str()).collect();
    if providers.len() < shares.len() {
        return Err(RuleError::invalid(
            "The specified capacity provider strategy names a capacity \
             provider more than once.",
        ));
    }
    if shares.iter().filter(|share| share.base > 0).count() > 1 {
        return Err(RuleError::invalid(
            "The specified capacity provider strategy can only have one \
             capacity provider with a base.",
        ));
    }
    let fargate = shares.iter().filter(|share| is_fargate(&share.provider));
    let fargate = fargate.count();
    if fargate > 0 && fargate < shares.len() {
        return Err(RuleError::invalid(
            "The specified capacity provider strategy cannot contain both \
             Fargate and other capacity providers.",
        ));
    }
    let weightless = shares.iter().all(|share| share.weight == 0);
    let based = shares.len() == 1 && shares[0].base > 0;
    if !shares.is_empty() && weightless && !based {
        return Err(RuleError::invalid(
            "The specified capacity provider strategy must have a capacity \
             provider with a weight greater than 0.",
        ));
    }
    Ok(shares)
}

fn share(item: &CapacityProviderStrategyItem) -> Result<Share, RuleError> {
    let given = item.capacity_provider.as_deref().unwrap_or_default();
    if given.is_empty() {
        return Err(RuleError::invalid(
            "capacityProvider should not be null or empty.",
        ));
    }
    let within = |value: Option<i32>, most: u32, member: &str| {
        let value = u32::try_from(value.unwrap_or(0)).ok();
        value.filter(|value| *value <= most).ok_or_else(|| {
            RuleError::invalid(format!(
                "The {member} of a capacity provider strategy item must be \
                 between 0 and {most}."
            ))
        })
    };
    Ok(Share {
        provider: provider_name(given).to_owned(),
        weight: within(item.weight, 1000, "weight")?,
        base: within(item.base, 100_000, "base")?,
    })
}

/// The shares of a strategy that was checked before.
pub fn shares(items: &[CapacityProviderStrategyItem]) -> Vec<Share> {
    items.iter().filter_map(|item| share(item).ok()).collect()
}

/// A strategy as it is echoed: weight and base are always filled in.
pub fn echo(shares: &[Share]) -> Vec<CapacityProviderStrategyItem> {
    let number = |value: u32| Some(i32::try_from(value).unwrap_or(i32::MAX));
    shares
        .iter()
        .map(|share| CapacityProviderStrategyItem {
            capacity_provider: Some(share.provider.clone()),
            weight: number(share.weight),
            base: number(share.base),
        })
        .collect()
}

/// How many of `count` tasks each share gets, in the order of the shares.
///
/// The base comes first; what is left goes by weight, and what the division
/// leaves over goes to the largest remainders.
pub fn distribute(shares: &[Share], count: u32) -> Vec<u32> {
    let mut given: Vec<u32> = vec![0; shares.len()];
    let mut left = count;
    for (given, share) in given.iter_mut().zip(shares) {
        *given = share.base.min(left);
        left -= *given;
    }
    let total: u64 = shares.iter().map(|share| u64::from(share.weight)).sum();
    if total == 0 {
        // A lone provider with nothing but a base takes the rest too.
        if let Some(first) = given.first_mut() {
            *first += left;
        }
        return given;
    }
    let mut remainders: Vec<(u64, usize)> = vec![];
    let mut unplaced = left;
    for (index, share) in shares.iter().enumerate() {
        let exact = u64::from(left) * u64::from(share.weight);
        let whole = u32::try_from(exact / total).unwrap_or(u32::MAX);
        given[index] += whole;
        unplaced -= whole;
        remainders.push((exact % total, index));
    }
    remainders.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    for (_, index) in remainders {
        if unplaced == 0 {
            break;
        }
        given[index] += 1;
        unplaced -= 1;
    }
    given
}

#[cfg(test)]
mod tests;
