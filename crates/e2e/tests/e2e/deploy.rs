//! Deploy tools that people use: fabfuel's ecs-deploy, and blue and green by
//! hand with task sets.

use std::time::Duration;

use minato_e2e::{IMAGE, Site, wait_for};
use serde_json::{Value, json};

use crate::services::{PATIENCE, SERVE, define, tasks, wait_stable};

fn ecs(site: &Site, words: &[&str]) -> String {
    site.run("ecs", words).unwrap()
}

#[test]
fn ecs_deploy_deploys_scales_and_runs() {
    let mut site = Site::start().unwrap();
    define(&mut site, "web", &["/bin/sh", "-c", SERVE]);
    let input = json!({
        "serviceName": "web", "taskDefinition": "web", "desiredCount": 2
    });
    site.call("ecs", "create_service", input).unwrap();
    wait_stable(&mut site, "web");

    // A deployment: a new revision with another variable, rolled out whole.
    let deploy = ["deploy", "default", "web", "--timeout", "60"];
    let rest = ["--sleep-time", "1", "-e", "app", "LEVEL", "high"];
    let told = ecs(&site, &[&deploy[..], &rest[..]].concat());
    assert!(told.contains("Deployment successful"), "{told}");
    let service = wait_stable(&mut site, "web");
    let arn = service["taskDefinition"].as_str().unwrap();
    assert!(arn.ends_with(":task-definition/web:2"), "{arn}");
    let input = json!({ "taskDefinition": arn });
    let definition =
        site.call("ecs", "describe_task_definition", input).unwrap();
    let container = &definition["taskDefinition"]["containerDefinitions"][0];
    assert_eq!(
        container["environment"],
        json!([{ "name": "LEVEL", "value": "high" }])
    );
    for task in tasks(&mut site, "web") {
        assert_eq!(task["taskDefinitionArn"], arn);
    }

    let scale = ["scale", "default", "web", "3", "--timeout", "60"];
    let told = ecs(&site, &[&scale[..], &["--sleep-time", "1"]].concat());
    assert!(told.contains("Scaling successful"), "{told}");
    wait_stable(&mut site, "web");
    assert_eq!(tasks(&mut site, "web").len(), 3);

    let told = ecs(&site, &["run", "default", "web:2", "1"]);
    assert!(told.contains("Successfully started 1 instances"), "{told}");

    // A deployment that cannot succeed is told, and taken back by the tool.
    let broken = ["-c", "app", "/bin/false", "--rollback"];
    let words = [&deploy[..1], &["default", "web", "--timeout", "8"], &broken];
    let failed = site.run("ecs", &words.concat()).unwrap_err().to_string();
    assert!(failed.contains("Deployment failed"), "{failed}");
    assert!(failed.contains("Rolling back"), "{failed}");
    let service = wait_stable(&mut site, "web");
    assert_eq!(service["taskDefinition"], arn);
    site.finish().unwrap();
}

fn sets(site: &mut Site) -> Vec<Value> {
    let input = json!({ "cluster": "default", "service": "web" });
    let mut found = site.call("ecs", "describe_task_sets", input).unwrap();
    serde_json::from_value(found["taskSets"].take()).unwrap()
}

/// Waits until every set is steady; gives them.
fn wait_steady(site: &mut Site) -> Vec<Value> {
    let mut last = vec![];
    let found = wait_for(PATIENCE, || {
        last = sets(site);
        let mut all = last.iter();
        all.all(|set| set["stabilityStatus"] == "STEADY_STATE").then_some(())
    });
    assert!(found.is_some(), "the sets do not settle: {last:#?}");
    last
}

fn create_set(site: &Site, definition: &str, percent: u32) -> String {
    let scale = format!("value={percent},unit=PERCENT");
    let made = site
        .aws(&[
            "ecs",
            "create-task-set",
            "--cluster",
            "default",
            "--service",
            "web",
            "--task-definition",
            definition,
            "--external-id",
            definition,
            "--scale",
            &scale,
        ])
        .unwrap();
    made["taskSet"]["id"].as_str().unwrap().to_owned()
}

#[test]
fn blue_gives_way_to_green_though_minato_is_killed() {
    let mut site = Site::start().unwrap();
    define(&mut site, "web", &["/bin/sh", "-c", SERVE]);
    define(&mut site, "web", &["/bin/sh", "-c", SERVE]);
    let create = ["ecs", "create-service", "--service-name", "web"];
    let rest =
        ["--desired-count", "4", "--deployment-controller", "type=EXTERNAL"];
    let made = site.aws(&[&create[..], &rest[..]].concat()).unwrap();
    assert_eq!(made["service"]["deploymentController"]["type"], "EXTERNAL");
    let told = site.minato(&["explain", "web"]).unwrap();
    assert!(told.contains("create-task-set"), "{told}");

    let on_web = ["--cluster", "default", "--service", "web"];
    let blue = create_set(&site, "web:1", 100);
    let primary = ["ecs", "update-service-primary-task-set"];
    let make_primary = |site: &Site, set: &str| {
        let which = ["--primary-task-set", set];
        let words = [&primary[..], &on_web[..], &which[..]].concat();
        site.aws(&words).unwrap()
    };
    make_primary(&site, &blue);
    wait_steady(&mut site);
    assert_eq!(tasks(&mut site, "web").len(), 4);

    // Green comes up beside blue; in the middle of it, Minato dies.
    let green = create_set(&site, "web:2", 100);
    site.kill_minato().unwrap();
    site.up().unwrap();
    let both = wait_steady(&mut site);
    assert_eq!(both.len(), 2);
    for set in &both {
        assert_eq!(set["runningCount"], 4, "{set:#}");
    }
    let shown = make_primary(&site, &green);
    assert_eq!(shown["taskSet"]["status"], "PRIMARY");
    let delete = ["ecs", "delete-task-set", "--task-set", &blue];
    assert!(site.aws(&[&delete[..], &on_web[..]].concat()).is_err());
    let force = [&delete[..], &on_web[..], &["--force"]].concat();
    site.aws(&force).unwrap();
    site.kill_minato().unwrap();
    site.up().unwrap();
    let gone =
        wait_for(PATIENCE, || (sets(&mut site).len() == 1).then_some(()));
    assert!(gone.is_some(), "{:#?}", sets(&mut site));
    wait_steady(&mut site);
    let left = tasks(&mut site, "web");
    assert_eq!(left.len(), 4);
    for task in &left {
        assert_eq!(task["startedBy"], green.as_str());
    }
    let told = site.minato(&["explain", "web"]).unwrap();
    assert!(told.contains("nothing is wrong with it"), "{told}");

    let delete = ["ecs", "delete-service", "--service", "web", "--force"];
    site.aws(&delete).unwrap();
    site.aws(&["ecs", "wait", "services-inactive", "--services", "web"])
        .unwrap();
    let stopped =
        wait_for(PATIENCE, || tasks(&mut site, "web").is_empty().then_some(()));
    assert!(stopped.is_some());
    site.finish().unwrap();
}

#[test]
fn paginators_and_waiters_of_services_work() {
    let mut site = Site::start().unwrap();
    let definition = json!({
        "family": "web",
        "containerDefinitions": [{
            "name": "app", "image": IMAGE, "memory": 8,
            "command": ["/bin/sh", "-c", SERVE]
        }]
    });
    site.call("ecs", "register_task_definition", definition).unwrap();
    for number in 0..13 {
        let input = json!({
            "serviceName": format!("web-{number:02}"),
            "taskDefinition": "web",
            "desiredCount": u8::from(number == 0)
        });
        site.call("ecs", "create_service", input).unwrap();
    }
    let pages = site.boto().unwrap().pages("ecs", "list_services", json!({}));
    let pages = pages.unwrap();
    let pages = pages.as_array().unwrap();
    let arns: Vec<&Value> = pages
        .iter()
        .flat_map(|page| page["serviceArns"].as_array().unwrap())
        .collect();
    assert_eq!((pages.len(), arns.len()), (2, 13));
    let one = json!({ "services": ["web-00"] });
    let wait = json!({ "Delay": 1, "MaxAttempts": 60 });
    let mut input = one.clone();
    input["WaiterConfig"] = wait.clone();
    site.boto().unwrap().wait("ecs", "services_stable", input).unwrap();
    let listed = site.boto().unwrap().pages(
        "ecs",
        "list_tasks",
        json!({ "serviceName": "web-00" }),
    );
    assert_eq!(listed.unwrap()[0]["taskArns"].as_array().unwrap().len(), 1);
    let delete = json!({ "service": "web-00", "force": true });
    site.call("ecs", "delete_service", delete).unwrap();
    let mut input = one;
    input["WaiterConfig"] = wait;
    site.boto().unwrap().wait("ecs", "services_inactive", input).unwrap();
    let gone = wait_for(Duration::from_secs(30), || {
        tasks(&mut site, "web-00").is_empty().then_some(())
    });
    assert!(gone.is_some());
    site.finish().unwrap();
}
