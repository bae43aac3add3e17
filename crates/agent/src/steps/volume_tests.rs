//! Volumes of every kind, over the fakes.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::docker_volume::unfinished;
use super::volumes::{Source, Volumes, source};
use super::{Step as _, StepError, TaskContext};
use crate::agent::Services;
use crate::config::{AgentConfig, EfsTarget};
use crate::runtime::fake::FakeRuntime;
use crate::session::attributes::attributes;
use crate::task::decode::decode_task;
use crate::task::record::TaskFacts;
use crate::test_support::{FakeApi, Rig, TASK_ID, id_of, services, stop_of};

/// A task of one container that mounts one volume.
fn task(volume: Value) -> minato_wire::acs::Task {
    let mut task = crate::test_support::task(json!([{
        "name": "web", "image": "web", "mountPoints": [
            {"sourceVolume": "data", "containerPath": "/data"},
        ],
    }]));
    task.volumes = serde_json::from_value(json!([volume])).unwrap();
    task
}

fn docker(docker: Value) -> minato_wire::acs::Task {
    task(json!({
        "name": "data", "type": "docker", "dockerVolumeConfiguration": docker,
    }))
}

fn efs(root: Option<&str>) -> minato_wire::acs::Task {
    task(json!({
        "name": "data", "type": "efs", "efsVolumeConfiguration": {
            "fileSystemId": "fs-0123abcd", "rootDirectory": root,
            "transitEncryption": "ENABLED",
            "authorizationConfig": {"iam": "ENABLED"},
        },
    }))
}

fn context(
    services: Arc<Services>,
    id: &str,
    task: &minato_wire::acs::Task,
) -> TaskContext {
    let mut plan = decode_task(task).unwrap();
    plan.id = id.to_owned();
    let dir = services.config.dir.join("tasks").join(id);
    TaskContext { services, plan: Arc::new(plan), dir }
}

fn at(dir: &Path, task: &minato_wire::acs::Task) -> TaskContext {
    let services = services(&FakeRuntime::new(), &FakeApi::default(), dir);
    context(services, TASK_ID, task)
}

fn mounted(cx: &TaskContext) -> Result<Source, StepError> {
    source(cx, "data", &cx.plan.volumes["data"])
}

async fn up(cx: &TaskContext) -> Result<Source, StepError> {
    Volumes.up(cx, &mut TaskFacts::default()).await?;
    mounted(cx)
}

async fn down(cx: &TaskContext) {
    Volumes.down(cx, &mut TaskFacts::default()).await.unwrap();
}

fn about(source: &Source) -> Value {
    let file = source.path.with_file_name("volume.json");
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

#[tokio::test]
async fn a_task_volume_goes_with_its_task() {
    let dir = tempfile::tempdir().unwrap();
    let labels = json!({"team": "blue"});
    let cx = at(dir.path(), &docker(json!({"labels": labels})));
    let data = up(&cx).await.unwrap();
    assert!(!data.read_only && data.path.starts_with(&cx.dir));
    let mode = fs::metadata(&data.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o755);
    let about = about(&data);
    assert_eq!(about["name"], "ecs-fam-1-data-0123456789abcdef0123");
    assert_eq!(about["labels"], labels);
    // Again, over what a crash left.
    fs::write(data.path.join("kept"), "").unwrap();
    assert_eq!(up(&cx).await.unwrap(), data);
    assert!(data.path.join("kept").exists());
    fs::remove_dir_all(&data.path).unwrap();
    assert_eq!(up(&cx).await.unwrap(), data);
    for _ in 0..2 {
        down(&cx).await;
        assert!(!cx.dir.join("volumes").exists());
    }
}

#[tokio::test]
async fn what_is_on_the_host_is_mounted_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let host = |path: &Path| {
        task(json!({"name": "data", "host": {"sourcePath": path}}))
    };
    let file = dir.path().join("file");
    fs::write(&file, "kept").unwrap();
    let socket = dir.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for path in [&file, &socket, Path::new("/dev/null")] {
        let mounted = up(&at(dir.path(), &host(path))).await.unwrap();
        assert_eq!(mounted, Source::writable(path.to_owned()));
    }
    assert_eq!(fs::read(&file).unwrap(), b"kept");
    // What is not there becomes a directory, as Docker makes it.
    let missing = dir.path().join("new/deep");
    let cx = at(dir.path(), &host(&missing));
    up(&cx).await.unwrap();
    assert!(missing.is_dir());
    // It is the host's, and stays.
    down(&cx).await;
    assert!(missing.is_dir() && file.exists());
    let blocked = file.join("below");
    let error = up(&at(dir.path(), &host(&blocked))).await.unwrap_err();
    assert_eq!(error.kind, "CannotCreateVolumeError");
}

#[tokio::test]
async fn a_shared_volume_outlives_its_tasks() {
    let dir = tempfile::tempdir().unwrap();
    let shared = json!({"scope": "shared", "autoprovision": false});
    let cx = at(dir.path(), &docker(shared.clone()));
    let error = up(&cx).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "ResourceInitializationError: initialize volume: volume detection \
         failed, volume 'data' does not exist and autoprovision is set to \
         false"
    );
    down(&cx).await;
    // Tasks that start at once.
    let made = json!({
        "scope": "shared", "autoprovision": true, "driver": "local",
        "labels": {"a": "b"},
    });
    let of = |id| context(cx.services.clone(), id, &docker(made.clone()));
    let (one, other) = (of("one"), of("other"));
    let (first, second) = tokio::join!(up(&one), up(&other));
    let data = first.unwrap();
    assert_eq!(data, second.unwrap());
    assert_eq!(data.path, dir.path().join("volumes/data/_data"));
    assert_eq!(about(&data)["labels"], json!({"a": "b"}));
    fs::write(data.path.join("kept"), "").unwrap();
    for cx in [&one, &other, &one] {
        down(cx).await;
        assert!(!unfinished(cx).exists());
    }
    // It is there now, whoever made it, and with whatever labels.
    assert_eq!(up(&cx).await.unwrap(), data);
    assert!(data.path.join("kept").exists());
}

#[tokio::test]
async fn a_volume_made_by_hand_is_one_and_a_link_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let cx = at(dir.path(), &docker(json!({"scope": "shared"})));
    let home = dir.path().join("volumes/data");
    fs::create_dir_all(&home).unwrap();
    symlink("/etc", home.join("_data")).unwrap();
    up(&cx).await.unwrap_err();
    fs::remove_file(home.join("_data")).unwrap();
    fs::create_dir(home.join("_data")).unwrap();
    assert_eq!(up(&cx).await.unwrap().path, home.join("_data"));
}

#[tokio::test]
async fn a_bind_option_mounts_the_device() {
    let dir = tempfile::tempdir().unwrap();
    let device = dir.path().join("device");
    let cx = at(
        dir.path(),
        &docker(json!({"driverOpts": {
            "type": "none", "o": "bind,ro", "device": device,
        }})),
    );
    let error = up(&cx).await.unwrap_err().to_string();
    let expected = "CannotCreateVolumeError: failed to mount local volume: ";
    assert!(error.starts_with(expected), "{error}");
    fs::create_dir(&device).unwrap();
    fs::write(device.join("kept"), "").unwrap();
    let data = up(&cx).await.unwrap();
    assert_eq!(
        data,
        Source { path: device.clone(), read_only: true, within: None }
    );
    down(&cx).await;
    assert!(device.join("kept").exists());
}

#[tokio::test]
async fn an_efs_volume_is_the_directory_that_stands_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let top = fs::canonicalize(dir.path()).unwrap().join("efs");
    fs::create_dir_all(top.join("web")).unwrap();
    fs::write(top.join("file"), "").unwrap();
    symlink("web", top.join("inside")).unwrap();
    symlink("/etc", top.join("outside")).unwrap();
    let with = |root, is_mapped| {
        let mut cx = at(dir.path(), &efs(root));
        let services = Arc::get_mut(&mut cx.services).unwrap();
        if is_mapped {
            let target = EfsTarget::Dir(top.clone());
            services.config.efs.insert("fs-0123abcd".into(), target);
        }
        cx
    };
    for (root, expected) in [
        (None, top.clone()),
        (Some("/"), top.clone()),
        (Some("/web"), top.join("web")),
        (Some("/inside/"), top.join("web")),
    ] {
        let cx = with(root, true);
        let within = Some(top.clone());
        let expected = Source { within, ..Source::writable(expected) };
        assert_eq!(up(&cx).await.unwrap(), expected);
        down(&cx).await;
    }
    assert!(top.join("web").is_dir());
    for (root, is_mapped, why) in [
        ("/", false, "no directory stands for the file system"),
        ("/gone", true, "No such file or directory"),
        ("/file", true, "it is not a directory"),
        ("/outside", true, "it leads out of the file system"),
        ("/../..", true, "it leads out of the file system"),
    ] {
        let error = up(&with(Some(root), is_mapped)).await.unwrap_err();
        assert_eq!(error.kind, "ResourceInitializationError");
        assert!(error.message.contains(why), "{error}");
    }
    // A link that was turned meanwhile is seen at the mount.
    let cx = with(Some("/inside"), true);
    up(&cx).await.unwrap();
    fs::remove_file(top.join("inside")).unwrap();
    symlink("/etc", top.join("inside")).unwrap();
    mounted(&cx).unwrap_err();
}

#[tokio::test]
async fn what_cannot_be_done_is_refused() {
    for (task, what) in [
        (
            docker(json!({"driver": "rexray/ebs"})),
            "volume data: the volume driver \"rexray/ebs\"",
        ),
        (
            docker(json!({"driverOpts": {"size": "1g"}})),
            "volume data: the driver option \"size\"",
        ),
        (task(json!({"name": "data", "type": "ebs"})), "volume data of type"),
    ] {
        let error = decode_task(&task).unwrap_err().to_string();
        assert!(error.starts_with(what), "{error}");
        assert!(error.ends_with(" is not supported by this agent"));
    }
}

#[tokio::test]
async fn efs_is_told_of_only_where_a_file_system_is_mapped() {
    let mut config = Rig::new().services().config.clone();
    let has = |config: &AgentConfig, name: &str| {
        let list = attributes(config, false);
        list.iter().any(|one| one.name.as_deref() == Some(name))
    };
    assert!(has(&config, "ecs.capability.docker-plugin.local"));
    let efs = ["ecs.capability.efs", "ecs.capability.efsAuth"];
    assert!(efs.iter().all(|name| !has(&config, name)));
    let dir = EfsTarget::Dir("/srv/efs".into());
    config.efs.insert("fs-0123abcd".into(), dir);
    assert!(efs.iter().all(|name| has(&config, name)));
}

#[tokio::test(start_paused = true)]
async fn volumes_reach_the_container() {
    let rig = Rig::new();
    let engine = rig.engine();
    let shared = docker(json!({"scope": "shared", "autoprovision": true}));
    engine.accept(shared.clone()).await.unwrap();
    rig.reported("RUNNING").await;
    let data = rig.dir.path().join("volumes/data/_data");
    let mounts = {
        let world = rig.runtime.world.lock();
        world.containers[&id_of("web")].spec.mounts.clone()
    };
    assert_eq!(mounts[0].source, data);
    assert_eq!(mounts[0].destination, Path::new("/data"));
    engine.accept(stop_of(&shared)).await.unwrap();
    rig.reported("STOPPED").await;
    assert!(data.is_dir());
}

#[tokio::test(start_paused = true)]
async fn a_missing_volume_is_the_tasks_reason() {
    let rig = Rig::new();
    let engine = rig.engine();
    engine.accept(docker(json!({"scope": "shared"}))).await.unwrap();
    let report = rig.reported("STOPPED").await;
    let reason = report["reason"].as_str().unwrap();
    assert!(reason.starts_with("ResourceInitializationError: "), "{reason}");
    assert!(reason.contains("volume 'data' does not exist"), "{reason}");
}
