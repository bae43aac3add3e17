//! Records on their way to receivers: those of the tests, over real sockets.

use std::path::Path;
use std::time::Duration;

use rmpv::Value as Pack;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket, UnixDatagram, UnixListener};

use crate::runtime::fake::Script;
use crate::runtime::{LogLine, Stream};
use crate::test_support::{Rig, TASK_ID, id_of, killed, task};

fn container(driver: &str, options: Value) -> Value {
    let log = json!({"Type": driver, "Config": options});
    let host = json!({"LogConfig": log}).to_string();
    json!([{
        "name": "web", "image": "web",
        "environment": {"TEAM": "blue"},
        "dockerConfig": {"hostConfig": host},
    }])
}

/// A container that writes these lines and ends.
fn writes(rig: &Rig, lines: &[&str]) {
    let lines = lines.iter().map(|line| (*line).to_owned()).collect();
    let script = Script { exits: Some(0), lines, ..Script::default() };
    rig.runtime.script("web", script);
}

/// Reads messages until there are `count`, or the other side hangs up;
/// answers each that asks for it.
async fn messages<S>(stream: S, count: usize) -> Vec<Pack>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    messages_until(stream, |found| found.len() >= count).await
}

async fn messages_until<S>(
    mut stream: S,
    is_enough: impl Fn(&[Pack]) -> bool,
) -> Vec<Pack>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut bytes, mut found) = (vec![], vec![]);
    while !is_enough(&found) {
        let mut rest = &bytes[..];
        if let Ok(message) = rmpv::decode::read_value(&mut rest) {
            let used = bytes.len() - rest.len();
            bytes.drain(..used);
            if let Some(id) = message[3]["chunk"].as_str() {
                let pair = (Pack::from("ack"), Pack::from(id));
                let mut ack = vec![];
                rmpv::encode::write_value(&mut ack, &Pack::Map(vec![pair]))
                    .unwrap();
                stream.write_all(&ack).await.unwrap();
            }
            found.push(message);
        } else if stream.read_buf(&mut bytes).await.unwrap() == 0 {
            break;
        }
    }
    found
}

fn logs(messages: &[Pack]) -> Vec<String> {
    let text = |it: &Pack| it[2]["log"].as_str().unwrap().to_owned();
    messages.iter().map(text).collect()
}

#[tokio::test]
async fn fluentd_gets_docker_s_records_over_tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rig = Rig::new();
    writes(&rig, &["one", "", "two"]);
    let options = json!({
        "fluentd-address": listener.local_addr().unwrap().to_string(),
        "tag": "t.{{.Name}}", "env": "TEAM",
        "fluentd-sub-second-precision": "true",
    });
    let engine = rig.engine();
    engine.accept(task(container("fluentd", options))).await.unwrap();
    // The first connection is that of the check before the start.
    let (probe, _) = listener.accept().await.unwrap();
    drop(probe);
    let (stream, _) = listener.accept().await.unwrap();
    let found = messages(stream, 3).await;
    assert_eq!(logs(&found), ["one", "", "two"]);
    let record = &found[0];
    assert_eq!(record[0].as_str(), Some("t.web"));
    assert!(matches!(&record[1], Pack::Ext(0, time) if time.len() == 8));
    for (name, value) in [
        ("container_id", &*id_of("web")),
        ("container_name", "/web"),
        ("source", "stdout"),
        ("TEAM", "blue"),
    ] {
        assert_eq!(record[2][name].as_str(), Some(value), "{name}");
    }
    rig.reported("STOPPED").await;
}

#[tokio::test]
async fn a_receiver_that_is_not_there_keeps_the_container_from_starting() {
    // A port that nobody has: that of a listener that is gone.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let rig = Rig::new();
    let options = json!({"fluentd-address": address});
    let engine = rig.engine();
    engine.accept(task(container("fluentd", options))).await.unwrap();
    let report = rig.reported("STOPPED").await;
    let reason = report["containers"][0]["reason"].as_str().unwrap();
    let expected = format!(
        "CannotStartContainerError: failed to initialize logging driver: \
         dial tcp {address}: Connection refused"
    );
    assert!(reason.starts_with(&expected), "{reason}");
    let calls = rig.runtime.calls();
    assert!(!calls.iter().any(|call| call.starts_with("create")));
}

/// The receiver reads a few records and dies, again and again; a new agent
/// takes over in between. Every record is acknowledged at last.
#[tokio::test]
async fn no_acknowledged_record_is_lost_when_the_receiver_restarts() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rig = Rig::new();
    let options = json!({
        "fluentd-address": listener.local_addr().unwrap().to_string(),
        "fluentd-async": "true", "fluentd-request-ack": "true",
        "fluentd-retry-wait": "1", "fluentd-buffer-limit": "4",
    });
    let mut engine = rig.engine();
    engine.accept(task(container("fluentd", options))).await.unwrap();
    rig.reported("RUNNING").await;
    let lines: Vec<String> = (0..100).map(|n| format!("line {n}")).collect();
    for line in &lines {
        rig.runtime.write(&id_of("web"), 1_000, line);
    }
    let mut arrived: Vec<String> = vec![];
    for round in 0.. {
        let (stream, _) = listener.accept().await.unwrap();
        // Not a multiple of the batch: it dies amid one.
        let found = messages_until(stream, |found| {
            found.len() == 10 || logs(found).contains(&lines[99])
        })
        .await;
        for log in logs(&found) {
            if !arrived.contains(&log) {
                arrived.push(log);
            }
        }
        if arrived.len() == lines.len() {
            break;
        }
        if round == 3 {
            killed(engine).await;
            engine = rig.engine();
        }
    }
    assert_eq!(arrived, lines);
    drop(engine);
}

/// The socket of the router of the test task, as the router would make it.
fn router_socket(rig: &Rig) -> UnixListener {
    let dir = rig.dir.path().join(format!("tasks/{TASK_ID}/firelens/socket"));
    UnixListener::bind(dir.join("fluent.sock")).unwrap()
}

fn routed() -> Value {
    let options = json!({"Name": "stdout"});
    let mut containers = container("awsfirelens", options);
    let router = json!({
        "name": "router", "image": "router",
        "firelensConfiguration": {"type": "fluentbit"},
    });
    containers.as_array_mut().unwrap().push(router);
    containers
}

/// What a file has once it has so many lines.
async fn lines_of(path: &Path, count: usize) -> String {
    for _ in 0..500 {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        if text.lines().count() >= count && text.ends_with('\n') {
            return text;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no {count} lines in {}", path.display());
}

#[tokio::test]
async fn a_router_gets_the_output_of_its_containers() {
    let rig = Rig::new();
    let engine = rig.engine();
    engine.accept(task(routed())).await.unwrap();
    let report = rig.reported("RUNNING").await;
    assert_eq!(report["containers"].as_array().unwrap().len(), 2);
    // Written before the router listens, and long lines in pieces.
    let id = id_of("web");
    rig.runtime.write(&id, 1_000, "early");
    {
        let mut world = rig.runtime.world.lock();
        let log = world.logs.get_mut(&id).unwrap();
        for (text, partial) in [("begin", true), ("end", false)] {
            log.push(LogLine {
                stream: Stream::Stderr,
                time_ns: 2_000_000_000,
                bytes: text.into(),
                partial,
            });
        }
    }
    rig.runtime.write(&id, 3_000, "late");
    let router = router_socket(&rig);
    let (stream, _) = router.accept().await.unwrap();
    let found = messages(stream, 4).await;
    assert_eq!(logs(&found), ["early", "begin", "end", "late"]);
    let tag = format!("web-firelens-{TASK_ID}");
    assert!(found.iter().all(|it| it[0].as_str() == Some(&tag)));
    let part = |at: usize, name: &str| {
        found[at][2][name].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(part(0, "partial_message"), "");
    assert_eq!(part(1, "partial_message"), "true");
    assert_eq!(part(1, "partial_id"), part(2, "partial_id"));
    assert_eq!(part(2, "partial_last"), "true");
    // The router is started first, and has its files; the other container
    // knows where it is.
    let world = rig.runtime.world.lock();
    let starts = world.calls.iter().filter(|it| it.starts_with("start"));
    let starts: Vec<&String> = starts.collect();
    let ids = ["router", "web"].map(id_of);
    assert_eq!(starts, ids.map(|id| format!("start {id}")).each_ref());
    let spec = &world.containers[&id_of("router")].spec;
    let targets = spec.mounts.iter().map(|it| it.destination.as_path());
    let targets: Vec<&Path> = targets.collect();
    assert!(targets.contains(&Path::new("/var/run")));
    assert!(targets.contains(&Path::new("/fluent-bit/etc/fluent-bit.conf")));
    let env = &world.containers[&id].spec.env;
    assert!(env.iter().any(|it| it.starts_with("FLUENT_HOST=")), "{env:?}");
    assert!(env.contains(&"FLUENT_PORT=24224".to_owned()), "{env:?}");
}

/// The router writes its directory: a link there must not lead the agent to
/// another socket.
#[tokio::test]
async fn a_link_in_place_of_the_router_s_socket_is_not_followed() {
    let rig = Rig::new();
    let engine = rig.engine();
    engine.accept(task(routed())).await.unwrap();
    rig.reported("RUNNING").await;
    let other = rig.dir.path().join("other.sock");
    let listener = UnixListener::bind(&other).unwrap();
    let dir = rig.dir.path().join(format!("tasks/{TASK_ID}/firelens/socket"));
    let link = dir.join("fluent.sock");
    std::os::unix::fs::symlink(&other, &link).unwrap();
    rig.runtime.write(&id_of("web"), 1_000, "secret");
    let reached =
        tokio::time::timeout(Duration::from_secs(2), listener.accept()).await;
    assert!(reached.is_err(), "the link was followed");
    std::fs::remove_file(&link).unwrap();
    let router = router_socket(&rig);
    let (stream, _) = router.accept().await.unwrap();
    assert_eq!(logs(&messages(stream, 1).await), ["secret"]);
}

#[tokio::test]
async fn options_without_an_output_plugin_stop_the_task() {
    let rig = Rig::new();
    let mut containers = routed();
    let log = json!({"Type": "awsfirelens", "Config": {"region": "x"}});
    let host = json!({"LogConfig": log}).to_string();
    containers[0]["dockerConfig"]["hostConfig"] = json!(host);
    let engine = rig.engine();
    engine.accept(task(containers)).await.unwrap();
    let report = rig.reported("STOPPED").await;
    let text = report.to_string();
    assert!(text.contains("ResourceInitializationError"), "{text}");
    assert!(text.contains("missing output key Name which"), "{text}");
}

#[tokio::test]
async fn syslog_gets_lines_over_tcp_udp_and_datagrams() {
    let expect = |text: &str| {
        let text = text.trim_end_matches('\n').to_owned();
        assert!(text.starts_with("<30>1 "), "{text}");
        text.rsplit(" - ").next().unwrap().to_owned()
    };
    let options = |address: String| json!({"syslog-address": address, "syslog-format": "rfc5424"});
    let run = async |options: Value| {
        let rig = Rig::new();
        writes(&rig, &["first", "", "second"]);
        let engine = rig.engine();
        engine.accept(task(container("syslog", options))).await.unwrap();
        rig.reported("STOPPED").await;
        (rig, engine)
    };
    // TCP: lines, of which empty ones are left out.
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tcp://{}", tcp.local_addr().unwrap());
    let reader = async {
        drop(tcp.accept().await.unwrap());
        let (mut stream, _) = tcp.accept().await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    };
    let (text, _) = tokio::join!(reader, run(options(address)));
    let lines: Vec<String> = text.lines().map(expect).collect();
    assert_eq!(lines, ["first", "second"]);
    // UDP and Unix datagrams: one for each line.
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let _kept =
        run(options(format!("udp://{}", udp.local_addr().unwrap()))).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let unix = UnixDatagram::bind(&path).unwrap();
    let address = format!("unixgram://{}", path.display());
    let _kept = run(options(address)).await;
    for line in ["first", "second"] {
        let mut bytes = [0; 1000];
        let len = udp.recv(&mut bytes).await.unwrap();
        assert_eq!(expect(std::str::from_utf8(&bytes[..len]).unwrap()), line);
        let len = unix.recv(&mut bytes).await.unwrap();
        assert_eq!(expect(std::str::from_utf8(&bytes[..len]).unwrap()), line);
    }
}

#[tokio::test]
async fn gelf_messages_end_with_a_zero_byte_over_tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rig = Rig::new();
    writes(&rig, &["one", "two"]);
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    let engine = rig.engine();
    let options = json!({"gelf-address": address});
    engine.accept(task(container("gelf", options))).await.unwrap();
    drop(listener.accept().await.unwrap());
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut bytes = vec![];
    stream.read_to_end(&mut bytes).await.unwrap();
    let texts: Vec<Value> = bytes
        .split(|byte| *byte == 0)
        .filter(|part| !part.is_empty())
        .map(|part| serde_json::from_slice(part).unwrap())
        .collect();
    let texts: Vec<&Value> =
        texts.iter().map(|it| &it["short_message"]).collect();
    assert_eq!(texts, ["one", "two"]);
}

#[tokio::test]
async fn json_files_have_docker_s_lines() {
    let rig = Rig::new();
    writes(&rig, &["one", "two"]);
    let engine = rig.engine();
    let options = json!({"max-size": "1m", "max-file": "2"});
    engine.accept(task(container("json-file", options))).await.unwrap();
    rig.reported("STOPPED").await;
    let file = format!("tasks/{TASK_ID}/logs/web.json.log");
    let file = rig.dir.path().join(file);
    let text = lines_of(&file, 2).await;
    let logs: Vec<String> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|line| line["log"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(logs, ["one\n", "two\n"]);
}

/// The rest of a log that nobody takes does not keep the task for ever.
#[tokio::test(start_paused = true)]
async fn a_receiver_that_never_comes_back_is_given_up() {
    let rig = Rig::new();
    let engine = rig.engine();
    engine.accept(task(routed())).await.unwrap();
    rig.reported("RUNNING").await;
    rig.runtime.write(&id_of("web"), 1_000, "nobody reads this");
    rig.runtime.exit(&id_of("web"), 0);
    rig.reported("STOPPED").await;
    let tasks = rig.dir.path().join("tasks").join(TASK_ID);
    tokio::time::sleep(Duration::from_secs(3 * 60 * 60)).await;
    rig.until("forgotten", || (!tasks.exists()).then_some(())).await;
    drop(engine);
}
