//! Services with real containers: stock clients create, deploy, scale and
//! delete them; Minato is killed in the middle of a deployment.

use std::collections::BTreeSet;
use std::time::Duration;

use minato_e2e::{IMAGE, Site, wait_for};
use serde_json::{Value, json};

/// Longest wait for a service to come to rest.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Runs until it is asked to end.
pub(crate) const SERVE: &str =
    "trap 'exit 0' TERM; while :; do sleep 0.1; done";

pub(crate) fn define(site: &mut Site, family: &str, command: &[&str]) -> Value {
    let definition = json!({
        "family": family,
        "containerDefinitions": [{
            "name": "app", "image": IMAGE, "memory": 16, "command": command
        }]
    });
    site.call("ecs", "register_task_definition", definition).unwrap()
        ["taskDefinition"]["taskDefinitionArn"]
        .take()
}

pub(crate) fn describe(site: &mut Site, name: &str) -> Value {
    let input = json!({ "services": [name] });
    site.call("ecs", "describe_services", input).unwrap()["services"][0].take()
}

/// Waits until one deployment is left, complete, with all its tasks.
pub(crate) fn wait_stable(site: &mut Site, name: &str) -> Value {
    let mut last = Value::Null;
    let found = wait_for(PATIENCE, || {
        last = describe(site, name);
        let deployments = last["deployments"].as_array()?;
        let is_stable = deployments.len() == 1
            && deployments[0]["rolloutState"] == "COMPLETED"
            && last["runningCount"] == last["desiredCount"];
        is_stable.then_some(())
    });
    assert!(found.is_some(), "{name} does not settle: {last:#}");
    last
}

/// The tasks of a service that should run, as DescribeTasks shows them.
pub(crate) fn tasks(site: &mut Site, name: &str) -> Vec<Value> {
    let input = json!({ "serviceName": name });
    let listed = site.call("ecs", "list_tasks", input).unwrap();
    let arns = listed["taskArns"].clone();
    if arns == json!([]) {
        return vec![];
    }
    let input = json!({ "tasks": arns });
    let mut found = site.call("ecs", "describe_tasks", input).unwrap();
    serde_json::from_value(found["tasks"].take()).unwrap()
}

fn events(service: &Value) -> Vec<&str> {
    let events = service["events"].as_array().unwrap();
    events.iter().map(|event| event["message"].as_str().unwrap()).collect()
}

#[test]
fn the_cli_creates_deploys_scales_and_deletes_a_service() {
    let mut site = Site::start().unwrap();
    let first = define(&mut site, "web", &["/bin/sh", "-c", SERVE]);
    let create = ["ecs", "create-service", "--service-name", "web"];
    let rest = ["--task-definition", "web", "--desired-count", "3"];
    let created = site.aws(&[&create[..], &rest[..]].concat()).unwrap();
    let created = &created["service"];
    assert_eq!(created["status"], "ACTIVE");
    assert_eq!(created["deployments"][0]["desiredCount"], 0);
    assert_eq!(created["availabilityZoneRebalancing"], "ENABLED");
    let stable = ["ecs", "wait", "services-stable", "--services", "web"];
    wait_stable(&mut site, "web");
    site.aws(&stable).unwrap();

    let second = define(&mut site, "web", &["/bin/sh", "-c", SERVE]);
    assert_ne!(first, second);
    let update = ["ecs", "update-service", "--service", "web"];
    let rest = ["--task-definition", "web", "--desired-count", "2"];
    site.aws(&[&update[..], &rest[..]].concat()).unwrap();
    let service = wait_stable(&mut site, "web");
    assert_eq!(service["taskDefinition"], second);
    let running = tasks(&mut site, "web");
    assert_eq!(running.len(), 2);
    for task in &running {
        assert_eq!(task["taskDefinitionArn"], second);
        assert_eq!(task["startedBy"], service["deployments"][0]["id"]);
        assert_eq!(task["group"], "service:web");
    }
    let told = events(&service);
    assert_eq!(told[0], "(service web) has reached a steady state.");

    let delete = ["ecs", "delete-service", "--service", "web", "--force"];
    let deleted = site.aws(&delete).unwrap();
    assert_eq!(deleted["service"]["status"], "DRAINING");
    site.aws(&["ecs", "wait", "services-inactive", "--services", "web"])
        .unwrap();
    let gone =
        wait_for(PATIENCE, || tasks(&mut site, "web").is_empty().then_some(()));
    assert!(gone.is_some());
    site.finish().unwrap();
}

#[test]
fn a_deployment_survives_the_death_of_minato() {
    let mut site = Site::start().unwrap();
    define(&mut site, "web", &["/bin/sh", "-c", SERVE]);
    let input = json!({
        "serviceName": "web", "taskDefinition": "web", "desiredCount": 6
    });
    site.call("ecs", "create_service", input).unwrap();
    wait_stable(&mut site, "web");
    for round in 0..4_u64 {
        let second = define(&mut site, "web", &["/bin/sh", "-c", SERVE]);
        let input = json!({ "service": "web", "taskDefinition": "web" });
        site.call("ecs", "update_service", input).unwrap();
        // Somewhere within the deployment, each time later.
        std::thread::sleep(Duration::from_millis(40 * round));
        site.kill_minato().unwrap();
        site.up().unwrap();
        let service = wait_stable(&mut site, "web");
        assert_eq!(service["taskDefinition"], second);
        let running = tasks(&mut site, "web");
        assert_eq!(running.len(), 6);
        assert!(running.iter().all(|task| task["taskDefinitionArn"] == second));
    }
    let arn = json!({ "service": "web" });
    let listed = site.call("ecs", "list_service_deployments", arn).unwrap();
    let ends: BTreeSet<&str> = listed["serviceDeployments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["status"].as_str().unwrap())
        .collect();
    assert_eq!(ends, ["SUCCESSFUL"].into(), "{listed}");
    // `down` stops what services would replace; the next start brings it back.
    site.minato(&["down"]).unwrap();
    site.forget_minato().unwrap();
    site.up().unwrap();
    wait_stable(&mut site, "web");
    assert_eq!(tasks(&mut site, "web").len(), 6);
    site.finish().unwrap();
}

#[test]
fn a_broken_deployment_is_taken_back() {
    let mut site = Site::start().unwrap();
    let good = define(&mut site, "web", &["/bin/sh", "-c", SERVE]);
    let breaker = json!({
        "deploymentCircuitBreaker": { "enable": true, "rollback": true }
    });
    let input = json!({
        "serviceName": "web", "taskDefinition": "web", "desiredCount": 2,
        "deploymentConfiguration": breaker
    });
    site.call("ecs", "create_service", input).unwrap();
    wait_stable(&mut site, "web");
    let before: BTreeSet<String> = tasks(&mut site, "web")
        .iter()
        .map(|task| task["taskArn"].as_str().unwrap().to_owned())
        .collect();
    define(&mut site, "web", &["/nonexistent"]);
    let input = json!({ "service": "web", "taskDefinition": "web" });
    site.call("ecs", "update_service", input).unwrap();
    let mut last = Value::Null;
    let back = wait_for(PATIENCE, || {
        last = describe(&mut site, "web");
        let is_back = last["taskDefinition"] == good
            && last["deployments"].as_array()?.len() == 1;
        is_back.then_some(())
    });
    assert!(back.is_some(), "{last:#}");
    let told = events(&last).join("\n");
    assert!(
        told.contains("deployment failed: tasks failed to start."),
        "{told}"
    );
    assert!(told.contains("rolling back to deployment ecs-svc/"), "{told}");
    let after: BTreeSet<String> = tasks(&mut site, "web")
        .iter()
        .map(|task| task["taskArn"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(before, after, "the good tasks ran on");
    let current = last["currentServiceDeployment"].clone();
    let input = json!({ "serviceDeploymentArns": [current] });
    let told = site.call("ecs", "describe_service_deployments", input).unwrap();
    let told = &told["serviceDeployments"][0];
    assert_eq!(told["status"], "ROLLBACK_SUCCESSFUL", "{told}");
    assert_eq!(told["deploymentCircuitBreaker"]["status"], "TRIGGERED");
    let told = site.minato(&["explain", "web"]).unwrap();
    assert!(told.contains("nothing is wrong with it"), "{told}");
    site.finish().unwrap();
}

#[test]
fn a_task_that_ends_is_replaced_and_an_unhealthy_one_too() {
    let mut site = Site::start().unwrap();
    let check = json!({
        "command": ["CMD-SHELL", "test ! -e /tmp/ill"],
        "interval": 5, "timeout": 2, "retries": 1
    });
    let definition = json!({
        "family": "web",
        "containerDefinitions": [{
            "name": "app", "image": IMAGE, "memory": 16,
            "command": ["/bin/sh", "-c",
                "trap 'exit 0' TERM; sleep 3; > /tmp/ill; \
                 while :; do sleep 0.1; done"],
            "healthCheck": check
        }]
    });
    site.call("ecs", "register_task_definition", definition).unwrap();
    let input = json!({
        "serviceName": "web", "taskDefinition": "web", "desiredCount": 1
    });
    site.call("ecs", "create_service", input).unwrap();
    // Healthy at first, ill after three seconds: it is replaced.
    let mut last = Value::Null;
    let replaced = wait_for(PATIENCE, || {
        last = describe(&mut site, "web");
        let told = events(&last).join("\n");
        told.contains("failed container health checks.").then_some(())
    });
    assert!(replaced.is_some(), "{last:#}");
    let input = json!({ "service": "web", "force": true });
    site.call("ecs", "delete_service", input).unwrap();
    site.finish().unwrap();
}

#[test]
fn explain_names_the_hosts_and_what_they_lack() {
    let mut site = Site::start().unwrap();
    let definition = json!({
        "family": "huge",
        "containerDefinitions": [{
            "name": "app", "image": IMAGE, "memory": 9_000_000, "cpu": 10
        }]
    });
    site.call("ecs", "register_task_definition", definition).unwrap();
    let input = json!({
        "serviceName": "huge", "taskDefinition": "huge", "desiredCount": 1
    });
    site.call("ecs", "create_service", input).unwrap();
    let told = wait_for(PATIENCE, || {
        let told = site.minato(&["explain", "huge"]).unwrap();
        told.contains("was unable to place a task").then_some(told)
    });
    let told = told.unwrap();
    let wanted = "one more task of huge:1 (10 CPU units, 9000000 MiB):";
    assert!(told.contains(wanted), "{told}");
    assert!(told.contains("RESOURCE:MEMORY: 9000000 MiB are"), "{told}");
    assert!(told.contains("It would fit on "), "{told}");
    let input = json!({ "service": "huge", "force": true });
    site.call("ecs", "delete_service", input).unwrap();
    site.finish().unwrap();
}
