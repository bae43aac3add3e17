//! The examples that people start from, and plans with mistakes in them.

use super::*;

fn example(name: &str) -> String {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/rehearse");
    std::fs::read_to_string(format!("{dir}/{name}.yaml")).unwrap()
}

fn play(text: &str) -> Report {
    rehearse(&Plan::parse(text).unwrap()).unwrap()
}

fn mistake(text: &str) -> String {
    let error = match Plan::parse(text) {
        Err(error) => error,
        Ok(plan) => match rehearse(&plan) {
            Err(RehearseError::Plan(error)) => error,
            other => panic!("no mistake was found in {text}: {other:?}"),
        },
    };
    error.show("plan.yaml", text)
}

#[test]
fn the_examples_come_out_as_they_expect() {
    for name in ["rollback", "host-lost", "spot"] {
        let report = play(&example(name));
        assert!(report.is_as_expected(), "{name}: {}", report.text());
        let again = play(&example(name));
        assert_eq!(report.text(), again.text(), "{name}: another time");
        assert_eq!(report.svg(), again.svg());
    }
}

#[test]
fn a_report_tells_the_story() {
    let text = play(&example("rollback")).text();
    for part in [
        "3 hosts, 1 services, played for 4:00.0 at the pace of Minato, seed 1",
        "  1:00.0  PLAN  deploy a new revision of web, which cannot be pulled",
        "deployment failed: tasks failed to start.",
        "web: lowest healthy 6 (at 0:05.1), never below its minimum of 6",
        "kept    web: rollout ROLLED_BACK; it is ROLLED_BACK",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}

#[test]
fn what_is_so_counts_and_not_what_is_believed() {
    // Nobody notices that the machine is gone, for a long time.
    let report = play(
        "
play: 6m
hosts: [{name: host, count: 2, zones: [a, b]}]
services: {web: {desiredCount: 4}}
events: [{at: 1m, lose: host-1, noticedIn: 3m}]
expect: {web: {belowMinimum: 1m, rollout: COMPLETED}}
",
    );
    let text = report.text();
    assert!(!report.is_as_expected(), "{text}");
    assert!(text.contains("2 of 4 healthy"), "{text}");
    assert!(
        text.contains(
            "BROKEN  web: at most 1:00.0 below its minimum; it was 3:"
        ),
        "{text}"
    );
    assert!(text.contains("4 of 4 healthy at the end"), "{text}");
}

#[test]
fn another_seed_is_another_play_with_the_same_end() {
    let text = example("rollback");
    for seed in 2..6 {
        let report = play(&format!("seed: {seed}\n{text}"));
        assert!(report.is_as_expected(), "{}", report.text());
    }
}

#[test]
fn crashing_tasks_do_not_complete_a_deployment_at_the_pace_of_aws() {
    let text = example("rollback")
        .replace("fault: cannot-pull", "fault: crash")
        .replace("play: 4m", "play: 20m\npace: aws")
        .replace("rollout: ROLLED_BACK", "rollout: IN_PROGRESS");
    let report = play(&text);
    assert!(report.is_as_expected(), "{}", report.text());
}

#[test]
fn drained_hosts_and_lost_connections_do_no_harm() {
    let report = play(
        "
play: 6m
hosts: [{name: host, count: 3, zones: [a, b, c]}]
services:
  web: {desiredCount: 6, cpu: 128, memory: 128, hostPort: 80}
  db: {desiredCount: 3, cpu: 128, memory: 128, placementStrategy: [
    {type: spread, field: instanceId}]}
events:
  - {at: 1m, disconnect: host-2, for: 40s}
  - {at: 2m, drain: host-1}
  - {at: 3m, activate: host-1}
  - {at: 4m, scale: db, desiredCount: 6}
expect:
  db: {lowestHealthy: 3, steadyWithin: 30s, rollout: COMPLETED}
",
    );
    let text = report.text();
    assert!(report.is_as_expected(), "{text}");
    // A port of the host is had once: three hosts, three tasks.
    assert!(text.contains("3 of 6 healthy"), "{text}");
    assert!(text.contains("is already using a port required"), "{text}");
}

#[test]
fn mistakes_are_shown_where_they_are() {
    let plan = |services: &str, rest: &str| {
        format!("hosts: [{{name: h}}]\nservices:\n  {services}\n{rest}")
    };
    let unhealthy =
        "events: [{at: 1m, deploy: web, tasks: {fault: unhealthy}}]";
    let fargate = "web: {launchType: FARGATE, cpu: 300, memory: 512}";
    let strategy = "web: {placementStrategy: [{type: spread, field: x}]}";
    let port = "web: {launchType: FARGATE, hostPort: 80}";
    for (services, rest, told) in [
        ("web: {desireCount: 6}", "", "did you mean `desiredCount`?"),
        ("web: 6", "", "a service is a group of members"),
        ("web: {desiredCount: -1}", "", "a whole number from 0 to 5000"),
        ("web: {cpu: lots}", "", "a whole number"),
        ("we b: {}", "", "letters, digits, hyphens and underscores"),
        (
            "web: {}",
            "events: [{at: 1m, deploy: wep}]",
            "there is no service `wep`; did you mean `web`?",
        ),
        (
            "web: {}",
            "events: [{at: 1m, lose: x}]",
            "there is no host `x`; it is one of h",
        ),
        ("web: {}", "events: [{at: 11m, lose: h}]", "after the end"),
        ("web: {}", "events: [{at: soon, lose: h}]", "such as 500ms"),
        ("web: {}", "events: [{at: 1m, loose: h}]", "mean `lose`?"),
        ("web: {}", "events: [{at: 1m}]", "one of deploy, scale"),
        ("web: {}", "events: {at: 1m}", "`events` is a list"),
        ("web: {}", "events: [{at: 1m, spot: web}]", "not on Spot"),
        ("web: {}", unhealthy, "the service has none (healthCheck: true)"),
        (
            "web: {}",
            "events: [{at: 1m, restart: host}]",
            "there is no process `host`",
        ),
        ("web: {}", "expect: {db: {}}", "no service `db`"),
        ("web: {}", "play: 2000h", "24h at most"),
        ("web: {}", "pace: slow", "it is one of fast, aws"),
        ("web: {}", "play: 1m\nplay: 2m", "play comes twice"),
        ("web: &a {}\n  db: *a", "", "no anchors and aliases"),
        ("web: {", "", "this is not YAML"),
        ("web: {}", "---\nmore: 1", "one document"),
        (port, "", "no ports of the host"),
        // What only the control plane knows to be wrong.
        (fargate, "", "RegisterTaskDefinition answered: ClientException"),
        (strategy, "", "CreateService answered: InvalidParameterException"),
    ] {
        let shown = mistake(&plan(services, rest));
        assert!(shown.contains(told), "{told:?} is not in:\n{shown}");
        assert!(shown.starts_with("plan.yaml:"), "{shown}");
        assert!(shown.contains('^'), "{shown}");
    }
    for (text, told) in [
        ("services: {}", "the plan needs the member `hosts`"),
        ("", "the plan is empty"),
        ("- 1", "the plan is a group of members"),
    ] {
        assert!(mistake(text).contains(told), "{}", mistake(text));
    }
    let nested = format!("a: {}1{}", "[".repeat(100), "]".repeat(100));
    assert!(mistake(&nested).contains("nested too deeply"));
}

#[test]
fn the_caret_is_under_the_mistake() {
    let text = "hosts: [{name: h}]\nservices:\n  web:\n    desireCount: 6\n";
    assert_eq!(
        mistake(text),
        "plan.yaml:4:5: a service has no member `desireCount`; did you mean \
         `desiredCount`?\n  |\n4 |     desireCount: 6\n  |     ^^^^^^^^^^^"
    );
}

#[test]
fn the_picture_is_whole() {
    let report = play(&example("host-lost"));
    let svg = report.svg();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    let opened = svg.matches('<').count() - svg.matches("</").count();
    let closed = svg.matches("</").count() + svg.matches("/>").count();
    assert_eq!(opened, closed, "every element ends");
    assert_eq!(svg.matches("<path ").count(), 3);
    assert!(svg.contains("host host-2 is lost"), "{svg}");
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
}
