//! Managed daemons with real containers and the stock CLI.

use minato_e2e::{IMAGE, Site, wait_for};
use serde_json::{Value, json};

use crate::services::{PATIENCE, SERVE};

fn register(site: &Site) -> String {
    let containers = json!([{
        "name": "agent", "image": IMAGE, "memory": 16,
        "command": ["/bin/sh", "-c", SERVE]
    }]);
    let made = site
        .aws(&[
            "ecs",
            "register-daemon-task-definition",
            "--family",
            "agent",
            "--container-definitions",
            &containers.to_string(),
        ])
        .unwrap();
    let arn = &made["daemonTaskDefinitionArn"];
    arn.as_str().unwrap().to_owned()
}

fn wait_deployed(site: &Site, arn: &str) -> Value {
    let describe = ["ecs", "describe-daemon-deployments"];
    let which = ["--daemon-deployment-arns", arn];
    let mut last = Value::Null;
    let done = wait_for(PATIENCE, || {
        let found = site.aws(&[&describe[..], &which[..]].concat()).unwrap();
        last = found["daemonDeployments"][0].clone();
        (last["status"] == "SUCCESSFUL").then_some(())
    });
    assert!(done.is_some(), "{last:#}");
    last
}

fn tasks(site: &mut Site) -> Vec<Value> {
    let input = json!({ "daemonName": "agent" });
    let listed = site.call("ecs", "list_tasks", input).unwrap();
    let arns = listed["taskArns"].as_array().unwrap().clone();
    if arns.is_empty() {
        return vec![];
    }
    let input = json!({ "tasks": arns });
    let mut found = site.call("ecs", "describe_tasks", input).unwrap();
    serde_json::from_value(found["tasks"].take()).unwrap()
}

#[test]
fn a_daemon_is_on_every_instance_and_survives_a_crash() {
    let mut site =
        Site::start_with(&["--auto-scaling-group", "fleet"]).unwrap();
    let group = json!({ "autoScalingGroupArn": "fleet" });
    let create = ["ecs", "create-capacity-provider", "--name", "mine"];
    let rest = ["--auto-scaling-group-provider", &group.to_string()];
    let made = site.aws(&[&create[..], &rest[..]].concat()).unwrap();
    let provider = made["capacityProvider"]["capacityProviderArn"].clone();
    let input = json!({
        "cluster": "default", "capacityProviders": ["mine"],
        "defaultCapacityProviderStrategy": []
    });
    site.call("ecs", "put_cluster_capacity_providers", input).unwrap();

    let definition = register(&site);
    let create = ["ecs", "create-daemon", "--daemon-name", "agent"];
    let provider = provider.as_str().unwrap();
    let what = ["--daemon-task-definition-arn", &definition];
    let on = ["--capacity-provider-arns", provider];
    let made = site.aws(&[&create[..], &what, &on].concat()).unwrap();
    assert_eq!(made["status"], "ACTIVE");
    wait_deployed(&site, made["deploymentArn"].as_str().unwrap());
    let first = tasks(&mut site);
    assert_eq!(first.len(), 1);
    assert_eq!(first[0]["lastStatus"], "RUNNING");
    assert_eq!(first[0]["group"], "daemon:agent");
    assert_eq!(first[0]["capacityProviderName"], "mine");

    // An update, in the middle of which Minato dies.
    let second = register(&site);
    let daemon = made["daemonArn"].as_str().unwrap();
    let update = ["ecs", "update-daemon", "--daemon-arn", daemon];
    let what = ["--daemon-task-definition-arn", &second];
    let updated = site.aws(&[&update[..], &what, &on].concat()).unwrap();
    site.kill_minato().unwrap();
    site.up().unwrap();
    wait_deployed(&site, updated["deploymentArn"].as_str().unwrap());
    let after = tasks(&mut site);
    assert_eq!(after.len(), 1);
    assert_eq!(after[0]["taskDefinitionArn"], second.as_str());

    // One that is stopped is replaced.
    let stopped = after[0]["taskArn"].as_str().unwrap();
    site.stop_task(stopped).unwrap();
    let again = wait_for(PATIENCE, || {
        let now = tasks(&mut site);
        let is_new = now.iter().any(|task| {
            task["taskArn"] != stopped && task["lastStatus"] == "RUNNING"
        });
        is_new.then_some(())
    });
    assert!(again.is_some(), "{:#?}", tasks(&mut site));

    let delete = ["ecs", "delete-daemon", "--daemon-arn", daemon];
    let gone = site.aws(&delete).unwrap();
    assert_eq!(gone["status"], "DELETE_IN_PROGRESS");
    let describe = ["ecs", "describe-daemon", "--daemon-arn", daemon];
    let gone =
        wait_for(PATIENCE, || site.aws(&describe).is_err().then_some(()));
    assert!(gone.is_some());
    site.finish().unwrap();
}
