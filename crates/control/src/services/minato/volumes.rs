//! What became of the volumes that a host has kept.

use minato_wire::ApiError;
use minato_wire::ecs::error;
use minato_wire::minato::{SweepVolumesRequest, SweepVolumesResponse};

use crate::context::{Context, Scope};
use crate::services::ec2::volumes::VolumeRow;

/// Most volumes of one call.
const VOLUMES_MAX: usize = 1000;

pub(crate) async fn sweep_volumes(
    cx: &Context,
    scope: &Scope,
    input: SweepVolumesRequest,
) -> Result<SweepVolumesResponse, ApiError> {
    let kept = input.volume_ids.unwrap_or_default();
    let removed = input.removed_volume_ids.unwrap_or_default();
    if kept.len() > VOLUMES_MAX || removed.len() > VOLUMES_MAX {
        return Err(error::invalid_parameter_exception(format!(
            "One call can have at most {VOLUMES_MAX} volumes."
        )));
    }
    if !removed.is_empty() {
        let scope = scope.clone();
        cx.transact(move |tx| -> Result<(), ApiError> {
            for id in removed {
                VolumeRow::forget(tx, &scope.account, &scope.region, &id);
            }
            Ok(())
        })
        .await?;
    }
    let rows = cx.snapshot();
    let deleted = kept.into_iter().filter(|id| {
        VolumeRow::is_deleted(&rows, &scope.account, &scope.region, id)
    });
    Ok(SweepVolumesResponse { deleted_volume_ids: Some(deleted.collect()) })
}
