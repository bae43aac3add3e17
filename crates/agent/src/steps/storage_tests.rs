//! Volumes that are mounted on the host, over the fakes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use super::volumes::{Source, Volumes, ebs_file, source};
use super::{Step as _, StepError, TaskContext};
use crate::runtime::{Format, MountOptions, VolumeSource};
use crate::session::attributes::attributes;
use crate::task::decode::decode_task;
use crate::task::record::TaskFacts;
use crate::test_support::{Rig, TASK_ID, id_of, stop_of};

fn task(volume: Value, attachments: Value) -> minato_wire::acs::Task {
    let mut task = crate::test_support::task(json!([{
        "name": "web", "image": "web", "mountPoints": [
            {"sourceVolume": "data", "containerPath": "/data"},
        ],
    }]));
    task.volumes = serde_json::from_value(json!([volume])).unwrap();
    task.attachments = serde_json::from_value(attachments).unwrap();
    task
}

fn ebs(delete: &str) -> minato_wire::acs::Task {
    task(
        json!({"name": "data", "type": "attachment"}),
        json!([{
            "attachmentArn": "arn", "attachmentType": "amazonebs",
            "attachmentProperties": [
                {"name": "volumeId", "value": "vol-0123"},
                {"name": "volumeName", "value": "data"},
                {"name": "volumeSizeGib", "value": "3"},
                {"name": "fileSystem", "value": "ext4"},
                {"name": "deleteOnTermination", "value": delete},
            ],
        }]),
    )
}

fn bounded(volume: Value) -> minato_wire::acs::Task {
    task(
        volume,
        json!([{"attachmentArn": "arn", "attachmentProperties": [
            {"name": "resourceType", "value": "EphemeralStorage"},
            {"name": "requestedSize", "value": "30"},
        ]}]),
    )
}

fn docker(docker: Value) -> minato_wire::acs::Task {
    task(
        json!({
            "name": "data", "type": "docker",
            "dockerVolumeConfiguration": docker,
        }),
        json!([]),
    )
}

fn context(rig: &Rig, id: &str, task: &minato_wire::acs::Task) -> TaskContext {
    let services = rig.services();
    let mut plan = decode_task(task).unwrap();
    plan.id = id.to_owned();
    let dir = services.config.dir.join("tasks").join(id);
    TaskContext { services, plan: Arc::new(plan), dir }
}

async fn up(cx: &TaskContext) -> Result<Source, StepError> {
    Volumes.up(cx, &mut TaskFacts::default()).await?;
    source(cx, "data", &cx.plan.volumes["data"])
}

async fn down(cx: &TaskContext) -> Result<(), StepError> {
    Volumes.down(cx, &mut TaskFacts::default()).await
}

fn mounts(rig: &Rig) -> Vec<(PathBuf, VolumeSource)> {
    rig.runtime.world.lock().mounts.clone().into_iter().collect()
}

#[tokio::test]
async fn an_ebs_volume_goes_with_its_task_or_stays() {
    for delete in ["true", "false"] {
        let rig = Rig::new();
        let cx = context(&rig, TASK_ID, &ebs(delete));
        let file = ebs_file(&cx.services.config, "vol-0123");
        let place = rig.dir.path().join("mounts").join(TASK_ID).join("data");
        for _ in 0..2 {
            assert_eq!(up(&cx).await.unwrap(), Source::writable(place.clone()));
        }
        let source = VolumeSource::Image {
            file: file.clone(),
            bytes: 3 << 30,
            format: Format::Ext4,
            mode: 0o775,
        };
        assert_eq!(mounts(&rig), [(place, source)]);
        for _ in 0..2 {
            down(&cx).await.unwrap();
            assert_eq!(mounts(&rig), []);
            assert_eq!(file.exists(), delete == "false");
        }
        assert!(!rig.dir.path().join("mounts").join(TASK_ID).exists());
    }
}

#[tokio::test]
async fn what_cannot_be_unmounted_is_not_removed() {
    let rig = Rig::new();
    let cx = context(&rig, TASK_ID, &ebs("true"));
    let data = up(&cx).await.unwrap();
    std::fs::write(data.path.join("file"), "").unwrap();
    rig.runtime.fail("unmount");
    down(&cx).await.unwrap_err();
    assert!(data.path.join("file").exists());
    assert!(ebs_file(&cx.services.config, "vol-0123").exists());
}

#[tokio::test]
async fn what_a_task_writes_is_in_one_place() {
    let rig = Rig::new();
    let volume = json!({"name": "data", "host": {}});
    let cx = context(&rig, TASK_ID, &bounded(volume));
    let disk = rig.dir.path().join("mounts").join(TASK_ID).join(".disk");
    let data = up(&cx).await.unwrap();
    assert_eq!(data.path, disk.join("volumes/data"));
    let source = VolumeSource::Image {
        file: cx.dir.join("disk.img"),
        bytes: 30 << 30,
        format: Format::Scratch,
        mode: 0o755,
    };
    assert_eq!(mounts(&rig), [(disk, source)]);
    down(&cx).await.unwrap();
    assert_eq!(mounts(&rig), []);
    assert!(!cx.dir.join("disk.img").exists());
}

#[tokio::test]
async fn memory_is_the_tasks_or_shared() {
    let rig = Rig::new();
    let driver = json!({
        "type": "tmpfs", "device": "tmpfs", "o": "size=10m,noexec",
    });
    let own = docker(json!({"driverOpts": driver}));
    let shared = docker(json!({
        "scope": "shared", "autoprovision": true, "driverOpts": driver,
    }));
    let (one, other) =
        (context(&rig, "one", &own), context(&rig, "other", &shared));
    let all = rig.dir.path().join("mounts");
    assert_eq!(up(&one).await.unwrap().path, all.join("one/data"));
    assert_eq!(up(&other).await.unwrap().path, all.join("other/=data"));
    let options = MountOptions::parse("size=10m,noexec");
    let siblings = Some(all.clone());
    let expected = [
        (
            all.join("one/data"),
            VolumeSource::Tmpfs { options: options.clone(), siblings: None },
        ),
        (all.join("other/=data"), VolumeSource::Tmpfs { options, siblings }),
    ];
    assert_eq!(mounts(&rig), expected);
    down(&one).await.unwrap();
    down(&other).await.unwrap();
    assert_eq!(mounts(&rig), []);
}

#[tokio::test]
async fn a_host_tells_what_it_can_make() {
    let mut config = Rig::new().services().config.clone();
    let named = |config: &crate::config::AgentConfig| {
        let all = attributes(config, false);
        let names = all.into_iter().filter_map(|one| one.name);
        names
            .filter(|name| name.contains("storage") || name.contains("ebs"))
            .collect::<Vec<_>>()
    };
    assert!(named(&config).is_empty());
    config.volumes.ext4 = true;
    let with_ext4 = named(&config);
    let attach = "ecs.capability.storage.ebs-task-volume-attach";
    assert!(with_ext4.iter().any(|name| name == attach));
    config.volumes.xfs = true;
    assert_eq!(named(&config).len(), with_ext4.len() + 1);
}

#[tokio::test(start_paused = true)]
async fn an_ebs_volume_reaches_the_container() {
    let rig = Rig::new();
    let engine = rig.engine();
    engine.accept(ebs("true")).await.unwrap();
    rig.reported("RUNNING").await;
    let spec = rig.runtime.world.lock().containers[&id_of("web")].spec.clone();
    let place = rig.dir.path().join("mounts").join(TASK_ID).join("data");
    assert_eq!(spec.mounts[0].source, place);
    assert_eq!(spec.mounts[0].destination, Path::new("/data"));
    assert_eq!(spec.additional_groups, ["0"]);
    assert_eq!(spec.writable, None);
    assert_eq!(engine.volume_ids(), ["vol-0123".to_owned()].into());
    engine.accept(stop_of(&ebs("true"))).await.unwrap();
    rig.reported("STOPPED").await;
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_cannot_be_mounted_is_the_tasks_reason() {
    let rig = Rig::new();
    rig.runtime.fail("mount");
    let engine = rig.engine();
    engine.accept(ebs("true")).await.unwrap();
    let report = rig.reported("STOPPED").await;
    let reason = report["reason"].as_str().unwrap();
    assert!(reason.contains("failed to mount volume data"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn what_was_left_is_swept() {
    let rig = Rig::new();
    let engine = rig.engine();
    let task = ebs("true");
    engine.accept(task.clone()).await.unwrap();
    rig.reported("RUNNING").await;
    rig.runtime.fail("unmount");
    engine.accept(stop_of(&task)).await.unwrap();
    rig.reported("STOPPED").await;
    let services = rig.services();
    let file = ebs_file(&services.config, "vol-0123");
    let passes = tokio::spawn(crate::sweep::run(services, engine));
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    assert!(file.exists() && !mounts(&rig).is_empty());
    rig.runtime.world.lock().failing.clear();
    tokio::time::timeout(std::time::Duration::from_secs(30), async {
        while file.exists() || !mounts(&rig).is_empty() {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
    })
    .await
    .unwrap();
    passes.abort();
}
