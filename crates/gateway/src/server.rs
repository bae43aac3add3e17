//! The gateway on a socket.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use minato_control::call::Backend;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::connections::{Connections, Seat};
use crate::data_channel::{self, Visitor};
use crate::event_body::EventBody;
use crate::gateway::{Answer, Gateway, likely_protocol};
use crate::limits::Limits;
use crate::patient::Patient;

/// What a client reads where every connection is at work. Written without
/// waiting: it fits every socket's buffer.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    Content-Type: application/x-amz-json-1.1\r\n\
    Content-Length: 67\r\nRetry-After: 1\r\nConnection: close\r\n\r\n\
    {\"__type\":\"ServiceUnavailableException\",\"message\":\"Rate exceeded\"}\n";

/// After a failed `accept`, most likely for want of file descriptors: others
/// must close theirs first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why a server does not listen.
#[derive(Debug, thiserror::Error)]
#[error("could not listen on {address}")]
pub struct BindError {
    /// The address wanted.
    pub address: SocketAddr,
    source: io::Error,
}

/// A gateway on a TCP socket, speaking HTTP/1.1.
///
/// HTTP/2 is left out on purpose: no AWS client asks for it without TLS, and
/// its streams would need limits of their own.
#[derive(Debug)]
pub struct Server<B> {
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared<B>>,
}

#[derive(Debug)]
struct Shared<B> {
    gateway: Gateway<B>,
    limits: Limits,
    connections: Arc<Connections>,
    /// One permit for each KiB that bodies may take.
    bodies: Arc<Semaphore>,
    /// Connections that have become websockets.
    channels: TaskTracker,
}

impl<B: Backend> Server<B> {
    /// Listens; nothing is answered before [`Server::serve`].
    pub async fn bind(
        address: SocketAddr,
        gateway: Gateway<B>,
        limits: Limits,
    ) -> Result<Server<B>, BindError> {
        let refuse = |source| BindError { address, source };
        let listener = TcpListener::bind(address).await.map_err(refuse)?;
        let address = listener.local_addr().map_err(refuse)?;
        let shared = Shared {
            gateway,
            limits,
            connections: Connections::new(limits.connections),
            bodies: Arc::new(Semaphore::new(limits.all_bodies_bytes >> 10)),
            channels: TaskTracker::new(),
        };
        Ok(Server { listener, address, shared: Arc::new(shared) })
    }

    /// Where it listens; the port is the real one.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop` is cancelled, then lets the answers on their way
    /// finish.
    pub async fn serve(self, stop: CancellationToken) {
        let tasks = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(seat) = self.shared.connections.seat() else {
                let _ = stream.try_write(FULL);
                continue;
            };
            let shared = Arc::clone(&self.shared);
            tasks.spawn(shared.converse(stream, seat, stop.clone()));
        }
        drop(self.listener);
        tasks.close();
        let channels = &self.shared.channels;
        channels.close();
        let drain = self.shared.limits.drain_time;
        let all = async { tokio::join!(tasks.wait(), channels.wait()) };
        if tokio::time::timeout(drain, all).await.is_err() {
            tracing::warn!("connections left open at shutdown");
        }
    }
}

impl<B: Backend> Shared<B> {
    /// One connection from its first request to its last.
    async fn converse(
        self: Arc<Self>,
        stream: TcpStream,
        seat: Seat,
        stop: CancellationToken,
    ) {
        let _ = stream.set_nodelay(true);
        let limits = self.limits;
        let put_out = seat.put_out();
        let seat = Arc::new(seat);
        let served = Arc::new(AtomicU64::new(0));
        let stopping = stop.clone();
        let service = hyper::service::service_fn(move |request| {
            let shared = Arc::clone(&self);
            let seat = Arc::clone(&seat);
            let count = served.fetch_add(1, Ordering::Relaxed) + 1;
            let stop = stopping.clone();
            async move {
                if let Some(id) = data_channel::session_of(&request) {
                    let id = id.to_owned();
                    let answer = shared.upgrade(request, id, seat, stop);
                    return Ok::<_, Infallible>(answer.map(Either::Left));
                }
                let response = shared.answer(request, &seat, count).await;
                Ok(response.map(|answer| match answer {
                    Answer::Whole(body) => {
                        seat.waiting();
                        Either::Left(Full::new(body))
                    }
                    Answer::Events(events) => {
                        Either::Right(EventBody::new(events, seat, stop))
                    }
                }))
            }
        });
        let stream = Patient::new(stream, limits.write_time);
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head_time)
            .max_buf_size(limits.head_bytes)
            .max_headers(limits.headers)
            .title_case_headers(true)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = put_out.cancelled() => return,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                let drain = limits.drain_time;
                match tokio::time::timeout(drain, connection.as_mut()).await {
                    Ok(ended) => ended,
                    Err(_) => return,
                }
            }
        };
        if let Err(error) = ended {
            // Clients come and go; this is news only to who looks for it.
            tracing::debug!(%error, "connection ended");
        }
    }

    /// Makes the connection a data channel of a session.
    fn upgrade(
        &self,
        mut request: Request<Incoming>,
        session_id: String,
        seat: Arc<Seat>,
        stop: CancellationToken,
    ) -> Response<Full<Bytes>> {
        let response = match data_channel::accept(&request) {
            Ok(response) => response,
            Err(status) => {
                let mut response = Response::new(Full::default());
                *response.status_mut() = status;
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, close);
                return response;
            }
        };
        let visitor = Visitor {
            gateway: self.gateway.clone(),
            session_id,
            seat,
            patience: self.limits.head_time,
            stop,
        };
        let upgrade = hyper::upgrade::on(&mut request);
        self.channels.spawn(visitor.serve(upgrade));
        response
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        seat: &Seat,
        count: u64,
    ) -> Response<Answer> {
        let last = count >= self.limits.requests_per_connection;
        let (mut response, whole) = match self.collect(request).await {
            Ok((request, permits)) => {
                seat.at_work();
                let response = self.gateway.answer_or_stream(request).await;
                drop(permits);
                (response, true)
            }
            Err(refusal) => (refusal.map(Answer::Whole), false),
        };
        if last || !whole {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        response
    }

    /// Reads the body within its limits of size and time.
    async fn collect(
        &self,
        request: Request<Incoming>,
    ) -> Result<(Request<Bytes>, Permits), Box<Response<Bytes>>> {
        let protocol = likely_protocol(&request);
        let refuse = |status, code, message: &str| {
            Box::new(self.gateway.refusal(protocol, status, code, message))
        };
        let limit = self.body_limit(&request);
        let (parts, body) = request.into_parts();
        let reading = self.read(body, limit);
        match tokio::time::timeout(self.limits.body_time, reading).await {
            Ok(Ok((body, permits))) => {
                Ok((Request::from_parts(parts, body), permits))
            }
            Ok(Err(ReadError::TooLarge)) => Err(refuse(
                StatusCode::PAYLOAD_TOO_LARGE,
                "RequestEntityTooLargeException",
                "The request body is too large.",
            )),
            Ok(Err(ReadError::NoRoom)) => Err(refuse(
                StatusCode::SERVICE_UNAVAILABLE,
                "ServiceUnavailableException",
                "Rate exceeded",
            )),
            Ok(Err(ReadError::Broken)) => Err(refuse(
                StatusCode::BAD_REQUEST,
                "SerializationException",
                "The request body could not be read.",
            )),
            Err(_) => Err(refuse(
                StatusCode::REQUEST_TIMEOUT,
                "RequestTimeout",
                "The request body did not arrive in time.",
            )),
        }
    }

    fn body_limit(&self, request: &Request<Incoming>) -> usize {
        let target = request.headers().get("x-amz-target");
        let is_logs = target.is_some_and(|target| {
            target.as_bytes().ends_with(b".PutLogEvents")
        });
        match is_logs {
            true => self.limits.log_body_bytes,
            false => self.limits.body_bytes,
        }
    }

    /// Room is taken as bytes arrive, not as they are announced: who says
    /// nothing takes nothing.
    async fn read(
        &self,
        body: Incoming,
        limit: usize,
    ) -> Result<(Bytes, Permits), ReadError> {
        if body.size_hint().lower() > limit as u64 {
            return Err(ReadError::TooLarge);
        }
        let mut body = pin!(body);
        let mut bytes = BytesMut::new();
        let mut permits = Permits::default();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| ReadError::Broken)?;
            let Ok(data) = frame.into_data() else { continue };
            if bytes.len() + data.len() > limit {
                return Err(ReadError::TooLarge);
            }
            permits.cover(&self.bodies, bytes.len() + data.len())?;
            bytes.extend_from_slice(&data);
        }
        Ok((bytes.freeze(), permits))
    }
}

enum ReadError {
    TooLarge,
    NoRoom,
    Broken,
}

/// The room that a body takes, given back when dropped.
#[derive(Debug, Default)]
struct Permits {
    kib: usize,
    held: Option<OwnedSemaphorePermit>,
}

impl Permits {
    fn cover(
        &mut self,
        bodies: &Arc<Semaphore>,
        bytes: usize,
    ) -> Result<(), ReadError> {
        let wanted = bytes.div_ceil(1024);
        let more = wanted.saturating_sub(self.kib);
        let more = u32::try_from(more).map_err(|_| ReadError::TooLarge)?;
        if more == 0 {
            return Ok(());
        }
        let permit = Arc::clone(bodies)
            .try_acquire_many_owned(more)
            .map_err(|_| ReadError::NoRoom)?;
        match &mut self.held {
            Some(held) => held.merge(permit),
            None => self.held = Some(permit),
        }
        self.kib = wanted;
        Ok(())
    }
}
