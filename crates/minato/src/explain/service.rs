//! Why a service is not as it should be.

use minato_wire::ecs::{
    self, DeploymentControllerType, DeploymentRolloutState, StabilityStatus,
    TaskStopCode,
};

/// Whether a service is as it should be, or gone: nothing is to be explained.
pub(super) fn is_settled(service: &ecs::Service) -> bool {
    let sets = service.task_sets.as_deref().unwrap_or_default();
    let are_steady = sets
        .iter()
        .all(|set| set.stability_status == Some(StabilityStatus::SteadyState));
    let deployments = service.deployments.as_deref().unwrap_or_default();
    service.status.as_deref() != Some("ACTIVE")
        || (service.running_count == service.desired_count
            && deployments.len() == 1)
        || (deployments.is_empty() && are_steady)
}

/// The whole story of a service in one paragraph.
pub(super) fn paragraph(service: &ecs::Service, tasks: &[ecs::Task]) -> String {
    let name = service.service_name.as_deref().unwrap_or_default();
    let status = service.status.as_deref().unwrap_or_default();
    if status != "ACTIVE" {
        return format!("Service {name} is {status}: it was deleted.");
    }
    let number = |count: Option<i32>| count.unwrap_or(0);
    let (desired, running) =
        (number(service.desired_count), number(service.running_count));
    let deployments = service.deployments.as_deref().unwrap_or_default();
    let sets = service.task_sets.as_deref().unwrap_or_default();
    let is_external =
        service.deployment_controller.as_ref().is_some_and(|controller| {
            controller.r#type == Some(DeploymentControllerType::External)
        });
    if is_external {
        return external(name, service, sets);
    }
    let is_settled = is_settled(service);
    let mut text = if is_settled {
        format!(
            "Service {name} has the {desired} running tasks it should have; \
             nothing is wrong with it."
        )
    } else {
        format!(
            "Service {name} should have {desired} running tasks and has \
             {running}, with {} more on the way.",
            number(service.pending_count)
        )
    };
    for deployment in deployments.iter().filter(|_| !is_settled) {
        text.push(' ');
        text.push_str(&story(deployment));
    }
    if !is_settled && let Some(told) = complaint(service) {
        text.push_str(&format!(" It says: {told}"));
    }
    if let Some(why) = last_failure(service, tasks).filter(|_| !is_settled) {
        text.push_str(&format!(" The last task that failed: {why}"));
    }
    text
}

/// The story of a service that others deploy, set by set.
fn external(
    name: &str,
    service: &ecs::Service,
    sets: &[ecs::TaskSet],
) -> String {
    let number = |count: Option<i32>| count.unwrap_or(0);
    if sets.is_empty() {
        return format!(
            "Service {name} is deployed by task sets (its deployment \
             controller is EXTERNAL) and has none: create-task-set makes one."
        );
    }
    let is_steady = |set: &ecs::TaskSet| {
        set.stability_status == Some(StabilityStatus::SteadyState)
    };
    let mut text = if sets.iter().all(is_steady) {
        format!(
            "Service {name} has {} running tasks in {} steady task sets; \
             nothing is wrong with it.",
            number(service.running_count),
            sets.len()
        )
    } else {
        format!("Service {name} has task sets that are not steady yet.")
    };
    for set in sets.iter().filter(|set| !is_steady(set)) {
        let definition = set.task_definition.as_deref().unwrap_or_default();
        text.push_str(&format!(
            " The {} set {} of {} should have {} tasks and has {} running, \
             with {} more on the way.",
            set.status.as_deref().unwrap_or_default(),
            set.id.as_deref().unwrap_or_default(),
            definition.rsplit('/').next().unwrap_or_default(),
            number(set.computed_desired_count),
            number(set.running_count),
            number(set.pending_count),
        ));
    }
    let is_primary =
        |set: &ecs::TaskSet| set.status.as_deref() == Some("PRIMARY");
    if !sets.iter().any(is_primary) {
        text.push_str(
            " None of its sets is primary; update-service-primary-task-set \
             makes one so.",
        );
    }
    if !sets.iter().all(is_steady)
        && let Some(told) = complaint(service)
    {
        text.push_str(&format!(" It says: {told}"));
    }
    text
}

fn story(deployment: &ecs::Deployment) -> String {
    let definition = deployment.task_definition.as_deref().unwrap_or_default();
    let definition = definition.rsplit('/').next().unwrap_or_default();
    let number = |count: Option<i32>| count.unwrap_or(0);
    let state = match deployment.rollout_state {
        Some(DeploymentRolloutState::Failed) => "has failed",
        Some(DeploymentRolloutState::Completed) => "is complete",
        Some(DeploymentRolloutState::InProgress) | None => "is under way",
    };
    let failed = match number(deployment.failed_tasks) {
        0 => String::new(),
        1 => ", 1 task of it failed".to_owned(),
        count => format!(", {count} tasks of it failed"),
    };
    format!(
        "The {} deployment of {definition} {state}: {} of {} tasks run{failed}.",
        deployment.status.as_deref().unwrap_or_default(),
        number(deployment.running_count),
        number(deployment.desired_count),
    )
}

/// What the service last complained of, since it was last steady.
fn complaint(service: &ecs::Service) -> Option<&str> {
    let events = service.events.iter().flatten();
    let messages = events.filter_map(|event| event.message.as_deref());
    messages
        .take_while(|told| !told.contains("has reached a steady state"))
        .find(|told| {
            told.contains("unable") || told.contains("deployment failed")
        })
}

/// Why the newest of its tasks that failed did so.
fn last_failure(service: &ecs::Service, tasks: &[ecs::Task]) -> Option<String> {
    let group = format!("service:{}", service.service_name.as_deref()?);
    let failed = tasks.iter().filter(|task| {
        task.group.as_ref() == Some(&group)
            && task.cluster_arn == service.cluster_arn
            && matches!(
                task.stop_code,
                Some(
                    TaskStopCode::TaskFailedToStart
                        | TaskStopCode::EssentialContainerExited
                )
            )
    });
    failed.max_by_key(|task| task.stopped_at).map(super::paragraph)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(running: i32, events: &[&str]) -> ecs::Service {
        let events = events.iter().map(|told| ecs::ServiceEvent {
            message: Some((*told).to_owned()),
            ..Default::default()
        });
        ecs::Service {
            service_name: Some("web".into()),
            status: Some("ACTIVE".into()),
            desired_count: Some(2),
            running_count: Some(running),
            pending_count: Some(0),
            deployments: Some(vec![ecs::Deployment {
                status: Some("PRIMARY".into()),
                task_definition: Some("arn:…:task-definition/web:3".into()),
                desired_count: Some(2),
                running_count: Some(running),
                failed_tasks: Some(4),
                ..Default::default()
            }]),
            events: Some(events.collect()),
            ..Default::default()
        }
    }

    #[test]
    fn an_external_service_is_told_set_by_set() {
        let mut one = service(3, &["(service web) was unable to place a task"]);
        one.deployments = Some(vec![]);
        one.deployment_controller = Some(ecs::DeploymentController {
            r#type: Some(DeploymentControllerType::External),
        });
        let told = paragraph(&one, &[]);
        assert!(told.contains("and has none"), "{told}");
        let set = |status: &str, stability, running| ecs::TaskSet {
            id: Some(format!("ecs-svc/{running}")),
            status: Some(status.to_owned()),
            task_definition: Some("arn:…:task-definition/web:3".into()),
            stability_status: Some(stability),
            computed_desired_count: Some(2),
            running_count: Some(running),
            ..Default::default()
        };
        let steady = set("PRIMARY", StabilityStatus::SteadyState, 2);
        one.task_sets = Some(vec![steady.clone()]);
        let told = paragraph(&one, &[]);
        assert!(told.ends_with("nothing is wrong with it."), "{told}");
        let young = set("ACTIVE", StabilityStatus::Stabilizing, 1);
        one.task_sets = Some(vec![young]);
        let told = paragraph(&one, &[]);
        assert!(told.contains("The ACTIVE set ecs-svc/1 of web:3 should have 2 tasks and has 1 running"), "{told}");
        assert!(told.contains("None of its sets is primary"), "{told}");
        assert!(told.contains("unable to place"), "{told}");
    }

    #[test]
    fn a_settled_service_is_left_in_peace() {
        let told = paragraph(&service(2, &["was unable to place a task"]), &[]);
        assert!(told.ends_with("nothing is wrong with it."), "{told}");
    }

    #[test]
    fn a_service_short_of_tasks_says_why() {
        let events = [
            "(service web) was unable to place a task: no room.",
            "(service web) has reached a steady state.",
            "(service web) is unable to consistently start tasks.",
        ];
        let failed = ecs::Task {
            task_arn: Some("arn:aws:ecs:r:a:task/default/0123456789ab".into()),
            group: Some("service:web".into()),
            last_status: Some("STOPPED".into()),
            stop_code: Some(TaskStopCode::TaskFailedToStart),
            stopped_reason: Some(
                "CannotPullContainerError: no such image".into(),
            ),
            ..Default::default()
        };
        let told = paragraph(&service(1, &events), &[failed]);
        assert!(told.contains("should have 2 running tasks and has 1"));
        assert!(told.contains("of web:3 is under way: 1 of 2 tasks run"));
        assert!(told.contains("4 tasks of it failed"), "{told}");
        assert!(told.contains("It says: (service web) was unable to place"));
        assert!(!told.contains("consistently"), "that was before: {told}");
        assert!(told.contains("CannotPullContainerError"), "{told}");
    }
}
