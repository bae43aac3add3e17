//! Containers that are started again, by their restart policy.

use std::time::Duration;

use serde_json::{Value, json};

use crate::engine::TaskEngine;
use crate::store::TaskFiles;
use crate::task::record::{ContainerRecord, Desired, HealthStatus};
use crate::test_support::{Rig, TASK_ID, id_of, killed, stop_of, task};

/// Started by the fake at 1 s; a second after each end after that.
const PERIOD_MS: i64 = 60_000;

fn policy() -> Value {
    json!({
        "enabled": true, "ignoredExitCodes": [0, 7],
        "restartAttemptPeriod": PERIOD_MS / 1000,
    })
}

fn containers() -> Value {
    json!([
        {"name": "web", "image": "web", "restartPolicy": policy()},
        {"name": "side", "image": "side", "essential": false},
    ])
}

/// As it is kept, also when the task is over.
fn web(rig: &Rig) -> ContainerRecord {
    let files = TaskFiles::open(rig.dir.path()).unwrap();
    let (records, _) = files.load().unwrap();
    records[0].containers["web"].clone()
}

fn count(rig: &Rig, call: &str) -> usize {
    let call = format!("{call} {}", id_of("web"));
    rig.runtime.calls().iter().filter(|c| **c == call).count()
}

/// Waits for a call, and then until all that is due after it has happened:
/// time is paused, so it passes only when nothing else can.
async fn called(rig: &Rig, call: &str, times: usize) {
    rig.until(call, || (count(rig, call) == times).then_some(())).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
}

async fn running(rig: &Rig, containers: Value) -> TaskEngine {
    let engine = rig.engine();
    engine.accept(task(containers)).await.unwrap();
    rig.reported("RUNNING").await;
    engine
}

async fn stopped(rig: &Rig, engine: &TaskEngine) -> Value {
    engine.accept(stop_of(&task(containers()))).await.unwrap();
    rig.reported("STOPPED").await;
    assert_eq!(rig.runtime.leftovers(), Vec::<String>::new());
    let told = rig.api.reports();
    let told = told.iter().flat_map(|r| r["containers"].as_array().unwrap());
    let mut told = told.filter(|c| c["containerName"] == "web");
    assert_eq!(told.next().unwrap()["status"], "RUNNING");
    let end = told.next().unwrap().clone();
    assert_eq!(told.next(), None, "a restart is not told");
    end
}

#[tokio::test(start_paused = true)]
async fn an_essential_container_is_started_again_and_again() {
    let rig = Rig::new();
    let engine = running(&rig, containers()).await;
    let first = web(&rig);
    let mut end_ms = 1_000 + PERIOD_MS;
    for times in 1..=3 {
        rig.runtime.exit_at(&id_of("web"), 3, end_ms);
        called(&rig, "restart", times).await;
        let known = web(&rig);
        assert_eq!(usize::try_from(known.restart_count).unwrap(), times);
        assert_eq!(known.restarting, None);
        assert_eq!(known.status, first.status);
        assert_eq!(known.started_at, first.started_at);
        assert_eq!(known.facts.address, first.facts.address);
        assert_eq!(known.facts.started_at_ms, Some(end_ms + 1_000));
        end_ms += 1_000 + PERIOD_MS;
    }
    assert_eq!(engine.tasks()[0].record.desired, Desired::Running);
    assert_eq!(rig.api.reports().len(), 1);
    let end = stopped(&rig, &engine).await;
    assert_eq!(end["exitCode"], 143);
    assert_eq!(end["runtimeId"], id_of("web"));
    assert_eq!((count(&rig, "create"), count(&rig, "remove")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn short_runs_and_ignored_codes_are_ends() {
    for (code, end_ms) in
        [(3, PERIOD_MS + 999), (0, 10 * PERIOD_MS), (7, 10 * PERIOD_MS)]
    {
        let rig = Rig::new();
        let _engine = running(&rig, containers()).await;
        rig.runtime.exit_at(&id_of("web"), code, end_ms);
        let report = rig.reported("STOPPED").await;
        let ends = report["containers"].to_string();
        assert!(ends.contains("143"), "the other one is stopped: {ends}");
        assert_eq!(web(&rig).exit_code, Some(code));
        assert_eq!(count(&rig, "restart"), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_run_that_is_short_is_an_end() {
    let rig = Rig::new();
    let _engine = running(&rig, containers()).await;
    rig.runtime.exit_at(&id_of("web"), 3, 2 * PERIOD_MS);
    called(&rig, "restart", 1).await;
    rig.runtime.exit_at(&id_of("web"), 4, 2 * PERIOD_MS + 2_000);
    rig.reported("STOPPED").await;
    assert_eq!(web(&rig).exit_code, Some(4));
    assert_eq!(web(&rig).restart_count, 1);
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_is_off_or_a_task_that_stops_restarts_nothing() {
    let rig = Rig::new();
    let off = json!([{
        "name": "web", "image": "web", "restartPolicy": {"enabled": false},
    }]);
    let _engine = running(&rig, off).await;
    rig.runtime.exit_at(&id_of("web"), 3, 10 * PERIOD_MS);
    rig.reported("STOPPED").await;

    let rig = Rig::new();
    let mut two = containers();
    two[1]["dependsOn"] =
        json!([{"containerName": "web", "condition": "START"}]);
    two[1]["stopTimeout"] = json!(30);
    let engine = running(&rig, two.clone()).await;
    rig.runtime.world.lock().hanging.insert("signal".into());
    engine.accept(stop_of(&task(two))).await.unwrap();
    // It waits for the other one, and ends by itself meanwhile.
    rig.runtime.exit_at(&id_of("web"), 3, 10 * PERIOD_MS);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(web(&rig).exit_code, Some(3));
    assert_eq!(count(&rig, "restart"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stop_during_the_restart_stops_it() {
    let rig = Rig::new();
    let mut with_secret = containers();
    with_secret[0]["secrets"] = json!([{
        "name": "S", "valueFrom": "s", "provider": "ssm",
        "region": "us-east-1", "type": "ENVIRONMENT_VARIABLE",
    }]);
    let engine = running(&rig, with_secret).await;
    killed(engine).await;
    // The next agent has no secrets and cannot have any.
    for _ in 0..5 {
        rig.api.fail_next("GetParameters", "ServerException");
    }
    let engine = rig.engine();
    rig.runtime.exit_at(&id_of("web"), 3, 2 * PERIOD_MS);
    rig.until("restarting", || web(&rig).restarting.map(drop)).await;
    let end = stopped(&rig, &engine).await;
    assert_eq!(end["exitCode"], 3);
    assert_eq!(count(&rig, "restart"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_restart_that_fails_is_the_end_with_a_reason() {
    let rig = Rig::new();
    let _engine = running(&rig, containers()).await;
    rig.runtime.fail("restart");
    rig.runtime.exit_at(&id_of("web"), 3, 2 * PERIOD_MS);
    rig.reported("STOPPED").await;
    let known = web(&rig);
    assert_eq!(known.exit_code, Some(3));
    let reason = known.reason.unwrap();
    assert!(reason.starts_with("CannotStartContainerError: "), "{reason}");
    assert_eq!(rig.runtime.leftovers(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn health_starts_anew() {
    let rig = Rig::new();
    let config = json!({"Healthcheck": {
        "Test": ["CMD-SHELL", "true"], "Interval": 60_000_000_000_i64,
    }});
    let mut checked = containers();
    checked[0]["healthCheckType"] = json!("docker");
    checked[0]["dockerConfig"] = json!({"config": config.to_string()});
    let _engine = running(&rig, checked).await;
    let health = || web(&rig).health.status;
    let is_healthy = || (health() == HealthStatus::Healthy).then_some(());
    rig.until("healthy", is_healthy).await;
    rig.runtime.exit_at(&id_of("web"), 3, 2 * PERIOD_MS);
    called(&rig, "restart", 1).await;
    assert_eq!(health(), HealthStatus::Unknown);
    rig.until("healthy again", is_healthy).await;
}

/// Killed before, in and after the restart; the run counts once.
#[tokio::test(start_paused = true)]
async fn an_agent_killed_in_a_restart_is_followed_by_one_that_ends_it() {
    for is_restarted in [false, true] {
        let rig = Rig::new();
        let engine = running(&rig, containers()).await;
        rig.runtime.world.lock().hanging.insert("restart".into());
        rig.runtime.exit_at(&id_of("web"), 3, 2 * PERIOD_MS);
        called(&rig, "restart", 1).await;
        assert!(web(&rig).restarting.is_some());
        killed(engine).await;
        rig.runtime.world.lock().hanging.clear();
        if is_restarted {
            let at = 2 * PERIOD_MS;
            let secrets = crate::runtime::SecretEnv::default();
            let id = id_of("web");
            let runtime: &dyn crate::runtime::Runtime = &rig.runtime;
            runtime.restart(&id, at, secrets).await.unwrap();
            // And ended: that is another end.
            rig.runtime.exit_at(&id, 9, 4 * PERIOD_MS);
        }
        let engine = rig.engine();
        let times = if is_restarted { 4 } else { 2 };
        called(&rig, "restart", times).await;
        let known = web(&rig);
        assert_eq!(known.restart_count, 1 + u32::from(is_restarted));
        assert_eq!(known.restarting, None);
        let end = stopped(&rig, &engine).await;
        assert_eq!(end["exitCode"], 143);
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_killed_before_the_exit_restarts_after_it() {
    let rig = Rig::new();
    let engine = running(&rig, containers()).await;
    killed(engine).await;
    rig.runtime.exit_at(&id_of("web"), 3, 2 * PERIOD_MS);
    let _engine = rig.engine();
    called(&rig, "restart", 1).await;
    assert_eq!(web(&rig).restart_count, 1);
}

#[tokio::test(start_paused = true)]
async fn the_log_goes_on_in_the_same_stream() {
    let rig = Rig::new();
    let config = json!({
        "awslogs-group": "/app", "awslogs-region": "us-east-1",
        "awslogs-stream-prefix": "ecs",
    });
    let host = json!({"LogConfig": {"Type": "awslogs", "Config": config}});
    let mut logged = containers();
    logged[0]["dockerConfig"] = json!({"hostConfig": host.to_string()});
    let engine = running(&rig, logged).await;
    let id = id_of("web");
    rig.runtime.write(&id, 2_000, "one");
    rig.runtime.exit_at(&id, 3, 2 * PERIOD_MS);
    called(&rig, "restart", 1).await;
    rig.runtime.write(&id, 2 * PERIOD_MS + 2_000, "two");
    let stream = format!("ecs/web/{TASK_ID}");
    let lines = || rig.api.lines(&stream);
    rig.until("two lines", || (lines().len() == 2).then_some(())).await;
    rig.runtime.write(&id, 2 * PERIOD_MS + 3_000, "three");
    stopped(&rig, &engine).await;
    assert_eq!(lines(), ["one", "two", "three"]);
}
