//! Why a service has no more tasks than it has: what its hosts lack.

use minato_core::status::ServiceStatus;
use minato_wire::ApiError;
use minato_wire::ecs::error;
use minato_wire::minato::{ExplainPlacementRequest, ExplainPlacementResponse};
use std::sync::Arc;

use crate::context::{Context, Scope};
use crate::reconcilers::services::{Considered, consider};
use crate::services::ecs::lookup;
use crate::services::ecs::task_sets::task_sets_of;
use crate::tables::Service;

pub(crate) async fn explain_placement(
    cx: &Context,
    scope: &Scope,
    input: ExplainPlacementRequest,
) -> Result<ExplainPlacementResponse, ApiError> {
    let scope = scope.clone();
    let fleet = Arc::clone(&cx.fleet);
    // It writes nothing, but only a transaction sees the newest books.
    cx.transact(move |tx| {
        let cluster = lookup::cluster(tx, &scope, input.cluster.as_deref())?;
        let service = lookup::service(tx, &cluster, input.service.as_deref())?;
        if service.status == ServiceStatus::Inactive {
            return Err(error::service_not_found_exception(
                "Service not found.",
            ));
        }
        // Of several task sets the first that is not steady is meant.
        let sets = task_sets_of(tx, &service);
        let set = sets.iter().find(|set| set.steady_at.is_none());
        let service = match set.or(sets.first()) {
            Some(set) => set.as_service(&service),
            None => Service::clone(&service),
        };
        let found = consider(tx, &fleet, &service, scope.now);
        Ok(found.map_or_else(ExplainPlacementResponse::default, answer))
    })
    .await
}

fn answer(found: Considered) -> ExplainPlacementResponse {
    let number = |value: u32| Some(i32::try_from(value).unwrap_or(i32::MAX));
    ExplainPlacementResponse {
        task_definition: found.task_definition,
        cpu: number(found.demand.cpu_units),
        memory: number(found.demand.memory_mib),
        hosts: Some(found.hosts),
    }
}
