//! The example, from cluster to stop, with the AWS CLI.

use minato_e2e::{Site, repository};

#[test]
fn the_example_runs_serves_logs_and_stops() {
    let site = Site::start().unwrap();
    let cluster =
        site.aws(&["ecs", "create-cluster", "--cluster-name", "demo"]).unwrap();
    assert_eq!(cluster["cluster"]["status"], "ACTIVE");
    let file = repository().join("examples/web/task-definition.json");
    let input = format!("file://{}", file.display());
    site.aws(&["ecs", "register-task-definition", "--cli-input-json", &input])
        .unwrap();
    let subnets = site.aws(&["ec2", "describe-subnets"]).unwrap();
    let subnet = subnets["Subnets"][0]["SubnetId"].as_str().unwrap();
    let network = format!("awsvpcConfiguration={{subnets=[{subnet}]}}");
    let run =
        ["ecs", "run-task", "--cluster", "demo", "--launch-type", "FARGATE"];
    let rest =
        ["--task-definition", "web", "--network-configuration", &network];
    let ran = site.aws(&[&run[..], &rest[..]].concat()).unwrap();
    assert_eq!(ran["failures"], serde_json::json!([]));
    let arn = ran["tasks"][0]["taskArn"].as_str().unwrap();
    let of_task = ["--cluster", "demo", "--tasks", arn];

    site.aws(&[&["ecs", "wait", "tasks-running"], &of_task[..]].concat())
        .unwrap();
    let described =
        site.aws(&[&["ecs", "describe-tasks"], &of_task[..]].concat()).unwrap();
    let task = &described["tasks"][0];
    assert_eq!(task["lastStatus"], "RUNNING");
    assert_eq!(task["launchType"], "FARGATE");
    let address =
        task["containers"][0]["networkInterfaces"][0]["privateIpv4Address"]
            .as_str()
            .unwrap();
    let url = format!("http://{address}:8080/");
    let page = site
        .run(
            "curl",
            &[
                "-sS",
                "-m",
                "10",
                "--retry",
                "20",
                "--retry-connrefused",
                "--retry-delay",
                "1",
                &url,
            ],
        )
        .unwrap();
    assert!(page.contains("<h1>Hello from "), "{page}");

    let id = arn.rsplit('/').next().unwrap();
    let listed = site.minato(&["ps"]).unwrap();
    assert!(listed.contains(&id[..12]) && listed.contains(address), "{listed}");
    let told = site.minato(&["explain", id]).unwrap();
    assert!(told.contains("is running"), "{told}");
    logs_arrive_in_order(&site);
    stop(&site, arn);
    site.finish().unwrap();
}

fn logs_arrive_in_order(site: &Site) {
    // Messages of both containers; the page is written before it is served.
    let wanted = ["page: writing index.html", "web: serving on port 8080"];
    let mut seen = vec![];
    minato_e2e::wait_for(std::time::Duration::from_secs(30), || {
        let found = site
            .aws(&[
                "logs",
                "filter-log-events",
                "--log-group-name",
                "/minato/web",
            ])
            .unwrap();
        let events = found["events"].as_array().unwrap();
        seen = events
            .iter()
            .map(|event| event["message"].as_str().unwrap().to_owned())
            .collect();
        (seen.len() >= 3).then_some(())
    });
    assert_eq!(&seen[..2], wanted, "{seen:?}");
    // What httpd -v says of the request comes after what it said at first.
    assert!(seen.len() > 2, "{seen:?}");
}

fn stop(site: &Site, arn: &str) {
    let of_task = ["--cluster", "demo", "--tasks", arn];
    let stop = ["ecs", "stop-task", "--cluster", "demo", "--task", arn];
    let stopping =
        site.aws(&[&stop[..], &["--reason", "enough seen"]].concat()).unwrap();
    assert_eq!(stopping["task"]["desiredStatus"], "STOPPED");
    site.aws(&[&["ecs", "wait", "tasks-stopped"], &of_task[..]].concat())
        .unwrap();
    let described =
        site.aws(&[&["ecs", "describe-tasks"], &of_task[..]].concat()).unwrap();
    let task = &described["tasks"][0];
    assert_eq!(task["stopCode"], "UserInitiated");
    assert_eq!(task["stoppedReason"], "enough seen");
    let exit_code = |name: &str| {
        let containers = task["containers"].as_array().unwrap();
        let found = containers.iter().find(|one| one["name"] == name).unwrap();
        found["exitCode"].as_i64()
    };
    // busybox httpd has no handler of SIGTERM, and the first process of a
    // namespace is not ended by a signal that it has no handler for.
    assert_eq!(exit_code("web"), Some(137));
    assert_eq!(exit_code("page"), Some(0));
    let told = site.minato(&["explain", arn]).unwrap();
    assert!(told.contains("somebody asked for it (enough seen)"), "{told}");
}
