//! An agent is killed, and another takes over.

use std::time::Duration;

use serde_json::json;

use crate::runtime::fake::Script;
use crate::task::record::TaskRecord;
use crate::test_support::{Rig, id_of, killed, stop_of, task};

#[tokio::test(start_paused = true)]
async fn a_running_task_is_kept_and_can_be_stopped() {
    let rig = Rig::new();
    let engine = rig.engine();
    let task = task(json!([{
        "name": "web", "image": "web", "portMappings": [
            {"containerPort": 80, "hostPort": 0, "protocol": "tcp"},
        ],
    }]));
    engine.accept(task.clone()).await.unwrap();
    rig.reported("RUNNING").await;
    let before = engine.tasks()[0].record.containers["web"].clone();
    killed(engine).await;
    let calls = rig.runtime.calls().len();
    let engine = rig.engine();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(engine.tasks()[0].record.containers["web"], before);
    // Nothing was done to it, nothing told again.
    assert_eq!(rig.runtime.calls().len(), calls);
    assert_eq!(rig.api.reports().len(), 1);
    engine.accept(stop_of(&task)).await.unwrap();
    let report = rig.reported("STOPPED").await;
    assert_eq!(report["containers"][0]["exitCode"], 143);
    assert_eq!(rig.runtime.leftovers(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn an_exit_meanwhile_is_told_with_its_code() {
    let rig = Rig::new();
    let engine = rig.engine();
    let containers = json!([{"name": "web", "image": "web"}]);
    engine.accept(task(containers)).await.unwrap();
    rig.reported("RUNNING").await;
    killed(engine).await;
    rig.runtime.exit(&id_of("web"), 42);
    let _engine = rig.engine();
    let report = rig.reported("STOPPED").await;
    assert_eq!(report["containers"][0]["exitCode"], 42);
}

#[tokio::test(start_paused = true)]
async fn another_boot_means_stopped_and_cleared() {
    let rig = Rig::new();
    let engine = rig.engine();
    let containers = json!([{"name": "web", "image": "web"}]);
    engine.accept(task(containers)).await.unwrap();
    rig.reported("RUNNING").await;
    killed(engine).await;
    rig.runtime.world.lock().boot_id = "boot-2".into();
    let _engine = rig.engine();
    let report = rig.reported("STOPPED").await;
    let web = &report["containers"][0];
    assert!(web.get("exitCode").is_none());
    assert_eq!(web["reason"], "ContainerVanishedError: The host was restarted");
    assert_eq!(rig.runtime.leftovers(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_report_not_yet_acknowledged_is_sent_by_the_next_agent() {
    let rig = Rig::new();
    for _ in 0..3 {
        rig.api.fail_next("SubmitTaskStateChange", "ServerException");
    }
    let engine = rig.engine();
    let containers = json!([{"name": "web", "image": "web"}]);
    engine.accept(task(containers)).await.unwrap();
    rig.until("queued", || {
        let tasks = engine.tasks();
        (!tasks[0].record.outbox.is_empty()).then_some(())
    })
    .await;
    killed(engine).await;
    assert_eq!(rig.api.reports().len(), 0);
    let _engine = rig.engine();
    rig.reported("RUNNING").await;
}

/// Killed after each single call to the engine, the task still comes up, and
/// goes down without a trace.
#[tokio::test(start_paused = true)]
async fn an_agent_killed_anywhere_is_followed_by_one_that_goes_on() {
    let calls = ["pull", "cgroup", "bridge", "publish", "create", "start"];
    for call in calls {
        let rig = Rig::new();
        rig.runtime.world.lock().hanging.insert(call.into());
        let engine = rig.engine();
        let task = task(json!([{
            "name": "web", "image": "web", "portMappings": [
                {"containerPort": 80, "hostPort": 0, "protocol": "tcp"},
            ],
        }]));
        engine.accept(task.clone()).await.unwrap();
        rig.until("hanging", || {
            let calls = rig.runtime.calls();
            calls.iter().any(|c| c.starts_with(call)).then_some(())
        })
        .await;
        killed(engine).await;
        rig.runtime.world.lock().hanging.clear();
        let engine = rig.engine();
        rig.reported("RUNNING").await;
        engine.accept(stop_of(&task)).await.unwrap();
        rig.reported("STOPPED").await;
        assert_eq!(rig.runtime.leftovers(), Vec::<String>::new(), "{call}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_killed_while_clearing_up_is_followed_by_one_that_ends_it() {
    for call in ["remove", "unpublish", "unbridge", "uncgroup"] {
        let rig = Rig::new();
        let script = Script { exits: Some(7), ..Script::default() };
        rig.runtime.script("once", script);
        rig.runtime.world.lock().hanging.insert(call.into());
        let engine = rig.engine();
        let containers = json!([{
            "name": "once", "image": "once", "portMappings": [
                {"containerPort": 80, "hostPort": 0, "protocol": "tcp"},
            ],
        }]);
        engine.accept(task(containers)).await.unwrap();
        rig.until("hanging", || {
            let calls = rig.runtime.calls();
            calls.iter().any(|c| c.starts_with(call)).then_some(())
        })
        .await;
        killed(engine).await;
        rig.runtime.world.lock().hanging.clear();
        let _engine = rig.engine();
        let report = rig.reported("STOPPED").await;
        let told: Vec<_> = rig
            .api
            .reports()
            .iter()
            .flat_map(|r| r["containers"].as_array().unwrap().clone())
            .filter_map(|c| c.get("exitCode").cloned())
            .collect();
        assert_eq!(told, [json!(7)], "{call} {report}");
        assert_eq!(rig.runtime.leftovers(), Vec::<String>::new(), "{call}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_broken_file_is_left_alone_and_the_others_go_on() {
    let rig = Rig::new();
    let engine = rig.engine();
    let containers = json!([{"name": "web", "image": "web"}]);
    engine.accept(task(containers)).await.unwrap();
    rig.reported("RUNNING").await;
    killed(engine).await;
    let tasks = rig.dir.path().join("tasks");
    for (name, content) in [("a", "{"), ("b", ""), ("c", r#"{"format": 99}"#)] {
        std::fs::create_dir_all(tasks.join(name)).unwrap();
        std::fs::write(tasks.join(name).join("task.json"), content).unwrap();
    }
    let engine = rig.engine();
    assert_eq!(engine.tasks().len(), 1);
    assert!(tasks.join("a/task.json").exists());
}

#[test]
fn a_record_reads_back_as_it_was_written() {
    let text = json!({
        "format": 1, "boot_id": "b", "payload": {"arn": "x"},
        "desired": "RUNNING", "reported": "PENDING",
        "containers": {"web": {"status": "RUNNING", "reported": "NONE",
            "exit_code": 3}},
    });
    let record: TaskRecord = serde_json::from_value(text).unwrap();
    let again = serde_json::to_string(&record).unwrap();
    let again: TaskRecord = serde_json::from_str(&again).unwrap();
    assert_eq!(again, record);
}
