//! What clients in bad faith get, and that nobody else pays for it.

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

/// Short times and few seats, so that tests reach every limit.
fn tight() -> Limits {
    Limits {
        connections: 8,
        head_time: Duration::from_millis(400),
        body_time: Duration::from_millis(400),
        write_time: Duration::from_millis(400),
        requests_per_connection: 3,
        ..Limits::default()
    }
}

async fn connect(running: &Running) -> TcpStream {
    TcpStream::connect(running.address).await.unwrap()
}

/// Sends bytes and reads until the server closes; errors end it too.
async fn exchange(running: &Running, bytes: &[u8]) -> String {
    let mut stream = connect(running).await;
    let _ = stream.write_all(bytes).await;
    finish(&mut stream).await
}

async fn finish(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let reading = stream.read_to_end(&mut answer);
    let _ = tokio::time::timeout(DEADLINE, reading)
        .await
        .expect("the server closes the connection");
    String::from_utf8_lossy(&answer).into_owned()
}

fn post(headers: &str, body: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{headers}\r\n{body}").into_bytes()
}

#[tokio::test]
async fn slow_heads_and_bodies_are_cut() {
    let running = Running::start(tight()).await;
    assert_eq!(exchange(&running, b"").await, "");
    let answer = exchange(&running, b"POST / HTTP/1.1\r\nHost:").await;
    assert!(answer.is_empty() || answer.contains(" 408 "), "{answer}");
    let slow = post("Content-Length: 100\r\n", "{");
    let answer = exchange(&running, &slow).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("RequestTimeout"), "{answer}");
    running.assert_answers().await;
    running.stop().await;
}

#[tokio::test]
async fn giant_heads_are_refused() {
    let running = Running::start(tight()).await;
    let value = "x".repeat(64 << 10);
    let answer =
        exchange(&running, &post(&format!("X: {value}\r\n"), "")).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431 "),
        "{answer}"
    );
    let many: String = (0..500).map(|n| format!("X-{n}: 1\r\n")).collect();
    let answer = exchange(&running, &post(&many, "")).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431 "),
        "{answer}"
    );
    running.assert_answers().await;
    running.stop().await;
}

#[tokio::test]
async fn giant_bodies_are_refused_announced_or_not() {
    let limits = Limits { body_bytes: 4096, ..tight() };
    let running = Running::start(limits).await;
    let announced = post("Content-Length: 999999999999\r\n", "{");
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
    let chunked = post("Transfer-Encoding: chunked\r\n", &chunk.repeat(3));
    for request in [announced, chunked] {
        let answer = exchange(&running, &request).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    }
    // Log events may be larger.
    let logs = post(
        "X-Amz-Target: Logs_20140328.PutLogEvents\r\n\
         Connection: close\r\nContent-Length: 8192\r\n",
        &"x".repeat(8192),
    );
    let answer = exchange(&running, &logs).await;
    assert!(answer.contains("MissingAuthenticationToken"), "{answer}");
    running.assert_answers().await;
    running.stop().await;
}

#[tokio::test]
async fn all_bodies_together_have_a_limit() {
    let limits = Limits { all_bodies_bytes: 64 << 10, ..tight() };
    let running = Running::start(limits).await;
    let most = "x".repeat(60 << 10);
    let request = post("Content-Length: 61441\r\n", &most);
    let mut first = connect(&running).await;
    first.write_all(&request).await.unwrap();
    // Once the first holds its room, the second finds none.
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        let answer = exchange(&running, &request).await;
        if answer.starts_with("HTTP/1.1 503 ") {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{answer}");
        first = connect(&running).await;
        first.write_all(&request).await.unwrap();
    }
    finish(&mut first).await;
    running.assert_answers().await;
    running.stop().await;
}

#[tokio::test]
async fn abused_framing_is_refused() {
    let running = Running::start(tight()).await;
    for request in [
        post("Transfer-Encoding: chunked\r\n", "zz\r\n"),
        post("Transfer-Encoding: chunked\r\n", "ffffffffffffffffff\r\n"),
        post("Content-Length: 1\r\nContent-Length: 2\r\n", "a"),
        post("Content-Length: -1\r\n", ""),
        post("Transfer-Encoding: gzip\r\n", ""),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        vec![0; 1000],
    ] {
        let answer = exchange(&running, &request).await;
        let shown = String::from_utf8_lossy(&request);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
            "{shown}: {answer}"
        );
    }
    running.assert_answers().await;
    running.stop().await;
}

#[tokio::test]
async fn deep_json_is_refused() {
    let client = client_over(
        gateway(Trust::Signatures),
        Endpoint::in_memory(),
        "secret",
    );
    let mut deep = json!(1);
    for _ in 0..120 {
        deep = json!([deep]);
    }
    // Within the parser's limit, and then no list of strings.
    let input = json!({"tasks": deep, "x": 1});
    let error = client
        .call_value(&ecs::SERVICE, "DescribeTasks", &input)
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some("SerializationException"));
}

#[tokio::test]
async fn silent_connections_shut_nobody_out() {
    let limits = Limits { head_time: DEADLINE * 10, ..tight() };
    let running = Running::start(limits).await;
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(connect(&running).await);
    }
    running.assert_answers().await;
    // The first to come was the first to go.
    assert_eq!(finish(&mut silent[0]).await, "");
    drop(silent);
    running.stop().await;
}

#[tokio::test]
async fn a_connection_ends_after_its_share_of_requests() {
    let running = Running::start(tight()).await;
    let health =
        format!("GET {} HTTP/1.1\r\nHost: a\r\n\r\n", crate::HEALTH_PATH);
    let answers = exchange(&running, health.repeat(5).as_bytes()).await;
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 3, "{answers}");
    assert!(answers.contains("Connection: close"), "{answers}");
    running.stop().await;
}

#[tokio::test]
async fn a_stopping_server_lets_go_of_idle_connections() {
    let running = Running::start(Limits::default()).await;
    let mut idle = connect(&running).await;
    running.assert_answers().await;
    running.stop().await;
    assert_eq!(finish(&mut idle).await, "");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn garbage_is_survived(
        blobs in proptest::collection::vec(
            proptest::collection::vec(any::<u8>(), 0..2000), 1..6),
        lines in proptest::collection::vec("[ -~]{0,80}", 0..6),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let limits = Limits {
                head_time: Duration::from_millis(30),
                body_time: Duration::from_millis(30),
                ..Limits::default()
            };
            let running = Running::start(limits).await;
            for blob in &blobs {
                exchange(&running, blob).await;
            }
            let head: String =
                lines.iter().map(|line| format!("{line}\r\n")).collect();
            exchange(&running, &post(&head, "{}")).await;
            running.assert_answers().await;
            running.stop().await;
        });
    }
}
