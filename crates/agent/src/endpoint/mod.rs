//! The task endpoint: what containers ask the agent, at 169.254.170.2:80.
//!
//! Credentials, metadata, use of resources, scale-in protection and faults
//! have paths of their own, as on AWS; every other request is somebody
//! else's: it goes to the fallback, which in Minato is its own gateway, so that an SDK in a
//! container needs no other address.
//!
//! Who asks is told by what it knows: a container by its token, a task by the
//! id of its credentials. Both are random and only in their containers'
//! environment; the caller's address says nothing (tasks in host mode share
//! the host's).

mod credentials;
mod fault;
mod metadata;
mod protection;
mod rate;
mod server;
mod stats;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::fmt;
use std::net::{IpAddr, TcpListener};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use minato_core::env::Clock as _;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::Instant;
use tower::ServiceExt as _;
use tower::util::BoxCloneSyncService;

use crate::agent::Services;
use crate::engine::{TaskEngine, TaskView};
use crate::session::CredentialSets;
use crate::task::plan::{ContainerPlan, TaskPlan};
use crate::task::record::ContainerRecord;
use rate::{Payer, RateLimit};

pub(crate) use server::serve;

/// Who answers requests that are not the agent's.
pub type Fallback =
    BoxCloneSyncService<Request<Bytes>, Response<Bytes>, Infallible>;

/// What the task endpoint is served on.
pub struct EndpointSocket {
    /// Where containers' calls arrive.
    pub listener: TcpListener,
    /// Who answers what is not the agent's.
    pub fallback: Fallback,
}

impl fmt::Debug for EndpointSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointSocket")
            .field("listener", &self.listener)
            .finish_non_exhaustive()
    }
}

/// The answers of the task endpoint.
pub(crate) struct Endpoint {
    services: Arc<Services>,
    engine: TaskEngine,
    credentials: Arc<CredentialSets>,
    /// Known once the host is registered.
    container_instance_arn: OnceLock<String>,
    fallback: Fallback,
    rate: Mutex<RateLimit>,
    faults: Mutex<fault::FaultRates>,
    samples: Mutex<stats::Samples>,
}

/// The container that asks, with its task.
struct Asker {
    task: TaskView,
    plan: Arc<TaskPlan>,
    name: String,
}

impl Asker {
    fn container(&self) -> Option<(&ContainerPlan, &ContainerRecord)> {
        let plan = self.plan.container(&self.name)?;
        Some((plan, self.task.record.containers.get(&self.name)?))
    }
}

/// Whose a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route<'a> {
    /// Credentials; of the version and id given.
    Credentials(u8, Option<&'a str>),
    /// Metadata and statistics: version, token, the rest.
    Metadata(u8, &'a str, &'a str),
    /// The agent's API: token, the rest.
    Agent(&'a str, &'a str),
    /// A path that the upstream agent answers and this one does not.
    Unbuilt,
    /// Not the agent's.
    Other,
}

fn route<'a>(path: &'a str, query: Option<&'a str>) -> Route<'a> {
    let path = path.trim_end_matches('/');
    let mut parts = path.splitn(4, '/').skip(1);
    let family = parts.next().unwrap_or_default();
    let first = parts.next().unwrap_or_default();
    let rest = parts.next().unwrap_or_default();
    match (family, first, rest) {
        ("v1", "credentials", "") => {
            let pairs = query.unwrap_or_default().split('&');
            let id = pairs.filter_map(|pair| pair.strip_prefix("id=")).next();
            Route::Credentials(1, id.filter(|id| !id.is_empty()))
        }
        ("v2", "credentials", id) => {
            Route::Credentials(2, (!id.is_empty()).then_some(id))
        }
        ("v2", "metadata" | "metadataWithTags" | "stats", _) => Route::Unbuilt,
        ("v3", token, rest) => Route::Metadata(3, token, rest),
        ("v4", token, rest) => Route::Metadata(4, token, rest),
        ("api", token, rest) => Route::Agent(token, rest),
        _ => Route::Other,
    }
}

impl Endpoint {
    pub(crate) fn new(
        services: Arc<Services>,
        engine: TaskEngine,
        credentials: Arc<CredentialSets>,
        fallback: Fallback,
    ) -> Endpoint {
        Endpoint {
            services,
            engine,
            credentials,
            container_instance_arn: OnceLock::new(),
            fallback,
            rate: Mutex::default(),
            faults: Mutex::default(),
            samples: Mutex::default(),
        }
    }

    /// The host is registered.
    pub(crate) fn set_container_instance(&self, arn: &str) {
        // A second registration gives the same one.
        let _ = self.container_instance_arn.set(arn.to_owned());
    }

    /// Whether a request is the agent's, and so a small one.
    fn is_own<T>(request: &Request<T>) -> bool {
        let uri = request.uri();
        route(uri.path(), uri.query()) != Route::Other
    }

    async fn answer(
        &self,
        request: Request<Bytes>,
        peer: IpAddr,
    ) -> Response<Bytes> {
        let uri = request.uri().clone();
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        let route = route(uri.path(), uri.query());
        match route {
            Route::Other => {
                let answer = self.fallback.clone().oneshot(request).await;
                return answer.unwrap_or_else(|never| match never {});
            }
            Route::Agent(..) => {}
            Route::Credentials(..) | Route::Metadata(..) | Route::Unbuilt
                if is_read => {}
            Route::Credentials(..) | Route::Metadata(..) | Route::Unbuilt => {
                return method_not_allowed();
            }
        }
        // Who guesses pays for the search.
        if !self.rate.lock().has(&Payer::Peer(peer), Instant::now()) {
            return too_many_requests();
        }
        match route {
            Route::Credentials(version, id) => {
                self.answer_credentials(version, id, peer)
            }
            Route::Metadata(version, token, rest) => {
                let Some(asker) = self.asker(token) else {
                    self.charge(&Payer::Peer(peer));
                    return unknown_container(version, token);
                };
                if !self.charge(&Payer::Task(asker.task.arn.clone())) {
                    return too_many_requests();
                }
                self.answer_metadata(version, &asker, rest).await
            }
            Route::Agent(token, "task-protection/v1/state") => {
                let Some(asker) = self.asker(token) else {
                    self.charge(&Payer::Peer(peer));
                    return protection::unknown_container();
                };
                if !self.charge(&Payer::Task(asker.task.arn.clone())) {
                    return too_many_requests();
                }
                self.answer_protection(&asker, &request).await
            }
            Route::Agent(token, rest) => match fault::fault_path(rest) {
                Some(path) => {
                    self.answer_fault(path, token, &request, peer).await
                }
                None => {
                    self.charge(&Payer::Peer(peer));
                    not_found(uri.path())
                }
            },
            Route::Unbuilt | Route::Other => {
                self.charge(&Payer::Peer(peer));
                not_found(uri.path())
            }
        }
    }

    /// The container with the token given.
    fn asker(&self, token: &str) -> Option<Asker> {
        let mut name = None;
        let task = self.engine.find(|record| {
            let mut known = record.containers.iter();
            name = known
                .find(|(_, known)| {
                    known.token.as_ref().is_some_and(|own| own.is(token))
                })
                .map(|(name, _)| name.clone());
            name.is_some()
        })?;
        let plan = task.plan.clone()?;
        Some(Asker { task, plan, name: name? })
    }

    /// Takes one request of the payer's; `false` where it has none left.
    fn charge(&self, payer: &Payer) -> bool {
        self.rate.lock().take(payer, Instant::now())
    }

    fn now(&self) -> minato_wire::Timestamp {
        self.services.clock.now()
    }
}

fn respond(status: StatusCode, body: &Value) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body.to_string()));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

/// The form of errors of the credentials' family, used wherever upstream has
/// no JSON of its own.
fn refuse(status: StatusCode, code: &str, message: &str) -> Response<Bytes> {
    let body = json!({
        "code": code, "message": message, "HTTPErrorCode": status.as_u16(),
    });
    respond(status, &body)
}

fn too_many_requests() -> Response<Bytes> {
    let message = "Too Many Requests";
    refuse(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message)
}

fn method_not_allowed() -> Response<Bytes> {
    let message = "only GET is answered here";
    refuse(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
}

fn not_found(path: &str) -> Response<Bytes> {
    let message = format!("this agent does not answer {path}");
    refuse(StatusCode::NOT_FOUND, "NotFound", &message)
}

/// Upstream's answer: a bare JSON string.
fn unknown_container(version: u8, token: &str) -> Response<Bytes> {
    let text = format!(
        "V{version} container metadata handler: unable to get container ID \
         from request: unable to get docker ID from v3 endpoint ID: {token}"
    );
    respond(StatusCode::NOT_FOUND, &Value::String(text))
}
