//! HTTP with pooled connections.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tower::Service;

use crate::error::BoxError;

/// Far above the largest answer of the APIs we call: ten thousand log events
/// of at most 1 MiB together, as JSON.
const MAX_RESPONSE_BYTES: usize = 32 << 20;

/// A local gateway accepts at once or never.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Below the gateway's own limit on idle connections, so that we close first.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// A transport over HTTP. A clone shares the connections.
#[derive(Clone, Debug)]
pub struct HttpTransport {
    client: Client<HttpConnector, Full<Bytes>>,
}

impl HttpTransport {
    /// A transport without connections; they are made when needed.
    pub fn new() -> HttpTransport {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(hyper_util::rt::TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .build(connector);
        HttpTransport { client }
    }
}

impl Default for HttpTransport {
    fn default() -> HttpTransport {
        HttpTransport::new()
    }
}

impl Service<Request<Bytes>> for HttpTransport {
    type Response = Response<Bytes>;
    type Error = BoxError;
    type Future =
        Pin<Box<dyn Future<Output = Result<Response<Bytes>, BoxError>> + Send>>;

    fn poll_ready(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let sending = self.client.request(request.map(Full::new));
        Box::pin(async move {
            let (parts, body) = sending.await?.into_parts();
            let body = Limited::new(body, MAX_RESPONSE_BYTES);
            let body = body.collect().await?.to_bytes();
            Ok(Response::from_parts(parts, body))
        })
    }
}
