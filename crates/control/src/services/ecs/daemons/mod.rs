//! Managed daemons: one task on each container instance of some capacity
//! providers.
//!
//! AWS has them on Managed Instances, of which there are none here: a daemon
//! takes the capacity providers of Auto Scaling groups. Where AWS replaces an
//! instance, its daemon task alone is replaced. Handlers write down what is
//! wanted; the service scheduler does it.

mod change;
mod definitions;
mod describe;

pub(crate) use self::change::{
    create_daemon, delete_daemon, is_final, new_deployment, update_daemon,
};
pub(crate) use self::definitions::{
    delete_daemon_task_definition, describe_daemon_task_definition,
    list_daemon_task_definitions, register_daemon_task_definition,
    tagged_definition,
};
pub(crate) use self::describe::{
    describe_daemon, describe_daemon_deployments, describe_daemon_revisions,
    list_daemon_deployments, list_daemons,
};

use std::sync::Arc;

use super::lookup::Read;
use crate::context::Scope;
use crate::tables::Daemon;

/// The parts of `arn:…:KIND/A/B…`, if it is of this account and region.
fn parts<'a>(scope: &Scope, kind: &str, arn: &'a str) -> Option<Vec<&'a str>> {
    let fields: Vec<&str> = arn.splitn(6, ':').collect();
    let ["arn", _, "ecs", region, account, resource] = fields[..] else {
        return None;
    };
    let (of, rest) = resource.split_once('/')?;
    let is_here = region == scope.region && account == scope.account;
    (of == kind && is_here).then(|| rest.split('/').collect())
}

/// The daemon that an ARN names.
pub(crate) fn find(
    rows: &impl Read,
    scope: &Scope,
    arn: &str,
) -> Option<Arc<Daemon>> {
    let parts = parts(scope, "daemon", arn)?;
    let [cluster, name] = parts[..] else { return None };
    let (account, region) = (&scope.account, &scope.region);
    rows.row(&Daemon::key_of(account, region, cluster, name))
}

#[cfg(test)]
mod tests;
