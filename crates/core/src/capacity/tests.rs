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
        item("arn:aws:ecs:r:a:capacity-provider/FARGATE_SPOT", Some(3), None),
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
            vec![item("FARGATE", Some(1), None), item("mine", Some(1), None)],
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
