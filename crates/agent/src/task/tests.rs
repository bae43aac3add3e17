//! A task's life over the fake engine and the fake control plane.

use std::time::Duration;

use serde_json::{Value, json};

use crate::runtime::ExitReason;
use crate::runtime::fake::Script;
use crate::task::decode::task_id;
use crate::task::record::Desired;
use crate::test_support::{Rig, TASK_ARN, id_of, stop_of, task};

fn container<'a>(report: &'a Value, name: &str) -> &'a Value {
    let containers = report["containers"].as_array().unwrap();
    containers.iter().find(|c| c["containerName"] == name).unwrap()
}

/// The last that was told of a container.
fn told(rig: &Rig, name: &str) -> Value {
    rig.api
        .reports()
        .iter()
        .rev()
        .flat_map(|report| report["containers"].as_array().unwrap().clone())
        .find(|c| c["containerName"] == name)
        .unwrap_or_else(|| panic!("{name} was never told of"))
}

fn position(rig: &Rig, call: &str) -> usize {
    let calls = rig.runtime.calls();
    calls
        .iter()
        .position(|c| c == call)
        .unwrap_or_else(|| panic!("no {call} in {calls:#?}"))
}

#[tokio::test(start_paused = true)]
async fn a_task_runs_and_is_stopped() {
    let rig = Rig::new();
    let engine = rig.engine();
    let task = task(json!([{
        "name": "web", "image": "web", "essential": true,
        "portMappings": [
            {"containerPort": 80, "hostPort": 0, "protocol": "tcp"},
            {"containerPort": 443, "hostPort": 8443, "protocol": "tcp"},
        ],
    }]));
    engine.accept(task.clone()).await.unwrap();
    let report = rig.reported("RUNNING").await;
    assert_eq!(report["task"], TASK_ARN);
    let web = container(&report, "web");
    assert_eq!(web["status"], "RUNNING");
    assert_eq!(web["runtimeId"], id_of("web"));
    assert_eq!(web["imageDigest"], "sha256:web");
    assert_eq!(
        web["networkBindings"],
        json!([
            {"bindIP": "0.0.0.0", "containerPort": 80, "hostPort": 32768, "protocol": "tcp"},
            {"bindIP": "0.0.0.0", "containerPort": 443, "hostPort": 8443, "protocol": "tcp"},
        ])
    );
    // Redelivered: nothing happens.
    engine.accept(task.clone()).await.unwrap();
    engine.accept(stop_of(&task)).await.unwrap();
    let report = rig.reported("STOPPED").await;
    let web = container(&report, "web");
    assert_eq!(web["exitCode"], 143);
    assert_eq!(report["reason"], "");
    assert!(report["executionStoppedAt"].is_number());
    assert!(report["pullStartedAt"].is_number());
    assert_eq!(rig.runtime.leftovers(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn sigterm_then_sigkill_after_the_stop_timeout() {
    let rig = Rig::new();
    let script = Script { ignores_term: true, ..Script::default() };
    rig.runtime.script("deaf", script);
    let engine = rig.engine();
    let task = task(json!([
        {"name": "deaf", "image": "deaf", "stopTimeout": 7},
    ]));
    engine.accept(task.clone()).await.unwrap();
    rig.reported("RUNNING").await;
    let before = tokio::time::Instant::now();
    engine.accept(stop_of(&task)).await.unwrap();
    let report = rig.reported("STOPPED").await;
    assert_eq!(container(&report, "deaf")["exitCode"], 137);
    let took = before.elapsed();
    assert!(took >= Duration::from_secs(7), "{took:?}");
    assert!(took < Duration::from_secs(9), "{took:?}");
    let id = id_of("deaf");
    let term = position(&rig, &format!("signal {id} SIGTERM"));
    assert!(term < position(&rig, &format!("signal {id} SIGKILL")));
}

#[tokio::test(start_paused = true)]
async fn an_essential_exit_stops_the_others() {
    let rig = Rig::new();
    let engine = rig.engine();
    let containers = json!([
        {"name": "main", "image": "main", "essential": true},
        {"name": "side", "image": "side", "essential": false},
    ]);
    engine.accept(task(containers)).await.unwrap();
    rig.reported("RUNNING").await;
    rig.runtime.exit(&id_of("main"), 3);
    let report = rig.reported("STOPPED").await;
    assert_eq!(told(&rig, "main")["exitCode"], 3);
    assert_eq!(told(&rig, "side")["exitCode"], 143);
    assert_eq!(report["executionStoppedAt"], 5);
    assert_eq!(rig.runtime.leftovers(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_finished_helper_leaves_the_task_running() {
    let rig = Rig::new();
    rig.runtime.script("side", Script { exits: Some(5), ..Script::default() });
    let engine = rig.engine();
    let containers = json!([
        {"name": "main", "image": "main"},
        {"name": "side", "image": "side", "essential": false},
    ]);
    engine.accept(task(containers)).await.unwrap();
    rig.reported("RUNNING").await;
    rig.until("side told", || {
        let side = rig.api.reports().iter().any(|report| {
            report["containers"]
                .as_array()
                .unwrap()
                .iter()
                .any(|c| c["containerName"] == "side" && c["exitCode"] == 5)
        });
        side.then_some(())
    })
    .await;
    let view = &engine.tasks()[0];
    assert_eq!(view.record.desired, Desired::Running);
}

#[tokio::test(start_paused = true)]
async fn success_gates_and_its_failure_ends_the_task() {
    for (code, is_main_started) in [(0, true), (4, false)] {
        let rig = Rig::new();
        rig.runtime
            .script("init", Script { exits: Some(code), ..Script::default() });
        let engine = rig.engine();
        let containers = json!([
            {"name": "init", "image": "init", "essential": false},
            {"name": "main", "image": "main", "dependsOn": [
                {"containerName": "init", "condition": "SUCCESS"},
            ]},
        ]);
        engine.accept(task(containers)).await.unwrap();
        let main = format!("start {}", id_of("main"));
        if is_main_started {
            rig.reported("RUNNING").await;
            let end = position(&rig, &format!("remove {}", id_of("init")));
            assert!(end < position(&rig, &main));
            assert_eq!(told(&rig, "main")["status"], "RUNNING");
        } else {
            rig.reported("STOPPED").await;
            assert!(!rig.runtime.calls().contains(&main));
            let main = told(&rig, "main");
            assert_eq!(main["exitCode"], 143);
            let reason = main["reason"].as_str().unwrap();
            assert!(reason.contains("exited with code 4"), "{reason}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn healthy_gates() {
    let rig = Rig::new();
    let health = vec![1, 1, 0];
    rig.runtime.script("db", Script { health, ..Script::default() });
    let engine = rig.engine();
    engine.accept(task(database_and_app(600))).await.unwrap();
    let start = format!("start {}", id_of("app"));
    rig.reported("RUNNING").await;
    let calls = rig.runtime.calls();
    let check = format!("exec {}", id_of("db"));
    let before = calls.iter().take_while(|call| **call != start);
    assert_eq!(before.filter(|call| **call == check).count(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_dependency_that_is_not_healthy_in_time_ends_the_task() {
    let rig = Rig::new();
    let health = vec![1];
    rig.runtime.script("db", Script { health, ..Script::default() });
    let engine = rig.engine();
    engine.accept(task(database_and_app(60))).await.unwrap();
    rig.reported("STOPPED").await;
    let app = told(&rig, "app");
    assert_eq!(app["exitCode"], 143);
    assert!(app["reason"].as_str().unwrap().contains("timed out after 60 s"));
    assert!(app.get("runtimeId").is_none());
}

fn database_and_app(start_timeout: i64) -> Value {
    let config = json!({"Healthcheck": {
        "Test": ["CMD-SHELL", "true"],
        "Interval": 5_000_000_000_i64,
    }});
    json!([
        {"name": "app", "image": "app", "dependsOn": [
            {"containerName": "db", "condition": "HEALTHY"},
        ]},
        {"name": "db", "image": "db", "startTimeout": start_timeout,
         "healthCheckType": "docker",
         "dockerConfig": {"config": config.to_string()}},
    ])
}

#[tokio::test(start_paused = true)]
async fn containers_stop_in_reverse_order() {
    let rig = Rig::new();
    let engine = rig.engine();
    let task = task(json!([
        {"name": "db", "image": "db"},
        {"name": "app", "image": "app", "links": ["db:database"]},
    ]));
    engine.accept(task.clone()).await.unwrap();
    rig.reported("RUNNING").await;
    engine.accept(stop_of(&task)).await.unwrap();
    rig.reported("STOPPED").await;
    let (db, app) = (id_of("db"), id_of("app"));
    let at = |call: String| position(&rig, &call);
    assert!(at(format!("start {db}")) < at(format!("start {app}")));
    assert!(at(format!("remove {app}")) < at(format!("signal {db} SIGTERM")));
}

#[tokio::test(start_paused = true)]
async fn failures_to_start_have_ecs_reasons() {
    for (call, kind) in [
        ("pull", "CannotPullContainerError"),
        ("create", "CannotCreateContainerError"),
        ("start", "CannotStartContainerError"),
        ("bridge", "ContainerNetworkingError"),
    ] {
        let rig = Rig::new();
        rig.runtime.fail(call);
        let engine = rig.engine();
        let containers = json!([{"name": "web", "image": "web"}]);
        engine.accept(task(containers)).await.unwrap();
        let report = rig.reported("STOPPED").await;
        let web = container(&report, "web");
        let reason = web["reason"].as_str().unwrap();
        assert!(reason.starts_with(&format!("{kind}: ")), "{reason}");
        assert!(web.get("exitCode").is_none(), "{web}");
        assert!(web.get("runtimeId").is_none(), "{web}");
        assert_eq!(rig.runtime.leftovers(), Vec::<String>::new(), "{call}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_whose_own_steps_fail_says_why() {
    let rig = Rig::new();
    rig.runtime.fail("cgroup");
    let engine = rig.engine();
    let containers = json!([{"name": "web", "image": "web"}]);
    engine.accept(task(containers)).await.unwrap();
    let report = rig.reported("STOPPED").await;
    let reason = report["reason"].as_str().unwrap();
    assert!(reason.starts_with("ResourceInitializationError: "), "{reason}");
    assert_eq!(container(&report, "web")["status"], "STOPPED");
    assert_eq!(rig.runtime.leftovers(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn ends_have_their_reasons() {
    for (oom, reason, starts) in [
        (true, ExitReason::Exited, "OutOfMemoryError: Container killed"),
        (false, ExitReason::ShimLost, "ContainerVanishedError: "),
        (false, ExitReason::Reboot, "ContainerVanishedError: The host"),
    ] {
        let rig = Rig::new();
        let engine = rig.engine();
        let containers = json!([{"name": "web", "image": "web"}]);
        engine.accept(task(containers)).await.unwrap();
        rig.reported("RUNNING").await;
        rig.runtime.exit_as(&id_of("web"), 137, oom, reason);
        let report = rig.reported("STOPPED").await;
        let web = container(&report, "web");
        assert_eq!(web["exitCode"], 137);
        let reason = web["reason"].as_str().unwrap();
        assert!(reason.starts_with(starts), "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_during_the_pull_does_not_wait_for_it() {
    let rig = Rig::new();
    rig.runtime.world.lock().hanging.insert("pull".into());
    let engine = rig.engine();
    let task = task(json!([{"name": "web", "image": "web"}]));
    engine.accept(task.clone()).await.unwrap();
    rig.until("pull", || {
        let calls = rig.runtime.calls();
        calls.iter().any(|call| call == "pull web").then_some(())
    })
    .await;
    engine.accept(stop_of(&task)).await.unwrap();
    let report = rig.reported("STOPPED").await;
    assert!(container(&report, "web").get("exitCode").is_none());
    assert_eq!(rig.runtime.leftovers(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_stop_for_an_unknown_task_is_answered() {
    let rig = Rig::new();
    let engine = rig.engine();
    engine.accept(stop_of(&task(json!([])))).await.unwrap();
    let report = rig.reported("STOPPED").await;
    assert_eq!(
        report["reason"],
        "TaskStateError: Agent could not progress task's state to stopped"
    );
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_done_is_refused_with_a_reason() {
    let rig = Rig::new();
    let engine = rig.engine();
    let containers = json!([{
        "name": "web", "image": "web",
        "firelensConfiguration": {"type": "fluentd", "options": {
            "reload": "often",
        }},
    }]);
    engine.accept(task(containers)).await.unwrap();
    let report = rig.reported("STOPPED").await;
    assert_eq!(
        report["reason"],
        "ResourceInitializationError: FireLens option reload is not supported \
         by this agent"
    );
    assert_eq!(rig.runtime.calls(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn circles_are_refused() {
    let rig = Rig::new();
    let engine = rig.engine();
    let wait =
        |name: &str| json!([{"containerName": name, "condition": "START"}]);
    let containers = json!([
        {"name": "a", "image": "a", "dependsOn": wait("b")},
        {"name": "b", "image": "b", "dependsOn": wait("a")},
    ]);
    engine.accept(task(containers)).await.unwrap();
    let report = rig.reported("STOPPED").await;
    let reason = report["reason"].as_str().unwrap();
    assert!(reason.starts_with("TaskDependencyError: Task dependencies"));
}

#[tokio::test(start_paused = true)]
async fn reports_go_out_in_order_however_often_they_fail() {
    let rig = Rig::new();
    for _ in 0..3 {
        rig.api.fail_next("SubmitTaskStateChange", "ServerException");
    }
    let script = Script { exits: Some(0), ..Script::default() };
    rig.runtime.script("once", script);
    let engine = rig.engine();
    let containers = json!([{"name": "once", "image": "once"}]);
    engine.accept(task(containers)).await.unwrap();
    rig.reported("STOPPED").await;
    let statuses: Vec<Value> =
        rig.api.reports().iter().map(|r| r["status"].clone()).collect();
    assert_eq!(statuses.last(), Some(&json!("STOPPED")), "{statuses:?}");
}

#[tokio::test(start_paused = true)]
async fn a_refused_report_is_dropped() {
    let rig = Rig::new();
    rig.api.fail_next("SubmitTaskStateChange", "InvalidParameterException");
    let engine = rig.engine();
    let task = task(json!([{"name": "web", "image": "web"}]));
    engine.accept(task.clone()).await.unwrap();
    rig.until("running", || {
        let tasks = engine.tasks();
        let web = &tasks[0].record.containers["web"];
        web.started_at.map(drop)
    })
    .await;
    engine.accept(stop_of(&task)).await.unwrap();
    rig.reported("STOPPED").await;
    assert_eq!(rig.api.reports().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_task_is_forgotten_after_three_hours() {
    let rig = Rig::new();
    let script = Script { exits: Some(0), ..Script::default() };
    rig.runtime.script("once", script);
    let engine = rig.engine();
    let task = task(json!([{"name": "once", "image": "once"}]));
    engine.accept(task.clone()).await.unwrap();
    rig.reported("STOPPED").await;
    // It is over, and not started when its payload comes again.
    rig.until("over", || engine.tasks().is_empty().then_some(())).await;
    let id = task_id(&task.arn).unwrap();
    tokio::time::sleep(Duration::from_secs(3 * 60 * 60 - 60)).await;
    assert!(engine.is_known(&id));
    engine.accept(task.clone()).await.unwrap();
    engine.accept(stop_of(&task)).await.unwrap();
    assert!(engine.tasks().is_empty());
    rig.until("forgotten", || (!engine.is_known(&id)).then_some(())).await;
    let tasks = std::fs::read_dir(rig.dir.path().join("tasks")).unwrap();
    assert_eq!(tasks.count(), 0);
    let unlog = format!("unlog {}", id_of("once"));
    assert!(rig.runtime.calls().contains(&unlog));
}
