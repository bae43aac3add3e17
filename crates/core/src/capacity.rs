//! Capacity provider strategies: their rules and their arithmetic.

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
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn item(
        provider: &str,
        weight: Option<i32>,
        base: Option<i32>,
    ) -> CapacityProviderStrategyItem {
        CapacityProviderStrategyItem {
            capacity_provider: Some(provider.to_owned()),
            weight,
            base,
        }
    }

    fn shares(pairs: &[(u32, u32)]) -> Vec<Share> {
        pairs
            .iter()
            .map(|(weight, base)| Share {
                provider: "p".into(),
                weight: *weight,
                base: *base,
            })
            .collect()
    }

    #[test]
    fn the_documented_examples() {
        assert_eq!(distribute(&shares(&[(1, 0), (4, 0)]), 10), [2, 8]);
        assert_eq!(distribute(&shares(&[(1, 2), (3, 0)]), 10), [4, 6]);
        assert_eq!(distribute(&shares(&[(1, 0), (1, 0)]), 3), [2, 1]);
        assert_eq!(distribute(&shares(&[(0, 3), (1, 0)]), 2), [2, 0]);
        assert_eq!(distribute(&shares(&[(0, 1)]), 5), [5]);
    }

    #[test]
    fn strategies_are_checked() {
        let both = ["FARGATE".to_owned(), "FARGATE_SPOT".to_owned()];
        let mine = ["FARGATE".to_owned(), "mine".to_owned()];
        let good = [
            item("FARGATE", Some(1), Some(2)),
            item(
                "arn:aws:ecs:r:a:capacity-provider/FARGATE_SPOT",
                Some(3),
                None,
            ),
        ];
        let checked = strategy(&good, &both).unwrap();
        assert_eq!(checked[1].provider, "FARGATE_SPOT");
        assert_eq!(echo(&checked)[1].base, Some(0));
        assert!(strategy(&[], &[]).unwrap().is_empty());
        assert!(strategy(&[item("FARGATE", None, Some(1))], &both).is_ok());
        for (items, associated) in [
            (vec![item("other", Some(1), None)], &both),
            (vec![item("", Some(1), None)], &both),
            (vec![item("FARGATE", Some(1001), None)], &both),
            (vec![item("FARGATE", Some(-1), None)], &both),
            (vec![item("FARGATE", Some(1), Some(100_001))], &both),
            (vec![item("FARGATE", None, None)], &both),
            (vec![item("FARGATE", Some(1), None); 2], &both),
            (vec![item("FARGATE", Some(1), None); 21], &both),
            (
                vec![
                    item("FARGATE", Some(1), Some(1)),
                    item("FARGATE_SPOT", Some(1), Some(1)),
                ],
                &both,
            ),
            (
                vec![
                    item("FARGATE", Some(1), None),
                    item("mine", Some(1), None),
                ],
                &mine,
            ),
        ] {
            assert!(strategy(&items, associated).is_err(), "{items:?}");
        }
    }

    proptest! {
        #[test]
        fn every_task_goes_somewhere_and_close_to_its_share(
            weights in proptest::collection::vec(0..1000u32, 1..20),
            base in 0..50u32,
            count in 0..5000u32,
        ) {
            let mut parts: Vec<(u32, u32)> =
                weights.iter().map(|weight| (*weight, 0)).collect();
            parts[0].1 = base;
            let shares = shares(&parts);
            let given = distribute(&shares, count);
            prop_assert_eq!(given.iter().sum::<u32>(), count);
            let total: f64 = weights.iter().map(|w| f64::from(*w)).sum();
            let left = f64::from(count.saturating_sub(base));
            if total > 0.0 {
                for (index, given) in given.iter().enumerate() {
                    let base = if index == 0 { base.min(count) } else { 0 };
                    let exact = f64::from(base)
                        + left * f64::from(weights[index]) / total;
                    prop_assert!((f64::from(*given) - exact).abs() < 1.0);
                }
            }
        }
    }
}
