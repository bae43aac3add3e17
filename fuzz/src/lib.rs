//! What several targets need.

use http::{HeaderMap, HeaderValue, Method};
use minato_wire::model::{Operation, Protocol, Service};
use minato_wire::protocol::{Route, route};
use minato_wire::sigv4::RequestParts;
use minato_wire::{ec2, ecs, iam, logs, secretsmanager, ssm, sts};

/// Every service with an AWS model.
pub const SERVICES: [&Service; 7] = [
    &ecs::SERVICE,
    &logs::SERVICE,
    &ec2::SERVICE,
    &iam::SERVICE,
    &sts::SERVICE,
    &secretsmanager::SERVICE,
    &ssm::SERVICE,
];

/// The way a call of an operation takes.
pub fn routed(service: &'static Service, operation: &Operation) -> Route {
    let mut headers = HeaderMap::new();
    let mut query = None;
    match (service.protocol, service.target_prefix) {
        (Protocol::AwsJson(_), Some(prefix)) => {
            let target = format!("{prefix}.{}", operation.name);
            let target = HeaderValue::from_str(&target).expect("a name");
            headers.insert("x-amz-target", target);
            let kind = HeaderValue::from_static("application/x-amz-json-1.1");
            headers.insert("content-type", kind);
        }
        _ => {
            let (name, version) = (operation.name, service.api_version);
            query = Some(format!("Action={name}&Version={version}"));
        }
    }
    let parts = RequestParts {
        method: &Method::POST,
        path: "/",
        query: query.as_deref(),
        headers: &headers,
        body: &[],
    };
    match route(&SERVICES, &parts, Some(service.signing_name)) {
        Ok(route) => route,
        Err(no_route) => panic!("{}: {:?}", operation.name, no_route.error),
    }
}
