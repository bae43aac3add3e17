//! DescribeServices, ListServices, ListServicesByNamespace.

use minato_core::status::ServiceStatus;
use minato_wire::ApiError;
use minato_wire::ecs::{
    DescribeServicesRequest, DescribeServicesResponse,
    ListServicesByNamespaceRequest, ListServicesByNamespaceResponse,
    ListServicesRequest, ListServicesResponse, ResourceManagementType,
    SchedulingStrategy, ServiceField, error,
};

use super::super::lookup::{self, service_name};
use super::super::page::{Page, page_between};
use super::super::tasks::missing;
use super::view;
use crate::context::{Context, Scope};
use crate::services::ecs_arn;
use crate::tables::{Cluster, Service};

/// The most services one call describes.
const DESCRIBE_MAX: usize = 10;
/// Services on a page where nothing is said, and at most (API reference,
/// ListServices).
const PAGE: usize = 10;
const PAGE_MAX: usize = 100;

pub(crate) async fn describe_services(
    cx: &Context,
    scope: &Scope,
    input: DescribeServicesRequest,
) -> Result<DescribeServicesResponse, ApiError> {
    let rows = cx.snapshot();
    let cluster = lookup::cluster(&rows, scope, input.cluster.as_deref())?;
    let wanted = input.services.unwrap_or_default();
    if wanted.is_empty() {
        return Err(error::invalid_parameter_exception(
            "Services cannot be empty.",
        ));
    }
    if wanted.len() > DESCRIBE_MAX {
        return Err(error::invalid_parameter_exception(format!(
            "Services cannot have more than {DESCRIBE_MAX} elements."
        )));
    }
    let with_tags =
        input.include.unwrap_or_default().contains(&ServiceField::Tags);
    let (mut services, mut failures) = (vec![], vec![]);
    for given in wanted {
        let found = lookup::service(&rows, &cluster, Some(&given)).ok();
        match found.filter(|row| is_meant(&given, row)) {
            Some(row) => {
                let mut shown = view::service(&rows, &row);
                if !with_tags {
                    shown.tags = Some(vec![]);
                }
                services.push(shown);
            }
            None => failures.push(missing(arn(scope, &cluster, &given))),
        }
    }
    Ok(DescribeServicesResponse {
        services: Some(services),
        failures: Some(failures),
    })
}

/// Whether an ARN, where one is given, is that of the row, in the long form
/// or the short.
fn is_meant(given: &str, row: &Service) -> bool {
    let Some((_, name)) = given.split_once(":service/") else { return true };
    given == row.arn() || name == row.name
}

/// The ARN given, or one made of the name given.
fn arn(scope: &Scope, cluster: &Cluster, given: &str) -> String {
    if given.starts_with("arn:") {
        return given.to_owned();
    }
    let rest = format!("service/{}/{}", cluster.name, service_name(given));
    ecs_arn(&scope.region, &scope.account, &rest)
}

pub(crate) async fn list_services(
    cx: &Context,
    scope: &Scope,
    input: ListServicesRequest,
) -> Result<ListServicesResponse, ApiError> {
    let rows = cx.snapshot();
    let cluster = lookup::cluster(&rows, scope, input.cluster.as_deref())?;
    let within = Cluster::key_of(&scope.account, &scope.region, &cluster.name);
    let is_wanted = |row: &Service| {
        let service = &row.service;
        let scheduling =
            service.scheduling_strategy.unwrap_or(SchedulingStrategy::Replica);
        let management = service
            .resource_management_type
            .unwrap_or(ResourceManagementType::Customer);
        row.status == ServiceStatus::Active
            && input
                .launch_type
                .is_none_or(|wanted| service.launch_type == Some(wanted))
            && input
                .scheduling_strategy
                .is_none_or(|wanted| scheduling == wanted)
            && input
                .resource_management_type
                .is_none_or(|wanted| management == wanted)
    };
    let matching = rows
        .scan::<Service>(&within)
        .filter(|row| is_wanted(row))
        .map(|row| row.arn());
    let Page { items, next_token } = page_between(
        matching,
        |arn| arn.as_str(),
        input.max_results,
        input.next_token.as_deref(),
        PAGE,
        PAGE_MAX,
    )?;
    Ok(ListServicesResponse { service_arns: Some(items), next_token })
}

/// There are no Cloud Map namespaces here, so none is ever found.
pub(crate) async fn list_services_by_namespace(
    _cx: &Context,
    _scope: &Scope,
    input: ListServicesByNamespaceRequest,
) -> Result<ListServicesByNamespaceResponse, ApiError> {
    Err(error::namespace_not_found_exception(format!(
        "The namespace {} was not found: Minato has no Cloud Map namespaces \
         yet.",
        input.namespace.unwrap_or_default()
    )))
}
