//! Services of the EXTERNAL controller.

use minato_core::status::ServiceStatus;
use minato_wire::ecs::{
    CreateServiceRequest, CreateTaskSetRequest, DeleteServiceRequest,
    DeleteTaskSetRequest, DeploymentController, DeploymentControllerType,
    Scale, StabilityStatus, UpdateServiceRequest, UpdateTaskSetRequest,
};
use proptest::prelude::*;

use super::play::{Play, web};
use crate::services::ecs::services::delete_service;
use crate::services::ecs::task_sets::{
    create_task_set, delete_task_set, task_set, task_sets_of, update_task_set,
};

/// An external service of `count` tasks on two hosts.
async fn external(count: i32) -> Play {
    let play = Play::new(2).await;
    play.define("web", 50, false).await;
    play.create(CreateServiceRequest {
        task_definition: None,
        deployment_controller: Some(DeploymentController {
            r#type: Some(DeploymentControllerType::External),
        }),
        ..web(count)
    })
    .await;
    play
}

async fn create(play: &Play, percent: f64) -> String {
    let input = CreateTaskSetRequest {
        service: Some("web".into()),
        task_definition: Some("web".into()),
        scale: Some(Scale { value: Some(percent), unit: None }),
        ..Default::default()
    };
    let (cx, scope) = (&play.bed.cx, play.bed.scope());
    let made = create_task_set(cx, &scope, input).await.unwrap();
    play.settle().await;
    made.task_set.unwrap().id.unwrap()
}

async fn scale(play: &Play, set: &str, percent: f64) {
    let input = UpdateTaskSetRequest {
        service: Some("web".into()),
        task_set: Some(set.into()),
        scale: Some(Scale { value: Some(percent), unit: None }),
        ..Default::default()
    };
    let (cx, scope) = (&play.bed.cx, play.bed.scope());
    update_task_set(cx, &scope, input).await.unwrap();
    play.settle().await;
}

async fn delete(play: &Play, set: &str) {
    let input = DeleteTaskSetRequest {
        service: Some("web".into()),
        task_set: Some(set.into()),
        force: Some(true),
        ..Default::default()
    };
    let (cx, scope) = (&play.bed.cx, play.bed.scope());
    delete_task_set(cx, &scope, input).await.unwrap();
    play.settle().await;
}

fn of_set(play: &Play, set: &str) -> usize {
    let tasks = play.live();
    let ours = tasks.iter().filter(|task| {
        task.task.started_by.as_deref() == Some(set)
            && task.task.group.as_deref() == Some("service:web")
    });
    ours.count()
}

fn stability(play: &Play, set: &str) -> Option<StabilityStatus> {
    let rows = play.bed.cx.snapshot();
    let service = play.service();
    let sets = task_sets_of(&rows, &service);
    let set = sets.iter().find(|row| row.id() == set).unwrap();
    task_set(&rows, &service, set).stability_status
}

#[tokio::test]
async fn each_set_keeps_its_part_of_the_tasks() {
    let play = external(4).await;
    assert!(play.live().is_empty());
    let blue = create(&play, 100.0).await;
    let green = create(&play, 25.0).await;
    assert_eq!((of_set(&play, &blue), of_set(&play, &green)), (4, 1));
    assert_eq!(stability(&play, &blue), Some(StabilityStatus::Stabilizing));
    play.agent().await;
    assert_eq!(stability(&play, &blue), Some(StabilityStatus::SteadyState));
    let told = format!("(service web, taskSet {blue}) has started 4 tasks: ");
    assert!(play.has_event(&told), "{:?}", play.events());
    let told = format!("(service web, taskSet {blue}) has reached a steady");
    assert!(play.has_event(&told), "{:?}", play.events());
    let told = format!(
        "(service web) updated computedDesiredCount for taskSet {green} to 1."
    );
    assert!(play.has_event(&told), "{:?}", play.events());

    // Traffic moves: green grows, blue shrinks.
    scale(&play, &green, 100.0).await;
    assert_eq!(of_set(&play, &green), 4);
    assert_eq!(stability(&play, &green), Some(StabilityStatus::Stabilizing));
    play.agent().await;
    scale(&play, &blue, 0.0).await;
    assert_eq!(of_set(&play, &blue), 0);
    let stopped = play.tasks();
    let stopped = stopped.iter().find(|task| !task.should_run()).unwrap();
    assert_eq!(
        stopped.task.stopped_reason.as_deref(),
        Some(
            format!("Scaling activity initiated by (taskSet {blue})").as_str()
        )
    );
    play.agent().await;
    assert_eq!(play.count("RUNNING"), 4);

    // More is wanted of the service as a whole.
    play.update(UpdateServiceRequest {
        desired_count: Some(6),
        ..Default::default()
    })
    .await;
    assert_eq!(of_set(&play, &green), 6);
}

#[tokio::test]
async fn a_task_that_ends_is_replaced_within_its_set() {
    let play = external(2).await;
    let blue = create(&play, 100.0).await;
    let green = create(&play, 50.0).await;
    play.agent().await;
    let task = play
        .live()
        .into_iter()
        .find(|task| task.task.started_by.as_ref() == Some(&green))
        .unwrap();
    let report = crate::services::ecs::tasks::report::Report {
        status: Some("STOPPED".into()),
        ..Default::default()
    };
    play.bed.clock.advance_ms(60_000);
    play.report(&task, report).await;
    play.settle().await;
    assert_eq!((of_set(&play, &blue), of_set(&play, &green)), (2, 1));
}

#[tokio::test]
async fn a_deleted_set_goes_when_its_tasks_have_stopped() {
    let play = external(2).await;
    let blue = create(&play, 100.0).await;
    play.agent().await;
    delete(&play, &blue).await;
    assert!(play.live().is_empty());
    let sets = || {
        let rows = play.bed.cx.snapshot();
        task_sets_of(&rows, &play.service())
    };
    assert_eq!(sets()[0].status(), "DRAINING");
    play.agent().await;
    assert!(sets().is_empty());
    assert_eq!(play.service().status, ServiceStatus::Active);
}

#[tokio::test]
async fn a_deleted_service_takes_its_sets_along() {
    let play = external(2).await;
    create(&play, 100.0).await;
    create(&play, 50.0).await;
    play.agent().await;
    let (cx, scope) = (&play.bed.cx, play.bed.scope());
    let input = |force| DeleteServiceRequest {
        service: Some("web".into()),
        force,
        ..Default::default()
    };
    play.update(UpdateServiceRequest {
        desired_count: Some(0),
        ..Default::default()
    })
    .await;
    assert!(delete_service(cx, &scope, input(None)).await.is_err());
    delete_service(cx, &scope, input(Some(true))).await.unwrap();
    play.settle().await;
    assert!(play.live().is_empty());
    play.agent().await;
    assert_eq!(play.service().status, ServiceStatus::Inactive);
    let rows = play.bed.cx.snapshot();
    assert!(task_sets_of(&rows, &play.service()).is_empty());
}

/// What is done to a service with sets.
#[derive(Clone, Debug)]
enum Act {
    Create(u8),
    Scale(usize, u8),
    Delete(usize),
    Desire(u8),
    Agent,
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (0..=100u8).prop_map(Act::Create),
        (0..3usize, 0..=100u8).prop_map(|(set, to)| Act::Scale(set, to)),
        (0..3usize).prop_map(Act::Delete),
        (0..6u8).prop_map(Act::Desire),
        Just(Act::Agent),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_set_comes_to_its_number(
        acts in proptest::collection::vec(any_act(), 1..10)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            let play = external(3).await;
            let mut ids: Vec<String> = vec![];
            for act in acts {
                match act {
                    Act::Create(to) if ids.len() < 3 => {
                        ids.push(create(&play, f64::from(to)).await);
                    }
                    Act::Scale(set, to) if set < ids.len() => {
                        scale(&play, &ids[set], f64::from(to)).await;
                    }
                    Act::Delete(set) if set < ids.len() => {
                        delete(&play, &ids.remove(set)).await;
                    }
                    Act::Desire(count) => {
                        play.update(UpdateServiceRequest {
                            desired_count: Some(i32::from(count)),
                            ..Default::default()
                        })
                        .await;
                    }
                    Act::Create(_)
                    | Act::Scale(..)
                    | Act::Delete(_)
                    | Act::Agent => play.agent().await,
                }
            }
            for _ in 0..4 {
                play.agent().await;
            }
            let rows = play.bed.cx.snapshot();
            let service = play.service();
            let sets = task_sets_of(&rows, &service);
            assert_eq!(sets.len(), ids.len(), "deleted ones are gone");
            let mut all = 0;
            for set in sets {
                let wanted = set.computed(&service);
                let has = of_set(&play, set.id());
                assert_eq!(u32::try_from(has), Ok(wanted), "{}", set.id());
                all += has;
            }
            assert_eq!(play.live().len(), all, "no task of no set");
        });
    }
}
