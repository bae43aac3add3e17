use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use minato_core::filter_pattern::FilterPattern;
use proptest::prelude::*;

use super::*;

const GROUP: GroupId = GroupId(7);
const A: StreamId = StreamId(1);
const B: StreamId = StreamId(2);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

fn events(list: &[(i64, &str)]) -> Vec<NewEvent> {
    list.iter()
        .map(|(timestamp, message)| NewEvent {
            timestamp: *timestamp,
            message: (*message).to_owned(),
        })
        .collect()
}

fn all() -> Query {
    Query {
        direction: Direction::Forward,
        beyond: None,
        from: i64::MIN,
        until: i64::MAX,
        limit: 10_000,
        wanted: Box::new(|_| true),
        pattern: None,
    }
}

fn of(stream: StreamId) -> Query {
    Query { wanted: Box::new(move |id| id == stream), ..all() }
}

async fn messages(logs: &LogStore, query: Query) -> Vec<String> {
    let page = logs.query(GROUP, query).await.unwrap();
    page.events.into_iter().map(|event| event.message).collect()
}

/// Waits until everything frozen is sealed.
async fn sealed(logs: &LogStore, number: u64) {
    let wait = async {
        while logs.newest_segment(GROUP).await.unwrap() < number {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.unwrap();
}

fn files(root: &Path) -> Vec<String> {
    let directory = root.join(GROUP.to_string());
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn events_are_found_in_order_of_time_then_of_arrival() {
    let root = tempfile::tempdir().unwrap();
    let logs = LogStore::open(root.path()).unwrap();
    let first = events(&[(10, "a10"), (30, "a30")]);
    logs.append(GROUP, A, 100, &first).await.unwrap();
    logs.append(GROUP, B, 100, &events(&[(10, "b10"), (20, "b20")]))
        .await
        .unwrap();
    let expected = ["a10", "b10", "b20", "a30"];
    assert_eq!(messages(&logs, all()).await, expected);
    assert_eq!(messages(&logs, of(A)).await, ["a10", "a30"]);
    let range = Query { from: 20, until: 30, ..all() };
    assert_eq!(messages(&logs, range).await, ["b20"]);
    logs.close().await;
    let again = LogStore::open(root.path()).unwrap();
    assert_eq!(messages(&again, all()).await, expected);
    again.close().await;
}

#[tokio::test]
async fn pages_follow_each_other_both_ways() {
    let root = tempfile::tempdir().unwrap();
    let logs = LogStore::open(root.path()).unwrap();
    for n in 0..25_i64 {
        let one = events(&[(n, &n.to_string())]);
        logs.append(GROUP, A, 100, &one).await.unwrap();
    }
    let mut beyond = None;
    let mut seen = vec![];
    loop {
        let query = Query { beyond, limit: 10, ..of(A) };
        let page = logs.query(GROUP, query).await.unwrap();
        seen.extend(page.events.iter().map(|e| e.position.timestamp));
        beyond = page.next;
        if beyond.is_none() {
            break;
        }
    }
    assert_eq!(seen, (0..25).collect::<Vec<_>>());
    let direction = Direction::Backward;
    let last = Query { direction, limit: 3, ..of(A) };
    let page = logs.query(GROUP, last).await.unwrap();
    let times: Vec<_> =
        page.events.iter().map(|e| e.position.timestamp).collect();
    assert_eq!(times, [22, 23, 24]);
    let beyond = Some(page.events[0].position);
    let before = Query { direction, limit: 3, beyond, ..of(A) };
    assert_eq!(messages(&logs, before).await, ["19", "20", "21"]);
    logs.close().await;
}

#[tokio::test]
async fn a_page_holds_a_mebibyte_and_no_gap() {
    let root = tempfile::tempdir().unwrap();
    let logs = LogStore::open(root.path()).unwrap();
    let large = "x".repeat(600 * 1024);
    // Newest first on disk, so that the small late one comes in last.
    for (at, text) in [(3, "small"), (2, &large), (1, &large)] {
        logs.append(GROUP, A, 9, &events(&[(at, text)])).await.unwrap();
    }
    let page = logs.query(GROUP, of(A)).await.unwrap();
    let times: Vec<_> =
        page.events.iter().map(|e| e.position.timestamp).collect();
    assert_eq!(times, [1], "3 would leave a gap at 2");
    let query = Query { beyond: page.next, ..of(A) };
    let page = logs.query(GROUP, query).await.unwrap();
    assert_eq!(page.events.len(), 2);
    assert_eq!(page.next, None);
    logs.close().await;
}

#[tokio::test]
async fn full_segments_are_sealed_and_read_the_same() {
    let root = tempfile::tempdir().unwrap();
    let logs = LogStore::open_with(root.path(), 8 * 1024).unwrap();
    let mut expected = vec![];
    for n in 0..200_i64 {
        // Every other one is late.
        let at = if n % 2 == 0 { n } else { n - 50 };
        let text = format!("line {n} {}", "pad".repeat(30));
        expected.push((at, n, text.clone()));
        let stream = if n % 3 == 0 { A } else { B };
        logs.append(GROUP, stream, n, &events(&[(at, &text)])).await.unwrap();
    }
    sealed(&logs, 2).await;
    expected.sort();
    let texts: Vec<String> =
        expected.iter().map(|(_, _, text)| text.clone()).collect();
    assert_eq!(messages(&logs, all()).await, texts);
    let stats = logs.streams(GROUP).await.unwrap();
    assert_eq!(stats[&A].events + stats[&B].events, 200);
    assert_eq!((stats[&B].first_event_at, stats[&B].last_event_at), (-49, 196));
    let bytes: usize = texts.iter().map(|text| text.len() + 26).sum();
    assert_eq!(logs.stored_bytes(GROUP).await.unwrap(), bytes as u64);
    logs.close().await;
    let again = LogStore::open(root.path()).unwrap();
    assert_eq!(messages(&again, all()).await, texts);
    assert_eq!(again.stored_bytes(GROUP).await.unwrap(), bytes as u64);
    let pattern = FilterPattern::parse("\"line 7 \"").unwrap();
    let query = Query { pattern: Some(pattern), ..all() };
    assert_eq!(messages(&again, query).await.len(), 1);
    again.close().await;
}

#[tokio::test]
async fn a_torn_end_is_cut_off_and_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let logs = LogStore::open(root.path()).unwrap();
    logs.append(GROUP, A, 1, &events(&[(1, "kept")])).await.unwrap();
    logs.append(GROUP, A, 1, &events(&[(2, "torn")])).await.unwrap();
    logs.close().await;
    let path = active::path_of(&root.path().join(GROUP.to_string()), 1);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    let logs = LogStore::open(root.path()).unwrap();
    assert_eq!(messages(&logs, all()).await, ["kept"]);
    logs.append(GROUP, A, 1, &events(&[(3, "new")])).await.unwrap();
    let page = logs.query(GROUP, all()).await.unwrap();
    assert_eq!(page.events[1].position.sequence, 2);
    logs.close().await;
    let logs = LogStore::open(root.path()).unwrap();
    assert_eq!(messages(&logs, all()).await, ["kept", "new"]);
    logs.close().await;
}

#[tokio::test]
async fn damage_in_a_sealed_segment_is_reported_not_returned() {
    let root = tempfile::tempdir().unwrap();
    let logs = LogStore::open_with(root.path(), 1024).unwrap();
    let text = "x".repeat(2000);
    logs.append(GROUP, A, 1, &events(&[(1, &text)])).await.unwrap();
    sealed(&logs, 1).await;
    let path = sealed::path_of(&root.path().join(GROUP.to_string()), 1);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = logs.query(GROUP, all()).await.unwrap_err();
    let text = committer::error_text(&error);
    assert!(text.contains("checksum"), "{text}");
    logs.close().await;
}

#[tokio::test]
async fn a_deleted_group_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let logs = LogStore::open(root.path()).unwrap();
    logs.append(GROUP, A, 1, &events(&[(1, "old")])).await.unwrap();
    assert_eq!(logs.groups_on_disk().unwrap(), [GROUP]);
    logs.delete_group(GROUP).await.unwrap();
    logs.delete_group(GROUP).await.unwrap();
    assert!(logs.groups_on_disk().unwrap().is_empty());
    assert!(messages(&logs, all()).await.is_empty());
    logs.close().await;
}

#[tokio::test]
async fn a_sweep_removes_what_nobody_can_see() {
    let root = tempfile::tempdir().unwrap();
    let logs = LogStore::open_with(root.path(), 4096).unwrap();
    let text = "y".repeat(1000);
    // Segment 1 is all B; segment 2 mostly B; segment 3 all A.
    for (stream, at) in [
        (B, 1),
        (B, 2),
        (B, 3),
        (B, 4),
        (B, 5),
        (A, 6),
        (B, 7),
        (B, 8),
        (A, 9),
        (A, 10),
        (A, 11),
        (A, 12),
    ] {
        logs.append(GROUP, stream, at, &events(&[(at, &text)])).await.unwrap();
    }
    sealed(&logs, 3).await;
    let newest = logs.newest_segment(GROUP).await.unwrap();
    let before = logs.stored_bytes(GROUP).await.unwrap();
    // B is deleted.
    let live = BTreeSet::from([A]);
    logs.sweep(GROUP, live.clone(), newest, i64::MIN).await.unwrap();
    assert!(!files(root.path()).contains(&"0000000001.seg".to_owned()));
    assert!(logs.stored_bytes(GROUP).await.unwrap() < before / 2 + 100);
    assert_eq!(messages(&logs, of(A)).await.len(), 5);
    // All but the last is expired.
    logs.sweep(GROUP, live.clone(), newest, 10).await.unwrap();
    assert_eq!(files(root.path()), ["0000000003.seg"]);
    // Nothing is left; the count of events still goes on.
    logs.sweep(GROUP, live, newest, 100).await.unwrap();
    assert!(files(root.path()).is_empty());
    logs.append(GROUP, A, 1, &events(&[(200, "new")])).await.unwrap();
    let page = logs.query(GROUP, all()).await.unwrap();
    assert_eq!(page.events[0].position.sequence, 13);
    logs.close().await;
}

#[tokio::test]
async fn many_callers_share_a_sync_and_all_is_kept() {
    let root = tempfile::tempdir().unwrap();
    let logs = LogStore::open(root.path()).unwrap();
    let tasks: Vec<_> = (0..64_u32)
        .map(|n| {
            let logs = logs.clone();
            tokio::spawn(async move {
                let group = GroupId(u128::from(n % 4));
                let stream = StreamId(u128::from(n));
                for at in 0..5_i64 {
                    let one = events(&[(at, &format!("{n}-{at}"))]);
                    logs.append(group, stream, at, &one).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    for group in 0..4 {
        let page = logs.query(GroupId(group), all()).await.unwrap();
        assert_eq!(page.events.len(), 80);
        let sequences: BTreeSet<u64> =
            page.events.iter().map(|e| e.position.sequence).collect();
        assert_eq!(sequences.len(), 80, "every event has its own");
    }
    logs.close().await;
    let one = events(&[(1, "late")]);
    assert!(matches!(
        logs.append(GROUP, A, 1, &one).await,
        Err(AppendLogsError::Closed)
    ));
    assert!(logs.query(GROUP, all()).await.is_err());
}

/// What a random history does.
#[derive(Clone, Debug)]
enum Step {
    Append { stream: u8, times: Vec<i16> },
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..3_u8, prop::collection::vec(any::<i16>(), 1..8))
            .prop_map(|(stream, times)| Step::Append { stream, times }),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn any_history_reads_as_a_sorted_list(
        steps in prop::collection::vec(step(), 1..40),
        from: i16, until: i16, limit in 1..20_usize, stream in 0..3_u8,
    ) {
        let root = tempfile::tempdir().unwrap();
        runtime().block_on(async {
            let mut logs = LogStore::open_with(root.path(), 700).unwrap();
            let mut model: BTreeMap<Position, (u8, String)> = BTreeMap::new();
            let mut sequence = 0;
            for step in steps {
                match step {
                    Step::Append { stream, times } => {
                        let list: Vec<NewEvent> = times.iter().map(|at| {
                            sequence += 1;
                            let message = format!("{sequence} at {at}");
                            let timestamp = i64::from(*at);
                            model.insert(
                                Position { timestamp, sequence },
                                (stream, message.clone()),
                            );
                            NewEvent { timestamp, message }
                        }).collect();
                        let id = StreamId(u128::from(stream));
                        logs.append(GROUP, id, 1, &list).await.unwrap();
                    }
                    Step::Reopen => {
                        logs.close().await;
                        logs = LogStore::open_with(root.path(), 700).unwrap();
                    }
                }
            }
            let (from, until) = (i64::from(from), i64::from(until));
            let wanted: Vec<String> = model.iter()
                .filter(|(at, (id, _))| {
                    *id == stream
                        && (from..until).contains(&at.timestamp)
                })
                .map(|(_, (_, message))| message.clone())
                .collect();
            let id = StreamId(u128::from(stream));
            let mut seen = vec![];
            let mut beyond = None;
            loop {
                let query = Query { from, until, limit, beyond, ..of(id) };
                let page = logs.query(GROUP, query).await.unwrap();
                seen.extend(page.events.into_iter().map(|e| e.message));
                beyond = page.next;
                if beyond.is_none() { break; }
            }
            assert_eq!(seen, wanted);
            let mut seen = vec![];
            let mut beyond = None;
            loop {
                let direction = Direction::Backward;
                let query =
                    Query { from, until, limit, beyond, direction, ..of(id) };
                let page = logs.query(GROUP, query).await.unwrap();
                let Some(first) = page.events.first() else { break };
                beyond = Some(first.position);
                let mut page: Vec<String> =
                    page.events.into_iter().map(|e| e.message).collect();
                page.append(&mut seen);
                seen = page;
            }
            assert_eq!(seen, wanted);
            logs.close().await;
        });
    }
}

/// Set for the child that is to be killed: the storage's directory.
const CRASH_ROOT: &str = "MINATO_TEST_LOGS_CRASH_ROOT";

/// Writes until it is killed, and says on stdout what was acknowledged.
#[test]
fn crash_child() {
    let Some(root) = std::env::var_os(CRASH_ROOT) else { return };
    runtime().block_on(async {
        let logs = LogStore::open_with(Path::new(&root), 4096).unwrap();
        let streams = logs.streams(GROUP).await.unwrap();
        let from = streams.get(&A).map_or(0, |s| s.last_event_at + 1);
        for n in from.. {
            let pair = events(&[(n, &format!("{n}-first")), (n, "second")]);
            logs.append(GROUP, A, n, &pair).await.unwrap();
            println!("acknowledged {n} done");
        }
    });
}

#[test]
fn acknowledged_events_survive_kill_9() {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};
    let root = tempfile::tempdir().unwrap();
    let mut acknowledged = -1_i64;
    for round in 0..12_usize {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "logs::tests::crash_child", "--nocapture"])
            .env(CRASH_ROOT, root.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut left = 3 + round * 3;
        for line in lines {
            let Ok(line) = line else { break };
            let mut words =
                line.split(' ').skip_while(|word| *word != "acknowledged");
            let number = words.nth(1).and_then(|n| n.parse().ok());
            // A line cut by the kill has no last word.
            if let (Some(number), Some("done")) = (number, words.next()) {
                acknowledged = number;
                left = left.saturating_sub(1);
                if left == 0 {
                    child.kill().unwrap();
                }
            }
        }
        child.wait().unwrap();
        runtime().block_on(async {
            let logs = LogStore::open_with(root.path(), 4096).unwrap();
            let found = messages(&logs, all()).await;
            let whole = usize::try_from(acknowledged + 1).unwrap();
            assert!(found.len() >= whole * 2, "lost acknowledged events");
            assert_eq!(found.len() % 2, 0, "half an append was kept");
            for (n, pair) in found.chunks(2).enumerate() {
                assert_eq!(pair, [format!("{n}-first"), "second".to_owned()]);
            }
            logs.close().await;
        });
    }
    assert!(acknowledged > 20, "the children did not get far");
}
