//! Where tasks go, what a call may change of them, and what is refused.

use minato_e2e::Site;
use serde_json::{Value, json};

use super::{bridge, container, printed};

#[test]
fn overrides_are_read_as_definitions_are() {
    let mut site = Site::start().unwrap();
    let script = "dd if=/dev/zero of=/dev/null bs=200M count=1; \
                  [ $? = 137 ] && echo killed";
    let unlimited = json!({"memory": null});
    let greedy = container("app", script, unlimited);
    let definition =
        bridge("overridden", &[greedy], json!({"memory": "512", "cpu": "256"}));
    site.call("ecs", "register_task_definition", definition).unwrap();
    let with = |overrides: Value| {
        json!({"taskDefinition": "overridden", "launchType": "EC2",
               "overrides": overrides})
    };
    let sized = with(json!({"memory": ".0625 GB", "cpu": ".5 vCPU"}));
    let answer = site.call("ecs", "run_task", sized).unwrap();
    let task = &answer["tasks"][0];
    assert_eq!((&task["memory"], &task["cpu"]), (&json!("64"), &json!("512")));
    let arn = task["taskArn"].as_str().unwrap().to_owned();
    site.wait_task(&arn, "STOPPED").unwrap();
    assert!(printed(&site, &arn).contains("killed"));
    for (overrides, why) in [
        (json!({"memory": "much"}), "Invalid 'memory' setting for task"),
        (json!({"cpu": "-1"}), "Invalid 'cpu' setting for task"),
        (json!({"ephemeralStorage": {"sizeInGiB": 30}}), "Fargate launch type"),
        (
            json!({"inferenceAcceleratorOverrides":
                [{"deviceName": "d", "deviceType": "eia1.medium"}]}),
            "inference accelerator named d",
        ),
        (json!({"taskRoleArn": "{{role}}"}), "Role is not valid"),
    ] {
        let refused = site.call("ecs", "run_task", with(overrides));
        let refused = format!("{:#}", refused.unwrap_err());
        assert!(refused.contains("InvalidParameterException"), "{refused}");
        assert!(refused.contains(why), "{refused}");
    }
    site.finish().unwrap();
}

#[test]
fn tasks_go_where_their_definition_wants_them() {
    let mut site = Site::start().unwrap();
    let mut there = bridge(
        "there",
        &[container("app", "true", json!({}))],
        json!({"placementConstraints": [
            {"type": "memberOf", "expression": "attribute:stack == blue"},
        ]}),
    );
    let refused = site.run_task(there.clone(), "EC2").unwrap();
    let reason = refused["failures"][0]["reason"].as_str().unwrap();
    assert!(reason.starts_with("MemberOf"), "{refused}");
    let list = site.call("ecs", "list_container_instances", json!({})).unwrap();
    let host = list["containerInstanceArns"][0].clone();
    let attribute = json!({"name": "stack", "value": "blue",
        "targetType": "container-instance", "targetId": host});
    let put = json!({"attributes": [attribute]});
    site.call("ecs", "put_attributes", put).unwrap();
    let arn = site.start_task(there.clone(), "EC2").unwrap();
    site.wait_task(&arn, "STOPPED").unwrap();

    let other = if cfg!(target_arch = "x86_64") { "ARM64" } else { "X86_64" };
    there["runtimePlatform"] = json!({"cpuArchitecture": other});
    let refused = site.run_task(there, "EC2").unwrap();
    assert_eq!(refused["failures"][0]["reason"], "ATTRIBUTE");
    let detail = refused["failures"][0]["detail"].as_str().unwrap();
    assert!(detail.contains("ecs.cpu-architecture"), "{detail}");
    site.finish().unwrap();
}

/// What no host can do, yet: each is refused by the name of the capability
/// that it needs. What gets built goes from here.
fn unbuilt() -> Vec<(&'static str, Value, Value, &'static str)> {
    let none = || json!({});
    let volume = |mut volume: Value| {
        volume["name"] = json!("v");
        json!({"volumes": [volume], "taskRoleArn": "role"})
    };
    vec![
        (
            "inferenceAccelerators",
            none(),
            json!({"inferenceAccelerators":
                [{"deviceName": "d", "deviceType": "eia1.medium"}]}),
            "task-eia",
        ),
        (
            "splunk",
            json!({"logConfiguration": {"logDriver": "splunk", "options": {
                "splunk-token": "t", "splunk-url": "https://s.example"}}}),
            none(),
            "logging-driver.splunk",
        ),
        (
            "apparmor",
            json!({"dockerSecurityOptions": ["apparmor:x"]}),
            none(),
            "apparmor",
        ),
        (
            "selinux",
            json!({"dockerSecurityOptions": ["label:disable"]}),
            none(),
            "selinux",
        ),
        (
            "credentialSpecs",
            json!({"credentialSpecs": ["credentialspec:arn:aws:s3:::b/x"]}),
            none(),
            "gmsa",
        ),
        (
            "s3filesVolumeConfiguration",
            none(),
            volume(json!({"s3filesVolumeConfiguration":
                {"fileSystemArn": "arn:aws:s3files:us-east-1:1:file-system/x"}})),
            "storage.s3-files",
        ),
        (
            "fsxWindowsFileServerVolumeConfiguration",
            none(),
            volume(json!({"fsxWindowsFileServerVolumeConfiguration": {
                "fileSystemId": "fs-1", "rootDirectory": "x",
                "authorizationConfig":
                    {"credentialsParameter": "arn:x", "domain": "d"}}})),
            "fsxWindowsFileServer",
        ),
        (
            "dockerVolumeConfiguration.driver",
            none(),
            volume(json!({"dockerVolumeConfiguration": {"driver": "rexray"}})),
            "docker-plugin.rexray",
        ),
        (
            "efsVolumeConfiguration without --efs",
            none(),
            volume(json!({"efsVolumeConfiguration": {"fileSystemId": "fs-1"}})),
            "ecs.capability.efs",
        ),
    ]
}

#[test]
fn what_no_host_can_do_is_refused_by_its_name() {
    let mut site = Site::start().unwrap();
    for (what, container_patch, patch, capability) in unbuilt() {
        let app = container("app", "true", container_patch);
        let definition = bridge("unbuilt", &[app], patch);
        let refused = site.run_task(definition, "EC2").unwrap();
        assert_eq!(refused["tasks"], json!([]), "{what}");
        let failure = &refused["failures"][0];
        assert_eq!(failure["reason"], "ATTRIBUTE", "{what}: {failure}");
        let detail = failure["detail"].as_str().unwrap();
        assert!(detail.contains(capability), "{what}: {detail}");
    }
    // Not an attribute, but a thing that a host has or has not.
    let gpu = json!({"resourceRequirements": [{"type": "GPU", "value": "1"}]});
    let definition = bridge("gpu", &[container("app", "true", gpu)], json!({}));
    let refused = site.run_task(definition, "EC2").unwrap();
    assert_eq!(refused["failures"][0]["reason"], "RESOURCE:GPU", "{refused}");
    site.finish().unwrap();
}
