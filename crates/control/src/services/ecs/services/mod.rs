//! Services: created, changed, deleted, described; their deployments and
//! revisions.
//!
//! Handlers only write down what is wanted. What follows from it, tasks that
//! start and stop and deployments that end, is the `services` reconciler's.

pub(crate) mod check;
mod create;
mod delete;
mod deployments;
mod describe;
pub(crate) mod pinned;
mod protection;
pub(crate) mod roll;
mod update;
mod view;

pub(crate) use create::create_service;
pub(crate) use delete::delete_service;
pub(crate) use deployments::{
    continue_service_deployment, describe_service_deployments,
    describe_service_revisions, list_service_deployments,
    stop_service_deployment,
};
pub(crate) use describe::{
    describe_services, list_services, list_services_by_namespace,
};
pub(crate) use protection::{get_task_protection, update_task_protection};
pub(crate) use update::update_service;
pub(crate) use view::{Counts, tasks_of};
