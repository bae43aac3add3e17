//! Faults that a task injects into its own network.
//!
//! Paths, bodies, statuses and texts are the upstream agent's
//! (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fault-injection-endpoints.html>).
//! Whether a fault is running is asked of the kernel, not remembered here.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use minato_engine::network::ENDPOINT;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::rate::{Payer, RateLimit};
use super::{Asker, Endpoint, respond};
use crate::runtime::fault::{
    Blackhole, Direction, FaultAnswer, FaultCall, FaultSite, Impairment,
    ImpairmentKind, IpRange, Port, Protocol,
};
use crate::task::plan::NetworkPlan;

/// Upstream's patience with the kernel.
const PATIENCE: Duration = Duration::from_secs(5);

/// The kinds of faults, by their paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum FaultKind {
    Blackhole,
    Impairment(ImpairmentKind),
}

/// What is asked about one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum FaultVerb {
    Start,
    Stop,
    Status,
}

/// A path below `fault/v1/`.
pub(super) type FaultPath = (FaultKind, FaultVerb);

/// Reads what follows the token in a path.
pub(super) fn fault_path(rest: &str) -> Option<FaultPath> {
    let (kind, verb) = rest.strip_prefix("fault/v1/")?.split_once('/')?;
    let kind = match kind {
        "network-blackhole-port" => FaultKind::Blackhole,
        "network-latency" => FaultKind::Impairment(ImpairmentKind::Latency),
        "network-packet-loss" => {
            FaultKind::Impairment(ImpairmentKind::PacketLoss)
        }
        _ => return None,
    };
    let verb = match verb {
        "start" => FaultVerb::Start,
        "stop" => FaultVerb::Stop,
        "status" => FaultVerb::Status,
        _ => return None,
    };
    Some((kind, verb))
}

/// As upstream names requests in its answers.
fn request_name((kind, verb): FaultPath) -> String {
    let kind = match kind {
        FaultKind::Blackhole => "network-blackhole-port",
        FaultKind::Impairment(ImpairmentKind::Latency) => "network-latency",
        FaultKind::Impairment(ImpairmentKind::PacketLoss) => {
            "network-packet-loss"
        }
    };
    let verb = match verb {
        FaultVerb::Start => "start",
        FaultVerb::Stop => "stop",
        FaultVerb::Status => "check status",
    };
    format!("{verb} {kind}")
}

/// The bodies of all requests; each reads its own members, and lets others
/// pass as upstream does.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Body {
    port: Option<u16>,
    protocol: Option<String>,
    traffic_type: Option<String>,
    delay_milliseconds: Option<u64>,
    jitter_milliseconds: Option<u64>,
    loss_percent: Option<u64>,
    sources: Option<Vec<Option<String>>>,
    sources_to_filter: Option<Vec<Option<String>>>,
}

impl Endpoint {
    pub(super) async fn answer_fault(
        &self,
        path: FaultPath,
        token: &str,
        request: &Request<Bytes>,
        peer: IpAddr,
    ) -> Response<Bytes> {
        if request.method() != Method::POST {
            let status = StatusCode::METHOD_NOT_ALLOWED;
            return refusal(status, "only POST is answered here");
        }
        // Upstream reads the body before it looks who asks.
        let call = match fault_call(path, request.body()) {
            Ok(call) => call,
            Err(message) => {
                self.charge(&Payer::Peer(peer));
                return refusal(StatusCode::BAD_REQUEST, &message);
            }
        };
        let Some(asker) = self.asker(token) else {
            self.charge(&Payer::Peer(peer));
            return unknown_container(token);
        };
        let container = format!("{} {}", asker.task.arn, asker.name);
        let is_paid = self.charge(&Payer::Task(asker.task.arn.clone()))
            && self.faults.lock().take(&container, path, Instant::now());
        if !is_paid {
            let status = StatusCode::TOO_MANY_REQUESTS;
            return refusal(status, "Request was throttled");
        }
        let site = match site(&asker) {
            Ok(site) => site,
            Err(message) => return refusal(StatusCode::BAD_REQUEST, &message),
        };
        self.perform(path, &site, &call).await
    }

    async fn perform(
        &self,
        path: FaultPath,
        site: &FaultSite,
        call: &FaultCall,
    ) -> Response<Bytes> {
        let runtime = &self.services.runtime;
        let done = tokio::time::timeout(PATIENCE, runtime.fault(site, call));
        let name = request_name(path);
        let failure = StatusCode::INTERNAL_SERVER_ERROR;
        match done.await {
            Ok(Ok(answer)) => {
                tracing::info!(task = site.task_id, ?answer, "{name}");
                answered(path.1, answer)
            }
            Ok(Err(error)) => {
                tracing::warn!(task = site.task_id, %error, "{name}");
                refusal(failure, "internal error")
            }
            Err(_) => refusal(failure, &format!("{name}: request timed out")),
        }
    }
}

/// Where the faults of the task that asks are.
fn site(asker: &Asker) -> Result<FaultSite, String> {
    let plan = &asker.plan;
    if !plan.fault_injection {
        let arn = &plan.arn;
        return Err(format!(
            "enableFaultInjection is not enabled for task: {arn}"
        ));
    }
    let in_host = match &plan.network {
        NetworkPlan::Host => true,
        NetworkPlan::Awsvpc(_) => false,
        NetworkPlan::Bridge => return Err(unsupported_mode("bridge")),
        NetworkPlan::None => return Err(unsupported_mode("none")),
    };
    Ok(FaultSite { task_id: plan.id.clone(), in_host })
}

fn unsupported_mode(mode: &str) -> String {
    format!(
        "{mode} mode is not supported. Please use either host or awsvpc mode."
    )
}

/// What a request asks for, or why it cannot.
fn fault_call(path: FaultPath, body: &[u8]) -> Result<FaultCall, String> {
    match path {
        (FaultKind::Blackhole, verb) => blackhole_call(verb, &read(body)?),
        (FaultKind::Impairment(kind), FaultVerb::Start) => {
            let body = read(body)?;
            let impairment = match kind {
                ImpairmentKind::Latency => latency(&body)?,
                ImpairmentKind::PacketLoss => packet_loss(&body)?,
            };
            let sources = body.sources.unwrap_or_default();
            if sources.is_empty() {
                return Err(missing("Sources"));
            }
            Ok(FaultCall::ImpairmentStart {
                impairment,
                sources: ranges(&sources, "Sources")?,
                except: except(body.sources_to_filter.as_deref())?,
            })
        }
        // Their bodies are not looked at.
        (FaultKind::Impairment(kind), FaultVerb::Stop) => {
            Ok(FaultCall::ImpairmentStop(kind))
        }
        (FaultKind::Impairment(kind), FaultVerb::Status) => {
            Ok(FaultCall::ImpairmentStatus(kind))
        }
    }
}

fn read(body: &[u8]) -> Result<Body, String> {
    if body.trim_ascii().is_empty() {
        return Err("required request body is missing".to_owned());
    }
    // An array would fit a struct too.
    let object: serde_json::Map<String, Value> =
        serde_json::from_slice(body).map_err(|error| error.to_string())?;
    serde_json::from_value(Value::Object(object))
        .map_err(|error| error.to_string())
}

fn blackhole_call(verb: FaultVerb, body: &Body) -> Result<FaultCall, String> {
    let number = body.port.ok_or_else(|| missing("Port"))?;
    let protocol = text(body.protocol.as_deref(), "Protocol")?;
    let traffic = text(body.traffic_type.as_deref(), "TrafficType")?;
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        other => return Err(invalid(other, "Protocol")),
    };
    let direction = match traffic {
        "ingress" => Direction::Ingress,
        "egress" => Direction::Egress,
        other => return Err(invalid(other, "TrafficType")),
    };
    let mut except = except(body.sources_to_filter.as_deref())?;
    let port = Port { direction, protocol, number };
    Ok(match verb {
        FaultVerb::Start => {
            // A task must be able to stop what it started.
            if direction == Direction::Egress && number == ENDPOINT.port() {
                let endpoint = IpAddr::V4(*ENDPOINT.ip());
                except.push(IpRange::of_address(endpoint));
            }
            FaultCall::BlackholeStart(Blackhole { port, except })
        }
        FaultVerb::Stop => FaultCall::BlackholeStop(port),
        FaultVerb::Status => FaultCall::BlackholeStatus(port),
    })
}

fn latency(body: &Body) -> Result<Impairment, String> {
    let delay_ms = body.delay_milliseconds;
    let jitter_ms = body.jitter_milliseconds;
    Ok(Impairment::Latency {
        delay_ms: delay_ms.ok_or_else(|| missing("DelayMilliseconds"))?,
        jitter_ms: jitter_ms.ok_or_else(|| missing("JitterMilliseconds"))?,
    })
}

fn packet_loss(body: &Body) -> Result<Impairment, String> {
    let given = body.loss_percent.ok_or_else(|| missing("LossPercent"))?;
    let percent = u8::try_from(given).ok().filter(|p| (1..=100).contains(p));
    let percent =
        percent.ok_or_else(|| invalid(&given.to_string(), "LossPercent"))?;
    Ok(Impairment::PacketLoss { percent })
}

fn except(given: Option<&[Option<String>]>) -> Result<Vec<IpRange>, String> {
    ranges(given.unwrap_or_default(), "SourcesToFilter")
}

fn ranges(
    given: &[Option<String>],
    parameter: &str,
) -> Result<Vec<IpRange>, String> {
    let texts = given.iter().map(|text| text.as_deref().unwrap_or_default());
    texts
        .map(|text| text.parse().map_err(|_| invalid(text, parameter)))
        .collect()
}

fn text<'a>(
    given: Option<&'a str>,
    parameter: &str,
) -> Result<&'a str, String> {
    given.filter(|text| !text.is_empty()).ok_or_else(|| missing(parameter))
}

fn missing(parameter: &str) -> String {
    format!("required parameter {parameter} is missing")
}

fn invalid(value: &str, parameter: &str) -> String {
    format!("invalid value {value} for parameter {parameter}")
}

fn answered(verb: FaultVerb, answer: FaultAnswer) -> Response<Bytes> {
    let status = match (answer, verb) {
        (FaultAnswer::Running, _) => "running",
        (FaultAnswer::NotRunning, FaultVerb::Stop) => "stopped",
        (FaultAnswer::NotRunning, FaultVerb::Start | FaultVerb::Status) => {
            "not-running"
        }
        (FaultAnswer::Conflict(kind), _) => {
            let name = match kind {
                ImpairmentKind::Latency => "latency",
                ImpairmentKind::PacketLoss => "packet loss",
            };
            let message =
                format!("There is already one network {name} fault running");
            return refusal(StatusCode::CONFLICT, &message);
        }
    };
    respond(StatusCode::OK, &json!({"Status": status}))
}

fn refusal(status: StatusCode, message: &str) -> Response<Bytes> {
    respond(status, &json!({"Error": message}))
}

fn unknown_container(token: &str) -> Response<Bytes> {
    let message = format!(
        "unable to get task arn from request: unable to get task Arn from v3 \
         endpoint ID: {token}"
    );
    refusal(StatusCode::NOT_FOUND, &message)
}

/// One request of a kind in five seconds, for each container.
#[derive(Debug)]
pub(super) struct FaultRates(RateLimit<(String, FaultPath)>);

impl Default for FaultRates {
    fn default() -> FaultRates {
        const PER_SECOND: f64 = 0.2;
        const BURST: f64 = 1.0;
        FaultRates(RateLimit::new(PER_SECOND, BURST))
    }
}

impl FaultRates {
    fn take(&mut self, container: &str, path: FaultPath, now: Instant) -> bool {
        self.0.take(&(container.to_owned(), path), now)
    }
}

#[cfg(test)]
#[path = "fault_tests.rs"]
mod tests;
