//! DeleteService.

use minato_core::status::{ServiceEvent, ServiceStatus};
use minato_wire::ApiError;
use minato_wire::ecs::{DeleteServiceRequest, DeleteServiceResponse, error};

use super::super::{lookup, task_sets};
use super::{roll, view};
use crate::context::{Context, Scope};
use crate::tables::{Service, TaskSet};

pub(crate) async fn delete_service(
    cx: &Context,
    scope: &Scope,
    input: DeleteServiceRequest,
) -> Result<DeleteServiceResponse, ApiError> {
    let scope = scope.clone();
    let service = cx
        .transact(move |tx| {
            let cluster =
                lookup::cluster(tx, &scope, input.cluster.as_deref())?;
            let known =
                lookup::service(tx, &cluster, input.service.as_deref())?;
            if known.status == ServiceStatus::Inactive {
                return Err(error::service_not_found_exception(
                    "Service not found.",
                ));
            }
            let is_scaled = known.desired > 0 && !known.is_daemon();
            let is_active = known.status == ServiceStatus::Active;
            if is_active && is_scaled && input.force != Some(true) {
                return Err(error::invalid_parameter_exception(
                    "The service cannot be stopped while it is scaled above \
                     0.",
                ));
            }
            let sets = task_sets::task_sets_of(tx, &known);
            if is_active && !sets.is_empty() && input.force != Some(true) {
                return Err(error::invalid_parameter_exception(
                    "The service cannot be deleted while it has task sets. \
                     Delete its task sets first or use the force option.",
                ));
            }
            for set in sets {
                tx.put(TaskSet {
                    is_draining: true,
                    is_primary: false,
                    ..TaskSet::clone(&set)
                });
            }
            let mut row = Service::clone(&known);
            row.status =
                row.status.step(ServiceEvent::Deleted).map_err(|illegal| {
                    error::server_exception("Service Unavailable.")
                        .with_internal(illegal.to_string())
                })?;
            row.desired = 0;
            row.service.desired_count = Some(0);
            // Deleting a resource deletes its tags.
            row.service.tags = Some(vec![]);
            let why = "Service deployment stopped because the service was \
                       deleted.";
            roll::supersede(tx, &row, why, scope.now);
            let shown = view::service(tx, &row);
            tx.put(row);
            Ok(shown)
        })
        .await?;
    Ok(DeleteServiceResponse { service: Some(service) })
}
