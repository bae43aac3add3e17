//! Minato's own API.

pub(crate) mod explain;
pub(crate) mod spot;
mod volumes;

use minato_wire::ApiError;

use super::operations;
use crate::coverage::Support;

/// The error of an operation that Minato does not serve.
fn unserved(message: String) -> ApiError {
    ApiError::new("UnsupportedOperationException", 400, message)
}

operations! {
    served {
        "ExplainPlacement", Support::Full => explain::explain_placement;
        "InterruptSpotTasks", Support::Full => spot::interrupt_spot_tasks;
        "SweepVolumes", Support::Full => volumes::sweep_volumes;
    }
    refused {}
}
