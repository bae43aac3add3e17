//! Websockets, and what is none.

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::*;

type Socket = WebSocketStream<TcpStream>;

async fn open(running: &Running, opening: &str) -> Socket {
    let stream = TcpStream::connect(running.address).await.unwrap();
    let url = format!("ws://{}/v1/data-channel/s1?role=x", running.address);
    let (mut socket, _) = client_async(url, stream).await.unwrap();
    socket.send(Message::text(opening)).await.unwrap();
    socket
}

async fn next(socket: &mut Socket) -> Option<Message> {
    let next = tokio::time::timeout(DEADLINE, socket.next()).await;
    next.expect("in time").and_then(Result::ok)
}

async fn get(running: &Running, headers: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let head =
        format!("GET /v1/data-channel/s HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let reading = stream.read_to_string(&mut answer);
    tokio::time::timeout(DEADLINE, reading).await.unwrap().unwrap();
    answer
}

#[tokio::test]
async fn frames_go_both_ways_until_the_client_leaves() {
    let running = Running::start(Limits::default()).await;
    let mut socket = open(&running, "in").await;
    for size in [0, 1, 1200, 200_000] {
        let frame = Message::binary(vec![7; size]);
        socket.send(frame.clone()).await.unwrap();
        assert_eq!(next(&mut socket).await, Some(frame));
    }
    socket.send(Message::Ping("keepalive".into())).await.unwrap();
    let pong = next(&mut socket).await;
    assert_eq!(pong, Some(Message::Pong("keepalive".into())));
    // What is too long ends the connection, not the server.
    let long = Message::binary(vec![7; 300_000]);
    let _ = socket.send(long).await;
    while next(&mut socket).await.is_some() {}
    running.assert_answers().await;
    running.stop().await;
}

#[tokio::test]
async fn who_is_not_let_in_is_told_so_on_the_websocket() {
    let running = Running::start(Limits::default()).await;
    let mut socket = open(&running, "out").await;
    let told = Message::binary(&b"s1: not out"[..]);
    assert_eq!(next(&mut socket).await, Some(told));
    assert!(matches!(next(&mut socket).await, Some(Message::Close(_)) | None));
    running.stop().await;
}

#[tokio::test]
async fn what_is_no_websocket_is_refused() {
    let running = Running::start(Limits::default()).await;
    assert!(get(&running, "").await.starts_with("HTTP/1.1 426 "));
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    assert!(get(&running, upgrade).await.starts_with("HTTP/1.1 400 "));
    let old = format!("{upgrade}Sec-WebSocket-Version: 8\r\n");
    assert!(get(&running, &old).await.starts_with("HTTP/1.1 400 "));
    running.assert_answers().await;
    running.stop().await;
}

#[tokio::test]
async fn silent_websockets_are_closed_and_shut_nobody_out() {
    let head_time = Duration::from_millis(400);
    let limits = Limits { connections: 4, head_time, ..Limits::default() };
    let running = Running::start(limits).await;
    let mut silent = vec![];
    for _ in 0..8 {
        let stream = TcpStream::connect(running.address).await.unwrap();
        let url = format!("ws://{}/v1/data-channel/s1", running.address);
        silent.push(client_async(url, stream).await.unwrap().0);
    }
    running.assert_answers().await;
    for socket in &mut silent {
        assert_eq!(next(socket).await, None);
    }
    running.stop().await;
}

#[tokio::test]
async fn a_server_that_stops_says_that_the_session_is_over() {
    let running = Running::start(Limits::default()).await;
    let mut socket = open(&running, "in").await;
    socket.send(Message::binary(&b"x"[..])).await.unwrap();
    assert!(next(&mut socket).await.is_some());
    running.stop().await;
    let Some(Message::Binary(frame)) = next(&mut socket).await else {
        panic!("no last frame");
    };
    let last = minato_wire::ssm_channel::Message::decode(&frame).unwrap();
    let text = String::from_utf8_lossy(&last.payload).into_owned();
    assert!(text.contains("Minato is shutting down."), "{text}");
}
