//! Storage that tasks get when they are launched: EBS volumes, memory, and a
//! bound on what they write.

use std::path::{Path, PathBuf};
use std::time::Duration;

use minato_e2e::{IMAGE, Site, wait_for};
use nix::mount::umount;
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;

/// A definition with the volume `data`, configured at launch, at `/data`.
fn with_volume(family: &str, command: &str) -> Value {
    json!({
        "family": family,
        "networkMode": "bridge",
        "volumes": [{"name": "data", "configuredAtLaunch": true}],
        "containerDefinitions": [{
            "name": "app", "image": IMAGE, "cpu": 16, "memory": 64,
            "mountPoints": [
                {"sourceVolume": "data", "containerPath": "/data"},
            ],
            "command": ["/bin/sh", "-c", command],
        }]
    })
}

/// The configuration of a volume of 1 GiB.
fn configured(more: Value) -> Value {
    let mut managed = json!({
        "roleArn": "arn:aws:iam::000000000000:role/ecsInfrastructureRole",
        "sizeInGiB": 1, "filesystemType": "ext4",
    });
    let members = managed.as_object_mut().unwrap();
    members.extend(more.as_object().unwrap().clone());
    json!([{"name": "data", "managedEBSVolume": managed}])
}

/// Starts a task of a definition with its volume; its ARN.
fn start(site: &mut Site, definition: Value, volume: Value) -> String {
    let family = definition["family"].clone();
    site.call("ecs", "register_task_definition", definition).unwrap();
    let input = json!({
        "cluster": "default", "taskDefinition": family,
        "volumeConfigurations": volume,
    });
    let ran = site.call("ecs", "run_task", input).unwrap();
    assert_eq!(ran["failures"], json!([]), "{ran:#}");
    ran["tasks"][0]["taskArn"].as_str().unwrap().to_owned()
}

/// A detail of the task's volume, and the attachment's status.
fn attachment(task: &Value, detail: &str) -> (String, String) {
    let attachments = task["attachments"].as_array().unwrap();
    let is_ebs = |one: &&Value| one["type"] == "AmazonElasticBlockStorage";
    let one = attachments.iter().find(is_ebs).unwrap();
    let details = one["details"].as_array().unwrap();
    let found = details.iter().find(|one| one["name"] == detail);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&found.unwrap()["value"]), text(&one["status"]))
}

fn file_of(site: &Site, volume: &str) -> PathBuf {
    site.dir().join(format!("data/agent/ebs/{volume}.img"))
}

/// Files of this site that loop devices have, or the file systems of which
/// are mounted.
fn devices(site: &Site) -> Vec<String> {
    let entries = std::fs::read_dir("/sys/block").unwrap();
    let files = entries.filter_map(|entry| {
        let file = entry.unwrap().path().join("loop/backing_file");
        Some(std::fs::read_to_string(file).ok()?.trim().to_owned())
    });
    files.filter(|file| Path::new(file).starts_with(site.dir())).collect()
}

fn wait_no_devices(site: &Site) {
    wait_for(Duration::from_secs(20), || {
        devices(site).is_empty().then_some(())
    })
    .unwrap();
}

/// Fills `/data`; says how many KiB there are in all and how it ended.
const FILL: &str = "df -k /data | tail -1 | awk '{print \"size\", $2}'; \
    dd if=/dev/zero of=/data/fill bs=1M count=2000 2>&1 | tail -3; \
    rm /data/fill; echo kept > /data/file; sync; \
    dd if=/dev/zero of=/outside bs=1M count=1 2>/dev/null && echo outside";

#[test]
fn a_volume_has_its_size_and_goes_with_its_task() {
    let mut site = Site::start().unwrap();
    let definition = with_volume("full", FILL);
    let arn = start(&mut site, definition, configured(json!({})));
    let task = site.wait_task(&arn, "STOPPED").unwrap();
    let said = site.minato(&["logs", &arn]).unwrap();
    assert_eq!(task["containers"][0]["exitCode"], 0, "{task:#} {said}");
    let size = said.lines().find_map(|line| line.split("size ").nth(1));
    let size: u64 = size.unwrap().trim().parse().unwrap();
    assert!((900..=1024).contains(&(size * 1024 / MIB)), "{said}");
    assert!(said.contains("No space left on device"), "{said}");
    assert!(said.contains("outside"), "{said}");
    let (volume, status) = attachment(&task, "volumeId");
    assert_eq!(status, "DELETED");
    assert!(volume.starts_with("vol-"), "{volume}");
    wait_for(Duration::from_secs(20), || {
        (!file_of(&site, &volume).exists()).then_some(())
    })
    .unwrap();
    wait_no_devices(&site);
    let volumes = site.call("ec2", "describe_volumes", json!({})).unwrap();
    assert_eq!(volumes["Volumes"], json!([]));
    site.finish().unwrap();
}

#[test]
fn a_kept_volume_has_its_data_until_it_is_deleted() {
    let mut site = Site::start().unwrap();
    let definition = with_volume("keeps", "echo precious > /data/file");
    let keep = json!({"terminationPolicy": {"deleteOnTermination": false}});
    let arn = start(&mut site, definition, configured(keep));
    let task = site.wait_task(&arn, "STOPPED").unwrap();
    let (volume, status) = attachment(&task, "volumeId");
    assert_eq!(status, "DETACHED");
    assert_eq!(attachment(&task, "deleteOnTermination").0, "false");
    let asked = json!({"VolumeIds": [volume]});
    let found = site.call("ec2", "describe_volumes", asked.clone()).unwrap();
    assert_eq!(found["Volumes"][0]["State"], "available", "{found:#}");
    wait_no_devices(&site);
    let file = file_of(&site, &volume);
    let dir = tempfile::tempdir().unwrap();
    let image = file.to_str().unwrap();
    let at = dir.path().to_str().unwrap();
    site.run("mount", &["-o", "loop,ro", image, at]).unwrap();
    let data = std::fs::read_to_string(dir.path().join("file"));
    umount(dir.path()).unwrap();
    assert_eq!(data.unwrap(), "precious\n");
    let delete = json!({"VolumeId": volume});
    site.call("ec2", "delete_volume", delete).unwrap();
    site.call("ec2", "describe_volumes", asked).unwrap_err();
    wait_for(Duration::from_secs(20), || (!file.exists()).then_some(()))
        .unwrap();
    site.finish().unwrap();
}

#[test]
fn a_volume_outlives_minato_and_not_its_service() {
    let mut site = Site::start().unwrap();
    let wait = "id -u; touch /data/mine && echo writes; \
                trap 'exit 0' TERM; while :; do sleep 0.1; done";
    let mut definition = with_volume("serves", wait);
    // Others than root may write to it, by its group.
    definition["containerDefinitions"][0]["user"] = json!("1000:1000");
    site.call("ecs", "register_task_definition", definition).unwrap();
    let volumes = configured(json!({}));
    site.call(
        "ecs",
        "create_service",
        json!({
            "serviceName": "serves", "taskDefinition": "serves",
            "desiredCount": 1, "volumeConfigurations": volumes,
        }),
    )
    .unwrap();
    let list = json!({"serviceName": "serves"});
    let arn = wait_for(Duration::from_secs(30), || {
        let tasks = site.call("ecs", "list_tasks", list.clone()).ok()?;
        tasks["taskArns"][0].as_str().map(str::to_owned)
    })
    .unwrap();
    let task = site.wait_task(&arn, "RUNNING").unwrap();
    let (volume, status) = attachment(&task, "volumeId");
    assert_eq!(status, "ATTACHED");
    assert_eq!(devices(&site).len(), 1);
    site.kill_minato().unwrap();
    site.up().unwrap();
    let task = site.wait_task(&arn, "RUNNING").unwrap();
    assert_eq!(attachment(&task, "volumeId").0, volume);
    assert_eq!(devices(&site).len(), 1);
    let said = site.minato(&["logs", &arn]).unwrap();
    assert!(said.contains("writes"), "{said}");
    // The service's next task has another volume.
    site.call("ecs", "stop_task", json!({"task": arn})).unwrap();
    site.kill_minato().unwrap();
    site.up().unwrap();
    site.wait_task(&arn, "STOPPED").unwrap();
    let next = wait_for(Duration::from_secs(30), || {
        let tasks = site.call("ecs", "list_tasks", list.clone()).ok()?;
        let next = tasks["taskArns"][0].as_str();
        next.filter(|next| *next != arn).map(str::to_owned)
    })
    .unwrap();
    let task = site.wait_task(&next, "RUNNING").unwrap();
    assert_ne!(attachment(&task, "volumeId").0, volume);
    wait_for(Duration::from_secs(20), || {
        (!file_of(&site, &volume).exists()).then_some(())
    })
    .unwrap();
    let delete = json!({"service": "serves", "force": true});
    site.call("ecs", "delete_service", delete).unwrap();
    site.wait_task(&next, "STOPPED").unwrap();
    wait_no_devices(&site);
    site.finish().unwrap();
}

#[test]
fn memory_is_shared_by_a_task_s_containers() {
    let mut site = Site::start().unwrap();
    let definition = json!({
        "family": "cached",
        "networkMode": "bridge",
        "volumes": [{"name": "cache", "dockerVolumeConfiguration": {
            "scope": "task", "driver": "local", "driverOpts": {
                "type": "tmpfs", "device": "tmpfs", "o": "size=1m,mode=1777",
            },
        }}],
        "containerDefinitions": [
            {
                "name": "writes", "image": IMAGE, "cpu": 16, "memory": 32,
                "essential": false,
                "mountPoints": [
                    {"sourceVolume": "cache", "containerPath": "/cache"},
                ],
                "command": ["/bin/sh", "-c", "echo hello > /cache/file"],
            },
            {
                "name": "reads", "image": IMAGE, "cpu": 16, "memory": 32,
                "mountPoints": [
                    {"sourceVolume": "cache", "containerPath": "/cache"},
                ],
                "dependsOn": [
                    {"containerName": "writes", "condition": "SUCCESS"},
                ],
                "command": ["/bin/sh", "-c",
                    "cat /cache/file && grep /cache /proc/mounts && \
                     dd if=/dev/zero of=/cache/fill bs=1M count=2 2>&1"],
            },
        ],
    });
    let arn = site.start_task(definition, "EC2").unwrap();
    let task = site.wait_task(&arn, "STOPPED").unwrap();
    let said = site.minato(&["logs", &arn]).unwrap();
    assert!(said.contains("hello"), "{task:#} {said}");
    assert!(said.contains("size=1024k"), "{said}");
    assert!(said.contains("No space left on device"), "{said}");
    site.finish().unwrap();
}

#[test]
fn what_a_task_writes_is_bounded_where_that_is_asked_for() {
    let mut site = Site::start().unwrap();
    // The least that can be asked for; sparse, so that it takes no time.
    let definition = json!({
        "family": "bounded",
        "networkMode": "awsvpc",
        "requiresCompatibilities": ["FARGATE"],
        "cpu": "256", "memory": "512",
        "ephemeralStorage": {"sizeInGiB": 21},
        "volumes": [{"name": "scratch"}],
        "containerDefinitions": [{
            "name": "app", "image": IMAGE,
            "mountPoints": [
                {"sourceVolume": "scratch", "containerPath": "/scratch"},
            ],
            "command": ["/bin/sh", "-c",
                "for d in / /scratch; do \
                     df -k $d | tail -1 | awk '{print \"size\", $2}'; \
                 done; stat -c %d /scratch/. ; touch /file && echo writes"],
        }],
    });
    let arn = site.start_task(definition, "FARGATE").unwrap();
    let task = site.wait_task(&arn, "STOPPED").unwrap();
    let said = site.minato(&["logs", &arn]).unwrap();
    assert_eq!(task["containers"][0]["exitCode"], 0, "{task:#} {said}");
    assert_eq!(task["ephemeralStorage"]["sizeInGiB"], 21);
    let sizes = said.lines().filter_map(|line| line.split("size ").nth(1));
    let sizes: Vec<u64> =
        sizes.map(|size| size.trim().parse().unwrap()).collect();
    assert_eq!(sizes.len(), 2, "{said}");
    for size in sizes {
        assert!((20_000..=21 * 1024).contains(&(size / 1024)), "{said}");
    }
    wait_no_devices(&site);
    site.finish().unwrap();
}

#[test]
fn what_is_not_served_is_refused() {
    let mut site = Site::start().unwrap();
    let definition = with_volume("refused", "true");
    site.call("ecs", "register_task_definition", definition).unwrap();
    for (volume, code) in [
        (json!([]), "InvalidParameterException"),
        (configured(json!({"sizeInGiB": 0})), "InvalidParameterException"),
        (configured(json!({"encrypted": true})), "UnsupportedFeature"),
        (configured(json!({"snapshotId": "snap-1"})), "UnsupportedFeature"),
    ] {
        let input = json!({
            "taskDefinition": "refused", "volumeConfigurations": volume,
        });
        let error = site.call("ecs", "run_task", input).unwrap_err();
        assert!(format!("{error:#}").contains(code), "{error:#}");
    }
    site.finish().unwrap();
}
