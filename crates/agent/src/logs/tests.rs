//! The awslogs pump over the fake engine and the fake CloudWatch Logs.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::batch::{
    Assembler, BYTES_MAX, EVENT_OVERHEAD, EVENTS_MAX, Event, MESSAGE_MAX,
    batch_len,
};
use crate::runtime::fake::Script;
use crate::runtime::{LogLine, LogPosition, Stream};
use crate::test_support::{Rig, TASK_ID, id_of, task};

fn container(options: Value) -> Value {
    let mut config = json!({
        "awslogs-group": "/app",
        "awslogs-region": "us-east-1",
        "awslogs-stream-prefix": "ecs",
    });
    config
        .as_object_mut()
        .unwrap()
        .extend(options.as_object().unwrap().clone());
    let host = json!({"LogConfig": {"Type": "awslogs", "Config": config}});
    json!([{
        "name": "web", "image": "web",
        "dockerConfig": {"hostConfig": host.to_string()},
    }])
}

fn stream() -> String {
    format!("ecs/web/{TASK_ID}")
}

#[tokio::test(start_paused = true)]
async fn every_line_has_arrived_when_the_task_is_stopped() {
    let rig = Rig::new();
    let lines = vec!["one".into(), String::new(), "two".into()];
    let script = Script { exits: Some(0), lines, ..Script::default() };
    rig.runtime.script("web", script);
    let engine = rig.engine();
    engine.accept(task(container(json!({})))).await.unwrap();
    rig.reported("STOPPED").await;
    // CloudWatch Logs takes no empty events.
    assert_eq!(rig.api.lines(&stream()), ["one", "two"]);
}

#[tokio::test(start_paused = true)]
async fn lines_are_sent_while_the_container_runs_with_its_times() {
    let rig = Rig::new();
    let engine = rig.engine();
    engine.accept(task(container(json!({})))).await.unwrap();
    rig.reported("RUNNING").await;
    rig.runtime.write(&id_of("web"), 1_234, "hello");
    // The clock of the container goes back; the stream's may not.
    rig.runtime.write(&id_of("web"), 1_000, "again");
    rig.until("lines", || (rig.api.lines(&stream()).len() == 2).then_some(()))
        .await;
    let state = rig.api.state.lock();
    assert_eq!(
        state.streams[&stream()],
        [(1_234, "hello".to_owned()), (1_234, "again".to_owned())]
    );
}

#[tokio::test(start_paused = true)]
async fn a_missing_group_keeps_the_container_from_starting() {
    let rig = Rig::new();
    rig.api.state.lock().groups.clear();
    let engine = rig.engine();
    engine.accept(task(container(json!({})))).await.unwrap();
    let report = rig.reported("STOPPED").await;
    assert_eq!(
        report["containers"][0]["reason"],
        "CannotStartContainerError: failed to initialize logging driver: \
         ResourceNotFoundException: The specified log group does not exist."
    );
    let calls = rig.runtime.calls();
    assert!(!calls.iter().any(|call| call.starts_with("create")));
}

#[tokio::test(start_paused = true)]
async fn create_group_makes_it() {
    let rig = Rig::new();
    rig.api.state.lock().groups.clear();
    let engine = rig.engine();
    let options = json!({"awslogs-create-group": "true"});
    engine.accept(task(container(options))).await.unwrap();
    rig.reported("RUNNING").await;
    assert_eq!(rig.api.state.lock().groups, ["/app"]);
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_destination_delays_lines_but_loses_none() {
    let rig = Rig::new();
    for _ in 0..5 {
        rig.api.fail_next("PutLogEvents", "ServiceUnavailableException");
    }
    let lines = (0..10).map(|n| format!("line {n}")).collect();
    let script = Script { lines, ..Script::default() };
    rig.runtime.script("web", script);
    let engine = rig.engine();
    engine.accept(task(container(json!({})))).await.unwrap();
    rig.until("lines", || (rig.api.lines(&stream()).len() == 10).then_some(()))
        .await;
    assert_eq!(rig.api.lines(&stream())[9], "line 9");
}

/// The agent is killed at any moment; the next one sends each line once.
#[tokio::test(start_paused = true)]
async fn a_new_agent_goes_on_without_gap_or_repetition() {
    for moment in 0..12 {
        let rig = Rig::new();
        let id = id_of("web");
        let engine = rig.engine();
        engine.accept(task(container(json!({})))).await.unwrap();
        rig.reported("RUNNING").await;
        for n in 0..20 {
            // Five lines in each millisecond, some of them alike.
            rig.runtime.write(&id, 1_000 + n / 5, &format!("{}", n % 3));
        }
        tokio::time::sleep(Duration::from_millis(moment * 60)).await;
        drop(engine);
        tokio::time::sleep(Duration::from_millis(1)).await;
        // What was sent but not noted down: the checkpoint goes back.
        let noted = rig.dir.path().join(format!("tasks/{TASK_ID}/logs/web"));
        if moment % 2 == 0 {
            let _ = std::fs::remove_file(noted);
        }
        for n in 20..30 {
            rig.runtime.write(&id, 1_004 + n / 5, &format!("{}", n % 3));
        }
        let _engine = rig.engine();
        let expected: Vec<String> =
            (0..30).map(|n| format!("{}", n % 3)).collect();
        rig.until("all lines", || {
            (rig.api.lines(&stream()).len() >= 30).then_some(())
        })
        .await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(rig.api.lines(&stream()), expected, "moment {moment}");
    }
}

fn line(text: &str, partial: bool) -> LogLine {
    LogLine {
        stream: Stream::Stdout,
        time_ns: 1_000_000,
        bytes: text.as_bytes().to_vec(),
        partial,
    }
}

#[test]
fn parts_of_a_line_are_one_event() {
    let mut assembler = Assembler::new(0, 0);
    let mut events = vec![];
    let place = |n: u32| LogPosition(n.to_string());
    assembler.push(line("a", true), place(1), &mut events);
    assert_eq!(assembler.mark().position, None);
    assembler.push(line("b", false), place(2), &mut events);
    assert_eq!(events[0].message, "ab");
    assert_eq!(assembler.mark().position, Some(place(2)));
    assembler.push(line("c", true), place(3), &mut events);
    assembler.finish(&mut events);
    assert_eq!(events[1].message, "c");
}

#[test]
fn a_long_line_is_cut_between_characters() {
    let mut assembler = Assembler::new(0, 0);
    let mut events = vec![];
    let text = "é".repeat(MESSAGE_MAX);
    let place = LogPosition("1".into());
    assembler.push(line(&text, false), place, &mut events);
    assert!(events.len() > 1);
    let whole: String = events.iter().map(|e| e.message.as_str()).collect();
    assert_eq!(whole, text);
    assert!(events.iter().all(|event| event.message.len() <= MESSAGE_MAX));
}

proptest! {
    #[test]
    fn batches_keep_within_the_limits(
        sizes in proptest::collection::vec(1_usize..MESSAGE_MAX, 0..40),
        step_ms in 0_i64..20_000_000,
    ) {
        let events: Vec<Event> = sizes
            .iter()
            .zip(0_i64..)
            .map(|(size, n)| Event {
                timestamp_ms: n * step_ms,
                message: "x".repeat(*size),
            })
            .collect();
        let mut rest = events.as_slice();
        while !rest.is_empty() {
            let count = batch_len(rest);
            prop_assert!(count > 0 && count <= EVENTS_MAX);
            let (batch, tail) = rest.split_at(count);
            rest = tail;
            let bytes: usize = batch
                .iter()
                .map(|event| event.message.len() + EVENT_OVERHEAD)
                .sum();
            prop_assert!(bytes <= BYTES_MAX);
            let span =
                batch[count - 1].timestamp_ms - batch[0].timestamp_ms;
            prop_assert!(span < super::batch::SPAN_MAX_MS);
        }
    }
}

fn at(text: &str, time_ms: i64) -> LogLine {
    LogLine { time_ns: time_ms * 1_000_000, ..line(text, false) }
}

fn multiline() -> Assembler {
    let pattern = "^[0-9]".to_owned();
    let max_age = Duration::from_secs(5);
    let plan = crate::task::plan::MultilinePlan { pattern, max_age };
    Assembler::new(0, 0).with_multiline(Some(&plan))
}

#[test]
fn lines_that_do_not_begin_an_event_belong_to_the_last_one() {
    let mut assembler = multiline();
    let mut events = vec![];
    let lines = [("1 a", 0), ("  at x", 1), ("2 b", 2), ("late", 9_000)];
    for (n, (text, time_ms)) in (1..).zip(lines) {
        let place = LogPosition(format!("{n}"));
        assembler.push(at(text, time_ms), place, &mut events);
    }
    let found = |events: &[Event]| -> Vec<(i64, String)> {
        let pairs =
            events.iter().map(|it| (it.timestamp_ms, it.message.clone()));
        pairs.collect()
    };
    let expected = [(0, "1 a\n  at x\n".to_owned()), (2, "2 b\n".to_owned())];
    assert_eq!(found(&events), expected);
    // A new reader begins with the line of the event that is open.
    assert_eq!(assembler.mark().position, Some(LogPosition("3".into())));
    assembler.expire(14_999, &mut events);
    assert_eq!(events.len(), 2);
    assembler.expire(15_000, &mut events);
    assert_eq!(found(&events)[2], (9_000, "late\n".to_owned()));
    assert_eq!(assembler.mark().position, Some(LogPosition("4".into())));
    assembler.push(at("more", 20_000), LogPosition("5".into()), &mut events);
    assembler.finish(&mut events);
    assert_eq!(found(&events)[3], (20_000, "more\n".to_owned()));
}
