//! What a container shares with others, and what it is kept from.

use minato_engine::container::NamespaceMode;

use super::*;
use crate::runtime::ContainerId;

async fn spec_with(
    network: &str,
    change: impl FnOnce(&mut minato_wire::acs::Task),
) -> (Fixture, crate::runtime::ContainerSpec) {
    let mut task = full_task(network);
    change(&mut task);
    let fixture = fixture_of(&task);
    let mut task_facts = TaskFacts::default();
    up(&task_steps(), &fixture.task, &mut task_facts).await.unwrap();
    let cx = fixture.container(task_facts);
    let mut facts = ContainerFacts::default();
    up(&container_steps(), &cx, &mut facts).await.unwrap();
    let spec = container_spec(&cx, &facts).unwrap();
    (fixture, spec)
}

#[tokio::test(start_paused = true)]
async fn who_has_no_network_has_none_in_any_mode() {
    for network in ["bridge", "awsvpc", "host", "none"] {
        let (fixture, spec) = spec_with(network, |task| {
            let docker = task.containers[0].docker_config.as_mut().unwrap();
            let config = json!({"NetworkDisabled": true});
            docker.config = Some(config.to_string());
            task.containers[0].port_mappings.clear();
        })
        .await;
        assert_eq!(spec.netns, Netns::New, "{network}");
        let dir = fixture.container(TaskFacts::default()).dir();
        let hosts = std::fs::read_to_string(dir.join("hosts")).unwrap();
        assert!(!hosts.contains("10.0.0.5"), "{network}: {hosts}");
    }
}

#[tokio::test(start_paused = true)]
async fn namespaces_follow_the_task() {
    let holder = format!("{TASK_ID}-namespaces");
    let shared =
        NamespaceMode::Container(ContainerId::new(holder.clone()).unwrap());
    let (private, host) = (NamespaceMode::Private, NamespaceMode::Host);
    for (pid, ipc, expected) in [
        (None, None, (&private, &private, false)),
        (Some("host"), Some("host"), (&host, &host, false)),
        (Some("task"), None, (&shared, &private, false)),
        (None, Some("task"), (&private, &shared, false)),
        (None, Some("none"), (&private, &private, true)),
    ] {
        let (fixture, spec) = spec_with("bridge", |task| {
            task.pid_mode = pid.map(str::to_owned);
            task.ipc_mode = ipc.map(str::to_owned);
        })
        .await;
        assert_eq!((&spec.pid_mode, &spec.ipc_mode, spec.no_shm), expected);
        // One holds them before the first container is made.
        let created: Vec<String> = fixture
            .rig
            .runtime
            .calls()
            .into_iter()
            .filter(|call| call.starts_with("create "))
            .collect();
        let is_held = created[0] == format!("create {holder}");
        let is_shared = [pid, ipc].contains(&Some("task"));
        assert_eq!(is_held, is_shared, "{created:?}");
    }
}

#[test]
fn other_modes_are_no_modes() {
    let mut task = full_task("bridge");
    task.pid_mode = Some("none".into());
    assert!(decode_task(&task).is_err());
    task.pid_mode = None;
    task.ipc_mode = Some("shareable".into());
    assert!(decode_task(&task).is_err());
}

#[test]
fn checks_are_docker_s() {
    let check = |test: Value| {
        let mut task = full_task("bridge");
        let config = json!({"Healthcheck": {"Test": test}}).to_string();
        task.containers[0].docker_config.as_mut().unwrap().config =
            Some(config);
        let plan = decode_task(&task).unwrap();
        plan.containers[0].health_check.clone().map(|check| check.command)
    };
    let words = |list: &[&str]| -> Option<Vec<String>> {
        Some(list.iter().map(|word| (*word).to_owned()).collect())
    };
    assert_eq!(check(json!(["NONE"])), None);
    assert_eq!(check(json!(["CMD", "a", "b"])), words(&["a", "b"]));
    let line = words(&["/bin/sh", "-c", "a b"]);
    assert_eq!(check(json!(["CMD-SHELL", "a b"])), line);
    let more = words(&["/bin/sh", "-c", "a", "b"]);
    assert_eq!(check(json!(["CMD-SHELL", "a", "b"])), more);
}

#[tokio::test(start_paused = true)]
async fn volumes_of_images_are_the_task_s_and_seen_by_others() {
    let mut task = full_task("bridge");
    let other = json!({
        "name": "side", "image": "side",
        "volumesFrom": [{"sourceContainer": "web", "readOnly": true}],
    });
    task.containers.push(serde_json::from_value(other).unwrap());
    let fixture = fixture_of(&task);
    let volumes = ["cache/", "/data"].map(str::to_owned).to_vec();
    let mut cx = fixture.container(TaskFacts::default());
    cx.image_volumes = BTreeMap::from([("web".to_owned(), volumes.clone())]);
    let image = crate::runtime::ImageFacts {
        volumes,
        ..crate::runtime::ImageFacts::default()
    };
    let found = super::super::mounts::mounts(&cx, &image).unwrap();
    let of = |path: &str| {
        let path = std::path::Path::new(path);
        found.iter().find(|mount| mount.destination == path).unwrap().clone()
    };
    let cache = of("/cache");
    // Where what the task writes is bounded.
    assert!(fixture.task.plan.disk_bytes.is_some());
    let bounded = super::super::volumes::own_dirs(&fixture.task);
    assert_eq!(cache.source.parent(), Some(bounded.as_path()));
    assert!(bounded.ends_with(".disk/volumes"));
    assert!(!cache.readonly);
    // What the definition mounts there is there.
    assert_eq!(of("/data").source, bounded.join("data"));
    assert_eq!(found.len(), 2);

    cx.plan = Arc::new(fixture.task.plan.containers[1].clone());
    let image = crate::runtime::ImageFacts::default();
    let shared = super::super::mounts::mounts(&cx, &image).unwrap();
    assert_eq!(shared.len(), 2);
    assert_eq!(shared[0].source, cache.source);
    assert!(shared.iter().all(|mount| mount.readonly));
}
