use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::model::Member;
use crate::{ec2, ecs, iam, logs, secretsmanager, ssm, sts};

fn input(
    service: &'static crate::model::Service,
    name: &str,
) -> &'static Shape {
    service.operation(name).unwrap().input.unwrap()
}

fn violations(shape: &Shape, mut value: Value) -> Vec<(String, Constraint)> {
    check(shape, &mut value)
        .into_iter()
        .map(|violation| (violation.path, violation.constraint))
        .collect()
}

#[test]
fn nulls_and_unknown_members_go_and_whole_numbers_become_integers() {
    let mut value = json!({
        "taskDefinition": "web", "cluster": null, "count": 2.0,
        "later": {"a": [1]}, "tags": [null, {"key": "a", "value": null}],
    });
    assert_eq!(check(input(&ecs::SERVICE, "RunTask"), &mut value), []);
    let expected = json!({
        "taskDefinition": "web", "count": 2, "tags": [{"key": "a"}],
    });
    assert_eq!(value, expected);
    let typed: ecs::RunTaskRequest = serde_json::from_value(value).unwrap();
    assert_eq!(typed.count, Some(2));
}

#[test]
fn wrong_types_say_where_and_what() {
    let shape = input(&ecs::SERVICE, "RegisterTaskDefinition");
    let found = violations(
        shape,
        json!({"family": 7, "containerDefinitions": [
            {"name": "a", "cpu": "1", "essential": "yes", "command": "x",
             "memory": 99_999_999_999_i64}, "b"]}),
    );
    let wrong = |expected, found| Constraint::Type { expected, found };
    let at = |path: &str, constraint| {
        let path = format!("containerDefinitions.{path}");
        (path, constraint)
    };
    assert_eq!(found.len(), 6);
    for expected in [
        ("family".into(), wrong(Kind::String, Found::Number)),
        at("1.member.cpu", wrong(Kind::Integer, Found::String)),
        at("1.member.memory", wrong(Kind::Integer, Found::Number)),
        at("1.member.essential", wrong(Kind::Boolean, Found::String)),
        at("1.member.command", wrong(Kind::List, Found::String)),
        at("2.member", wrong(Kind::Structure, Found::String)),
    ] {
        assert!(found.contains(&expected), "{expected:?} not in {found:?}");
    }
}

#[test]
fn limits_of_logs_are_held() {
    let shape = input(&logs::SERVICE, "CreateLogGroup");
    assert_eq!(
        violations(shape, json!({})),
        [("logGroupName".into(), Constraint::Required)]
    );
    let name = "x".repeat(512);
    assert_eq!(violations(shape, json!({"logGroupName": name})), []);
    let name = "x".repeat(513);
    assert_eq!(
        violations(shape, json!({"logGroupName": name})),
        [("logGroupName".into(), Constraint::MaxLength(512))]
    );
    let found = violations(shape, json!({"logGroupName": "a b"}));
    assert!(matches!(found[0].1, Constraint::Pattern(_)), "{found:?}");
    // Characters count, not bytes; the pattern then refuses them.
    let name = "é".repeat(512);
    let found = violations(shape, json!({"logGroupName": name}));
    assert!(matches!(found[..], [(_, Constraint::Pattern(_))]), "{found:?}");
}

#[test]
fn enums_and_ranges_are_held() {
    let found = violations(
        input(&ecs::SERVICE, "RunTask"),
        json!({"taskDefinition": "a", "launchType": "fargate"}),
    );
    let Constraint::Enum(values) = &found[0].1 else { panic!("{found:?}") };
    assert!(values.contains(&"FARGATE"));
    let events = input(&logs::SERVICE, "GetLogEvents");
    let with = |limit: i64| {
        violations(events, json!({"logStreamName": "s", "limit": limit}))
    };
    assert_eq!(with(1), []);
    assert_eq!(with(0), [("limit".into(), Constraint::Min(1.into()))]);
    let found = with(10_001);
    assert_eq!(found, [("limit".into(), Constraint::Max(10_000.into()))]);
}

#[test]
fn a_member_knows_its_name() {
    let violation = |path: &str| Violation {
        path: path.into(),
        owner: "",
        value: None,
        constraint: Constraint::Required,
    };
    assert_eq!(violation("a.1.member.name").member(), "name");
    assert_eq!(violation("a.1.member").member(), "a");
    assert!(violation("a").is_top_level());
}

#[test]
fn violations_and_excerpts_have_limits() {
    let containers: Vec<Value> =
        (0..1000).map(|_| json!({"cpu": ""})).collect();
    let shape = input(&ecs::SERVICE, "RegisterTaskDefinition");
    let found = violations(
        shape,
        json!({"family": "f", "containerDefinitions": containers}),
    );
    assert_eq!(found.len(), MAX_VIOLATIONS);
    let mut value = json!({"taskDefinition": "t",
        "launchType": "é".repeat(10_000)});
    let found = check(input(&ecs::SERVICE, "RunTask"), &mut value);
    let shown = found[0].value.as_ref().unwrap();
    assert_eq!(shown.chars().count(), MAX_EXCERPT_CHARS + 3);
}

/// Every pattern of every shape we serve compiles.
#[test]
fn every_pattern_of_the_models_compiles() {
    let mut seen = Vec::new();
    let mut patterns = 0;
    for service in [
        &ecs::SERVICE,
        &logs::SERVICE,
        &sts::SERVICE,
        &ec2::SERVICE,
        &iam::SERVICE,
        &secretsmanager::SERVICE,
        &ssm::SERVICE,
    ] {
        for operation in service.operations {
            for shape in
                [operation.input, operation.output].into_iter().flatten()
            {
                walk(shape, &mut seen, &mut patterns);
            }
        }
    }
    assert!(patterns > 20, "{patterns} patterns found");
}

fn walk(
    shape: &'static Shape,
    seen: &mut Vec<*const Shape>,
    patterns: &mut usize,
) {
    if seen.contains(&std::ptr::from_ref(shape)) {
        return;
    }
    seen.push(shape);
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "only the shapes with others in them and patterns matter"
    )]
    match shape {
        Shape::Structure(structure) => structure
            .members
            .iter()
            .for_each(|Member { shape, .. }| walk(shape, seen, patterns)),
        Shape::List(list) => walk(list.member, seen, patterns),
        Shape::Map(map) => {
            walk(map.key, seen, patterns);
            walk(map.value, seen, patterns);
        }
        Shape::String(Text { pattern: Some(pattern), .. }) => {
            *patterns += 1;
            assert!(pattern::compile(pattern).is_some(), "{pattern}");
        }
        _ => {}
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 6, |inner| {
        let name = prop_oneof![
            Just("containerDefinitions".to_owned()),
            Just("family".to_owned()),
            Just("volumes".to_owned()),
            Just("environment".to_owned()),
            "[a-zA-Z]{1,5}",
        ];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5)
                .prop_map(Value::from),
            proptest::collection::vec((name, inner), 0..5)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

proptest! {
    /// What passes the check can be read as the typed shape.
    #[test]
    fn what_passes_is_typed(mut value in any_json()) {
        let shape = input(&ecs::SERVICE, "RegisterTaskDefinition");
        if check(shape, &mut value).is_empty() {
            serde_json::from_value::<ecs::RegisterTaskDefinitionRequest>(value)
                .unwrap();
        }
    }
}
