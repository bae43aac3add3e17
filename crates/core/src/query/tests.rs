use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Default)]
struct Instance {
    attributes: BTreeMap<&'static str, &'static str>,
    groups: Vec<&'static str>,
    running: i64,
}

impl Subject for Instance {
    fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).copied()
    }
    fn any_task_group(&self, test: &mut dyn FnMut(&str) -> bool) -> bool {
        self.groups.iter().any(|group| test(group))
    }
    fn agent_connected(&self) -> bool {
        true
    }
    fn agent_version(&self) -> Option<&str> {
        Some("1.105.1")
    }
    fn ec2_instance_id(&self) -> Option<&str> {
        Some("i-0abc")
    }
    fn registered_at(&self) -> Timestamp {
        Timestamp::from_iso("2018-06-18T22:28:28Z").unwrap()
    }
    fn running_tasks_count(&self) -> i64 {
        self.running
    }
}

fn instance() -> Instance {
    Instance {
        attributes: BTreeMap::from([
            ("ecs.instance-type", "g2.2xlarge"),
            ("ecs.availability-zone", "us-east-1a"),
            ("ecs.capability.external", ""),
            ("stack", "prod"),
            ("generation", "10"),
        ]),
        groups: vec!["service:production", "database"],
        running: 3,
    }
}

fn holds(source: &str) -> bool {
    Expression::parse(source)
        .unwrap_or_else(|error| panic!("{}", error.with_caret(source)))
        .matches(&instance())
}

#[test]
fn what_aws_documents_is_understood() {
    for (source, expected) in [
        ("attribute:ecs.instance-type =~ g2.*", true),
        ("attribute:ecs.instance-type == t2.small", false),
        ("attribute:ecs.instance-type == 'g2.2xlarge'", true),
        ("attribute:ecs.availability-zone in [us-east-1a, us-east-1b]", true),
        ("attribute:ecs.availability-zone !in [us-east-1a]", false),
        ("attribute:ecs.availability-zone not_in ['b']", true),
        ("task:group == service:production", true),
        ("not(task:group == database)", false),
        ("task:group != database", false),
        ("task:group != web", true),
        ("task:group =~ service:.*", true),
        ("runningTasksCount > 1", true),
        ("runningTasksCount <= 2", false),
        ("agentConnected == true", true),
        ("agentVersion >= 1.99.0", true),
        ("agentVersion < 1.105", false),
        ("agentVersion == 1.105.1.0", true),
        ("ec2InstanceId in ['i-0abc', 'i-1']", true),
        ("ec2InstanceId =~ i-.*", true),
        ("registeredAt >= 2018-06-18T22:28:28+00:00", true),
        ("registeredAt < 2018-06-18", false),
        ("registeredAt == 2018-06-18T22:28:28", true),
        ("attribute:stack exists", true),
        ("attribute:ecs.capability.external exists", true),
        ("attribute:nothing !exists", true),
        ("attribute:nothing not_exists", true),
        ("attribute:nothing == x", false),
        ("attribute:nothing != x", true),
        ("attribute:generation > 9", true),
        ("attribute:generation less_than 9", false),
        ("attribute:stack greater_than a", true),
        ("attribute:stack equals prod", true),
        ("attribute:stack not_matches 'dev|test'", true),
        ("attribute:ecs.instance-type =~ [gp][23].*", true),
        ("attribute:ecs.instance-type !~ 2", true),
        ("attribute:stack == prod and attribute:generation == 11", false),
        ("attribute:stack == prod && !(runningTasksCount == 0)", true),
        (
            "attribute:stack == dev or attribute:stack == test || \
             runningTasksCount == 3",
            true,
        ),
        (
            "(attribute:stack == prod or attribute:stack == dev) \
             and not attribute:nothing exists",
            true,
        ),
        // `and` binds closer than `or`.
        (
            "attribute:stack == prod or attribute:stack == a and \
             attribute:stack == b",
            true,
        ),
        ("attribute:stack==prod&&runningTasksCount>=3", true),
        ("NOT attribute:stack == dev AND runningTasksCount == 3", true),
    ] {
        assert_eq!(holds(source), expected, "{source}");
    }
}

#[test]
fn a_pattern_is_matched_in_full() {
    assert!(!holds("attribute:stack =~ pro"));
    assert!(holds("attribute:stack =~ 'x|prod'"));
    assert!(!holds("attribute:stack =~ 'pro|x'"));
}

#[test]
fn errors_point_at_the_problem() {
    let shown: Vec<String> = [
        "",
        "attribute:a",
        "attribute:a ==",
        "attribute:a == 'b",
        "attribute:a == b c",
        "colour == red",
        "attribute:a b c",
        "(attribute:a == b",
        "attribute:a in b",
        "attribute:a in [b c]",
        "attribute:a == (b)",
        "runningTasksCount == many",
        "runningTasksCount in [1]",
        "agentConnected > true",
        "agentVersion == latest",
        "registeredAt > yesterday",
        "attribute:a$ == b",
        "attribute: == b",
        "attribute:a =~ 'x('",
        "attribute:a =~ 'x)|(y'",
        "attribute:a == b and",
        "and",
        "attribute:a = b",
        "ec2InstanceId exists",
        "attribute:a !equals b",
    ]
    .iter()
    .map(|source| Expression::parse(source).unwrap_err().with_caret(source))
    .collect();
    insta::assert_snapshot!(shown.join("\n\n"));
}

#[test]
fn hostile_expressions_are_refused_quickly() {
    let deep = "(".repeat(1000) + "attribute:a exists";
    let error = Expression::parse(&deep).unwrap_err();
    assert_eq!(error.problem, QueryProblem::TooDeep);
    let nots = "not ".repeat(450) + "attribute:a exists";
    let error = Expression::parse(&nots).unwrap_err();
    assert_eq!(error.problem, QueryProblem::TooDeep);
    let long = format!("attribute:a == {}", "b".repeat(2000));
    let error = Expression::parse(&long).unwrap_err();
    assert_eq!(error.problem, QueryProblem::TooLong);
    let bomb = "attribute:a =~ 'a{1000}{1000}{1000}'";
    let error = Expression::parse(bomb).unwrap_err();
    assert!(matches!(error.problem, QueryProblem::BadPattern(_)));
}

fn any_comparison() -> impl Strategy<Value = String> {
    let name = prop_oneof![Just("stack"), Just("generation"), Just("no")];
    let value = prop_oneof![
        "[a-z0-9.-]{1,8}",
        Just("prod".to_owned()),
        Just("10".to_owned()),
    ];
    let operator = prop_oneof![
        Just("=="),
        Just("!="),
        Just(">"),
        Just("<="),
        Just("=~"),
        Just("!~"),
    ];
    prop_oneof![
        (name.clone(), operator, value.clone())
            .prop_map(|(n, o, v)| format!("attribute:{n} {o} {v}")),
        (name.clone(), proptest::collection::vec(value, 1..4))
            .prop_map(|(n, v)| format!("attribute:{n} in [{}]", v.join(","))),
        name.prop_map(|n| format!("attribute:{n} !exists")),
        (0..6i64).prop_map(|n| format!("runningTasksCount >= {n}")),
        Just("task:group == database".to_owned()),
        Just("agentVersion > 1.2".to_owned()),
    ]
}

fn any_expression() -> impl Strategy<Value = String> {
    any_comparison().prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone())
                .prop_map(|(a, b)| format!("({a}) and ({b})")),
            (inner.clone(), inner.clone())
                .prop_map(|(a, b)| format!("({a}) or {b}")),
            inner.prop_map(|a| format!("not ({a})")),
        ]
    })
}

proptest! {
    #[test]
    fn no_text_panics(source in "\\PC{0,80}") {
        if let Err(error) = Expression::parse(&source) {
            prop_assert!(error.position <= source.chars().count());
            let _ = error.with_caret(&source);
        }
    }

    #[test]
    fn no_near_miss_panics(
        words in proptest::collection::vec(prop_oneof![
            Just("attribute:a"), Just("=="), Just("in"), Just("["), Just("]"),
            Just("("), Just(")"), Just("not"), Just("!"), Just("and"),
            Just("x"), Just("'y'"), Just(","), Just("=~"), Just("exists"),
        ], 0..12)
    ) {
        let source = words.join(" ");
        if let Ok(expression) = Expression::parse(&source) {
            expression.matches(&instance());
        }
    }

    #[test]
    fn what_is_shown_parses_to_the_same(source in any_expression()) {
        let expression = Expression::parse(&source).unwrap();
        let shown = expression.to_string();
        prop_assert_eq!(Expression::parse(&shown).unwrap(), expression);
    }

    #[test]
    fn logic_is_logic(a in any_expression(), b in any_expression()) {
        prop_assert_eq!(holds(&format!("not not ({a})")), holds(&a));
        prop_assert_eq!(
            holds(&format!("not (({a}) and ({b}))")),
            holds(&format!("not ({a}) or not ({b})"))
        );
        prop_assert_eq!(
            holds(&format!("({a}) or ({b})")),
            holds(&a) || holds(&b)
        );
    }
}
