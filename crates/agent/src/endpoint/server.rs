//! The task endpoint on a socket.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{Endpoint, refuse};

/// For a head, also of an idle connection, and for a body; upstream's.
const READ_TIME: Duration = Duration::from_secs(5);
/// Most connections, and most of one address: a container cannot keep the
/// others out.
const CONNECTIONS_MAX: usize = 1024;
const CONNECTIONS_OF_PEER_MAX: usize = 128;
/// After so long a connection ends, whatever it waits for.
const CONNECTION_TIME: Duration = Duration::from_secs(120);
/// Head of a request: a session token has up to about 4 KiB.
const HEAD_BYTES: usize = 32 << 10;
/// Body of the agent's own requests, and of others without further ado.
const SMALL_BODY_BYTES: u64 = 64 << 10;
/// Body of large: `PutLogEvents` is the largest, with 1 MiB before escapes.
const LARGE_BODY_BYTES: u64 = 7 << 20;
/// Requests with a large body at once.
const LARGE_MAX: usize = 16;
/// After a failed `accept`, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connections by address.
#[derive(Debug, Default)]
struct Seats(Mutex<HashMap<IpAddr, usize>>);

/// One connection's place among them.
struct Seat {
    seats: Arc<Seats>,
    peer: IpAddr,
}

impl Seats {
    fn seat(self: &Arc<Self>, peer: IpAddr) -> Option<Seat> {
        let mut taken = self.0.lock();
        let of_peer = taken.get(&peer).copied().unwrap_or(0);
        let all: usize = taken.values().sum();
        if of_peer >= CONNECTIONS_OF_PEER_MAX || all >= CONNECTIONS_MAX {
            return None;
        }
        taken.insert(peer, of_peer + 1);
        Some(Seat { seats: Arc::clone(self), peer })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.0.lock();
        match taken.get_mut(&self.peer) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) | None => {
                taken.remove(&self.peer);
            }
        }
    }
}

/// Answers until dropped.
pub(crate) async fn serve(listener: TcpListener, endpoint: Arc<Endpoint>) {
    let seats = Arc::new(Seats::default());
    let large = Arc::new(Semaphore::new(LARGE_MAX));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let (stream, peer) = match accepted {
            Ok((stream, peer)) => (stream, peer.ip()),
            Err(error) => {
                tracing::warn!(%error, "could not accept a container's call");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Who has too many is hung up on.
        let Some(seat) = seats.seat(peer) else { continue };
        let endpoint = Arc::clone(&endpoint);
        let large = Arc::clone(&large);
        connections.spawn(converse(stream, seat, endpoint, large));
    }
}

async fn converse(
    stream: TcpStream,
    seat: Seat,
    endpoint: Arc<Endpoint>,
    large: Arc<Semaphore>,
) {
    let _ = stream.set_nodelay(true);
    let peer = seat.peer;
    let service = service_fn(move |request| {
        let (endpoint, large) = (Arc::clone(&endpoint), Arc::clone(&large));
        async move {
            let response = answer(&endpoint, &large, request, peer).await;
            Ok::<_, Infallible>(response.map(Full::new))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(READ_TIME)
        .max_buf_size(HEAD_BYTES)
        .title_case_headers(true)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CONNECTION_TIME, pin!(connection)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "connection ended"),
        Err(_) => tracing::debug!("connection ended: it was too long"),
    }
}

async fn answer(
    endpoint: &Endpoint,
    large: &Semaphore,
    request: Request<Incoming>,
    peer: IpAddr,
) -> Response<Bytes> {
    let announced = request.body().size_hint().upper();
    let is_small = announced.is_some_and(|size| size <= SMALL_BODY_BYTES);
    let mut limit = SMALL_BODY_BYTES;
    let mut _permit = None;
    if !is_small && !Endpoint::is_own(&request) {
        limit = LARGE_BODY_BYTES;
        match tokio::time::timeout(READ_TIME, large.acquire()).await {
            Ok(permit) => _permit = permit.ok(),
            Err(_) => return busy(),
        }
    }
    let (parts, body) = request.into_parts();
    match tokio::time::timeout(READ_TIME, read(body, limit)).await {
        Ok(Ok(body)) => {
            let request = Request::from_parts(parts, body);
            endpoint.answer(request, peer).await
        }
        Ok(Err(refusal)) => closing(*refusal),
        Err(_) => closing(refuse(
            StatusCode::REQUEST_TIMEOUT,
            "RequestTimeout",
            "The request body did not arrive in time.",
        )),
    }
}

async fn read(
    body: Incoming,
    limit: u64,
) -> Result<Bytes, Box<Response<Bytes>>> {
    let too_large = || {
        Box::new(refuse(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLargeException",
            "The request body is too large.",
        ))
    };
    let broken = |_| {
        Box::new(refuse(
            StatusCode::BAD_REQUEST,
            "SerializationException",
            "The request body could not be read.",
        ))
    };
    if body.size_hint().lower() > limit {
        return Err(too_large());
    }
    let mut body = pin!(body);
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        if (bytes.len() + data.len()) as u64 > limit {
            return Err(too_large());
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}

/// The rest of the body was not read: nothing can follow it.
fn closing(mut response: Response<Bytes>) -> Response<Bytes> {
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
    response
}

fn busy() -> Response<Bytes> {
    closing(refuse(
        StatusCode::SERVICE_UNAVAILABLE,
        "ServiceUnavailableException",
        "Rate exceeded",
    ))
}
