//! What stock clients build on: waiters, paginators, classes of errors,
//! signatures.

use minato_e2e::{Boto, Site};
use serde_json::{Value, json};

fn sleeper(family: &str) -> Value {
    json!({
        "family": family,
        "networkMode": "host",
        "containerDefinitions": [{
            "name": "sleep",
            "image": minato_e2e::IMAGE,
            "cpu": 16,
            "memory": 16,
            "command": ["/bin/sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"]
        }]
    })
}

#[test]
fn waiters_paginators_and_error_classes_work() {
    let mut site = Site::start().unwrap();
    site.call("ecs", "register_task_definition", sleeper("sleep")).unwrap();
    let run = json!({
        "cluster": "default", "taskDefinition": "sleep", "launchType": "EC2", "count": 5
    });
    let answer = site.call("ecs", "run_task", run).unwrap();
    let tasks = answer["tasks"].as_array().unwrap().iter();
    let mut arns: Vec<&str> =
        tasks.map(|task| task["taskArn"].as_str().unwrap()).collect();
    arns.sort_unstable();
    let of_tasks = json!({ "cluster": "default", "tasks": arns });
    let boto = site.boto().unwrap();
    boto.wait("ecs", "tasks_running", of_tasks.clone()).unwrap();

    let paged =
        json!({ "cluster": "default", "PaginationConfig": { "PageSize": 2 } });
    let pages = boto.pages("ecs", "list_tasks", paged).unwrap();
    let pages = pages.as_array().unwrap();
    assert_eq!(pages.len(), 3, "{pages:?}");
    let mut listed: Vec<&str> = pages
        .iter()
        .flat_map(|page| page["taskArns"].as_array().unwrap())
        .map(|arn| arn.as_str().unwrap())
        .collect();
    listed.sort_unstable();
    assert_eq!(listed, arns);

    for arn in &arns {
        let stop = json!({ "cluster": "default", "task": arn });
        boto.call("ecs", "stop_task", stop).unwrap();
    }
    boto.wait("ecs", "tasks_stopped", of_tasks).unwrap();
    let absent = json!({ "cluster": "absent" });
    let error = boto.call("ecs", "list_tasks", absent).unwrap_err();
    assert_eq!(error.class, "ClusterNotFoundException");
    assert_eq!(error.code, "ClusterNotFoundException");
    site.finish().unwrap();
}

#[test]
fn a_wrong_secret_is_refused() {
    let site = Site::start().unwrap();
    let with = |name: &str, value: &str| {
        let mut python = site.command("python3");
        python.env(name, value);
        Boto::start(python).unwrap()
    };
    let mut wrong = with("AWS_SECRET_ACCESS_KEY", "not-the-secret");
    let error = wrong.call("ecs", "list_clusters", json!({})).unwrap_err();
    assert_eq!(error.code, "InvalidSignatureException", "{error}");
    let mut unknown = with("AWS_ACCESS_KEY_ID", "AKIAQQQQQQQQQQQQQQQQ");
    let error = unknown.call("ecs", "list_clusters", json!({})).unwrap_err();
    assert_eq!(error.code, "UnrecognizedClientException", "{error}");
    site.finish().unwrap();
}
