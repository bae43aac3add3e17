mod daemons;
mod looks;
mod pinned;
mod play;
mod requests;
mod rosters;
mod sets;
mod spot;

use minato_core::service::Pace;
use minato_core::status::{RolloutState, ServiceDeploymentStatus};
use minato_wire::ecs::{
    self, CreateServiceRequest, DeleteServiceRequest, GetTaskProtectionRequest,
    HealthStatus, SchedulingStrategy, StopServiceDeploymentRequest,
    TaskStopCode, UpdateServiceRequest, UpdateTaskProtectionRequest,
};

use self::play::{Play, breaker, web};
use super::*;
use crate::services::ec2::defaults;
use crate::services::ecs::services::{
    delete_service, get_task_protection, stop_service_deployment,
    update_task_protection,
};
use crate::services::ecs::tasks::launch::EXEC_ATTRIBUTE;
use crate::services::ecs::tasks::report::Report;
use crate::tables::{Host, OfService};
use crate::testing::{ACCOUNT, REGION, task_on};

/// A service of `count` running tasks.
async fn running(count: i32) -> Play {
    let play = Play::new(2).await;
    play.define("web", 50, false).await;
    play.create(web(count)).await;
    play.agent().await;
    play
}

/// A service of `count` tasks that packs its hosts.
async fn packing(count: i32) -> Play {
    let play = Play::new(2).await;
    play.define("web", 50, false).await;
    let strategy = ecs::PlacementStrategy {
        r#type: Some(ecs::PlacementStrategyType::Binpack),
        field: Some("memory".into()),
    };
    let mut input = web(count);
    input.placement_strategy = Some(vec![strategy]);
    play.create(input).await;
    play
}

#[tokio::test]
async fn a_service_starts_its_tasks_and_keeps_them() {
    let play = running(3).await;
    assert_eq!(play.count("RUNNING"), 3);
    let service = play.service();
    let primary = service.primary().unwrap();
    assert_eq!(primary.rollout, RolloutState::Completed);
    assert_eq!(play.deployment_status(), ServiceDeploymentStatus::Successful);
    assert!(play.has_event("(service web) has started 3 tasks: (task "));
    assert!(play.has_event("(service web) has reached a steady state."));
    let task = &play.live()[0];
    assert_eq!(task.task.started_by.as_ref(), Some(&primary.id));
    assert_eq!(task.task.group.as_deref(), Some("service:web"));
    // One of them ends: another takes its place.
    play.bed.clock.advance_ms(60_000);
    let status = Some("STOPPED".to_owned());
    play.report(task, Report { status, ..Report::default() }).await;
    play.settle().await;
    assert_eq!((play.count("RUNNING"), play.count("PENDING")), (2, 1));
    play.agent().await;
    assert_eq!(play.count("RUNNING"), 3);
    let steady = play
        .events()
        .into_iter()
        .filter(|event| event.ends_with("has reached a steady state."));
    assert_eq!(steady.count(), 2);
}

#[tokio::test]
async fn a_deployment_replaces_every_task_and_ends_the_former() {
    let play = running(2).await;
    let former = play.service().primary().unwrap().id.clone();
    play.define("web", 60, false).await;
    play.update(UpdateServiceRequest {
        task_definition: Some("web".into()),
        ..Default::default()
    })
    .await;
    let service = play.service();
    assert_eq!(service.deployments.len(), 2);
    assert_eq!(service.deployments[1].desired_count, 2);
    assert_eq!((play.count("RUNNING"), play.count("PENDING")), (2, 2));
    play.agent().await;
    let service = play.service();
    assert_eq!(service.deployments.len(), 1);
    assert_ne!(service.deployments[0].id, former);
    assert!(play.live().iter().all(|task| task.revision == 2));
    let reason = format!(
        "Scaling activity initiated by (deployment {})",
        service.deployments[0].id
    );
    let stopped = play.tasks().into_iter().filter(|task| !task.should_run());
    for task in stopped {
        assert_eq!(
            task.task.stop_code,
            Some(TaskStopCode::ServiceSchedulerInitiated)
        );
        assert_eq!(task.task.stopped_reason.as_ref(), Some(&reason));
    }
}

#[tokio::test]
async fn the_same_definition_makes_no_deployment_unless_forced() {
    let play = running(1).await;
    play.update(UpdateServiceRequest {
        task_definition: Some("web:1".into()),
        desired_count: Some(2),
        ..Default::default()
    })
    .await;
    assert_eq!(play.service().deployments.len(), 1);
    assert_eq!(play.count("PENDING"), 1);
    play.agent().await;
    play.update(UpdateServiceRequest {
        force_new_deployment: Some(true),
        ..Default::default()
    })
    .await;
    assert_eq!(play.service().deployments.len(), 2);
}

#[tokio::test]
async fn the_circuit_breaker_rolls_back_and_keeps_the_old_tasks() {
    let play = running(2).await;
    let former = play.service().primary().unwrap().id.clone();
    let kept: Vec<String> =
        play.live().iter().map(|task| task.id.clone()).collect();
    play.define("web", 60, false).await;
    play.update(UpdateServiceRequest {
        task_definition: Some("web".into()),
        deployment_configuration: Some(breaker(true)),
        ..Default::default()
    })
    .await;
    play.fail_all().await;
    assert_eq!(play.service().primary().unwrap().failed_tasks, 2);
    assert_eq!(play.count("PENDING"), 0, "starts are throttled");
    play.bed.clock.advance_ms(2_000);
    play.settle().await;
    assert_eq!(play.count("PENDING"), 2);
    play.fail_all().await;
    let service = play.service();
    assert_eq!(service.deployments.len(), 1);
    assert_eq!(service.primary().unwrap().id, former);
    let definition = service.service.task_definition.clone().unwrap();
    assert!(definition.ends_with("web:1"), "{definition}");
    let now: Vec<String> =
        play.live().iter().map(|task| task.id.clone()).collect();
    assert_eq!(now, kept, "no task of the good revision was restarted");
    assert_eq!(
        play.deployment_status(),
        ServiceDeploymentStatus::RollbackSuccessful
    );
    assert!(play.has_event("deployment failed: tasks failed to start."));
    assert!(play.has_event(&format!("rolling back to deployment {former}.")));
}

#[tokio::test]
async fn without_rollback_a_failed_deployment_stays_failed() {
    let play = Play::new(1).await;
    play.define("web", 50, false).await;
    play.create(CreateServiceRequest {
        deployment_configuration: Some(breaker(true)),
        ..web(1)
    })
    .await;
    for _ in 0..3 {
        play.fail_all().await;
        play.bed.clock.advance_ms(60_000);
        play.settle().await;
    }
    // It never completed, so there is nothing to go back to.
    let service = play.service();
    assert_eq!(service.primary().unwrap().rollout, RolloutState::Failed);
    assert_eq!(play.deployment_status(), ServiceDeploymentStatus::Stopped);
    assert_eq!(play.live().len(), 0);
}

#[tokio::test]
async fn stopping_a_service_deployment_rolls_it_back() {
    let play = running(1).await;
    play.define("web", 60, false).await;
    play.update(UpdateServiceRequest {
        task_definition: Some("web".into()),
        ..Default::default()
    })
    .await;
    let service = play.service();
    let id = service.service_deployment.clone().unwrap();
    let input = StopServiceDeploymentRequest {
        service_deployment_arn: Some(service.deployment_arn(&id)),
        stop_type: None,
    };
    let (cx, scope) = (&play.bed.cx, play.bed.scope());
    stop_service_deployment(cx, &scope, input.clone()).await.unwrap();
    assert_eq!(
        play.deployment_status(),
        ServiceDeploymentStatus::RollbackRequested
    );
    play.settle().await;
    play.agent().await;
    assert_eq!(
        play.deployment_status(),
        ServiceDeploymentStatus::RollbackSuccessful
    );
    assert!(play.live().iter().all(|task| task.revision == 1));
    let again = stop_service_deployment(cx, &scope, input).await;
    assert_eq!(again.unwrap_err().code(), "ConflictException");
}

#[tokio::test]
async fn unhealthy_tasks_are_replaced() {
    let play = Play::new(1).await;
    play.define("web", 50, true).await;
    play.create(web(1)).await;
    play.agent().await;
    let first = play.live()[0].clone();
    assert_eq!(
        play.service().primary().unwrap().rollout,
        RolloutState::InProgress,
        "no word of its health yet"
    );
    let health =
        |status| move |row: &mut Task| row.task.health_status = Some(status);
    play.change(&first, health(HealthStatus::Healthy)).await;
    play.settle().await;
    assert_eq!(
        play.service().primary().unwrap().rollout,
        RolloutState::Completed
    );
    let first = play.live()[0].clone();
    play.change(&first, health(HealthStatus::Unhealthy)).await;
    play.settle().await;
    assert_eq!(play.live().len(), 2, "its replacement comes first");
    play.agent().await;
    let second = play.live().into_iter().find(|task| task.id != first.id);
    play.change(&second.unwrap(), health(HealthStatus::Healthy)).await;
    play.settle().await;
    let left = play.live();
    assert!(left.len() == 1 && left[0].id != first.id);
    assert!(play.has_event("failed container health checks."));
}

#[tokio::test]
async fn a_check_that_is_off_is_not_waited_for() {
    for (command, status) in [
        (["NONE"].as_slice(), ServiceDeploymentStatus::Successful),
        (&["CMD", "true"], ServiceDeploymentStatus::InProgress),
    ] {
        let play = Play::new(1).await;
        play.define_checked("web", 50, Some(command)).await;
        play.create(web(1)).await;
        play.agent().await;
        assert_eq!(play.deployment_status(), status, "{command:?}");
    }
}

#[tokio::test]
async fn a_task_without_a_place_is_told_of_once() {
    let play = Play::new(1).await;
    play.define("web", 600, false).await;
    play.create(web(2)).await;
    play.agent().await;
    play.settle().await;
    let complaints = play.events().into_iter().filter(|event| {
        event.contains("was unable to place a task")
            && event.contains("has insufficient memory available.")
    });
    assert_eq!((complaints.count(), play.live().len()), (1, 1));
    // A second host comes: the task finds its place.
    play.add_host(1).await;
    play.settle().await;
    assert_eq!(play.live().len(), 2);
}

#[tokio::test]
async fn draining_moves_tasks_within_the_percentages() {
    let play = running(2).await;
    let instance = play.live()[0].task.container_instance_arn.clone();
    let rows = play.bed.cx.snapshot();
    let row = rows
        .scan::<ContainerInstance>(&Key::root())
        .find(|row| Some(row.arn()) == instance)
        .unwrap();
    let drained = ContainerInstance {
        status: "DRAINING".into(),
        ..ContainerInstance::clone(&row)
    };
    let put = play.bed.cx.transact(move |tx| {
        tx.put(drained);
        Ok(())
    });
    put.await.unwrap();
    play.settle().await;
    assert_eq!((play.count("RUNNING"), play.count("PENDING")), (2, 1));
    play.agent().await;
    assert_eq!(play.count("RUNNING"), 2);
    assert!(
        play.live()
            .iter()
            .all(|task| task.task.container_instance_arn != instance)
    );
}

#[tokio::test]
async fn a_daemon_is_on_every_instance() {
    let play = Play::new(3).await;
    play.define("web", 50, false).await;
    play.create(CreateServiceRequest {
        desired_count: None,
        scheduling_strategy: Some(SchedulingStrategy::Daemon),
        ..web(0)
    })
    .await;
    assert_eq!((play.live().len(), play.service().desired), (3, 3));
    play.agent().await;
    play.add_host(7).await;
    play.settle().await;
    assert_eq!((play.live().len(), play.service().desired), (4, 4));
    let hosts: BTreeSet<String> =
        play.live().iter().map(|task| task.host.clone()).collect();
    assert_eq!(hosts.len(), 4);
}

#[tokio::test]
async fn a_daemon_is_only_where_commands_can_be_run_in_it() {
    let play = Play::new(2).await;
    play.define_with_role().await;
    let put = play.bed.cx.transact(|tx| {
        let first = tx.scan::<Host>(&Key::root()).next().unwrap();
        let mut host = Host::clone(&first);
        host.attributes.remove(EXEC_ATTRIBUTE).unwrap();
        let without = host.id.clone();
        tx.put(host);
        Ok(without)
    });
    let without = put.await.unwrap();
    play.create(CreateServiceRequest {
        desired_count: None,
        scheduling_strategy: Some(SchedulingStrategy::Daemon),
        enable_execute_command: Some(true),
        ..web(0)
    })
    .await;
    let live = play.live();
    assert_eq!((live.len(), play.service().desired), (1, 1));
    assert_ne!(live[0].host, without);
}

#[tokio::test]
async fn a_daemon_is_only_where_it_has_a_subnet() {
    // In two zones, in turns.
    let play = Play::new(3).await;
    play.define_awsvpc().await;
    let (cx, account) = (&play.bed.cx, ACCOUNT);
    let subnets = defaults::place(cx, account, REGION, None).await.unwrap();
    let in_b = subnets.iter().find(|subnet| subnet.zone == "us-east-1b");
    let awsvpc = ecs::AwsVpcConfiguration {
        subnets: Some(vec![in_b.unwrap().id.clone()]),
        ..Default::default()
    };
    let input = CreateServiceRequest {
        desired_count: None,
        scheduling_strategy: Some(SchedulingStrategy::Daemon),
        network_configuration: Some(ecs::NetworkConfiguration {
            awsvpc_configuration: Some(awsvpc),
        }),
        ..web(0)
    };
    play.create(input).await;
    let live = play.live();
    assert_eq!((live.len(), play.service().desired), (1, 1));
    assert_eq!(live[0].host, format!("{:032x}", 1));
    assert_eq!(live[0].subnets, [in_b.unwrap().id.clone()]);
}

#[tokio::test]
async fn a_daemon_leaves_a_draining_instance_when_the_others_have_left() {
    let play = Play::new(1).await;
    play.define("web", 50, false).await;
    let strategy = Some(SchedulingStrategy::Daemon);
    let input = CreateServiceRequest {
        desired_count: None,
        scheduling_strategy: strategy,
        ..web(0)
    };
    play.create(input).await;
    play.agent().await;
    let ours = Task::clone(&play.live()[0]);
    let mut on_fargate = Task {
        cluster: "default".into(),
        service: Some(OfService { name: "other".into(), ..of(&ours) }),
        ..task_on(&ours.host, "fargate", "RUNNING")
    };
    on_fargate.task.desired_status = Some("RUNNING".into());
    let mut other = Task { id: "other".into(), ..on_fargate.clone() };
    other.task.container_instance_arn = ours.task.container_instance_arn;
    let rows = play.bed.cx.snapshot();
    let row = rows.scan::<ContainerInstance>(&Key::root()).next().unwrap();
    let row = ContainerInstance { status: "DRAINING".into(), ..(*row).clone() };
    let drained = play.bed.cx.transact({
        let other = other.clone();
        move |tx| {
            tx.put(row);
            tx.put(on_fargate);
            tx.put(other);
            Ok(())
        }
    });
    drained.await.unwrap();
    play.settle().await;
    let runs = |id: &str| play.live().iter().any(|task| task.id == id);
    assert!(runs(&ours.id), "another task is still there");

    let mut watch = play.bed.cx.store.watch();
    let stopped = Some("STOPPED".to_owned());
    play.report(&other, Report { status: stopped, ..Report::default() }).await;
    let mut scheduler = Scheduler::new(Arc::clone(&play.bed.cx));
    scheduler.see(watch.changes());
    assert!(scheduler.due.contains(&play.key()), "it is time to leave");
    play.settle().await;
    assert!(!runs(&ours.id) && runs("fargate"));
}

fn of(task: &Task) -> OfService {
    task.service.clone().unwrap()
}

#[tokio::test]
async fn a_deleted_service_stops_its_tasks_and_frees_its_name() {
    let play = running(2).await;
    let (cx, scope) = (&play.bed.cx, play.bed.scope());
    let input = DeleteServiceRequest {
        service: Some("web".into()),
        ..Default::default()
    };
    let refused = delete_service(cx, &scope, input.clone()).await;
    assert_eq!(refused.unwrap_err().code(), "InvalidParameterException");
    let input = DeleteServiceRequest { force: Some(true), ..input };
    let shown = delete_service(cx, &scope, input).await.unwrap();
    assert_eq!(shown.service.unwrap().status.as_deref(), Some("DRAINING"));
    play.settle().await;
    assert_eq!(play.live().len(), 0);
    assert_eq!(play.service().status.as_str(), "INACTIVE");
    play.create(web(1)).await;
    assert_eq!(play.service().status.as_str(), "ACTIVE");
    assert_eq!(play.live().len(), 1);
}

#[tokio::test]
async fn propagated_and_managed_tags_reach_the_tasks() {
    let play = Play::new(1).await;
    play.define("web", 50, false).await;
    let tag = |key: &str, value: &str| ecs::Tag {
        key: Some(key.into()),
        value: Some(value.into()),
    };
    play.create(CreateServiceRequest {
        tags: Some(vec![tag("team", "a")]),
        propagate_tags: Some(ecs::PropagateTags::Service),
        enable_ecs_managed_tags: Some(true),
        ..web(1)
    })
    .await;
    let tags = play.live()[0].task.tags.clone().unwrap();
    assert_eq!(
        tags,
        [
            tag("team", "a"),
            tag("aws:ecs:clusterName", "default"),
            tag("aws:ecs:serviceName", "web"),
        ]
    );
}

#[tokio::test]
async fn at_awss_pace_a_task_counts_after_forty_seconds() {
    let play = Play::at_pace(1, Pace::AWS).await;
    play.define("web", 50, false).await;
    play.create(web(1)).await;
    play.agent().await;
    let rollout = || play.service().primary().unwrap().rollout;
    assert_eq!(
        (play.count("RUNNING"), rollout()),
        (1, RolloutState::InProgress)
    );
    play.bed.clock.advance_ms(39_999);
    play.settle().await;
    assert_eq!(rollout(), RolloutState::InProgress);
    play.bed.clock.advance_ms(1);
    play.settle().await;
    assert_eq!(rollout(), RolloutState::Completed);
}

#[tokio::test]
async fn a_crashing_task_is_waited_out() {
    let play = running(1).await;
    for wait_ms in [1_000, 2_000, 4_000] {
        play.bed.clock.advance_ms(100);
        let task = play.live()[0].clone();
        let status = Some("STOPPED".to_owned());
        play.report(&task, Report { status, ..Report::default() }).await;
        play.settle().await;
        assert_eq!(play.live().len(), 0, "not replaced at once");
        play.bed.clock.advance_ms(wait_ms);
        play.settle().await;
        assert_eq!(play.live().len(), 1, "after {wait_ms} ms");
        play.agent().await;
    }
    assert!(play.has_event("is unable to consistently start tasks"));
    // One that stays up makes the crashes forgotten.
    play.bed.clock.advance_ms(10_000);
    play.settle().await;
    assert_eq!(play.service().primary().unwrap().failed_rounds, 0);
}

#[tokio::test]
async fn protected_tasks_outlive_scale_in_until_their_time_is_over() {
    let play = running(2).await;
    let (cx, scope) = (&play.bed.cx, play.bed.scope());
    let ids: Vec<String> =
        play.live().iter().map(|task| task.id.clone()).collect();
    let protect = |tasks: &[String], minutes| UpdateTaskProtectionRequest {
        tasks: Some(tasks.to_vec()),
        protection_enabled: Some(true),
        expires_in_minutes: minutes,
        ..Default::default()
    };
    let input = protect(&ids, Some(1));
    let done = update_task_protection(cx, &scope, input).await.unwrap();
    assert_eq!(done.failures, Some(vec![]));
    let shown = &done.protected_tasks.unwrap()[0];
    assert_eq!(shown.protection_enabled, Some(true));
    let until = scope.now.plus_millis(60_000);
    assert_eq!(shown.expiration_date, Some(until));
    play.update(UpdateServiceRequest {
        desired_count: Some(0),
        ..Default::default()
    })
    .await;
    assert_eq!(play.live().len(), 2);
    assert!(play.has_event("2 tasks under protection"));
    play.bed.clock.advance_ms(60_000);
    play.settle().await;
    assert_eq!(play.live().len(), 0);
}

#[tokio::test]
async fn only_service_tasks_are_protected_and_not_more_than_desired() {
    let play = running(1).await;
    let (cx, scope) = (&play.bed.cx, play.bed.scope());
    let task = play.live()[0].id.clone();
    let reasons = |failures: Option<Vec<ecs::Failure>>| -> Vec<String> {
        let failures = failures.unwrap().into_iter();
        failures.map(|failure| failure.reason.unwrap()).collect()
    };
    let input = GetTaskProtectionRequest {
        tasks: Some(vec![task.clone(), "0".repeat(32)]),
        ..Default::default()
    };
    let got = get_task_protection(cx, &scope, input).await.unwrap();
    let shown = got.protected_tasks.unwrap();
    assert_eq!(shown[0].protection_enabled, Some(false));
    assert_eq!(shown[0].expiration_date, None);
    assert_eq!(reasons(got.failures), ["MISSING"]);
    // A second task comes with a deployment; both cannot be protected.
    play.update(UpdateServiceRequest {
        force_new_deployment: Some(true),
        ..Default::default()
    })
    .await;
    let ids: Vec<String> =
        play.live().iter().map(|task| task.id.clone()).collect();
    assert_eq!(ids.len(), 2);
    let input = UpdateTaskProtectionRequest {
        tasks: Some(ids),
        protection_enabled: Some(true),
        ..Default::default()
    };
    let done = update_task_protection(cx, &scope, input).await.unwrap();
    assert_eq!(done.protected_tasks.unwrap().len(), 1);
    assert_eq!(reasons(done.failures), ["DEPLOYMENT_BLOCKED"]);
    let input = UpdateTaskProtectionRequest {
        tasks: Some(vec![task]),
        protection_enabled: Some(true),
        expires_in_minutes: Some(2881),
        ..Default::default()
    };
    let refused = update_task_protection(cx, &scope, input).await;
    assert_eq!(refused.unwrap_err().code(), "InvalidParameterException");
}

/// Found by the simulator: two problems at once made each other look new, and
/// the scheduler told of them in turns without end.
#[tokio::test]
async fn two_problems_at_once_are_told_of_once_each() {
    let play = Play::new(1).await;
    play.define("web", 300, false).await;
    play.create(web(2)).await;
    play.agent().await;
    let (cx, scope) = (&play.bed.cx, play.bed.scope());
    let ids = play.live().iter().map(|task| task.id.clone()).collect();
    let input = UpdateTaskProtectionRequest {
        tasks: Some(ids),
        protection_enabled: Some(true),
        ..Default::default()
    };
    update_task_protection(cx, &scope, input).await.unwrap();
    // There is room for one of the two successors.
    play.update(UpdateServiceRequest {
        force_new_deployment: Some(true),
        ..Default::default()
    })
    .await;
    play.agent().await;
    let count = |part: &str| {
        let events = play.events();
        events.iter().filter(|event| event.contains(part)).count()
    };
    assert_eq!(count("has insufficient memory available."), 1);
    assert_eq!(count("2 tasks under protection"), 1);
}
