//! Spot capacity that is taken back.

use minato_e2e::{IMAGE, Site};
use serde_json::json;

use crate::services::{SERVE, tasks, wait_stable};

#[test]
fn an_interrupted_spot_task_ends_well_and_is_replaced() {
    let mut site = Site::start().unwrap();
    let definition = json!({
        "family": "web", "networkMode": "awsvpc", "cpu": "256", "memory": "512",
        "requiresCompatibilities": ["FARGATE"],
        "containerDefinitions": [{
            "name": "app", "image": IMAGE,
            "command": ["/bin/sh", "-c", SERVE]
        }]
    });
    site.call("ecs", "register_task_definition", definition).unwrap();
    let subnets = site.call("ec2", "describe_subnets", json!({})).unwrap();
    let subnet = subnets["Subnets"][0]["SubnetId"].clone();
    let input = json!({
        "serviceName": "web", "taskDefinition": "web", "desiredCount": 2,
        "capacityProviderStrategy": [
            { "capacityProvider": "FARGATE_SPOT", "weight": 1 }
        ],
        "networkConfiguration": {
            "awsvpcConfiguration": { "subnets": [subnet] }
        }
    });
    site.call("ecs", "create_service", input).unwrap();
    wait_stable(&mut site, "web");
    let before = tasks(&mut site, "web");
    assert_eq!(before[0]["capacityProviderName"], "FARGATE_SPOT");

    let told = site.minato(&["chaos", "spot", "web", "--count", "1"]).unwrap();
    let id = told.split_whitespace().next().unwrap().to_owned();
    assert_eq!(told.trim(), format!("{id} interrupted"));
    let victim = before
        .iter()
        .find(|task| task["taskArn"].as_str().unwrap().ends_with(&id))
        .unwrap();
    let arn = victim["taskArn"].as_str().unwrap();
    let ended = site.wait_task(arn, "STOPPED").unwrap();
    assert_eq!(ended["stopCode"], "SpotInterruption");
    assert_eq!(ended["stoppedReason"], "Your Spot Task was interrupted.");
    // It had its SIGTERM, and ended as it does then.
    assert_eq!(ended["containers"][0]["exitCode"], 0);
    let service = wait_stable(&mut site, "web");
    assert_eq!(service["deployments"][0]["failedTasks"], 0);
    let after = tasks(&mut site, "web");
    assert_eq!(after.len(), 2);
    assert!(after.iter().all(|task| task["taskArn"] != arn));

    // The same by the task's id; a task that is not there is no success.
    let other = after[0]["taskArn"].as_str().unwrap();
    site.minato(&["chaos", "spot", other]).unwrap();
    site.wait_task(other, "STOPPED").unwrap();
    assert!(site.minato(&["chaos", "spot", "nobody"]).is_err());
    wait_stable(&mut site, "web");
    site.finish().unwrap();
}
