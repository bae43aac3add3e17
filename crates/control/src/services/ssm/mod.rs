//! AWS Systems Manager Parameter Store: parameters, their versions, labels
//! and tags. Values of all types are sealed at rest.

mod delete;
mod describe;
mod filter;
mod get;
mod labels;
mod names;
mod page;
mod put;
mod rows;
mod sessions;
mod tags;
#[cfg(test)]
mod tests;

use minato_store::Tables;
use minato_wire::ApiError;
use minato_wire::ssm::error;

use super::operations;
use crate::coverage::Support;
use crate::seal::SealError;

/// The error of an operation that Minato does not serve.
fn unserved(message: String) -> ApiError {
    ApiError::new("UnknownOperationException", 400, message)
}

/// Why all other operations are refused.
pub(crate) const OTHERS: &str = "of Systems Manager, Minato serves the Parameter Store and what ECS Exec \
     needs";

operations! {
    served {
        "AddTagsToResource", Support::Partial("tags of parameters") => tags::add_tags_to_resource;
        "DeleteParameter", Support::Full => delete::delete_parameter;
        "DeleteParameters", Support::Full => delete::delete_parameters;
        "DescribeParameters", Support::Partial("no account shares parameters with another") => describe::describe_parameters;
        "GetParameter", Support::Full => get::get_parameter;
        "GetParameterHistory", Support::Full => describe::get_parameter_history;
        "GetParameters", Support::Full => get::get_parameters;
        "GetParametersByPath", Support::Full => get::get_parameters_by_path;
        "LabelParameterVersion", Support::Full => labels::label_parameter_version;
        "ListTagsForResource", Support::Partial("tags of parameters") => tags::list_tags_for_resource;
        "PutParameter", Support::Partial("no policies, no data type but text, no look-around in patterns") => put::put_parameter;
        "RemoveTagsFromResource", Support::Partial("tags of parameters") => tags::remove_tags_from_resource;
        "ResumeSession", Support::Partial("sessions of ECS Exec") => sessions::resume_session;
        "TerminateSession", Support::Partial("sessions of ECS Exec") => sessions::terminate_session;
        "UnlabelParameterVersion", Support::Full => labels::unlabel_parameter_version;
    }
    refused {}
}

/// Adds the table of the service.
pub(crate) fn tables(tables: Tables) -> Tables {
    tables.with::<rows::ParameterRow>()
}

/// An input that the service refuses and the model has no error for.
fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new("ValidationException", 400, message)
}

fn no_such_parameter() -> ApiError {
    error::parameter_not_found(
        "The parameter couldn't be found. Verify the name and try again.",
    )
}

/// A value could not be sealed or opened.
fn not_sealed(failure: &SealError) -> ApiError {
    broken(failure.to_string())
}

/// A fault of ours, with details for the log alone.
fn broken(details: String) -> ApiError {
    tracing::error!(details, "parameter store");
    error::internal_server_error("An error occurred on the server side.")
        .with_internal(details)
}
