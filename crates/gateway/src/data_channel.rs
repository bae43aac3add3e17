//! Data channels of ECS Exec: a websocket on one side, frames on the other.
//!
//! The upgrade is not signed: older plugins send none, and newer ones only
//! where they find credentials (`exec-channel.md`, 1). What lets a client in is
//! the token in its first frame, so a connection is nobody's until then. A
//! wrong token is answered on the websocket: the plugin hangs on any HTTP
//! status but 101.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use http::header::{
    CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use minato_control::DataChannel;
use minato_control::call::Backend;
use minato_wire::ssm_channel::{ChannelClosed, MAX_FRAME_BYTES, PATH_PREFIX};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_util::sync::CancellationToken;

use crate::connections::Seat;
use crate::gateway::Gateway;

/// How often a client is asked whether it is there; one that has said nothing
/// by the next time is gone. The upstream agent's interval.
const PING_EVERY: Duration = Duration::from_secs(54);
/// For the last frame to a client that was not let in, or is sent away.
const FAREWELL: Duration = Duration::from_secs(2);

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// The session that a request wants to join, if it is such a request.
pub(crate) fn session_of<T>(request: &Request<T>) -> Option<&str> {
    request.uri().path().strip_prefix(PATH_PREFIX)
}

/// The answer that makes a connection a websocket, or says why not.
pub(crate) fn accept<T>(
    request: &Request<T>,
) -> Result<Response<Full<Bytes>>, StatusCode> {
    let headers = request.headers();
    let is_websocket = request.method() == Method::GET
        && has_word(headers, UPGRADE.as_str(), "websocket")
        && has_word(headers, CONNECTION.as_str(), "upgrade");
    if !is_websocket {
        return Err(StatusCode::UPGRADE_REQUIRED);
    }
    if !has_word(headers, SEC_WEBSOCKET_VERSION.as_str(), "13") {
        return Err(StatusCode::BAD_REQUEST);
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).ok_or(StatusCode::BAD_REQUEST)?;
    let proof = HeaderValue::from_str(&derive_accept_key(key.as_bytes()))
        .map_err(|_| StatusCode::BAD_REQUEST)?;
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = response.headers_mut();
    answer.insert(UPGRADE, HeaderValue::from_static("websocket"));
    answer.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.insert(SEC_WEBSOCKET_ACCEPT, proof);
    Ok(response)
}

fn has_word(headers: &HeaderMap, name: &str, word: &str) -> bool {
    let values = headers.get_all(name).into_iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|part| part.trim().eq_ignore_ascii_case(word))
}

/// A client that has asked to join a session.
pub(crate) struct Visitor<B> {
    pub(crate) gateway: Gateway<B>,
    pub(crate) session_id: String,
    pub(crate) seat: Arc<Seat>,
    /// How long its first frame may take.
    pub(crate) patience: Duration,
    pub(crate) stop: CancellationToken,
}

impl<B: Backend> Visitor<B> {
    /// Serves the connection once it is a websocket.
    pub(crate) async fn serve(self, upgrade: OnUpgrade) {
        let Ok(upgraded) = upgrade.await else { return };
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_FRAME_BYTES))
            .max_frame_size(Some(MAX_FRAME_BYTES));
        let io = TokioIo::new(upgraded);
        let mut socket =
            Socket::from_raw_socket(io, Role::Server, Some(config)).await;
        // Until it has shown its token its seat is another's for the asking.
        self.seat.waiting();
        let put_out = self.seat.put_out();
        let opening = tokio::select! {
            opening = opening(&mut socket) => opening,
            () = tokio::time::sleep(self.patience) => return,
            () = put_out.cancelled() => return,
            () = self.stop.cancelled() => return,
        };
        let Some(opening) = opening else { return };
        let backend = self.gateway.backend();
        match backend.open_data_channel(&self.session_id, &opening) {
            Ok(channel) => {
                self.seat.at_work();
                self.join(socket, channel).await;
            }
            Err(frame) => bid_farewell(&mut socket, frame).await,
        }
    }

    /// Both directions go on while one of them is held up.
    async fn join(&self, socket: Socket, channel: DataChannel) {
        let (mut sink, stream) = socket.split();
        let is_heard = AtomicBool::new(true);
        let DataChannel { incoming, outgoing } = channel;
        let stopped = tokio::select! {
            () = read(stream, &outgoing, &is_heard) => false,
            () = write(&mut sink, incoming, &is_heard) => false,
            () = self.stop.cancelled() => true,
        };
        if stopped {
            let why = "Minato is shutting down.";
            let closed = ChannelClosed::new(&self.session_id, why, None);
            let (id, now) = self.gateway.id_and_time();
            let last = sink.send(Message::Binary(closed.frame(id, now)));
            let _ = tokio::time::timeout(FAREWELL, last).await;
        }
    }
}

/// The first frame, which is text; anything else is no client.
async fn opening(socket: &mut Socket) -> Option<String> {
    loop {
        match socket.next().await?.ok()? {
            Message::Text(text) => return Some(text.as_str().to_owned()),
            // The plugin pings at once.
            Message::Ping(_) | Message::Pong(_) => {}
            Message::Binary(_) | Message::Close(_) | Message::Frame(_) => {
                return None;
            }
        }
    }
}

async fn bid_farewell(socket: &mut Socket, frame: Bytes) {
    let said = async {
        let _ = socket.send(Message::Binary(frame)).await;
        let _ = socket.close(None).await;
        // What the client still sends must not reset the connection before
        // it has read the last frame.
        while let Some(Ok(_)) = socket.next().await {}
    };
    let _ = tokio::time::timeout(FAREWELL, said).await;
}

async fn read(
    mut stream: SplitStream<Socket>,
    to: &mpsc::Sender<Bytes>,
    is_heard: &AtomicBool,
) {
    while let Some(Ok(message)) = stream.next().await {
        is_heard.store(true, Ordering::Relaxed);
        match message {
            Message::Binary(frame) => {
                if to.send(frame).await.is_err() {
                    return std::future::pending().await;
                }
            }
            Message::Text(_)
            | Message::Ping(_)
            | Message::Pong(_)
            | Message::Frame(_) => {}
            Message::Close(_) => return,
        }
    }
}

async fn write(
    sink: &mut SplitSink<Socket, Message>,
    mut from: mpsc::Receiver<Bytes>,
    is_heard: &AtomicBool,
) {
    let mut beat = tokio::time::interval(PING_EVERY);
    beat.tick().await; // the first is at once
    loop {
        let message = tokio::select! {
            frame = from.recv() => match frame {
                Some(frame) => Message::Binary(frame),
                None => break,
            },
            _ = beat.tick() => {
                if !is_heard.swap(false, Ordering::Relaxed) {
                    return;
                }
                Message::Ping(Bytes::new())
            }
        };
        if sink.send(message).await.is_err() {
            return;
        }
    }
    // The session is over, or another socket has taken over. The client has
    // the news before it: it may read on, and says nothing that counts.
    let _ = tokio::time::timeout(FAREWELL, sink.close()).await;
}
