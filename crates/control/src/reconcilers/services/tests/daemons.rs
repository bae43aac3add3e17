//! Managed daemons.

use minato_wire::ecs::{
    Attribute, AutoScalingGroupProvider, CreateCapacityProviderRequest,
    CreateDaemonRequest, DaemonContainerDefinition, DaemonDeployment as Shown,
    DaemonDeploymentConfiguration, DaemonDeploymentStatus, DaemonPropagateTags,
    DaemonTaskDefinitionStatus, DeleteDaemonRequest,
    DeleteDaemonTaskDefinitionRequest, DescribeDaemonDeploymentsRequest,
    DescribeDaemonRequest, DescribeDaemonTaskDefinitionRequest,
    ListTasksRequest, PutClusterCapacityProvidersRequest,
    RegisterDaemonTaskDefinitionRequest, Tag, UpdateDaemonRequest,
};

use super::super::*;
use super::play::Play;
use crate::services::ecs::tasks::list_tasks;
use crate::services::ecs::{capacity_providers, clusters, daemons};
use crate::testing::{ACCOUNT, REGION};

/// A cluster of so many hosts, of which all but the last are of the provider
/// `fleet`, and a daemon definition.
async fn fleet(hosts: usize) -> Play {
    let play = Play::new(hosts).await;
    let (cx, scope) = (&play.bed.cx, play.bed.scope());
    let input = CreateCapacityProviderRequest {
        name: Some("fleet".into()),
        auto_scaling_group_provider: Some(AutoScalingGroupProvider {
            auto_scaling_group_arn: Some("group".into()),
            ..Default::default()
        }),
        ..Default::default()
    };
    capacity_providers::create_capacity_provider(cx, &scope, input)
        .await
        .unwrap();
    let put = cx.transact(move |tx| -> Result<(), ApiError> {
        let all: Vec<_> = tx.scan::<ContainerInstance>(&Key::root()).collect();
        for row in all.iter().take(hosts - 1) {
            let mut row = ContainerInstance::clone(row);
            row.attributes.push(Attribute {
                name: Some("minato.auto-scaling-group".into()),
                value: Some("group".into()),
                ..Default::default()
            });
            tx.put(row);
        }
        Ok(())
    });
    put.await.unwrap();
    let input = PutClusterCapacityProvidersRequest {
        cluster: Some("default".into()),
        capacity_providers: Some(vec!["fleet".into()]),
        default_capacity_provider_strategy: Some(vec![]),
    };
    clusters::put_cluster_capacity_providers(cx, &scope, input).await.unwrap();
    register(&play).await;
    play
}

async fn register(play: &Play) {
    let input = RegisterDaemonTaskDefinitionRequest {
        family: Some("agent".into()),
        container_definitions: Some(vec![DaemonContainerDefinition {
            name: Some("agent".into()),
            image: Some("agent".into()),
            memory: Some(50),
            ..Default::default()
        }]),
        ..Default::default()
    };
    let (cx, scope) = (&play.bed.cx, play.bed.scope());
    daemons::register_daemon_task_definition(cx, &scope, input).await.unwrap();
}

fn key() -> Key {
    crate::tables::Daemon::key_of(ACCOUNT, REGION, "default", "agent")
}

/// Has the scheduler look until it finds nothing to do.
async fn settle(play: &Play) {
    for _ in 0..50 {
        let before = play.bed.cx.snapshot().revision();
        play.see_to(key()).await;
        if play.bed.cx.snapshot().revision() == before {
            return;
        }
    }
    panic!("the scheduler does not come to rest");
}

async fn create(play: &Play, drain: f64, bake: i32) -> String {
    let input = CreateDaemonRequest {
        daemon_name: Some("agent".into()),
        daemon_task_definition_arn: Some("agent:1".into()),
        capacity_provider_arns: Some(vec!["fleet".into()]),
        deployment_configuration: Some(DaemonDeploymentConfiguration {
            drain_percent: Some(drain),
            bake_time_in_minutes: Some(bake),
            alarms: None,
        }),
        tags: Some(vec![Tag {
            key: Some("team".into()),
            value: Some("x".into()),
        }]),
        propagate_tags: Some(DaemonPropagateTags::Daemon),
        enable_ecs_managed_tags: Some(true),
        ..Default::default()
    };
    let (cx, scope) = (&play.bed.cx, play.bed.scope());
    let made = daemons::create_daemon(cx, &scope, input).await.unwrap();
    settle(play).await;
    made.daemon_arn.unwrap()
}

async fn update(play: &Play, arn: &str, definition: &str) {
    let input = UpdateDaemonRequest {
        daemon_arn: Some(arn.to_owned()),
        daemon_task_definition_arn: Some(definition.to_owned()),
        capacity_provider_arns: Some(vec!["fleet".into()]),
        ..Default::default()
    };
    let (cx, scope) = (&play.bed.cx, play.bed.scope());
    daemons::update_daemon(cx, &scope, input).await.unwrap();
    settle(play).await;
}

/// Every pending task comes up, every stopping one ends, and the scheduler
/// looks.
async fn agents(play: &Play) {
    play.agents_only().await;
    settle(play).await;
}

async fn deployment(play: &Play, arn: &str) -> Shown {
    let (cx, scope) = (&play.bed.cx, play.bed.scope());
    let input = DescribeDaemonRequest { daemon_arn: Some(arn.to_owned()) };
    let found = daemons::describe_daemon(cx, &scope, input).await.unwrap();
    let input = DescribeDaemonDeploymentsRequest {
        daemon_deployment_arns: Some(vec![
            found.daemon.unwrap().deployment_arn.unwrap(),
        ]),
    };
    let found = daemons::describe_daemon_deployments(cx, &scope, input).await;
    found.unwrap().daemon_deployments.unwrap().remove(0)
}

fn of_revision(play: &Play, revision: u32) -> usize {
    let live = play.live();
    live.iter().filter(|task| task.revision == revision).count()
}

#[tokio::test]
async fn one_task_runs_on_each_instance_of_the_provider() {
    let play = fleet(4).await;
    let arn = create(&play, 25.0, 0).await;
    let live = play.live();
    let hosts: BTreeSet<_> = live.iter().map(|task| &task.host).collect();
    assert_eq!((live.len(), hosts.len()), (3, 3));
    assert!(!hosts.contains(&format!("{:032x}", 3)), "of no provider");
    let task = &live[0].task;
    assert_eq!(task.group.as_deref(), Some("daemon:agent"));
    assert_eq!(task.capacity_provider_name.as_deref(), Some("fleet"));
    let arn_of = task.task_definition_arn.as_deref().unwrap();
    assert!(arn_of.ends_with(":daemon-task-definition/agent:1"), "{arn_of}");
    let keys: Vec<_> = task.tags.iter().flatten().map(|tag| &tag.key).collect();
    let keys: Vec<&str> = keys.into_iter().flatten().map(|k| &**k).collect();
    assert!(keys.contains(&"team"), "{keys:?}");
    assert!(keys.contains(&"aws:ecs:daemonName"), "{keys:?}");
    let now = deployment(&play, &arn).await;
    assert_eq!(now.status, Some(DaemonDeploymentStatus::InProgress));
    agents(&play).await;
    let now = deployment(&play, &arn).await;
    assert_eq!(now.status, Some(DaemonDeploymentStatus::Successful));
    let target = now.target_daemon_revision.unwrap();
    assert_eq!(target.total_running_instance_count, Some(3));
    let (cx, scope) = (&play.bed.cx, play.bed.scope());
    let input = ListTasksRequest {
        daemon_name: Some("agent".into()),
        ..Default::default()
    };
    let listed = list_tasks(cx, &scope, input).await.unwrap();
    assert_eq!(listed.task_arns.unwrap().len(), 3);

    // A new instance gets one, a drained one loses it.
    let put = cx.transact(|tx| -> Result<(), ApiError> {
        let all: Vec<_> = tx.scan::<ContainerInstance>(&Key::root()).collect();
        let mut last = ContainerInstance::clone(&all[3]);
        last.capacity_provider = Some("fleet".into());
        tx.put(last);
        let mut first = ContainerInstance::clone(&all[0]);
        first.status = "DRAINING".into();
        tx.put(first);
        Ok(())
    });
    put.await.unwrap();
    settle(&play).await;
    agents(&play).await;
    let live = play.live();
    let hosts: Vec<_> = live.iter().map(|task| task.host.clone()).collect();
    assert_eq!(hosts.len(), 3);
    assert!(hosts.contains(&format!("{:032x}", 3)), "{hosts:?}");
    assert!(!hosts.contains(&format!("{:032x}", 0)), "{hosts:?}");
}

#[tokio::test]
async fn an_update_goes_a_part_of_the_instances_at_a_time_and_bakes() {
    let play = fleet(5).await;
    let arn = create(&play, 25.0, 10).await;
    agents(&play).await;
    play.bed.clock.advance_ms(600_000);
    settle(&play).await;
    register(&play).await;
    update(&play, &arn, "agent:2").await;
    let mut rounds = 0;
    while of_revision(&play, 1) > 0 {
        let stopping = play
            .tasks()
            .iter()
            .filter(|t| t.last_status() == "STOPPING")
            .count();
        assert!(stopping <= 1, "one of four at a time");
        assert!(play.count("RUNNING") >= 3);
        agents(&play).await;
        rounds += 1;
        assert!(rounds < 20);
    }
    agents(&play).await;
    agents(&play).await;
    assert_eq!(of_revision(&play, 2), 4);
    let now = deployment(&play, &arn).await;
    assert_eq!(
        now.status,
        Some(DaemonDeploymentStatus::InProgress),
        "it bakes"
    );
    play.bed.clock.advance_ms(600_000);
    settle(&play).await;
    let now = deployment(&play, &arn).await;
    assert_eq!(now.status, Some(DaemonDeploymentStatus::Successful));
}

#[tokio::test]
async fn a_revision_that_fails_is_taken_back() {
    let play = fleet(4).await;
    let arn = create(&play, 100.0, 0).await;
    agents(&play).await;
    register(&play).await;
    let (cx, scope) = (&play.bed.cx, play.bed.scope());
    let input = UpdateDaemonRequest {
        daemon_arn: Some(arn.clone()),
        daemon_task_definition_arn: Some("agent:2".into()),
        capacity_provider_arns: Some(vec!["fleet".into()]),
        propagate_tags: Some(DaemonPropagateTags::None),
        enable_execute_command: Some(true),
        ..Default::default()
    };
    daemons::update_daemon(cx, &scope, input).await.unwrap();
    for _ in 0..8 {
        // What is new does not start; what is old ends and comes up.
        for task in play.tasks() {
            if task.revision == 2 && task.last_status() == "PENDING" {
                play.fail(&task).await;
            }
        }
        agents(&play).await;
        play.bed.clock.advance_ms(120_000);
        settle(&play).await;
    }
    let now = deployment(&play, &arn).await;
    assert_eq!(now.status, Some(DaemonDeploymentStatus::RollbackSuccessful));
    assert!(now.rollback.is_some());
    assert_eq!((of_revision(&play, 1), of_revision(&play, 2)), (3, 0));
    // All of the revision is back, not its definition alone.
    let rows = play.bed.cx.snapshot();
    let row = rows.get::<crate::tables::Daemon>(&key()).unwrap();
    assert_eq!(row.propagate_tags, DaemonPropagateTags::Daemon);
    assert!(!row.enable_execute_command);
}

#[tokio::test]
async fn what_is_over_for_long_is_forgotten() {
    const DAY_MS: i64 = 24 * 60 * 60 * 1000;
    use crate::tables::{DaemonDeployment, DaemonRevision};
    let play = fleet(3).await;
    let arn = create(&play, 100.0, 0).await;
    register(&play).await;
    for definition in ["agent:2", "agent:1", "agent:2"] {
        update(&play, &arn, definition).await;
        for _ in 0..4 {
            agents(&play).await;
            settle(&play).await;
        }
    }
    let (cx, scope) = (&play.bed.cx, play.bed.scope());
    let count = || {
        let rows = cx.snapshot();
        (rows.count::<DaemonDeployment>(), rows.count::<DaemonRevision>())
    };
    play.bed.clock.advance_ms(80 * DAY_MS);
    crate::reconcilers::expire::pass(cx).await;
    assert_eq!(count(), (4, 4));
    play.bed.clock.advance_ms(11 * DAY_MS);
    crate::reconcilers::expire::pass(cx).await;
    assert_eq!(count(), (1, 1), "what is in force stays");

    let input = DeleteDaemonTaskDefinitionRequest {
        daemon_task_definition: Some("agent:1".into()),
    };
    daemons::delete_daemon_task_definition(cx, &scope, input).await.unwrap();
    let status = || async {
        let input = DescribeDaemonTaskDefinitionRequest {
            daemon_task_definition: Some("agent:1".into()),
        };
        let found =
            daemons::describe_daemon_task_definition(cx, &scope, input).await;
        found.ok()?.daemon_task_definition?.status
    };
    assert_eq!(
        status().await,
        Some(DaemonTaskDefinitionStatus::DeleteInProgress)
    );
    crate::reconcilers::expire::pass(cx).await;
    assert_eq!(status().await, Some(DaemonTaskDefinitionStatus::Deleted));
    play.bed.clock.advance_ms(DAY_MS);
    crate::reconcilers::expire::pass(cx).await;
    assert_eq!(status().await, None);
}

#[tokio::test]
async fn a_deleted_daemon_leaves_nothing() {
    let play = fleet(3).await;
    let arn = create(&play, 50.0, 0).await;
    agents(&play).await;
    let (cx, scope) = (&play.bed.cx, play.bed.scope());
    let input = DeleteDaemonRequest { daemon_arn: Some(arn.clone()) };
    daemons::delete_daemon(cx, &scope, input).await.unwrap();
    settle(&play).await;
    assert!(play.live().is_empty());
    agents(&play).await;
    let rows = play.bed.cx.snapshot();
    assert!(rows.get::<crate::tables::Daemon>(&key()).is_none());
    use crate::tables::{DaemonDeployment, DaemonRevision, ServiceRevision};
    assert_eq!(rows.count::<DaemonRevision>(), 0);
    assert_eq!(rows.count::<DaemonDeployment>(), 0);
    assert_eq!(rows.count::<ServiceRevision>(), 0);
}

#[tokio::test]
async fn two_daemons_leave_a_draining_instance() {
    let play = fleet(3).await;
    create(&play, 100.0, 0).await;
    let (cx, scope) = (&play.bed.cx, play.bed.scope());
    let input = CreateDaemonRequest {
        daemon_name: Some("other".into()),
        daemon_task_definition_arn: Some("agent:1".into()),
        capacity_provider_arns: Some(vec!["fleet".into()]),
        ..Default::default()
    };
    daemons::create_daemon(cx, &scope, input).await.unwrap();
    let other =
        crate::tables::Daemon::key_of(ACCOUNT, REGION, "default", "other");
    for _ in 0..6 {
        play.see_to(other.clone()).await;
        agents(&play).await;
    }
    let first = format!("{:032x}", 0);
    let on = || play.live().iter().filter(|task| task.host == first).count();
    assert_eq!(on(), 2);
    let put = cx.transact(|tx| -> Result<(), ApiError> {
        let first = tx.scan::<ContainerInstance>(&Key::root()).next();
        let mut first = ContainerInstance::clone(&first.unwrap());
        first.status = "DRAINING".into();
        tx.put(first);
        Ok(())
    });
    put.await.unwrap();
    for _ in 0..6 {
        play.see_to(other.clone()).await;
        agents(&play).await;
        play.bed.clock.advance_ms(120_000);
    }
    assert_eq!(on(), 0);
}
