//! DescribeExportTasks. None can be made, so there are none.

use minato_wire::ApiError;
use minato_wire::logs::{
    DescribeExportTasksRequest, DescribeExportTasksResponse,
};

use super::token::invalid_token;
use crate::context::{Context, Scope};

pub(super) async fn describe_export_tasks(
    _: &Context,
    _: &Scope,
    input: DescribeExportTasksRequest,
) -> Result<DescribeExportTasksResponse, ApiError> {
    // No token was ever handed out.
    match input.next_token {
        Some(_) => Err(invalid_token()),
        None => Ok(DescribeExportTasksResponse {
            export_tasks: Some(vec![]),
            next_token: None,
        }),
    }
}
