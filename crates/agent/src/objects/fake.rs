//! A server that answers as S3 does, as far as tests tell it.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use super::{S3Config, S3Endpoint};

/// A status and a body.
pub(crate) type Answer = (u16, Vec<u8>);

pub(crate) const NO_SUCH_KEY: &str = "<?xml version=\"1.0\"?><Error><Code>\
    NoSuchKey</Code><Message>The specified key does not exist.</Message>\
    <Key>k</Key></Error>";

#[derive(Default)]
struct State {
    answers: BTreeMap<String, VecDeque<Answer>>,
    asked: Vec<(String, HeaderMap)>,
    put: BTreeMap<String, Bytes>,
}

pub(crate) struct FakeS3 {
    state: Arc<Mutex<State>>,
    address: String,
    _serving: AbortOnDropHandle<()>,
}

impl FakeS3 {
    pub(crate) async fn start() -> FakeS3 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::<Mutex<State>>::default();
        let serving = tokio::spawn(serve(listener, Arc::clone(&state)));
        let _serving = AbortOnDropHandle::new(serving);
        FakeS3 { state, address, _serving }
    }

    pub(crate) fn config(&self) -> S3Config {
        S3Config {
            endpoint: S3Endpoint::parse(&format!("http://{}", self.address))
                .unwrap(),
            region: "eu-west-1".into(),
            credentials: None,
        }
    }

    /// Answers a path so; the last answer stays.
    pub(crate) fn answer(&self, path: &str, status: u16, body: &[u8]) {
        let mut state = self.state.lock();
        let answers = state.answers.entry(path.into()).or_default();
        answers.push_back((status, body.into()));
    }

    /// What was put at a path.
    pub(crate) fn object(&self, path: &str) -> Option<Bytes> {
        self.state.lock().put.get(path).cloned()
    }

    /// Paths and headers of what it was asked.
    pub(crate) fn asked(&self) -> Vec<(String, HeaderMap)> {
        self.state.lock().asked.clone()
    }
}

async fn serve(listener: TcpListener, state: Arc<Mutex<State>>) {
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let state = Arc::clone(&state);
        let service = service_fn(move |request| {
            let state = Arc::clone(&state);
            async move {
                let (head, body) = request.into_parts();
                let body = Incoming::collect(body).await.unwrap().to_bytes();
                let (status, body) = respond(&mut state.lock(), &head, body);
                let mut response = Response::new(Full::new(Bytes::from(body)));
                *response.status_mut() = status.try_into().unwrap();
                Ok::<_, Infallible>(response)
            }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(socket), service);
        tokio::spawn(connection);
    }
}

fn respond(state: &mut State, head: &Parts, body: Bytes) -> Answer {
    let path = head.uri.path().to_owned();
    state.asked.push((path.clone(), head.headers.clone()));
    let missing = if head.method == Method::PUT {
        state.put.insert(path.clone(), body);
        (200, vec![])
    } else {
        assert_eq!(head.method, Method::GET);
        (404, NO_SUCH_KEY.into())
    };
    let Some(answers) = state.answers.get_mut(&path) else { return missing };
    match answers.len() {
        0 | 1 => answers.front().cloned().unwrap(),
        _ => answers.pop_front().unwrap(),
    }
}
