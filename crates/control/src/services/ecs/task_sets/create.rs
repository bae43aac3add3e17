//! CreateTaskSet.

use std::collections::BTreeMap;
use std::sync::Arc;

use minato_core::service::rules;
use minato_core::status::RolloutState;
use minato_store::{Row, Tx};
use minato_wire::ApiError;
use minato_wire::ecs::{
    self, CreateTaskSetRequest, CreateTaskSetResponse, error,
};

use super::super::lookup;
use super::super::services::{check, roll};
use super::super::tasks::run;
use super::{scale, service, task_set, task_sets_of};
use crate::context::{Context, Draw, Scope};
use crate::tables::{Cluster, Deployment, Service, ServiceRevision, TaskSet};

/// The most sets of a service (service quotas, "task sets per service").
const SETS_MAX: usize = 5;
/// The longest external id: as other names of users' own.
const EXTERNAL_ID_MAX: usize = 255;

pub(crate) async fn create_task_set(
    cx: &Context,
    scope: &Scope,
    input: CreateTaskSetRequest,
) -> Result<CreateTaskSetResponse, ApiError> {
    rules::client_token(input.client_token.as_deref())?;
    unserved(&input).refuse()?;
    let external_id = input.external_id.as_deref().unwrap_or_default();
    if external_id.chars().count() > EXTERNAL_ID_MAX {
        return Err(error::invalid_parameter_exception(format!(
            "externalId must have at most {EXTERNAL_ID_MAX} characters."
        )));
    }
    let scope = scope.clone();
    let mut draw = cx.draw(1);
    let task_set = cx
        .transact(move |tx| {
            let cluster =
                lookup::cluster(tx, &scope, input.cluster.as_deref())?;
            let service = service(
                tx,
                &scope,
                input.cluster.as_deref(),
                input.service.as_deref(),
            )?;
            if let Some(known) = repeated(tx, &service, &input)? {
                return Ok(task_set(tx, &service, &known));
            }
            let row =
                new_row(tx, &scope, &cluster, &service, input, &mut draw)?;
            let shown = task_set(tx, &service, &row);
            tx.put(row);
            Ok(shown)
        })
        .await?;
    Ok(CreateTaskSetResponse { task_set: Some(task_set) })
}

fn unserved(input: &CreateTaskSetRequest) -> check::Unserved<'_> {
    check::Unserved {
        load_balancers: input.load_balancers.as_deref(),
        service_registries: input.service_registries.as_deref(),
        ..check::Unserved::default()
    }
}

/// The set that a request with this token made before.
fn repeated(
    tx: &Tx,
    service: &Service,
    input: &CreateTaskSetRequest,
) -> Result<Option<Arc<TaskSet>>, ApiError> {
    let Some(token) = &input.client_token else { return Ok(None) };
    let known = task_sets_of(tx, service).into_iter().find(|row| {
        row.token.as_ref().is_some_and(|(known, _)| known == token)
    });
    let Some(known) = known else { return Ok(None) };
    let request = known.token.as_ref().map(|(_, request)| request);
    if request == Some(&fingerprint(input)) {
        return Ok(Some(known));
    }
    Err(error::invalid_parameter_exception(
        "Creation of task set was not idempotent.",
    ))
}

fn fingerprint(input: &CreateTaskSetRequest) -> String {
    let plain = CreateTaskSetRequest {
        cluster: None,
        service: None,
        client_token: None,
        ..input.clone()
    };
    serde_json::to_string(&plain).unwrap_or_default()
}

fn new_row(
    tx: &mut Tx,
    scope: &Scope,
    cluster: &Cluster,
    service: &Service,
    input: CreateTaskSetRequest,
    draw: &mut Draw,
) -> Result<TaskSet, ApiError> {
    let others = task_sets_of(tx, service);
    if others.iter().filter(|row| !row.is_draining).count() >= SETS_MAX {
        return Err(error::limit_exceeded_exception(format!(
            "A service cannot have more than {SETS_MAX} task sets."
        )));
    }
    let token = input.client_token.clone();
    let token = token.map(|token| (token, fingerprint(&input)));
    let tags = input.tags.as_deref().unwrap_or_default();
    let tags = minato_core::tags::check(tags)?;
    // A set is checked as the service that it makes of its service.
    let mut whole = ecs::Service {
        network_configuration: input.network_configuration.map(check::network),
        platform_version: input.platform_version,
        launch_type: None,
        capacity_provider_strategy: None,
        ..service.service.clone()
    };
    let strategy = input.capacity_provider_strategy.as_deref();
    let launch_type =
        check::choose(&mut whole, cluster, input.launch_type, strategy)?;
    let definition = input.task_definition.as_deref();
    let definition = run::definition(tx, scope, definition)?;
    let mut content =
        check::content(tx, scope, &mut whole, launch_type, &definition)?;
    check::volumes(&mut content, &definition, launch_type, None)?;
    let digits = roll::digits(draw.next());
    let row = TaskSet {
        of: service.owner(),
        deployment: Deployment {
            id: format!("ecs-svc/{digits}"),
            revision: digits.clone(),
            service_deployment: String::new(),
            desired_count: 0,
            failed_tasks: 0,
            created_at: scope.now,
            updated_at: scope.now,
            // Nothing is rolled out: others decide what comes and goes.
            rollout: RolloutState::Completed,
            reason: String::new(),
            failed_rounds: 0,
            retry_at: None,
        },
        shown: ecs::TaskSet {
            external_id: input.external_id,
            load_balancers: Some(vec![]),
            service_registries: Some(vec![]),
            tags: Some(minato_core::tags::to_wire(&tags)),
            ..Default::default()
        },
        scale: scale(input.scale)?,
        is_primary: false,
        is_draining: false,
        token,
        steady_at: None,
        complaints: BTreeMap::new(),
    };
    tx.put(ServiceRevision {
        of: service.owner(),
        id: digits.clone(),
        revision: ecs::ServiceRevision {
            service_revision_arn: Some(service.revision_arn(&digits)),
            service_arn: Some(service.arn()),
            cluster_arn: Some(service.cluster_arn()),
            created_at: Some(scope.now),
            ..content.revision
        },
        family: content.family,
        task_revision: content.task_revision,
    });
    debug_assert_eq!(row.key(), service.owner().key().with(&digits));
    Ok(row)
}
